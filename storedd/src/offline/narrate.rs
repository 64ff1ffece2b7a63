//! What a verb on a stopped store says while it works.

use crate::env::Env;
use crate::place;
use crate::store::{self, Finding, Progress};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// A line at least this often, also while one step takes longer (row 36).
const EVERY: Duration = Duration::from_secs(2);

/// What was said last, and what is going on.
struct Said {
    now: Progress,
    at: Duration,
    begun: Duration,
}

/// Says on stderr how far the work is. It ends with the last clone of what is returned.
pub(super) fn narrator(verbose: bool) -> store::OnProgress {
    let clock = place::env();
    let begun = clock.uptime();
    let said = Arc::new(Mutex::new(Said { now: Progress::of("", 0.0), at: begun, begun }));
    let (weak, same) = (Arc::downgrade(&said), clock.clone());
    // Without it a long step is silent, and nothing else is wrong.
    let _ = std::thread::Builder::new().name("narrator".to_owned()).spawn(move || tick(&weak, &*same));
    Arc::new(move |progress| {
        let mut said = locked(&said);
        let now = clock.uptime();
        if said.now.phase != progress.phase {
            said.begun = now;
            if verbose {
                said.at = now;
                eprintln!("{}: begun", progress.phase);
            }
        }
        said.now = progress;
        if now.saturating_sub(said.at) >= EVERY {
            said.say(now);
        }
    })
}

/// What was noticed, on stderr. Files that are missing are left to the refusal, which names those that are needed and no others
/// (row 29).
pub(super) fn tell_findings(findings: &[Finding]) {
    tell(findings.iter().filter(|finding| !finding.is_missing()));
}

/// Files that are missing and were not needed.
pub(super) fn tell_missing(findings: &[Finding]) {
    tell(findings.iter().filter(|finding| finding.is_missing()));
}

fn tell<'f>(findings: impl Iterator<Item = &'f Finding>) {
    for Finding { r#where, what, expected, found } in findings {
        eprintln!("storedd: found: {}: {what}: found {found}, expected {expected}", r#where);
    }
}

fn tick(said: &Weak<Mutex<Said>>, clock: &dyn Env) {
    loop {
        std::thread::sleep(EVERY / 4);
        let Some(said) = said.upgrade() else { return };
        let mut said = locked(&said);
        let now = clock.uptime();
        if !said.now.phase.is_empty() && now.saturating_sub(said.at) >= EVERY {
            said.say(now);
        }
    }
}

impl Said {
    fn say(&mut self, now: Duration) {
        self.at = now;
        let seconds = now.saturating_sub(self.begun).as_secs();
        eprintln!("{}, {seconds} s", self.now);
    }
}

fn locked(said: &Mutex<Said>) -> MutexGuard<'_, Said> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}
