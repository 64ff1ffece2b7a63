//! Rows as they will be: the rows of one moment and the changes planned on top of them.

use super::{Plan, refuse};
use crate::error::Result;
use crate::model::rows::Row;
use crate::model::table::EachRow;
use crate::model::{Change, Rows, Table, Transaction};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

/// What a change costs in a record beside its key and row, at most: tags and lengths.
const CHANGE_BYTES: usize = 16;

/// New state by key; `None`: the row goes.
type Changed = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A key and its row.
pub(super) type Pair = (Vec<u8>, Vec<u8>);

pub(super) struct Draft<'a> {
    rows: &'a dyn Rows,
    changed: [Changed; Table::ALL.len()],
    bytes: usize,
    bytes_max: usize,
}

impl<'a> Draft<'a> {
    pub(super) fn new(rows: &'a dyn Rows, bytes_max: usize) -> Draft<'a> {
        Draft { rows, changed: Default::default(), bytes: 0, bytes_max }
    }

    fn changed(&self, table: Table) -> &Changed {
        &self.changed[table as usize - 1]
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        match self.changed(table).get(key) {
            Some(row) => Ok(row.clone()),
            None => self.rows.get(table, key),
        }
    }

    pub(super) fn contains(&self, table: Table, key: &[u8]) -> Result<bool> {
        match self.changed(table).get(key) {
            Some(row) => Ok(row.is_some()),
            None => self.rows.contains(table, key),
        }
    }

    /// The decoded row under `key`.
    pub(super) fn read<R: Row>(&self, key: &[u8]) -> Result<Option<R>> {
        self.get(R::TABLE, key)?.map(|row| R::decode(key, &row)).transpose()
    }

    pub(super) fn put<R: Row>(&mut self, key: Vec<u8>, row: &R) -> Plan<()> {
        let row = row.encode()?;
        self.set(R::TABLE, key, Some(row))
    }

    pub(super) fn remove(&mut self, table: Table, key: Vec<u8>) -> Plan<()> {
        self.set(table, key, None)
    }

    fn set(&mut self, table: Table, key: Vec<u8>, row: Option<Vec<u8>>) -> Plan<()> {
        self.bytes += row.as_ref().map_or(0, Vec::len);
        let key_bytes = key.len();
        match self.changed[table as usize - 1].insert(key, row) {
            Some(before) => self.bytes -= before.map_or(0, |row| row.len()),
            None => self.bytes += CHANGE_BYTES + key_bytes,
        }
        if self.bytes > self.bytes_max { Err(refuse::too_large(self.bytes_max)) } else { Ok(()) }
    }

    /// All rows with `start <= key < end`, in order. Refused where they are more than a transaction could change.
    pub(super) fn range(&self, table: Table, start: &[u8], end: &[u8]) -> Plan<Vec<Pair>> {
        let mut found: Vec<Pair> = Vec::new();
        let mut bytes = 0;
        self.scan(table, start, &mut |key, row| {
            if key >= end || bytes > self.bytes_max {
                return ControlFlow::Break(());
            }
            bytes += key.len() + row.len();
            found.push((key.to_vec(), row.to_vec()));
            ControlFlow::Continue(())
        })?;
        if bytes > self.bytes_max { Err(refuse::too_large(self.bytes_max)) } else { Ok(found) }
    }

    /// [`Rows::scan`] over what will be.
    pub(super) fn scan(&self, table: Table, start: &[u8], each: EachRow<'_>) -> Result<()> {
        let start = Bound::Included(start);
        let mut planned = self.changed(table).range::<[u8], _>((start, Bound::Unbounded)).peekable();
        if planned.peek().is_none() {
            return self.rows.scan(table, start, each);
        }
        let mut ended = ControlFlow::Continue(());
        self.rows.scan(table, start, &mut |key, row| {
            while let Some((k, r)) = planned.next_if(|(k, _)| k.as_slice() < key) {
                if let Some(r) = r {
                    ended = each(k, r);
                    if ended.is_break() {
                        return ended;
                    }
                }
            }
            ended = match planned.next_if(|(k, _)| k.as_slice() == key) {
                Some((_, Some(changed))) => each(key, changed),
                Some((_, None)) => ControlFlow::Continue(()),
                None => each(key, row),
            };
            ended
        })?;
        for (key, row) in planned {
            if ended.is_break() {
                break;
            }
            if let Some(row) = row {
                ended = each(key, row);
            }
        }
        Ok(())
    }

    /// The transaction: one change a key, in order of table and key.
    pub(super) fn finish(self) -> Transaction {
        let count = self.changed.iter().map(BTreeMap::len).sum();
        let mut changes = Vec::with_capacity(count);
        for (table, changed) in Table::ALL.into_iter().zip(self.changed) {
            changes.extend(changed.into_iter().map(|(key, row)| match row {
                Some(row) => Change::Put { table, key: Cow::Owned(key), row: Cow::Owned(row) },
                None => Change::Remove { table, key: Cow::Owned(key) },
            }));
        }
        changes
    }
}
