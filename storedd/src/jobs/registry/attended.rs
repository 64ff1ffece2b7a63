//! Jobs that a client works on itself: it reads or writes files that the daemon does not see. It says now and then how far it is,
//! and learns then whether somebody wants it to end.
//!
//! # Invariants
//! * Such a job ends with its connection at the latest. It takes no place among those that run here, and stands in no lane.
//! * Cancelled, it ends when its client says so, or has said nothing for [`SILENT`]: who hangs keeps nobody waiting. The daemon
//!   stops without asking.
//! * A freeze does not wait for it: what it changes waits like everybody's changes.

use super::context::Control;
use super::{Asker, Cut, End, Entry, Job, Jobs, Kind, Refused, State, Unknown};
use std::sync::Arc;
use std::time::Duration;

/// A client that works says something several times as often.
const SILENT: Duration = Duration::from_secs(2);
/// Such jobs that are not over, at most: more than clients may be connected as a rule, and so few that they can be listed.
const OPEN: usize = 256;

/// Who works on a job.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attended {
    connection: u64,
    /// When it said something last, by the monotone clock.
    heard: Duration,
}

impl<R: End, E: End + From<Cut> + std::fmt::Display> Jobs<R, E> {
    /// A client works on something; gives the number of the job. May wait for the disk.
    ///
    /// # Errors
    /// There are very many, or the daemon stops.
    pub fn attend(
        &self,
        verb: &'static str,
        unit: &'static str,
        asker: Asker,
        connection: u64,
    ) -> Result<u64, Refused> {
        let mut table = self.table();
        if table.stopping {
            return Err(Refused::Stopping);
        }
        let open = table.jobs.values().filter(|entry| entry.attended.is_some() && !entry.job.state.is_over()).count();
        if open >= OPEN {
            return Err(Refused::Full { waiting: open });
        }
        let (id, heard) = (table.next, self.0.env.uptime());
        table.next += 1;
        tracing::info!(event = "job_begun", id, verb, pid = asker.pid, uid = asker.uid, client = asker.client);
        let job = Job { state: State::Running, ..Job::asked(id, verb.to_owned(), asker, self.0.env.now()) };
        let kind = Kind::new(verb, None);
        let attended = Some(Attended { connection, heard });
        let (control, watchers) = (Arc::new(Control::default()), Vec::new());
        control.advance(0, None, Some(unit), "");
        let entry = Entry { kind, job, begin: None, began: heard, control, watchers, end: None, attended };
        table.jobs.insert(id, entry);
        drop(table);
        self.note_unless_frozen();
        Ok(id)
    }

    /// The client says how far it is; gives the job as it is then.
    ///
    /// # Errors
    /// It is not at work on such a job.
    pub fn advance(&self, connection: u64, id: u64, done: u64, total: Option<u64>, item: &str) -> Result<Job, Unknown> {
        let mut table = self.table();
        let entry = table.jobs.get_mut(&id).ok_or(Unknown(id))?;
        let attended = entry.attended.as_mut().filter(|by| by.connection == connection).ok_or(Unknown(id))?;
        attended.heard = self.0.env.uptime();
        if !entry.job.state.is_over() {
            entry.control.advance(done, total, None, item);
        }
        self.look(entry);
        let job = entry.job.clone();
        drop(table);
        self.tell(id);
        Ok(job)
    }

    /// The client says how it ended; one that was ended before stays as it is. May wait for the disk.
    ///
    /// # Errors
    /// It was not at work on such a job.
    pub fn attended(&self, connection: u64, id: u64, end: Result<R, E>) -> Result<Job, Unknown> {
        let table = self.table();
        let entry = table.jobs.get(&id).ok_or(Unknown(id))?;
        entry.attended.filter(|by| by.connection == connection).ok_or(Unknown(id))?;
        drop(table);
        let _ = self.end(id, end);
        self.note_unless_frozen();
        self.get(id)
    }

    /// While somebody freezes the store no file changes; whoever begins or ends next notes it.
    fn note_unless_frozen(&self) {
        if !self.0.gate.is_closed() {
            self.note();
        }
    }

    /// A connection has ended, and with it what its client worked on.
    pub fn left(&self, connection: u64) {
        self.end_attended(|by, _| by.connection == connection);
    }

    /// Those that are to end, and whose clients say nothing any more, end.
    pub fn end_silent(&self) {
        let now = self.0.env.uptime();
        self.end_attended(|by, state| state == State::Ending && now.saturating_sub(by.heard) >= SILENT);
    }

    /// The daemon stops, and asks no client.
    pub(super) fn stop_attended(&self) {
        self.end_attended(|_, _| true);
    }

    fn end_attended(&self, which: impl Fn(&Attended, State) -> bool) {
        let mut table = self.table();
        let wanted = |entry: &&Entry<R, E>| {
            !entry.job.state.is_over() && entry.attended.is_some_and(|by| which(&by, entry.job.state))
        };
        let found: Vec<(u64, String)> =
            table.jobs.values().filter(wanted).map(|entry| (entry.job.id, entry.job.verb.clone())).collect();
        let ended: Vec<_> = found
            .into_iter()
            .filter_map(|(id, verb)| self.close(&mut table, id, Err(Cut::Left { id, verb }.into())))
            .collect();
        drop(table);
        ended.into_iter().for_each(|ended| drop(self.after(ended)));
    }
}
