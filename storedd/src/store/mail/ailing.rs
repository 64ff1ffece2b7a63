//! What readers have found damaged and got past: it is repaired as soon as the checkpointer has a moment.

use super::mend::{Order, Repair};
use crate::error::Result;
use crate::model::message::Digest;
use crate::partition::survey::Depth;
use crate::store::Store;
use crate::store::commit::lock;
use std::collections::BTreeSet;
use std::sync::Mutex;

/// Mailboxes that are remembered; further ones are found by the next reader, or by a scrub.
const MAILBOXES_MAX: usize = 1000;
/// Bytes that are remembered as found nowhere; then all are looked for again.
const HOPELESS_MAX: usize = 10_000;

/// See the page.
#[derive(Debug, Default)]
pub(in crate::store) struct Ailing {
    mailboxes: Mutex<BTreeSet<u64>>,
    hopeless: Mutex<BTreeSet<Digest>>,
}

impl Ailing {
    /// True if bytes were looked for and not found.
    pub(super) fn is_hopeless(&self, digest: &Digest) -> bool {
        lock(&self.hopeless).contains(digest)
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
    /// Notes that a mailbox is to be repaired.
    pub(super) fn ails(&self, mailbox: u64) {
        let mut mailboxes = lock(&self.ailing.mailboxes);
        if !self.hold && mailboxes.len() < MAILBOXES_MAX && mailboxes.insert(mailbox) {
            drop(mailboxes);
            self.wake_checkpointer();
        }
    }

    /// Repairs what is proven of a mailbox, and has bytes put back that only the log holds: nobody knows for how long it does.
    pub(super) fn mend_one(&self, mailbox: u64) -> Result<()> {
        let (depth, repair, pace) = (Depth::Names, Repair::Provable, &|_| Ok(()));
        let order = Order { depth, repair, pace, traces: None, readers: 1, track: None };
        let Some(examined) = self.examine(mailbox, &order)? else { return Ok(()) };
        if examined.sick.is_empty() {
            return Ok(());
        }
        self.heal(&examined.sick, true, None, &|_| Ok(())).map(drop)
    }

    /// Repairs what is proven of the mailboxes that were noted.
    pub(in crate::store) fn mend_ailing(&self) {
        loop {
            let Some(mailbox) = lock(&self.ailing.mailboxes).pop_first() else { return };
            if let Err(e) = self.mend_one(mailbox) {
                tracing::warn!(event = "mailbox_not_repaired", mailbox, error = %e, "a scrub will try again");
            }
        }
    }
}
