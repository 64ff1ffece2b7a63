//! storedd in process: the store with the threads the daemon gives it, default settings, and the disk of the device.

use super::{Engine, Failure, Reader, Session};
use crate::clients::Done;
use crate::device::DelayDisk;
use crate::goals::Counted;
use crate::job::{self, Op, PER_USER, World};
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use storedd::config::Config;
use storedd::disk::Disk;
use storedd::model::{Command, Rows, Table};
use storedd::partition::PartitionId;
use storedd::store::{self, Answer, OnProgress, Store, View};
use storedd::{jobs, place};

/// Commands of the load that are under way at a time.
const LOADING: usize = 64;

/// A store with its threads.
pub struct Storedd {
    /// The store, for the door.
    pub store: Arc<Store>,
    /// Its configuration, for the door.
    pub config: Config,
    threads: Vec<JoinHandle<()>>,
    ended: Arc<AtomicBool>,
    world: Arc<World>,
}

/// The command of an operation.
pub fn command_of(op: Op) -> Command {
    match op {
        Op::Create { user, number } => {
            Command::MailboxCreate { name: job::created_name(user, number), partition: None }
        }
        Op::Acl { mailbox, name, full } => Command::AclSet {
            name: job::mailbox_name(mailbox, name),
            identifier: job::IDENTIFIER.to_owned(),
            rights: job::rights(full).to_owned(),
        },
        Op::Rename { mailbox, name } => {
            Command::MailboxRename { from: job::mailbox_name(mailbox, name), to: job::mailbox_name(mailbox, name ^ 1) }
        }
    }
}

/// The commands that make a user and its mailboxes, INBOX being made with the user.
pub fn user_with_mailboxes(user: u64) -> Vec<Command> {
    let add = Command::UserAdd { user: job::user_id(user), partition: None, quota_bytes: None, quota_messages: None };
    let create =
        |folder| Command::MailboxCreate { name: job::mailbox_name(user * PER_USER + folder, 0), partition: None };
    std::iter::once(add).chain((1..PER_USER).map(create)).collect()
}

fn done(answer: Answer) -> Result<(), Failure> {
    answer.map(drop).map_err(|e| Failure::new(e.to_string()))
}

impl Storedd {
    /// Makes a store in `dir` and starts its threads.
    ///
    /// # Errors
    /// Those of the store.
    pub fn open(dir: &Path, world: &Arc<World>) -> Result<Storedd, Failure> {
        let config = Config::in_dir(dir);
        let mut disks = place::open_or_make(&config)?;
        for disk in [&mut disks.data, &mut disks.db, &mut disks.log] {
            let slow: Arc<dyn Disk> = Arc::new(DelayDisk::new(Arc::clone(disk)));
            *disk = slow;
        }
        let (env, lock) = (place::env(), store::take_lock(&disks)?);
        let quiet: OnProgress = Arc::new(|_| {});
        let (options, policy) = (place::options(&config), place::policy(&config));
        let (store, _) = store::open(disks, env.clone(), options, lock, policy, &quiet)?;
        jobs::partitions::register(&store, || PartitionId(env.random()), env.now())?;
        let mut new = Storedd {
            store: Arc::clone(&store),
            config,
            threads: Vec::new(),
            ended: Arc::new(AtomicBool::new(false)),
            world: Arc::clone(world),
        };
        for n in 0..2 {
            new.spawn(&format!("commit-{n}"), |store, _| store.run_committer())?;
        }
        new.spawn("checkpoint", |store, _| store.run_checkpointer())?;
        new.spawn("spares", |store, ended| {
            while !ended.load(Ordering::Acquire) {
                if !matches!(store.prepare_spares(), Ok(true)) {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        })?;
        Ok(new)
    }

    fn spawn(&mut self, name: &str, run: fn(&Store, &AtomicBool)) -> Result<(), Failure> {
        let (store, ended) = (Arc::clone(&self.store), Arc::clone(&self.ended));
        self.threads.push(std::thread::Builder::new().name(name.into()).spawn(move || run(&store, &ended))?);
        Ok(())
    }

    /// Makes the users and mailboxes of the world, a user at a time, and checkpoints.
    ///
    /// # Errors
    /// The first refusal or failure.
    pub fn load(&self) -> Result<(), Failure> {
        type Open = (Mutex<(usize, Option<Failure>)>, Condvar);
        let open: Arc<Open> = Arc::default();
        let lock = || open.0.lock().unwrap_or_else(PoisonError::into_inner);
        for user in 0..self.world.users() {
            let mut count = lock();
            while count.0 >= LOADING {
                count = open.1.wait(count).unwrap_or_else(PoisonError::into_inner);
            }
            if let Some(e) = count.1.take() {
                return Err(e);
            }
            count.0 += 1;
            drop(count);
            let theirs = Arc::clone(&open);
            let answered = move |answer| {
                let mut count = theirs.0.lock().unwrap_or_else(PoisonError::into_inner);
                count.0 -= 1;
                if let Err(e) = done(answer) {
                    count.1.get_or_insert(e);
                }
                theirs.1.notify_one();
            };
            self.store.submit(Command::Atomic(user_with_mailboxes(user)), Box::new(answered));
        }
        let mut count = lock();
        while count.0 > 0 {
            count = open.1.wait(count).unwrap_or_else(PoisonError::into_inner);
        }
        match count.1.take() {
            Some(e) => Err(e),
            None => self.settle(),
        }
    }

    /// Payload bytes of the record of a create, a change of rights and a rename, found by doing them.
    ///
    /// # Errors
    /// Those of the store.
    pub fn record_sizes(&self) -> Result<[usize; 3], Failure> {
        let payload = &self.store.stats().log_payload_bytes;
        let mut sizes = [0; 3];
        let ops = [
            [Op::Create { user: 0, number: 99_999_998 }, Op::Create { user: 0, number: 99_999_999 }],
            [Op::Acl { mailbox: 1, name: 0, full: true }, Op::Acl { mailbox: 1, name: 0, full: false }],
            [Op::Rename { mailbox: 2, name: 0 }, Op::Rename { mailbox: 2, name: 1 }],
        ];
        for (size, ops) in sizes.iter_mut().zip(ops) {
            let before = payload.load(Ordering::Relaxed);
            for op in ops {
                done(self.store.commit(command_of(op)))?;
            }
            *size = (payload.load(Ordering::Relaxed) - before) as usize / 2;
        }
        Ok(sizes)
    }

    /// Length of the rows of a user, a mailbox and a name's past, to be compared with what the peers are given.
    ///
    /// # Errors
    /// If a row is not there.
    pub fn row_sizes(&self) -> Result<[usize; 3], Failure> {
        let view = self.store.view();
        let left = job::key_of(&job::mailbox_name(2, 1));
        let mailbox = job::key_of(&job::mailbox_name(3, 0));
        let rows = [(Table::Users, job::user_id(0).into_bytes()), (Table::Mailboxes, mailbox), (Table::Past, left)];
        let mut sizes = [0; 3];
        for (size, (table, key)) in sizes.iter_mut().zip(rows) {
            let row = view.get(table, &key)?.ok_or_else(|| Failure::new(format!("no row in {}", table.name())))?;
            *size = row.len();
        }
        Ok(sizes)
    }
}

impl Drop for Storedd {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        self.store.stop_committers();
        self.store.stop_checkpointer();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Engine for Storedd {
    fn name(&self) -> &'static str {
        "storedd"
    }
    fn world(&self) -> &Arc<World> {
        &self.world
    }
    fn submit(&self, op: Op, answer: Done) {
        self.store.submit(command_of(op), Box::new(move |result| answer.answer(done(result))));
    }
    fn session(&self) -> Result<Box<dyn Session + '_>, Failure> {
        Ok(Box::new(Blocking(&self.store)))
    }
    fn settle(&self) -> Result<(), Failure> {
        self.store.checkpoint()?;
        Ok(())
    }
    fn has_checkpoints(&self) -> bool {
        true
    }
    fn checkpointing(&self) -> bool {
        self.store.checkpointing()
    }
    fn counted(&self) -> Option<Counted> {
        let stats = self.store.stats();
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Some(Counted {
            groups: of(&stats.groups),
            records: of(&stats.group_records),
            log_bytes: of(&stats.log_bytes),
            payload_bytes: of(&stats.log_payload_bytes),
            log_syncs: 0,
        })
    }
    fn reader(&self) -> Result<Option<Box<dyn Reader + '_>>, Failure> {
        Ok(Some(Box::new(Reading(self.store.view()))))
    }
}

struct Blocking<'a>(&'a Store);

impl Session for Blocking<'_> {
    fn perform(&mut self, op: Op) -> Result<(), Failure> {
        done(self.0.commit(command_of(op)))
    }
}

struct Reading(View);

impl Reader for Reading {
    fn lookup(&mut self, key: &[u8]) -> Result<usize, Failure> {
        self.0.get(Table::Mailboxes, key)?.map(|row| row.len()).ok_or_else(|| Failure::new("no such mailbox"))
    }
    fn list(&mut self, prefix: &[u8]) -> Result<u64, Failure> {
        let mut n = 0;
        self.0.scan(Table::Mailboxes, Bound::Included(prefix), &mut |key, row| {
            if !key.starts_with(prefix) {
                return ControlFlow::Break(());
            }
            n += u64::from(!row.is_empty());
            ControlFlow::Continue(())
        })?;
        Ok(n)
    }
}
