//! A start while it lasts: who is told how far it is, and what ends it before it is ready.
//!
//! Recovery says how far it is; that goes to the door (`status` answers during it), to the service manager, which is asked
//! for more time, and to the log. A start ends early in two ways. A stop that was asked for: recovery replays into memory,
//! so nothing has to be undone. And a disk that does not answer: then nothing is said any more, and after the limit of the
//! configuration the process ends with an error that names the phase, so that whoever started it hears of it, also
//! without a service manager (row 4).

use crate::config::{Config, Upgrade};
use crate::db::SCHEMA_VERSION;
use crate::disk::Lock;
use crate::env::Env;
use crate::error::{StoreError, exit};
use crate::jobs::upgrade::{Asked, change_schema};
use crate::service::{Daemon, percent};
use crate::signals::StopFlag;
use crate::store::upgrade::{Standing, schema_of};
use crate::store::{self, Disks, OnProgress, Progress};
use crate::{place, systemd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Time asked for while a start or a stop goes on; asked again long before it has passed.
pub const MORE_TIME: Duration = Duration::from_secs(60);
/// Between two lines that say how far it is.
const TELL: Duration = Duration::from_millis(500);
/// Between two looks at whether it moves.
const LOOK: Duration = Duration::from_secs(1);

/// A start that goes on.
pub struct Startup {
    daemon: Arc<Daemon>,
    env: Arc<dyn Env>,
    stop: StopFlag,
    at: Mutex<At>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq)]
struct At {
    progress: Progress,
    /// Uptime when it last moved.
    moved: Duration,
    told: Duration,
    ended: bool,
}

impl At {
    /// Notes what recovery says.
    fn hear(&mut self, progress: Progress, now: Duration) {
        if progress != self.progress {
            (self.progress, self.moved) = (progress, now);
        }
    }

    /// How long it has stood still, if that is too long.
    fn stalled(&self, now: Duration, limit: Duration) -> Option<Duration> {
        let still = now.saturating_sub(self.moved);
        (!self.ended && still >= limit).then_some(still)
    }
}

impl Startup {
    /// Begins to watch over a start that may stand still for `limit`.
    ///
    /// # Errors
    /// If no thread can be made.
    pub fn begin(
        daemon: &Arc<Daemon>,
        env: &Arc<dyn Env>,
        stop: StopFlag,
        limit: Duration,
    ) -> Result<Arc<Startup>, StoreError> {
        let progress = Progress::of("start", 0.0);
        let at = At { progress, moved: env.uptime(), told: Duration::ZERO, ended: false };
        let startup = Arc::new(Startup { daemon: daemon.clone(), env: env.clone(), stop, at: Mutex::new(at) });
        let watched = startup.clone();
        let watch = move || {
            while !watched.at().ended {
                std::thread::sleep(LOOK);
                let at = *watched.at();
                if let Some(still) = at.stalled(watched.env.uptime(), limit) {
                    give_up(&at.progress, still);
                }
            }
        };
        let thread = std::thread::Builder::new().name("startup".to_owned()).spawn(watch);
        thread.map_err(|e| StoreError::io("start", "the thread that watches over the start", e))?;
        Ok(startup)
    }

    /// What recovery calls.
    #[must_use]
    pub fn on_progress(self: &Arc<Startup>) -> OnProgress {
        let startup = self.clone();
        Arc::new(move |progress| startup.hear(progress))
    }

    /// The store is open.
    pub fn end(&self) {
        self.at().ended = true;
    }

    fn at(&self) -> MutexGuard<'_, At> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, progress: Progress) {
        if self.stop.is_set() {
            tracing::info!(event = "stopped_in_recovery", "stopped during recovery; the next start begins again");
            std::process::exit(i32::from(exit::OK));
        }
        self.daemon.set_progress(progress);
        let now = self.env.uptime();
        let mut at = self.at();
        at.hear(progress, now);
        if now.saturating_sub(at.told) >= TELL {
            at.told = now;
            drop(at);
            let line = format!("recovering: {} {} %", progress.phase, percent(&progress));
            systemd::extend(MORE_TIME, &line);
            tracing::info!(event = "recovering", phase = progress.phase, percent = percent(&progress));
        }
    }
}

/// Ends the process: nobody can wait for a call into the system that does not return.
fn give_up(progress: &Progress, still: Duration) {
    let (phase, percent, seconds) = (progress.phase, percent(progress), still.as_secs());
    let hint = "look at the disk under the store (dmesg), then start again";
    tracing::error!(event = "start_stalled", phase, percent, seconds, hint, "the start makes no progress");
    systemd::stopping(&format!("no progress for {seconds} s in phase {phase}"));
    std::process::exit(i32::from(exit::IO));
}

/// With `upgrade = "automatic"` brings a store of an older version to this one. One that was made ready for the version before is left to
/// whoever did that.
///
/// # Errors
/// As [`change_schema`]; the store is then as it was.
pub fn upgraded(
    config: &Config,
    disks: &Disks,
    env: &Arc<dyn Env>,
    lock: Box<dyn Lock>,
    on_progress: &OnProgress,
) -> Result<Box<dyn Lock>, StoreError> {
    let schema = schema_of(disks).filter(|_| config.recovery.upgrade == Upgrade::Automatic);
    let standing = schema.map(|schema| Standing::of(disks, schema)).transpose()?;
    let Some(Standing::Older(from)) = standing else { return Ok(lock) };
    tracing::info!(event = "upgrade", from, to = SCHEMA_VERSION, "the store is of an older version; it is upgraded");
    let each = |done| {
        on_progress(Progress::of("upgrade", done));
        true
    };
    let settings = place::snapshot_settings(config);
    let asked = Asked { to: Some(SCHEMA_VERSION), snapshot: true, settings, told: &mut |_| {}, each: &each };
    change_schema(disks, env, place::options(config), lock, asked, on_progress)?;
    store::take_lock(disks)
}

#[cfg(test)]
mod tests {
    use super::*;

    // row 4
    #[test]
    fn what_moves_is_waited_for_and_what_stands_still_is_not() {
        let (second, limit) = (Duration::from_secs, Duration::from_secs(900));
        let progress = |done| Progress::of("replay", done);
        let mut at = At { progress: progress(0.0), moved: second(10), told: second(0), ended: false };
        assert_eq!(at.stalled(second(909), limit), None);
        assert_eq!(at.stalled(second(910), limit), Some(second(900)));
        at.hear(progress(0.5), second(909));
        assert_eq!(at.stalled(second(1808), limit), None);
        // Saying the same again is no progress.
        at.hear(progress(0.5), second(1800));
        assert_eq!(at.stalled(second(1809), limit), Some(second(900)));
        at.ended = true;
        assert_eq!(at.stalled(second(9999), limit), None);
    }
}
