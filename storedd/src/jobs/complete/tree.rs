//! Partitions copied into a complete copy.

use super::list::{Entry, Failed, List, sum};
use super::{PARTITIONS, Tally, create, link, seeded};
use crate::disk::{self, Access, Below, Disk, Kind};
use crate::error::{Result, StoreError, is_no_space};
use crate::jobs::pace::Pace;
use crate::jobs::registry::Context;
use crate::partition::tree::{self, Home, Place, QUARANTINE, STAGING};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;

/// Files that could not be read, and why.
pub(super) type Skipped = Vec<(String, String)>;

/// A copy that is being made.
pub(super) struct Copying<'a> {
    out: Arc<dyn Disk>,
    list: List,
    pace: &'a Pace,
    context: &'a Context,
    /// The first name in the copy of a file with several names, by partition and number.
    linked: HashMap<(usize, u64), String>,
    tally: Tally,
    skipped: Skipped,
    /// Somebody waits: no pauses.
    hurry: bool,
}

/// Makes a whole copy durable.
///
/// # Errors
/// Those of the disk.
pub(super) fn sync(disk: &dyn Disk) -> Result<()> {
    match disk.sync_tree() {
        Err(e) if e.kind() == io::ErrorKind::Unsupported => sync_below(disk, ""),
        done => done,
    }
    .map_err(|e| StoreError::io("sync", disk.display(""), e))
}

fn sync_below(disk: &dyn Disk, dir: &str) -> io::Result<()> {
    for entry in disk.names(dir)? {
        let path = if dir.is_empty() { entry.name } else { format!("{dir}/{}", entry.name) };
        match entry.kind {
            Kind::Dir => sync_below(disk, &path)?,
            Kind::File => disk.open(&path, Access::Read)?.sync_data()?,
            Kind::Symlink | Kind::Other => {}
        }
    }
    disk.sync_dir(dir)
}

/// What a directory holds; nothing if it is not there.
fn names(disk: &dyn Disk, dir: &str) -> Result<Vec<disk::Entry>> {
    match disk.names(dir) {
        Ok(entries) => Ok(entries),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(StoreError::io("list", disk.display(dir), e)),
    }
}

fn homes(disk: &dyn Disk) -> Result<Vec<Home>> {
    let mut all = Vec::new();
    tree::homes(disk, &mut |home| {
        all.push(home);
        Ok(())
    })?;
    Ok(all)
}

impl<'a> Copying<'a> {
    pub(super) fn new(out: &Arc<dyn Disk>, list: List, pace: &'a Pace, context: &'a Context) -> Copying<'a> {
        let (linked, tally, skipped) = Default::default();
        Copying { out: out.clone(), list, pace, context, linked, tally, skipped, hurry: false }
    }

    /// From now on somebody waits.
    pub(super) fn hurry(&mut self) {
        self.hurry = true;
    }

    /// Copies the files of messages that there are, while they come and go.
    pub(super) fn messages(&mut self, nth: usize, name: &str, disk: &dyn Disk) -> Result<()> {
        for home in homes(disk)? {
            for place in tree::mailboxes(disk, &home)? {
                self.context.progress(self.tally.messages, None, "messages", &place.path());
                for uid in place.uids(disk)? {
                    self.copy(nth, name, disk, &place.message(uid))?;
                }
            }
        }
        Ok(())
    }

    /// Copies everything else of a partition to which nobody writes; what is gone there goes here, too.
    pub(super) fn rest(&mut self, nth: usize, name: &str, disk: &Arc<dyn Disk>) -> Result<()> {
        let copied: Arc<dyn Disk> = Arc::new(Below::new(self.out.clone(), format!("{PARTITIONS}/{name}")));
        let disk = &**disk;
        let there: BTreeSet<Home> = homes(disk)?.into_iter().collect();
        for home in homes(&*copied)?.into_iter().filter(|home| !there.contains(home)) {
            self.forget(name, &*copied, &home, &BTreeSet::new())?;
        }
        for home in &there {
            let places: BTreeSet<Place> = tree::mailboxes(disk, home)?.into_iter().collect();
            self.forget(name, &*copied, home, &places)?;
            for place in &places {
                let (has, wanted) = (uids(&*copied, place)?, uids(disk, place)?);
                for uid in has.difference(&wanted) {
                    self.take_out(name, &*copied, &place.message(*uid))?;
                }
                for uid in wanted.difference(&has) {
                    self.copy(nth, name, disk, &place.message(*uid))?;
                }
                self.tally.mailboxes += 1;
                self.copy(nth, name, disk, &place.index())?;
            }
            self.copy(nth, name, disk, &home.manifest())?;
        }
        for dir in ["", STAGING, QUARANTINE] {
            let files = names(disk, dir)?.into_iter().filter(|entry| entry.kind == Kind::File);
            // Journals that were being made anew are nothing yet.
            for file in files.filter(|entry| !entry.name.ends_with(".new")) {
                let path = if dir.is_empty() { file.name } else { format!("{dir}/{}", file.name) };
                self.copy(nth, name, disk, &path)?;
            }
        }
        Ok(())
    }

    /// Takes the mailboxes of a home out of the copy that are not among these.
    fn forget(&mut self, name: &str, copied: &dyn Disk, home: &Home, wanted: &BTreeSet<Place>) -> Result<()> {
        for place in tree::mailboxes(copied, home)?.into_iter().filter(|place| !wanted.contains(place)) {
            for uid in place.uids(copied)? {
                self.take_out(name, copied, &place.message(uid))?;
            }
        }
        Ok(())
    }

    fn take_out(&mut self, name: &str, copied: &dyn Disk, path: &str) -> Result<()> {
        copied.remove(path).map_err(|e| StoreError::io("remove", copied.display(path), e))?;
        self.tally.messages = self.tally.messages.saturating_sub(1);
        self.list.gone(format!("{PARTITIONS}/{name}/{path}"));
        Ok(())
    }

    /// Copies a file; one that is gone meanwhile is none. One that cannot be read is named and left out.
    fn copy(&mut self, nth: usize, name: &str, disk: &dyn Disk, path: &str) -> Result<()> {
        if self.context.cancelled() {
            return Err(StoreError::Busy { why: "it was ended".to_owned() });
        }
        let to = format!("{PARTITIONS}/{name}/{path}");
        if to.contains(|c: char| c.is_whitespace() || c.is_control()) {
            self.skip(disk, path, "a name that the store does not give");
            return Ok(());
        }
        let is_message = path.ends_with(".msg");
        let stamp = disk.stamp(path).map_err(|e| StoreError::io("stat", disk.display(path), e))?;
        let several = stamp.filter(|stamp| stamp.links > 1).map(|stamp| (nth, stamp.inode));
        if let Some(first) = several.and_then(|number| self.linked.get(&number)) {
            match link(&*self.out, first, &to) {
                Ok(()) => {
                    self.tally.copies += u64::from(is_message);
                    return self.list.add(&Entry::Link(first.clone(), to));
                }
                // The first name went, or has as many as the file system gives: then it is copied once more.
                Err(e) if is_no_space(&e) => return Err(StoreError::io("link", self.out.display(&to), e)),
                Err(_) => {}
            }
        }
        let source = match disk.open(path, Access::Read) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => {
                self.skip(disk, path, &e.to_string());
                return Ok(());
            }
            Ok(source) => source,
        };
        let wrote = |out: &Arc<dyn Disk>, e| StoreError::io("write", out.display(&to), e);
        let target = create(&*self.out, &to).map_err(|e| wrote(&self.out, e))?;
        let done = sum(&*source, &mut |at, bytes| {
            target.write_at(at, bytes).map_err(|e| wrote(&self.out, e))?;
            if self.hurry { Ok(()) } else { self.pace.step(bytes.len() as u64) }
        });
        match done {
            Ok((bytes, crc)) => {
                self.tally.messages += u64::from(is_message);
                self.tally.bytes += bytes;
                if let Some(number) = several {
                    self.linked.insert(number, to.clone());
                }
                self.list.add(&Entry::File(bytes, crc, to))
            }
            Err(Failed::Told(e)) => Err(e),
            Err(Failed::Read(e)) => {
                self.out.remove(&to).map_err(|e| wrote(&self.out, e))?;
                self.skip(disk, path, &e.to_string());
                Ok(())
            }
        }
    }

    fn skip(&mut self, disk: &dyn Disk, path: &str, why: &str) {
        tracing::warn!(event = "complete_backup_skipped", path = disk.display(path), why);
        self.skipped.push((disk.display(path), why.to_owned()));
    }

    /// Puts a small file into the copy.
    pub(super) fn bytes(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        let wrote = |e| StoreError::io("write", self.out.display(path), e);
        create(&*self.out, path).and_then(|file| file.write_at(0, bytes)).map_err(wrote)?;
        self.tally.bytes += bytes.len() as u64;
        let crc = seeded().add(bytes).value();
        self.list.add(&Entry::File(bytes.len() as u64, crc, path.to_owned()))
    }

    /// Reads all of it again; gives length and checksum of its list, what was copied, and what could not be read.
    pub(super) fn finish(self) -> Result<((u64, u32), Tally, Skipped)> {
        let context = self.context;
        let list = self.list.finish(&|| match context.cancelled() {
            true => Err(StoreError::Busy { why: "it was ended".to_owned() }),
            false => Ok(()),
        })?;
        Ok((list, self.tally, self.skipped))
    }
}

fn uids(disk: &dyn Disk, place: &Place) -> Result<BTreeSet<u32>> {
    Ok(place.uids(disk)?.into_iter().collect())
}
