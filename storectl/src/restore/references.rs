//! References that a restore from a pipe could not follow: lines of JSON, for the second run with `-r`.

use crate::archive::content::Message;
use crate::exit::{Outcome, Stop};
use crate::files::{self, Fresh};
use proto::Code;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Longest file in bytes.
const BYTES_MAX: u64 = 1 << 30;

/// A message whose bytes are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Id of the archive.
    pub archive: String,
    /// Number of the frame that has its bytes.
    pub frame: u64,
    /// What that frame is: `/partition/group/user/folder` and UID.
    pub of: Option<(String, u32)>,
    /// `/partition/group/user/folder` of the message.
    pub object: String,
    /// The mailbox that it is for.
    pub to: String,
    /// It takes its own UID there.
    pub keeps_uid: bool,
    /// The message.
    pub message: Message,
}

/// Writes them beside; gives the name of the file.
///
/// # Errors
/// Those of the system.
pub fn write(archive: &str, wanted: &[Wanted]) -> Outcome<PathBuf> {
    let path = (0u32..).map(|n| name(archive, n)).find(|path| path.symlink_metadata().is_err());
    let path = path.ok_or_else(|| Stop::new(Code::Exists, "no name is free for the file of references"))?;
    let failed = |e: std::io::Error| Stop::new(Code::Io, format!("{}: {e}", path.display()));
    let mut file = Fresh::at(&path)?;
    for one in wanted {
        let line = serde_json::to_string(one).map_err(|e| failed(e.into()))?;
        file.write_all(line.as_bytes()).and_then(|()| file.write_all(b"\n")).map_err(failed)?;
    }
    file.put()?;
    Ok(path)
}

fn name(archive: &str, n: u32) -> PathBuf {
    let short = archive.get(..8).unwrap_or(archive);
    PathBuf::from(if n == 0 { format!("references-{short}") } else { format!("references-{short}.{n}") })
}

/// Reads them, by frame.
///
/// # Errors
/// Those of the file; a line that is none (65).
pub fn read(path: &Path) -> Outcome<BTreeMap<u64, Vec<Wanted>>> {
    let text = files::read(path, BYTES_MAX)?;
    let mut all: BTreeMap<u64, Vec<Wanted>> = BTreeMap::new();
    for (line, text) in (1..).zip(text.split(|b| *b == b'\n')).filter(|(_, text)| !text.is_empty()) {
        let wanted: Wanted = serde_json::from_slice(text)
            .map_err(|e| Stop::new(Code::BadInput, format!("{}:{line}: no reference: {e}", path.display())))?;
        all.entry(wanted.frame).or_default().push(wanted);
    }
    Ok(all)
}
