//! Many requests on their way at once, sent by one thread and answered to another.

use super::error::ClientError;
use super::wire::{Assembly, Receiver, Sender};
use super::{Answer, Client};
use crate::Request;
use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What both halves know.
#[derive(Debug)]
struct Window {
    size: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    outstanding: usize,
    finished: bool,
    /// The receiving half is gone or failed.
    broken: bool,
}

impl Window {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// The sending half. Dropping it is [`Pipeline::finish`] without its error.
///
/// ```no_run
/// use proto::{Client, Command, Request, Timeouts};
///
/// # fn main() -> Result<(), proto::ClientError> {
/// let client = Client::connect("/run/storedd/control.sock", "my-tool 1.0", Timeouts::default())?;
/// let (mut pipeline, mut answers) = client.pipeline(128)?;
/// let reader = std::thread::spawn(move || {
///     while let Some((id, answer)) = answers.next()? {
///         println!("{id}: {answer:?}");
///     }
///     Ok::<_, proto::ClientError>(())
/// });
/// for n in 0..1000 {
///     let command = Command::MailboxCreate { name: format!("user/joe/{n}"), partition: None };
///     pipeline.submit(&Request::Change { command, dry_run: false })?;
/// }
/// pipeline.finish()?;
/// reader.join().expect("the reader does not panic")
/// # }
/// ```
#[derive(Debug)]
pub struct Pipeline {
    sender: Sender,
    window: Arc<Window>,
}

/// The receiving half. Must be read for the sending half to go on.
#[derive(Debug)]
pub struct Answers {
    receiver: Receiver,
    assembly: Assembly,
    early: VecDeque<(u64, Answer)>,
    window: Arc<Window>,
}

pub(super) fn split(client: Client, window: usize) -> (Pipeline, Answers) {
    let outstanding = usize::try_from(client.unanswered).unwrap_or(usize::MAX);
    let state = Mutex::new(State { outstanding, ..State::default() });
    let window = Arc::new(Window { size: window.max(1), state, changed: Condvar::new() });
    let Client { sender, receiver, assembly, early, .. } = client;
    (Pipeline { sender, window: window.clone() }, Answers { receiver, assembly, early, window })
}

impl Pipeline {
    /// Sends a request; its answer comes from [`Answers::next`] under the returned id. Waits while the window is full.
    /// Requests leave when the window or a buffer of 64 KiB is full; [`Pipeline::flush`] sends them before.
    ///
    /// # Errors
    /// [`ClientError::Unsendable`] if the request is too long, or an error of the connection; the receiving half tells why
    /// a connection ended.
    pub fn submit(&mut self, request: &Request) -> Result<u64, ClientError> {
        self.wait_for_room()?;
        // Counted before it can be answered.
        self.window.change(|state| state.outstanding += 1);
        self.sender.push(request).inspect_err(|_| self.window.change(|state| state.outstanding -= 1))
    }

    fn wait_for_room(&mut self) -> Result<(), ClientError> {
        let full = |state: &mut State| state.outstanding >= self.window.size && !state.broken;
        let mut state = self.window.lock();
        if full(&mut state) {
            drop(state);
            self.sender.flush()?;
            state = self.window.changed.wait_while(self.window.lock(), full).unwrap_or_else(PoisonError::into_inner);
        }
        if state.broken {
            let cause = io::Error::new(io::ErrorKind::NotConnected, "no answers come any more");
            return Err(ClientError::Lost { path: self.sender.socket.path.to_path_buf(), cause });
        }
        Ok(())
    }

    /// Writes what [`Pipeline::submit`] holds back; to be called when the next request is not at hand yet.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn flush(&mut self) -> Result<(), ClientError> {
        self.sender.flush()
    }

    /// Says that no more requests come; [`Answers::next`] gives the outstanding answers and then `None`.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn finish(mut self) -> Result<(), ClientError> {
        self.sender.flush()
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        // Told by the receiving half, if it matters to anyone.
        let _ = self.sender.flush();
        let _ = self.sender.socket.stream.shutdown(Shutdown::Write);
        self.window.change(|state| state.finished = true);
    }
}

impl Answers {
    /// The next whole answer, in the order in which the daemon is done; `None` when the sending half has finished and all
    /// is answered. A refused request is an answer.
    ///
    /// # Errors
    /// Those of the connection. Requests without an answer by then: whether they were done is not known.
    #[expect(clippy::should_implement_trait, reason = "fallible, as the calls of the client are")]
    pub fn next(&mut self) -> Result<Option<(u64, Answer)>, ClientError> {
        if let Some(answer) = self.early.pop_front() {
            return Ok(Some(answer));
        }
        let idle = |state: &mut State| state.outstanding == 0 && !state.finished;
        let state = self.window.changed.wait_while(self.window.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        if state.outstanding == 0 {
            return Ok(None);
        }
        drop(state);
        let answer = self.receive().inspect_err(|_| self.window.change(|state| state.broken = true))?;
        self.window.change(|state| state.outstanding = state.outstanding.saturating_sub(1));
        Ok(Some(answer))
    }

    fn receive(&mut self) -> Result<(u64, Answer), ClientError> {
        loop {
            let (id, event) = self.receiver.next()?;
            match self.assembly.add(id, event) {
                Ok(Some(answer)) => return Ok((id, answer)),
                Ok(None) => {}
                Err(failure) => return Err(self.receiver.socket.protocol(failure)),
            }
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.window.change(|state| state.broken = true);
    }
}
