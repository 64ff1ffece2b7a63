//! What a client may ask. One variant per verb; the order of variants is the wire number: append only, never reorder.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Greeting: the client's protocol version and a name for messages ("storectl 0.1.0"). First on every connection.
    Hello { version: u16, client: String },
    /// `status`.
    Status,
    /// `health`.
    Health,
    /// `stats`.
    Stats,
    /// `checkpoint`: answers when it is durable.
    Checkpoint,
    /// `log list`; without `all` only the removable ones are left out of nothing: `all` false lists what may be removed.
    LogList { all: bool },
    /// `log verify`.
    LogVerify,
    /// `log dump`; streamed. Bounds are inclusive.
    LogDump { from: Option<u64>, to: Option<u64>, since_us: Option<u64>, mailbox: Option<String>, user: Option<String> },
    /// `recover --report --last N`, newest first.
    RecoverReport { last: u32 },
    /// `user list [PATTERN]`; streamed.
    UserList { pattern: Option<String> },
    /// `user show`.
    UserShow { user: String },
    /// `mailbox list [PATTERN]`; streamed.
    MailboxList { pattern: String },
    /// `mailbox show`.
    MailboxShow { name: String },
    /// `acl get`.
    AclGet { name: String },
    /// `subscriptions USER`.
    Subscriptions { user: String },
    /// `partition list`.
    PartitionList,
    /// `partition show`.
    PartitionShow { name: String },
    /// `hashdir USER`.
    Hashdir { user: String, absolute: bool },
    /// `quota get ROOT` (a user id or mailbox name).
    QuotaGet { root: String },
    /// `config show`.
    ConfigShow { defaults: bool },
    /// `shutdown [--now]`.
    Shutdown { now: bool },
    /// A change; `dry_run` plans it and changes nothing.
    Change { command: Command, dry_run: bool },
    /// Several changes in one transaction.
    Atomic { commands: Vec<Command> },
}

/// A change that may be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// `user add USER [--partition P] [--quota SIZE] [--messages N]`.
    UserAdd { user: String, partition: Option<String>, quota_bytes: Option<u64>, quota_messages: Option<u64> },
    /// `user delete USER`.
    UserDelete { user: String },
    /// `user rename USER TO`.
    UserRename { user: String, to: String },
    /// `mailbox create NAME [--partition P]`.
    MailboxCreate { name: String, partition: Option<String> },
    /// `mailbox delete NAME`.
    MailboxDelete { name: String },
    /// `mailbox rename FROM TO`.
    MailboxRename { from: String, to: String },
    /// `acl set NAME IDENTIFIER RIGHTS`.
    AclSet { name: String, identifier: String, rights: String },
    /// `acl delete NAME IDENTIFIER`.
    AclDelete { name: String, identifier: String },
    /// `subscribe USER NAME`.
    Subscribe { user: String, name: String },
    /// `unsubscribe USER NAME`.
    Unsubscribe { user: String, name: String },
    /// `partition add NAME PATH`.
    PartitionAdd { name: String, path: String },
    /// `partition remove NAME`.
    PartitionRemove { name: String },
    /// One entry of `import cyrus-list`, mapped and decoded by the client.
    ImportMailbox { name: String, partition: Option<String>, uidvalidity: u32, acl: BTreeMap<String, String> },
}
