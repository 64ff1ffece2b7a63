//! From a configuration to open disks: the directories of a store, made or found, and the values the store works with.

use crate::config::{Config, OnLoss};
use crate::disk::{Disk, RealDisk, outside};
use crate::env::{Env, RealEnv};
use crate::error::{Result, StoreError, exit};
use crate::jobs::restore::{self, Spot, Target};
use crate::jobs::snapshots::Settings;
use crate::jobs::{archive, backups, drill, expire, scrub};
use crate::partition::RealRoots;
use crate::site::Site;
use crate::snapshot::{self, Backup};
use crate::store::decision::Policy;
use crate::store::plan::Limits;
use crate::store::{self, Disks, Options};
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
        group_wait: config.log.group_wait,
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
        partition_log_bytes: config.log.partition_bytes,
        archive_log_bytes: archive_settings(config).path.map(|_| config.archive.log_bytes),
        archive: archive_settings(config).path,
        limits: limits(config),
        inline_limit: size(config.mail.inline_limit),
        index_cache: size(config.mail.index_cache),
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
        grace: config.quota.grace,
    }
}

/// How a start decides.
#[must_use]
pub fn policy(config: &Config) -> Policy {
    Policy { hold_on_loss: config.recovery.on_loss == OnLoss::Hold, ..Policy::default() }
}

/// The directories of a store that must be there.
///
/// # Errors
/// 66 if there is no such directory; 75 while a restore waits to be finished, see [`finish_restore`], or has to begin again.
pub fn open_existing(config: &Config) -> Result<Disks> {
    if let Ok(data) = RealDisk::new(&config.store.data_dir)
        && restore::is_pending(&data)?
    {
        return Err(StoreError::Refused {
            message: format!("a restore into {} was broken off", config.store.data_dir.display()),
            hint: "finish it: storedd recover".to_owned(),
            exit: exit::BUSY,
        });
    }
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
/// 75 where a restore was broken off before there was a store; those of the file system.
pub fn open_or_make(config: &Config) -> Result<Disks> {
    let make = |path: &Path| -> Result<Arc<dyn Disk>> {
        let fail = |e| StoreError::io("make directory", path.display().to_string(), e);
        RealDisk::create_root(path).map_err(fail)?;
        Ok(Arc::new(RealDisk::new(path).map_err(fail)?))
    };
    disks(config, make)
}

fn disks(config: &Config, open: impl Fn(&Path) -> Result<Arc<dyn Disk>>) -> Result<Disks> {
    let open = |path: &Path| open(path).and_then(|disk| expect_private(path).map(|()| disk));
    let data = open(&config.store.data_dir)?;
    expect_no_half_restore(config, &*data)?;
    Ok(Disks {
        data,
        db: open(&config.store.db_dir)?,
        log: open(&config.store.log_dir)?,
        roots: Arc::new(RealRoots),
        partitions: config.partitions.clone(),
        snapshots: snapshots(config),
    })
}

/// Where a restore was broken off before there was a store, nobody makes one, and nothing is done with what lies there: the same command begins again.
fn expect_no_half_restore(config: &Config, data: &dyn Disk) -> Result<()> {
    let Some(backup) = restore::begun(data)?.filter(|_| !restore::is_pending(data).unwrap_or(false)) else {
        return Ok(());
    };
    let backup = if backup.is_empty() { "BACKUP".to_owned() } else { proto::naming::quoted(&backup) };
    Err(StoreError::Refused {
        message: format!(
            "a restore into {} was broken off, and there is no store yet",
            config.store.data_dir.display()
        ),
        hint: format!("begin it again: storectl restore-db --yes {backup}"),
        exit: exit::BUSY,
    })
}

/// Whoever may write to a directory of the store may exchange what is in it.
fn expect_private(path: &Path) -> Result<()> {
    let stat = rustix::fs::stat(path).map_err(|e| StoreError::io("stat", path.display().to_string(), e.into()))?;
    let user = rustix::process::geteuid().as_raw();
    let (is_ours, is_wide) = (user == 0 || [0, user].contains(&stat.st_uid), stat.st_mode & 0o022 != 0);
    if is_ours && !is_wide {
        return Ok(());
    }
    let shown = path.display();
    Err(StoreError::Refused {
        message: format!(
            "{shown}: mode {:04o}, owner {}; expected to be writable by its owner alone, who is user {user} or root",
            stat.st_mode & 0o7777,
            stat.st_uid
        ),
        hint: if is_ours { format!("chmod go-w {shown}") } else { format!("chown -R {user} {shown}") },
        exit: exit::NOT_PERMITTED,
    })
}

/// The places that a restore changes; nothing is made.
///
/// # Errors
/// 78 where the directories lie so that they cannot be exchanged; those of the file system.
pub fn restore_target(config: &Config) -> Result<Target> {
    let open = |path: &Path| -> Result<Arc<dyn Disk>> {
        let opened = RealDisk::new(path).map_err(|e| StoreError::io("open", path.display().to_string(), e))?;
        Ok(Arc::new(opened))
    };
    let data = outside::resolved(&config.store.data_dir);
    let [db, log] = [&config.store.db_dir, &config.store.log_dir].map(|path| outside::resolved(path));
    let nested = db != log && (db.starts_with(&log) || log.starts_with(&db));
    if nested || data.starts_with(&db) || data.starts_with(&log) {
        return Err(cannot_exchange(format!(
            "{} and {} lie in each other, or around the data directory",
            db.display(),
            log.display()
        )));
    }
    let spot = |path: &Path| -> Result<Spot> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
            return Err(cannot_exchange(format!("{} has no name that could be changed", path.display())));
        };
        let parent = open(parent)?;
        let fail = |e| StoreError::io("stat", path.display().to_string(), e);
        if outside::exists(path) && open(path)?.space().map_err(fail)?.id != parent.space().map_err(fail)?.id {
            return Err(cannot_exchange(format!("{} is a mount point", path.display())));
        }
        Ok(Spot { parent, name: name.to_owned() })
    };
    Ok(Target { data: open(&data)?, db: spot(&db)?, log: if db == log { None } else { Some(spot(&log)?) } })
}

fn cannot_exchange(what: String) -> StoreError {
    StoreError::Refused {
        message: format!("{what}: a restore gives directories other names"),
        hint: "set store.db_dir and store.log_dir to two directories of their own, each below its mount point"
            .to_owned(),
        exit: exit::CONFIG,
    }
}

/// Finishes a restore that was broken off when there was only a way forward; called by everything that opens a store to change it, and
/// before the directories are opened.
///
/// # Errors
/// 75 while another process has the store; those of the file system.
pub fn finish_restore(config: &Config) -> Result<()> {
    let Ok(data) = RealDisk::new(&config.store.data_dir) else { return Ok(()) };
    if !restore::is_pending(&data)? {
        return Ok(());
    }
    let data: Arc<dyn Disk> = Arc::new(data);
    let _lock = store::take_lock_in(&*data)?;
    if restore::finish(&restore_target(config)?)? {
        tracing::warn!(event = "restore_finished", "a restore had been broken off; it was finished");
    }
    Ok(())
}

/// Where a backup lies.
///
/// # Errors
/// 66 if there is no such directory.
pub fn backup(path: &Path) -> Result<Backup> {
    let path = outside::resolved(path);
    let disk = RealDisk::new(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => StoreError::Refused {
            message: format!("{} does not exist", path.display()),
            hint: "name the directory that storectl backup-db made: MSDB_Backup_...".to_owned(),
            exit: exit::NO_INPUT,
        },
        _ => StoreError::io("open", path.display().to_string(), e),
    })?;
    Ok(Backup::at(Arc::new(disk), ""))
}

/// How the configuration wants snapshots kept; a reload changes it.
#[must_use]
pub fn snapshot_settings(config: &Config) -> Settings {
    let options = &config.snapshot;
    Settings { interval: options.interval, keep: options.keep as usize, verify: options.verify, pace: options.pace }
}

/// How the configuration wants backups taken; a reload changes it.
#[must_use]
pub fn backup_settings(config: &Config) -> backups::Settings {
    let options = &config.backup;
    backups::Settings {
        directory: Some(options.directory.clone()).filter(|dir| !dir.as_os_str().is_empty()),
        interval: options.interval,
        keep: options.keep as usize,
        pace: options.pace,
        log_bytes: options.log_bytes,
        keep_free: config.disk.bulk_reserve,
        config: config.render(),
    }
}

/// How the configuration wants the log archived; a reload changes it.
#[must_use]
pub fn archive_settings(config: &Config) -> archive::Settings {
    let options = &config.archive;
    let path = (!options.path.as_os_str().is_empty()).then(|| options.path.clone());
    archive::Settings { path, pace: options.pace, log_bytes: options.log_bytes }
}

/// How the configuration wants drills made; a reload changes it.
#[must_use]
pub fn drill_settings(config: &Config) -> drill::Settings {
    let some = |path: &Path| (!path.as_os_str().is_empty()).then(|| path.to_path_buf());
    drill::Settings {
        directory: some(&config.drill.directory),
        interval: config.drill.interval,
        pace: config.drill.pace,
        log_bytes: config.backup.log_bytes,
        keep_free: config.disk.bulk_reserve,
        backups: some(&config.backup.directory),
        archive: archive_settings(config).path,
    }
}

/// How the configuration wants messages aged; a reload changes it.
#[must_use]
pub fn ageing_settings(config: &Config) -> expire::Settings {
    let options = &config.ageing;
    expire::Settings {
        rules: config.expire.clone(),
        start: options.start.after_midnight(),
        pace: u64::from(options.pace),
        cleanup_age: options.cleanup_age,
        purge_interval: options.purge_interval,
        peruser_interval: config.mail.peruser_interval,
    }
}

/// How the configuration wants the store scrubbed; a reload changes it.
#[must_use]
pub fn scrub_settings(config: &Config) -> scrub::Settings {
    scrub::Settings { interval: config.scrub.interval, pace: config.scrub.pace }
}

/// Refuses a place for backups inside a directory that belongs to the store alone.
///
/// # Errors
/// 65, with the directory it lies in.
pub fn expect_outside(config: &Config, dir: &Path) -> Result<()> {
    let store = &config.store;
    let own = [("the database", &store.db_dir), ("the log", &store.log_dir), ("snapshots", &config.snapshot.directory)];
    let own = own.map(|(what, path)| (what, path.as_path()));
    let partitions = config.partitions.values().flat_map(Site::roots).map(|path| ("a partition", path));
    let dir = outside::resolved(dir);
    for (what, path) in own.into_iter().chain(partitions) {
        let path = outside::resolved(path);
        if dir.starts_with(&path) || dir == outside::resolved(&store.data_dir) {
            return Err(StoreError::Refused {
                message: format!("{} lies in the store itself, in the directory of {what}", dir.display()),
                hint: "name a directory on another disk: storectl backup-db /media/backup".to_owned(),
                exit: exit::BAD_INPUT,
            });
        }
    }
    Ok(())
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

/// Removes what only a running daemon needs: the socket, the state file, and a database that was not finished.
///
/// # Errors
/// Those of the file system; a file that is not there is no error.
pub fn remove_temporary(config: &Config) -> Result<()> {
    for (dir, file) in [(&config.store.data_dir, "state"), (&config.store.db_dir, "mboxlist.redb.new")] {
        let disk = RealDisk::new(dir).map_err(|e| StoreError::io("open", dir.display().to_string(), e))?;
        match disk.remove(file) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(StoreError::io("remove", disk.display(file), e)),
        }
    }
    crate::disk::outside::remove_socket(&config.control.socket)
        .map_err(|e| StoreError::io("remove", config.control.socket.display().to_string(), e))
}
