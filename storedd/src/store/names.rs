//! Which names are taken, roughly: a set that may say "perhaps" of a name that is free, never "no" of one that is taken.
//!
//! # Purpose
//! Most lookups of the planner are for rows that are not there: is this name free, had it a UIDVALIDITY before, lies
//! anything below it. A few bits in memory answer them; without them each is a walk through the database.
//!
//! # Form
//! A Bloom filter in blocks of one word, so that a look costs one miss of the processor's cache: three bits of one word
//! for each key, twelve bits of room for each expected key; about one of thirty absent keys is looked up in vain. The hash is keyed at random for each process, so nobody can choose names that
//! collide. A mailbox is also noted under each mailbox name above it, in a table of its own ([`below`]).
//!
//! # Invariants
//! * A row that is in the map, or the file, that this set stands for is noted in it before anybody can look for it.
//! * Nothing is taken out; a set that has grown too full is built anew ([`Names::is_overfull`]).

use crate::model::Table;
use crate::model::name::SEPARATOR;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Room of a key in bits.
const BITS_PER_KEY: usize = 12;
/// Smallest and largest set in bits: 512 bytes, 512 MiB.
const BITS_MIN: usize = 1 << 12;
const BITS_MAX: usize = 1 << 32;
/// Stands for the table of "something lies below this mailbox".
const BELOW: u8 = 0xff;

/// A hashed key, good for every set of this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hash(u64);

/// The hash of a key in a table.
pub(crate) fn hash(table: Table, key: &[u8]) -> Hash {
    hashed(table as u8, key)
}

/// The hash under which mailboxes below this mailbox are noted.
pub(crate) fn below(key: &[u8]) -> Hash {
    hashed(BELOW, key)
}

fn hashed(table: u8, key: &[u8]) -> Hash {
    static KEYED: OnceLock<RandomState> = OnceLock::new();
    let mut hasher = KEYED.get_or_init(RandomState::new).build_hasher();
    hasher.write(key);
    hasher.write_u8(table);
    Hash(hasher.finish())
}

/// See the page.
pub(crate) struct Names {
    bits: Box<[AtomicU64]>,
    noted: AtomicUsize,
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let noted = self.noted.load(Ordering::Relaxed);
        f.debug_struct("Names").field("bytes", &(self.bits.len() * 8)).field("noted", &noted).finish()
    }
}

impl Names {
    /// An empty set for about `keys` keys.
    pub(crate) fn sized(keys: usize) -> Names {
        let bits = keys.saturating_mul(BITS_PER_KEY).clamp(BITS_MIN, BITS_MAX).next_power_of_two();
        Names { bits: (0..bits / 64).map(|_| AtomicU64::new(0)).collect(), noted: AtomicUsize::new(0) }
    }

    /// The word of a key, and its bits there.
    fn place(&self, hash: Hash) -> (&AtomicU64, u64) {
        let mask = 1 << (hash.0 & 63) | 1 << (hash.0 >> 6 & 63) | 1 << (hash.0 >> 12 & 63);
        (&self.bits[(hash.0 >> 18) as usize & (self.bits.len() - 1)], mask)
    }

    /// Notes a row, and that it lies below what it lies below.
    pub(crate) fn note(&self, table: Table, key: &[u8]) {
        self.note_hash(hash(table, key));
        if table == Table::Mailboxes {
            // `user` and a user are no mailboxes; `shared` is one.
            let roots = if key.starts_with(b"user\x01") { 2 } else { 0 };
            let ends = key.iter().enumerate().filter(|(_, b)| **b == SEPARATOR).map(|(end, _)| end);
            ends.skip(roots).for_each(|end| self.note_hash(below(&key[..end])));
        }
    }

    fn note_hash(&self, hash: Hash) {
        let (word, mask) = self.place(hash);
        if word.load(Ordering::Relaxed) & mask != mask && word.fetch_or(mask, Ordering::Relaxed) & mask != mask {
            self.noted.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// False only if no key with this hash was noted.
    pub(crate) fn maybe(&self, hash: Hash) -> bool {
        let (word, mask) = self.place(hash);
        word.load(Ordering::Relaxed) & mask == mask
    }

    /// True if it holds more than it was made for, by half, and a larger one is possible.
    pub(crate) fn is_overfull(&self) -> bool {
        let bits = self.bits.len() * 64;
        bits < BITS_MAX && self.noted.load(Ordering::Relaxed) > bits / BITS_PER_KEY / 2 * 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> Vec<u8> {
        format!("user\u{1}u{n}\u{1}INBOX").into_bytes()
    }

    #[test]
    fn what_was_noted_is_perhaps_there_and_most_else_is_not() {
        let names = Names::sized(10_000);
        (0..10_000).for_each(|n| names.note(Table::Mailboxes, &key(n)));
        assert!((0..10_000).all(|n| names.maybe(hash(Table::Mailboxes, &key(n)))));
        let wrong = (0..10_000).filter(|n| names.maybe(hash(Table::Past, &key(*n)))).count();
        assert!(wrong < 600, "{wrong} of 10,000 free names would be looked up");
        assert!(!names.is_overfull());
        (10_000..40_000).for_each(|n| names.note(Table::Mailboxes, &key(n)));
        assert!(names.is_overfull());
    }

    #[test]
    fn what_lies_below_a_mailbox_is_known() {
        let names = Names::sized(100);
        names.note(Table::Mailboxes, b"user\x01joe\x01A\x01B\x01C");
        names.note(Table::Mailboxes, b"shared\x01news\x01today");
        for above in [&b"user\x01joe\x01A\x01B"[..], b"user\x01joe\x01A", b"shared\x01news", b"shared"] {
            assert!(names.maybe(below(above)), "{}", above.escape_ascii());
        }
        assert!(!names.maybe(below(b"user\x01joe\x01A\x01B\x01C")));
        assert!(!names.maybe(below(b"user\x01joe\x01B")));
    }
}
