//! The overlay: the newest states of every row changed since the last checkpoint, in memory, in key order.
//!
//! # Purpose
//! Commits must not wait for the database file, readers must not wait for commits, and a reader must see one moment.
//!
//! # Form
//! An ordered concurrent map from (table, key, LSN) to a row, or to "gone". The three are one byte string,
//! `table | key | 0x00 | !lsn (big endian)`, so that the versions of a key lie side by side, newest first, and keys keep
//! their order (no key holds a zero byte). A reader at LSN n takes the first version with an LSN at or below n.
//!
//! # Operation
//! The planner inserts the versions of a transaction as soon as it is planned; they are invisible, because every view
//! reads at a *published* LSN and that moves only after the log was synced. A checkpoint takes a whole overlay (it is
//! *frozen*: nothing is inserted any more), writes the newest version of each key to the database, and drops it.
//!
//! Most lookups of the planner are for keys that no overlay holds (is this name free?). A set of hash bits answers them
//! without a walk: a key whose bits are not all set was never inserted.
//!
//! # Invariants
//! * Only one thread inserts at a time (the one that holds the planner).
//! * LSNs of one overlay are above those of the overlay frozen before it.

use crate::lsn::Lsn;
use crate::model::Table;
use crossbeam_skiplist::SkipMap;
use crossbeam_skiplist::map::{Entry, Range};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

type Key = Box<[u8]>;
type Version = Option<Box<[u8]>>;

/// What an entry costs beside its bytes: node, tower, two allocations.
const ENTRY_OVERHEAD_BYTES: usize = 96;
const SUFFIX_BYTES: usize = 9;

/// Row versions in memory; see the page.
pub(crate) struct Overlay {
    map: SkipMap<Key, Version>,
    bytes: AtomicUsize,
    seen: Seen,
}

/// Which keys may be there: two bits a key. The hash is keyed at random, so nobody can choose names that collide.
struct Seen {
    bits: Box<[AtomicU64]>,
    keyed: RandomState,
}

impl Seen {
    /// For an overlay that grows to about `bytes`: some ten bits a key, a wrong "maybe" in some fifty.
    fn sized(bytes: usize) -> Seen {
        let bits = (bytes / 16).next_power_of_two().clamp(1 << 12, 1 << 26);
        Seen { bits: (0..bits / 64).map(|_| AtomicU64::new(0)).collect(), keyed: RandomState::new() }
    }

    /// Word and mask of a key's two bits.
    fn places(&self, table: Table, key: &[u8]) -> [(usize, u64); 2] {
        let mut hasher = self.keyed.build_hasher();
        hasher.write_u8(table as u8);
        hasher.write(key);
        let hash = hasher.finish();
        let words = self.bits.len() - 1;
        [hash, hash.rotate_left(32)].map(|h| ((h >> 6) as usize & words, 1 << (h & 63)))
    }

    fn note(&self, table: Table, key: &[u8]) {
        for (word, mask) in self.places(table, key) {
            self.bits[word].fetch_or(mask, Ordering::Relaxed);
        }
    }

    fn maybe(&self, table: Table, key: &[u8]) -> bool {
        self.places(table, key).iter().all(|(word, mask)| self.bits[*word].load(Ordering::Relaxed) & mask != 0)
    }
}

impl std::fmt::Debug for Overlay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Overlay").field("entries", &self.entries()).field("bytes", &self.bytes()).finish()
    }
}

fn encode(out: &mut Vec<u8>, table: Table, key: &[u8], lsn: Lsn) {
    out.push(table as u8);
    out.extend_from_slice(key);
    out.push(0);
    out.extend_from_slice(&(!lsn.0).to_be_bytes());
}

/// Runs `f` with the encoded key, on the stack when it is short (the usual case on the commit path).
fn with_encoded<R>(table: Table, key: &[u8], lsn: Lsn, f: impl FnOnce(&[u8]) -> R) -> R {
    let mut stack = [0u8; 192];
    let len = 1 + key.len() + SUFFIX_BYTES;
    if let Some(buffer) = stack.get_mut(..len) {
        buffer[0] = table as u8;
        buffer[1..=key.len()].copy_from_slice(key);
        buffer[1 + key.len()] = 0;
        buffer[2 + key.len()..].copy_from_slice(&(!lsn.0).to_be_bytes());
        f(buffer)
    } else {
        let mut heap = Vec::with_capacity(len);
        encode(&mut heap, table, key, lsn);
        f(&heap)
    }
}

/// The key part and the LSN of an encoded key.
fn decode(encoded: &[u8]) -> (&[u8], Lsn) {
    let (rest, lsn) = encoded.split_at(encoded.len() - 8);
    let lsn = u64::from_be_bytes(lsn.try_into().expect("eight bytes were split off"));
    (&rest[1..rest.len() - 1], Lsn(!lsn))
}

impl Overlay {
    /// An empty overlay that will hold about `bytes`; more is fine, but slower to look into.
    pub(crate) fn sized(bytes: usize) -> Overlay {
        Overlay { map: SkipMap::new(), bytes: AtomicUsize::new(0), seen: Seen::sized(bytes) }
    }

    /// Inserts the version that a key has from `lsn` on; `None`: the row is gone. A second version at the same LSN
    /// (one transaction that touches a row twice) replaces the first.
    pub(crate) fn insert(&self, table: Table, key: &[u8], lsn: Lsn, row: Option<&[u8]>) {
        debug_assert!(!key.contains(&0), "keys hold no zero byte");
        let mut encoded = Vec::with_capacity(1 + key.len() + SUFFIX_BYTES);
        encode(&mut encoded, table, key, lsn);
        let bytes = encoded.len() + row.map_or(0, <[u8]>::len) + ENTRY_OVERHEAD_BYTES;
        self.seen.note(table, key);
        self.map.insert(encoded.into_boxed_slice(), row.map(Into::into));
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The version of a key at `at`: `None` if this overlay says nothing of it, `Some(None)` if the row is gone.
    pub(crate) fn get(&self, table: Table, key: &[u8], at: Lsn) -> Option<Option<Vec<u8>>> {
        self.with_version(table, key, at, |row| row.map(<[u8]>::to_vec))
    }

    /// As [`Overlay::get`] without copying the row.
    pub(crate) fn contains(&self, table: Table, key: &[u8], at: Lsn) -> Option<bool> {
        self.with_version(table, key, at, |row| row.is_some())
    }

    fn with_version<R>(&self, table: Table, key: &[u8], at: Lsn, f: impl FnOnce(Option<&[u8]>) -> R) -> Option<R> {
        if !self.seen.maybe(table, key) {
            return None;
        }
        with_encoded(table, key, at, |encoded| {
            let entry = self.map.lower_bound(Bound::Included(encoded))?;
            let prefix = encoded.len() - 8;
            let found: &[u8] = entry.key();
            (found.len() == encoded.len() && found[..prefix] == encoded[..prefix]).then(|| f(entry.value().as_deref()))
        })
    }

    /// The newest versions at `at` of one table's keys from `start` on, in key order, "gone" included.
    pub(crate) fn range(&self, table: Table, start: Bound<&[u8]>, at: Lsn) -> Cursor<'_> {
        let mut from = Vec::new();
        match start {
            Bound::Included(key) => encode(&mut from, table, key, Lsn(u64::MAX)),
            // Behind every version of `key`: the suffix of LSN 0 is the largest.
            Bound::Excluded(key) => encode(&mut from, table, key, Lsn::ZERO),
            Bound::Unbounded => from.push(table as u8),
        }
        let low: Bound<Key> = match start {
            Bound::Excluded(_) => Bound::Excluded(from.into_boxed_slice()),
            _ => Bound::Included(from.into_boxed_slice()),
        };
        let high = Bound::Excluded(vec![table as u8 + 1].into_boxed_slice());
        let mut cursor = Cursor { range: self.map.range((low, high)), at, current: None };
        cursor.advance();
        cursor
    }

    /// Calls `each` with the newest version at or below `at` of every key, in (table, key) order.
    pub(crate) fn newest(&self, at: Lsn) -> impl Iterator<Item = (Table, Vec<u8>, Option<Vec<u8>>)> + '_ {
        Table::ALL.into_iter().flat_map(move |table| {
            let mut cursor = self.range(table, Bound::Unbounded, at);
            std::iter::from_fn(move || {
                let item = cursor.with_current(|key, row| (table, key.to_vec(), row.map(<[u8]>::to_vec)))?;
                cursor.advance();
                Some(item)
            })
        })
    }

    /// Bytes held, bookkeeping included, as the checkpoint trigger counts them.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Versions held.
    pub(crate) fn entries(&self) -> usize {
        self.map.len()
    }

    /// True if nothing was inserted.
    pub(crate) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }
}

/// A walk over one table of an overlay at one LSN; each key once.
pub(crate) struct Cursor<'a> {
    range: Range<'a, Key, (Bound<Key>, Bound<Key>), Key, Version>,
    at: Lsn,
    current: Option<Entry<'a, Key, Version>>,
}

impl Cursor<'_> {
    /// The key stood on; `None` at the end.
    pub(crate) fn key(&self) -> Option<&[u8]> {
        self.current.as_ref().map(|entry| decode(entry.key()).0)
    }

    /// Calls `f` with the key and row stood on.
    pub(crate) fn with_current<R>(&self, f: impl FnOnce(&[u8], Option<&[u8]>) -> R) -> Option<R> {
        self.current.as_ref().map(|entry| f(decode(entry.key()).0, entry.value().as_deref()))
    }

    /// Goes to the next key that has a version at this LSN.
    pub(crate) fn advance(&mut self) {
        let before = self.current.take();
        for entry in self.range.by_ref() {
            let (key, lsn) = decode(entry.key());
            let older_version = before.as_ref().is_some_and(|b| decode(b.key()).0 == key);
            if lsn <= self.at && !older_version {
                self.current = Some(entry);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(o.get(Table::Users, b"a", Lsn(4)), None);
        assert_eq!(o.get(Table::Users, b"a", Lsn(5)), Some(Some(b"five".to_vec())));
        assert_eq!(o.get(Table::Users, b"a", Lsn(8)), Some(Some(b"five".to_vec())));
        assert_eq!(o.get(Table::Users, b"a", Lsn(9)), Some(None));
        assert_eq!(o.get(Table::Users, b"a\x01", Lsn(9)), None);
        let five = || ("a".to_owned(), Some("five".to_owned()));
        let child = || ("a\x01b".to_owned(), Some("child".to_owned()));
        assert_eq!(rows(&o, Table::Users, Bound::Unbounded, 8), [five(), child()]);
        assert_eq!(rows(&o, Table::Users, Bound::Excluded(b"a"), 8), [child()]);
        assert_eq!(rows(&o, Table::Users, Bound::Included(b"a"), 6), [five()]);
        assert_eq!(rows(&o, Table::Users, Bound::Unbounded, 9), [("a".to_owned(), None), child()]);
        let newest: Vec<_> = o.newest(Lsn(9)).collect();
        assert_eq!(newest.len(), 3);
        assert_eq!(newest[2], (Table::Mailboxes, b"a".to_vec(), Some(b"other table".to_vec())));
    }

    #[test]
    fn a_key_that_was_inserted_is_always_seen() {
        let o = Overlay::sized(1 << 12);
        for n in 0..5000u32 {
            o.insert(Table::Users, format!("user{n}").as_bytes(), Lsn(1), Some(b"row"));
        }
        assert!((0..5000u32).all(|n| o.contains(Table::Users, format!("user{n}").as_bytes(), Lsn(1)) == Some(true)));
        assert_eq!(o.get(Table::Mailboxes, b"user1", Lsn(1)), None);
    }

    #[test]
    fn long_keys_work_like_short_ones() {
        let o = Overlay::sized(1 << 16);
        let key = vec![b'x'; 1000];
        o.insert(Table::Users, &key, Lsn(1), Some(b"row"));
        assert_eq!(o.get(Table::Users, &key, Lsn(1)), Some(Some(b"row".to_vec())));
        assert_eq!(o.get(Table::Users, &key[1..], Lsn(1)), None);
    }
}
