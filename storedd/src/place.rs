//! From a configuration to open disks: the directories of a store, made or found, and the values the store works with.

use crate::config::{Config, OnLoss};
use crate::disk::{Disk, RealDisk};
use crate::env::{Env, RealEnv};
use crate::error::{Result, StoreError, exit};
use crate::jobs::snapshots::Settings;
use crate::partition::RealRoots;
use crate::snapshot;
use crate::store::decision::Policy;
use crate::store::plan::Limits;
use crate::store::{Disks, Options};
use std::path::Path;
use std::sync::Arc;

/// The system's clock and randomness.
#[must_use]
pub fn env() -> Arc<dyn Env> {
    Arc::new(RealEnv::default())
}

/// How commands in messages name this store; see [`proto::naming`].
#[must_use]
pub fn named(config: &Config) -> String {
    proto::naming::options(config.named().iter().map(|(option, value)| (*option, value.as_str())))
}

/// The values of the configuration that the store works with.
#[must_use]
pub fn options(config: &Config) -> Options {
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    Options {
        segment_size: config.log.segment_size,
        spares: config.log.spares as usize,
        reserve: config.disk.reserve,
        seal_idle: config.log.seal_idle,
        overlay_bytes: size(config.checkpoint.overlay_bytes),
        overlay_bytes_max: size(config.checkpoint.overlay_bytes_max),
        checkpoint_interval: config.checkpoint.interval,
        checkpoint_log_bytes: config.checkpoint.log_bytes,
        replay_target: config.checkpoint.replay_target,
        database_cache: size(config.database.cache),
        reports: config.recovery.reports as usize,
        default_partition: config.store.default_partition.clone(),
        named: named(config),
        snapshot_log_bytes: config.snapshot.log_bytes,
        limits: limits(config),
        ..Options::default()
    }
}

/// The limits of the configuration; a reload changes them.
#[must_use]
pub fn limits(config: &Config) -> Limits {
    let some = |limit: u64| (limit > 0).then_some(limit);
    Limits {
        mailboxes_per_user: config.limits.mailboxes_per_user,
        default_storage: some(config.quota.default_storage),
        default_messages: some(config.quota.default_messages.into()),
    }
}

/// How a start decides.
#[must_use]
pub fn policy(config: &Config) -> Policy {
    Policy { strict: false, hold_on_loss: config.recovery.on_loss == OnLoss::Hold, accept_loss: false }
}

/// The directories of a store that must be there.
///
/// # Errors
/// 66 if there is no such directory.
pub fn open_existing(config: &Config) -> Result<Disks> {
    let open = |path: &Path| -> Result<Arc<dyn Disk>> {
        RealDisk::new(path).map(|d| Arc::new(d) as Arc<dyn Disk>).map_err(|e| {
            if e.kind() == std::io::ErrorKind::NotFound {
                StoreError::Refused {
                    message: format!("{} does not exist", path.display()),
                    hint: "name the store: --data-dir DIR or --config FILE".to_owned(),
                    exit: exit::NO_INPUT,
                }
            } else {
                StoreError::io("open", path.display().to_string(), e)
            }
        })
    };
    disks(config, open)
}

/// The directories of a store, made where they are not there.
///
/// # Errors
/// Those of the file system.
pub fn open_or_make(config: &Config) -> Result<Disks> {
    let make = |path: &Path| -> Result<Arc<dyn Disk>> {
        let fail = |e| StoreError::io("make directory", path.display().to_string(), e);
        RealDisk::create_root(path).map_err(fail)?;
        Ok(Arc::new(RealDisk::new(path).map_err(fail)?))
    };
    disks(config, make)
}

fn disks(config: &Config, open: impl Fn(&Path) -> Result<Arc<dyn Disk>>) -> Result<Disks> {
    Ok(Disks {
        data: open(&config.store.data_dir)?,
        db: open(&config.store.db_dir)?,
        log: open(&config.store.log_dir)?,
        roots: Arc::new(RealRoots),
        partitions: config.partitions.clone(),
        snapshots: snapshots(config),
    })
}

/// How the configuration wants snapshots kept; a reload changes it.
#[must_use]
pub fn snapshot_settings(config: &Config) -> Settings {
    let options = &config.snapshot;
    Settings { interval: options.interval, keep: options.keep as usize, verify: options.verify, pace: options.pace }
}

/// Where the configuration wants snapshots.
fn snapshots(config: &Config) -> snapshot::Place {
    let path = &config.snapshot.directory;
    let below = path.strip_prefix(&config.store.data_dir).ok().and_then(Path::to_str).filter(|below| !below.is_empty());
    match below {
        Some(below) => snapshot::Place::Below(below.to_owned()),
        None => snapshot::Place::At(path.clone()),
    }
}

/// Removes what only a running daemon needs: the socket and the state file.
///
/// # Errors
/// Those of the file system; a file that is not there is no error.
pub fn remove_temporary(config: &Config) -> Result<()> {
    let data = RealDisk::new(&config.store.data_dir)
        .map_err(|e| StoreError::io("open", config.store.data_dir.display().to_string(), e))?;
    for file in ["state", "mboxlist.redb.new"] {
        match data.remove(file) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(StoreError::io("remove", data.display(file), e)),
        }
    }
    crate::disk::outside::remove_socket(&config.control.socket)
        .map_err(|e| StoreError::io("remove", config.control.socket.display().to_string(), e))
}
