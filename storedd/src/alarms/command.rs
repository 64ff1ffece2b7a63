//! The administrator's program: run for each alarm that is raised or cleared.
//!
//! # Operation
//! The program is started directly, without a shell; what happened stands in its arguments and its environment. Each
//! alarm (name and subject) has at most one program at work; what happens to that alarm meanwhile waits, and only the
//! newest of it: whoever is called learns the present state, not all of history. A program that takes too long is killed,
//! with what it has started: it leads a process group of its own. At a stop of the daemon those at work have [`GRACE`].
//! The end of every program is waited for, on a thread of its own; a failure is logged and never repeated.

use super::{Alarm, Change};
use crate::store::rfc3339;
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often a running program is looked at.
const POLL: Duration = Duration::from_millis(20);
/// How long programs at work may go on when the daemon stops.
pub const GRACE: Duration = Duration::from_secs(2);

/// What is to be run.
#[derive(Debug, Clone)]
struct Call {
    program: PathBuf,
    timeout: Duration,
    what: &'static str,
    alarm: Alarm,
}

/// Runs the program, one at a time for each alarm.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// Alarms whose program is at work, and what is to be told next.
    busy: Arc<Mutex<BTreeMap<String, Option<Call>>>>,
    /// Set when programs have to end now.
    ended: Arc<AtomicBool>,
}

impl Caller {
    /// Tells `program` of a change; returns at once.
    pub fn tell(&self, program: &Path, timeout: Duration, change: &Change) {
        if self.ended.load(Ordering::Acquire) {
            return;
        }
        let (what, alarm) = match change {
            Change::Raised(alarm) | Change::Severity(alarm) => ("raised", alarm),
            Change::Cleared(alarm) => ("cleared", alarm),
        };
        let call = Call { program: program.to_owned(), timeout, what, alarm: alarm.clone() };
        let key = format!("{} {}", alarm.name.word(), alarm.subject);
        {
            let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(next) = busy.get_mut(&key) {
                *next = Some(call);
                return;
            }
            busy.insert(key.clone(), None);
        }
        let (caller, taken) = (self.clone(), key.clone());
        let run = move || {
            let mut next = Some(call);
            while let Some(call) = next {
                call.run(&caller.ended);
                next = caller.next(&taken);
            }
        };
        if let Err(e) = std::thread::Builder::new().name("alarm-command".to_owned()).spawn(run) {
            self.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            tracing::error!(event = "alarm_command_failed", alarm = alarm.name.word(), error = %e);
        }
    }

    /// Waits at most `grace` for the programs at work, then kills them; nothing is told afterwards. A process that is
    /// replaced by its successor would never learn of their end.
    pub fn end(&self, grace: Duration) {
        self.idle_within(grace);
        self.ended.store(true, Ordering::Release);
        self.idle_within(grace);
    }

    fn idle_within(&self, mut left: Duration) {
        while !left.is_zero() && !self.busy.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            let step = POLL.min(left);
            std::thread::sleep(step);
            left -= step;
        }
    }

    /// What is to be told next of an alarm; if nothing, the alarm is no longer busy.
    fn next(&self, key: &str) -> Option<Call> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let next = busy.get_mut(key)?.take().filter(|_| !self.ended.load(Ordering::Acquire));
        if next.is_none() {
            busy.remove(key);
        }
        next
    }
}

impl Call {
    fn run(&self, ended: &AtomicBool) {
        let (alarm, program) = (self.alarm.name.word(), self.program.display());
        match self.end(ended) {
            Ok(Some(status)) if status.success() => {
                tracing::debug!(event = "alarm_command", alarm, %program, what = self.what);
            }
            Ok(Some(status)) => {
                tracing::error!(event = "alarm_command_failed", alarm, %program, what = self.what, %status);
            }
            Ok(None) => {
                let seconds = self.timeout.as_secs_f64();
                tracing::error!(event = "alarm_command_failed", alarm, %program, what = self.what, seconds, "killed: it took too long, or the daemon stops");
            }
            Err(e) => tracing::error!(event = "alarm_command_failed", alarm, %program, what = self.what, error = %e),
        }
    }

    /// Runs the program to its end; `None` if it had to be killed.
    fn end(&self, ended: &AtomicBool) -> std::io::Result<Option<ExitStatus>> {
        let mut child = self.command().spawn()?;
        let mut left = self.timeout;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            if left.is_zero() || ended.load(Ordering::Acquire) {
                // It may have ended by itself meanwhile, but not been waited for: its number is still its own.
                let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
                if let Some(Err(e)) = group.map(|group| kill_process_group(group, Signal::KILL)) {
                    tracing::debug!(event = "alarm_command", error = %e, "its process group is gone");
                }
                return child.wait().map(|_| None);
            }
            let step = POLL.min(left);
            std::thread::sleep(step);
            left -= step;
        }
    }

    fn command(&self) -> Command {
        let a = &self.alarm;
        let number = |n: f64| format!("{n:.0}");
        let optional = |n: Option<f64>| n.map(number).unwrap_or_default();
        let mut command = Command::new(&self.program);
        command.args([self.what, a.name.word(), &a.subject]);
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let facts = [
            ("EVENT", self.what.to_owned()),
            ("NAME", a.name.word().to_owned()),
            ("SUBJECT", a.subject.clone()),
            ("SEVERITY", a.severity.word().to_owned()),
            ("SINCE", rfc3339(a.since)),
            ("MESSAGE", a.message.clone()),
            ("CAUSE", a.cause.clone()),
            ("VALUE", number(a.value)),
            ("LIMIT", number(a.limit)),
            ("UNIT", a.unit.to_owned()),
            ("RATE", optional(a.rate)),
            ("TIME_TO_FULL", optional(a.time_to_full)),
            ("NEXT", a.next.to_owned()),
        ];
        for (name, value) in facts {
            command.env(format!("STOREDD_ALARM_{name}"), value.replace('\0', " "));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/").process_group(0);
        command
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test writes programs")]
mod tests {
    use super::*;
    use crate::alarms::{Name, Severity};
    use crate::lsn::Micros;
    use std::os::unix::fs::PermissionsExt;

    fn change(raised: bool) -> Change {
        let alarm = Alarm {
            name: Name::DiskSpace,
            subject: "log; $(touch x) \n".to_owned(),
            severity: Severity::Critical,
            since: Micros(1_700_000_000_000_000),
            message: "m".to_owned(),
            cause: "c".to_owned(),
            value: 5.0,
            limit: 10.0,
            unit: "bytes",
            rate: Some(2.0),
            time_to_full: None,
            next: "n",
        };
        if raised { Change::Raised(alarm) } else { Change::Cleared(alarm) }
    }

    fn program(dir: &Path, text: &str) -> PathBuf {
        let path = dir.join("program");
        std::fs::write(&path, format!("#!/bin/sh\ncd {}\n{text}\n", dir.display())).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn idle(caller: &Caller) {
        let step = Duration::from_millis(10);
        for _ in 0..3000 {
            if caller.busy.lock().unwrap().is_empty() {
                return;
            }
            std::thread::sleep(step);
        }
        panic!("the program is still at work");
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn the_program_is_told_everything_and_no_shell_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = program(dir.path(), "printf '%s|' \"$@\" >args; env | grep ^STOREDD_ALARM_ | sort >env");
        let caller = Caller::default();
        caller.tell(&path, LONG, &change(true));
        idle(&caller);
        let read = |name: &str| String::from_utf8(std::fs::read(dir.path().join(name)).unwrap()).unwrap();
        assert_eq!(read("args"), "raised|disk_space|log; $(touch x) \n|");
        let env = read("env");
        for line in
            ["EVENT=raised", "SEVERITY=critical", "VALUE=5", "LIMIT=10", "UNIT=bytes", "RATE=2", "TIME_TO_FULL="]
        {
            assert!(env.contains(&format!("STOREDD_ALARM_{line}\n")), "{env}");
        }
        assert!(!dir.path().join("x").exists());
    }

    #[test]
    fn one_at_a_time_and_the_newest_is_told_next() {
        let dir = tempfile::tempdir().unwrap();
        let text = "mkdir busy || echo two >>bad; echo \"$1\" >>told; sleep 0.3; rmdir busy";
        let path = program(dir.path(), text);
        let caller = Caller::default();
        for raised in [true, false, true, false] {
            caller.tell(&path, LONG, &change(raised));
        }
        idle(&caller);
        let told = std::fs::read(dir.path().join("told")).unwrap();
        assert_eq!(String::from_utf8(told).unwrap(), "raised\ncleared\n", "what lies between is old news");
        assert!(!dir.path().join("bad").exists());
    }

    /// A program that waits for another.
    const HANGS: &str = "sleep 600 & echo $$ $! >new; mv new pids; wait";

    fn all_gone(dir: &Path) {
        let pids = String::from_utf8(std::fs::read(dir.join("pids")).unwrap()).unwrap();
        for pid in pids.split_whitespace() {
            let stat = || std::fs::read(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
            // An orphan is waited for by whoever adopts it.
            let gone = || stat().is_empty() || String::from_utf8_lossy(&stat()).contains(") Z ");
            assert!(
                (0..500).any(|_| gone() || {
                    std::thread::sleep(POLL);
                    false
                }),
                "{pid} of {pids}"
            );
        }
    }

    #[test]
    fn none_outlives_a_stop() {
        let dir = tempfile::tempdir().unwrap();
        let path = program(dir.path(), HANGS);
        let caller = Caller::default();
        caller.tell(&path, Duration::from_secs(600), &change(true));
        while !dir.path().join("pids").exists() {
            std::thread::sleep(POLL);
        }
        caller.tell(&path, LONG, &change(false));
        caller.end(Duration::from_millis(200));
        idle(&caller);
        all_gone(dir.path());
        std::fs::remove_file(dir.path().join("pids")).unwrap();
        caller.tell(&path, LONG, &change(true));
        idle(&caller);
        assert!(!dir.path().join("pids").exists(), "nothing is started any more");
    }

    #[test]
    fn one_that_hangs_is_killed_and_one_that_is_not_there_is_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let path = program(dir.path(), HANGS);
        let caller = Caller::default();
        caller.tell(&path, Duration::from_millis(500), &change(true));
        idle(&caller);
        all_gone(dir.path());
        caller.tell(&dir.path().join("nothing"), LONG, &change(true));
        idle(&caller);
    }
}
