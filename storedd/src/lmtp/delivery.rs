//! What the door needs of the store.

use super::address::Address;
use super::reply::Refused;
use crate::model::MailboxName;

/// Takes what became of a message: one result for each mailbox, in their order. May be called on any thread, and returns at
/// once; dropping it uncalled counts as failed.
pub type Done = Box<dyn FnOnce(Vec<Result<Stored, Refused>>) + Send>;

/// Where a message is on disk for one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// UID there.
    pub uid: u32,
    /// LSN of its record.
    pub lsn: u64,
}

/// A message that has come whole.
pub enum Message {
    /// In memory: at most [`Delivery::inline_limit`] bytes.
    Inline(Vec<u8>),
    /// In a file of the store.
    Staged(Box<dyn Staging>),
}

/// A file of the store that a long message goes to. Dropping it removes it.
pub trait Staging: Send {
    /// Appends bytes; may wait for the disk.
    ///
    /// # Errors
    /// Why it cannot be kept.
    fn add(&mut self, bytes: &[u8]) -> Result<(), Refused>;

    /// The store's own, for [`Delivery::deliver`].
    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any + Send>;
}

/// The store, as the door sees it.
pub trait Delivery: Send + Sync + 'static {
    /// A session begins; its number is in no other use. False: no new work is taken.
    fn begins(&self, session: u64) -> bool;

    /// A session has ended, after all its calls.
    fn ended(&self, session: u64);

    /// The mailbox to which mail for an address goes. It reads a few rows, and is called on a worker of the runtime, unless
    /// [`Delivery::resolves_slowly`].
    ///
    /// # Errors
    /// Why it goes nowhere, now or ever.
    fn resolve(&self, to: &Address) -> Result<MailboxName, Refused>;

    /// True while [`Delivery::resolve`] may have to wait for disks: then it is called on a thread that may block.
    fn resolves_slowly(&self) -> bool;

    /// A message that will be given as [`Message::Inline`] is on its way; what is given back is dropped when it was given, or
    /// will not be. `None`: nobody asks.
    fn expect(&self) -> Option<Box<dyn Send>>;

    /// Longest message in bytes that is given as [`Message::Inline`].
    fn inline_limit(&self) -> usize;

    /// Begins a file for a long message, one of whose recipients is `to`. On a thread that may block.
    ///
    /// # Errors
    /// Why there is none.
    fn stage(&self, to: &MailboxName) -> Result<Box<dyn Staging>, Refused>;

    /// Stores one message of a session in all these mailboxes, of which no two are equal. On a thread that may block if the
    /// message is staged, else on a worker of the runtime; `done` is called when it is on disk and visible, or refused.
    fn deliver(&self, session: u64, message: Message, to: Vec<MailboxName>, done: Done);
}
