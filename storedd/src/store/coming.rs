//! Commands that are known to come: a group waits a moment for them, so that one sync serves more of them.
//!
//! # Operation
//! A door that has begun to receive a command says so ([`Store::expect`]) until it has submitted it or given it up. A group is
//! closed when it holds as many commands as are still known to come, or when its oldest command has waited for
//! [`super::Options::group_wait`]. So half of those who deliver at a time wait for one sync while the other half is at work, and
//! whoever is alone, or beside people of whom nobody knows anything, waits for nobody.
//!
//! Whoever expects a command stops as soon as it is not likely to come at once, so that a client that stands still delays nobody
//! for longer than that.

use super::Store;
use super::commit::{GROUP_BYTES_MAX, Group, lock};
use std::sync::{Arc, PoisonError};

/// A command that is to come; gone when dropped.
pub struct Coming(Arc<Store>);

impl std::fmt::Debug for Coming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coming").finish_non_exhaustive()
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        let mut queue = lock(&self.0.queue);
        queue.coming = queue.coming.saturating_sub(1);
        if queue.call_leader() {
            drop(queue);
            self.0.turn.notify_one();
        }
    }
}

impl Store {
    /// A command has begun to come, and will be submitted soon. To be dropped when that is done, or is not to be done.
    #[must_use]
    pub fn expect(self: &Arc<Store>) -> Coming {
        lock(&self.queue).coming += 1;
        Coming(self.clone())
    }

    /// Waits for commands that are known to come, as long as the open group may be kept open; true if some came.
    pub(super) fn gather(&self, group: &Group) -> bool {
        let Some(oldest) = group.planned.first().map(|p| p.since) else { return false };
        let mut queue = lock(&self.queue);
        let here = group.planned.len();
        if here >= queue.coming || group.payload_bytes >= GROUP_BYTES_MAX {
            return false;
        }
        queue.gathering = Some(here);
        let in_time = loop {
            if queue.is_enough() || queue.stop {
                break true;
            }
            let left = (oldest + self.options.group_wait).saturating_sub(self.env.uptime());
            if left.is_zero() {
                break false;
            }
            (queue.leader_waits, queue.leader_sleeps) = (true, true);
            let timeout;
            (queue, timeout) = self.turn.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner);
            (queue.leader_waits, queue.leader_sleeps) = (false, false);
            if timeout.timed_out() {
                break false;
            }
        };
        queue.gathering = None;
        // What came too late is for the next group, or this one would never end.
        in_time && !queue.pending.is_empty()
    }
}
