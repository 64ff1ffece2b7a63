//! What a client may ask. One variant per verb; the order of variants is the wire number: append only, never reorder,
//! never reuse (`numbers.rs` has number and verb of each, golden bytes in `request_golden.rs` hold them). Names are sent as
//! typed; the daemon checks and normalises them.

use crate::backup_read::BackupAsk;
use crate::check::Check;
use crate::command::Command;
use crate::failure::Failure;
use crate::jobs::{Errand, Told, Work};
use crate::reconstruct::Reconstruct;
use serde::{Deserialize, Serialize};

/// The end of the name of a client whose changes are bulk work (see [`Request::Hello`]).
pub const BULK: &str = " (bulk)";

/// What to do about maintenance, a time in which bulk work is expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Window {
    /// Begin one, or give the one that there is another end.
    Start {
        /// Seconds from now; at most a week.
        seconds: u64,
        /// Why; for `status` and the log.
        reason: String,
    },
    /// End it.
    Stop,
    /// Only tell.
    Show,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Greeting; first on every connection, and only there. Answered by [`crate::Reply::Hello`].
    Hello {
        /// Protocol version the client speaks: [`crate::frame::VERSION`].
        version: u16,
        /// A name for messages and log lines ("storectl 0.1.0"); at most 256 bytes. With [`BULK`] at its end, the changes
        /// of this connection are bulk work: the first to be refused when a disk runs full.
        client: String,
    },
    /// `status`; answered in every state.
    Status,
    /// `health`: done when the store takes changes, else `Unavailable`; answered in every state.
    Health,
    /// `stats`; answered in every state.
    Stats,
    /// `checkpoint`: answers when it is durable.
    Checkpoint,
    /// `log list`.
    LogList {
        /// True: every segment of the live epoch chain; false: those that nothing needs any more.
        all: bool,
    },
    /// `log verify`: reads the whole log and changes nothing.
    LogVerify,
    /// `log dump`; streamed in LSN order. Absent bounds and filters do not restrict.
    LogDump {
        /// First LSN.
        from: Option<u64>,
        /// Last LSN, itself included.
        to: Option<u64>,
        /// Records of this time and later: microseconds since 1970 UTC.
        since_us: Option<u64>,
        /// Records that touch this mailbox.
        mailbox: Option<String>,
        /// Records that touch this user.
        user: Option<String>,
    },
    /// `recover --report --last N`, newest first; answered in every state.
    RecoverReport {
        /// How many; at least 1.
        last: u32,
    },
    /// `user list [PATTERN]`; streamed in order of user id.
    UserList {
        /// `*` and `%` as in `mailbox list`; absent: all.
        pattern: Option<String>,
    },
    /// `user show`.
    UserShow {
        /// User id.
        user: String,
    },
    /// `mailbox list [PATTERN]`; streamed in order of name.
    MailboxList {
        /// IMAP pattern over full names: `*` anything, `%` anything but `/`.
        pattern: String,
    },
    /// `mailbox show`.
    MailboxShow {
        /// Full name.
        name: String,
    },
    /// `acl get`.
    AclGet {
        /// Full name of the mailbox.
        name: String,
    },
    /// `subscriptions USER`.
    Subscriptions {
        /// User id.
        user: String,
    },
    /// `partition list`.
    PartitionList,
    /// `partition show`.
    PartitionShow {
        /// Name of the partition.
        name: String,
    },
    /// `hashdir USER`.
    Hashdir {
        /// User id.
        user: String,
        /// True: with the partition's root in front.
        absolute: bool,
    },
    /// `quota get ROOT`.
    QuotaGet {
        /// A user id or a mailbox name.
        root: String,
    },
    /// `config show`; answered in every state.
    ConfigShow {
        /// True: the built-in defaults instead of the values in force.
        defaults: bool,
    },
    /// `shutdown [--now]`: answered at once, the connection closes when the store has stopped; answered in every state.
    Shutdown {
        /// True: without waiting for sessions and without a last checkpoint; nothing acknowledged is lost.
        now: bool,
    },
    /// A change; answers when it is on disk and visible.
    Change {
        /// What to change.
        command: Command,
        /// True: plans it, tells what it would do, and changes nothing.
        dry_run: bool,
    },
    /// Several changes in one transaction: all are done or none.
    Atomic {
        /// In this order; each sees the ones before it.
        commands: Vec<Command>,
    },
    /// `restart`, and `recover --accept-loss` of a store that is held: answered at once, the connection closes when the
    /// store has stopped, and the same process starts again with the same options. Answered in every state.
    Restart {
        /// True: the start that follows gives up what it cannot reach; refused where nothing is held.
        accept_loss: bool,
    },
    /// `maintenance start|stop|status`: answers with what holds then; answered in every state but while recovering.
    Maintenance {
        /// What to do.
        window: Window,
    },
    /// `metrics`: every number in the text format of Prometheus; answered in every state.
    Metrics,
    /// `quota list [PATTERN]`; streamed in order of root.
    QuotaList {
        /// `*` and `%` over roots as they are shown (`user/joe`, `shared/news`).
        pattern: String,
    },
    /// `quota report`: the roots that have reached so much of a limit; streamed in order of root.
    QuotaReport {
        /// Per cent; absent: as the configuration says.
        over: Option<u32>,
    },
    /// `quota recalc` of all roots; streamed: those that were wrong.
    QuotaRecalc {
        /// True: says what is wrong and changes nothing.
        dry_run: bool,
    },
    /// `acl rights`: what an identifier can be given.
    AclRights {
        /// Full name of the mailbox.
        name: String,
        /// User, group or `anyone`, or one of them behind `-`.
        identifier: String,
    },
    /// `acl my`: what a user may do.
    AclMy {
        /// Full name of the mailbox.
        name: String,
        /// User id, or `anonymous`.
        user: String,
    },
    /// `mailbox list --as`; streamed in order of name.
    MailboxListAs {
        /// User id, or `anonymous`.
        user: String,
        /// As of `MailboxList`.
        pattern: String,
    },
    /// `mailbox show --as`.
    MailboxShowAs {
        /// User id, or `anonymous`.
        user: String,
        /// Full name.
        name: String,
    },
    /// `subscriptions USER --missing`; streamed in order of name.
    SubscriptionsMissing {
        /// User id.
        user: String,
    },
    /// `config reload`: reads the configuration file again; answered in every state.
    ConfigReload {
        /// True: only says what a reload would change.
        dry_run: bool,
    },
    /// `snapshot take`: answers when it is there.
    SnapshotTake {
        /// Verify it, too.
        verify: bool,
    },
    /// `snapshot list`.
    SnapshotList,
    /// `snapshot verify`.
    SnapshotVerify {
        /// Its name; absent: the newest, or all.
        id: Option<String>,
        /// All of them.
        all: bool,
    },
    /// `snapshot prune`: removes what is more than the configuration wants.
    SnapshotPrune,
    /// `snapshot delete ID`.
    SnapshotDelete {
        /// Its name.
        id: String,
    },
    /// `locks hold`: answers with the lease when it is granted. It ends with the connection at the latest.
    LockTake {
        /// `/`, a user id, or the full name of a mailbox.
        resource: String,
        /// Milliseconds until it ends by itself; absent: five minutes.
        for_ms: Option<u64>,
        /// Longest wait for it in milliseconds; absent: as the configuration says.
        wait_ms: Option<u64>,
        /// Why; for `locks` and the log.
        reason: String,
    },
    /// Ends a lease, or a freeze, of this connection; `NotFound` if it has ended by itself before.
    LockRelease {
        /// Its number.
        id: u64,
    },
    /// `locks`; answered in every state.
    Locks,
    /// `locks break`: cuts the holder's connection and answers when the lease has ended; answered in every state.
    LockBreak {
        /// Number of the lease.
        id: u64,
    },
    /// From now on this connection acts for the holder of a lease, whose user it must be of.
    LockJoin {
        /// Number of the lease.
        id: u64,
    },
    /// `freeze`: answers with a lease on everything when all is on disk and nothing is written any more. `LockRelease`
    /// ends it; it ends with the connection at the latest.
    Freeze {
        /// Milliseconds until it ends by itself, at most a minute.
        for_ms: u64,
        /// Why; for `locks` and the log.
        reason: String,
    },
    /// `drain`: answered at once, the connection closes when the store has stopped.
    Drain {
        /// Longest wait for those who are there, in milliseconds; absent: as the configuration says.
        wait_ms: Option<u64>,
    },
    /// `read-only on|off`: answers when the last change that was under way is on disk.
    ReadOnly {
        /// True: no changes from now on.
        on: bool,
        /// Why; for `status` and the log.
        reason: String,
    },
    /// `recover --accept-loss`: what a start lost is known, and no repair is recommended any more; done is false in a store that is
    /// held, where [`Request::Restart`] is what accepts the loss; `NotFound` where nothing was lost.
    AcceptLoss,
    /// `backup-db DIR`: answers when the backup is complete.
    BackupDb {
        /// Absolute path on the daemon's host of the directory in which it is made.
        dir: String,
    },
    /// Long-running work as a job: it goes on when this client goes away. Answered by any number of parts
    /// [`crate::Reply::Job`], the first with its number at once, and then by what the work ends with.
    JobStart {
        /// What to do.
        work: Work,
        /// True: answered at once by the job, as it is then.
        detach: bool,
    },
    /// `jobs list`; answered in every state.
    Jobs,
    /// `jobs show ID`; answered in every state.
    JobShow {
        /// Number of the job.
        id: u64,
    },
    /// `jobs cancel ID`: answered by the job when it has ended; in every state.
    JobCancel {
        /// Number of the job.
        id: u64,
    },
    /// `jobs follow ID`: answered as [`Request::JobStart`] is, also for a job that is over; in every state.
    JobFollow {
        /// Number of the job.
        id: u64,
    },
    /// `drill`: answers when the store in the scratch directory was looked at and removed.
    Drill,
    /// A piece of a message that is too long for one request, for a later [`Command::MessageDeliver`] of this connection; answered by
    /// [`crate::Reply::MessageSent`]. It goes with the connection.
    MessageSend {
        /// Number of the message; absent with its first piece.
        number: Option<u64>,
        /// Full name of the first mailbox that is to have it.
        to: String,
        /// The piece.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
        /// True: the last one; answered when the message is on disk.
        last: bool,
    },
    /// `message list`; streamed in order of UID.
    MessageList {
        /// Full name of the mailbox.
        name: String,
        /// True: those that were expunged and can be brought back, and no others.
        expunged: bool,
    },
    /// `message show`.
    MessageShow {
        /// Full name of the mailbox.
        name: String,
        /// UID.
        uid: u32,
    },
    /// `message show --raw`; streamed.
    MessageBytes {
        /// Full name of the mailbox.
        name: String,
        /// UID.
        uid: u32,
    },
    /// `expire`: has the rules of ageing look at every mailbox; answers when they have.
    Expire {
        /// True: tells what they would do, and changes nothing.
        dry_run: bool,
    },
    /// `purge`: what was expunged or deleted long enough ago goes for good.
    Purge {
        /// True: tells what would go, and changes nothing.
        dry_run: bool,
    },
    /// `reconstruct`: answers when all of it is done.
    Reconstruct(Reconstruct),
    /// `check`: changes nothing; answers when all was looked at.
    Check(Check),
    /// What a backup reads; streamed.
    Backup(BackupAsk),
    /// `message list --as`: as a user sees them; streamed in order of UID.
    MessageListAs {
        /// User id.
        user: String,
        /// Full name of the mailbox.
        name: String,
    },
    /// `peruser`: writes to the partitions what users have seen in mailboxes of others; answers when it is durable there.
    Peruser,
    /// `user move`: has a user lie on another partition; answers when everything of his lies there.
    UserMove {
        /// User id.
        user: String,
        /// Name of the partition.
        to: String,
    },
    /// This client does work itself, which is to be seen as a job as long as this connection lives; answered by the job.
    JobAttend {
        /// What it does.
        errand: Errand,
    },
    /// How far that work is; answered by the job. If its state is not `running`, somebody wants it to end.
    JobAdvance {
        /// Number of the job, which is one of this connection.
        id: u64,
        /// Pieces done.
        done: u64,
        /// All pieces, where that is known.
        total: Option<u64>,
        /// What is worked on.
        item: String,
    },
    /// That work has ended; answered by the job.
    JobEnd {
        /// Number of the job, which is one of this connection.
        id: u64,
        /// What it came to.
        told: Told,
        /// Why it ended early.
        failure: Option<Failure>,
    },
    /// `backup --complete DIR`: answers when the copy is complete.
    BackupComplete {
        /// Absolute path on the daemon's host of the directory, which is empty or not there.
        dir: String,
    },
    /// `mailbox list --deleted`: the deleted mailboxes that can still be brought back; streamed, the oldest of a name first.
    MailboxListDeleted {
        /// As of `MailboxList`.
        pattern: String,
    },
    /// `message list --expunged`: as `MessageList` of those that were expunged, with when that was; streamed in order of UID.
    MessageListExpunged {
        /// Full name of the mailbox.
        name: String,
    },
}
