//! `backup-db`.

use super::Daemon;
use crate::control::convert::failure;
use crate::jobs::backups::{Backups, Done};
use crate::jobs::registry::Context;
use crate::place;
use crate::store::rfc3339;
use proto::{BackedUp, Code, Failure, Reply};
use std::path::Path;
use std::sync::Arc;

impl Daemon {
    pub(super) fn backups(&self) -> Result<&Arc<Backups>, Failure> {
        self.backups.get().ok_or_else(|| Failure::new(Code::Unavailable, "recovering"))
    }

    pub(super) fn backup_db(&self, dir: &str, context: &Context) -> Result<Reply, Failure> {
        let (config, dir) = (self.config(), Path::new(dir));
        if !dir.is_absolute() {
            let text = format!("found {}, expected an absolute path", dir.display());
            return Err(Failure::new(Code::BadInput, text).with_hint("storectl backup-db /PATH"));
        }
        place::expect_outside(&config, dir).map_err(|e| failure(&e))?;
        let done = self.backups()?.take(dir, &place::backup_settings(&config), context).map_err(|e| failure(&e))?;
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
}
