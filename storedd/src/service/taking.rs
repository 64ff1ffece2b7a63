//! Messages that a door takes in: past what may be in their way (a full disk, a freeze, a lease), and into the store.
//!
//! A mailbox that somebody holds keeps a message from its other addressees for as long as a change may wait, and no longer: they
//! get it then without him, who is to be tried again.

use super::Daemon;
use crate::control::{OnPassage, Passage, Peer, State};
use crate::error::StoreError;
use crate::leases::{Pass, Scope};
use crate::lsn::Lsn;
use crate::mail;
use crate::model::command::{Delivered, Delivery, RefusalKind, Target};
use crate::model::{Command, Outcome, Refusal};
use crate::store::{Answer, CommitError};
use proto::{Code, Failure};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Longest further wait for those whose mailboxes nobody held.
const MOMENT: Duration = Duration::from_secs(1);

/// What became of a message: the LSN of its record, and for each addressee what he got, or why not.
pub type Taken = (Lsn, Vec<Result<Delivered, Refusal>>);

/// Why nobody gets a message.
#[derive(Debug)]
pub struct NotTaken {
    /// What the store says.
    pub failure: Failure,
    /// There is no room for it.
    pub full: bool,
}

impl From<Failure> for NotTaken {
    fn from(failure: Failure) -> NotTaken {
        NotTaken { failure, full: false }
    }
}

/// Takes what became of a message; called from the thread that synced it, or from one that found it refused.
pub type OnTaken = Box<dyn FnOnce(Result<Taken, NotTaken>) + Send>;

type Then = Box<dyn FnOnce(&Arc<Daemon>, Delivery, Result<Option<Pass>, Failure>) + Send>;

impl Daemon {
    /// Takes a message in for a door. `done` is called when it is on disk and visible, or with why it is not.
    pub fn take_in(self: &Arc<Daemon>, peer: &Peer, delivery: Delivery, done: OnTaken) {
        let (command, delivery) = whole(delivery);
        if let Err(refused) = self.admits(peer, &command) {
            self.not_taken(&delivery);
            return done(Err(refused));
        }
        let (who, wait) = (peer.clone(), self.config().limits.wait);
        let then = move |daemon: &Arc<Daemon>, delivery: Delivery, passed: Result<Option<Pass>, Failure>| match passed {
            Ok(pass) => daemon.submit_mail(delivery, pass, done),
            Err(failure) => daemon.take_in_for_the_others(&who, delivery, failure, done),
        };
        self.when_passed(peer, (command, delivery), wait, Box::new(then));
    }

    fn admits(&self, peer: &Peer, command: &Command) -> Result<(), NotTaken> {
        match self.inner_state() {
            // What was begun before a stop is finished.
            State::Ready | State::Draining => {}
            state => return Err(Failure::new(Code::Unavailable, format!("the store is {}", state.word())).into()),
        }
        let admitted = self.watch.get().map_or(Ok(()), |watch| watch.admit(peer, command));
        admitted.map_err(|failure| NotTaken { failure, full: true })
    }

    /// Goes on when nobody is in the way any more, or it may not.
    fn when_passed(
        self: &Arc<Daemon>,
        peer: &Peer,
        (command, delivery): (Command, Delivery),
        wait: Duration,
        then: Then,
    ) {
        let waiting = Arc::new(Mutex::new(Some((delivery, then))));
        let go = {
            let daemon = self.clone();
            move |passed: Result<Option<Pass>, Failure>| {
                let waits = waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some((delivery, then)) = waits {
                    then(&daemon, delivery, passed);
                }
            }
        };
        let later = go.clone();
        let mut later = || -> OnPassage {
            let later = later.clone();
            Box::new(move |passed| later(passed.map(Some)))
        };
        if let Passage::Open(pass) = self.pass_within(peer, "deliver", &command, wait, &mut later) {
            go(Ok(pass));
        }
    }

    /// Somebody holds what one of them needs, and did not let go in time.
    fn take_in_for_the_others(self: &Arc<Daemon>, peer: &Peer, delivery: Delivery, failure: Failure, done: OnTaken) {
        let held: Vec<Scope> = self.leases().picture().held.into_iter().map(|held| held.scope).collect();
        let is_held = |target: &Target| Scope::of_target(target).any(|scope| Scope::any_overlap(&[scope], &held));
        let (kept_away, free): (Vec<Target>, Vec<Target>) = delivery.to.iter().cloned().partition(is_held);
        if !delivery.each || free.is_empty() || kept_away.is_empty() {
            self.not_taken(&delivery);
            return done(Err(failure.into()));
        }
        let order: Vec<bool> = delivery.to.iter().map(is_held).collect();
        let refusal = Refusal { kind: RefusalKind::Busy, message: failure.message, hint: failure.hint };
        let told = move |answer: Result<Taken, NotTaken>| {
            done(answer.map(|(lsn, each)| {
                let mut each = each.into_iter();
                let mut next = |held: bool| if held { Some(Err(refusal.clone())) } else { each.next() };
                (lsn, order.into_iter().filter_map(&mut next).collect())
            }));
        };
        let (command, delivery) = whole(Delivery { to: free, ..delivery });
        let then = move |daemon: &Arc<Daemon>, delivery: Delivery, passed: Result<Option<Pass>, Failure>| match passed {
            Ok(pass) => daemon.submit_mail(delivery, pass, Box::new(told)),
            Err(failure) => {
                daemon.not_taken(&delivery);
                told(Err(failure.into()));
            }
        };
        self.when_passed(peer, (command, delivery), MOMENT, Box::new(then));
    }

    fn not_taken(&self, delivery: &Delivery) {
        if let Ok(store) = self.store() {
            mail::discard(store, &delivery.message);
        }
    }

    fn submit_mail(self: &Arc<Daemon>, delivery: Delivery, pass: Option<Pass>, done: OnTaken) {
        let store = match self.store() {
            Ok(store) => store,
            Err(failure) => return done(Err(failure.into())),
        };
        let daemon = self.clone();
        let answered = move |answer: Answer| {
            daemon.notice_poison(&answer);
            drop(pass);
            let full = matches!(&answer, Err(CommitError::Failed(StoreError::NoSpace { .. })));
            let taken = super::handle::committed(answer).and_then(|committed| match committed.outcome {
                Outcome::Delivered(each) => Ok((committed.lsn, each)),
                _ => Err(Failure::new(Code::Bug, "a delivery with another outcome")),
            });
            done(taken.map_err(|failure| NotTaken { failure, full }));
        };
        mail::deliver(store, delivery, Box::new(answered));
    }
}

/// A delivery, and the command that it is.
fn whole(delivery: Delivery) -> (Command, Delivery) {
    (Command::Deliver(delivery.clone()), delivery)
}
