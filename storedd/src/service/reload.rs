//! The configuration read again while the daemon runs: by a signal, by a file that changed, by `config reload`.
//!
//! What may change now changes; what needs a restart is named and waits for it; a file with a fault changes nothing, and
//! every fault is named with its line. The values in force are those of [`Daemon::config`], so an option that waits keeps
//! differing from the file and is named by every reload until the restart.

use super::Daemon;
use crate::config::{Config, Difference, Effect, Problem};
use proto::{Code, ConfigChange, Failure, Reloaded, Reply};
use std::sync::PoisonError;

/// Puts a configuration into effect outside the daemon: the level of messages, the file they are written to.
pub type Apply = Box<dyn Fn(&Config) + Send>;

/// Why the file is not taken.
pub(super) fn refused(problems: &[Problem]) -> Failure {
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Failure::new(Code::Config, problems.join("\n"))
        .with_hint("correct the file; the daemon goes on as it was configured before")
}

fn sorted(differences: Vec<Difference>) -> (Vec<ConfigChange>, Vec<ConfigChange>) {
    let (now, later): (Vec<_>, Vec<_>) = differences.into_iter().partition(|d| d.effect == Effect::Reload);
    let said = |d: Difference| ConfigChange { option: d.option, from: d.from, to: d.to };
    (now.into_iter().map(said).collect(), later.into_iter().map(said).collect())
}

impl Daemon {
    /// Names what [`Daemon::reload`] calls with the new configuration.
    pub fn on_reload(&self, apply: Apply) {
        *self.apply.lock().unwrap_or_else(PoisonError::into_inner) = apply;
    }

    /// Reads the configuration file again and puts into effect what may change now; says so in the log. With `dry_run` it
    /// only looks.
    ///
    /// # Errors
    /// [`Code::Config`] if the file has faults: then nothing changes.
    pub fn reload(&self, dry_run: bool) -> Result<Reloaded, Failure> {
        // One at a time: each compares with what the one before has put into effect.
        let apply = self.apply.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.config();
        let file = before.file.as_ref().map(|file| std::path::absolute(file).unwrap_or_else(|_| file.clone()));
        let file = file.map(|file| file.display().to_string());
        let new = match before.again() {
            None => before.as_ref().clone(),
            Some(Ok(new)) => new,
            Some(Err(problems)) => {
                for problem in problems.iter().filter(|_| !dry_run) {
                    tracing::error!(event = "reload_refused", "{problem}");
                }
                return Err(refused(&problems));
            }
        };
        let (changed, pending) = sorted(before.differences(&new));
        if !dry_run {
            for (changes, effect) in [(&changed, "now"), (&pending, "restart")] {
                for ConfigChange { option, from, to } in changes {
                    tracing::info!(event = "reload", option, from, to, effect);
                }
            }
            tracing::info!(event = "reloaded", file, changed = changed.len(), pending = pending.len());
            let merged = before.reloaded(&new);
            apply(&merged);
            self.set_config(merged);
        }
        Ok(Reloaded { file, changed, pending })
    }

    pub(super) fn config_reload(&self, dry_run: bool) -> Result<Reply, Failure> {
        self.reload(dry_run).map(Reply::Reloaded)
    }
}
