//! The scrub: everything is read again and again in the background, what is damaged is healed while there is something to heal it from.
//!
//! # Operation
//! One pass looks at database and log, then at every mailbox, deleted ones too, down to the last byte of every message
//! ([`crate::jobs::check`]), and repairs what is proven. It is paced: so many bytes in a second at the most, and never at work for more than
//! half of the time, so that it slows down with the disk. It is a job that goes on in the background, and stands in nobody's way.
//!
//! Up to where it is, also within a large mailbox, stands in a file ([`record`]), so that a start goes on from there. What could not be healed stands there, too, and is an
//! alarm, as what a reader or a check meets is, until somebody looks at that mailbox and finds it well: the next pass, the scrub itself, which looks at those again every hour,
//! or `storectl check --deep`.
//!
//! # Invariants
//! * What is behind the mark was looked at, and healed if it could be, in this pass.
//! * Damage is forgotten only by whoever has looked at the place where it was.

mod record;
#[cfg(test)]
mod tests;

pub use record::{Counts, Damage};

use crate::disk::Disk;
use crate::env::Env;
use crate::error::{Result, StoreError};
use crate::jobs::check::{self, BESIDE, Follow, Pace, Scope, Told, Wish, Within};
use crate::jobs::registry::Context;
use crate::lsn::Micros;
use crate::partition::survey::Depth;
use crate::store::{Fate, MailFinding, Marker, Phase, Repair, Store};
use record::{Ended, Pass, Record};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Mailboxes that are looked at between two marks.
const PIECE: usize = 16;
/// The mark is written so often at the most.
const MARK_EVERY: Duration = Duration::from_secs(2);
/// What is damaged is looked at again after this time.
const AGAIN_EVERY: Duration = Duration::from_secs(3600);
/// A pass that was ended goes on so much later.
const PAUSE: Duration = Duration::from_secs(600);

/// How the configuration wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Time between the beginnings of two passes; zero: there are none.
    pub interval: Duration,
    /// Bytes of messages in a second, at the most.
    pub pace: u64,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// A pass, or the rest of one.
    Pass,
    /// Another look at what is damaged.
    Again,
}

/// What is known without looking at a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// It is at work.
    pub running: bool,
    /// When the pass began that is not at its end.
    pub begun: Option<Micros>,
    /// What that has come to; if there is none, the last whole one.
    pub counts: Counts,
    /// When the last whole pass began, and when it ended.
    pub last: Option<(Micros, Micros)>,
    /// What is damaged and could not be healed.
    pub damage: Vec<Damage>,
}

/// Scrubs a store.
pub struct Scrubber {
    store: Arc<Store>,
    env: Arc<dyn Env>,
    created: Micros,
    record: Mutex<Record>,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    running: bool,
    /// By the monotone clock: when the damage was looked at last.
    again: Option<Duration>,
    /// When a pass was ended, or failed.
    ended: Option<Duration>,
    /// What is known is not in the file.
    unwritten: bool,
}

impl std::fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scrubber").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// It is at work, until it is dropped.
struct Running<'a>(&'a Scrubber);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        lock(&self.0.memory).running = false;
    }
}

impl Scrubber {
    /// For a store; knows what the last one has left.
    ///
    /// # Errors
    /// If the marker of the store cannot be read.
    pub fn new(store: Arc<Store>, env: Arc<dyn Env>) -> Result<Scrubber> {
        let data = &*store.disks().data;
        let created = Marker::read(data)?.map_or(Micros(0), |marker| marker.created);
        let record = Record::read(data).unwrap_or_else(|e| {
            tracing::warn!(event = "scrub_forgotten", error = %e, "a pass begins at the beginning");
            Record::default()
        });
        let again = Some(env.uptime());
        let memory = Mutex::new(Memory { again, ..Memory::default() });
        Ok(Scrubber { store, env, created, record: Mutex::new(record), memory })
    }

    /// What is known.
    #[must_use]
    pub fn known(&self) -> Known {
        let (record, running) = (lock(&self.record), lock(&self.memory).running);
        let counts = match (&record.pass, &record.last) {
            (Some(pass), _) => pass.counts,
            (None, Some(last)) => last.counts,
            (None, None) => Counts::default(),
        };
        Known {
            running,
            begun: record.pass.as_ref().map(|pass| Micros(pass.begun_us)),
            counts,
            last: record.last.as_ref().map(|last| (Micros(last.begun_us), Micros(last.ended_us))),
            damage: record.damage.clone(),
        }
    }

    /// The mailboxes in which something is damaged, and [`BESIDE`] if something is beside them.
    #[must_use]
    pub fn damaged(&self) -> BTreeSet<u64> {
        lock(&self.record).damage.iter().map(|damage| damage.mailbox).collect()
    }

    /// What is to be done now.
    #[must_use]
    pub fn due(&self, settings: Settings) -> Option<Due> {
        if settings.interval.is_zero() || self.store.phase() != Phase::Ready || self.store.due().is_due() {
            return None;
        }
        let (now, uptime) = (self.env.now(), self.env.uptime());
        let record = lock(&self.record);
        let memory = lock(&self.memory);
        let is_past = |since: Option<Duration>, time| since.is_none_or(|at| uptime.saturating_sub(at) >= time);
        if memory.running || !is_past(memory.ended, PAUSE) {
            return None;
        }
        let last = record.last.as_ref().map_or(self.created, |last| Micros(last.begun_us));
        let is_over = now.since(last).is_none_or(|passed| passed >= settings.interval);
        if record.pass.is_some() || is_over {
            return Some(Due::Pass);
        }
        (!record.damage.is_empty() && is_past(memory.again, AGAIN_EVERY)).then_some(Due::Again)
    }

    /// Does what is due. `settings` is asked all the time; `archive`: the log, with what an archive has of it.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if it is to end, which it goes on from later; those of the database and of the data directory.
    pub fn scrub(
        &self,
        due: Due,
        settings: Arc<dyn Fn() -> Settings + Send + Sync>,
        archive: Option<Arc<dyn Disk>>,
        ctx: &Context,
    ) -> Result<()> {
        lock(&self.memory).running = true;
        let running = Running(self);
        let pace = move || match settings() {
            Settings { interval: Duration::ZERO, .. } => Pace::End,
            Settings { pace, .. } => Pace::Bytes(pace),
        };
        let (env, depth, repair) = (self.env.clone(), Depth::Bytes, Repair::Provable);
        let (pace, watched) = (Arc::new(pace), self.damaged());
        let mut wish =
            Wish { env, depth, repair, threads: 1, pace, archive, is_wide: false, watched, within: Within::default() };
        let done = match due {
            Due::Pass => self.pass(&mut wish, ctx),
            Due::Again => self.again(&mut wish, ctx),
        };
        let mut memory = lock(&self.memory);
        memory.again = Some(self.env.uptime());
        memory.ended = done.is_err().then(|| self.env.uptime());
        drop(memory);
        drop(running);
        done
    }

    fn pass(&self, wish: &mut Wish, ctx: &Context) -> Result<()> {
        let Pass { begun_us, mark, counts: base, within } = {
            let now = self.env.now().0;
            let mut record = lock(&self.record);
            record.pass.get_or_insert_with(|| Pass { begun_us: now, ..Pass::default() }).clone()
        };
        (wish.is_wide, wish.within) = (mark.is_empty(), within);
        let goes_on = !wish.is_wide || wish.within != Within::default();
        tracing::info!(event = "scrub_begun", goes_on, pace = ?(wish.pace)());
        let mut scope = Scope::behind(&mark).in_pieces_of(PIECE);
        let written = Mutex::new(None);
        let write = || {
            let (now, mut written) = (self.env.uptime(), lock(&written));
            if written.is_none_or(|at| now.saturating_sub(at) >= MARK_EVERY) {
                *written = Some(now);
                self.write_or_say();
            }
        };
        let mut mark = |scope: &Scope, told: &Told| {
            self.note(told);
            let pass = Pass { begun_us, mark: scope.mark(), counts: base.and(told), within: Within::default() };
            lock(&self.record).pass = Some(pass);
            write();
        };
        let within = |within: &Within| {
            if let Some(pass) = &mut lock(&self.record).pass {
                pass.within = within.clone();
            }
            write();
        };
        let follow = Follow { mark: &mut mark, within: &within };
        let told = check::run(&self.store, &mut scope, wish, ctx, Some(follow));
        // The mark stays that of the last piece that is done with.
        let told = told.inspect_err(|_| self.write_or_say())?;
        self.note(&told);
        wish.within = Within::default();
        // Mailboxes that are gone, or could not be looked at then.
        wish.watched.retain(|id| !told.looked_at.contains(id));
        self.note(&check::look_at(&self.store, &wish.watched, &Wish { is_wide: false, ..wish.clone() }, ctx)?);
        let ended_us = self.env.now().0;
        let counts = base.and(&told);
        let mut record = lock(&self.record);
        record.last = Some(Ended { begun_us, ended_us, counts });
        record.pass = None;
        let damaged = record.damage.len();
        drop(record);
        let Counts { mailboxes, messages, bytes, found, healed } = counts;
        tracing::info!(event = "scrub_done", mailboxes, messages, bytes, found, healed, damaged);
        self.write()
    }

    /// Looks at what is damaged once more.
    fn again(&self, wish: &mut Wish, ctx: &Context) -> Result<()> {
        wish.is_wide = wish.watched.contains(&BESIDE);
        let told = check::look_at(&self.store, &wish.watched, wish, ctx)?;
        self.note(&told);
        self.write()
    }

    /// Takes in what was found: of the mailboxes that were looked at only that is damaged by now.
    fn note(&self, told: &Told) {
        let now = self.env.now();
        lock(&self.record).take(&told.looked_at, &told.damage, now);
    }

    /// Somebody has looked at mailboxes, down to the last byte, who changes nothing: what he found well is so. It is written later.
    pub fn found_well(&self, told: &Told) {
        let well: BTreeSet<u64> = told.looked_at.iter().copied().filter(|id| !told.damage.contains_key(id)).collect();
        let mut record = lock(&self.record);
        let before = record.damage.len();
        record.damage.retain(|damage| !well.contains(&damage.mailbox));
        let is_changed = record.damage.len() != before;
        drop(record);
        if is_changed {
            lock(&self.memory).unwritten = true;
        }
    }

    /// Somebody else met damage that nothing near could heal: a reader who was refused, a check. It counts until somebody has looked there and found it
    /// well. It is written later.
    pub fn met(&self, damage: &BTreeMap<u64, Vec<MailFinding>>) {
        if lock(&self.record).add(damage, self.env.now()) {
            lock(&self.memory).unwritten = true;
        }
    }

    /// Writes what is known and not written.
    pub fn settle(&self) {
        if std::mem::take(&mut lock(&self.memory).unwritten) {
            self.write_or_say();
        }
    }

    fn write(&self) -> Result<()> {
        let record = lock(&self.record).clone();
        record.write(&*self.store.disks().data)
    }

    fn write_or_say(&self) {
        if let Err(e) = self.write() {
            tracing::warn!(event = "scrub_not_noted", error = %e, "after a crash it goes on from an earlier place");
        }
    }
}

impl Counts {
    /// With what a run has found since.
    fn and(self, told: &Told) -> Counts {
        Counts {
            mailboxes: self.mailboxes + told.checked,
            messages: self.messages + told.messages,
            bytes: self.bytes + told.bytes,
            found: self.found + told.found,
            healed: self.healed + told.count(Fate::Mended),
        }
    }
}

/// What the file says that it is not.
fn strange(file: &str, found: &str) -> StoreError {
    let (file, found) = (file.to_owned(), found.to_owned());
    StoreError::Corrupt { file, offset: 0, what: "scrub".to_owned(), found, expected: "what was written".to_owned() }
}
