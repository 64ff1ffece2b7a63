//! What a partition lacks is brought to it from the log: changes of checkpoints that it was not there for.
//!
//! Where the log does not go back so far, what the archive has of it is read too: a partition that was put back from an older copy lacks more than
//! the log was kept for. An archive that does not answer is waited for; the partition is behind meanwhile.
//!
//! The log behind what the partition holds is read up to the last checkpoint. Of it only messages are taken, and the numbers of mailboxes
//! whose rows changed: every other row is in the database, in its newest state, and heads of indexes are made from that. A checkpoint
//! does this before it writes what is new, so that a partition holds all or nothing of what came before.

use super::aftermath::Written;
use super::mirror::{Due, Homes, each_with_mail, quota_user, rows_at, user_home};
use super::removals::gone_from;
use super::source::{Disks, place};
use super::told::{Told, told};
use super::write::{Failed, Moment, write_partition};
use crate::db::DbReader;
use crate::disk::Disk;
use crate::error::Result;
use crate::lsn::Lsn;
use crate::model::mail::MessageRow;
use crate::model::rows::{MailboxRow, PastRow, Row, id_of, split};
use crate::model::{Change, Table};
use crate::partition::tree::{Home, Place};
use crate::partition::{Applied, identity};
use crate::planted::{self, Bug};
use crate::store::Store;
use crate::store::checkpoint::applied;
use crate::store::overlay::Overlay;
use crate::store::record::{Record, rows_of};
use crate::store::sorted::Sorter;
use crate::store::view::{Base, View};
use crate::wal::{self, Depth, Proof, RecordRef, Survey};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A partition and what it lacks.
#[derive(Clone, Copy)]
struct Late<'a> {
    name: &'a str,
    disk: &'a dyn Disk,
    /// It holds everything up to here.
    from: Applied,
    /// And is to hold everything up to here.
    upto: Applied,
    keep_from: Lsn,
    /// More of what it lacks lies behind that.
    is_piece: bool,
}

/// A log, and what is in it from some moment on.
struct Read {
    log: Arc<dyn Disk>,
    survey: Survey,
}

impl Read {
    /// True if it leads from one moment to another.
    fn leads(&self, from: Applied, upto: Applied) -> bool {
        self.survey.reach(from.epoch, from.lsn).lsn >= upto.lsn
    }
}

impl Store {
    /// Brings partitions that are there what they lack of the last checkpoint, whose database this is. One that fails is left as it is, and
    /// tried again later: it stops no other, and no checkpoint. What is not needed any more may go when it is noted that they lack nothing.
    pub(in crate::store) fn catch_up(&self, db: &Arc<DbReader>, keep_from: Lsn) -> Written {
        let (upto, mut written) = (applied(db), Written::default());
        for (name, _) in self.partitions.list() {
            if !self.partitions.may_catch_up(&name, self.env.uptime()) {
                continue;
            }
            let Some(disk) = self.partitions.open(&name) else { continue };
            let done = self.lacks(&name, &*disk, upto).and_then(|lacks| match lacks {
                Some((from, read)) => {
                    let late = Late { name: &name, disk: &*disk, from, upto, keep_from, is_piece: false };
                    self.bring(&late, &read, db)
                }
                None => Ok(Written::default()),
            });
            match done {
                Ok(of_partition) => written.add(of_partition),
                Err(e) => self.partitions.not_yet(&name, self.env.uptime(), &e.to_string()),
            }
        }
        written
    }

    /// At a start: a partition that is older than the database, as its own file says, is not read before a checkpoint has looked what it lacks.
    /// What was away when something changed there is noted; so nothing changed there, or an older copy of it was put back.
    pub(in crate::store) fn doubt_older(&self) {
        let (upto, given_up) = (applied(&self.base.load().db), self.partitions.past().given_up());
        for (name, _) in self.partitions.list() {
            let own = self.partitions.disk(&name).and_then(|disk| identity::applied(&*disk).ok().flatten());
            // What cannot be read is told by the checkpoint.
            if let Some(own) = own.map(|own| given_up.counts_up_to(own)).filter(|own| own.is_before(upto)) {
                self.partitions.doubt(&name, own);
                self.checkpoint_soon();
            }
        }
    }

    /// What a partition holds if that is less than everything up to `upto`, with the log behind it.
    fn lacks(&self, name: &str, disk: &dyn Disk, upto: Applied) -> Result<Option<(Applied, Read)>> {
        let (noted, own) = (self.partitions.is_surely_behind(name), identity::applied(disk)?);
        let Some(from) = noted.into_iter().chain(own).max_by_key(|known| known.lsn) else { return Ok(None) };
        // Its own file says less than was noted where an older copy of it was put back.
        let mut read = None;
        let from = match own.filter(|own| own.is_before(from)) {
            Some(own) => {
                read = Some(self.log_behind(own, upto)?).filter(|read| read.leads(own, upto));
                if read.is_some() { own } else { from }
            }
            None => from,
        };
        // What it holds of a history that was given up meanwhile is nothing that it has.
        let from = self.partitions.past().given_up().counts_up_to(from);
        if !from.is_before(upto) {
            // A crash came between the note and the commit, or before it was struck out that it had caught up.
            self.partitions.caught_up(name);
            return Ok(None);
        }
        let read = match read.filter(|read| read.leads(from, upto)) {
            Some(read) => read,
            None => self.log_behind(from, upto).inspect_err(|e| {
                // Nothing is written to it that comes later.
                self.partitions.fall_behind(name, from, &e.to_string());
            })?,
        };
        let leads = read.leads(from, upto);
        match noted {
            None if leads => {
                // Nobody noted it: it was away while nothing changed there, or is an older state of itself.
                self.partitions.fall_behind(name, from, "its own file says so");
            }
            // No log was kept for it, because it lacked nothing when it went.
            None => {
                self.partitions.caught_up(name);
                return Ok(None);
            }
            Some(Applied::NOTHING) => {}
            Some(_) if leads => {}
            Some(_) => {
                let why = format!(
                    "partition {name} holds everything up to LSN {}, and the log does not lead from there to {}",
                    from.lsn, upto.lsn
                );
                tracing::error!(event = "partition_log_gap", partition = name, from = from.lsn.0, upto = upto.lsn.0);
                self.recommend_repair(&why)?;
            }
        }
        Ok(Some((from, read)))
    }

    /// The log behind a moment; with what the archive has of it if it does not lead from there to `upto`, and leads so then.
    fn log_behind(&self, from: Applied, upto: Applied) -> Result<Read> {
        let read = |log: Arc<dyn Disk>| -> Result<Read> {
            let survey = wal::survey(&*log, self.store_id, Proof::default(), Depth::From(from.lsn))?;
            Ok(Read { log, survey })
        };
        let alone = read(self.disks.log.clone())?;
        if !alone.leads(from, upto)
            && let Some(both) = self.log_with_archive()?.map(read).transpose()?.filter(|both| both.leads(from, upto))
        {
            tracing::info!(event = "partition_log_archived", from = from.lsn.0, upto = upto.lsn.0);
            return Ok(both);
        }
        Ok(alone)
    }

    fn bring(&self, late: &Late<'_>, read: &Read, db: &Arc<DbReader>) -> Result<Written> {
        let (begun, mut from, mut written) = (self.env.uptime(), late.from, Written::default());
        let mut lost = BTreeSet::new();
        while from.is_before(late.upto) {
            let upto = self.piece_of(&read.survey, from, late.upto);
            let is_piece = upto.is_before(late.upto);
            let mut of_piece = self.bring_piece(&Late { from, upto, is_piece, ..*late }, read, db)?;
            let without = std::mem::take(&mut of_piece.bodiless);
            lost.retain(|(place, uid)| !of_piece.removals.takes(late.name, place, *uid));
            lost.extend(without);
            // IMPORTANT: what is to go is noted before the partition says that it has come behind it.
            if self.due.is_due() {
                of_piece.keep_moved(&*self.disks.data, &self.committed(), applied(db))?;
            }
            of_piece.note_late(&*self.disks.data, applied(db));
            written.add(of_piece);
            // IMPORTANT: before the partition says that it has come behind them: nobody would look at them again.
            let tells_afterwards = planted::on(Bug::LossToldAfterwards);
            if !is_piece && !tells_afterwards {
                self.tell_lost(late, &lost)?;
            }
            // Behind what may still be purged further on it says nothing: after a crash it is brought once more.
            if !is_piece || lost.is_empty() {
                // IMPORTANT: after the sync of what it says.
                identity::note_applied(late.disk, upto)?;
            }
            if !is_piece && tells_afterwards {
                self.tell_lost(late, &lost)?;
            }
            from = upto;
        }
        self.partitions.caught_up(late.name);
        tracing::info!(
            event = "partition_took_from_log",
            partition = late.name,
            from = late.from.lsn.0,
            upto = late.upto.lsn.0,
            files = written.files,
            seconds = (self.env.uptime() - begun).as_secs_f64()
        );
        Ok(written)
    }

    /// Recommends a repair if messages that a partition took are without their bytes.
    fn tell_lost(&self, late: &Late<'_>, lost: &BTreeSet<(Place, u32)>) -> Result<()> {
        if lost.is_empty() {
            return Ok(());
        }
        self.recommend_repair(&format!(
            "partition {}: {} messages that came behind LSN {} are without their bytes: storectl check --partition {0}",
            late.name,
            lost.len(),
            late.from.lsn
        ))
    }

    /// Up to where so much log lies behind `from` as may be held in memory: whole segments.
    fn piece_of(&self, survey: &Survey, from: Applied, upto: Applied) -> Applied {
        let mut bytes = 0;
        for segment in survey.segments.iter().filter(|segment| segment.live()) {
            let (Some(header), Some(last)) = (segment.known(), segment.runs.last()) else { continue };
            let end = Applied { epoch: header.epoch, lsn: last.last_lsn };
            bytes += segment.bytes;
            if from.is_before(end) && end.is_before(upto) && bytes >= self.options.overlay_bytes_max as u64 {
                return end;
            }
            if !from.is_before(end) {
                bytes = 0;
            }
        }
        upto
    }

    /// What lies in one piece of the log, durably; the partition does not say yet that it has it.
    fn bring_piece(&self, late: &Late<'_>, read: &Read, db: &Arc<DbReader>) -> Result<Written> {
        let (overlay, changed) = missed(&*read.log, &read.survey, late)?;
        let overlay = Arc::new(overlay);
        let base = Base { active: overlay.clone(), frozen: None, db: db.clone(), names: None };
        // Rows of messages up to the end of the piece, and of everything else those of the checkpoint.
        let view = View { base: Arc::new(base), at: late.upto.lsn };
        let mut homes = homes(&view, &overlay, &changed, late)?;
        for place in gone_from(&*self.disks.data, late.name)? {
            homes.entry(place.home).or_default().mailboxes.push(place.id);
        }
        homes.values_mut().for_each(Due::settle);
        let moment = Moment {
            upto: late.upto.lsn,
            epoch: late.upto.epoch,
            committed: late.from,
            keep_from: late.keep_from,
            is_replay: true,
            is_piece: late.is_piece,
            can_wait: false,
            seen_since: None,
        };
        let disks = Disks { log: &*read.log, late: Some(late.name), ..self.mail_disks() };
        let done = write_partition(&view, &overlay, moment, &disks, (late.name, late.disk), homes, true);
        done.map_err(|failed| match failed {
            Failed::Partition(e) | Failed::Store(e) => e,
        })
    }
}

/// What changed of which the rows are in the database: only that, for most of it changed more than once.
#[derive(Default)]
struct Changed {
    mailboxes: BTreeSet<u64>,
    users: BTreeSet<String>,
}

impl Changed {
    fn note(&mut self, change: &Change<'_>) -> Result<()> {
        let (table, key, row) = match change {
            Change::Put { table, key, row } => (*table, &**key, Some(&**row)),
            Change::Remove { table, key } => (*table, &**key, None),
            Change::Message { .. } => return Ok(()),
        };
        match table {
            Table::Mailboxes => {
                self.mailboxes.extend(row.map(|row| MailboxRow::decode(key, row)).transpose()?.map(|row| row.id));
            }
            Table::Past => match split(key) {
                Some((_, id)) => self.mailboxes.extend(id_of(id)),
                None => {
                    self.mailboxes.extend(row.map(|row| PastRow::decode(key, row)).transpose()?.map(|r| r.mailbox_id))
                }
            },
            Table::Users => drop(self.users.insert(String::from_utf8_lossy(key).into_owned())),
            Table::Quotas => self.users.extend(quota_user(key)),
            Table::Subscriptions | Table::Seen => {
                self.users.extend(split(key).map(|(who, _)| String::from_utf8_lossy(who).into_owned()));
            }
            Table::Rights | Table::Partitions | Table::Ids | Table::Messages | Table::Bodies => {}
        }
        Ok(())
    }
}

/// The messages that changed behind what a partition holds, and of what else the rows did.
fn missed(log: &dyn Disk, survey: &Survey, late: &Late<'_>) -> Result<(Overlay, Changed)> {
    let overlay = Overlay::sized(0);
    let mut changed = Changed::default();
    let rows = std::thread::scope(|scope| {
        let mut sorter = Sorter::new(scope, overlay.names());
        let each = &mut |record: &RecordRef<'_>| {
            let made = Record { lsn: record.lsn, epoch: record.epoch, bodies: record.bodies()? };
            record.for_each_change(&mut |change| {
                changed.note(&change)?;
                if !matches!(change, Change::Message { .. }) {
                    return Ok(());
                }
                rows_of(&change, &made, &mut |table, key, row| {
                    // Bodies of other partitions too: there may be copies of them here.
                    let is_here = table == Table::Bodies || row.is_some_and(|row| lies_in(row, late.name));
                    if is_here { sorter.put(table, key, row) } else { Ok(()) }
                })
            })
        };
        if survey.reach(late.from.epoch, late.from.lsn).lsn >= late.upto.lsn {
            wal::replay(log, survey, late.from.epoch, late.from.lsn, late.upto.lsn, each)?;
        } else {
            wal::records(log, survey, late.from.lsn, late.upto.lsn, each)?;
        }
        sorter.finish()
    })?;
    Ok((overlay.starting_with(rows, late.upto.lsn), changed))
}

fn lies_in(row: &[u8], partition: &str) -> bool {
    MessageRow::decode(row).is_ok_and(|row| row.of.partition == partition)
}

/// Where there is something to write. Of a home all rows are written: which of them changed, the database does not tell any more.
fn homes(view: &View, overlay: &Overlay, changed: &Changed, late: &Late<'_>) -> Result<Homes> {
    let mut homes = Homes::new();
    each_with_mail(overlay, late.upto.lsn, &mut |row| {
        let place = place(&row.of)?;
        homes.entry(place.home).or_default().mailboxes.push(place.id);
        Ok(())
    })?;
    let here = |at: Option<(String, Home)>| at.filter(|(partition, _)| partition == late.name).map(|(_, home)| home);
    for id in &changed.mailboxes {
        if let Some(home) = here(told(view, *id)?.and_then(Told::home)) {
            homes.entry(home).or_default().mailboxes.push(*id);
        }
    }
    for user in &changed.users {
        if let Some(home) = here(user_home(view, user.as_bytes())?) {
            homes.entry(home).or_default();
        }
    }
    for (home, due) in &mut homes {
        due.rows = rows_at(view, late.name, home)?;
        // A user who is gone is not among them.
        let user = home.user().filter(|user| changed.users.contains(*user));
        due.rows.extend(user.map(|user| (Table::Users, user.as_bytes().to_vec())));
    }
    Ok(homes)
}
