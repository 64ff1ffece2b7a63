//! A user moves to another partition while everything goes on.
//!
//! # Operation
//! [`Store::begin_move`] notes that what will lie in the other partition is a copy that nobody has. [`Moving::copy`] makes it: message files
//! first, while checkpoints and mail go on; then, holding checkpoints, what has come or gone since, the indexes and the manifest, and one
//! sync. It gives what it has copied, mailbox by mailbox with its modseq. `Command::UserMove` changes the rows of the user in one transaction,
//! if nothing of that has changed since; else it is stale, and is copied again, which is little. The checkpoint that takes up the
//! transaction has the old directories taken away after its commit ([`super::removals`]).
//!
//! # Invariants
//! * Until the transaction is durable the user lies where he lay, and behind it where the copy is: both are whole.
//! * Every message is compared with its digest on the way. One that is not what it was is copied as it is: it is no worse there.
//! * A crash leaves no copy that nobody has.

use super::removals::{Removals, forget_copy, is_kept, note_copy};
use crate::disk::{self, Disk, copy};
use crate::error::{Result, StoreError, exit};
use crate::model::command::Command;
use crate::model::message::{Digest, State};
use crate::model::name::{subtree_end, user_prefix};
use crate::model::rows::{MailboxRow, Row, TombstoneRow, UserRow, quota_key, split};
use crate::model::{Rows, Table};
use crate::partition::bodies::{self, Body};
use crate::partition::index::Index;
use crate::partition::tree::{self, Home, Place};
use crate::partition::{Applied, apply};
use crate::planted::{self, Bug};
use crate::store::Store;
use crate::store::checkpoint::applied;
use crate::store::commit::lock;
use crate::store::view::View;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

/// Largest index or manifest that is copied, in bytes.
const JOURNAL_BYTES_MAX: u64 = 4 << 30;

/// Told how many of how many mailboxes are copied; false: it is not to go on.
pub type OnCopied<'a> = &'a mut dyn FnMut(u64, u64) -> bool;

/// A user on his way.
pub struct Moving {
    store: Arc<Store>,
    user: String,
    row: UserRow,
    to: String,
    from_disk: Arc<dyn Disk>,
    to_disk: Arc<dyn Disk>,
    /// What was made by now; it is taken away if nobody comes to use it.
    copied: Removals,
}

impl std::fmt::Debug for Moving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Moving").field("user", &self.user).field("to", &self.to).finish_non_exhaustive()
    }
}

impl Store {
    /// Begins to move a user to another partition; `None` if he lies there.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if there is no such user or partition, [`StoreError::Busy`] if one of the partitions is not there.
    pub fn begin_move(self: &Arc<Store>, user: &str, to: &str) -> Result<Option<Moving>> {
        let (view, refused) = (self.view(), |message: String, exit| {
            Err(StoreError::Refused { message, hint: "storectl user list; storectl partition list".to_owned(), exit })
        });
        let Some(row) = view.get(Table::Users, user.as_bytes())? else {
            return refused(format!("no such user: {user}"), exit::NO_USER);
        };
        if !view.contains(Table::Partitions, to.as_bytes())? {
            return refused(format!("no such partition: {to}"), exit::NOT_FOUND);
        }
        let row = UserRow::decode(user.as_bytes(), &row)?;
        if row.partition == to {
            return Ok(None);
        }
        let disk = |name: &str| self.partitions.disk(name).ok_or_else(|| super::source::away(name));
        let (from_disk, to_disk) = (disk(&row.partition)?, disk(to)?);
        let (store, user, to) = (self.clone(), user.to_owned(), to.to_owned());
        Ok(Some(Moving { store, user, row, to, from_disk, to_disk, copied: Removals::default() }))
    }
}

/// What of a user is to be copied, as of one checkpoint.
struct Found {
    at: Applied,
    /// Place and modseq of each mailbox; those that never had a message have no directory.
    mailboxes: Vec<(Place, u64, bool)>,
}

/// Place and modseq of each mailbox of a user that lies on a partition, deleted ones too, and whether it ever had a message.
///
/// # Errors
/// If the rows cannot be read.
pub(in crate::store) fn lying(view: &View, user: &str, partition: &str) -> Result<Vec<(Place, u64, bool)>> {
    let (mut rows, mut mailboxes) = (Vec::new(), Vec::new());
    let (start, end) = (user_prefix(user), subtree_end(&quota_key(user)));
    for table in [Table::Mailboxes, Table::Past] {
        view.scan_until(table, Bound::Included(&start), &end, &mut |key, row| {
            if table == Table::Mailboxes || split(key).is_some() {
                rows.push((table, key.to_vec(), row.to_vec()));
            }
            ControlFlow::Continue(())
        })?;
    }
    for (table, key, row) in rows {
        let (row, place) = if table == Table::Mailboxes {
            let row = MailboxRow::decode(&key, &row)?;
            let place = super::source::place(&super::told::folder(view, &key, &row)?)?;
            (row, place)
        } else {
            let TombstoneRow { directory, mailbox, .. } = TombstoneRow::decode(&key, &row)?;
            let bug = || StoreError::Bug(format!("{directory:?} is no directory"));
            (mailbox, Place::parse(&directory).ok_or_else(bug)?)
        };
        if row.partition == partition {
            mailboxes.push((place, row.highest_modseq, row.uidnext > 1));
        }
    }
    Ok(mailboxes)
}

impl Moving {
    /// Copies what there is as of a checkpoint; gives the command that has the user lie where the copy is.
    ///
    /// # Errors
    /// Those of the disks; [`StoreError::Busy`] if it was not to go on, or the user has changed his place.
    pub fn copy(&mut self, told: OnCopied<'_>) -> Result<Command> {
        self.store.checkpoint()?;
        let found = self.found(&self.store.committed())?;
        // What is of an older time would be so there, too.
        let left = self.store.look_at_indexes(&found.mailboxes.iter().map(|(place, ..)| place.id).collect());
        if !left.is_empty() {
            let message = format!("{} mailboxes of {} lack changes that the log does not have", left.len(), self.user);
            let hint = format!("storectl check --user {0}; storectl reconstruct -r -u {0}", self.user);
            return Err(StoreError::Refused { message, hint, exit: exit::DAMAGED });
        }
        self.note(&found)?;
        let all = found.mailboxes.len() as u64;
        let mut seen = HashMap::new();
        for (nth, (place, _, has_directory)) in (0..).zip(&found.mailboxes) {
            if !told(nth, all) {
                return Err(StoreError::Busy { why: "it was cancelled; the user lies where he lay".to_owned() });
            }
            if *has_directory {
                self.messages(place, found.at, &mut seen)?;
            }
        }
        // Holding checkpoints: nobody writes to these files.
        let store = self.store.clone();
        let _db = lock(&store.db);
        let found = self.found(&store.committed())?;
        self.note(&found)?;
        let mut copied = BTreeMap::new();
        for (place, modseq, has_directory) in &found.mailboxes {
            copied.insert(place.id, *modseq);
            if *has_directory {
                self.messages(place, found.at, &mut seen)?;
                self.journal(&place.index())?;
            }
        }
        let home = self.home()?;
        self.leave_out(&home, &found)?;
        self.manifest(&home)?;
        self.to_disk.sync_tree().map_err(|e| StoreError::io("sync", self.to_disk.display(""), e))?;
        Ok(Command::UserMove { user: self.user.clone(), to: self.to.clone(), copied })
    }

    /// The user lies where the copy is, as a checkpoint has written: nothing of it is to be taken away any more, but what he has lost since.
    ///
    /// # Errors
    /// Those of the data directory; a start finds out what is so.
    pub fn done(self) -> Result<()> {
        if !self.copied.perform(&self.store.partitions, &self.store.committed()) {
            return Ok(());
        }
        forget_copy(&*self.store.disks.data, &self.name())
    }

    /// The user stays where he is: the copy goes. Where it is not known whether he does, because the log failed under the command, both
    /// stay: the next start knows what was written, and takes away what nobody has.
    pub fn give_up(self) {
        let store = &self.store;
        if store.poison.get().is_some() && !planted::on(Bug::UndecidedMoveGivenUp) {
            tracing::warn!(event = "copy_stays", user = self.user, to = self.to, "the next start says who has it");
            return;
        }
        if self.copied.perform(&store.partitions, &store.view())
            && let Err(e) = forget_copy(&*store.disks.data, &self.name())
        {
            tracing::warn!(event = "copy_not_forgotten", error = %e, "the next start looks at it once more");
        }
    }

    fn name(&self) -> String {
        self.row.id.to_string()
    }

    fn home(&self) -> Result<Home> {
        let directory = &self.row.directory;
        Home::parse(directory).ok_or_else(|| StoreError::Bug(format!("{directory:?} is no directory")))
    }

    /// What lies with the user on his partition.
    fn found(&self, view: &View) -> Result<Found> {
        let row = view.get(Table::Users, self.user.as_bytes())?;
        let row = row.map(|row| UserRow::decode(self.user.as_bytes(), &row)).transpose()?;
        if row.as_ref() != Some(&self.row) {
            return Err(StoreError::Busy { why: format!("{} was changed meanwhile; try again", self.user) });
        }
        Ok(Found { at: applied(view.database()), mailboxes: lying(view, &self.user, &self.row.partition)? })
    }

    /// Before anything of it is made.
    fn note(&mut self, found: &Found) -> Result<()> {
        let before = self.copied.clone();
        let places = found.mailboxes.iter().map(|(place, ..)| (self.to.clone(), place.clone()));
        self.copied.mailboxes.extend(places);
        let homes = found.mailboxes.iter().map(|(place, ..)| (self.to.clone(), place.home.clone()));
        self.copied.homes.extend(homes.chain([(self.to.clone(), self.home()?)]));
        if self.copied == before {
            return Ok(());
        }
        if is_kept(&*self.store.disks.data, &self.copied)? {
            let why = format!("what an earlier move of {} has left is cleared away first; try again", self.user);
            return Err(StoreError::Busy { why });
        }
        note_copy(&*self.store.disks.data, &self.name(), &self.copied)?;
        for (_, place) in self.copied.mailboxes.difference(&before.mailboxes) {
            // What an attempt that nobody remembers may have left there is not trusted.
            apply::remove_mailbox(&*self.to_disk, place)?;
        }
        Ok(())
    }

    /// Copies the files of messages that are not there yet, and takes away those of messages that are gone since.
    fn messages(&self, place: &Place, at: Applied, seen: &mut HashMap<Digest, (Place, u32)>) -> Result<()> {
        let (from, to) = (&*self.from_disk, &*self.to_disk);
        let there: BTreeSet<u32> = place.uids(to)?.into_iter().collect();
        let history = Index::new(from, self.store.partitions.owner(), place).read()?;
        let wanted: BTreeSet<u32> =
            history.at(at.lsn).filter(|m| m.value.state != State::Purged).map(|m| m.value.uid).collect();
        for uid in there.difference(&wanted) {
            bodies::remove(to, place, *uid)?;
        }
        for message in history.at(at.lsn).map(|m| &m.value).filter(|m| m.state != State::Purged) {
            let body = Body { size: message.size, digest: message.digest };
            if there.contains(&message.uid) {
                continue;
            }
            let at = (place, message.uid);
            match seen.get(&body.digest) {
                Some((of, uid)) if of != place || *uid != message.uid => drop(bodies::twin(to, (of, *uid), at, body)?),
                _ => {
                    match bodies::read(from, place, message.uid, body) {
                        Ok(bytes) => {
                            bodies::put(to, place, message.uid, &bytes, body)?;
                            seen.insert(body.digest, (place.clone(), message.uid));
                        }
                        Err(StoreError::Corrupt { .. }) => self.raw(&place.message(message.uid))?,
                        Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                            tracing::warn!(event = "message_without_bytes", mailbox = place.id, uid = message.uid);
                        }
                        Err(e) => return Err(e),
                    };
                }
            }
        }
        Ok(())
    }

    /// Copies a damaged message as it is, however long that is.
    fn raw(&self, path: &str) -> Result<()> {
        let (to, candidate) = (&*self.to_disk, tree::candidate(path));
        let wrote = |e| StoreError::io("write", to.display(path), e);
        self.make_way(path).map_err(wrote)?;
        match to.remove(&candidate) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(wrote(e)),
            _ => {}
        }
        let from = copy::From { disk: &*self.from_disk, path, end: None };
        copy::copy(from, to, &candidate, &mut |_| Ok(()))?;
        to.rename(&candidate, path).map_err(wrote)
    }

    fn make_way(&self, path: &str) -> io::Result<()> {
        [disk::parent(path), tree::STAGING].into_iter().try_for_each(|dir| disk::create_all(&*self.to_disk, dir))
    }

    /// Copies an index or a manifest; one that is not there is not there.
    fn journal(&self, path: &str) -> Result<()> {
        match disk::read_small(&*self.from_disk, path, JOURNAL_BYTES_MAX) {
            Ok(bytes) => self.write(path, &bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(StoreError::io("read", self.from_disk.display(path), e)),
        }
    }

    /// The manifest goes along; where one is there already, because some of the user's mailboxes are, it is left out: the checkpoint that
    /// finds none makes it anew, from the indexes.
    fn manifest(&self, home: &Home) -> Result<()> {
        let is_copy = |place: &Place| self.copied.mailboxes.contains(&(self.to.clone(), place.clone()));
        if tree::mailboxes(&*self.to_disk, home)?.iter().all(is_copy) {
            return self.journal(&home.manifest());
        }
        let path = home.manifest();
        match self.to_disk.remove(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", self.to_disk.display(&path), e))
            }
            _ => Ok(()),
        }
    }

    /// Under a name in the staging directory first, where a start finds what a crash left: in the directory of a mailbox it would stay,
    /// and the directory with it.
    fn write(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let to = &*self.to_disk;
        let put = || {
            self.make_way(path)?;
            disk::replace_by(to, &tree::candidate(path), path, bytes)
        };
        put().map_err(|e| StoreError::io("write", to.display(path), e))
    }

    /// What an earlier attempt has copied and is not the user's any more does not come along.
    fn leave_out(&self, home: &Home, found: &Found) -> Result<()> {
        let wanted: BTreeSet<u64> = found.mailboxes.iter().map(|(place, ..)| place.id).collect();
        for place in tree::mailboxes(&*self.to_disk, home)? {
            if !wanted.contains(&place.id) && self.copied.mailboxes.contains(&(self.to.clone(), place.clone())) {
                apply::remove_mailbox(&*self.to_disk, &place)?;
            }
        }
        Ok(())
    }
}
