//! Which jobs run, as a small file in the data directory, for the start that comes after a crash.
//!
//! # Format
//! `dbdata/jobs`: first line `next=N`, the number of the next job; then one line for each job that runs:
//! `ID PID UID MICROS VERB`, where MICROS is the time at which it was asked for, since 1970 UTC.
//!
//! It is written beside its name and renamed, and never synced: nothing depends on it. What cannot be understood in it is
//! left out.

use super::{Asker, Job};
use crate::disk::{self, Access, Disk};
use crate::lsn::Micros;
use std::io;
use std::sync::Arc;

const FILE: &str = "dbdata/jobs";
/// Longer than with all jobs that may run.
const BYTES_MAX: u64 = 64 << 10;
/// No number is greater: who counted to here did not count.
const ID_MAX: u64 = 1 << 62;

/// Where jobs are noted; nowhere at first.
#[derive(Debug, Default)]
pub(super) struct Record {
    disk: Option<Arc<dyn Disk>>,
    written: String,
    failed: bool,
}

/// What the run before has noted.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Before {
    pub(super) next: u64,
    pub(super) running: Vec<Noted>,
}

/// A job that ran.
#[derive(Debug, PartialEq)]
pub(super) struct Noted {
    pub(super) id: u64,
    pub(super) verb: String,
    pub(super) asker: Asker,
    pub(super) asked: Micros,
}

impl Record {
    /// Notes jobs in `disk`; gives what stands there.
    pub(super) fn open(disk: Arc<dyn Disk>) -> (Record, Before) {
        let before = match disk::read_small(&*disk, FILE, BYTES_MAX) {
            Ok(bytes) => parse(&String::from_utf8_lossy(&bytes)),
            Err(e) => {
                if e.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(event = "jobs_unread", error = %e, "which jobs were cut off is not known");
                }
                Before::default()
            }
        };
        // What stands there is right until a job begins.
        let next = before.next.max(1);
        let written = if before.running.is_empty() { text(next, std::iter::empty()) } else { String::new() };
        (Record { disk: Some(disk), written, failed: false }, before)
    }

    /// Writes `text` if it says something new. A disk that is full is no reason to stop; that is said once.
    pub(super) fn write(&mut self, text: &str) {
        let Some(disk) = self.disk.as_ref().filter(|_| self.written != text) else { return };
        match put(&**disk, text) {
            Ok(()) => {
                (self.written, self.failed) = (text.to_owned(), false);
            }
            Err(e) => {
                if !std::mem::replace(&mut self.failed, true) {
                    tracing::warn!(event = "jobs_unnoted", error = %e, "a start after a crash will not know what ran");
                }
            }
        }
    }
}

/// What is written: the number of the next job, and those that run.
pub(super) fn text<'a>(next: u64, running: impl Iterator<Item = &'a Job>) -> String {
    let mut text = format!("next={next}\n");
    for Job { id, verb, asker, asked, .. } in running {
        text.push_str(&format!("{id} {} {} {} {verb}\n", asker.pid, asker.uid, asked.0));
    }
    text
}

fn parse(text: &str) -> Before {
    let mut before = Before::default();
    for line in text.lines() {
        if let Some(next) = line.strip_prefix("next=") {
            before.next = next.parse().ok().filter(|next| *next <= ID_MAX).unwrap_or_default();
            continue;
        }
        let mut words = line.splitn(5, ' ');
        let mut number = || words.next()?.parse::<u64>().ok().filter(|number| *number < ID_MAX);
        let (Some(id), Some(pid), Some(uid), Some(asked)) = (number(), number(), number(), number()) else { continue };
        let (Ok(pid), Ok(uid), Some(verb)) = (i32::try_from(pid), u32::try_from(uid), words.next()) else { continue };
        let asker = Asker { pid, uid, client: String::new() };
        before.running.push(Noted { id, verb: verb.to_owned(), asker, asked: Micros(asked) });
        before.next = before.next.max(id + 1);
    }
    before
}

fn put(disk: &dyn Disk, text: &str) -> io::Result<()> {
    let candidate = format!("{FILE}.new");
    for make in [disk.create_dir(disk::parent(FILE)), disk.remove(&candidate)] {
        match make {
            Err(e) if ![io::ErrorKind::NotFound, io::ErrorKind::AlreadyExists].contains(&e.kind()) => return Err(e),
            _ => {}
        }
    }
    disk.open(&candidate, Access::CreateNew)?.write_at(0, text.as_bytes())?;
    disk.rename(&candidate, FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_read_and_nonsense_does_no_harm() {
        let noted = "next=9\n7 100 0 5 snapshot take\n8 1 1000 6 drill\n";
        let before = parse(noted);
        assert_eq!((before.next, before.running.len()), (9, 2));
        assert_eq!((before.running[0].verb.as_str(), before.running[1].asker.uid), ("snapshot take", 1000));
        for text in ["", "\n", "next=", "next=x\n", "1 2", "a b c d e", "1 99999999999 0 0 x", "-1 0 0 0 x"] {
            assert_eq!(parse(text), Before::default(), "{text:?}");
        }
        // A number is not given twice, whatever the first line says.
        assert_eq!(parse("next=1\n70 1 0 0 x\n").next, 71);
        assert_eq!(parse("next=18446744073709551615\n18446744073709551615 1 0 0 x\n"), Before::default());
    }
}
