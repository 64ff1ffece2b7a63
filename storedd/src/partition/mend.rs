//! What a repair does to what lies in a partition: journals made anew, message files replaced, strange ones set aside.
//!
//! # Invariants
//! * Whoever repairs is the one who writes to the partition: no checkpoint goes on meanwhile.
//! * Each function is durable when it returns, and harmless when done twice: a crash leaves the old or the new.
//! * Nothing goes: what was in the place of something else has a name in the quarantine before it loses its own.

use super::apply::{Supply, Target};
use super::bodies::{self, Body, Staging};
use super::index::{History, Index};
use super::manifest::Manifest;
use super::tree::{self, Home, Place, QUARANTINE};
use crate::disk::{Access, Disk, Kind, create_all, parent};
use crate::error::{Result, StoreError};
use crate::planted::{self, Bug};
use std::io;
use std::sync::Arc;

impl Target<'_> {
    /// Makes the index of a mailbox anew from all that is known of it; a damaged one is kept aside.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn index_anew(self, place: &Place, history: &History) -> Result<()> {
        let reading = Index::new(self.disk, self.store, place).reading()?;
        if reading.is_there && !reading.is_whole() {
            let name = format!("{}-{}-{}", place.id, tree::INDEX, reading.last_lsn);
            self.set_aside(&place.index(), &name)?;
        }
        self.rewrite(place, history).map(drop)
    }

    /// Makes the index of a mailbox anew from what counts in it and from what the database says of the mailbox; one that is not whole
    /// from its mirror, too. A mailbox that never had a message has none.
    ///
    /// # Errors
    /// Those of the disk and of `supply`.
    pub fn index_settled(self, place: &Place, supply: &dyn Supply) -> Result<()> {
        let Some(head) = supply.head(place)? else { return Ok(()) };
        let mut history = Index::new(self.disk, self.store, place).read()?;
        if !history.reading.is_there && head.value.row.uidnext <= 1 {
            return Ok(());
        }
        if !history.reading.is_whole() {
            history.merge(Manifest::new(self.disk, self.store, &place.home).mailbox(place.id)?);
        }
        history.take_head(head);
        self.index_anew(place, &history)
    }

    /// Makes the manifest of a home anew, from the indexes below it, from itself where one of them is not whole, and from the rows of
    /// the database; a damaged one is kept aside.
    ///
    /// # Errors
    /// Those of the disk and of `supply`.
    pub fn manifest_anew(self, home: &Home, supply: &dyn Supply) -> Result<()> {
        let manifest = Manifest::new(self.disk, self.store, home);
        let reading = manifest.reading()?;
        if reading.is_there && !reading.is_whole() {
            let name = format!("{}-{}-{}", home.number(), tree::MANIFEST, reading.last_lsn);
            self.set_aside(&home.manifest(), &name)?;
        }
        self.rebuild(&super::apply::HomeRun::nothing(home), &manifest, supply)
    }
}

/// Begins to write bytes that are to take the place of a bad message file, see [`replace`]: they need not be durable before.
///
/// # Errors
/// Those of the disk.
pub fn write(disk: &Arc<dyn Disk>, number: u64, bytes: &[u8]) -> Result<Body> {
    let mut staging: Staging = bodies::stage(disk.clone(), number)?;
    staging.add(bytes)?;
    Ok(staging.leave())
}

/// A staged file that is to be that of a message.
#[derive(Debug, Clone)]
pub struct Replacement {
    /// The mailbox.
    pub place: Place,
    /// UID.
    pub uid: u32,
    /// Number of the staged file.
    pub number: u64,
}

/// Gives messages the files that were staged for them; what has their names now is kept aside. `sync` makes the tree durable: it is called
/// twice, however many they are.
///
/// # Errors
/// Those of the disk and of `sync`.
pub fn replace(disk: &dyn Disk, all: &[Replacement], sync: &dyn Fn() -> Result<()>) -> Result<()> {
    for Replacement { place, uid, .. } in all {
        name_aside(disk, place, *uid)?;
    }
    // IMPORTANT: before a name is taken: the bytes that take it, and the name that those have which lose it.
    if !planted::on(Bug::HealedBeforeSync) {
        sync()?;
    }
    for Replacement { place, uid, number } in all {
        let path = place.message(*uid);
        let io = |e| StoreError::io("put back", disk.display(&path), e);
        create_all(disk, parent(&path)).map_err(io)?;
        disk.rename(&tree::staged(*number), &path).map_err(io)?;
    }
    if planted::on(Bug::HealedNotSynced) { Ok(()) } else { sync() }
}

/// Gives a file that lies under a wrong UID its right one, which has none; the wrong name goes.
///
/// # Errors
/// Those of the disk.
pub fn rename(disk: &dyn Disk, place: &Place, from: u32, to: u32) -> Result<()> {
    let (from, to) = (place.message(from), place.message(to));
    let io = |e| StoreError::io("put back", disk.display(&to), e);
    create_all(disk, parent(&to)).map_err(io)?;
    match disk.link(&from, &to) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(io(e)),
        _ => {}
    }
    durable(disk, parent(&to)).map_err(io)?;
    disk.remove(&from).and_then(|()| disk.sync_dir(parent(&from))).map_err(io)
}

/// Clears the way for the file of a message whose name something else has: a part of its bytes (`own`) that a crash left goes, for they are all
/// about to be written; whatever else it is moves into the quarantine.
///
/// # Errors
/// Those of the disk.
pub fn clear_name(disk: &dyn Disk, place: &Place, uid: u32, own: &[u8]) -> Result<()> {
    if planted::on(Bug::StrangerReplaced) || is_broken_off(disk, &place.message(uid), own)? {
        return bodies::remove(disk, place, uid);
    }
    let kept = set_aside(disk, place, uid)?;
    tracing::warn!(event = "stray_file_set_aside", uid, mailbox = place.id, kept, "another message has its name");
    Ok(())
}

/// True of a file in which there is nothing but bytes of these, each in its place, and where a crash kept none of them zeros.
fn is_broken_off(disk: &dyn Disk, path: &str, own: &[u8]) -> Result<bool> {
    let io = |e| StoreError::io("look at", disk.display(path), e);
    let Some(entry) = disk.stat(path).map_err(io)?.filter(|entry| entry.kind == Kind::File) else { return Ok(false) };
    let Some(own) = usize::try_from(entry.len).ok().and_then(|len| own.get(..len)) else { return Ok(false) };
    let mut found = vec![0; own.len()];
    disk.open(path, Access::Read).and_then(|file| file.read_at(0, &mut found)).map_err(io)?;
    Ok(found.iter().zip(own).all(|(found, own)| found == own || *found == 0))
}

/// Moves what has the name of a message into the quarantine; nothing there is fine. Gives the name it has from then on.
///
/// # Errors
/// Those of the disk.
pub fn set_aside(disk: &dyn Disk, place: &Place, uid: u32) -> Result<Option<String>> {
    let path = place.message(uid);
    let Some(kept) = keep(disk, place, uid)? else { return Ok(None) };
    let io = |e| StoreError::io("set aside", disk.display(&path), e);
    match disk.remove(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io(e)),
        _ => disk.sync_dir(parent(&path)).map_err(io)?,
    }
    Ok(Some(kept))
}

/// Takes the directory of a mailbox of which nobody knows anything away, once no message lies in it; its index goes into the quarantine. One
/// that holds anything else stays.
///
/// # Errors
/// Those of the disk.
pub fn clear(disk: &dyn Disk, place: &Place) -> Result<()> {
    let path = place.path();
    let io = |e| StoreError::io("clear", disk.display(&path), e);
    let entries = match disk.list(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(io)?,
    };
    for entry in entries.iter().filter(|entry| entry.kind == Kind::Dir) {
        match disk.remove_dir(&format!("{path}/{}", entry.name)) {
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(()),
            done => done.map_err(io)?,
        }
    }
    let is_file = |entry: &crate::disk::Entry| entry.kind != Kind::Dir;
    if entries.iter().any(|entry| is_file(entry) && entry.name != tree::INDEX) {
        return Ok(());
    }
    if entries.iter().any(is_file) {
        create_all(disk, QUARANTINE).map_err(io)?;
        // Its number is given once, so this name is free.
        disk.rename(&place.index(), &format!("{QUARANTINE}/{}-{}", place.id, tree::INDEX)).map_err(io)?;
        durable(disk, QUARANTINE).map_err(io)?;
    }
    disk.remove_dir(&path).and_then(|()| disk.sync_dir(parent(&path))).map_err(io)
}

/// Moves the directory of a mailbox into the quarantine, with all that is in it. Gives the name it has from then on.
///
/// # Errors
/// Those of the disk.
pub fn set_mailbox_aside(disk: &dyn Disk, place: &Place) -> Result<String> {
    let path = place.path();
    let io = |e| StoreError::io("set aside", disk.display(&path), e);
    create_all(disk, QUARANTINE).map_err(io)?;
    for n in 0..KEPT_MAX {
        let kept = format!("{QUARANTINE}/{}-mailbox-{n}", place.id);
        if disk.stat(&kept).map_err(io)?.is_some() {
            continue;
        }
        disk.rename(&path, &kept).map_err(io)?;
        durable(disk, QUARANTINE).and_then(|()| disk.sync_dir(parent(&path))).map_err(io)?;
        return Ok(disk.display(&kept));
    }
    Err(StoreError::Busy { why: format!("{} holds {KEPT_MAX} directories of one mailbox", disk.display(QUARANTINE)) })
}

/// Moves what is no directory and no file, where one belongs, out of the way to a home and its mailboxes: a link that somebody planted.
/// Nothing behind it is looked at. Gives the names that they have in the quarantine.
///
/// # Errors
/// Those of the disk.
pub fn clear_way(disk: &dyn Disk, home: &Home, mailboxes: &[u64]) -> Result<Vec<String>> {
    let mut kept = Vec::new();
    let mut clear = |path: &str, belongs: Kind| -> Result<()> {
        let io = |e| StoreError::io("set aside", disk.display(path), e);
        let found = disk.stat(path).map_err(io)?;
        if found.is_some_and(|entry| entry.kind != belongs) {
            kept.push(set_path_aside(disk, path).map_err(io)?);
        }
        Ok(())
    };
    let ends = home.path().match_indices('/').map(|(at, _)| at).chain([home.path().len()]);
    ends.into_iter().try_for_each(|end| clear(&home.path()[..end], Kind::Dir))?;
    clear(&home.manifest(), Kind::File)?;
    for id in mailboxes {
        let place = home.mailbox(*id);
        let path = place.path();
        clear(&path, Kind::Dir)?;
        let entries = match disk.list(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(|e| StoreError::io("list", disk.display(&path), e))?,
        };
        for entry in entries {
            match entry.name == tree::INDEX {
                true => clear(&place.index(), Kind::File)?,
                // A file is no group, and in nobody's way.
                false if entry.kind == Kind::File => {}
                false => clear(&format!("{path}/{}", entry.name), Kind::Dir)?,
            }
        }
    }
    Ok(kept)
}

/// Moves something into the quarantine, durably; gives the name it has from then on.
fn set_path_aside(disk: &dyn Disk, path: &str) -> io::Result<String> {
    create_all(disk, QUARANTINE)?;
    let name = path.rsplit('/').next().unwrap_or(path);
    for n in 0..KEPT_MAX {
        let kept = format!("{QUARANTINE}/strange-{n}-{name}");
        if disk.stat(&kept)?.is_none() {
            disk.rename(path, &kept)?;
            durable(disk, QUARANTINE)?;
            disk.sync_dir(parent(path))?;
            return Ok(disk.display(&kept));
        }
    }
    Err(io::Error::other(format!("{} holds {KEPT_MAX} of that name", disk.display(QUARANTINE))))
}

/// Names that are tried for one message in the quarantine.
const KEPT_MAX: u32 = 10_000;

/// Gives what has the name of a message a name in the quarantine, durably; see [`name_aside`].
fn keep(disk: &dyn Disk, place: &Place, uid: u32) -> Result<Option<String>> {
    let kept = name_aside(disk, place, uid)?;
    if kept.is_some() {
        durable(disk, QUARANTINE).map_err(|e| StoreError::io("set aside", disk.display(&place.message(uid)), e))?;
    }
    Ok(kept)
}

/// Gives what has the name of a message a name in the quarantine. A directory or a link moves there; a file keeps its own name, too.
fn name_aside(disk: &dyn Disk, place: &Place, uid: u32) -> Result<Option<String>> {
    let path = place.message(uid);
    let io = |e| StoreError::io("set aside", disk.display(&path), e);
    let Some(entry) = disk.stat(&path).map_err(io)? else { return Ok(None) };
    create_all(disk, QUARANTINE).map_err(io)?;
    for n in 0..KEPT_MAX {
        let kept = format!("{QUARANTINE}/{}-{uid}-{n}", place.id);
        let done = match entry.kind {
            Kind::File => disk.link(&path, &kept),
            _ if disk.stat(&kept).map_err(io)?.is_some() => Err(io::ErrorKind::AlreadyExists.into()),
            _ => disk.rename(&path, &kept),
        };
        match done {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(io(e)),
            Ok(()) => return Ok(Some(disk.display(&kept))),
        }
    }
    Err(StoreError::Busy { why: format!("{} holds {KEPT_MAX} files of one message", disk.display(QUARANTINE)) })
}

/// Makes the names in `dir`, and the name of each directory above it, durable.
fn durable(disk: &dyn Disk, dir: &str) -> io::Result<()> {
    disk.sync_dir(dir)?;
    if dir.is_empty() { Ok(()) } else { durable(disk, parent(dir)) }
}
