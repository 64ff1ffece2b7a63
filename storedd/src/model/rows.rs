//! Rows: what stands behind each key of the mboxlist database, in the log, the overlay and the file alike.
//!
//! # Purpose
//! One encoding for all three, so that a row is made once, by the planner, and carried as bytes from there.
//!
//! # Format
//! A row is one version byte (1; [`QuotaRow`] also 2), then the struct in bincode 2, `standard` configuration: integers
//! below 251 one byte, others 251, 252 or 253 and a little-endian `u16`, `u32` or `u64`; an `Option` one byte (0, or 1
//! and the value); text and maps their length and their content, maps in key order. That is half the bytes of integers
//! of fixed width, in the log, in memory and in the file. What a row is follows from its table, and in `Past` from its
//! key:
//!
//! | table | key | row |
//! |---|---|---|
//! | Users | user id | [`UserRow`] |
//! | Mailboxes | mailbox key | [`MailboxRow`] |
//! | Past | mailbox key | [`PastRow`] |
//! | Past | mailbox key, 0x02, mailbox id in 16 hexadecimal digits | [`TombstoneRow`] |
//! | Quotas | quota root: `user`, 0x01, user id; or mailbox key | [`QuotaRow`] |
//! | Subscriptions | user id, 0x02, mailbox key | [`SubscriptionRow`] |
//! | Rights | identifier, 0x02, mailbox key | [`RightsRow`] |
//! | Partitions | partition name | [`PartitionRow`] |
//! | Ids | mailbox id in 16 hexadecimal digits | [`IdRow`]; in no log record, see [`super::ids`] |
//! | Seen | user id, 0x02, mailbox id in 16 hexadecimal digits | [`super::seen::SeenRow`]; since schema 3 |
//!
//! A root that is over a limit has a [`QuotaRow`] of version 2, which says since when; any other has one of version 1, without that
//! field. So nothing has to be converted for it on the way up, and a way down takes the field away ([`without_grace`]).
//!
//! # Operation
//! Decoding has a size limit, checks the version and that every byte was used; it never panics. A row of another
//! version is an error here: older ones are brought up by an upgrade, newer ones are refused.
//!
//! # Invariants
//! Equal rows have equal bytes; golden bytes in the tests pin them.

pub use super::keys::{id_key, id_of, joined, quota_key, readable_key, split, subjects, tombstone_key};
use super::quota::Usage;
use super::rights::Acl;
use super::table::Table;
use super::user::SHARED_DIRECTORY;
use crate::error::{Result, StoreError};
use crate::lsn::Micros;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Version of every row kind, but of a quota root that is over a limit.
pub const ROW_VERSION: u8 = 1;
/// Longest row in bytes that is decoded: a mailbox with 1,000 entries of rights stays below half of it.
pub const ROW_BYTES_MAX: usize = 1 << 20;

const fn config() -> bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Varint,
    bincode::config::Limit<ROW_BYTES_MAX>,
> {
    bincode::config::standard().with_limit::<ROW_BYTES_MAX>()
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRow {
    /// Number that never changes and is never given twice.
    pub id: u64,
    /// Partition of new mailboxes.
    pub partition: String,
    /// When it was created, microseconds since 1970.
    pub created_us: u64,
    /// Directory below a partition's root, see [`super::user::directory`].
    pub directory: String,
}

/// A user, borrowed from the row's bytes. The same format as [`UserRow`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct UserView<'a> {
    /// As in [`UserRow`], like all fields.
    pub id: u64,
    /// Partition of new mailboxes.
    #[serde(borrow)]
    pub partition: &'a str,
    /// When it was created.
    pub created_us: u64,
    /// Directory below a partition's root.
    #[serde(borrow)]
    pub directory: &'a str,
}

/// A mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxRow {
    /// Number that never changes and is never given twice; the name of its directory.
    pub id: u64,
    /// Partition where its messages lie.
    pub partition: String,
    /// UIDVALIDITY, never 0 (RFC 9051 2.3.1.1).
    pub uidvalidity: u32,
    /// UIDNEXT, never 0.
    pub uidnext: u32,
    /// HIGHESTMODSEQ (RFC 7162), never 0.
    pub highest_modseq: u64,
    /// Messages.
    pub messages: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Messages without \Seen.
    pub unseen: u64,
    /// When it was created, microseconds since 1970.
    pub created_us: u64,
    /// Directory of the user (or [`SHARED_DIRECTORY`]) in which it lies, if that is not its owner's: a mailbox that was
    /// renamed from one owner to another stays where it is.
    pub home: Option<String>,
    /// Rights by identifier.
    pub acl: Acl,
}

/// A mailbox, borrowed from the row's bytes. The same format as [`MailboxRow`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct MailboxView<'a> {
    /// As in [`MailboxRow`], like all fields.
    pub id: u64,
    /// Partition.
    #[serde(borrow)]
    pub partition: &'a str,
    /// UIDVALIDITY.
    pub uidvalidity: u32,
    /// UIDNEXT.
    pub uidnext: u32,
    /// HIGHESTMODSEQ.
    pub highest_modseq: u64,
    /// Messages.
    pub messages: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Messages without \Seen.
    pub unseen: u64,
    /// When it was created.
    pub created_us: u64,
    /// Directory if not the owner's.
    #[serde(borrow)]
    pub home: Option<&'a str>,
    /// Rights by identifier, in key order.
    #[serde(borrow)]
    pub acl: Vec<(&'a str, &'a str)>,
}

/// What a name stood for when its last mailbox left it. A mailbox may take the name only with a higher UIDVALIDITY, or
/// if it is the same mailbox with the same one (I6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastRow {
    /// The highest UIDVALIDITY that the name has had.
    pub uidvalidity: u32,
    /// The mailbox that had it.
    pub mailbox_id: u64,
}

/// A deleted mailbox whose messages may still be on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TombstoneRow {
    /// When it was deleted, microseconds since 1970.
    pub deleted_us: u64,
    /// Its directory below the partition's root.
    pub directory: String,
    /// The mailbox as it was.
    pub mailbox: MailboxRow,
}

/// Limits and usage of a quota root (RFC 9208), see [`super::quota`]. Every user has one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct QuotaRow {
    /// Bytes allowed.
    pub storage_limit: Option<u64>,
    /// Messages allowed.
    pub message_limit: Option<u64>,
    /// Bytes counted (I9).
    pub storage_usage: u64,
    /// Messages counted (I9).
    pub message_usage: u64,
    /// Since when one of them has been more than is allowed, microseconds since 1970; 0: it is not.
    pub over_since_us: u64,
}

/// A subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionRow {
    /// Since when, microseconds since 1970.
    pub since_us: u64,
}

/// Rights of one identifier in one mailbox: the same as in the mailbox's row, found from the other side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RightsRow {
    /// Letters.
    pub rights: String,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionRow {
    /// Identity, as the file `PARTITION` in its root repeats it.
    #[serde(with = "hex16")]
    pub id: [u8; 16],
    /// When it was registered, microseconds since 1970.
    pub created_us: u64,
}

/// Where the row lies that speaks of a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRow {
    /// Its key: in `Mailboxes`, or, of a mailbox that was deleted, in `Past`.
    pub key: String,
}

mod hex16 {
    //! Sixteen bytes: as they are in rows, as 32 hexadecimal digits for people.
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(id: &[u8; 16], out: S) -> Result<S::Ok, S::Error> {
        if out.is_human_readable() {
            return format!("{:032x}", u128::from_be_bytes(*id)).serialize(out);
        }
        id.serialize(out)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<[u8; 16], D::Error> {
        if input.is_human_readable() {
            let digits = <&str>::deserialize(input)?;
            return u128::from_str_radix(digits, 16).map(u128::to_be_bytes).map_err(D::Error::custom);
        }
        <[u8; 16]>::deserialize(input)
    }
}

impl QuotaRow {
    /// What is counted.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage { bytes: self.storage_usage, messages: self.message_usage }
    }

    /// The same limits with this usage.
    #[must_use]
    pub fn with_usage(self, usage: Usage) -> QuotaRow {
        QuotaRow { storage_usage: usage.bytes, message_usage: usage.messages, ..self }
    }

    /// True if so much were more than a limit allows.
    #[must_use]
    pub fn is_over(&self, usage: Usage) -> bool {
        let over = |used: u64, limit: Option<u64>| limit.is_some_and(|limit| used > limit);
        over(usage.bytes, self.storage_limit) || over(usage.messages, self.message_limit)
    }

    /// The same, and since when it is over a limit if it is: `now_us` if that is new.
    #[must_use]
    pub fn settled(self, now_us: u64) -> QuotaRow {
        let over_since_us = match self.is_over(self.usage()) {
            // A moment that did not come yet would make the time of grace as long as it takes to come.
            true if self.over_since_us > 0 && !Micros(self.over_since_us).is_ahead_of(Micros(now_us)) => {
                self.over_since_us
            }
            true => now_us.max(1),
            false => 0,
        };
        QuotaRow { over_since_us, ..self }
    }
}

/// Version of the row of a quota root that is over a limit.
const OVER_VERSION: u8 = 2;

/// A row of a quota root as an older program reads it.
///
/// # Errors
/// As [`Row::decode`].
pub fn without_grace(key: &[u8], row: &[u8]) -> Result<Vec<u8>> {
    QuotaRow { over_since_us: 0, ..QuotaRow::decode(key, row)? }.encode()
}

/// Something that stands behind a key.
pub trait Row: Serialize + DeserializeOwned {
    /// Where such rows lie.
    const TABLE: Table;
    /// Bytes to reserve when encoding: most rows fit.
    const TYPICAL_BYTES: usize;

    /// The row as bytes.
    ///
    /// # Errors
    /// [`StoreError::Bug`] if the encoder fails, which it does for no row type here.
    fn encode(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(Self::TYPICAL_BYTES);
        bytes.push(ROW_VERSION);
        bincode::serde::encode_into_std_write(self, &mut bytes, config())
            .map_err(|e| StoreError::Bug(format!("encoding a row: {e}")))?;
        Ok(bytes)
    }

    /// The row that stands behind `key`.
    ///
    /// # Errors
    /// [`StoreError::Foreign`] if it has another version, [`StoreError::Corrupt`] if the bytes are no such row.
    fn decode(key: &[u8], bytes: &[u8]) -> Result<Self> {
        let body = check_version(Self::TABLE, key, bytes)?;
        whole(Self::TABLE, key, body, bincode::serde::decode_from_slice(body, config()))
    }
}

impl Row for UserRow {
    const TABLE: Table = Table::Users;
    const TYPICAL_BYTES: usize = 64;
}
impl Row for MailboxRow {
    const TABLE: Table = Table::Mailboxes;
    const TYPICAL_BYTES: usize = 96;
}
impl Row for PastRow {
    const TABLE: Table = Table::Past;
    const TYPICAL_BYTES: usize = 15;
}
impl Row for TombstoneRow {
    const TABLE: Table = Table::Past;
    const TYPICAL_BYTES: usize = 160;
}
impl Row for QuotaRow {
    const TABLE: Table = Table::Quotas;
    const TYPICAL_BYTES: usize = 39;

    fn encode(&self) -> Result<Vec<u8>> {
        let bug = |e| StoreError::Bug(format!("encoding a row: {e}"));
        let mut bytes = Vec::with_capacity(Self::TYPICAL_BYTES);
        if self.over_since_us > 0 {
            bytes.push(OVER_VERSION);
            bincode::serde::encode_into_std_write(self, &mut bytes, config()).map_err(bug)?;
        } else {
            let QuotaRow { storage_limit, message_limit, storage_usage, message_usage, .. } = self;
            bytes.push(ROW_VERSION);
            let fields = (storage_limit, message_limit, storage_usage, message_usage);
            bincode::serde::encode_into_std_write(fields, &mut bytes, config()).map_err(bug)?;
        }
        Ok(bytes)
    }

    fn decode(key: &[u8], bytes: &[u8]) -> Result<Self> {
        if let Some((&OVER_VERSION, body)) = bytes.split_first() {
            let row: QuotaRow = whole(Self::TABLE, key, body, bincode::serde::decode_from_slice(body, config()))?;
            // What encoding would not make.
            return if row.over_since_us > 0 {
                Ok(row)
            } else {
                Err(corrupt(Self::TABLE, key, "over since 0".to_owned()))
            };
        }
        let body = check_version(Self::TABLE, key, bytes)?;
        let read = bincode::serde::decode_from_slice(body, config());
        let (storage_limit, message_limit, storage_usage, message_usage) = whole(Self::TABLE, key, body, read)?;
        Ok(QuotaRow { storage_limit, message_limit, storage_usage, message_usage, over_since_us: 0 })
    }
}
impl Row for SubscriptionRow {
    const TABLE: Table = Table::Subscriptions;
    const TYPICAL_BYTES: usize = 10;
}
impl Row for RightsRow {
    const TABLE: Table = Table::Rights;
    const TYPICAL_BYTES: usize = 16;
}
impl Row for PartitionRow {
    const TABLE: Table = Table::Partitions;
    const TYPICAL_BYTES: usize = 26;
}

impl Row for IdRow {
    const TABLE: Table = Table::Ids;
    const TYPICAL_BYTES: usize = 48;
}

impl IdRow {
    /// The row that names this key.
    #[must_use]
    pub fn of(key: &[u8]) -> IdRow {
        // Keys are text; one that is not comes from a damaged row, which the check of the tables names.
        IdRow { key: String::from_utf8_lossy(key).into_owned() }
    }

    /// The table of the row.
    #[must_use]
    pub fn table(&self) -> Table {
        if split(self.key.as_bytes()).is_some() { Table::Past } else { Table::Mailboxes }
    }
}

impl<'a> UserView<'a> {
    /// [`Row::decode`] without copying text.
    ///
    /// # Errors
    /// As there.
    pub fn decode(key: &[u8], bytes: &'a [u8]) -> Result<UserView<'a>> {
        let body = check_version(Table::Users, key, bytes)?;
        whole(Table::Users, key, body, bincode::serde::borrow_decode_from_slice(body, config()))
    }
}

impl<'a> MailboxView<'a> {
    /// As [`MailboxRow::usage`].
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage { bytes: self.bytes, messages: self.messages }
    }

    /// [`Row::decode`] without copying text.
    ///
    /// # Errors
    /// As there.
    pub fn decode(key: &[u8], bytes: &'a [u8]) -> Result<MailboxView<'a>> {
        let body = check_version(Table::Mailboxes, key, bytes)?;
        whole(Table::Mailboxes, key, body, bincode::serde::borrow_decode_from_slice(body, config()))
    }
}

/// The number of the mailbox whose row this is: the first thing in it.
///
/// # Errors
/// As [`Row::decode`], as far as it looks.
pub fn mailbox_id(key: &[u8], bytes: &[u8]) -> Result<u64> {
    let body = check_version(Table::Mailboxes, key, bytes)?;
    match bincode::serde::decode_from_slice(body, config()) {
        Ok((id, _)) => Ok(id),
        Err(e) => Err(corrupt(Table::Mailboxes, key, e.to_string())),
    }
}

impl MailboxRow {
    /// What it adds to its quota root.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage { bytes: self.bytes, messages: self.messages }
    }

    /// The mailbox's directory below its partition's root; `owner` is the directory of the user it belongs to.
    #[must_use]
    pub fn directory(&self, owner: Option<&str>) -> String {
        mailbox_directory(self.id, self.home.as_deref(), owner)
    }
}

/// The directory of mailbox `id` below its partition's root: in `home` if it has one, else in that of its owner.
#[must_use]
pub fn mailbox_directory(id: u64, home: Option<&str>, owner: Option<&str>) -> String {
    format!("{}/{id}", home.or(owner).unwrap_or(SHARED_DIRECTORY))
}

fn check_version<'b>(table: Table, key: &[u8], bytes: &'b [u8]) -> Result<&'b [u8]> {
    match bytes.split_first() {
        Some((&ROW_VERSION, body)) => Ok(body),
        Some((version, _)) => Err(StoreError::Foreign {
            file: place(table, key),
            what: "row version",
            found: version.to_string(),
            expected: ROW_VERSION.to_string(),
        }),
        None => Err(corrupt(table, key, "nothing".to_owned())),
    }
}

fn whole<T>(table: Table, key: &[u8], body: &[u8], read: Result<(T, usize), bincode::error::DecodeError>) -> Result<T> {
    match read {
        Ok((row, used)) if used == body.len() => Ok(row),
        Ok((_, used)) => Err(corrupt(table, key, format!("{} bytes behind its end", body.len() - used))),
        Err(e) => Err(corrupt(table, key, e.to_string())),
    }
}

fn place(table: Table, key: &[u8]) -> String {
    format!("table {}, {}", table.name(), readable_key(table, key))
}

fn corrupt(table: Table, key: &[u8], found: String) -> StoreError {
    let expected = format!("a row of version {ROW_VERSION}");
    StoreError::Corrupt { file: place(table, key), offset: 0, what: "row".to_owned(), found, expected }
}

/// A row as JSON text, for `log dump`.
///
/// # Errors
/// As [`Row::decode`].
pub fn json(table: Table, key: &[u8], bytes: &[u8]) -> Result<String> {
    fn of<R: Row>(key: &[u8], bytes: &[u8]) -> Result<String> {
        let row = R::decode(key, bytes)?;
        serde_json::to_string(&row).map_err(|e| StoreError::Bug(format!("a row as JSON: {e}")))
    }
    match table {
        Table::Users => of::<UserRow>(key, bytes),
        Table::Mailboxes => of::<MailboxRow>(key, bytes),
        Table::Past if split(key).is_some() => of::<TombstoneRow>(key, bytes),
        Table::Past => of::<PastRow>(key, bytes),
        Table::Quotas => of::<QuotaRow>(key, bytes),
        Table::Subscriptions => of::<SubscriptionRow>(key, bytes),
        Table::Rights => of::<RightsRow>(key, bytes),
        Table::Partitions => of::<PartitionRow>(key, bytes),
        Table::Ids => of::<IdRow>(key, bytes),
        Table::Seen => of::<super::seen::SeenRow>(key, bytes),
        Table::Messages | Table::Bodies => Err(StoreError::Bug(format!("a row of {} as JSON", table.name()))),
    }
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
