//! A Maildir++ that is read. No link is followed and nothing but files is opened: its owner could have put links to files
//! there that only the reader may read.

use super::{KEYWORDS_FILE, Keywords, Name, SUBSCRIPTIONS_FILE, folder_of};
use crate::mail::About;
use jiff::Timestamp;
use rustix::fs::{Dir, Mode, OFlags, openat};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Longest file of names that is read, in bytes.
const NAMES_BYTES_MAX: u64 = 1 << 20;

/// The tree.
#[derive(Debug)]
pub struct Maildir {
    root: OwnedFd,
}

/// A folder of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Components of its name; empty for INBOX.
    pub name: Vec<String>,
    /// Its directory below the root; `.` for INBOX.
    pub directory: String,
    /// The names of its keywords.
    pub keywords: Keywords,
    /// Files in `tmp`: messages that were never finished.
    pub unfinished: u64,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `cur` or `new`.
    pub directory: &'static str,
    /// The name of its file.
    pub file: String,
    /// What the name says.
    pub name: Name,
}

/// Something that is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Its path below the root.
    pub path: String,
    /// Why.
    pub why: String,
}

impl Maildir {
    /// Opens the tree at a path, which may be a link.
    ///
    /// # Errors
    /// Those of the system; [`io::ErrorKind::InvalidData`] if it has neither `cur` nor `new`.
    pub fn open(path: &Path) -> io::Result<Maildir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())?;
        let maildir = Maildir { root };
        if maildir.directory(&["cur"])?.is_none() && maildir.directory(&["new"])?.is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "there is neither cur nor new in it: no Maildir"));
        }
        Ok(maildir)
    }

    /// The folders, INBOX first, the others by name; and what looks like one and is none.
    ///
    /// # Errors
    /// Those of the system.
    pub fn folders(&self) -> io::Result<(Vec<Folder>, Vec<Passed>)> {
        let (mut folders, mut passed) = (Vec::new(), Vec::new());
        folders.push(self.folder(".", Vec::new())?);
        let (names, bad) = names(self.root.as_fd())?;
        passed.extend(bad);
        for name in names.iter().filter(|name| name.starts_with('.')) {
            let mut pass = |why: &str| passed.push(Passed { path: name.clone(), why: why.to_owned() });
            match (folder_of(name), self.directory(&[name])) {
                // A file of another program.
                (_, Ok(None)) => {}
                (Some(folder), Ok(Some(_))) if self.holds_mail(name)? => folders.push(self.folder(name, folder)?),
                (None, Ok(Some(_))) if self.holds_mail(name)? => pass("its name is that of no folder"),
                (_, Ok(Some(_))) => {}
                (_, Err(e)) => pass(&e.to_string()),
            }
        }
        folders[1..].sort_by(|a, b| a.name.cmp(&b.name));
        Ok((folders, passed))
    }

    fn holds_mail(&self, name: &str) -> io::Result<bool> {
        Ok(self.directory(&[name, "cur"])?.is_some() || self.directory(&[name, "new"])?.is_some())
    }

    fn folder(&self, directory: &str, name: Vec<String>) -> io::Result<Folder> {
        let keywords = self.small(&[directory, KEYWORDS_FILE])?.map(|text| Keywords::read(&text)).unwrap_or_default();
        let unfinished = match self.directory(&[directory, "tmp"])? {
            Some(tmp) => names(tmp.as_fd())?.0.len() as u64,
            None => 0,
        };
        Ok(Folder { name, directory: directory.to_owned(), keywords, unfinished })
    }

    /// Folders that the user subscribes to, as Dovecot writes them.
    ///
    /// # Errors
    /// Those of the system.
    pub fn subscriptions(&self) -> io::Result<Vec<Vec<String>>> {
        let text = self.small(&[SUBSCRIPTIONS_FILE])?.unwrap_or_default();
        let modern = text.starts_with("V\t");
        let lines = text.lines().skip(usize::from(modern)).filter(|line| !line.is_empty());
        let split = |line: &str| {
            let separator = if modern { '\t' } else { '.' };
            line.split(separator).map(|part| proto::utf7::decode(part).unwrap_or_else(|_| part.to_owned())).collect()
        };
        Ok(lines.map(split).collect())
    }

    /// The messages of a folder, in the order in which they came, as far as their names tell.
    ///
    /// # Errors
    /// Those of the system.
    pub fn entries(&self, folder: &Folder) -> io::Result<(Vec<Entry>, Vec<Passed>)> {
        let (mut entries, mut passed) = (Vec::new(), Vec::new());
        for directory in ["cur", "new"] {
            let Some(open) = self.directory(&[&folder.directory, directory])? else { continue };
            let (names, bad) = names(open.as_fd())?;
            passed.extend(bad.into_iter().map(|bad| {
                let path = format!("{}/{directory}/{}", folder.directory, bad.path);
                Passed { path, ..bad }
            }));
            // What begins with a dot is no message (qmail's maildir(5)).
            let files = names.into_iter().filter(|file| !file.starts_with('.'));
            entries.extend(files.map(|file| Entry { directory, name: Name::read(&file), file }));
        }
        let born = |entry: &Entry| entry.name.unique.split('.').next().and_then(|t| t.parse::<u64>().ok());
        entries.sort_by(|a, b| (born(a), &a.file).cmp(&(born(b), &b.file)));
        Ok((entries, passed))
    }

    /// Opens a message: the file, its bytes, and what is known of it; letters of flags that mean nothing come last.
    ///
    /// # Errors
    /// Those of the system; [`io::ErrorKind::InvalidInput`] if it is no file.
    pub fn message(&self, folder: &Folder, entry: &Entry) -> io::Result<(File, u64, About, String)> {
        let file = self.file(&[&folder.directory, entry.directory, &entry.file])?;
        let about = file.metadata()?;
        let date = about.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
        let (flags, unknown) = folder.keywords.flags(&entry.name.letters);
        Ok((file, about.len(), About { flags, date }, unknown))
    }

    /// A directory below the root; `None` if there is none by this name.
    fn directory(&self, path: &[&str]) -> io::Result<Option<OwnedFd>> {
        let mut open = self.root.try_clone()?;
        for name in path {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            open = match openat(&open, *name, flags, Mode::empty()) {
                Ok(next) => next,
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => return Ok(None),
                Err(e) => return Err(e.into()),
            };
        }
        Ok(Some(open))
    }

    /// A file below the root.
    fn file(&self, path: &[&str]) -> io::Result<File> {
        let (name, directories) = path.split_last().ok_or(io::ErrorKind::InvalidInput)?;
        let directory = self.directory(directories)?.ok_or(io::ErrorKind::NotFound)?;
        // Nobody is waited for who would have to open the other end of a pipe.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(&directory, *name, flags, Mode::empty())?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
        }
        Ok(file)
    }

    /// The text of a small file; `None` if there is none.
    fn small(&self, path: &[&str]) -> io::Result<Option<String>> {
        match self.file(path) {
            Ok(file) => {
                let mut bytes = Vec::new();
                file.take(NAMES_BYTES_MAX).read_to_end(&mut bytes)?;
                Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(None),
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// The names in a directory, and those that are no text.
fn names(directory: impl AsFd) -> io::Result<(Vec<String>, Vec<Passed>)> {
    let (mut names, mut passed) = (Vec::new(), Vec::new());
    for entry in Dir::read_from(directory)? {
        let name: CString = entry?.file_name().to_owned();
        match name.into_string() {
            Ok(name) if name == "." || name == ".." => {}
            Ok(name) => names.push(name),
            Err(e) => {
                let path = e.into_cstring().to_string_lossy().into_owned();
                passed.push(Passed { path, why: "its name is not UTF-8".to_owned() });
            }
        }
    }
    names.sort_unstable();
    Ok((names, passed))
}
