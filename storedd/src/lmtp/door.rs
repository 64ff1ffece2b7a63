//! Who may come in: accepts connections, bounds their number, and ends them all on request.

use super::counters::{Counters, count};
use super::delivery::Delivery;
use super::machine;
use super::session::Session;
use crate::control::Listener;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Pause after a failure to accept, which mostly means that file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Longest wait for somebody who is sent away to take the reason.
const FAREWELL: Duration = Duration::from_secs(1);

/// Bounds of the door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Of one session's protocol.
    pub machine: machine::Limits,
    /// Sessions; one more is sent away with 421.
    pub sessions: usize,
    /// Time without a command.
    pub idle_timeout: Duration,
    /// Time without a byte of a message that has begun.
    pub data_timeout: Duration,
    /// A recipient over quota is refused for good.
    pub over_quota_bounces: bool,
}

/// Where the door listens.
#[derive(Debug, Default)]
pub struct Sockets {
    /// A Unix socket.
    pub unix: Option<Listener>,
    /// A port.
    pub tcp: Option<TcpListener>,
}

impl Sockets {
    /// Listens on a port.
    ///
    /// # Errors
    /// Those of bind.
    pub fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }
}

/// Whether sessions are to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    None,
    /// When they have finished what they began.
    Finish,
    Now,
}

/// What every session knows of the house.
pub(super) struct Shared {
    pub(super) delivery: Arc<dyn Delivery>,
    pub(super) limits: Limits,
    pub(super) counters: Arc<Counters>,
    next: AtomicU64,
}

/// A session's place, gone when dropped.
pub(super) struct Seat {
    pub(super) door: Arc<Shared>,
    /// Number of the session.
    pub(super) number: u64,
}

impl Seat {
    /// Its number in messages: short, whatever the first was.
    pub(super) fn shown(&self) -> u64 {
        self.number & (u64::MAX >> 1)
    }

    /// A place for one more, or why there is none.
    fn take(door: &Arc<Shared>) -> Result<Seat, &'static str> {
        if door.counters.open.fetch_add(1, Ordering::Relaxed) >= door.limits.sessions {
            door.counters.open.fetch_sub(1, Ordering::Relaxed);
            return Err("too many sessions");
        }
        let number = door.next.fetch_add(1, Ordering::Relaxed);
        let seat = Seat { door: door.clone(), number };
        if door.delivery.begins(number) { Ok(seat) } else { Err("the daemon stops") }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.door.delivery.ended(self.number);
        self.door.counters.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tells sessions to end.
#[derive(Debug, Clone)]
pub struct Closer(watch::Sender<Ending>);

impl Closer {
    /// Has every session end when it has finished what it began.
    pub fn finish(&self) {
        self.end(Ending::Finish);
    }

    fn end(&self, ending: Ending) {
        self.0.send_replace(ending);
    }
}

/// The door. Dropping it closes it at once; [`Door::close`] lets it finish.
pub struct Door {
    accepts: Vec<JoinHandle<()>>,
    closer: Closer,
    /// Gives an end when the last session is gone.
    alive: mpsc::Receiver<()>,
}

impl Door {
    /// Opens the door. Must be called inside a tokio runtime with time and I/O enabled. Numbers of sessions begin with
    /// `first`.
    ///
    /// # Errors
    /// If a socket cannot be given to the runtime.
    pub fn open(
        sockets: Sockets,
        delivery: Arc<dyn Delivery>,
        limits: Limits,
        counters: Arc<Counters>,
        first: u64,
    ) -> io::Result<Door> {
        let shared = Arc::new(Shared { delivery, limits, counters, next: AtomicU64::new(first) });
        let (life, alive) = mpsc::channel(1);
        let closer = Closer(watch::Sender::new(Ending::None));
        let guests = Guests { door: shared, life, closer: closer.clone() };
        let mut accepts = Vec::new();
        if let Some(listener) = sockets.unix {
            let (listener, unlink) = listener.into_tokio()?;
            let guests = guests.clone();
            accepts.push(tokio::spawn(async move {
                let _unlink = unlink;
                loop {
                    guests.welcome(listener.accept().await.map(|(stream, _)| stream)).await;
                }
            }));
        }
        if let Some(listener) = sockets.tcp {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            accepts.push(tokio::spawn(async move {
                loop {
                    let accepted = listener.accept().await.and_then(|(stream, _)| {
                        // Replies leave when they are ready: many are waited for.
                        stream.set_nodelay(true)?;
                        Ok(stream)
                    });
                    guests.welcome(accepted).await;
                }
            }));
        }
        Ok(Door { accepts, closer, alive })
    }

    /// What tells sessions to end while the door is open.
    #[must_use]
    pub fn closer(&self) -> Closer {
        self.closer.clone()
    }

    /// Takes no more connections, lets sessions finish what they began, and after `grace` ends those that are left.
    pub async fn close(mut self, grace: Duration) {
        self.accepts.iter().for_each(JoinHandle::abort);
        self.closer.end(Ending::Finish);
        if timeout(grace, self.alive.recv()).await.is_err() {
            self.closer.end(Ending::Now);
            // Whoever still waits for the store is answered by nobody: the sender tries again.
            let _ = timeout(FAREWELL, self.alive.recv()).await;
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.accepts.iter().for_each(JoinHandle::abort);
        self.closer.end(Ending::Now);
    }
}

/// Lets connections in.
#[derive(Clone)]
struct Guests {
    door: Arc<Shared>,
    /// Lives as long as the last session.
    life: mpsc::Sender<()>,
    closer: Closer,
}

impl Guests {
    async fn welcome<S>(&self, accepted: io::Result<S>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut stream = match accepted {
            Ok(stream) => stream,
            Err(e) => {
                tracing::debug!(event = "lmtp.accept", error = %e);
                return tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        };
        // Before a place is taken: who is told to end meanwhile hears it.
        let (life, ending) = (self.life.clone(), self.closer.0.subscribe());
        match Seat::take(&self.door) {
            Ok(seat) => {
                count(&self.door.counters.sessions);
                let session = Session::new(stream, seat, ending);
                tokio::spawn(async move {
                    // A client that goes away is not worth a line.
                    drop(session.run().await);
                    drop(life);
                });
            }
            Err(why) => {
                count(&self.door.counters.turned_away);
                tracing::debug!(event = "lmtp.turned_away", why);
                let farewell = format!("421 4.3.2 {why}; try again later\r\n");
                // What does not fit into the socket's own buffer at once is not said.
                drop(timeout(FAREWELL, stream.write_all(farewell.as_bytes())).await);
            }
        }
    }
}
