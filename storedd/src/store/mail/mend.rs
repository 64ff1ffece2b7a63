//! The judge of a mailbox, who can repair, too.
//!
//! # Operation
//! [`Store::examine`] looks at a mailbox as everybody else does, beside all that goes on. Only if something looks wrong does it look
//! again as the one who writes to partitions, while no checkpoint does, at names and at what looked wrong: what was half done is done
//! then, so a finding is one. In that state it also makes journals anew; commits and reads go on all the while, and the next
//! checkpoint waits for as long as that takes.
//! What has to be changed in rows is submitted as a command ([`crate::model::command::Mend`]) that holds only if nothing has changed in the mailbox since; if
//! something has, all is looked at again.
//!
//! # What is repaired by what
//! | damaged or lost | made anew from |
//! |---|---|
//! | index, mirror | both together, and the log where both have gaps |
//! | the file of a message | see [`super::heal`] |
//! | a file under the wrong UID | its digest: the message that lacks it; if none does, it is spare |
//! | a file that nothing knows | [`Repair::Provable`]: the row counts exactly these besides those that are known. [`Repair::Force`]: the file is proof enough. [`Repair::Recover`]: it is shown in the folder `Recovered` of its owner |
//! | the counts of the row | the messages, if all of them are known |
//!
//! # Invariants
//! * Nothing is deleted: what is replaced or moved has a name in the quarantine first. (The file of a message that was purged goes: that
//!   is what the purge was.)
//! * [`Repair::Nothing`] changes no byte (I7).
//! * Nothing that is not proven is put into a mailbox, but with [`Repair::Force`].

use super::case::{Case, Eye};
use super::heal::{Healed, Sick};
use super::trace::{Traced, Traces};
use super::write::{Moment, repair};
use crate::error::{Result, StoreError};
use crate::model::Folder;
use crate::partition::bodies::{self, Body};
use crate::partition::index::History;
use crate::partition::manifest::Manifest;
use crate::partition::survey::{Depth, What, Within};
use crate::partition::tree::Home;
use crate::store::Store;
use crate::store::checkpoint::applied;
use crate::store::commit::lock;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Mailboxes whose mirrors are held in memory at once.
const MIRRORS_AT_ONCE: usize = 64;
/// Files that each thread of a run reads at the same time which is to be done soon: what gave most on disks that were tried.
pub const READERS: usize = 8;
/// How often a mailbox is looked at again that changes meanwhile.
const ATTEMPTS: usize = 8;

/// What may be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Repair {
    /// Nothing.
    Nothing,
    /// What is proven. For what nobody has asked for: a first access, a scrub.
    Provable,
    /// Also journals from what is left of them, and counts by that; files that nothing knows are shown in [`super::RECOVERED`].
    Recover,
    /// Files that nothing knows are messages of the mailbox in which they lie, under the UIDs of their names.
    Force,
}

/// How far a look at many mailboxes has come within one, for who goes on with it later.
pub trait Track {
    /// Up to which UID the bytes of messages were found good before.
    fn behind(&self, mailbox: u64) -> u32;
    /// Up to this UID nothing is wrong.
    fn good(&self, mailbox: u64, uid: u32);
}

/// How a mailbox is looked at.
#[derive(Clone, Copy)]
pub struct Order<'a> {
    /// How deep.
    pub depth: Depth,
    /// What may be changed.
    pub repair: Repair,
    /// Called with the bytes read before each file: paces, and ends the work with its error.
    pub pace: &'a dyn Fn(u64) -> Result<()>,
    /// What the log says, where it is one of many.
    pub traces: Option<&'a Traces>,
    /// Files that are read at the same time; 1: one after the other.
    pub readers: usize,
    /// It may be gone on with; for one reader.
    pub track: Option<&'a dyn Track>,
}

impl std::fmt::Debug for Order<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Order").field("depth", &self.depth).field("repair", &self.repair).finish_non_exhaustive()
    }
}

/// What is to become of something found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It was repaired.
    Mended,
    /// It can be repaired without loss.
    Mendable,
    /// It can be shown, and not be proven.
    Unproven,
    /// What is missing is nowhere.
    Lost,
}

impl Fate {
    /// Its word for people and scripts.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Fate::Mended => "mended",
            Fate::Mendable => "mendable",
            Fate::Unproven => "unproven",
            Fate::Lost => "lost",
        }
    }
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// File, or mailbox.
    pub place: String,
    /// Which message, where it is about one.
    pub uid: Option<u32>,
    /// What it is about.
    pub what: &'static str,
    /// What should be.
    pub expected: String,
    /// What is.
    pub found: String,
    /// What is to become of it.
    pub fate: Fate,
}

/// A file that was copied to [`super::RECOVERED`]: it goes to the quarantine when the copy is a file of its own, see [`Store::settle`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Where it lies.
    pub of: Folder<'static>,
    /// UID as its name says.
    pub uid: u32,
}

/// What was found in a mailbox, and done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Examined {
    /// Readable name.
    pub mailbox: String,
    /// Messages that were looked at.
    pub messages: u64,
    /// Bytes of files that were read.
    pub bytes: u64,
    /// The first [`crate::partition::survey::FINDINGS_MAX`] findings.
    pub findings: Vec<Finding>,
    /// The others, with what is to become of them.
    pub unlisted: BTreeMap<(u32, What), Fate>,
    /// What was done, in words.
    pub changes: Vec<String>,
    /// Messages without good bytes near by: for [`Store::heal`].
    pub sick: Vec<Sick>,
    /// For [`Store::settle`].
    pub leftovers: Vec<Leftover>,
}

impl Examined {
    /// Gives those findings this fate that are about such a message and have such a word.
    pub(super) fn fate(&mut self, of: impl Fn(Option<u32>, &str) -> bool, fate: Fate) {
        self.findings.iter_mut().filter(|f| of(f.uid, f.what)).for_each(|f| f.fate = fate);
        let unlisted = self.unlisted.iter_mut().filter(|((uid, what), _)| of(Some(*uid), what.text()));
        unlisted.for_each(|(_, known)| *known = fate);
    }

    /// Files that nothing knew have this fate.
    pub(super) fn fate_of_strays(&mut self, uids: &BTreeSet<u32>, fate: Fate) {
        let is_it = |uid: Option<u32>| uid.is_some_and(|uid| uids.contains(&uid));
        self.fate(|uid, what| what == What::FileUnknown.text() && is_it(uid), fate);
    }

    /// The messages whose bytes are bad, and were not put back.
    fn open_bodies(&self) -> BTreeSet<u32> {
        let is_open = |what: &str, fate| is_body(what) && fate != Fate::Mended;
        let listed = self.findings.iter().filter(|f| is_open(f.what, f.fate)).filter_map(|f| f.uid);
        let unlisted = self.unlisted.iter().filter(|((_, what), fate)| is_open(what.text(), **fate));
        listed.chain(unlisted.map(|((uid, _), _)| *uid)).collect()
    }

    /// How many findings there are.
    #[must_use]
    pub fn found(&self) -> u64 {
        (self.findings.len() + self.unlisted.len()) as u64
    }

    /// Takes out what is still to be healed, each with the finding that tells of it: whose fate is known when that was tried.
    pub fn take_sick(&mut self) -> Vec<(Sick, Finding)> {
        let (mut listed, mut others) = (BTreeMap::new(), Vec::new());
        let sick: BTreeSet<u32> = self.sick.iter().map(|sick| sick.uid).collect();
        for finding in std::mem::take(&mut self.findings) {
            match finding.uid {
                Some(uid) if is_body(finding.what) && sick.contains(&uid) => drop(listed.insert(uid, finding)),
                _ => others.push(finding),
            }
        }
        self.findings = others;
        let told = |sick: Sick| {
            let finding = listed.remove(&sick.uid).unwrap_or_else(|| {
                let mut kinds = BODIES.into_iter();
                let what = kinds.find(|what| self.unlisted.remove(&(sick.uid, *what)).is_some());
                sick.finding(what.unwrap_or(What::FileBytes))
            });
            (sick, finding)
        };
        std::mem::take(&mut self.sick).into_iter().map(told).collect()
    }

    /// What was found near by for a message whose bytes are bad.
    fn healed(&mut self, sick: &Sick, healed: Healed) {
        if healed == Healed::Yes {
            self.changes.push(sick.put_back());
        }
        let fate = healed.fate();
        self.fate(|uid, what| uid == Some(sick.uid) && is_body(what), fate);
    }
}

pub(super) const BODIES: [What; 4] = [What::FileMissing, What::FileUnreadable, What::FileLength, What::FileBytes];
const JOURNALS: [What; 5] =
    [What::IndexMissing, What::IndexBad, What::MirrorBad, What::MirrorMissing, What::TwinsDiffer];
pub(super) const COUNTS: &str = "counts of the mailbox";
const STATES: &str = "states of messages";

pub(super) fn is_body(what: &str) -> bool {
    BODIES.iter().any(|kind| kind.text() == what)
}

fn is_journal(what: &str) -> bool {
    JOURNALS.iter().any(|kind| kind.text() == what)
}

impl Case {
    /// Nothing is wrong with it.
    fn is_clean(&self) -> bool {
        self.survey.found() == 0 && self.is_proven() && !self.is_row_wrong()
    }

    fn examined(&self) -> Examined {
        let (counted, row) = (self.counted(), &self.row);
        let mut findings: Vec<Finding> = Vec::new();
        let is_proven = self.is_proven();
        let fate = |what: What| match what {
            what if JOURNALS.contains(&what) && !is_proven => Fate::Lost,
            What::FileUnknown => Fate::Unproven,
            what if BODIES.contains(&what) => Fate::Lost,
            _ => Fate::Mendable,
        };
        for f in &self.survey.findings {
            let (place, expected, found) = (f.file.clone(), f.expected.clone(), f.found.clone());
            let fate = fate(f.what);
            findings.push(Finding { place, uid: f.uid, what: f.what.text(), expected, found, fate });
        }
        if self.is_row_wrong() || (!self.is_proven() && counted.usage != row.usage()) {
            findings.push(Finding {
                place: self.name.clone(),
                uid: None,
                what: COUNTS,
                expected: format!("{}, {} unseen, UIDNEXT {}", row.usage(), row.unseen, row.uidnext),
                found: format!("{}, {} unseen, last UID {}", counted.usage, counted.unseen, counted.last_uid),
                fate: if self.is_row_wrong() && !self.lacks() { Fate::Mendable } else { Fate::Lost },
            });
        } else if !self.is_proven() || self.older().is_some() {
            findings.push(Finding {
                place: self.name.clone(),
                uid: None,
                what: STATES,
                expected: format!("changes up to {}", row.highest_modseq),
                found: match self.older() {
                    Some(modseq) => format!("index and manifest of an older time, with changes up to {modseq}"),
                    None => format!("changes up to {}, with gaps in index and manifest", counted.modseq),
                },
                fate: if self.is_proven() { Fate::Mendable } else { Fate::Lost },
            });
        }
        Examined {
            mailbox: self.name.clone(),
            messages: self.survey.messages,
            bytes: self.survey.bytes,
            unlisted: self.survey.unlisted.iter().map(|(uid, what)| ((*uid, *what), fate(*what))).collect(),
            findings,
            ..Examined::default()
        }
    }
}

impl Store {
    /// Looks at the mailbox with this number, and repairs what it may. `None`: it is gone for good.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if its partition is not there, if it changes all the time, or as the pace says; a newer or foreign journal;
    /// those of the disk.
    pub fn examine(&self, id: u64, order: &Order<'_>) -> Result<Option<Examined>> {
        self.examine_beside(id, order, None)
    }

    /// [`Store::examine`] for mailboxes of one home, whose manifest is read once for many of them. `each` gets the number of each, and
    /// what came of it; what ends the work ends it there.
    ///
    /// # Errors
    /// [`StoreError::Busy`] as the pace says; those of `each`. What is wrong with one mailbox alone is told to `each`.
    pub fn examine_home(
        &self,
        of: &Folder<'_>,
        ids: &[u64],
        order: &Order<'_>,
        each: &mut dyn FnMut(u64, Result<Option<Examined>>) -> Result<()>,
    ) -> Result<()> {
        let home = Home::parse(&of.home).ok_or_else(|| StoreError::Bug(format!("{:?} is no directory", of.home)))?;
        for some in ids.chunks(MIRRORS_AT_ONCE) {
            (order.pace)(0)?;
            let disk = self.partitions.disk(&of.partition);
            let asked: BTreeSet<u64> = some.iter().copied().collect();
            // One that cannot be read is told of with each mailbox.
            let mirrors =
                disk.and_then(|disk| Manifest::new(&*disk, self.partitions.owner(), &home).histories(&asked).ok());
            let mut mirrors = mirrors.unwrap_or_default();
            for id in some {
                let examined = self.examine_beside(*id, order, mirrors.remove(id));
                // The pace says it again if it was its word.
                (order.pace)(0)?;
                each(*id, examined)?;
            }
        }
        Ok(())
    }

    fn examine_beside(&self, id: u64, order: &Order<'_>, mirror: Option<History>) -> Result<Option<Examined>> {
        let none = BTreeSet::new();
        let good = |uid| order.track.into_iter().for_each(|track| track.good(id, uid));
        let within = order.track.map(|track| Within { behind: track.behind(id), good: &good });
        let eye = Eye { depth: order.depth, deep: &none, pace: order.pace, readers: order.readers, within };
        let Some(seen) = self.case(id, eye, mirror)? else { return Ok(None) };
        let mut examined = seen.examined();
        let (messages, bytes) = (examined.messages, examined.bytes);
        if !seen.is_clean() {
            let deep = seen.uids(&BODIES);
            drop(seen);
            let mut changes = Vec::new();
            for attempt in 1.. {
                match self.examine_closely(id, order, &deep)? {
                    None => return Ok(None),
                    Some(Close { examined: found, is_stale: false }) => {
                        examined = found;
                        break;
                    }
                    Some(_) if attempt == ATTEMPTS => {
                        return Err(StoreError::Busy { why: format!("mailbox {id} changes all the time") });
                    }
                    Some(Close { examined, .. }) => changes = examined.changes,
                }
            }
            changes.append(&mut examined.changes);
            examined.changes = changes;
        }
        (examined.messages, examined.bytes) = (messages, bytes);
        Ok(Some(examined))
    }

    /// See the page.
    fn examine_closely(&self, id: u64, order: &Order<'_>, deep: &BTreeSet<u32>) -> Result<Option<Close>> {
        let eye = Eye { depth: Depth::Names, deep, pace: &|_| Ok(()), readers: 1, within: None };
        let mut traced: Option<(Arc<Traced>, BTreeMap<u32, Body>)> = None;
        let alone = Traces::default();
        loop {
            let writer = lock(&self.db);
            let Some(mut case) = self.case(id, eye, None)? else { return Ok(None) };
            if let Some((traced, proven)) = &traced {
                case.know(traced, proven);
            }
            if !case.is_proven() && !case.is_traced {
                drop(writer);
                // The log is read while nobody waits, and what it tells of.
                let told = order.traces.unwrap_or(&alone).get(self, id)?;
                let proven = case.prove(&told, order.readers);
                traced = Some((told, proven));
                continue;
            }
            let mut examined = case.examined();
            let enough = case.is_proven() || (case.is_row_wrong() && !case.lacks()) || case.adds_up();
            let may = order.repair >= Repair::Recover || (enough && order.repair > Repair::Nothing);
            if may {
                self.mend_journals(&case, &mut examined)?;
            }
            if order.repair > Repair::Nothing {
                self.finish_purges(&case, &mut examined)?;
            }
            drop(writer);
            let is_stale = self.mend_rest(&case, order, &mut examined)?;
            return Ok(Some(Close { examined, is_stale }));
        }
    }

    /// Makes index and mirror anew where they are not as they should be. The writer of partitions calls it.
    fn mend_journals(&self, case: &Case, examined: &mut Examined) -> Result<()> {
        let is_found = examined.findings.iter().any(|f| is_journal(f.what));
        if !is_found && case.is_proven() && case.older().is_none() {
            return Ok(());
        }
        let is_mirrored = case.is_proven() && case.survey.is_mirrored() && case.older().is_none();
        let view = self.settled_view();
        let (upto, keep_from) = (view.at, self.bases.oldest(view.at, &view.base.db));
        let committed = applied(&view.base.db);
        let moment = Moment {
            upto,
            epoch: self.epoch,
            committed,
            keep_from,
            is_replay: false,
            is_piece: false,
            can_wait: false,
            seen_since: None,
        };
        repair(&view, moment, &self.mail_disks(), &case.of.partition, |target, supply| {
            let mut history = case.survey.history.clone();
            if let Some(head) = supply.head(&case.place)? {
                history.take_head(head);
            }
            target.index_anew(&case.place, &history)?;
            // It is written whole, with all that is in its home.
            if is_mirrored { Ok(()) } else { target.manifest_anew(&case.place.home, supply) }
        })?;
        let fate = if case.is_proven() { Fate::Mended } else { Fate::Unproven };
        examined.fate(|_, what| is_journal(what), fate);
        examined.fate(|_, what| what == STATES, fate);
        let from = match (is_mirrored, case.is_traced) {
            (true, _) => "manifest",
            (false, true) => "index, manifest and log",
            (false, false) => "index and manifest",
        };
        let what = if is_mirrored { "index was" } else { "index and manifest were" };
        examined.changes.push(format!("{what} made anew from {from}"));
        tracing::warn!(event = "index_repaired", mailbox = case.name, proven = case.is_proven(), from);
        Ok(())
    }

    /// Takes away what a purge could not: it is the same writer's work.
    fn finish_purges(&self, case: &Case, examined: &mut Examined) -> Result<()> {
        let left = case.uids(&[What::FileLeft]);
        for uid in &left {
            bodies::remove(&*case.disk, &case.place, *uid)?;
        }
        if !left.is_empty() {
            examined.fate(|_, what| what == What::FileLeft.text(), Fate::Mended);
            examined.changes.push(format!("{} files of purged messages were removed", left.len()));
        }
        Ok(())
    }

    /// Bodies, files that nothing knows, counts. True if the mailbox has changed meanwhile and is to be looked at again.
    fn mend_rest(&self, case: &Case, order: &Order<'_>, examined: &mut Examined) -> Result<bool> {
        let mut unknown = self.strangers(case, order.readers);
        if order.repair > Repair::Nothing {
            self.put_in_place(case, &mut unknown, examined)?;
        }
        let bad = examined.open_bodies();
        let sick: Vec<Sick> = bad.iter().filter_map(|uid| Some(case.sick(case.message(*uid)?))).collect();
        let healed = self.heal_at_home(&case.of, &sick, order.repair > Repair::Nothing)?;
        for (sick, healed) in sick.into_iter().zip(healed) {
            match healed {
                Healed::No => examined.sick.push(sick),
                healed => examined.healed(&sick, healed),
            }
        }
        if order.repair == Repair::Nothing || case.is_deleted {
            return Ok(false);
        }
        self.mend_rows(case, order.repair, unknown, examined)
    }
}

/// What came of a close look.
struct Close {
    examined: Examined,
    is_stale: bool,
}
