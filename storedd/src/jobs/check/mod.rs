//! Looking at mailboxes, many of them: a check that changes nothing, and a scrub that mends what is proven.
//!
//! # Operation
//! Rows of mailboxes are read a piece at a time, put in order of the homes in which they lie, and examined home by home
//! (`Store::examine_home`), by as many threads as are wanted. What is damaged and has no copy near is collected, and looked for in the
//! log, its archive and the whole store at the end, once for all of it; where there is very much of it, once for every [`SICK_MAX`] messages.
//!
//! # Invariants
//! * A check changes no byte (I7).
//! * No view is held for longer than a piece of rows takes to be read.
//! * What is told one by one is bounded, and so is what is held to be looked for. What is counted, healed and remembered is not.

mod scope;
mod wide;

pub use scope::Scope;

use super::registry::Context;
use crate::beside;
use crate::disk::Disk;
use crate::env::Env;
use crate::error::{Result, StoreError};
use crate::partition::survey::{Depth, What};
use crate::store::{Examined, Fate, Healed, Leftover, MailFinding, Order, READERS, Repair, Sick, Store, Traces, Track};
use scope::Group;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Findings, and changes, that are told one by one.
const TOLD_MAX: usize = 1000;
/// Damaged messages that are looked for in the whole store together.
const SICK_MAX: usize = 10_000;
/// Damage that is told mailbox by mailbox.
const DAMAGE_MAX: u64 = 1000;
/// What a mailbox is called in findings that could not be looked at.
const NOT_LOOKED_AT: &str = "not looked at";
/// The number of no mailbox: what is damaged beside them.
pub const BESIDE: u64 = 0;
/// Longest rest after a file that took long.
const WORKED_MAX: Duration = Duration::from_secs(10);
/// Files that wait for the checkpoint that has them moved.
const LEFTOVERS_MAX: usize = 1000;

/// How fast it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As fast as it can.
    Free,
    /// So many bytes of message files in a second, at most; and no thread works for more than half of the time, so that a disk that
    /// others need slows it down.
    Bytes(u64),
    /// Not any more.
    End,
}

/// How far a run has come behind its mark, for who goes on with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Within {
    /// Mailboxes behind the mark in which nothing is wrong.
    pub whole: BTreeSet<u64>,
    /// Messages in them.
    pub messages: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// The mailbox that is being looked at.
    pub mailbox: u64,
    /// Up to this UID nothing is wrong with it.
    pub uid: u32,
}

/// Who wants to go on with a run.
pub struct Follow<'a> {
    /// Called with a place up to which all mailboxes are done.
    pub mark: &'a mut dyn FnMut(&Scope, &Told),
    /// Called with how far it is behind that.
    pub within: &'a (dyn Fn(&Within) + Sync),
}

impl std::fmt::Debug for Follow<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follow").finish_non_exhaustive()
    }
}

/// How mailboxes are looked at.
#[derive(Clone)]
pub struct Wish {
    /// The clock.
    pub env: Arc<dyn Env>,
    /// How deep.
    pub depth: Depth,
    /// What may be changed.
    pub repair: Repair,
    /// Threads.
    pub threads: usize,
    /// Asked before each file.
    pub pace: Arc<dyn Fn() -> Pace + Send + Sync>,
    /// The log and what an archive has of it.
    pub archive: Option<Arc<dyn Disk>>,
    /// The database, the log and what lies in partitions beside mailboxes, too.
    pub is_wide: bool,
    /// Mailboxes of which it is to be told whether they were looked at, and [`BESIDE`].
    pub watched: BTreeSet<u64>,
    /// How far a run before this one came, which this one goes on with.
    pub within: Within,
}

impl std::fmt::Debug for Wish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wish").field("depth", &self.depth).field("repair", &self.repair).finish_non_exhaustive()
    }
}

impl Wish {
    /// Files that a thread reads at the same time: one after the other where it is to leave the disk to others.
    fn readers(&self) -> usize {
        if (self.pace)() == Pace::Free { READERS } else { 1 }
    }
}

/// What was found, and done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Mailboxes looked at.
    pub checked: u64,
    /// Messages in them.
    pub messages: u64,
    /// Bytes of files read.
    pub bytes: u64,
    /// The first findings.
    pub findings: Vec<MailFinding>,
    /// How many there are.
    pub found: u64,
    /// How many of them, by what is to become of them.
    pub fates: BTreeMap<Fate, u64>,
    /// The first changes: mailbox, what was done.
    pub changes: Vec<(String, String)>,
    /// How many there are.
    pub changed: u64,
    /// What is damaged, and was not repaired, by number of the mailbox; the first of it.
    pub damage: BTreeMap<u64, Vec<MailFinding>>,
    /// Those of [`Wish::watched`] that were looked at.
    pub looked_at: BTreeSet<u64>,
    damaged: u64,
}

/// True if something is damaged or gone, not just in a place where nobody knows it.
fn is_damage(finding: &MailFinding) -> bool {
    let strange = [What::FileUnknown.text(), wide::UNKNOWN_DIRECTORY, wide::PARTITION, NOT_LOOKED_AT];
    match finding.fate {
        Fate::Lost => true,
        Fate::Unproven => !strange.contains(&finding.what),
        Fate::Mended | Fate::Mendable => false,
    }
}

impl Told {
    /// How many findings have this fate.
    #[must_use]
    pub fn count(&self, fate: Fate) -> u64 {
        self.fates.get(&fate).copied().unwrap_or_default()
    }

    fn add(&mut self, mailbox: u64, finding: MailFinding) {
        self.found += 1;
        if is_damage(&finding) && self.damaged < DAMAGE_MAX {
            self.damaged += 1;
            self.damage.entry(mailbox).or_default().push(finding.clone());
        }
        *self.fates.entry(finding.fate).or_default() += 1;
        tracing::warn!(
            event = "check_found",
            file = finding.place,
            what = finding.what,
            found = finding.found,
            expected = finding.expected,
            fate = finding.fate.word()
        );
        if self.findings.len() < TOLD_MAX {
            self.findings.push(finding);
        }
    }

    fn change(&mut self, mailbox: &str, action: String) {
        self.changed += 1;
        tracing::info!(event = "check_changed", mailbox, action);
        if self.changes.len() < TOLD_MAX {
            self.changes.push((mailbox.to_owned(), action));
        }
    }

    /// Counts one that is not kept in full.
    fn count_one(&mut self, fate: Fate) {
        self.found += 1;
        *self.fates.entry(fate).or_default() += 1;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Collected {
    told: Told,
    /// Damaged messages, each with the finding that tells of it.
    sick: Vec<(Sick, MailFinding)>,
    leftovers: Vec<Leftover>,
}

/// A run under way.
struct Run<'a> {
    store: &'a Store,
    wish: &'a Wish,
    ctx: &'a Context,
    collected: Mutex<Collected>,
    /// Bytes and messages so far, for those who watch.
    messages: AtomicU64,
    within: Mutex<Within>,
    follow: Option<&'a (dyn Fn(&Within) + Sync)>,
}

impl<'a> Run<'a> {
    fn new(store: &'a Store, wish: &'a Wish, ctx: &'a Context, told: Told) -> Run<'a> {
        let collected = Mutex::new(Collected { told, ..Collected::default() });
        Run { store, wish, ctx, collected, messages: AtomicU64::new(0), within: Mutex::default(), follow: None }
    }
}

impl Track for Run<'_> {
    fn behind(&self, mailbox: u64) -> u32 {
        let within = &self.wish.within;
        if within.mailbox == mailbox { within.uid } else { 0 }
    }

    fn good(&self, mailbox: u64, uid: u32) {
        let mut within = lock(&self.within);
        (within.mailbox, within.uid) = (mailbox, uid);
        self.follow.inspect(|follow| follow(&within));
    }
}

/// Looks at the mailboxes of `scope`. `follow`: for who wants to go on later.
///
/// # Errors
/// [`StoreError::Busy`] if the job is to end; those of the database.
pub fn run(store: &Store, scope: &mut Scope, wish: &Wish, ctx: &Context, follow: Option<Follow<'_>>) -> Result<Told> {
    let Within { whole, messages, bytes, .. } = &wish.within;
    let told = Told { checked: whole.len() as u64, messages: *messages, bytes: *bytes, ..Told::default() };
    let mut run = Run::new(store, wish, ctx, told);
    run.within = Mutex::new(wish.within.clone());
    let mark: &mut dyn FnMut(&Scope, &Told) = match follow {
        Some(follow) => {
            run.follow = Some(follow.within);
            follow.mark
        }
        None => &mut |_, _| (),
    };
    let run = run;
    let beside = |finding| lock(&run.collected).told.add(BESIDE, finding);
    let is_log_due = wish.is_wide && wish.depth == Depth::Bytes;
    if wish.is_wide {
        wide::look(store, ctx, &mut |finding| beside(finding))?;
    }
    std::thread::scope(|threads| {
        let log = || wide::log(store, &mut |finding| beside(finding));
        // One file after the other: it leaves the disk to others where several threads would not.
        let others = (is_log_due && wish.threads > 1).then(|| threads.spawn(log));
        if is_log_due && others.is_none() {
            log()?;
        }
        let done = run.pieces(scope, mark);
        let log = others.map_or(Ok(()), |log| log.join().unwrap_or_else(|_| Err(panicked())));
        done.and(log)
    })?;
    if is_log_due {
        run.looked_at(BESIDE);
    }
    run.mend()?;
    Ok(run.told())
}

/// Looks at these mailboxes, and at what is beside them if `wish` says so.
///
/// # Errors
/// As [`run`].
pub fn look_at(store: &Store, mailboxes: &BTreeSet<u64>, wish: &Wish, ctx: &Context) -> Result<Told> {
    let told = run(store, &mut Scope::nothing(), wish, ctx, None)?;
    let run = Run::new(store, wish, ctx, told);
    let began = Mutex::new(wish.env.uptime());
    let pace = |bytes: u64| run.pace(bytes, &began);
    let traces = Traces::of(mailboxes.iter().copied());
    let order = Order {
        depth: wish.depth,
        repair: wish.repair,
        pace: &pace,
        traces: Some(&traces),
        readers: wish.readers(),
        track: None,
    };
    for id in mailboxes.iter().filter(|id| **id != BESIDE) {
        let examined = store.examine(*id, &order);
        pace(0)?;
        run.take(*id, examined);
    }
    run.mend()?;
    Ok(run.told())
}

impl Run<'_> {
    fn told(self) -> Told {
        self.collected.into_inner().unwrap_or_else(PoisonError::into_inner).told
    }

    fn looked_at(&self, mailbox: u64) {
        if self.wish.watched.contains(&mailbox) {
            lock(&self.collected).told.looked_at.insert(mailbox);
        }
    }

    /// The mailboxes of a scope, a piece at a time.
    fn pieces(&self, scope: &mut Scope, mark: &mut dyn FnMut(&Scope, &Told)) -> Result<()> {
        while let Some(groups) = scope.next(self.store)? {
            self.groups(groups)?;
            if self.wish.repair > Repair::Nothing {
                // What is behind the mark is done with.
                self.mend()?;
            }
            *lock(&self.within) = Within::default();
            mark(scope, &lock(&self.collected).told);
        }
        Ok(())
    }

    /// Repairs what needs more than its mailbox.
    fn mend(&self) -> Result<()> {
        self.settle()?;
        self.heal_if(1)
    }

    /// Examines homes, several at a time.
    fn groups(&self, groups: Vec<Group>) -> Result<()> {
        let traces = Traces::of(groups.iter().flat_map(|group| group.ids.iter().copied()));
        let waiting = Mutex::new(groups.into_iter());
        let work = || -> Result<()> {
            let began = Mutex::new(self.wish.env.uptime());
            let pace = |bytes: u64| self.pace(bytes, &began);
            let Wish { depth, repair, .. } = *self.wish;
            let (traces, readers) = (Some(&traces), self.wish.readers());
            let track = self.follow.map(|_| self as &dyn Track);
            let order = Order { depth, repair, pace: &pace, traces, readers, track };
            loop {
                let Some(Group { of, mut ids }) = lock(&waiting).next() else { return Ok(()) };
                ids.retain(|id| !self.wish.within.whole.contains(id));
                self.store.examine_home(&of, &ids, &order, &mut |id, examined| {
                    self.take(id, examined);
                    self.heal_if(SICK_MAX)
                })?;
            }
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..self.wish.threads.max(1)).map_while(|_| beside::help(scope, work)).collect();
            let first = work();
            let done = others.into_iter().map(|other| other.join().unwrap_or_else(|_| Err(panicked())));
            done.fold(first, Result::and)
        })
    }

    /// Before a file of so many bytes: waits as long as is due, and ends the work if it is to end.
    fn pace(&self, bytes: u64, began: &Mutex<Duration>) -> Result<()> {
        let messages = self.messages.fetch_add(u64::from(bytes > 0), Ordering::Relaxed);
        self.ctx.progress(messages, None, "messages", "");
        let wait = match (self.wish.pace)() {
            Pace::End => return Err(StoreError::Busy { why: "it was switched off".to_owned() }),
            Pace::Bytes(rate) => {
                let worked = self.wish.env.uptime().saturating_sub(*lock(began)).min(WORKED_MAX);
                let share = bytes.saturating_mul(self.wish.threads.max(1) as u64);
                worked.max(Duration::from_secs_f64(share as f64 / rate.max(1) as f64))
            }
            Pace::Free => Duration::ZERO,
        };
        let ended = if wait.is_zero() { self.ctx.cancelled() } else { self.ctx.sleep(wait) };
        *lock(began) = self.wish.env.uptime();
        if ended { Err(StoreError::Busy { why: "it was ended".to_owned() }) } else { Ok(()) }
    }

    /// Takes what came of one mailbox.
    fn take(&self, id: u64, examined: Result<Option<Examined>>) {
        if examined.is_ok() {
            self.looked_at(id);
        }
        let mut collected = lock(&self.collected);
        let collected = &mut *collected;
        let mut examined = match examined {
            Ok(Some(examined)) => examined,
            Ok(None) => return,
            Err(e) => {
                collected.told.checked += 1;
                return collected.told.add(id, unexamined(id, &e));
            }
        };
        collected.told.checked += 1;
        collected.told.messages += examined.messages;
        collected.told.bytes += examined.bytes;
        if let (0, Some(follow)) = (examined.found(), self.follow) {
            let mut within = lock(&self.within);
            within.whole.insert(id);
            within.messages += examined.messages;
            within.bytes += examined.bytes;
            follow(&within);
        }
        // What can be healed is told when its fate is known.
        collected.sick.append(&mut examined.take_sick());
        examined.findings.drain(..).for_each(|finding| collected.told.add(id, finding));
        examined.unlisted.values().for_each(|fate| collected.told.count_one(*fate));
        for change in examined.changes.drain(..) {
            collected.told.change(&examined.mailbox, change);
        }
        let room = LEFTOVERS_MAX.saturating_sub(collected.leftovers.len());
        collected.leftovers.extend(examined.leftovers.into_iter().take(room));
    }

    /// Moves files into the quarantine that are shown elsewhere.
    fn settle(&self) -> Result<()> {
        let leftovers = std::mem::take(&mut lock(&self.collected).leftovers);
        for kept in self.store.settle(&leftovers)? {
            lock(&self.collected).told.change("", format!("moved to {kept}"));
        }
        Ok(())
    }

    /// Looks for the bytes of damaged messages everywhere, if there are so many of them.
    fn heal_if(&self, many: usize) -> Result<()> {
        let sick = {
            let mut collected = lock(&self.collected);
            if collected.sick.len() < many { Vec::new() } else { std::mem::take(&mut collected.sick) }
        };
        let (sick, findings): (Vec<Sick>, Vec<MailFinding>) = sick.into_iter().unzip();
        if sick.is_empty() {
            return Ok(());
        }
        let began = Mutex::new(self.wish.env.uptime());
        let change = self.wish.repair > Repair::Nothing;
        let healed = self.store.heal(&sick, change, self.wish.archive.as_deref(), &|_| self.pace(0, &began));
        // What broke it off is told, and so is what was found.
        let fates = healed.as_ref().map_or_else(|_| vec![Healed::No; sick.len()], Clone::clone);
        let told = &mut lock(&self.collected).told;
        for ((sick, mut finding), healed) in sick.iter().zip(findings).zip(fates) {
            finding.fate = healed.fate();
            if healed == Healed::Yes {
                told.change(&sick.mailbox, sick.put_back());
            }
            told.add(sick.of.mailbox, finding);
        }
        healed.map(drop)
    }
}

fn panicked() -> StoreError {
    StoreError::Bug("a thread of the check panicked; the log of the daemon says where".to_owned())
}

/// A mailbox that could not be looked at.
fn unexamined(id: u64, e: &StoreError) -> MailFinding {
    let (place, what, found, expected) = match e.clone() {
        StoreError::Corrupt { file, found, expected, .. } => (file, "not understood", found, expected),
        StoreError::Foreign { file, what, found, expected } => (file, what, found, expected),
        StoreError::Io { path, source, .. } => (path, "not readable", source.to_string(), "a readable file".to_owned()),
        other => (format!("mailbox {id}"), NOT_LOOKED_AT, other.to_string(), "a partition that is there".to_owned()),
    };
    MailFinding { place, uid: None, what, expected, found, fate: Fate::Unproven }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimDisk;
    use crate::jobs::restore::tests::{add, env, start, users};

    // A check that got no thread panicked, and with it the job; it goes on with those that it has.
    #[test]
    fn a_check_needs_no_help() {
        let (store, _) = start(&SimDisk::new(), false, 0).unwrap();
        add(&store, "p");
        users(&store, 0..20);
        store.checkpoint().unwrap();
        let wish = Wish {
            env: env(1),
            depth: Depth::Bytes,
            repair: Repair::Nothing,
            threads: 4,
            pace: Arc::new(|| Pace::Free),
            archive: None,
            is_wide: false,
            watched: BTreeSet::new(),
            within: Within::default(),
        };
        let look = || run(&store, &mut Scope::default(), &wish, &Context::idle(), None).unwrap();
        let (told, alone) = (look(), beside::tests::alone(look));
        assert_eq!((told.checked, alone.checked, alone.found), (20, 20, told.found));
    }
}
