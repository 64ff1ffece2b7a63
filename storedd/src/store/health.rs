//! How the store is doing, for those who watch it: answered from memory, also while a disk does not answer.

use super::Store;
use super::commit::lock;
use crate::error::StoreError;
use crate::wal::PutBack;
use std::sync::Mutex;
use std::time::Duration;

/// How checkpoints go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckpointHealth {
    /// One has been running for so long.
    pub running: Option<Duration>,
    /// Failures since the last one that succeeded.
    pub failures: u64,
    /// Why the last one failed, if it did.
    pub error: Option<String>,
}

#[derive(Debug, Default)]
struct Seen {
    begun: Option<Duration>,
    failures: u64,
    error: Option<String>,
    put_back: Option<PutBack>,
}

/// What checkpoints and looks at the log leave for those who watch.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<Seen>);

/// A checkpoint is running until this is dropped.
pub(super) struct Running<'a>(&'a Health);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        lock(&self.0.0).begun = None;
    }
}

impl Health {
    pub(super) fn begin(&self, now: Duration) -> Running<'_> {
        lock(&self.0).begun = Some(now);
        Running(self)
    }

    pub(super) fn done(&self) {
        let mut seen = lock(&self.0);
        (seen.failures, seen.error) = (0, None);
    }

    pub(super) fn put_back(&self, back: PutBack) {
        lock(&self.0).put_back = Some(back);
    }

    pub(super) fn failed(&self, e: &StoreError) {
        let mut seen = lock(&self.0);
        seen.failures += 1;
        seen.error = Some(e.to_string());
    }
}

impl Store {
    /// How checkpoints go.
    #[must_use]
    pub fn checkpoint_health(&self) -> CheckpointHealth {
        let seen = lock(&self.health.0);
        CheckpointHealth {
            running: seen.begun.map(|begun| self.env.uptime().saturating_sub(begun)),
            failures: seen.failures,
            error: seen.error.clone(),
        }
    }

    /// The log file being written, if somebody removed or replaced it and it was put back; `None` as soon as another one is being written.
    #[must_use]
    pub fn log_put_back(&self) -> Option<PutBack> {
        let back = lock(&self.health.0).put_back.clone()?;
        let segments = self.running.as_ref()?.segments.list();
        let mut written = segments.iter().filter(|segment| segment.last_lsn.is_none());
        written.any(|segment| self.disks.log.display(&segment.file) == back.file).then_some(back)
    }

    /// Empty log segments made ahead that nobody was promised.
    #[must_use]
    pub fn spares(&self) -> usize {
        self.running.as_ref().map_or(0, |running| running.spares.ready())
    }

    /// How long the oldest change has been waiting for its answer; `None` if none waits.
    #[must_use]
    pub fn oldest_wait(&self) -> Option<Duration> {
        let oldest = lock(&self.queue).oldest();
        oldest.map(|since| self.env.uptime().saturating_sub(since))
    }
}
