//! The log archive: sealed segments copied to another directory, one after the other, as long as the store lives.
//!
//! # Operation
//! Below the directory of the configuration each store has one of its own, named by its id, in which a segment has the name that it has in
//! the log. [`Archiver::tick`], called about once a second, copies what is sealed and not there yet, oldest first: under another name, synced,
//! read again, renamed. A file that is there already is compared: the same bytes are success, others are an error that stays until a person has
//! looked, for one of the two is not what it should be.
//!
//! The store keeps what is not archived yet, within a budget of bytes (I4, `store/retention.rs`): an archive that cannot be written for long
//! has a gap then, which is an alarm long before, and one that stays: the archive's own names say what it lacks between them, in every life, until
//! what lies before the gap is moved away.
//!
//! # Invariants
//! * What has a segment's name in the archive is a whole copy, durable, and was read again; nothing there is ever replaced or removed.
//! * The archive may hang: nobody waits for it, and no store is held open by it.

use super::pace::Pace;
use super::registry::Context;
use crate::disk::copy::{self, From, STEP_BYTES};
use crate::disk::{Access, Below, Disk};
use crate::env::Env;
use crate::error::{Result, StoreError};
use crate::lsn::Lsn;
use crate::store::{ArchiveGap, SegmentLine, Store};
use crate::wal;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// An archive in which nothing changes is looked through for gaps so often.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// How the log is archived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where to; `None`: nowhere.
    pub path: Option<PathBuf>,
    /// Bytes written in a second, at the most.
    pub pace: u64,
    /// Bytes of log that are kept because they are not archived yet.
    pub log_bytes: u64,
}

/// How far the archive is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// There is one.
    pub on: bool,
    /// Every sealed segment up to this LSN is archived.
    pub upto: Lsn,
    /// LSNs that only the store has.
    pub lag: u64,
    /// How long the oldest sealed segment has been waiting; zero if none does.
    pub waiting: Duration,
    /// Why the last one could not be archived.
    pub failure: Option<String>,
    /// What it lacks, between what it has and what the log has.
    pub gap: Option<ArchiveGap>,
}

#[derive(Debug, Default)]
struct Memory {
    /// The directory that the rest speaks of.
    path: Option<PathBuf>,
    /// Segments that are there, by number.
    seen: BTreeSet<u64>,
    upto: Lsn,
    failure: Option<String>,
    /// The oldest segment that waits, and when that was seen first, by the monotone clock.
    waits: Option<(u64, Duration)>,
    gap: Option<ArchiveGap>,
    /// When it was looked for gaps last, by the monotone clock, and what was there then.
    looked: Option<(Duration, usize)>,
}

/// Archives the log of a store.
#[derive(Debug)]
pub struct Archiver {
    store: Weak<Store>,
    env: Arc<dyn Env>,
    memory: Mutex<Memory>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Archiver {
    /// Archives the log of `store`.
    #[must_use]
    pub fn new(store: &Arc<Store>, env: Arc<dyn Env>) -> Archiver {
        Archiver { store: Arc::downgrade(store), env, memory: Mutex::default() }
    }

    /// Copies what is to be copied. Failures are said once, and tried again at the next call.
    pub fn tick(&self, settings: &Settings, context: &Context) {
        let Some(store) = self.store.upgrade() else { return };
        store.set_archive(settings.path.as_deref());
        let Some(path) = &settings.path else {
            *lock(&self.memory) = Memory::default();
            return store.keep_for_archive(None);
        };
        {
            let mut memory = lock(&self.memory);
            if memory.path.as_ref() != Some(path) {
                if let Some(gap) = store.archive_gap().filter(|_| memory.path.is_some()) {
                    store.no_archive_gap(&gap);
                }
                *memory = Memory { path: Some(path.clone()), ..Memory::default() };
            }
        }
        store.keep_for_archive(Some((self.upto(&store), settings.log_bytes)));
        let (disks, id) = (store.disks().clone(), store.store_id());
        let lines = store.segments();
        let oldest = lines.first().map(|line| line.segment.number);
        let sealed: Vec<SegmentLine> = lines.into_iter().filter(|line| !line.active).collect();
        // Nobody waits for this thread if the archive hangs.
        drop(store);
        let done = disks.roots.make(path).map_err(|e| StoreError::io("make directory", path.display().to_string(), e));
        let done = done.and_then(|root| {
            let dir = id.to_string();
            root.create_dir(&dir).map_err(|e| StoreError::io("create", root.display(&dir), e))?;
            root.sync_dir("").map_err(|e| StoreError::io("sync", root.display(""), e))?;
            let archive = Below::new(root, dir);
            let pace = Pace::new(settings.pace, context);
            sealed.iter().try_for_each(|line| self.archive(&*disks.log, &archive, line, &pace))?;
            self.look_for_gaps(&archive, oldest)
        });
        self.note(done.err());
        if let Some(store) = self.store.upgrade() {
            store.keep_for_archive(Some((self.upto(&store), settings.log_bytes)));
        }
    }

    fn archive(&self, log: &dyn Disk, archive: &dyn Disk, line: &SegmentLine, pace: &Pace) -> Result<()> {
        let number = line.segment.number;
        if lock(&self.memory).seen.contains(&number) {
            return Ok(());
        }
        put(log, archive, &line.segment.file, pace)?;
        lock(&self.memory).seen.insert(number);
        tracing::debug!(event = "archived", file = line.segment.file, last_lsn = line.last_lsn.map(|lsn| lsn.0));
        Ok(())
    }

    /// Looks what is missing between the files of an archive, and between them and the oldest of the log.
    fn look_for_gaps(&self, archive: &dyn Disk, oldest: Option<u64>) -> Result<()> {
        let known = self.store.upgrade().and_then(|store| store.archive_gap());
        let (now, count) = (self.env.uptime(), lock(&self.memory).seen.len());
        let is_known =
            |(at, before): (Duration, usize)| before == count && now.saturating_sub(at) < LOOK_EVERY && known.is_none();
        if lock(&self.memory).looked.is_some_and(is_known) {
            return Ok(());
        }
        let names = archive.names("").map_err(|e| StoreError::io("list", archive.display(""), e))?;
        let there: BTreeSet<u64> = names.iter().filter_map(|entry| wal::file_number(&entry.name)).collect();
        let ends = there.iter().copied().chain(oldest).collect::<BTreeSet<u64>>();
        let mut holes = ends.iter().zip(ends.iter().skip(1)).filter(|(before, next)| **before + 1 < **next);
        let hole = holes.next_back().map(|(before, next)| ArchiveGap { files: (before + 1, next - 1) });
        if let (Some(gap), Some(store)) = (known, self.store.upgrade())
            && (hole.is_some() || (gap.files.0..=gap.files.1).all(|number| there.contains(&number)))
        {
            // From now on the archive itself says so, or it was archived before this start.
            store.no_archive_gap(&gap);
        }
        let mut memory = lock(&self.memory);
        (memory.gap, memory.looked) = (hole, Some((now, count)));
        Ok(())
    }

    fn note(&self, failure: Option<StoreError>) {
        let mut memory = lock(&self.memory);
        let failure = failure.map(|e| e.to_string());
        match (&failure, &memory.failure) {
            (Some(e), before) if before.as_ref() != Some(e) => {
                tracing::error!(event = "archive_failed", error = e, "the log is kept until it can be archived");
            }
            (None, Some(_)) => tracing::info!(event = "archive_goes_on"),
            _ => {}
        }
        memory.failure = failure;
    }

    /// Last LSN of the sealed segments that are archived without a gap from the oldest on.
    fn upto(&self, store: &Store) -> Lsn {
        let mut memory = lock(&self.memory);
        let lines = store.segments();
        if let Some(oldest) = lines.first() {
            memory.seen = memory.seen.split_off(&oldest.segment.number);
        }
        for line in lines {
            let before = Lsn(line.segment.first_lsn.0.saturating_sub(1));
            // What the log does not have any more is archived, or was given up.
            memory.upto = memory.upto.max(if memory.upto == Lsn::ZERO { before } else { Lsn::ZERO });
            match line.last_lsn.filter(|_| !line.active && memory.seen.contains(&line.segment.number)) {
                Some(last) => memory.upto = memory.upto.max(last),
                None => break,
            }
        }
        memory.upto
    }

    /// How far it is.
    #[must_use]
    pub fn state(&self) -> State {
        let Some(store) = self.store.upgrade() else { return State::default() };
        let upto = self.upto(&store);
        let mut memory = lock(&self.memory);
        if memory.path.is_none() {
            return State::default();
        }
        let lines = store.segments();
        // A segment was sealed when the next one was made.
        let waits = lines.iter().position(|line| !line.active && !memory.seen.contains(&line.segment.number));
        let sealed = waits.and_then(|at| Some((lines.get(at)?.segment.number, lines.get(at + 1)?.segment.created)));
        memory.waits = sealed.map(|(number, _)| match memory.waits {
            Some((known, since)) if known == number => (number, since),
            _ => (number, self.env.uptime()),
        });
        let seen = memory.waits.map_or(Duration::ZERO, |(_, since)| self.env.uptime().saturating_sub(since));
        // Where the time that it was sealed did not come yet: as long as somebody has seen it wait.
        let waiting = sealed.map_or(Duration::ZERO, |(_, at)| self.env.now().since(at).unwrap_or(seen));
        let lag = store.published_lsn().0.saturating_sub(upto.0);
        let gap = memory.gap.clone().or(store.archive_gap());
        State { on: true, upto, lag, waiting, failure: memory.failure.clone(), gap }
    }
}

/// Creates a copy if there is none; the same bytes there are success.
fn put(log: &dyn Disk, archive: &dyn Disk, file: &str, pace: &Pace) -> Result<()> {
    let fail = |op, path: &str, e| StoreError::io(op, archive.display(path), e);
    let is_there = |path: &str| archive.stat(path).map(|found| found.is_some()).map_err(|e| fail("stat", path, e));
    if is_there(file)? {
        return same(log, archive, file, pace);
    }
    let draft = format!("{file}.new");
    if is_there(&draft)? {
        archive.remove(&draft).map_err(|e| fail("remove", &draft, e))?;
    }
    copy::copy(From { disk: log, path: file, end: None }, archive, &draft, &mut |bytes| pace.step(bytes))?;
    // Somebody else may have been quicker; what is there is never replaced.
    if is_there(file)? {
        archive.remove(&draft).map_err(|e| fail("remove", &draft, e))?;
        return same(log, archive, file, pace);
    }
    archive.rename(&draft, file).map_err(|e| fail("rename", &draft, e))?;
    archive.sync_dir("").map_err(|e| fail("sync", "", e))
}

fn same(log: &dyn Disk, archive: &dyn Disk, file: &str, pace: &Pace) -> Result<()> {
    let open = |disk: &dyn Disk| {
        let opened = disk.open(file, Access::ReadFollow).map_err(|e| StoreError::io("open", disk.display(file), e))?;
        let len = opened.len().map_err(|e| StoreError::io("length of", disk.display(file), e))?;
        Ok::<_, StoreError>((opened, len))
    };
    let ((ours, len), (theirs, other)) = (open(log)?, open(archive)?);
    let differs = |offset, found: String, expected: String| StoreError::Corrupt {
        file: archive.display(file),
        offset,
        what: "archived segment".to_owned(),
        found,
        expected: format!("{expected}, as in {}", log.display(file)),
    };
    if len != other {
        return Err(differs(0, format!("{other} bytes"), format!("{len} bytes")));
    }
    let (mut a, mut b) = (vec![0; STEP_BYTES], vec![0; STEP_BYTES]);
    let mut at = 0;
    while at < len {
        let step = usize::try_from(len - at).unwrap_or(STEP_BYTES).min(STEP_BYTES);
        pace.step(0)?;
        ours.read_at(at, &mut a[..step]).map_err(|e| StoreError::io("read", log.display(file), e))?;
        theirs.read_at(at, &mut b[..step]).map_err(|e| StoreError::io("read", archive.display(file), e))?;
        if let Some(offset) = (0..step).find(|n| a[*n] != b[*n]) {
            return Err(differs(at + offset as u64, format!("{:02x}", b[offset]), format!("{:02x}", a[offset])));
        }
        at += step as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Fault, Persist, SimDisk};
    use crate::jobs::restore::tests::{add, env, start, users};

    fn settings() -> Settings {
        Settings { path: Some("archive".into()), pace: 1 << 40, log_bytes: 1 << 30 }
    }

    fn archived(machine: &SimDisk, store: &Store) -> Vec<String> {
        let listed = machine.disk("archive").list(&store.store_id().to_string());
        listed.unwrap_or_default().into_iter().map(|entry| entry.name).collect()
    }

    fn sealed(store: &Store) -> Vec<String> {
        store.segments().into_iter().filter(|line| !line.active).map(|line| line.segment.file).collect()
    }

    fn grow(store: &Store, round: u32) {
        users(store, round * 300..round * 300 + 300);
    }

    // B13, I4: nothing goes from the log that is not archived; what is archived goes, and is the same there.
    #[test]
    fn the_log_waits_for_the_archive() {
        let machine = SimDisk::new();
        let (store, _) = start(&machine, false, 0).unwrap();
        let archiver = Archiver::new(&store, env(1));
        assert_eq!(archiver.state(), State::default());
        archiver.tick(&settings(), &Context::idle());
        add(&store, "p");
        (0..4).for_each(|round| grow(&store, round));
        store.checkpoint().unwrap();
        let before = sealed(&store);
        assert!(before.len() > 3, "{before:?}");
        assert!(store.segments()[0].kept_for.iter().any(|why| why.starts_with("archive: ")), "{:?}", store.segments());
        let state = archiver.state();
        assert!(state.on && state.lag > 1000 && state.waiting > Duration::ZERO, "{state:?}");
        let log = store.disks().log.clone();
        let bytes: Vec<Vec<u8>> = before.iter().map(|f| crate::disk::read_small(&*log, f, 1 << 20).unwrap()).collect();
        archiver.tick(&settings(), &Context::idle());
        assert_eq!(archived(&machine, &store), before);
        let after = machine.image(Persist::Nothing).disk("archive");
        for (file, bytes) in before.iter().zip(bytes) {
            assert_eq!(after.peek(&format!("{}/{file}", store.store_id())).unwrap(), bytes, "{file}");
        }
        assert_eq!(archiver.state().waiting, Duration::ZERO);
        store.clean_log().unwrap();
        assert!(sealed(&store).is_empty(), "{:?}", store.segments());
        // Another start finds them there, and goes on.
        grow(&store, 10);
        let again = Archiver::new(&store, env(2));
        again.tick(&settings(), &Context::idle());
        again.tick(&settings(), &Context::idle());
        assert!(again.state().failure.is_none() && archived(&machine, &store).len() > before.len());
    }

    #[test]
    fn other_bytes_are_never_replaced_and_never_taken_for_a_copy() {
        let machine = SimDisk::new();
        let (store, _) = start(&machine, false, 0).unwrap();
        add(&store, "p");
        (0..3).for_each(|round| grow(&store, round));
        let archiver = Archiver::new(&store, env(1));
        archiver.tick(&settings(), &Context::idle());
        let (file, archive) = (sealed(&store)[0].clone(), machine.disk("archive"));
        let path = format!("{}/{file}", store.store_id());
        archive.damage(&path, 5000, 1).unwrap();
        let strange = archive.peek(&path).unwrap();
        let again = Archiver::new(&store, env(2));
        again.tick(&settings(), &Context::idle());
        let failure = again.state().failure.unwrap();
        assert!(failure.contains(&file) && failure.contains("offset 5000"), "{failure}");
        assert_eq!(archive.peek(&path).unwrap(), strange);
        store.checkpoint().unwrap();
        assert!(sealed(&store).contains(&file), "it is kept until somebody has looked");
        archive.damage(&path, 5000, 1).unwrap();
        again.tick(&settings(), &Context::idle());
        assert_eq!(again.state().failure, None);
    }

    // I4: bounded by the budget, the oldest goes first, and it is no secret.
    #[test]
    fn an_archive_that_cannot_be_written_does_not_fill_the_disk() {
        let machine = SimDisk::new();
        let (store, _) = start(&machine, false, 0).unwrap();
        add(&store, "p");
        let archiver = Archiver::new(&store, env(1));
        let small = Settings { log_bytes: 96 << 10, ..settings() };
        // A file where the directory of the store must be.
        machine.disk("archive").plant(&store.store_id().to_string(), b"").unwrap();
        for round in 0..8 {
            grow(&store, round);
            archiver.tick(&small, &Context::idle());
            store.checkpoint().unwrap();
            assert!(sealed(&store).len() <= 3, "{:?}", sealed(&store));
        }
        assert_eq!(sealed(&store).len(), 3, "as much as the budget allows is kept");
        assert!(archiver.state().failure.is_some());
        assert!(archiver.state().gap.is_some_and(|gap| gap.files.0 == 1), "what went is known at once");
        // Off, it keeps nothing.
        archiver.tick(&Settings { path: None, ..small }, &Context::idle());
        store.clean_log().unwrap();
        assert!(sealed(&store).is_empty() && archiver.state() == State::default());
    }

    // I4, B7: log that went before it was archived left no alarm, and after the next start nobody knew. The archive itself says what it lacks.
    #[test]
    fn a_gap_is_known_in_every_life_until_what_lies_before_it_is_moved_away() {
        let machine = SimDisk::new();
        let (store, _) = start(&machine, false, 0).unwrap();
        add(&store, "p");
        let archiver = Archiver::new(&store, env(1));
        let small = Settings { log_bytes: 96 << 10, ..settings() };
        let tick = |archiver: &Archiver| archiver.tick(&small, &Context::idle());
        grow(&store, 0);
        tick(&archiver);
        let first = archived(&machine, &store);
        assert!(!first.is_empty() && archiver.state().gap.is_none(), "{first:?}");
        // It cannot be written for a while.
        machine.disk("archive").set_read_only(true);
        for round in 1..8 {
            grow(&store, round);
            tick(&archiver);
            store.checkpoint().unwrap();
        }
        let gap = archiver.state().gap.expect("what went is known at once");
        machine.disk("archive").set_read_only(false);
        tick(&archiver);
        assert_eq!((archiver.state().failure, archiver.state().gap.as_ref()), (None, Some(&gap)));
        let oldest = wal::file_number(&sealed(&store)[0]).unwrap();
        assert_eq!(gap.files, (wal::file_number(first.last().unwrap()).unwrap() + 1, oldest - 1));
        drop(store);
        let (store, _) = start(&machine, false, 100).unwrap();
        let archiver = Archiver::new(&store, env(101));
        tick(&archiver);
        assert_eq!(archiver.state().gap, Some(gap), "in another life");
        for file in first {
            machine.disk("archive").erase(&format!("{}/{file}", store.store_id())).unwrap();
        }
        let archiver = Archiver::new(&store, env(102));
        tick(&archiver);
        assert_eq!(archiver.state().gap, None, "what is left has none");
    }

    #[test]
    fn stopped_at_every_operation_what_has_a_name_is_whole() {
        let base = SimDisk::new();
        let (store, _) = start(&base, false, 0).unwrap();
        add(&store, "p");
        (0..2).for_each(|round| grow(&store, round));
        drop(store);
        let mut n = 0;
        loop {
            n += 1;
            let machine = base.image(Persist::Everything);
            let (store, _) = start(&machine, false, 100).unwrap();
            machine.crash_at(machine.ops() + n);
            Archiver::new(&store, env(101)).tick(&settings(), &Context::idle());
            let over = !machine.is_crashed();
            for persist in [Persist::Nothing, Persist::Everything] {
                let after = machine.image(persist);
                let (store, _) = start(&after, false, 200).unwrap();
                let archiver = Archiver::new(&store, env(201));
                archiver.tick(&settings(), &Context::idle());
                assert_eq!(archiver.state().failure, None, "stopped at {n}, {persist:?}");
                assert_eq!(archived(&after, &store), sealed(&store), "stopped at {n}, {persist:?}");
            }
            if over {
                break;
            }
        }
        assert!(n > 8, "{n} operations");
        // A full archive is an error that passes.
        let machine = base.image(Persist::Everything);
        let (store, _) = start(&machine, false, 100).unwrap();
        let archiver = Archiver::new(&store, env(101));
        machine.fail_at(machine.ops() + 3, Fault::NoSpaceForever);
        archiver.tick(&settings(), &Context::idle());
        assert!(archiver.state().failure.is_some());
        machine.heal();
        archiver.tick(&settings(), &Context::idle());
        assert_eq!(archived(&machine, &store), sealed(&store));
    }
}
