//! Signals. The only file that names `signal-hook`.
//!
//! TERM and INT ask for a stop, HUP for a reload; each arrives as a [`Signal`] on a thread of its own, so that it is
//! heard before there is a runtime and during a long recovery. A second TERM or INT ends the process at once inside the
//! handler, as if no handler were there: the parent sees the conventional status (128 plus the number in a shell), also
//! when every thread hangs. That is safe at any instant, as SIGKILL is.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What somebody asked for by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Finish what is in flight, checkpoint, stop. The text names the signal.
    Stop(&'static str),
    /// Read the configuration again.
    Reload,
}

/// Whether a stop was asked for; for work that is not at the event loop, such as a recovery.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// True from the first TERM or INT on.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// A write beyond the limit of a file's size (`ulimit -f`, `LimitFSIZE=`) is an error like a full disk, not the end of the
/// process.
///
/// # Errors
/// Those of the system.
pub fn survive_file_limit() -> io::Result<()> {
    signal_hook::flag::register(SIGXFSZ, Arc::default()).map(drop)
}

/// Calls `each` for every signal, on a thread of its own, until the process ends. Call it once, before other threads.
///
/// # Errors
/// Those of the system.
pub fn listen(mut each: impl FnMut(Signal) + Send + 'static) -> io::Result<StopFlag> {
    let stop = StopFlag::default();
    for signal in [SIGTERM, SIGINT] {
        // In this order: the first signal finds the flag false and sets it, the second finds it true and ends here.
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop.0))?;
        signal_hook::flag::register(signal, Arc::clone(&stop.0))?;
    }
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let run = move || {
        for signal in signals.forever() {
            each(match signal {
                SIGTERM => Signal::Stop("SIGTERM"),
                SIGINT => Signal::Stop("SIGINT"),
                _ => Signal::Reload,
            });
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(run)?;
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::systemd::tests::respawn;
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::process::ExitStatusExt;
    use std::time::Duration;

    /// Runs only as the child of the tests below: a process that never stops by itself.
    #[test]
    #[ignore = "signals go to a process: the tests below run it as their child"]
    fn child() {
        if std::env::var_os(crate::systemd::tests::CHILD).is_none() {
            return;
        }
        let _stop = listen(|signal| {
            println!("got {signal:?}");
            let _ = std::io::stdout().flush();
        })
        .unwrap();
        println!("listening");
        std::thread::sleep(Duration::from_secs(60));
    }

    #[test]
    fn a_second_stop_leaves_at_once_with_the_conventional_status() {
        for (first, second, number) in [("TERM", "TERM", SIGTERM), ("INT", "TERM", SIGTERM), ("TERM", "INT", SIGINT)] {
            let mut child = respawn("signals::tests::child", &[]);
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
            let mut wait_for = |text: &str| assert!(lines.any(|line| line.contains(text)), "no {text}");
            let kill = |name: &str| {
                let pid = rustix::process::Pid::from_child(&child);
                let signal = match name {
                    "TERM" => rustix::process::Signal::TERM,
                    "INT" => rustix::process::Signal::INT,
                    _ => rustix::process::Signal::HUP,
                };
                rustix::process::kill_process(pid, signal).unwrap();
            };
            wait_for("listening");
            kill("HUP");
            wait_for("got Reload");
            kill(first);
            wait_for(&format!("got Stop(\"SIG{first}\")"));
            kill("HUP");
            wait_for("got Reload");
            kill(second);
            assert_eq!(child.wait().unwrap().signal(), Some(number));
        }
    }
}
