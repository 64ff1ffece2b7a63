//! A store that goes back to a point on purpose: what is noted of the history that it gives up.
//!
//! # Operation
//! Before the fork, durably: what counts no more (`partition::past`), and the numbers that were given in it ([`Numbers`]). The next start
//! moves the mailboxes clear of these before it takes a change ([`Store::outgrow`]): who has seen a UID or a modification sequence of what was given up must
//! not meet it again as something else (I6). Users who moved to another partition behind the point move again, before anything is written
//! to one ([`Store::follow`]): where they went their mail was whole before the move was logged, and where they were it may be gone since. What
//! lies in the homes because of it is seen to by the adoption (`adopt::behind`).
//!
//! # Format
//! `numbers` in the data directory, text sealed with a checksum ([`crate::sealed`]): the epoch that began, 1 if nothing behind the point was
//! unreadable, for each mailbox by id the UIDNEXT and the highest modification sequence that it had, and of users whose rows were changed,
//! by id, the partition on which they were.
//! ```text
//! storedd-numbers 1
//! began 3
//! whole 1
//! mailbox 17 4712 90
//! user 3 fast
//! crc 01234567
//! ```
//!
//! # Invariants
//! * A crash before the fork leaves notes for an epoch that never began: they say nothing.
//! * The numbers go when the rows that are clear of them are in the log; who goes back once more before that adds to them.

use super::adopt::before;
use super::{CommitError, Store};
use crate::disk::{self, Disk};
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn};
use crate::model::adopt::AdoptedMailbox;
use crate::model::name::key_text;
use crate::model::rows::{MailboxRow, Row, TombstoneRow, UserView, split};
use crate::model::{Change, Command, Rows, Table};
use crate::partition::past::Stretch;
use crate::partition::{Applied, GivenUp, Partitions};
use crate::planted::{self, Bug};
use crate::sealed::{self, Lines};
use crate::wal::{self, Kind, Survey};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::ops::{Bound, ControlFlow};

const FILE: &str = "numbers";
const KIND: &str = "storedd-numbers";
const BYTES_MAX: u64 = 256 << 20;
/// Mailboxes that one transaction moves.
const AT_ONCE: usize = 200;

/// Numbers that were given in a history that is given up.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Numbers {
    began: Epoch,
    /// All of them are known.
    pub(super) is_whole: bool,
    /// UIDNEXT and highest modification sequence, by mailbox id.
    mailboxes: BTreeMap<u64, (u32, u64)>,
    /// Where users were last, by user id.
    users: BTreeMap<u64, String>,
}

impl Numbers {
    /// Those in the records behind `reached`.
    pub(super) fn behind(log: &dyn Disk, survey: &Survey, reached: Lsn) -> Numbers {
        let mut numbers = Numbers { began: survey.next_epoch(), is_whole: true, ..Numbers::default() };
        let mut next = reached.next();
        let outcome = wal::records(log, survey, reached, Lsn(u64::MAX), &mut |record| {
            // Behind a fork numbers jump.
            numbers.is_whole &= record.lsn == next || record.kind == Kind::Fork;
            next = record.lsn.next();
            record.for_each_change(&mut |change| {
                // What cannot be decoded is reported by those who need it.
                let _ = numbers.change(&change);
                Ok(())
            })
        });
        numbers.is_whole &= outcome.is_ok() && next > survey.highest_lsn();
        if let Err(e) = outcome {
            tracing::warn!(event = "salvage", error = %e, "not all records that are given up could be looked at");
        }
        numbers
    }

    fn change(&mut self, change: &Change<'_>) -> Result<()> {
        let Change::Put { table, key, row } = change else { return Ok(()) };
        let row = match table {
            Table::Mailboxes => MailboxRow::decode(key, row)?,
            Table::Users => {
                let UserView { id, partition, .. } = UserView::decode(key, row)?;
                self.users.insert(id, partition.to_owned());
                return Ok(());
            }
            Table::Past if split(key).is_some() => TombstoneRow::decode(key, row)?.mailbox,
            _ => return Ok(()),
        };
        let (uidnext, modseq) = self.mailboxes.entry(row.id).or_default();
        (*uidnext, *modseq) = ((*uidnext).max(row.uidnext), (*modseq).max(row.highest_modseq));
        Ok(())
    }

    /// With those of an earlier return that nobody has moved clear of yet.
    fn and(mut self, before: Numbers) -> Numbers {
        self.is_whole &= before.is_whole;
        for (id, (uidnext, modseq)) in before.mailboxes {
            let known = self.mailboxes.entry(id).or_default();
            *known = (known.0.max(uidnext), known.1.max(modseq));
        }
        for (id, partition) in before.users {
            self.users.entry(id).or_insert(partition);
        }
        self
    }

    fn note(&self, data: &dyn Disk) -> Result<()> {
        let mut text = format!("began {}\nwhole {}\n", self.began, u8::from(self.is_whole));
        for (id, (uidnext, modseq)) in &self.mailboxes {
            // A string takes everything.
            let _ = writeln!(text, "mailbox {id} {uidnext} {modseq}");
        }
        for (id, partition) in &self.users {
            let _ = writeln!(text, "user {id} {partition}");
        }
        disk::replace(data, FILE, &sealed::seal(KIND, &text))
            .map_err(|e| StoreError::io("write", data.display(FILE), e))
    }

    fn read(data: &dyn Disk) -> Result<Option<Numbers>> {
        match disk::read_small(data, FILE, BYTES_MAX) {
            Ok(bytes) => Numbers::parse(&bytes, &data.display(FILE)).map(Some),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(StoreError::io("read", data.display(FILE), e)),
        }
    }

    fn parse(bytes: &[u8], file: &str) -> Result<Numbers> {
        let mut lines = Lines::open(KIND, bytes, file)?;
        let began = lines.word("began")?.parse().map_err(|_| lines.wrong("began"))?;
        let is_whole = lines.word("whole")? == "1";
        let mut numbers = Numbers { began: Epoch(began), is_whole, ..Numbers::default() };
        while let Some(line) = lines.next() {
            if let Some((id, partition)) = line.strip_prefix("user ").and_then(|user| user.split_once(' ')) {
                let id = id.parse().map_err(|_| lines.wrong("user"))?;
                numbers.users.insert(id, partition.to_owned());
                continue;
            }
            let one = || {
                let mut words = line.strip_prefix("mailbox ")?.split(' ');
                let (id, uidnext, modseq) = (words.next()?, words.next()?, words.next()?);
                let one = (id.parse().ok()?, (uidnext.parse().ok()?, modseq.parse().ok()?));
                words.next().is_none().then_some(one)
            };
            numbers.mailboxes.extend([one().ok_or_else(|| lines.wrong("mailbox"))?]);
        }
        Ok(numbers)
    }
}

/// What was given up so far of the history of a store that is in `epoch`. Where the data directory does not say, the partitions do.
///
/// # Errors
/// [`StoreError::Foreign`] for another store's file or a newer program's, those of the data directory.
pub(super) fn learn(data: &dyn Disk, partitions: &Partitions, epoch: Epoch, hold: bool) -> Result<()> {
    let store = partitions.store_id();
    let known = match GivenUp::read(data, store) {
        Ok(Some(known)) => known,
        // Nothing was ever given up in a first epoch.
        Ok(None) if epoch == Epoch(0) => GivenUp::NOTHING,
        Ok(None) => of_partitions(data, partitions, hold)?,
        Err(e @ StoreError::Corrupt { .. }) => {
            tracing::error!(event = "given_up_unreadable", error = %e, "the copies in the partitions are taken");
            of_partitions(data, partitions, hold)?
        }
        Err(e) => return Err(e),
    };
    partitions.past().learn(known, epoch);
    Ok(())
}

fn of_partitions(data: &dyn Disk, partitions: &Partitions, hold: bool) -> Result<GivenUp> {
    let mut known = GivenUp::NOTHING;
    for (name, _) in partitions.list() {
        match partitions.open(&name).map(|disk| GivenUp::read(&*disk, partitions.store_id())) {
            Some(Ok(of_partition)) => known = known.join(of_partition.unwrap_or_default()),
            Some(Err(e)) => tracing::error!(event = "given_up_unreadable", partition = name, error = %e),
            None => tracing::warn!(event = "given_up_unknown", partition = name, "it is not there to be asked"),
        }
    }
    if !hold {
        known.write(data, partitions.store_id())?;
    }
    Ok(known)
}

/// Before the fork with which `began` begins: notes durably what is given up with it, what lies behind a point; or that nothing is.
///
/// # Errors
/// Those of the data directory.
pub(super) fn note(
    data: &dyn Disk,
    partitions: &Partitions,
    began: Epoch,
    behind: Option<(Applied, Numbers)>,
) -> Result<()> {
    // Without what was noted for this epoch before, for a fork that never came to be.
    let mut now = partitions.past().given_up();
    if let Some((behind, numbers)) = behind {
        if planted::on(Bug::GivenUpNotNoted) {
            return Ok(());
        }
        let numbers = match Numbers::read(data) {
            Ok(Some(before)) => numbers.and(before),
            Ok(None) => numbers,
            Err(e @ StoreError::Corrupt { .. }) => {
                tracing::error!(event = "numbers_unreadable", error = %e, "mailboxes skip numbers as after a loss");
                super::adopt::distrust(data)?;
                numbers
            }
            Err(e) => return Err(e),
        };
        numbers.note(data)?;
        now = now.and(Stretch { began, behind });
    }
    now.write(data, partitions.store_id())
}

/// Before a copy of the store takes its place, and `began` begins: notes durably the numbers that records behind `reached` have given, so that
/// mailboxes move clear of them. Nothing is given up: what partitions hold of that history counts. Where `there` is no log, or one that does not
/// lead to `known`, nobody can say which numbers were given, and an adoption is due.
///
/// # Errors
/// Those of the data directory.
pub fn note_replaced(
    data: &dyn Disk,
    began: Epoch,
    there: Option<(&dyn Disk, &Survey)>,
    reached: Lsn,
    known: Lsn,
) -> Result<()> {
    if planted::on(Bug::ReplacedNotNoted) {
        return Ok(());
    }
    let Some((log, survey)) = there.filter(|(_, survey)| survey.highest_lsn() >= known) else {
        return super::adopt::distrust(data);
    };
    let numbers = Numbers { began, ..Numbers::behind(log, survey, reached) };
    let (numbers, is_whole) = match Numbers::read(data) {
        Ok(Some(before)) => (numbers.and(before), true),
        Ok(None) => (numbers, true),
        Err(StoreError::Corrupt { .. }) => (numbers, false),
        Err(e) => return Err(e),
    };
    if !numbers.is_whole || !is_whole {
        super::adopt::distrust(data)?;
    }
    numbers.note(data)
}

impl Store {
    /// Moves every mailbox clear of the numbers that were given in a history that was given up; before the store takes a change.
    ///
    /// # Errors
    /// Those of the disks. It is done again by the next start.
    pub(super) fn outgrow(&self) -> Result<()> {
        let data = &*self.disks.data;
        let numbers = match Numbers::read(data) {
            Ok(Some(numbers)) => numbers,
            Ok(None) => return Ok(()),
            Err(e @ StoreError::Corrupt { .. }) => {
                // The adoption that is due leaves room where nobody knows.
                tracing::error!(event = "numbers_unreadable", error = %e, "mailboxes skip numbers as after a loss");
                super::adopt::distrust(data)?;
                self.due.read_again(data);
                Numbers::default()
            }
            Err(e) => return Err(e),
        };
        if numbers.began == self.epoch {
            self.set_staging_aside();
            let moved = self.clear_of(&numbers)?;
            self.follow(&numbers)?;
            tracing::info!(
                event = "numbers_given_up",
                mailboxes = moved,
                "their UIDs go on above those that were given up"
            );
        }
        match data.remove(FILE) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", data.display(FILE), e)),
            _ => Ok(()),
        }
    }

    fn clear_of(&self, numbers: &Numbers) -> Result<u64> {
        let (view, mut moved) = (self.view(), 0);
        let mut commands = Vec::new();
        for (id, (uidnext, modseq)) in &numbers.mailboxes {
            let Some((key, bytes)) = super::adopt::known(&view, *id)? else { continue };
            let (name, old, deleted_us) = before(&key, &bytes)?;
            let (uidnext, highest_modseq) = (old.uidnext.max(*uidnext), old.highest_modseq.max(*modseq));
            let row = MailboxRow { uidnext, highest_modseq, ..old.clone() };
            if row == old {
                continue;
            }
            let home = super::mail::home_of(&view, *id)?.unwrap_or_default();
            let known = Some((key, bytes));
            let adopted = AdoptedMailbox { key: name, home, known, row, deleted_us, messages: Vec::new() };
            commands.push(Command::AdoptMailbox(Box::new(adopted)));
            moved += 1;
            if commands.len() == AT_ONCE {
                self.done(Command::Atomic(std::mem::take(&mut commands)))?;
            }
        }
        if !commands.is_empty() {
            self.done(Command::Atomic(commands))?;
        }
        Ok(moved)
    }

    /// Has users who moved behind the point do so again.
    fn follow(&self, numbers: &Numbers) -> Result<()> {
        if numbers.users.is_empty() {
            return Ok(());
        }
        let (view, mut moving, mut failed) = (self.view(), Vec::new(), Ok(()));
        view.scan(Table::Users, Bound::Unbounded, &mut |key, row| match UserView::decode(key, row) {
            Ok(UserView { id, partition, .. }) => {
                let to = numbers.users.get(&id).filter(|to| *to != partition);
                moving.extend(to.map(|to| (key_text(key), partition.to_owned(), to.clone())));
                ControlFlow::Continue(())
            }
            Err(e) => {
                failed = Err(e);
                ControlFlow::Break(())
            }
        })?;
        failed?;
        for (user, from, to) in moving {
            if !self.view().contains(Table::Partitions, to.as_bytes())? {
                // It was added behind the point.
                let Some(known) = self.partitions.enrolled().remove(&to) else { continue };
                self.done(Command::PartitionAdd { name: to.clone(), id: known.id.0 })?;
                self.partitions.expect(&to, known.id);
            }
            let lying = super::mail::lying(&view, &user, &from)?;
            let copied = lying.into_iter().map(|(place, modseq, _)| (place.id, modseq)).collect();
            match self.commit(Command::UserMove { user: user.clone(), to: to.clone(), copied }) {
                Ok(_) => tracing::info!(event = "user_moved_again", user, from, to, "as behind the point"),
                Err(CommitError::Failed(e)) => return Err(e),
                // The adoption that is due looks at his homes.
                Err(e) => tracing::warn!(event = "user_not_moved_again", user, from, to, error = %e),
            }
        }
        Ok(())
    }

    fn done(&self, command: Command) -> Result<()> {
        match self.commit(command) {
            Ok(_) => Ok(()),
            Err(CommitError::Failed(e)) => Err(e),
            Err(e) => Err(StoreError::Bug(format!("numbers that were given up: {e}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_comes_back() {
        let mailboxes = [(17, (4712, 90)), (18, (u32::MAX, u64::MAX))].into();
        let users = [(3, "fast".to_owned())].into();
        let numbers = Numbers { began: Epoch(3), is_whole: true, mailboxes, users };
        let machine = crate::disk::SimDisk::new();
        let data = machine.disk("data");
        assert_eq!(Numbers::read(&data).unwrap(), None);
        numbers.note(&data).unwrap();
        assert_eq!(Numbers::read(&data).unwrap(), Some(numbers));
        let bytes = disk::read_small(&data, FILE, BYTES_MAX).unwrap();
        let text = "storedd-numbers 1\nbegan 3\nwhole 1\nmailbox 17 4712 90\nmailbox 18 4294967295 18446744073709551615\nuser 3 fast\ncrc ";
        assert!(String::from_utf8_lossy(&bytes).starts_with(text));
        for bad in ["began 1\nwhole 1\nmailbox 1 2\n", "began x\nwhole 1\n", "began 1\n"] {
            assert!(Numbers::parse(&sealed::seal(KIND, bad), "f").is_err(), "{bad}");
        }
    }
}
