//! The state of the daemon as files in the data directory, for people and monitors that do not ask the socket.
//!
//! # Format
//! `state`: one `key=value` a line: `state` (`recovering`, `ready`, `read-only`, `draining`, `poisoned`, `stopped`), `pid` (not
//! when stopped), `version`, `socket`, `started`, `changed`, then the times of the last `checkpoint`, `log_cleanup`,
//! `snapshot`, `peruser`, `expire` and `purge`, as far as there was one. Times are RFC 3339 UTC.
//! `stored.ckp`, `stored.lcu`, `stored.per`, `stored.exp` and `stored.pur`: the time of the last checkpoint, log clean-up, per-user
//! write-out, run of the rules of ageing and purge as one line, also the time of the file itself; one that grows old is how a hung daemon shows.
//!
//! # Operation
//! Each is written beside its name and renamed, so that a reader sees the old text or the new one; nothing is synced,
//! because nothing depends on these files. After a power cut they may be empty or old.
//! What they are to say is told at once ([`StateFile::set_state`], [`StateFile::note`]) and written by a thread of its own, which
//! nobody waits for: a disk that does not answer holds that thread and no other. Until a file says what it should it is *owed*, and
//! is tried again every second; an alarm names one that is owed for long.

use crate::disk::{self, Access, Disk};
use crate::env::Env;
use crate::lsn::Micros;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Name of the state file.
pub const FILE: &str = "state";
/// Stamp of the last checkpoint.
pub const CHECKPOINT_STAMP: &str = "stored.ckp";
/// Stamp of the last log clean-up.
pub const CLEANUP_STAMP: &str = "stored.lcu";
/// Stamp of the last run of the rules of ageing.
pub const EXPIRE_STAMP: &str = "stored.exp";
/// Stamp of the last write-out of what users have seen.
pub const PERUSER_STAMP: &str = "stored.per";
/// Stamp of the last purge.
pub const PURGE_STAMP: &str = "stored.pur";

/// Time between two attempts to write what could not be written.
const AGAIN: Duration = Duration::from_secs(1);

/// State word after a stop in good order.
pub const STOPPED: &str = "stopped";
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
    /// Last run of the rules of ageing.
    pub expire: Option<Micros>,
    /// Last purge.
    pub purge: Option<Micros>,
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
    /// The rules of ageing have looked at every mailbox.
    Expire,
    /// What was taken away long enough ago is gone for good.
    Purge,
}

/// What the files are to say.
#[derive(Debug, Default)]
struct Due {
    facts: Facts,
    /// Files that do not say it yet, and since when they should.
    owed: BTreeMap<&'static str, Duration>,
    /// A failure was told of, and none is told of again before something was written.
    told: bool,
}

/// Keeps the files up to date.
#[derive(Debug)]
pub struct StateFile {
    disk: Arc<dyn Disk>,
    env: Arc<dyn Env>,
    /// The state word of the run before.
    before: String,
    due: Mutex<Due>,
    /// Signalled when something is owed, and when nothing is any more.
    changed: Condvar,
    /// Held while files are written, so that none goes back to an older text.
    writing: Mutex<()>,
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
        let due = Mutex::new(Due { facts, ..Due::default() });
        StateFile { disk, env, before, due, changed: Condvar::new(), writing: Mutex::default() }
    }

    /// Starts the thread that writes. It ends with the process: it may be waiting for a disk.
    ///
    /// # Errors
    /// If no thread can be made.
    pub fn start(self: &Arc<StateFile>) -> io::Result<()> {
        let state = self.clone();
        std::thread::Builder::new().name("state".to_owned()).spawn(move || state.run()).map(drop)
    }

    /// True if the run before ended because its log failed.
    #[must_use]
    pub fn follows_poison(&self) -> bool {
        self.before == POISONED
    }

    /// Another state word.
    pub fn set_state(&self, word: &str) {
        let now = self.env.now();
        self.change(&[], |facts| {
            word.clone_into(&mut facts.state);
            facts.changed = Some(now);
            if word == STOPPED {
                facts.pid = None;
            }
        });
    }

    /// Something was done now: its time is kept, and its stamp owed.
    pub fn note(&self, act: Act) {
        let stamp: &[&'static str] = match act {
            Act::Checkpoint => &[CHECKPOINT_STAMP],
            Act::LogCleanup => &[CLEANUP_STAMP],
            Act::Expire => &[EXPIRE_STAMP],
            Act::Purge => &[PURGE_STAMP],
            Act::Peruser => &[PERUSER_STAMP],
            Act::Snapshot => &[],
        };
        let now = self.env.now();
        self.change(stamp, |facts| *facts.time_of(act) = Some(now));
    }

    fn change(&self, stamps: &[&'static str], change: impl FnOnce(&mut Facts)) {
        let now = self.env.uptime();
        let mut due = self.due();
        change(&mut due.facts);
        for file in [FILE].iter().chain(stamps) {
            due.owed.entry(file).or_insert(now);
        }
        drop(due);
        self.changed.notify_all();
    }

    /// Files that say less than what was done, and for how long.
    #[must_use]
    pub fn late(&self) -> Vec<(&'static str, Duration)> {
        let now = self.env.uptime();
        self.due().owed.iter().map(|(file, since)| (*file, now.saturating_sub(*since))).collect()
    }

    /// What the files say, or are to say.
    #[must_use]
    pub fn facts(&self) -> Facts {
        self.due().facts.clone()
    }

    /// Waits until nothing is owed, or for so long; true if nothing is.
    pub fn settle(&self, patience: Duration) -> bool {
        let until = self.env.uptime() + patience;
        let mut due = self.due();
        loop {
            if due.owed.is_empty() {
                return true;
            }
            let left = until.saturating_sub(self.env.uptime());
            if left.is_zero() {
                return false;
            }
            due = self.changed.wait_timeout(due, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn due(&self) -> MutexGuard<'_, Due> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is owed whenever something is.
    fn run(&self) {
        loop {
            let mut due = self.due();
            while due.owed.is_empty() {
                due = self.changed.wait(due).unwrap_or_else(PoisonError::into_inner);
            }
            drop(due);
            if let Err(e) = self.write() {
                let told = std::mem::replace(&mut self.due().told, true);
                if !told {
                    tracing::warn!(event = "state_file", error = %e, "the state file could not be written");
                }
                std::thread::sleep(AGAIN);
            }
        }
    }

    /// Writes every file that is owed.
    ///
    /// # Errors
    /// Those of the disk; what is not written stays owed.
    pub fn write(&self) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let (facts, owed) = {
            let due = self.due();
            (due.facts.clone(), due.owed.keys().copied().collect::<Vec<_>>())
        };
        for file in owed {
            let text = facts.text_of(file);
            put(&*self.disk, file, &text)?;
            let mut due = self.due();
            due.told = false;
            // It is still owed if it is to say something else by now.
            if due.facts.text_of(file) == text {
                due.owed.remove(file);
            }
        }
        self.changed.notify_all();
        Ok(())
    }
}

impl Facts {
    fn time_of(&mut self, act: Act) -> &mut Option<Micros> {
        match act {
            Act::Checkpoint => &mut self.checkpoint,
            Act::LogCleanup => &mut self.log_cleanup,
            Act::Snapshot => &mut self.snapshot,
            Act::Peruser => &mut self.peruser,
            Act::Expire => &mut self.expire,
            Act::Purge => &mut self.purge,
        }
    }

    /// What one of the files says.
    fn text_of(&self, file: &str) -> String {
        let stamp = |time: Option<Micros>| format!("{}\n", time.map(rfc3339).unwrap_or_default());
        match file {
            CHECKPOINT_STAMP => stamp(self.checkpoint),
            CLEANUP_STAMP => stamp(self.log_cleanup),
            EXPIRE_STAMP => stamp(self.expire),
            PURGE_STAMP => stamp(self.purge),
            _ => self.text(),
        }
    }

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
            ("expire", time(self.expire)),
            ("purge", time(self.purge)),
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
            expire: time("expire"),
            purge: time("purge"),
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
        file.set_state("recovering");
        file.note(Act::Checkpoint);
        file.note(Act::LogCleanup);
        file.set_state("ready");
        assert_eq!(read(&*disk).unwrap(), None, "who tells waits for no disk");
        assert_eq!(
            file.late().iter().map(|(file, _)| *file).collect::<Vec<_>>(),
            [FILE, CHECKPOINT_STAMP, CLEANUP_STAMP]
        );
        file.write().unwrap();
        assert_eq!(file.late(), []);
        assert_eq!(text(CHECKPOINT_STAMP), "2023-11-14T22:13:20.002Z\n");
        assert_eq!(text(CLEANUP_STAMP), "2023-11-14T22:13:20.003Z\n");
        let expected = format!(
            "state=ready\npid=77\nversion={}\nsocket=/run/x y\nstarted=2023-11-14T22:13:20Z\n\
             changed=2023-11-14T22:13:20.004Z\ncheckpoint=2023-11-14T22:13:20.002Z\n\
             log_cleanup=2023-11-14T22:13:20.003Z\n",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(text(FILE), expected);

        file.set_state(STOPPED);
        file.write().unwrap();
        let found = read(&*disk).unwrap().unwrap();
        assert_eq!((found.state.as_str(), found.pid), ("stopped", None));
        let next = StateFile::new(Arc::clone(&disk), env, 78, "/s");
        next.set_state("ready");
        next.write().unwrap();
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
        let file = Arc::new(StateFile::new(Arc::clone(&disk), env, 1, "/s"));
        file.start().unwrap();
        file.set_state("ready");
        assert!(file.settle(Duration::from_secs(60)), "the thread writes it");
        assert_eq!(read(&*disk).unwrap().unwrap().state, "ready");
    }
}
