//! One greeted connection, as one task: it reads requests, gives them to their lanes, and writes all answers that are
//! ready with one call. Reading stops while too much is at work or unread, so that a client is slowed by its own speed.

use super::audit::Audit;
use super::door::Shared;
use super::limits::{Share, count};
use super::outbox::{Ending, Item, Outbox};
use super::service::{Peer, Stop};
use crate::model::Command;
use proto::frame::{CONNECTION_ID, FrameError, Inbox, Kind};
use proto::{Code, Failure, Request, codec};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// Room for one read.
const READ_BYTES: usize = 16 << 10;
/// How often a client that has sent all, or is not read from, is asked whether it is still there for its answers.
const PROBE: Duration = Duration::from_millis(500);
/// A buffer longer than this is given back when it is empty, and counted while it is not.
const KEEP_BYTES: usize = 64 << 10;

/// See the page.
pub(super) struct Session {
    pub(super) door: Arc<Shared>,
    pub(super) peer: Arc<Peer>,
    pub(super) outbox: Arc<Outbox>,
    stream: UnixStream,
    inbox: Inbox,
    /// The inbox holds no complete request.
    drained: bool,
    /// Memory of the inbox beyond [`KEEP_BYTES`].
    partial: Option<Share>,
    /// Encoded answers, of which the first `written` bytes are gone.
    pub(super) out: Vec<u8>,
    written: usize,
    /// Finished work, not yet encoded.
    done: VecDeque<Item>,
    /// Requests that are at work or wait for the slow lane.
    pub(super) in_flight: usize,
    /// Requests for the slow lane, in order.
    pub(super) waiting: VecDeque<(u64, Request)>,
    /// What the slow lane works on for this connection.
    pub(super) slow: Option<tokio::task::AbortHandle>,
    /// A change waits for its partition, or for others; nothing behind it may overtake it.
    pub(super) barrier: bool,
    /// The change that waits for others.
    pub(super) blocked: Option<Blocked>,
    /// The client sends no more.
    eof: bool,
    /// It ended without reading what was sent to it.
    reset: bool,
    /// Said last; from then on nothing is read.
    farewell: Option<Failure>,
    parted: bool,
    ending: Ending,
    last_used: Instant,
    partial_since: Option<Instant>,
    stalled_since: Option<Instant>,
    _open: Share,
}

/// A change that waits for others.
pub(super) struct Blocked {
    pub(super) id: u64,
    pub(super) command: Command,
    pub(super) audit: Option<Audit>,
}

enum Event {
    Answers,
    Read(io::Result<usize>),
    Writable(io::Result<()>),
    Time,
    Probe,
}

impl Session {
    /// A session that starts with what was read behind the greeting, and with the answer to it.
    pub(super) fn new(
        door: Arc<Shared>,
        (stream, inbox): (UnixStream, Inbox),
        outbox: Arc<Outbox>,
        greeting: Vec<u8>,
        open: Share,
    ) -> Session {
        Session {
            door,
            peer: outbox.peer().clone(),
            outbox,
            stream,
            inbox,
            drained: false,
            partial: None,
            out: greeting,
            written: 0,
            done: VecDeque::new(),
            in_flight: 0,
            waiting: VecDeque::new(),
            slow: None,
            barrier: false,
            blocked: None,
            eof: false,
            reset: false,
            farewell: None,
            parted: false,
            ending: Ending::None,
            last_used: Instant::now(),
            partial_since: None,
            stalled_since: None,
            _open: open,
        }
    }

    /// Serves the connection to its end; an error is a client that is gone or does not read.
    pub(super) async fn run(mut self) -> io::Result<()> {
        let mut timer = pin!(sleep_until(self.last_used + self.door.limits.idle_timeout));
        loop {
            self.take_answers();
            self.take_requests();
            self.part();
            self.flush()?;
            if self.is_over() {
                return Ok(());
            }
            if self.can_go_on() {
                // A client with much to do lets others have their turn.
                tokio::task::yield_now().await;
                continue;
            }
            self.set_timer(timer.as_mut());
            match self.wait(timer.as_mut()).await {
                Event::Answers => self.look_at_outbox(),
                Event::Read(count) => {
                    // Also how the system tells of a client that ended with answers unread.
                    self.reset = count.is_err();
                    self.arrived(count?);
                }
                Event::Writable(result) => result?,
                Event::Probe => self.probe()?,
                Event::Time => self.check_times(timer.as_mut())?,
            }
        }
    }

    async fn wait(&mut self, timer: Pin<&mut Sleep>) -> Event {
        let (may_read, room) = (!self.eof && !self.is_paused(), self.has_room());
        let (unread, deaf) = (self.unread() > 0, self.eof || self.barrier);
        let (mut reader, writer) = self.stream.split();
        let buffer = self.inbox.buffer();
        if may_read {
            buffer.reserve(READ_BYTES);
        }
        let outbox = &self.outbox;
        tokio::select! {
            biased;
            () = poll_fn(|context| outbox.poll(context, room)) => Event::Answers,
            count = reader.read_buf(buffer), if may_read => Event::Read(count),
            result = writer.writable(), if unread => Event::Writable(result),
            () = timer => Event::Time,
            () = sleep(PROBE), if deaf => Event::Probe,
        }
    }

    /// Bytes of answers that the client has not taken.
    fn unread(&self) -> usize {
        self.out.len() - self.written
    }

    fn has_room(&self) -> bool {
        self.unread() < self.door.limits.unread_bytes
    }

    /// No request is taken now.
    fn is_paused(&self) -> bool {
        self.barrier || self.farewell.is_some() || self.in_flight >= self.door.limits.in_flight || !self.has_room()
    }

    fn is_over(&self) -> bool {
        let answered = self.in_flight == 0 && self.done.is_empty() && self.unread() == 0;
        self.ending == Ending::Now || (answered && (self.parted || (self.eof && self.drained)))
    }

    /// There is work that needs no waiting.
    fn can_go_on(&self) -> bool {
        (!self.drained && !self.is_paused()) || (!self.done.is_empty() && self.has_room())
    }

    fn look_at_outbox(&mut self) {
        self.ending = self.outbox.take(&mut self.done);
        if self.ending == Ending::Finish {
            self.say_farewell(
                Failure::new(Code::Unavailable, "the daemon stops").with_hint("storectl status tells when it is back"),
            );
        }
        self.last_used = Instant::now();
    }

    /// Encodes finished work, as long as the client reads.
    fn take_answers(&mut self) {
        while self.has_room()
            && let Some(item) = self.done.pop_front()
        {
            self.finish(item);
        }
    }

    /// Takes complete requests out of the inbox and starts them.
    fn take_requests(&mut self) {
        while !self.is_paused() {
            match self.inbox.next(self.door.limits.request_bytes) {
                Ok(Some(frame)) => {
                    let (kind, id) = (frame.kind, frame.id);
                    let request = (kind == Kind::Request).then(|| codec::decode(frame.payload));
                    self.partial_since = None;
                    self.handle(kind, id, request);
                }
                Ok(None) => {
                    self.drained = true;
                    self.nothing_complete();
                    return;
                }
                Err(e) => self.malformed(&e),
            }
        }
        self.partial_since = None;
    }

    /// No complete request is there: memory goes back, or the clock of a half one runs.
    fn nothing_complete(&mut self) {
        if self.inbox.waiting() == 0 {
            self.inbox.shrink(KEEP_BYTES);
            self.partial = None;
        } else if self.eof {
            let text = format!("the stream ends inside a request, {} bytes after its start", self.inbox.waiting());
            count(&self.door.counters.malformed);
            self.say_farewell(Failure::new(Code::Protocol, text));
        } else {
            self.partial_since.get_or_insert(self.last_used);
        }
    }

    fn arrived(&mut self, count: usize) {
        self.last_used = Instant::now();
        self.drained = false;
        self.eof = count == 0;
        let beyond = self.inbox.capacity().saturating_sub(KEEP_BYTES);
        if beyond == self.partial.as_ref().map_or(0, Share::amount) {
            return;
        }
        self.partial = None;
        let limit = self.door.limits.partial_bytes;
        self.partial = Share::take(&self.door.counters, |c| &c.partial_bytes, beyond, limit);
        if self.partial.is_none() {
            let text = format!("no memory for this request: {limit} bytes of half-arrived requests are held already");
            self.say_farewell(Failure::new(Code::Busy, text).with_hint("try again, or send shorter requests"));
        }
    }

    pub(super) fn malformed(&mut self, error: &FrameError) {
        count(&self.door.counters.malformed);
        let text = match error.id() {
            CONNECTION_ID => error.to_string(),
            id => format!("request {id}: {error}"),
        };
        let code = if matches!(error, FrameError::TooLong { .. }) { Code::BadInput } else { Code::Protocol };
        self.say_farewell(Failure::new(code, text));
    }

    /// Reads no more; what is at work is still answered, then this is said, then the connection is closed.
    pub(super) fn say_farewell(&mut self, failure: Failure) {
        self.farewell.get_or_insert(failure);
    }

    /// Says the farewell once nothing is at work any more.
    fn part(&mut self) {
        if self.in_flight == 0
            && self.done.is_empty()
            && !self.parted
            && let Some(failure) = &self.farewell
        {
            self.parted = true;
            let failure = failure.clone();
            self.put(Kind::Error, CONNECTION_ID, &failure);
        }
    }

    /// Says that a client has ended, or given up, without waiting for its answers. Who leaves with nothing unanswered takes nothing
    /// along, and nobody can tell how he left.
    fn note_end(&self) {
        let unanswered = self.in_flight + self.done.len() + usize::from(self.in_flight == 0 && self.unread() > 0);
        let half = self.inbox.waiting();
        if self.ending != Ending::None
            || (self.farewell.is_some() && !self.eof)
            || (unanswered + half == 0 && !self.reset)
        {
            return;
        }
        count(&self.door.counters.gone);
        let Peer { uid, pid, client, .. } = &*self.peer;
        tracing::warn!(
            event = "client_gone",
            pid,
            uid,
            client,
            unanswered,
            "a client ended without waiting for its answers; changes that were under way are done or undone as a whole"
        );
    }

    /// Writes as much as the client takes now.
    fn flush(&mut self) -> io::Result<()> {
        while self.written < self.out.len() {
            match self.stream.try_write(&self.out[self.written..]) {
                Ok(count) => {
                    self.written += count;
                    self.stalled_since = None;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.stalled_since.get_or_insert_with(Instant::now);
                    return Ok(());
                }
                Err(e) => return Err(e),
            }
        }
        self.written = 0;
        self.out.clear();
        self.out.shrink_to(KEEP_BYTES);
        Ok(())
    }

    /// A client that sends no more, or is not read from, may have gone altogether, which the end of its stream does not
    /// tell; a write of nothing does.
    fn probe(&self) -> io::Result<()> {
        let flags = rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL;
        match rustix::net::send(&self.stream, &[], flags) {
            Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// When something would be too late.
    fn deadline(&self) -> Instant {
        let limits = &self.door.limits;
        let stalled = self.stalled_since.map(|since| since + limits.write_timeout);
        let partial = self.partial_since.map(|since| since + limits.frame_timeout);
        let idle = self.last_used + limits.idle_timeout;
        [stalled, partial].into_iter().flatten().fold(idle, Instant::min)
    }

    /// The timer only ever needs to be set earlier: if it rings too early it is set anew.
    fn set_timer(&self, mut timer: Pin<&mut Sleep>) {
        let deadline = self.deadline();
        if deadline < timer.deadline() {
            timer.as_mut().reset(deadline);
        }
    }

    fn check_times(&mut self, timer: Pin<&mut Sleep>) -> io::Result<()> {
        let (now, limits) = (Instant::now(), self.door.limits);
        let passed = |since: Option<Instant>, limit| since.is_some_and(|since| now >= since + limit);
        if passed(self.stalled_since, limits.write_timeout) {
            count(&self.door.counters.stalled);
            self.ending = Ending::Now;
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read"));
        }
        if passed(self.partial_since, limits.frame_timeout) {
            count(&self.door.counters.stalled);
            let text = format!("a request was not complete after {} s", limits.frame_timeout.as_secs_f64());
            self.say_farewell(Failure::new(Code::Protocol, text));
        } else if passed(Some(self.last_used), limits.idle_timeout) {
            if self.in_flight == 0 {
                let text = format!("nothing was asked for {} s", limits.idle_timeout.as_secs_f64());
                self.say_farewell(Failure::new(Code::Unavailable, text).with_hint("connect again"));
            }
            self.last_used = now;
        }
        timer.reset(self.deadline());
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.note_end();
        self.outbox.close(std::mem::take(&mut self.done));
        if let Some(slow) = &self.slow {
            // Ends only what still waits for a place; work that has begun sees the closed outbox.
            slow.abort();
        }
        if let Some(Blocked { audit: Some(audit), .. }) = self.blocked.take() {
            audit.failed(&self.peer, &Failure::from(Stop));
        }
        self.door.service.gone(self.peer.connection);
    }
}
