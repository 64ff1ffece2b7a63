//! LMDB (heed) with group batching: one write transaction per group, the default flags (a sync of the data, then of the
//! meta page).

use super::{Engine, Failure, Parked, Reader, Session};
use crate::clients::Done;
use crate::group::{Backend, Group};
use crate::job::{self, Job, Op, Tab, Tables, World};
use heed::types::Bytes;
use heed::{Database, Env, EnvOpenOptions, PutFlags, RoTxn, RwTxn, WithTls};
use std::path::Path;
use std::sync::Arc;

type Table = Database<Bytes, Bytes>;

/// An LMDB environment with its tables.
pub struct Lmdb {
    group: Group<Grouped>,
    env: Env,
    mailboxes: Table,
    world: Arc<World>,
}

/// The write side.
pub struct Grouped {
    env: Env,
    tables: [Table; 4],
    world: Arc<World>,
}

impl Lmdb {
    /// Makes the environment in `dir` and loads it.
    ///
    /// # Errors
    /// Those of LMDB.
    #[allow(unsafe_code)]
    pub fn load(dir: &Path, world: &Arc<World>) -> Result<Lmdb, Failure> {
        std::fs::create_dir_all(dir)?;
        let mut options = EnvOpenOptions::new();
        options.map_size(16 << 30).max_dbs(8).max_readers(64);
        // SAFETY: the file is new, in a directory of this run's own; nobody else opens or changes it.
        let env = unsafe { options.open(dir)? };
        let mut tx = env.write_txn()?;
        let mut open = |table: Tab| env.create_database(&mut tx, Some(table.name()));
        let tables: [Table; 4] = [open(Tab::ALL[0])?, open(Tab::ALL[1])?, open(Tab::ALL[2])?, open(Tab::ALL[3])?];
        job::preload(world, |table, key, row| {
            Ok(tables[table as usize].put_with_flags(&mut tx, PutFlags::APPEND, key, row)?)
        })?;
        tx.commit()?;
        let group = Group::new(Grouped { env: env.clone(), tables, world: Arc::clone(world) })?;
        Ok(Lmdb { group, env, mailboxes: tables[Tab::Mailboxes as usize], world: Arc::clone(world) })
    }
}

struct Open<'a, 'e>(&'a [Table; 4], &'a mut RwTxn<'e>);

impl Tables for Open<'_, '_> {
    fn get<T>(&mut self, table: Tab, key: &[u8], see: impl FnOnce(Option<&[u8]>) -> T) -> Result<T, Failure> {
        Ok(see(self.0[table as usize].get(self.1, key)?))
    }
    fn put(&mut self, table: Tab, key: &[u8], row: &[u8]) -> Result<(), Failure> {
        Ok(self.0[table as usize].put(self.1, key, row)?)
    }
    fn remove(&mut self, table: Tab, key: &[u8]) -> Result<(), Failure> {
        self.0[table as usize].delete(self.1, key)?;
        Ok(())
    }
    fn any_below(&mut self, from: &[u8]) -> Result<bool, Failure> {
        let next = self.0[Tab::Mailboxes as usize].get_greater_than_or_equal_to(self.1, from)?;
        Ok(next.is_some_and(|(key, _)| key.starts_with(from)))
    }
}

impl Backend for Grouped {
    type Job = Job;
    fn commit(&mut self, jobs: &[Job]) -> Result<Vec<Result<(), Failure>>, Failure> {
        let mut tx = self.env.write_txn()?;
        let mut open = Open(&self.tables, &mut tx);
        let results = jobs.iter().map(|job| job::perform(job, &self.world.shape, &mut open)).collect();
        tx.commit()?;
        Ok(results)
    }
}

impl Engine for Lmdb {
    fn name(&self) -> &'static str {
        "lmdb-group"
    }
    fn world(&self) -> &Arc<World> {
        &self.world
    }
    fn submit(&self, op: Op, done: Done) {
        self.group.submit(Job::of(op), done);
    }
    fn session(&self) -> Result<Box<dyn Session + '_>, Failure> {
        Ok(Box::new(Parked(self)))
    }
    fn reader(&self) -> Result<Option<Box<dyn Reader + '_>>, Failure> {
        Ok(Some(Box::new(Reading { tx: self.env.read_txn()?, mailboxes: self.mailboxes })))
    }
}

struct Reading<'a> {
    tx: RoTxn<'a, WithTls>,
    mailboxes: Table,
}

impl Reader for Reading<'_> {
    fn lookup(&mut self, key: &[u8]) -> Result<usize, Failure> {
        self.mailboxes.get(&self.tx, key)?.map(<[u8]>::len).ok_or_else(|| Failure::new("no such mailbox"))
    }
    fn list(&mut self, prefix: &[u8]) -> Result<u64, Failure> {
        let mut n = 0;
        for row in self.mailboxes.prefix_iter(&self.tx, prefix)? {
            n += u64::from(!row?.1.is_empty());
        }
        Ok(n)
    }
}
