//! Snapshots: labelled copies of the database, each at one LSN, each in a directory of its own.
//!
//! # Purpose
//! A database that was found bad is replaced by a snapshot and the log behind it. This room knows the directories: what lies in
//! them, in which order it is written, and what makes a snapshot one that may be chosen. It does not know what a database is;
//! taking and verifying are jobs.
//!
//! # Format
//! A [`Shelf`] is a directory; in it each snapshot is a directory `<time>-<lsn>`, time as `20261122T182000.123Z` so that names sort by
//! age. It holds:
//!
//! | file | what |
//! |---|---|
//! | `mboxlist.redb` | the database; never written again, and only ever opened through a layer that keeps writes in memory |
//! | `MANIFEST` | store, LSN, epoch, time, schema, rows and digest of each table, length and checksum of each file |
//! | `.snaptime` | the time of the snapshot and the version of the format; written when everything else is there |
//! | `.verified` | checksums of `MANIFEST` and `.snaptime` as they were when a verification passed |
//!
//! The three are text; `manifest.rs` has their lines. A snapshot is *valid* if all four are there, each is whole, and `.verified`
//! speaks of this `MANIFEST`, which speaks of this database: any byte that changes afterwards makes it invalid.
//!
//! # Operation
//! [`Shelf::begin`] makes `<id>.new`, the caller puts the database there, [`Shelf::finish`] adds manifest and time, syncs all of it and
//! only then gives the directory its name. [`Shelf::remove`] takes the name away first. So a crash leaves a whole snapshot or a
//! directory that nobody takes for one; [`Shelf::clear`] removes those.
//!
//! A place that the configuration named says itself whose it is ([`place`]).
//!
//! A backup ([`backup`]) is a snapshot with the log behind it and all else that a store is, outside the store.
//!
//! # Invariants
//! * What has a snapshot's name was durable as a whole before it had it.
//! * Looking changes nothing (I7).

pub mod backup;
mod manifest;
mod place;
#[cfg(test)]
mod tests;

pub use backup::{Backup, BackupManifest};
pub use manifest::{FileSum, Manifest, TableSum};
pub use place::{PLACE_FILE, Standing};

use crate::checksum::Crc;
use crate::disk::{self, Access, Disk, Kind, Stamp, parent};
use crate::error::{Result, StoreError, exit};
use crate::lsn::{Epoch, Lsn, Micros, StoreId};
use crate::planted::{self, Bug};
use manifest::{Mark, Snaptime};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// The database in a snapshot.
pub const DB_FILE: &str = "mboxlist.redb";
/// What the snapshot holds.
pub const MANIFEST: &str = "MANIFEST";
/// Its time.
pub const SNAPTIME: &str = ".snaptime";
/// That it passed a verification.
pub const VERIFIED: &str = ".verified";

/// End of the name of a directory that is no snapshot yet, or not any more.
const LEFTOVER: &str = ".new";
/// Longest text file that is read; a manifest has one line for each table and file.
const TEXT_BYTES_MAX: u64 = 64 << 10;
/// Bytes read at a time for a checksum.
const CHUNK: usize = 1 << 20;

/// Where snapshots lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Below the data directory.
    Below(String),
    /// Elsewhere.
    At(PathBuf),
}

impl Place {
    /// As a text; `None` of a path that is none.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Place::Below(path) => Some(path),
            Place::At(path) => path.to_str(),
        }
    }
}

impl Default for Place {
    fn default() -> Place {
        Place::Below("dbdata/snapshots".to_owned())
    }
}

/// How closely a snapshot is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Texts, and lengths of files.
    Texts,
    /// Every byte.
    Bytes,
}

/// A snapshot as it lies there.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Its name.
    pub id: String,
    /// Its directory as a person would type it.
    pub path: String,
    /// As its name says.
    pub lsn: Lsn,
    /// What it says of itself, if that can be read.
    pub manifest: Option<Manifest>,
    /// Bytes of its files.
    pub bytes: u64,
    /// It passed a verification, and nothing that was looked at is otherwise since.
    pub valid: bool,
    /// What is wrong with its files.
    pub problems: Vec<StoreError>,
}

impl Snapshot {
    /// When it was taken; zero if its manifest cannot be read.
    #[must_use]
    pub fn time(&self) -> Micros {
        self.manifest.as_ref().map_or(Micros(0), |m| m.time)
    }

    /// Why a file of it could not be read, if that is so: then nobody can say whether it is good.
    #[must_use]
    pub fn unread(&self) -> Option<&StoreError> {
        self.problems.iter().find(|problem| matches!(problem, StoreError::Io { .. }))
    }

    /// Where it stands in the history of the store, if its manifest can be read: of two snapshots that with the greater one is the newer,
    /// whatever the clocks were that stamped them.
    #[must_use]
    pub fn at(&self) -> Option<(Epoch, Lsn)> {
        self.manifest.as_ref().map(|m| (m.epoch, m.lsn))
    }

    /// True if a text of it is of a version that this program does not know: nobody can say here whether it is good.
    #[must_use]
    pub fn is_of_another_version(&self) -> bool {
        self.problems.iter().any(|problem| matches!(problem, StoreError::Foreign { .. }))
    }
}

/// Sorts snapshots, oldest first: by their place in the history of the store, never by what a clock said. Of those at one place the ones
/// that are stamped ahead of `now` come first, and one whose manifest cannot be read lies beside those before it.
pub fn sort<T>(all: &mut Vec<T>, now: Micros, of: impl Fn(&T) -> &Snapshot) {
    all.sort_by(|a, b| (of(a).lsn, &of(a).id).cmp(&(of(b).lsn, &of(b).id)));
    let mut highest = Epoch(0);
    let mut placed: Vec<(Epoch, T)> = Vec::with_capacity(all.len());
    for one in all.drain(..) {
        let epoch = of(&one).at().map_or(highest, |(epoch, _)| epoch);
        highest = highest.max(epoch);
        placed.push((epoch, one));
    }
    let key = |(epoch, one): &(Epoch, T)| {
        let one = of(one);
        (*epoch, one.lsn, !one.time().is_ahead_of(now), one.id.clone())
    };
    placed.sort_by_cached_key(key);
    all.extend(placed.into_iter().map(|(_, one)| one));
}

/// Asked between two pieces of a file that is read whole whether to go on; may wait.
#[derive(Clone, Default)]
pub struct GoOn(Option<Arc<dyn Fn() -> bool + Send + Sync>>);

impl GoOn {
    /// As this says.
    pub fn asking(ask: impl Fn() -> bool + Send + Sync + 'static) -> GoOn {
        GoOn(Some(Arc::new(ask)))
    }

    fn ask(&self) -> bool {
        self.0.as_ref().is_none_or(|ask| ask())
    }
}

impl std::fmt::Debug for GoOn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GoOn")
    }
}

/// A directory of snapshots.
#[derive(Debug, Clone)]
pub struct Shelf {
    disk: Arc<dyn Disk>,
    /// `""`: the root of the disk.
    base: String,
    go_on: GoOn,
}

impl Shelf {
    /// The directory `base` of `disk`; it need not be there.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, base: &str) -> Shelf {
        Shelf { disk, base: base.to_owned(), go_on: GoOn::default() }
    }

    /// The same, which asks between two pieces of a file that it reads whole whether to go on.
    #[must_use]
    pub fn asking(&self, go_on: GoOn) -> Shelf {
        Shelf { go_on, ..self.clone() }
    }

    /// The disk it is on.
    #[must_use]
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Path on the disk of a file of a snapshot.
    #[must_use]
    pub fn path(&self, id: &str, file: &str) -> String {
        format!("{}/{file}", self.dir(id))
    }

    /// Names of all snapshots, oldest first.
    ///
    /// # Errors
    /// Those of the disk; a directory that is not there has none.
    pub fn list(&self) -> Result<Vec<String>> {
        let mut ids = self.names(|name| lsn_of(name).is_some())?;
        ids.sort();
        Ok(ids)
    }

    /// Looks at a snapshot; changes nothing (I7).
    ///
    /// # Errors
    /// [`StoreError::Refused`] if there is none of this name; [`StoreError::Busy`] if it was not to go on; those of the disk if nobody can say
    /// whether it is there. What is wrong with it is not an error but a problem.
    pub fn read(&self, id: &str, depth: Depth) -> Result<Snapshot> {
        let Some(lsn) = lsn_of(id) else { return Err(no_such(id)) };
        match self.disk.stat(&self.dir(id)) {
            Ok(Some(entry)) if entry.kind == Kind::Dir => {}
            Ok(_) => return Err(no_such(id)),
            Err(e) => return Err(self.failed("stat", &self.dir(id), e)),
        }
        let path = self.disk.display(&self.dir(id));
        let mut snapshot =
            Snapshot { id: id.to_owned(), path, lsn, manifest: None, bytes: 0, valid: false, problems: Vec::new() };
        let texts = self.texts(id, &mut snapshot);
        if let Some(manifest) = snapshot.manifest.clone() {
            for sum in &manifest.files {
                match self.compare(id, manifest.store_id, sum, depth) {
                    Ok(bytes) => snapshot.bytes += bytes,
                    Err(e @ StoreError::Busy { .. }) => return Err(e),
                    Err(e) => snapshot.problems.push(e),
                }
            }
        }
        snapshot.valid = texts.is_some_and(|marked| marked) && snapshot.problems.is_empty();
        Ok(snapshot)
    }

    /// What the manifest of a snapshot says, whatever else is wrong with the snapshot.
    ///
    /// # Errors
    /// If it is not there, or not what was written.
    pub fn manifest(&self, id: &str) -> Result<Manifest> {
        Manifest::decode(&self.text(id, MANIFEST)?, &self.shown(id, MANIFEST))
    }

    /// Reads the texts; true if the mark is there and speaks of them. `None` if they cannot all be read.
    fn texts(&self, id: &str, snapshot: &mut Snapshot) -> Option<bool> {
        let mut problem = |e: StoreError| snapshot.problems.push(e);
        let manifest = self.text(id, MANIFEST).and_then(|bytes| {
            let manifest = Manifest::decode(&bytes, &self.shown(id, MANIFEST))?;
            manifest.expect_lsn(snapshot.lsn, &self.shown(id, MANIFEST))?;
            Ok((bytes, manifest))
        });
        let manifest = manifest.map_err(&mut problem).ok();
        let snaptime = self.text(id, SNAPTIME).and_then(|bytes| {
            let time = Snaptime::decode(&bytes, &self.shown(id, SNAPTIME))?.time;
            match manifest.as_ref().filter(|(_, manifest)| manifest.time != time) {
                Some((_, manifest)) => {
                    Err(corrupt(&self.shown(id, SNAPTIME), "time", time.0.to_string(), &manifest.time.0.to_string()))
                }
                None => Ok(bytes),
            }
        });
        let snaptime = snaptime.map_err(&mut problem).ok();
        let mark = match self.disk.stat(&self.path(id, VERIFIED)) {
            Ok(None) => None,
            _ => match self.text(id, VERIFIED).and_then(|b| Mark::decode(&b, &self.shown(id, VERIFIED))) {
                Ok(mark) => Some(mark),
                Err(e) => {
                    problem(e);
                    None
                }
            },
        };
        let ((bytes, manifest), snaptime) = (manifest?, snaptime?);
        snapshot.bytes = (bytes.len() + snaptime.len()) as u64;
        snapshot.manifest = Some(manifest);
        Some(mark.is_some_and(|mark| mark.speaks_of(&bytes, &snaptime)))
    }

    /// Compares a file with what the manifest says of it; gives its length.
    fn compare(&self, id: &str, store: StoreId, sum: &FileSum, depth: Depth) -> Result<u64> {
        let (path, shown) = (self.path(id, &sum.name), self.shown(id, &sum.name));
        let bytes = match self.disk.stat(&path).map_err(|e| StoreError::io("stat", &shown, e))? {
            None => return Err(StoreError::Missing { files: vec![shown] }),
            Some(entry) if entry.kind != Kind::File => {
                return Err(corrupt(&shown, "kind of file", format!("{:?}", entry.kind), "a regular file"));
            }
            Some(entry) => entry.len,
        };
        if bytes != sum.bytes {
            return Err(corrupt(&shown, "length", format!("{bytes} bytes"), &format!("{} bytes", sum.bytes)));
        }
        if depth == Depth::Bytes {
            let crc = self.sum(id, &sum.name, store)?.crc;
            if crc != sum.crc {
                return Err(corrupt(&shown, "checksum", format!("{crc:08x}"), &format!("{:08x}", sum.crc)));
            }
        }
        Ok(bytes)
    }

    /// What tells whether the database or the manifest of a snapshot was written to; `None` where that is not known.
    #[must_use]
    pub fn stamps(&self, id: &str) -> Option<[Stamp; 2]> {
        let stamp = |file| self.disk.stamp(&self.path(id, file)).ok().flatten();
        Some([stamp(DB_FILE)?, stamp(MANIFEST)?])
    }

    /// Makes the directory of a new snapshot, which has no snapshot's name yet, and the shelf itself if it is not there. Gives the
    /// path for the database.
    ///
    /// # Errors
    /// Those of the disk; [`StoreError::Refused`] if there is a snapshot of this name.
    pub fn begin(&self, id: &str) -> Result<String> {
        self.make()?;
        self.clear()?;
        let dir = self.dir(id);
        if self.disk.stat(&dir).map_err(|e| self.failed("stat", &dir, e))?.is_some() {
            return Err(StoreError::Refused {
                message: format!("there is a snapshot {id}"),
                hint: "storectl snapshot list".to_owned(),
                exit: exit::EXISTS,
            });
        }
        let dir = dir + LEFTOVER;
        self.disk.create_dir(&dir).map_err(|e| self.failed("create", &dir, e))?;
        Ok(format!("{dir}/{DB_FILE}"))
    }

    /// The database of a snapshot that was begun is there and durable: completes it and gives it its name. `manifest.files` is
    /// filled in.
    ///
    /// # Errors
    /// Those of the disk; then there is no such snapshot.
    pub fn finish(&self, id: &str, manifest: Manifest) -> Result<Manifest> {
        let draft = format!("{id}{LEFTOVER}");
        let files = vec![self.sum(&draft, DB_FILE, manifest.store_id)?];
        let manifest = Manifest { files, ..manifest };
        self.write(&self.path(&draft, MANIFEST), &manifest.encode())?;
        self.write(&self.path(&draft, SNAPTIME), &Snaptime { time: manifest.time }.encode())?;
        let (from, to) = (self.dir(&draft), self.dir(id));
        if !planted::on(Bug::SnapshotNamedBeforeSync) {
            self.disk.sync_dir(&from).map_err(|e| self.failed("sync", &from, e))?;
        }
        self.disk.rename(&from, &to).map_err(|e| self.failed("rename", &from, e))?;
        self.disk.sync_dir(&self.base).map_err(|e| self.failed("sync", &self.base, e))?;
        Ok(manifest)
    }

    /// Notes that the snapshot passed a verification.
    ///
    /// # Errors
    /// Those of the disk, and if its texts cannot be read.
    pub fn mark(&self, id: &str, now: Micros) -> Result<()> {
        let mark = Mark::of(now, &self.text(id, MANIFEST)?, &self.text(id, SNAPTIME)?);
        let path = self.path(id, VERIFIED);
        disk::replace(&*self.disk, &path, &mark.encode()).map_err(|e| self.failed("write", &path, e))
    }

    /// Takes the mark away, if there is one.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn unmark(&self, id: &str) -> Result<()> {
        let path = self.path(id, VERIFIED);
        match self.disk.remove(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(self.failed("remove", &path, e)),
            Ok(()) => {
                let dir = self.dir(id);
                self.disk.sync_dir(&dir).map_err(|e| self.failed("sync", &dir, e))
            }
        }
    }

    /// Removes a snapshot.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if there is none of this name; those of the disk: then its name may be gone and its files there, until
    /// the next [`Shelf::clear`].
    pub fn remove(&self, id: &str) -> Result<()> {
        let from = self.dir(id);
        if lsn_of(id).is_none() || self.disk.stat(&from).map_err(|e| self.failed("stat", &from, e))?.is_none() {
            return Err(no_such(id));
        }
        self.clear()?;
        self.disk.rename(&from, &(from.clone() + LEFTOVER)).map_err(|e| self.failed("rename", &from, e))?;
        self.disk.sync_dir(&self.base).map_err(|e| self.failed("sync", &self.base, e))?;
        self.clear()
    }

    /// Removes what is no snapshot yet, or not any more.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn clear(&self) -> Result<()> {
        for name in self.names(|name| name.strip_suffix(LEFTOVER).and_then(lsn_of).is_some())? {
            let dir = self.dir(&name);
            for entry in self.disk.list(&dir).map_err(|e| self.failed("list", &dir, e))? {
                let path = format!("{dir}/{}", entry.name);
                self.disk.remove(&path).map_err(|e| self.failed("remove", &path, e))?;
            }
            self.disk.remove_dir(&dir).map_err(|e| self.failed("remove", &dir, e))?;
        }
        Ok(())
    }

    /// Makes the shelf, and the directories above it, durably.
    fn make(&self) -> Result<()> {
        let ends = self.base.match_indices('/').map(|(at, _)| at).chain(Some(self.base.len()));
        for dir in ends.map(|end| &self.base[..end]).filter(|dir| !dir.is_empty()) {
            if self.disk.stat(dir).map_err(|e| self.failed("stat", dir, e))?.is_none() {
                self.disk.create_dir(dir).map_err(|e| self.failed("create", dir, e))?;
                self.disk.sync_dir(parent(dir)).map_err(|e| self.failed("sync", parent(dir), e))?;
            }
        }
        Ok(())
    }

    fn names(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        let entries = match self.disk.list(&self.base) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|e| self.failed("list", &self.base, e))?,
        };
        Ok(entries.into_iter().filter(|e| e.kind == Kind::Dir && wanted(&e.name)).map(|e| e.name).collect())
    }

    fn text(&self, id: &str, file: &str) -> Result<Vec<u8>> {
        let shown = self.shown(id, file);
        disk::read_small(&*self.disk, &self.path(id, file), TEXT_BYTES_MAX).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => StoreError::Missing { files: vec![shown] },
            io::ErrorKind::InvalidData => corrupt(&shown, "length", e.to_string(), "a short text"),
            _ => StoreError::io("read", shown, e),
        })
    }

    fn write(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let file = self.disk.open(path, Access::CreateNew).map_err(|e| self.failed("create", path, e))?;
        file.write_at(0, bytes).map_err(|e| self.failed("write", path, e))?;
        file.sync_data().map_err(|e| self.failed("sync", path, e))
    }

    /// Length and checksum of a file; `dir` is a snapshot or one that is being made.
    fn sum(&self, dir: &str, name: &str, store: StoreId) -> Result<FileSum> {
        sum(&*self.disk, &self.path(dir, name), name, store, &self.go_on)
    }

    fn dir(&self, id: &str) -> String {
        if self.base.is_empty() { id.to_owned() } else { format!("{}/{id}", self.base) }
    }

    fn shown(&self, id: &str, file: &str) -> String {
        self.disk.display(&self.path(id, file))
    }

    fn failed(&self, op: &'static str, path: &str, e: io::Error) -> StoreError {
        StoreError::io(op, self.disk.display(path), e)
    }
}

/// Length and checksum of the file at `path`, whose name in a manifest is `name`.
fn sum(disk: &dyn Disk, path: &str, name: &str, store: StoreId, go_on: &GoOn) -> Result<FileSum> {
    let fail = |op| move |e| StoreError::io(op, disk.display(path), e);
    let file = disk.open(path, Access::Read).map_err(fail("open"))?;
    let bytes = file.len().map_err(fail("length of"))?;
    let mut crc = Crc::seeded(&store.0).add(name.as_bytes());
    let mut chunk = vec![0; CHUNK];
    let mut offset = 0;
    while offset < bytes {
        if !go_on.ask() {
            return Err(StoreError::Busy { why: format!("reading {} was ended", disk.display(path)) });
        }
        let part = &mut chunk[..usize::try_from(bytes - offset).unwrap_or(CHUNK).min(CHUNK)];
        file.read_at(offset, part).map_err(fail("read"))?;
        crc = crc.add(part);
        offset += part.len() as u64;
    }
    Ok(FileSum { name: name.to_owned(), bytes, crc: crc.value() })
}

/// A moment as it stands in names: they sort by it.
fn stamp(time: Micros) -> String {
    let at = i64::try_from(time.0).ok().and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok());
    at.unwrap_or_default().strftime("%Y%m%dT%H%M%S%.3fZ").to_string()
}

/// The name of a snapshot taken at `time`.
#[must_use]
pub fn id(time: Micros, lsn: Lsn) -> String {
    format!("{}-{lsn}", stamp(time))
}

/// The LSN in the name of a snapshot; `None` if it is no such name.
#[must_use]
pub fn lsn_of(id: &str) -> Option<Lsn> {
    let (time, lsn) = id.split_once('-')?;
    let shape = |found: u8, shape: u8| if shape == b'0' { found.is_ascii_digit() } else { found == shape };
    const SHAPE: &[u8] = b"00000000T000000.000Z";
    let named = time.len() == SHAPE.len() && time.bytes().zip(SHAPE).all(|(found, s)| shape(found, *s));
    let digits = (1..=20).contains(&lsn.len()) && lsn.bytes().all(|b| b.is_ascii_digit());
    (named && digits).then(|| lsn.parse().ok().map(Lsn)).flatten()
}

fn no_such(id: &str) -> StoreError {
    StoreError::Refused {
        message: format!("no snapshot {id}"),
        hint: "storectl snapshot list".to_owned(),
        exit: exit::NOT_FOUND,
    }
}

fn corrupt(file: &str, what: &str, found: String, expected: &str) -> StoreError {
    let (file, what, expected) = (file.to_owned(), what.to_owned(), expected.to_owned());
    StoreError::Corrupt { file, offset: 0, what, found, expected }
}
