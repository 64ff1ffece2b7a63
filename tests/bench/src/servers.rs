//! The servers that are measured beside each other: storedd as the daemon that it is, Cyrus and Dovecot from Debian in namespaces of
//! their own (`tests/peers/peers`). All of them with durable settings, on one disk, taking mail by LMTP.

use crate::daemon::{Daemon, Place};
use crate::engines::Failure;
use crate::job::Random;
use crate::lmtp::{self, Session};
use proto::{Command, Request};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

/// Longest time until a server takes its first message.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of the first message that each user gets.
const FIRST: usize = 4096;

/// What runs.
enum Process {
    Store(Place, Daemon),
    Peer(Child),
}

/// A server that runs; asked to end when this goes.
pub struct Server {
    /// `storedd`, `cyrus` or `dovecot`.
    pub name: &'static str,
    /// Where it takes mail, on loopback.
    pub port: u16,
    /// Where a peer speaks IMAP; 0 for storedd, which does not.
    pub imap: u16,
    process: Process,
}

impl Drop for Server {
    fn drop(&mut self) {
        match &mut self.process {
            // SIGTERM, so that the script ends what it started.
            Process::Peer(child) => {
                let _ = std::process::Command::new("kill").arg(child.id().to_string()).status();
                let _ = child.wait();
            }
            // Asked to: killing strace would leave its child alive.
            Process::Store(place, daemon) => {
                if place.client().is_ok_and(|mut c| c.call(&Request::Shutdown { now: true }).is_ok()) {
                    let _ = daemon.child.wait();
                }
            }
        }
    }
}

/// A port that nobody has.
///
/// # Errors
/// If there is none.
pub fn free_port() -> Result<u16, Failure> {
    Ok(std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The command that notes every sync of what it starts, a line each.
fn strace(out: &str) -> [&str; 7] {
    ["strace", "-f", "--seccomp-bpf", "-e", "trace=fsync,fdatasync,sync_file_range,syncfs,sync,msync", "-o", out]
}

/// The directory with the store in it, and its configuration: LMTP on that port, for any domain.
///
/// # Errors
/// Those of the file system.
pub fn store_place(dir: PathBuf, port: u16) -> Result<Place, Failure> {
    let config =
        format!("[lmtp]\nlisten = \"127.0.0.1:{port}\"\nlocal_domains = \"*\"\n[messages]\nlevel = \"warn\"\n");
    Place::new(dir, &config)
}

impl Server {
    /// storedd with so many users in `dir/storedd`; with `trace` every sync stands in that file.
    ///
    /// # Errors
    /// If it does not come up, or refuses a message.
    pub fn store(dir: &Path, users: u64, trace: Option<&Path>) -> Result<Server, Failure> {
        let port = free_port()?;
        let place = store_place(dir.join("storedd"), port)?;
        let trace = trace.map(|t| t.display().to_string());
        let strace = trace.as_deref().map_or(Vec::new(), |out| strace(out).to_vec());
        let daemon = place.start_under(&strace)?;
        let mut client = place.client()?;
        for n in 0..users {
            let user = lmtp::user(n);
            let command = Command::UserAdd { user, partition: None, quota_bytes: None, quota_messages: None };
            client.call(&Request::Change { command, dry_run: false })?;
        }
        let server = Server { name: "storedd", port, imap: 0, process: Process::Store(place, daemon) };
        server.warm_up(users)?;
        Ok(server)
    }

    /// A peer that is installed in `work`, with its mail in `dir/<name>`.
    ///
    /// # Errors
    /// If it does not come up, or refuses a message.
    pub fn peer(
        name: &'static str,
        work: &Path,
        dir: &Path,
        users: u64,
        trace: Option<&Path>,
    ) -> Result<Server, Failure> {
        let server = Server::restart_peer(name, work, dir, trace)?;
        server.warm_up(users).map_err(|e| Failure::new(format!("{name}: {e}")))?;
        Ok(server)
    }

    /// A peer over the mail that is there; it may not listen yet.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn restart_peer(name: &'static str, work: &Path, dir: &Path, trace: Option<&Path>) -> Result<Server, Failure> {
        let (port, imap, data) = (free_port()?, free_port()?, dir.join(name));
        let log = fs::File::create(dir.join(format!("{name}.log")))?;
        let mut command = std::process::Command::new(script());
        command
            .args(["run".as_ref(), name.as_ref(), work.as_os_str(), data.as_os_str()])
            .args([port, imap].map(|p| p.to_string()));
        if let Some(trace) = trace {
            command.env("PEERS_STRACE", strace(&trace.display().to_string()).join(" "));
        }
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        Ok(Server { name, port, imap, process: Process::Peer(child) })
    }

    /// A first message for each user; a server that has just started may need a moment. All of them in one session: processes of Cyrus
    /// that make mailboxes in the same second give them the same id, and so the same directory.
    fn warm_up(&self, users: u64) -> Result<(), Failure> {
        let begun = Instant::now();
        let text = lmtp::message(FIRST, &mut Random::new(0));
        let (mut session, mut n) = (None, 0);
        while n < users {
            let open = session.take().map_or_else(|| Session::open(self.port), Ok);
            match open.and_then(|mut open| open.deliver(&lmtp::user(n), &text).map(|()| open)) {
                Ok(open) => (session, n) = (Some(open), n + 1),
                Err(e) if begun.elapsed() > PATIENCE => return Err(e),
                Err(_) => std::thread::sleep(Duration::from_secs(1)),
            }
        }
        Ok(())
    }

    /// Waits until everything put off is done.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn settle(&self) -> Result<(), Failure> {
        if let Process::Store(place, _) = &self.process {
            place.client()?.call(&Request::Checkpoint)?;
        }
        Ok(())
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../peers/peers")
}

/// Runs a shell command beside a peer that runs, in its namespaces, where its mail lies in `/srv/peer`.
///
/// # Errors
/// If it fails, with the last of what it said.
pub fn beside(name: &str, work: &Path, command: &str) -> Result<Output, Failure> {
    let mut run = std::process::Command::new(script());
    run.args(["in".as_ref(), name.as_ref(), work.as_os_str()]).args(["sh", "-c", command]).stdin(Stdio::null());
    let output = run.output()?;
    match output.status.success() {
        true => Ok(output),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
            Err(Failure::new(format!("{name}: {command}: {}: {said}", output.status)))
        }
    }
}
