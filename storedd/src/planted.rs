//! Bugs on purpose. A rig is believed only after it has caught each of these; see CONTRIBUTING.md.
//!
//! Each site asks [`on`]. Without the feature `planted-bugs` that is a constant `false`, so a product build holds none
//! of the faults and no way to switch one on. With it, the environment variable `STOREDD_PLANT` names the one fault that is on
//! in a process, and in those that it starts; so each is looked for in a process of its own, by a test that passes without it.

/// Which tests must catch a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rig {
    /// A test of this library, by its path.
    Library(&'static str),
    /// A test of `tests/`, by its path.
    Suite(&'static str),
}

/// The workloads of the crash test.
const WORKLOADS: Rig = Rig::Suite("crash::planted::workloads_show_something");
/// Damage to each kind of file.
const SWEEP: Rig = Rig::Suite("crash::sweep::damage_to_every_kind_of_file_is_judged");
/// What a person does to a stopped store, crashed.
const BY_HAND: Rig = Rig::Suite("crash::manual::what_a_person_does_is_all_or_nothing");
const LOG: Rig = Rig::Library("wal::tests::crash::a_crash_at_every_operation_loses_nothing");
const MAIL: Rig = Rig::Library("store::tests::mail::every_crash_keeps_every_acknowledged_message");
const PARTITIONS: Rig =
    Rig::Library("store::tests::partitions::a_partition_that_comes_and_goes_loses_nothing_in_any_crash");
const HEALED: Rig = Rig::Library("store::tests::given::bytes_that_were_brought_are_there_or_not_at_every_crash");
const COMPLETE: Rig =
    Rig::Library("jobs::complete::tests::what_was_copied_while_files_came_and_went_is_as_the_index_has_it_or_named");
const BACKUP: Rig = Rig::Library("jobs::restore::tests::a_backup_stopped_at_every_operation");

macro_rules! bugs {
    ($($(#[$what:meta])+ $name:ident caught by $($rig:expr),+;)+) => {
        /// A bug that a test may switch on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Bug {
            $($(#[$what])+ $name,)+
        }

        impl Bug {
            /// All of them.
            pub const ALL: &[Bug] = &[$(Bug::$name),+];

            /// The tests that must catch it, each alone.
            #[must_use]
            pub const fn rigs(self) -> &'static [Rig] {
                match self {
                    $(Bug::$name => &[$($rig),+],)+
                }
            }
        }
    };
}

bugs! {
    // Syncs, and what must come before or after one.

    /// The log's sync returns without syncing.
    SyncSkipped caught by WORKLOADS, LOG;
    /// Answers leave before the record is synced.
    AckBeforeSync caught by WORKLOADS;
    /// Names of new segments and spares are never made durable.
    NoDirectorySync caught by WORKLOADS, LOG;
    /// A file is named like a segment before its header is durable.
    SegmentNamedBeforeHeader caught by LOG;
    /// A retired segment is zeroed while a crash can still bring its name back.
    ZeroedUnderItsName caught by LOG;
    /// A torn rest stays in the segment that is appended to.
    TornRestNotZeroed caught by WORKLOADS, LOG;
    /// A torn rest is zeroed without a copy of it in the quarantine (breaks I8).
    TornRestNotKept caught by Rig::Library("wal::tests::life::a_torn_rest_is_kept_and_zeroed_before_anything_is_appended");
    /// Segments are given back before the database's commit that covers them (breaks I4).
    RetiredBeforeCommit caught by Rig::Library("store::tests::a_checkpoint_gives_no_log_back_that_a_crash_needs");
    /// The control file is written and not synced.
    ControlNotSynced caught by Rig::Library("wal::control::tests::a_crash_at_every_byte_leaves_what_was_answered");
    /// The newer slot of the control file is written over in place.
    ControlSlotReused caught by Rig::Library("wal::control::tests::a_crash_at_every_byte_leaves_what_was_answered");
    /// The database's commit is not synced.
    DatabaseNotSynced caught by Rig::Library("db::tests::crash::a_crash_at_every_operation_of_a_checkpoint");
    /// The database's applied LSN is committed apart from the data it describes (breaks I5).
    AppliedLsnOutsideTransaction caught by
        Rig::Library("db::tests::crash::a_crash_at_every_operation_of_a_checkpoint");
    /// A new database is made under its own name.
    DatabaseMadeInPlace caught by Rig::Library("db::tests::crash::a_crash_at_every_operation_of_create");
    /// A small file gets its name before its bytes are durable.
    SmallFileNotSynced caught by Rig::Library("partition::roll::tests::a_crash_leaves_the_old_or_the_new");
    /// The new name of a small file is never made durable.
    SmallFileNameNotSynced caught by
        Rig::Library("partition::tests::a_crash_at_any_operation_leaves_a_partition_or_none_and_never_half_of_one");
    /// A journal that is written anew takes the old one's name before its bytes are durable.
    JournalNamedBeforeSync caught by Rig::Library("partition::messages_tests::crash::every_crash_of_a_checkpoint_loses_nothing");
    /// The database's commit does not wait for what was written to partitions.
    MailNotSynced caught by WORKLOADS, MAIL;
    /// Of a partition with two roots the one with message files is not synced.
    SecondRootNotSynced caught by WORKLOADS;
    /// Files of purged and staged messages go before what was made of them is durable.
    MailRemovedBeforeSync caught by MAIL;
    /// Nothing remembers over a crash what is to be taken away after a commit.
    RemovalsNotNoted caught by MAIL;
    /// A checkpoint takes away a file that has the name of a message, and other bytes.
    StrangerReplaced caught by Rig::Library("store::tests::strays::a_stray_file_in_the_way_of_a_message_is_kept");
    /// A repair moves a file that was nobody's when it looked.
    StrayNotLookedAtAgain caught by Rig::Library("store::tests::strays::a_stray_that_became_a_message_is_left_alone");
    /// A partition is taken out of the store although others need what was staged there.
    NeededPartitionRemoved caught by
        Rig::Library("store::tests::partitions::a_partition_whose_staged_mail_is_needed_stays");
    /// What is to go from a partition that was brought what it lacks is noted with the next checkpoint.
    LateRemovalsNotNoted caught by
        Rig::Library("store::tests::partitions::what_a_late_partition_is_to_lose_outlives_a_failed_checkpoint");
    /// A note of what is to go replaces what was noted for the same moment.
    RemovalsNoteReplaced caught by Rig::Library("store::mail::removals::tests::a_note_adds_to_what_was_noted");
    /// A head is written behind an index of an older time.
    HeadBehindOlder caught by Rig::Library("store::tests::doubt::a_head_is_not_written_behind_an_older_index");
    /// A start forgets the note about a copy that only the log says is used.
    UsedCopyForgotten caught by Rig::Library("store::tests::moves::a_user_who_moved_before_a_crash_is_purged_where_he_lies");
    /// The copy of a user goes although nobody knows yet whether he lies there.
    UndecidedMoveGivenUp caught by Rig::Library("store::tests::moves::a_move_that_is_undecided_loses_nothing");
    /// A long message is named by a record before it is durable.
    StagedNotSynced caught by WORKLOADS;
    /// The commit does not wait until it is noted which partitions lack what it commits.
    BehindNotNoted caught by PARTITIONS;
    /// A message's file takes the place of a bad one before its bytes are durable.
    HealedBeforeSync caught by HEALED;
    /// It is said that the bytes of a message were put back before that is durable.
    HealedNotSynced caught by HEALED;
    /// A partition says that it caught up before what it took from the log is durable.
    LateMailNotSynced caught by PARTITIONS;
    /// A partition that is older than the database is read until the first checkpoint.
    OlderPartitionTrusted caught by Rig::Library("store::tests::older::an_older_copy_is_behind_from_the_start_on");
    /// A partition says that it caught up before it is noted that messages are without their bytes.
    LossToldAfterwards caught by
        Rig::Library("store::tests::older::what_was_on_the_lost_disk_alone_is_told_wherever_the_machine_stops");

    // Copies, and what takes another's place.

    /// A snapshot gets its name before its texts have durable names.
    SnapshotNamedBeforeSync caught by
        Rig::Library("jobs::snapshots::tests::stopped_at_every_operation_of_taking_rotating_and_deleting");
    /// A backup gets its name before what is in it has durable names.
    BackupNamedBeforeSync caught by BACKUP;
    /// A message that was copied while others came and went is not compared with its index.
    CompleteNotCompared caught by COMPLETE;
    /// A message gets a further name of a file in the copy that holds another.
    CompleteLinkNotCompared caught by COMPLETE;
    /// A message whose bytes are not those that its index says is copied without a word.
    CompleteDamageNotNamed caught by COMPLETE;
    /// A message that its index has and the store has not is left out without a word.
    CompleteLossNotNamed caught by COMPLETE;
    /// A partition that is put back from a complete copy is named as one before its files are durable.
    PutBackNotSynced caught by
        Rig::Library("jobs::complete::tests::a_copy_that_is_put_back_is_whole_wherever_the_power_went");
    /// A backup lets the log go before its copies are synced.
    BackupReleasesLogEarly caught by Rig::Library("jobs::restore::tests::a_full_medium_gives_up_nothing");
    /// A restore begins to exchange directories before its journal is there.
    RestoreWithoutJournal caught by Rig::Library("jobs::restore::tests::a_restore_stopped_at_every_operation_twice");
    /// A database that was found bad is deleted to make room for another.
    BadDatabaseDeleted caught by Rig::Suite("crash::rollback::a_rollback_is_stopped_anywhere_and_done_again");
    /// A rollback puts the snapshot in place and leaves the log behind it.
    RollbackWithoutLog caught by WORKLOADS;
    /// Segments that a new epoch leaves out are set aside before it is there.
    SetAsideBeforeFork caught by BY_HAND;
    /// A log is begun afresh before the database holds everything.
    ResetBeforeCheckpoint caught by BY_HAND;
    /// A database of another schema takes the old one's place without having been looked at.
    CopyNotValidated caught by Rig::Suite("crash::schema::a_copy_that_breaks_a_rule_is_not_put_in_place");
    /// The old database is removed before the new one has its name.
    OldRemovedBeforeNew caught by Rig::Suite("crash::schema::a_change_of_the_schema_is_stopped_at_every_operation");

    // Reservations, and what must be known before.

    /// High-water marks are used before the control file holds them (breaks I6).
    ControlNotReservedAhead caught by WORKLOADS;
    /// No spare is promised to a record that begins a segment: a full disk breaks the log instead of refusing the command.
    LogSpaceNotReserved caught by Rig::Suite("crash::full::a_disk_that_runs_full_refuses_and_goes_on_when_there_is_space");
    /// Nothing remembers which history a person gave up.
    GivenUpNotNoted caught by BY_HAND;
    /// A restore does not note which numbers were given in the history that it leaves (breaks I6).
    ReplacedNotNoted caught by Rig::Suite("backup_db::no_uid_that_was_given_behind_a_backup_is_given_again");

    // Checksums and proofs.

    /// A slot of the control file counts whatever its checksum.
    ControlChecksumIgnored caught by
        Rig::Library("wal::control::tests::a_crash_at_every_byte_leaves_what_was_answered");
    /// The checksum of a record's header is not compared.
    RecordHeaderChecksumIgnored caught by
        Rig::Library("wal::tests::damage::every_changed_byte_is_named_or_lies_in_the_last_unsealed_group");
    /// The checksum of a record's payload is not compared.
    RecordPayloadChecksumIgnored caught by
        Rig::Library("wal::tests::damage::every_changed_byte_is_named_or_lies_in_the_last_unsealed_group");
    /// A record is taken whatever record it says it follows.
    RecordChainIgnored caught by Rig::Library("wal::tests::damage::a_record_of_another_history_is_not_taken");
    /// What proves that a bad place was durable once is not asked: damage counts as torn.
    DamageTakenForTorn caught by
        SWEEP, Rig::Library("wal::tests::damage::every_changed_byte_is_named_or_lies_in_the_last_unsealed_group");
    /// A row of the database counts whatever its checksum.
    RowChecksumIgnored caught by Rig::Library("db::tests::damage::a_damaged_row_is_named_by_every_way_to_read_it");
    /// A page of the open database is not compared with what it was.
    PageNotCompared caught by
        Rig::Library("db::tests::damage::damage_under_an_open_database_gives_no_wrong_answer");
    /// A database is opened without a look at its whole structure.
    StructureNotChecked caught by Rig::Library("db::tests::damage::damaged_bytes_are_refused_or_harmless");
    /// The header of a journal's frame counts whatever its checksum.
    FrameHeaderChecksumIgnored caught by
        Rig::Library("partition::messages_tests::journals::every_flipped_bit_of_an_index_is_noticed_and_costs_one_frame");
    /// The payload of a journal's frame counts whatever its checksum.
    FramePayloadChecksumIgnored caught by
        Rig::Library("partition::messages_tests::journals::every_flipped_bit_of_an_index_is_noticed_and_costs_one_frame");
    /// A message is given out whatever its digest.
    DigestIgnored caught by SWEEP, Rig::Library("partition::messages_tests::files::bytes_are_given_back_or_an_error");
    /// A text counts whatever its checksum.
    TextChecksumIgnored caught by Rig::Library("snapshot::manifest::tests::every_flip_and_every_cut_is_noticed");
    /// A snapshot counts as verified whatever manifest its mark speaks of.
    MarkNotCompared caught by Rig::Library("snapshot::manifest::tests::what_was_written_is_read");

    // What a change must do.

    /// Where the bytes of a message are is forgotten when its flags change.
    BodyForgotten caught by WORKLOADS;
    /// What is expunged still counts (breaks I9).
    ExpungedStillCounts caught by WORKLOADS;
    /// Files of purged messages stay.
    PurgedFileStays caught by WORKLOADS;
}

/// True if this bug is switched on.
#[cfg(feature = "planted-bugs")]
#[must_use]
pub fn on(bug: Bug) -> bool {
    static ON: std::sync::OnceLock<Option<Bug>> = std::sync::OnceLock::new();
    let planted = ON.get_or_init(|| {
        let name = std::env::var(hunt::WHICH).ok()?;
        Some(*Bug::ALL.iter().find(|bug| format!("{bug:?}") == name).expect("a planted fault of this name"))
    });
    *planted == Some(bug)
}

/// False: this build holds no planted bug.
#[cfg(not(feature = "planted-bugs"))]
#[must_use]
pub const fn on(_bug: Bug) -> bool {
    false
}

#[cfg(feature = "planted-bugs")]
pub mod hunt {
    //! Looks for every planted fault with the tests of one program, two at a time, each in a process of its own.
    #![allow(clippy::unwrap_used, reason = "a test is all that calls it")]

    use super::{Bug, Rig};
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};
    use std::sync::Mutex;
    use std::time::Duration;

    /// The variable that names the fault.
    pub const WHICH: &str = "STOREDD_PLANT";
    /// A test that goes on for longer has not caught what it runs with.
    const LIMIT: Duration = Duration::from_secs(900);
    const POLL: Duration = Duration::from_millis(20);

    /// Runs each test that `chosen` names; says what each caught, and panics with those that caught nothing. `STOREDD_PLANT_ONLY` names
    /// one fault to be looked for alone.
    ///
    /// # Panics
    /// If a fault was not caught.
    pub fn all(chosen: fn(Rig) -> Option<&'static str>) {
        let only = std::env::var("STOREDD_PLANT_ONLY").ok();
        let faults = Bug::ALL.iter().filter(|bug| only.as_ref().is_none_or(|only| format!("{bug:?}") == *only));
        let trials: Vec<(Bug, &str)> =
            faults.flat_map(|bug| bug.rigs().iter().filter_map(move |rig| Some((*bug, chosen(*rig)?)))).collect();
        assert!(only.is_some() || !trials.is_empty(), "nothing to look for");
        let (next, missed) = (Mutex::new(trials.into_iter()), Mutex::new(Vec::new()));
        let work = || {
            loop {
                let Some((bug, test)) = next.lock().unwrap().next() else { break };
                match caught(bug, test) {
                    Ok(how) => say(&format!("rig: planted fault {bug:?}: caught by {test}: {how}")),
                    Err(what) => missed.lock().unwrap().push(format!("{bug:?} was not caught by {test}: {what}")),
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(work);
            work();
        });
        let missed = missed.into_inner().unwrap();
        assert!(missed.is_empty(), "{}", missed.join("\n"));
    }

    /// How the test fails with the fault.
    fn caught(bug: Bug, test: &str) -> Result<String, String> {
        let mut command = Command::new(std::env::current_exe().map_err(|e| e.to_string())?);
        command.args([test, "--include-ignored", "--test-threads=1"]).env(WHICH, format!("{bug:?}"));
        if !test.ends_with("::") {
            command.arg("--exact");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|e| e.to_string())?;
        let mut out = child.stdout.take().ok_or("no output")?;
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            out.read_to_end(&mut bytes).map(|_| String::from_utf8_lossy(&bytes).into_owned())
        });
        let mut waited = Duration::ZERO;
        let status = loop {
            match child.try_wait().map_err(|e| e.to_string())? {
                Some(status) => break status,
                None if waited > LIMIT => {
                    // It may have ended since.
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("it goes on after {} s", LIMIT.as_secs()));
                }
                None => std::thread::sleep(POLL),
            }
            waited += POLL;
        };
        let text = reader.join().map_err(|_| "no output")?.map_err(|e| e.to_string())?;
        if status.success() || text.contains("running 0 tests") {
            return Err(text.lines().rfind(|line| line.starts_with("test result")).unwrap_or("nothing ran").to_owned());
        }
        let mut lines = text.lines().skip_while(|line| !line.contains("panicked at")).skip(1);
        let how: String = lines.next().unwrap_or("the process died").chars().take(160).collect();
        Ok(how)
    }

    /// Also where the output of tests is kept back.
    fn say(line: &str) {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

#[cfg(all(test, feature = "planted-bugs"))]
mod tests {
    use super::*;

    // The total is counted of what this says, and of the lines that say which was caught by what.
    #[test]
    fn planted_faults_of_the_library_are_caught() {
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "rig: planted faults named: {}", Bug::ALL.len());
        hunt::all(|rig| match rig {
            Rig::Library(test) => Some(test),
            Rig::Suite(_) => None,
        });
    }
}
