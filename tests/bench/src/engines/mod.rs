//! The engines: storedd, the raw group commit, and the peers, all doing the same jobs.

pub mod fjall;
pub mod lmdb;
pub mod raw;

pub mod redb;
pub mod sqlite;
pub mod storedd;

use crate::clients::{self, Done};
use crate::goals::Counted;
use crate::job::{Op, World};
use std::fmt;
use std::sync::Arc;

/// Why an engine could not do something, in its own words.
#[derive(Debug)]
pub struct Failure(pub String);

impl Failure {
    /// From any text.
    pub fn new(text: impl Into<String>) -> Failure {
        Failure(text.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(e: E) -> Failure {
        Failure(e.to_string())
    }
}

/// One engine under test.
pub trait Engine: Send + Sync {
    /// Name in reports.
    fn name(&self) -> &'static str;

    /// The mailboxes it holds.
    fn world(&self) -> &Arc<World>;

    /// True if operations are answered by callback; if not, [`Engine::submit`] blocks.
    fn has_callbacks(&self) -> bool {
        true
    }

    /// Starts an operation; `done` gets the answer when it is durable.
    fn submit(&self, op: Op, done: Done);

    /// What a blocking thread works with.
    ///
    /// # Errors
    /// If there is no connection.
    fn session(&self) -> Result<Box<dyn Session + '_>, Failure>;

    /// Waits until everything put off is done: checkpoints, flushes, compactions.
    ///
    /// # Errors
    /// Those of the engine.
    fn settle(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// True if it moves what it committed elsewhere later, in checkpoints that can be watched.
    fn has_checkpoints(&self) -> bool {
        false
    }

    /// True while it does so.
    fn checkpointing(&self) -> bool {
        false
    }

    /// What it counted since it was opened, if it counts: syncs of the log are the device's to count.
    fn counted(&self) -> Option<Counted> {
        None
    }

    /// Something that looks up mailboxes, one per reading thread; `None` for an engine without a database.
    ///
    /// # Errors
    /// If there is no connection.
    fn reader(&self) -> Result<Option<Box<dyn Reader + '_>>, Failure> {
        Ok(None)
    }
}

/// What a blocking thread works with.
pub trait Session {
    /// Does one operation; returns when it is durable.
    ///
    /// # Errors
    /// Refusals and failures.
    fn perform(&mut self, op: Op) -> Result<(), Failure>;
}

/// The session of an engine that answers by callback: the thread parks until its answer comes.
pub struct Parked<'a>(pub &'a dyn Engine);

impl Session for Parked<'_> {
    fn perform(&mut self, op: Op) -> Result<(), Failure> {
        clients::wait(|done| self.0.submit(op, done))
    }
}

/// Looks up mailboxes.
pub trait Reader {
    /// Length of the row of a mailbox.
    ///
    /// # Errors
    /// Failures, and if it is not there.
    fn lookup(&mut self, key: &[u8]) -> Result<usize, Failure>;

    /// Reads all mailboxes whose key starts with `prefix`; how many.
    ///
    /// # Errors
    /// Failures.
    fn list(&mut self, prefix: &[u8]) -> Result<u64, Failure>;
}
