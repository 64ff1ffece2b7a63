//! What a backup takes: objects, groups of users, folders that are left out.
//!
//! # Objects
//! `/` everything, `/partition`, `/partition/group`, `/partition/group/user`, `/partition/group/user/folder` (with all
//! below it); a user id alone; a mailbox name (`user/...`, `shared/...`). The partition is that of the mailbox.
//!
//! # Groups
//! A file with lines `name=regex`, of which the first whose expression matches the whole user id owns the user. Empty lines and
//! lines that begin with `#` say nothing. There is always the group `user`, of which all are, whatever else they are; `shared` are
//! the mailboxes that belong to no user. (Seed 2, "To Create Backup Groups".)
//!
//! # Folders left out
//! Names below a user, upper and lower case alike, with `%` between them; with everything below them. A folder that is named as an object
//! is taken all the same.

use crate::model::MailboxName;
use crate::model::name::{INBOX, owner_of};
use regex_lite::Regex;

/// The group of all users.
pub const EVERYBODY: &str = "user";
/// The group of the mailboxes that belong to nobody.
pub const SHARED: &str = "shared";
/// Longest file of groups in bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// A line of the file of groups that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct LineError {
    /// From 1.
    pub line: usize,
    /// Why.
    pub what: String,
}

/// The groups of users, first match first.
#[derive(Debug, Clone, Default)]
pub struct Groups(Vec<(String, Regex)>);

impl Groups {
    /// Reads the text of the file.
    ///
    /// # Errors
    /// Every line that is wrong, with its number.
    pub fn parse(text: &str) -> Result<Groups, Vec<LineError>> {
        let (mut groups, mut wrong) = (Vec::<(String, Regex)>::new(), Vec::new());
        for (line, text) in (1..).zip(text.lines().map(str::trim)) {
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            match group(text) {
                Ok((name, _)) if groups.iter().any(|(known, _)| *known == name) => {
                    wrong.push(LineError { line, what: format!("the group {name} is there twice") });
                }
                Ok(group) => groups.push(group),
                Err(what) => wrong.push(LineError { line, what }),
            }
        }
        if wrong.is_empty() { Ok(Groups(groups)) } else { Err(wrong) }
    }

    /// The group that owns a user.
    #[must_use]
    pub fn of(&self, user: &str) -> &str {
        self.0.iter().find(|(_, regex)| regex.is_match(user)).map_or(EVERYBODY, |(name, _)| name)
    }

    fn has(&self, name: &str) -> bool {
        name == EVERYBODY || name == SHARED || self.0.iter().any(|(known, _)| known == name)
    }
}

fn group(text: &str) -> Result<(String, Regex), String> {
    let (name, regex) = text.split_once('=').ok_or("name=regex is wanted")?;
    let (name, regex) = (name.trim(), regex.trim());
    let good = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(good) {
        return Err(format!("{name:?} is no name of a group: up to 64 letters, digits, _ - ."));
    }
    if name == EVERYBODY || name == SHARED {
        return Err(format!("the group {name} is there without a line"));
    }
    let regex = Regex::new(&format!("^(?:{regex})$")).map_err(|e| format!("{regex:?}: {e}"))?;
    Ok((name.to_owned(), regex))
}

/// The folders that are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Excluded(Vec<String>);

impl Excluded {
    /// Reads names with `%` between them.
    #[must_use]
    pub fn parse(text: &str) -> Excluded {
        Excluded(text.split('%').map(|name| name.trim_matches('/').to_lowercase()).filter(|n| !n.is_empty()).collect())
    }

    fn has(&self, folder: &str) -> bool {
        let folder = folder.to_lowercase();
        self.0.iter().any(|name| is_at_or_below(&folder, name))
    }
}

fn is_at_or_below(folder: &str, top: &str) -> bool {
    folder.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What one word asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// Everything.
    All,
    /// What lies on a partition, of a group, of a user, in a folder and below it.
    Part {
        /// Partition.
        partition: String,
        /// Group, if one was named.
        group: Option<String>,
        /// User, if one was named.
        user: Option<String>,
        /// Folder below the user, or below `shared`.
        folder: Option<String>,
    },
    /// All of a user.
    User(String),
    /// A mailbox and all below it.
    Mailbox(MailboxName),
}

/// Why a word is no object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is no object: {what}")]
pub struct ObjectError {
    /// The word.
    pub word: String,
    /// Why not.
    pub what: String,
}

impl Object {
    /// Reads a word.
    ///
    /// # Errors
    /// If it has another form. Whether there is such a thing is not asked.
    pub fn parse(word: &str, groups: &Groups) -> Result<Object, ObjectError> {
        let error = |what: String| ObjectError { word: word.to_owned(), what };
        let Some(path) = word.strip_prefix('/') else {
            if !word.contains('/') && word != SHARED {
                return match crate::model::user::check_user(word) {
                    Ok(()) => Ok(Object::User(word.to_owned())),
                    Err(e) => Err(error(e.to_string())),
                };
            }
            return MailboxName::parse(word).map(Object::Mailbox).map_err(|e| error(e.to_string()));
        };
        let path = path.trim_end_matches('/');
        if path.is_empty() {
            return Ok(Object::All);
        }
        let mut words = path.splitn(3, '/');
        let partition = words.next().unwrap_or_default().to_owned();
        if let Err(e) = crate::model::user::check_partition(&partition) {
            return Err(error(format!("partition {partition:?}: {e}")));
        }
        let (group, rest) = (words.next().map(str::to_owned), words.next());
        let Some(group) = group else {
            return Ok(Object::Part { partition, group: None, user: None, folder: None });
        };
        if group == SHARED {
            let folder = rest.map(str::to_owned);
            return Ok(Object::Part { partition, group: Some(group), user: None, folder });
        }
        // `/primary/joe`, as the seed has it once: no group of that name, so a user.
        let (group, user, folder) = match (groups.has(&group), rest) {
            (true, None) => (Some(group), None, None),
            (true, Some(rest)) => match rest.split_once('/') {
                Some((user, folder)) => (Some(group), Some(user.to_owned()), Some(folder.to_owned())),
                None => (Some(group), Some(rest.to_owned()), None),
            },
            (false, rest) => (None, Some(group), rest.map(str::to_owned)),
        };
        if let Some(Err(e)) = user.as_deref().map(crate::model::user::check_user) {
            return Err(error(format!("neither a group nor a user: {e}")));
        }
        Ok(Object::Part { partition, group, user, folder: folder.map(inbox_in_capitals) })
    }

    /// A folder is asked for by its name.
    fn names_folder(&self) -> bool {
        matches!(self, Object::Mailbox(_) | Object::Part { folder: Some(_), .. })
    }

    /// A user or a folder is asked for by name: somebody expects that there is something.
    #[must_use]
    pub fn is_particular(&self) -> bool {
        !matches!(self, Object::All | Object::Part { user: None, folder: None, .. })
    }

    /// What the key of every mailbox begins with that it may take.
    #[must_use]
    pub fn key_prefix(&self) -> Vec<u8> {
        match self {
            Object::User(user) | Object::Part { user: Some(user), .. } => crate::model::name::user_prefix(user),
            Object::Mailbox(name) => name.key().to_vec(),
            _ => Vec::new(),
        }
    }

    fn takes(&self, at: &Lies<'_>, groups: &Groups) -> bool {
        match self {
            Object::All => true,
            Object::User(wanted) => at.user == Some(wanted),
            Object::Mailbox(top) => {
                at.key.strip_prefix(top.key()).is_some_and(|rest| rest.first().is_none_or(|b| *b == 1))
            }
            Object::Part { partition, group, user, folder } => {
                let of_group = match (group.as_deref(), at.user) {
                    (None, _) => true,
                    (Some(SHARED), owner) => owner.is_none(),
                    (Some(EVERYBODY), owner) => owner.is_some(),
                    (Some(group), owner) => owner.is_some_and(|owner| groups.of(owner) == group),
                };
                *partition == at.partition
                    && of_group
                    && user.as_deref().is_none_or(|user| at.user == Some(user))
                    && folder.as_deref().is_none_or(|folder| is_at_or_below(&at.folder, folder))
            }
        }
    }
}

/// The INBOX in the spelling that names have.
fn inbox_in_capitals(folder: String) -> String {
    match folder.split_at_checked(INBOX.len()) {
        Some((first, rest)) if first.eq_ignore_ascii_case(INBOX) && (rest.is_empty() || rest.starts_with('/')) => {
            format!("{INBOX}{rest}")
        }
        _ => folder,
    }
}

/// Where a mailbox stands.
struct Lies<'a> {
    key: &'a [u8],
    partition: &'a str,
    user: Option<&'a str>,
    folder: String,
}

impl<'a> Lies<'a> {
    fn new(key: &'a [u8], partition: &'a str) -> Lies<'a> {
        let user = owner_of(key);
        let name = crate::model::name::key_text(key);
        let components = if user.is_some() { 2 } else { 1 };
        let folder = name.splitn(components + 1, '/').nth(components).unwrap_or_default().to_owned();
        Lies { key, partition, user, folder }
    }
}

/// What a backup takes.
#[derive(Debug, Clone)]
pub struct Objects {
    wanted: Vec<Object>,
    groups: Groups,
    excluded: Excluded,
}

impl Objects {
    /// Reads the words of a command line; none is `/`.
    ///
    /// # Errors
    /// The first that is no object.
    pub fn new(words: &[String], groups: Groups, excluded: Excluded) -> Result<Objects, ObjectError> {
        let mut wanted: Vec<Object> =
            words.iter().map(|word| Object::parse(word, &groups)).collect::<Result<_, _>>()?;
        if wanted.is_empty() {
            wanted.push(Object::All);
        }
        Ok(Objects { wanted, groups, excluded })
    }

    /// What was asked for.
    #[must_use]
    pub fn wanted(&self) -> &[Object] {
        &self.wanted
    }

    /// Whether it takes the mailbox with this key, on this partition.
    #[must_use]
    pub fn take(&self, key: &[u8], partition: &str) -> bool {
        self.wanted.iter().any(|object| self.take_by(object, key, partition))
    }

    /// Whether this one of them takes it.
    #[must_use]
    pub fn take_by(&self, object: &Object, key: &[u8], partition: &str) -> bool {
        let at = Lies::new(key, partition);
        let is_left_out = at.user.is_some() && self.excluded.has(&at.folder);
        (!is_left_out || object.names_folder()) && object.takes(&at, &self.groups)
    }

    /// The object that a mailbox is: `/partition/group/user/folder`.
    #[must_use]
    pub fn path(&self, key: &[u8], partition: &str) -> String {
        let Lies { user, folder, .. } = Lies::new(key, partition);
        match user {
            Some(user) => format!("/{partition}/{}/{user}/{folder}", self.groups.of(user)),
            None if folder.is_empty() => format!("/{partition}/{SHARED}"),
            None => format!("/{partition}/{SHARED}/{folder}"),
        }
    }

    /// What every wanted mailbox's key begins with, if that is more than nothing: less is to be walked.
    #[must_use]
    pub fn key_prefix(&self) -> Vec<u8> {
        let [only] = self.wanted.as_slice() else { return Vec::new() };
        only.key_prefix()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# by letter\ngroupA=[a-l].*\n\ngroupB = [m-z].*\ngroupC=[0-9].*\ngroupN=.*n$\n";

    fn objects(words: &[&str], excluded: &str) -> Objects {
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        Objects::new(&words, Groups::parse(FILE).expect("good lines"), Excluded::parse(excluded)).expect("objects")
    }

    const ALL: [(&str, &str); 9] = [
        ("user/admin/INBOX", "primary"),
        ("user/admin/Trash", "primary"),
        ("user/admin/Trash/Old", "primary"),
        ("user/admin/Trashes", "primary"),
        ("user/zoe@example.org/INBOX", "primary"),
        ("user/zoe@example.org/Work", "second"),
        ("user/4711/INBOX", "second"),
        ("shared", "primary"),
        ("shared/news/de", "second"),
    ];

    fn taken(objects: &Objects) -> Vec<&'static str> {
        let key = |name: &str| MailboxName::parse(name).expect("a name").key().to_vec();
        ALL.iter().filter(|(name, partition)| objects.take(&key(name), partition)).map(|(name, _)| *name).collect()
    }

    #[test]
    fn each_form_selects_exactly_its_mailboxes() {
        let all: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
        for (word, expected) in [
            ("/", all.clone()),
            ("//", all),
            ("/second", vec!["user/zoe@example.org/Work", "user/4711/INBOX", "shared/news/de"]),
            (
                "/primary/user",
                all_of(&[
                    "user/admin/INBOX",
                    "user/admin/Trash",
                    "user/admin/Trash/Old",
                    "user/admin/Trashes",
                    "user/zoe@example.org/INBOX",
                ]),
            ),
            (
                "/primary/groupA",
                vec!["user/admin/INBOX", "user/admin/Trash", "user/admin/Trash/Old", "user/admin/Trashes"],
            ),
            ("/primary/groupN", vec![]),
            ("/second/groupC/4711", vec!["user/4711/INBOX"]),
            ("/second/groupA/4711", vec![]),
            ("/primary/user/zoe@example.org", vec!["user/zoe@example.org/INBOX"]),
            ("/primary/user/admin/inbox", vec!["user/admin/INBOX"]),
            ("/primary/user/admin/Trash", vec!["user/admin/Trash", "user/admin/Trash/Old"]),
            ("/primary/admin/INBOX", vec!["user/admin/INBOX"]),
            ("/primary/shared", vec!["shared"]),
            ("/second/shared/news", vec!["shared/news/de"]),
            ("zoe@example.org", vec!["user/zoe@example.org/INBOX", "user/zoe@example.org/Work"]),
            ("user/admin/Trash", vec!["user/admin/Trash", "user/admin/Trash/Old"]),
            ("shared", vec!["shared", "shared/news/de"]),
        ] {
            assert_eq!(taken(&objects(&[word], "")), expected, "{word}");
        }
        assert_eq!(taken(&objects(&["/second/shared", "4711"], "")), ["user/4711/INBOX", "shared/news/de"]);
        assert_eq!(taken(&objects(&[], "")).len(), ALL.len());
    }

    fn all_of(names: &[&'static str]) -> Vec<&'static str> {
        names.to_vec()
    }

    #[test]
    fn folders_are_left_out_unless_they_are_named() {
        let without = ["user/admin/INBOX", "user/admin/Trashes"];
        assert_eq!(taken(&objects(&["admin"], "Trash%Bulk Mail")), without);
        assert_eq!(taken(&objects(&["/primary/user/admin"], "%trash%")), without);
        let named = ["user/admin/Trash", "user/admin/Trash/Old"];
        assert_eq!(taken(&objects(&["/primary/user/admin/Trash"], "Trash")), named);
        assert_eq!(taken(&objects(&["user/admin/Trash"], "Trash")), named);
        assert_eq!(taken(&objects(&["/"], "news")).len(), ALL.len(), "only folders of users");
    }

    #[test]
    fn words_that_are_no_objects_are_named() {
        let groups = Groups::parse(FILE).expect("good lines");
        for word in ["/pri mary", "/primary/no such/x", "no such user!", "user/", "other/x", "/..", "/primary/user/a b"]
        {
            let error = Object::parse(word, &groups).expect_err(word);
            assert!(error.to_string().starts_with(&format!("{word:?}")), "{error}");
        }
    }

    #[test]
    fn wrong_lines_are_told_with_their_numbers() {
        let text = "good=a.*\nno equals sign\n=x\nbad name=y\nuser=.*\nopen=(\ngood=b\n";
        let wrong = Groups::parse(text).expect_err("wrong lines");
        assert_eq!(wrong.iter().map(|e| e.line).collect::<Vec<_>>(), [2, 3, 4, 5, 6, 7]);
        assert!(wrong.iter().all(|e| !e.what.is_empty()));
    }

    #[test]
    fn the_first_line_that_matches_owns_the_user() {
        let groups = Groups::parse(FILE).expect("good lines");
        assert_eq!(
            ["admin", "zoe", "7up", "\u{e4}n", "\u{e4}"].map(|u| groups.of(u)),
            ["groupA", "groupB", "groupC", "groupN", "user"]
        );
        let objects = objects(&[], "");
        let path = |name: &str| objects.path(MailboxName::parse(name).expect("a name").key(), "p");
        assert_eq!(path("user/admin/a/b"), "/p/groupA/admin/a/b");
        assert_eq!(path("shared/x"), "/p/shared/x");
        assert_eq!(path("shared"), "/p/shared");
    }
}
