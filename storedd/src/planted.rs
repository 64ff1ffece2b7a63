//! Bugs on purpose. A crash test is believed only after it has caught each of these; see CONTRIBUTING.md.
//!
//! Each site asks [`on`]. Without the feature `planted-bugs` that is a constant `false`, so a product build holds none
//! of the faults and no way to switch one on. The switch is process-wide: a test that uses it runs in a process, or
//! under a lock, of its own.

/// A bug that a test may switch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Bug {
    /// The log's sync returns without syncing.
    SyncSkipped = 1,
    /// Answers leave before the record is synced.
    AckBeforeSync = 2,
    /// The database's applied LSN is committed apart from the data it describes (breaks I5).
    AppliedLsnOutsideTransaction = 4,
    /// Names of new segments and spares are never made durable.
    NoDirectorySync = 8,
    /// High-water marks are used before the control file holds them (breaks I6).
    ControlNotReservedAhead = 16,
    /// A torn rest stays in the segment that is appended to.
    TornRestNotZeroed = 32,
    /// A backup gets its name before what is in it has durable names.
    BackupNamedBeforeSync = 64,
    /// A backup lets the log go before its copies are synced.
    BackupReleasesLogEarly = 128,
    /// A rollback puts the snapshot in place and leaves the log behind it.
    RollbackWithoutLog = 256,
    /// Segments that a new epoch leaves out are set aside before it is there.
    SetAsideBeforeFork = 1024,
    /// A log is begun afresh before the database holds everything.
    ResetBeforeCheckpoint = 512,
    /// A database of another schema takes the old one's place without having been looked at.
    CopyNotValidated = 2048,
    /// The old database is removed before the new one has its name.
    OldRemovedBeforeNew = 4096,
    /// The database's commit does not wait for what was written to partitions.
    MailNotSynced = 8192,
    /// Files of purged and staged messages go before what was made of them is durable.
    MailRemovedBeforeSync = 16384,
    /// The commit does not wait until it is noted which partitions lack what it commits.
    BehindNotNoted = 1 << 15,
    /// A partition says that it caught up before what it took from the log is durable.
    LateMailNotSynced = 1 << 16,
    /// A long message is named by a record before it is durable.
    StagedNotSynced = 1 << 17,
    /// Where the bytes of a message are is forgotten when its flags change.
    BodyForgotten = 1 << 18,
    /// What is expunged still counts (breaks I9).
    ExpungedStillCounts = 1 << 19,
    /// Files of purged messages stay.
    PurgedFileStays = 1 << 20,
    /// Nothing remembers over a crash what is to be taken away after a commit.
    RemovalsNotNoted = 1 << 21,
    /// Nothing remembers which history a person gave up.
    GivenUpNotNoted = 1 << 22,
}

impl Bug {
    /// Those that a workload and its crashes must show.
    pub const ALL: [Bug; 15] = [
        Bug::SyncSkipped,
        Bug::AckBeforeSync,
        Bug::AppliedLsnOutsideTransaction,
        Bug::NoDirectorySync,
        Bug::ControlNotReservedAhead,
        Bug::TornRestNotZeroed,
        Bug::RollbackWithoutLog,
        Bug::SetAsideBeforeFork,
        Bug::ResetBeforeCheckpoint,
        Bug::MailNotSynced,
        Bug::MailRemovedBeforeSync,
        Bug::StagedNotSynced,
        Bug::BodyForgotten,
        Bug::ExpungedStillCounts,
        Bug::PurgedFileStays,
    ];

    /// Those that messages, and crashes of their checkpoints, must show.
    pub const OF_MAIL: [Bug; 3] = [Bug::MailNotSynced, Bug::MailRemovedBeforeSync, Bug::RemovalsNotNoted];

    /// Those that partitions which come and go, and crashes meanwhile, must show.
    pub const OF_PARTITIONS: [Bug; 2] = [Bug::BehindNotNoted, Bug::LateMailNotSynced];

    /// Those that a person shows who goes back.
    pub const OF_RETURNS: [Bug; 1] = [Bug::GivenUpNotNoted];

    /// Those that a change of the schema, and its crashes, must show.
    pub const OF_UPGRADES: [Bug; 2] = [Bug::CopyNotValidated, Bug::OldRemovedBeforeNew];
}

#[cfg(feature = "planted-bugs")]
static ON: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

/// True if this bug is switched on.
#[cfg(feature = "planted-bugs")]
#[must_use]
pub fn on(bug: Bug) -> bool {
    ON.load(std::sync::atomic::Ordering::Relaxed) & bug as u32 != 0
}

/// False: this build holds no planted bug.
#[cfg(not(feature = "planted-bugs"))]
#[must_use]
pub const fn on(_bug: Bug) -> bool {
    false
}

/// Switches exactly this bug on, or all off.
#[cfg(feature = "planted-bugs")]
pub fn plant(bug: Option<Bug>) {
    ON.store(bug.map_or(0, |b| b as u32), std::sync::atomic::Ordering::SeqCst);
}
