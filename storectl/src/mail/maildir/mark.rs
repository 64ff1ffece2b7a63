//! Whose mail an exported directory holds, so that the mail of two users never gets into one.
//!
//! # Format
//! The file `storedd-export` in the root of the Maildir: one line, `user USER`. Readers of a Maildir pass it over.

use rustix::fs::OFlags;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The file.
const NAME: &str = "storedd-export";
/// More than any user id takes.
const BYTES_MAX: u64 = 1 << 10;

/// What is in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holds {
    /// Nothing, or no mail yet: it is not there, is empty, or has empty `cur`, `new` and `tmp` alone.
    Nothing,
    /// An export of this user's mail.
    MailOf(String),
    /// Something that no export has made.
    Others,
}

/// Looks into a directory.
///
/// # Errors
/// Those of the system.
pub fn look(root: &Path) -> io::Result<Holds> {
    let mut options = File::options();
    options.read(true).custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
    match options.open(root.join(NAME)) {
        Ok(file) => {
            let mut text = String::new();
            file.take(BYTES_MAX).read_to_string(&mut text)?;
            let user = text.strip_prefix("user ").and_then(|rest| rest.strip_suffix('\n'));
            return Ok(user.map_or(Holds::Others, |user| Holds::MailOf(user.to_owned())));
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Holds::Nothing),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        let is_usual = ["cur", "new", "tmp"].iter().any(|name| entry.file_name() == *name);
        let is_empty = || std::fs::read_dir(entry.path()).is_ok_and(|mut entries| entries.next().is_none());
        if !(is_usual && entry.file_type()?.is_dir() && is_empty()) {
            return Ok(Holds::Others);
        }
    }
    Ok(Holds::Nothing)
}

/// Notes whose mail comes into a directory.
///
/// # Errors
/// Those of the system.
pub fn put(root: &Path, user: &str) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    let mut file = options.open(root.join(NAME))?;
    file.write_all(format!("user {user}\n").as_bytes())?;
    file.sync_data()
}
