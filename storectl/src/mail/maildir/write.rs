//! A Maildir++ that is written. A message has its place by its UID and UIDVALIDITY, so a second run finds what is there and only
//! corrects its flags; a run that was broken off is taken up by running it again.
//!
//! # Links
//! The root may be a link; below it none is followed, and no file is written into that was there before: whoever may write into the tree could
//! have put links there, to places where only the writer may write.

use super::{KEYWORDS_FILE, Keywords, Name, SUBSCRIPTIONS_FILE, directory_of};
use crate::mail::About;
use jiff::Timestamp;
use rustix::fs::{AtFlags, Dir, Mode, OFlags, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::{File, FileTimes};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Longest file of keywords that is read, in bytes.
const NAMES_BYTES_MAX: u64 = 1 << 20;

/// The tree that is written.
#[derive(Debug)]
pub struct Export {
    root: OwnedFd,
}

/// A folder that is written.
#[derive(Debug)]
pub struct Put {
    directory: OwnedFd,
    cur: OwnedFd,
    tmp: OwnedFd,
    keywords: Keywords,
    /// Names of files that are there, by what names their messages.
    there: BTreeMap<String, String>,
}

impl Export {
    /// Makes the tree, or takes up one that is there and belongs to the caller alone.
    ///
    /// # Errors
    /// Those of the system; [`io::ErrorKind::PermissionDenied`] if others may write there.
    pub fn at(root: &Path) -> io::Result<Export> {
        let root = open_root(root)?;
        let about = rustix::fs::fstat(&root)?;
        if about.st_uid != rustix::process::geteuid().as_raw() || about.st_mode & 0o022 != 0 {
            // Whoever may write there could change it meanwhile.
            let text = "it belongs to somebody else, or others may write into it";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        Ok(Export { root })
    }

    /// Makes a folder, or takes up one that is there; no components are INBOX.
    ///
    /// # Errors
    /// Those of the system; [`io::ErrorKind::NotADirectory`] where a link, or something else, is in the place of one of its directories.
    pub fn folder(&self, name: &[String]) -> io::Result<Put> {
        let directory = match name {
            [] => openat(&self.root, ".", DIRECTORY, Mode::empty())?,
            _ => make(&self.root, &directory_of(name))?,
        };
        let (cur, tmp) = (make(&directory, "cur")?, make(&directory, "tmp")?);
        make(&directory, "new")?;
        if !name.is_empty() {
            // Marks a folder of a Maildir++ for delivery programs.
            match openat(&directory, "maildirfolder", NEW, OWNERS) {
                Err(Errno::EXIST) => {}
                made => drop(made?),
            }
        }
        let keywords = Keywords::read(&small(&directory, KEYWORDS_FILE)?);
        let mut there = BTreeMap::new();
        for entry in Dir::read_from(&cur)? {
            if let Ok(name) = entry?.file_name().to_str() {
                there.insert(Name::read(name).unique, name.to_owned());
            }
        }
        Ok(Put { directory, cur, tmp, keywords, there })
    }

    /// Writes the folders that the user subscribes to.
    ///
    /// # Errors
    /// Those of the system.
    pub fn subscriptions(&self, folders: &[Vec<String>]) -> io::Result<()> {
        let mut text = "V\t2\n\n".to_owned();
        for folder in folders {
            let parts: Vec<String> = folder.iter().map(|part| proto::utf7::encode(part)).collect();
            text += &(parts.join("\t") + "\n");
        }
        replace(&self.root, &make(&self.root, "tmp")?, SUBSCRIPTIONS_FILE, text.as_bytes())
    }
}

impl Put {
    /// Corrects the flags of a message that is there with this size, and gives those for which there is no letter; `None` if it
    /// is not there. `unique` names it in this folder.
    ///
    /// # Errors
    /// Those of the system.
    pub fn refresh(&mut self, unique: &str, size: u64, about: &About) -> io::Result<Option<Vec<String>>> {
        let Some(old) = self.there.get(unique).cloned() else { return Ok(None) };
        let name = Name::read(&old);
        if name.size != Some(size) {
            return Ok(None);
        }
        let (letters, left) = self.letters(about)?;
        let name = Name { letters, ..name }.put();
        if old != name {
            renameat(&self.cur, &old, &self.cur, &name)?;
            self.there.insert(unique.to_owned(), name);
        }
        Ok(Some(left))
    }

    /// The letters of flags, with those that are new written down before the first file that has them.
    fn letters(&mut self, about: &About) -> io::Result<(String, Vec<String>)> {
        let before = self.keywords.clone();
        let letters = self.keywords.letters(about);
        if self.keywords != before {
            replace(&self.directory, &self.tmp, KEYWORDS_FILE, self.keywords.put().as_bytes())?;
        }
        Ok(letters)
    }

    /// Writes a message, in the place of one of this name; gives the flags for which there is no letter.
    ///
    /// # Errors
    /// Those of the system.
    pub fn message(&mut self, unique: &str, bytes: &[u8], about: &About) -> io::Result<Vec<String>> {
        let (letters, left) = self.letters(about)?;
        let name = Name {
            unique: unique.to_owned(),
            size: Some(bytes.len() as u64),
            wire_size: Some(wire_size(bytes)),
            letters,
        };
        let name = name.put();
        self.write(unique, &name, bytes, about.date)?;
        if let Some(old) = self.there.get(unique).filter(|old| **old != name) {
            unlinkat(&self.cur, old, AtFlags::empty())?;
        }
        self.there.insert(unique.to_owned(), name);
        Ok(left)
    }

    fn write(&self, unique: &str, to: &str, bytes: &[u8], date: Option<Timestamp>) -> io::Result<()> {
        let mut file = fresh(&self.tmp, unique)?;
        file.write_all(bytes)?;
        if let Some(date) = date {
            file.set_times(FileTimes::new().set_modified(date.into()))?;
        }
        file.sync_data()?;
        Ok(renameat(&self.tmp, unique, &self.cur, to)?)
    }
}

/// The bytes that a message has with every line end as CR LF.
fn wire_size(bytes: &[u8]) -> u64 {
    let bare = bytes.iter().enumerate().filter(|(at, b)| **b == b'\n' && (*at == 0 || bytes[at - 1] != b'\r'));
    (bytes.len() + bare.count()) as u64
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// A file that was not there.
const NEW: OFlags = OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::CLOEXEC);
const OWNERS: Mode = Mode::RUSR.union(Mode::WUSR);

/// Opens the root, which may be a link, and makes it and those above it that are missing.
fn open_root(root: &Path) -> io::Result<OwnedFd> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root)?;
    Ok(rustix::fs::open(root, DIRECTORY, Mode::empty())?)
}

/// Makes a directory, or takes the one that is there.
fn make(above: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    match mkdirat(&above, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(e.into()),
    }
    match openat(&above, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
        Err(Errno::LOOP | Errno::NOTDIR) => {
            let text = format!("{name} in it is a link, or no directory: nothing is written through it");
            Err(io::Error::new(io::ErrorKind::NotADirectory, text))
        }
        opened => Ok(opened?),
    }
}

/// A new file, in the place of one that was left there.
fn fresh(directory: impl AsFd, name: &str) -> io::Result<File> {
    match unlinkat(&directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(e) => return Err(e.into()),
    }
    Ok(openat(&directory, name, NEW | OFlags::NOFOLLOW, OWNERS)?.into())
}

/// The text of a small file; nothing if there is none.
fn small(directory: impl AsFd, name: &str) -> io::Result<String> {
    // A pipe does not keep anybody waiting.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(directory, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(String::new()),
        Err(Errno::LOOP) => {
            let text = format!("{name} in it is a link, which is not followed");
            return Err(io::Error::new(io::ErrorKind::NotADirectory, text));
        }
        opened => File::from(opened?),
    };
    let mut text = String::new();
    file.take(NAMES_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Puts a file in the place of another by this name, by way of `tmp`.
fn replace(directory: impl AsFd, tmp: impl AsFd, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut file = fresh(&tmp, name)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    Ok(renameat(&tmp, name, &directory, name)?)
}
