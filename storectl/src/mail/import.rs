//! `import maildir` and `import mbox`.
//!
//! # Operation
//! A message whose digest the mailbox has is left alone, as often as the mailbox has it: so a second run adds nothing, a run that was
//! broken off is taken up by running it again, and two equal messages of the source are two messages.

use super::About;
use super::house::{House, digest, unexpected, unreadable};
use super::maildir::read::{Entry, Folder, Maildir};
use super::mbox::{Found, Reader};
use super::summary::Summary;
use crate::ask;
use crate::cli::{Global, ImportMaildirArgs, ImportMboxArgs};
use crate::errand;
use crate::exit::Outcome;
use crate::files;
use crate::render::Style;
use crate::render::notes::{self, Progress};
use crate::render::words::counted;
use crate::socket::Environment;
use proto::{Code, Command, Reply, Request};
use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Write};

/// Longest message that is read into memory.
pub const MESSAGE_BYTES_MAX: u64 = 256 << 20;

/// The mailbox of a user's folder; no components are the INBOX.
fn mailbox(user: &str, folder: &[String]) -> String {
    let folder = if folder.is_empty() { "INBOX".to_owned() } else { folder.join("/") };
    format!("user/{user}/{folder}")
}

/// Puts messages into mailboxes.
struct Import {
    house: House,
    summary: Summary,
    /// The mailbox that is filled, and how often it has messages that were not met yet, by their digests.
    at: String,
    there: BTreeMap<String, u64>,
}

impl Import {
    fn new(global: &Global, environment: &Environment, dry_run: bool) -> Outcome<Import> {
        let house = House::new(ask::connect_bulk(global, environment)?)?;
        let summary = Summary { dry_run, ..Summary::default() };
        Ok(Import { house, summary, at: String::new(), there: BTreeMap::new() })
    }

    /// A user must be there: a mistyped name is no new one.
    fn check_user(&mut self, user: &str) -> Outcome<()> {
        self.house.ask(Request::UserShow { user: user.to_owned() }).map(drop)
    }

    /// Goes to a mailbox, which is made if there is none.
    fn enter(&mut self, mailbox: &str) -> Outcome<()> {
        let messages = self.house.messages(mailbox)?;
        if messages.is_none() {
            let command = Command::MailboxCreate { name: mailbox.to_owned(), partition: None };
            self.house.ask(Request::Change { command, dry_run: self.summary.dry_run })?;
            self.summary.mailboxes.push(mailbox.to_owned());
        }
        self.there.clear();
        for message in messages.into_iter().flatten() {
            *self.there.entry(message.digest).or_default() += 1;
        }
        mailbox.clone_into(&mut self.at);
        Ok(())
    }

    /// Brings a message over, unless it is there.
    fn put(&mut self, source: String, bytes: Vec<u8>, mut about: About) -> Outcome<()> {
        if let Some(count) = self.there.get_mut(&digest(&bytes)).filter(|count| **count > 0) {
            *count -= 1;
            self.summary.unchanged += 1;
            return Ok(());
        }
        let bad = about.take_out_bad();
        if !bad.is_empty() {
            self.summary.not_kept(source.clone(), format!("keywords that cannot be here: {}", bad.join(" ")));
        }
        if self.summary.dry_run {
            self.summary.messages += 1;
            self.summary.bytes += bytes.len() as u64;
            return Ok(());
        }
        let at = self.at.clone();
        self.house.deliver(source, &at, bytes, &about)?;
        self.take_answers()
    }

    /// Whether to go on; if not, what is on its way is waited for first.
    fn go_on(&mut self) -> Outcome<()> {
        let Err(stop) = errand::check() else {
            errand::advance();
            return Ok(());
        };
        self.house.settle()?;
        self.take_answers()?;
        Err(stop)
    }

    fn take_answers(&mut self) -> Outcome<()> {
        for (source, answer) in self.house.answers() {
            match answer {
                Ok(Reply::Delivered(boxes)) => {
                    self.summary.messages += 1;
                    self.summary.bytes += boxes.iter().map(|delivered| delivered.size).sum::<u64>();
                }
                Ok(other) => return Err(unexpected(&other)),
                Err(failure) => self.summary.failed(source, failure)?,
            }
        }
        Ok(())
    }

    fn end(mut self, out: &mut dyn Write, style: Style) -> Outcome<u8> {
        self.house.settle()?;
        self.take_answers()?;
        self.summary.end(out, style, "imported")
    }
}

/// Brings a Maildir++ over.
///
/// # Errors
/// No such directory (66), no Maildir (65), no such user (67), those of the connection.
pub fn maildir(
    global: &Global,
    environment: &Environment,
    style: Style,
    out: &mut dyn Write,
    args: &ImportMaildirArgs,
) -> Outcome<u8> {
    let shown = args.dir.display().to_string();
    let wrong = |e: io::Error| unreadable(&shown, &e);
    let maildir = Maildir::open(&args.dir).map_err(wrong)?;
    let mut import = Import::new(global, environment, args.dry_run)?;
    import.check_user(&args.user)?;
    let (folders, passed) = maildir.folders().map_err(wrong)?;
    for one in passed {
        import.summary.not_kept(one.path, one.why);
    }
    let mut all: Vec<(Folder, Vec<Entry>)> = Vec::new();
    for folder in folders {
        let (entries, passed) = maildir.entries(&folder).map_err(wrong)?;
        for one in passed {
            import.summary.refuse(one.path, one.why);
        }
        if folder.unfinished > 0 {
            let count = counted(folder.unfinished, "file");
            notes::note(&format!("{}/tmp: {count} left out, never finished", folder.directory));
        }
        all.push((folder, entries));
    }
    let total = all.iter().map(|(_, entries)| entries.len() as u64).sum();
    let mut progress = Progress::new(total, "messages");
    errand::size(total);
    for (folder, entries) in &all {
        let mailbox = mailbox(&args.user, &folder.name);
        errand::at(&mailbox);
        import.enter(&mailbox)?;
        for entry in entries {
            import.go_on()?;
            import.file(&maildir, folder, entry)?;
            progress.advance();
        }
    }
    import.subscribe(&args.user, maildir.subscriptions().map_err(wrong)?)?;
    import.end(out, style)
}

impl Import {
    fn file(&mut self, maildir: &Maildir, folder: &Folder, entry: &Entry) -> Outcome<()> {
        let source = format!("{}/{}/{}", folder.directory, entry.directory, entry.file);
        let read = maildir.message(folder, entry).and_then(|(file, size, about, unknown)| {
            let mut bytes = Vec::new();
            file.take(MESSAGE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
            Ok((bytes, size, about, unknown))
        });
        match read {
            Ok((bytes, ..)) if bytes.len() as u64 > MESSAGE_BYTES_MAX => {
                self.summary.refuse(source, format!("longer than {MESSAGE_BYTES_MAX} bytes"));
                Ok(())
            }
            Ok((bytes, size, ..)) if bytes.len() as u64 != size => {
                self.summary.refuse(source, "it changed while it was read");
                Ok(())
            }
            Ok((bytes, _, about, unknown)) => {
                if !unknown.is_empty() {
                    let reason = format!("flags {unknown}, which have no name in dovecot-keywords");
                    self.summary.not_kept(source.clone(), reason);
                }
                self.put(source, bytes, about)
            }
            // A client that is at work meanwhile renames files.
            Err(e) => {
                self.summary.refuse(source, e.to_string());
                Ok(())
            }
        }
    }

    fn subscribe(&mut self, user: &str, folders: Vec<Vec<String>>) -> Outcome<()> {
        for folder in folders {
            let inbox = matches!(&folder[..], [only] if only.eq_ignore_ascii_case("INBOX"));
            let name = mailbox(user, if inbox { &[] } else { &folder });
            if self.summary.dry_run && self.summary.mailboxes.contains(&name) {
                continue;
            }
            let command = Command::Subscribe { user: user.to_owned(), name: name.clone() };
            match self.house.ask(Request::Change { command, dry_run: self.summary.dry_run }) {
                Err(crate::exit::Stop::Failed(f)) if matches!(f.code, Code::NotFound | Code::BadInput) => {
                    self.summary.not_kept(format!("subscription to {name}"), f.message);
                }
                asked => drop(asked?),
            }
        }
        Ok(())
    }
}

/// Brings an mbox over.
///
/// # Errors
/// No such file (66), no mbox (65), no such user (67), those of the connection.
pub fn mbox(
    global: &Global,
    environment: &Environment,
    style: Style,
    out: &mut dyn Write,
    args: &ImportMboxArgs,
) -> Outcome<u8> {
    let shown = args.file.display().to_string();
    let mut reader = Reader::new(BufReader::new(files::open(&args.file)?), args.dialect.dialect(), MESSAGE_BYTES_MAX);
    let mut import = Import::new(global, environment, args.dry_run)?;
    let mut begun = false;
    let mut number = 0u64;
    let mut progress = Progress::uncounted("messages");
    while let Some(found) = reader.read().map_err(|e| unreadable(&shown, &e))? {
        if !std::mem::replace(&mut begun, true) {
            import.check_user(&args.place.user)?;
            import.enter(&args.place.mailbox())?;
        }
        import.go_on()?;
        number += 1;
        let source = format!("{shown}: message {number}");
        match found {
            Found::Letter(letter) => import.put(source, letter.bytes, letter.about)?,
            Found::TooLong { bytes } => {
                import.summary.refuse(source, format!("{bytes} bytes, at most {MESSAGE_BYTES_MAX}"))
            }
        }
        progress.advance();
    }
    if reader.unsure() > 0 {
        let text = "lines begin with 'From ' behind an empty line and have no date: taken for text of their messages";
        notes::note(&format!("{shown}: {} {text}", reader.unsure()));
    }
    import.end(out, style)
}
