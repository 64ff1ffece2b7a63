//! What a history that was given up leaves behind in a home.
//!
//! # Operation
//! Frames of it count for nobody (`partition::past`); so the home shows what it showed at the point, but for three things:
//!
//! * Numbers: UIDNEXT and the modification sequence of a mailbox move above those that the frames have. Most have moved before, see
//!   `going_back`; here the partition speaks where the log did not.
//! * Bytes that are gone: what was purged behind the point stays purged, and is named. The mailbox of which that is true as a whole stays,
//!   with its name and its rights.
//! * A mailbox that was made behind the point: its directory goes to the quarantine.
//!
//! Only then index and manifest are made anew without such frames, so that it can be done again as long as anything of it is left.
//! Files of messages that came behind the point are files of which nothing is known; who adopts shows them in `Recovered`.

use super::compare::FINDINGS;
use super::{Changed, ROUNDS, Reconciled, Wanted, before, known};
use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::model::adopt::{AdoptedBody, AdoptedMailbox, AdoptedMessage};
use crate::model::mail::{MessageRow, message_key};
use crate::model::message::{Flags, Message, State};
use crate::model::name::key_text;
use crate::model::rows::MailboxRow;
use crate::model::{Command, Rows, Table};
use crate::partition::covers::covers;
use crate::partition::index::{Forsaken, History, Index};
use crate::partition::manifest::Manifest;
use crate::partition::mend;
use crate::partition::past::Owner;
use crate::partition::tree::{self, Home, Place};
use crate::store::Store;
use crate::store::commit::{CommitError, lock};
use crate::store::mail::away;
use crate::store::report::Finding;
use crate::store::view::View;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

/// What is to be done in a home.
#[derive(Default)]
struct Left {
    commands: Vec<(Command, Changed)>,
    /// Purged behind the point.
    purged: Vec<(Place, u32)>,
    /// Mailboxes of which frames are to go, and which the database has.
    known: Vec<Place>,
    /// Made behind the point.
    unknown: Vec<Place>,
    /// A checkpoint that failed is in the way.
    waits: bool,
}

impl Store {
    /// Sees to what a history that was given up left behind in a home.
    ///
    /// # Errors
    /// As [`Store::reconcile`].
    pub(super) fn clear_behind(
        &self,
        partition: &str,
        home: &Home,
        wanted: Wanted<'_>,
        done: &mut Reconciled,
    ) -> Result<()> {
        if self.partitions.past().given_up().is_nothing() {
            return Ok(());
        }
        for _ in 0..ROUNDS {
            let Left { commands, purged, known, unknown, waits } = self.left_in(partition, home)?;
            if waits && !wanted.dry_run {
                self.checkpoint()?;
                continue;
            }
            let nothing = known.is_empty() && unknown.is_empty();
            if wanted.dry_run || nothing {
                done.changes.extend(commands.into_iter().map(|(_, changed)| changed));
                return Ok(());
            }
            let mut stale = false;
            for (command, changed) in commands {
                match self.commit(command) {
                    Ok(_) => done.changes.push(changed),
                    Err(CommitError::Stale | CommitError::Uncounted(_)) => stale = true,
                    Err(CommitError::Refused(why)) => {
                        // What is left stays as it is: it is looked at again with the next run.
                        let Changed { what: r#where, action: what } = changed;
                        let (expected, found) = ("done".to_owned(), why.to_string());
                        done.lost_behind.push(Finding { r#where, what, expected, found });
                        return Ok(());
                    }
                    Err(CommitError::Failed(e)) => return Err(e),
                }
            }
            if stale {
                continue;
            }
            self.name_purged(partition, &purged, done);
            return self.remake(partition, home, &known, &unknown, done);
        }
        Err(StoreError::Busy { why: format!("{home} of partition {partition} changes all the time") })
    }

    /// Looks, while no checkpoint is at work.
    fn left_in(&self, partition: &str, home: &Home) -> Result<Left> {
        let _gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let mut left = Left::default();
        if self.checkpointing() {
            left.waits = true;
            return Ok(left);
        }
        let (view, disk) = (self.view(), self.partitions.disk(partition).ok_or_else(|| away(partition))?);
        let (disk, owner) = (&*disk, self.partitions.owner());
        let manifest = Manifest::new(disk, owner, home);
        let mut forsaken: BTreeMap<u64, Forsaken> = manifest.given_up()?;
        let found: BTreeSet<u64> = tree::mailboxes(disk, home)?.into_iter().map(|place| place.id).collect();
        for id in &found {
            let of_index = match Index::new(disk, owner, &home.mailbox(*id)).given_up() {
                // What is not understood is damage, and another's matter.
                Err(StoreError::Corrupt { .. }) => Forsaken::default(),
                of_index => of_index?,
            };
            if of_index.frames > 0 {
                let of_manifest = forsaken.remove(id).unwrap_or_default();
                forsaken.insert(*id, of_index.and(of_manifest));
            }
        }
        let mut mirrors = manifest.histories(&without_index(disk, owner, home, &found, forsaken.keys())?)?;
        for (id, forsaken) in forsaken {
            let place = home.mailbox(id);
            let mirror = mirrors.remove(&id).unwrap_or_default();
            match known(&view, id)? {
                // A user moved here behind the point, and all of him is still where he was.
                Some((key, row)) if self.lies_elsewhere((partition, disk), &place, (&key, &row))? => {
                    match found.contains(&id) {
                        true => left.unknown.push(place),
                        false => left.known.push(place),
                    }
                }
                Some((key, row)) => {
                    self.left_of(&view, disk, &place, (key, row), (&forsaken, mirror), &mut left)?;
                    left.known.push(place);
                }
                None if found.contains(&id) => left.unknown.push(place),
                // A manifest alone speaks of it.
                None => left.known.push(place),
            }
        }
        Ok(left)
    }

    /// True if a mailbox lies in another partition, and all that is here of it is there.
    fn lies_elsewhere(
        &self,
        (partition, here): (&str, &dyn Disk),
        place: &Place,
        (key, row): (&[u8], &[u8]),
    ) -> Result<bool> {
        let (_, row, _) = before(key, row)?;
        if row.partition == partition {
            return Ok(false);
        }
        let Some(there) = self.partitions.disk(&row.partition) else { return Ok(false) };
        covers(&*there, here, self.partitions.owner(), place)
    }

    /// What is to be done about a mailbox that the database has. `mirror`: what the manifest knows of it, if its index is not whole.
    fn left_of(
        &self,
        view: &View,
        disk: &dyn Disk,
        place: &Place,
        (key, bytes): (Vec<u8>, Vec<u8>),
        (forsaken, mirror): (&Forsaken, History),
        left: &mut Left,
    ) -> Result<()> {
        let owner = self.partitions.owner();
        let mut history = match Index::new(disk, owner, place).read() {
            Err(StoreError::Corrupt { .. }) => History::default(),
            history => history?,
        };
        if !history.reading.is_whole() {
            history.merge(mirror);
        }
        let files: BTreeSet<u32> = place.uids(disk)?.into_iter().collect();
        let (name, old, deleted_us) = before(&key, &bytes)?;
        let mut row = old.clone();
        row.uidnext = row.uidnext.max(forsaken.uidnext).max(files.last().map_or(0, |uid| uid.saturating_add(1)));
        row.highest_modseq = row.highest_modseq.max(forsaken.modseq);
        let mut messages = Vec::new();
        for message in gone(view, place, &history, forsaken, &files)? {
            if messages.is_empty() {
                row.highest_modseq = row.highest_modseq.saturating_add(1);
            }
            left.purged.push((place.clone(), message.uid));
            messages.push(purged(message, &mut row));
        }
        if row == old {
            return Ok(());
        }
        let action = match messages.len() {
            0 => {
                format!("UIDNEXT {} instead of {}: those between were given behind the point", row.uidnext, old.uidnext)
            }
            n => format!("{n} messages stay purged: their bytes were removed behind the point"),
        };
        let changed = Changed { what: key_text(&name), action };
        let home = place.home.path().to_owned();
        let adopted = AdoptedMailbox { key: name, home, known: Some((key, bytes)), row, deleted_us, messages };
        left.commands.push((Command::AdoptMailbox(Box::new(adopted)), changed));
        Ok(())
    }

    fn name_purged(&self, partition: &str, purged: &[(Place, u32)], done: &mut Reconciled) {
        let Some(disk) = self.partitions.disk(partition) else { return };
        for (place, uid) in purged {
            if done.lost_behind.len() < FINDINGS {
                done.lost_behind.push(Finding {
                    r#where: disk.display(&place.message(*uid)),
                    what: "message that was purged behind the point to which the store went back".to_owned(),
                    expected: "a file".to_owned(),
                    found: "none".to_owned(),
                });
            }
        }
    }

    /// Makes indexes and manifest anew without such frames, and sets aside what was made behind the point.
    fn remake(
        &self,
        partition: &str,
        home: &Home,
        known: &[Place],
        unknown: &[Place],
        done: &mut Reconciled,
    ) -> Result<()> {
        let _gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        if self.checkpointing() {
            return Err(StoreError::Busy { why: "the last checkpoint failed".to_owned() });
        }
        // Nobody else mends meanwhile.
        let _writer = lock(&self.db);
        let disk = self.partitions.disk(partition).ok_or_else(|| away(partition))?;
        for place in unknown {
            let kept = mend::set_mailbox_aside(&*disk, place)?;
            let action = format!("made behind the point to which the store went back: set aside as {kept}");
            done.changes.push(Changed { what: disk.display(&place.path()), action });
        }
        self.anew(partition, home, known)
    }
}

/// Those of some mailboxes of a home whose index does not tell everything, or is not there.
fn without_index<'i>(
    disk: &dyn Disk,
    owner: Owner<'_>,
    home: &Home,
    found: &BTreeSet<u64>,
    ids: impl Iterator<Item = &'i u64>,
) -> Result<BTreeSet<u64>> {
    let mut without = BTreeSet::new();
    for id in ids {
        let is_whole = match found.contains(id).then(|| Index::new(disk, owner, &home.mailbox(*id)).reading()) {
            None | Some(Err(StoreError::Corrupt { .. })) => false,
            Some(reading) => reading?.is_whole(),
        };
        if !is_whole {
            without.insert(*id);
        }
    }
    Ok(without)
}

/// The messages that are purged by what was given up, because nobody has their bytes any more.
fn gone(
    view: &View,
    place: &Place,
    history: &History,
    forsaken: &Forsaken,
    files: &BTreeSet<u32>,
) -> Result<Vec<Message>> {
    let mut gone = Vec::new();
    for said in history.at(crate::lsn::Lsn(u64::MAX)).map(|m| &m.value) {
        let uid = said.uid;
        if files.contains(&uid) || !(forsaken.is_gone || forsaken.purged.contains(&uid)) {
            continue;
        }
        let key = message_key(place.id, uid);
        if view.get(Table::Bodies, &key)?.is_some() {
            continue;
        }
        let message = match view.get(Table::Messages, &key)? {
            Some(row) => MessageRow::decode(&row)?.message()?,
            None => said.clone(),
        };
        if message.state != State::Purged {
            gone.push(message);
        }
    }
    Ok(gone)
}

/// The message from now on; its mailbox counts it no more.
fn purged(message: Message, row: &mut MailboxRow) -> AdoptedMessage {
    if message.is_live() {
        row.messages = row.messages.saturating_sub(1);
        row.bytes = row.bytes.saturating_sub(message.size);
        row.unseen = row.unseen.saturating_sub(u64::from(!message.flags.has(Flags::SEEN)));
    }
    let state = Message { state: State::Purged, modseq: row.highest_modseq, ..message };
    AdoptedMessage { state, body: AdoptedBody::Kept }
}
