//! Where finished work waits for its connection. Any thread puts answers in; the connection's task takes them all at once
//! and is woken once for many.

use super::audit::Audit;
use super::limits::Share;
use super::service::{Committed, Peer, Stop};
use crate::leases::Pass;
use crate::model::Command;
use proto::{Code, Failure, Reply};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Parts of a long answer that wait here before their producer waits.
const PARTS: usize = 2;

/// A finished piece of work.
#[derive(Debug)]
pub(super) enum Item {
    /// The answer to a change.
    Changed { id: u64, answer: Result<Committed, Failure>, audit: Option<Audit> },
    /// A frame of a long answer; more follow.
    Part(Vec<u8>),
    /// The last frame of what the slow lane worked on.
    Answer(Vec<u8>),
    /// A change that had to wait for others may go, or must not.
    Passed(Result<Pass, Failure>),
    /// The answer to a request that had to wait for others.
    Held { id: u64, answer: Result<Reply, Failure>, audit: Option<Audit> },
    /// A change whose partition is prepared, to be submitted now.
    Prepared { id: u64, verb: &'static str, command: Result<Command, Failure>, audit: Option<Audit> },
}

impl Item {
    /// Nobody is there any more to hear of it; a change still leaves its audit lines.
    fn unheard(&self, peer: &Peer) {
        match self {
            Item::Changed { answer, audit: Some(audit), .. } => audit.changed(peer, answer),
            Item::Prepared { command, audit: Some(audit), .. } => {
                let gone = Failure::from(Stop);
                audit.failed(peer, command.as_ref().err().unwrap_or(&gone));
            }
            Item::Held { audit: Some(audit), answer: Ok(_), .. } => audit.done(peer),
            Item::Held { audit: Some(audit), answer: Err(failure), .. } => audit.failed(peer, failure),
            Item::Held { .. } | Item::Passed(_) => {}
            Item::Changed { .. } | Item::Prepared { .. } | Item::Part(_) | Item::Answer(_) => {}
        }
    }
}

/// How a connection is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Ending {
    /// Not at all.
    #[default]
    None,
    /// Answer what is at work, then close.
    Finish,
    /// Close at once.
    Now,
}

#[derive(Debug, Default)]
struct State {
    items: Vec<Item>,
    parts: usize,
    waker: Option<Waker>,
    ending: Ending,
    /// The ending was changed since it was last looked at.
    signal: bool,
    /// The connection is gone: nothing is taken in any more.
    closed: bool,
}

/// See the page.
#[derive(Debug)]
pub(super) struct Outbox {
    peer: Arc<Peer>,
    state: Mutex<State>,
    room: Condvar,
}

impl Outbox {
    /// The outbox of a connection of `peer`.
    pub(super) fn new(peer: Arc<Peer>) -> Outbox {
        Outbox { peer, state: Mutex::default(), room: Condvar::new() }
    }

    pub(super) fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics between two changes of the state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a finished piece of work in and wakes the connection.
    pub(super) fn push(&self, item: Item) {
        let waker = {
            let mut state = self.lock();
            if state.closed {
                drop(state);
                return item.unheard(&self.peer);
            }
            state.items.push(item);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Puts a part in, after waiting on this thread until there is room.
    pub(super) fn push_part(&self, frame: Vec<u8>) -> Result<(), Stop> {
        let full = |state: &mut State| state.parts >= PARTS && !state.closed;
        let mut state = self.room.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Err(Stop);
        }
        state.parts += 1;
        drop(state);
        self.push(Item::Part(frame));
        Ok(())
    }

    /// Puts a part in if there is room, without waiting: what a slow client misses of it the next one tells. False: nobody is
    /// there any more.
    pub(super) fn push_event(&self, frame: impl FnOnce() -> Vec<u8>) -> bool {
        {
            let mut state = self.lock();
            if state.closed || state.parts >= PARTS {
                return !state.closed;
            }
            state.parts += 1;
        }
        self.push(Item::Part(frame()));
        true
    }

    /// Moves everything finished behind `items` and tells how the connection is to end.
    pub(super) fn take(&self, items: &mut std::collections::VecDeque<Item>) -> Ending {
        let mut state = self.lock();
        items.extend(state.items.drain(..));
        if state.parts > 0 {
            state.parts = 0;
            self.room.notify_all();
        }
        state.signal = false;
        state.ending
    }

    /// Ready when there is something to take, or only a word about the ending if `room` is false.
    pub(super) fn poll(&self, context: &mut Context<'_>, room: bool) -> Poll<()> {
        let mut state = self.lock();
        if state.signal || (room && !state.items.is_empty()) {
            return Poll::Ready(());
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => state.waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Tells the connection to end; a stronger word stands.
    pub(super) fn end(&self, ending: Ending) {
        let waker = {
            let mut state = self.lock();
            state.ending = state.ending.max(ending);
            state.signal = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes nothing in any more, and lets producers of parts go. `done` is what was taken and not answered.
    pub(super) fn close(&self, done: impl IntoIterator<Item = Item>) {
        let items = {
            let mut state = self.lock();
            state.closed = true;
            state.waker = None;
            std::mem::take(&mut state.items)
        };
        self.room.notify_all();
        done.into_iter().chain(items).for_each(|item| item.unheard(&self.peer));
    }

    /// True once the connection is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }
}

/// The place of one change in its connection: answered exactly once, if not by the store then when it is dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) outbox: Arc<Outbox>,
    pub(super) id: u64,
    pub(super) audit: Option<Audit>,
    /// Counted as at work until answered.
    pub(super) at_work: Option<Share>,
    /// Keeps others from what the change touches until it is answered.
    pub(super) _pass: Option<Pass>,
}

impl Ticket {
    /// Hands the answer to the connection.
    pub(super) fn answer(mut self, answer: Result<Committed, Failure>) {
        self.send(answer);
    }

    fn send(&mut self, answer: Result<Committed, Failure>) {
        if self.at_work.take().is_some() {
            self.outbox.push(Item::Changed { id: self.id, answer, audit: self.audit.take() });
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let text = "the change was given up without an answer";
        let hint = "it may have been done or not: look before repeating it";
        self.send(Err(Failure::new(Code::Bug, text).with_hint(hint)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::audit::logged;
    use super::super::limits::Counters;
    use super::*;
    use crate::lsn::Lsn;
    use crate::model::Outcome;
    use std::collections::VecDeque;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    fn outbox() -> Outbox {
        Outbox::new(Arc::new(Peer {
            connection: 1,
            late: false,
            uid: 0,
            gid: 0,
            pid: 0,
            client: String::new(),
            role: super::super::access::Role::Owner,
        }))
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn ticket(outbox: &Arc<Outbox>, counters: &Arc<Counters>) -> Ticket {
        let at_work = Share::take(counters, |c| &c.changes, 1, 10);
        Ticket { outbox: outbox.clone(), id: 1, audit: None, at_work, _pass: None }
    }

    #[test]
    fn many_answers_wake_once() {
        let (outbox, count) = (outbox(), Arc::new(Count::default()));
        let waker = Waker::from(count.clone());
        let mut context = Context::from_waker(&waker);
        assert!(outbox.poll(&mut context, true).is_pending());
        (0..100).for_each(|_| outbox.push(Item::Answer(vec![])));
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert!(outbox.poll(&mut context, true).is_ready());
        assert!(outbox.poll(&mut context, false).is_pending(), "no room for answers");
        outbox.end(Ending::Finish);
        assert!(outbox.poll(&mut context, false).is_ready(), "an ending is always heard");
        let mut items = VecDeque::new();
        assert_eq!(outbox.take(&mut items), Ending::Finish);
        assert_eq!(items.len(), 100);
        assert!(outbox.poll(&mut context, true).is_pending());
    }

    #[test]
    fn parts_wait_for_room_and_stop_when_the_connection_goes() {
        let outbox = Arc::new(outbox());
        let producer = std::thread::spawn({
            let outbox = outbox.clone();
            move || (0..).take_while(|_| outbox.push_part(vec![]).is_ok()).count()
        });
        let (mut items, mut taken) = (VecDeque::new(), 0);
        while taken < 20 {
            outbox.take(&mut items);
            assert!(items.len() <= PARTS);
            taken += items.drain(..).count();
            std::thread::yield_now();
        }
        outbox.close([]);
        assert!(producer.join().unwrap() <= taken + PARTS);
        assert!(outbox.is_closed());
    }

    /// The client left; its changes are done all the same, and every one is in the log.
    #[test]
    fn changes_that_nobody_hears_of_are_audited() {
        let request = |user: &str| proto::Request::Change {
            command: proto::Command::UserDelete { user: user.to_owned() },
            dry_run: false,
        };
        let text = logged(|| {
            let (outbox, counters) = (Arc::new(outbox()), Arc::new(Counters::default()));
            let ticket = |user: &str| {
                let mut ticket = ticket(&outbox, &counters);
                ticket.audit = Audit::of(&request(user));
                ticket
            };
            let committed = || Ok(Committed { lsn: Lsn(7), outcome: Outcome::Done });
            let (taken, waiting, late) = (ticket("taken"), ticket("waiting"), ticket("late"));
            let mut done = VecDeque::new();
            taken.answer(committed());
            outbox.take(&mut done);
            waiting.answer(committed());
            outbox.close(done);
            late.answer(committed());
            let (id, command, audit) =
                (1, Ok(Command::UserDelete { user: String::new() }), Audit::of(&request("never")));
            outbox.push(Item::Prepared { id, verb: "user delete", command, audit });
        });
        let found: Vec<_> = text.lines().map(|line| line.split("target=").nth(1).unwrap()).collect();
        let done = |user| format!(r#""{user}" outcome="done" lsn=7"#);
        let never = r#""never" outcome="unavailable""#.to_owned();
        assert_eq!(found, [done("taken"), done("waiting"), done("late"), never]);
    }

    #[test]
    fn a_change_is_answered_exactly_once() {
        let (outbox, counters) = (Arc::new(outbox()), Arc::new(Counters::default()));
        ticket(&outbox, &counters).answer(Ok(Committed { lsn: Lsn(1), outcome: Outcome::Done }));
        drop(ticket(&outbox, &counters));
        let mut items = VecDeque::new();
        outbox.take(&mut items);
        assert_eq!(items.len(), 2);
        assert!(matches!(&items[0], Item::Changed { answer: Ok(_), .. }));
        assert!(matches!(&items[1], Item::Changed { answer: Err(f), .. } if f.code == Code::Bug));
        assert_eq!(counters.changes.load(Ordering::Relaxed), 0);
    }
}
