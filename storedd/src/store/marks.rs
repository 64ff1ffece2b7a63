//! The control file in a start: whether it may be believed, and its marks against the numbers that are in use.
//!
//! # Purpose
//! The control file alone knows which numbers may have been issued. It can be gone, be another store's, or be an old copy
//! that someone put back; an old copy is valid in itself, and its marks are below numbers that mailboxes have.
//!
//! # Operation
//! A marker stands only beside a control file with a valid slot, so one without is a loss ([`gone`]); one of another
//! store is refused ([`refuse_foreign`]). Numbers are compared as far as an old copy can be behind: rows in the log that
//! is replayed ([`Used::change`]), and the database if it is ahead of the checkpoint that the file names.
//!
//! # Invariants
//! * No number that a row has, of a mailbox that lives or of one that was deleted, lies above the marks of a store that
//!   is open (I6).

use super::Disks;
use super::ids::UIDVALIDITY_COUNTED_MAX;
use super::report::Finding;
use super::view::{Base, View};
use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn, StoreId};
use crate::model::rows::{MailboxView, PastRow, Row, TombstoneRow, UserRow, split};
use crate::model::{Change, Rows, Table};
use crate::planted::{self, Bug};
use crate::wal::{self, CONTROL_FILE, Control, ControlState, Loaded, Survey};
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

/// Room for object ids that were issued and are nowhere any more.
const OBJECT_ID_MARGIN: u64 = 1 << 32;
/// The same for UIDVALIDITY.
const UIDVALIDITY_MARGIN: u32 = 1 << 20;

/// Room for epochs that were begun.
const EPOCH_MARGIN: u64 = 1 << 10;
/// Room for segments that were written.
const SEGMENT_MARGIN: u64 = 1 << 20;
/// Room for LSNs that were given.
const LSN_MARGIN: u64 = 1 << 40;

/// The highest numbers that rows have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Used {
    object_id: u64,
    uidvalidity: u32,
}

impl Used {
    /// Takes a change of the log into account.
    pub(super) fn change(&mut self, change: &Change<'_>) {
        if let Change::Put { table, key, row } = change {
            // What cannot be decoded is reported by those who need it.
            let _ = self.row(*table, key, row);
        }
    }

    /// Takes every record behind `lsn` into account that can be read.
    pub(super) fn records_behind(&mut self, log: &dyn Disk, survey: &Survey, lsn: Lsn) {
        let each = &mut |record: &wal::RecordRef<'_>| {
            record.for_each_change(&mut |change| {
                self.change(&change);
                Ok(())
            })
        };
        if let Err(e) = wal::records(log, survey, lsn, Lsn(u64::MAX), each) {
            tracing::warn!(event = "salvage", error = %e, "not all records that are given up could be looked at");
        }
    }

    fn row(&mut self, table: Table, key: &[u8], row: &[u8]) -> Result<()> {
        match table {
            Table::Users => self.numbers(UserRow::decode(key, row)?.id, 0),
            Table::Mailboxes => {
                let mailbox = MailboxView::decode(key, row)?;
                self.numbers(mailbox.id, mailbox.uidvalidity);
            }
            Table::Past if split(key).is_some() => {
                let mailbox = TombstoneRow::decode(key, row)?.mailbox;
                self.numbers(mailbox.id, mailbox.uidvalidity);
            }
            Table::Past => {
                let past = PastRow::decode(key, row)?;
                self.numbers(past.mailbox_id, past.uidvalidity);
            }
            _ => {}
        }
        Ok(())
    }

    fn numbers(&mut self, object_id: u64, uidvalidity: u32) {
        self.object_id = self.object_id.max(object_id);
        // One that was taken over from another server does not move the counter.
        if uidvalidity <= UIDVALIDITY_COUNTED_MAX {
            self.uidvalidity = self.uidvalidity.max(uidvalidity);
        }
    }

    /// Looks at every row that has numbers.
    fn all(base: &Base) -> Result<Used> {
        let view = View {
            base: Arc::new(Base { active: base.active.clone(), frozen: None, db: base.db.clone(), names: None }),
            at: Lsn(u64::MAX),
        };
        let mut used = Used::default();
        let mut undecodable = None;
        for table in [Table::Users, Table::Mailboxes, Table::Past] {
            view.scan(table, Bound::Unbounded, &mut |key, row| {
                undecodable = undecodable.take().or(used.row(table, key, row).err());
                ControlFlow::Continue(())
            })?;
        }
        undecodable.map_or(Ok(used), Err)
    }

    /// Both.
    fn and(mut self, other: Used) -> Used {
        self.numbers(other.object_id, other.uidvalidity);
        self
    }

    fn above(self, state: &ControlState) -> bool {
        self.object_id > state.object_id_high || self.uidvalidity > state.uidvalidity_high
    }

    /// Marks that keep clear of these numbers and of others that were issued and lost.
    fn raise(self, state: &mut ControlState) {
        state.object_id_high = state.object_id_high.max(self.object_id.saturating_add(OBJECT_ID_MARGIN));
        state.uidvalidity_high = state.uidvalidity_high.max(self.uidvalidity.saturating_add(UIDVALIDITY_MARGIN));
    }
}

/// Moves everything that is counted clear of what a store may have counted since this was written, where nobody can say how far it
/// came: epochs, segments, LSNs, ids and UIDVALIDITYs (I3, I6).
pub fn keep_clear(state: &mut ControlState) {
    state.epoch = Epoch(state.epoch.0.saturating_add(EPOCH_MARGIN));
    state.highest_segment = state.highest_segment.saturating_add(SEGMENT_MARGIN);
    state.durable_lsn = Lsn(state.durable_lsn.0.saturating_add(LSN_MARGIN));
    Used { object_id: state.object_id_high, uidvalidity: state.uidvalidity_high }.raise(state);
}

/// What is missing or damaged if a store has no control file that could be believed at all; `None` if it has one.
pub(super) fn gone(disks: &Disks, loaded: &Loaded) -> Option<StoreError> {
    match loaded {
        Loaded { state: Some(_), .. } => None,
        Loaded { exists: false, .. } => Some(StoreError::Missing { files: vec![disks.data.display(CONTROL_FILE)] }),
        Loaded { problems, .. } => problems.first().cloned(),
    }
}

/// Refuses the control file of another store.
pub(super) fn refuse_foreign(disks: &Disks, state: Option<&ControlState>, store_id: StoreId) -> Result<()> {
    match state {
        Some(state) if state.store_id != store_id => Err(StoreError::Foreign {
            file: disks.data.display(CONTROL_FILE),
            what: "store id",
            found: state.store_id.to_string(),
            expected: store_id.to_string(),
        }),
        _ => Ok(()),
    }
}

/// Opens the control file, with marks above every number that is in use; what had to be put right is a finding. If it
/// has no valid slot it is made anew; with `hold` no byte of it is written. What it reserved is then taken from what is there, plus a wide margin for what may
/// have been issued and lost. `database` is the LSN of the database file as it was found, `replayed` what the log behind
/// it has.
pub(super) fn open_control(
    disks: &Disks,
    store_id: StoreId,
    state: Option<ControlState>,
    base: &Base,
    database: Lsn,
    replayed: Used,
    hold: bool,
) -> Result<(Control, Option<Finding>)> {
    let Some(mut state) = state else {
        let mut state = ControlState::new(store_id);
        Used::all(base)?.and(replayed).raise(&mut state);
        let control = if hold { Control::held(&*disks.data, state) } else { Control::create(&*disks.data, state)? };
        return Ok((control, None));
    };
    // The database holds no number from behind the checkpoint that the file names, unless the file is older than it: by
    // one crash between the two, or by years.
    let used = if database > state.checkpoint_lsn { Used::all(base)?.and(replayed) } else { replayed };
    let old = used.above(&state) && !planted::on(Bug::ControlNotReservedAhead);
    let finding = old.then(|| Finding {
        r#where: disks.data.display(CONTROL_FILE),
        what: "an old copy: its marks are below numbers that are in use; the marks were raised".to_owned(),
        expected: format!("at least object id {}, UIDVALIDITY {}", used.object_id, used.uidvalidity),
        found: format!("object id {}, UIDVALIDITY {}", state.object_id_high, state.uidvalidity_high),
    });
    if hold {
        if old {
            used.raise(&mut state);
        }
        return Ok((Control::held(&*disks.data, state), finding));
    }
    let control = Control::open(&*disks.data, state)?;
    if old {
        control.update(|state| used.raise(state))?;
    }
    Ok((control, finding))
}
