//! A database takes the place of another.
//!
//! # Operation
//! What comes is made beside it under another name, whole and durable; then what was there goes to `removed/`, and the new one gets
//! its name. A crash leaves the old one, or none, or the new one: in each case the next start decides the same again.
//!
//! # Invariants
//! * A database that was found bad is never deleted to make room for another: it stays in `removed/` for a week at least.
//! * A snapshot is only read.

use super::Disks;
use super::fallback::Chosen;
use super::look::{OnProgress, Progress};
use super::recovery::DB_FILE;
use crate::db::{self, Db};
use crate::disk::{Access, DiskFile};
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn, Micros, StoreId};
use crate::planted::{self, Bug};
use crate::snapshot;
use std::io;

/// Databases that were set aside, below the database directory.
pub(super) const REMOVED: &str = "removed";
/// One that is older is removed when another one comes.
const KEPT: Micros = Micros(7 * 24 * 3600 * 1_000_000);
/// So many younger ones are kept; the newest of more than that gives way: what broke first tells most.
const KEPT_MAX: usize = 8;
/// Bytes copied at once.
const STEP: u64 = 1 << 20;

/// What was set aside, as a person would type it.
pub(super) type Aside = Option<String>;

/// Puts an empty database in place of what is there.
pub(super) fn with_nothing(disks: &Disks, store: StoreId, now: Micros, options: db::Options) -> Result<(Db, Aside)> {
    let aside = put_aside(disks, now)?;
    Db::create(&disks.db, DB_FILE, store, Epoch(0), Lsn::ZERO)?;
    Ok((Db::open(&disks.db, DB_FILE, options)?, aside))
}

/// Puts a copy of a snapshot in place of what is there. Each page is later compared with what it was when the snapshot was looked at.
pub(super) fn with_snapshot(
    disks: &Disks,
    chosen: &Chosen,
    now: Micros,
    options: db::Options,
    progress: &OnProgress,
) -> Result<(Db, Aside)> {
    let candidate = format!("{DB_FILE}.new");
    let fail = |op, e| StoreError::io(op, disks.db.display(&candidate), e);
    remove_if_there(disks, &candidate)?;
    if chosen.examined.meta.is_older() {
        return with_older(disks, chosen, &candidate, now, options);
    }
    let to = disks.db.open(&candidate, Access::CreateNew).map_err(|e| fail("create", e))?;
    if let Err(e) = copy(chosen, &*to, progress).and_then(|()| to.sync_data().map_err(|e| fail("sync", e))) {
        // Best effort: half a copy only takes room, and the next start removes it first of all.
        let _ = disks.db.remove(&candidate);
        return Err(e);
    }
    let aside = put_aside(disks, now)?;
    disks.db.rename(&candidate, DB_FILE).map_err(|e| fail("rename", e))?;
    disks.db.sync_dir("").map_err(|e| fail("sync the directory of", e))?;
    Ok((chosen.examined.open(&disks.db, DB_FILE, options)?, aside))
}

/// The same of a snapshot of an older schema, which becomes one of this program's: what puts it in place of a bad database is a start,
/// and a start that cannot go on with it would be of no use. The snapshot stays what it is.
fn with_older(
    disks: &Disks,
    chosen: &Chosen,
    candidate: &str,
    now: Micros,
    options: db::Options,
) -> Result<(Db, Aside)> {
    let (from, path) = (chosen.shelf.disk(), chosen.shelf.path(&chosen.id, snapshot::DB_FILE));
    let source = chosen.examined.open_to_read(from, &path, options.clone())?;
    let schema = db::SCHEMA_VERSION;
    db::convert(&source.reader()?, schema, &disks.db, candidate, options.clone(), &mut |_| true)?;
    let examined = Db::examine_for_open(&disks.db, candidate, Some(chosen.manifest.store_id), None)?;
    tracing::info!(event = "snapshot_upgraded", id = chosen.id, from = chosen.manifest.schema, to = schema);
    let aside = put_aside(disks, now)?;
    disks.db.rename(candidate, DB_FILE).map_err(|e| StoreError::io("rename", disks.db.display(candidate), e))?;
    disks.db.sync_dir("").map_err(|e| StoreError::io("sync the directory of", disks.db.display(DB_FILE), e))?;
    Ok((examined.open(&disks.db, DB_FILE, options)?, aside))
}

fn copy(chosen: &Chosen, to: &dyn DiskFile, progress: &OnProgress) -> Result<()> {
    let disk = chosen.shelf.disk();
    let path = chosen.shelf.path(&chosen.id, snapshot::DB_FILE);
    let fail = |op, e| StoreError::io(op, disk.display(&path), e);
    let from = disk.open(&path, Access::Read).map_err(|e| fail("open", e))?;
    let bytes = from.len().map_err(|e| fail("length of", e))?;
    let mut buffer = vec![0; usize::try_from(STEP.min(bytes)).unwrap_or(0)];
    let mut at = 0;
    while at < bytes {
        let part = &mut buffer[..usize::try_from(STEP.min(bytes - at)).unwrap_or(0)];
        from.read_at(at, part).map_err(|e| fail("read", e))?;
        to.write_at(at, part).map_err(|e| fail("write a copy of", e))?;
        at += part.len() as u64;
        progress(Progress::of("copy", at as f64 / bytes as f64));
    }
    Ok(())
}

fn remove_if_there(disks: &Disks, file: &str) -> Result<()> {
    match disks.db.remove(file) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", disks.db.display(file), e)),
        _ => Ok(()),
    }
}

/// Moves the live database, if there is one, to `removed/`; gives its new name. What lies there for longer than a week goes.
fn put_aside(disks: &Disks, now: Micros) -> Result<Aside> {
    let fail = |op, e| StoreError::io(op, disks.db.display(REMOVED), e);
    if disks.db.stat(DB_FILE).map_err(|e| StoreError::io("stat", disks.db.display(DB_FILE), e))?.is_none() {
        return Ok(None);
    }
    if planted::on(Bug::BadDatabaseDeleted) {
        return remove_if_there(disks, DB_FILE).map(|()| None);
    }
    disks.db.create_dir(REMOVED).map_err(|e| fail("create", e))?;
    disks.db.sync_dir("").map_err(|e| fail("sync", e))?;
    let mut kept = kept(disks)?;
    let young: Vec<Micros> = kept.iter().copied().filter(|at| now.0.saturating_sub(at.0) < KEPT.0).collect();
    // A name that is taken is never replaced, unless there are too many.
    let time = match young.last() {
        Some(newest) if young.len() >= KEPT_MAX => *newest,
        _ => (now.0..).map(Micros).find(|at| !kept.contains(at)).unwrap_or(now),
    };
    let to = name(time);
    disks.db.rename(DB_FILE, &to).map_err(|e| StoreError::io("rename", disks.db.display(&to), e))?;
    disks.db.sync_dir(REMOVED).map_err(|e| fail("sync", e))?;
    disks.db.sync_dir("").map_err(|e| fail("sync", e))?;
    kept.retain(|at| now.0.saturating_sub(at.0) >= KEPT.0);
    for old in kept {
        // Best effort: it costs room, and the next time it is tried again.
        if let Err(e) = disks.db.remove(&name(old)) {
            tracing::warn!(event = "not_removed", file = disks.db.display(&name(old)), error = %e);
        }
    }
    Ok(Some(disks.db.display(&to)))
}

fn name(at: Micros) -> String {
    format!("{REMOVED}/mboxlist-{}.redb", at.0)
}

/// When each database in `removed/` was put there, oldest first. Files of other names are somebody's.
fn kept(disks: &Disks) -> Result<Vec<Micros>> {
    let entries = disks.db.list(REMOVED).map_err(|e| StoreError::io("list", disks.db.display(REMOVED), e))?;
    let time = |name: &str| name.strip_prefix("mboxlist-")?.strip_suffix(".redb")?.parse().ok().map(Micros);
    let mut times: Vec<Micros> = entries.iter().filter_map(|e| time(&e.name)).collect();
    times.sort_unstable();
    Ok(times)
}
