//! A directory of archives for a program that saves files: one for each group of each partition, all of the same moment.
//!
//! Names stay the same from run to run, so that the program sees which changed; an archive takes its name when it is whole. What a group that
//! is not there any more has left behind is named and stays.

use super::house::House;
use super::medium::Medium;
use super::{Run, Summary, last};
use crate::exit::{DONE, Outcome, PARTLY};
use crate::render::{self, Style, notes};
use crate::{errand, files};
use proto::{BackupBegun, BackupMailbox};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Behind the name of a group.
const ENDING: &str = ".sda";

/// The keys of --json: those of one archive, added up, and the archives.
#[derive(Debug, Default, Serialize)]
struct Staged {
    #[serde(flatten)]
    all: Summary,
    /// Paths.
    files: Vec<PathBuf>,
    /// Archives of groups that are not there any more.
    stale: Vec<PathBuf>,
}

/// Saves each group into a file of its own; gives the exit code.
///
/// # Errors
/// Those of the connection and of the directory; archives that are whole by then stay.
pub(super) fn run(
    run: &mut Run<'_>,
    mut house: House,
    begun: &BackupBegun,
    mailboxes: Vec<BackupMailbox>,
    dir: &Path,
    style: Style,
    out: &mut dyn Write,
) -> Outcome<u8> {
    let (mut staged, mut lines) = (Staged::default(), Vec::new());
    files::make_dir(dir)?;
    for ((partition, group), of_group) in groups(mailboxes) {
        let below = dir.join(&partition);
        files::make_dir(&below)?;
        let path = below.join(format!("{group}{ENDING}"));
        let object = format!("/{partition}/{group}");
        let done = run.save(&mut house, begun, &of_group, vec![object], Medium::at(&path)?)?;
        lines.push(format!("{}: {}", path.display(), done.line()));
        staged.files.push(path);
        staged.all.add(done);
    }
    house.tell(last(&staged.all))?;
    let written: BTreeSet<&PathBuf> = staged.files.iter().collect();
    let there = files::list_below(dir, ENDING)?;
    staged.stale = there.into_iter().filter(|path| !written.contains(path)).collect();
    for path in &staged.stale {
        notes::note(&format!("{} is of an earlier run: nothing belongs to that group any more", path.display()));
    }
    errand::told(&staged, &lines);
    render::summary(out, style, &staged, &lines)?;
    Ok(if staged.all.skipped.is_empty() { DONE } else { PARTLY })
}

/// Mailboxes by partition and group, as their objects have them.
fn groups(mailboxes: Vec<BackupMailbox>) -> BTreeMap<(String, String), Vec<BackupMailbox>> {
    let mut groups: BTreeMap<_, Vec<BackupMailbox>> = BTreeMap::new();
    for mailbox in mailboxes {
        let mut parts = mailbox.object.trim_start_matches('/').splitn(3, '/').map(str::to_owned);
        let key = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        groups.entry(key).or_default().push(mailbox);
    }
    groups
}

impl Summary {
    fn add(&mut self, other: Summary) {
        self.objects += other.objects;
        self.messages += other.messages;
        self.copies += other.copies;
        self.bytes += other.bytes;
        self.archive_bytes += other.archive_bytes;
        self.lsn = other.lsn;
        self.skipped.extend(other.skipped);
    }
}
