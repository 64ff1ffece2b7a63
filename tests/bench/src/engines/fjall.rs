//! fjall with group batching: one write batch and one `SyncData` per group.

use super::{Engine, Failure, Parked, Reader, Session};
use crate::clients::Done;
use crate::group::{Backend, Group};
use crate::job::{self, Job, Op, Tab, Tables, World};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Readable};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A fjall database with its keyspaces.
pub struct Fjall {
    group: Group<Grouped>,
    db: Database,
    mailboxes: Keyspace,
    world: Arc<World>,
}

/// The write side.
pub struct Grouped {
    db: Database,
    tables: [Keyspace; 4],
    world: Arc<World>,
}

impl Fjall {
    /// Makes the database in `dir` and loads it.
    ///
    /// # Errors
    /// Those of fjall.
    pub fn load(dir: &Path, world: &Arc<World>) -> Result<Fjall, Failure> {
        let db = Database::builder(dir).cache_size(256 << 20).open()?;
        let open = |table: Tab| db.keyspace(table.name(), KeyspaceCreateOptions::default);
        let tables = [open(Tab::ALL[0])?, open(Tab::ALL[1])?, open(Tab::ALL[2])?, open(Tab::ALL[3])?];
        for table in [Tab::Users, Tab::Mailboxes] {
            let mut ingestion = tables[table as usize].start_ingestion()?;
            job::preload(world, |of, key, row| if of == table { Ok(ingestion.write(key, row)?) } else { Ok(()) })?;
            ingestion.finish()?;
        }
        db.persist(PersistMode::SyncAll)?;
        let mailboxes = tables[Tab::Mailboxes as usize].clone();
        let group = Group::new(Grouped { db: db.clone(), tables, world: Arc::clone(world) })?;
        Ok(Fjall { group, db, mailboxes, world: Arc::clone(world) })
    }
}

/// A group being put together: a batch does not show what it holds, so a map does.
struct Open<'a> {
    tables: &'a [Keyspace; 4],
    batch: OwnedWriteBatch,
    pending: BTreeMap<(Tab, Vec<u8>), Option<Vec<u8>>>,
}

impl Tables for Open<'_> {
    fn get<T>(&mut self, table: Tab, key: &[u8], see: impl FnOnce(Option<&[u8]>) -> T) -> Result<T, Failure> {
        if !self.pending.is_empty()
            && let Some(row) = self.pending.get(&(table, key.to_vec()))
        {
            return Ok(see(row.as_deref()));
        }
        Ok(see(self.tables[table as usize].get(key)?.as_deref()))
    }
    fn put(&mut self, table: Tab, key: &[u8], row: &[u8]) -> Result<(), Failure> {
        self.batch.insert(&self.tables[table as usize], key, row);
        self.pending.insert((table, key.to_vec()), Some(row.to_vec()));
        Ok(())
    }
    fn remove(&mut self, table: Tab, key: &[u8]) -> Result<(), Failure> {
        self.batch.remove(&self.tables[table as usize], key);
        self.pending.insert((table, key.to_vec()), None);
        Ok(())
    }
    fn any_below(&mut self, from: &[u8]) -> Result<bool, Failure> {
        let below = |key: &[u8]| key.starts_with(from);
        let pending = self.pending.range((Tab::Mailboxes, from.to_vec())..);
        let mut pending = pending.take_while(|((table, key), _)| *table == Tab::Mailboxes && below(key));
        if pending.any(|(_, row)| row.is_some()) {
            return Ok(true);
        }
        for row in self.tables[Tab::Mailboxes as usize].prefix(from) {
            if !self.pending.contains_key(&(Tab::Mailboxes, row.key()?.to_vec())) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Backend for Grouped {
    type Job = Job;
    fn commit(&mut self, jobs: &[Job]) -> Result<Vec<Result<(), Failure>>, Failure> {
        let batch = self.db.batch().durability(Some(PersistMode::SyncData));
        let mut open = Open { tables: &self.tables, batch, pending: BTreeMap::new() };
        let results = jobs.iter().map(|job| job::perform(job, &self.world.shape, &mut open)).collect();
        open.batch.commit()?;
        Ok(results)
    }
}

impl Engine for Fjall {
    fn name(&self) -> &'static str {
        "fjall-group"
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
    fn settle(&self) -> Result<(), Failure> {
        while self.db.outstanding_flushes() > 0 || self.db.active_compactions() > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
    fn reader(&self) -> Result<Option<Box<dyn Reader + '_>>, Failure> {
        Ok(Some(Box::new(Reading { snapshot: self.db.snapshot(), mailboxes: self.mailboxes.clone() })))
    }
}

struct Reading {
    snapshot: fjall::Snapshot,
    mailboxes: Keyspace,
}

impl Reader for Reading {
    fn lookup(&mut self, key: &[u8]) -> Result<usize, Failure> {
        let row = self.snapshot.get(&self.mailboxes, key)?;
        row.map(|row| row.len()).ok_or_else(|| Failure::new("no such mailbox"))
    }
    fn list(&mut self, prefix: &[u8]) -> Result<u64, Failure> {
        let mut n = 0;
        for row in self.snapshot.prefix(&self.mailboxes, prefix) {
            n += u64::from(!row.into_inner()?.1.is_empty());
        }
        Ok(n)
    }
}
