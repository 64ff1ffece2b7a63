//! R, the raw group commit: the same queue discipline, records, segments and syncs as storedd's committer (see
//! `store/commit.rs`), with payloads of the same size, and nothing else: no planning, no overlay, no database. What storedd
//! reaches of it is what the database costs.

use super::{Engine, Failure, Session};
use crate::clients::Done;
use crate::device::DelayDisk;
use crate::goals::Counted;
use crate::job::{Op, World};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::Duration;
use storedd::disk::{Disk, RealDisk};
use storedd::env::{Env, RealEnv};
use storedd::lsn::{Lsn, Micros, StoreId};
use storedd::wal::{self, Control, ControlState, Encoder, Kind, Piece, Segments, Settings, Spares, Writer};

/// Who gets an answer: a client of the bench, or a request of the door.
pub enum Waiter {
    /// A client in process.
    Client(Done),
    /// Anything else.
    Callback(Box<dyn FnOnce(Result<Lsn, Failure>) + Send>),
}

impl Waiter {
    fn answer(self, result: Result<Lsn, Failure>) {
        match self {
            Waiter::Client(done) => done.answer(result.map(drop)),
            Waiter::Callback(f) => f(result),
        }
    }
}

#[derive(Default)]
struct Queue {
    pending: Vec<(usize, Waiter)>,
    syncing: bool,
    idle: usize,
    leader_waits: bool,
    stop: bool,
}

#[derive(Default)]
struct Group {
    pieces: Vec<Piece>,
    planned: Vec<(Waiter, Lsn)>,
    payload_bytes: u64,
}

struct Planner {
    encoder: Encoder,
    group: Group,
}

#[derive(Default)]
struct Counters {
    groups: AtomicU64,
    records: AtomicU64,
    log_bytes: AtomicU64,
    payload_bytes: AtomicU64,
}

/// The raw group commit.
pub struct Log {
    queue: Mutex<Queue>,
    planner: Mutex<Planner>,
    writer: Mutex<Writer>,
    turn: Condvar,
    work: Condvar,
    synced: AtomicU64,
    counters: Counters,
    spares: Arc<Spares>,
    segments: Arc<Segments>,
    env: Arc<dyn Env>,
    payload: Vec<u8>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(e)) => Some(e.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

impl Log {
    /// Appends one record with a payload of `bytes`, in this thread if nobody else is at it.
    fn commit(&self, bytes: usize, waiter: Waiter) {
        if let Some(planner) = try_lock(&self.planner) {
            lock(&self.queue).pending.push((bytes, waiter));
            self.lead(planner);
            let queue = lock(&self.queue);
            if !queue.pending.is_empty() && queue.idle > 0 {
                self.work.notify_one();
            }
        } else {
            self.submit(bytes, waiter);
        }
    }

    /// Queues one record with a payload of `bytes`; the waiter is answered when it is synced.
    pub fn submit(&self, bytes: usize, waiter: Waiter) {
        let mut queue = lock(&self.queue);
        queue.pending.push((bytes, waiter));
        let (leader, idle) = (queue.leader_waits, queue.idle > 0);
        drop(queue);
        if leader {
            self.turn.notify_one();
        } else if idle {
            self.work.notify_one();
        }
    }

    fn lead(&self, mut planner: MutexGuard<'_, Planner>) {
        loop {
            let batch = std::mem::take(&mut lock(&self.queue).pending);
            self.encode(&mut planner, batch);
            if planner.group.planned.is_empty() {
                return;
            }
            if let Some(writer) = self.log_side() {
                lock(&self.queue).syncing = true;
                let group = std::mem::take(&mut planner.group);
                drop(planner);
                return self.write(writer, group);
            }
        }
    }

    /// The log side, as soon as it is free; `None` if more came that can join the open group meanwhile.
    fn log_side(&self) -> Option<MutexGuard<'_, Writer>> {
        if let Some(writer) = try_lock(&self.writer) {
            return Some(writer);
        }
        let mut queue = lock(&self.queue);
        while queue.syncing && queue.pending.is_empty() {
            queue.leader_waits = true;
            queue = self.turn.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.leader_waits = false;
        }
        let busy = queue.syncing;
        drop(queue);
        (!busy).then(|| lock(&self.writer))
    }

    fn encode(&self, planner: &mut Planner, batch: Vec<(usize, Waiter)>) {
        let Planner { encoder, group } = planner;
        for (bytes, waiter) in batch {
            let now: Micros = self.env.now();
            let durable = Lsn(self.synced.load(Ordering::Acquire));
            let room = if encoder.would_roll(bytes) { self.spares.reserve() } else { Ok(()) };
            let pushed = room.and_then(|()| {
                encoder.push(Kind::Transaction, &self.payload[..bytes], now, durable, &mut group.pieces)
            });
            match pushed {
                Ok(lsn) => group.planned.push((waiter, lsn)),
                Err(e) => waiter.answer(Err(e.into())),
            }
            group.payload_bytes += bytes as u64;
        }
    }

    fn write(&self, mut writer: MutexGuard<'_, Writer>, group: Group) {
        let result = writer.write(&group.pieces).and_then(|()| writer.sync());
        if let Ok(token) = &result {
            self.synced.store(token.lsn().0, Ordering::Release);
        }
        drop(writer);
        let leader = {
            let mut queue = lock(&self.queue);
            queue.syncing = false;
            queue.leader_waits
        };
        if leader {
            self.turn.notify_one();
        }
        let c = &self.counters;
        c.groups.fetch_add(1, Ordering::Relaxed);
        c.records.fetch_add(group.planned.len() as u64, Ordering::Relaxed);
        c.log_bytes.fetch_add(group.pieces.iter().map(|p| p.bytes.len() as u64).sum(), Ordering::Relaxed);
        c.payload_bytes.fetch_add(group.payload_bytes, Ordering::Relaxed);
        for (waiter, lsn) in group.planned {
            waiter.answer(result.as_ref().map(|_| lsn).map_err(|e| Failure::new(e.to_string())));
        }
    }

    fn run_committer(&self) {
        let mut queue = lock(&self.queue);
        while !queue.stop {
            if queue.pending.is_empty() || queue.leader_waits {
                queue.idle += 1;
                queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
                queue.idle -= 1;
                continue;
            }
            drop(queue);
            self.lead(lock(&self.planner));
            queue = lock(&self.queue);
        }
    }

    /// Keeps spare segments ready and gives up written ones, as the store's threads do.
    fn keep_house(&self) {
        while !lock(&self.queue).stop {
            let upto = Lsn(self.synced.load(Ordering::Acquire));
            if self.segments.list().len() > 2 && self.segments.retire(upto).is_err() {
                return;
            }
            match self.spares.prepare() {
                Ok(true) => {}
                Ok(false) => std::thread::sleep(Duration::from_millis(10)),
                Err(_) => return,
            }
        }
    }
}

/// Payload bytes of the record of an operation.
pub fn payload_bytes(world: &World, op: Op) -> usize {
    world.shape.record[match op {
        Op::Create { .. } => 0,
        Op::Acl { .. } => 1,
        Op::Rename { .. } => 2,
    }]
}

/// The raw group commit as an engine, with its threads.
pub struct Raw {
    /// The log, for the door.
    pub log: Arc<Log>,
    threads: Vec<JoinHandle<()>>,
    world: Arc<World>,
}

impl Raw {
    /// Makes a log in `dir` with the default settings of storedd, and starts its threads.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn open(dir: &Path, world: &Arc<World>) -> Result<Raw, Failure> {
        RealDisk::create_root(dir)?;
        let disk: Arc<dyn Disk> = Arc::new(DelayDisk::new(Arc::new(RealDisk::new(dir)?)));
        let env: Arc<dyn Env> = Arc::new(RealEnv::default());
        let control = Arc::new(Control::create(&*disk, ControlState::new(StoreId(env.random())))?);
        let settings = Settings { segment_bytes: 64 << 20, spares: 2, reserve: 0, version: wal::VERSION };
        let made = wal::create(&disk, &control, settings, env.now())?;
        let largest = world.shape.record.iter().copied().max().unwrap_or(0);
        let log = Arc::new(Log {
            queue: Mutex::default(),
            planner: Mutex::new(Planner { encoder: made.encoder, group: Group::default() }),
            writer: Mutex::new(made.writer),
            turn: Condvar::new(),
            work: Condvar::new(),
            synced: AtomicU64::new(0),
            counters: Counters::default(),
            spares: made.spares,
            segments: made.segments,
            env,
            payload: vec![7; largest],
        });
        let mut threads = Vec::new();
        for n in 0..2 {
            let log = Arc::clone(&log);
            threads.push(std::thread::Builder::new().name(format!("raw-{n}")).spawn(move || log.run_committer())?);
        }
        let kept = Arc::clone(&log);
        threads.push(std::thread::Builder::new().name("raw-house".into()).spawn(move || kept.keep_house())?);
        Ok(Raw { log, threads, world: Arc::clone(world) })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        lock(&self.log.queue).stop = true;
        self.log.work.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Engine for Raw {
    fn name(&self) -> &'static str {
        "raw"
    }
    fn world(&self) -> &Arc<World> {
        &self.world
    }
    fn submit(&self, op: Op, done: Done) {
        self.log.submit(payload_bytes(&self.world, op), Waiter::Client(done));
    }
    fn session(&self) -> Result<Box<dyn Session + '_>, Failure> {
        Ok(Box::new(Blocking(self)))
    }
    fn counted(&self) -> Option<Counted> {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let c = &self.log.counters;
        Some(Counted {
            groups: of(&c.groups),
            records: of(&c.records),
            log_bytes: of(&c.log_bytes),
            payload_bytes: of(&c.payload_bytes),
            log_syncs: 0,
        })
    }
}

struct Blocking<'a>(&'a Raw);

impl Session for Blocking<'_> {
    fn perform(&mut self, op: Op) -> Result<(), Failure> {
        crate::clients::wait(|done| self.0.log.commit(payload_bytes(&self.0.world, op), Waiter::Client(done)))
    }
}
