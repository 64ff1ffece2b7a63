//! The archive that an incremental one follows.

use super::Skipped;
use super::house::House;
use super::save::head;
use super::whole::Whole;
use crate::archive::Seeker;
use crate::archive::content::{About, Before, Mailbox, Moves, Since, State, runs};
use crate::archive::uids::Uids;
use crate::exit::{Outcome, Stop};
use crate::files;
use crate::render::notes;
use proto::{BackupBegun, BackupMailbox, Code};
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// Lines about damage that are told one by one; `--json` has all.
const TOLD_MAX: usize = 1000;

/// What an archive knew of a mailbox.
#[derive(Debug)]
pub struct Known {
    /// Its head.
    pub before: Before,
    /// UIDs of the messages that it and those before it have.
    pub(super) has: Uids,
}

impl Known {
    /// Whether the bytes of the message with this UID are in it, or in one before it.
    pub fn has(&self, uid: u32) -> bool {
        self.has.has(uid)
    }
}

/// See the page.
#[derive(Debug)]
pub struct Base {
    pub(super) name: String,
    pub(super) about: About,
    pub(super) mailboxes: HashMap<u64, Known>,
    pub(super) names: HashMap<String, u64>,
    /// What of it was found damaged: places, mailboxes, messages.
    pub(super) damaged: Vec<Skipped>,
}

impl Base {
    /// Reads what an archive says of its mailboxes: by its index, so that a nightly backup does not read last night's messages again; all of
    /// it where there is none, or something of that is damaged. Whether its messages are good, [`Base::proven`] tells, and `restore -t`.
    ///
    /// # Errors
    /// It cannot be read, is not whole, or what it says of its mailboxes is damaged (65): what it lacks would be missing for ever.
    pub fn read(path: &Path) -> Outcome<Base> {
        let found = match files::open_seekable(path)? {
            Some(file) => {
                Seeker::new(file).and_then(|mut archive| archive.contents()).map_err(|e| files::failed(path, &e))?
            }
            None => None,
        };
        let Some((about, contents)) = found else { return Whole::read(path, false) };
        let mut base = Base {
            name: path.display().to_string(),
            about,
            mailboxes: HashMap::new(),
            names: HashMap::new(),
            damaged: Vec::new(),
        };
        for (mailbox, close) in contents {
            let (id, before) = known(mailbox, close.state);
            base.names.insert(before.name.clone(), id);
            base.mailboxes.insert(id, Known { before, has: Uids::of(close.has).with(close.kept.unwrap_or_default()) });
        }
        Ok(base)
    }

    /// Reads all of an archive and compares the bytes of each message with its digest. What is damaged is not what it has, so that the new archive
    /// takes it again from the store.
    ///
    /// # Errors
    /// It cannot be read, is no archive, or is of other frames than it was closed with (65).
    pub fn proven(path: &Path) -> Outcome<Base> {
        let base = Whole::read(path, true)?;
        for Skipped { object, uid, reason } in base.damaged.iter().take(TOLD_MAX) {
            let uid = uid.map_or(String::new(), |uid| format!(" {uid}"));
            notes::note(&format!("{object}{uid}: {reason}"));
        }
        Ok(base)
    }

    /// Where the new archive begins.
    ///
    /// # Errors
    /// The base is of another store, of a later moment than this, or of a history that was given up since (65); those of the connection.
    pub fn since(&self, begun: &BackupBegun, house: &mut House) -> Outcome<Since> {
        let About { store, epoch, lsn, id, .. } = &self.about;
        let hint = "make a full backup: without --since-archive";
        if *store != begun.store {
            let text = format!("{} is of store {store}, and this one is {}", self.name, begun.store);
            return Err(Stop::hint(Code::BadInput, text, hint));
        }
        if (*epoch, *lsn) > (begun.epoch, begun.lsn) {
            let text = format!(
                "{} reaches to LSN {lsn} of epoch {epoch}, the store to {} of {}",
                self.name, begun.lsn, begun.epoch
            );
            return Err(Stop::hint(Code::BadInput, text, hint));
        }
        if let Err(why) = house.follows(*lsn, *epoch)? {
            return Err(Stop::hint(Code::BadInput, format!("{} cannot be followed: {why}", self.name), hint));
        }
        Ok(Since::Archive { id: id.clone(), lsn: *lsn, epoch: *epoch })
    }

    /// What it knew of a mailbox: by its number; by its name, for one that was restored has another number. `None` if it knew none
    /// of this UIDVALIDITY.
    pub fn known(&self, mailbox: &BackupMailbox) -> Option<&Known> {
        let by_name = || self.names.get(&mailbox.name).and_then(|id| self.mailboxes.get(id));
        let is_same = |known: &&Known| known.before.uidvalidity == mailbox.uidvalidity;
        self.mailboxes.get(&mailbox.id).filter(is_same).or_else(|| by_name().filter(is_same))
    }

    /// What became of the mailboxes that it had: those among these that have another name now, and those that are gone. `left_out`: the others
    /// that are there, number and name; `None`: these are a part of the store, and what is not among them may be there all the same.
    pub fn moves(&self, mailboxes: &[BackupMailbox], left_out: Option<&[(u64, String)]>) -> Moves {
        let known = || mailboxes.iter().filter_map(|m| Some((m, self.known(m)?)));
        let renamed = known().filter(|(m, known)| known.before.name != m.name);
        let renamed = renamed.map(|(m, known)| head(m, Some(known.before.clone()))).collect();
        let there: HashSet<&str> = known().map(|(_, known)| known.before.name.as_str()).collect();
        // One that only was not asked for is not gone, nor is one whose name another has that was not asked for.
        let aside: HashSet<u64> = left_out.into_iter().flatten().map(|(id, _)| *id).collect();
        let names: HashSet<&str> = left_out.into_iter().flatten().map(|(_, name)| name.as_str()).collect();
        let is_gone = |(id, known): &(&u64, &Known)| {
            let name = known.before.name.as_str();
            left_out.is_some() && !there.contains(name) && !aside.contains(*id) && !names.contains(name)
        };
        let mut gone: Vec<Before> =
            self.mailboxes.iter().filter(is_gone).map(|(_, known)| known.before.clone()).collect();
        gone.sort_by(|a, b| a.name.cmp(&b.name));
        Moves { renamed, gone }
    }
}

/// The number of a mailbox, and what an archive that follows says of it.
pub(super) fn known(mailbox: Mailbox, state: Option<State>) -> (u64, Before) {
    let number = u64::from_str_radix(&mailbox.id, 16).unwrap_or_default();
    let Mailbox { name, uidnext, highest_modseq, uidvalidity, id, .. } = mailbox;
    (number, Before { name, uidnext, highest_modseq, uidvalidity, id, state })
}

pub(super) fn sorted_runs(mut uids: Vec<u32>) -> Uids {
    uids.sort_unstable();
    uids.dedup();
    Uids::of(runs(uids.into_iter()))
}
