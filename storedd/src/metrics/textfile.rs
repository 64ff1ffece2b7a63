//! A file with all numbers for the textfile collector of node_exporter, written beside its name and renamed, so that the
//! collector reads a whole one. It has a thread of its own, for which nobody waits: its disk may not answer.

use crate::disk::outside;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Time between two writings.
pub const PERIOD: Duration = Duration::from_secs(15);
/// How soon another path is noticed.
const STEP: Duration = Duration::from_secs(1);

/// Longest wait for the file to be removed at the end.
const LAST: Duration = Duration::from_secs(1);

/// Who writes the file.
#[derive(Debug)]
pub struct Textfile {
    stop: Sender<()>,
    gone: Receiver<()>,
}

impl Textfile {
    /// Removes the file: what nobody writes any more would be read as the numbers of now. A disk that does not answer is not
    /// waited for.
    pub fn end(self) {
        drop(self.stop);
        // Told or not, it ends.
        let _ = self.gone.recv_timeout(LAST);
    }
}

/// Writes the file from now on; an empty path is no file now. A file that is no longer named is removed.
///
/// # Errors
/// If no thread can be made.
pub fn start(
    path: impl Fn() -> PathBuf + Send + 'static,
    page: impl Fn() -> String + Send + 'static,
) -> io::Result<Textfile> {
    let ((stop, stopped), (ends, gone)) = (channel::<()>(), channel::<()>());
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
            if stopped.recv_timeout(STEP) != Err(RecvTimeoutError::Timeout) {
                break;
            }
            age += STEP;
        }
        if !last.as_os_str().is_empty()
            && let Err(e) = outside::remove(&last)
        {
            tracing::warn!(event = "metrics_textfile", path = %last.display(), error = %e, "not removed");
        }
        drop(ends);
    };
    std::thread::Builder::new().name("textfile".to_owned()).spawn(run)?;
    Ok(Textfile { stop, gone })
}
