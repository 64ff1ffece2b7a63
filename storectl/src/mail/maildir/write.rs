//! A Maildir++ that is written. A message has its place by its UID and UIDVALIDITY, so a second run finds what is there and only
//! corrects its flags; a run that was broken off is taken up by running it again.

#![expect(clippy::disallowed_methods, reason = "files of the user, not of the store")]

use super::{KEYWORDS_FILE, Keywords, Name, SUBSCRIPTIONS_FILE, directory_of};
use crate::mail::About;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::fs::{File, FileTimes};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The tree that is written.
#[derive(Debug)]
pub struct Export {
    root: PathBuf,
}

/// A folder that is written.
#[derive(Debug)]
pub struct Put {
    directory: PathBuf,
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
        use std::os::unix::fs::MetadataExt;
        let is_ours =
            |about: &std::fs::Metadata| about.uid() == rustix::process::geteuid().as_raw() && about.mode() & 0o022 == 0;
        if root.metadata().is_ok_and(|about| !is_ours(&about)) {
            // Whoever may write there could have put links into it.
            let text = "it belongs to somebody else, or others may write into it";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        make(root)?;
        Ok(Export { root: root.to_owned() })
    }

    /// Makes a folder, or takes up one that is there; no components are INBOX.
    ///
    /// # Errors
    /// Those of the system.
    pub fn folder(&self, name: &[String]) -> io::Result<Put> {
        let directory = if name.is_empty() { self.root.clone() } else { self.root.join(directory_of(name)) };
        make(&directory)?;
        if !name.is_empty() {
            // Marks a folder of a Maildir++ for delivery programs.
            drop(options().create(true).truncate(false).open(directory.join("maildirfolder"))?);
        }
        let keywords = match std::fs::read_to_string(directory.join(KEYWORDS_FILE)) {
            Ok(text) => Keywords::read(&text),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Keywords::default(),
            Err(e) => return Err(e),
        };
        let mut there = BTreeMap::new();
        for entry in std::fs::read_dir(directory.join("cur"))? {
            if let Ok(name) = entry?.file_name().into_string() {
                there.insert(Name::read(&name).unique, name);
            }
        }
        Ok(Put { directory, keywords, there })
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
        replace(&self.root, SUBSCRIPTIONS_FILE, text.as_bytes())
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
            let cur = self.directory.join("cur");
            std::fs::rename(cur.join(&old), cur.join(&name))?;
            self.there.insert(unique.to_owned(), name);
        }
        Ok(Some(left))
    }

    /// The letters of flags, with those that are new written down before the first file that has them.
    fn letters(&mut self, about: &About) -> io::Result<(String, Vec<String>)> {
        let before = self.keywords.clone();
        let letters = self.keywords.letters(about);
        if self.keywords != before {
            replace(&self.directory, KEYWORDS_FILE, self.keywords.put().as_bytes())?;
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
        let (cur, name) = (self.directory.join("cur"), name.put());
        self.write(unique, &cur.join(&name), bytes, about.date)?;
        if let Some(old) = self.there.get(unique).filter(|old| **old != name) {
            std::fs::remove_file(cur.join(old))?;
        }
        self.there.insert(unique.to_owned(), name);
        Ok(left)
    }

    fn write(&self, unique: &str, to: &Path, bytes: &[u8], date: Option<Timestamp>) -> io::Result<()> {
        let temporary = self.directory.join("tmp").join(unique);
        let mut file = options().create(true).truncate(true).open(&temporary)?;
        file.write_all(bytes)?;
        if let Some(date) = date {
            file.set_times(FileTimes::new().set_modified(date.into()))?;
        }
        file.sync_data()?;
        std::fs::rename(&temporary, to)
    }
}

/// The bytes that a message has with every line end as CR LF.
fn wire_size(bytes: &[u8]) -> u64 {
    let bare = bytes.iter().enumerate().filter(|(at, b)| **b == b'\n' && (*at == 0 || bytes[at - 1] != b'\r'));
    (bytes.len() + bare.count()) as u64
}

fn make(directory: &Path) -> io::Result<()> {
    for name in ["cur", "new", "tmp"] {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory.join(name))?;
    }
    Ok(())
}

fn options() -> std::fs::OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    options.write(true).mode(0o600).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
    options
}

/// Puts a file in the place of another by this name.
fn replace(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = directory.join("tmp").join(name);
    let mut file = options().create(true).truncate(true).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    std::fs::rename(&temporary, directory.join(name))
}
