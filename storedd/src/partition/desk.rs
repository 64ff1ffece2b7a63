//! Directories of users, made where a disk may not answer: on a thread for each partition, for which a commit waits a moment and no
//! longer. What is late is made when the disk is back; a checkpoint, which makes directories durable, waits for it.

use super::Partitions;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// So long a partition is waited for that has not been late before.
const PATIENCE: Duration = Duration::from_secs(1);
/// Directories that wait for one partition; further ones are made when they are asked for.
const WANTED_MAX: usize = 65_536;

/// What is to be made in one partition.
#[derive(Debug, Default)]
pub(super) struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    wanted: BTreeSet<String>,
    /// A thread is at it.
    busy: bool,
    /// It was waited for in vain, and has not come back.
    late: bool,
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves directories to be made; true if somebody has to begin.
    fn put(&self, dirs: Vec<String>) -> bool {
        let mut state = self.state();
        let room = WANTED_MAX.saturating_sub(state.wanted.len());
        state.wanted.extend(dirs.into_iter().take(room));
        !std::mem::replace(&mut state.busy, true)
    }

    /// The next to be made; `None`: all are, and nobody is at it any more.
    fn next(&self) -> Option<String> {
        let mut state = self.state();
        let next = state.wanted.pop_first();
        if next.is_none() {
            (state.busy, state.late) = (false, false);
            self.changed.notify_all();
        }
        next
    }

    /// Waits until all are made, however long that takes.
    pub(super) fn settle(&self) {
        drop(self.changed.wait_while(self.state(), |state| state.busy));
    }

    /// Waits until all are made, if that has been quick so far.
    fn wait(&self, limit: Duration) {
        let state = self.state();
        if !state.late {
            let waited = self.changed.wait_timeout_while(state, limit, |state| state.busy);
            let (mut state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state.late = timeout.timed_out();
        }
    }
}

impl Partitions {
    /// Makes directories of users, given by partition and path. On a disk that may not answer that is waited for a second at most,
    /// and not at all while an earlier one is late.
    pub fn follow(self: &Arc<Partitions>, dirs: Vec<(String, String)>) {
        if !self.roots.may_hang() {
            dirs.iter().for_each(|(name, dir)| self.ensure_or_say(name, dir));
            return;
        }
        let mut of_each: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, dir) in dirs {
            of_each.entry(name).or_default().push(dir);
        }
        let mut asked = Vec::new();
        for (name, dirs) in of_each {
            let Some(partition) = self.find(&name) else { continue };
            if partition.desk.put(dirs) {
                let (partitions, at) = (self.clone(), partition.clone());
                let work = move || {
                    while let Some(dir) = at.desk.next() {
                        partitions.ensure_or_say(&name, &dir);
                    }
                };
                let spawned = std::thread::Builder::new().name("directories".to_owned()).spawn(work);
                if let Err(e) = spawned {
                    tracing::warn!(event = "directories_owed", error = %e, "no thread can be started");
                    while partition.desk.next().is_some() {}
                }
            }
            asked.push(partition);
        }
        asked.iter().for_each(|partition| partition.desk.wait(PATIENCE));
    }

    fn ensure_or_say(&self, name: &str, dir: &str) {
        if let Err(state) = self.ensure_user_dir(name, dir) {
            tracing::debug!(event = "user_directory_owed", partition = name, state = state.word());
        }
    }
}
