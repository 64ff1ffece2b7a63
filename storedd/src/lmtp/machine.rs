//! The protocol: bytes in, replies and steps out. It knows no socket, no clock and no store.
//!
//! # Operation
//! Whoever drives it puts bytes into [`Machine::buffer`], calls [`Machine::step`] until it gives [`Step::More`], writes what is in
//! [`Machine::output`], and begins again. A step that asks something is answered by the method that its text names, before the
//! next step. So a whole transaction that arrives in one piece (PIPELINING, RFC 2920) is answered in one piece.
//!
//! # Rules
//! * A command ends with CR LF. A bare LF, and a line that is too long, end the session: nobody knows what comes next.
//! * After the message there is one reply for each recipient that was taken, in their order (RFC 2033 4.2).
//! * A message that is too long, or cannot be kept, is read to its end and refused then; the session goes on.
//! * Wrong commands are counted; a session with too many ends.
//! * What was begun when the session is to close is finished; the reply to what comes then is 421.

use super::address::Address;
use super::data::Decoder;
use super::line::{self, Command};
use super::reply::{Refused, Reply};

/// Longest command in bytes, with its CR LF: an address of 1,024 bytes and what belongs to it.
pub const LINE_BYTES_MAX: usize = 2048;
/// Wrong commands after which a session ends.
const ERRORS_MAX: u32 = 20;

/// What a session may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Longest message in bytes.
    pub message_bytes: u64,
    /// Most recipients of one message.
    pub recipients: usize,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a, T> {
    /// More bytes are needed; before that, the output is to be written.
    More,
    /// Where does mail for this address go? [`Machine::resolved`].
    Resolve(Address),
    /// Bytes of the message, to be kept; [`Machine::cannot_keep`] if that is not possible.
    Body(&'a [u8]),
    /// The message is whole and goes to these. [`Machine::delivered`].
    Deliver(Vec<T>),
    /// What was kept of a message is not wanted any more.
    Discard,
    /// The session ends when the output is written.
    Close,
}

/// Where in the protocol it is.
#[derive(Debug)]
enum Phase {
    Command,
    /// [`Step::Resolve`] was not answered yet.
    Resolving,
    Data(Decoder),
    /// Bytes of a chunk that are to come.
    Chunk {
        left: u64,
        last: bool,
    },
    /// The message has come to its end.
    Whole,
    /// [`Step::Deliver`] was not answered yet.
    Delivering,
    Closed,
}

/// A transaction, from MAIL to the last reply.
#[derive(Debug)]
struct Transaction<T> {
    sender: Option<Address>,
    utf8: bool,
    targets: Vec<T>,
    /// Bytes of the message that have come.
    bytes: u64,
    /// A part of the message came.
    begun: bool,
    /// A chunk has come: no DATA may follow.
    chunked: bool,
    /// Why the message will be refused.
    refused: Option<Reply>,
}

/// See the page. `T` is what a recipient was found to be.
#[derive(Debug)]
pub struct Machine<T> {
    host: String,
    limits: Limits,
    input: Vec<u8>,
    /// So much of the input is taken.
    at: usize,
    output: Vec<u8>,
    body: Vec<u8>,
    phase: Phase,
    client: Option<String>,
    transaction: Option<Transaction<T>>,
    /// Recipients whose replies [`Machine::delivered`] gives.
    expected: usize,
    errors: u32,
    closing: bool,
}

impl<T> Machine<T> {
    /// A session with the greeting of `host` in its output.
    #[must_use]
    pub fn new(host: &str, limits: Limits) -> Machine<T> {
        let mut machine = Machine {
            host: host.to_owned(),
            limits,
            input: Vec::new(),
            at: 0,
            output: Vec::new(),
            body: Vec::new(),
            phase: Phase::Command,
            client: None,
            transaction: None,
            expected: 0,
            errors: 0,
            closing: false,
        };
        machine.output.extend_from_slice(format!("220 {host} LMTP storedd\r\n").as_bytes());
        machine
    }

    /// Where bytes that arrive are put, at the end.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        self.input.drain(..self.at);
        self.at = 0;
        &mut self.input
    }

    /// Replies that are to be written; whoever writes them empties it.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// What the client calls itself.
    #[must_use]
    pub fn client(&self) -> Option<&str> {
        self.client.as_deref()
    }

    /// True while a message is coming.
    #[must_use]
    pub fn is_in_message(&self) -> bool {
        matches!(self.phase, Phase::Data(_) | Phase::Chunk { .. })
    }

    /// True from the first recipient that was taken until the message has come whole, unless it is refused already.
    #[must_use]
    pub fn expects_message(&self) -> bool {
        self.keeps()
    }

    /// No new transaction is begun from now on; the session ends with 421 as soon as there is none.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// Ends the session now, with `reply`.
    pub fn end(&mut self, reply: &Reply) {
        reply.put(&mut self.output);
        self.phase = Phase::Closed;
    }

    /// What is to be done next.
    pub fn step(&mut self) -> Step<'_, T> {
        loop {
            match self.phase {
                Phase::Closed => return if self.drop_begun() { Step::Discard } else { Step::Close },
                Phase::Command if self.closing && self.transaction.is_none() => {
                    self.end(&Reply::new(421, "4.3.2", "the daemon stops; try again later"));
                }
                Phase::Command => {
                    let Some(command) = self.next_line() else { return Step::More };
                    if let Some(step) = self.command(command) {
                        return step;
                    }
                }
                Phase::Data(_) | Phase::Chunk { .. } => {
                    if self.at == self.input.len() && !matches!(self.phase, Phase::Chunk { left: 0, .. }) {
                        return Step::More;
                    }
                    self.take_body();
                    if self.keeps() && !self.body.is_empty() {
                        return Step::Body(&self.body);
                    }
                }
                Phase::Whole => return self.whole(),
                // The driver has not answered: it gets nothing more to do.
                Phase::Resolving | Phase::Delivering => return Step::More,
            }
        }
    }

    /// The answer to [`Step::Resolve`].
    pub fn resolved(&mut self, found: Result<T, Reply>) {
        self.phase = Phase::Command;
        match (found, &mut self.transaction) {
            (Ok(target), Some(transaction)) => {
                transaction.targets.push(target);
                self.say(250, "2.1.5", "ok");
            }
            (Ok(_), None) => {}
            (Err(reply), _) => reply.put(&mut self.output),
        }
    }

    /// The message cannot be kept: every recipient gets this reply when it has come to its end, and no more of it is given.
    pub fn cannot_keep(&mut self, reply: Reply) {
        if let Some(transaction) = &mut self.transaction {
            transaction.refused.get_or_insert(reply);
        }
    }

    /// The answer to [`Step::Deliver`]: one reply for each target, in their order.
    pub fn delivered(&mut self, mut replies: Vec<Reply>) {
        replies.resize_with(self.expected, || Refused::Failed.reply(false));
        replies.iter().for_each(|reply| reply.put(&mut self.output));
        self.phase = Phase::Command;
    }

    fn say(&mut self, code: u16, status: &'static str, text: &'static str) {
        Reply::new(code, status, text).put(&mut self.output);
    }

    /// The next line without its end; `None` if none has come whole. What is no line ends the session.
    fn next_line(&mut self) -> Option<Result<Command, Reply>> {
        let waiting = &self.input[self.at..];
        let Some(end) = waiting.iter().position(|b| *b == b'\n') else {
            if waiting.len() > LINE_BYTES_MAX {
                return Some(self.broken("the line is too long"));
            }
            return None;
        };
        self.at += end + 1;
        match waiting[..end].strip_suffix(b"\r") {
            Some(line) if line.len() + 2 <= LINE_BYTES_MAX => Some(line::parse(line)),
            Some(_) => Some(self.broken("the line is too long")),
            None => Some(self.broken("a line ends with CR LF")),
        }
    }

    /// What comes next cannot be known: the session ends.
    fn broken(&mut self, text: &'static str) -> Result<Command, Reply> {
        self.phase = Phase::Closed;
        Err(Reply::new(500, "5.5.2", text))
    }

    fn command(&mut self, command: Result<Command, Reply>) -> Option<Step<'static, T>> {
        let command = match command {
            Ok(command) => command,
            Err(reply) => return self.wrong(&reply),
        };
        match command {
            Command::Lhlo(client) => {
                self.client = Some(client);
                self.greet();
                return self.forget();
            }
            Command::Mail { from, size, utf8 } => return self.mail(from, size, utf8),
            Command::Rcpt(to) => return self.rcpt(to),
            Command::Data => return self.data(),
            Command::Bdat { bytes, last } => self.bdat(bytes, last),
            Command::Rset => {
                self.say(250, "2.0.0", "ok");
                return self.forget();
            }
            Command::Noop => self.say(250, "2.0.0", "ok"),
            Command::Vrfy => self.say(252, "2.0.0", "RCPT tells"),
            Command::Help => self.say(214, "2.0.0", "LHLO MAIL RCPT DATA BDAT RSET NOOP QUIT; RFC 2033"),
            Command::Quit => self.end(&Reply::new(221, "2.0.0", "bye")),
        }
        None
    }

    /// Answers a wrong command, and ends a session that has had too many.
    fn wrong(&mut self, reply: &Reply) -> Option<Step<'static, T>> {
        reply.put(&mut self.output);
        self.errors += 1;
        if self.errors >= ERRORS_MAX && !matches!(self.phase, Phase::Closed) {
            self.end(&Reply::new(421, "4.7.0", "too many errors"));
        }
        None
    }

    fn out_of_order(&mut self, expected: &'static str) -> Option<Step<'static, T>> {
        self.wrong(&Reply::new(503, "5.5.1", expected))
    }

    fn greet(&mut self) {
        let lines = [
            &*self.host,
            "PIPELINING",
            "ENHANCEDSTATUSCODES",
            "8BITMIME",
            "SMTPUTF8",
            "CHUNKING",
            &format!("SIZE {}", self.limits.message_bytes),
        ];
        for (at, line) in lines.iter().enumerate() {
            let more = if at + 1 < lines.len() { '-' } else { ' ' };
            self.output.extend_from_slice(format!("250{more}{line}\r\n").as_bytes());
        }
    }

    /// Ends the transaction.
    fn forget(&mut self) -> Option<Step<'static, T>> {
        self.drop_begun().then_some(Step::Discard)
    }

    /// Ends the transaction; true if something of its message was kept.
    fn drop_begun(&mut self) -> bool {
        self.transaction.take().is_some_and(|transaction| transaction.begun)
    }

    fn mail(&mut self, sender: Option<Address>, size: Option<u64>, utf8: bool) -> Option<Step<'static, T>> {
        if self.client.is_none() {
            return self.out_of_order("LHLO comes first");
        }
        if self.transaction.is_some() {
            return self.out_of_order("a transaction is open: RSET ends it");
        }
        if size.is_some_and(|size| size > self.limits.message_bytes) {
            Refused::TooLarge.reply(false).put(&mut self.output);
            return None;
        }
        self.transaction = Some(Transaction {
            sender,
            utf8,
            targets: Vec::new(),
            bytes: 0,
            begun: false,
            chunked: false,
            refused: None,
        });
        self.say(250, "2.1.0", "ok");
        None
    }

    fn rcpt(&mut self, to: Address) -> Option<Step<'static, T>> {
        let Some(transaction) = self.transaction.as_ref().filter(|t| !t.chunked) else {
            return self.out_of_order("MAIL comes first, and RCPT before the message");
        };
        if !transaction.utf8 && !to.as_str().is_ascii() {
            return self.wrong(&line::needs_utf8());
        }
        if transaction.targets.len() >= self.limits.recipients {
            self.say(452, "4.5.3", "too many recipients");
            return None;
        }
        self.phase = Phase::Resolving;
        Some(Step::Resolve(to))
    }

    fn data(&mut self) -> Option<Step<'static, T>> {
        match &self.transaction {
            Some(transaction) if transaction.chunked => self.out_of_order("BDAT has begun the message"),
            Some(transaction) if !transaction.targets.is_empty() => {
                self.output.extend_from_slice(b"354 the message, then a dot\r\n");
                self.phase = Phase::Data(Decoder::default());
                None
            }
            // RFC 2033 4.2: without a recipient that was taken there is nothing to answer for.
            _ => self.out_of_order("no recipient was taken"),
        }
    }

    /// The bytes of a chunk come without being asked for, so they are taken whatever the answer is (RFC 3030 2).
    fn bdat(&mut self, left: u64, last: bool) {
        if let Some(transaction) = &mut self.transaction {
            transaction.chunked = true;
        }
        self.phase = Phase::Chunk { left, last };
    }

    /// True if bytes of the message that comes are wanted.
    fn keeps(&self) -> bool {
        self.transaction.as_ref().is_some_and(|t| t.refused.is_none() && !t.targets.is_empty())
    }

    /// Takes what has come of the message to `body`.
    fn take_body(&mut self) {
        self.body.clear();
        let first = self.transaction.as_ref().is_some_and(|t| !t.begun) && self.keeps();
        let header = if first { self.return_path() } else { 0 };
        let input = &self.input[self.at..];
        match &mut self.phase {
            Phase::Data(decoder) => {
                let (took, over) = decoder.decode(input, &mut self.body);
                self.at += took;
                if over {
                    self.phase = Phase::Whole;
                }
            }
            Phase::Chunk { left, last } => {
                let took = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                self.body.extend_from_slice(&input[..took]);
                self.at += took;
                *left -= took as u64;
                let (over, last) = (*left == 0, *last);
                if over {
                    self.chunk_is_over(last);
                }
            }
            _ => {}
        }
        let arrived = (self.body.len() - header) as u64;
        if let Some(transaction) = &mut self.transaction {
            transaction.bytes += arrived;
            if transaction.bytes > self.limits.message_bytes {
                transaction.refused.get_or_insert_with(|| Refused::TooLarge.reply(false));
            }
            transaction.begun |= first;
        }
    }

    /// RFC 5321 4.4: who delivers puts the sender at the head. Gives the length of the line.
    fn return_path(&mut self) -> usize {
        let sender = self.transaction.as_ref().and_then(|t| t.sender.as_ref()).map_or("", Address::as_str);
        self.body.extend_from_slice(format!("Return-Path: <{sender}>\r\n").as_bytes());
        self.body.len()
    }

    fn chunk_is_over(&mut self, last: bool) {
        let taken = self.transaction.as_ref().is_some_and(|t| !t.targets.is_empty());
        self.phase = Phase::Command;
        match (taken, last) {
            (true, true) => self.phase = Phase::Whole,
            (true, false) => self.say(250, "2.0.0", "ok"),
            (false, _) => {
                self.out_of_order("no recipient was taken");
            }
        }
    }

    /// The message is there: it goes on, or is refused for everybody.
    fn whole(&mut self) -> Step<'_, T> {
        self.phase = Phase::Command;
        let Some(transaction) = self.transaction.take() else { return Step::Discard };
        match transaction.refused {
            Some(reply) => {
                transaction.targets.iter().for_each(|_| reply.put(&mut self.output));
                Step::Discard
            }
            None => {
                self.expected = transaction.targets.len();
                self.phase = Phase::Delivering;
                Step::Deliver(transaction.targets)
            }
        }
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
