//! The state of the daemon as files in the data directory, for people and monitors that do not ask the socket.
//!
//! # Format
//! `state`: one `key=value` a line: `state` (`recovering`, `ready`, `read-only`, `draining`, `poisoned`, `stopped`), `pid` (not
//! when stopped), `version`, `socket`, `started`, `changed`, then the times of the last `checkpoint`, `log_cleanup`,
//! `snapshot` and `peruser`, as far as there was one. Times are RFC 3339 UTC.
//! `stored.ckp` and `stored.lcu`: the time of the last checkpoint and of the last log clean-up as one line, also the time
//! of the file itself; one that grows old is how a hung daemon shows.
//!
//! # Operation
//! Each is written beside its name and renamed, so that a reader sees the old text or the new one; nothing is synced,
//! because nothing depends on these files. After a power cut they may be empty or old. A failure to write them is for the
//! caller to report, never a reason to stop.

use crate::disk::{self, Access, Disk};
use crate::env::Env;
use crate::lsn::Micros;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Name of the state file.
pub const FILE: &str = "state";
/// Stamp of the last checkpoint.
pub const CHECKPOINT_STAMP: &str = "stored.ckp";
/// Stamp of the last log clean-up.
pub const CLEANUP_STAMP: &str = "stored.lcu";

const STOPPED: &str = "stopped";
const POISONED: &str = "poisoned";

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// State word.
    pub state: String,
    /// Process id; `None` when stopped.
    pub pid: Option<u32>,
    /// Version of the program.
    pub version: String,
    /// Control socket.
    pub socket: String,
    /// When the process started.
    pub started: Option<Micros>,
    /// When the state changed.
    pub changed: Option<Micros>,
    /// Last checkpoint.
    pub checkpoint: Option<Micros>,
    /// Last log clean-up.
    pub log_cleanup: Option<Micros>,
    /// Last snapshot.
    pub snapshot: Option<Micros>,
    /// Last per-user write-out.
    pub peruser: Option<Micros>,
}

/// Something whose time is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// A checkpoint was made.
    Checkpoint,
    /// Log segments were looked through, and retired where nobody needs them.
    LogCleanup,
    /// A snapshot was made.
    Snapshot,
    /// State of users was written out.
    Peruser,
}

/// Writes the files.
#[derive(Debug)]
pub struct StateFile {
    disk: Arc<dyn Disk>,
    env: Arc<dyn Env>,
    /// The state word of the run before.
    before: String,
    facts: Mutex<Facts>,
    /// Held while the file is written, so that it never goes back to an older text.
    writing: Mutex<()>,
    /// Stamps that are not written, and since when they should be; also while a disk does not answer.
    owed: Mutex<BTreeMap<&'static str, Duration>>,
}

impl StateFile {
    /// For this process. The times of the run before are kept; nothing is written yet.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, env: Arc<dyn Env>, pid: u32, socket: &str) -> StateFile {
        let mut facts = read(&*disk).ok().flatten().unwrap_or_default();
        let before = std::mem::take(&mut facts.state);
        facts.pid = Some(pid);
        facts.version = env!("CARGO_PKG_VERSION").to_owned();
        facts.socket = socket.to_owned();
        facts.started = Some(env.now());
        StateFile { disk, env, before, facts: Mutex::new(facts), writing: Mutex::default(), owed: Mutex::default() }
    }

    /// True if the run before ended because its log failed.
    #[must_use]
    pub fn follows_poison(&self) -> bool {
        self.before == POISONED
    }

    /// Writes another state word.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn set_state(&self, word: &str) -> io::Result<()> {
        self.change(|facts, now| {
            word.clone_into(&mut facts.state);
            facts.changed = Some(now);
            if word == STOPPED {
                facts.pid = None;
            }
        })
    }

    /// Notes that something was done now, and writes its stamp. After a failure the stamp is owed until a later call
    /// succeeds.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn note(&self, act: Act) -> io::Result<()> {
        let stamp = match act {
            Act::Checkpoint => Some(CHECKPOINT_STAMP),
            Act::LogCleanup => Some(CLEANUP_STAMP),
            Act::Snapshot | Act::Peruser => None,
        };
        let file = stamp.unwrap_or(FILE);
        self.owed().entry(file).or_insert(self.env.uptime());
        let mut at = Micros(0);
        self.change(|facts, now| {
            at = now;
            *match act {
                Act::Checkpoint => &mut facts.checkpoint,
                Act::LogCleanup => &mut facts.log_cleanup,
                Act::Snapshot => &mut facts.snapshot,
                Act::Peruser => &mut facts.peruser,
            } = Some(now);
        })?;
        if let Some(stamp) = stamp {
            put(&*self.disk, stamp, &format!("{}\n", rfc3339(at)))?;
        }
        self.owed().remove(file);
        Ok(())
    }

    /// Files that say less than what was done, and for how long.
    #[must_use]
    pub fn late(&self) -> Vec<(&'static str, Duration)> {
        let now = self.env.uptime();
        self.owed().iter().map(|(file, since)| (*file, now.saturating_sub(*since))).collect()
    }

    fn owed(&self) -> MutexGuard<'_, BTreeMap<&'static str, Duration>> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process ends in good order: no process id is left.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn stopped(&self) -> io::Result<()> {
        self.set_state(STOPPED)
    }

    /// What is written, or is being written.
    #[must_use]
    pub fn facts(&self) -> Facts {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut Facts, Micros)) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let text = {
            let mut facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut facts, self.env.now());
            facts.text()
        };
        put(&*self.disk, FILE, &text)
    }
}

impl Facts {
    fn text(&self) -> String {
        let time = |t: Option<Micros>| t.map(rfc3339).unwrap_or_default();
        let lines = [
            ("state", self.state.clone()),
            ("pid", self.pid.map(|p| p.to_string()).unwrap_or_default()),
            ("version", self.version.clone()),
            ("socket", self.socket.clone()),
            ("started", time(self.started)),
            ("changed", time(self.changed)),
            ("checkpoint", time(self.checkpoint)),
            ("log_cleanup", time(self.log_cleanup)),
            ("snapshot", time(self.snapshot)),
            ("peruser", time(self.peruser)),
        ];
        let shown = lines.into_iter().filter(|(_, value)| !value.is_empty());
        shown.map(|(key, value)| format!("{key}={}\n", value.replace(char::is_control, " "))).collect()
    }

    fn parse(text: &str) -> Facts {
        let value = |key: &str| text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default();
        let time = |key: &str| {
            let micros = value(key).parse::<jiff::Timestamp>().ok()?.as_microsecond();
            u64::try_from(micros).ok().map(Micros)
        };
        Facts {
            state: value("state").to_owned(),
            pid: value("pid").parse().ok(),
            version: value("version").to_owned(),
            socket: value("socket").to_owned(),
            started: time("started"),
            changed: time("changed"),
            checkpoint: time("checkpoint"),
            log_cleanup: time("log_cleanup"),
            snapshot: time("snapshot"),
            peruser: time("peruser"),
        }
    }
}

/// Reads the state file; `None` if there is none. What cannot be understood in it is left out.
///
/// # Errors
/// Those of the disk.
pub fn read(disk: &dyn Disk) -> io::Result<Option<Facts>> {
    match disk::read_small(disk, FILE, 64 << 10) {
        Ok(bytes) => Ok(Some(Facts::parse(&String::from_utf8_lossy(&bytes)))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn put(disk: &dyn Disk, path: &str, text: &str) -> io::Result<()> {
    let candidate = format!("{path}.new");
    match disk.remove(&candidate) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    disk.open(&candidate, Access::CreateNew)?.write_at(0, text.as_bytes())?;
    disk.rename(&candidate, path)
}

fn rfc3339(time: Micros) -> String {
    let stamp = i64::try_from(time.0).ok().and_then(|t| jiff::Timestamp::from_microsecond(t).ok());
    stamp.map(|t| t.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;
    use crate::env::SimEnv;

    const START: Micros = Micros(1_700_000_000_000_000);

    // Row 14.
    #[test]
    fn the_file_says_what_happens_and_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(dir.path()).unwrap());
        let env: Arc<dyn Env> = Arc::new(SimEnv::new(START, 1));
        let text = |name: &str| String::from_utf8(disk::read_small(&*disk, name, 4096).unwrap()).unwrap();
        assert_eq!(read(&*disk).unwrap(), None);

        let file = StateFile::new(Arc::clone(&disk), Arc::clone(&env), 77, "/run/x\ny");
        assert_eq!(read(&*disk).unwrap(), None, "nothing is written before something happens");
        file.set_state("recovering").unwrap();
        file.note(Act::Checkpoint).unwrap();
        file.note(Act::LogCleanup).unwrap();
        file.set_state("ready").unwrap();
        assert_eq!(text(CHECKPOINT_STAMP), "2023-11-14T22:13:20.002Z\n");
        assert_eq!(text(CLEANUP_STAMP), "2023-11-14T22:13:20.003Z\n");
        let expected = format!(
            "state=ready\npid=77\nversion={}\nsocket=/run/x y\nstarted=2023-11-14T22:13:20Z\n\
             changed=2023-11-14T22:13:20.004Z\ncheckpoint=2023-11-14T22:13:20.002Z\n\
             log_cleanup=2023-11-14T22:13:20.003Z\n",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(text(FILE), expected);

        file.stopped().unwrap();
        let found = read(&*disk).unwrap().unwrap();
        assert_eq!((found.state.as_str(), found.pid), ("stopped", None));
        let next = StateFile::new(Arc::clone(&disk), env, 78, "/s");
        next.set_state("ready").unwrap();
        let found = read(&*disk).unwrap().unwrap();
        assert_eq!((found.pid, found.checkpoint), (Some(78), Some(Micros(START.0 + 2000))));
        assert_eq!(found, next.facts());
    }

    #[test]
    fn whatever_lies_there_is_read_without_harm() {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(dir.path()).unwrap());
        for text in ["", "\n=\n==", "state", "pid=x\ncheckpoint=yesterday", "pid=99999999999"] {
            put(&*disk, FILE, text).unwrap();
            assert_eq!(read(&*disk).unwrap().unwrap(), Facts::default(), "{text}");
        }
        let env = Arc::new(SimEnv::new(START, 1));
        StateFile::new(Arc::clone(&disk), env, 1, "/s").set_state("ready").unwrap();
        assert_eq!(read(&*disk).unwrap().unwrap().state, "ready");
    }
}
