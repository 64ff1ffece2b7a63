//! When the newest backup was taken, on disk, so that a start knows it wherever that backup lies: `dbdata/backups`; and when the newest one of all
//! mail was: `dbdata/mail-backups`.
//!
//! # Format
//! Text sealed with a checksum ([`crate::sealed`]): `taken` and microseconds since 1970. It may be lost: then nothing is known of backups that lie
//! elsewhere than in `[backup] directory`.

use crate::disk::{self, Disk};
use crate::error::{Result, StoreError};
use crate::lsn::Micros;
use crate::sealed::{self, Lines};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

const BYTES_MAX: u64 = 4096;

/// Backups of which one file speaks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Of {
    /// Any.
    Any,
    /// Those that have all mail: archives of everything, and complete copies.
    Mail,
}

impl Of {
    fn file(self) -> &'static str {
        match self {
            Of::Any => "dbdata/backups",
            Of::Mail => "dbdata/mail-backups",
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Of::Any => "storedd-backups",
            Of::Mail => "storedd-mail-backups",
        }
    }
}

/// When the newest one was taken, in memory and on disk.
#[derive(Debug)]
pub(super) struct Noted {
    of: Of,
    newest: Mutex<Option<Micros>>,
}

impl Noted {
    /// As the file says; what is wrong with it is said.
    pub(super) fn read(of: Of, data: &dyn Disk) -> Noted {
        let newest = read(of, data).unwrap_or_else(|e| {
            tracing::warn!(event = "backups_forgotten", error = %e, "of backups outside of [backup] directory nothing is known");
            None
        });
        Noted { of, newest: Mutex::new(newest) }
    }

    pub(super) fn newest(&self) -> Option<Micros> {
        *self.lock()
    }

    /// One was taken then: the next start knows it. That it cannot be written is said.
    pub(super) fn note(&self, data: &dyn Disk, taken: Micros) {
        let mut newest = self.lock();
        *newest = newest.max(Some(taken));
        if let Err(e) = write(self.of, data, newest.unwrap_or(taken)) {
            tracing::warn!(event = "backup_not_noted", error = %e, "the next start does not know of it");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Micros>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(of: Of, data: &dyn Disk) -> Result<Option<Micros>> {
    let file = data.display(of.file());
    let bytes = match disk::read_small(data, of.file(), BYTES_MAX) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(|e| StoreError::io("read", &file, e))?,
    };
    let mut lines = Lines::open(of.kind(), &bytes, &file)?;
    let taken = Micros(lines.number("taken")?);
    lines.end()?;
    Ok(Some(taken))
}

fn write(of: Of, data: &dyn Disk, taken: Micros) -> Result<()> {
    let io = |e| StoreError::io("write", data.display(of.file()), e);
    disk::create_all(data, disk::parent(of.file())).map_err(io)?;
    disk::replace(data, of.file(), &sealed::seal(of.kind(), &format!("taken {}\n", taken.0))).map_err(io)
}
