//! What nobody needs any more after a commit: files of purged messages, directories of mailboxes and users that are gone for good.
//!
//! # Format
//! `removals/<epoch>-<lsn>` in the data directory, one for each checkpoint that leaves something to take away: text sealed with a checksum
//! ([`crate::sealed`]), whose lines name partition, directory of the home, number of the mailbox, UIDs:
//! ```text
//! storedd-removals 1
//! messages primary =user/de/f1/=joe~1 2 1-5,9
//! mailbox primary =user/de/f1/=joe~1 5
//! home primary =user/f6/f6/=ann~3
//! staged primary 5376582964150736101
//! crc 01234567
//! ```
//!
//! `removals/copy-<user number>` names a copy that is being made of what a user has, on another partition (`relocate`);
//! `removals/copy-moved-<epoch>-<lsn>` directories that a replay, or a checkpoint while an adoption is due, left where mailboxes were before.
//!
//! `removals/copy-kept-<epoch>-<lsn>-<name>` is a note about a copy that the log says is used, and the database does not know yet: what becomes of
//! its user before the next commit is told by that, and only the note knows where he lay.
//!
//! # Operation
//! Noted before the commit ([`Removals::note`]), carried out after it ([`carry_out`]), and forgotten when that is durable: so a crash in between
//! leaves nothing behind that nobody knows. Staged files are noted only if they stay for a partition that lacks changes; of others a start
//! takes away what no record names.
//!
//! # Invariants
//! * What was noted for a commit that did not happen is not carried out: the next checkpoint notes it anew.
//! * Nothing goes as long as a partition is behind: it may need a file of another one for a copy that it lacks.
//! * A directory goes only if the database has no mailbox, or no user and no deleted mailbox, that lies in it; and that of a mailbox which has
//!   moved only if all of it is where it lies now ([`covers`]): what is replayed may have moved on since, or back.

use super::told::told;
use crate::disk::{self, Disk};
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn};
use crate::model::rows::{Row, TombstoneRow, UserView, split};
use crate::model::user::SHARED_DIRECTORY;
use crate::model::{Rows, Table};
use crate::partition::covers::covers;
use crate::partition::tree::{self, Home, Place};
use crate::partition::{Applied, Partitions, apply, bodies};
use crate::planted::{self, Bug};
use crate::sealed::{self, Lines};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::io;
use std::ops::{Bound, ControlFlow};

/// The directory of the notes, below the data directory.
const DIRECTORY: &str = "removals";
/// What the names of notes about copies begin with.
const COPY: &str = "copy-";
const KEPT: &str = "copy-kept-";
const KIND: &str = "storedd-removals";
/// Longest note that is read, in bytes: far more than a checkpoint leaves that was made in memory.
const BYTES_MAX: u64 = 16 << 30;

/// What is to be taken away, with the names of partitions.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Removals {
    pub(super) messages: BTreeMap<(String, Place), BTreeSet<u32>>,
    pub(super) mailboxes: BTreeSet<(String, Place)>,
    /// If nobody has them any more.
    pub(super) homes: BTreeSet<(String, Home)>,
    pub(super) staged: BTreeSet<(String, u64)>,
}

impl Removals {
    pub(super) fn add(&mut self, other: Removals) {
        for (place, uids) in other.messages {
            self.messages.entry(place).or_default().extend(uids);
        }
        self.mailboxes.extend(other.mailboxes);
        self.homes.extend(other.homes);
        self.staged.extend(other.staged);
    }

    /// True if the file of a message is among what is to go.
    pub(super) fn takes(&self, partition: &str, place: &Place, uid: u32) -> bool {
        self.messages.get(&(partition.to_owned(), place.clone())).is_some_and(|uids| uids.contains(&uid))
    }

    fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.mailboxes.is_empty() && self.homes.is_empty() && self.staged.is_empty()
    }

    /// Notes durably what is to go after the commit of this moment, with what was noted for it before: by an attempt that failed, or of a
    /// partition that was brought what it lacked.
    ///
    /// # Errors
    /// Those of the data directory.
    pub(super) fn note(&self, data: &dyn Disk, at: Applied) -> Result<()> {
        if self.is_empty() || planted::on(Bug::RemovalsNotNoted) {
            return Ok(());
        }
        self.note_as(data, &format!("{}-{}", at.epoch, at.lsn))
    }

    fn note_as(&self, data: &dyn Disk, name: &str) -> Result<()> {
        let path = format!("{DIRECTORY}/{name}");
        let mut all = match read(data, &path) {
            _ if planted::on(Bug::RemovalsNoteReplaced) => Removals::default(),
            Ok(before) => before,
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Removals::default(),
            Err(e) => {
                tracing::warn!(event = "removals_unknown", error = %e, "files of purged messages may stay");
                Removals::default()
            }
        };
        all.add(self.clone());
        let bytes = sealed::seal(KIND, &all.text());
        let done = match disk::replace(data, &path, &bytes) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => data
                .create_dir(DIRECTORY)
                .and_then(|()| data.sync_dir(""))
                .and_then(|()| disk::replace(data, &path, &bytes)),
            done => done,
        };
        done.map_err(|e| StoreError::io("write", data.display(&path), e))
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |parts: std::fmt::Arguments<'_>| {
            // A string takes everything.
            let _ = text.write_fmt(parts);
            text.push('\n');
        };
        for ((partition, place), uids) in &self.messages {
            line(format_args!("messages {partition} {} {} {}", place.home, place.id, ranges(uids)));
        }
        for (partition, place) in &self.mailboxes {
            line(format_args!("mailbox {partition} {} {}", place.home, place.id));
        }
        for (partition, home) in &self.homes {
            line(format_args!("home {partition} {home}"));
        }
        for (partition, number) in &self.staged {
            line(format_args!("staged {partition} {number}"));
        }
        text
    }

    fn parse(bytes: &[u8], file: &str) -> Result<Removals> {
        let mut lines = Lines::open(KIND, bytes, file)?;
        let mut removals = Removals::default();
        while let Some(line) = lines.next() {
            removals.take(line).ok_or_else(|| lines.wrong("messages, mailbox, home or staged"))?;
        }
        Ok(removals)
    }

    fn take(&mut self, line: &str) -> Option<()> {
        let words: Vec<&str> = line.split(' ').collect();
        let place = |home: &str, id: &str| Some(Home::parse(home)?.mailbox(id.parse().ok()?));
        match *words {
            ["messages", partition, home, id, uids] => {
                self.messages.insert((partition.to_owned(), place(home, id)?), uids_of(uids)?);
            }
            ["mailbox", partition, home, id] => drop(self.mailboxes.insert((partition.to_owned(), place(home, id)?))),
            ["home", partition, home] => drop(self.homes.insert((partition.to_owned(), Home::parse(home)?))),
            ["staged", partition, number] => drop(self.staged.insert((partition.to_owned(), number.parse().ok()?))),
            _ => return None,
        }
        Some(())
    }

    /// Takes staged files away.
    pub(super) fn unstage(&self, partitions: &Partitions) {
        for (partition, number) in &self.staged {
            if let Some(disk) = partitions.disk(partition)
                && let Err(e) = bodies::unstage(&*disk, *number)
            {
                tracing::warn!(event = "staged_message_stays", partition, error = %e, "the next start takes it away");
            }
        }
    }

    /// Takes everything away; true if nothing is left and that is durable.
    pub(super) fn perform(&self, partitions: &Partitions, rows: &dyn Rows) -> bool {
        let mut names: BTreeSet<&String> = self.messages.keys().map(|(name, _)| name).collect();
        names.extend(self.mailboxes.iter().map(|(name, _)| name));
        names.extend(self.homes.iter().map(|(name, _)| name));
        names.extend(self.staged.iter().map(|(name, _)| name));
        let forsaken = forsaken(rows, &self.homes);
        let mut all = true;
        // One that was removed has nothing that is this store's business.
        for name in names.into_iter().filter(|name| partitions.site(name).is_some()) {
            let done = match (partitions.disk(name), &forsaken) {
                (Some(disk), Ok(forsaken)) => self.perform_in((name, &*disk), partitions, rows, forsaken),
                (None, _) => Ok(false),
                (_, Err(e)) => Err(e.clone()),
            };
            if let Err(e) = &done {
                tracing::warn!(event = "not_taken_away", partition = name, error = %e, "it is tried again");
            }
            all &= done.unwrap_or(false);
        }
        all
    }

    fn perform_in(
        &self,
        (name, disk): (&String, &dyn Disk),
        partitions: &Partitions,
        rows: &dyn Rows,
        forsaken: &BTreeSet<(String, Home)>,
    ) -> Result<bool> {
        let mut all = true;
        let messages = self.messages.iter().filter(|_| !planted::on(Bug::PurgedFileStays));
        for ((_, place), uids) in messages.filter(|((partition, _), _)| partition == name) {
            uids.iter().try_for_each(|uid| bodies::remove(disk, place, *uid))?;
        }
        for (_, place) in self.mailboxes.iter().filter(|(partition, _)| partition == name) {
            let goes = match told(rows, place.id)?.map(|told| told.row.partition) {
                None => true,
                Some(at) if at == *name => false,
                Some(at) => match partitions.disk(&at) {
                    Some(there) => covers(&*there, disk, partitions.owner(), place)?,
                    None => {
                        all = false;
                        false
                    }
                },
            };
            if goes {
                apply::remove_mailbox(disk, place)?;
            } else if all {
                tracing::debug!(
                    event = "mailbox_stays",
                    place = disk.display(&place.path()),
                    "it is nowhere else as a whole"
                );
            }
        }
        for (_, home) in forsaken.iter().filter(|(partition, _)| partition == name) {
            tree::remove_home(disk, home)?;
        }
        for (_, number) in self.staged.iter().filter(|(partition, _)| partition == name) {
            bodies::unstage(disk, *number)?;
        }
        disk.sync_tree().map_err(|e| StoreError::io("sync", disk.display(""), e))?;
        Ok(all)
    }
}

/// Notes durably that what lies of some mailboxes on a partition is a copy that nobody has yet. Until [`forget_copy`] a start takes it away, as far
/// as the database does not say that it is where they lie.
///
/// # Errors
/// Those of the data directory.
pub(super) fn note_copy(data: &dyn Disk, name: &str, copy: &Removals) -> Result<()> {
    copy.note_as(data, &format!("{COPY}{name}"))
}

/// True if something of this copy lies where an earlier one was, of which it is not known yet what becomes of it.
///
/// # Errors
/// Those of the data directory.
pub(super) fn is_kept(data: &dyn Disk, copy: &Removals) -> Result<bool> {
    let entries = match data.list(DIRECTORY) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries.map_err(|e| StoreError::io("list", data.display(DIRECTORY), e))?,
    };
    for entry in entries.into_iter().filter(|entry| kept_until(&entry.name).is_some()) {
        let kept = read(data, &format!("{DIRECTORY}/{}", entry.name))?;
        if !kept.homes.is_disjoint(&copy.homes) || !kept.mailboxes.is_disjoint(&copy.mailboxes) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Forgets what was noted about a copy.
///
/// # Errors
/// Those of the data directory.
pub(super) fn forget_copy(data: &dyn Disk, name: &str) -> Result<()> {
    let path = format!("{DIRECTORY}/{COPY}{name}");
    match data.remove(&path).and_then(|()| data.sync_dir(DIRECTORY)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", data.display(&path), e)),
        _ => Ok(()),
    }
}

/// After a start: takes away the copies that nobody has come to use, as `newest` says, then what was noted for commits. `None`: the database may
/// have forgotten who uses them; a later start looks.
pub(in crate::store) fn sweep(
    data: &dyn Disk,
    partitions: &Partitions,
    newest: Option<(&dyn Rows, Applied)>,
    (rows, committed): (&dyn Rows, Applied),
) {
    if let Some(newest) = newest {
        sweep_copies(data, partitions, newest, committed);
    }
    carry_out(data, partitions, rows, committed);
}

fn sweep_copies(data: &dyn Disk, partitions: &Partitions, (newest, at): (&dyn Rows, Applied), committed: Applied) {
    for entry in data.list(DIRECTORY).unwrap_or_default() {
        if !entry.name.starts_with(COPY) || moment_of(&entry.name).is_some() {
            continue;
        }
        let path = format!("{DIRECTORY}/{}", entry.name);
        match read(data, &path) {
            Ok(copy) if !copy.perform(partitions, newest) => {}
            Ok(copy) if committed.is_before(at) && !planted::on(Bug::UsedCopyForgotten) => {
                let name = format!("{KEPT}{}-{}-{}", at.epoch, at.lsn, name_of(&entry.name));
                if format!("{DIRECTORY}/{name}") != path && copy.note_as(data, &name).is_ok() {
                    drop(data.remove(&path).and_then(|()| data.sync_dir(DIRECTORY)));
                }
            }
            _ => drop(data.remove(&path).and_then(|()| data.sync_dir(DIRECTORY))),
        }
    }
}

/// Carries out what was noted for commits up to this one, whose rows these are; what was noted for others is forgotten. What cannot be
/// done now stays noted.
pub(in crate::store) fn carry_out(data: &dyn Disk, partitions: &Partitions, rows: &dyn Rows, committed: Applied) {
    if !partitions.behind().is_empty() {
        return;
    }
    let entries = match data.list(DIRECTORY) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return,
        Err(e) => {
            tracing::warn!(event = "removals_unknown", error = %e, "files of purged messages may stay");
            return;
        }
        Ok(entries) => entries,
    };
    let mut forgotten = false;
    for entry in entries {
        let path = format!("{DIRECTORY}/{}", entry.name);
        let done = match moment_of(&entry.name) {
            // One that was used when the daemon started.
            None if kept_until(&entry.name)
                .is_some_and(|at| at.epoch == committed.epoch && at.lsn <= committed.lsn) =>
            {
                read(data, &path).map_or(true, |copy| copy.perform(partitions, rows))
            }
            // A copy that is being made.
            None if entry.name.starts_with(COPY) => continue,
            Some(at) if at.epoch == committed.epoch && at.lsn <= committed.lsn => read(data, &path)
                .map(|removals| removals.perform(partitions, rows))
                .inspect_err(
                    |e| tracing::warn!(event = "removals_unknown", error = %e, "files of purged messages may stay"),
                )
                .unwrap_or(true),
            // A commit that did not happen, or a file that was being written.
            _ => true,
        };
        if done && data.remove(&path).is_ok() {
            forgotten = true;
        }
    }
    if forgotten && let Err(e) = data.sync_dir(DIRECTORY) {
        tracing::warn!(event = "removals_not_forgotten", error = %e, "they are carried out once more");
    }
}

fn read(data: &dyn Disk, path: &str) -> Result<Removals> {
    let shown = data.display(path);
    let bytes = disk::read_small(data, path, BYTES_MAX).map_err(|e| StoreError::io("read", shown.clone(), e))?;
    Removals::parse(&bytes, &shown)
}

fn moment_of(name: &str) -> Option<Applied> {
    let (epoch, lsn) = name.split_once('-')?;
    Some(Applied { epoch: Epoch(epoch.parse().ok()?), lsn: Lsn(lsn.parse().ok()?) })
}

/// Up to which moment the database has to come before a copy is judged that was used.
fn kept_until(name: &str) -> Option<Applied> {
    let mut words = name.strip_prefix(KEPT)?.splitn(3, '-');
    Some(Applied { epoch: Epoch(words.next()?.parse().ok()?), lsn: Lsn(words.next()?.parse().ok()?) })
}

/// What a note about a copy was called when that was begun.
fn name_of(note: &str) -> &str {
    let name = note.strip_prefix(KEPT).and_then(|kept| kept.splitn(3, '-').nth(2));
    name.or_else(|| note.strip_prefix(COPY)).unwrap_or(note)
}

/// The mailboxes of a partition that are to go from it.
///
/// # Errors
/// Those of the data directory.
pub(super) fn gone_from(data: &dyn Disk, partition: &str) -> Result<BTreeSet<Place>> {
    let mut gone = BTreeSet::new();
    let entries = match data.list(DIRECTORY) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(gone),
        entries => entries.map_err(|e| StoreError::io("list", data.display(DIRECTORY), e))?,
    };
    for entry in entries.into_iter().filter(|entry| moment_of(&entry.name).is_some()) {
        let removals = read(data, &format!("{DIRECTORY}/{}", entry.name))?;
        gone.extend(removals.mailboxes.into_iter().filter(|(name, _)| name == partition).map(|(_, place)| place));
    }
    Ok(gone)
}

/// Those of some homes that no user has on that partition, and no deleted mailbox. One walk for all of them.
fn forsaken(rows: &dyn Rows, homes: &BTreeSet<(String, Home)>) -> Result<BTreeSet<(String, Home)>> {
    let mut left: BTreeMap<String, BTreeSet<&(String, Home)>> = BTreeMap::new();
    for home in homes.iter().filter(|(_, home)| home.path() != SHARED_DIRECTORY) {
        // Most have the user whose name they have.
        let named = home.1.user().map_or(Ok(None), |user| rows.get(Table::Users, user.as_bytes()))?;
        if let (Some(user), Some(row)) = (home.1.user(), named) {
            let row = UserView::decode(user.as_bytes(), &row)?;
            if row.directory == home.1.path() && row.partition == home.0 {
                continue;
            }
        }
        left.entry(home.1.path().to_owned()).or_default().insert(home);
    }
    if left.is_empty() {
        return Ok(BTreeSet::new());
    }
    let mut failed = Ok(());
    let mut keep = |directory: &str, partition: &str| {
        if let Some(all) = left.get_mut(directory) {
            all.retain(|(name, _)| name != partition);
            if all.is_empty() {
                left.remove(directory);
            }
        }
        if left.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    rows.scan(Table::Users, Bound::Unbounded, &mut |key, row| match UserView::decode(key, row) {
        Ok(user) => keep(user.directory, user.partition),
        Err(e) => {
            failed = Err(e);
            ControlFlow::Break(())
        }
    })?;
    rows.scan(Table::Past, Bound::Unbounded, &mut |key, row| {
        if split(key).is_none() {
            return ControlFlow::Continue(());
        }
        match TombstoneRow::decode(key, row) {
            Ok(row) => keep(row.directory.rsplit_once('/').map_or("", |(home, _)| home), &row.mailbox.partition),
            Err(e) => {
                failed = Err(e);
                ControlFlow::Break(())
            }
        }
    })?;
    failed?;
    Ok(left.into_values().flatten().cloned().collect())
}

/// Numbers as `1-5,9`.
fn ranges(uids: &BTreeSet<u32>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for uid in uids {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*uid) => *last = *uid,
            _ => ranges.push((*uid, *uid)),
        }
    }
    let one = |(first, last): &(u32, u32)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    ranges.iter().map(one).collect::<Vec<_>>().join(",")
}

fn uids_of(text: &str) -> Option<BTreeSet<u32>> {
    let mut uids = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        uids.extend(first.parse::<u32>().ok()?..=last.parse().ok()?);
    }
    Some(uids)
}

#[cfg(test)]
mod tests {
    use super::*;

    // A note for the moment of an earlier one replaced it: of two attempts at a checkpoint, or of that and a partition that caught up.
    #[test]
    fn a_note_adds_to_what_was_noted() {
        let (data, at) = (crate::disk::SimDisk::new(), Applied { epoch: Epoch(3), lsn: Lsn(77) });
        let of = |number| Removals { staged: [("primary".to_owned(), number)].into(), ..Removals::default() };
        let mut both = of(1);
        of(1).note(&data, at).unwrap();
        of(2).note(&data, at).unwrap();
        both.add(of(2));
        assert_eq!(read(&data, &format!("{DIRECTORY}/3-77")).unwrap(), both);
        // One that cannot be read is in nobody's way.
        data.truncate(&format!("{DIRECTORY}/3-77"), 20).unwrap();
        of(2).note(&data, at).unwrap();
        assert_eq!(read(&data, &format!("{DIRECTORY}/3-77")).unwrap(), of(2));
    }

    #[test]
    fn what_is_noted_comes_back() {
        let home = Home::parse("=user/de/f1/=joe~1").unwrap();
        let name = || "primary".to_owned();
        let mut removals = Removals::default();
        removals.messages.insert((name(), home.mailbox(2)), [1, 2, 3, 9, u32::MAX].into());
        removals.mailboxes.insert((name(), home.mailbox(5)));
        removals.homes.insert((name(), home));
        removals.staged.insert((name(), u64::MAX));
        let text = "messages primary =user/de/f1/=joe~1 2 1-3,9,4294967295\nmailbox primary =user/de/f1/=joe~1 5\n\
                    home primary =user/de/f1/=joe~1\nstaged primary 18446744073709551615\n";
        assert_eq!(removals.text(), text);
        assert_eq!(Removals::parse(&sealed::seal(KIND, text), "f").unwrap(), removals);
        for bad in ["mailbox primary ../../etc 5\n", "messages primary =shared 2 x\n", "all\n"] {
            assert!(Removals::parse(&sealed::seal(KIND, bad), "f").is_err(), "{bad}");
        }
        assert_eq!(moment_of("3-77"), Some(Applied { epoch: Epoch(3), lsn: Lsn(77) }));
        assert_eq!(moment_of("3-77.new"), None);
    }
}
