//! The control file: what must be known when everything else is in doubt.
//!
//! # Purpose
//! A small file beside the log and the database, on the data root's disk. It makes a missing last segment noticeable,
//! states the highest LSN known durable, and keeps high-water marks of numbers that must never be issued twice (I6).
//!
//! # Format
//! `CONTROL`, 8192 bytes: two slots of 4096 bytes. A slot, little-endian:
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `STORECTL` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 4 | flags: bit 0 clean stop |
//! | 16 | 8 | generation, from 1, plus one at each slot written |
//! | 24 | 16 | store id |
//! | 40 | 8 | epoch |
//! | 48 | 8 | highest segment number ever made |
//! | 56 | 8 | lowest segment number still needed |
//! | 64 | 8 | checkpoint LSN |
//! | 72 | 8 | durable LSN |
//! | 80 | 8 | object id high-water mark |
//! | 88 | 4 | UIDVALIDITY high-water mark |
//! | 4092 | 4 | CRC-32 of the 4092 bytes before |
//!
//! Magic, version and CRC keep their places in every version. The rest of a slot is zero.
//!
//! # Operation
//! The valid slot with the highest generation counts. A write goes to the other slot, which a sync follows.
//! [`Control::update`] writes both slots one after the other, so that the loss of either loses nothing: high-water marks
//! and the lowest segment go this way. [`Control::note`] writes one, for facts that other files repeat.
//!
//! # Invariants
//! * A slot that is being written is never the only good one.
//! * After a failed write or sync nothing is written any more until the file was loaded again; only a write that found no
//!   space, before which nothing was synced, is tried again when somebody asks, in the same slot.
//! * Epoch, highest and lowest segment, durable LSN and both high-water marks never go back.

use super::record::{NUMBER_MAX, u32_at, u64_at};
use crate::checksum::Crc;
use crate::disk::{Access, Disk, DiskFile};
use crate::error::{Result, StoreError, is_no_space};
use crate::lsn::{Epoch, Lsn, StoreId};
use crate::planted::{self, Bug};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

/// Name of the file.
pub const CONTROL_FILE: &str = "CONTROL";

const SLOT: usize = 4096;
const MAGIC: &[u8; 8] = b"STORECTL";
const VERSION: u32 = 1;
const CRC_AT: usize = SLOT - 4;
const CLEAN: u32 = 1;

/// What the control file states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlState {
    /// Counts the slots written; kept by [`Control`].
    pub generation: u64,
    /// Whose it is.
    pub store_id: StoreId,
    /// Present epoch.
    pub epoch: Epoch,
    /// Highest segment number ever made: one that is missing was lost, not never there.
    pub highest_segment: u64,
    /// Lowest segment number that is still needed: a lower one may be absent.
    pub lowest_segment: u64,
    /// LSN up to which database and partitions are durable by themselves.
    pub checkpoint_lsn: Lsn,
    /// Highest LSN known synced when this was written.
    pub durable_lsn: Lsn,
    /// No UIDVALIDITY above this was ever issued.
    pub uidvalidity_high: u32,
    /// No object id above this was ever issued.
    pub object_id_high: u64,
    /// The store was stopped in order and has not been started since.
    pub clean: bool,
}

impl ControlState {
    /// State of a store in which nothing has happened.
    #[must_use]
    pub fn new(store_id: StoreId) -> ControlState {
        ControlState {
            generation: 0,
            store_id,
            epoch: Epoch::default(),
            highest_segment: 0,
            lowest_segment: 1,
            checkpoint_lsn: Lsn::ZERO,
            durable_lsn: Lsn::ZERO,
            uidvalidity_high: 0,
            object_id_high: 0,
            clean: false,
        }
    }

    /// Highest LSN that this proves to have been durable.
    #[must_use]
    pub fn proves(&self) -> Lsn {
        self.durable_lsn.max(self.checkpoint_lsn)
    }

    /// A whole control file that states this in both slots.
    #[must_use]
    pub fn file(&self) -> Vec<u8> {
        let mut state = self.clone();
        let mut bytes = vec![0; 2 * SLOT];
        for _ in 0..2 {
            state.generation += 1;
            let at = place(state.generation);
            bytes[at..at + SLOT].copy_from_slice(&state.encode());
        }
        bytes
    }

    /// What must never go back does not, whatever a caller computed.
    fn keep_high_marks(&mut self, before: &ControlState) {
        self.epoch = self.epoch.max(before.epoch);
        self.highest_segment = self.highest_segment.max(before.highest_segment);
        self.lowest_segment = self.lowest_segment.max(before.lowest_segment);
        self.durable_lsn = self.durable_lsn.max(before.durable_lsn);
        self.uidvalidity_high = self.uidvalidity_high.max(before.uidvalidity_high);
        self.object_id_high = self.object_id_high.max(before.object_id_high);
    }

    fn encode(&self) -> Vec<u8> {
        let mut slot = Vec::with_capacity(SLOT);
        slot.extend_from_slice(MAGIC);
        slot.extend_from_slice(&VERSION.to_le_bytes());
        slot.extend_from_slice(&(if self.clean { CLEAN } else { 0 }).to_le_bytes());
        slot.extend_from_slice(&self.generation.to_le_bytes());
        slot.extend_from_slice(&self.store_id.0);
        for n in [
            self.epoch.0,
            self.highest_segment,
            self.lowest_segment,
            self.checkpoint_lsn.0,
            self.durable_lsn.0,
            self.object_id_high,
        ] {
            slot.extend_from_slice(&n.to_le_bytes());
        }
        slot.extend_from_slice(&self.uidvalidity_high.to_le_bytes());
        slot.resize(CRC_AT, 0);
        let crc = slot_crc(&slot);
        slot.extend_from_slice(&crc.to_le_bytes());
        slot
    }

    fn decode(slot: &[u8]) -> Result<ControlState, Problem> {
        if slot.len() != SLOT {
            return Err(Problem::damaged("length", slot.len(), SLOT));
        }
        if slot[..8] != *MAGIC {
            return Err(Problem::damaged("magic", String::from_utf8_lossy(&slot[..8]).escape_debug(), "STORECTL"));
        }
        let (found, expected) = (u32_at(slot, CRC_AT), slot_crc(&slot[..CRC_AT]));
        if found != expected && !planted::on(Bug::ControlChecksumIgnored) {
            return Err(Problem::damaged("checksum", format_args!("{found:08x}"), format_args!("{expected:08x}")));
        }
        let version = u32_at(slot, 8);
        if version != VERSION {
            return Err(Problem::Newer(version));
        }
        let numbers = (16..88).step_by(8).filter(|at| !(24..40).contains(at)).map(|at| u64_at(slot, at));
        if let Some(large) = numbers.into_iter().find(|n| *n >= NUMBER_MAX) {
            return Err(Problem::damaged("number", large, format_args!("less than {NUMBER_MAX}")));
        }
        let mut store_id = StoreId([0; 16]);
        store_id.0.copy_from_slice(&slot[24..40]);
        Ok(ControlState {
            generation: u64_at(slot, 16),
            store_id,
            epoch: Epoch(u64_at(slot, 40)),
            highest_segment: u64_at(slot, 48),
            lowest_segment: u64_at(slot, 56),
            checkpoint_lsn: Lsn(u64_at(slot, 64)),
            durable_lsn: Lsn(u64_at(slot, 72)),
            object_id_high: u64_at(slot, 80),
            uidvalidity_high: u32_at(slot, 88),
            clean: u32_at(slot, 12) & CLEAN != 0,
        })
    }
}

/// Where the slot of a generation stands.
fn place(generation: u64) -> usize {
    if generation.is_multiple_of(2) { 0 } else { SLOT }
}

fn slot_crc(bytes: &[u8]) -> u32 {
    Crc::seeded(b"control slot").add(bytes).value()
}

enum Problem {
    Damaged { what: &'static str, found: String, expected: String },
    Newer(u32),
}

impl Problem {
    fn damaged(what: &'static str, found: impl ToString, expected: impl ToString) -> Problem {
        Problem::Damaged { what, found: found.to_string(), expected: expected.to_string() }
    }
}

/// What [`Control::load`] found.
#[derive(Debug)]
pub struct Loaded {
    /// The newest valid slot; `None` if there is no file or no valid slot.
    pub state: Option<ControlState>,
    /// True if the file exists.
    pub exists: bool,
    /// What is wrong with slots that are not valid. One bad slot beside a good one is what a crash inside a write
    /// leaves, and loses nothing.
    pub problems: Vec<StoreError>,
}

/// The control file, open for writing.
#[derive(Debug)]
pub struct Control {
    inner: Mutex<Inner>,
    /// As a person would type it.
    name: String,
}

#[derive(Debug)]
struct Inner {
    /// `None`: nothing is written.
    file: Option<Arc<dyn DiskFile>>,
    state: ControlState,
    failed: Option<String>,
}

impl Control {
    /// Reads the control file; changes nothing.
    ///
    /// # Errors
    /// If it cannot be read, or if a newer program wrote it.
    pub fn load(disk: &dyn Disk) -> Result<Loaded> {
        let name = disk.display(CONTROL_FILE);
        let bytes = match crate::disk::read_small(disk, CONTROL_FILE, 2 * SLOT as u64) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Ok(Loaded { state: None, exists: false, problems: Vec::new() });
            }
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                let problem = corrupt(&name, 0, "length", &e.to_string(), &format!("{} bytes", 2 * SLOT));
                return Ok(Loaded { state: None, exists: true, problems: vec![problem] });
            }
            Err(e) => return Err(StoreError::io("read", name, e)),
        };
        let mut loaded = Loaded { state: None, exists: true, problems: Vec::new() };
        for number in 0..2 {
            let slot = bytes.get(number * SLOT..).unwrap_or_default();
            match ControlState::decode(&slot[..slot.len().min(SLOT)]) {
                Ok(state) if loaded.state.as_ref().is_none_or(|s| s.generation < state.generation) => {
                    loaded.state = Some(state);
                }
                Ok(_) => {}
                Err(Problem::Damaged { what, found, expected }) => {
                    loaded.problems.push(corrupt(&name, (number * SLOT) as u64, what, &found, &expected));
                }
                Err(Problem::Newer(found)) => {
                    let (found, expected) = (found.to_string(), VERSION.to_string());
                    return Err(StoreError::Foreign { file: name, what: "format version", found, expected });
                }
            }
        }
        Ok(loaded)
    }

    /// Makes the control file of a new store, or replaces one that has no valid slot. A crash leaves the old file or
    /// the new one.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn create(disk: &dyn Disk, mut state: ControlState) -> Result<Control> {
        let bytes = state.file();
        state.generation += 2;
        crate::disk::replace(disk, CONTROL_FILE, &bytes)
            .map_err(|e| StoreError::io("replace", disk.display(CONTROL_FILE), e))?;
        Control::open(disk, state)
    }

    /// Opens the existing file for writing; `state` is what [`Control::load`] found.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn open(disk: &dyn Disk, state: ControlState) -> Result<Control> {
        let name = disk.display(CONTROL_FILE);
        let file = disk.open(CONTROL_FILE, Access::Write).map_err(|e| StoreError::io("open", &name, e))?;
        Ok(Control { inner: Mutex::new(Inner { file: Some(file), state, failed: None }), name })
    }

    /// The state of a store that is only looked at: every change of it is refused, and the file, if there is one, stays as it is.
    #[must_use]
    pub fn held(disk: &dyn Disk, state: ControlState) -> Control {
        let name = disk.display(CONTROL_FILE);
        Control { inner: Mutex::new(Inner { file: None, state, failed: None }), name }
    }

    /// What the file states now.
    #[must_use]
    pub fn state(&self) -> ControlState {
        self.lock().state.clone()
    }

    /// Why nothing is written any more; `None` as long as no write and no sync has failed.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.lock().failed.clone()
    }

    /// Changes the state and makes the change durable in both slots. Returns at once if nothing changed.
    ///
    /// # Errors
    /// If the file cannot be written or synced: then this value writes no more. [`StoreError::Busy`] if it is held. [`StoreError::NoSpace`] if there was no space
    /// for the write (a file system that writes elsewhere what is overwritten): the call may be repeated. The new state is in
    /// force if it stands in one slot, else the old one.
    pub fn update(&self, change: impl FnOnce(&mut ControlState)) -> Result<()> {
        self.write(change, 2)
    }

    /// Changes the state and makes the change durable in one slot: enough for what other files state too.
    ///
    /// # Errors
    /// As [`Control::update`].
    pub fn note(&self, change: impl FnOnce(&mut ControlState)) -> Result<()> {
        self.write(change, 1)
    }

    fn write(&self, change: impl FnOnce(&mut ControlState), slots: u32) -> Result<()> {
        let mut inner = self.lock();
        if let Some(cause) = &inner.failed {
            return Err(StoreError::Poisoned { cause: cause.clone() });
        }
        let mut next = inner.state.clone();
        change(&mut next);
        next.keep_high_marks(&inner.state);
        if next == inner.state {
            return Ok(());
        }
        let Some(file) = inner.file.clone() else {
            return Err(StoreError::Busy { why: "the store is held read-only".to_owned() });
        };
        for _ in 0..slots {
            next.generation += 1;
            let counted = if planted::on(Bug::ControlSlotReused) { 0 } else { next.generation };
            let written = file.write_at(place(counted) as u64, &next.encode()).map_err(|e| (is_no_space(&e), e));
            let sync = || if planted::on(Bug::ControlNotSynced) { Ok(()) } else { file.sync_data() };
            let done = written.and_then(|()| sync().map_err(|e| (false, e)));
            if let Err((no_space, e)) = done {
                let e = StoreError::io("write", &self.name, e);
                // The other slot holds what is in force, and this one is written again before it counts. What was never
                // synced was never promised; a sync that failed may have lost what it says it wrote.
                if !no_space {
                    inner.failed = Some(e.to_string());
                }
                return Err(e);
            }
            inner.state = next.clone();
        }
        Ok(())
    }

    /// A panic inside cannot leave the state half-changed: it is replaced whole.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn corrupt(file: &str, offset: u64, what: &str, found: &str, expected: &str) -> StoreError {
    StoreError::Corrupt {
        file: file.to_owned(),
        offset,
        what: format!("control slot {what}"),
        found: found.to_owned(),
        expected: expected.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Fault, Persist, SimDisk};

    #[test]
    fn golden_bytes() {
        let state = ControlState {
            generation: 3,
            store_id: StoreId([7; 16]),
            epoch: Epoch(2),
            highest_segment: 9,
            lowest_segment: 4,
            checkpoint_lsn: Lsn(100),
            durable_lsn: Lsn(120),
            uidvalidity_high: 500,
            object_id_high: 900,
            clean: true,
        };
        let slot = state.encode();
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(hex(&slot[..92]), GOLDEN_FIELDS);
        assert!(slot[92..CRC_AT].iter().all(|b| *b == 0));
        assert_eq!(hex(&slot[CRC_AT..]), GOLDEN_CRC);
        assert!(ControlState::decode(&slot).is_ok_and(|back| back == state));
    }

    // Computed by another implementation (zlib) from the page of this file.
    const GOLDEN_FIELDS: &str = concat!(
        "53544f524543544c01000000010000000300000000000000070707070707070707070707070707070200000000000000",
        "09000000000000000400000000000000640000000000000078000000000000008403000000000000f4010000",
    );
    const GOLDEN_CRC: &str = "db637a1e";

    // A checkpoint that met a full disk here stopped the log until a restart. // row 162
    #[test]
    fn a_write_without_space_is_tried_again_and_never_over_the_good_slot() {
        for (nth, fault) in [(0, Fault::NoSpace), (2, Fault::NoSpace)] {
            let disk = SimDisk::new();
            let control = Control::create(&disk, ControlState::new(StoreId([7; 16]))).unwrap();
            disk.fail_at(disk.ops() + 1 + nth, fault);
            let refused = control.update(|state| state.object_id_high = 10).unwrap_err();
            assert!(matches!(refused, StoreError::NoSpace { .. }), "{refused}");
            assert_eq!(control.failure(), None);
            let before = Control::load(&disk.image(Persist::Nothing)).unwrap().state.unwrap();
            assert_eq!(before, control.state(), "what is in force is on disk");
            control.update(|state| state.object_id_high = 20).unwrap();
            for persist in [Persist::Nothing, Persist::Everything] {
                let loaded = Control::load(&disk.image(persist)).unwrap();
                assert_eq!(loaded.state.unwrap().object_id_high, 20);
                assert!(loaded.problems.is_empty(), "both slots are whole");
            }
        }
        // A failed sync is not tried again, whatever it says.
        let disk = SimDisk::new();
        let control = Control::create(&disk, ControlState::new(StoreId([7; 16]))).unwrap();
        disk.fail_at(disk.ops() + 2, Fault::NoSpace);
        assert!(control.update(|state| state.object_id_high = 10).is_err());
        assert!(matches!(control.update(|_| ()), Err(StoreError::Poisoned { .. })));
    }

    // A slot that is being written is never the only good one, and never counts in part. The states differ in their first bytes, their last, and
    // between.
    #[test]
    fn a_crash_at_every_byte_leaves_what_was_answered() {
        let state = |nth: u64| ControlState {
            highest_segment: nth + 1,
            checkpoint_lsn: Lsn(nth * 3),
            object_id_high: nth << 20,
            uidvalidity_high: u32::try_from(nth).unwrap() << 8,
            ..ControlState::new(StoreId([7; 16]))
        };
        let same = |a: &ControlState, b: &ControlState| ControlState { generation: b.generation, ..a.clone() } == *b;
        let mut states = 0;
        for n in 1.. {
            let mut crashed = false;
            for torn in [0, 20, 60, 70, 84, 91, 600, 4094, 4096] {
                let disk = SimDisk::new();
                let control = Control::create(&disk, state(0)).unwrap();
                disk.crash_torn_at(disk.ops() + n, torn);
                let acts: [fn(&Control, ControlState) -> Result<()>; 2] = [
                    |control, state| control.update(|old| *old = ControlState { generation: old.generation, ..state }),
                    |control, state| control.note(|old| *old = ControlState { generation: old.generation, ..state }),
                ];
                let done = (1..6).find(|nth| acts[usize::from(nth % 2 == 0)](&control, state(*nth)).is_err());
                let answered = done.map_or(5, |nth| nth - 1);
                crashed |= done.is_some();
                for persist in Persist::all(n) {
                    let case = format!("crash at {n}, {torn} bytes of it, {persist:?}");
                    let found = Control::load(&disk.image(persist)).unwrap().state;
                    let found = found.unwrap_or_else(|| panic!("{case}: no slot is good"));
                    let is_legal = same(&found, &state(answered)) || done.is_some_and(|nth| same(&found, &state(nth)));
                    assert!(is_legal, "{case}: answered {answered}, found {found:?}");
                    states += 1;
                }
            }
            if !crashed {
                break;
            }
        }
        assert!(states > 500, "{states}");
    }

    #[test]
    fn a_newer_slot_is_refused_and_a_damaged_one_is_not_called_newer() {
        let mut slot = ControlState::new(StoreId([7; 16])).encode();
        slot[8] = 2;
        assert!(matches!(ControlState::decode(&slot), Err(Problem::Damaged { .. })));
        let crc = slot_crc(&slot[..CRC_AT]).to_le_bytes();
        slot[CRC_AT..].copy_from_slice(&crc);
        assert!(matches!(ControlState::decode(&slot), Err(Problem::Newer(2))));
    }
}
