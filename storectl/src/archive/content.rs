//! What stands in the frames, as JSON. Unknown keys are passed over; a key that is not there has the value that says nothing.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The first frame: what the archive is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The program that wrote it.
    pub program: String,
    /// Id of the store, in hexadecimal digits.
    pub store: String,
    /// Id of the archive, in hexadecimal digits; that of every head.
    pub id: String,
    /// Epoch of the LSN.
    pub epoch: u64,
    /// Everything up to this LSN is in it.
    pub lsn: u64,
    /// When that was.
    pub time: Timestamp,
    /// Only what came behind this is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Since>,
    /// What was asked for.
    pub objects: Vec<String>,
    /// A message stands in it once; further ones refer to it.
    pub single_copy: bool,
}

/// What became of mailboxes of the archive before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Moves {
    /// Those that have another name now.
    #[serde(default)]
    pub renamed: Vec<Mailbox>,
    /// Those that are gone.
    #[serde(default)]
    pub gone: Vec<Before>,
}

/// Where an incremental archive begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Since {
    /// Messages that came into their mailbox at this time or later.
    Time(Timestamp),
    /// What changed behind another archive.
    Archive {
        /// Its id.
        id: String,
        /// Its LSN.
        lsn: u64,
        /// Its epoch.
        epoch: u64,
    },
}

/// What the archive before knew of a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// Full name.
    pub name: String,
    /// UIDNEXT.
    pub uidnext: u32,
    /// Highest modseq.
    pub highest_modseq: u64,
    /// UIDVALIDITY.
    pub uidvalidity: u32,
    /// Its id in its store, in hexadecimal digits; empty in an archive of an older program.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// What messages it had: [`Close::state`] of the archive before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
}

/// What messages a mailbox has, in whatever order: the sum of the first sixteen bytes (little endian) of the BLAKE3 of each: of its UID (four
/// bytes, big endian), its digest, and for each of its flags, sorted, a zero and its name. Written as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct State(u128);

impl State {
    /// One message more.
    pub fn add(&mut self, uid: u32, digest: &[u8; 32], flags: &[String]) {
        let mut sorted: Vec<&str> = flags.iter().map(String::as_str).collect();
        sorted.sort_unstable();
        let mut hasher = blake3::Hasher::new();
        hasher.update(&uid.to_be_bytes()).update(digest);
        for flag in sorted {
            hasher.update(&[0]).update(flag.as_bytes());
        }
        let mut first = [0; 16];
        hasher.finalize_xof().fill(&mut first);
        self.0 = self.0.wrapping_add(u128::from_le_bytes(first));
    }
}

impl From<State> for String {
    fn from(state: State) -> String {
        format!("{:032x}", state.0)
    }
}

impl TryFrom<String> for State {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<State, Self::Error> {
        u128::from_str_radix(&text, 16).map(State)
    }
}

/// The owner of the mailboxes that follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id.
    pub user: String,
    /// Where the user's mail lay.
    pub partition: String,
    /// Limit of bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_bytes: Option<u64>,
    /// Limit of messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_messages: Option<u64>,
    /// Full names of mailboxes.
    #[serde(default)]
    pub subscriptions: Vec<String>,
}

/// A mailbox; its messages follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mailbox {
    /// The object: `/partition/group/user/folder`.
    pub object: String,
    /// Full name.
    pub name: String,
    /// Its id in its store, in hexadecimal digits.
    pub id: String,
    /// Its partition.
    pub partition: String,
    /// UIDVALIDITY.
    pub uidvalidity: u32,
    /// UIDNEXT.
    pub uidnext: u32,
    /// Highest modseq.
    pub highest_modseq: u64,
    /// Identifier to rights.
    pub acl: BTreeMap<String, String>,
    /// Limits, if it is a quota root: bytes, messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<(Option<u64>, Option<u64>)>,
    /// Only in an archive that follows another: what that one knew of it, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Box<Before>>,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// UID.
    pub uid: u32,
    /// Bytes.
    pub size: u64,
    /// BLAKE3 of its bytes, in hexadecimal digits.
    pub digest: String,
    /// INTERNALDATE.
    pub date: Timestamp,
    /// When it came into this mailbox.
    pub saved: Timestamp,
    /// System flags with their backslash, keywords without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Modseq.
    pub modseq: u64,
    /// Full name of its mailbox, and the number of that one's frame: so that nothing is taken for another mailbox's where a frame is lost.
    pub mailbox: String,
    /// See there.
    pub begins: u64,
}

/// A message whose bytes stand elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// The message.
    #[serde(flatten)]
    pub message: Message,
    /// Number of the frame of kind `message` that has them; absent: an earlier archive has them, for this one says only what changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<u64>,
    /// What that frame is: `/partition/group/user/folder` and UID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<(String, u32)>,
}

/// The end of a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Close {
    /// Number of the mailbox's frame.
    #[serde(default)]
    pub begins: u64,
    /// Messages and references in it.
    pub messages: u64,
    /// Another frame of this kind follows, with more of the lists.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continues: bool,
    /// Only in an archive that follows another: UIDs of messages that are still there without change, as pairs of first and last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Vec<(u32, u32)>>,
    /// UIDs of its messages and references in this archive, as pairs of first and last: what an archive that follows has to know of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub has: Vec<(u32, u32)>,
    /// Messages whose bytes could not be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<u32>,
    /// What messages the mailbox has when this archive and those before it are restored: what an archive that follows has to find there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
}

/// Numbers in order as pairs of first and last.
pub fn runs(numbers: impl Iterator<Item = u32>) -> Vec<(u32, u32)> {
    let mut runs = Vec::new();
    numbers.for_each(|number| add_to_runs(&mut runs, number));
    runs
}

/// One number more behind those in order.
pub fn add_to_runs(runs: &mut Vec<(u32, u32)>, number: u32) {
    match runs.last_mut() {
        Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
        _ => runs.push((number, number)),
    }
}

/// Where frames begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Index {
    /// User ids, and the offsets of their frames.
    #[serde(default)]
    pub users: Vec<(String, u64)>,
    /// Object of each mailbox, and the offset of its frame.
    #[serde(default)]
    pub mailboxes: Vec<(String, u64)>,
    /// Offsets of the first frame of kind close of each mailbox; in an archive of an older program none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closes: Vec<u64>,
    /// Numbers of the frames that are referred to, and their offsets.
    #[serde(default)]
    pub frames: Vec<(u64, u64)>,
}

/// The last frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct End {
    /// Frames before this one.
    pub frames: u64,
    /// Mailboxes.
    pub mailboxes: u64,
    /// Messages whose bytes stand in it.
    pub messages: u64,
    /// References.
    pub copies: u64,
    /// Bytes of these messages, unpacked.
    pub bytes: u64,
    /// BLAKE3 of all bytes before this frame, in hexadecimal digits.
    pub digest: String,
}
