//! From the daemon into the archive: asked ahead, written in order.

use super::base::{Base, Known};
use super::house::House;
use super::{Medium, Skipped};
use crate::archive::Writer;
use crate::archive::content::{About, Before, Close, Mailbox, Message, Reference, Since, State, User, runs};
use crate::exit::{Outcome, Stop};
use crate::pace::Pace;
use crate::render::notes::{self, Progress};
use jiff::Timestamp;
use proto::{
    BackupAsk, BackupMailbox, BackupMessage, BackupPart, BackupPiece, BackupUser, BackupWork, Code, READ_IN_TURN,
};
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;

/// Mailboxes whose messages are asked for ahead. The daemon remembers as many lists.
const LISTS_AHEAD: usize = 4;
/// How much is asked for at once, and ahead.
#[derive(Debug, Clone, Copy)]
struct Ahead {
    /// Bytes of messages asked for at once, about; a longer one goes alone.
    ask_bytes: u64,
    /// Messages asked for at once.
    ask_messages: usize,
    /// Bytes of messages on their way, about.
    bytes: u64,
    /// Requests on their way: as many as fit into the buffers of a socket, for nobody reads them before their answers are read.
    requests: usize,
}

impl Ahead {
    /// As fast as it goes.
    const FAST: Ahead = Ahead { ask_bytes: 1 << 20, ask_messages: 1024, bytes: 8 << 20, requests: 16 };
    /// Beside users: what the daemon reads for it takes one of its threads, for moments.
    const MODEST: Ahead = Ahead { ask_bytes: 128 << 10, ask_messages: READ_IN_TURN, bytes: 256 << 10, requests: 2 };
}

/// An answer of another kind.
pub fn unexpected(answer: &impl std::fmt::Debug) -> Stop {
    Stop::new(Code::Protocol, format!("the daemon gave an answer to something else: {answer:?}"))
}

/// What is to be in the archive.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Its head.
    pub about: &'a About,
    /// The archive that it follows.
    pub base: Option<&'a Base>,
    /// Bytes in a second; 0 is as fast as it goes.
    pub pace: u64,
}

/// What came of it.
pub struct Saved {
    /// To be finished.
    pub writer: Writer<Medium>,
    /// Messages that could not be read.
    pub skipped: Vec<Skipped>,
}

/// Messages whose bytes come with one answer.
#[derive(Debug, Default)]
struct Run {
    mailbox: u64,
    uids: Vec<u32>,
    bytes: u64,
    /// The request, once they were asked for.
    asked: Option<u64>,
}

/// A mailbox whose messages are known.
struct Planned<'a> {
    mailbox: &'a BackupMailbox,
    /// Its messages are known; the archive has no end of one whose are not.
    is_listed: bool,
    /// Its place among all.
    at: usize,
    /// Those that are to be in the archive.
    messages: Vec<BackupMessage>,
    /// Of an archive that follows another: those that did not change.
    kept: Option<Vec<(u32, u32)>>,
    /// What messages the mailbox has by this archive and those before it; `None` if it says not all of them.
    state: Option<State>,
    /// Below it, messages are in the archive before.
    known: Option<&'a Known>,
    /// What is to be asked for, in order.
    runs: VecDeque<Run>,
    /// Which of `messages` were asked for.
    wanted: Vec<bool>,
}

/// Where the bytes of a message stand in the archive.
#[derive(Debug, Clone, Copy)]
struct Stands {
    frame: u64,
    mailbox: u32,
    uid: u32,
}

/// Saves all mailboxes.
///
/// # Errors
/// Those of the connection and of the medium.
pub fn save(
    house: &mut House,
    writer: Writer<Medium>,
    mailboxes: &[BackupMailbox],
    wanted: &Wanted<'_>,
    failed: &dyn Fn(io::Error) -> Stop,
) -> Outcome<Saved> {
    let total = mailboxes.iter().map(|mailbox| mailbox.messages).sum();
    let mut saver = Saver {
        house,
        writer,
        wanted,
        failed,
        mailboxes,
        asked: HashSet::new(),
        stands: HashMap::new(),
        bytes_ahead: 0,
        requests_ahead: 0,
        ahead: if wanted.pace > 0 { Ahead::MODEST } else { Ahead::FAST },
        progress: Progress::new(total, "messages"),
        pace: Pace::new(wanted.pace),
        done: 0,
        total,
        skipped: Vec::new(),
    };
    let mut lists = VecDeque::new();
    let mut planned: VecDeque<Planned<'_>> = VecDeque::new();
    let mut left = mailboxes.iter().enumerate();
    loop {
        while lists.len() < LISTS_AHEAD
            && let Some((at, mailbox)) = left.next()
        {
            let id = (mailbox.messages > 0).then(|| saver.house.ask(BackupAsk::Messages { mailbox: mailbox.id }));
            lists.push_back((at, mailbox, id.transpose()?));
        }
        if saver.has_room() || planned.is_empty() {
            match lists.pop_front() {
                Some((at, mailbox, id)) => {
                    planned.push_back(saver.plan(at, mailbox, id)?);
                    continue;
                }
                None if planned.is_empty() => break,
                None => {}
            }
        }
        if let Some(next) = planned.pop_front() {
            saver.put(next)?;
        }
    }
    Ok(Saved { writer: saver.writer, skipped: saver.skipped })
}

struct Saver<'a> {
    house: &'a mut House,
    writer: Writer<Medium>,
    wanted: &'a Wanted<'a>,
    failed: &'a dyn Fn(io::Error) -> Stop,
    mailboxes: &'a [BackupMailbox],
    /// Messages whose bytes were asked for.
    asked: HashSet<[u8; 32]>,
    stands: HashMap<[u8; 32], Stands>,
    bytes_ahead: u64,
    requests_ahead: usize,
    ahead: Ahead,
    progress: Progress,
    pace: Pace,
    done: u64,
    total: u64,
    skipped: Vec<Skipped>,
}

impl<'a> Saver<'a> {
    fn has_room(&self) -> bool {
        self.bytes_ahead < self.ahead.bytes && self.requests_ahead < self.ahead.requests
    }

    /// Learns the messages of a mailbox and asks for the bytes of those that are not in the archive yet.
    fn plan(&mut self, at: usize, mailbox: &'a BackupMailbox, id: Option<u64>) -> Outcome<Planned<'a>> {
        let (mut is_listed, mut all) = (true, Vec::new());
        match id.map(|id| self.house.answer(id)) {
            None => {}
            Some(Ok(BackupPart::Messages(messages))) => all = messages,
            Some(Ok(other)) => return Err(unexpected(&other)),
            // One mailbox that cannot be read keeps no other out.
            Some(Err(Stop::Failed(failure))) if failure.code != Code::Unavailable => {
                is_listed = false;
                notes::note(&format!("{}: {}", mailbox.object, failure.message));
                let object = mailbox.object.clone();
                self.skipped.push(Skipped { object, uid: None, reason: failure.message });
            }
            Some(Err(stop)) => return Err(stop),
        }
        let known = self.wanted.base.and_then(|base| base.known(mailbox));
        let is_kept = |message: &BackupMessage, known: &Known| {
            message.modseq <= known.before.highest_modseq && known.has(message.uid)
        };
        let kept = known.map(|known| runs(all.iter().filter(|m| is_kept(m, known)).map(|m| m.uid)));
        let mut state = (!matches!(self.wanted.about.since, Some(Since::Time(_)))).then(State::default);
        if let (Some(state), Some(known)) = (&mut state, known) {
            all.iter().filter(|m| is_kept(m, known)).for_each(|m| state.add(m.uid, &m.digest, &m.flags));
        }
        let is_wanted = |message: &BackupMessage| match (&self.wanted.about.since, known) {
            (Some(Since::Time(since)), _) => {
                i64::try_from(message.saved_us).is_ok_and(|saved| saved >= since.as_microsecond())
            }
            (_, Some(known)) => !is_kept(message, known),
            _ => true,
        };
        let before = all.len();
        let messages: Vec<BackupMessage> = all.into_iter().filter(is_wanted).collect();
        (messages.len()..before).for_each(|_| self.progress.advance());
        self.done += (before - messages.len()) as u64;
        let mut planned = Planned {
            mailbox,
            is_listed,
            at,
            wanted: Vec::with_capacity(messages.len()),
            messages,
            kept,
            state,
            known,
            runs: VecDeque::new(),
        };
        self.ask(&mut planned)?;
        Ok(planned)
    }

    /// Decides whose bytes are wanted, in runs that are asked for when there is room for them.
    fn ask(&mut self, planned: &mut Planned<'_>) -> Outcome<()> {
        let Ahead { ask_bytes, ask_messages, .. } = self.ahead;
        let mut run = Run { mailbox: planned.mailbox.id, ..Run::default() };
        for message in &planned.messages {
            let is_older = planned.known.is_some_and(|known| known.has(message.uid));
            let is_new = !self.wanted.about.single_copy || self.asked.insert(message.digest);
            planned.wanted.push(is_new && !is_older);
            if !is_new || is_older {
                continue;
            }
            if !run.uids.is_empty() && (run.bytes + message.size > ask_bytes || run.uids.len() >= ask_messages) {
                planned.runs.push_back(std::mem::take(&mut run));
                run.mailbox = planned.mailbox.id;
            }
            run.uids.push(message.uid);
            run.bytes += message.size;
        }
        planned.runs.extend(Some(run).filter(|run| !run.uids.is_empty()));
        self.ask_ahead(&mut planned.runs)
    }

    /// Asks for runs, in their order, as far as there is room; for the first of them in any case.
    fn ask_ahead(&mut self, runs: &mut VecDeque<Run>) -> Outcome<()> {
        for (at, run) in runs.iter_mut().enumerate().filter(|(_, run)| run.asked.is_none()) {
            if at > 0 && !self.has_room() {
                break;
            }
            let uids = std::mem::take(&mut run.uids);
            run.asked = Some(self.house.ask(BackupAsk::Bytes { mailbox: run.mailbox, uids })?);
            self.bytes_ahead += run.bytes;
            self.requests_ahead += 1;
        }
        Ok(())
    }

    /// One message more; waits where it goes too fast.
    fn advance(&mut self, mailbox: &BackupMailbox, bytes: u64) -> Outcome<()> {
        self.progress.advance();
        self.done += 1;
        let (house, done, total, item) = (&mut *self.house, self.done, Some(self.total), &mailbox.object);
        self.pace.sleep(bytes, || {
            house.tell(BackupWork { restores: false, done, total, item: item.clone(), is_last: false })
        })
    }

    /// Writes a mailbox.
    fn put(&mut self, mut planned: Planned<'_>) -> Outcome<()> {
        let mailbox = planned.mailbox;
        if let Some(owner) = &mailbox.owner {
            self.writer.user(&user(owner)).map_err(self.failed)?;
        }
        let begins = self
            .writer
            .mailbox(&head(mailbox, planned.known.map(|known| known.before.clone())))
            .map_err(self.failed)?;
        let of = (mailbox.name.as_str(), begins);
        if !planned.is_listed {
            return Ok(());
        }
        let mut pieces = VecDeque::new();
        let mut unreadable = Vec::new();
        let (messages, wanted) = (std::mem::take(&mut planned.messages), std::mem::take(&mut planned.wanted));
        for (message, is_asked) in messages.iter().zip(wanted) {
            self.advance(mailbox, if is_asked { message.size } else { 0 })?;
            let mut has = |message: &BackupMessage| {
                planned.state.iter_mut().for_each(|state| state.add(message.uid, &message.digest, &message.flags));
            };
            let is_older = planned.known.is_some_and(|known| known.has(message.uid));
            if is_older {
                has(message);
                let reference = Reference { message: line(message, of)?, frame: None, of: None };
                self.writer.reference(&reference).map_err(self.failed)?;
                continue;
            }
            if !is_asked && let Some(stands) = self.stands.get(&message.digest) {
                let object = self.mailboxes.get(stands.mailbox as usize).map_or("", |mailbox| &mailbox.object);
                has(message);
                let stands_at = Some((object.to_owned(), stands.uid));
                let reference = Reference { message: line(message, of)?, frame: Some(stands.frame), of: stands_at };
                self.writer.reference(&reference).map_err(self.failed)?;
                continue;
            }
            // The message that it was to refer to could not be read; its own bytes may be.
            let bytes = match is_asked {
                true => self.next(message.uid, &mut planned.runs, &mut pieces)?,
                false => self.alone(mailbox.id, message.uid)?,
            };
            match whole(message, bytes) {
                Ok(bytes) => {
                    has(message);
                    self.put_message(planned.at, message, &line(message, of)?, &bytes)?;
                }
                Err(reason) => {
                    notes::note(&format!("{} {}: {reason}", mailbox.object, message.uid));
                    unreadable.push(message.uid);
                    let (object, uid) = (mailbox.object.clone(), Some(message.uid));
                    self.skipped.push(Skipped { object, uid, reason });
                }
            }
        }
        let close = Close {
            begins,
            messages: (messages.len() - unreadable.len()) as u64,
            continues: false,
            kept: planned.kept,
            state: planned.state,
            unreadable,
            ..Close::default()
        };
        self.writer.close(&close).map_err(self.failed)
    }

    fn put_message(&mut self, at: usize, message: &BackupMessage, line: &Message, bytes: &[u8]) -> Outcome<()> {
        let frame = self.writer.message(line, bytes).map_err(self.failed)?;
        if self.wanted.about.single_copy {
            let mailbox = u32::try_from(at).unwrap_or(u32::MAX);
            self.stands.insert(message.digest, Stands { frame, mailbox, uid: message.uid });
        }
        Ok(())
    }

    /// The bytes of the message that comes next of those asked for.
    fn next(
        &mut self,
        uid: u32,
        runs: &mut VecDeque<Run>,
        pieces: &mut VecDeque<BackupPiece>,
    ) -> Outcome<Result<Vec<u8>, String>> {
        if pieces.is_empty() {
            self.ask_ahead(runs)?;
        }
        if pieces.is_empty()
            && let Some(Run { bytes, asked: Some(id), .. }) = runs.pop_front()
        {
            self.bytes_ahead -= bytes;
            self.requests_ahead -= 1;
            match self.house.answer(id)? {
                BackupPart::Pieces(more) => pieces.extend(more),
                other => return Err(unexpected(&other)),
            }
        }
        joined(uid, pieces)
    }

    fn alone(&mut self, mailbox: u64, uid: u32) -> Outcome<Result<Vec<u8>, String>> {
        let id = self.house.ask(BackupAsk::Bytes { mailbox, uids: vec![uid] })?;
        match self.house.answer(id)? {
            BackupPart::Pieces(more) => joined(uid, &mut more.into()),
            other => Err(unexpected(&other)),
        }
    }
}

/// The pieces of one message as one; or why it cannot be read.
///
/// # Errors
/// They are of another message.
pub fn joined(uid: u32, pieces: &mut VecDeque<BackupPiece>) -> Outcome<Result<Vec<u8>, String>> {
    let mut bytes = Vec::new();
    loop {
        let piece = pieces.pop_front().filter(|piece| piece.uid == uid);
        let piece =
            piece.ok_or_else(|| Stop::new(Code::Protocol, format!("the bytes of message {uid} did not come")))?;
        if let Some(why) = piece.failed {
            return Ok(Err(why));
        }
        if bytes.is_empty() {
            bytes = piece.bytes;
        } else {
            bytes.extend_from_slice(&piece.bytes);
        }
        if piece.last {
            return Ok(Ok(bytes));
        }
    }
}

fn whole(message: &BackupMessage, bytes: Result<Vec<u8>, String>) -> Result<Vec<u8>, String> {
    let bytes = bytes?;
    if bytes.len() as u64 == message.size { Ok(bytes) } else { Err("it came with another length".to_owned()) }
}

fn user(owner: &BackupUser) -> User {
    let BackupUser { user, partition, quota_bytes, quota_messages, subscriptions } = owner.clone();
    User { user, partition, quota_bytes, quota_messages, subscriptions }
}

/// A mailbox as the archive has it.
pub fn head(mailbox: &BackupMailbox, before: Option<Before>) -> Mailbox {
    Mailbox {
        object: mailbox.object.clone(),
        name: mailbox.name.clone(),
        id: format!("{:x}", mailbox.id),
        partition: mailbox.partition.clone(),
        uidvalidity: mailbox.uidvalidity,
        uidnext: mailbox.uidnext,
        highest_modseq: mailbox.highest_modseq,
        acl: mailbox.acl.clone(),
        quota: mailbox.quota,
        before: before.map(Box::new),
    }
}

/// A message as the archive has it; `of`: name and frame of its mailbox.
///
/// # Errors
/// A time that is none.
pub fn line(message: &BackupMessage, of: (&str, u64)) -> Outcome<Message> {
    Ok(Message {
        uid: message.uid,
        size: message.size,
        digest: message.digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        date: time(message.internal_us)?,
        saved: time(message.saved_us)?,
        flags: message.flags.clone(),
        modseq: message.modseq,
        mailbox: of.0.to_owned(),
        begins: of.1,
    })
}

fn time(micros: u64) -> Outcome<Timestamp> {
    let found = i64::try_from(micros).ok().and_then(|micros| Timestamp::from_microsecond(micros).ok());
    found.ok_or_else(|| Stop::new(Code::Protocol, format!("{micros} microseconds since 1970 are no time")))
}
