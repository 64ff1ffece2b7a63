//! Makes a file durable as it reads.
//!
//! After a failed sync Linux takes the pages that it could not write for clean: they read back, the next sync says "done", and after a
//! crash they are gone. A checkpoint that looks committed then is not, and the log it covers must not be retired. So everything that
//! reads back is written again, the header last: until it is, the disk shows the commit before.

use super::backend::Health;
use crate::disk::{Access, Disk};
use crate::error::{Result, StoreError};
use std::sync::Arc;

/// redb's header, which names the roots of the trees.
const HEADER_BYTES: u64 = 4096;
const STEP_BYTES: u64 = 1 << 20;
const ZEROS: [u8; 4096] = [0; 4096];

/// Writes every block of the file that is not zero to where it is, and syncs.
///
/// # Errors
/// Those of the disk; then nothing that the file shows may be trusted to be on it.
pub(super) fn rewrite(disk: &Arc<dyn Disk>, path: &str) -> Result<()> {
    let health = Health::new(disk.display(path));
    let noted = |op| {
        let health = &health;
        move |e| health.note(op, &e)
    };
    let file = disk.open(path, Access::Write).map_err(noted("open"))?;
    let len = file.len().map_err(noted("length of"))?;
    let mut step = vec![0; STEP_BYTES as usize];
    let mut copy = |from: u64, to: u64| -> Result<(), StoreError> {
        let bytes = &mut step[..(to - from) as usize];
        file.read_at(from, bytes).map_err(noted("read"))?;
        for (block, bytes) in bytes.chunks(ZEROS.len()).enumerate().filter(|(_, b)| **b != ZEROS[..b.len()]) {
            file.write_at(from + (block * ZEROS.len()) as u64, bytes).map_err(noted("write"))?;
        }
        health.sync(&*file).map_err(noted("sync"))
    };
    let mut at = HEADER_BYTES;
    while at < len {
        let end = len.min(at + STEP_BYTES);
        copy(at, end)?;
        at = end;
    }
    copy(0, len.min(HEADER_BYTES))
}
