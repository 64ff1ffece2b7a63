//! The mboxlist database.
//!
//! # Purpose
//! One file that holds every row of the store as it was at one LSN. It is a materialised view of the log: only a
//! checkpoint writes it, so it may be thrown away and made again from a snapshot and the log.
//!
//! # Format
//! A [redb](https://docs.rs/redb) 4.5 file (file format 3). Inside it nine tables, all `&[u8] -> &[u8]`, so that another
//! version of redb, or another engine, is a plain copy of keys and values:
//!
//! * one for each [`Table`], named by [`Table::name`]: key -> value envelope (see `envelope.rs`);
//! * `meta`: the one key `state` -> value envelope around the fixed-width record of `schema.rs`: schema version,
//!   store id, epoch, applied LSN, and for each table the number of its rows and a digest over them.
//!
//! The digest of a table is the wrapping sum of XXH3-128 over (table number, key length, key, row) of all its rows, so it
//! depends on no order and is kept up to date from the old and the new row of each change.
//!
//! # Operation
//! * [`Db::create`] makes the file beside its place and renames it: redb's own creation, killed in its first writes, leaves
//!   a file that never opens again.
//! * [`Db::examine`] walks every page and compares every checksum, through a backend that keeps what redb wants to
//!   write in memory: redb's check repairs, and evidence is gathered without changing a byte (I7). redb compares no
//!   checksum when it reads later, so **every** open follows an examination of the same file by the same process, which
//!   remembers a hash of each page; a page that reads otherwise later is an error.
//! * [`Db::apply`] is one durable commit with redb's *quick repair*: a re-open after a crash loads the recorded
//!   allocator instead of walking the file. A failed commit is undecided, neither done nor undone: [`Db::reopen`] and look at
//!   [`Meta::applied_lsn`]. That is safe after a failed sync too, when the system may show pages that it will never
//!   write: rows are synced before the header names them, and opening writes and syncs the header again.
//! * Dropping a [`Db`] writes nothing, exactly like a crash. [`Db::close`] trims the file and marks it clean.
//! * redb panics on some damage. Each entry that lets it read catches that and answers with an error; the daemon's panic
//!   hook may ask [`catching`] whether a panic is one of these.
//!
//! # Invariants
//! * I5: the applied LSN, the counts and the digests change in the transaction of the rows they describe.
//! * I7: `examine`, [`DbReader`], [`check()`] and the source of a [`copy()`] change nothing.
//! * A missing, empty, cut, damaged, foreign or newer file is an error of its own, and never a new empty database: only `create`
//!   creates, and never where something is.

mod apply;
mod backend;
mod check;
mod copy;
mod derive;
mod envelope;
mod guard;
mod read;
mod schema;
mod shadow;
mod sums;
#[cfg(test)]
pub(crate) mod tests;

pub use apply::Applied;
pub use backend::Pace;
pub use check::{Finding, ROW, Report, check};
pub use copy::{convert, copy};
pub use guard::catching;
pub use read::{DbRange, DbReader, DbRow};
pub use schema::{Meta, SCHEMA, SCHEMA_OLDEST, SCHEMA_VERSION, TableMeta, digest as row_digest, reads};

use crate::disk::{Access, Disk, DiskFile, Kind, parent};
use crate::error::{Result, StoreError, exit};
use crate::lsn::{Epoch, Lsn, StoreId};
use crate::model::Table;
use crate::planted::{self, Bug};
use backend::{FileBackend, Health};
use redb::{Builder, Database, ReadableDatabase};
use shadow::ShadowBackend;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use sums::Sums;

/// Told how far a check of the whole file is, 0 to 1. Called from the thread that checks.
pub type Progress = Arc<dyn Fn(f64) + Send + Sync>;

/// Asked between two pieces of a file whether to go on; may wait. Once it says no it says no for ever.
pub type GoOn = Arc<dyn Fn() -> bool + Send + Sync>;

/// Cache of the page checks, in bytes. The check walks the file twice, in page order of the trees; more does not help.
const EXAMINE_CACHE_BYTES: usize = 64 << 20;

/// A file longer than this is not trimmed by [`Db::close`]: giving gigabytes back takes some file systems seconds.
const TRIM_BYTES_MAX: u64 = 2 << 30;

/// How to open a database.
#[derive(Clone)]
pub struct Options {
    /// Memory for pages, read and not yet written ones together, in bytes.
    pub cache_bytes: usize,
    /// Called after each burst of 2 MiB that was written and synced, so that a checkpoint leaves the disk to the log.
    pub pace: Option<Pace>,
}

impl Default for Options {
    fn default() -> Options {
        Options { cache_bytes: 256 << 20, pace: None }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("cache_bytes", &self.cache_bytes).field("pace", &self.pace.is_some()).finish()
    }
}

/// The open database. One thread, the checkpoint's, calls [`Db::apply`]; any thread may ask for a reader.
#[derive(Debug)]
pub struct Db {
    disk: Arc<dyn Disk>,
    path: String,
    options: Options,
    /// `None` only inside [`Db::reopen`], after one that failed, and after [`Db::close`].
    redb: Option<Database>,
    health: Arc<Health>,
    /// A commit failed: its outcome is unknown until [`Db::reopen`].
    undecided: AtomicBool,
    /// The file could not be opened for writing; it is read, and every change of redb stays in memory.
    reads_only: bool,
}

impl Db {
    /// Makes an empty database that says it has applied everything up to `applied`.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if something is at `path`; those of the disk.
    pub fn create(disk: &Arc<dyn Disk>, path: &str, store_id: StoreId, epoch: Epoch, applied: Lsn) -> Result<()> {
        Db::create_as(disk, path, &Meta::empty(SCHEMA_VERSION, store_id, epoch, applied))
    }

    /// Makes an empty database of any schema that is known.
    fn create_as(disk: &Arc<dyn Disk>, path: &str, meta: &Meta) -> Result<()> {
        let io = |op| move |e| StoreError::io(op, disk.display(path), e);
        if disk.stat(path).map_err(io("stat"))?.is_some() {
            return Err(StoreError::Refused {
                message: format!("{} exists; a database is never made where something is", disk.display(path)),
                hint: "storectl recover --dry-run".to_owned(),
                exit: exit::EXISTS,
            });
        }
        let candidate = if planted::on(Bug::DatabaseMadeInPlace) { path.to_owned() } else { format!("{path}.new") };
        if disk.stat(&candidate).map_err(io("stat"))?.is_some() {
            disk.remove(&candidate).map_err(io("remove"))?;
        }
        let file = disk.open(&candidate, Access::CreateNew).map_err(io("create"))?;
        let health = Arc::new(Health::new(disk.display(&candidate)));
        let backend = FileBackend::new(Arc::clone(&file), Arc::clone(&health), Arc::default(), None);
        health.run("create", || {
            let db = Builder::new().set_cache_size(8 << 20).create_with_backend(backend)?;
            schema::write_empty(&db, meta)?;
            db.close()?;
            Ok(())
        })?;
        file.sync_data().map_err(io("sync"))?;
        disk.rename(&candidate, path).map_err(io("rename"))?;
        disk.sync_dir(parent(path)).map_err(io("sync the directory of"))
    }

    /// Looks at every page of the file, and at the record of what it holds, without changing a byte of it (I7). `store`
    /// is the store that it must belong to, where that is known.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if nothing is there; [`StoreError::Corrupt`] if it is empty, cut or damaged, or not a database;
    /// [`StoreError::Foreign`] if it is of another store or of a newer program; [`StoreError::Io`] if it cannot be read.
    pub fn examine(
        disk: &Arc<dyn Disk>,
        path: &str,
        store: Option<StoreId>,
        progress: Option<Progress>,
    ) -> Result<Meta> {
        Ok(Db::examine_for_open(disk, path, store, progress)?.meta)
    }

    /// [`Db::examine`], remembering each page for [`Examined::open`].
    ///
    /// # Errors
    /// As [`Db::examine`].
    pub fn examine_for_open(
        disk: &Arc<dyn Disk>,
        path: &str,
        store: Option<StoreId>,
        progress: Option<Progress>,
    ) -> Result<Examined> {
        Db::examine_as(disk, path, store, progress, None)
    }

    /// As [`Db::examine_for_open`], for who may be told to wait or to end.
    ///
    /// # Errors
    /// As [`Db::examine`], and [`StoreError::Busy`] if `go_on` says no.
    pub fn examine_while(
        disk: &Arc<dyn Disk>,
        path: &str,
        store: Option<StoreId>,
        go_on: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Result<Examined> {
        Db::examine_as(disk, path, store, None, Some(Arc::new(go_on)))
    }

    fn examine_as(
        disk: &Arc<dyn Disk>,
        path: &str,
        store: Option<StoreId>,
        progress: Option<Progress>,
        go_on: Option<GoOn>,
    ) -> Result<Examined> {
        let file = open_file(disk, path, Access::Read)?;
        let health = Arc::new(Health::new(disk.display(path)));
        let len = file.len().map_err(|e| health.note("length of", &e))?;
        let sums = Arc::new(Sums::default());
        let backend = ShadowBackend::new(file, len, Arc::clone(&health), Arc::clone(&sums)).asking(go_on);
        let meta = health.run("check", || {
            let mut builder = Builder::new();
            builder
                .set_cache_size(EXAMINE_CACHE_BYTES)
                .set_check_integrity_on_open(!planted::on(Bug::StructureNotChecked));
            if let Some(progress) = progress {
                builder.set_repair_callback(move |session| progress(session.progress()));
            }
            let db = builder.create_with_backend(backend)?;
            // What redb writes when it is dropped is not even worth memory.
            health.abandon();
            schema::read_whole(&db, &health)
        })?;
        meta.expect_store(store, health.file())?;
        Ok(Examined { meta, sums })
    }

    /// The schema that the database at `path` names, without a look at the rest of it; `None` if nothing there says one. Changes
    /// nothing (I7).
    #[must_use]
    pub fn schema_at(disk: &Arc<dyn Disk>, path: &str) -> Option<u32> {
        let options = Options { cache_bytes: 1 << 20, pace: None };
        let (redb, health) = open_to_read(disk, path, &options, Arc::default()).ok()?;
        let meta = health.run("open", || schema::read(&redb.begin_read()?, &health));
        // IMPORTANT: never dropped. Nobody has examined the file, and where it is damaged redb, which prepares a last commit when it is
        // dropped, panics in a destructor, which ends the process. What stays is its small cache, once a start.
        std::mem::forget(redb);
        meta.ok().map(|meta| meta.schema)
    }

    /// Opens the database at `path` for reading and for [`Db::apply`]. Never creates. Call [`Db::examine`] first, or better
    /// [`Db::examine_for_open`] and then [`Examined::open`]: here a page is trusted when it is read for the first time.
    ///
    /// # Errors
    /// As [`Db::examine`], though damage may go unseen.
    pub fn open(disk: &Arc<dyn Disk>, path: &str, options: Options) -> Result<Db> {
        Db::open_with(disk, path, options, Arc::default())
    }

    fn open_with(disk: &Arc<dyn Disk>, path: &str, options: Options, sums: Arc<Sums>) -> Result<Db> {
        let (redb, health) = open_redb(disk, path, &options, sums)?;
        Ok(Db {
            disk: Arc::clone(disk),
            path: path.to_owned(),
            options,
            redb: Some(redb),
            health,
            undecided: AtomicBool::new(false),
            reads_only: false,
        })
    }

    /// A read transaction on the newest commit. Pages it can see are not reused while it lives.
    ///
    /// # Errors
    /// If the database is damaged, or needs [`Db::reopen`].
    pub fn reader(&self) -> Result<DbReader> {
        let db = match &self.redb {
            Some(db) if self.reads_only => db,
            _ => self.usable()?,
        };
        self.health.run("begin to read", || DbReader::new(&db.begin_read()?, &self.health))
    }

    /// After a failed [`Db::apply`]: lets go of the file, examines it and opens it anew. Compare the applied LSN it
    /// returns with the one that was to be reached: the commit may have happened. Readers made before answer
    /// [`StoreError::Busy`] from then on.
    ///
    /// # Errors
    /// As [`Db::examine`]; `reopen` may be called again. Where the file can be read and not be written (a file system
    /// that the system made read-only after an error) [`Db::reader`] works all the same, and only that.
    pub fn reopen(&mut self) -> Result<Meta> {
        self.let_go();
        let Examined { meta, sums } = Db::examine_for_open(&self.disk, &self.path, None, None)?;
        let opened = open_redb(&self.disk, &self.path, &self.options, Arc::clone(&sums));
        let (redb, health) = match opened {
            Ok(opened) => opened,
            Err(e) => {
                if let Ok((redb, health)) = open_to_read(&self.disk, &self.path, &self.options, sums) {
                    (self.redb, self.health, self.reads_only) = (Some(redb), health, true);
                }
                return Err(e);
            }
        };
        (self.redb, self.health) = (Some(redb), health);
        self.undecided.store(false, Ordering::Release);
        Ok(meta)
    }

    /// Ends the use of the file: gives unused space at its end back, and marks it clean.
    ///
    /// # Errors
    /// Those of the disk. Nothing that a commit wrote is lost by them.
    pub fn close(mut self) -> Result<()> {
        let unsure = self.reads_only || self.undecided.load(Ordering::Acquire);
        let (Some(db), false) = (self.redb.take(), unsure) else { return Ok(()) };
        if self.health.file_bytes() > TRIM_BYTES_MAX {
            self.health.abandon();
            let_go(db);
            return Ok(());
        }
        self.health.run("close", || Ok(db.close()?))
    }

    /// Bytes of the file, of which some may be unused.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.health.file_bytes()
    }

    fn usable(&self) -> Result<&Database> {
        match &self.redb {
            Some(db) if !self.reads_only && !self.undecided.load(Ordering::Acquire) => Ok(db),
            _ => Err(StoreError::Busy { why: format!("{} must be opened anew", self.health.file()) }),
        }
    }

    /// Drops redb's handle without a write.
    fn let_go(&mut self) {
        self.health.abandon();
        if let Some(db) = self.redb.take() {
            let_go(db);
        }
        self.reads_only = false;
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// A database file that passed its check, and what each of its pages was then.
#[derive(Debug)]
pub struct Examined {
    /// What the database says of itself.
    pub meta: Meta,
    sums: Arc<Sums>,
}

impl Examined {
    /// Opens the file that was examined; nobody wrote to it since. Each page read later is compared with what it was.
    ///
    /// # Errors
    /// As [`Db::examine`].
    pub fn open(&self, disk: &Arc<dyn Disk>, path: &str, options: Options) -> Result<Db> {
        Db::open_with(disk, path, options, Arc::clone(&self.sums))
    }

    /// As [`Examined::open`], for [`Db::reader`] alone: not a byte of the file changes.
    ///
    /// # Errors
    /// As [`Db::examine`].
    pub fn open_to_read(&self, disk: &Arc<dyn Disk>, path: &str, options: Options) -> Result<Db> {
        let (redb, health) = open_to_read(disk, path, &options, Arc::clone(&self.sums))?;
        Ok(Db {
            disk: Arc::clone(disk),
            path: path.to_owned(),
            options,
            redb: Some(redb),
            health,
            undecided: AtomicBool::new(false),
            reads_only: true,
        })
    }
}

/// Drops redb's handle, whose file was abandoned. It prepares a last commit all the same, and on a damaged file that may
/// panic.
fn let_go(db: Database) {
    if let Err(panic) = guard::caught(|| drop(db)) {
        tracing::debug!(event = "database_dropped", panic);
    }
}

fn open_redb(disk: &Arc<dyn Disk>, path: &str, options: &Options, sums: Arc<Sums>) -> Result<(Database, Arc<Health>)> {
    let file = open_file(disk, path, Access::Write)?;
    let health = Arc::new(Health::new(disk.display(path)));
    let backend = FileBackend::new(file, Arc::clone(&health), sums, options.pace.clone());
    let db = health
        .run("open", || Ok(Builder::new().set_cache_size(options.cache_bytes).create_with_backend(backend)?))?;
    let meta = health.run("open", || schema::read(&db.begin_read()?, &health));
    if let Err(e) = meta {
        health.abandon();
        let_go(db);
        return Err(e);
    }
    Ok((db, health))
}

/// The same for reading: not a byte of the file changes.
fn open_to_read(
    disk: &Arc<dyn Disk>,
    path: &str,
    options: &Options,
    sums: Arc<Sums>,
) -> Result<(Database, Arc<Health>)> {
    let file = open_file(disk, path, Access::Read)?;
    let health = Arc::new(Health::new(disk.display(path)));
    let len = file.len().map_err(|e| health.note("length of", &e))?;
    let backend = ShadowBackend::new(file, len, Arc::clone(&health), sums);
    let opened =
        health.run("open", || Ok(Builder::new().set_cache_size(options.cache_bytes).create_with_backend(backend)?));
    // What redb writes when it is dropped is not worth memory.
    health.abandon();
    Ok((opened?, health))
}

/// Opens an existing file that is not empty: redb takes an empty one for an order to create.
fn open_file(disk: &Arc<dyn Disk>, path: &str, access: Access) -> Result<Arc<dyn DiskFile>> {
    let file = disk.display(path);
    match disk.stat(path).map_err(|e| StoreError::io("stat", &file, e))? {
        None => return Err(StoreError::Missing { files: vec![file] }),
        Some(entry) if entry.kind != Kind::File => {
            return Err(corrupt(&file, "kind of file", format!("{:?}", entry.kind), "a regular file"));
        }
        Some(_) => {}
    }
    let opened = disk.open(path, access).map_err(|e| StoreError::io("open", &file, e))?;
    match opened.len().map_err(|e| StoreError::io("length of", &file, e))? {
        0 => Err(corrupt(&file, "length", "0 bytes".to_owned(), "a database")),
        _ => Ok(opened),
    }
}

fn corrupt(file: &str, what: &str, found: String, expected: &str) -> StoreError {
    StoreError::Corrupt {
        file: file.to_owned(),
        offset: 0,
        what: what.to_owned(),
        found,
        expected: expected.to_owned(),
    }
}

/// Place of a table in arrays over all tables.
fn slot(table: Table) -> usize {
    usize::from(table as u8) - 1
}
