//! A store that is made for a drill and removed after it. It touches nothing but its own directory.

use crate::disk::{Below, Disk, Kind};
use crate::env::Env;
use crate::error::{Result, StoreError};
use crate::jobs::registry::Context;
use crate::partition::Roots;
use crate::snapshot::DB_FILE;
use crate::store::decision::Policy;
use crate::store::{self, Disks, Marker, Options, Report, Store};
use crate::wal::{Control, ControlState};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The directory of the store in the one for drills.
const STORE_DIR: &str = "store";
/// That of its database and log.
const FILES_DIR: &str = "mboxlist";
/// Deepest directory that is removed.
const DEPTH_MAX: u32 = 8;

/// No partition is ever opened: what lies there belongs to the live store.
#[derive(Debug)]
struct NoRoots;

impl Roots for NoRoots {
    fn open(&self, _path: &Path) -> io::Result<Arc<dyn Disk>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn make(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        self.open(path)
    }
}

/// The place of a store that is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    disk: Arc<dyn Disk>,
}

impl Scratch {
    /// Makes the directories in the root of `disk`, and removes what a drill that was broken off has left there.
    ///
    /// # Errors
    /// Those of the disk.
    pub(super) fn make(disk: Arc<dyn Disk>) -> Result<Scratch> {
        let scratch = Scratch { disk };
        scratch.clear()?;
        for dir in [STORE_DIR.to_owned(), format!("{STORE_DIR}/{FILES_DIR}")] {
            scratch.disk.create_dir(&dir).map_err(|e| StoreError::io("create", scratch.disk.display(&dir), e))?;
        }
        Ok(scratch)
    }

    fn clear(&self) -> Result<()> {
        let there = self.disk.stat(STORE_DIR).map_err(|e| StoreError::io("stat", self.disk.display(STORE_DIR), e))?;
        match there {
            Some(_) => remove_tree(&*self.disk, STORE_DIR, DEPTH_MAX),
            None => Ok(()),
        }
    }

    /// Where database and log go.
    pub(super) fn files(&self) -> Arc<dyn Disk> {
        Arc::new(Below::new(self.disk.clone(), format!("{STORE_DIR}/{FILES_DIR}")))
    }

    fn data(&self) -> Arc<dyn Disk> {
        Arc::new(Below::new(self.disk.clone(), STORE_DIR))
    }

    /// The database's path as a person would type it.
    pub(super) fn database(&self) -> String {
        self.files().display(DB_FILE)
    }

    /// Starts the store as a recovery by hand does: nothing is worked around. Rests while the job is to.
    ///
    /// # Errors
    /// What a recovery is refused for; those of the disk.
    pub(super) fn open(
        &self,
        marker: &Marker,
        control: &ControlState,
        env: Arc<dyn Env>,
        context: &Context,
    ) -> Result<(Arc<Store>, Report)> {
        let (data, files) = (self.data(), self.files());
        let (name, bytes) = marker.file();
        crate::disk::replace(&*data, name, &bytes).map_err(|e| StoreError::io("write", data.display(name), e))?;
        drop(Control::create(&*data, control.clone())?);
        let (partitions, snapshots) = (BTreeMap::new(), Default::default());
        let disks = Disks { data, db: files.clone(), log: files, roots: Arc::new(NoRoots), partitions, snapshots };
        let options = Options {
            segment_size: 1 << 20,
            spares: 0,
            overlay_bytes: 32 << 20,
            overlay_bytes_max: 64 << 20,
            database_cache: 32 << 20,
            snapshot_log_bytes: 0,
            ..Options::default()
        };
        let policy = Policy { strict: true, catastrophic: false, hold_on_loss: false, accept_loss: false };
        let lock = store::take_lock(&disks)?;
        // What this start says is said of no store that anybody knows.
        let quiet = tracing::subscriber::NoSubscriber::default();
        tracing::subscriber::with_default(quiet, || {
            // A start has no way to end before it is there; it waits while the store is held still.
            let go_on = context.going_on();
            let progress: store::OnProgress = Arc::new(move |_| _ = go_on());
            store::open(disks, env, options, lock, policy, &progress)
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(e) = self.clear() {
            tracing::warn!(event = "drill_not_removed", error = %e, "the next drill removes it");
        }
    }
}

/// Removes a directory and what is in it; of a symbolic link only the link.
fn remove_tree(disk: &dyn Disk, dir: &str, depth: u32) -> Result<()> {
    let fail = |op, path: &str, e| StoreError::io(op, disk.display(path), e);
    for entry in disk.list(dir).map_err(|e| fail("list", dir, e))? {
        let path = format!("{dir}/{}", entry.name);
        match entry.kind {
            Kind::Dir if depth > 0 => remove_tree(disk, &path, depth - 1)?,
            _ => disk.remove(&path).map_err(|e| fail("remove", &path, e))?,
        }
    }
    disk.remove_dir(dir).map_err(|e| fail("remove", dir, e))
}
