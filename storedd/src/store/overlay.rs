//! The overlay: the newest states of every row changed since the last checkpoint, in memory, in key order.
//!
//! # Purpose
//! Commits must not wait for the database file, readers must not wait for commits, and a reader must see one moment.
//!
//! # Form
//! For each table an ordered map from key to the versions of its row, each with the LSN that made it; a version is a row
//! or "gone". A reader at LSN n takes the newest version with an LSN at or below n. The first bytes of a key stand
//! beside it as one number ([`head`]), so that a search compares numbers and looks at the bytes of a key or two.
//!
//! # Operation
//! The planner inserts the versions of a transaction as soon as it is planned; they are invisible, because every view
//! reads at a *published* LSN and that moves only after the log was synced. A checkpoint takes a whole overlay (it is
//! *frozen*: nothing is inserted any more), writes the newest version of each key to the database, and drops it.
//!
//! What a start replayed from the log, often millions of rows at once, lies under the maps in a form of its own that never changes
//! (see `sorted`).
//!
//! A table is locked for one insert, one lookup, or one piece of a walk ([`PIECE_MAX`] rows), never across two calls.
//!
//! # Invariants
//! * Only one thread inserts at a time (the one that holds the planner).
//! * LSNs of one overlay are above those of the overlay frozen before it, and never fall for a key.

use super::names::{Hash, Names};
use super::sorted::Sorted;
use crate::lsn::Lsn;
use crate::model::Table;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

type Version = Option<Box<[u8]>>;
/// A row's place and newest version.
pub(crate) type Newest = (Table, Box<[u8]>, Version);
type Rows = BTreeMap<Key, Versions>;

/// What an entry costs beside its bytes: its place in a node of the map, two allocations.
const ENTRY_OVERHEAD_BYTES: usize = 144;
/// What the first piece of a walk holds, and the largest.
const PIECE_MIN: usize = 16;
const PIECE_MAX: usize = 256;

/// A key with its first bytes as a number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    head: u128,
    bytes: Box<[u8]>,
}

impl Key {
    fn of(bytes: &[u8]) -> Key {
        Key { head: head(bytes), bytes: bytes.into() }
    }
}

/// A number that orders keys as their bytes do, as far as it tells them apart. Most keys begin with `user` 0x01: the
/// number is taken from what follows.
pub(super) fn head(key: &[u8]) -> u128 {
    const COMMON: &[u8] = b"user\x01";
    let (class, rest) = match key.strip_prefix(COMMON) {
        Some(rest) => (1, rest),
        None if key < COMMON => (0, key),
        None => (2, key),
    };
    let mut bytes = [0u8; 16];
    let len = rest.len().min(16);
    bytes[..len].copy_from_slice(&rest[..len]);
    class << 126 | u128::from_be_bytes(bytes) >> 2
}

/// What a row was, newest first.
#[derive(Debug)]
struct Versions {
    lsn: Lsn,
    row: Version,
    /// Oldest first.
    older: Vec<(Lsn, Version)>,
}

impl Versions {
    fn at(&self, at: Lsn) -> Option<&Version> {
        if self.lsn <= at {
            return Some(&self.row);
        }
        self.older.iter().rev().find(|(lsn, _)| *lsn <= at).map(|(_, row)| row)
    }
}

/// Row versions in memory; see the page.
pub(crate) struct Overlay {
    tables: [RwLock<Rows>; Table::IN_MEMORY.len()],
    /// What a replay brought: older than all in `tables`, and visible to every view.
    replayed: Sorted,
    /// To where it led.
    replayed_upto: Lsn,
    entries: AtomicUsize,
    bytes: AtomicUsize,
    names: Names,
}

impl std::fmt::Debug for Overlay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Overlay").field("entries", &self.entries()).field("bytes", &self.bytes()).finish()
    }
}

impl Overlay {
    /// An empty overlay that will hold about `bytes`; more is fine, but slower to look into.
    pub(crate) fn sized(bytes: usize) -> Overlay {
        Overlay {
            tables: Default::default(),
            replayed: Sorted::default(),
            replayed_upto: Lsn::ZERO,
            entries: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            names: Names::sized(bytes / 192),
        }
    }

    /// This overlay, into which nothing was inserted yet, on top of `rows`, whose names it has noted, and which a replay brought that led to
    /// `upto`.
    pub(super) fn starting_with(self, rows: Sorted, upto: Lsn) -> Overlay {
        debug_assert!(self.is_empty(), "what was inserted before is not counted");
        let (entries, bytes) = (AtomicUsize::new(rows.len()), AtomicUsize::new(rows.bytes()));
        Overlay { replayed: rows, replayed_upto: upto, entries, bytes, ..self }
    }

    /// These rows and no others, from a replay that led to `upto`.
    pub(super) fn of(rows: Sorted, upto: Lsn) -> Overlay {
        let overlay = Overlay::sized(rows.bytes());
        for table in Table::IN_MEMORY {
            rows.range(table, Bound::Unbounded).for_each(|(key, _)| overlay.names.note(table, key));
        }
        overlay.starting_with(rows, upto)
    }

    fn rows(&self, table: Table) -> RwLockReadGuard<'_, Rows> {
        self.tables[table as usize - 1].read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Inserts the version that a key has from `lsn` on; `None`: the row is gone. A second version at the same LSN
    /// (one transaction that touches a row twice) replaces the first.
    pub(crate) fn insert(&self, table: Table, key: &[u8], lsn: Lsn, row: Option<&[u8]>) {
        self.names.note(table, key);
        let row: Version = row.map(Into::into);
        let mut grown = row.as_ref().map_or(0, |r| r.len());
        let mut rows = self.tables[table as usize - 1].write().unwrap_or_else(PoisonError::into_inner);
        match rows.entry(Key::of(key)) {
            Entry::Vacant(place) => {
                grown += key.len() + ENTRY_OVERHEAD_BYTES;
                place.insert(Versions { lsn, row, older: Vec::new() });
            }
            Entry::Occupied(mut place) => {
                let versions = place.get_mut();
                debug_assert!(versions.lsn <= lsn, "LSNs never fall for a key");
                let before = (std::mem::replace(&mut versions.lsn, lsn), std::mem::replace(&mut versions.row, row));
                if before.0 < lsn {
                    grown += size_of_val(&before);
                    versions.older.push(before);
                }
            }
        }
        drop(rows);
        self.entries.fetch_add(1, Relaxed);
        self.bytes.fetch_add(grown, Relaxed);
    }

    /// The version of a key at `at`: `None` if this overlay says nothing of it, `Some(None)` if the row is gone.
    pub(crate) fn get(&self, table: Table, key: &[u8], hash: Hash, at: Lsn) -> Option<Option<Vec<u8>>> {
        self.with_version(table, key, hash, at, |row| row.map(<[u8]>::to_vec))
    }

    /// To where the replay led that brought the version of a key at `at`; `None` if a later change made it, or this overlay says nothing
    /// of it.
    pub(crate) fn replayed_upto(&self, table: Table, key: &[u8], at: Lsn) -> Option<Lsn> {
        let is_newer = self.rows(table).get(&Key::of(key)).is_some_and(|versions| versions.at(at).is_some());
        (!is_newer && self.replayed.get(table, key).is_some()).then_some(self.replayed_upto)
    }

    /// As [`Overlay::get`] without copying the row.
    pub(crate) fn contains(&self, table: Table, key: &[u8], hash: Hash, at: Lsn) -> Option<bool> {
        self.with_version(table, key, hash, at, |row| row.is_some())
    }

    fn with_version<R>(
        &self,
        table: Table,
        key: &[u8],
        hash: Hash,
        at: Lsn,
        f: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Option<R> {
        if !self.names.maybe(hash) {
            return None;
        }
        let place = Key::of(key);
        if let Some(row) = self.rows(table).get(&place).and_then(|versions| versions.at(at)) {
            return Some(f(row.as_deref()));
        }
        self.replayed.get(table, key).map(f)
    }

    /// Which names were ever inserted.
    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// The newest versions at `at` of one table's keys from `start` on, in key order, "gone" included.
    pub(crate) fn range(&self, table: Table, start: Bound<&[u8]>, at: Lsn) -> Cursor<'_> {
        let piece = Vec::new().into_iter();
        let mut cursor =
            Cursor { overlay: self, table, at, next: start.map(Key::of), piece, size: PIECE_MIN, current: None };
        cursor.advance();
        cursor
    }

    /// The newest version at or below `at` of every key of the database's tables, in (table, key) order.
    pub(crate) fn newest(&self, at: Lsn) -> impl Iterator<Item = Newest> + '_ {
        Table::ALL.into_iter().flat_map(move |table| {
            let mut cursor = self.range(table, Bound::Unbounded, at);
            cursor.size = PIECE_MAX;
            std::iter::from_fn(move || {
                let (key, row) = cursor.current.take()?;
                cursor.advance();
                Some((table, key, row))
            })
        })
    }

    /// Bytes held, bookkeeping included, as the checkpoint trigger counts them.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    /// Versions inserted.
    pub(crate) fn entries(&self) -> usize {
        self.entries.load(Relaxed)
    }

    /// True if nothing was inserted.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries() == 0
    }
}

/// A key and its row, copied out of the map; `None`: it is gone.
type Copied = (Box<[u8]>, Version);

/// A walk over one table of an overlay at one LSN; each key once. It copies a piece at a time, so that it holds no lock
/// while its user thinks.
pub(crate) struct Cursor<'a> {
    overlay: &'a Overlay,
    table: Table,
    at: Lsn,
    /// Where the next piece begins.
    next: Bound<Key>,
    piece: std::vec::IntoIter<Copied>,
    size: usize,
    current: Option<Copied>,
}

impl Cursor<'_> {
    /// The key stood on; `None` at the end.
    pub(crate) fn key(&self) -> Option<&[u8]> {
        self.current.as_ref().map(|(key, _)| &**key)
    }

    /// Calls `f` with the key and row stood on.
    pub(crate) fn with_current<R>(&self, f: impl FnOnce(&[u8], Option<&[u8]>) -> R) -> Option<R> {
        self.current.as_ref().map(|(key, row)| f(key, row.as_deref()))
    }

    /// Goes to the next key that has a version at this LSN.
    pub(crate) fn advance(&mut self) {
        self.current = self.piece.next();
        if self.current.is_none() && !matches!(self.next, Bound::Excluded(Key { head: u128::MAX, .. })) {
            self.fill();
            self.current = self.piece.next();
        }
    }

    fn fill(&mut self) {
        let rows = self.overlay.rows(self.table);
        let start = self.next.as_ref();
        let upper = rows.range((start, Bound::Unbounded));
        let upper = upper.filter_map(|(key, versions)| Some((&*key.bytes, versions.at(self.at)?.as_deref())));
        let lower = self.overlay.replayed.range(self.table, start.map(|key| &*key.bytes));
        let piece: Vec<Copied> =
            merged(upper, lower).take(self.size).map(|(key, row)| (key.into(), row.map(Into::into))).collect();
        drop(rows);
        let last = piece.last().filter(|_| piece.len() == self.size).map(|(key, _)| Key::of(key));
        // No key has this head: its class is 3.
        self.next = Bound::Excluded(last.unwrap_or(Key { head: u128::MAX, bytes: Box::default() }));
        self.size = (self.size * 2).min(PIECE_MAX);
        self.piece = piece.into_iter();
    }
}

/// A key and its row where they lie.
type Lying<'a> = (&'a [u8], Option<&'a [u8]>);

/// Two walks as one, each key once; the upper one says what its row is.
fn merged<'a>(
    upper: impl Iterator<Item = Lying<'a>>,
    lower: impl Iterator<Item = Lying<'a>>,
) -> impl Iterator<Item = Lying<'a>> {
    let (mut upper, mut lower) = (upper.peekable(), lower.peekable());
    std::iter::from_fn(move || match (upper.peek(), lower.peek()) {
        (Some((above, _)), Some((below, _))) => match above.cmp(below) {
            Ordering::Less => upper.next(),
            Ordering::Greater => lower.next(),
            Ordering::Equal => {
                lower.next();
                upper.next()
            }
        },
        (None, _) => lower.next(),
        (_, None) => upper.next(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::names::hash;

    fn get(o: &Overlay, table: Table, key: &[u8], at: Lsn) -> Option<Option<Vec<u8>>> {
        let found = o.get(table, key, hash(table, key), at);
        assert_eq!(o.contains(table, key, hash(table, key), at), found.as_ref().map(Option::is_some));
        found
    }

    fn rows(overlay: &Overlay, table: Table, start: Bound<&[u8]>, at: u64) -> Vec<(String, Option<String>)> {
        let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap();
        let mut cursor = overlay.range(table, start, Lsn(at));
        let mut out = Vec::new();
        while let Some(item) = cursor.with_current(|k, r| (text(k), r.map(text))) {
            out.push(item);
            cursor.advance();
        }
        out
    }

    #[test]
    fn a_reader_sees_the_newest_version_at_or_below_its_lsn() {
        let o = Overlay::sized(1 << 16);
        o.insert(Table::Users, b"a", Lsn(5), Some(b"five"));
        o.insert(Table::Users, b"a", Lsn(9), None);
        o.insert(Table::Users, b"a\x01b", Lsn(7), Some(b"child"));
        o.insert(Table::Mailboxes, b"a", Lsn(6), Some(b"other table"));
        assert_eq!(get(&o, Table::Users, b"a", Lsn(4)), None);
        assert_eq!(get(&o, Table::Users, b"a", Lsn(5)), Some(Some(b"five".to_vec())));
        assert_eq!(get(&o, Table::Users, b"a", Lsn(8)), Some(Some(b"five".to_vec())));
        assert_eq!(get(&o, Table::Users, b"a", Lsn(9)), Some(None));
        assert_eq!(get(&o, Table::Users, b"a\x01", Lsn(9)), None);
        let five = || ("a".to_owned(), Some("five".to_owned()));
        let child = || ("a\x01b".to_owned(), Some("child".to_owned()));
        assert_eq!(rows(&o, Table::Users, Bound::Unbounded, 8), [five(), child()]);
        assert_eq!(rows(&o, Table::Users, Bound::Excluded(b"a"), 8), [child()]);
        assert_eq!(rows(&o, Table::Users, Bound::Included(b"a"), 6), [five()]);
        assert_eq!(rows(&o, Table::Users, Bound::Unbounded, 9), [("a".to_owned(), None), child()]);
        let newest: Vec<_> = o.newest(Lsn(9)).collect();
        assert_eq!(newest.len(), 3);
        assert_eq!(newest[2], (Table::Mailboxes, Box::from(*b"a"), Some(Box::from(*b"other table"))));
    }

    #[test]
    fn a_key_that_was_inserted_is_always_seen() {
        let o = Overlay::sized(1 << 12);
        for n in 0..5000u32 {
            o.insert(Table::Users, format!("user{n}").as_bytes(), Lsn(1), Some(b"row"));
        }
        assert!((0..5000u32).all(|n| get(&o, Table::Users, format!("user{n}").as_bytes(), Lsn(1)).is_some()));
        assert_eq!(get(&o, Table::Mailboxes, b"user1", Lsn(1)), None);
    }

    #[test]
    fn long_keys_work_like_short_ones() {
        let o = Overlay::sized(1 << 16);
        let key = vec![b'x'; 1000];
        o.insert(Table::Users, &key, Lsn(1), Some(b"row"));
        assert_eq!(get(&o, Table::Users, &key, Lsn(1)), Some(Some(b"row".to_vec())));
        assert_eq!(get(&o, Table::Users, &key[1..], Lsn(1)), None);
    }

    // Keys with and without the common beginning, with equal heads, longer than a head, across pieces of a walk.
    #[test]
    fn a_walk_shows_every_key_once_in_order() {
        let mut expected = std::collections::BTreeMap::new();
        let o = Overlay::sized(1 << 16);
        let mut seed = 5u64;
        for n in 0..3000u64 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let number = seed >> 52;
            let key = match seed % 4 {
                0 => format!("user\u{1}same-beginning-{number}"),
                1 => format!("user\u{1}{number}\u{1}INBOX"),
                2 => format!("user{number}"),
                _ => format!("shared\u{1}\u{fc}{number}"),
            };
            o.insert(Table::Mailboxes, key.as_bytes(), Lsn(n + 1), Some(&n.to_be_bytes()));
            expected.insert(key, n);
        }
        let mut cursor = o.range(Table::Mailboxes, Bound::Unbounded, Lsn(5000));
        for (key, n) in &expected {
            let item = cursor.with_current(|k, r| (k.to_vec(), r.map(<[u8]>::to_vec)));
            assert_eq!(item, Some((key.clone().into_bytes(), Some(n.to_be_bytes().to_vec()))));
            cursor.advance();
        }
        assert_eq!(cursor.key(), None);
        for key in expected.keys() {
            let after = expected.range::<str, _>((Bound::Excluded(key.as_str()), Bound::Unbounded)).next();
            let cursor = o.range(Table::Mailboxes, Bound::Excluded(key.as_bytes()), Lsn(5000));
            assert_eq!(cursor.key(), after.map(|(key, _)| key.as_bytes()));
        }
    }
}
