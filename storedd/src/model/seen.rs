//! What a user has seen in a mailbox that is not his: runs of UIDs.
//!
//! The `\Seen` of a mailbox's owner stands with each message. Everybody else's stands in rows of their own (table `seen`), by user
//! and mailbox id: a flag of one reader changes nothing for the others, nor the mailbox's row.
//!
//! # Invariants
//! * Runs are in order, none touches the next, none is empty: equal sets have equal bytes.
//! * At most [`RUNS_MAX`] of them, so that a row stays below half of what is decoded.

use super::rows::{Row, id_key, joined};
use super::table::Table;
use serde::{Deserialize, Serialize};

/// Most runs of one row: messages read here and there in a mailbox of 100,000, and never in a row.
pub const RUNS_MAX: usize = 50_000;

/// What a user has seen in one mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SeenRow {
    /// When it was changed last, microseconds since 1970.
    pub changed_us: u64,
    /// Grows with every change.
    pub modseq: u64,
    /// First and last UID of each run.
    runs: Vec<(u32, u32)>,
}

impl Row for SeenRow {
    const TABLE: Table = Table::Seen;
    const TYPICAL_BYTES: usize = 32;
}

/// The key of what a user has seen in a mailbox.
#[must_use]
pub fn seen_key(user: &str, mailbox: u64) -> Vec<u8> {
    joined(user.as_bytes(), &id_key(mailbox))
}

impl SeenRow {
    /// Whether the message with this UID was seen.
    #[must_use]
    pub fn has(&self, uid: u32) -> bool {
        let at = self.runs.partition_point(|(_, last)| *last < uid);
        self.runs.get(at).is_some_and(|(first, _)| *first <= uid)
    }

    /// Nothing was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether its runs are as they must be.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let apart = |w: &[(u32, u32)]| u64::from(w[0].1) + 1 < u64::from(w[1].0);
        self.runs.len() <= RUNS_MAX && self.runs.iter().all(|(a, b)| a <= b) && self.runs.windows(2).all(apart)
    }

    /// Runs.
    #[must_use]
    pub fn runs(&self) -> &[(u32, u32)] {
        &self.runs
    }

    /// The message was seen, or was not after all; true if that is new.
    pub fn set(&mut self, uid: u32, seen: bool) -> bool {
        if self.has(uid) == seen {
            return false;
        }
        let at = self.runs.partition_point(|(_, last)| *last < uid);
        if !seen {
            let (first, last) = self.runs.remove(at);
            let rest = [(first, uid.wrapping_sub(1)), (uid.wrapping_add(1), last)];
            let keep = [first < uid, uid < last];
            let rest = rest.into_iter().zip(keep).filter_map(|(run, keep)| keep.then_some(run));
            self.runs.splice(at..at, rest);
            return true;
        }
        let joins_before = at > 0 && self.runs[at - 1].1.checked_add(1) == Some(uid);
        let joins_behind = self.runs.get(at).is_some_and(|(first, _)| uid.checked_add(1) == Some(*first));
        match (joins_before, joins_behind) {
            (true, true) => self.runs[at - 1].1 = self.runs.remove(at).1,
            (true, false) => self.runs[at - 1].1 = uid,
            (false, true) => self.runs[at].0 = uid,
            (false, false) => self.runs.insert(at, (uid, uid)),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn runs_are_the_set_that_was_set() {
        let (mut row, mut set, mut seed) = (SeenRow::default(), BTreeSet::new(), 7u64);
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let edge = [1, u32::MAX, u32::MAX - 1][(seed >> 20) as usize % 3];
            let uid = if (seed >> 40).is_multiple_of(9) { edge } else { 1 + (seed >> 33) as u32 % 40 };
            let seen = (seed >> 60).is_multiple_of(2);
            let new = if seen { set.insert(uid) } else { set.remove(&uid) };
            assert_eq!(row.set(uid, seen), new);
            assert!(row.runs.iter().all(|(first, last)| first <= last));
            assert!(row.runs.windows(2).all(|w| u64::from(w[0].1) + 1 < u64::from(w[1].0)), "{:?}", row.runs);
            assert!(
                (0..45).chain([u32::MAX - 2, u32::MAX - 1, u32::MAX]).all(|uid| row.has(uid) == set.contains(&uid))
            );
        }
        let bytes = row.encode().unwrap();
        assert_eq!(SeenRow::decode(b"k", &bytes).unwrap(), row);
        assert_eq!(seen_key("joe", 10), b"joe\x02000000000000000a");
    }

    #[test]
    fn golden_bytes() {
        let mut row = SeenRow { changed_us: 1, modseq: 2, ..SeenRow::default() };
        assert!(row.set(5, true) && row.set(6, true) && row.set(300, true));
        assert_eq!(row.encode().unwrap(), [1, 1, 2, 2, 5, 6, 251, 44, 1, 251, 44, 1]);
        let most = SeenRow { runs: vec![(u32::MAX, u32::MAX); RUNS_MAX], ..row };
        assert!(most.encode().unwrap().len() < crate::model::rows::ROW_BYTES_MAX / 2 + 1);
    }
}
