//! From the frames of an archive into the store, mailbox by mailbox.

use super::follower::expect_listed;
use super::house::House;
use super::open::{Named, Open, lost};
use super::passed::Passed;
use super::place;
use super::references::Wanted;
use super::select::{Names, Objects, Query, is_inbox};
use super::summary::{Remark, Summary};
use crate::archive::content::{About, Mailbox, Message, User};
use crate::archive::{Damage, Found, MESSAGE_BYTES_MAX, Seeker};
use crate::cli::RestoreArgs;
use crate::exit::Outcome;
use crate::pace::Pace;
use crate::render::notes;
use proto::{BackupWork, Code, ReturningBody, ReturningMessage};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::{Read, Seek};

/// Messages of one transaction.
const BATCH: usize = 256;
/// Bytes of them, about.
const BATCH_BYTES: usize = 512 << 10;

/// Long messages of one transaction: so many of a connection may be under way.
const SENT_MAX: usize = 8;
/// Bytes of each of them; a longer one has a transaction of its own, and need not be remembered.
const SENT_BYTES_MAX: usize = 1 << 20;

/// What is to be restored, and how.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub objects: &'a Objects,
    pub names: &'a Names,
    pub query: &'a Query,
    /// References of a first run, by frame: only they.
    pub references: Option<&'a BTreeMap<u64, Vec<Wanted>>>,
    pub args: &'a RestoreArgs,
}

/// A message whose bytes are coming.
#[derive(Debug)]
struct Coming {
    frame: u64,
    message: Message,
    bytes: Vec<u8>,
}

/// A message that goes with the next transaction.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) message: ReturningMessage,
    pub(super) size: u64,
    pub(super) object: String,
    pub(super) uid: u32,
    /// The frame that has its bytes.
    pub(super) frame: Option<u64>,
    pub(super) digest: String,
    /// The mailbox that its bytes are copied from; empty: from none.
    pub(super) from: String,
    /// Bytes that were sent ahead, should they be asked for once more.
    pub(super) again: Option<Vec<u8>>,
    /// UID of the message that is there, which gets nothing but its bytes.
    pub(super) heals: Option<u32>,
    /// Its UID is one that may be taken all the same: another one will do.
    pub(super) fills: bool,
}

/// Where the message of a frame went, and what its bytes are.
#[derive(Debug, Clone)]
pub(super) struct Went {
    pub(super) mailbox: String,
    pub(super) uid: u32,
    pub(super) digest: Option<blake3::Hash>,
}

/// See the page.
pub struct Restorer<'a, R> {
    pub(super) house: House,
    pub(super) asked: Asked<'a>,
    pub(super) seeker: Option<Seeker<R>>,
    pub(super) about: Option<About>,
    pub(super) user: Option<User>,
    /// Users that were looked for: true if they had to be made.
    pub(super) users: HashMap<String, bool>,
    pub(super) open: Option<Open>,
    /// The INBOX of a user who is not there, to which nothing of what was asked for came.
    pub(super) inbox: Option<Open>,
    /// Of mailboxes to which references led: the messages that still lack their bytes.
    pub(super) sick_left: HashMap<String, BTreeSet<u32>>,
    /// The mailbox whose frame was met last, and of which nothing else was told yet.
    next: Option<(u64, Mailbox)>,
    /// Number of the mailbox's frame that was met last, whether or not it was asked for.
    met: Option<u64>,
    coming: Option<Coming>,
    pub(super) batch: Vec<Waiting>,
    pub(super) batch_bytes: usize,
    /// Long messages of it that were sent ahead.
    pub(super) batch_sent: usize,
    /// Where the message of a frame went.
    pub(super) went: HashMap<u64, Went>,
    /// From a pipe.
    pub(super) passed: Passed,
    /// Frames that references of a first run were found in.
    found: HashSet<u64>,
    /// Names here that the mailbox of an earlier archive has, while another one has them in this.
    pub(super) occupied: HashSet<String>,
    /// With --dry-run: names that would have been given away, and the mailbox that would have each now.
    pub(super) planned: HashMap<String, Option<String>>,
    pub(super) wanted: Vec<Wanted>,
    /// Of users who were made.
    pub(super) subscriptions: HashMap<String, Vec<String>>,
    /// Users to whom something came.
    pub(super) enriched: HashSet<String>,
    pub(super) summary: Summary,
    pace: Pace,
}

fn micros(time: jiff::Timestamp) -> u64 {
    u64::try_from(time.as_microsecond()).unwrap_or(0)
}

pub(super) fn key(message: &Message) -> (String, i64) {
    (message.digest.clone(), message.date.as_microsecond())
}

impl<'a, R: Read + Seek> Restorer<'a, R> {
    /// Over a connection that is there; `seeker`: the same archive, to look things up in.
    pub fn new(house: House, asked: Asked<'a>, seeker: Option<Seeker<R>>) -> Restorer<'a, R> {
        Restorer {
            house,
            asked,
            seeker,
            about: None,
            user: None,
            users: HashMap::new(),
            open: None,
            inbox: None,
            sick_left: HashMap::new(),
            next: None,
            met: None,
            coming: None,
            batch: Vec::new(),
            batch_bytes: 0,
            batch_sent: 0,
            went: HashMap::new(),
            passed: Passed::default(),
            found: HashSet::new(),
            occupied: HashSet::new(),
            planned: HashMap::new(),
            wanted: Vec::new(),
            subscriptions: HashMap::new(),
            enriched: HashSet::new(),
            summary: Summary { dry_run: asked.args.dry_run, ..Summary::default() },
            pace: Pace::new(asked.args.pace),
        }
    }

    /// The next frame.
    ///
    /// # Errors
    /// Those that end the whole run.
    pub fn frame(&mut self, number: u64, found: Found) -> Outcome<()> {
        if let Found::More(more) = found {
            self.tell(more.len())?;
            return self.more(&more);
        }
        self.cut_off()?;
        // What is there counts, and not what a message says of its length.
        self.tell(if let Found::Message(_, first) = &found { first.len() } else { 0 })?;
        match found {
            Found::Archive(about) => self.about = Some(about),
            Found::User(user) => match &mut self.user {
                // More of his subscriptions.
                Some(known) if known.user == user.user => {
                    expect_listed(known.subscriptions.len() + user.subscriptions.len(), "subscriptions of a user")?;
                    known.subscriptions.extend(user.subscriptions);
                }
                _ => self.user = Some(user),
            },
            Found::Moves(moves) => self.moved(moves)?,
            Found::Mailbox(mailbox) => {
                self.leave()?;
                self.met = Some(number);
                self.meet(&mailbox);
                if self.asked.references.is_none() && self.asked.objects.take(&mailbox) {
                    self.next = Some((number, mailbox));
                }
            }
            Found::Message(message, first) => self.message(number, message, first)?,
            Found::Reference(reference) if self.asked.references.is_none() => self.reference(reference)?,
            Found::Close(close) => {
                if self.is_open(close.begins)? {
                    self.close(&close)?;
                }
                if !close.continues {
                    self.leave()?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// There is something of what was asked for.
    pub(super) fn meet(&mut self, mailbox: &Mailbox) {
        self.summary.met.extend(self.asked.objects.taking(mailbox));
    }

    /// Waits where it goes too fast, and says how far it is from time to time.
    fn tell(&mut self, bytes: usize) -> Outcome<()> {
        let bytes = if self.open.is_some() { bytes as u64 } else { 0 };
        let item = self.open.as_ref().map_or("", |open| &open.name);
        let done = self.summary.done();
        let (house, work) =
            (&mut self.house, BackupWork { restores: true, done, total: None, item: item.to_owned(), is_last: false });
        self.pace.sleep(bytes, || house.tell(work.clone()))
    }

    /// A place of the archive that cannot be used.
    ///
    /// # Errors
    /// Those that end the whole run.
    pub fn damaged(&mut self, damage: &Damage) -> Outcome<()> {
        self.cut_off()?;
        self.flush()?;
        self.open.iter_mut().for_each(|open| open.is_damaged = true);
        self.summary.fail(place(damage), None, damage.what.clone());
        Ok(())
    }

    /// All was read. What it came to, and the references that could not be followed.
    ///
    /// # Errors
    /// Those that end the whole run.
    pub fn finish(mut self) -> Outcome<(Summary, Vec<Wanted>)> {
        self.cut_off()?;
        self.leave()?;
        let unmet = self.asked.references.into_iter().flatten().filter(|(frame, _)| !self.found.contains(*frame));
        for wanted in unmet.flat_map(|(_, all)| all) {
            let why = "the archive does not have its bytes any more".to_owned();
            self.summary.fail(wanted.object.clone(), Some(wanted.message.uid), why);
        }
        let mut subscriptions: Vec<_> = std::mem::take(&mut self.subscriptions).into_iter().collect();
        subscriptions.sort();
        for (user, names) in subscriptions.into_iter().filter(|(user, _)| self.enriched.contains(user)) {
            for name in names {
                if !self.house.subscribe(&user, &name)? {
                    notes::note(&format!("{user} had subscribed to {name}, which is not there"));
                }
            }
        }
        let done = self.summary.done();
        let work = BackupWork { restores: true, done, total: Some(done), item: String::new(), is_last: true };
        self.house.tell(work)?;
        Ok((self.summary, self.wanted))
    }

    /// Whether the mailbox whose frame has this number takes messages now: it is opened with the first thing that is told of it.
    ///
    /// # Errors
    /// Those that end the whole run.
    pub(super) fn is_open(&mut self, begins: u64) -> Outcome<bool> {
        if let Some((_, mailbox)) = self.next.take_if(|(number, _)| *number == begins) {
            self.enter(begins, mailbox)?;
        }
        Ok(self.open.as_ref().is_some_and(|open| open.begins == begins))
    }

    /// Whether the open mailbox is to get a message whose bytes are not here yet, as far as can be told without them.
    pub(super) fn lacks(&mut self, message: &Message) -> bool {
        let is_taken = self.asked.query.needs_header() || self.asked.query.takes(message, &[]);
        is_taken && (self.is_sick(message) || !self.is_there(message, false))
    }

    /// A message of the open mailbox cannot be restored.
    pub(super) fn fail(&mut self, uid: u32, why: String) {
        let object = self.object();
        self.summary.fail(object, Some(uid), why);
    }

    /// A message whose last bytes did not come.
    ///
    /// # Errors
    /// None so far.
    pub(super) fn cut_off(&mut self) -> Outcome<()> {
        let Some(Coming { message, .. }) = self.coming.take() else { return Ok(()) };
        let object = self.open.as_ref().map_or(message.mailbox.clone(), |open| open.archived.object.clone());
        self.summary.fail(object, Some(message.uid), "the rest of it is missing".to_owned());
        Ok(())
    }

    fn message(&mut self, frame: u64, message: Message, first: Vec<u8>) -> Outcome<()> {
        let is_wanted = match self.asked.references {
            Some(references) => references.contains_key(&frame),
            None => self.is_of(&message)?,
        };
        if !is_wanted {
            return Ok(());
        }
        let size = message.size;
        if size > MESSAGE_BYTES_MAX {
            let text = format!("it would have {size} bytes, and no message has more than {MESSAGE_BYTES_MAX}");
            self.fail(message.uid, text);
            return Ok(());
        }
        self.coming = Some(Coming { frame, message, bytes: first });
        if self.coming.as_ref().is_some_and(|coming| coming.bytes.len() as u64 >= size) {
            self.arrived()
        } else {
            Ok(())
        }
    }

    fn more(&mut self, more: &[u8]) -> Outcome<()> {
        let Some(coming) = &mut self.coming else { return Ok(()) };
        coming.bytes.extend_from_slice(more);
        if coming.bytes.len() as u64 >= coming.message.size { self.arrived() } else { Ok(()) }
    }

    /// Whether a message belongs to the mailbox that is open; one whose mailbox's frame is lost opens that by its name.
    pub(super) fn is_of(&mut self, message: &Message) -> Outcome<bool> {
        if self.is_open(message.begins)?
            && let Some(open) = &mut self.open
        {
            open.met += 1;
            if open.archived.before.is_some() {
                let (digest, flags) = (message.digest.clone(), message.flags.clone());
                open.named.insert(message.uid, Named { digest, flags, is_new: true });
            }
            return Ok(true);
        }
        if self.met == Some(message.begins) {
            // Its mailbox was not asked for, or could not be opened.
            return Ok(false);
        }
        // The frame of its mailbox is lost.
        self.leave()?;
        self.met = Some(message.begins);
        let by_name = lost(message);
        self.meet(&by_name);
        if self.asked.objects.take(&by_name) {
            self.enter(message.begins, by_name)?;
        } else if self.asked.objects.may_take() {
            let why =
                "the head of its mailbox is lost, so its group is not known: name the user or the mailbox".to_owned();
            self.summary.fail(message.mailbox.clone(), None, why);
        }
        Ok(self.open.is_some())
    }

    /// A message is there with all its bytes.
    fn arrived(&mut self) -> Outcome<()> {
        let Some(Coming { frame, message, bytes }) = self.coming.take() else { return Ok(()) };
        let object = self.open.as_ref().map_or(message.mailbox.clone(), |open| open.archived.object.clone());
        if *blake3::hash(&bytes).to_hex() != *message.digest || bytes.len() as u64 != message.size {
            self.summary.fail(object, Some(message.uid), "its bytes are not those that were saved".to_owned());
            return Ok(());
        }
        if let Some(references) = self.asked.references {
            self.found.insert(frame);
            for wanted in references.get(&frame).into_iter().flatten() {
                self.late(wanted, &bytes)?;
            }
            return Ok(());
        }
        self.restore(&message, &bytes, Some(frame))
    }

    /// Restores a message whose bytes are here into the open mailbox.
    pub(super) fn restore(&mut self, message: &Message, bytes: &[u8], frame: Option<u64>) -> Outcome<()> {
        if !self.asked.query.takes(message, bytes) || !self.made()? {
            return Ok(());
        }
        let sick = self.take_sick(message);
        for uid in &sick {
            let body = self.body(bytes)?;
            self.queue(message, (body, None), String::new(), frame, Some(*uid))?;
        }
        if self.is_there(message, !sick.is_empty()) {
            self.pass(message, frame);
            return Ok(());
        }
        let body = self.body(bytes)?;
        let again = matches!(body, ReturningBody::Sent(_)) && bytes.len() <= SENT_BYTES_MAX;
        let again = again.then(|| bytes.to_vec());
        self.queue(message, (body, again), String::new(), frame, None)
    }

    fn body(&mut self, bytes: &[u8]) -> Outcome<ReturningBody> {
        let Some(open) = self.open.as_ref().filter(|_| !self.asked.args.dry_run) else {
            return Ok(ReturningBody::Inline(Vec::new()));
        };
        if bytes.len() <= self.house.inline() {
            return Ok(ReturningBody::Inline(bytes.to_vec()));
        }
        let name = open.name.clone();
        if bytes.len() > SENT_BYTES_MAX {
            self.flush()?;
        }
        self.house.send(&name, bytes).map(ReturningBody::Sent)
    }

    /// True if the mailbox has the message already; it is told, unless its bytes were put back just now.
    pub(super) fn is_there(&mut self, message: &Message, is_healed: bool) -> bool {
        let Some(open) = &mut self.open else { return true };
        if self.asked.args.heal {
            return true;
        }
        let keeps_its_own = open.keeps_uids && !self.asked.args.ignore_duplicates && open.fills(message.uid);
        // In one that was made, twins are two messages.
        let is_itself = || open.there.get(&message.uid).is_some_and(|(digest, _)| *digest == message.digest);
        let has = match (open.was_made && open.keeps_uids) || keeps_its_own {
            true => is_itself(),
            // What had no bytes was none that the mailbox has twice.
            false => (is_healed || !self.asked.args.ignore_duplicates) && open.has.contains_key(&key(message)),
        };
        if has && !is_healed {
            let reason = format!("{} has it", open.name);
            self.summary.skipped.push(Remark { object: open.archived.object.clone(), uid: Some(message.uid), reason });
        }
        has
    }

    pub(super) fn queue(
        &mut self,
        message: &Message,
        (body, again): (ReturningBody, Option<Vec<u8>>),
        from: String,
        frame: Option<u64>,
        heals: Option<u32>,
    ) -> Outcome<()> {
        let bytes = match &body {
            ReturningBody::Inline(bytes) => bytes.len(),
            ReturningBody::Sent(_) | ReturningBody::Copy(_) | ReturningBody::Same { .. } => 256,
        };
        let fills_gap = self.fills_gap(message.uid)?;
        let Some(open) = &mut self.open else { return Ok(()) };
        let fills = fills_gap || (open.keeps_uids && open.fills(message.uid));
        let keeps = open.keeps_uids && (open.was_made || message.uid >= open.uidnext || fills);
        if !keeps && heals.is_none() {
            self.go_behind()?;
        }
        let Some(open) = &self.open else { return Ok(()) };
        let returning = ReturningMessage {
            uid: keeps.then_some(message.uid),
            flags: message.flags.clone(),
            internal_us: micros(message.date),
            saved_us: open.was_made.then(|| micros(message.saved)),
            body,
        };
        let object = open.archived.object.clone();
        let was_sent = matches!(returning.body, ReturningBody::Sent(_));
        self.batch_sent += usize::from(was_sent);
        let is_full = self.batch_sent >= SENT_MAX || (was_sent && again.is_none());
        let digest = message.digest.clone();
        let (size, uid) = (message.size, message.uid);
        self.batch.push(Waiting { message: returning, size, object, uid, frame, digest, from, again, heals, fills });
        self.batch_bytes += bytes;
        if is_full || self.batch.len() >= BATCH || self.batch_bytes >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    pub(super) fn object(&self) -> String {
        self.open.as_ref().map_or(String::new(), |open| open.archived.object.clone())
    }

    /// Nothing more goes to the open mailbox.
    pub(super) fn leave(&mut self) -> Outcome<()> {
        if let Some((_, mailbox)) = self.next.take() {
            let why = "the archive has nothing of it but its name: it could not be listed when that was made, or the rest is lost";
            self.summary.fail(mailbox.object, None, why.to_owned());
        }
        self.flush()?;
        match self.open.take() {
            Some(open) if open.unmade && self.asked.names.are_kept() && is_inbox(&open.name) => self.inbox = Some(open),
            Some(Open { lease: Some((lease, _)), .. }) => return self.house.release(lease),
            _ => {}
        }
        Ok(())
    }
}

/// A refusal that others need not meet.
pub fn is_about_it(code: Code) -> bool {
    matches!(code, Code::BadInput | Code::NotFound | Code::NoUser | Code::Exists | Code::NotPermitted)
}
