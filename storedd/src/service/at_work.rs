//! Backups and restores of mailboxes as jobs: a client does the work, the daemon knows how far it is, and can have it end.
//!
//! # Operation
//! It is a job that a client attends ([`crate::jobs::registry::Jobs::attend`]), begun by the first thing that the client says of its work, and ended
//! by its last word. So such a client needs no number: the connection is it.

use super::Daemon;
use super::jobs::asker;
use crate::control::Peer;
use crate::jobs::registry::{Cut, State};
use proto::{BackupWork, Done, Failure, Reply};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Numbers of the jobs that clients do, by connection.
#[derive(Debug, Default)]
pub(super) struct Clients(Mutex<BTreeMap<u64, u64>>);

impl Clients {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection has ended.
    pub(super) fn gone(&self, connection: u64) {
        self.lock().remove(&connection);
    }
}

impl Daemon {
    /// Notes how far a client is.
    pub(super) fn client_at_work(&self, peer: &Peer, work: &BackupWork) -> Result<Reply, Failure> {
        let done = || Ok(Reply::Done(Done { done: true }));
        let known = self.clients.lock().get(&peer.connection).copied();
        let id = match known {
            Some(id) => id,
            None if work.is_last => return done(),
            None => {
                let verb = if work.restores { "restore" } else { "backup" };
                let begun = self.jobs.attend(verb, "messages", asker(peer), peer.connection);
                let id = begun.map_err(|e| Failure::from(Cut::Refused(e)))?;
                self.clients.lock().insert(peer.connection, id);
                id
            }
        };
        // One that is not known any more ended long ago.
        let advanced = self.jobs.advance(peer.connection, id, work.done, work.total, &work.item).ok();
        if let Some(job) = advanced.as_ref().filter(|job| job.state != State::Running) {
            self.clients.gone(peer.connection);
            let cut = || Failure::from(Cut::Cancelled { id, verb: job.verb.clone() });
            let _ = self.jobs.attended(peer.connection, id, Err(cut()));
            return Err(cut());
        }
        if work.is_last {
            self.clients.gone(peer.connection);
            let _ = self.jobs.attended(peer.connection, id, done());
        }
        done()
    }
}
