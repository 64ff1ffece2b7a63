//! Which mailboxes are looked at, and in which order.

use crate::error::Result;

use crate::model::pattern::Pattern;
use crate::model::rows::{MailboxRow, Row, TombstoneRow, split};
use crate::model::{Folder, Rows, Table};
use crate::store::{Store, View};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

/// Rows that are put in order together.
const PIECE: usize = 10_000;

/// Mailboxes, a piece at a time: those that there are, then those that were deleted and can be brought back.
#[derive(Debug)]
pub struct Scope {
    /// Names that match one of these; none: all.
    patterns: Vec<Pattern>,
    /// In this partition.
    partition: Option<String>,
    /// Behind this row.
    at: Option<(Table, Vec<u8>)>,
    done: bool,
    /// Rows that are put in order together.
    piece: usize,
}

impl Default for Scope {
    fn default() -> Scope {
        Scope::new(Vec::new(), None)
    }
}

/// Mailboxes of one home.
pub(super) struct Group {
    pub(super) of: Folder<'static>,
    pub(super) ids: Vec<u64>,
}

/// Mailboxes by partition and home.
type Homes = BTreeMap<(String, String), Vec<u64>>;

impl Scope {
    /// The mailboxes whose names match one of `patterns` (of all, if there is none), in `partition` if one is named.
    #[must_use]
    pub fn new(patterns: Vec<Pattern>, partition: Option<String>) -> Scope {
        Scope { patterns, partition, at: None, done: false, piece: PIECE }
    }

    /// All of them, behind where [`Scope::mark`] said.
    #[must_use]
    pub fn behind(mark: &str) -> Scope {
        let at = mark.split_once(' ').and_then(|(table, key)| {
            let table = [Table::Mailboxes, Table::Past].into_iter().find(|t| t.name() == table)?;
            Some((table, key.as_bytes().to_vec()))
        });
        Scope { at, ..Scope::default() }
    }

    /// None.
    pub(super) fn nothing() -> Scope {
        Scope { done: true, ..Scope::default() }
    }

    /// So many at a time, for whoever is to be able to go on from many a place.
    #[must_use]
    pub fn in_pieces_of(self, rows: usize) -> Scope {
        Scope { piece: rows.max(1), ..self }
    }

    /// Up to where all are done, as text without line breaks; empty at the beginning and at the end.
    #[must_use]
    pub fn mark(&self) -> String {
        let at = self.at.as_ref().filter(|_| !self.done);
        at.map(|(table, key)| format!("{} {}", table.name(), String::from_utf8_lossy(key))).unwrap_or_default()
    }

    /// The next mailboxes; `None`: that was all.
    pub(super) fn next(&mut self, store: &Store) -> Result<Option<Vec<Group>>> {
        if self.done {
            return Ok(None);
        }
        let (table, start) = self.at.take().unwrap_or((Table::Mailboxes, Vec::new()));
        let (view, mut homes, mut last, mut failed) = (store.view(), Homes::new(), None, Ok(()));
        let mut seen = 0;
        view.scan(table, Bound::Excluded(&start), &mut |key, row| {
            let wanted = match table {
                Table::Mailboxes => self.live(store, &view, key, row),
                _ => self.deleted(key, row),
            };
            match wanted {
                Ok(Some((of, id))) => homes.entry(of).or_default().push(id),
                Ok(None) => {}
                Err(e) => failed = Err(e),
            }
            seen += 1;
            if seen == self.piece || failed.is_err() {
                last = Some(key.to_vec());
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        failed?;
        match (last, table) {
            (Some(key), table) => self.at = Some((table, key)),
            (None, Table::Mailboxes) => self.at = Some((Table::Past, Vec::new())),
            (None, _) => self.done = true,
        }
        let group = |((partition, home), ids)| {
            let of = Folder { partition: Cow::Owned(partition), home: Cow::Owned(home), mailbox: 0 };
            Group { of, ids }
        };
        Ok(Some(homes.into_iter().map(group).collect()))
    }

    fn matches(&self, key: &[u8], partition: &str) -> bool {
        let by_name = || self.patterns.is_empty() || self.patterns.iter().any(|pattern| pattern.matches(key));
        self.partition.as_deref().is_none_or(|wanted| wanted == partition) && by_name()
    }

    fn live(&self, store: &Store, view: &View, key: &[u8], row: &[u8]) -> Result<Option<((String, String), u64)>> {
        let row = MailboxRow::decode(key, row)?;
        if !self.matches(key, &row.partition) {
            return Ok(None);
        }
        let of = store.folder(view, key, &row)?;
        Ok(Some(((of.partition.into_owned(), of.home.into_owned()), row.id)))
    }

    fn deleted(&self, key: &[u8], row: &[u8]) -> Result<Option<((String, String), u64)>> {
        let Some((name, _)) = split(key) else { return Ok(None) };
        let TombstoneRow { directory, mailbox, .. } = TombstoneRow::decode(key, row)?;
        let Some((home, _)) = directory.rsplit_once('/').filter(|_| self.matches(name, &mailbox.partition)) else {
            return Ok(None);
        };
        Ok(Some(((mailbox.partition, home.to_owned()), mailbox.id)))
    }
}
