//! Ageing: what the rules of the configuration do to messages, and what is given up for good a while after it was taken away.
//!
//! # Operation
//! Both kinds of work walk over the mailboxes in order of their names, a page at a time, so that no view of the store is held for
//! long, and change messages by ordinary commands of at most [`BATCH`] messages ([`Hands`]), paced. What is decided of a message holds
//! only for the message as it was read: if something changed meanwhile the mailbox is looked at again.
//!
//! **Ageing** ([`Ageing::expire`]) has the rules judge the live messages of each mailbox ([`Rules`]): they are expunged, moved, or told.
//! A run that was cut off leaves a mark, and the next scheduled one goes on from there (`mark.rs`).
//!
//! **Purging** ([`Ageing::purge`]) gives up expunged messages and deleted mailboxes that are older than `cleanup_age`. Until then
//! `storectl mailbox undelete` brings them back. Mailboxes that had nothing to purge and did not change since are not opened again.
//!
//! # Invariants
//! * A second run right after the first finds nothing to do.
//! * A mailbox that cannot be read, or of which index and mirror have lost something, is left alone and told.

mod age;
mod mark;
mod purge;
mod report;
mod rules;
mod schedule;
mod seen;
mod walk;

pub use report::{Aged, Line};
pub use rules::{Caught, Rules};
pub use schedule::{Due, Last};

use crate::config::ExpireRule;
use crate::env::Env;
use crate::error::{Result, StoreError};
use crate::jobs::registry::Context;
use crate::lsn::Micros;
use crate::model::{Command, Outcome};
use crate::store::{Marker, Store};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Most messages of one command.
pub const BATCH: usize = 500;
/// How often a mailbox that changes meanwhile is looked at again.
const STALE_MAX: usize = 16;
/// How often a command is tried that is refused for the moment, and the pause between.
const BUSY_MAX: usize = 60;
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// How the configuration wants it.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The rules, in their order.
    pub rules: Vec<ExpireRule>,
    /// When a day's run begins: after midnight, UTC.
    pub start: Duration,
    /// Messages and mailboxes in a second, at the most.
    pub pace: u64,
    /// How long what was taken away can be brought back.
    pub cleanup_age: Duration,
    /// Time between two purges.
    pub purge_interval: Duration,
    /// Time between two write-outs of what users have seen in mailboxes of others.
    pub peruser_interval: Duration,
}

/// Why a command was not done.
#[derive(Debug, Clone)]
pub enum Undone {
    /// The messages are not as they were read.
    Stale,
    /// Not now: somebody holds the mailbox, the store is short of room.
    Busy(String),
    /// Not at all.
    Refused(String),
    /// Nothing can be done any more.
    Failed(StoreError),
}

/// Does a command for the work: past those who hold what it touches, and durably.
pub type Hands<'a> = &'a dyn Fn(Command) -> Result<Outcome, Undone>;

/// Ages and purges the messages of a store.
pub struct Ageing {
    store: Arc<Store>,
    env: Arc<dyn Env>,
    created: Micros,
    /// One run at a time.
    turn: Mutex<()>,
    memory: Mutex<schedule::Memory>,
}

impl std::fmt::Debug for Ageing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ageing").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ageing {
    /// For a store.
    ///
    /// # Errors
    /// If its marker cannot be read.
    pub fn new(store: Arc<Store>, env: Arc<dyn Env>) -> Result<Ageing> {
        let created = Marker::read(&*store.disks().data)?.map_or(Micros(0), |marker| marker.created);
        Ok(Ageing { store, env, created, turn: Mutex::default(), memory: Mutex::default() })
    }

    /// When the store was made.
    #[must_use]
    pub fn created(&self) -> Micros {
        self.created
    }
}

/// One run at work.
struct Work<'a> {
    store: &'a Store,
    hands: Hands<'a>,
    ctx: &'a Context,
    now: Micros,
    pace: u64,
    told: Aged,
}

/// How a command ended that others were in the way of.
enum Tried {
    Done,
    Stale,
    /// Not done; told.
    Left,
}

impl Work<'_> {
    /// Has a command done, and waits for who is in the way. What is refused is told of `mailbox`.
    fn try_hard(&mut self, mailbox: &str, command: &Command) -> Result<Tried> {
        let mut busy = String::new();
        for _ in 0..BUSY_MAX {
            match (self.hands)(command.clone()) {
                Ok(_) => return Ok(Tried::Done),
                Err(Undone::Stale) => return Ok(Tried::Stale),
                Err(Undone::Busy(why)) => busy = why,
                Err(Undone::Refused(why)) => {
                    self.told.problem(mailbox, &why);
                    return Ok(Tried::Left);
                }
                Err(Undone::Failed(e)) => return Err(e),
            }
            if self.ctx.sleep(BUSY_PAUSE) {
                return Err(ended());
            }
        }
        self.told.problem(mailbox, &busy);
        Ok(Tried::Left)
    }

    /// So many messages and mailboxes were worked on.
    fn paced(&self, pieces: usize) -> Result<()> {
        match self.ctx.sleep(Duration::from_secs_f64(pieces as f64 / self.pace.max(1) as f64)) {
            true => Err(ended()),
            false => Ok(()),
        }
    }
}

/// Somebody wants the work to end.
fn ended() -> StoreError {
    StoreError::Busy { why: "it was ended".to_owned() }
}
