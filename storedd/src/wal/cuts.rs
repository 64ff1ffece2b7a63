//! Rests of segments: what was cut off at the place where history ended, or went on otherwise, and is kept in the quarantine under
//! `<segment>.<offset>.cut`. Records in it are found by their own checksums, as behind any bad place.

use super::record::{Kind, Seed};
use super::replay::RecordRef;
use super::scan::{self, Window};
use super::segment;
use crate::disk::{Access, Disk, DiskFile};
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn, StoreId};
use std::io;
use std::sync::Arc;

/// A rest does not say of which epoch it is: so many of them are tried, from the newest down.
const EPOCHS_TRIED: u64 = 64;

/// A rest as if it lay where it was cut off.
#[derive(Debug)]
struct Shifted {
    file: Arc<dyn DiskFile>,
    by: u64,
}

impl DiskFile for Shifted {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let at = offset.checked_sub(self.by).ok_or(io::ErrorKind::InvalidInput)?;
        self.file.read_at(at, buf)
    }

    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.by.saturating_add(self.file.len()?))
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Number of the segment and place in it, from the name of a rest.
fn cut_from(name: &str) -> Option<(u64, u64)> {
    let (segment, rest) = name.strip_prefix("log.")?.split_once('.')?;
    let (offset, copy) = rest.split_once(".cut")?;
    let is_copy = copy.strip_prefix('.').is_some_and(|nth| nth.parse::<u32>().is_ok());
    let number = segment::file_number(&format!("log.{segment}"))?;
    (copy.is_empty() || is_copy).then_some((number, offset.parse().ok()?))
}

/// Calls `each` with every valid record behind `from` in the rests that lie in a quarantine, segment by segment. `newest`: the epoch of the
/// store. Offsets in what it gets are those of the file.
///
/// # Errors
/// Those of the disk and of `each`.
pub fn cuts(
    disk: &dyn Disk,
    store: StoreId,
    newest: Epoch,
    from: Lsn,
    each: &mut dyn FnMut(&RecordRef<'_>) -> Result<()>,
) -> Result<()> {
    let names = match disk.list("") {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        names => names.map_err(|e| StoreError::io("list", disk.display(""), e))?,
    };
    let mut rests: Vec<_> = names.into_iter().filter_map(|e| Some((cut_from(&e.name)?, e.name))).collect();
    rests.sort();
    for ((number, offset), name) in rests {
        let io = |e| StoreError::io("read", disk.display(&name), e);
        let file = disk.open(&name, Access::Read).map_err(io)?;
        let file: Arc<dyn DiskFile> = Arc::new(Shifted { file, by: offset });
        let mut window = Window::new(file.clone(), file.len().map_err(io)?);
        for epoch in (0..=newest.0).rev().take(EPOCHS_TRIED as usize).map(Epoch) {
            let seed = Seed::new(store, epoch, number);
            let rest = Rest { disk, name: &name, number, by: offset, epoch, seed };
            if rest.read(&mut window, from, each)? {
                break;
            }
        }
    }
    Ok(())
}

/// A rest, taken for one of an epoch.
struct Rest<'a> {
    disk: &'a dyn Disk,
    name: &'a str,
    number: u64,
    /// Where in the segment it began.
    by: u64,
    epoch: Epoch,
    seed: Seed,
}

impl Rest<'_> {
    /// Gives its records; false if there is none of this epoch.
    fn read(&self, window: &mut Window, from: Lsn, each: &mut dyn FnMut(&RecordRef<'_>) -> Result<()>) -> Result<bool> {
        let io = |e| StoreError::io("read", self.disk.display(self.name), e);
        let runs = scan::rest(window, self.seed, self.by).map_err(io)?;
        for run in &runs {
            let mut offset = run.offset;
            while offset < run.end {
                let Ok((header, payload)) = scan::read(window, self.seed, offset).map_err(io)? else { break };
                let Some(kind) = Kind::from_number(header.kind) else { break };
                if header.lsn > from {
                    each(&RecordRef {
                        file: self.name,
                        segment: self.number,
                        offset: offset - self.by,
                        epoch: self.epoch,
                        kind,
                        lsn: header.lsn,
                        durable: header.durable,
                        time: header.time,
                        checksum: header.checksum,
                        payload,
                    })?;
                }
                offset += scan::record_bytes(payload.len());
            }
        }
        Ok(!runs.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{self, NewRecord};
    use super::super::segment::SEGMENT_HEADER_BYTES;
    use super::*;
    use crate::disk::SimDisk;
    use crate::lsn::Micros;

    /// A rest of segment 3 that begins with bad bytes at `by`, then holds records 10 to 14, the third of which is damaged.
    fn rest(store: StoreId, epoch: Epoch, by: u64) -> Vec<u8> {
        let seed = Seed::new(store, epoch, 3);
        let (mut bytes, mut previous) = (vec![0xd5; 77], 0);
        for lsn in 10..15 {
            let at = bytes.len();
            let (kind, payload) = (Kind::Seal, &[][..]);
            let record = NewRecord { kind, lsn: Lsn(lsn), durable: Lsn(lsn - 1), time: Micros(1), previous, payload };
            previous = record::put(seed, by + at as u64, &record, &mut bytes);
            if lsn == 12 {
                bytes[at + 20] ^= 1;
            }
        }
        bytes
    }

    // row 29: records that a start has set aside with the rest of a segment are found again, in whatever epoch that was
    #[test]
    fn records_in_a_rest_are_found() {
        let store = StoreId([7; 16]);
        let disk = SimDisk::new();
        disk.plant("log.0000000003.8192.cut", &rest(store, Epoch(2), 8192)).unwrap();
        disk.plant("log.0000000003.8192.cut.1", &rest(store, Epoch(0), 8192)).unwrap();
        disk.plant("log.0000000003.4096.cut", &rest(StoreId([8; 16]), Epoch(2), 4096)).unwrap();
        for other in ["log.0000000003", "log.3.8192.cut", "log.0000000003.x.cut", "log.0000000003.1.cut.x", "x.cut"] {
            disk.plant(other, &rest(store, Epoch(2), SEGMENT_HEADER_BYTES)).unwrap();
        }
        let found = |newest| {
            let mut found = Vec::new();
            cuts(&disk, store, newest, Lsn(10), &mut |record| {
                let bytes = crate::disk::read_small(&disk, record.file, 1 << 20).unwrap();
                assert_eq!(bytes[usize::try_from(record.offset).unwrap()], record::MAGIC_FIRST);
                found.push((record.epoch.0, record.lsn.0));
                Ok(())
            })
            .unwrap();
            found
        };
        assert_eq!(found(Epoch(5)), [(2, 11), (2, 13), (2, 14), (0, 11), (0, 13), (0, 14)]);
        assert_eq!(found(Epoch(1)), [(0, 11), (0, 13), (0, 14)]);
        let empty = SimDisk::new();
        cuts(&empty, store, Epoch(1), Lsn::ZERO, &mut |_| panic!("nothing is there")).unwrap();
    }
}
