//! What readers have found damaged: what they got past is repaired as soon as the checkpointer has a moment, what they were refused is told.

use super::heal::Sick;
use super::mend::{Fate, Finding, Order, Repair};
use super::trace::Traces;
use crate::model::message::Digest;
use crate::partition::survey::Depth;
use crate::store::Store;
use crate::store::commit::lock;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

/// Mailboxes that are remembered; further ones are found by the next reader, or by a scrub.
const MAILBOXES_MAX: usize = 1000;
/// Refusals that are held until somebody takes them.
const MET_MAX: usize = 1000;
/// Bytes that are remembered as found nowhere; then all are looked for again.
const HOPELESS_MAX: usize = 10_000;

/// See the page.
#[derive(Debug, Default)]
pub(in crate::store) struct Ailing {
    mailboxes: Mutex<BTreeSet<u64>>,
    hopeless: Mutex<BTreeSet<Digest>>,
    /// Mailboxes and UIDs of messages for which the log was asked while nobody waited.
    asked: Mutex<BTreeSet<(u64, u32)>>,
    /// What readers were refused, by mailbox and UID.
    met: Mutex<BTreeMap<(u64, Option<u32>), Finding>>,
}

impl Ailing {
    /// True if bytes were looked for and not found.
    pub(super) fn is_hopeless(&self, digest: &Digest) -> bool {
        lock(&self.hopeless).contains(digest)
    }

    /// True if the log is to be asked for the bytes of a message: once for each.
    fn ask(&self, sick: &Sick) -> bool {
        let mut asked = lock(&self.asked);
        if asked.len() >= HOPELESS_MAX {
            asked.clear();
        }
        asked.insert((sick.of.mailbox, sick.uid))
    }

    /// True if it was.
    pub(super) fn was_asked(&self, sick: &Sick) -> bool {
        lock(&self.asked).contains(&(sick.of.mailbox, sick.uid))
    }

    /// They are there again.
    pub(super) fn is_back(&self, digest: &Digest) {
        lock(&self.hopeless).remove(digest);
    }

    pub(super) fn give_up(&self, digest: Digest) {
        let mut hopeless = lock(&self.hopeless);
        if hopeless.len() >= HOPELESS_MAX {
            hopeless.clear();
        }
        hopeless.insert(digest);
    }
}

impl Store {
    /// Notes what a reader was refused, for nothing near has it as it was.
    pub(super) fn refused(
        &self,
        mailbox: u64,
        uid: Option<u32>,
        (place, what): (&str, &'static str),
        found: (&str, &str),
    ) {
        let mut met = lock(&self.ailing.met);
        if met.len() < MET_MAX || met.contains_key(&(mailbox, uid)) {
            let (found, expected) = (found.0.to_owned(), found.1.to_owned());
            met.insert(
                (mailbox, uid),
                Finding { place: place.to_owned(), uid, what, expected, found, fate: Fate::Lost },
            );
        }
    }

    /// What readers were refused since this was asked last, by number of the mailbox.
    #[must_use]
    pub fn take_refused(&self) -> BTreeMap<u64, Vec<Finding>> {
        let mut all: BTreeMap<u64, Vec<Finding>> = BTreeMap::new();
        for ((mailbox, _), finding) in std::mem::take(&mut *lock(&self.ailing.met)) {
            all.entry(mailbox).or_default().push(finding);
        }
        all
    }

    /// Notes that a mailbox is to be repaired.
    pub(super) fn ails(&self, mailbox: u64) {
        let mut mailboxes = lock(&self.ailing.mailboxes);
        if !self.hold && mailboxes.len() < MAILBOXES_MAX && mailboxes.insert(mailbox) {
            drop(mailboxes);
            self.wake_checkpointer();
        }
    }

    /// Repairs what is proven of some mailboxes, and has bytes put back that only the log holds: nobody knows for how long it does. The log is read
    /// twice at the most, however many they are. Gives those that could not be looked at. `may_end`: the store may be closed before that is done.
    pub(super) fn mend_some(&self, mailboxes: &BTreeSet<u64>, may_end: bool) -> BTreeSet<u64> {
        let (depth, repair, pace) = (Depth::Names, Repair::Provable, &|_| Ok(()));
        let traces = Traces::of(mailboxes.iter().copied());
        let order = Order { depth, repair, pace, traces: Some(&traces), readers: 1, track: None };
        let (mut left, mut sick) = (mailboxes.clone(), Vec::new());
        for mailbox in mailboxes {
            if may_end && lock(&self.checkpointer.flags).stop {
                return left;
            }
            match self.examine(*mailbox, &order) {
                Ok(examined) => {
                    left.remove(mailbox);
                    sick.extend(examined.into_iter().flat_map(|examined| examined.sick));
                }
                Err(e) => {
                    tracing::warn!(event = "mailbox_not_repaired", mailbox, error = %e, "a scrub will try again");
                }
            }
        }
        sick.retain(|sick| self.ailing.ask(sick));
        if let Err(e) = self.heal_from_log(&sick) {
            tracing::warn!(event = "messages_not_healed", messages = sick.len(), error = %e, "a scrub will try again");
        }
        left
    }

    /// Repairs what is proven of the mailboxes that were noted.
    pub(in crate::store) fn mend_ailing(&self) {
        let noted = std::mem::take(&mut *lock(&self.ailing.mailboxes));
        if !noted.is_empty() {
            self.mend_some(&noted, true);
        }
    }
}
