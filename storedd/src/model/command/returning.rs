//! What comes back from a backup.

use super::messages::{Incoming, Marks, Selection};
use crate::model::message::Digest;
use crate::model::rights::Acl;
use std::sync::Arc;

/// A mailbox as a backup knew it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturningMailbox {
    /// Full name.
    pub name: String,
    /// Partition; the default one if there is no such.
    pub partition: Option<String>,
    /// Its number then.
    pub id: u64,
    /// Id of the store that was backed up, in hexadecimal digits.
    pub store: String,
    /// UIDVALIDITY then.
    pub uidvalidity: u32,
    /// UIDNEXT then: new messages get it, what comes back may have UIDs below.
    pub uidnext: u32,
    /// HIGHESTMODSEQ then.
    pub highest_modseq: u64,
    /// Rights, kept letter by letter.
    pub acl: Acl,
}

/// Messages that come back into a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturningMessages {
    /// The mailbox, and what it has under the UIDs that are asked for.
    pub into: Selection,
    /// Where those lie whose bytes are copied.
    pub from: Selection,
    /// They.
    pub messages: Vec<Returning>,
}

/// A message that comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Returning {
    /// Its UID; the next one if absent.
    pub uid: Option<u32>,
    /// Flags and keywords.
    pub marks: Marks,
    /// INTERNALDATE, microseconds since 1970.
    pub internal_us: u64,
    /// When it came into its mailbox, microseconds since 1970; now if absent.
    pub saved_us: Option<u64>,
    /// Its bytes.
    pub body: ReturningBody,
}

/// Where the bytes of a message are that comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReturningBody {
    /// Here.
    Bytes(Arc<Incoming>),
    /// Those of the message of [`ReturningMessages::from`] with this UID, if they have this digest: one stored file.
    Copy(u32, Option<Digest>),
}
