//! The files a user names: the only place of the client that opens any.

#![expect(clippy::disallowed_methods, reason = "files of the user, not of the store")]

use crate::exit::{Outcome, Stop};
use proto::Code;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// True for `-`, which stands for standard input.
#[must_use]
pub fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// The file to read from; `-` is standard input.
///
/// # Errors
/// No such file (66), not readable (77, 74).
pub fn open(path: &Path) -> Outcome<Box<dyn Read + Send>> {
    if is_stdin(path) {
        return Ok(Box::new(io::stdin()));
    }
    let file = File::open(path).map_err(|e| failed(path, &e))?;
    let about = file.metadata().map_err(|e| failed(path, &e))?;
    if about.is_dir() {
        return Err(failed(path, &io::Error::from(io::ErrorKind::IsADirectory)));
    }
    Ok(Box::new(file))
}

/// All of the file, at most `limit` bytes of it.
///
/// # Errors
/// As [`open`]; longer than `limit` (65).
pub fn read(path: &Path, limit: u64) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(limit + 1).read_to_end(&mut bytes).map_err(|e| failed(path, &e))?;
    match bytes.len() as u64 {
        length if length > limit => {
            Err(Stop::new(Code::BadInput, format!("{} is longer than {limit} bytes", path.display())))
        }
        _ => Ok(bytes),
    }
}

/// Why the file could not be read.
#[must_use]
pub fn failed(path: &Path, error: &io::Error) -> Stop {
    let name = if is_stdin(path) { "standard input".to_owned() } else { path.display().to_string() };
    let look = format!("look at it with: ls -l {name}");
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            Stop::hint(Code::NoInput, format!("no such file: {name}"), "check the name, or give - for standard input")
        }
        io::ErrorKind::IsADirectory => {
            Stop::hint(Code::NoInput, format!("{name} is a directory, expected a file"), look)
        }
        io::ErrorKind::PermissionDenied => Stop::hint(Code::NotPermitted, format!("{name} may not be read"), look),
        _ => Stop::new(Code::Io, format!("{name} cannot be read: {error}")),
    }
}
