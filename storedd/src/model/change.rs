//! What happened: the payload of a log record.
//!
//! A transaction is a list of changes, all or nothing. A change states the new state of one row or one message, so applying it is
//! deterministic and applying it twice is harmless (I5). It names no host and no absolute path.

use super::table::Table;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The new state of one row or message. Borrows from the record it was decoded from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<'a> {
    /// The row is now this.
    Put {
        /// Which table.
        table: Table,
        /// Its key: 1 to [`super::table::KEY_BYTES_MAX`] bytes, none of them zero.
        key: Cow<'a, [u8]>,
        /// The encoded row.
        row: Cow<'a, [u8]>,
    },
    /// The row is gone.
    Remove {
        /// Which table.
        table: Table,
        /// Its key.
        key: Cow<'a, [u8]>,
    },
    /// The message is now this.
    Message {
        /// In which mailbox.
        of: Folder<'a>,
        /// The encoded [`super::message::Message`].
        message: Cow<'a, [u8]>,
        /// Where its bytes come from.
        body: BodySource<'a>,
    },
}

/// Where the messages of a mailbox lie. A record says so itself: it may be replayed when the mailbox's row is gone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Folder<'a> {
    /// Name of the partition.
    #[serde(borrow)]
    pub partition: Cow<'a, str>,
    /// Directory of a user, or that of shared mailboxes, below its root.
    #[serde(borrow)]
    pub home: Cow<'a, str>,
    /// Mailbox id.
    pub mailbox: u64,
}

/// Where the bytes of a message come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BodySource<'a> {
    /// From where they came before.
    Kept,
    /// They are the n-th body of this record, counted from 0.
    Inline(u32),
    /// They wait in a file of a partition.
    Staged {
        /// Name of the partition.
        #[serde(borrow)]
        partition: Cow<'a, str>,
        /// Number of the file.
        number: u64,
    },
    /// They are those of another message.
    Copy {
        /// Its mailbox.
        #[serde(borrow)]
        of: Folder<'a>,
        /// Its UID.
        uid: u32,
    },
}

/// Where bytes stand in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogPlace {
    /// Segment number.
    pub segment: u64,
    /// Offset in the segment's file.
    pub offset: u64,
}

impl Folder<'_> {
    /// With texts of its own.
    #[must_use]
    pub fn into_owned(self) -> Folder<'static> {
        let (partition, home) = (Cow::Owned(self.partition.into_owned()), Cow::Owned(self.home.into_owned()));
        Folder { partition, home, mailbox: self.mailbox }
    }
}

impl BodySource<'_> {
    /// With texts of its own.
    #[must_use]
    pub fn into_owned(self) -> BodySource<'static> {
        match self {
            BodySource::Kept => BodySource::Kept,
            BodySource::Inline(n) => BodySource::Inline(n),
            BodySource::Staged { partition, number } => {
                BodySource::Staged { partition: Cow::Owned(partition.into_owned()), number }
            }
            BodySource::Copy { of, uid } => BodySource::Copy { of: of.into_owned(), uid },
        }
    }
}

/// The changes of one command, all or nothing.
pub type Transaction = Vec<Change<'static>>;
