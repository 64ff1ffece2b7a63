//! What lies in a mailbox, against what is known of it. Changes nothing (I7).
//!
//! # Operation
//! [`mailbox`] reads the index, is given the mirror (from the manifest of the home, which is read once for many mailboxes)
//! and what memory knows beyond both ([`Above`]), and looks at the files as deep as asked. Its answer is the merged history and a
//! list of findings; whoever mends, mends from the history.
//!
//! A checkpoint makes a file before its frame, and takes a file away after it. In a running store a finding about a message
//! therefore counts only if it is still there behind the next checkpoint.
//!
//! # Invariants
//! * One mailbox is in memory; findings are kept in full up to [`FINDINGS_MAX`], of further ones which message and what: none is forgotten.
//! * What the twins say differently is a finding only at or below the LSN up to which both are durable.

use super::bodies::{self, Body};
use super::index::{History, Index, Stamped};
use super::journal::Reading;
use super::past::Owner;
use super::tree::Place;
use crate::disk::{Disk, Kind};
use crate::error::{Result, StoreError};
use crate::lsn::Lsn;
use crate::model::message::{Message, State};
use std::collections::{BTreeMap, BTreeSet};

/// Findings that are kept in full; of further ones it is kept which message they are about, and what is wrong.
pub const FINDINGS_MAX: usize = 1000;

/// Messages whose files are read together.
const READ_AHEAD: usize = 512;

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
    /// There is an index and no manifest.
    MirrorMissing,
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
            What::MirrorMissing => "manifest missing",
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

/// What memory knows of a mailbox beyond its index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Above {
    /// States that no checkpoint has written yet.
    pub messages: Vec<Stamped<Message>>,
    /// Messages whose bytes are elsewhere than in a file of their own.
    pub without_file: BTreeSet<u32>,
    /// No checkpoint has written anything of the mailbox: that there is no index is as it should be.
    pub is_new: bool,
    /// Highest modseq that the last checkpoint wrote, 0 for a new mailbox; `None` if that is not known.
    pub settled: Option<u64>,
    /// Messages that are looked at byte by byte, however deep the rest.
    pub deep: BTreeSet<u32>,
}

/// What was found in one mailbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// What index and mirror know together.
    pub history: History,
    /// How well the mirror could be read.
    pub mirror: Reading,
    /// States that the mirror holds, if it has a head.
    pub mirrored: Option<usize>,
    /// The newest state of each message, by UID; memory's, where that is newer.
    pub known: Vec<Stamped<Message>>,
    /// The first [`FINDINGS_MAX`] findings.
    pub findings: Vec<Finding>,
    /// The others. What is about no message comes first, and is never among them.
    pub unlisted: BTreeSet<(u32, What)>,
    /// UIDs of files of which nothing is known: all of them.
    pub strays: BTreeSet<u32>,
    /// Messages that were looked at.
    pub messages: u64,
    /// Bytes of files that were read.
    pub bytes: u64,
}

impl Survey {
    /// True if nothing was found that the mirror lacks, and nothing is wrong with it: what made the history makes no new one.
    #[must_use]
    pub fn is_mirrored(&self) -> bool {
        let is_wrong = |what| matches!(what, What::MirrorBad | What::MirrorMissing | What::TwinsDiffer);
        self.mirror.is_whole()
            && self.mirror.given_up == 0
            && self.mirrored == Some(self.history.messages.len())
            && !self.findings.iter().any(|f| is_wrong(f.what))
    }

    /// How many findings there are.
    #[must_use]
    pub fn found(&self) -> u64 {
        (self.findings.len() + self.unlisted.len()) as u64
    }

    /// The messages about which there is a finding of one of these kinds.
    #[must_use]
    pub fn uids(&self, kinds: &[What]) -> BTreeSet<u32> {
        let listed = self.findings.iter().filter(|f| kinds.contains(&f.what)).filter_map(|f| f.uid);
        listed.chain(self.unlisted.iter().filter(|(_, what)| kinds.contains(what)).map(|(uid, _)| *uid)).collect()
    }

    /// Adds a finding.
    pub fn add(&mut self, finding: Finding) {
        match finding.uid {
            Some(uid) if self.findings.len() >= FINDINGS_MAX => drop(self.unlisted.insert((uid, finding.what))),
            _ => self.findings.push(finding),
        }
    }

    /// Files of which nothing was known belong to messages by now: they are no findings of that kind any more.
    pub fn know(&mut self, uids: &BTreeSet<u32>) {
        self.findings.retain(|f| f.what != What::FileUnknown || f.uid.is_none_or(|uid| !uids.contains(&uid)));
        self.unlisted.retain(|(uid, what)| *what != What::FileUnknown || !uids.contains(uid));
        self.strays.retain(|uid| !uids.contains(uid));
    }
}

/// How far a look at the bytes of a mailbox has come, for who goes on with it later.
#[derive(Clone, Copy)]
pub struct Within<'a> {
    /// The bytes of messages up to this UID were found good before: of those only lengths are looked at.
    pub behind: u32,
    /// Called with each UID up to which nothing is wrong.
    pub good: &'a dyn Fn(u32),
}

/// What to look at, and how.
#[derive(Clone, Copy)]
pub struct Look<'a> {
    /// The partition.
    pub disk: &'a dyn Disk,
    /// Whose.
    pub store: Owner<'a>,
    /// How deep.
    pub depth: Depth,
    /// Everything up to here was committed.
    pub durable: Lsn,
    /// Called with the bytes read before each file: paces, and ends the survey with its error.
    pub pace: &'a dyn Fn(u64) -> Result<()>,
    /// Files that are read at the same time, at [`Depth::Bytes`]: a disk has more to give than one reader asks for.
    pub readers: usize,
    /// It was begun before, and may be gone on with. For one reader.
    pub within: Option<Within<'a>>,
}

impl std::fmt::Debug for Look<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Look").field("depth", &self.depth).field("durable", &self.durable).finish_non_exhaustive()
    }
}

/// Looks at one mailbox. `mirror`: what the manifest of its home knows of it.
///
/// # Errors
/// [`StoreError::Foreign`] for a newer index, [`StoreError::Corrupt`] for frames that are not understood, those of
/// `pace`, those of the disk but for single files, which are findings.
pub fn mailbox(look: Look<'_>, place: &Place, mirror: History, above: &Above) -> Result<Survey> {
    let index = Index::new(look.disk, look.store, place);
    let mut survey = Survey { history: index.read()?, mirror: mirror.reading.clone(), ..Survey::default() };
    let of_mirror = |what| matches!(what, What::MirrorBad | What::MirrorMissing);
    let finding = |what, expected: &str, found| Finding {
        file: if of_mirror(what) { look.disk.display(&place.home.manifest()) } else { index.display() },
        uid: None,
        what,
        expected: expected.to_owned(),
        found,
    };
    let reading = survey.history.reading.clone();
    let is_torn = |history: &History| above.settled.is_some_and(|modseq| history.is_sound(look.durable, modseq));
    if !reading.is_there {
        if !above.is_new {
            survey.add(finding(What::IndexMissing, "an index", "none".to_owned()));
        }
    } else if !reading.is_whole() && !is_torn(&survey.history) {
        survey.add(finding(What::IndexBad, "frames one after the other", reading.problem()));
    }
    if mirror.reading.is_there && !mirror.reading.is_whole() && !is_torn(&mirror) {
        survey.add(finding(What::MirrorBad, "frames one after the other", mirror.reading.problem()));
    }
    if reading.is_whole() && mirror.reading.is_whole() {
        // What has gaps says other things anyway.
        twins(look, place, &mirror, &mut survey);
    } else if !mirror.reading.is_there && survey.history.messages.iter().any(|m| m.lsn <= look.durable) {
        survey.add(finding(What::MirrorMissing, "a manifest", "none".to_owned()));
    }
    survey.mirrored = mirror.head.as_ref().map(|_| mirror.messages.len());
    survey.history.merge(mirror);
    survey.known = known(&survey.history, above);
    files(look, place, above, &mut survey)?;
    Ok(survey)
}

/// Where both know a message, or one does that should not be alone, they must say the same.
fn twins(look: Look<'_>, place: &Place, mirror: &History, survey: &mut Survey) {
    let all = Lsn(u64::MAX);
    let (mut ours, mut theirs) = (survey.history.at(all).peekable(), mirror.at(all).peekable());
    let shown = |known: Option<&Stamped<Message>>| {
        let Some(Stamped { lsn, value: m, .. }) = known else { return "nothing".to_owned() };
        format!("LSN {lsn}: {}, modseq {}, {:?}", m.state.word(), m.modseq, m.flag_names())
    };
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
        // A checkpoint is at it, and one of them may have been made anew with its work alone.
        let is_young = [a, b].into_iter().flatten().any(|m| m.lsn > look.durable);
        if !same && !is_young {
            differ.push((uid, shown(a), shown(b)));
        }
    }
    drop((ours, theirs));
    for (uid, found, expected) in differ {
        let file = look.disk.display(&place.index());
        survey.add(Finding { file, uid: Some(uid), what: What::TwinsDiffer, expected, found });
    }
}

fn known(history: &History, above: &Above) -> Vec<Stamped<Message>> {
    let mut known: BTreeMap<u32, Stamped<Message>> =
        history.at(Lsn(u64::MAX)).map(|m| (m.value.uid, m.clone())).collect();
    for message in &above.messages {
        if known.get(&message.value.uid).is_none_or(|below| below.lsn <= message.lsn) {
            known.insert(message.value.uid, message.clone());
        }
    }
    known.into_values().collect()
}

fn files(look: Look<'_>, place: &Place, above: &Above, survey: &mut Survey) -> Result<()> {
    // Lengths come with the list, not file by file.
    let mut names: BTreeMap<u32, u64> = match look.depth {
        Depth::Lengths => place.lengths(look.disk)?,
        Depth::Names | Depth::Bytes => place.uids(look.disk)?.into_iter().map(|uid| (uid, 0)).collect(),
    };
    // Given back below: findings are added meanwhile.
    let known = std::mem::take(&mut survey.known);
    let done = known.chunks(READ_AHEAD).try_for_each(|some| {
        let read = ahead(look, place, some, above, &names)?;
        some.iter().try_for_each(|known| one_file(look, place, known, above, (&mut names, &read), survey))
    });
    survey.known = known;
    done?;
    let names: BTreeSet<u32> = names.into_keys().collect();
    for uid in &names {
        let file = look.disk.display(&place.message(*uid));
        let (expected, found) = ("a message that is known".to_owned(), "none with this UID".to_owned());
        survey.add(Finding { file, uid: Some(*uid), what: What::FileUnknown, expected, found });
    }
    survey.strays = names;
    Ok(())
}

/// What was found in files that were read together.
type Read = BTreeMap<u32, Result<Body>>;

/// Reads the files of some messages, several at a time; none if one is to be read after the other.
fn ahead(
    look: Look<'_>,
    place: &Place,
    some: &[Stamped<Message>],
    above: &Above,
    names: &BTreeMap<u32, u64>,
) -> Result<Read> {
    if look.depth < Depth::Bytes || look.readers < 2 {
        return Ok(Read::new());
    }
    let has_file =
        |m: &&Message| m.state != State::Purged && names.contains_key(&m.uid) && !above.without_file.contains(&m.uid);
    let bodies: Vec<(u32, Body)> =
        some.iter().map(|m| &m.value).filter(has_file).map(|m| (m.uid, Body::from(m))).collect();
    bodies.iter().try_for_each(|(_, body)| (look.pace)(body.size))?;
    Ok(bodies::compare_all(look.disk, place, &bodies, look.readers))
}

/// Looks for the file of one message, and takes its UID from those that have one.
fn one_file(
    look: Look<'_>,
    place: &Place,
    known: &Stamped<Message>,
    above: &Above,
    (names, read): (&mut BTreeMap<u32, u64>, &Read),
    survey: &mut Survey,
) -> Result<()> {
    let Stamped { lsn, value: message, .. } = known;
    let listed = names.remove(&message.uid);
    let there = listed.is_some();
    if above.without_file.contains(&message.uid) {
        survey.messages += u64::from(message.state != State::Purged);
        return Ok(());
    }
    let is_behind = look.within.is_some_and(|within| message.uid <= within.behind);
    let depth = match look.depth {
        _ if above.deep.contains(&message.uid) => Depth::Bytes,
        Depth::Bytes if is_behind => Depth::Lengths,
        depth => depth,
    };
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
        return Ok(());
    }
    survey.messages += 1;
    if !there {
        let is_none = match look.disk.stat(&path) {
            Ok(entry) => entry.is_none_or(|e| e.kind == Kind::File),
            Err(_) => false,
        };
        let what = if is_none { What::FileMissing } else { What::FileUnreadable };
        survey.add(finding(what, format!("{} bytes, LSN {lsn}", message.size), "no file".to_owned()));
    } else if depth >= Depth::Lengths {
        let is_good = match read.get(&message.uid) {
            Some(read) => read.as_ref().is_ok_and(|found| *found == Body::from(message)),
            None => {
                (look.pace)(if depth == Depth::Bytes { message.size } else { 0 })?;
                depth == Depth::Lengths && look.depth == depth && listed == Some(message.size)
            }
        };
        // What differs is looked at again: a file that was made anew since it was listed is no finding.
        let found = if is_good { None } else { file(Look { depth, ..look }, place, message) };
        if let Some((what, expected, found)) = found {
            survey.add(finding(what, expected, found));
        } else if look.depth == Depth::Bytes {
            survey.bytes += message.size;
            if let Some(within) = look.within.filter(|_| !is_behind && survey.found() == 0) {
                (within.good)(message.uid);
            }
        }
    }
    Ok(())
}

/// What is wrong with the file of a message: what, expected, found.
fn file(look: Look<'_>, place: &Place, message: &Message) -> Option<(What, String, String)> {
    let body = Body::from(message);
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
