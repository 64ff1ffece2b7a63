//! The two directions of one connection: requests out, answers in.

use super::Answer;
use super::error::ClientError;
use crate::codec;
use crate::frame::{self, CONNECTION_ID, Frame, Inbox, Kind, PAYLOAD_BYTES_MAX};
use crate::{Code, Failure, Reply, Request};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const READ_BYTES: usize = 64 << 10;
const FLUSH_BYTES: usize = 64 << 10;

/// One socket, shared by both directions.
#[derive(Debug, Clone)]
pub(super) struct Socket {
    pub(super) stream: Arc<UnixStream>,
    pub(super) path: Arc<PathBuf>,
}

impl Socket {
    /// An error of a read or write, as what it means to a caller who waited for `what` at most `limit`.
    fn error(&self, cause: io::Error, what: &'static str, limit: Option<Duration>) -> ClientError {
        match (cause.kind(), limit) {
            (io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut, Some(after)) => {
                ClientError::TimedOut { path: self.path.to_path_buf(), what, after }
            }
            _ => ClientError::Lost { path: self.path.to_path_buf(), cause },
        }
    }

    pub(super) fn protocol(&self, cause: impl ToString) -> ClientError {
        ClientError::Protocol { path: self.path.to_path_buf(), cause: cause.to_string() }
    }

    pub(super) fn close(&self) {
        // A socket that is closed already is as closed as wanted.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

/// Requests on their way out.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) socket: Socket,
    out: Vec<u8>,
    next_id: u64,
    limit: Duration,
}

impl Sender {
    pub(super) fn new(socket: Socket, limit: Duration) -> io::Result<Sender> {
        let limit = limit.max(Duration::from_millis(1));
        socket.stream.set_write_timeout(Some(limit))?;
        Ok(Sender { socket, out: Vec::new(), next_id: CONNECTION_ID + 1, limit })
    }

    /// Puts a request behind those not yet written, and writes them all once they are many bytes.
    pub(super) fn push(&mut self, request: &Request) -> Result<u64, ClientError> {
        let id = self.next_id;
        codec::put(&mut self.out, Kind::Request, id, request)?;
        self.pushed(id)
    }

    pub(super) fn push_ping(&mut self) -> Result<u64, ClientError> {
        let id = self.next_id;
        frame::put(&mut self.out, Kind::Ping, id, &[]).map_err(codec::PutError::from)?;
        self.pushed(id)
    }

    fn pushed(&mut self, id: u64) -> Result<u64, ClientError> {
        self.next_id += 1;
        if self.out.len() >= FLUSH_BYTES {
            self.flush()?;
        }
        Ok(id)
    }

    pub(super) fn flush(&mut self) -> Result<(), ClientError> {
        if self.out.is_empty() {
            return Ok(());
        }
        let result = (&*self.socket.stream).write_all(&self.out);
        self.out.clear();
        self.out.shrink_to(FLUSH_BYTES);
        result.map_err(|e| self.socket.error(e, "room to send", Some(self.limit)))
    }
}

/// One frame of an answer.
#[derive(Debug)]
pub(super) enum Event {
    Part(Reply),
    Reply(Reply),
    Error(Failure),
    Pong,
}

/// Answers on their way in.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) socket: Socket,
    inbox: Inbox,
    scratch: Box<[u8]>,
    limit: Option<Duration>,
    what: &'static str,
}

impl Receiver {
    pub(super) fn new(socket: Socket) -> Receiver {
        let scratch = vec![0; READ_BYTES].into_boxed_slice();
        Receiver { socket, inbox: Inbox::default(), scratch, limit: None, what: "answer" }
    }

    /// From now on waits at most `limit` for the next bytes of `what`.
    pub(super) fn wait(&mut self, what: &'static str, limit: Option<Duration>) -> io::Result<()> {
        let limit = limit.map(|l| l.max(Duration::from_millis(1)));
        self.socket.stream.set_read_timeout(limit)?;
        (self.what, self.limit) = (what, limit);
        Ok(())
    }

    /// The next frame, waited for if need be. An error under id 0 is the daemon's farewell.
    pub(super) fn next(&mut self) -> Result<(u64, Event), ClientError> {
        loop {
            match self.inbox.next(PAYLOAD_BYTES_MAX) {
                Ok(Some(frame)) => return event(&frame, &self.socket),
                Ok(None) => self.read()?,
                Err(e) => return Err(self.socket.protocol(e)),
            }
        }
    }

    fn read(&mut self) -> Result<(), ClientError> {
        self.inbox.shrink(READ_BYTES);
        let count = loop {
            match (&*self.socket.stream).read(&mut self.scratch) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        match count {
            Ok(0) => {
                let cause = io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the daemon");
                Err(self.socket.error(cause, self.what, None))
            }
            Ok(count) => {
                self.inbox.buffer().extend_from_slice(&self.scratch[..count]);
                Ok(())
            }
            Err(e) => Err(self.socket.error(e, self.what, self.limit)),
        }
    }
}

fn event(frame: &Frame<'_>, socket: &Socket) -> Result<(u64, Event), ClientError> {
    let wrong = |e: codec::CodecError| socket.protocol(e);
    let event = match frame.kind {
        Kind::Reply => Event::Reply(codec::decode(frame.payload).map_err(wrong)?),
        Kind::Part => Event::Part(codec::decode(frame.payload).map_err(wrong)?),
        Kind::Error => Event::Error(codec::decode(frame.payload).map_err(wrong)?),
        Kind::Ping => Event::Pong,
        Kind::Request => return Err(socket.protocol("a request came from the daemon, expected an answer")),
    };
    match event {
        Event::Error(failure) if frame.id == CONNECTION_ID => Err(ClientError::Dismissed(failure)),
        event => Ok((frame.id, event)),
    }
}

/// Puts the parts of answers together.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    partial: BTreeMap<u64, Reply>,
}

impl Assembly {
    /// Takes a frame; gives the answer that it completes (a pong is done).
    pub(super) fn add(&mut self, id: u64, event: Event) -> Result<Option<Answer>, Failure> {
        let mixed = |part: Box<Reply>| {
            Failure::new(Code::Protocol, format!("answer {id} has parts of different kinds: {part:?}"))
        };
        match event {
            Event::Part(part) => {
                match self.partial.get_mut(&id) {
                    Some(all) => all.join(part).map_err(mixed)?,
                    None => drop(self.partial.insert(id, part)),
                }
                Ok(None)
            }
            Event::Reply(last) => match self.partial.remove(&id) {
                Some(mut all) => all.join(last).map_err(mixed).map(|()| Some(Ok(all))),
                None => Ok(Some(Ok(last))),
            },
            Event::Error(failure) => {
                self.partial.remove(&id);
                Ok(Some(Err(failure)))
            }
            Event::Pong => Ok(Some(Ok(Reply::Done(crate::Done { done: true })))),
        }
    }
}
