//! What each block of the file is known to be, because redb compares no checksum when it reads.
//!
//! A damaged row is seen by its envelope. A damaged branch of a tree is worse: redb looks in the wrong place and finds nothing, goes
//! round in circles, or panics. So every block that the check of the whole file read, or that was written since, is
//! known by a hash, and each later read is compared with it. 2 MiB of memory for a file of 1 GiB.

use crate::planted::{self, Bug};
use std::sync::{PoisonError, RwLock};

pub(super) const BLOCK: u64 = 4096;

/// Blocks behind this one are not watched: 128 MiB of memory, a file of 64 GiB.
const BLOCKS_MAX: u64 = 1 << 24;

/// Hashes of blocks by number; 0 is one that nobody has seen.
#[derive(Debug, Default)]
pub(super) struct Sums(RwLock<Vec<u64>>);

impl Sums {
    /// Compares what was read with what is known, and learns what is not. The error is the offset of a block that has changed.
    pub(super) fn check(&self, offset: u64, bytes: &[u8]) -> Result<(), u64> {
        let mut unseen = false;
        {
            let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
            for (number, block) in blocks(offset, bytes) {
                match known.get(number).copied().unwrap_or(0) {
                    0 => unseen = true,
                    sum if sum == hash(block) => {}
                    _ if planted::on(Bug::PageNotCompared) => {}
                    _ => return Err(number as u64 * BLOCK),
                }
            }
        }
        if unseen {
            self.learn(offset, bytes);
        }
        Ok(())
    }

    /// These bytes are what the file holds now.
    pub(super) fn learn(&self, offset: u64, bytes: &[u8]) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (number, block) in blocks(offset, bytes) {
            if known.len() <= number {
                known.resize(number + 1, 0);
            }
            known[number] = hash(block);
        }
    }

    /// Nothing is known of the file from `offset` on, `len` bytes long.
    pub(super) fn forget(&self, offset: u64, len: u64) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let place = |block: u64| usize::try_from(block).unwrap_or(usize::MAX).min(known.len());
        let range = place(offset / BLOCK)..place(offset.saturating_add(len).div_ceil(BLOCK));
        known[range].fill(0);
    }
}

/// The whole blocks in `bytes`, by number. The first of the file is left out: redb's header has checksums of its own, and is written in parts.
fn blocks(offset: u64, bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let first = offset / BLOCK;
    let aligned = offset.is_multiple_of(BLOCK);
    let whole = bytes.chunks_exact(BLOCK as usize).take(if aligned { usize::MAX } else { 0 });
    let numbered = (first..BLOCKS_MAX).zip(whole).filter(|(number, _)| *number > 0);
    numbered.map(|(number, block)| (number as usize, block))
}

fn hash(block: &[u8]) -> u64 {
    (twox_hash::XxHash3_128::oneshot(block) as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_what_it_was_until_it_is_written_or_cut() {
        let sums = Sums::default();
        let two = [[1; 4096], [2; 4096]].concat();
        sums.check(8192, &two).unwrap();
        sums.check(8192, &two).unwrap();
        sums.check(8192, &two[..4096]).unwrap();
        assert_eq!(sums.check(4096, &[[0; 4096], [3; 4096]].concat()), Err(8192));
        assert_eq!(sums.check(12288, &[1; 4096]), Err(12288));
        sums.learn(12288, &[5; 4096]);
        assert_eq!(sums.check(8192, &two), Err(12288));
        sums.check(12288, &[5; 4096]).unwrap();
        // A part of a block makes all of it unknown; what lies behind a cut is unknown.
        sums.forget(8192 + 100, 1);
        sums.check(8192, &[9; 4096]).unwrap();
        sums.forget(12288, u64::MAX);
        sums.check(12288, &[6; 4096]).unwrap();
        assert_eq!(sums.check(8192, &two), Err(8192));
    }

    #[test]
    fn parts_of_blocks_the_header_and_what_lies_too_far_are_not_watched() {
        let sums = Sums::default();
        for fill in [1, 2] {
            sums.check(0, &[fill; 4096]).unwrap();
            sums.check(100, &[fill; 8192]).unwrap();
            sums.check(4096, &[fill; 4095]).unwrap();
            sums.check(BLOCKS_MAX * BLOCK, &[fill; 4096]).unwrap();
            sums.forget(u64::MAX - 1, u64::MAX);
        }
        assert!(sums.0.read().unwrap().iter().all(|sum| *sum == 0));
    }
}
