//! The queue of commands: what waits to be planned, who waits for the answers, and which threads sleep.

use super::commit::{Answer, lock};
use crate::model::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// So many commands wake a leader that waits for the log side.
const WAKE_LEADER_AT: usize = 8;

/// Who waits for an answer.
pub(crate) enum Waiter {
    Thread(Arc<Slot>),
    Callback(Box<dyn FnOnce(Answer) + Send>),
}

impl Waiter {
    pub(super) fn answer(self, answer: Answer) {
        match self {
            Waiter::Thread(slot) => slot.put(answer),
            Waiter::Callback(f) => f(answer),
        }
    }
}

/// Where a waiting thread finds its answer.
#[derive(Default)]
pub(crate) struct Slot {
    answer: Mutex<Option<Answer>>,
    there: Condvar,
}

impl Slot {
    fn put(&self, answer: Answer) {
        *lock(&self.answer) = Some(answer);
        self.there.notify_one();
    }

    pub(super) fn wait(&self) -> Answer {
        let mut answer = lock(&self.answer);
        loop {
            if let Some(answer) = answer.take() {
                return answer;
            }
            answer = self.there.wait(answer).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}

/// A command in the queue.
pub(crate) struct Pending {
    pub(super) command: Command,
    pub(super) waiter: Waiter,
    pub(super) since: Duration,
}

/// What waits, and who is awake.
#[derive(Default)]
pub(crate) struct Queue {
    pub(super) pending: Vec<Pending>,
    /// A group is being written; set by the leader before it gives the planner away.
    pub(super) syncing: bool,
    /// Since when the oldest command of that group has been waiting.
    pub(super) at_work: Option<Duration>,
    /// Since when the oldest command has been waiting that was taken out of `pending` and whose group is not being written yet.
    pub(super) open: Option<Duration>,
    /// Committer threads that wait for work.
    pub(super) idle: usize,
    /// How many of them were called and have not run yet: nobody needs a second call.
    pub(super) called: usize,
    /// The leader waits for the log side or for more work.
    pub(super) leader_waits: bool,
    /// The leader waits and was not called yet.
    pub(super) leader_sleeps: bool,
    /// Commands that somebody has begun to receive, see [`super::coming`].
    pub(super) coming: usize,
    /// Commands of the open group while its leader waits for more of those.
    pub(super) gathering: Option<usize>,
    /// Records were written after the last seal.
    pub(super) unsealed: bool,
    pub(super) stop: bool,
}

impl Queue {
    /// Takes what waits to be planned. It stays visible as waiting until its group is written.
    pub(super) fn take(&mut self) -> Vec<Pending> {
        let taken = std::mem::take(&mut self.pending);
        self.open = self.open.or(taken.first().map(|oldest| oldest.since));
        taken
    }

    /// The open group is being written from now on.
    pub(super) fn close_group(&mut self) {
        (self.syncing, self.at_work) = (true, self.open.take());
    }

    /// Since when the oldest unanswered command has been waiting.
    pub(super) fn oldest(&self) -> Option<Duration> {
        [self.at_work, self.open, self.pending.first().map(|p| p.since)].into_iter().flatten().min()
    }

    /// True if what waits is worth waking the leader: for the log side a handful, for a group that gathers what makes it ready.
    pub(super) fn is_enough(&self) -> bool {
        match self.gathering {
            Some(planned) => planned + self.pending.len() >= self.coming,
            None => self.pending.len() >= WAKE_LEADER_AT,
        }
    }

    /// True if the leader sleeps and is to be woken; it counts as woken then.
    pub(super) fn call_leader(&mut self) -> bool {
        let call = self.leader_sleeps && self.is_enough();
        self.leader_sleeps &= !call;
        call
    }

    /// True if a committer thread waits that nobody has called; it counts as called then.
    pub(super) fn call_idle(&mut self) -> bool {
        let call = self.idle > self.called;
        self.called += usize::from(call);
        call
    }
}
