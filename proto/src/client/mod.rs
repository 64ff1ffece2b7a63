//! The client: blocking, without threads of its own, one connection. Used by `storectl` and by the tests, and meant for
//! other programs too.

mod error;
mod pipeline;
#[cfg(test)]
mod tests;
mod wire;

pub use error::{ClientError, SOCKET_PATH_BYTES_MAX};
pub use pipeline::{Answers, Pipeline};

use crate::frame::VERSION;
use crate::{Failure, Hello, Reply, Request};
use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use wire::{Assembly, Event, Receiver, Sender, Socket};

/// The whole answer to one request: its reply, or why it was not done.
pub type Answer = Result<Reply, Failure>;

/// How long a client waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For the daemon's greeting; 10 s. A daemon that recovers greets at once.
    pub hello: Duration,
    /// For the next bytes of an answer; none: as long as it takes, which is the default (a checkpoint or a long check may
    /// say nothing for minutes).
    pub answer: Option<Duration>,
    /// For room to send; 30 s.
    pub send: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts { hello: Duration::from_secs(10), answer: None, send: Duration::from_secs(30) }
    }
}

/// One connection to a daemon.
///
/// After an error that [`ClientError::is_fatal`] the connection is closed and every further call fails.
///
/// ```no_run
/// use proto::{Client, Reply, Request, Timeouts};
///
/// # fn main() -> Result<(), proto::ClientError> {
/// let mut client = Client::connect("/run/storedd/control.sock", "my-tool 1.0", Timeouts::default())?;
/// if let Reply::Status(status) = client.call(&Request::Status)? {
///     println!("{} at LSN {}", status.state, status.applied_lsn);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Client {
    sender: Sender,
    receiver: Receiver,
    assembly: Assembly,
    /// Answers that came while another was waited for.
    early: VecDeque<(u64, Answer)>,
    /// Requests sent and not yet answered.
    unanswered: u64,
    hello: Hello,
    broken: bool,
}

impl Client {
    /// Connects to the socket at `path` and exchanges greetings. `name` is shown in the daemon's log ("storectl 0.1.0").
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] if there is no daemon or it may not be asked, [`ClientError::Dismissed`] if it has no
    /// room or refuses this user, [`ClientError::Protocol`] if it speaks another version.
    pub fn connect(path: impl AsRef<Path>, name: &str, timeouts: Timeouts) -> Result<Client, ClientError> {
        let path = path.as_ref();
        let unreachable = |cause| ClientError::Unreachable { path: path.to_owned(), cause };
        let stream = Arc::new(UnixStream::connect(path).map_err(unreachable)?);
        let socket = Socket { stream, path: Arc::new(path.to_owned()) };
        let sender = Sender::new(socket.clone(), timeouts.send).map_err(unreachable)?;
        let mut receiver = Receiver::new(socket);
        receiver.wait("greeting", Some(timeouts.hello)).map_err(unreachable)?;
        let hello = Hello { version: VERSION, server: String::new(), state: String::new() };
        let (assembly, early) = (Assembly::default(), VecDeque::new());
        let mut client = Client { sender, receiver, assembly, early, unanswered: 0, hello, broken: false };
        client.hello = client.greet(name)?;
        client.receiver.wait("answer", timeouts.answer).map_err(unreachable)?;
        Ok(client)
    }

    fn greet(&mut self, name: &str) -> Result<Hello, ClientError> {
        match self.call(&Request::Hello { version: VERSION, client: name.to_owned() })? {
            Reply::Hello(hello) if hello.version == VERSION => Ok(hello),
            Reply::Hello(hello) => {
                let cause = format!("{} speaks protocol version {}, expected {VERSION}", hello.server, hello.version);
                Err(self.sender.socket.protocol(cause))
            }
            other => Err(self.sender.socket.protocol(format!("greeted with {other:?}"))),
        }
    }

    /// What the daemon said of itself when the connection was made.
    #[must_use]
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Asks and waits for the whole answer; parts of a long one are put together in memory.
    ///
    /// # Errors
    /// [`ClientError::Failed`] with the daemon's refusal, or an error of the connection.
    pub fn call(&mut self, request: &Request) -> Result<Reply, ClientError> {
        let wanted = self.send(request)?;
        self.wait_for(wanted)
    }

    /// Asks and hands every part of the answer to `each` as it comes, the last one too. When `each` breaks, the connection
    /// is closed, which stops the daemon's work on it.
    ///
    /// # Errors
    /// As [`Client::call`]; parts may have been handed out before.
    pub fn call_stream(
        &mut self,
        request: &Request,
        mut each: impl FnMut(Reply) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        let wanted = self.send(request)?;
        self.flush()?;
        loop {
            let (id, event) = self.next_event()?;
            let (reply, last) = match event {
                event if id != wanted => {
                    self.put_aside(id, event)?;
                    continue;
                }
                Event::Part(reply) => (reply, false),
                Event::Reply(reply) => (reply, true),
                Event::Error(failure) => {
                    self.unanswered -= 1;
                    return Err(ClientError::Failed(failure));
                }
                Event::Pong => return Err(self.fail(|s| s.protocol("a ping came instead of an answer"))),
            };
            if last {
                self.unanswered -= 1;
                let _ = each(reply);
                return Ok(());
            }
            if each(reply).is_break() {
                self.close();
                return Ok(());
            }
        }
    }

    /// Asks for a sign of life, and keeps the connection from being idle.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn ping(&mut self) -> Result<(), ClientError> {
        self.check()?;
        let wanted = self.sender.push_ping()?;
        self.unanswered += 1;
        self.wait_for(wanted).map(drop)
    }

    /// Sends a request without waiting for its answer, which [`Client::receive`] gives under the returned id. The
    /// request leaves at the latest when an answer is waited for.
    ///
    /// One thread that only sends and never receives is stopped by the daemon's limit (256 requests); keep fewer than 128
    /// outstanding, or use a [`Pipeline`].
    ///
    /// # Errors
    /// [`ClientError::Unsendable`] if the request is too long, or an error of the connection.
    pub fn send(&mut self, request: &Request) -> Result<u64, ClientError> {
        self.check()?;
        match self.sender.push(request) {
            Ok(id) => {
                self.unanswered += 1;
                Ok(id)
            }
            Err(e) => Err(self.farewell(e)),
        }
    }

    /// Writes what [`Client::send`] holds back.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn flush(&mut self) -> Result<(), ClientError> {
        self.check()?;
        self.sender.flush().map_err(|e| self.farewell(e))
    }

    /// The next whole answer to any request sent, with its id; `None` if all are answered. Answers come in the order in
    /// which the daemon is done, not in the order of the requests.
    ///
    /// # Errors
    /// Those of the connection; a refusal of a request is its answer here.
    pub fn receive(&mut self) -> Result<Option<(u64, Answer)>, ClientError> {
        self.flush()?;
        while self.early.is_empty() {
            if self.unanswered == 0 {
                return Ok(None);
            }
            let (id, event) = self.next_event()?;
            self.put_aside(id, event)?;
        }
        Ok(self.early.pop_front())
    }

    /// Turns the connection into a sending and a receiving half for two threads, with at most `window` requests
    /// outstanding (0 counts as 1; more than the daemon's limit of 256 brings nothing). Answers that were not received
    /// come first.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn pipeline(mut self, window: usize) -> Result<(Pipeline, Answers), ClientError> {
        self.flush()?;
        Ok(pipeline::split(self, window))
    }

    fn wait_for(&mut self, wanted: u64) -> Result<Reply, ClientError> {
        self.flush()?;
        loop {
            let (id, event) = self.next_event()?;
            self.put_aside(id, event)?;
            if let Some(at) = self.early.iter().position(|(id, _)| *id == wanted)
                && let Some((_, answer)) = self.early.remove(at)
            {
                return answer.map_err(ClientError::Failed);
            }
        }
    }

    /// Keeps a frame for the answer it belongs to, and the answer, once whole, for whoever asks for it.
    fn put_aside(&mut self, id: u64, event: Event) -> Result<(), ClientError> {
        match self.assembly.add(id, event) {
            Ok(None) => Ok(()),
            Ok(Some(answer)) => {
                self.unanswered = self.unanswered.saturating_sub(1);
                self.early.push_back((id, answer));
                Ok(())
            }
            Err(failure) => Err(self.fail(|s| s.protocol(failure))),
        }
    }

    fn next_event(&mut self) -> Result<(u64, Event), ClientError> {
        self.check()?;
        self.receiver.next().map_err(|e| self.fail(|_| e))
    }

    fn check(&self) -> Result<(), ClientError> {
        if !self.broken {
            return Ok(());
        }
        let cause = io::Error::new(io::ErrorKind::NotConnected, "closed after an earlier error");
        Err(ClientError::Lost { path: self.sender.socket.path.to_path_buf(), cause })
    }

    /// A write failed: if the daemon left a word before it closed, that is the better reason.
    fn farewell(&mut self, error: ClientError) -> ClientError {
        if !matches!(error, ClientError::Lost { .. }) {
            if error.is_fatal() {
                self.close();
            }
            return error;
        }
        let word = loop {
            match self.receiver.next() {
                Ok(_) => {}
                Err(e) => break e,
            }
        };
        self.fail(|_| if matches!(word, ClientError::Dismissed(_)) { word } else { error })
    }

    fn fail(&mut self, error: impl FnOnce(&Socket) -> ClientError) -> ClientError {
        self.close();
        error(&self.sender.socket)
    }

    fn close(&mut self) {
        self.broken = true;
        self.sender.socket.close();
    }
}
