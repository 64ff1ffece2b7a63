//! A file with all numbers for the textfile collector of node_exporter, written beside its name and renamed, so that the
//! collector reads a whole one. It has a thread of its own, for which nobody waits: its disk may not answer.

use crate::disk::outside;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Time between two writings.
pub const PERIOD: Duration = Duration::from_secs(15);
/// How soon another path is noticed.
const STEP: Duration = Duration::from_secs(1);

/// Writes the file from now on, until the process ends; an empty path is no file now. A file that is no longer named is
/// removed.
///
/// # Errors
/// If no thread can be made.
pub fn start(
    path: impl Fn() -> PathBuf + Send + 'static,
    page: impl Fn() -> String + Send + 'static,
) -> io::Result<()> {
    let run = move || {
        let (mut last, mut age, mut failed) = (PathBuf::new(), Duration::ZERO, false);
        loop {
            let path = path();
            let due = path != last || age >= PERIOD;
            if due && !path.as_os_str().is_empty() {
                let written = outside::publish(&path, page().as_bytes());
                if let (Err(e), false) = (&written, failed) {
                    tracing::warn!(event = "metrics_textfile", path = %path.display(), error = %e, "not written");
                }
                failed = written.is_err();
            }
            // What nobody writes any more would be read as the numbers of now.
            if path != last
                && !last.as_os_str().is_empty()
                && let Err(e) = outside::remove(&last)
            {
                tracing::warn!(event = "metrics_textfile", path = %last.display(), error = %e, "not removed");
            }
            if due {
                (last, age) = (path, Duration::ZERO);
            }
            std::thread::sleep(STEP);
            age += STEP;
        }
    };
    std::thread::Builder::new().name("textfile".to_owned()).spawn(run).map(drop)
}
