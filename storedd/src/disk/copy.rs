//! Files copied from one disk to another, in small steps, and looked at again.

use super::{Access, Disk};
use crate::error::{Result, StoreError};

/// Bytes copied at a time.
pub const STEP_BYTES: usize = 1 << 20;

/// A file to copy.
#[derive(Debug, Clone, Copy)]
pub struct From<'a> {
    /// Its disk.
    pub disk: &'a dyn Disk,
    /// Its path there; a symbolic link at the end of it is followed.
    pub path: &'a str,
    /// Only its first so many bytes; the copy is as long as the file, with zeros behind them. `None`: all of it.
    pub end: Option<u64>,
}

/// Copies a file to `path` of `disk`, where nothing may be, and makes its content durable; its name is the caller's to sync. The copy
/// is then read again and compared with the bytes that were read first. `each` is called before every step with its length; its error ends
/// the copy. Runs of zeros are left out, as holes. Gives the length of the copy.
///
/// # Errors
/// Those of the disks and of `each`; [`StoreError::Corrupt`] if the copy reads otherwise.
pub fn copy(from: From<'_>, disk: &dyn Disk, path: &str, each: &mut dyn FnMut(u64) -> Result<()>) -> Result<u64> {
    let read = |op| move |e| StoreError::io(op, from.disk.display(from.path), e);
    let wrote = |op| move |e| StoreError::io(op, disk.display(path), e);
    let source = from.disk.open(from.path, Access::ReadFollow).map_err(read("open"))?;
    let len = source.len().map_err(read("length of"))?;
    let end = from.end.unwrap_or(len).min(len);
    let target = disk.open(path, Access::CreateNew).map_err(wrote("create"))?;
    let mut buffer = vec![0; STEP_BYTES];
    let mut sums = Vec::new();
    for (at, step) in steps(end) {
        each(step as u64)?;
        let bytes = &mut buffer[..step];
        source.read_at(at, bytes).map_err(read("read"))?;
        sums.push(crate::checksum::Crc::seeded(b"copy").add(bytes).value());
        if bytes.iter().any(|byte| *byte != 0) {
            target.write_at(at, bytes).map_err(wrote("write"))?;
            target.start_writeback(at, step as u64);
        }
    }
    if target.len().map_err(wrote("length of"))? != len {
        target.set_len(len).map_err(wrote("set the length of"))?;
    }
    target.sync_data().map_err(wrote("sync"))?;
    for ((at, step), sum) in steps(end).zip(sums) {
        let bytes = &mut buffer[..step];
        target.read_at(at, bytes).map_err(wrote("read"))?;
        let found = crate::checksum::Crc::seeded(b"copy").add(bytes).value();
        if found != sum {
            return Err(StoreError::Corrupt {
                file: disk.display(path),
                offset: at,
                what: "copy".to_owned(),
                found: format!("{found:08x}"),
                expected: format!("{sum:08x}, as in {}", from.disk.display(from.path)),
            });
        }
    }
    Ok(len)
}

/// Offsets and lengths that cover so many bytes.
fn steps(end: u64) -> impl Iterator<Item = (u64, usize)> {
    let step = STEP_BYTES as u64;
    (0..end.div_ceil(step))
        .map(move |n| (n * step, usize::try_from(end - n * step).unwrap_or(STEP_BYTES).min(STEP_BYTES)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{DiskFile, Persist, SimDisk};
    use std::sync::Arc;

    fn file(disk: &SimDisk, path: &str, bytes: &[u8]) -> Arc<dyn DiskFile> {
        let file = disk.open(path, Access::CreateNew).unwrap();
        file.write_at(0, bytes).unwrap();
        file
    }

    #[test]
    fn a_copy_has_the_bytes_up_to_the_end_and_zeros_behind() {
        let machine = SimDisk::new();
        let (here, there) = (machine.disk("here"), machine.disk("there"));
        let mut bytes: Vec<u8> = (0..3 * STEP_BYTES + 7).map(|n| (n % 251) as u8).collect();
        bytes[STEP_BYTES..2 * STEP_BYTES].fill(0);
        file(&here, "a", &bytes);
        let mut steps = 0;
        let mut each = |_: u64| {
            steps += 1;
            Ok(())
        };
        let len = copy(From { disk: &here, path: "a", end: None }, &there, "whole", &mut each).unwrap();
        assert_eq!((len, steps), (bytes.len() as u64, 4));
        let end = Some(2 * STEP_BYTES as u64 + 3);
        copy(From { disk: &here, path: "a", end }, &there, "part", &mut |_| Ok(())).unwrap();
        there.sync_dir("").unwrap();
        let after = machine.image(Persist::Nothing).disk("there");
        assert_eq!(after.peek("whole").unwrap(), bytes);
        bytes[2 * STEP_BYTES + 3..].fill(0);
        assert_eq!(after.peek("part").unwrap(), bytes);
        let again = copy(From { disk: &here, path: "a", end: None }, &there, "whole", &mut |_| Ok(()));
        assert!(again.is_err(), "nothing is replaced");
        let stop = &mut |_: u64| Err(StoreError::Busy { why: "enough".to_owned() });
        assert!(matches!(
            copy(From { disk: &here, path: "a", end: None }, &there, "b", stop),
            Err(StoreError::Busy { .. })
        ));
    }
}
