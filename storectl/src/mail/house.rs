//! The daemon, as import and export see it: deliveries that go side by side, and questions between them.
//!
//! # Invariants
//! * A question is asked when every delivery before it is answered: it sees them all.
//! * What is on its way is bounded, in number and in bytes.

use super::About;
use crate::cli::parse_size;
use crate::exit::{Outcome, Stop};
use crate::pipe::{Event, Pipe, Road};
use proto::{Answer, Body, Client, ClientError, Code, Command, Failure, Message, Reply, Request};
use std::io;
use std::sync::mpsc::{Receiver, channel};

/// Deliveries without an answer at most: so many share a sync.
const WINDOW: usize = 64;
/// Bytes of them at most; one longer message goes alone.
const WINDOW_BYTES: usize = 8 << 20;
/// Longest message that any store takes with its delivery: the smallest that one may be told to take so.
const INLINE_LEAST: usize = 4 << 10;
/// Room in a request beside its message.
const REQUEST_ROOM: u64 = 8 << 10;
/// A piece of a longer one.
const PIECE: usize = 256 << 10;

/// What was asked and has no answer yet.
#[derive(Debug)]
struct Asked {
    /// Where a message comes from; absent for a question.
    source: Option<String>,
    request: Request,
    bytes: usize,
}

/// See the page.
pub struct House {
    pipe: Pipe<Box<Asked>>,
    events: Receiver<Event>,
    /// Bytes on their way.
    bytes: usize,
    /// Longest message that is sent with its delivery, so that many share a sync; longer ones go before, each by itself.
    inline_max: usize,
    answered: Vec<(String, Answer)>,
}

impl House {
    /// Over a connection that is there.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn new(client: Client) -> Outcome<House> {
        let (events_in, events) = channel();
        let pipe = Pipe::new(client, events_in).map_err(|e| Stop::Failed(e.failure()))?;
        let mut house = House { pipe, events, bytes: 0, inline_max: INLINE_LEAST, answered: Vec::new() };
        house.inline_max = house.inline_limit()?;
        Ok(house)
    }

    /// What the daemon takes with a delivery, by its configuration: its own limit, and what requests and transactions hold.
    fn inline_limit(&mut self) -> Outcome<usize> {
        let values = match self.ask(Request::ConfigShow { defaults: false }) {
            Ok(Reply::Config(values)) => values,
            Ok(other) => return Err(unexpected(&other)),
            Err(stop) => return Err(stop),
        };
        let bytes = |option: &str| values.get(option).and_then(|value| parse_size(value.trim_matches('"')).ok());
        let limit = bytes("mail.inline_limit").unwrap_or(0);
        let request = bytes("control.max_frame").unwrap_or(0).saturating_sub(REQUEST_ROOM);
        let transaction = bytes("log.segment_size").unwrap_or(0) / 16;
        let most = limit.min(request).min(transaction);
        Ok(usize::try_from(most).unwrap_or(INLINE_LEAST).max(INLINE_LEAST))
    }

    /// Asks one thing, when everything before it is answered.
    ///
    /// # Errors
    /// A refusal; those of the connection.
    pub fn ask(&mut self, request: Request) -> Outcome<Reply> {
        self.settle()?;
        self.submit(Asked { source: None, request, bytes: 0 }, Road::Alone)?;
        loop {
            while let Some((asked, answer)) = self.pipe.take() {
                if asked.source.is_none() {
                    return answer.map_err(Stop::Failed);
                }
            }
            self.receive()?;
        }
    }

    /// The messages of a mailbox; `None` if there is no such mailbox.
    ///
    /// # Errors
    /// Those of [`House::ask`].
    pub fn messages(&mut self, mailbox: &str) -> Outcome<Option<Vec<Message>>> {
        match self.ask(Request::MessageList { name: mailbox.to_owned(), expunged: false }) {
            Ok(Reply::Messages(messages)) => Ok(Some(messages)),
            Err(Stop::Failed(failure)) if failure.code == Code::NotFound => Ok(None),
            Ok(other) => Err(unexpected(&other)),
            Err(stop) => Err(stop),
        }
    }

    /// Sends a message to a mailbox; what becomes of it is in [`House::answers`] later.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn deliver(&mut self, source: String, mailbox: &str, bytes: Vec<u8>, about: &About) -> Outcome<()> {
        let size = bytes.len();
        while self.pipe.unanswered() >= WINDOW || (self.bytes > 0 && self.bytes + size > WINDOW_BYTES) {
            self.receive()?;
        }
        let body = if size <= self.inline_max {
            Body::Inline(bytes)
        } else {
            match self.send(mailbox, &bytes) {
                Ok(number) => Body::Sent(number),
                Err(Stop::Failed(failure)) => {
                    self.answered.push((source, Err(failure)));
                    return Ok(());
                }
                Err(stop) => return Err(stop),
            }
        };
        let internal_us = about.date.and_then(|date| u64::try_from(date.as_microsecond()).ok());
        let command =
            Command::MessageDeliver { to: vec![mailbox.to_owned()], flags: about.flags.clone(), internal_us, body };
        let request = Request::Change { command, dry_run: false };
        self.submit(Asked { source: Some(source), request, bytes: size }, Road::Change)
    }

    /// Gives a long message to the daemon in pieces; its number there.
    fn send(&mut self, mailbox: &str, bytes: &[u8]) -> Outcome<u64> {
        let mut number = None;
        let mut pieces = bytes.chunks(PIECE).peekable();
        while let Some(piece) = pieces.next() {
            let last = pieces.peek().is_none();
            let request = Request::MessageSend { number, to: mailbox.to_owned(), bytes: piece.to_vec(), last };
            match self.ask(request)? {
                Reply::MessageSent(sent) => number = Some(sent.number),
                other => return Err(unexpected(&other)),
            }
        }
        number.ok_or_else(|| Stop::new(Code::Bug, "an empty message in pieces"))
    }

    /// What became of deliveries, by where their messages come from, since this was asked last.
    pub fn answers(&mut self) -> Vec<(String, Answer)> {
        std::mem::take(&mut self.answered)
    }

    /// Waits until every delivery is answered.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn settle(&mut self) -> Outcome<()> {
        self.collect();
        while self.pipe.unanswered() > 0 {
            self.receive()?;
        }
        Ok(())
    }

    fn submit(&mut self, asked: Asked, road: Road) -> Outcome<()> {
        self.bytes += asked.bytes;
        match self.pipe.submit(Box::new(asked), road, |asked| &asked.request) {
            Err((asked, e)) if !e.is_fatal() => self.pipe.refuse(asked, e.failure()),
            submitted => submitted.map_err(|(_, e)| lost(&e))?,
        }
        self.pipe.flush(road == Road::Change).map_err(|e| lost(&e))?;
        if road == Road::Change {
            self.collect();
        }
        Ok(())
    }

    /// Takes what has come, as far as it answers deliveries.
    fn collect(&mut self) {
        while let Some((asked, answer)) = self.pipe.take() {
            self.bytes -= asked.bytes;
            self.answered.extend(asked.source.map(|source| (source, answer)));
        }
    }

    /// Waits for something to come; answers to deliveries are collected.
    fn receive(&mut self) -> Outcome<()> {
        self.pipe.flush(false).map_err(|e| lost(&e))?;
        match self.events.recv() {
            Ok(Event::Answer(id, answer)) => self.pipe.answered(id, answer),
            Ok(Event::Lost(e)) => return Err(lost(&e)),
            Ok(_) => {}
            Err(_) => return Err(Stop::new(Code::Bug, "the thread that receives is gone")),
        }
        if self.pipe.tags().next().is_some_and(|asked| asked.source.is_some()) {
            self.collect();
        }
        Ok(())
    }

    /// The bytes of a message, compared with their digest.
    ///
    /// # Errors
    /// Those of [`House::ask`]; [`Code::Damaged`] if they are others.
    pub fn bytes(&mut self, mailbox: &str, message: &Message) -> Outcome<Vec<u8>> {
        match self.ask(Request::MessageBytes { name: mailbox.to_owned(), uid: message.uid })? {
            Reply::MessageBytes(bytes) if digest(&bytes) == message.digest => Ok(bytes),
            Reply::MessageBytes(_) => {
                Err(Stop::new(Code::Damaged, format!("message {} of {mailbox} came with other bytes", message.uid)))
            }
            other => Err(unexpected(&other)),
        }
    }
}

/// BLAKE3 of a message's bytes, as the daemon lists it. The only place of the client that names blake3.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// An answer to something else.
pub fn unexpected(reply: &Reply) -> Stop {
    Stop::new(Code::Protocol, format!("the daemon gave an answer to something else: {reply:?}"))
}

/// The connection is gone.
fn lost(error: &ClientError) -> Stop {
    let Failure { message, .. } = error.failure();
    let hint = "run the same command again: what is there already is left as it is";
    Stop::hint(Code::Unavailable, format!("interrupted: {message}"), hint)
}

/// An error of the user's files.
pub fn unreadable(what: &str, error: &io::Error) -> Stop {
    let code = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Code::NoInput,
        io::ErrorKind::InvalidData => Code::BadInput,
        io::ErrorKind::PermissionDenied => Code::NotPermitted,
        io::ErrorKind::AlreadyExists => Code::Exists,
        _ => Code::Io,
    };
    Stop::hint(code, format!("{what}: {error}"), format!("look at it with: ls -ld {what}"))
}
