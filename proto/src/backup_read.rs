//! Mailboxes and messages as a backup reads them: all of one moment, which belongs to the connection; and what changed
//! behind a moment, from the log.

use crate::ReturningBody;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// So many messages of one [`BackupAsk::Bytes`] are read one after the other; more are read several at a time, which a cold disk gives
/// sooner, and users feel.
pub const READ_IN_TURN: usize = 8;

/// What a backup asks for. One moment for each connection; it goes with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackupAsk {
    /// A moment, and the mailboxes of these objects; none is `/`. Streamed: [`BackupPart::Begun`], then [`BackupPart::Mailboxes`].
    Begin {
        /// Objects, as the command line has them.
        objects: Vec<String>,
    },
    /// The messages of a mailbox at that moment: [`BackupPart::Messages`], streamed in order of UID.
    Messages {
        /// Number of the mailbox.
        mailbox: u64,
    },
    /// The bytes of some of them: [`BackupPart::Pieces`], streamed in the order asked for.
    Bytes {
        /// Number of the mailbox.
        mailbox: u64,
        /// UIDs.
        uids: Vec<u32>,
    },
    /// What changed behind an earlier moment of this store, up to another, from the log. Streamed: [`BackupPart::Changes`] in the order in
    /// which they were made, and at last [`BackupPart::Begun`] with the moment that was reached. Needs no moment of the connection.
    Changes {
        /// Everything up to this LSN is known.
        lsn: u64,
        /// Its epoch.
        epoch: u64,
        /// Up to this time, microseconds since 1970.
        until_us: u64,
    },
    /// The bytes of messages that those changes named, whatever became of them since: [`BackupPart::Pieces`], streamed in the order asked for.
    /// Several are at most 16 MiB together.
    Bygone {
        /// The messages.
        messages: Vec<BackupBygone>,
    },
    /// How far the client is with a backup or a restore: it is a job from the first of these on, until the last one, or the end of the
    /// connection. Answered with `Done`; with a failure, if the job was cancelled.
    AtWork(BackupWork),
    /// The messages of a mailbox whose bytes are gone or damaged, as far as names and lengths of files tell, and what was found damaged
    /// before: [`BackupPart::Sick`], streamed in order of UID. Needs no moment of the connection.
    Sick {
        /// Full name of the mailbox.
        name: String,
        /// Every byte is read.
        deep: bool,
    },
    /// Bytes for some of them: each is put in its place if it is what the message lacks. Answered with [`BackupPart::Healed`], in the same
    /// order, when all of it is on disk.
    Heal(BackupHeal),
    /// The mailboxes of the moment that are there and not among the objects asked for, or left out by the configuration:
    /// [`BackupPart::LeftOut`], streamed.
    LeftOut,
    /// Whether the history of this store leads from an earlier moment to now. Answered with `Done`, or with a failure (65) if the store has gone
    /// back behind that moment on purpose: what was known then is not what came before now. Needs no moment of the connection.
    Follows {
        /// LSN of the moment.
        lsn: u64,
        /// Its epoch.
        epoch: u64,
    },
}

/// Bytes for messages that are there without theirs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupHeal {
    /// Full name of the mailbox.
    pub name: String,
    /// Full name of the mailbox that messages of [`ReturningBody::Copy`] are in.
    pub from: String,
    /// UIDs, and the bytes for each.
    pub messages: Vec<(u32, ReturningBody)>,
}

/// How far a client is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupWork {
    /// A restore, not a backup.
    pub restores: bool,
    /// Messages done.
    pub done: u64,
    /// All of them, if that is known.
    pub total: Option<u64>,
    /// The mailbox.
    pub item: String,
    /// Nothing more comes.
    pub is_last: bool,
}

/// A message that may have been expunged or purged since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupBygone {
    /// Where its mailbox lay.
    pub folder: BackupFolder,
    /// UID.
    pub uid: u32,
    /// Bytes.
    pub size: u64,
    /// BLAKE3 of them.
    pub digest: [u8; 32],
}

/// Where the messages of a mailbox lie.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BackupFolder {
    /// Number of the mailbox.
    pub mailbox: u64,
    /// Partition.
    pub partition: String,
    /// Directory of the owner there.
    pub home: String,
}

/// Something that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackupChange {
    /// The mailbox is now this. It has no owner beside it, and no limits.
    Mailbox {
        /// It.
        mailbox: BackupMailbox,
        /// When it was created, microseconds since 1970.
        created_us: u64,
    },
    /// No mailbox has this name any more; one that was renamed has another one from the same moment on.
    Nameless(String),
    /// The message is now this.
    Message {
        /// Where its mailbox lies.
        folder: BackupFolder,
        /// The message.
        message: BackupMessage,
        /// False: it is expunged or purged.
        is_live: bool,
    },
}

/// A part of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackupPart {
    /// The moment.
    Begun(BackupBegun),
    /// Mailboxes; sorted by name, so those of one user stand together.
    Mailboxes(Vec<BackupMailbox>),
    /// Messages.
    Messages(Vec<BackupMessage>),
    /// Bytes of messages.
    Pieces(Vec<BackupPiece>),
    /// Changes.
    Changes(Vec<BackupChange>),
    /// Messages whose bytes are gone or damaged.
    Sick(Vec<BackupSick>),
    /// What became of bytes that were brought.
    Healed(Vec<BackupHealed>),
    /// Mailboxes that are left out: number and full name.
    LeftOut(Vec<(u64, String)>),
}

/// A message whose bytes are gone or damaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupSick {
    /// UID.
    pub uid: u32,
    /// What is wrong, in the words of `check`.
    pub what: String,
}

/// What became of bytes that were brought for a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupHealed {
    /// UID.
    pub uid: u32,
    /// Why its bytes are not in their place; absent: they are.
    pub failed: Option<String>,
}

impl BackupPart {
    /// Adds the next part of the same list.
    ///
    /// # Errors
    /// Gives it back if it is another.
    pub(crate) fn join(&mut self, part: BackupPart) -> Result<(), Box<BackupPart>> {
        match (self, part) {
            (BackupPart::Mailboxes(all), BackupPart::Mailboxes(more)) => all.extend(more),
            (BackupPart::Messages(all), BackupPart::Messages(more)) => all.extend(more),
            (BackupPart::Pieces(all), BackupPart::Pieces(more)) => all.extend(more),
            (BackupPart::Changes(all), BackupPart::Changes(more)) => all.extend(more),
            (BackupPart::Sick(all), BackupPart::Sick(more)) => all.extend(more),
            (BackupPart::LeftOut(all), BackupPart::LeftOut(more)) => all.extend(more),
            (_, part) => return Err(Box::new(part)),
        }
        Ok(())
    }
}

/// The moment that a backup reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupBegun {
    /// Id of the store, 32 hexadecimal digits.
    pub store: String,
    /// Everything up to this LSN is in it.
    pub lsn: u64,
    /// Epoch of the LSN.
    pub epoch: u64,
    /// RFC 3339.
    pub time: String,
}

/// A mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupMailbox {
    /// The object that it is: `/partition/group/user/folder`.
    pub object: String,
    /// Full name.
    pub name: String,
    /// Number of the mailbox.
    pub id: u64,
    /// Partition.
    pub partition: String,
    /// UIDVALIDITY.
    pub uidvalidity: u32,
    /// UIDNEXT.
    pub uidnext: u32,
    /// HIGHESTMODSEQ (RFC 7162).
    pub highest_modseq: u64,
    /// Messages.
    pub messages: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Identifier -> rights.
    pub acl: BTreeMap<String, String>,
    /// Limits of bytes and messages, if it is a quota root.
    pub quota: Option<(Option<u64>, Option<u64>)>,
    /// Its owner, with the first of his mailboxes.
    pub owner: Option<BackupUser>,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupUser {
    /// User id.
    pub user: String,
    /// Partition.
    pub partition: String,
    /// Limit of bytes.
    pub quota_bytes: Option<u64>,
    /// Limit of messages.
    pub quota_messages: Option<u64>,
    /// Full names of mailboxes.
    pub subscriptions: Vec<String>,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupMessage {
    /// UID.
    pub uid: u32,
    /// Bytes.
    pub size: u64,
    /// BLAKE3 of them.
    pub digest: [u8; 32],
    /// Internal date, microseconds since 1970.
    pub internal_us: u64,
    /// When it came into the mailbox, microseconds since 1970.
    pub saved_us: u64,
    /// Modseq.
    pub modseq: u64,
    /// System flags with their backslash, keywords without.
    pub flags: Vec<String>,
}

/// Bytes of a message, at most 256 KiB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupPiece {
    /// UID.
    pub uid: u32,
    /// The bytes.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
    /// These are its last.
    pub last: bool,
    /// Why they cannot be had; the message is then not whole.
    pub failed: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Reply, Request, codec, frame};

    // Wire numbers are the order of the variants: append only.
    #[test]
    fn golden_bytes_of_asks_and_parts() {
        let folder = || BackupFolder { mailbox: 1, partition: "p".to_owned(), home: "h".to_owned() };
        let bygone = BackupBygone { folder: folder(), uid: 2, size: 3, digest: [4; 32] };
        let (flags, digest) = (vec!["\\Seen".to_owned()], [4; 32]);
        let message = BackupMessage { uid: 2, size: 3, digest, internal_us: 5, saved_us: 6, modseq: 7, flags };
        let mailbox = BackupMailbox {
            object: "o".to_owned(),
            name: "n".to_owned(),
            id: 1,
            partition: "p".to_owned(),
            uidvalidity: 2,
            uidnext: 3,
            highest_modseq: 4,
            messages: 5,
            bytes: 6,
            acl: BTreeMap::from([("a".to_owned(), "lr".to_owned())]),
            quota: Some((Some(7), None)),
            owner: None,
        };
        let changes = vec![
            BackupChange::Mailbox { mailbox, created_us: 8 },
            BackupChange::Nameless("n".to_owned()),
            BackupChange::Message { folder: folder(), message, is_live: true },
        ];
        let mut found = Vec::new();
        let mut note = |bytes: Vec<u8>| found.push((bytes[4], bytes.len(), frame::crc(&bytes)));
        for ask in [
            BackupAsk::Begin { objects: vec!["/".to_owned()] },
            BackupAsk::Messages { mailbox: 1 },
            BackupAsk::Bytes { mailbox: 1, uids: vec![2] },
            BackupAsk::Changes { lsn: 1, epoch: 2, until_us: 3 },
            BackupAsk::Bygone { messages: vec![bygone] },
            BackupAsk::AtWork(BackupWork {
                restores: true,
                done: 1,
                total: Some(2),
                item: "i".to_owned(),
                is_last: false,
            }),
            BackupAsk::Sick { name: "n".to_owned(), deep: true },
            BackupAsk::Heal(BackupHeal {
                name: "n".to_owned(),
                from: "f".to_owned(),
                messages: vec![
                    (1, ReturningBody::Inline(vec![2])),
                    (3, ReturningBody::Sent(4)),
                    (5, ReturningBody::Copy(6)),
                    (7, ReturningBody::Same { uid: 8, digest: [9; 32] }),
                ],
            }),
            BackupAsk::LeftOut,
            BackupAsk::Follows { lsn: 1, epoch: 2 },
        ] {
            let (ask, mut bytes) = (Request::Backup(ask), Vec::new());
            codec::encode(&ask, &mut bytes).unwrap();
            assert_eq!(codec::decode::<Request>(&bytes).unwrap(), ask);
            note(bytes);
        }
        let sick = vec![BackupSick { uid: 1, what: "w".to_owned() }];
        let healed = vec![BackupHealed { uid: 1, failed: Some("f".to_owned()) }, BackupHealed { uid: 2, failed: None }];
        let left_out = BackupPart::LeftOut(vec![(1, "n".to_owned())]);
        for part in [BackupPart::Changes(changes), BackupPart::Sick(sick), BackupPart::Healed(healed), left_out] {
            let (part, mut bytes) = (Reply::Backup(part), Vec::new());
            codec::encode(&part, &mut bytes).unwrap();
            assert_eq!(codec::decode::<Reply>(&bytes).unwrap(), part);
            note(bytes);
        }
        let golden = [
            (0, 25, 0xbff8799d),
            (1, 16, 0x8ae9a927),
            (2, 28, 0xcc72f173),
            (3, 32, 0x87c41517),
            (4, 86, 0xabb84a4a),
            (5, 36, 0x39752d61),
            (6, 18, 0xdda2ed40),
            (7, 123, 0x0d155903),
            (8, 8, 0xae56ead7),
            (9, 24, 0x5141112d),
            (4, 267, 0x1ddfa5ec),
            (5, 29, 0x50d14d77),
            (6, 35, 0x45c3542a),
            (7, 33, 0xb1bcf30e),
        ];
        assert_eq!(found, golden);
    }
}
