//! What lies in a mailbox, against what is known of it. Changes nothing (I7).
//!
//! # Operation
//! [`mailbox`] reads the index, is given the mirror (from the manifest of the home, which is read once for many mailboxes),
//! and looks at the files as deep as asked. Its answer is the merged history and a list of findings; whoever mends, mends
//! from the history.
//!
//! A checkpoint makes a file before its frame, and takes a file away after it. In a running store a finding about a message
//! therefore counts only if it is still there behind the next checkpoint.
//!
//! # Invariants
//! * One mailbox is in memory; the number of findings that are kept is bounded.
//! * What the twins say differently is a finding only at or below the LSN up to which both are durable.

use super::bodies::{self, Body};
use super::index::{History, Index, Stamped};
use super::tree::Place;
use crate::disk::{Disk, Kind};
use crate::error::{Result, StoreError};
use crate::lsn::{Lsn, StoreId};
use crate::model::message::{Message, State};
use std::collections::BTreeSet;

/// Findings that are kept one by one; further ones are counted.
pub const FINDINGS_MAX: usize = 1000;

/// How deep to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Index, mirror, names of files.
    Names,
    /// And lengths of files.
    Lengths,
    /// And every byte.
    Bytes,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// There is no index.
    IndexMissing,
    /// The index holds bytes that are no frame, or lacks frames.
    IndexBad,
    /// The mirror in the manifest does.
    MirrorBad,
    /// Index and mirror say different things of a message.
    TwinsDiffer,
    /// A message has no file.
    FileMissing,
    /// A message's file cannot be read, or is no file.
    FileUnreadable,
    /// A message's file has another length.
    FileLength,
    /// A message's file has other bytes.
    FileBytes,
    /// A file of which nothing is known.
    FileUnknown,
    /// A file of a message that is gone for good.
    FileLeft,
}

impl What {
    /// Text for people and scripts.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            What::IndexMissing => "index missing",
            What::IndexBad => "index damaged",
            What::MirrorBad => "manifest damaged",
            What::TwinsDiffer => "index and manifest differ",
            What::FileMissing => "message file missing",
            What::FileUnreadable => "message file unreadable",
            What::FileLength => "message length",
            What::FileBytes => "message digest",
            What::FileUnknown => "unknown message file",
            What::FileLeft => "file of a purged message",
        }
    }
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: String,
    /// Which message, where it is about one.
    pub uid: Option<u32>,
    /// What.
    pub what: What,
    /// What should be.
    pub expected: String,
    /// What is.
    pub found: String,
}

/// What was found in one mailbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// What index and mirror know together.
    pub history: History,
    /// The first [`FINDINGS_MAX`] findings.
    pub findings: Vec<Finding>,
    /// How many there are.
    pub found: u64,
    /// Messages that were looked at.
    pub messages: u64,
    /// Bytes of files that were read.
    pub bytes: u64,
}

impl Survey {
    fn add(&mut self, finding: Finding) {
        self.found += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

/// What to look at, and how.
#[derive(Clone, Copy)]
pub struct Look<'a> {
    /// The partition.
    pub disk: &'a dyn Disk,
    /// Whose.
    pub store: StoreId,
    /// How deep.
    pub depth: Depth,
    /// Everything up to here was committed.
    pub durable: Lsn,
    /// Called with the bytes read before each file: paces, and ends the survey with its error.
    pub pace: &'a dyn Fn(u64) -> Result<()>,
}

impl std::fmt::Debug for Look<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Look").field("depth", &self.depth).field("durable", &self.durable).finish_non_exhaustive()
    }
}

/// Looks at one mailbox. `mirror`: what the manifest of its home knows of it.
///
/// # Errors
/// [`StoreError::Foreign`] for a newer index or another store's, those of `pace`, those of the disk but for single files, which
/// are findings.
pub fn mailbox(look: Look<'_>, place: &Place, mirror: History) -> Result<Survey> {
    let index = Index::new(look.disk, look.store, place);
    let mut survey = Survey { history: index.read()?, ..Survey::default() };
    let finding = |what, expected: &str, found| Finding {
        file: if what == What::MirrorBad { look.disk.display(&place.home.manifest()) } else { index.display() },
        uid: None,
        what,
        expected: expected.to_owned(),
        found,
    };
    let reading = survey.history.reading.clone();
    if !reading.is_there {
        survey.add(finding(What::IndexMissing, "an index", "none".to_owned()));
    } else if !reading.is_whole() {
        survey.add(finding(What::IndexBad, "frames one after the other", reading.problem()));
    }
    if mirror.reading.is_there && !mirror.reading.is_whole() {
        survey.add(finding(What::MirrorBad, "frames one after the other", mirror.reading.problem()));
    }
    if reading.is_there && mirror.reading.is_there {
        twins(look, place, &mirror, &mut survey);
    }
    survey.history.merge(mirror);
    files(look, place, &mut survey)?;
    Ok(survey)
}

/// Where both know a message, or one does that should not be alone, they must say the same.
fn twins(look: Look<'_>, place: &Place, mirror: &History, survey: &mut Survey) {
    let (ours, theirs) = (newest(&survey.history, look.durable), newest(mirror, look.durable));
    let (mut ours, mut theirs) = (ours.into_iter().peekable(), theirs.into_iter().peekable());
    let shown =
        |m: Option<&Stamped<Message>>| m.map_or("nothing".to_owned(), |m| format!("LSN {} {:?}", m.lsn, m.value));
    let mut differ = Vec::new();
    loop {
        let uid = match (ours.peek(), theirs.peek()) {
            (Some(a), Some(b)) => a.value.uid.min(b.value.uid),
            (Some(one), None) | (None, Some(one)) => one.value.uid,
            (None, None) => break,
        };
        let (a, b) = (ours.next_if(|m| m.value.uid == uid), theirs.next_if(|m| m.value.uid == uid));
        // A purged message leaves the one when that is made anew, and the other when that is.
        let purged = |m: Option<&Stamped<Message>>| m.is_none_or(|m| m.value.state == State::Purged);
        let same = a.map(|m| (m.lsn, &m.value)) == b.map(|m| (m.lsn, &m.value)) || (purged(a) && purged(b));
        if !same {
            differ.push((uid, shown(a), shown(b)));
        }
    }
    for (uid, found, expected) in differ {
        let file = look.disk.display(&place.index());
        survey.add(Finding { file, uid: Some(uid), what: What::TwinsDiffer, expected, found });
    }
}

fn newest(history: &History, upto: Lsn) -> Vec<&Stamped<Message>> {
    history.at(upto).collect()
}

fn files(look: Look<'_>, place: &Place, survey: &mut Survey) -> Result<()> {
    let mut names: BTreeSet<u32> = place.uids(look.disk)?.into_iter().collect();
    let known: Vec<_> = survey.history.at(Lsn(u64::MAX)).map(|m| (m.lsn, m.value.clone())).collect();
    for (lsn, message) in known {
        let there = names.remove(&message.uid);
        let path = place.message(message.uid);
        let finding = |what, expected: String, found: String| Finding {
            file: look.disk.display(&path),
            uid: Some(message.uid),
            what,
            expected,
            found,
        };
        if message.state == State::Purged {
            if there {
                survey.add(finding(What::FileLeft, "no file".to_owned(), "a file".to_owned()));
            }
            continue;
        }
        survey.messages += 1;
        if !there {
            let is_none = match look.disk.stat(&path) {
                Ok(entry) => entry.is_none_or(|e| e.kind == Kind::File),
                Err(_) => false,
            };
            let what = if is_none { What::FileMissing } else { What::FileUnreadable };
            survey.add(finding(what, format!("{} bytes, LSN {lsn}", message.size), "no file".to_owned()));
        } else if look.depth >= Depth::Lengths {
            (look.pace)(if look.depth == Depth::Bytes { message.size } else { 0 })?;
            if let Some((what, expected, found)) = file(look, place, &message) {
                survey.add(finding(what, expected, found));
            } else if look.depth == Depth::Bytes {
                survey.bytes += message.size;
            }
        }
    }
    for uid in names {
        let file = look.disk.display(&place.message(uid));
        let (expected, found) = ("a message that is known".to_owned(), "none with this UID".to_owned());
        survey.add(Finding { file, uid: Some(uid), what: What::FileUnknown, expected, found });
    }
    Ok(())
}

/// What is wrong with the file of a message: what, expected, found.
fn file(look: Look<'_>, place: &Place, message: &Message) -> Option<(What, String, String)> {
    let body = Body { size: message.size, digest: message.digest };
    let length = |found: u64| Some((What::FileLength, message.size.to_string(), found.to_string()));
    if look.depth == Depth::Lengths {
        return match look.disk.stat(&place.message(message.uid)) {
            Ok(entry) => entry.map(|e| e.len).filter(|len| *len != message.size).and_then(length),
            Err(e) => Some((What::FileUnreadable, "a file".to_owned(), e.to_string())),
        };
    }
    match bodies::compare(look.disk, place, message.uid, body) {
        Ok(found) if found == body => None,
        Ok(found) if found.size != body.size => length(found.size),
        Ok(found) => Some((What::FileBytes, body.digest.to_string(), found.digest.to_string())),
        Err(StoreError::Io { source, .. }) => Some((What::FileUnreadable, "a file".to_owned(), source.to_string())),
        Err(e) => Some((What::FileUnreadable, "a file".to_owned(), e.to_string())),
    }
}
