//! `backup-db`, `drill`.

use super::Daemon;
use crate::control::convert::failure;
use crate::jobs::backups::Done;
use crate::jobs::complete;
use crate::jobs::copies::Copies;
use crate::jobs::drill::{Drilled, Problem};
use crate::jobs::registry::Context;
use crate::place;
use crate::store::rfc3339;
use proto::{BackedUp, Code, Completed, DrillFinding, Failure, Reply, SkippedFile};
use std::path::Path;
use std::sync::Arc;

impl Daemon {
    pub(super) fn copies(&self) -> Result<&Arc<Copies>, Failure> {
        self.copies.get().ok_or_else(|| Failure::new(Code::Unavailable, "recovering"))
    }

    pub(super) fn backup_db(&self, dir: &str, context: &Context) -> Result<Reply, Failure> {
        let (config, dir) = (self.config(), Path::new(dir));
        if !dir.is_absolute() {
            let text = format!("found {}, expected an absolute path", dir.display());
            return Err(Failure::new(Code::BadInput, text).with_hint("storectl backup-db /PATH"));
        }
        place::expect_outside(&config, dir).map_err(|e| failure(&e))?;
        let (backups, settings) = (&self.copies()?.backups, place::backup_settings(&config));
        // One to the directory of the scheduled ones, as by a timer, is one of them: the oldest go.
        let done = match &settings.directory {
            Some(scheduled) if scheduled == dir => backups.attend(dir, &settings, context),
            _ => backups.take(dir, &settings, context),
        };
        let done = done.map_err(|e| failure(&e))?;
        let Done { path, manifest, duration, removed, steps } = done;
        let logs = manifest.files.iter().map(|file| file.name.clone()).filter(|name| name.starts_with("log."));
        Ok(Reply::BackedUp(Box::new(BackedUp {
            path,
            time: rfc3339(manifest.time),
            lsn: manifest.lsn.0,
            reached_lsn: manifest.reached.0,
            until: rfc3339(manifest.until),
            size: manifest.files.iter().map(|file| file.bytes).sum(),
            logs: logs.collect(),
            duration: duration.as_secs_f64(),
            removed,
            steps,
        })))
    }

    pub(super) fn backup_complete(&self, dir: &str, context: &Context) -> Result<Reply, Failure> {
        let (config, dir) = (self.config(), Path::new(dir));
        if !dir.is_absolute() {
            let text = format!("found {}, expected an absolute path", dir.display());
            return Err(Failure::new(Code::BadInput, text).with_hint("storectl backup --complete /PATH"));
        }
        place::expect_outside(&config, dir).map_err(|e| failure(&e))?;
        let settings = place::backup_settings(&config);
        let groups = Some(config.backup.groups.clone()).filter(|path| !path.as_os_str().is_empty());
        let files = [("storedd.toml", config.file.clone()), ("backup-groups.conf", groups)];
        let configuration: Vec<_> = files.into_iter().filter_map(|(name, path)| Some((name, path?))).collect();
        let names = configuration.iter().map(|(name, _)| (*name).to_owned()).collect();
        let wanted = complete::Wanted { settings: &settings, configuration };
        let store = self.store()?;
        let done = complete::take(store, &self.copies()?.backups, dir, &wanted, context).map_err(|e| failure(&e))?;
        let complete::Done { path, manifest, skipped, duration, held } = done;
        let complete::Tally { mailboxes, messages, copies, bytes } = manifest.tally;
        Ok(Reply::Completed(Box::new(Completed {
            path,
            time: rfc3339(manifest.time),
            lsn: manifest.lsn.0,
            objects: mailboxes,
            messages,
            copies,
            bytes,
            partitions: manifest.partitions.into_iter().map(|(name, _)| name).collect(),
            backup: manifest.backup,
            configuration: names,
            skipped: skipped.into_iter().map(|(object, reason)| SkippedFile { object, reason }).collect(),
            duration: duration.as_secs_f64(),
            held: held.as_secs_f64(),
        })))
    }

    pub(super) fn drill(&self, context: &Context) -> Result<Reply, Failure> {
        let settings = place::drill_settings(&self.config());
        let drilled = self.copies()?.driller.drill(&settings, context).map_err(|e| failure(&e))?;
        Ok(Reply::Drilled(Box::new(wire(drilled))))
    }
}

fn wire(d: Drilled) -> proto::Drilled {
    let finding = |Problem { file, what, found, expected }| DrillFinding { file, what, expected, found };
    proto::Drilled {
        verdict: if d.good { "good" } else { "bad" }.to_owned(),
        time: d.begun,
        source: d.source,
        base_lsn: d.base_lsn,
        reached_lsn: d.reached_lsn,
        live_lsn: d.live_lsn,
        compared: d.compared,
        replayed: d.replayed,
        rows: d.rows,
        bytes: d.bytes,
        rpo_seconds: d.rpo,
        rto_seconds: d.rto,
        duration: d.duration,
        findings: d.problems.into_iter().map(finding).collect(),
    }
}
