//! What commands say of messages: those that come, those that are meant, those that were found.

use crate::lsn::Lsn;
use crate::model::change::Folder;
use crate::model::message::{Digest, Flags, Message};
use crate::model::quota::Usage;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a mailbox holds, as somebody counted it who looked at everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mend {
    /// Full name.
    pub name: String,
    /// Mailbox id.
    pub mailbox: u64,
    /// Highest modseq of the mailbox when it was looked at: if it has another one now, all of it is to be looked at again.
    pub modseq: u64,
    /// Messages that are there, [`Mend::adopt`] not among them.
    pub usage: Usage,
    /// How many of them are unseen.
    pub unseen: u64,
    /// Highest UID of anything that was found, files included.
    pub last_uid: u32,
    /// Messages whose files are there, and which nothing else knew any more.
    pub adopt: Vec<Message>,
}

/// Files that no mailbox knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Salvage {
    /// Where they lie.
    pub of: Folder<'static>,
    /// What they are; UIDs as their names say.
    pub found: Vec<Message>,
    /// Full name of the mailbox that gets them, made if it is not there. Quotas count them and refuse none.
    pub to: String,
}

/// A message on its way in. What it is was computed where no lock is held; the planner believes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// Bytes.
    pub size: u64,
    /// BLAKE3 of them.
    pub digest: Digest,
    /// Bytes of the header, its empty line included.
    pub header_size: u32,
    /// Where they are.
    pub bytes: IncomingBytes,
}

/// Where the bytes of a message are that comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IncomingBytes {
    /// Here: they go into the log.
    Inline {
        /// They.
        bytes: Vec<u8>,
        /// The checksum by which the log judges them.
        crc: u32,
    },
    /// In a staged file of a partition, durable.
    Staged {
        /// Name of the partition.
        partition: String,
        /// Number of the file.
        number: u64,
    },
}

/// One addressee.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Full name of a mailbox.
    pub name: String,
    /// Full name of the mailbox to take if there is no such one.
    pub or: Option<String>,
}

/// A message and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The message.
    pub message: Arc<Incoming>,
    /// Where.
    pub to: Vec<Target>,
    /// System flags.
    pub flags: Flags,
    /// Keywords, checked.
    pub keywords: BTreeSet<String>,
    /// INTERNALDATE, microseconds since 1970; now if absent.
    pub internal_us: Option<u64>,
    /// True: an addressee who is refused does not keep it from the others. False: all or none.
    pub each: bool,
}

/// A message that has its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// Full name of the mailbox.
    pub mailbox: String,
    /// UID there.
    pub uid: u32,
    /// UIDVALIDITY of the mailbox.
    pub uidvalidity: u32,
    /// Bytes.
    pub size: u64,
    /// BLAKE3 of them.
    pub digest: Digest,
}

/// Messages of one mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// Full name of the mailbox.
    pub name: String,
    /// UIDs.
    pub uids: Vec<u32>,
    /// What was read of them before.
    pub known: Known,
    /// Only if each is still as it was read: what was decided of them holds for nothing else.
    pub exactly: bool,
}

/// What the index of a mailbox says of some of its messages. Whoever submits a command has it read: the planner reads no index.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    /// Mailbox id.
    pub mailbox: u64,
    /// The checkpoint up to which the index spoke.
    pub indexed_upto: Lsn,
    /// Highest modseq of the mailbox then.
    pub modseq: u64,
    /// Those that were there, by UID.
    pub states: BTreeMap<u32, Message>,
}

/// Flags and keywords.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Marks {
    /// System flags.
    pub flags: Flags,
    /// Keywords, checked.
    pub keywords: BTreeSet<String>,
}
