//! Reading: one transaction with every table open, shared by all views of its moment.

use super::backend::{Failed, Health};
use super::schema::{self, Meta, definition};
use super::{envelope, slot};
use crate::error::{Result, StoreError};
use crate::model::{Rows, Table};
use redb::{AccessGuard, ReadOnlyTable, ReadTransaction};
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

type Opened = ReadOnlyTable<&'static [u8], &'static [u8]>;
type Guard = AccessGuard<'static, &'static [u8]>;

/// The database as it was at one commit. Every row that leaves it has passed its checksum.
pub struct DbReader {
    meta: Meta,
    /// Those of its schema, in the order of their numbers.
    tables: Vec<Opened>,
    health: Arc<Health>,
}

impl std::fmt::Debug for DbReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DbReader").field("applied_lsn", &self.meta.applied_lsn).finish_non_exhaustive()
    }
}

impl DbReader {
    pub(super) fn new(txn: &ReadTransaction, health: &Arc<Health>) -> Result<DbReader, Failed> {
        let meta = schema::read(txn, health)?;
        let mut tables = Vec::with_capacity(meta.all().len());
        for table in meta.all() {
            tables.push(txn.open_table(definition(*table))?);
        }
        Ok(DbReader { meta, tables, health: Arc::clone(health) })
    }

    /// What the database says of itself at this moment.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The row stored under `key`.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if it is not what was stored; [`StoreError::Io`]; [`StoreError::Busy`] if the
    /// database was closed or opened anew since.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let Some(opened) = self.tables.get(slot(table)) else { return Ok(None) };
        self.health.run("get", || match opened.get(key)? {
            Some(value) => Ok(Some(self.open(table, key, value.value())?.to_vec())),
            None => Ok(None),
        })
    }

    /// True if a row is stored under `key`; the row itself is not looked at.
    ///
    /// # Errors
    /// As [`DbReader::get`].
    pub fn contains(&self, table: Table, key: &[u8]) -> Result<bool> {
        let Some(opened) = self.tables.get(slot(table)) else { return Ok(false) };
        self.health.run("get", || Ok(opened.get(key)?.is_some()))
    }

    /// The rows with keys between the bounds, in key order.
    ///
    /// # Errors
    /// As [`DbReader::get`].
    pub fn range(&self, table: Table, start: Bound<&[u8]>, end: Bound<&[u8]>) -> Result<DbRange<'_>> {
        let empty = match (start, end) {
            (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) => a > b,
            _ => false,
        };
        let opened = self.tables.get(slot(table)).filter(|_| !empty);
        let range = opened.map(|opened| self.health.run("range", || Ok(opened.range::<&[u8]>((start, end))?)));
        let range = range.transpose()?;
        Ok(DbRange { reader: self, table, range })
    }

    /// Whether its schema has this table; one that it does not have is empty.
    #[must_use]
    pub fn has(&self, table: Table) -> bool {
        self.meta.has(table)
    }

    pub(super) fn file(&self) -> &str {
        self.health.file()
    }

    fn open<'a>(&self, table: Table, key: &[u8], value: &'a [u8]) -> Result<&'a [u8]> {
        envelope::open(table as u8, key, value).map_err(|broken| broken_row(self.file(), table, key, &broken))
    }
}

impl Rows for DbReader {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        DbReader::get(self, table, key)
    }

    fn scan(
        &self,
        table: Table,
        start: Bound<&[u8]>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        for row in self.range(table, start, Bound::Unbounded)? {
            let row = row?;
            if each(row.key(), row.row()).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn contains(&self, table: Table, key: &[u8]) -> Result<bool> {
        DbReader::contains(self, table, key)
    }

    fn has(&self, table: Table) -> bool {
        DbReader::has(self, table)
    }
}

/// Rows of one table in key order. A row that fails its checksum is an error, after which the next rows follow; after
/// any other error nothing follows.
pub struct DbRange<'a> {
    reader: &'a DbReader,
    table: Table,
    range: Option<redb::Range<'static, &'static [u8], &'static [u8]>>,
}

impl std::fmt::Debug for DbRange<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DbRange").field("table", &self.table).finish_non_exhaustive()
    }
}

impl DbRange<'_> {
    /// The next entry with its checksum unseen.
    pub(super) fn next_unchecked(&mut self) -> Option<Result<DbRow>> {
        let range = self.range.as_mut()?;
        let next = self.reader.health.run("range", || {
            let Some((key, value)) = range.next().transpose()? else { return Ok(None) };
            // Where they lie in their page is computed at each look; a look that panics on damage does it here.
            let _ = (key.value(), value.value());
            Ok(Some(DbRow { key, value }))
        });
        match next {
            Ok(row) => row.map(Ok),
            Err(e) => {
                self.range = None;
                Some(Err(e))
            }
        }
    }
}

impl Iterator for DbRange<'_> {
    type Item = Result<DbRow>;

    fn next(&mut self) -> Option<Result<DbRow>> {
        let row = match self.next_unchecked()? {
            Ok(row) => row,
            Err(e) => return Some(Err(e)),
        };
        Some(match row.check(self.table) {
            Ok(_) => Ok(row),
            Err(broken) => Err(broken_row(self.reader.file(), self.table, row.key(), &broken)),
        })
    }
}

/// One row, still where the database holds it.
pub struct DbRow {
    key: Guard,
    value: Guard,
}

impl std::fmt::Debug for DbRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DbRow").field("key", &show_key(self.key())).finish_non_exhaustive()
    }
}

impl DbRow {
    /// Its key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.key.value()
    }

    /// The encoded row.
    #[must_use]
    pub fn row(&self) -> &[u8] {
        let value = self.value.value();
        // A row is handed out only after its envelope was opened, so it is at least that long.
        value.get(1..value.len().saturating_sub(envelope::OVERHEAD - 1)).unwrap_or_default()
    }

    pub(super) fn check(&self, table: Table) -> Result<&[u8], envelope::Broken> {
        envelope::open(table as u8, self.key(), self.value.value())
    }
}

/// A key for messages: printable, at most some 100 characters.
pub(super) fn show_key(key: &[u8]) -> String {
    let shown = key.iter().take(96).copied().collect::<Vec<u8>>().escape_ascii().to_string();
    if key.len() > 96 { format!("{shown}... ({} bytes)", key.len()) } else { shown }
}

pub(super) fn broken_row(file: &str, table: Table, key: &[u8], broken: &envelope::Broken) -> StoreError {
    let what = format!("row of table {}, key {}", table.name(), show_key(key));
    match broken {
        envelope::Broken::Version(_) => StoreError::Foreign {
            file: file.to_owned(),
            what: "envelope of a row",
            found: format!("{} ({what})", broken.found()),
            expected: broken.expected(),
        },
        _ => super::corrupt(file, &what, broken.found(), &broken.expected()),
    }
}
