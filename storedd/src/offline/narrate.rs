//! What a verb on a stopped store says while it works.

use crate::place;
use crate::store::{self, Progress};
use std::sync::Arc;

/// Progress on stderr, every two seconds at the most, so that a long recovery does not look hung (row 36).
pub(super) fn narrator(verbose: bool) -> store::OnProgress {
    let clock = place::env();
    let last = std::sync::Mutex::new((clock.uptime(), ""));
    Arc::new(move |Progress { phase, done }| {
        let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = clock.uptime();
        let new_phase = last.1 != phase && verbose;
        if new_phase || now.saturating_sub(last.0).as_secs() >= 2 {
            *last = (now, phase);
            // The first word of a phase is that it begins.
            let part = if new_phase { "begun".to_owned() } else { format!("{:.0} %", done * 100.0) };
            eprintln!("{phase}: {part}");
        }
    })
}
