//! Backups and restores of mailboxes as jobs: a client does the work, the daemon knows how far it is, and can have it end.
//!
//! # Operation
//! The job is a thread that waits for what the client says next. It ends with the client's last word, with the connection, or when it is
//! cancelled; then the client is told so the next time it says something.

use super::Daemon;
use super::jobs::asker;
use crate::control::Peer;
use crate::jobs::registry::{Context, Cut, Kind};
use proto::{BackupWork, Code, Done, Failure, Reply};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Between two looks at whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

/// The job of a connection.
#[derive(Debug)]
struct AtWork {
    id: u64,
    verb: &'static str,
    says: Sender<BackupWork>,
    is_cancelled: Arc<AtomicBool>,
}

/// The jobs that clients do, by connection.
#[derive(Debug, Default)]
pub(super) struct Clients(Mutex<BTreeMap<u64, AtWork>>);

impl Clients {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, AtWork>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection has ended.
    pub(super) fn gone(&self, connection: u64) {
        let gone = self.lock().remove(&connection);
        drop(gone);
    }
}

impl Daemon {
    /// Notes how far a client is.
    pub(super) fn client_at_work(&self, peer: &Peer, work: &BackupWork) -> Result<Reply, Failure> {
        let done = Ok(Reply::Done(Done { done: true }));
        let mut clients = self.clients.lock();
        if let Some(known) = clients.get(&peer.connection) {
            let AtWork { id, verb, .. } = *known;
            if known.is_cancelled.load(Ordering::Acquire) {
                clients.remove(&peer.connection);
                return Err(Cut::Cancelled { id, verb: verb.to_owned() }.into());
            }
            // Nobody hears it: the daemon is about to stop.
            let _ = known.says.send(work.clone());
            if work.is_last {
                clients.remove(&peer.connection);
            }
            return done;
        }
        if work.is_last {
            return done;
        }
        let verb = if work.restores { "restore" } else { "backup" };
        let ((says, hears), is_cancelled) = (channel(), Arc::new(AtomicBool::new(false)));
        let cancelled = is_cancelled.clone();
        let kind = Kind { verb, lane: None, is_background: true };
        let begun = self.jobs.start(kind, asker(peer), move |ctx| follow(&hears, &cancelled, ctx));
        let id = begun.map_err(|e| Failure::from(Cut::Refused(e)))?;
        let _ = says.send(work.clone());
        clients.insert(peer.connection, AtWork { id, verb, says, is_cancelled });
        done
    }
}

fn follow(hears: &Receiver<BackupWork>, is_cancelled: &AtomicBool, ctx: &Context) -> Result<Reply, Failure> {
    loop {
        match hears.recv_timeout(LOOK) {
            Ok(work) => {
                ctx.progress(work.done, work.total, "messages", &work.item);
                if work.is_last {
                    return Ok(Reply::Done(Done { done: true }));
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(
                    Failure::new(Code::Unavailable, "the client has gone before it was done").with_hint("run it again")
                );
            }
        }
        if ctx.cancelled() {
            is_cancelled.store(true, Ordering::Release);
            return Err(Failure::new(Code::Busy, "it was cancelled"));
        }
    }
}
