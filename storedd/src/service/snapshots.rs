//! `snapshot take`, `list`, `verify`, `prune`, `delete`.

use super::Daemon;
use crate::control::convert::failure;
use crate::jobs::registry::Context;
use crate::jobs::snapshots::{Finding, Keeper, Settings, Taken, Verified};
use crate::snapshot::Snapshot;
use crate::store::rfc3339;
use proto::{Code, Failure, Reply, SnapshotFinding, SnapshotTaken, SnapshotVerified, SnapshotsRemoved};
use std::sync::Arc;

impl Daemon {
    fn keeper(&self) -> Result<&Arc<Keeper>, Failure> {
        self.keeper.get().ok_or_else(|| Failure::new(Code::Unavailable, "recovering"))
    }

    /// How the configuration in effect wants snapshots kept.
    #[must_use]
    pub fn snapshot_settings(&self) -> Settings {
        crate::place::snapshot_settings(&self.config())
    }

    pub(super) fn snapshot_take(&self, verify: bool, ctx: &Context) -> Result<Reply, Failure> {
        let taken = self.keeper()?.take(&self.snapshot_settings(), verify, ctx).map_err(|e| failure(&e))?;
        let Taken { snapshot, duration, verified } = taken;
        let proto::Snapshot { id, path, time, lsn, size, verified: valid, schema_version, .. } = wire(snapshot);
        let findings = verified.map(|verified| verified.findings).unwrap_or_default();
        Ok(Reply::SnapshotTaken(Box::new(SnapshotTaken {
            id,
            path,
            time,
            lsn,
            size,
            verified: valid,
            schema_version,
            duration: duration.as_secs_f64(),
            findings: findings.into_iter().map(finding).collect(),
        })))
    }

    pub(super) fn snapshot_list(&self) -> Result<Reply, Failure> {
        let listed = self.keeper()?.list().map_err(|e| failure(&e))?;
        Ok(Reply::Snapshots(listed.into_iter().map(wire).collect()))
    }

    pub(super) fn snapshot_verify(&self, id: Option<&str>, all: bool, ctx: &Context) -> Result<Reply, Failure> {
        let verified = self.keeper()?.verify(id, all, ctx).map_err(|e| failure(&e))?;
        let wire = |Verified { id, rows, zero_loss, findings }| {
            let ok = findings.is_empty();
            SnapshotVerified { id, ok, zero_loss, rows, findings: findings.into_iter().map(finding).collect() }
        };
        Ok(Reply::SnapshotsVerified(verified.into_iter().map(wire).collect()))
    }

    pub(super) fn snapshot_prune(&self, ctx: &Context) -> Result<Reply, Failure> {
        let removed = self.keeper()?.prune(&self.snapshot_settings(), ctx).map_err(|e| failure(&e))?;
        Ok(Reply::SnapshotsRemoved(SnapshotsRemoved { removed }))
    }

    pub(super) fn snapshot_delete(&self, id: &str) -> Result<Reply, Failure> {
        self.keeper()?.delete(id).map_err(|e| failure(&e))?;
        Ok(Reply::SnapshotsRemoved(SnapshotsRemoved { removed: vec![id.to_owned()] }))
    }
}

fn wire(snapshot: Snapshot) -> proto::Snapshot {
    proto::Snapshot {
        time: snapshot.manifest.as_ref().map(|m| rfc3339(m.time)).unwrap_or_default(),
        schema_version: snapshot.manifest.as_ref().map(|m| m.schema),
        id: snapshot.id,
        path: snapshot.path,
        lsn: snapshot.lsn.0,
        size: snapshot.bytes,
        verified: snapshot.valid,
        problems: snapshot.problems.iter().map(ToString::to_string).collect(),
    }
}

fn finding(f: Finding) -> SnapshotFinding {
    let Finding { file, table, key, what, found, expected } = f;
    SnapshotFinding { file, table, key, what, expected, found }
}
