//! The one table of options: name, type, default, limit, whether a reload is enough, one sentence.
//!
//! Paths are written as they stand in the file; [`super::Config::load`] makes them absolute.

use super::value::{GIB, KIB, Limit, MIB, TimeOfDay, Value, choice};
use std::path::PathBuf;
use std::time::Duration;
use toml::de::DeValue;

choice! {
    /// What a start does when something acknowledged is lost.
    OnLoss {
        /// Go on, and say what is lost.
        Continue = "continue",
        /// Start read-only and wait for `storectl recover --accept-loss`.
        Hold = "hold",
    }
}

choice! {
    /// What a start does with a store of an older version.
    Upgrade {
        /// End with status 78 and name the command.
        ByHand = "by-hand",
        /// What `storedd upgrade` does, then go on.
        Automatic = "automatic",
    }
}

choice! {
    /// What the sender of a message is told whose recipient is over quota.
    OverQuota {
        /// To try again: room may be made.
        Retry = "retry",
        /// That it is refused for good.
        Bounce = "bounce",
    }
}

choice! {
    /// How much is said.
    Level {
        /// What needs a person.
        Error = "error",
        /// What may need a person.
        Warn = "warn",
        /// One line for each thing that happens rarely.
        Info = "info",
        /// For finding faults.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

choice! {
    /// Form of messages.
    Format {
        /// `journal` under systemd, else `text`.
        Auto = "auto",
        /// `key=value` with a priority for the journal and without a time, which the journal adds.
        Journal = "journal",
        /// `key=value` with a time.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

/// When a changed option takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// At the next reload.
    Reload,
    /// At the next start.
    Restart,
}

/// One option, as the documentation needs it.
#[derive(Debug, Clone, Copy)]
pub struct Opt {
    /// Section without brackets.
    pub section: &'static str,
    /// Key.
    pub key: &'static str,
    /// Unit or form of the value.
    pub unit: &'static str,
    /// Allowed values.
    pub limit: Limit,
    /// When a change takes effect.
    pub effect: Effect,
    /// What it is for.
    pub sentence: &'static str,
}

macro_rules! options {
    ($($(#[doc = $about:literal])* $section:ident: $struct:ident {
        $($key:ident: $type:ty = $default:expr, $limit:expr, $effect:ident, $sentence:literal;)*
    })*) => {
        $(
            $(#[doc = $about])*
            #[derive(Debug, Clone, PartialEq, Eq)]
            pub struct $struct { $(#[doc = $sentence] pub $key: $type,)* }

            impl Default for $struct {
                fn default() -> $struct {
                    $struct { $($key: $default,)* }
                }
            }
        )*

        /// Every section with fixed keys.
        #[derive(Debug, Clone, PartialEq, Eq, Default)]
        pub struct Sections { $($(#[doc = $about])* pub $section: $struct,)* }

        /// Every option, in the order of the documentation.
        pub const OPTIONS: &[Opt] = &[$($(Opt {
            section: stringify!($section),
            key: stringify!($key),
            unit: <$type as Value>::UNIT,
            limit: $limit,
            effect: Effect::$effect,
            sentence: $sentence,
        },)*)*];

        /// The sections and what each is about.
        pub const SECTIONS: &[(&str, &str)] = &[$((stringify!($section), concat!($($about),*)),)*];

        impl Sections {
            /// Sets one option from the file; `None` if there is no such option.
            pub(super) fn set(&mut self, section: &str, key: &str, value: &DeValue<'_>) -> Option<Result<(), String>> {
                match (section, key) {
                    $($((stringify!($section), stringify!($key)) => {
                        Some(Value::read(value, $limit).map(|read| self.$section.$key = read))
                    })*)*
                    _ => None,
                }
            }

            /// Takes over the options that take effect at a reload.
            pub(super) fn reload(&mut self, new: &Sections) {
                $($(if Effect::$effect == Effect::Reload {
                    self.$section.$key = new.$section.$key.clone();
                })*)*
            }

            /// Every option with its value as TOML text, in the order of [`OPTIONS`].
            pub(super) fn values(&self) -> Vec<String> {
                vec![$($(self.$section.$key.toml(),)*)*]
            }
        }
    };
}

options! {
    /// Where the store lies.
    store: StoreOptions {
        data_dir: PathBuf = "/var/lib/storedd".into(), Limit::NotEmpty, Restart,
            "The store; `--data-dir` wins over it; a relative path counts from the working directory.";
        db_dir: PathBuf = "mboxlist".into(), Limit::NotEmpty, Restart,
            "The database; a relative path counts from data_dir.";
        log_dir: PathBuf = "mboxlist".into(), Limit::NotEmpty, Restart,
            "The log; a relative path counts from data_dir; a disk of its own makes commits faster.";
        runtime_dir: PathBuf = ".".into(), Limit::NotEmpty, Restart,
            "The sockets; a relative path counts from data_dir; losing the directory loses no data; with `--data-dir` it is that directory.";
        default_partition: String = "primary".into(), Limit::NotEmpty, Restart,
            "Partition of new users for whom none is named.";
    }
    /// The write-ahead log.
    log: LogOptions {
        segment_size: u64 = 64 * MIB, Limit::PowerOfTwo(MIB, GIB), Restart,
            "Size of one log file; a transaction takes at most half of it, and at most 16 MiB.";
        spares: u32 = 2, Limit::Count(0, 64), Restart,
            "How many empty log files are kept ready, so that no commit waits for a new one.";
        seal_idle: Duration = Duration::from_millis(100), Limit::Millis(1, 60_000), Restart,
            "Idle time after which a seal states that everything before it is on disk, so that later damage is told from an unfinished write.";
        group_wait: Duration = Duration::from_millis(2), Limit::Millis(0, 100), Restart,
            "How long a message waits, at the most, for others that are just being received, so that one sync serves them all; whoever delivers alone never waits; 0: nobody does.";
        partition_bytes: u64 = 4 * GIB, Limit::Bytes(0, 1024 * GIB), Reload,
            "Log that is kept for a partition that is away before it takes no more mail (the sender tries again); it is kept until the partition is back, also beyond that.";
    }
    /// When the database file catches up with the log.
    checkpoint: CheckpointOptions {
        interval: Duration = Duration::from_secs(60), Limit::Millis(1_000, 86_400_000), Reload,
            "Longest time between two checkpoints while there are changes.";
        overlay_bytes: u64 = 128 * MIB, Limit::Bytes(MIB, 64 * GIB), Reload,
            "Memory of changes not yet in the database from which a checkpoint starts.";
        overlay_bytes_max: u64 = 512 * MIB, Limit::Bytes(2 * MIB, 64 * GIB), Reload,
            "Memory of changes not yet in the database at which further changes are refused as busy; they are slowed before.";
        log_bytes: u64 = 256 * MIB, Limit::Bytes(MIB, 1024 * GIB), Reload,
            "Log since the last checkpoint from which a checkpoint starts.";
        replay_target: Duration = Duration::from_secs(5), Limit::Millis(100, 3_600_000), Reload,
            "A checkpoint starts when replaying the log after a crash would take longer than this.";
    }
    /// What a start does after a crash.
    recovery: RecoveryOptions {
        on_loss: OnLoss = OnLoss::Continue, Limit::Any, Restart,
            "When something acknowledged is lost: `continue` and say so, or `hold`: start read-only and wait for `storectl recover --accept-loss`.";
        reports: u32 = 100, Limit::Count(1, 100_000), Restart,
            "How many start-up reports are kept.";
        upgrade: Upgrade = Upgrade::ByHand, Limit::Any, Restart,
            "When the store is of an older version: `by-hand`: do not start and name the command, or `automatic`: upgrade it, which keeps a snapshot as the way back.";
        stall_limit: Duration = Duration::from_secs(900), Limit::Millis(10_000, 86_400_000), Restart,
            "A start that makes no progress for so long ends with an error, instead of waiting for a disk that does not answer.";
    }
    /// The database file.
    database: DatabaseOptions {
        cache: u64 = 256 * MIB, Limit::Bytes(MIB, 1024 * GIB), Restart,
            "Memory for pages of the database.";
    }
    /// Copies of the database from which a start rolls back.
    snapshot: SnapshotOptions {
        directory: PathBuf = "dbdata/snapshots".into(), Limit::NotEmpty, Restart,
            "Where new ones lie; a relative path counts from data_dir; another disk is a good place; those in earlier places stay in use.";
        interval: Duration = Duration::from_secs(86_400), Limit::Millis(60_000, 2_764_800_000), Reload,
            "Time between two snapshots; the first one of a new store is taken ten minutes after its first start.";
        keep: u32 = 3, Limit::Count(2, 367), Reload,
            "How many are kept; the newest that passed its verification is never removed.";
        verify: bool = true, Limit::Any, Reload,
            "Verify each after it was taken; only a verified one is ever rolled back to.";
        pace: u64 = 64 * MIB, Limit::Bytes(MIB, 64 * GIB), Reload,
            "Bytes that a snapshot writes in a second, at the most, so that the disk is left to the log.";
        log_bytes: u64 = GIB, Limit::Bytes(0, 1024 * GIB), Reload,
            "Log that is kept so that a rollback to a snapshot loses nothing; where it does not suffice, the oldest snapshots go without, never the newest.";
    }
    /// Backups of the whole store to another disk; storectl backup-db takes one by hand. And what storectl backup takes of mailboxes.
    backup: BackupOptions {
        directory: PathBuf = "".into(), Limit::Any, Reload,
            "Where scheduled ones are made, each in a directory MSDB_Backup_<time> of its own; an absolute path, another disk; empty: there are none.";
        interval: Duration = Duration::from_secs(86_400), Limit::Millis(60_000, 2_764_800_000), Reload,
            "Time between two scheduled ones; the first one of a new store is taken ten minutes after its first start.";
        keep: u32 = 7, Limit::Count(1, 10_000), Reload,
            "How many of this store are kept there; the oldest go when a newer one was read again.";
        pace: u64 = 64 * MIB, Limit::Bytes(MIB, 64 * GIB), Reload,
            "Bytes that a backup writes in a second, at the most, so that the disks are left to the store.";
        log_bytes: u64 = 4 * GIB, Limit::Bytes(2 * MIB, 1024 * GIB), Reload,
            "Log that is kept for a backup or a drill that runs; one that would need more is ended, so that a medium that hangs does not fill the store's disk.";
        max_age: Duration = Duration::from_secs(172_800), Limit::Millis(60_000, 31_536_000_000), Reload,
            "A newest backup that is older raises an alarm, if directory is set.";
        mail_max_age: Duration = Duration::from_secs(172_800), Limit::Millis(0, 31_536_000_000), Reload,
            "A newest backup of all mail (storectl backup of /, or --complete) that is older raises an alarm, once there was one; 0: never.";
        groups: PathBuf = "".into(), Limit::Any, Reload,
            "File with lines name=regex, the groups of users that storectl backup knows by name; the first whose expression matches the whole user id owns the user; an absolute path; empty: there is only the group user.";
        exclude: String = String::new(), Limit::Any, Reload,
            "Folders of users that storectl backup leaves out unless they are named, with % between them: Trash%Bulk Mail.";
    }
    /// The log archive: every sealed log file copied to another disk.
    archive: ArchiveOptions {
        path: PathBuf = "".into(), Limit::Any, Reload,
            "Where to, in a directory named by the store's id; an absolute path, another disk; empty: there is none.";
        pace: u64 = 64 * MIB, Limit::Bytes(MIB, 64 * GIB), Reload,
            "Bytes that are archived in a second, at the most.";
        log_bytes: u64 = 4 * GIB, Limit::Bytes(2 * MIB, 1024 * GIB), Reload,
            "Log that is kept because it is not archived yet; beyond it the oldest goes, and the archive has a gap.";
        max_lag: Duration = Duration::from_secs(900), Limit::Millis(1_000, 31_536_000_000), Reload,
            "A sealed log file that waits longer for the archive raises an alarm.";
    }
    /// Fire drills: the newest snapshot or backup restored into a scratch directory and held against the live store.
    drill: DrillOptions {
        directory: PathBuf = "".into(), Limit::Any, Reload,
            "The scratch directory, emptied after each drill; an absolute path; empty: dbdata/drill in data_dir.";
        interval: Duration = Duration::from_secs(604_800), Limit::Millis(0, 31_536_000_000), Reload,
            "Time between two drills that the daemon makes by itself; 0: none.";
        pace: u64 = 64 * MIB, Limit::Bytes(MIB, 64 * GIB), Reload,
            "Bytes that a drill writes in a second, at the most; it counts in the time to restore that it tells.";
        max_age: Duration = Duration::from_secs(1_296_000), Limit::Millis(60_000, 31_536_000_000), Reload,
            "A last good drill that is older raises an alarm, unless interval is 0.";
    }
    /// The control socket.
    control: ControlOptions {
        socket: PathBuf = "control.sock".into(), Limit::NotEmpty, Restart,
            "The socket; `--socket` wins over it; a relative path counts from runtime_dir; at most 107 bytes.";
        max_connections: u32 = 4096, Limit::Count(1, 1_000_000), Restart,
            "Open connections; further ones are refused as busy.";
        max_in_flight: u32 = 256, Limit::Count(1, 65_536), Restart,
            "Requests of one connection that are worked on at a time; further ones wait unread.";
        max_frame: u64 = MIB, Limit::Bytes(64 * KIB, 8 * MIB), Restart,
            "Largest request; an answer that would be longer than 8MiB comes in parts.";
        hello_timeout: Duration = Duration::from_secs(5), Limit::Millis(100, 600_000), Restart,
            "A new connection that has not greeted by then is closed.";
        idle_timeout: Duration = Duration::from_secs(900), Limit::Millis(1_000, 86_400_000), Restart,
            "A connection without a request for so long is closed.";
        write_timeout: Duration = Duration::from_secs(30), Limit::Millis(100, 3_600_000), Restart,
            "A client that takes no byte of its answer for so long is cut off.";
    }
    /// Who may use the control socket beside root and the daemon's user. The members also need the right to reach the
    /// socket: put them into the daemon's group.
    access: AccessOptions {
        admin_group: String = String::new(), Limit::Any, Reload,
            "Members of this Unix group may also change users, mailboxes, rights and quotas; empty: nobody. Connections that are open keep the role they came with.";
        reader_group: String = String::new(), Limit::Any, Reload,
            "Members of this Unix group may ask for states, lists and reports; empty: nobody.";
    }
    /// The door for mail: LMTP (RFC 2033), for a mail transfer agent on this host.
    lmtp: LmtpOptions {
        socket: PathBuf = "lmtp.sock".into(), Limit::Any, Restart,
            "Its Unix socket, open to the daemon's user and group; a relative path counts from runtime_dir; at most 107 bytes; empty: none.";
        listen: String = String::new(), Limit::Any, Restart,
            "Address and port of a listener on this host, such as \"127.0.0.1:24\"; empty: none; systemd/storedd.service needs a drop-in for it.";
        max_sessions: u32 = 512, Limit::Count(1, 65_536), Restart,
            "Open sessions; further ones are sent away and try again.";
        max_message: u64 = 128 * MIB, Limit::Bytes(64 * KIB, GIB), Restart,
            "Largest message.";
        max_recipients: u32 = 1000, Limit::Count(100, 100_000), Restart,
            "Most recipients of one message; the sender gives the others in a further one.";
        idle_timeout: Duration = Duration::from_secs(300), Limit::Millis(1_000, 86_400_000), Restart,
            "A session without a command for so long is ended.";
        data_timeout: Duration = Duration::from_secs(180), Limit::Millis(1_000, 86_400_000), Restart,
            "A session whose message does not go on for so long is ended.";
        delimiter: String = "+".into(), Limit::Any, Reload,
            "What stands between user and folder in an address (joe+Work@example.org); a folder that is not there is INBOX; empty: addresses name no folders.";
        local_domains: String = String::new(), Limit::Any, Reload,
            "Domains, with blanks between them, whose users have ids without a domain: joe@mail.example.org is then also the user joe; \"*\": every domain.";
        over_quota: OverQuota = OverQuota::Retry, Limit::Any, Restart,
            "What a sender is told whose recipient is over quota: `retry` (452) or `bounce` (552).";
    }
    /// Messages, whichever door they come by.
    mail: MailOptions {
        inline_limit: u64 = 64 * KIB, Limit::Bytes(4 * KIB, 4 * MIB), Restart,
            "Longest message that travels in its log record, so that its delivery costs one sync; a longer one is written to a file of its own first. At most an eighth of log.segment_size.";
        index_cache: u64 = 64 * MIB, Limit::Bytes(0, 64 * GIB), Restart,
            "Memory for indexes of mailboxes that were read, about 200 bytes a message; one that does not fit is read anew for each message that is asked for.";
        peruser_interval: Duration = Duration::from_secs(3600), Limit::Millis(1_000, 86_400_000), Reload,
            "Time between two write-outs of what users have seen in mailboxes of others to the partitions, which know it when the database is lost.";
    }
    /// When an alarm is raised.
    alarm: AlarmOptions {
        max_log: u32 = 16, Limit::Count(2, 1_000_000), Reload,
            "Log files that a recovery would have to read; more raise an alarm, and a start that finds more makes a checkpoint at once.";
        max_log_age: Duration = Duration::from_secs(3600), Limit::Millis(1_000, 31_536_000_000), Reload,
            "Age of the oldest change that only the log holds; an older one raises an alarm, and a start that finds one makes a checkpoint at once.";
        log_bytes: u64 = 4 * GIB, Limit::Bytes(2 * MIB, 1024 * GIB), Reload,
            "Bytes of all log files at which an alarm is raised.";
        checkpoint_duration: Duration = Duration::from_secs(300), Limit::Millis(1_000, 86_400_000), Reload,
            "A checkpoint that takes longer raises an alarm.";
        disk_free: u64 = GIB, Limit::Bytes(0, 1024 * GIB), Reload,
            "Free bytes of a disk below which an alarm is raised; at most a fifth of the disk.";
        full_within: Duration = Duration::from_secs(1800), Limit::Millis(0, 86_400_000), Reload,
            "A disk that fills, and will be full within this time if it goes on, raises an alarm.";
        request_wait: Duration = Duration::from_secs(30), Limit::Millis(1_000, 3_600_000), Reload,
            "A change that waits longer for its answer raises an alarm.";
        command: PathBuf = "".into(), Limit::Any, Reload,
            "A program that is run for each alarm that is raised or cleared, without a shell; docs/alarms.md says what it is told; empty: none.";
        command_timeout: Duration = Duration::from_secs(30), Limit::Millis(100, 600_000), Reload,
            "The program is killed after this time.";
        restart_on_excess: bool = false, Limit::Any, Reload,
            "End the daemon, so that the service manager starts it again, when there is more log than max_log or log_bytes allow and it does not become less.";
        restart_after: Duration = Duration::from_secs(600), Limit::Millis(1_000, 86_400_000), Reload,
            "How long it must not become less before that.";
    }
    /// What is refused when a disk of the store runs full: first bulk work, then changes, never reads.
    disk: DiskOptions {
        bulk_reserve: u64 = 256 * MIB, Limit::Bytes(0, 1024 * GIB), Reload,
            "Free bytes below which bulk work (batch, import) is refused; at most a tenth of the disk.";
        reserve: u64 = 64 * MIB, Limit::Bytes(MIB, 64 * GIB), Restart,
            "Free bytes below which changes are refused, except those that delete; checkpoints and deletions work off a full disk with them; at most a 20th of the disk.";
    }
    /// Numbers for Prometheus.
    metrics: MetricsOptions {
        listen: String = String::new(), Limit::Any, Restart,
            "Address and port of a listener for GET /metrics, such as \"127.0.0.1:9464\"; empty: none; systemd/storedd.service needs a drop-in for it.";
        listen_anywhere: bool = false, Limit::Any, Restart,
            "Allow an address that other hosts reach: whoever connects reads the numbers.";
        textfile: PathBuf = "".into(), Limit::Any, Reload,
            "A file, written anew every 15 seconds, for the textfile collector of node_exporter; its name ends in .prom; empty: none.";
    }
    /// Quotas.
    quota: QuotaOptions {
        default_storage: u64 = 0, Limit::Bytes(0, 1024 * 1024 * 1024 * GIB), Reload,
            "Bytes that a new user may store for whom nothing else is said; 0: no limit.";
        default_messages: u32 = 0, Limit::Any, Reload,
            "Messages that a new user may store for whom nothing else is said; 0: no limit.";
        grace: Duration = Duration::ZERO, Limit::Millis(0, 31_536_000_000), Reload,
            "How long mail is still taken for a quota root after it went over a limit; then it is refused; 0: refused at once.";
        warn_percent: u32 = 90, Limit::Count(1, 100), Reload,
            "Quota roots that have used so many per cent of a limit are listed by `storectl quota report`.";
    }
    /// What happens to messages as they grow old, by rules (see [expire.NAME] at the end), and when what was taken away goes for good.
    ageing: AgeingOptions {
        start: TimeOfDay = TimeOfDay::minutes(23 * 60), Limit::Any, Reload,
            "When the rules are looked at every day.";
        pace: u32 = 2000, Limit::Count(1, 1_000_000), Reload,
            "Messages that are changed and mailboxes that are looked at in a second, at the most.";
        cleanup_age: Duration = Duration::from_secs(604_800), Limit::Millis(0, 315_360_000_000), Reload,
            "How long expunged messages and deleted mailboxes can be brought back (storectl mailbox undelete); then they go for good.";
        purge_interval: Duration = Duration::from_secs(14_400), Limit::Millis(1_000, 31_536_000_000), Reload,
            "Time between two looks for what is older than that.";
        max_age: Duration = Duration::from_secs(172_800), Limit::Millis(1_000, 31_536_000_000), Reload,
            "A last run of either kind that is older raises an alarm.";
    }
    /// The scrub: everything is read again and again in the background, down to the last byte of every message, and what is damaged is
    /// healed from what is left.
    scrub: ScrubOptions {
        interval: Duration = Duration::from_secs(604_800), Limit::Millis(0, 31_536_000_000), Reload,
            "Time between the beginnings of two passes; by default there are still backups from before the damage that one finds; 0: none.";
        pace: u64 = 8 * MIB, Limit::Bytes(4 * KIB, 64 * GIB), Reload,
            "Bytes of messages that it reads in a second, at the most; it never works for more than half of the time, so that it slows down with the disk.";
    }
    /// Limits that protect the store from its users.
    limits: LimitOptions {
        mailboxes_per_user: u32 = 0, Limit::Any, Reload,
            "Most mailboxes of one user, INBOX among them; 0: no limit; users who have more keep them.";
        wait: Duration = Duration::from_secs(30), Limit::Millis(0, 3_600_000), Reload,
            "How long a change waits for a mailbox that somebody holds (see `storectl locks`) before it is refused with 75.";
    }
    /// Long-running work.
    jobs: JobOptions {
        schedule: bool = true, Limit::Any, Reload,
            "Take snapshots and backups, make drills, expire and purge when it is due; false: timers of the service manager do (storedd-snapshot.timer, storedd-backup.timer, storedd-drill.timer, storedd-expire.timer, storedd-purge.timer).";
        running: u32 = 2, Limit::Count(1, 64), Reload,
            "How many jobs (`storectl jobs`) are at work at a time; sixteen more wait, further ones are refused with 75.";
        kept: u32 = 100, Limit::Count(1, 10_000), Reload,
            "How many that are over are still listed.";
        kept_for: Duration = Duration::from_secs(604_800), Limit::Millis(1_000, 31_536_000_000), Reload,
            "For how long they are listed.";
    }
    /// How the daemon stops.
    stop: StopOptions {
        timeout: Duration = Duration::from_secs(30), Limit::Millis(0, 3_600_000), Reload,
            "How long a stop waits for requests in flight before it closes their connections.";
        drain: Duration = Duration::from_secs(300), Limit::Millis(0, 86_400_000), Reload,
            "How long `storectl drain` waits for those who are connected to leave before it stops.";
    }
    /// What the daemon says, on stderr.
    messages: MessageOptions {
        level: Level = Level::Info, Limit::Any, Reload,
            "Least important messages that are shown: error, warn, info, debug or trace.";
        format: Format = Format::Auto, Limit::Any, Restart,
            "`journal`, `text` or `json`; `auto` is `journal` under systemd, else `text`.";
        directory: PathBuf = "".into(), Limit::Any, Restart,
            "Also write them as text to storedd.log in this directory; a relative path counts from data_dir; empty: only stderr. A reload opens the file anew.";
        file_bytes: u64 = 16 * MIB, Limit::Bytes(64 * KIB, GIB), Restart,
            "Size at which storedd.log becomes storedd.log.1, that .2, and so on.";
        files: u32 = 8, Limit::Count(2, 1_000), Restart,
            "How many of these files are kept, the one in use included.";
    }
    /// This file.
    reload: ReloadOptions {
        watch: bool = true, Limit::Any, Restart,
            "Read this file again when it changes; SIGHUP (`systemctl reload storedd`) does so in any case.";
    }
}
