//! What a checkpoint does to one home: message files, indexes, manifest.
//!
//! # Operation
//! [`apply`] makes files and appends frames, without a sync. The caller then syncs the tree, once for all homes, commits what
//! it applied, and only then calls [`finish`], which takes away what nobody needs any more. A crash before the commit finds all
//! that `apply` is made from in the log; doing it again is harmless (I5).
//!
//! An index or manifest that was lost or is damaged is made anew before it takes anything ([`Applied::repaired`]), from itself,
//! its twin, and what is being applied.
//!
//! # Invariants
//! * No file is taken away before the commit: a copy that is applied again needs its source.
//! * Damaged journals are kept in the quarantine before they are replaced.

use super::bodies::{self, Body, Made};
use super::index::{self, Head, History, Index, Run, Stamped};
use super::journal::{AppendError, Reading, Size};
use super::manifest::{self, Entries, Manifest, Mirror, MirroredRows};
use super::past::Owner;
use super::tree::{self, Home, Place, QUARANTINE};
use crate::disk::{Disk, create_all, parent};
use crate::error::{Result, StoreError};
use crate::lsn::Lsn;
use crate::model::message::{Message, State};
use crate::planted::{self, Bug};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// Mailboxes that a manifest is asked about in one pass over it.
const ASKED_AT_ONCE: usize = 256;

/// Where the bytes of a message come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// From whoever knows where they are: [`Supply::body`].
    Log,
    /// From the staged file with this number.
    Staged(u64),
    /// From another mailbox of the same partition.
    Twin(Place, u32),
}

/// What changed in one mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxRun {
    /// Which.
    pub place: Place,
    /// It was made since the last checkpoint: that it has no index is no loss.
    pub is_new: bool,
    /// It never had a message: it has no index, only the manifest knows of it.
    pub is_bare: bool,
    /// Highest modseq that its row had at the last checkpoint: all changes up to it are in the index, unless that is of an older time. `None`: it
    /// has none, or lacks changes that are being brought.
    pub settled: Option<u64>,
    /// Its head and messages.
    pub run: Run,
    /// Messages whose files are to be made, by UID.
    pub sources: BTreeMap<u32, Source>,
}

/// What changed in one home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeRun {
    /// Which.
    pub home: Home,
    /// It was made since the last checkpoint.
    pub is_new: bool,
    /// Its mailboxes; twins stand behind what they are twins of.
    pub mailboxes: Vec<MailboxRun>,
    /// Rows of the database that belong to it.
    pub rows: MirroredRows,
    /// Mailboxes that are gone for good: their directories go with all that is in them.
    pub gone: Vec<Stamped<u64>>,
    /// Its manifest lacks what the database knows: it asks for all of that when it is made anew.
    pub is_short: bool,
}

impl HomeRun {
    /// Nothing changed in a home.
    #[must_use]
    pub fn nothing(home: &Home) -> HomeRun {
        HomeRun {
            home: home.clone(),
            is_new: false,
            mailboxes: Vec::new(),
            rows: MirroredRows::new(),
            gone: Vec::new(),
            is_short: false,
        }
    }
}

/// What [`apply`] asks for.
pub trait Supply {
    /// The bytes of a message that came through the log.
    ///
    /// # Errors
    /// If they cannot be read.
    fn body(&self, place: &Place, message: &Message) -> Result<Vec<u8>>;
    /// What the database knows of a mailbox; `None` if it is gone.
    ///
    /// # Errors
    /// If it cannot be read.
    fn head(&self, place: &Place) -> Result<Option<Stamped<Head>>>;
    /// All rows of the database that belong to a home. Asked where the manifest was lost or is damaged.
    ///
    /// # Errors
    /// If they cannot be read.
    fn rows(&self, home: &Home) -> Result<MirroredRows>;
    /// The mailboxes that the database has in a home, by id; asked likewise.
    ///
    /// # Errors
    /// If they cannot be read.
    fn mailboxes(&self, home: &Home) -> Result<Vec<u64>>;
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// Message files made.
    pub files: u64,
    /// Message files with other bytes than theirs, made again.
    pub replaced: u64,
    /// Messages without bytes, by place and UID; see [`Target::is_piece`] and [`Target::distrusts`].
    pub bodiless: Vec<(Place, u32)>,
    /// Frames written to indexes.
    pub frames: u64,
    /// Indexes and manifests that were lost or damaged and made anew.
    pub repaired: Vec<String>,
    /// Mailboxes whose index, made anew, does not hold as many messages as the database says: a reconstruct is due (I8).
    pub incomplete: Vec<Place>,
    /// Journals that were made anew because they had grown.
    pub compacted: u64,
}

impl Applied {
    fn made(&mut self, made: Made) {
        self.files += u64::from(made == Made::New);
        self.replaced += u64::from(made == Made::Replaced);
    }
}

/// Where to apply.
#[derive(Debug, Clone, Copy)]
pub struct Target<'d> {
    /// The partition.
    pub disk: &'d dyn Disk,
    /// Whose, and its past.
    pub store: Owner<'d>,
    /// The oldest moment that anybody still looks at.
    pub keep_from: Lsn,
    /// Everything up to here was committed.
    pub durable: Lsn,
    /// What is applied was in the log when the store started: a crash may have found it half applied.
    pub is_replay: bool,
    /// A sync may have failed before: what files show of that attempt may be in memory alone, and no further sync writes it. It is made
    /// anew. The disk may also be another one, with an older copy: a message whose bytes were on the former one alone has none, and is
    /// told by who looks.
    pub distrusts: bool,
    /// The log goes on behind it. A message whose bytes are gone has none: it is purged further on, and was before. With
    /// [`Target::distrusts`] it may also have been on the former disk alone, and what is purged further on is for the caller to see.
    pub is_piece: bool,
}

/// Applies what changed in one home.
///
/// # Errors
/// Those of the disk and of `supply`. What was done is harmless, and done again.
pub fn apply(target: Target<'_>, home: &HomeRun, supply: &dyn Supply) -> Result<Applied> {
    let mut applied = Applied::default();
    let mut entries = Entries::default();
    for ((table, key), row) in &home.rows {
        entries.row(*table, key, row)?;
    }
    for mailbox in &home.mailboxes {
        for (uid, source) in &mailbox.sources {
            let newest = mailbox.run.messages.iter().rev().map(|m| &m.value).find(|m| m.uid == *uid);
            if let Some(message) = newest.filter(|m| m.state != State::Purged) {
                match target.body(&mailbox.place, message, source, supply) {
                    Err(e) if (target.is_piece || target.distrusts) && is_missing(&e) => {
                        applied.bodiless.push((mailbox.place.clone(), *uid));
                    }
                    made => applied.made(made?),
                }
            }
        }
        if !mailbox.run.is_empty() {
            let reaches = mailbox.is_bare || target.index(mailbox, supply, &mut applied)?;
            match reaches {
                true => entries.run(mailbox.place.id, &mailbox.run)?,
                false => entries.run(mailbox.place.id, &headless(&mailbox.run))?,
            }
        }
    }
    home.gone.iter().for_each(|gone| entries.gone(gone.clone()));
    if !entries.is_empty() {
        target.manifest(home, &entries, supply, &mut applied)?;
    }
    Ok(applied)
}

/// Behind an index of an older time no head is written, for that would say that nothing is missing before it.
fn headless(run: &Run) -> Run {
    Run { head: None, messages: run.messages.clone() }
}

/// Makes an index anew from all that is known of its mailbox; a damaged one is kept in the quarantine.
///
/// # Errors
/// Those of the disk.
pub fn heal(target: Target<'_>, place: &Place, history: &History) -> Result<()> {
    if history.reading.is_there && !history.reading.is_whole() {
        let name = format!("{}-{}-{}", place.id, tree::INDEX, history.reading.last_lsn);
        target.set_aside(&place.index(), &name)?;
    }
    target.rewrite(place, history).map(drop)
}

/// Makes the manifest of a home anew, durably, from itself, the indexes below it and the database.
///
/// # Errors
/// Those of the disk and of `supply`.
pub fn remirror(target: Target<'_>, home: &Home, supply: &dyn Supply) -> Result<()> {
    let run = HomeRun { is_short: true, ..HomeRun::nothing(home) };
    target.rebuild(&run, &Manifest::new(target.disk, target.store, home), supply)
}

/// After the commit of what was applied: takes the files of purged messages away, those that were staged, and the directories
/// of mailboxes that are gone.
///
/// # Errors
/// Those of the disk; what is left is taken away by a later check.
pub fn finish(target: Target<'_>, home: &HomeRun) -> Result<()> {
    for mailbox in &home.mailboxes {
        for message in mailbox.run.messages.iter().filter(|m| m.value.state == State::Purged) {
            bodies::remove(target.disk, &mailbox.place, message.value.uid)?;
        }
    }
    for source in home.mailboxes.iter().flat_map(|m| m.sources.values()) {
        if let Source::Staged(number) = source {
            bodies::unstage(target.disk, *number)?;
        }
    }
    home.gone.iter().try_for_each(|gone| remove_mailbox(target.disk, &home.home.mailbox(gone.value)))
}

/// Takes the directory of a mailbox away, its index last: as long as that is there, what lies beside it is known.
///
/// # Errors
/// Those of the disk.
pub fn remove_mailbox(disk: &dyn Disk, place: &Place) -> Result<()> {
    place.uids(disk)?.into_iter().try_for_each(|uid| bodies::remove(disk, place, uid))?;
    let path = place.path();
    let io = |e| StoreError::io("remove", disk.display(&path), e);
    let missing = |e: &io::Error| e.kind() == io::ErrorKind::NotFound;
    let groups = match disk.list(&path) {
        Ok(entries) => entries,
        Err(e) if missing(&e) => return Ok(()),
        Err(e) => return Err(io(e)),
    };
    for group in groups.iter().filter(|e| e.kind == crate::disk::Kind::Dir) {
        match disk.remove_dir(&format!("{path}/{}", group.name)) {
            // Something that is no message of this mailbox: it stays, and the directory with it.
            Err(e) if !missing(&e) && e.kind() != io::ErrorKind::DirectoryNotEmpty => return Err(io(e)),
            _ => {}
        }
    }
    match disk.remove(&place.index()) {
        Err(e) if !missing(&e) => return Err(io(e)),
        _ => {}
    }
    match disk.remove_dir(&path) {
        Err(e) if !missing(&e) && e.kind() != io::ErrorKind::DirectoryNotEmpty => Err(io(e)),
        _ => Ok(()),
    }
}

fn is_missing(e: &StoreError) -> bool {
    matches!(e, StoreError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

impl Target<'_> {
    fn body(self, place: &Place, message: &Message, source: &Source, supply: &dyn Supply) -> Result<Made> {
        let body = Body { size: message.size, digest: message.digest };
        let linked = match source {
            Source::Log if self.distrusts => {
                let bytes = supply.body(place, message)?;
                bodies::displace(self.disk, place, message.uid, body, &bytes)?;
                return bodies::put(self.disk, place, message.uid, &bytes, body);
            }
            Source::Log => return self.copied(place, message, supply),
            Source::Twin(from, uid) if self.distrusts && bodies::is_there(self.disk, from, *uid)? => {
                let own = bodies::read(self.disk, from, *uid, body).unwrap_or_default();
                bodies::displace(self.disk, place, message.uid, body, &own)?;
                bodies::twin(self.disk, (from, *uid), (place, message.uid), body)
            }
            Source::Staged(number) => bodies::settle(self.disk, *number, place, message.uid, body),
            Source::Twin(from, uid) => bodies::twin(self.disk, (from, *uid), (place, message.uid), body),
        };
        match linked {
            // A checkpoint that this database has not heard of took it away: whoever has the bytes now gives them.
            Err(e) if is_missing(&e) => self.copied(place, message, supply),
            done => done,
        }
    }

    fn copied(self, place: &Place, message: &Message, supply: &dyn Supply) -> Result<Made> {
        let body = Body { size: message.size, digest: message.digest };
        bodies::put(self.disk, place, message.uid, &supply.body(place, message)?, body)
    }

    /// False if it is of an older time than the last checkpoint: then it goes on saying so.
    fn index(self, mailbox: &MailboxRun, supply: &dyn Supply, applied: &mut Applied) -> Result<bool> {
        let MailboxRun { place, is_new, run, settled, .. } = mailbox;
        let index = Index::new(self.disk, self.store, place);
        if self.is_replay && !self.may_append(&index.reading()?, *is_new) {
            applied.repaired.push(index.display());
            return self.repair(mailbox, supply, applied);
        }
        let mut reaches = true;
        let done = match settled {
            _ if *is_new => index.write_new(run),
            Some(modseq) if !planted::on(Bug::HeadBehindOlder) => match index.write_behind(run, *modseq) {
                Err(AppendError::Older) => {
                    reaches = !self.is_older(&index.read()?, None, *modseq);
                    if reaches { index.write(run) } else { index.write(&headless(run)) }
                }
                done => done,
            },
            _ => index.write(run),
        };
        if !reaches {
            applied.incomplete.push(place.clone());
        }
        applied.frames += run.messages.len() as u64 + u64::from(run.head.is_some());
        let size = match done {
            Ok(size) => size,
            Err(AppendError::Missing | AppendError::Unsound(_)) => {
                applied.repaired.push(index.display());
                return self.repair(mailbox, supply, applied);
            }
            Err(AppendError::Older) => return Err(StoreError::Bug(format!("{}: asked twice", index.display()))),
            Err(AppendError::Failed(e)) => return Err(e),
        };
        if self.distrusts || size.is_overgrown(index::OVERGROWN_BYTES) {
            let history = index.read()?;
            if !history.reading.is_whole() {
                applied.repaired.push(index.display());
                return self.repair(mailbox, supply, applied);
            }
            // What was given up is needed until somebody has looked at what it leaves behind.
            if history.reading.given_up == 0 {
                applied.compacted += 1;
                self.rewrite(place, &history)?;
            }
        }
        Ok(reaches)
    }

    /// True if what index and mirror say together, one of them without a gap, is less than everything up to this modseq.
    fn is_older(self, history: &History, mirror: Option<&Reading>, modseq: u64) -> bool {
        let is_whole = history.reading.is_whole() || mirror.is_some_and(Reading::is_whole);
        is_whole && history.highest_modseq(self.durable) < modseq
    }

    /// True for a journal that is whole; one that is not there is no loss if what it is about is new.
    fn may_append(self, reading: &Reading, is_new: bool) -> bool {
        reading.is_whole() || (is_new && !reading.is_there)
    }

    pub(super) fn rewrite(self, place: &Place, history: &History) -> Result<Size> {
        self.rewrite_as(place, history, false)
    }

    fn rewrite_as(self, place: &Place, history: &History, is_short: bool) -> Result<Size> {
        let synced = RefCell::new(BTreeSet::new());
        // A file that was taken away comes back with a crash, until that its name is gone is durable, too.
        let has_file = |uid| {
            let (path, mut synced) = (place.message(uid), synced.borrow_mut());
            if bodies::is_there(self.disk, place, uid)? {
                return Ok(true);
            }
            if synced.insert(parent(&path).to_owned()) {
                match self.disk.sync_dir(parent(&path)) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => {
                        return Err(StoreError::io("sync the directory of", self.disk.display(&path), e));
                    }
                    _ => {}
                }
            }
            Ok(false)
        };
        let index = Index::new(self.disk, self.store, place);
        match is_short {
            true => index.rewrite_short(history, self.keep_from, &has_file),
            false => index.rewrite(history, self.keep_from, &has_file),
        }
    }

    /// Makes an index anew from itself, its mirror and what comes on top. If both are gone and messages are missing then, it says so:
    /// whoever looks at the mailbox asks the log, and nobody takes what is left for all there was.
    fn repair(self, mailbox: &MailboxRun, supply: &dyn Supply, applied: &mut Applied) -> Result<bool> {
        let MailboxRun { place, run, settled, .. } = mailbox;
        let index = Index::new(self.disk, self.store, place);
        let mut history = index.read()?;
        if history.reading.is_damaged(self.durable) {
            let name = format!("{}-{}-{}", place.id, tree::INDEX, history.reading.last_lsn);
            self.set_aside(&place.index(), &name)?;
        }
        let mirror = Manifest::new(self.disk, self.store, &place.home).mailbox(place.id)?;
        let is_gone = |of: &Reading| !of.is_there || of.is_damaged(self.durable);
        let both_gone = is_gone(&history.reading) && (is_gone(&mirror.reading) || mirror.messages.is_empty());
        let of_mirror = mirror.reading.clone();
        history.merge(mirror);
        let is_older = settled.is_some_and(|modseq| self.is_older(&history, Some(&of_mirror), modseq));
        if is_older && !planted::on(Bug::HeadBehindOlder) {
            history.merge(History { messages: run.messages.clone(), ..History::default() });
            applied.incomplete.push(place.clone());
            return self.rewrite_as(place, &history, true).map(|_| false);
        }
        let Run { head, messages } = run.clone();
        history.merge(History { head, messages, ..History::default() });
        let mut is_short = false;
        if let Some(head) = supply.head(place)? {
            let live = || history.at(head.lsn).map(|m| &m.value).filter(|m| m.is_live());
            let (messages, bytes) = (live().count() as u64, live().map(|m| m.size).sum::<u64>());
            if (messages, bytes) != (head.value.row.messages, head.value.row.bytes) {
                applied.incomplete.push(place.clone());
                // What is brought piece by piece is behind its head until the last one.
                is_short = both_gone && !self.is_piece && !self.distrusts;
            }
            history.take_head(head);
        }
        self.rewrite_as(place, &history, is_short).map(|_| true)
    }

    /// Gives a damaged file a name in the quarantine; one of that name is there if this was done before.
    pub(super) fn set_aside(self, path: &str, name: &str) -> Result<()> {
        let kept = format!("{QUARANTINE}/{name}");
        let io = |e| StoreError::io("set aside", self.disk.display(path), e);
        create_all(self.disk, QUARANTINE).map_err(io)?;
        match self.disk.link(path, &kept) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(io(e)),
            _ => self.disk.sync_dir(QUARANTINE).and_then(|()| self.disk.sync_dir("")).map_err(io),
        }
    }

    fn manifest(self, home: &HomeRun, entries: &Entries, supply: &dyn Supply, applied: &mut Applied) -> Result<()> {
        let manifest = Manifest::new(self.disk, self.store, &home.home);
        if self.is_replay && !self.may_append(&manifest.reading()?, home.is_new) {
            applied.repaired.push(manifest.display());
            return self.rebuild(home, &manifest, supply);
        }
        let done = if home.is_new { manifest.append_new(entries) } else { manifest.append(entries) };
        match done {
            Ok(size)
                if (self.distrusts || size.is_overgrown(manifest::OVERGROWN_BYTES))
                    && !self.has_given_up(&manifest)? =>
            {
                applied.compacted += 1;
            }
            Ok(_) => return Ok(()),
            Err(AppendError::Missing | AppendError::Unsound(_) | AppendError::Older) => {
                applied.repaired.push(manifest.display());
            }
            Err(AppendError::Failed(e)) => return Err(e),
        }
        self.rebuild(home, &manifest, supply)
    }

    /// True if it holds anything of a history that was given up.
    fn has_given_up(self, manifest: &Manifest<'_>) -> Result<bool> {
        Ok(!self.store.past.given_up().is_nothing() && manifest.reading()?.given_up > 0)
    }

    /// Makes a manifest anew from itself, the indexes below it and what is being applied, one mailbox at a time. The indexes hold
    /// that already; where one of them is not whole, or older than the manifest, what the manifest knew of it is added. What a manifest that is not whole
    /// may have lost of rows and of mailboxes without an index, the database says; so does it where what came last was given up.
    pub(super) fn rebuild(self, home: &HomeRun, manifest: &Manifest<'_>, supply: &dyn Supply) -> Result<()> {
        let (mut rows, reading) = manifest.rows()?;
        let (newest, _) = manifest.newest()?;
        let gone = |(id, (stamp, gone)): (&u64, &(Stamped<()>, bool))| {
            (*id, gone.then_some(Stamped { lsn: stamp.lsn, epoch: stamp.epoch, value: *id }))
        };
        let mut known: BTreeMap<u64, Option<Stamped<u64>>> = newest.iter().map(gone).collect();
        if reading.is_damaged(self.durable) {
            let name = format!("{}-{}-{}", home.home.number(), tree::MANIFEST, reading.last_lsn);
            self.set_aside(&home.home.manifest(), &name)?;
        }
        let mut supplied = MirroredRows::new();
        if !reading.is_whole() || home.is_short || reading.given_up > 0 {
            supplied = supply.rows(&home.home)?;
            for id in supply.mailboxes(&home.home)? {
                known.entry(id).or_insert(None);
            }
        }
        for (key, row) in supplied.into_iter().chain(home.rows.clone()) {
            if rows.get(&key).is_none_or(|known| known.lsn <= row.lsn) {
                rows.insert(key, row);
            }
        }
        let found: BTreeSet<u64> = tree::mailboxes(self.disk, &home.home)?.into_iter().map(|place| place.id).collect();
        for id in found.iter().copied().chain(home.mailboxes.iter().map(|mailbox| mailbox.place.id)) {
            known.entry(id).or_insert(None);
        }
        known.extend(home.gone.iter().map(|gone| (gone.value, Some(gone.clone()))));
        let mut absent: BTreeSet<u64> =
            known.iter().filter(|(id, gone)| gone.is_none() && !found.contains(id)).map(|(id, _)| *id).collect();
        manifest.rewrite(&rows, self.keep_from, &mut |mirror| {
            let mut asked = Vec::new();
            for (id, gone) in known.iter().filter(|(id, _)| found.contains(id)) {
                if let Some(gone) = gone {
                    // For as long as there is a directory that could be taken for a mailbox.
                    mirror.gone(gone)?;
                    continue;
                }
                let history = Index::new(self.disk, self.store, &home.home.mailbox(*id)).read()?;
                let has_all = newest.get(id).is_none_or(|(known, _)| known.lsn <= history.reading.last_lsn);
                if history.reading.is_whole() && has_all { mirror.put(*id, &history)? } else { asked.push(*id) }
            }
            for mailbox in home.mailboxes.iter().filter(|mailbox| mailbox.is_bare) {
                if let (Some(head), true) = (&mailbox.run.head, absent.remove(&mailbox.place.id)) {
                    mirror.head(mailbox.place.id, head)?;
                }
            }
            let mut bare = BTreeSet::new();
            manifest.heads(&absent, &mut |id, head| {
                if head.value.row.uidnext <= 1 {
                    bare.insert(id);
                    mirror.head(id, &head)?;
                }
                Ok(())
            })?;
            asked.extend(absent.difference(&bare));
            asked.chunks(ASKED_AT_ONCE).try_for_each(|ids| self.twin(&home.home, ids, manifest, supply, mirror))
        })?;
        Ok(())
    }

    /// Writes mailboxes of which the manifest itself may know what their indexes do not.
    fn twin(
        self,
        home: &Home,
        ids: &[u64],
        manifest: &Manifest<'_>,
        supply: &dyn Supply,
        mirror: &mut Mirror<'_, '_>,
    ) -> Result<()> {
        for (id, mut history) in manifest.histories(&ids.iter().copied().collect())? {
            let place = home.mailbox(id);
            history.merge(Index::new(self.disk, self.store, &place).read()?);
            if history.head.is_none() {
                history.head = supply.head(&place)?;
            }
            mirror.put(id, &history)?;
        }
        Ok(())
    }
}
