//! Partitions copied into a complete copy.
//!
//! # Operation
//! What was copied while files came and went is not trusted: a file may have been seen half written, and the number of one that went may have
//! been given to another. So the digest of each message is computed of the bytes that are written into the copy, and compared with the index as soon
//! as nobody writes to the partition. What differs is copied again; what differs then, too, is damaged in the store, and named.

use super::list::{Entry, Failed, List, sum};
use super::written::Written;
use super::{PARTITIONS, Tally, UNREADABLE, create, link, seeded};
use crate::disk::{self, Access, Below, Disk, Kind};
use crate::error::{Result, StoreError, is_no_space};
use crate::jobs::pace::Pace;
use crate::jobs::registry::Context;
use crate::lsn::Lsn;
use crate::model::keys::id_key;
use crate::model::message::{Message, State};
use crate::model::{Rows, Table};
use crate::partition::bodies::{Body, Hasher};
use crate::partition::index::Index;
use crate::partition::past::Owner;
use crate::partition::tree::{self, Home, Place, QUARANTINE, STAGING};
use crate::planted::{self, Bug};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::io;
use std::sync::Arc;

/// Files that could not be read or are damaged, and why.
type Skipped = BTreeMap<String, String>;

/// Length and checksum of the list, what is in it, and what could not be read.
pub(super) type Finished = ((u64, u32), Tally, Vec<(String, String)>);

/// What tells a file of a partition from one that had its number before: partition, number, length, time of its bytes.
type FileKey = (usize, u64, u64, i128);

/// What is held of the digest of a message.
pub(super) type Tag = [u8; 16];

fn tag(body: &Body) -> Tag {
    std::array::from_fn(|n| body.digest.0[n])
}

/// What is to lie in partitions to which nobody writes.
pub(super) struct Truth<'a> {
    /// Whose they are.
    pub(super) owner: Owner<'a>,
    /// Up to where their indexes count.
    pub(super) upto: Lsn,
    /// The rows of that moment.
    pub(super) rows: &'a dyn Rows,
}

impl Truth<'_> {
    /// The messages of a mailbox that have files; and what is wrong with its index.
    fn messages(&self, disk: &dyn Disk, place: &Place) -> Result<(BTreeMap<u32, Tag>, Option<String>)> {
        let history = match Index::new(disk, self.owner, place).read() {
            Ok(history) => history,
            Err(e) => return Ok((BTreeMap::new(), Some(e.to_string()))),
        };
        let wrong = history.reading.is_damaged(self.upto).then(|| history.reading.problem());
        let has_file = history.at(self.upto).map(|m| &m.value).filter(|m| m.state != State::Purged);
        let body = |m: &Message| Body { size: m.size, digest: m.digest };
        Ok((has_file.map(|m| (m.uid, tag(&body(m)))).collect(), wrong))
    }

    /// Whether a mailbox is still somebody's; of one that is being taken away files may be gone.
    fn is_there(&self, place: &Place) -> Result<bool> {
        self.rows.contains(Table::Ids, &id_key(place.id))
    }
}

/// A copy that is being made.
pub(super) struct Copying<'a> {
    out: Arc<dyn Disk>,
    list: List,
    pace: &'a Pace,
    context: &'a Context,
    /// The first name in the copy of a file with several names, and what is there.
    linked: HashMap<FileKey, (String, Option<Tag>)>,
    /// What was written of messages that were copied while others came and went.
    written: Written,
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
    /// Begins one in a directory that is empty.
    ///
    /// # Errors
    /// Those of the disk.
    pub(super) fn begin(out: &Arc<dyn Disk>, pace: &'a Pace, context: &'a Context) -> Result<Copying<'a>> {
        let (list, written) = (List::begin(out)?, Written::begin(out)?);
        let (linked, tally, skipped) = Default::default();
        Ok(Copying { out: out.clone(), list, pace, context, linked, written, tally, skipped, hurry: false })
    }

    /// From now on somebody waits, and what could not be read so far is tried again, if it is still there.
    pub(super) fn hurry(&mut self) {
        self.hurry = true;
        self.skipped.clear();
    }

    /// Copies the files of messages that there are, while they come and go.
    pub(super) fn messages(&mut self, nth: usize, name: &str, disk: &dyn Disk) -> Result<()> {
        for home in homes(disk)? {
            for place in tree::mailboxes(disk, &home)? {
                self.context.progress(self.tally.messages, None, "messages", &place.path());
                let mut written = Vec::new();
                for uid in place.uids(disk)? {
                    if let Some(tag) = self.copy(nth, name, disk, &place.message(uid), None)? {
                        written.push((uid, tag));
                    }
                }
                self.written.add(nth, place, &written)?;
            }
        }
        Ok(())
    }

    /// Copies everything else of a partition to which nobody writes; what is gone there goes here, too, and what is not as `truth` has it is
    /// copied again, or named.
    pub(super) fn rest(&mut self, nth: usize, name: &str, disk: &Arc<dyn Disk>, truth: &Truth<'_>) -> Result<()> {
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
                self.mailbox(nth, name, disk, &*copied, place, truth)?;
            }
            self.copy(nth, name, disk, &home.manifest(), None)?;
        }
        for dir in ["", STAGING, QUARANTINE] {
            let files = names(disk, dir)?.into_iter().filter(|entry| entry.kind == Kind::File);
            // Journals that were being made anew are nothing yet.
            for file in files.filter(|entry| !entry.name.ends_with(".new")) {
                let path = if dir.is_empty() { file.name } else { format!("{dir}/{}", file.name) };
                self.copy(nth, name, disk, &path, None)?;
            }
        }
        Ok(())
    }

    /// A mailbox to which nobody writes.
    fn mailbox(
        &mut self,
        nth: usize,
        name: &str,
        disk: &dyn Disk,
        copied: &dyn Disk,
        place: &Place,
        truth: &Truth<'_>,
    ) -> Result<()> {
        let written = self.written.of(nth, place)?;
        let (has, wanted) = (uids(copied, place)?, uids(disk, place)?);
        let (known, wrong) = truth.messages(disk, place)?;
        for uid in has.difference(&wanted) {
            self.take_out(name, copied, &place.message(*uid))?;
        }
        for uid in &wanted {
            let (path, expected) = (place.message(*uid), known.get(uid));
            let is_there = has.contains(uid);
            // What no index names is there as it was found.
            let is_trusted = planted::on(Bug::CompleteNotCompared);
            if is_there && (is_trusted || expected.is_none_or(|tag| written.get(uid) == Some(tag))) {
                continue;
            }
            if is_there {
                self.take_out(name, copied, &path)?;
            }
            let found = self.copy(nth, name, disk, &path, expected)?;
            let is_other = found.is_some() && expected.is_some() && found.as_ref() != expected;
            if is_other && !planted::on(Bug::CompleteDamageNotNamed) {
                self.skip(disk, &path, "its bytes are damaged in the store, and were copied as they are");
            }
        }
        let is_whole = planted::on(Bug::CompleteLossNotNamed) || known.keys().all(|uid| wanted.contains(uid));
        if !is_whole && truth.is_there(place)? {
            for uid in known.keys().filter(|uid| !wanted.contains(uid)) {
                self.skip(disk, &place.message(*uid), "the store has lost it");
            }
        }
        if let Some(wrong) = wrong {
            self.skip(disk, &place.index(), &format!("it is damaged, and was copied as it is: {wrong}"));
        }
        self.tally.mailboxes += 1;
        self.copy(nth, name, disk, &place.index(), None).map(drop)
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
        self.list.gone(format!("{PARTITIONS}/{name}/{path}"));
        Ok(())
    }

    /// A further name of a file that is in the copy, if `path` is one; with what is there. Nothing is linked that is not `expected`.
    fn again(&mut self, key: FileKey, to: &str, expected: Option<&Tag>) -> Result<Option<Option<Tag>>> {
        let Some((first, tag)) = self.linked.get(&key) else { return Ok(None) };
        let expected = expected.filter(|_| !planted::on(Bug::CompleteLinkNotCompared));
        if self.list.is_gone(first) || expected.is_some_and(|expected| tag.as_ref() != Some(expected)) {
            return Ok(None);
        }
        match link(&*self.out, first, to) {
            Ok(()) => {
                self.list.add(&Entry::Link(first.clone(), to.to_owned()))?;
                Ok(Some(*tag))
            }
            Err(e) if is_no_space(&e) => Err(StoreError::io("link", self.out.display(to), e)),
            // As many names as the file system gives: then it is copied once more.
            Err(_) => Ok(None),
        }
    }

    /// Copies a file; one that is gone meanwhile is none. One that cannot be read is named and left out. Gives what was written, if it is a
    /// message.
    fn copy(
        &mut self,
        nth: usize,
        name: &str,
        disk: &dyn Disk,
        path: &str,
        expected: Option<&Tag>,
    ) -> Result<Option<Tag>> {
        if self.context.cancelled() {
            return Err(StoreError::Busy { why: "it was ended".to_owned() });
        }
        let to = format!("{PARTITIONS}/{name}/{path}");
        if to.contains(|c: char| c.is_whitespace() || c.is_control()) {
            self.skip(disk, path, "a name that the store does not give");
            return Ok(None);
        }
        let stamp = disk.stamp(path).map_err(|e| StoreError::io("stat", disk.display(path), e))?;
        let several = stamp.filter(|stamp| stamp.links > 1);
        let several = several.map(|stamp| (nth, stamp.inode, stamp.len, stamp.modified));
        if let Some(tag) = several.map(|key| self.again(key, &to, expected)).transpose()?.flatten() {
            return Ok(tag);
        }
        let source = match disk.open(path, Access::Read) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => {
                self.skip(disk, path, &e.to_string());
                return Ok(None);
            }
            Ok(source) => source,
        };
        let wrote = |out: &Arc<dyn Disk>, e| StoreError::io("write", out.display(&to), e);
        let target = create(&*self.out, &to).map_err(|e| wrote(&self.out, e))?;
        let mut hasher = path.ends_with(".msg").then(Hasher::default);
        let done = sum(&*source, &mut |at, bytes| {
            hasher.iter_mut().for_each(|hasher| hasher.add(bytes));
            target.write_at(at, bytes).map_err(|e| wrote(&self.out, e))?;
            if self.hurry { Ok(()) } else { self.pace.step(bytes.len() as u64) }
        });
        match done {
            Ok((bytes, crc)) => {
                let found = hasher.map(|hasher| tag(&hasher.body()));
                self.tally.messages += u64::from(found.is_some());
                if let Some(key) = several {
                    self.linked.insert(key, (to.clone(), found));
                }
                self.list.add(&Entry::File(bytes, crc, to))?;
                Ok(found)
            }
            Err(Failed::Told(e)) => Err(e),
            Err(Failed::Read(e)) => {
                self.out.remove(&to).map_err(|e| wrote(&self.out, e))?;
                self.skip(disk, path, &e.to_string());
                Ok(None)
            }
        }
    }

    fn skip(&mut self, disk: &dyn Disk, path: &str, why: &str) {
        tracing::warn!(event = "complete_backup_skipped", path = disk.display(path), why);
        self.skipped.insert(disk.display(path), why.to_owned());
    }

    /// Says in the copy itself what could not be read, or was damaged already.
    pub(super) fn name_skipped(&mut self) -> Result<()> {
        if self.skipped.is_empty() {
            return Ok(());
        }
        let mut text = String::new();
        for (path, why) in &self.skipped {
            let _ = writeln!(text, "{}: {}", path.escape_debug(), why.escape_debug());
        }
        self.bytes(UNREADABLE, text.as_bytes())
    }

    /// Puts a small file into the copy.
    pub(super) fn bytes(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        let wrote = |e| StoreError::io("write", self.out.display(path), e);
        create(&*self.out, path).and_then(|file| file.write_at(0, bytes)).map_err(wrote)?;
        let crc = seeded().add(bytes).value();
        self.list.add(&Entry::File(bytes.len() as u64, crc, path.to_owned()))
    }

    /// Reads all of it again; gives length and checksum of its list, what is in it, and what could not be read.
    pub(super) fn finish(self) -> Result<Finished> {
        let context = self.context;
        self.written.end()?;
        let (list, tally) = self.list.finish(&|| match context.cancelled() {
            true => Err(StoreError::Busy { why: "it was ended".to_owned() }),
            false => Ok(()),
        })?;
        Ok((list, Tally { mailboxes: self.tally.mailboxes, ..tally }, self.skipped.into_iter().collect()))
    }
}

fn uids(disk: &dyn Disk, place: &Place) -> Result<BTreeSet<u32>> {
    Ok(place.uids(disk)?.into_iter().collect())
}
