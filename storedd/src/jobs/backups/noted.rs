//! When the newest backup was taken, on disk, so that a start knows it wherever that backup lies: `dbdata/backups`.
//!
//! # Format
//! Text sealed with a checksum ([`crate::sealed`]): `taken` and microseconds since 1970. It may be lost: then nothing is known of backups that lie
//! elsewhere than in `[backup] directory`.

use crate::disk::{self, Disk};
use crate::error::{Result, StoreError};
use crate::lsn::Micros;
use crate::sealed::{self, Lines};
use std::io;

const FILE: &str = "dbdata/backups";
const KIND: &str = "storedd-backups";
const BYTES_MAX: u64 = 4096;

/// What the file says; `None` if there is none.
///
/// # Errors
/// Those of the disk; what is wrong with the file.
pub(super) fn read(data: &dyn Disk) -> Result<Option<Micros>> {
    let bytes = match disk::read_small(data, FILE, BYTES_MAX) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(|e| StoreError::io("read", data.display(FILE), e))?,
    };
    let file = data.display(FILE);
    let mut lines = Lines::open(KIND, &bytes, &file)?;
    let taken = Micros(lines.number("taken")?);
    lines.end()?;
    Ok(Some(taken))
}

/// Writes it durably.
///
/// # Errors
/// Those of the disk.
pub(super) fn write(data: &dyn Disk, taken: Micros) -> Result<()> {
    let io = |e| StoreError::io("write", data.display(FILE), e);
    disk::create_all(data, disk::parent(FILE)).map_err(io)?;
    disk::replace(data, FILE, &sealed::seal(KIND, &format!("taken {}\n", taken.0))).map_err(io)
}
