//! What the service manager is told (`sd_notify(3)`), and the sockets it may hand over (`sd_listen_fds(3)`). The only file
//! that names `sd-notify` and `listenfd`.
//!
//! Everything here does nothing without `NOTIFY_SOCKET`, and a message that cannot be sent is no reason to stop: the
//! manager then acts by its own timeouts.

use sd_notify::NotifyState;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// A status line is cut to so many bytes.
const STATUS_BYTES_MAX: usize = 400;

/// A request would be answered now. `STATUS=` is what `systemctl status` shows.
pub fn ready(line: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(&tidy(line))]);
}

/// What is going on.
pub fn status(line: &str) {
    send(&[NotifyState::Status(&tidy(line))]);
}

/// A start or a stop takes at least so much longer, counted from now; to be said again and again while it lasts. It feeds
/// the watchdog too, which runs on while a daemon restarts.
pub fn extend(by: Duration, line: &str) {
    let micros = u32::try_from(by.as_micros()).unwrap_or(u32::MAX);
    send(&[NotifyState::ExtendTimeoutUsec(micros), NotifyState::Status(&tidy(line)), NotifyState::Watchdog]);
}

/// The configuration is being read again; [`ready`] ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(_) => send(&[NotifyState::Reloading]),
    }
}

/// The stop has begun.
pub fn stopping(line: &str) {
    send(&[NotifyState::Stopping, NotifyState::Status(&tidy(line))]);
}

/// Most sockets that may be handed over: the control socket and that of the door for mail.
const HANDED_MAX: usize = 2;

/// Listening sockets that the service manager made, in the order of their descriptors.
#[derive(Debug, Default)]
pub struct Handed(Vec<UnixListener>);

/// The control socket and that of the door for mail, where the service manager made them. To be called once and before
/// there is a second thread: it takes the announcement out of the environment, so that no child takes it for its own.
///
/// # Errors
/// More than two descriptors, or something else than a Unix stream socket.
pub fn handed_sockets() -> io::Result<Handed> {
    let mut handed = listenfd::ListenFd::from_env();
    let count = handed.len();
    if count > HANDED_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{count} descriptors were handed over, expected the control socket and that for mail"),
        ));
    }
    let sockets: io::Result<Vec<_>> = (0..count).map(|at| handed.take_unix_listener(at)).collect();
    Ok(Handed(sockets?.into_iter().flatten().collect()))
}

impl Handed {
    /// The one for mail, which lies at `mail`, and the control socket, which is the other one.
    ///
    /// # Errors
    /// The paths, if neither of two is the one for mail.
    pub fn told_apart(&self, mail: &Path) -> Result<(Option<&UnixListener>, Option<&UnixListener>), String> {
        let place =
            |socket: &UnixListener| socket.local_addr().ok().and_then(|at| at.as_pathname().map(Path::to_path_buf));
        let (for_mail, control): (Vec<_>, Vec<_>) =
            self.0.iter().partition(|socket| place(socket).is_some_and(|place| place == mail));
        if control.len() > 1 || for_mail.len() > 1 {
            let places = self.0.iter().map(|s| place(s).unwrap_or_default().display().to_string());
            return Err(places.collect::<Vec<_>>().join(", "));
        }
        Ok((control.first().copied(), for_mail.first().copied()))
    }

    /// Hands the sockets on to the program that this process is about to become.
    ///
    /// # Errors
    /// Those of `fcntl(2)`.
    pub fn hand_on(&self, command: &mut Command) -> io::Result<()> {
        let Some(first) = self.0.first() else { return Ok(()) };
        for socket in &self.0 {
            rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty())?;
        }
        command.env("LISTEN_FDS", self.0.len().to_string()).env("LISTEN_PID", std::process::id().to_string());
        command.env("LISTEN_FDS_FIRST_FD", first.as_raw_fd().to_string());
        Ok(())
    }
}

/// Feeds the watchdog of the service manager, if it has one, three times in its period, each time `alive` says so. It is
/// called on a thread of its own: if it hangs, the watchdog bites. Returns the period.
///
/// # Errors
/// If no thread can be made.
pub fn watchdog(mut alive: impl FnMut() -> bool + Send + 'static) -> io::Result<Option<Duration>> {
    let Some(period) = sd_notify::watchdog_enabled() else {
        return Ok(None);
    };
    let run = move || {
        loop {
            if alive() {
                send(&[NotifyState::Watchdog]);
            }
            std::thread::sleep(period / 3);
        }
    };
    std::thread::Builder::new().name("watchdog".to_owned()).spawn(run)?;
    Ok(Some(period))
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(states) {
        tracing::debug!(event = "systemd.notify.failed", error = %e, "the service manager was not told");
    }
}

/// One line: a line break would begin another assignment of the protocol.
fn tidy(line: &str) -> String {
    let mut text: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    while text.len() > STATUS_BYTES_MAX {
        text.pop();
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;
    use std::process::{Child, Command, Stdio};

    /// Set for a child, so that an ignored test run by hand does nothing.
    pub(crate) const CHILD: &str = "STOREDD_TEST_CHILD";

    /// Runs one ignored test of this binary as a process of its own: the environment and signals belong to processes.
    pub(crate) fn respawn(test: &str, env: &[(&str, &str)]) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"])
            .env(CHILD, "1")
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Runs only as the child of the test below.
    #[test]
    #[ignore = "the environment belongs to a process: the tests below run it as their child"]
    fn child() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        extend(Duration::from_secs(30), "recovering: 10%");
        ready("ready\nWATCHDOG=trigger");
        reloading();
        ready("ready");
        let mut beats = 0;
        watchdog(move || {
            beats += 1;
            beats % 2 == 1
        })
        .unwrap();
        std::thread::sleep(Duration::from_millis(250));
        stopping("stopping");
    }

    #[test]
    fn the_service_manager_hears_every_state() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let env = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "150000")];
        let child = respawn("systemd::tests::child", &env);
        let mut heard = Vec::new();
        while heard.last().is_none_or(|text: &String| !text.starts_with("STOPPING=1")) {
            let mut bytes = [0; 4096];
            let len = socket.recv(&mut bytes).unwrap();
            heard.push(String::from_utf8(bytes[..len].to_vec()).unwrap());
        }
        assert!(child.wait_with_output().unwrap().status.success());
        assert_eq!(heard[0], "EXTEND_TIMEOUT_USEC=30000000\nSTATUS=recovering: 10%\nWATCHDOG=1\n");
        assert_eq!(heard[1], "READY=1\nSTATUS=ready WATCHDOG=trigger\n");
        assert!(heard[2].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{heard:?}");
        let beats = heard.iter().filter(|text| *text == "WATCHDOG=1\n").count();
        assert!((1..=3).contains(&beats), "every second of about five: {heard:?}");
        assert_eq!(heard.last().unwrap(), "STOPPING=1\nSTATUS=stopping\n");
    }

    #[test]
    fn without_a_service_manager_nothing_happens() {
        let child = respawn("systemd::tests::child", &[("NOTIFY_SOCKET", "/nonexistent/socket")]);
        assert!(child.wait_with_output().unwrap().status.success());
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        assert_eq!(tidy(&"ä".repeat(300)).len(), 400);
    }
}
