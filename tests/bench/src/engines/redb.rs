//! redb alone with group batching: one write transaction with `Immediate` durability per group.

use super::{Engine, Failure, Parked, Reader, Session};
use crate::clients::Done;
use crate::group::{Backend, Group};
use crate::job::{self, Job, Op, Tab, Tables, World};
use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};
use std::path::Path;
use std::sync::Arc;

const fn definition(table: Tab) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(match table {
        Tab::Users => "users",
        Tab::Mailboxes => "mailboxes",
        Tab::Past => "past",
        Tab::Rights => "rights",
    })
}

/// A redb database.
pub struct Redb {
    group: Group<Grouped>,
    db: Arc<Database>,
    world: Arc<World>,
}

/// The write side.
pub struct Grouped(Arc<Database>, Arc<World>);

impl Redb {
    /// Makes the database file and loads it.
    ///
    /// # Errors
    /// Those of redb.
    pub fn load(path: &Path, world: &Arc<World>) -> Result<Redb, Failure> {
        let db = Arc::new(Database::builder().set_cache_size(256 << 20).create(path)?);
        let tx = db.begin_write()?;
        let mut open = Open::new(&tx)?;
        job::preload(world, |table, key, row| open.put(table, key, row))?;
        drop(open);
        tx.commit()?;
        let group = Group::new(Grouped(Arc::clone(&db), Arc::clone(world)))?;
        Ok(Redb { group, db, world: Arc::clone(world) })
    }
}

/// The tables of a transaction, each opened when it is first used.
struct Open<'t> {
    tx: &'t WriteTransaction,
    tables: [Option<Table<'t, &'static [u8], &'static [u8]>>; 4],
}

impl<'t> Open<'t> {
    fn new(tx: &'t WriteTransaction) -> Result<Open<'t>, Failure> {
        Ok(Open { tx, tables: [None, None, None, None] })
    }

    fn table(&mut self, table: Tab) -> Result<&mut Table<'t, &'static [u8], &'static [u8]>, Failure> {
        let slot = &mut self.tables[table as usize];
        match slot {
            Some(open) => Ok(open),
            None => Ok(slot.insert(self.tx.open_table(definition(table))?)),
        }
    }
}

impl Tables for Open<'_> {
    fn get<T>(&mut self, table: Tab, key: &[u8], see: impl FnOnce(Option<&[u8]>) -> T) -> Result<T, Failure> {
        let row = self.table(table)?.get(key)?;
        Ok(see(row.as_ref().map(redb::AccessGuard::value)))
    }
    fn put(&mut self, table: Tab, key: &[u8], row: &[u8]) -> Result<(), Failure> {
        self.table(table)?.insert(key, row)?;
        Ok(())
    }
    fn remove(&mut self, table: Tab, key: &[u8]) -> Result<(), Failure> {
        self.table(table)?.remove(key)?;
        Ok(())
    }
    fn any_below(&mut self, from: &[u8]) -> Result<bool, Failure> {
        let next = self.table(Tab::Mailboxes)?.range(from..)?.next().transpose()?;
        Ok(next.is_some_and(|(key, _)| key.value().starts_with(from)))
    }
}

impl Backend for Grouped {
    type Job = Job;
    fn commit(&mut self, jobs: &[Job]) -> Result<Vec<Result<(), Failure>>, Failure> {
        let tx = self.0.begin_write()?;
        let mut open = Open::new(&tx)?;
        let results = jobs.iter().map(|job| job::perform(job, &self.1.shape, &mut open)).collect();
        drop(open);
        tx.commit()?;
        Ok(results)
    }
}

impl Engine for Redb {
    fn name(&self) -> &'static str {
        "redb-group"
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
        let tx = self.db.begin_read()?;
        Ok(Some(Box::new(Reading(tx.open_table(definition(Tab::Mailboxes))?))))
    }
}

struct Reading(ReadOnlyTable<&'static [u8], &'static [u8]>);

impl Reader for Reading {
    fn lookup(&mut self, key: &[u8]) -> Result<usize, Failure> {
        self.0.get(key)?.map(|row| row.value().len()).ok_or_else(|| Failure::new("no such mailbox"))
    }
    fn list(&mut self, prefix: &[u8]) -> Result<u64, Failure> {
        let mut n = 0;
        for row in self.0.range(prefix..)? {
            let (key, row) = row?;
            if !key.value().starts_with(prefix) {
                break;
            }
            n += u64::from(!row.value().is_empty());
        }
        Ok(n)
    }
}
