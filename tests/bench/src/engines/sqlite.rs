//! SQLite: WAL, `synchronous=FULL`, one `WITHOUT ROWID` table per table, in three ways: a connection per thread, one
//! connection behind a mutex, and group batching. All three share one database file.

use super::{Engine, Failure, Parked, Reader, Session};
use crate::clients::Done;
use crate::group::{Backend, Group};
use crate::job::{self, Job, Op, Tab, Tables, World};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How operations reach the database.
enum Way {
    PerThread,
    Mutex(Mutex<Connection>),
    Group(Group<Grouped>),
}

/// SQLite in one of its three ways.
pub struct Sqlite {
    way: Way,
    path: PathBuf,
    world: Arc<World>,
}

/// A connection with the settings of all three ways: 256 MiB of cache where there is one connection, 4 MiB where there
/// are many, reads through a memory map, a checkpoint after 10,000 pages of log.
fn connect(path: &Path, cache_kib: u32) -> Result<Connection, Failure> {
    let db = Connection::open(path)?;
    db.busy_timeout(Duration::from_secs(60))?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "cache_size", -i64::from(cache_kib))?;
    db.pragma_update(None, "mmap_size", 4_i64 << 30)?;
    db.pragma_update(None, "wal_autocheckpoint", 10_000)?;
    db.set_prepared_statement_cache_capacity(32);
    Ok(db)
}

/// Makes the database file and loads it.
///
/// # Errors
/// Those of SQLite.
pub fn load(path: &Path, world: &World) -> Result<(), Failure> {
    let mut db = connect(path, 256 << 10)?;
    for table in Tab::ALL {
        let name = table.name();
        db.execute_batch(&format!("CREATE TABLE {name}(key BLOB PRIMARY KEY, row BLOB NOT NULL) WITHOUT ROWID"))?;
    }
    let tx = db.transaction()?;
    job::preload(world, |table, key, row| Open(&tx).put(table, key, row))?;
    tx.commit()?;
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))?;
    Ok(())
}

impl Sqlite {
    /// A connection per thread.
    pub fn per_thread(path: &Path, world: &Arc<World>) -> Sqlite {
        Sqlite { way: Way::PerThread, path: path.to_owned(), world: Arc::clone(world) }
    }

    /// One connection behind a mutex.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn mutex(path: &Path, world: &Arc<World>) -> Result<Sqlite, Failure> {
        let way = Way::Mutex(Mutex::new(connect(path, 256 << 10)?));
        Ok(Sqlite { way, path: path.to_owned(), world: Arc::clone(world) })
    }

    /// Group batching.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn group(path: &Path, world: &Arc<World>) -> Result<Sqlite, Failure> {
        let way = Way::Group(Group::new(Grouped(connect(path, 256 << 10)?, Arc::clone(world)))?);
        Ok(Sqlite { way, path: path.to_owned(), world: Arc::clone(world) })
    }
}

/// An open write transaction.
struct Open<'a>(&'a Transaction<'a>);

fn sql(table: Tab, verb: usize) -> &'static str {
    const SQL: [[&str; 3]; 4] = [
        ["SELECT row FROM users WHERE key=?", "REPLACE INTO users VALUES(?,?)", "DELETE FROM users WHERE key=?"],
        [
            "SELECT row FROM mailboxes WHERE key=?",
            "REPLACE INTO mailboxes VALUES(?,?)",
            "DELETE FROM mailboxes WHERE key=?",
        ],
        ["SELECT row FROM past WHERE key=?", "REPLACE INTO past VALUES(?,?)", "DELETE FROM past WHERE key=?"],
        ["SELECT row FROM rights WHERE key=?", "REPLACE INTO rights VALUES(?,?)", "DELETE FROM rights WHERE key=?"],
    ];
    SQL[table as usize][verb]
}

impl Tables for Open<'_> {
    fn get<T>(&mut self, table: Tab, key: &[u8], see: impl FnOnce(Option<&[u8]>) -> T) -> Result<T, Failure> {
        let mut select = self.0.prepare_cached(sql(table, 0))?;
        let mut rows = select.query([key])?;
        match rows.next()? {
            Some(row) => Ok(see(Some(row.get_ref(0)?.as_blob()?))),
            None => Ok(see(None)),
        }
    }
    fn put(&mut self, table: Tab, key: &[u8], row: &[u8]) -> Result<(), Failure> {
        self.0.prepare_cached(sql(table, 1))?.execute([key, row])?;
        Ok(())
    }
    fn remove(&mut self, table: Tab, key: &[u8]) -> Result<(), Failure> {
        self.0.prepare_cached(sql(table, 2))?.execute([key])?;
        Ok(())
    }
    fn any_below(&mut self, from: &[u8]) -> Result<bool, Failure> {
        let mut select = self.0.prepare_cached("SELECT key FROM mailboxes WHERE key>=? ORDER BY key LIMIT 1")?;
        let below = |row: &rusqlite::Row<'_>| Ok(row.get_ref(0)?.as_blob()?.starts_with(from));
        Ok(select.query_row([from], below).optional()?.unwrap_or(false))
    }
}

fn perform(db: &mut Connection, op: Op, world: &World) -> Result<(), Failure> {
    let job = Job::of(op);
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    job::perform(&job, &world.shape, &mut Open(&tx))?;
    Ok(tx.commit()?)
}

/// One connection, a transaction per group.
pub struct Grouped(Connection, Arc<World>);

impl Backend for Grouped {
    type Job = Job;
    fn commit(&mut self, jobs: &[Job]) -> Result<Vec<Result<(), Failure>>, Failure> {
        let tx = self.0.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let results = jobs.iter().map(|job| job::perform(job, &self.1.shape, &mut Open(&tx))).collect();
        tx.commit()?;
        Ok(results)
    }
}

enum Blocking<'a> {
    Own(Connection, &'a World),
    Shared(&'a Mutex<Connection>, &'a World),
}

impl Session for Blocking<'_> {
    fn perform(&mut self, op: Op) -> Result<(), Failure> {
        match self {
            Blocking::Own(db, world) => perform(db, op, world),
            Blocking::Shared(db, world) => perform(&mut db.lock().unwrap_or_else(PoisonError::into_inner), op, world),
        }
    }
}

impl Engine for Sqlite {
    fn name(&self) -> &'static str {
        match self.way {
            Way::PerThread => "sqlite-conn",
            Way::Mutex(_) => "sqlite-mutex",
            Way::Group(_) => "sqlite-group",
        }
    }
    fn world(&self) -> &Arc<World> {
        &self.world
    }
    fn has_callbacks(&self) -> bool {
        matches!(self.way, Way::Group(_))
    }
    fn submit(&self, op: Op, done: Done) {
        match &self.way {
            Way::Group(group) => group.submit(Job::of(op), done),
            _ => done.answer(self.session().and_then(|mut session| session.perform(op))),
        }
    }
    fn session(&self) -> Result<Box<dyn Session + '_>, Failure> {
        Ok(match &self.way {
            Way::PerThread => Box::new(Blocking::Own(connect(&self.path, 4 << 10)?, &self.world)),
            Way::Mutex(db) => Box::new(Blocking::Shared(db, &self.world)),
            Way::Group(_) => Box::new(Parked(self)),
        })
    }
    fn settle(&self) -> Result<(), Failure> {
        let checkpoint = |db: &Connection| db.query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |_| Ok(()));
        match &self.way {
            Way::PerThread => checkpoint(&connect(&self.path, 4 << 10)?)?,
            Way::Mutex(db) => checkpoint(&db.lock().unwrap_or_else(PoisonError::into_inner))?,
            Way::Group(group) => group.with(|g| checkpoint(&g.0))?,
        }
        Ok(())
    }
    fn reader(&self) -> Result<Option<Box<dyn Reader + '_>>, Failure> {
        Ok(Some(Box::new(Reading(connect(&self.path, 256 << 10)?))))
    }
}

struct Reading(Connection);

impl Reader for Reading {
    fn lookup(&mut self, key: &[u8]) -> Result<usize, Failure> {
        let mut select = self.0.prepare_cached(sql(Tab::Mailboxes, 0))?;
        Ok(select.query_row([key], |row| Ok(row.get_ref(0)?.as_blob()?.len()))?)
    }
    fn list(&mut self, prefix: &[u8]) -> Result<u64, Failure> {
        let mut select = self.0.prepare_cached("SELECT key, row FROM mailboxes WHERE key>=? ORDER BY key")?;
        let mut rows = select.query([prefix])?;
        let mut n = 0;
        while let Some(row) = rows.next()? {
            if !row.get_ref(0)?.as_blob()?.starts_with(prefix) {
                break;
            }
            n += u64::from(!row.get_ref(1)?.as_blob()?.is_empty());
        }
        Ok(n)
    }
}
