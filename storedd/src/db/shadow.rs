//! What redb reads and writes through while a file is examined: it keeps every write in memory and lets the file alone, so that
//! redb may repair what it likes (I7).

use super::GoOn;
use super::backend::Health;
use super::sums::{BLOCK, Sums};
use crate::disk::DiskFile;
use redb::StorageBackend;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Most bytes a [`ShadowBackend`] keeps; a check of a whole file rewrites a few pages.
const SHADOW_BYTES_MAX: usize = 256 << 20;

/// After so many bytes read it is asked whether to go on.
const ASK_EVERY: u64 = 1 << 20;

/// redb's view of a file that stays as it is: what it writes is kept in memory.
pub(super) struct ShadowBackend {
    file: Arc<dyn DiskFile>,
    health: Arc<Health>,
    sums: Arc<Sums>,
    shadow: RwLock<Shadow>,
    go_on: Option<GoOn>,
    /// Bytes read since it was asked whether to go on.
    read: AtomicU64,
}

#[derive(Debug)]
struct Shadow {
    /// Length as redb sees it.
    len: u64,
    /// Bytes of the file that are still to be seen; what lies behind was cut, or was never there, and is zero.
    below: u64,
    /// Written blocks by number.
    blocks: BTreeMap<u64, Box<[u8]>>,
}

impl std::fmt::Debug for ShadowBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShadowBackend").field("file", &self.health.file()).finish_non_exhaustive()
    }
}

impl ShadowBackend {
    /// Over a file of `len` bytes; `sums` learns what is read of it.
    pub(super) fn new(file: Arc<dyn DiskFile>, len: u64, health: Arc<Health>, sums: Arc<Sums>) -> ShadowBackend {
        health.set_file_bytes(len);
        let shadow = RwLock::new(Shadow { len, below: len, blocks: BTreeMap::new() });
        ShadowBackend { file, health, sums, shadow, go_on: None, read: AtomicU64::new(ASK_EVERY) }
    }

    /// The same, which asks now and then whether to go on.
    pub(super) fn asking(self, go_on: Option<GoOn>) -> ShadowBackend {
        ShadowBackend { go_on, ..self }
    }

    fn ask(&self, bytes: u64) -> io::Result<()> {
        let Some(go_on) = &self.go_on else { return Ok(()) };
        if self.read.fetch_add(bytes, Ordering::Relaxed) < ASK_EVERY {
            return Ok(());
        }
        self.read.store(0, Ordering::Relaxed);
        if go_on() { Ok(()) } else { Err(self.health.note_ended()) }
    }

    /// Reads what the file has of the range; zeros behind its end.
    fn read_below(&self, below: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = usize::try_from(below.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
        let (file, rest) = out.split_at_mut(there);
        rest.fill(0);
        if file.is_empty() {
            return Ok(());
        }
        self.file.read_at(offset, file).inspect_err(|e| {
            self.health.note("read", e);
        })?;
        self.sums.check(offset, file).map_err(|at| self.health.note_changed(at))
    }
}

/// The bytes of `block` that lie in the range, as (place in the range, place in the block).
fn overlap(block: u64, offset: u64, len: u64) -> (Range<usize>, Range<usize>) {
    let start = (block * BLOCK).max(offset);
    let end = (block * BLOCK + BLOCK).min(offset + len);
    let within = |base: u64| (start - base) as usize..(end - base) as usize;
    (within(offset), within(block * BLOCK))
}

impl StorageBackend for ShadowBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.shadow.read().unwrap_or_else(PoisonError::into_inner).len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.ask(out.len() as u64)?;
        let shadow = self.shadow.read().unwrap_or_else(PoisonError::into_inner);
        let len = out.len() as u64;
        let end = offset.checked_add(len).filter(|end| *end <= shadow.len);
        let Some(end) = end else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        self.read_below(shadow.below, offset, out)?;
        for (block, bytes) in shadow.blocks.range(offset / BLOCK..end.div_ceil(BLOCK)) {
            let (to, from) = overlap(*block, offset, len);
            out[to].copy_from_slice(&bytes[from]);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.health.check_writable()?;
        let mut shadow = self.shadow.write().unwrap_or_else(PoisonError::into_inner);
        shadow.below = shadow.below.min(len);
        shadow.blocks.split_off(&len.div_ceil(BLOCK));
        if let Some(last) = shadow.blocks.get_mut(&(len / BLOCK)) {
            last[(len % BLOCK) as usize..].fill(0);
        }
        shadow.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.health.check_writable()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.health.check_writable()?;
        let mut shadow = self.shadow.write().unwrap_or_else(PoisonError::into_inner);
        let len = data.len() as u64;
        let end = offset.checked_add(len).filter(|end| *end <= shadow.len);
        let Some(end) = end else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        for number in offset / BLOCK..end.div_ceil(BLOCK) {
            let (from, to) = overlap(number, offset, len);
            if !shadow.blocks.contains_key(&number) {
                if shadow.blocks.len() * BLOCK as usize >= SHADOW_BYTES_MAX {
                    let text = format!("the repair would rewrite more than {SHADOW_BYTES_MAX} bytes");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
                let mut block = vec![0; BLOCK as usize].into_boxed_slice();
                self.read_below(shadow.below, number * BLOCK, &mut block)?;
                shadow.blocks.insert(number, block);
            }
            if let Some(block) = shadow.blocks.get_mut(&number) {
                block[to].copy_from_slice(&data[from]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Access, Disk, SimDisk};

    // I7: redb sees what it wrote, the file never does.
    #[test]
    fn a_shadow_is_a_file_in_memory() {
        let sim = SimDisk::new();
        let mut model: Vec<u8> = (0..30_000u32).map(|i| (i % 251) as u8).collect();
        sim.plant("f", &model).unwrap();
        let file = sim.open("f", Access::Read).unwrap();
        let shadow =
            ShadowBackend::new(file, model.len() as u64, Arc::new(Health::new("f".to_owned())), Arc::default());
        let before = sim.tree_hash();
        let mut seed = 1u64;
        let mut below = |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        for round in 0..3000u64 {
            let (offset, len) = (below(50_000), below(10_000));
            let end = offset + len;
            match below(10) {
                0 => {
                    shadow.set_len(end).unwrap();
                    model.resize(end as usize, 0);
                }
                1..5 => {
                    let data = vec![(round % 255) as u8 + 1; len as usize];
                    let outcome = shadow.write(offset, &data);
                    assert_eq!(outcome.is_ok(), end <= model.len() as u64);
                    if outcome.is_ok() {
                        model[offset as usize..end as usize].copy_from_slice(&data);
                    }
                }
                _ => {
                    let mut out = vec![0xee; len as usize];
                    let outcome = shadow.read(offset, &mut out);
                    assert_eq!(outcome.is_ok(), end <= model.len() as u64);
                    if outcome.is_ok() {
                        assert!(out == model[offset as usize..end as usize], "round {round}");
                    }
                }
            }
            assert_eq!(shadow.len().unwrap(), model.len() as u64);
        }
        assert!(shadow.read(u64::MAX, &mut [0; 2]).is_err() && shadow.write(u64::MAX, &[0; 2]).is_err());
        assert_eq!((sim.tree_hash(), sim.ops()), (before, 0));
    }
}
