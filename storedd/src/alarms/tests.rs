//! The board against invented facts: every alarm raised and cleared, hysteresis, growth, restart, maintenance.

use super::*;
use crate::disk::Space;
use crate::store::{Phase, PutBack};
use std::time::Duration;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn limits() -> Limits {
    Limits {
        log_segments: 4,
        log_bytes: 100 * MIB,
        checkpoint_age: seconds(600),
        checkpoint_duration: seconds(300),
        disk_free: GIB,
        full_within: seconds(1800),
        bulk_reserve: 256 * MIB,
        reserve: 64 * MIB,
        request_wait: seconds(30),
        snapshot_age: seconds(2 * 86_400),
        backup_age: Some(seconds(100_000)),
        mail_backup_age: Some(seconds(200_000)),
        drill_age: Some(seconds(200_000)),
        archive_wait: seconds(100),
        chore_age: seconds(1000),
        restart_after: None,
    }
}

fn place(name: &str, free: u64, id: u64) -> PlaceFacts {
    PlaceFacts {
        name: name.to_owned(),
        path: format!("/{name}"),
        space: Some(Space { free, total: 100 * GIB, id }),
        trouble: None,
        age: Duration::ZERO,
        vital: !name.starts_with("partition"),
    }
}

/// A healthy store, and a clock that is moved by hand.
struct Bench {
    board: Board,
    facts: Facts,
    limits: Limits,
}

impl Bench {
    fn new() -> Bench {
        let facts = Facts {
            now: Micros(1_700_000_000_000_000),
            uptime: seconds(1000),
            phase: Phase::Ready,
            log: LogFacts { segments: 1, bytes: 10 * MIB, kept_for: vec!["recovery".to_owned()], put_back: None },
            checkpoint: CheckpointFacts::default(),
            overlay_bytes: 0,
            overlay_bytes_max: 512 * MIB,
            lagging: Vec::new(),
            places: vec![place("data", 50 * GIB, 1), place("log", 50 * GIB, 2), place("partition a", 50 * GIB, 3)],
            stamps: Vec::new(),
            chores: Vec::new(),
            done: Vec::new(),
            oldest_wait: None,
            held_up: None,
            bulk: None,
            copies: CopyFacts { created: Micros(1_700_000_000_000_000), ..CopyFacts::default() },
            repair: None,
            damage: DamageFacts::default(),
            snapshots: SnapshotFacts { newest: Some("s1".to_owned()), age: seconds(3600), ..SnapshotFacts::default() },
        };
        Bench { board: Board::default(), facts, limits: limits() }
    }

    /// A second passes; what changed, as `+name subject` and `-name subject`.
    fn tick(&mut self) -> Vec<String> {
        self.facts.uptime += seconds(1);
        self.facts.now.0 += 1_000_000;
        let verdict = self.board.evaluate(&self.facts, &self.limits);
        let word = |change: &Change| {
            let sign = match change {
                Change::Raised(_) => '+',
                Change::Severity(_) => '!',
                Change::Cleared(_) => '-',
            };
            format!("{sign}{} {}", change.alarm().name.word(), change.alarm().subject).trim_end().to_owned()
        };
        verdict.changes.iter().map(word).collect()
    }

    fn ticks(&mut self, count: u32) -> Vec<String> {
        (0..count).flat_map(|_| self.tick()).collect()
    }

    fn only(&self) -> Alarm {
        let all = self.board.alarms();
        assert_eq!(all.len(), 1, "{all:?}");
        all[0].clone()
    }
}

#[test]
fn nothing_is_wrong_with_a_healthy_store() {
    let mut bench = Bench::new();
    assert_eq!(bench.ticks(400), [""; 0]);
    assert_eq!(bench.board.alarms(), []);
}

fn done(what: &'static str, at: Micros) -> Done {
    Done { what, at, next: "storectl drill" }
}

// A clock that was ahead once: the alarm names what was stamped by it, the stamp and the clock; a minute is none.
#[test]
fn a_stamp_that_did_not_come_yet_is_named() {
    let mut bench = Bench::new();
    let year = 365 * 86_400_000_000;
    bench.facts.done = vec![done("snapshot", bench.facts.now), done("backup", Micros(bench.facts.now.0 + 50_000_000))];
    assert_eq!(bench.ticks(5), [""; 0]);
    bench.facts.done[1].at.0 += year;
    assert_eq!(bench.tick(), ["+clock backup"]);
    let alarm = bench.only();
    let told =
        "the last backup is stamped 2024-11-13T22:14:10.000000Z, and the clock shows 2023-11-14T22:13:26.000000Z";
    assert_eq!((alarm.message.as_str(), alarm.unit, alarm.limit), (told, "seconds", 60.0));
    bench.facts.done[1].at = bench.facts.now;
    assert_eq!(bench.ticks(5), ["-clock backup"], "it was done again");
}

/// Makes a store sick in one way, and names what that raises.
type Sickness = (fn(&mut Facts), &'static str);

// Rows 97, B7.
#[test]
fn every_alarm_is_raised_and_cleared() {
    let sick: [Sickness; 26] = [
        (|f| f.phase = Phase::Poisoned, "poisoned"),
        (|f| f.phase = Phase::ReadOnly("held".to_owned()), "read_only"),
        (|f| f.checkpoint.failures = 1, "checkpoint_failed"),
        (|f| f.checkpoint.running = Some(seconds(300)), "checkpoint_slow"),
        (|f| f.log.put_back = Some(PutBack { file: "log.7".to_owned(), aside: None }), "log_put_back log.7"),
        (|f| f.log.segments = 5, "log_segments"),
        (|f| f.log.bytes = 100 * MIB, "log_bytes"),
        (|f| f.places[1].space = Some(Space { free: GIB - 1, total: 100 * GIB, id: 2 }), "disk_space log"),
        (|f| f.places[2].trouble = Some("not mounted".to_owned()), "partition partition a"),
        (|f| f.places[2].age = seconds(15), "partition partition a"),
        (|f| f.overlay_bytes = 410 * MIB, "overlay"),
        (|f| f.stamps = vec![Stamp { file: "stored.ckp", owed: seconds(5) }], "stale_stamp stored.ckp"),
        (|f| f.oldest_wait = Some(seconds(30)), "stalled_request"),
        (|f| f.held_up = Some((seconds(30), "somebody".to_owned())), "stalled_request"),
        (|f| (f.copies.created, f.copies.drill) = (Micros(0), Some(f.now)), "backup_age"),
        (|f| f.copies.mail_backup = Some(Micros(5)), "mail_backup_age"),
        (|f| (f.copies.drill, f.copies.backup) = (Some(Micros(5)), Some(f.now)), "drill_age"),
        (|f| f.copies.drill_problem = Some("log.0000000002: missing".to_owned()), "drill_bad"),
        (|f| f.copies.archive_waits = Some(seconds(100)), "archive_lag"),
        (|f| f.copies.archive_gap = Some((3, 5)), "archive_gap"),
        (|f| f.repair = Some("a rollback".to_owned()), "repair_recommended"),
        (|f| f.snapshots.age = seconds(2 * 86_400), "snapshot_age"),
        (
            |f| f.snapshots = SnapshotFacts { newest: None, age: seconds(2 * 86_400), ..f.snapshots.clone() },
            "snapshot_age",
        ),
        (|f| f.snapshots.without_log = vec!["s0".to_owned()], "snapshot_log s0"),
        (|f| f.snapshots.not_read = vec![("/far".to_owned(), "EIO".to_owned())], "snapshot_place /far"),
        (|f| f.done = vec![done("drill", Micros(f.now.0 + 70_000_000))], "clock drill"),
    ];
    for (make_sick, name) in sick {
        let mut bench = Bench::new();
        bench.ticks(10);
        make_sick(&mut bench.facts);
        // A step of the disk or of the log is no trend.
        assert_eq!(bench.tick(), [format!("+{name}")]);
        let alarm = bench.only();
        assert_eq!(alarm.since, bench.facts.now, "{name}");
        assert!(!alarm.message.is_empty() && !alarm.cause.is_empty() && !alarm.next.is_empty(), "{alarm:?}");
        let (now, uptime) = (bench.facts.now, bench.facts.uptime);
        bench.facts = Facts { now, uptime, ..Bench::new().facts };
        assert_eq!(bench.ticks(40), [format!("-{name}")]);
        assert_eq!(bench.board.alarms(), []);
    }
}

#[test]
fn changes_that_wait_for_the_database_are_timed_from_the_last_checkpoint() {
    let mut bench = Bench::new();
    bench.facts.checkpoint.owes = true;
    assert_eq!(bench.ticks(600), [""; 0]);
    assert_eq!(bench.tick(), ["+checkpoint_age"]);
    assert_eq!(bench.only().value, 600.0);
    bench.facts.checkpoint.lsn = 6;
    assert_eq!(bench.ticks(10), ["-checkpoint_age"], "one that moved on is not stuck, also if it is behind");
    bench.facts.checkpoint.owes = false;
    assert_eq!(bench.ticks(700), [""; 0], "nothing waits");
}

#[test]
fn a_value_that_plays_around_its_limit_rings_once() {
    let mut bench = Bench::new();
    for round in 0..100 {
        bench.facts.log.bytes = if round % 2 == 0 { 100 * MIB } else { 95 * MIB };
        bench.tick();
    }
    bench.facts.log.bytes = 91 * MIB;
    assert_eq!(bench.ticks(10), [""; 0], "better is not good");
    bench.facts.log.bytes = 89 * MIB;
    assert_eq!(bench.ticks(3), [""; 0], "good for a moment is not good");
    bench.facts.log.bytes = 100 * MIB;
    bench.tick();
    bench.facts.log.bytes = 89 * MIB;
    assert_eq!(bench.ticks(4), ["-log_bytes"]);
}

#[test]
fn a_disk_gets_worse_in_steps_and_says_what_is_refused() {
    let mut bench = Bench::new();
    let free = |bench: &mut Bench, bytes: u64| {
        bench.facts.places[0].space = Some(Space { free: bytes, total: 100 * GIB, id: 1 });
        bench.tick()
    };
    assert_eq!(free(&mut bench, 900 * MIB), ["+disk_space data"]);
    assert_eq!(bench.only().severity, Severity::Warning);
    assert_eq!(free(&mut bench, 255 * MIB), ["!disk_space data"]);
    assert!(bench.only().cause.starts_with("bulk work is refused"), "{:?}", bench.only());
    free(&mut bench, 63 * MIB);
    assert!(bench.only().cause.starts_with("changes are refused"), "{:?}", bench.only());
    assert_eq!(bench.only().limit, (64 * MIB) as f64);
    assert_eq!(free(&mut bench, 900 * MIB), ["!disk_space data"]);
    free(&mut bench, 50 * GIB);
    assert_eq!(bench.ticks(40), ["-disk_space data"]);
}

#[test]
fn places_on_one_disk_are_one_alarm() {
    let mut bench = Bench::new();
    bench.facts.places = ["data", "database", "log", "partition a"].map(|name| place(name, MIB, 9)).to_vec();
    assert_eq!(bench.tick(), ["+disk_space data"]);
    assert!(bench.only().message.contains("data, database, log, partition a"), "{}", bench.only().message);
    bench.facts.places = ["data", "database"].map(|name| place(name, MIB, 0)).to_vec();
    assert_eq!(bench.tick(), ["+disk_space database"], "disks that are not known are told apart");
}

#[test]
fn limits_shrink_with_the_disk() {
    let mut bench = Bench::new();
    bench.facts.places = vec![place("data", 0, 1)];
    let small = |free| Some(Space { free, total: 20 * MIB, id: 1 });
    bench.facts.places[0].space = small(5 * MIB);
    assert_eq!(bench.ticks(10), [""; 0], "a quarter of a small disk is enough");
    bench.facts.places[0].space = small(3 * MIB);
    bench.tick();
    assert_eq!(bench.only().severity, Severity::Warning);
    bench.facts.places[0].space = small(MIB - 1);
    bench.tick();
    assert!(bench.only().cause.starts_with("changes are refused"));
}

// The time that is left is right within a fifth while a disk fills steadily.
#[test]
fn a_disk_that_fills_is_foreseen() {
    let mut bench = Bench::new();
    // Half an hour of rest, then 20 MiB a second.
    bench.ticks(1800);
    let mut free = 50 * GIB;
    let mut raised = Vec::new();
    for _ in 0..2000 {
        free -= 20 * MIB;
        bench.facts.places[0].space = Some(Space { free, total: 100 * GIB, id: 1 });
        raised.extend(bench.tick());
        if !raised.is_empty() {
            break;
        }
    }
    assert_eq!(raised, ["+disk_space data"]);
    let alarm = bench.only();
    let left = free as f64 / (20.0 * MIB as f64);
    assert!(left > 1000.0, "long before it is full: {left}");
    let told = alarm.time_to_full.unwrap();
    assert!((told / left - 1.0).abs() < 0.2, "{told} {left}");
    assert!(alarm.cause.starts_with("at this rate"), "{alarm:?}");
}

#[test]
fn the_cause_of_an_accumulation_is_named() {
    let mut bench = Bench::new();
    bench.facts.log.segments = 5;
    bench.tick();
    assert_eq!(bench.only().cause, "the oldest segment is kept for recovery");
    bench.facts.checkpoint.running = Some(seconds(9));
    bench.facts.bulk = Some(Bulk { who: "storectl (pid 7, uid 0)".to_owned(), changes: 12 });
    bench.tick();
    let expected = "a checkpoint has been running for 9 seconds; bulk work: storectl (pid 7, uid 0), 12 changes";
    assert_eq!(bench.only().cause, expected);
    bench.facts.checkpoint = CheckpointFacts { failures: 2, error: Some("no space".to_owned()), ..Default::default() };
    bench.tick();
    let segments = bench.board.alarms().into_iter().find(|a| a.name == Name::LogSegments).unwrap();
    assert!(segments.cause.starts_with("the checkpoint fails: no space; bulk work"), "{segments:?}");
}

// Rows 99, 100.
#[test]
fn a_restart_is_due_only_for_an_excess_that_stays() {
    let mut bench = Bench::new();
    bench.limits.restart_after = Some(seconds(60));
    let due = |bench: &mut Bench, seconds_passed: u64| {
        let mut found = None;
        for _ in 0..seconds_passed {
            bench.facts.uptime += seconds(1);
            found = bench.board.evaluate(&bench.facts, &bench.limits).restart;
        }
        found
    };
    assert_eq!(due(&mut bench, 100), None, "nothing is wrong");
    bench.facts.log = LogFacts { segments: 9, bytes: 90 * MIB, ..LogFacts::default() };
    assert_eq!(due(&mut bench, 60), None);
    assert!(due(&mut bench, 1).unwrap().contains("9 log segments"));
    for bytes in (20..90).rev() {
        bench.facts.log.bytes = bytes * MIB;
        assert_eq!(due(&mut bench, 30), None, "a backlog that shrinks is worked off");
    }
    let until = Micros(bench.facts.now.0 + 1_000_000_000);
    let ends = seconds(1_000_000);
    bench.board.set_maintenance(Some(Maintenance { until, ends, reason: String::new(), who: String::new() }));
    assert_eq!(due(&mut bench, 500), None, "bulk work is expected");
    bench.board.set_maintenance(None);
    assert_eq!(due(&mut bench, 60), None, "its time begins anew");
    assert!(due(&mut bench, 1).is_some());
    bench.limits.restart_after = None;
    assert_eq!(due(&mut bench, 500), None, "only where it is asked for");
}

// Row 100.
#[test]
fn maintenance_silences_bulk_work_and_nothing_else() {
    let mut bench = Bench::new();
    bench.facts.log.segments = 9;
    assert_eq!(bench.tick(), ["+log_segments"]);
    let until = Micros(bench.facts.now.0 + 20_000_000);
    let ends = bench.facts.uptime + seconds(20);
    let window = Maintenance { until, ends, reason: "import".to_owned(), who: "root".to_owned() };
    bench.board.set_maintenance(Some(window.clone()));
    bench.facts.checkpoint.failures = 1;
    assert_eq!(bench.ticks(5), ["+checkpoint_failed"], "what is on is not told as over while it is not");
    bench.facts.log.segments = 0;
    assert_eq!(bench.ticks(5), ["-log_segments"]);
    bench.facts.log.segments = 9;
    assert_eq!(bench.board.maintenance(bench.facts.now).unwrap().reason, "import");
    assert_eq!(bench.ticks(15), ["+log_segments"], "it ends by itself");
    assert_eq!(bench.board.maintenance(bench.facts.now), None);
    // The clock is set back while it holds: it is no longer for that.
    bench.facts.log.segments = 0;
    bench.ticks(5);
    let (until, ends) = (Micros(bench.facts.now.0 + 20_000_000), bench.facts.uptime + seconds(20));
    bench.board.set_maintenance(Some(Maintenance { until, ends, ..window }));
    bench.facts.now.0 -= 365 * 86_400_000_000;
    bench.facts.log.segments = 9;
    assert_eq!(bench.ticks(25), ["+log_segments"]);
}

#[test]
fn alarms_are_listed_worst_first() {
    let mut bench = Bench::new();
    bench.facts.log.segments = 9;
    bench.facts.phase = Phase::Poisoned;
    bench.facts.places[0].space = Some(Space { free: 900 * MIB, total: 100 * GIB, id: 1 });
    bench.tick();
    let names: Vec<&str> = bench.board.alarms().iter().map(|a| a.name.word()).collect();
    assert_eq!(names, ["poisoned", "disk_space", "log_segments"]);
}
