//! An archive and what the log says behind it, as one: the mailboxes of a moment between the two.
//!
//! # Operation
//! The changes behind the archive are read from the daemon before its first mailbox, and kept by mailbox and message: only what each is at the
//! end of them. Then the frames of the archive pass through here on their way to the restore: what was gone by then is left out, names
//! and flags are those of the moment, and in front of the end of each mailbox stand the messages that came behind the archive. Their
//! bytes come from the daemon: from the mailbox, from what was expunged there, or, if they were purged, from the log.
//!
//! # What can answer
//! | archive | log of the store it is of | answer |
//! |---|---|---|
//! | of that moment or earlier, whole mailboxes | leads from the archive to the moment | exactly what was there |
//! | the same | does not | refused; the place where the log breaks off is named |
//! | the same, of another store | is not here | the moment of the archive, and that is said |
//! | of a later moment, or of changes alone | | refused |

use super::put::Restorer;
use super::select::Objects;
use crate::archive::Found;
use crate::archive::content::{About, Close, Mailbox, Message, Reference};
use crate::backup::save::{head, line};
use crate::exit::{Outcome, Stop};
use crate::render::notes;
use jiff::Timestamp;
use proto::{BackupBygone, BackupChange, BackupFolder, BackupMailbox, BackupMessage, Code};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{Read, Seek};

/// Messages that may have changed behind an archive, at most: as many are held in memory.
const CHANGES_MAX: usize = 5_000_000;
/// Messages whose bytes are asked for at once.
const ASK_MESSAGES: usize = 256;
/// Bytes of them, about.
const ASK_BYTES: u64 = 4 << 20;

/// A message at the moment.
#[derive(Debug)]
struct Later {
    message: BackupMessage,
    is_live: bool,
}

/// What a mailbox had at the moment beside what the archive says.
#[derive(Debug, Default)]
struct Folder {
    at: Option<BackupFolder>,
    messages: BTreeMap<u32, Later>,
}

/// The mailbox of the archive whose frames are passing.
#[derive(Debug)]
struct Passing {
    /// Number of its frame.
    begins: u64,
    id: u64,
    /// Its name at the moment; `None`: there was none.
    name: Option<String>,
}

/// See the page.
#[derive(Debug)]
pub struct Wind {
    until: Timestamp,
    /// Nothing is left out because it was deleted.
    skip_deletes: bool,
    /// When the archive was made, and of what.
    archived: Timestamp,
    objects: Objects,
    /// Those that changed, and whether they were created behind the archive; `None`: it was gone by then.
    mailboxes: HashMap<u64, Option<(BackupMailbox, bool)>>,
    /// Which of them has a name, or had it.
    names: HashMap<String, u64>,
    /// Names that a mailbox left of which nothing else is known.
    left: HashSet<String>,
    folders: HashMap<u64, Folder>,
    count: usize,
    passing: Option<Passing>,
    /// Frames that stand in no archive, and the digests of the messages in them.
    made: HashMap<String, u64>,
    next: u64,
}

impl Wind {
    /// To be wound to `until`.
    pub fn new(until: Timestamp, skip_deletes: bool) -> Wind {
        Wind {
            until,
            skip_deletes,
            archived: Timestamp::MAX,
            objects: Objects::default(),
            mailboxes: HashMap::new(),
            names: HashMap::new(),
            left: HashSet::new(),
            folders: HashMap::new(),
            count: 0,
            passing: None,
            made: HashMap::new(),
            next: u64::MAX,
        }
    }

    /// The next frame of the archive.
    ///
    /// # Errors
    /// What the archive and the log cannot answer (65); those of the restore.
    pub fn frame<R: Read + Seek>(&mut self, number: u64, found: Found, to: &mut Restorer<'_, R>) -> Outcome<()> {
        match found {
            Found::Archive(about) => {
                self.begin(&about, to)?;
                to.frame(number, Found::Archive(about))
            }
            Found::Mailbox(mailbox) => {
                self.end_mailbox(to)?;
                self.mailbox(number, mailbox, to)
            }
            Found::Message(message, first) => match self.at_moment(message) {
                Some(message) => to.frame(number, Found::Message(message, first)),
                None => to.cut_off(),
            },
            Found::Reference(Reference { message, frame, of }) => match self.at_moment(message) {
                Some(message) => to.frame(number, Found::Reference(Reference { message, frame, of })),
                None => to.cut_off(),
            },
            Found::More(_) | Found::Moves(_) => to.frame(number, found),
            Found::Close(_) | Found::User(_) | Found::Index(_) | Found::End(_) => {
                self.end_mailbox(to)?;
                to.frame(number, found)
            }
        }
    }

    /// Behind the last frame: mailboxes that the archive does not have.
    ///
    /// # Errors
    /// Those of the restore.
    pub fn finish<R: Read + Seek>(&mut self, to: &mut Restorer<'_, R>) -> Outcome<()> {
        self.end_mailbox(to)?;
        let mut left: Vec<(BackupMailbox, bool)> = self.mailboxes.drain().filter_map(|(_, mailbox)| mailbox).collect();
        left.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        for (mailbox, is_new) in left {
            let (begins, told) = (self.number(), head(&mailbox, None));
            if !self.objects.take(&told) {
                continue;
            }
            if !is_new {
                self.is_not_there(&told, to);
                continue;
            }
            to.frame(begins, Found::Mailbox(told))?;
            self.passing = Some(Passing { begins, id: mailbox.id, name: Some(mailbox.name) });
            self.end_mailbox(to)?;
            to.frame(begins, Found::Close(Close { begins, ..Close::default() }))?;
        }
        Ok(())
    }

    /// A mailbox that is older than the archive, and not in it: nothing says what it had.
    fn is_not_there<R: Read + Seek>(&mut self, told: &Mailbox, to: &mut Restorer<'_, R>) {
        if !to.asked.objects.take(told) || to.house.is_left_out(&told.name) {
            return;
        }
        to.meet(told);
        let why =
            "the archive does not have it: it was deleted then, or had another name or place; give one that has it";
        to.summary.fail(told.object.clone(), None, why.to_owned());
    }

    fn number(&mut self) -> u64 {
        self.next -= 1;
        self.next
    }

    /// Reads what changed behind the archive.
    fn begin<R: Read + Seek>(&mut self, about: &About, to: &mut Restorer<'_, R>) -> Outcome<()> {
        let (until, time) = (self.until, about.time);
        let refuse = |text: String, hint: &str| Err(Stop::hint(Code::BadInput, text, hint));
        if about.since.is_some() {
            let text = "this archive has only what changed behind another: it is no state to go on from".to_owned();
            return refuse(text, "give the full archive: the log leads from there, too");
        }
        if time > until {
            let text = format!("this archive is of {time}, which is later than {until}");
            let hint = "give one of that time or an earlier one; what is only expunged: storectl mailbox undelete";
            return refuse(text, hint);
        }
        if to.house.store() != about.store {
            to.summary.reached(until, time, about.lsn);
            notes::note(&format!(
                "this archive is of store {}, whose log is not here: what is restored is what was there at {time}, and nothing that \
                 changed from then to {until}",
                about.store
            ));
            return Ok(());
        }
        (self.archived, self.objects) = (time, Objects::new(&about.objects));
        let until_us = u64::try_from(until.as_microsecond()).unwrap_or(0);
        let mut changed = |change| self.note(change);
        let reached = to.house.changes((about.lsn, about.epoch), until_us, &mut changed)?;
        to.summary.reached(until, until, reached.lsn);
        notes::note(&format!(
            "as of {until}: behind the archive of {time}, {} messages had changed by LSN {}",
            self.count, reached.lsn
        ));
        Ok(())
    }

    fn note(&mut self, change: BackupChange) -> Outcome<()> {
        match change {
            BackupChange::Mailbox { mailbox, created_us } => {
                let is_new = i64::try_from(created_us).is_ok_and(|at| at > self.archived.as_microsecond());
                self.names.insert(mailbox.name.clone(), mailbox.id);
                self.mailboxes.insert(mailbox.id, Some((mailbox, is_new)));
            }
            BackupChange::Nameless(_) if self.skip_deletes => {}
            BackupChange::Nameless(name) => {
                // One that has another name by now was renamed.
                let gone = self.names.remove(&name).and_then(|id| self.mailboxes.get_mut(&id));
                match gone.filter(|mailbox| mailbox.as_ref().is_some_and(|(mailbox, _)| mailbox.name == name)) {
                    Some(mailbox) => *mailbox = None,
                    None => drop(self.left.insert(name)),
                }
            }
            BackupChange::Message { folder, message, is_live } => {
                let of = self.folders.entry(folder.mailbox).or_default();
                of.at = Some(folder);
                if !is_live && self.skip_deletes {
                    return Ok(());
                }
                if of.messages.insert(message.uid, Later { message, is_live }).is_none() {
                    self.count += 1;
                }
                if self.count > CHANGES_MAX {
                    let text = format!("more than {CHANGES_MAX} messages changed behind the archive");
                    return Err(Stop::hint(Code::BadInput, text, "give an archive nearer to that time"));
                }
            }
        }
        Ok(())
    }

    fn mailbox<R: Read + Seek>(&mut self, begins: u64, archived: Mailbox, to: &mut Restorer<'_, R>) -> Outcome<()> {
        let id = u64::from_str_radix(&archived.id, 16).unwrap_or(0);
        let now = match self.mailboxes.remove(&id) {
            Some(None) => None,
            Some(Some((later, _))) => Some(Mailbox { quota: archived.quota, ..head(&later, None) }),
            None if self.left.contains(&archived.name) => None,
            None => Some(archived),
        };
        self.passing = Some(Passing { begins, id, name: now.as_ref().map(|now| now.name.clone()) });
        match now {
            Some(now) => to.frame(begins, Found::Mailbox(now)),
            None => to.cut_off(),
        }
    }

    /// A message of the archive as it was at the moment; `None` if it was gone by then.
    fn at_moment(&mut self, message: Message) -> Option<Message> {
        let Some(passing) = self.passing.as_ref().filter(|passing| passing.begins == message.begins) else {
            // The frame of its mailbox is lost: nothing tells which it was.
            return Some(message);
        };
        let mailbox = passing.name.clone()?;
        let message = Message { mailbox, ..message };
        match self.folders.get_mut(&passing.id).and_then(|folder| folder.messages.remove(&message.uid)) {
            None => Some(message),
            Some(later) => later.is_live.then_some(Message { flags: later.message.flags, ..message }),
        }
    }

    /// The archive has no more of the mailbox: what came behind it.
    fn end_mailbox<R: Read + Seek>(&mut self, to: &mut Restorer<'_, R>) -> Outcome<()> {
        let Some(Passing { begins, id, name }) = self.passing.take() else { return Ok(()) };
        let (Some(name), Some(Folder { at: Some(at), messages })) = (name, self.folders.remove(&id)) else {
            return Ok(());
        };
        to.cut_off()?;
        if !to.is_open(begins)? {
            return Ok(());
        }
        let mut run: Vec<(BackupBygone, Message)> = Vec::new();
        for (uid, Later { message, .. }) in messages.into_iter().filter(|(_, later)| later.is_live) {
            let told = line(&message, (&name, begins))?;
            if !to.lacks(&told) {
                continue;
            }
            if let Some(frame) = self.made.get(&told.digest).copied()
                && to.has_put(frame)?
            {
                to.frame(self.next, Found::Reference(Reference { message: told, frame: Some(frame), of: None }))?;
                continue;
            }
            let bytes: u64 = run.iter().map(|(one, _)| one.size).sum();
            if run.len() >= ASK_MESSAGES || (!run.is_empty() && bytes + message.size > ASK_BYTES) {
                self.put(std::mem::take(&mut run), to)?;
            }
            let (size, digest) = (message.size, message.digest);
            run.push((BackupBygone { folder: at.clone(), uid, size, digest }, told));
        }
        self.put(run, to)
    }

    /// Fetches messages and gives them to the restore.
    fn put<R: Read + Seek>(&mut self, run: Vec<(BackupBygone, Message)>, to: &mut Restorer<'_, R>) -> Outcome<()> {
        if run.is_empty() {
            return Ok(());
        }
        let (asked, messages): (Vec<_>, Vec<_>) = run.into_iter().unzip();
        for (message, bytes) in messages.into_iter().zip(to.house.bygone(asked)?) {
            match bytes {
                Ok(bytes) => {
                    let number = self.number();
                    self.made.insert(message.digest.clone(), number);
                    to.frame(number, Found::Message(message, bytes))?;
                }
                Err(why) => to.fail(message.uid, why),
            }
        }
        Ok(())
    }
}
