//! Views: one consistent moment of the whole database.
//!
//! A view is a published LSN and a [`Base`]: the overlay that takes the newest changes, the overlays a checkpoint is
//! writing down, and a read transaction of the database. A row is looked for in that order. Making a view copies two
//! pointers and a number; it holds no lock and stops nobody.
//!
//! A view keeps the database pages of its moment from being reused, so it is for one request, not for hours.

use super::names::{self, Names};
use super::overlay::{Cursor, Overlay};
use crate::db::{DbRange, DbReader, DbRow};
use crate::error::Result;
use crate::lsn::Lsn;
use crate::model::table::EachRow;
use crate::model::{Rows, Table};
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

/// An overlay that a checkpoint writes down, up to `upto`.
#[derive(Debug, Clone)]
pub(crate) struct Frozen {
    pub(crate) overlay: Arc<Overlay>,
    pub(crate) upto: Lsn,
}

/// What a view reads from; replaced as a whole when a checkpoint begins and ends.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) active: Arc<Overlay>,
    pub(crate) frozen: Option<Frozen>,
    pub(crate) db: Arc<DbReader>,
    /// Which rows the database holds, as soon as that is known.
    pub(crate) names: Option<Arc<Names>>,
}

impl Base {
    /// True if the database itself, whatever the overlays say, holds the row.
    pub(crate) fn database_contains(&self, table: Table, key: &[u8]) -> Result<bool> {
        Ok(self.database_may_hold(table, names::hash(table, key)) && self.db.contains(table, key)?)
    }

    /// False only if the database holds no such row of this table.
    fn database_may_hold(&self, table: Table, hash: names::Hash) -> bool {
        table.is_stored()
            && self.db.meta().table(table).rows > 0
            && self.names.as_ref().is_none_or(|names| names.maybe(hash))
    }
}

/// One consistent moment.
#[derive(Debug, Clone)]
pub struct View {
    pub(crate) base: Arc<Base>,
    pub(crate) at: Lsn,
}

impl View {
    /// The LSN this view shows.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.at
    }

    /// The moment right behind an earlier LSN; `None` if it is not visible in this view, or if a checkpoint was made
    /// since, which keeps the newest versions only.
    #[must_use]
    pub fn earlier(&self, lsn: Lsn) -> Option<View> {
        let frozen = self.base.frozen.as_ref().map(|f| f.upto);
        let oldest = frozen.unwrap_or(self.base.db.meta().applied_lsn);
        (oldest <= lsn && lsn <= self.at).then(|| View { base: self.base.clone(), at: lsn })
    }

    /// The database below the overlays, as of the last checkpoint.
    #[must_use]
    pub fn database(&self) -> &DbReader {
        &self.base.db
    }

    /// Every row from `start` on, in front of `end`, merged from all layers. Ends there although a layer holds nothing but
    /// rows that are gone: there may be a million of them.
    fn walk(&self, table: Table, start: Bound<&[u8]>, end: Option<&[u8]>, each: EachRow<'_>) -> Result<()> {
        let mut upper: Vec<Cursor<'_>> =
            self.overlays().filter(|o| !o.is_empty()).map(|o| o.range(table, start, self.at)).collect();
        let mut lower = match table.is_stored() {
            true => DbCursor::new(self.base.db.range(table, start, Bound::Unbounded)?)?,
            false => DbCursor::empty(),
        };
        loop {
            // The smallest key that any layer stands on; the first layer that has it says what it is.
            let newest = upper.iter().enumerate().filter_map(|(i, c)| Some((c.key()?, i))).min();
            let Some(key) = newest.map(|(key, _)| key).into_iter().chain(lower.key()).min() else { return Ok(()) };
            if end.is_some_and(|end| key >= end) {
                return Ok(());
            }
            let Some((_, layer)) = newest.filter(|(newest, _)| *newest == key) else {
                if let Some(row) = &lower.current
                    && each(row.key(), row.row()).is_break()
                {
                    return Ok(());
                }
                lower.advance()?;
                continue;
            };
            let key = key.to_vec();
            let flow = upper[layer].with_current(|k, row| row.map_or(ControlFlow::Continue(()), |row| each(k, row)));
            if flow.is_some_and(|f| f.is_break()) {
                return Ok(());
            }
            for cursor in &mut upper {
                if cursor.key() == Some(key.as_slice()) {
                    cursor.advance();
                }
            }
            if lower.key() == Some(key.as_slice()) {
                lower.advance()?;
            }
        }
    }

    fn overlays(&self) -> impl Iterator<Item = &Overlay> {
        std::iter::once(&*self.base.active).chain(self.base.frozen.iter().map(|f| &*f.overlay))
    }
}

impl Rows for View {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let hash = names::hash(table, key);
        for overlay in self.overlays() {
            if let Some(version) = overlay.get(table, key, hash, self.at) {
                return Ok(version);
            }
        }
        if self.base.database_may_hold(table, hash) { self.base.db.get(table, key) } else { Ok(None) }
    }

    fn contains(&self, table: Table, key: &[u8]) -> Result<bool> {
        let hash = names::hash(table, key);
        for overlay in self.overlays() {
            if let Some(there) = overlay.contains(table, key, hash, self.at) {
                return Ok(there);
            }
        }
        Ok(self.base.database_may_hold(table, hash) && self.base.db.contains(table, key)?)
    }

    fn has(&self, table: Table) -> bool {
        !table.is_stored() || self.base.db.has(table)
    }

    fn indexed_upto(&self) -> Lsn {
        self.base.db.meta().applied_lsn
    }

    fn may_lie_below(&self, mailbox: &[u8]) -> bool {
        let hash = names::below(mailbox);
        self.base.database_may_hold(Table::Mailboxes, hash) || self.overlays().any(|o| o.names().maybe(hash))
    }

    fn scan(&self, table: Table, start: Bound<&[u8]>, each: EachRow<'_>) -> Result<()> {
        self.walk(table, start, None, each)
    }

    fn scan_until(&self, table: Table, start: Bound<&[u8]>, end: &[u8], each: EachRow<'_>) -> Result<()> {
        self.walk(table, start, Some(end), each)
    }
}

struct DbCursor<'a> {
    /// `None`: the database has no such table.
    range: Option<DbRange<'a>>,
    current: Option<DbRow>,
}

impl<'a> DbCursor<'a> {
    fn new(mut range: DbRange<'a>) -> Result<DbCursor<'a>> {
        let current = range.next().transpose()?;
        Ok(DbCursor { range: Some(range), current })
    }

    fn empty() -> DbCursor<'a> {
        DbCursor { range: None, current: None }
    }

    fn key(&self) -> Option<&[u8]> {
        self.current.as_ref().map(DbRow::key)
    }

    fn advance(&mut self) -> Result<()> {
        self.current = self.range.as_mut().and_then(Iterator::next).transpose()?;
        Ok(())
    }
}
