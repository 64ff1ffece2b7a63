//! The daemon as a process of its own: this program runs itself as it.
//!
//! # Operation
//! READY is what the daemon tells the service manager (`sd_notify`); the time is counted from the start of the process.

use crate::engines::Failure;
use proto::{Client, Timeouts};
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// First argument that makes this program the daemon.
const AS_DAEMON: &str = "--as-daemon";
/// First argument that makes it the client.
const AS_CLIENT: &str = "--as-storectl";
/// Longest time until READY.
const PATIENCE: Duration = Duration::from_secs(600);
/// Runs the daemon or the client if this program was started as one: `--as-daemon CONFIG DATA-DIR`, `--as-storectl ARGUMENTS...`.
pub fn as_another() -> Option<ExitCode> {
    if std::env::args_os().nth(1).is_some_and(|first| first == AS_CLIENT) {
        return Some(storectl::run(std::env::args_os().skip(1)));
    }
    let arguments: Vec<_> = std::env::args_os().skip(1).take(3).collect();
    let [first, config, data] = arguments.as_slice() else { return None };
    if first != AS_DAEMON {
        return None;
    }
    let config = storedd::config::Config::load(Some(Path::new(config)), Some(Path::new(data)), None);
    Some(match config {
        Ok(config) => ExitCode::from(storedd::daemon::run(config)),
        Err(problems) => {
            problems.iter().for_each(|p| eprintln!("{p}"));
            ExitCode::FAILURE
        }
    })
}

/// A daemon that runs; killed when this goes.
pub struct Daemon {
    /// The process.
    pub child: Child,
    /// From the start of the process until READY.
    pub ready: Duration,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // SIGKILL; a daemon that is gone already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory with a configuration and a store in it.
pub struct Place {
    dir: PathBuf,
}

impl Place {
    /// Makes the directory, and writes the configuration.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn new(dir: PathBuf, config: &str) -> Result<Place, Failure> {
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("storedd.toml"), config)?;
        Ok(Place { dir })
    }

    /// The directory of the store.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The command `storectl` for this store, to be given its arguments.
    ///
    /// # Errors
    /// If this program does not know where it lies.
    pub fn storectl(&self) -> Result<Command, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([AS_CLIENT.as_ref(), "--data-dir".as_ref(), self.data().as_os_str()]).stdin(Stdio::null());
        Ok(command)
    }

    /// What `storectl --json ARGUMENTS` prints.
    ///
    /// # Errors
    /// If it ends with another status than 0, or 1 with `--json` output: something could not be proven.
    pub fn ctl(&self, arguments: &[&str]) -> Result<serde_json::Value, Failure> {
        let output = self.storectl()?.arg("--json").args(arguments).output()?;
        if !output.status.success() && (output.status.code() != Some(1) || output.stdout.is_empty()) {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Failure::new(format!("storectl {}: {}: {said}", arguments.join(" "), output.status)));
        }
        serde_json::from_slice(&output.stdout).map_err(|e| Failure::new(format!("storectl {arguments:?}: {e}")))
    }

    /// Ends a daemon of it as SIGTERM does: with a checkpoint.
    ///
    /// # Errors
    /// If it does not answer, or fails at its end.
    pub fn stop(&self, mut daemon: Daemon) -> Result<(), Failure> {
        self.client()?.call(&proto::Request::Shutdown { now: false })?;
        match daemon.child.wait()? {
            status if status.success() => Ok(()),
            status => Err(Failure::new(format!("the daemon ended with {status}"))),
        }
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.data().join("control.sock")
    }

    /// Starts the daemon, and waits until it is READY.
    ///
    /// # Errors
    /// If it ends, or is not READY in ten minutes.
    pub fn start(&self) -> Result<Daemon, Failure> {
        self.start_under(&[])
    }

    /// As [`Place::start`], as the child of another program with such arguments.
    ///
    /// # Errors
    /// As [`Place::start`].
    pub fn start_under(&self, before: &[&str]) -> Result<Daemon, Failure> {
        let notify = self.dir.join("notify");
        let _ = fs::remove_file(&notify);
        let ear = UnixDatagram::bind(&notify)?;
        let begun = Instant::now();
        let own = std::env::current_exe()?;
        let mut command = match before {
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(own);
                command
            }
            [] => Command::new(own),
        };
        let child = command
            .arg(AS_DAEMON)
            .args([self.dir.join("storedd.toml"), self.data()])
            .env("NOTIFY_SOCKET", &notify)
            .stdout(Stdio::null())
            .spawn()?;
        let mut daemon = Daemon { child, ready: Duration::ZERO };
        ear.set_read_timeout(Some(Duration::from_millis(100)))?;
        let mut line = [0; 4096];
        while begun.elapsed() < PATIENCE {
            match ear.recv(&mut line) {
                Ok(n) if String::from_utf8_lossy(&line[..n]).lines().any(|l| l == "READY=1") => {
                    daemon.ready = begun.elapsed();
                    return Ok(daemon);
                }
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    if let Some(status) = daemon.child.try_wait()? {
                        return Err(Failure::new(format!("the daemon ended with {status}")));
                    }
                }
                Err(e) => return Err(e.into()),
            }
        }
        Err(Failure::new(format!("not READY after {} s", PATIENCE.as_secs())))
    }

    /// A connection to the control socket.
    ///
    /// # Errors
    /// If nobody answers.
    pub fn client(&self) -> Result<Client, Failure> {
        Ok(Client::connect(self.socket(), "storedd-bench", Timeouts::default())?)
    }

    /// The files of the store whose name starts so.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn files(&self, start: &str) -> Result<Vec<PathBuf>, Failure> {
        let mut files = Vec::new();
        for entry in fs::read_dir(self.data().join("mboxlist"))? {
            let path = entry?.path();
            if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(start)) {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }
}
