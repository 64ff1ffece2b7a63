//! The store standing still: everything on disk, and nothing written, while somebody takes a picture of the disks.

use super::Store;
use super::commit::lock;
use super::view::View;
use crate::error::{Result, StoreError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set while the store stands still.
struct Still<'a>(&'a AtomicBool);

impl Drop for Still<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Store {
    /// Seals the log, makes a checkpoint, and calls `during` with everything that writes held still: planner, log,
    /// database, empty segments. Reads go on; commands wait in the queue. A copy of the directories made meanwhile has
    /// nothing to replay, as long as no command came between the checkpoint and the call: keep them away before.
    ///
    /// # Errors
    /// As [`Store::seal`] and [`Store::checkpoint`]; `during` is not called then.
    pub fn stand_still(&self, during: impl FnOnce()) -> Result<()> {
        if !self.hold {
            self.seal()?;
            self.checkpoint()?;
        }
        // In the order in which a checkpoint and a commit take them.
        let _db = lock(&self.db);
        let _planner = lock(&self.planner);
        let _log = lock(&self.log);
        let _spares = self.running.as_ref().map(|running| running.spares.pause());
        if let Some(poison) = self.poison.get() {
            return Err(poison.clone());
        }
        self.still.store(true, Ordering::Release);
        let _still = Still(&self.still);
        during();
        Ok(())
    }

    /// Calls `during` with the newest view while nobody writes to partitions: no checkpoint, no repair. Commits and reads go on. What lies in
    /// partitions then is of the view's database, and what came later is in the log or staged.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if a checkpoint was left unfinished by a failure; that of `during`.
    pub fn at_rest<T>(&self, during: impl FnOnce(Arc<View>) -> Result<T>) -> Result<T> {
        let _db = lock(&self.db);
        if let Some(poison) = self.poison.get() {
            return Err(poison.clone());
        }
        if self.checkpointing() {
            return Err(StoreError::Busy { why: "the last checkpoint failed; see storectl status".to_owned() });
        }
        during(Arc::new(self.view()))
    }

    /// True while it stands still because somebody asked for it.
    #[must_use]
    pub fn is_still(&self) -> bool {
        self.still.load(Ordering::Acquire)
    }
}
