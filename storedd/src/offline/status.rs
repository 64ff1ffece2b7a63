//! `storedd status`: what files and the system say of a daemon, without asking it, without a lock, changing nothing: for one that
//! hangs (row 107).

use crate::config::Config;
use crate::disk::{Disk, RealDisk, outside};
use crate::error::exit;
use crate::lsn::Micros;
use crate::place;
use crate::statefile::{self, Facts};
use crate::store::{Report, rfc3339};
use serde_json::json;

/// As `storectl status` has it: nobody runs.
const NOT_RUNNING: u8 = 3;
/// Name of the program as the system shows it.
const PROGRAM: &str = "storedd";

/// What can be seen.
struct Seen {
    facts: Facts,
    /// Who holds the store's lock.
    holder: Option<u32>,
    process: Option<outside::Process>,
    /// Files of the log, and their bytes.
    log: Option<(u64, u64)>,
    last_start: Option<String>,
}

/// `storedd status`; 0 if a daemon lives, 3 if not, 66 if there is no store.
#[must_use]
pub fn status(config: &Config, json: bool) -> u8 {
    let data = match RealDisk::new(&config.store.data_dir) {
        Ok(data) => data,
        Err(e) => {
            eprintln!("storedd: {}: {e}", config.store.data_dir.display());
            return exit::NO_INPUT;
        }
    };
    let seen = look(config, &data);
    let lives = seen.process.is_some();
    if json {
        println!("{}", seen.json());
    } else {
        seen.print(place::env().now());
    }
    if lives { exit::OK } else { NOT_RUNNING }
}

fn look(config: &Config, data: &RealDisk) -> Seen {
    let facts = statefile::read(data).ok().flatten().unwrap_or_default();
    let root = &config.store.data_dir;
    // The directory is locked too: the file may have been removed.
    let holder = outside::lock_holder(&root.join("lock")).or_else(|| outside::lock_holder(root));
    // The number in the file may be another process's by now.
    let is_ours = |process: &outside::Process| process.name == PROGRAM;
    let process = holder.or(facts.pid).and_then(outside::process).filter(is_ours);
    Seen {
        log: RealDisk::new(&config.store.log_dir).ok().and_then(|log| size_of_log(&log)),
        last_start: Report::load(data, 1, place::env().now()).ok().and_then(|reports| Some(reports.first()?.summary())),
        facts,
        holder,
        process,
    }
}

fn size_of_log(log: &RealDisk) -> Option<(u64, u64)> {
    let files = log.list("").ok()?.into_iter().filter(|entry| entry.name.starts_with("log."));
    Some(files.fold((0, 0), |(count, bytes), entry| (count + 1, bytes + entry.len)))
}

impl Seen {
    fn what_it_does(&self) -> &'static str {
        match self.process.as_ref().map(|process| process.state) {
            None => "gone",
            Some('D') => "waits for a disk",
            Some('T' | 't') => "stopped by a signal",
            Some('Z' | 'X') => "ended, and not waited for",
            Some(_) => "runs",
        }
    }

    fn waiting(&self) -> &[String] {
        self.process.as_ref().map_or(&[], |process| &process.waiting)
    }

    fn json(&self) -> serde_json::Value {
        let Facts { state, started, changed, checkpoint, log_cleanup, snapshot, .. } = &self.facts;
        let time = |at: &Option<Micros>| at.map(rfc3339);
        json!({
            "state": state, "pid": self.holder.or(self.facts.pid), "running": self.process.is_some(),
            "process": self.what_it_does(), "waiting_threads": self.waiting(), "lock_holder": self.holder,
            "started": time(started), "changed": time(changed), "checkpoint": time(checkpoint),
            "log_cleanup": time(log_cleanup), "snapshot": time(snapshot),
            "log_files": self.log.map(|log| log.0), "log_bytes": self.log.map(|log| log.1),
            "last_start": self.last_start,
        })
    }

    fn print(&self, now: Micros) {
        let line = |what: &str, value: String| println!("{what:<22} {value}");
        let age = |at: Option<Micros>| match at {
            Some(at) => format!("{} s ago", now.0.saturating_sub(at.0) / 1_000_000),
            None => "never".to_owned(),
        };
        let Facts { state, changed, checkpoint, log_cleanup, snapshot, .. } = &self.facts;
        line("state, last written", format!("{state}, {}", age(*changed)));
        let pid = self.holder.or(self.facts.pid).map_or_else(|| "none".to_owned(), |pid| pid.to_string());
        line("process", format!("{pid}, {}", self.what_it_does()));
        line("holds the lock", self.holder.map_or_else(|| "nobody".to_owned(), |pid| format!("process {pid}")));
        if !self.waiting().is_empty() {
            line("threads at a disk", self.waiting().join(", "));
        }
        line("last checkpoint", age(*checkpoint));
        line("last log clean-up", age(*log_cleanup));
        line("last snapshot", age(*snapshot));
        if let Some((files, bytes)) = self.log {
            line("log", format!("{files} file{}, {bytes} bytes", if files == 1 { "" } else { "s" }));
        }
        line("last start", self.last_start.clone().unwrap_or_else(|| "no report".to_owned()));
    }
}
