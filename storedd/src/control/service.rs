//! What the door needs of the house behind it. The daemon implements it over the store; a test over a map.

use super::access::{Groups, Role};
use crate::leases::Pass;
use crate::lsn::Lsn;
use crate::model::{Command, Outcome};
use crate::site::Site;
use proto::{Code, Failure, Reply, Request};
use serde::Serialize;

/// What the store can do at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A start is under way: only questions about the daemon itself are answered.
    Recovering,
    /// Everything works.
    Ready,
    /// Queries work, changes are refused until a person has decided something; `status` says what.
    ReadOnly,
    /// Stopping, or told to refuse new work: queries work.
    Draining,
    /// The log failed: queries work, changes are refused until a restart.
    Poisoned,
}

impl State {
    /// Every state.
    pub const ALL: [State; 5] = [State::Recovering, State::Ready, State::ReadOnly, State::Draining, State::Poisoned];

    /// The word of `status`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            State::Recovering => "recovering",
            State::Ready => "ready",
            State::ReadOnly => "read-only",
            State::Draining => "draining",
            State::Poisoned => "poisoned",
        }
    }
}

/// Who asks, as the kernel says (`SO_PEERCRED`) and as it calls itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Number of the connection, in no other use while the daemon runs.
    pub connection: u64,
    /// It came when the daemon was draining already.
    pub late: bool,
    /// Effective user id of the process that connected.
    pub uid: u32,
    /// Its group id.
    pub gid: u32,
    /// Its process id; 0 if the kernel does not tell. For messages only: it may be another process's by now.
    pub pid: i32,
    /// What it calls itself.
    pub client: String,
    /// What it may do.
    pub role: Role,
}

impl Peer {
    /// Whether it said in its greeting that its changes are bulk work.
    #[must_use]
    pub fn is_bulk(&self) -> bool {
        self.client.ends_with(proto::BULK)
    }
}

/// A change that is on disk and visible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// LSN of its record; [`Lsn::ZERO`] if nothing had to be changed, and in a dry run.
    pub lsn: Lsn,
    /// What it did.
    pub outcome: Outcome,
}

/// Takes the answer to a change; may be called on any thread, returns at once and never blocks. Dropping it uncalled answers
/// with an error: a client is never left waiting.
pub type Completion = Box<dyn FnOnce(Result<Committed, Failure>) + Send>;

/// Takes the answer to a request that may have to wait for others; may be called on any thread, and returns at once.
pub type Answered = Box<dyn FnOnce(Result<Reply, Failure>) + Send>;

/// Takes what comes before an answer, as far as the client reads it; may be called on any thread, returns at once. False: nobody
/// is there any more.
pub type Events = Box<dyn FnMut(Reply) -> bool + Send>;

/// Takes the answer to a change that had to wait for others.
pub type OnPassage = Box<dyn FnOnce(Result<Pass, Failure>) + Send>;

/// Whether a change may go.
#[derive(Debug)]
pub enum Passage {
    /// Now; what it carries is dropped when it is answered.
    Open(Option<Pass>),
    /// Later: the callback is called.
    Later,
}

/// Takes a part of a long answer; waits while the client is slow to read.
pub type Parts<'a> = dyn FnMut(Reply) -> Result<(), Stop> + 'a;

/// The client is gone or did not read: the rest of the answer is not wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop;

impl From<Stop> for Failure {
    fn from(_: Stop) -> Failure {
        Failure::new(Code::Unavailable, "the client is gone")
    }
}

/// The store and the daemon, as the door sees them.
pub trait Service: Send + Sync + 'static {
    /// What the store can do now. Asked for every request: must be a mere load.
    fn state(&self) -> State;

    /// The groups whose members may come in beside root and the daemon's user. Asked for every connection.
    fn groups(&self) -> Groups {
        Groups::default()
    }

    /// `health`. As [`Service::state`], a mere load.
    ///
    /// # Errors
    /// `Unavailable`, if there is no place for mail at all, with what is in the way.
    fn health(&self) -> Result<Reply, Failure> {
        super::dispatch::health(self.state())
    }

    /// What the store can do for this one: who was there when a drain began goes on until the end.
    fn state_for(&self, _peer: &Peer) -> State {
        self.state()
    }

    /// A connection has greeted; gives false if it came too late to ask for new work.
    fn greeted(&self, _connection: u64) -> bool {
        true
    }

    /// A connection has ended, after all its calls.
    fn gone(&self, _connection: u64) {}

    /// Asks whether a change may go now; if it must wait for others, what `later` gives is called when it may, or must not.
    /// Called in the order of the connection, and not again before the answer to the call before.
    fn pass(
        &self,
        _peer: &Peer,
        _verb: &'static str,
        _command: &Command,
        _later: &mut dyn FnMut() -> OnPassage,
    ) -> Passage {
        Passage::Open(None)
    }

    /// Answers a request that may have to wait for others, by `done`. `cut` ends the connection at once.
    fn hold(&self, _peer: &Peer, request: &Request, _cut: Box<dyn Fn() + Send>, done: Answered) {
        done(Err(Failure::new(Code::Bug, format!("{} is not answered here", request.verb()))));
    }

    /// Begins long-running work, follows it, or has it end; answers by `done` when it has. Returns at once.
    fn job(&self, _peer: &Peer, request: &Request, _events: Events, done: Answered) {
        done(Err(Failure::new(Code::Bug, format!("{} is not answered here", request.verb()))));
    }

    /// Submits a change. Called in the order in which a connection sent its changes, on a worker of the runtime: returns when
    /// the change is planned and queued, or committed if nothing else is at work and it commits here at once; it waits for
    /// nobody else. `done` is called when the change is on disk and visible, or refused; also from within this call.
    fn change(&self, peer: &Peer, command: Command, done: Completion);

    /// Has a change know what it has to know before it is submitted, and makes what the connection has sent for it durable. On a thread that
    /// may block.
    ///
    /// # Errors
    /// If that cannot be read, or written.
    fn prepare(&self, _peer: &Peer, command: Command) -> Result<Command, Failure> {
        Ok(command)
    }

    /// Plans a change and tells what it would do, changing nothing. On a thread that may block.
    ///
    /// # Errors
    /// The refusal that the change would get.
    fn dry_run(&self, peer: &Peer, command: Command) -> Result<Committed, Failure>;

    /// Prepares the roots of a partition that is to be added, or with `dry_run` only looks at it, and gives its id. On a
    /// thread that may block.
    ///
    /// # Errors
    /// If the paths cannot be a partition's roots.
    fn partition(&self, name: &str, site: &Site, dry_run: bool) -> Result<[u8; 16], Failure>;

    /// Answers a query (every request but `Hello`, `Health`, `Change` and `Atomic`, which the door knows how to treat).
    /// Quick ones ([`super::dispatch`] says which) are called on a worker of the runtime and must not wait for a disk; looks too,
    /// for as much as a page read or two; the others on a thread that may block. A long list goes through `parts`, best by a
    /// [`Listing`], and its rest is returned.
    ///
    /// # Errors
    /// Why there is no answer; parts that went out before are then void.
    fn query(&self, request: &Request, peer: &Peer, parts: &mut Parts<'_>) -> Result<Reply, Failure>;
}

/// Most rows of one part of a list.
pub const PART_ROWS: usize = 1000;
/// Bytes after which a part of a list is sent.
pub const PART_BYTES: usize = 256 << 10;

/// Cuts a list of any length into parts of at most [`PART_ROWS`] rows and about [`PART_BYTES`] bytes.
pub struct Listing<'a, 'b, T> {
    rows: Vec<T>,
    bytes: usize,
    wrap: fn(Vec<T>) -> Reply,
    parts: &'a mut Parts<'b>,
}

impl<'a, 'b, T: Serialize> Listing<'a, 'b, T> {
    /// A list whose parts are made by `wrap` (`Reply::Mailboxes`, ...) and go to `parts`.
    pub fn new(wrap: fn(Vec<T>) -> Reply, parts: &'a mut Parts<'b>) -> Listing<'a, 'b, T> {
        Listing { rows: Vec::new(), bytes: 0, wrap, parts }
    }

    /// Adds a row; sends a part when it is full, waiting for a slow client.
    ///
    /// # Errors
    /// [`Stop`] if nobody reads any more.
    pub fn push(&mut self, row: T) -> Result<(), Stop> {
        let bytes = proto::codec::size(&row);
        if self.rows.len() >= PART_ROWS || (self.bytes + bytes > PART_BYTES && !self.rows.is_empty()) {
            self.bytes = 0;
            (self.parts)((self.wrap)(std::mem::take(&mut self.rows)))?;
        }
        self.bytes += bytes;
        self.rows.push(row);
        Ok(())
    }

    /// The last part: what [`Service::query`] returns.
    #[must_use]
    pub fn finish(self) -> Reply {
        (self.wrap)(self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(rows: impl Iterator<Item = String>) -> Vec<Vec<String>> {
        let mut seen = Vec::new();
        let mut keep = |reply: Reply| match reply {
            Reply::Subscriptions(rows) => {
                seen.push(rows);
                Ok(())
            }
            _ => Err(Stop),
        };
        let mut listing = Listing::new(Reply::Subscriptions, &mut keep);
        rows.for_each(|row| listing.push(row).unwrap());
        let last = listing.finish();
        keep(last).unwrap();
        seen
    }

    #[test]
    fn parts_are_bounded_in_rows() {
        let parts = list((0..2500).map(|n| n.to_string()));
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [1000, 1000, 500]);
        assert_eq!(parts.concat(), (0..2500).map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!(list((0..1000).map(|n| n.to_string())).len(), 1, "exactly full is one part");
        assert_eq!(list(std::iter::empty()), [Vec::<String>::new()], "an empty list is an answer");
    }

    #[test]
    fn parts_are_bounded_in_bytes() {
        let rows = 100;
        let parts = list((0..rows).map(|_| "x".repeat(100_000)));
        assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), rows);
        assert!(parts.iter().all(|part| part.len() <= 2), "at most 256 KiB each");
        assert_eq!(list(std::iter::once("x".repeat(PART_BYTES * 2))).len(), 1, "a row longer than a part stands alone");
    }

    #[test]
    fn a_stopped_listing_says_so() {
        let mut gone = |_| Err(Stop);
        let mut listing = Listing::new(Reply::Subscriptions, &mut gone);
        let stopped = (0..2000).map(|n| listing.push(n.to_string())).find(Result::is_err);
        assert_eq!(stopped, Some(Err(Stop)));
    }
}
