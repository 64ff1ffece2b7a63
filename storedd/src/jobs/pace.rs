//! Work that leaves room for others, and can be ended.

use super::registry::Context;
use crate::db;
use crate::error::{Result, StoreError};
use std::sync::Arc;
use std::time::Duration;

/// How fast a job writes, and whether it is to end.
#[derive(Debug, Clone)]
pub struct Pace {
    bytes_per_second: u64,
    context: Context,
}

impl Pace {
    /// No more than so many bytes in a second, until the job is to end.
    #[must_use]
    pub fn new(bytes_per_second: u64, context: &Context) -> Pace {
        Pace { bytes_per_second: bytes_per_second.max(1), context: context.clone() }
    }

    /// True if the job is to end.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.context.cancelled()
    }

    /// Sleeps for as long as so many bytes may take.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if the job is to end.
    pub fn step(&self, bytes: u64) -> Result<()> {
        match self.context.sleep(Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64)) {
            true => Err(StoreError::Busy { why: "it was ended".to_owned() }),
            false => Ok(()),
        }
    }

    /// The same for a database that is written.
    #[must_use]
    pub fn database(&self, cache_bytes: usize) -> db::Options {
        let pace = self.clone();
        db::Options { cache_bytes, pace: Some(Arc::new(move |bytes| pace.step(bytes).is_ok())) }
    }
}
