//! The log file being written has its name: looked at once a second and before each checkpoint.
//!
//! Somebody may remove it, or put an older copy in its place, while it is open. Writes and syncs go on without an error then, into a file
//! that no start finds. It is held open, so nothing is lost yet: it is copied back under its name, and a checkpoint makes the database
//! durable without it. An alarm says so until the next log file is begun. Where it cannot be copied back the log has failed.

use super::Store;
use super::commit::{LogSide, try_lock};
use crate::error::StoreError;
use std::sync::MutexGuard;
use std::time::Duration;

/// Time between two looks.
pub(super) const PERIOD: Duration = Duration::from_secs(1);

impl Store {
    /// Looks, unless a group is being written just now; false then.
    pub(super) fn keep_log_named_if_idle(&self) -> bool {
        let Some(log) = try_lock(&self.log) else { return false };
        if self.keep_log_named(log) {
            self.checkpoint_soon();
        }
        true
    }

    /// Looks; true if the file had lost its name and has it again.
    pub(super) fn keep_log_named(&self, mut log: MutexGuard<'_, LogSide>) -> bool {
        let Some(writer) = log.writer.as_mut().filter(|_| self.poison.get().is_none()) else { return false };
        match writer.keep_name() {
            Ok(None) => false,
            Ok(Some(back)) => {
                let (file, set_aside) = (&back.file, back.aside.clone().unwrap_or_default());
                tracing::error!(
                    event = "log_file_put_back",
                    file,
                    set_aside,
                    "the log file being written was removed or replaced by somebody; it has its name again, and nothing of it is lost"
                );
                self.health.put_back(back);
                true
            }
            Err(e) => {
                let _ = self.poison.set(match e {
                    StoreError::Poisoned { .. } => e.clone(),
                    _ => StoreError::Poisoned { cause: e.to_string() },
                });
                tracing::error!(
                    event = "log_failed",
                    error = %e,
                    "the log file being written was removed or replaced by somebody, and cannot be put back; no more changes until a restart"
                );
                false
            }
        }
    }
}
