//! What is to be restored: objects, names that change, messages that are asked for.

use crate::archive::content::{Mailbox, Message};
use crate::cli::parse_size;
use crate::exit::{Outcome, Stop};
use crate::files;
use jiff::Timestamp;
use jiff::civil::Date;
use proto::Code;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;

/// Longest file of names in bytes.
const MAP_BYTES_MAX: u64 = 64 << 20;

/// Which mailboxes of an archive.
#[derive(Debug, Clone, Default)]
pub struct Objects(Vec<String>);

impl Objects {
    /// Reads words; none is everything.
    pub fn new(words: &[String]) -> Objects {
        Objects(words.iter().map(|word| word.trim_end_matches('/').to_owned()).collect())
    }

    /// Whether one of them is a whole partition or group, so that a mailbox of which only the name is known may be among them.
    pub fn may_take(&self) -> bool {
        self.0.iter().any(|word| word.strip_prefix('/').is_some_and(|path| path.splitn(3, '/').nth(2).is_none()))
    }

    /// Whether a mailbox is among them.
    pub fn take(&self, mailbox: &Mailbox) -> bool {
        self.0.is_empty() || self.0.iter().any(|word| takes(word, mailbox))
    }

    /// Which of them take it, from 0 on.
    pub fn taking(&self, mailbox: &Mailbox) -> impl Iterator<Item = usize> {
        (0..).zip(&self.0).filter(|(_, word)| takes(word, mailbox)).map(|(n, _)| n)
    }

    /// Those that are not among `met`.
    pub fn but(&self, met: &BTreeSet<usize>) -> Vec<String> {
        (0..).zip(&self.0).filter(|(n, _)| !met.contains(n)).map(|(_, word)| word.clone()).collect()
    }
}

fn at_or_below(name: &str, top: &str) -> bool {
    name.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A user id and a folder of his, maybe with others before them: the INBOX in the spelling that names have.
fn inbox_in_capitals(path: &str, before: usize) -> Cow<'_, str> {
    const INBOX: &str = "INBOX";
    let mut words: Vec<&str> = path.split('/').collect();
    match words.get_mut(before + 1) {
        Some(word) if *word != INBOX && word.eq_ignore_ascii_case(INBOX) => {
            *word = INBOX;
            words.join("/").into()
        }
        _ => path.into(),
    }
}

fn takes(word: &str, mailbox: &Mailbox) -> bool {
    let user = owner(&mailbox.name);
    let Some(path) = word.strip_prefix('/') else {
        return match word.contains('/') || word == "shared" {
            true if word.starts_with("user/") => at_or_below(&mailbox.name, &inbox_in_capitals(word, 1)),
            true => at_or_below(&mailbox.name, word),
            false => word.is_empty() || user == Some(word),
        };
    };
    // Of a mailbox whose head is lost only the name is known.
    if mailbox.partition.is_empty() {
        let below = path.splitn(3, '/').nth(2);
        return below
            .map(|below| inbox_in_capitals(below, 0))
            .is_some_and(|below| at_or_below(mailbox.name.strip_prefix("user/").unwrap_or(&mailbox.name), &below));
    }
    // `/partition/group/user/folder`; a group may be left out, and `user` is everybody's.
    let object = mailbox.object.trim_start_matches('/');
    let whole = if user.is_some() { inbox_in_capitals(path, 2) } else { path.into() };
    if at_or_below(object, &whole) {
        return true;
    }
    let mut stored = object.splitn(3, '/');
    let (partition, _, rest) = (stored.next(), stored.next(), stored.next().unwrap_or_default());
    let Some((wanted, below)) = path.split_once('/') else { return false };
    partition == Some(wanted)
        && user.is_some()
        && (below == "user"
            || below.strip_prefix("user/").is_some_and(|below| at_or_below(rest, &inbox_in_capitals(below, 0)))
            || at_or_below(rest, &inbox_in_capitals(below, 0)))
}

/// True of the INBOX of a user.
pub fn is_inbox(name: &str) -> bool {
    name.starts_with("user/") && name.ends_with("/INBOX") && name.matches('/').count() == 2
}

/// The owner of a mailbox.
pub fn owner(name: &str) -> Option<&str> {
    name.strip_prefix("user/").and_then(|rest| rest.split('/').next())
}

/// Names that change.
#[derive(Debug, Clone, Default)]
pub struct Names {
    map: Vec<(String, String)>,
    into: Option<String>,
}

impl Names {
    /// Reads the file with lines `OLD=NEW`.
    ///
    /// # Errors
    /// Those of the file; a line that is none, with its number (65).
    pub fn new(map: Option<&Path>, into: Option<&str>) -> Outcome<Names> {
        let mut names = Names { map: Vec::new(), into: into.map(|folder| folder.trim_matches('/').to_owned()) };
        let Some(path) = map else { return Ok(names) };
        let text = String::from_utf8_lossy(&files::read(path, MAP_BYTES_MAX)?).into_owned();
        for (line, text) in (1..).zip(text.lines().map(str::trim)) {
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            match text.split_once('=').map(|(old, new)| (old.trim(), new.trim())) {
                Some((old, new)) if !old.is_empty() && !new.is_empty() => {
                    names.map.push((old.to_owned(), new.to_owned()));
                }
                _ => {
                    let text = format!("{}:{line}: {text:?} is not OLD=NEW", path.display());
                    return Err(Stop::new(Code::BadInput, text));
                }
            }
        }
        // The longest name that fits counts.
        names.map.sort_by_key(|(old, _)| std::cmp::Reverse(old.len()));
        Ok(names)
    }

    /// The name of a mailbox of the archive in the store.
    pub fn of(&self, name: &str) -> String {
        let mut name = self.mapped(name);
        if let (Some(into), Some(user)) = (&self.into, owner(&name)) {
            name = format!("user/{user}/{into}");
        }
        name
    }

    fn mapped(&self, name: &str) -> String {
        for (old, new) in &self.map {
            if old.contains('/') && at_or_below(name, old) {
                return format!("{new}{}", &name[old.len()..]);
            }
            if !old.contains('/') && owner(name) == Some(old) {
                return format!("user/{new}{}", &name["user/".len() + old.len()..]);
            }
        }
        name.to_owned()
    }

    /// The id of a user of the archive in the store.
    pub fn user(&self, user: &str) -> String {
        let mapped = self.map.iter().find(|(old, _)| old == user);
        mapped.map_or_else(|| user.to_owned(), |(_, new)| new.clone())
    }

    /// Names are those of the archive.
    pub fn are_kept(&self) -> bool {
        self.into.is_none()
    }
}

/// Which messages.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<Term>);

#[derive(Debug, Clone, PartialEq)]
enum Term {
    Header(&'static str, String),
    Since(Timestamp),
    Before(Timestamp),
    Larger(u64),
    Smaller(u64),
    Uid(Vec<(u32, u32)>),
    Flag(String),
}

impl Query {
    /// Reads `key:value` words, quoted as in a shell.
    ///
    /// # Errors
    /// A word that is none (64).
    pub fn parse(text: Option<&str>) -> Outcome<Query> {
        let Some(text) = text else { return Ok(Query::default()) };
        let wrong = |what: String| {
            let hint = "from: to: subject: since: before: larger: smaller: uid: flag:, each with a value, as 'from:ann since:2026-11-01'";
            Stop::hint(Code::Usage, format!("--query: {what}"), hint)
        };
        // A backslash stands in names of flags.
        let words =
            shlex::split(&text.replace('\\', "\\\\")).ok_or_else(|| wrong("a quote without its end".to_owned()))?;
        let term = |word: String| term(&word).ok_or_else(|| wrong(format!("{word:?}")));
        words.into_iter().map(term).collect::<Result<_, _>>().map(Query)
    }

    /// True if every message is taken.
    pub fn is_all(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the bytes of a message decide.
    pub fn needs_header(&self) -> bool {
        self.0.iter().any(|term| matches!(term, Term::Header(..)))
    }

    /// Whether a message is asked for; `bytes` are at least its header.
    pub fn takes(&self, message: &Message, bytes: &[u8]) -> bool {
        self.0.iter().all(|term| match term {
            Term::Header(name, text) => header_has(bytes, name, text),
            Term::Since(time) => message.date >= *time,
            Term::Before(time) => message.date < *time,
            Term::Larger(size) => message.size > *size,
            Term::Smaller(size) => message.size < *size,
            Term::Uid(runs) => runs.iter().any(|(first, last)| (*first..=*last).contains(&message.uid)),
            Term::Flag(flag) => message.flags.iter().any(|known| known.eq_ignore_ascii_case(flag)),
        })
    }
}

fn term(word: &str) -> Option<Term> {
    let (key, value) = word.split_once(':').filter(|(_, value)| !value.is_empty())?;
    Some(match key {
        "from" => Term::Header("from", value.to_lowercase()),
        "to" => Term::Header("to", value.to_lowercase()),
        "subject" => Term::Header("subject", value.to_lowercase()),
        "since" => Term::Since(time(value)?),
        "before" => Term::Before(time(value)?),
        "larger" => Term::Larger(parse_size(value).ok()?),
        "smaller" => Term::Smaller(parse_size(value).ok()?),
        "uid" => Term::Uid(value.split(',').map(run).collect::<Option<_>>()?),
        "flag" => Term::Flag(value.to_owned()),
        _ => return None,
    })
}

/// A day in local time, or RFC 3339.
fn time(text: &str) -> Option<Timestamp> {
    if let Ok(day) = text.parse::<Date>() {
        return day.to_zoned(jiff::tz::TimeZone::system()).ok().map(|day| day.timestamp());
    }
    text.parse().ok()
}

fn run(text: &str) -> Option<(u32, u32)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// Whether a header field of this name has the text, in any case; lines that were folded are one.
fn header_has(bytes: &[u8], name: &str, text: &str) -> bool {
    let mut value: Option<String> = None;
    let has = |value: &Option<String>| value.as_ref().is_some_and(|value| value.to_lowercase().contains(text));
    for line in bytes.split(|b| *b == b'\n') {
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
        if line.is_empty() {
            break;
        }
        if line.starts_with([' ', '\t']) {
            value.iter_mut().for_each(|value| value.push_str(&line));
            continue;
        }
        if has(&value) {
            return true;
        }
        value = line
            .split_once(':')
            .filter(|(key, _)| key.trim_end().eq_ignore_ascii_case(name))
            .map(|(_, v)| v.to_owned());
    }
    has(&value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn mailbox(object: &str, name: &str) -> Mailbox {
        Mailbox {
            object: object.to_owned(),
            name: name.to_owned(),
            id: "1".to_owned(),
            partition: "primary".to_owned(),
            uidvalidity: 1,
            uidnext: 1,
            highest_modseq: 1,
            acl: BTreeMap::new(),
            quota: None,
            before: None,
        }
    }

    #[test]
    fn objects_select_what_backup_calls_so() {
        let inbox = mailbox("/primary/groupA/ann/INBOX", "user/ann/INBOX");
        let shared = mailbox("/primary/shared/news", "shared/news");
        for (word, of_ann, of_all) in [
            ("/", true, true),
            ("/primary", true, true),
            ("/primary/groupA", true, false),
            ("/primary/user", true, false),
            ("/primary/user/ann", true, false),
            ("/primary/user/ann/INBOX", true, false),
            ("/primary/user/ann/inbox", true, false),
            ("/primary/groupA/ann/Inbox", true, false),
            ("/primary/ann/inbox", true, false),
            ("user/ann/inbox", true, false),
            ("user/ann/inboxes", false, false),
            ("user/ANN/INBOX", false, false),
            ("/primary/groupA/ann", true, false),
            ("/primary/ann/INBOX", true, false),
            ("/primary/groupB/ann", false, false),
            ("/primary/user/an", false, false),
            ("/second", false, false),
            ("ann", true, false),
            ("bob", false, false),
            ("user/ann", true, false),
            ("shared", false, true),
            ("/primary/shared", false, true),
        ] {
            let objects = Objects::new(&[word.to_owned()]);
            assert_eq!((objects.take(&inbox), objects.take(&shared)), (of_ann, of_all), "{word}");
        }
    }

    #[test]
    fn names_change_as_the_file_says() {
        let map = vec![("user/ann/Work".to_owned(), "user/bob/Old".to_owned()), ("ann".to_owned(), "eve".to_owned())];
        let names = Names { map: map.clone(), into: None };
        assert_eq!(names.of("user/ann/Work/2026"), "user/bob/Old/2026");
        assert_eq!(names.of("user/ann/Works"), "user/eve/Works");
        assert_eq!(names.of("user/anna/INBOX"), "user/anna/INBOX");
        assert_eq!((names.user("ann"), names.user("bob")), ("eve".to_owned(), "bob".to_owned()));
        let names = Names { map, into: Some("Restored".to_owned()) };
        assert_eq!(names.of("user/ann/INBOX"), "user/eve/Restored");
        assert_eq!(names.of("shared/news"), "shared/news");
    }

    #[test]
    fn queries_are_met_by_all_their_terms() {
        let message = Message {
            uid: 7,
            size: 2000,
            digest: String::new(),
            date: "2026-11-02T10:00:00Z".parse().expect("a time"),
            saved: "2026-11-02T10:00:00Z".parse().expect("a time"),
            flags: vec!["\\Seen".to_owned(), "$Work".to_owned()],
            modseq: 1,
            mailbox: String::new(),
            begins: 0,
        };
        let bytes = b"Received: from x\r\nSubject: The quarterly\r\n  Report\r\nFrom: Ann <ann@example.org>\r\n\r\nTo: nobody\r\n";
        for (query, expected) in [
            ("from:ANN", true),
            ("from:zz", false),
            ("to:nobody", false),
            ("subject:'quarterly  report'", true),
            ("subject:report subject:quarterly", true),
            ("subject:report from:bob", false),
            ("since:2026-11-01 before:2026-11-04", true),
            ("since:2026-11-02T10:00:01Z", false),
            ("larger:1KiB smaller:1MiB", true),
            ("larger:2000", false),
            ("uid:1,5-9", true),
            ("uid:8", false),
            (r"flag:\seen flag:$Work", true),
            (r"flag:\Deleted", false),
        ] {
            let query_ = Query::parse(Some(query)).expect(query);
            assert_eq!(query_.takes(&message, bytes), expected, "{query}");
        }
        for wrong in ["from", "from:", "size:3", "uid:x", "since:yesterday", "from:'ann"] {
            assert!(Query::parse(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
