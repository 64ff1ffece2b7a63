//! The checkpoint's write: the newest state of many rows, in one durable commit.
//!
//! Rows come sorted. Most of a checkpoint replaces rows that are there, scattered over the table: for these redb's plain `insert`
//! is best. New rows often come in runs that fall between two neighbours (a rebuilt store, a copy, a new user's mailboxes): once a row
//! proved to be new, a cursor stands behind it and takes what fits in the same gap, about twice as fast. A cursor that takes
//! nothing costs a second descent, so the next one waits for ever more new rows.

use super::backend::{Failed, Health};
use super::guard::caught;
use super::read::broken_row;
use super::schema::{self, Meta, definition, digest};
use super::{Db, envelope};
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn};
use crate::model::Table;
use crate::model::table::KEY_BYTES_MAX;
use crate::planted;
use redb::{CursorError, Database};
use std::ops::Bound;
use std::sync::atomic::Ordering;

/// Longest row in bytes: that of the longest log record.
const ROW_BYTES_MAX: usize = 16 << 20;

/// A cursor is tried at the latest after so many new rows.
const CURSOR_WAIT_MAX: u32 = 1024;

/// What a commit did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// What the database says of itself now.
    pub meta: Meta,
    /// Rows written.
    pub rows_put: u64,
    /// Rows that were there and are gone.
    pub rows_removed: u64,
    /// Bytes written to the file.
    pub bytes: u64,
}

/// One row's new state: `None` removes it.
type Change<K, R> = (Table, K, Option<R>);

impl Db {
    /// Brings the database to the LSN `applied`: writes the given rows, sorted by table and key, each key once, those of
    /// tables that its schema does not have left out, and states LSN, epoch, counts and digests in the same durable commit (I5). Doing it twice is harmless.
    ///
    /// # Errors
    /// Any: the commit is then **undecided**, and the database takes and gives nothing until [`Db::reopen`]. [`StoreError::Bug`] if the rows are
    /// not sorted or not within their limits, or the LSN goes back within an epoch; [`StoreError::Corrupt`] if a row to be replaced is damaged.
    pub fn apply<K: AsRef<[u8]>, R: AsRef<[u8]>>(
        &self,
        applied: Lsn,
        epoch: Epoch,
        rows: impl IntoIterator<Item = Change<K, R>>,
    ) -> Result<Applied> {
        self.apply_read(applied, epoch, rows.into_iter().map(Ok))
    }

    /// [`Db::apply`] of rows that are themselves read from somewhere; an error among them is the error, and nothing is committed.
    pub(super) fn apply_read<K: AsRef<[u8]>, R: AsRef<[u8]>>(
        &self,
        applied: Lsn,
        epoch: Epoch,
        rows: impl Iterator<Item = Result<Change<K, R>>>,
    ) -> Result<Applied> {
        let db = self.usable()?;
        let before = self.health.written();
        let mut source = Source { rows, inside: false, last: None, tables: &Table::ALL };
        let outcome = match caught(|| write(db, &self.health, applied, epoch, &mut source)) {
            Ok(outcome) => outcome.map_err(|failed| self.health.explain("checkpoint", failed)),
            // The iterator is the caller's: its panic is not the database's.
            Err(panic) if source.inside => Err(StoreError::Bug(format!("rows of a checkpoint: {panic}"))),
            Err(panic) => Err(self.health.panicked("checkpoint", &panic)),
        };
        let work = outcome.inspect_err(|_| self.undecided.store(true, Ordering::Release))?;
        let bytes = self.health.written() - before;
        Ok(Applied { meta: work.meta, rows_put: work.put, rows_removed: work.removed, bytes })
    }
}

fn write<'a, K: AsRef<[u8]>, R: AsRef<[u8]>, I: Iterator<Item = Result<Change<K, R>>>>(
    db: &Database,
    health: &'a Health,
    applied: Lsn,
    epoch: Epoch,
    source: &mut Source<I>,
) -> Result<Work<'a>, Failed> {
    let mut txn = db.begin_write()?;
    txn.set_quick_repair(true);
    let mut meta = schema::meta_in(&txn, health)?;
    if planted::on(planted::Bug::AppliedLsnOutsideTransaction) {
        schema::write_meta(&txn, &Meta { applied_lsn: applied, epoch, ..meta.clone() })?;
        txn.commit()?;
        txn = db.begin_write()?;
        txn.set_quick_repair(true);
    }
    if epoch < meta.epoch || (epoch == meta.epoch && applied < meta.applied_lsn) {
        let (at, was) = (meta.applied_lsn, meta.epoch);
        let text = format!("checkpoint to LSN {applied} of epoch {epoch}, the database is at LSN {at} of epoch {was}");
        return Err(StoreError::Bug(text).into());
    }
    (meta.applied_lsn, meta.epoch) = (applied, epoch);
    source.tables = meta.all();
    let mut work = Work { meta, put: 0, removed: 0, health, value: Vec::new(), scratch: Vec::new() };
    let mut next = source.next()?;
    while let Some(first) = next {
        let table = first.0;
        let mut into = txn.open_table(definition(table))?;
        next = work.fill(table, &mut into, first, source)?;
    }
    schema::write_meta(&txn, &work.meta)?;
    txn.commit()?;
    Ok(work)
}

type Open<'txn> = redb::Table<'txn, &'static [u8], &'static [u8]>;

/// Counts and buffers of one commit.
struct Work<'a> {
    meta: Meta,
    put: u64,
    removed: u64,
    health: &'a Health,
    value: Vec<u8>,
    scratch: Vec<u8>,
}

impl Work<'_> {
    /// Writes `first` and all that follows of the same table; returns the first of another one.
    fn fill<K: AsRef<[u8]>, R: AsRef<[u8]>, I: Iterator<Item = Result<Change<K, R>>>>(
        &mut self,
        table: Table,
        into: &mut Open<'_>,
        first: Change<K, R>,
        source: &mut Source<I>,
    ) -> Result<Option<Change<K, R>>, Failed> {
        let mut patience = Patience::default();
        let mut change = Some(first);
        while let Some((_, key, row)) = change.take_if(|(t, ..)| *t == table) {
            let new = match &row {
                Some(row) => self.put(table, into, key.as_ref(), row.as_ref())?,
                None => self.remove(table, into, key.as_ref())?,
            };
            change = source.next()?;
            if new && patience.is_over() {
                let (taken, rest) = self.run_of_new(table, into, key.as_ref(), change, source)?;
                patience.learn(taken);
                change = rest;
            }
        }
        Ok(change)
    }

    /// Writes one row; true if it is new.
    fn put(&mut self, table: Table, into: &mut Open<'_>, key: &[u8], row: &[u8]) -> Result<bool, Failed> {
        envelope::seal(table as u8, key, row, &mut self.value);
        let old = into.insert(key, self.value.as_slice())?;
        let new = old.is_none();
        if let Some(old) = old {
            self.gone(table, key, old.value())?;
        }
        self.came(table, key, row);
        Ok(new)
    }

    /// Removes one row; always false, as nothing new came.
    fn remove(&mut self, table: Table, into: &mut Open<'_>, key: &[u8]) -> Result<bool, Failed> {
        if let Some(old) = into.remove(key)? {
            self.gone(table, key, old.value())?;
            self.removed += 1;
        }
        Ok(false)
    }

    /// Writes rows from `change` on while they fall into the gap behind `key`. Returns how many did, and the first that did not.
    fn run_of_new<K: AsRef<[u8]>, R: AsRef<[u8]>, I: Iterator<Item = Result<Change<K, R>>>>(
        &mut self,
        table: Table,
        into: &mut Open<'_>,
        key: &[u8],
        mut change: Option<Change<K, R>>,
        source: &mut Source<I>,
    ) -> Result<(u64, Option<Change<K, R>>), Failed> {
        let mut taken = 0;
        let mut cursor = into.lower_bound_mut(Bound::Excluded(key))?;
        while let Some((t, key, Some(row))) = &change {
            if *t != table {
                break;
            }
            let (key, row) = (key.as_ref(), row.as_ref());
            envelope::seal(table as u8, key, row, &mut self.value);
            match cursor.insert_before(key, self.value.as_slice()) {
                Ok(()) => self.came(table, key, row),
                Err(CursorError::UnorderedKey) => break,
                Err(e) => return Err(e.into()),
            }
            taken += 1;
            change = source.next()?;
        }
        cursor.close()?;
        Ok((taken, change))
    }

    fn came(&mut self, table: Table, key: &[u8], row: &[u8]) {
        self.meta.table_mut(table).add(digest(table, key, row, &mut self.scratch));
        self.put += 1;
    }

    /// Takes a row that is no longer there out of counts and digest; it must be what was stored, or they would lie.
    fn gone(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let file = self.health.file();
        let row = envelope::open(table as u8, key, value).map_err(|broken| broken_row(file, table, key, &broken))?;
        if self.meta.table_mut(table).take(digest(table, key, row, &mut self.scratch)) {
            return Ok(());
        }
        let what = format!("number of rows of table {}", table.name());
        Err(super::corrupt(file, &what, "0".to_owned(), "1 or more"))
    }
}

/// How many new rows to let pass before the next cursor.
#[derive(Debug, Default)]
struct Patience {
    wait: u32,
    next: u32,
}

impl Patience {
    fn is_over(&mut self) -> bool {
        let over = self.wait == 0;
        self.wait = self.wait.saturating_sub(1);
        over
    }

    /// A cursor took `taken` rows. It pays from about four.
    fn learn(&mut self, taken: u64) {
        self.next = if taken >= 4 { 0 } else { (self.next * 2).clamp(1, CURSOR_WAIT_MAX) };
        self.wait = self.next;
    }
}

/// The caller's rows, looked at as they come.
struct Source<I> {
    rows: I,
    /// The caller's code runs.
    inside: bool,
    last: Option<(Table, Vec<u8>)>,
    /// Those of the database.
    tables: &'static [Table],
}

impl<K: AsRef<[u8]>, R: AsRef<[u8]>, I: Iterator<Item = Result<Change<K, R>>>> Source<I> {
    fn next(&mut self) -> Result<Option<Change<K, R>>, StoreError> {
        let tables = self.tables;
        self.inside = true;
        // A table that an older schema does not have follows from the others, and is made when it is upgraded.
        let change = self.rows.find(|change| change.as_ref().map_or(true, |(table, ..)| tables.contains(table)));
        self.inside = false;
        let change = change.transpose()?;
        let Some((table, key, row)) = &change else { return Ok(None) };
        let (key, row_len) = (key.as_ref(), row.as_ref().map_or(0, |row| row.as_ref().len()));
        let bug = |what: &str| {
            let key = super::read::show_key(key);
            Err(StoreError::Bug(format!("{what} in a checkpoint: table {}, key {key}", table.name())))
        };
        if key.is_empty() || key.len() > KEY_BYTES_MAX || row_len > ROW_BYTES_MAX {
            return bug("key or row too short or too long");
        }
        match &mut self.last {
            Some((t, k)) if (*t, k.as_slice()) >= (*table, key) => return bug("rows not sorted"),
            Some((t, k)) => {
                *t = *table;
                k.clear();
                k.extend_from_slice(key);
            }
            none => *none = Some((*table, key.to_vec())),
        }
        Ok(change)
    }
}
