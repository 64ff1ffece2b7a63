//! A complete copy put back on a host where its partitions are not.
//!
//! # Operation
//! What is to become of each partition is decided first, and nothing is changed ([`Found::work`]). [`Found::put`] then copies their files, each
//! compared with its checksum on the way; `PARTITION`, without which a root counts as not mounted, comes last. The database follows as any backup
//! does (`super::super::restore`). Files without which a partition is none are read before anything is changed ([`Found::expect_indexes`]); a message that is
//! not as the copy was written is left out, and named: its index says what is lost, and an archive may have it.
//!
//! # Invariants
//! * A partition that is there is left as it is, and nothing is put over files of others.
//! * What was broken off is gone on with by the same call: `.restoring` in a root says whose files lie there, in both of a partition that has two.
//! * Of a partition with two roots both are put back where both are gone, and the one with the indexes alone beside messages that are there. Messages
//!   are never put beside indexes that are there, which may be newer than what the copy has of messages: that is refused.

use super::list::{Entry, Failed, Reader, expect, prove, sum};
use super::tree::sync;
use super::{
    DATA, FILES, MANIFEST, MARK, Manifest, NOTE_BYTES_MAX, PARTITIONS, TEXT_BYTES_MAX, Tally, UNREADABLE, create, link,
    seeded,
};
use crate::disk::{self, Access, Disk, Kind};
use crate::error::{Result, StoreError, exit};
use crate::partition::identity::{self, Identity};
use crate::partition::split::Split;
use crate::partition::{RealRoots, Roots, in_use};
use crate::planted::{self, Bug};
use crate::site::Site;
use crate::snapshot::Backup;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// In the root of a partition that is being put back.
const RESTORING: &str = ".restoring";
/// What becomes it ([`disk::replace`]).
const RESTORING_NEW: &str = ".restoring.new";

/// What becomes of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is put where nothing is.
    New,
    /// It was begun, and is gone on with.
    GoOn,
    /// It is there, and stays as it is.
    IsThere,
}

/// A partition, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Its name.
    pub name: String,
    /// Where it is to lie.
    pub site: Site,
    /// What becomes of it.
    pub put: Put,
}

impl Work {
    /// For people, as what would be done.
    #[must_use]
    pub fn step(&self) -> String {
        let (name, path) = (&self.name, &self.site);
        match self.put {
            Put::New => format!("put partition {name} into {path}"),
            Put::GoOn => format!("go on putting partition {name} into {path}"),
            Put::IsThere => format!("leave partition {name} as it is: it is there, in {path}"),
        }
    }
}

/// A message that cannot be put back, for it is not as the copy was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// Its file in the copy.
    pub file: String,
    /// Why.
    pub why: String,
}

/// What was put back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PutBack {
    /// How much.
    pub tally: Tally,
    /// What was left out.
    pub unfit: Vec<Unfit>,
}

/// True for the file of a message: without it the rest is a store all the same, whose index says what is lost.
fn is_message(path: &str) -> bool {
    path.starts_with(PARTITIONS) && path.ends_with(".msg")
}

/// A complete copy that was found.
#[derive(Debug)]
pub struct Found {
    disk: Arc<dyn Disk>,
    /// How roots of partitions are opened.
    roots: Arc<dyn Roots>,
    /// What it says of itself.
    pub manifest: Manifest,
}

fn refused(message: String, hint: &str, exit: u8) -> StoreError {
    StoreError::Refused { message, hint: hint.to_owned(), exit }
}

impl Found {
    /// The complete copy in the root of a disk; `None` if there is nothing of the kind.
    ///
    /// # Errors
    /// [`StoreError::Refused`] (65) for one that is incomplete; what is wrong with its manifest.
    pub fn at(disk: Arc<dyn Disk>) -> Result<Option<Found>> {
        Found::for_roots(disk, Arc::new(RealRoots))
    }

    /// The same, for partitions whose roots are opened so.
    ///
    /// # Errors
    /// As [`Found::at`].
    pub fn for_roots(disk: Arc<dyn Disk>, roots: Arc<dyn Roots>) -> Result<Option<Found>> {
        let there = |path: &str| match disk.stat(path) {
            Ok(found) => Ok(found.is_some()),
            Err(e) => Err(StoreError::io("stat", disk.display(path), e)),
        };
        if there(MARK)? {
            let message = format!("{} is incomplete: the copy was broken off, or is being made", disk.display(""));
            return Err(refused(message, "take another one: storectl backup --complete DIR", exit::BAD_INPUT));
        }
        if !there(MANIFEST)? {
            return Ok(None);
        }
        let bytes = disk::read_small(&*disk, MANIFEST, TEXT_BYTES_MAX);
        let bytes = bytes.map_err(|e| StoreError::io("read", disk.display(MANIFEST), e))?;
        let manifest = Manifest::decode(&bytes, &disk.display(MANIFEST))?;
        Ok(Some(Found { disk, roots, manifest }))
    }

    /// The backup of the database in it.
    #[must_use]
    pub fn backup(&self) -> Backup {
        Backup::at(self.disk.clone(), &self.manifest.backup)
    }

    fn list(&self) -> Result<Reader> {
        Reader::open(&self.disk, FILES, self.manifest.list)
    }

    /// Reads every file in it but those of the database's backup; changes nothing. Gives how many there are, and which messages are damaged or
    /// missing.
    ///
    /// # Errors
    /// What is wrong with the first of all other files that is missing or otherwise.
    pub fn verify(&self) -> Result<(u64, Vec<Unfit>)> {
        let (mut list, mut files, mut unfit) = (self.list()?, 0, Vec::new());
        while let Some(entry) = list.next()? {
            let path = entry.path();
            let proven = match &entry {
                Entry::File(bytes, crc, _) => prove(&*self.disk, path, *bytes, *crc),
                Entry::Link(..) => match self.disk.stat(path) {
                    Ok(Some(found)) if found.kind == Kind::File => Ok(()),
                    Ok(_) => Err(StoreError::Missing { files: vec![self.disk.display(path)] }),
                    Err(e) => Err(StoreError::io("stat", self.disk.display(path), e)),
                },
            };
            match proven {
                Err(e) if is_message(path) => unfit.push(self.unfit(path, &e)),
                proven => proven?,
            }
            files += 1;
        }
        Ok((files, unfit))
    }

    /// Reads what partitions cannot do without, of those that are to be put back: indexes, manifests, identities, notes. Changes nothing.
    ///
    /// # Errors
    /// What is wrong with the first.
    pub fn expect_indexes(&self, work: &[Work]) -> Result<()> {
        let mut list = self.list()?;
        let is_put = |path: &str| {
            let of =
                path.split_once('/').filter(|(area, _)| *area == PARTITIONS).and_then(|(_, rest)| rest.split_once('/'));
            of.is_none_or(|(name, _)| work.iter().any(|one| one.name == name && one.put != Put::IsThere))
        };
        while let Some(entry) = list.next()? {
            if let Entry::File(bytes, crc, path) = &entry
                && !is_message(path)
                && is_put(path)
            {
                prove(&*self.disk, path, *bytes, *crc)?;
            }
        }
        Ok(())
    }

    /// A copy whose disk goes away is not one that has lost its messages: then `why` ends it all.
    fn expect_there(&self, why: &StoreError) -> Result<()> {
        let read = disk::read_small(&*self.disk, MANIFEST, TEXT_BYTES_MAX);
        if read.is_ok_and(|bytes| bytes == self.manifest.encode()) {
            return Ok(());
        }
        let message = format!("{} does not answer as it did when this began: {why}", self.disk.display(""));
        Err(refused(message, "mount it again, and give the same command", exit::IO))
    }

    fn unfit(&self, path: &str, why: &StoreError) -> Unfit {
        Unfit { file: self.disk.display(path), why: why.to_string() }
    }

    /// What could not be read when it was taken, or was damaged then already: a line for each file.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn unreadable(&self) -> Result<Vec<String>> {
        match disk::read_small(&*self.disk, UNREADABLE, NOTE_BYTES_MAX) {
            Ok(text) => Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(StoreError::io("read", self.disk.display(UNREADABLE), e)),
        }
    }

    /// What is to be done about each partition, or about those that are `wanted`; `places` says where they are to lie. Changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Refused`]: 78 if nothing says where one is to lie, 73 if something else lies there.
    pub fn work(&self, places: &BTreeMap<String, Site>, wanted: &[String]) -> Result<Vec<Work>> {
        let one = |(name, id): &(String, identity::PartitionId)| {
            let site = places.get(name).cloned().ok_or_else(|| {
                let message = format!("the copy has a partition {name}, and nothing says where it is to lie");
                refused(message, "add [partition.NAME] with its path to the configuration", exit::CONFIG)
            })?;
            let put = self.put_at(&site.path, *id)?;
            self.expect_layout(name, &site, put)?;
            Ok(Work { name: name.clone(), site, put })
        };
        let is_wanted = |(name, _): &&(String, _)| wanted.is_empty() || wanted.contains(name);
        self.manifest.partitions.iter().filter(is_wanted).map(one).collect()
    }

    fn put_at(&self, path: &Path, id: identity::PartitionId) -> Result<Put> {
        let Some(root) = self.root(path)? else { return Ok(Put::New) };
        match is_begun(&*root, &self.manifest)? {
            Some(true) => return Ok(Put::GoOn),
            Some(false) => {
                let message = format!("{}: another copy was being put there", path.display());
                return Err(refused(message, "empty the directory", exit::EXISTS));
            }
            None => {}
        }
        let Some(holds) = foreign(&*root)? else { return Ok(Put::New) };
        match Identity::read(&*root)? {
            Some(there) if there.store_id == self.manifest.store_id && there.id == id => Ok(Put::IsThere),
            Some(there) => {
                let message = format!("{} is another partition, made as {}", path.display(), there.name);
                Err(refused(message, "put it aside, or name another place in the configuration", exit::EXISTS))
            }
            None => Err(not_empty(path, &holds)),
        }
    }

    /// A root that is there.
    fn root(&self, path: &Path) -> Result<Option<Arc<dyn Disk>>> {
        match self.roots.open(path) {
            Ok(root) => Ok(Some(root)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(StoreError::io("open", path.display().to_string(), e)),
        }
    }

    /// Refuses to go on where another process uses a partition that is there: the store that comes back would have it, too, and both would write.
    ///
    /// # Errors
    /// [`StoreError::Refused`] (75), with who that is.
    pub fn expect_unused(&self, work: &[Work]) -> Result<()> {
        for one in work {
            for path in one.site.roots() {
                if let Some(why) = self.root(path)?.and_then(|root| in_use(&*root)) {
                    let hint = "stop that one; to prove a copy beside it, name other places: docs/backup.md, Beside a live store";
                    return Err(refused(format!("partition {}: {why}", one.name), hint, exit::BUSY));
                }
            }
        }
        Ok(())
    }

    /// A partition with two roots is put back into two, and one with one into one.
    fn expect_layout(&self, name: &str, site: &Site, put: Put) -> Result<()> {
        let (copied, hint) = (self.identity(name)?, "change message_path of [partition.NAME] in the configuration");
        match &site.messages {
            None if copied.is_split => Err(refused(
                format!(
                    "partition {name} has a root of its own for message files, and no message_path says where it is to lie"
                ),
                hint,
                exit::CONFIG,
            )),
            Some(path) if !copied.is_split => Err(refused(
                format!(
                    "the message files of partition {name} lie in its one root, and message_path says {}",
                    path.display()
                ),
                hint,
                exit::CONFIG,
            )),
            Some(path) => self.expect_messages(site, path, put, copied.id),
            None => Ok(()),
        }
    }

    /// The second root of a partition is its own, or empty if it is to be put back.
    fn expect_messages(&self, site: &Site, path: &Path, put: Put, id: identity::PartitionId) -> Result<()> {
        let holds = match self.root(path)? {
            None => None,
            Some(root) => {
                let is_its = |found: Identity| found.store_id == self.manifest.store_id && found.id == id;
                let is_begun = put != Put::IsThere && is_begun(&*root, &self.manifest)? == Some(true);
                if is_begun || Identity::read_messages(&*root)?.is_some_and(is_its) {
                    return Ok(());
                }
                foreign(&*root)?
            }
        };
        match (put, holds) {
            (Put::IsThere, _) => {
                let (index, path) = (site.path.display(), path.display());
                let message =
                    format!("the indexes of the partition are there, in {index}, and its messages are not in {path}");
                let hint = "mount their disk; if it is lost, put the directory of the indexes aside: both are put back";
                Err(refused(message, hint, exit::EXISTS))
            }
            (_, Some(holds)) => Err(not_empty(path, &holds)),
            (_, None) => Ok(()),
        }
    }

    /// What the copy of a partition says of whose it is.
    fn identity(&self, name: &str) -> Result<Identity> {
        self.identity_bytes(name).map(|(_, identity)| identity)
    }

    fn identity_bytes(&self, name: &str) -> Result<(Vec<u8>, Identity)> {
        let path = format!("{PARTITIONS}/{name}/{}", identity::FILE);
        let bytes = disk::read_small(&*self.disk, &path, 4096);
        let bytes = bytes.map_err(|e| StoreError::io("read", self.disk.display(&path), e))?;
        let identity = Identity::decode(&bytes, &self.disk.display(&path))?;
        Ok((bytes, identity))
    }

    /// Does it, durably; `data` is the data directory, to which the notes go that it has not, if they are to go there. A message that is not as the
    /// copy was written is left out.
    ///
    /// # Errors
    /// Those of the disks; what is wrong with any other file of the copy. The same call goes on.
    pub fn put(&self, work: &[Work], data: Option<&Arc<dyn Disk>>, each: &mut dyn FnMut(&str)) -> Result<PutBack> {
        let mut roots = BTreeMap::new();
        for one in work.iter().filter(|one| one.put != Put::IsThere) {
            let make = |path: &Path| {
                let made = self.roots.make(path);
                made.map_err(|e| StoreError::io("make directory", path.display().to_string(), e))
            };
            let (index, messages) = (make(&one.site.path)?, one.site.messages.as_deref().map(make).transpose()?);
            for root in [&index].into_iter().chain(&messages) {
                let marked = disk::replace(&**root, RESTORING, &self.manifest.encode());
                marked.map_err(|e| StoreError::io("write", root.display(RESTORING), e))?;
            }
            let root: Arc<dyn Disk> = match &messages {
                None => index,
                Some(messages) => Arc::new(Split::new(index, messages.clone())),
            };
            roots.insert(one.name.as_str(), (root, messages));
        }
        let target = |path: &str| {
            let (area, rest) = path.split_once('/')?;
            if area == DATA {
                return Some((data?.clone(), rest.to_owned(), true));
            }
            let (name, rest) = rest.split_once('/').filter(|_| area == PARTITIONS)?;
            Some((roots.get(name)?.0.clone(), rest.to_owned(), false))
        };
        let (mut list, mut done) = (self.list()?, PutBack::default());
        // What each further name of a message that was left out is measured by, and the name that stands for it now.
        let mut lost: HashMap<String, (u64, u32)> = HashMap::new();
        let mut instead: HashMap<String, String> = HashMap::new();
        while let Some(entry) = list.next()? {
            let Some((root, path, is_note)) = target(entry.path()) else { continue };
            let mut file = |from: &str, expected: (u64, u32), done: &mut PutBack| -> Result<bool> {
                let copied = match is_note {
                    true => self.note(from, expected, &*root, &path),
                    false => self.copy(from, expected, &*root, &path),
                };
                match copied {
                    Ok(()) => {
                        done.tally.bytes += expected.0;
                        done.tally.messages += u64::from(path.ends_with(".msg"));
                        Ok(true)
                    }
                    Err(Copied::Source(e)) if is_message(from) => {
                        self.expect_there(&e)?;
                        remove(&*root, &path)?;
                        let unfit = self.unfit(from, &e);
                        each(&format!("left out: {}", unfit.why));
                        done.unfit.push(unfit);
                        Ok(false)
                    }
                    Err(Copied::Source(e) | Copied::Target(e)) => Err(e),
                }
            };
            match &entry {
                Entry::File(..) if !is_note && path == identity::FILE => continue,
                Entry::File(..) if is_note && there(&*root, &path)? => continue,
                Entry::File(bytes, crc, from) => {
                    if !file(from, (*bytes, *crc), &mut done)? {
                        lost.insert(from.clone(), (*bytes, *crc));
                    }
                }
                Entry::Link(first, from) => {
                    let first = match (lost.get(first), instead.get(first)) {
                        // Where names are files of their own by now, another one may be whole.
                        (Some(expected), None) => {
                            if file(from, *expected, &mut done)? {
                                instead.insert(first.clone(), from.clone());
                            }
                            continue;
                        }
                        (_, Some(other)) => other,
                        (None, None) => first,
                    };
                    done.tally.copies += 1;
                    let first = target(first).map(|(_, first, _)| first).unwrap_or_default();
                    remove(&*root, &path)?;
                    link(&*root, &first, &path).map_err(|e| StoreError::io("link", root.display(&path), e))?;
                }
            }
            let count = done.tally.messages + done.tally.copies;
            if count % 1000 == 0 && path.ends_with(".msg") {
                each(&format!("{count} messages"));
            }
        }
        for (name, (root, messages)) in &roots {
            if !planted::on(Bug::PutBackNotSynced) {
                sync(&**root)?;
            }
            self.name(name, &**root, messages.as_deref())?;
            each(&format!("partition {name} is there"));
        }
        Ok(done)
    }

    /// From now on it is a partition. The first root says last that nothing is to be gone on with.
    fn name(&self, name: &str, root: &dyn Disk, messages: Option<&dyn Disk>) -> Result<()> {
        let (bytes, _) = self.identity_bytes(name)?;
        disk::replace(root, identity::FILE, &bytes)
            .map_err(|e| StoreError::io("write", root.display(identity::FILE), e))?;
        for root in messages.into_iter().chain([root]) {
            remove(root, RESTORING)?;
            root.sync_dir("").map_err(|e| StoreError::io("sync", root.display(""), e))?;
        }
        Ok(())
    }

    /// Copies a note of the data directory, durably: it is there as a whole, or not at all. Nothing else syncs that directory, and one that is there is
    /// never looked at again.
    fn note(&self, from: &str, expected: (u64, u32), data: &dyn Disk, path: &str) -> CopyResult {
        let bytes = disk::read_small(&*self.disk, from, NOTE_BYTES_MAX);
        let bytes = bytes.map_err(|e| Copied::Source(StoreError::io("read", self.disk.display(from), e)))?;
        let found = (bytes.len() as u64, seeded().add(&bytes).value());
        expect(&self.disk.display(from), found, expected).map_err(Copied::Source)?;
        let wrote = |e| Copied::Target(StoreError::io("write", data.display(path), e));
        disk::create_all(data, disk::parent(path)).and_then(|()| data.sync_dir("")).map_err(wrote)?;
        disk::replace(data, path, &bytes).map_err(wrote)
    }

    /// Copies a file that is as the list says; one that is there and is so already stays.
    fn copy(&self, from: &str, expected: (u64, u32), root: &dyn Disk, path: &str) -> CopyResult {
        let wrote = |e| StoreError::io("write", root.display(path), e);
        let (bytes, crc) = expected;
        if there(root, path).map_err(Copied::Target)? {
            if prove(root, path, bytes, crc).is_ok() {
                return Ok(());
            }
            remove(root, path).map_err(Copied::Target)?;
        }
        let shown = self.disk.display(from);
        let source = self.disk.open(from, Access::Read).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Copied::Source(StoreError::Missing { files: vec![shown.clone()] }),
            _ => Copied::Source(StoreError::io("open", shown.clone(), e)),
        })?;
        let file = create(root, path).map_err(|e| Copied::Target(wrote(e)))?;
        let found = sum(&*source, &mut |at, bytes| file.write_at(at, bytes).map_err(wrote)).map_err(|e| match e {
            Failed::Read(e) => Copied::Source(StoreError::io("read", shown.clone(), e)),
            Failed::Told(e) => Copied::Target(e),
        })?;
        expect(&shown, found, expected).map_err(Copied::Source)
    }
}

/// Why a file was not copied.
enum Copied {
    /// It is not as the copy was written.
    Source(StoreError),
    /// Where it was to go.
    Target(StoreError),
}

type CopyResult = std::result::Result<(), Copied>;

fn not_empty(path: &Path, holds: &str) -> StoreError {
    let message = format!("{} is not empty: it holds {holds}", path.display());
    refused(message, "put that aside, or name another place in the configuration", exit::EXISTS)
}

/// Whether it is this copy that is being put into a root; `None`: none is.
fn is_begun(root: &dyn Disk, manifest: &Manifest) -> Result<Option<bool>> {
    match disk::read_small(root, RESTORING, TEXT_BYTES_MAX) {
        Ok(bytes) => Ok(Some(bytes == manifest.encode())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(StoreError::io("read", root.display(RESTORING), e)),
    }
}

/// Something in a root that no restore has begun to fill; `None`: it is empty.
fn foreign(root: &dyn Disk) -> Result<Option<String>> {
    let entries = root.list("").map_err(|e| StoreError::io("list", root.display(""), e))?;
    // A restore that was killed before it had said whose files are to come leaves what it said that with, and no file.
    let ours = ["lost+found", RESTORING_NEW];
    Ok(entries.into_iter().map(|entry| entry.name).find(|name| !ours.contains(&&**name)))
}

fn there(disk: &dyn Disk, path: &str) -> Result<bool> {
    disk.stat(path).map(|found| found.is_some()).map_err(|e| StoreError::io("stat", disk.display(path), e))
}

fn remove(disk: &dyn Disk, path: &str) -> Result<()> {
    match disk.remove(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", disk.display(path), e)),
        _ => Ok(()),
    }
}
