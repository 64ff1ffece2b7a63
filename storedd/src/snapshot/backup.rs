//! Backups: everything that a store is, in one directory that can be carried away.
//!
//! # Format
//! A backup is a directory `MSDB_Backup_<time>`, time as in the name of a snapshot. It holds:
//!
//! | file | what |
//! |---|---|
//! | `STORE` | the identity of the store |
//! | `mboxlist.redb` | the database at one LSN |
//! | `log.<number>` | the log behind that LSN; the last file is cut where the backup ends: zeros follow |
//! | `CONTROL` | the control file, as of the end of the backup |
//! | `partitions.toml` | where partitions lie that were added at run time, if there are any |
//! | `storedd.toml` | the configuration in effect, for people; a restore does not read it |
//! | `MANIFEST` | the text below; written last |
//!
//! `MANIFEST` is a sealed text (`sealed.rs`):
//! ```text
//! storedd-backup 1
//! store 000102030405060708090a0b0c0d0e0f
//! lsn 42
//! epoch 0
//! reached 57
//! time 1800000000000000
//! until 1800000000500000
//! schema 1
//! table users 7 000000000000000000000000000000ff
//! file mboxlist.redb 1048576 89abcdef
//! crc 01234567
//! ```
//! `lsn` and `epoch` are the database's, `reached` is the last LSN of the log in it, `time` when the backup began, `until` the time of the
//! last record in it; tables are those of the database file; files are all but `MANIFEST`, as in a snapshot's.
//!
//! # Operation
//! [`Backup::begin`] makes `<name>.new`, the caller fills it, [`Backup::finish`] adds the manifest, looks at every byte, and gives the
//! directory its name. [`Backup::drop_it`] removes one that failed.
//!
//! # Invariants
//! * What has a backup's name was durable as a whole, and was read again, before it had it.
//! * Nothing but what lies in a backup's own directory is ever written or removed.

use super::manifest::{FileSum, TableSum, put_sums, sums};
use super::{DB_FILE, GoOn, MANIFEST, corrupt, stamp, sum};
use crate::disk::{self, Access, Disk, Kind, parent};
use crate::error::{Result, StoreError, exit};
use crate::lsn::{Epoch, Lsn, Micros, StoreId};
use crate::planted::{self, Bug};
use crate::sealed::{Lines, seal};
use std::fmt::Write;
use std::io;
use std::sync::Arc;

/// The identity of the store in a backup: the first file that is written, and the last that is removed.
pub const STORE_FILE: &str = "STORE";
/// Beginning of the name of a backup.
pub const PREFIX: &str = "MSDB_Backup_";
/// End of the name of one that is not complete.
const LEFTOVER: &str = ".new";
/// Names that are tried for one moment.
const NAMES_MAX: u64 = 1000;
const KIND: &str = "storedd-backup";
/// Longest manifest; it has a line for each log file.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupManifest {
    /// The store it is of.
    pub store_id: StoreId,
    /// LSN of the database in it.
    pub lsn: Lsn,
    /// Epoch of that LSN.
    pub epoch: Epoch,
    /// Last LSN of the log in it.
    pub reached: Lsn,
    /// When it was begun.
    pub time: Micros,
    /// Time of the last record in it.
    pub until: Micros,
    /// Version of what stands in the database.
    pub schema: u32,
    /// Tables of the database.
    pub tables: Vec<TableSum>,
    /// Every file but the manifest.
    pub files: Vec<FileSum>,
}

impl BackupManifest {
    fn encode(&self) -> Vec<u8> {
        let mut text = String::new();
        let _ =
            writeln!(text, "store {}\nlsn {}\nepoch {}\nreached {}", self.store_id, self.lsn, self.epoch, self.reached);
        let _ = writeln!(text, "time {}\nuntil {}\nschema {}", self.time.0, self.until.0, self.schema);
        put_sums(&mut text, &self.tables, &self.files);
        seal(KIND, &text)
    }

    fn decode(bytes: &[u8], file: &str) -> Result<BackupManifest> {
        let mut lines = Lines::open(KIND, bytes, file)?;
        let mut manifest = BackupManifest {
            store_id: lines.store()?,
            lsn: Lsn(lines.number("lsn")?),
            epoch: Epoch(lines.number("epoch")?),
            reached: Lsn(lines.number("reached")?),
            time: Micros(lines.number("time")?),
            until: Micros(lines.number("until")?),
            schema: u32::try_from(lines.number("schema")?).map_err(|_| lines.wrong("schema"))?,
            tables: Vec::new(),
            files: Vec::new(),
        };
        (manifest.tables, manifest.files) = sums(&mut lines)?;
        Ok(manifest)
    }
}

/// A directory that is, or is to be, a backup.
#[derive(Debug, Clone)]
pub struct Backup {
    disk: Arc<dyn Disk>,
    /// Its directory; `""`: the root of the disk.
    dir: String,
    /// The name it gets when it is complete.
    name: String,
    go_on: GoOn,
}

impl Backup {
    /// Makes the directory of a new backup in the root of `disk`, with the identity of the store in it; it has no backup's name yet. No
    /// two get the same name.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn begin(disk: &Arc<dyn Disk>, time: Micros, identity: &[u8]) -> Result<Backup> {
        let fail = |op, path: &str, e| StoreError::io(op, disk.display(path), e);
        for later in 0..NAMES_MAX {
            let name = format!("{PREFIX}{}", stamp(Micros(time.0 + later * 1000)));
            let dir = format!("{name}{LEFTOVER}");
            let taken = |path: &str| disk.stat(path).map(|found| found.is_some()).map_err(|e| fail("stat", path, e));
            if taken(&name)? || taken(&dir)? {
                continue;
            }
            disk.create_dir(&dir).map_err(|e| fail("create", &dir, e))?;
            let backup = Backup { disk: disk.clone(), dir, name, go_on: GoOn::default() };
            // Two that begin in the same moment meet here: one file is made once.
            match disk.open(&backup.path(STORE_FILE), Access::CreateNew) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(fail("create", &backup.path(STORE_FILE), e)),
                Ok(file) => {
                    let path = backup.path(STORE_FILE);
                    let written = file.write_at(0, identity).and_then(|()| file.sync_data());
                    written.map_err(|e| fail("write", &path, e))?;
                    return Ok(backup);
                }
            }
        }
        Err(StoreError::Busy { why: format!("{} is full of backups of this moment", disk.display("")) })
    }

    /// The backup that lies in the directory `dir` of `disk`.
    #[must_use]
    pub fn at(disk: Arc<dyn Disk>, dir: &str) -> Backup {
        Backup { disk, dir: dir.to_owned(), name: dir.to_owned(), go_on: GoOn::default() }
    }

    /// The same, which asks between two pieces of a file that it reads whole whether to go on; it is ended by [`StoreError::Busy`].
    #[must_use]
    pub fn asking(self, go_on: GoOn) -> Backup {
        Backup { go_on, ..self }
    }

    /// What the one who is asked says; may wait.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.go_on.ask()
    }

    /// Names of the complete backups in the root of `disk`, oldest first.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn list(disk: &dyn Disk) -> Result<Vec<String>> {
        let entries = disk.list("").map_err(|e| StoreError::io("list", disk.display(""), e))?;
        let named = |name: &str| name.strip_prefix(PREFIX).is_some_and(|time| !time.ends_with(LEFTOVER));
        Ok(entries.into_iter().filter(|e| e.kind == Kind::Dir && named(&e.name)).map(|e| e.name).collect())
    }

    /// Removes what backups of this store that were broken off have left in the root of `disk`: directories that hold `identity`.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn clear(disk: &Arc<dyn Disk>, identity: &[u8]) -> Result<()> {
        let entries = disk.list("").map_err(|e| StoreError::io("list", disk.display(""), e))?;
        let left = |name: &str| name.starts_with(PREFIX) && name.ends_with(LEFTOVER);
        for entry in entries.into_iter().filter(|e| e.kind == Kind::Dir && left(&e.name)) {
            let backup = Backup::at(disk.clone(), &entry.name);
            let ours = disk::read_small(&**disk, &backup.path(STORE_FILE), 4096);
            // One that was broken off before its identity was written is empty.
            let empty = disk.list(&entry.name).is_ok_and(|files| files.is_empty());
            if empty || ours.is_ok_and(|found| found == identity || found.is_empty()) {
                backup.drop_it()?;
            }
        }
        Ok(())
    }

    /// The disk it is on.
    #[must_use]
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Path on the disk of a file of it.
    #[must_use]
    pub fn path(&self, file: &str) -> String {
        if self.dir.is_empty() { file.to_owned() } else { format!("{}/{file}", self.dir) }
    }

    /// Its directory as a person would type it.
    #[must_use]
    pub fn shown(&self) -> String {
        self.disk.display(&self.dir)
    }

    /// The directory as a disk of its own.
    #[must_use]
    pub fn as_disk(&self) -> Arc<dyn Disk> {
        match self.dir.is_empty() {
            true => self.disk.clone(),
            false => Arc::new(disk::Below::new(self.disk.clone(), self.dir.clone())),
        }
    }

    /// Puts a small file into it, durably.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn put(&self, file: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path(file);
        let fail = |op| move |e| (op, e);
        let written = self.disk.open(&path, Access::CreateNew).map_err(fail("create")).and_then(|file| {
            file.write_at(0, bytes).map_err(fail("write"))?;
            file.sync_data().map_err(fail("sync"))
        });
        written.map_err(|(op, e)| StoreError::io(op, self.disk.display(&path), e))
    }

    /// Every file is there and durable: reads them for the manifest, adds it, gives the directory its name and syncs that. Gives the
    /// backup under its name. `manifest.files` is filled in.
    ///
    /// # Errors
    /// Those of the disk; then there is no such backup, or one that is whole.
    pub fn finish(self, manifest: BackupManifest) -> Result<(Backup, BackupManifest)> {
        let fail = |op, path: &str, e| StoreError::io(op, self.disk.display(path), e);
        let mut files = Vec::new();
        for entry in self.disk.list(&self.dir).map_err(|e| fail("list", &self.dir, e))? {
            files.push(sum(&*self.disk, &self.path(&entry.name), &entry.name, manifest.store_id, &self.go_on)?);
        }
        let manifest = BackupManifest { files, ..manifest };
        self.put(MANIFEST, &manifest.encode())?;
        if !planted::on(Bug::BackupNamedBeforeSync) {
            self.disk.sync_dir(&self.dir).map_err(|e| fail("sync", &self.dir, e))?;
        }
        self.disk.rename(&self.dir, &self.name).map_err(|e| fail("rename", &self.dir, e))?;
        self.disk.sync_dir(parent(&self.name)).map_err(|e| fail("sync", parent(&self.name), e))?;
        Ok((Backup { dir: self.name.clone(), ..self }, manifest))
    }

    /// Removes it: its name first, so that what is left of it is no backup.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn drop_it(self) -> Result<()> {
        let fail = |op, path: &str, e| StoreError::io(op, self.disk.display(path), e);
        let dir = match self.dir.ends_with(LEFTOVER) {
            true => self.dir.clone(),
            false => {
                let dir = format!("{}{LEFTOVER}", self.dir);
                self.disk.rename(&self.dir, &dir).map_err(|e| fail("rename", &self.dir, e))?;
                self.disk.sync_dir(parent(&dir)).map_err(|e| fail("sync", parent(&dir), e))?;
                dir
            }
        };
        let mut entries = self.disk.list(&dir).map_err(|e| fail("list", &dir, e))?;
        entries.sort_by_key(|entry| entry.name == STORE_FILE);
        for entry in entries {
            let path = format!("{dir}/{}", entry.name);
            self.disk.remove(&path).map_err(|e| fail("remove", &path, e))?;
        }
        self.disk.remove_dir(&dir).map_err(|e| fail("remove", &dir, e))
    }

    /// Looks at every file of it; changes nothing (I7).
    ///
    /// # Errors
    /// [`StoreError::Refused`] (64) if there is no database or no log, so that this is no backup at all; else what is wrong with the
    /// first file of which something is: missing, damaged, of another version, unreadable.
    pub fn read(&self) -> Result<BackupManifest> {
        self.expect_contents()?;
        let manifest = self.manifest()?;
        for expected in &manifest.files {
            let path = self.path(&expected.name);
            let shown = self.disk.display(&path);
            match self.disk.stat(&path).map_err(|e| StoreError::io("stat", &shown, e))? {
                None => return Err(StoreError::Missing { files: vec![shown] }),
                Some(entry) if entry.kind != Kind::File => {
                    return Err(corrupt(&shown, "kind of file", format!("{:?}", entry.kind), "a regular file"));
                }
                Some(entry) if entry.len != expected.bytes => {
                    let (found, expected) = (format!("{} bytes", entry.len), format!("{} bytes", expected.bytes));
                    return Err(corrupt(&shown, "length", found, &expected));
                }
                Some(_) => {}
            }
            let found = sum(&*self.disk, &path, &expected.name, manifest.store_id, &self.go_on)?;
            if found.crc != expected.crc {
                return Err(corrupt(
                    &shown,
                    "checksum",
                    format!("{:08x}", found.crc),
                    &format!("{:08x}", expected.crc),
                ));
            }
        }
        Ok(manifest)
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// If there is no manifest, or it cannot be read.
    pub fn manifest(&self) -> Result<BackupManifest> {
        let path = self.path(MANIFEST);
        let shown = self.disk.display(&path);
        let bytes = disk::read_small(&*self.disk, &path, TEXT_BYTES_MAX).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => StoreError::Missing { files: vec![shown.clone()] },
            io::ErrorKind::InvalidData => corrupt(&shown, "length", e.to_string(), "a short text"),
            _ => StoreError::io("read", shown.clone(), e),
        })?;
        BackupManifest::decode(&bytes, &shown)
    }

    /// # Errors
    /// [`StoreError::Refused`] (64) if there is no database or no log, so that this is no backup at all.
    pub fn expect_contents(&self) -> Result<()> {
        let entries = self.disk.list(&self.dir).map_err(|e| StoreError::io("list", self.shown(), e))?;
        let database = entries.iter().any(|e| e.name == DB_FILE);
        let log = entries.iter().any(|e| e.name.starts_with("log."));
        if database && log {
            return Ok(());
        }
        let lacking = if database { "log" } else { "database" };
        Err(StoreError::Refused {
            message: format!("{} holds no {lacking}: it is no backup", self.shown()),
            hint: "name the directory that storectl backup-db made: MSDB_Backup_...".to_owned(),
            exit: exit::USAGE,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Persist, SimDisk};

    fn manifest() -> BackupManifest {
        BackupManifest {
            store_id: StoreId(std::array::from_fn(|n| n as u8)),
            lsn: Lsn(42),
            epoch: Epoch(3),
            reached: Lsn(57),
            time: Micros(1_800_000_000_000_000),
            until: Micros(1_800_000_000_500_000),
            schema: 1,
            tables: vec![TableSum { name: "users".to_owned(), rows: 7, digest: 0xff }],
            files: vec![FileSum { name: DB_FILE.to_owned(), bytes: 1 << 20, crc: 0x89ab_cdef }],
        }
    }

    fn new(disk: &Arc<dyn Disk>) -> Backup {
        let backup = Backup::begin(disk, Micros(1_800_000_000_000_000), b"me").unwrap();
        backup.put(DB_FILE, b"rows").unwrap();
        backup.put("log.0000000001", b"records").unwrap();
        backup
    }

    // The format is pinned: whoever changes it makes another version and a way to read this one.
    #[test]
    fn golden_bytes() {
        let text = String::from_utf8(manifest().encode()).unwrap();
        let body = "storedd-backup 1\nstore 000102030405060708090a0b0c0d0e0f\nlsn 42\nepoch 3\nreached 57\n\
            time 1800000000000000\nuntil 1800000000500000\nschema 1\n\
            table users 7 000000000000000000000000000000ff\nfile mboxlist.redb 1048576 89abcdef\n";
        assert_eq!(text.strip_prefix(body), Some("crc 9a7b625d\n"), "{text}");
        assert_eq!(BackupManifest::decode(text.as_bytes(), "m").unwrap(), manifest());
    }

    // row 70: also two that begin in the same moment; what has the name is whole after a power cut.
    #[test]
    fn no_two_have_the_same_name_and_a_name_means_whole() {
        let machine = SimDisk::new();
        let disk: Arc<dyn Disk> = Arc::new(machine.disk("media"));
        let (first, second) = (new(&disk), new(&disk));
        assert_ne!(first.name, second.name);
        let (first, _) = first.finish(manifest()).unwrap();
        assert_eq!(Backup::list(&*disk).unwrap(), std::slice::from_ref(&first.name));
        let third = new(&disk);
        assert!(third.name != first.name && third.name != second.name);
        let after: Arc<dyn Disk> = Arc::new(machine.image(Persist::Nothing).disk("media"));
        Backup::at(after, &first.name).read().unwrap();
        // What was broken off goes, what is another's stays.
        Backup::begin(&disk, Micros(9), b"you").unwrap();
        Backup::clear(&disk, b"me").unwrap();
        let left: Vec<_> = disk.list("").unwrap().into_iter().map(|e| e.name).collect();
        assert_eq!(left.len(), 2, "{left:?}");
        first.drop_it().unwrap();
        assert!(Backup::list(&*disk).unwrap().is_empty());
    }

    #[test]
    fn every_flip_is_found_and_what_is_no_backup_is_a_wrong_argument() {
        let machine = SimDisk::new();
        let disk: Arc<dyn Disk> = Arc::new(machine.disk("media"));
        let (backup, _) = new(&disk).finish(manifest()).unwrap();
        backup.read().unwrap();
        for name in ["STORE", DB_FILE, "log.0000000001", MANIFEST] {
            let path = backup.path(name);
            let whole = disk::read_small(&*disk, &path, 1 << 20).unwrap();
            for at in 0..whole.len() {
                let mut flipped = whole.clone();
                flipped[at] ^= 4;
                disk::replace(&*disk, &path, &flipped).unwrap();
                let e = backup.read().unwrap_err().to_string();
                assert!(e.contains(name), "{name} byte {at}: {e}");
            }
            disk.remove(&path).unwrap();
            let usage = matches!(backup.read(), Err(StoreError::Refused { exit: exit::USAGE, .. }));
            assert_eq!(usage, [DB_FILE, "log.0000000001"].contains(&name), "{name}");
            disk::replace(&*disk, &path, &whole).unwrap();
        }
        backup.read().unwrap();
    }
}
