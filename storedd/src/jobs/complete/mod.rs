//! A copy of everything that a host of mail needs, in one directory: taken while the store runs, put back on an empty host.
//!
//! # Format
//! | name | what |
//! |---|---|
//! | `INCOMPLETE` | there from the first moment on, and until everything else is durable and was read again |
//! | `MSDB_Backup_<time>/` | database and log, as `storectl backup-db` makes it |
//! | `partition/<name>/` | each partition as it lies on its disk; a message with several names is one file with several names here, too |
//! | `data/` | notes of the data directory: what is to be taken away from partitions, and which history was given up |
//! | `configuration/` | the configuration file, and the file of groups |
//! | `UNREADABLE` | there if something could not be read, or was damaged in the store already: a line for each file, and why |
//! | `FILES` | a line for every file but those of the backup: length, checksum, path |
//! | `COMPLETE` | the text below; written last |
//!
//! ```text
//! storedd-complete 1
//! store 000102030405060708090a0b0c0d0e0f
//! time 1800000000000000
//! lsn 57
//! backup MSDB_Backup_20261122T182000.123Z
//! list 4711 89abcdef
//! mailboxes 3
//! messages 40
//! copies 2
//! bytes 123456
//! partition primary 0f0e0d0c0b0a09080706050403020100
//! crc 01234567
//! ```
//! `list` is length and checksum of `FILES`; `lsn` the last change in it.
//!
//! # Operation
//! Message files are copied first, while everything goes on. Then, holding checkpoints, what has come or gone since, what is not as its index
//! has it, indexes, manifests, and what is staged. The database as of that checkpoint, and the log behind it, follow when checkpoints go on; then the configuration.
//! So all of it is of one moment, and what is put back is a store that was stopped by a power cut in that moment.
//!
//! # Invariants
//! * What has no `INCOMPLETE` and a `COMPLETE` was durable as a whole and was read again.
//! * Each message in it has the digest that the index in it states, or is named in `UNREADABLE`.
//! * Nothing but the directory that was named is written; commits and reads wait for nothing.

mod back;
mod list;
#[cfg(test)]
mod tests;
mod tree;
mod written;

pub use back::{Found, Put, PutBack, Unfit, Work};
pub use list::{Entry, Reader};

use super::backups::{Backups, Settings};
use super::pace::Pace;
use super::registry::Context;
use crate::checksum::Crc;
use crate::disk::{self, Access, Below, Disk, outside};
use crate::error::{Result, StoreError, exit};
use crate::lsn::{Lsn, Micros, StoreId};
use crate::model::Rows;
use crate::partition::identity::{Identity, PartitionId};
use crate::sealed::{Lines, seal};
use crate::store::Store;
use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tree::{Copying, Truth};

/// The mark of one that is not complete.
pub const MARK: &str = "INCOMPLETE";
/// The manifest.
pub const MANIFEST: &str = "COMPLETE";
/// The list of files.
pub const FILES: &str = "FILES";
/// The list of what is not in it, or damaged.
pub const UNREADABLE: &str = "UNREADABLE";
/// Directory of the partitions in it.
pub(super) const PARTITIONS: &str = "partition";
/// Directory of notes of the data directory.
pub(super) const DATA: &str = "data";
const CONFIGURATION: &str = "configuration";
const KIND: &str = "storedd-complete";
const TEXT_BYTES_MAX: u64 = 1 << 20;
/// Longest configuration, or file of groups, that is copied.
const CONFIG_BYTES_MAX: u64 = 64 << 20;
/// Notes of the data directory that belong to partitions.
const NOTES: [&str; 1] = ["given-up"];
/// Longest note.
const NOTE_BYTES_MAX: u64 = 256 << 20;
/// The directory of notes about what is to be taken away.
const REMOVALS: &str = "removals";

/// What one says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The store it is of.
    pub store_id: StoreId,
    /// When it was begun.
    pub time: Micros,
    /// The last change in it.
    pub lsn: Lsn,
    /// Directory of the backup of the database in it.
    pub backup: String,
    /// Length and checksum of the list of files.
    pub list: (u64, u32),
    /// What is in it.
    pub tally: Tally,
    /// The partitions.
    pub partitions: Vec<(String, PartitionId)>,
}

/// What was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Directories of mailboxes.
    pub mailboxes: u64,
    /// Files of messages.
    pub messages: u64,
    /// Further names of these.
    pub copies: u64,
    /// Bytes of all files, each counted once.
    pub bytes: u64,
}

impl Tally {
    /// One file more.
    fn take(&mut self, entry: &Entry) {
        let is_message = u64::from(entry.path().ends_with(".msg"));
        match entry {
            Entry::File(bytes, ..) => (self.bytes, self.messages) = (self.bytes + bytes, self.messages + is_message),
            Entry::Link(..) => self.copies += is_message,
        }
    }
}

/// One that was taken.
#[derive(Debug, Clone)]
pub struct Done {
    /// Its directory as a person would type it.
    pub path: String,
    /// What it says of itself.
    pub manifest: Manifest,
    /// Files that could not be read and are not in it, or are damaged in the store already; and why.
    pub skipped: Vec<(String, String)>,
    /// How long it took.
    pub duration: Duration,
    /// For how long checkpoints were held.
    pub held: Duration,
}

impl Manifest {
    fn encode(&self) -> Vec<u8> {
        let Tally { mailboxes, messages, copies, bytes } = self.tally;
        let mut text =
            format!("store {}\ntime {}\nlsn {}\nbackup {}\n", self.store_id, self.time.0, self.lsn, self.backup);
        let _ = writeln!(text, "list {} {:08x}", self.list.0, self.list.1);
        let _ = writeln!(text, "mailboxes {mailboxes}\nmessages {messages}\ncopies {copies}\nbytes {bytes}");
        for (name, id) in &self.partitions {
            let _ = writeln!(text, "partition {name} {id}");
        }
        seal(KIND, &text)
    }

    fn decode(bytes: &[u8], file: &str) -> Result<Manifest> {
        let mut lines = Lines::open(KIND, bytes, file)?;
        let (store_id, time) = (lines.store()?, Micros(lines.number("time")?));
        let (lsn, backup) = (Lsn(lines.number("lsn")?), lines.word("backup")?.to_owned());
        let list = lines.next().and_then(|line| {
            let (bytes, crc) = line.strip_prefix("list ")?.split_once(' ')?;
            Some((bytes.parse().ok()?, u32::from_str_radix(crc, 16).ok()?))
        });
        let list = list.ok_or_else(|| lines.wrong("list"))?;
        let tally = Tally {
            mailboxes: lines.number("mailboxes")?,
            messages: lines.number("messages")?,
            copies: lines.number("copies")?,
            bytes: lines.number("bytes")?,
        };
        let mut partitions = Vec::new();
        while let Some(line) = lines.next() {
            let one = || {
                let (name, id) = line.strip_prefix("partition ")?.split_once(' ')?;
                Some((name.to_owned(), PartitionId::parse(id)?))
            };
            partitions.push(one().ok_or_else(|| lines.wrong("partition"))?);
        }
        // A name from a file never leads out of the directory.
        let is_name = |name: &str| !name.is_empty() && !name.contains('/') && name != "." && name != "..";
        if !is_name(&backup) || !partitions.iter().all(|(name, _)| is_name(name)) {
            return Err(lines.wrong("a name"));
        }
        Ok(Manifest { store_id, time, lsn, backup, list, tally, partitions })
    }
}

/// What is to be copied beside the store.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// How the database is backed up.
    pub settings: &'a Settings,
    /// Files of the configuration: the name in the copy, and where it lies.
    pub configuration: Vec<(&'a str, PathBuf)>,
}

/// Takes one into `dir`, which must be empty or not there.
///
/// # Errors
/// [`StoreError::Refused`] (73) if the directory is not empty; [`StoreError::Busy`] if a partition is away or behind, or it was ended; those
/// of the disks. What was copied by then stays, marked as incomplete.
pub fn take(store: &Arc<Store>, backups: &Backups, dir: &Path, wanted: &Wanted<'_>, context: &Context) -> Result<Done> {
    let clock = backups.clock();
    let begun = clock.uptime();
    let out = store.disks().roots.make(dir);
    let out = out.map_err(|e| StoreError::io("make directory", dir.display().to_string(), e))?;
    expect_empty(&*out)?;
    let names = partitions(store)?;
    let time = clock.now();
    let write = |path: &str, e| StoreError::io("write", out.display(path), e);
    disk::replace(&*out, MARK, MARK_TEXT).map_err(|e| write(MARK, e))?;
    let pace = Pace::new(wanted.settings.pace, context);
    let mut copying = Copying::begin(&out, &pace, context)?;
    for (nth, (name, disk)) in names.iter().enumerate() {
        copying.messages(nth, name, &**disk)?;
    }
    let hold = store
        .hold_log(&format!("backup: a complete one to {} is being taken", dir.display()), wanted.settings.log_bytes);
    store.checkpoint()?;
    copying.hurry();
    let held_from = clock.uptime();
    let view = store.at_rest(|view| {
        let truth = Truth { owner: store.partitions().owner(), upto: view.indexed_upto(), rows: &*view };
        for (nth, (name, disk)) in names.iter().enumerate() {
            // It may have been left out by the checkpoint.
            expect_there(store, name)?;
            copying.rest(nth, name, disk, &truth)?;
        }
        notes(&mut copying, store)?;
        Ok(view)
    })?;
    let held = clock.uptime().saturating_sub(held_from);
    let mut each = |step: &str| context.progress(0, None, "steps", step);
    let (backup, database) = backups.take_of(&view, &out, hold, wanted.settings, context, &mut each)?;
    for (name, path) in &wanted.configuration {
        let bytes = outside::read(path, CONFIG_BYTES_MAX);
        let bytes = bytes.map_err(|e| StoreError::io("read", path.display().to_string(), e))?;
        copying.bytes(&format!("{CONFIGURATION}/{name}"), &bytes)?;
    }
    copying.name_skipped()?;
    tree::sync(&*out)?;
    let (list, tally, skipped) = copying.finish()?;
    let ids = names.iter().map(|(name, _)| identity(&out, name)).collect::<Result<Vec<_>>>()?;
    let backup = backup.shown().rsplit('/').next().unwrap_or_default().to_owned();
    let manifest =
        Manifest { store_id: store.store_id(), time, lsn: database.reached, backup, list, tally, partitions: ids };
    disk::replace(&*out, MANIFEST, &manifest.encode()).map_err(|e| write(MANIFEST, e))?;
    out.remove(MARK).and_then(|()| out.sync_dir("")).map_err(|e| StoreError::io("remove", out.display(MARK), e))?;
    backups.note(time);
    backups.note_mail(time);
    let duration = clock.uptime().saturating_sub(begun);
    let path = out.display("");
    tracing::info!(
        event = "complete_backup",
        path,
        lsn = manifest.lsn.0,
        messages = tally.messages,
        skipped = skipped.len(),
        held = held.as_secs_f64(),
        seconds = duration.as_secs_f64()
    );
    Ok(Done { path, manifest, skipped, duration, held })
}

const MARK_TEXT: &[u8] =
    b"This copy was not finished, or is being made: nothing restores it. Remove the directory and take another one.\n";

fn expect_empty(out: &dyn Disk) -> Result<()> {
    let entries = out.list("").map_err(|e| StoreError::io("list", out.display(""), e))?;
    match entries.iter().find(|entry| entry.name != "lost+found") {
        None => Ok(()),
        Some(entry) => Err(StoreError::Refused {
            message: format!("{} is not empty: it holds {}", out.display(""), entry.name),
            hint: "name a directory that is empty, or not there".to_owned(),
            exit: exit::EXISTS,
        }),
    }
}

/// Every partition with its disk.
fn partitions(store: &Store) -> Result<Vec<(String, Arc<dyn Disk>)>> {
    store.partitions().list().into_iter().map(|(name, _)| expect_there(store, &name).map(|disk| (name, disk))).collect()
}

fn expect_there(store: &Store, name: &str) -> Result<Arc<dyn Disk>> {
    store.partitions().disk(name).ok_or_else(|| StoreError::Busy {
        why: format!(
            "partition {name} is away or lacks changes, and a complete copy has all; see storectl partition list"
        ),
    })
}

fn identity(out: &Arc<dyn Disk>, name: &str) -> Result<(String, PartitionId)> {
    let root = Below::new(out.clone(), format!("{PARTITIONS}/{name}"));
    let identity =
        Identity::read(&root)?.ok_or_else(|| StoreError::Missing { files: vec![root.display("PARTITION")] })?;
    Ok((name.to_owned(), identity.id))
}

/// What the data directory knows of partitions and nothing else does.
fn notes(copying: &mut Copying<'_>, store: &Store) -> Result<()> {
    let data = &*store.disks().data;
    let mut paths: Vec<String> = NOTES.iter().map(|name| (*name).to_owned()).collect();
    match data.list(REMOVALS) {
        Ok(entries) => paths.extend(entries.into_iter().map(|entry| format!("{REMOVALS}/{}", entry.name))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(StoreError::io("list", data.display(REMOVALS), e)),
    }
    for path in paths {
        match disk::read_small(data, &path, NOTE_BYTES_MAX) {
            Ok(bytes) => copying.bytes(&format!("{DATA}/{path}"), &bytes)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(StoreError::io("read", data.display(&path), e)),
        }
    }
    Ok(())
}

/// Checksum of a file of a copy.
fn seeded() -> Crc {
    Crc::seeded(KIND.as_bytes())
}

/// Opens a new file, and makes the directories above it that are missing.
fn create(disk: &dyn Disk, path: &str) -> io::Result<Arc<dyn disk::DiskFile>> {
    match disk.open(path, Access::CreateNew) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            disk::create_all(disk, disk::parent(path))?;
            disk.open(path, Access::CreateNew)
        }
        opened => opened,
    }
}

fn link(disk: &dyn Disk, from: &str, to: &str) -> io::Result<()> {
    match disk.link(from, to) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            disk::create_all(disk, disk::parent(to))?;
            disk.link(from, to)
        }
        linked => linked,
    }
}
