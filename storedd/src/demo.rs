//! `storedd demo`: the whole story in a temporary directory, with a real daemon as a child process: mailboxes in,
//! `kill -9` in mid-write, recovery, a damaged database, and at the end a table of what was kept and lost. Exit status 0
//! means that nothing acknowledged was lost.

use proto::client::{Client, Timeouts};
use proto::{Command, Reply, Request};
use std::collections::BTreeSet;
use std::error::Error;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// How long the demo waits for a daemon before it gives up.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the writers write before the daemon is killed.
const WRITE_TIME: Duration = Duration::from_millis(1500);
/// Writers at once.
const WRITERS: usize = 8;

/// A row of the closing table.
struct Line {
    what: &'static str,
    acknowledged: usize,
    kept: usize,
    more: String,
}

/// Runs the demo; the exit status of the program.
#[must_use]
pub fn run() -> u8 {
    match story() {
        Ok(lost) => u8::from(lost > 0) * crate::error::exit::DAMAGED,
        Err(e) => {
            eprintln!("demo: {e}");
            crate::error::exit::BUG
        }
    }
}

fn say(text: impl AsRef<str>) {
    println!("{}", text.as_ref());
    // Nobody who watches a demo is helped by an error here.
    drop(std::io::stdout().flush());
}

fn story() -> Outcome<usize> {
    let home = tempfile::Builder::new().prefix("storedd-demo-").tempdir()?;
    let dir = home.path().join("store");
    let mut table = Vec::new();

    say("storedd demo: one store, in a temporary directory, from its first start to its worst night\n");
    say("1. First start. The daemon makes a store and says when it is ready.");
    let daemon = Daemon::start(&dir)?;
    say(format!("   pid {}, socket {}", daemon.child.id(), daemon.socket.display()));

    say("\n2. Users and mailboxes. Each line below is on disk before it is printed.");
    let mut client = daemon.client()?;
    let first = fill(&mut client)?;
    let mut ledger = first.clone();

    say(format!("\n3. {WRITERS} clients create mailboxes as fast as they can, and in the middle of it: kill -9."));
    let (acknowledged, rate) = daemon.write_until_killed()?;
    say(format!("   {} more mailboxes were acknowledged ({rate} a second) when the daemon died", acknowledged.len()));
    ledger.extend(acknowledged.iter().cloned());

    say("\n4. Start again. Recovery is part of every start; nobody has to be called.");
    let daemon = Daemon::start(&dir)?;
    say(format!("   {}", daemon.status()?.last_start));
    let there = daemon.mailboxes()?;
    table.push(compare("kill -9 in mid-write", &ledger, &there));
    // What was written but not acknowledged may be there; from now on it counts as there.
    ledger = there;

    say("\n5. Once more, and this time the database file is overwritten in the middle while the store is down.");
    daemon.write_until_killed().map(|(more, _)| ledger.extend(more))?;
    let damaged = damage(&dir.join("mboxlist/mboxlist.redb"))?;
    say(format!("   {damaged}"));
    let daemon = Daemon::start(&dir)?;
    say(format!("   {}", daemon.status()?.last_start));
    let report = daemon.report()?;
    for file in &report.quarantined {
        say(format!(
            "   kept for analysis: {}",
            Path::new(file).strip_prefix(home.path()).unwrap_or(Path::new(file)).display()
        ));
    }
    let there = daemon.mailboxes()?;
    table.push(compare("kill -9, then a damaged database", &ledger, &there));
    ledger = there;

    say("\n6. A second daemon on the same store is refused, and a clean stop leaves nothing to replay.");
    say(format!("   second daemon: {}", second_daemon(&dir)?));
    daemon.shutdown()?;
    let daemon = Daemon::start(&dir)?;
    say(format!("   {}", daemon.status()?.last_start));
    table.push(compare("clean stop and start", &ledger, &daemon.mailboxes()?));
    daemon.shutdown()?;
    Ok(print_table(&table))
}

fn print_table(table: &[Line]) -> usize {
    let lost: usize = table.iter().map(|l| l.acknowledged - l.kept).sum();
    say(format!("\n{:<34} {:>12} {:>8} {:>6}  {}", "what happened", "acknowledged", "kept", "lost", "kept besides"));
    for line in table {
        let lost = line.acknowledged - line.kept;
        say(format!("{:<34} {:>12} {:>8} {:>6}  {}", line.what, line.acknowledged, line.kept, lost, line.more));
    }
    say(if lost == 0 {
        "\nNothing acknowledged was lost. The temporary directory is gone again; a store that stays:\n\
         storedd --data-dir ./store, and in a second terminal: storectl --data-dir ./store status"
    } else {
        "\nACKNOWLEDGED CHANGES WERE LOST. This is a bug."
    });
    lost
}

fn compare(what: &'static str, acknowledged: &BTreeSet<String>, there: &BTreeSet<String>) -> Line {
    let kept = acknowledged.intersection(there).count();
    let more = there.difference(acknowledged).count();
    let more = if more == 0 { String::new() } else { format!("{more} written, their answer cut off by the kill") };
    Line { what, acknowledged: acknowledged.len(), kept, more }
}

/// The first users; returns every mailbox that was acknowledged.
fn fill(client: &mut Client) -> Outcome<BTreeSet<String>> {
    let mut ledger = BTreeSet::new();
    for user in ["anna@example.org", "joe@example.org", "zoë"] {
        let command = Command::UserAdd {
            user: user.to_owned(),
            partition: None,
            quota_bytes: Some(2 << 30),
            quota_messages: None,
        };
        match client.call(&Request::Change { command, dry_run: false }) {
            Ok(_) => {
                ledger.insert(format!("user/{user}/INBOX"));
                say(format!("   user add {user}"));
            }
            Err(e) => say(format!("   user add {user}\n      refused, nothing changed: {}", e.failure().message)),
        }
    }
    for name in [
        "user/joe@example.org/Projekte/Äpfel",
        "user/joe@example.org/受信箱",
        "user/anna@example.org/Sent",
        "shared/announce",
    ] {
        let command = Command::MailboxCreate { name: name.to_owned(), partition: None };
        client.call(&Request::Change { command, dry_run: false })?;
        ledger.insert(name.to_owned());
        say(format!("   mailbox create {name}"));
    }
    Ok(ledger)
}

/// Overwrites a page in the middle of a file, as a broken controller would.
fn damage(path: &Path) -> Outcome<String> {
    let mut file = std::fs::OpenOptions::new().write(true).open(path)?;
    let len = file.metadata()?.len();
    let at = len / 2 / 4096 * 4096;
    file.seek(SeekFrom::Start(at))?;
    file.write_all(&[0xa5; 4096])?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&[0xa5; 256])?;
    file.sync_all()?;
    Ok(format!(
        "overwrote 4096 bytes at offset {at} and 256 bytes at offset 0 of {}, which has {len}",
        path.file_name().unwrap_or_default().display()
    ))
}

fn second_daemon(dir: &Path) -> Outcome<String> {
    let out = std::process::Command::new(std::env::current_exe()?).arg("--data-dir").arg(dir).output()?;
    let text = String::from_utf8_lossy(&out.stderr);
    let line = text.lines().find(|l| l.contains("in use")).or(text.lines().last()).unwrap_or_default();
    let message = line.rsplit_once("message=").map_or(line, |(_, message)| message);
    Ok(format!("{} (exit status {})", message.trim_matches('"'), out.status.code().unwrap_or(-1)))
}

/// A daemon in a child process; killed when dropped.
struct Daemon {
    child: Child,
    socket: PathBuf,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Daemon {
    fn start(dir: &Path) -> Outcome<Daemon> {
        let log_dir = dir.parent().unwrap_or(dir);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log_dir.join("daemon.log"))?;
        let child = std::process::Command::new(std::env::current_exe()?)
            .arg("--data-dir")
            .arg(dir)
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut daemon = Daemon { child, socket: dir.join("control.sock") };
        let clock = crate::env::RealEnv::default();
        let uptime = || crate::env::Env::uptime(&clock);
        while uptime() < START_TIMEOUT {
            if let Some(status) = daemon.child.try_wait()? {
                let text = std::fs::read_to_string(log_dir.join("daemon.log")).unwrap_or_default();
                return Err(format!("the daemon ended with {status}:\n{text}").into());
            }
            if let Ok(client) = daemon.client()
                && client.hello().state == "ready"
            {
                return Ok(daemon);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(format!("the daemon was not ready after {} s", START_TIMEOUT.as_secs()).into())
    }

    fn client(&self) -> Outcome<Client> {
        Ok(Client::connect(&self.socket, "demo", Timeouts::default())?)
    }

    fn status(&self) -> Outcome<proto::Status> {
        match self.client()?.call(&Request::Status)? {
            Reply::Status(status) => Ok(*status),
            other => Err(format!("unexpected answer {other:?}").into()),
        }
    }

    fn report(&self) -> Outcome<proto::Report> {
        match self.client()?.call(&Request::RecoverReport { last: 1 })? {
            Reply::Reports(mut reports) if !reports.is_empty() => Ok(reports.remove(0)),
            other => Err(format!("unexpected answer {other:?}").into()),
        }
    }

    fn mailboxes(&self) -> Outcome<BTreeSet<String>> {
        match self.client()?.call(&Request::MailboxList { pattern: "*".to_owned() })? {
            Reply::Mailboxes(list) => Ok(list.into_iter().map(|m| m.name).collect()),
            other => Err(format!("unexpected answer {other:?}").into()),
        }
    }

    fn shutdown(mut self) -> Outcome<()> {
        self.client()?.call(&Request::Shutdown { now: false })?;
        self.child.wait()?;
        Ok(())
    }

    /// Lets clients create mailboxes, kills the daemon in the middle, and returns what was acknowledged.
    fn write_until_killed(mut self) -> Outcome<(BTreeSet<String>, u64)> {
        let ledger = Arc::new(Mutex::new(BTreeSet::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let run = std::process::id() as u64 ^ u64::from(self.child.id());
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let (ledger, stop, mut client) = (ledger.clone(), stop.clone(), self.client()?);
            writers.push(std::thread::spawn(move || {
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let name = format!("user/joe@example.org/load-{run}/{writer}-{n}");
                    let command = Command::MailboxCreate { name: name.clone(), partition: None };
                    if client.call(&Request::Change { command, dry_run: false }).is_err() {
                        break;
                    }
                    ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(name);
                }
            }));
        }
        std::thread::sleep(WRITE_TIME);
        self.child.kill()?;
        self.child.wait()?;
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.join().map_err(|_| "a writer panicked")?;
        }
        let acknowledged = std::mem::take(&mut *ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        let rate = acknowledged.len() as u64 * 1000 / WRITE_TIME.as_millis() as u64;
        Ok((acknowledged, rate))
    }
}
