//! Numbers that must never be issued twice: object ids (users, mailboxes) and UIDVALIDITY.
//!
//! They are *reserved ahead*: the control file, which no rollback and no restore of the database touches, holds a
//! high-water mark per kind; a number is used only below a mark that is durable. After a crash counting goes on at the
//! mark, so a number that may have been issued and lost is never issued again (I6). The marks never
//! fall, also not at a clean stop: some numbers are never used.

use super::plan::Ids;
use crate::env::Env;
use crate::error::{Result, StoreError};
use crate::wal::Control;
use std::sync::Arc;

/// UIDVALIDITY values above this are taken over from other servers verbatim, but do not move the counter, so that one
/// odd import cannot use the numbers up.
pub(super) const UIDVALIDITY_COUNTED_MAX: u32 = 0xf000_0000;

/// How many numbers one write of the control file reserves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blocks {
    pub(crate) object_ids: u64,
    pub(crate) uidvalidities: u32,
}

/// Issues numbers; owned by the planner.
#[derive(Debug)]
pub(crate) struct IdSource {
    control: Arc<Control>,
    env: Arc<dyn Env>,
    blocks: Blocks,
    object_last: u64,
    object_high: u64,
    uidvalidity_last: u32,
    uidvalidity_high: u32,
}

impl IdSource {
    /// Goes on above the marks of the control file.
    pub(crate) fn new(control: Arc<Control>, env: Arc<dyn Env>, blocks: Blocks) -> IdSource {
        let state = control.state();
        IdSource {
            control,
            env,
            blocks,
            object_last: state.object_id_high,
            object_high: state.object_id_high,
            uidvalidity_last: state.uidvalidity_high,
            uidvalidity_high: state.uidvalidity_high,
        }
    }

    fn reserve_uidvalidity(&mut self, value: u32) -> Result<()> {
        if value > self.uidvalidity_high {
            let high = value.saturating_add(self.blocks.uidvalidities);
            if !crate::planted::on(crate::planted::Bug::ControlNotReservedAhead) {
                self.control.update(|state| state.uidvalidity_high = state.uidvalidity_high.max(high))?;
            }
            self.uidvalidity_high = high;
        }
        Ok(())
    }
}

impl Ids for IdSource {
    fn next_object_id(&mut self) -> Result<u64> {
        let id = self.object_last + 1;
        if id > self.object_high {
            let high = id + self.blocks.object_ids;
            if !crate::planted::on(crate::planted::Bug::ControlNotReservedAhead) {
                self.control.update(|state| state.object_id_high = state.object_id_high.max(high))?;
            }
            self.object_high = high;
        }
        self.object_last = id;
        Ok(id)
    }

    fn note_object_id(&mut self, used: u64) -> Result<()> {
        if used > self.object_last {
            if used > self.object_high {
                let high = used.saturating_add(self.blocks.object_ids);
                self.control.update(|state| state.object_id_high = state.object_id_high.max(high))?;
                self.object_high = high;
            }
            self.object_last = used;
        }
        Ok(())
    }

    fn next_uidvalidity(&mut self, above: u32) -> Result<u32> {
        let now = u32::try_from(self.env.now().0 / 1_000_000).unwrap_or(UIDVALIDITY_COUNTED_MAX);
        let counted = self.uidvalidity_last.saturating_add(1).max(now.min(UIDVALIDITY_COUNTED_MAX));
        let value = counted.max(above.checked_add(1).ok_or_else(used_up)?);
        if value == u32::MAX {
            return Err(used_up());
        }
        if value <= UIDVALIDITY_COUNTED_MAX || counted == value {
            self.reserve_uidvalidity(value)?;
            self.uidvalidity_last = value;
        }
        Ok(value)
    }

    fn note_uidvalidity(&mut self, used: u32) -> Result<()> {
        if used > self.uidvalidity_last && used <= UIDVALIDITY_COUNTED_MAX {
            self.reserve_uidvalidity(used)?;
            self.uidvalidity_last = used;
        }
        Ok(())
    }
}

fn used_up() -> StoreError {
    StoreError::Refused {
        message: "UIDVALIDITY is used up for this name: it is 32 bits and may never repeat".to_owned(),
        hint: "use another mailbox name".to_owned(),
        exit: crate::error::exit::EXISTS,
    }
}
