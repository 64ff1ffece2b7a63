//! One mailbox as everything that speaks of it has it: its row, its index, the mirror of that, memory, the log, its files.
//!
//! # Trust
//! A state of a message counts if its frame's checksum is right; of two states the later one. What must be told is whether something
//! is *missing*. It is not if the messages add up to what the row counts, one of the twins (index, mirror) is without a gap, and the newest
//! change in it is the row's newest at the last checkpoint (a twin without a gap may be old); or if the log holds everything since the
//! mailbox was made. See
//! [`Standing::is_proven`]. What came after the checkpoint is in memory, which the log has made.

use super::super::view::View;
use super::mend::BODIES;
use super::told::{Told, told};
use super::trace::Traced;
use crate::disk::Disk;
use crate::error::Result;
use crate::lsn::Lsn;
use crate::model::mail::{MessageRow, messages_of, split_key};
use crate::model::message::{Flags, Message, State};
use crate::model::name::key_text;
use crate::model::rows::MailboxRow;
use crate::model::{Folder, Rows, Table, Usage};
use crate::partition::bodies::{self, Body};
use crate::partition::index::{History, Stamped};
use crate::partition::journal::Reading;
use crate::partition::manifest::Manifest;
use crate::partition::survey::{self, Above, Depth, Finding, Look, Survey, What, Within};
use crate::partition::tree::{Home, Place};
use crate::store::Store;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

/// What the messages of a mailbox add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counted {
    pub(super) usage: Usage,
    pub(super) unseen: u64,
    /// Highest UID of any, gone ones among them.
    pub(super) last_uid: u32,
    /// Highest modseq, likewise.
    pub(super) modseq: u64,
}

impl Counted {
    pub(super) fn of<'m>(messages: impl IntoIterator<Item = &'m Message>) -> Counted {
        let mut counted = Counted::default();
        for message in messages {
            counted.last_uid = counted.last_uid.max(message.uid);
            counted.modseq = counted.modseq.max(message.modseq);
            if message.is_live() {
                counted.usage = counted.usage.plus(Usage { bytes: message.size, messages: 1 });
                counted.unseen += u64::from(!message.flags.has(Flags::SEEN));
            }
        }
        counted
    }
}

/// What was read of a mailbox against what must be there.
pub(super) struct Standing<'a> {
    pub(super) index: &'a Reading,
    pub(super) mirror: &'a Reading,
    /// What all messages add up to.
    pub(super) usage: Usage,
    /// What the row counts.
    pub(super) expected: Usage,
    /// Highest modseq of what index and mirror say of the last checkpoint.
    pub(super) modseq: u64,
    /// The row at that; `None`: the mailbox had no messages.
    pub(super) settled: Option<&'a MailboxRow>,
    /// That checkpoint.
    pub(super) durable: Lsn,
    /// The log was asked, too.
    pub(super) is_traced: bool,
    /// It has everything that came behind what index and mirror hold.
    pub(super) is_followed: bool,
}

impl Standing<'_> {
    /// True if all states of its messages are known.
    pub(super) fn is_proven(&self) -> bool {
        if self.settled.is_none() {
            return true;
        }
        let (index, mirror, newest) = (self.index.is_whole(), self.mirror.is_whole(), self.is_newest());
        // Behind what was durable a crash leaves gaps.
        let torn = |reading: &Reading| reading.is_there && !reading.is_damaged(self.durable);
        let together = match (index, mirror) {
            // Less than the newest: both are older than the database, as a disk leaves them that says of a sync what is not so.
            (true, true) => newest || self.is_followed,
            // The newest change may be in the gap of the other twin, and the log is asked first.
            (true, false) | (false, true) => newest || self.is_traced,
            (false, false) => newest && torn(self.index) && torn(self.mirror),
        };
        together && self.usage == self.expected
    }

    /// True if what is known reaches up to the last change before the checkpoint.
    pub(super) fn is_newest(&self) -> bool {
        self.settled.is_none_or(|row| self.modseq >= row.highest_modseq)
    }
}

/// How deep to look, at what whatever the depth, and how many files are read at the same time.
#[derive(Clone, Copy)]
pub(super) struct Eye<'a> {
    pub(super) depth: Depth,
    pub(super) deep: &'a BTreeSet<u32>,
    pub(super) pace: &'a dyn Fn(u64) -> Result<()>,
    pub(super) readers: usize,
    pub(super) within: Option<Within<'a>>,
}

/// See the page.
pub(super) struct Case {
    /// Readable name.
    pub(super) name: String,
    /// It was deleted, and can be brought back.
    pub(super) is_deleted: bool,
    pub(super) row: MailboxRow,
    pub(super) of: Folder<'static>,
    pub(super) place: Place,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) survey: Survey,
    /// Its row at the last checkpoint; `None`: nothing was written of it by then.
    settled: Option<MailboxRow>,
    /// That checkpoint.
    durable: Lsn,
    /// What the log adds was taken into account.
    pub(super) is_traced: bool,
    /// The log holds everything since the mailbox was made.
    is_logged_whole: bool,
    /// The log holds everything behind the newest head of index and mirror.
    is_followed: bool,
    /// Messages whose bytes are elsewhere than in a file of their own.
    without_file: BTreeSet<u32>,
}

impl Case {
    /// What its messages add up to, as far as they are known.
    pub(super) fn counted(&self) -> Counted {
        Counted::of(self.survey.known.iter().map(|m| &m.value))
    }

    fn standing(&self) -> Standing<'_> {
        let history = &self.survey.history;
        Standing {
            index: &history.reading,
            mirror: &self.survey.mirror,
            usage: self.counted().usage,
            expected: self.row.usage(),
            modseq: history.highest_modseq(self.durable),
            settled: self.settled.as_ref(),
            durable: self.durable,
            is_traced: self.is_traced,
            is_followed: self.is_followed,
        }
    }

    /// True if all states of its messages are known.
    pub(super) fn is_proven(&self) -> bool {
        self.is_logged_whole || self.standing().is_proven()
    }

    /// Where index and manifest are whole and older than the last checkpoint: the newest change that they have.
    pub(super) fn older(&self) -> Option<u64> {
        let standing = self.standing();
        let is_whole = standing.index.is_whole() && standing.mirror.is_whole();
        (is_whole && !standing.is_newest()).then_some(standing.modseq)
    }

    /// True if all states of its messages are known, and the row counts something else.
    pub(super) fn is_row_wrong(&self) -> bool {
        let (counted, standing) = (self.counted(), self.standing());
        let differs = counted.usage != self.row.usage()
            || counted.unseen != self.row.unseen
            || counted.last_uid >= self.row.uidnext
            || counted.modseq > self.row.highest_modseq;
        let whole = |reading: &Reading| reading.is_whole() || (self.settled.is_none() && !reading.is_there);
        let twins = whole(standing.index) && whole(standing.mirror);
        differs && ((twins && standing.is_newest()) || self.is_logged_whole)
    }

    /// True if the row counts messages of which nothing else knows, and the log does not go back far enough to say that there were none.
    pub(super) fn lacks(&self) -> bool {
        let counted = self.counted();
        let is_newer = counted.modseq > self.row.highest_modseq;
        counted.usage.messages < self.row.messages && !is_newer && !self.is_logged_whole
    }

    /// True if the files that nothing knows are just what the row counts beside the messages that are known.
    pub(super) fn adds_up(&self) -> bool {
        let unknown = &self.survey.strays;
        let mut usage = self.counted().usage;
        for uid in unknown {
            let Ok(Some(entry)) = self.disk.stat(&self.place.message(*uid)) else { return false };
            usage = usage.plus(Usage { bytes: entry.len, messages: 1 });
        }
        !unknown.is_empty() && usage == self.row.usage() && unknown.iter().all(|uid| *uid < self.row.uidnext)
    }

    /// The newest state of a message.
    pub(super) fn message(&self, uid: u32) -> Option<&Message> {
        let known = &self.survey.known;
        known.binary_search_by_key(&uid, |m| m.value.uid).ok().map(|at| &known[at].value)
    }

    /// The messages about which there is a finding of one of these kinds.
    pub(super) fn uids(&self, kinds: &[What]) -> BTreeSet<u32> {
        self.survey.uids(kinds)
    }

    /// The messages whose bytes are gone or damaged, as far as was looked, and what is wrong.
    pub(super) fn bodiless(&self) -> BTreeMap<u32, What> {
        let listed = self.survey.findings.iter().filter_map(|f| Some((f.uid?, f.what)));
        let all = listed.chain(self.survey.unlisted.iter().copied());
        all.filter(|(_, what)| BODIES.contains(what)).collect()
    }

    /// Which files that nothing knew hold what the log says, each with what it holds. Reads them; nothing needs to be held meanwhile, for
    /// a message file is made once and never changed.
    pub(super) fn prove(&self, traced: &Traced, readers: usize) -> BTreeMap<u32, Body> {
        let states = traced.states.get(&self.place.id).map_or(&[][..], Vec::as_slice);
        let newest: BTreeMap<u32, &Message> = states.iter().map(|state| (state.value.uid, &state.value)).collect();
        let has_file = |(uid, m): &(&u32, &&Message)| m.state != State::Purged && self.survey.strays.contains(uid);
        let bodies: Vec<(u32, Body)> =
            newest.iter().filter(has_file).map(|(uid, message)| (*uid, Body::from(*message))).collect();
        let read = bodies::compare_all(&*self.disk, &self.place, &bodies, readers);
        read.into_iter().filter_map(|(uid, found)| Some((uid, found.ok()?))).collect()
    }

    /// Takes in what the log says. `proven`: what files hold that nothing else knew.
    pub(super) fn know(&mut self, traced: &Traced, proven: &BTreeMap<u32, Body>) {
        self.is_traced = true;
        self.is_logged_whole = traced.since.0 <= self.row.created_us && traced.is_whole;
        let reached = self.survey.history.reached.iter().map(|(lsn, _)| *lsn).filter(|lsn| *lsn <= self.durable).max();
        self.is_followed = traced.is_whole && reached.is_some_and(|lsn| traced.first.0 <= lsn.0 + 1);
        let Some(states) = traced.states.get(&self.place.id) else { return };
        let mut known: BTreeMap<u32, Stamped<Message>> =
            self.survey.known.drain(..).map(|m| (m.value.uid, m)).collect();
        let before: BTreeSet<u32> = known.keys().copied().collect();
        for state in states {
            let uid = state.value.uid;
            if known.get(&uid).is_none_or(|before| before.lsn < state.lsn) {
                known.insert(uid, state.clone());
            }
        }
        let new: Vec<&Message> = known.values().map(|m| &m.value).filter(|m| !before.contains(&m.uid)).collect();
        self.files_of(&new, proven);
        self.survey.known = known.into_values().collect();
        let (messages, head) = (states.clone(), None);
        self.survey.history.merge(History { head, messages, ..History::default() });
    }

    /// Looks for the files of messages that only the log knew.
    fn files_of(&mut self, new: &[&Message], proven: &BTreeMap<u32, Body>) {
        let has_file = |uid: &u32| self.survey.strays.contains(uid);
        let (there, gone): (Vec<&Message>, Vec<&Message>) = new.iter().partition(|m| has_file(&m.uid));
        self.survey.know(&there.iter().map(|m| m.uid).collect());
        let mut find = |m: &Message, what, found: String| {
            let (file, expected) = (self.disk.display(&self.place.message(m.uid)), format!("{} bytes", m.size));
            self.survey.add(Finding { file, uid: Some(m.uid), what, expected, found });
        };
        for message in there {
            let body = Body::from(message);
            match proven.get(&message.uid) {
                _ if message.state == State::Purged => find(message, What::FileLeft, "a file".to_owned()),
                Some(found) if *found == body => {}
                Some(found) if found.size != body.size => find(message, What::FileLength, found.size.to_string()),
                _ => find(message, What::FileBytes, "other bytes".to_owned()),
            }
        }
        for message in gone.into_iter().filter(|m| m.state != State::Purged && !self.without_file.contains(&m.uid)) {
            find(message, What::FileMissing, "no file".to_owned());
        }
    }
}

/// The row of a mailbox at the last checkpoint; `None`: that has written nothing of it.
pub(super) fn settled(view: &View, id: u64) -> Result<Option<MailboxRow>> {
    Ok(told(view.database(), id)?.map(|told| told.row).filter(|row| row.uidnext > 1))
}

/// What memory knows of a mailbox.
fn above(view: &View, id: u64, deep: &BTreeSet<u32>) -> Result<Above> {
    let mut above = Above { deep: deep.clone(), ..Above::default() };
    let (start, end) = messages_of(id);
    let mut failed = Ok(());
    view.scan_until(Table::Messages, Bound::Included(&start), &end, &mut |_, row| {
        let stamped = MessageRow::decode(row)
            .and_then(|row| Ok(Stamped { lsn: row.lsn, epoch: row.epoch, value: row.message()? }));
        match stamped {
            Ok(message) => {
                if message.value.state == State::Purged {
                    // Its file goes after the next checkpoint.
                    above.without_file.insert(message.value.uid);
                }
                above.messages.push(message);
                ControlFlow::Continue(())
            }
            Err(e) => {
                failed = Err(e);
                ControlFlow::Break(())
            }
        }
    })?;
    failed?;
    view.scan_until(Table::Bodies, Bound::Included(&start), &end, &mut |key, _| {
        above.without_file.extend(split_key(key).map(|(_, uid)| uid));
        ControlFlow::Continue(())
    })?;
    Ok(above)
}

impl Store {
    /// Looks at the mailbox with this number; `None` if it is gone for good. `mirror`: what the manifest of its home says, if that was
    /// read already.
    ///
    /// # Errors
    /// [`crate::error::StoreError::Busy`] if its partition is not there; a newer or foreign journal; those of the disk and of the pace.
    pub(super) fn case(&self, id: u64, eye: Eye<'_>, mirror: Option<History>) -> Result<Option<Case>> {
        let view = self.view();
        let Some(Told { key, row, owner, deleted_us }) = told(&view, id)? else { return Ok(None) };
        let home = row.home.clone().unwrap_or(owner);
        let of = Folder { partition: Cow::Owned(row.partition.clone()), home: Cow::Owned(home), mailbox: id };
        let place = super::source::place(&of)?;
        let disk = self.partitions.disk(&of.partition).ok_or_else(|| super::source::away(&of.partition))?;
        let settled = settled(&view, id)?;
        let upto = settled.as_ref().map_or(0, |row| row.highest_modseq);
        let above = Above { is_new: settled.is_none(), settled: Some(upto), ..above(&view, id, eye.deep)? };
        let look = Look {
            disk: &*disk,
            store: self.partitions.owner(),
            depth: eye.depth,
            durable: view.indexed_upto(),
            pace: eye.pace,
            readers: eye.readers,
            within: eye.within,
        };
        // One that never had a message has no directory.
        let has_directory = row.uidnext > 1 || matches!(disk.stat(&place.path()), Ok(Some(_)));
        let survey = match has_directory {
            true => {
                let mirror = mirror.map_or_else(|| self.mirror(&*disk, &place.home, id), Ok)?;
                survey::mailbox(look, &place, mirror, &above)?
            }
            false => Survey::default(),
        };
        let (name, is_deleted, durable) = (key_text(&key), deleted_us > 0, view.indexed_upto());
        let (is_traced, is_logged_whole, is_followed) = (false, false, false);
        let without_file = above.without_file;
        Ok(Some(Case {
            name,
            is_deleted,
            row,
            of,
            place,
            disk,
            survey,
            settled,
            durable,
            is_traced,
            is_logged_whole,
            is_followed,
            without_file,
        }))
    }

    fn mirror(&self, disk: &dyn Disk, home: &Home, id: u64) -> Result<History> {
        Manifest::new(disk, self.partitions.owner(), home).mailbox(id)
    }

    /// The database of the last checkpoint as a view of its own.
    pub(super) fn settled_view(&self) -> View {
        let base = self.base.load();
        let active = Arc::new(crate::store::overlay::Overlay::sized(0));
        let base = crate::store::view::Base { active, frozen: None, db: base.db.clone(), names: None };
        let at: Lsn = base.db.meta().applied_lsn;
        View { base: Arc::new(base), at }
    }
}
