//! Everything that copies a store to somewhere else, and what is known of it without looking.

use super::archive::{self, Archiver};
use super::backups::Backups;
use super::drill::Driller;
use crate::env::Env;
use crate::error::Result;
use crate::lsn::Micros;
use crate::store::{Marker, Store};
use std::sync::Arc;

/// Those who copy.
#[derive(Debug)]
pub struct Copies {
    /// Backups.
    pub backups: Arc<Backups>,
    /// Drills.
    pub driller: Driller,
    /// The log archive.
    pub archiver: Arc<Archiver>,
    created: Micros,
}

/// What is known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Known {
    /// When the store was made.
    pub created: Micros,
    /// When the newest backup was taken.
    pub backup: Option<Micros>,
    /// When the newest backup was taken that has all mail.
    pub mail_backup: Option<Micros>,
    /// Why the last backup failed.
    pub backup_failure: Option<String>,
    /// When the last good drill was made.
    pub drill: Option<Micros>,
    /// What the last drill came to: whether it was good, seconds that would have been lost, seconds to restore.
    pub drilled: Option<(bool, f64, f64)>,
    /// The first thing that the last drill found.
    pub drill_problem: Option<String>,
    /// The archive.
    pub archive: archive::State,
}

impl Copies {
    /// Copies of `store`.
    ///
    /// # Errors
    /// If its marker, or what earlier drills have left, cannot be read.
    pub fn new(store: &Arc<Store>, env: &Arc<dyn Env>) -> Result<Copies> {
        let created = Marker::read(&*store.disks().data)?.map_or(Micros(0), |marker| marker.created);
        let backups = Arc::new(Backups::new(store.clone(), env.clone())?);
        let driller = Driller::new(store.clone(), backups.clone(), env.clone())?;
        Ok(Copies { backups, driller, archiver: Arc::new(Archiver::new(store, env.clone())), created })
    }

    /// What is known without looking at a disk.
    #[must_use]
    pub fn known(&self) -> Known {
        let (backup, (last, good)) = (self.backups.last(), self.driller.last());
        let problem = last.as_ref().and_then(|drilled| drilled.problems.first());
        Known {
            created: self.created,
            backup: self.backups.newest(),
            mail_backup: self.backups.newest_of_mail(),
            backup_failure: backup.failure,
            drill: good,
            drill_problem: problem.map(|p| format!("{}: {}", p.file, p.what)),
            drilled: last.map(|drilled| (drilled.good, drilled.rpo, drilled.rto)),
            archive: self.archiver.state(),
        }
    }
}
