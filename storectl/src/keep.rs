//! A connection that is kept while nothing is asked over it: whoever waits for a slow medium does not lose it to the daemon's limit for idle ones.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two signs of life, at most.
const EVERY_MAX: Duration = Duration::from_secs(60);
/// And at least.
const EVERY_MIN: Duration = Duration::from_millis(200);

/// How often something is to be asked where a connection may be idle for `limit`.
#[must_use]
pub fn every(limit: Option<Duration>) -> Duration {
    limit.map_or(EVERY_MAX, |limit| (limit / 3).clamp(EVERY_MIN, EVERY_MAX))
}

/// The text of an option's value, which the daemon tells as TOML.
#[must_use]
pub fn plain(value: &str) -> &str {
    value.trim_matches('"')
}

/// A thread that does something again and again until it is dropped.
#[derive(Debug)]
pub struct Keeper {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Calls `ask` every so often, until it gives false. Without a thread to be had nothing is kept.
    pub fn start(every: Duration, mut ask: impl FnMut() -> bool + Send + 'static) -> Keeper {
        let (stop, stopped) = channel();
        let keep = move || while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) && ask() {};
        let thread = std::thread::Builder::new().name("keep".to_owned()).spawn(keep).ok();
        Keeper { stop: Some(stop), thread }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}
