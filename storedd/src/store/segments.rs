//! The segments of the log as those see them who keep them: which are there, and why each is kept.

use super::Store;
use super::commit::lock;
use crate::error::Result;
use crate::lsn::Lsn;
use crate::wal;
use std::sync::atomic::Ordering;

/// Most reasons beyond recovery that one segment shows.
const REASONS_MAX: usize = 4;

/// A retired log segment, by file name.
pub type Retired = String;

/// One line of `log list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentLine {
    /// What the log says of it.
    pub segment: wal::SegmentInfo,
    /// Records are appended to it.
    pub active: bool,
    /// LSN of its last record so far; `None` while it is empty.
    pub last_lsn: Option<Lsn>,
    /// Why it is kept; empty: it may be removed.
    pub kept_for: Vec<String>,
}

impl Store {
    /// Retires the log segments that nothing needs any more (I4).
    pub(super) fn retire(&self, checkpoint: Lsn) -> Result<Vec<Retired>> {
        let Some(running) = &self.running else { return Ok(Vec::new()) };
        let segments = running.segments.list();
        self.holds.settle(&segments);
        let held = self.held(&segments);
        let upto = held.first().map_or(checkpoint, |oldest| oldest.lsn.min(checkpoint));
        let lacking = self.partitions.needs_log();
        assert!(lacking.iter().all(|(_, at)| upto <= at.lsn), "I4: the log is all that a partition that is behind has");
        self.judge_lagging();
        let retired = running.segments.retire(upto)?;
        self.holds.went(&segments, &retired);
        if !retired.is_empty() {
            self.last_retired.store(self.env.now().0, Ordering::Release);
        }
        Ok(retired)
    }

    /// The segments of the log, oldest first, each with the reasons why it is kept.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentLine> {
        let Some(running) = &self.running else { return Vec::new() };
        let checkpoint = self.checkpoint_lsn();
        let published = self.published_lsn();
        let list = running.segments.list();
        let held = self.held(&list);
        list.into_iter()
            .map(|segment| {
                let active = segment.last_lsn.is_none();
                let last_lsn = segment.last_lsn.or((published >= segment.first_lsn).then_some(published));
                let mut kept_for = Vec::new();
                if active {
                    kept_for.push("active: records are appended to it".to_owned());
                }
                if last_lsn.is_some_and(|last| last > checkpoint) {
                    kept_for.push(format!("recovery: holds records after checkpoint LSN {checkpoint}"));
                }
                let wants = held.iter().filter(|hold| last_lsn.is_some_and(|last| last > hold.lsn));
                kept_for.extend(wants.take(REASONS_MAX).map(|hold| hold.why.clone()));
                SegmentLine { segment, active, last_lsn, kept_for }
            })
            .collect()
    }

    /// Gives up the segments that nothing needs any more, now and not with the next checkpoint; gives their names.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn clean_log(&self) -> Result<Vec<Retired>> {
        let _db = lock(&self.db);
        self.retire(self.checkpoint_lsn())
    }

    /// How many segments the log has.
    #[must_use]
    pub fn segment_count(&self) -> u64 {
        self.running.as_ref().map_or(0, |r| r.segments.list().len() as u64)
    }

    /// One step of preparing empty segments; true if there may be more to do. Takes as long as writing one.
    ///
    /// # Errors
    /// If the log's disk is full or fails; commits go on while the current segment has room.
    pub fn prepare_spares(&self) -> Result<bool> {
        self.running.as_ref().map_or(Ok(false), |r| r.spares.prepare())
    }
}
