//! The bytes of messages: one plain file each, which any tool can read.
//!
//! # Operation
//! Files are made by a checkpoint, from bytes that the log holds ([`put`]), from a staged file ([`settle`]), or as a second
//! name of one that is there ([`twin`]); all are durable after the next sync of the tree. Each is harmless when done twice: a
//! file that is there is compared, and replaced if it is not what belongs there, for the log or the staged file still has the
//! bytes. [`read`] compares the digest on every read.
//!
//! A message too long for the log is staged first ([`super::staging`]), and durable before its record is written.
//!
//! # Invariants
//! * Nothing is given out whose digest was not compared.
//! * A file is made under its name, never changed, and removed only by [`remove`]; one with other bytes than belong there goes into the
//!   quarantine, unless it is an attempt at them that was broken off.

pub use super::staging::{
    Staging, Unsynced, clear_candidates, clear_staging, set_staging_aside, stage, sync_staged, unstage,
};

use super::mend;
use super::tree::{self, Place};
use crate::disk::{Access, Disk, DiskFile, Kind, create_all, parent};
use crate::error::{Result, StoreError};
use crate::model::message::{Digest, HeaderEnd, Message};
use crate::planted::{self, Bug};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes read at once to compare a file.
const CHUNK: usize = 256 << 10;
/// Files for which it is worth the while to begin a thread.
const FILES_A_THREAD: usize = 8;

/// What identifies the bytes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Body {
    /// How many.
    pub size: u64,
    /// BLAKE3 of them.
    pub digest: Digest,
}

/// The digest of a message being computed. The only file that names `blake3`.
#[derive(Debug, Clone, Default)]
pub struct Hasher(blake3::Hasher, u64);

impl Hasher {
    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
        self.1 += bytes.len() as u64;
    }

    /// Bytes that were added.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.1
    }

    /// What was added.
    #[must_use]
    pub fn body(&self) -> Body {
        Body { size: self.1, digest: Digest(*self.0.finalize().as_bytes()) }
    }
}

impl Body {
    /// That of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Body {
        let mut hasher = Hasher::default();
        hasher.add(bytes);
        hasher.body()
    }
}

impl From<&Message> for Body {
    fn from(message: &Message) -> Body {
        Body { size: message.size, digest: message.digest }
    }
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// It is new.
    New,
    /// It was there.
    Found,
    /// Other bytes were there.
    Replaced,
}

pub(super) fn failed<'a>(op: &'static str, disk: &'a dyn Disk, path: &'a str) -> impl Fn(io::Error) -> StoreError + 'a {
    move |e| StoreError::io(op, disk.display(path), e)
}

pub(super) fn is(e: &io::Error, kind: io::ErrorKind) -> bool {
    e.kind() == kind
}

/// Makes the name of a message by `make`, and the directories above it if they are not there; one that holds `body` already stays, of
/// any other the way is cleared first ([`mend::clear_name`]). `own`: what an attempt that was broken off wrote.
fn make(
    disk: &dyn Disk,
    (place, uid): (&Place, u32),
    (body, own): (Body, &dyn Fn() -> Vec<u8>),
    make: &dyn Fn() -> io::Result<()>,
) -> Result<Made> {
    let path = &place.message(uid);
    let mut done = make();
    if done.as_ref().is_err_and(|e| is(e, io::ErrorKind::NotFound)) {
        create_all(disk, parent(path)).map_err(failed("make the directory of", disk, path))?;
        done = make();
    }
    match done {
        Ok(()) => Ok(Made::New),
        Err(e) if is(&e, io::ErrorKind::AlreadyExists) => {
            if holds(disk, path, body)? {
                return Ok(Made::Found);
            }
            mend::clear_name(disk, place, uid, &own())?;
            make().map_err(failed("write", disk, path))?;
            Ok(Made::Replaced)
        }
        Err(e) => Err(failed("write", disk, path)(e)),
    }
}

/// Makes the file of a message from its bytes, whose digest is `body`.
///
/// # Errors
/// Those of the disk. A file that was begun stays, and is replaced by the next attempt.
pub fn put(disk: &dyn Disk, place: &Place, uid: u32, bytes: &[u8], body: Body) -> Result<Made> {
    let path = place.message(uid);
    make(disk, (place, uid), (body, &|| bytes.to_vec()), &|| disk.open(&path, Access::CreateNew)?.write_at(0, bytes))
}

/// Gives a message that is there a name in another mailbox of the same partition. Where the file system allows no more names of
/// one file, it is copied.
///
/// # Errors
/// [`StoreError::Corrupt`] if the bytes that are there are not `body`, those of the disk.
pub fn twin(disk: &dyn Disk, from: (&Place, u32), to: (&Place, u32), body: Body) -> Result<Made> {
    let (source, path) = (from.0.message(from.1), to.0.message(to.1));
    let link = || disk.link(&source, &path);
    // Another name of a file that a crash tore.
    let own = || read(disk, from.0, from.1, body).unwrap_or_default();
    match make(disk, to, (body, &own), &link) {
        // The source may be gone since a former attempt: it was purged after that one was done.
        Err(StoreError::Io { source: e, .. }) if is(&e, io::ErrorKind::NotFound) && holds(disk, &path, body)? => {
            Ok(Made::Found)
        }
        Err(StoreError::Io { source: e, .. }) if is(&e, io::ErrorKind::TooManyLinks) => {
            let bytes = read(disk, from.0, from.1, body)?;
            put(disk, to.0, to.1, &bytes, body)
        }
        done => done,
    }
}

/// Gives a staged message its name.
///
/// # Errors
/// Those of the disk; `NotFound` if it is neither staged nor there.
pub fn settle(disk: &dyn Disk, number: u64, place: &Place, uid: u32, body: Body) -> Result<Made> {
    let (staged, path) = (tree::staged(number), place.message(uid));
    match make(disk, (place, uid), (body, &|| read_path(disk, &staged, body).unwrap_or_default()), &|| {
        disk.link(&staged, &path)
    }) {
        Err(StoreError::Io { source: e, .. }) if is(&e, io::ErrorKind::NotFound) && holds(disk, &path, body)? => {
            Ok(Made::Found)
        }
        done => done,
    }
}

/// Takes the name of a message away, whose file is to be made anew whatever it holds: of its own bytes, which come back, nothing stays, and of
/// others what [`mend::clear_name`] leaves.
///
/// # Errors
/// Those of the disk.
pub fn displace(disk: &dyn Disk, place: &Place, uid: u32, body: Body, own: &[u8]) -> Result<()> {
    match holds(disk, &place.message(uid), body)? {
        true => remove(disk, place, uid),
        false => mend::clear_name(disk, place, uid, own),
    }
}

/// True if a file is there with these bytes. A symbolic link is no file, wherever it leads.
fn holds(disk: &dyn Disk, path: &str, body: Body) -> Result<bool> {
    let found = disk.stat(path).map_err(failed("look at", disk, path))?;
    if found.is_none_or(|entry| entry.kind != Kind::File) {
        return Ok(false);
    }
    let file = match disk.open(path, Access::Read) {
        Ok(file) => file,
        Err(e) if is(&e, io::ErrorKind::NotFound) => return Ok(false),
        Err(e) => return Err(failed("open", disk, path)(e)),
    };
    let found = digest(&*file, body.size).map_err(failed("read", disk, path))?;
    Ok(found == body)
}

/// What the file of a message holds, read piece by piece. Of a file that has not the size of `body` only the size is looked at.
///
/// # Errors
/// Those of the disk.
pub fn compare(disk: &dyn Disk, place: &Place, uid: u32, body: Body) -> Result<Body> {
    let path = place.message(uid);
    let file = disk.open(&path, Access::Read).map_err(failed("open", disk, &path))?;
    digest(&*file, body.size).map_err(failed("read", disk, &path))
}

/// [`compare`] for messages of one mailbox, by so many threads at a time: a disk that is asked for one small file after the other does
/// nothing for most of the time.
pub fn compare_all(
    disk: &dyn Disk,
    place: &Place,
    bodies: &[(u32, Body)],
    readers: usize,
) -> BTreeMap<u32, Result<Body>> {
    let one = |(uid, body): &(u32, Body)| (*uid, compare(disk, place, *uid, *body));
    each_by_several(bodies, readers, one).into_iter().collect()
}

/// Does something with each of `all`, by up to so many threads, and gives what came of it in their order.
pub fn each_by_several<T: Sync, R: Send>(all: &[T], threads: usize, one: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = threads.min(all.len() / FILES_A_THREAD);
    if threads < 2 {
        return all.iter().map(one).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || -> Vec<(usize, R)> {
        let mut done = Vec::new();
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = all.get(n) else { return done };
            done.push((n, one(item)));
        }
    };
    let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
        let begin = |_| std::thread::Builder::new().spawn_scoped(scope, work).ok();
        let others: Vec<_> = (1..threads).filter_map(begin).collect();
        let mut done = work();
        for other in others {
            match other.join() {
                Ok(more) => done.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_by_key(|(n, _)| *n);
    done.into_iter().map(|(_, result)| result).collect()
}

/// What the file of a message holds of which nothing is known, and how long its header is; read piece by piece.
///
/// # Errors
/// Those of the disk; `FileTooLarge` if it is longer than `most` bytes.
pub fn look(disk: &dyn Disk, place: &Place, uid: u32, most: u64) -> io::Result<(Body, u32)> {
    let file = disk.open(&place.message(uid), Access::Read)?;
    let len = file.len()?;
    if len > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{len} bytes, a message has at most {most}")));
    }
    let (mut hasher, mut header) = (Hasher::default(), HeaderEnd::default());
    each_piece(&*file, len, &mut |piece| {
        hasher.add(piece);
        header.add(piece);
    })?;
    Ok((hasher.body(), header.size()))
}

/// What a file of `size` bytes holds; if it is shorter or longer, its size and no digest.
fn digest(file: &dyn DiskFile, size: u64) -> io::Result<Body> {
    let len = file.len()?;
    if len != size {
        return Ok(Body { size: len, digest: Digest::default() });
    }
    let mut hasher = Hasher::default();
    each_piece(file, size, &mut |piece| hasher.add(piece))?;
    Ok(hasher.body())
}

/// Reads the first `size` bytes of a file.
fn each_piece(file: &dyn DiskFile, size: u64, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK.min(usize::try_from(size).unwrap_or(CHUNK))];
    let mut at = 0;
    while at < size {
        let part = buffer.len().min(usize::try_from(size - at).unwrap_or(CHUNK));
        file.read_at(at, &mut buffer[..part])?;
        each(&buffer[..part]);
        at += part as u64;
    }
    Ok(())
}

/// The bytes of a message. Needs memory for all of them; what a message may have at most is decided when it comes in.
///
/// # Errors
/// [`StoreError::Corrupt`] if they are not what its index says, [`StoreError::Io`] of kind `NotFound` if there is no file.
pub fn read(disk: &dyn Disk, place: &Place, uid: u32, body: Body) -> Result<Vec<u8>> {
    read_path(disk, &place.message(uid), body)
}

/// The bytes of a staged message.
///
/// # Errors
/// As [`read`].
pub fn read_staged(disk: &dyn Disk, number: u64, body: Body) -> Result<Vec<u8>> {
    read_path(disk, &tree::staged(number), body)
}

fn read_path(disk: &dyn Disk, path: &str, body: Body) -> Result<Vec<u8>> {
    let corrupt = |what: &str, found: String, expected: String| StoreError::Corrupt {
        file: disk.display(path),
        offset: 0,
        what: what.to_owned(),
        found,
        expected,
    };
    let file = disk.open(path, Access::Read).map_err(failed("open", disk, path))?;
    let len = file.len().map_err(failed("read", disk, path))?;
    if len != body.size {
        return Err(corrupt("length of a message", len.to_string(), body.size.to_string()));
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    file.read_at(0, &mut bytes).map_err(failed("read", disk, path))?;
    let found = Body::of(&bytes);
    if found != body && !planted::on(Bug::DigestIgnored) {
        return Err(corrupt("digest of a message", found.digest.to_string(), body.digest.to_string()));
    }
    Ok(bytes)
}

/// True if the message has a file.
///
/// # Errors
/// Those of the disk.
pub fn is_there(disk: &dyn Disk, place: &Place, uid: u32) -> Result<bool> {
    let path = place.message(uid);
    Ok(disk.stat(&path).map_err(failed("look at", disk, &path))?.is_some())
}

/// Takes the file of a purged message away; one that is gone is fine.
///
/// # Errors
/// Those of the disk.
pub fn remove(disk: &dyn Disk, place: &Place, uid: u32) -> Result<()> {
    unlink(disk, &place.message(uid))
}

pub(super) fn unlink(disk: &dyn Disk, path: &str) -> Result<()> {
    match disk.remove(path) {
        Err(e) if !is(&e, io::ErrorKind::NotFound) => Err(failed("remove", disk, path)(e)),
        _ => Ok(()),
    }
}
