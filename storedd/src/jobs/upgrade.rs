//! A store becomes one of another schema: upgrade, downgrade, and a downgrade taken back are one road.
//!
//! # Operation
//! The store is opened as by a manual recovery, which replays its log, and closed, which writes everything into the database; then a
//! snapshot of it as it is is taken and verified: the way back. Then a copy of the other schema is made, validated, and put in place
//! (`store/upgrade.rs`). The lock is held from before the first look to behind the last write. Done again after a crash it goes on:
//! what is in the database already is not replayed, and a snapshot of that LSN and schema is not taken twice.

use super::registry::Context;
use super::snapshots::{Keeper, Settings};
use crate::disk::Lock;
use crate::env::Env;
use crate::error::{Result, StoreError, exit};
use crate::lsn::Lsn;
use crate::snapshot::{Depth, Manifest};
use crate::store::decision::Policy;
use crate::store::upgrade::Standing;
use crate::store::{self, Disks, Marker, OnProgress, Options, Report, Store};
use std::sync::Arc;

/// As a manual recovery: what cannot be reached is refused, and nothing is given up.
const STRICT: Policy = Policy { strict: true, hold_on_loss: false, accept_loss: false, catastrophic: false };

/// A part of the work, told when it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The log is replayed and everything is in the database.
    Recover,
    /// There is a verified snapshot of the store as it is.
    Snapshot,
    /// There is a copy of the other schema.
    Copy,
    /// The copy is what it must be.
    Validate,
    /// It is the database.
    Place,
}

impl Step {
    /// As lines for people name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Step::Recover => "recover",
            Step::Snapshot => "snapshot",
            Step::Copy => "copy",
            Step::Validate => "validate",
            Step::Place => "put in place",
        }
    }
}

/// What is to be done.
pub struct Asked<'a> {
    /// The schema to reach; `None`: that which it has, so that it is only recovered.
    pub to: Option<u32>,
    /// A snapshot first. Not where one of this schema was taken for the step that is taken back.
    pub snapshot: bool,
    /// How snapshots are kept.
    pub settings: Settings,
    /// Told of each step that is done.
    pub told: &'a mut dyn FnMut(Step),
    /// Told how far the copy is, 0 to 1; an answer of `false` ends the work as soon as that is possible, and the store is as it was.
    pub each: &'a dyn Fn(f64) -> bool,
}

impl std::fmt::Debug for Asked<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked").field("to", &self.to).field("snapshot", &self.snapshot).finish_non_exhaustive()
    }
}

/// What was done.
#[derive(Debug, Clone)]
pub struct Done {
    /// Schema before.
    pub from: u32,
    /// Schema now.
    pub to: u32,
    /// Everything up to here is in the database.
    pub lsn: Lsn,
    /// Rows in it.
    pub rows: u64,
    /// The snapshot of the store as it was.
    pub snapshot: Option<String>,
    /// What opening it found.
    pub report: Report,
}

/// Brings a stopped store to another schema; one that is there already is only recovered.
///
/// # Errors
/// 66 if there is no store; what a manual recovery refuses; 75 if a partition needs the log that would be left behind; a copy that does not pass its validation; those of the disk. The database is
/// then as the recovery left it, of its old schema; only after the last step failed it may be either.
pub fn change_schema(
    disks: &Disks,
    env: &Arc<dyn Env>,
    options: Options,
    lock: Box<dyn Lock>,
    asked: Asked<'_>,
    progress: &OnProgress,
) -> Result<Done> {
    let Asked { to, snapshot, settings, told, each } = asked;
    if Marker::read(&*disks.data)?.is_none() {
        return Err(StoreError::Refused {
            message: format!("there is no store in {}", disks.data.display("")),
            hint: "name the store: --data-dir DIR or --config FILE".to_owned(),
            exit: exit::NO_INPUT,
        });
    }
    let (store, report) = store::open(disks.clone(), env.clone(), options, lock, STRICT, progress)?;
    let from = store.schema();
    store.close()?;
    told(Step::Recover);
    let mut done = Done { from, to: from, lsn: store.checkpoint_lsn(), rows: 0, snapshot: None, report };
    let Some(to) = to.filter(|to| *to != from) else {
        done.rows = store.database_rows().iter().map(|(_, rows)| rows).sum();
        return Ok(done);
    };
    store.expect_convertible(to)?;
    if snapshot {
        done.snapshot = Some(way_back(&store, env, &settings)?);
        told(Step::Snapshot);
    }
    let rows: u64 = store.database_rows().iter().map(|(_, rows)| rows).sum();
    let candidate = store.convert(to, &mut |done| each((done as f64 / rows.max(1) as f64).min(1.0)))?;
    told(Step::Copy);
    let valid = candidate.validate()?;
    told(Step::Validate);
    let meta = valid.put_in_place()?;
    told(Step::Place);
    tracing::info!(event = "schema_changed", from, to, lsn = %meta.applied_lsn, snapshot = done.snapshot);
    (done.to, done.lsn, done.rows) = (meta.schema, meta.applied_lsn, meta.rows());
    Ok(done)
}

/// A verified snapshot of the closed store as it is: one that is there, be it that only its verification is missing, or a new one.
/// Gives its name.
fn way_back(store: &Arc<Store>, env: &Arc<dyn Env>, settings: &Settings) -> Result<String> {
    let keeper = Keeper::new(store.clone(), env.clone())?;
    for shelf in store.disks().shelves(store.store_id()) {
        for id in shelf.list()? {
            let is_of_now = shelf.read(&id, Depth::Texts)?.manifest.is_some_and(|manifest| is_of_now(store, &manifest));
            // One that cannot be read now is no way back.
            let passes = || keeper.verify(Some(&id), false, &Context::idle());
            if is_of_now && passes().is_ok_and(|all| all.iter().all(|verified| verified.findings.is_empty())) {
                return Ok(id);
            }
        }
    }
    // Nobody else waits for the disk.
    let taken = keeper.take(&Settings { pace: u64::MAX, ..*settings }, true, &Context::idle())?;
    match taken.verified.and_then(|verified| verified.findings.into_iter().next()) {
        None => Ok(taken.snapshot.id),
        Some(finding) => Err(StoreError::Refused {
            message: format!(
                "the snapshot {} did not pass its verification: {} {}: found {}, expected {}; the store is as it was",
                taken.snapshot.id, finding.file, finding.what, finding.found, finding.expected
            ),
            hint: "storedd test".to_owned(),
            exit: exit::DAMAGED,
        }),
    }
}

/// True of a snapshot of what the database holds now.
fn is_of_now(store: &Store, of: &Manifest) -> bool {
    (of.store_id, of.lsn, of.schema) == (store.store_id(), store.checkpoint_lsn(), store.schema())
}

/// Refuses to take back a downgrade of a store that another program has opened since.
///
/// # Errors
/// [`StoreError::Refused`]; those of the disk.
pub fn expect_not_opened(disks: &Disks, schema: u32) -> Result<Standing> {
    match Standing::of(disks, schema)? {
        Standing::Older(schema) => Err(StoreError::Refused {
            message: format!(
                "no downgrade can be taken back: the store is of schema {schema}, and a program has opened it since that began"
            ),
            hint: "storedd upgrade".to_owned(),
            exit: exit::FINDINGS,
        }),
        standing => Ok(standing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimDisk;
    use crate::jobs::snapshots::tests::{SETTINGS, change, start};

    // row 53, row 156: a database of a newer program is neither opened nor replaced; the snapshot to go back to is named.
    #[test]
    fn a_newer_database_is_refused_with_the_snapshot_to_use() {
        let machine = SimDisk::new();
        let (store, keeper, _) = start(&machine, 0);
        let file = crate::db::tests::of_a_newer_program();
        let refused = |with: Option<&str>| {
            let machine = machine.image(crate::disk::Persist::Everything);
            machine.disk("db").plant("mboxlist.redb", &file).unwrap();
            let disks = Disks { data: Arc::new(machine.disk("data")), ..store.disks().clone() };
            let disks = Disks { db: Arc::new(machine.disk("db")), log: Arc::new(machine.disk("log")), ..disks };
            let before = machine.tree_hash();
            let Err(e) = store::look(&disks, &(Arc::new(|_| {}) as OnProgress)) else { panic!("opened") };
            assert_eq!(machine.tree_hash(), before, "nothing is opened or overwritten");
            assert_eq!(e.exit(), exit::BAD_INPUT);
            let (said, hint) = (e.to_string(), e.hint().unwrap());
            assert!(said.contains("mboxlist.redb: schema version is 4, this program expects 1 to 3"), "{said}");
            match with {
                Some(id) => {
                    assert!(said.contains(id) && hint.contains(&format!("snapshot install {id}")), "{said} {hint}")
                }
                None => assert!(said.contains("no snapshot is there"), "{said}"),
            }
        };
        refused(None);
        assert!(change(&store, "a"));
        let first = keeper.take(&SETTINGS, true, &Context::idle()).unwrap().snapshot.id;
        refused(Some(&first));
        assert!(change(&store, "b"));
        keeper.take(&SETTINGS, false, &Context::idle()).unwrap();
        refused(Some(&first));
    }
}
