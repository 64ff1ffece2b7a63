//! A crash at every operation of a workload, every kind of disk found after it, and a second crash at every operation of
//! the start that follows. A crash alone must never look like damage.

use super::*;
use crate::disk::Persist;
use crate::error::Result;
use std::collections::BTreeMap;

/// What the world outside was told, kept by the test as the workload runs.
#[derive(Debug, Clone, Default)]
struct Ledger {
    /// Key of every record ever handed to the writer, by LSN; seals have none.
    written: BTreeMap<Lsn, String>,
    acked: Lsn,
    /// What the database holds: no record at or before it is needed.
    applied: Lsn,
    /// Where a fork was asked for: everything above was given up if it took place.
    fork_at: Option<Lsn>,
    forked: bool,
}

impl Ledger {
    fn group(&mut self, running: &mut Running, keys: &[&str], row: usize) -> Result<()> {
        let first = running.log.encoder.next_lsn();
        self.written.extend(keys.iter().zip(first.0..).map(|(key, lsn)| (Lsn(lsn), (*key).to_owned())));
        self.acked = running.commit(keys, row)?;
        Ok(())
    }
}

/// Appends, seals, rolls, retires into spares.
fn everyday(rig: &Rig, ledger: &mut Ledger) -> Result<()> {
    let mut running = rig.create()?;
    running.log.spares.prepare()?;
    ledger.group(&mut running, &["a1", "a2"], 500)?;
    for n in 0..6 {
        ledger.group(&mut running, &[&format!("b{n}"), &format!("c{n}")], 2500)?;
        if n == 1 {
            ledger.acked = running.seal()?;
        }
    }
    let upto = running.log.segments.list()[0].last_lsn.expect("two segments");
    ledger.applied = upto;
    running.log.segments.retire(upto)?;
    running.log.spares.prepare()?;
    for n in 0..3 {
        ledger.group(&mut running, &[&format!("d{n}")], 4000)?;
    }
    let torn = running.log.encoder.next_lsn();
    ledger.written.insert(torn, "unsynced".into());
    running.write(&["unsynced"], 900)?;
    drop(running);
    let mut running = restart(rig, ledger)?;
    ledger.acked = running.synced;
    ledger.group(&mut running, &["e"], 100)?;
    ledger.acked = running.stop()?;
    let mut running = restart(rig, ledger)?;
    ledger.group(&mut running, &["f"], 7000)
}

/// Forks in the middle of a log of several segments.
fn branching(rig: &Rig, ledger: &mut Ledger) -> Result<()> {
    let mut running = rig.create()?;
    for n in 0..5 {
        ledger.group(&mut running, &[&format!("a{n}"), &format!("b{n}")], 3000)?;
    }
    drop(running);
    let survey = rig.survey_or_crash(ledger)?;
    let half = Lsn(5);
    let reach = reach_until(rig.disk.as_ref(), &survey, EPOCH, Lsn::ZERO, half)?;
    ledger.fork_at = Some(half);
    let state = Control::load(&rig.data)?.state.expect("a control file");
    let control = Arc::new(Control::open(&rig.data, state)?);
    let log = super::super::fork(&rig.disk, &control, rig.settings, &survey, &reach, Micros(5000))?;
    let synced = log.done.fork.expect("forked").first;
    ledger.written.split_off(&half.next());
    (ledger.forked, ledger.acked) = (true, synced);
    let mut running = Running { log, control, now: 5000, synced };
    ledger.group(&mut running, &["new1"], 3000)?;
    ledger.group(&mut running, &["new2"], 3000)
}

impl Rig {
    fn survey_or_crash(&self, ledger: &Ledger) -> Result<Survey> {
        let control = Control::load(&self.data)?.state;
        let proof = Proof { control, applied_lsn: Some(ledger.applied), ..Proof::default() };
        super::super::survey(self.disk.as_ref(), STORE, proof, Depth::All)
    }
}

/// A start after a crash: the database is at `applied`, the log brings it forward.
fn restart(rig: &Rig, ledger: &Ledger) -> Result<Running> {
    if Control::load(&rig.data)?.state.is_none() {
        assert_eq!(ledger.acked, Lsn::ZERO, "the control file is gone");
        return rig.create();
    }
    let survey = rig.survey_or_crash(ledger)?;
    if survey.segments.is_empty() && ledger.acked == Lsn::ZERO {
        return rig.create();
    }
    let reach = survey.reach(EPOCH, ledger.applied);
    rig.resume_at(&survey, &reach)
}

/// Recovers and compares with what was promised; then the log must work and be whole.
fn check(rig: &Rig, ledger: &Ledger, what: &str) {
    let mut running = restart(rig, ledger).unwrap_or_else(|e| panic!("{what}: {e}"));
    let survey = rig.survey_or_crash(ledger).unwrap();
    let reach = survey.reach(EPOCH, ledger.applied);
    assert!(reach.whole() && survey.problems().is_empty(), "{what}: {:?} {:?}", reach.stop, survey.problems());
    let forked = reach.epoch != EPOCH;
    assert!(forked || !ledger.forked, "{what}: the fork is undone");
    let wanted = if forked && !ledger.forked { ledger.fork_at.expect("a fork was asked for") } else { ledger.acked };
    assert!(reach.lsn >= wanted, "{what}: acknowledged {wanted}, reached {}", reach.lsn);
    let mut keys = BTreeMap::new();
    let each = &mut |record: &RecordRef<'_>| {
        record.for_each_change(&mut |change| {
            let (Change::Put { key, .. } | Change::Remove { key, .. }) = change else { panic!("{change:?}") };
            keys.insert(record.lsn, String::from_utf8_lossy(&key).into_owned());
            Ok(())
        })
    };
    replay(rig.disk.as_ref(), &survey, EPOCH, ledger.applied, reach.lsn, each).unwrap();
    let bound = match ledger.fork_at {
        Some(half) if forked && !ledger.forked => half,
        _ => reach.lsn,
    };
    let mut expected = ledger.written.clone();
    expected.retain(|lsn, _| *lsn > ledger.applied && *lsn <= bound);
    assert_eq!(keys, expected, "{what}");
    let next = running.log.encoder.next_lsn();
    assert_eq!(running.commit(&["after"], 200).unwrap(), next, "{what}");
    running.stop().unwrap();
    let survey = rig.survey_or_crash(ledger).unwrap();
    let ends = survey.segments.iter().all(|s| matches!(s.end, End::Clean | End::Surplus { .. }));
    assert!(ends && survey.problems().is_empty(), "{what}: not clean after a clean stop: {survey:?}");
}

type Workload = fn(&Rig, &mut Ledger) -> Result<()>;

/// Runs a workload up to its `n`-th operation; the first bytes of that one are written if it is a write.
fn run_to(workload: Workload, n: Option<(u64, u64)>) -> (Rig, Ledger) {
    let rig = Rig::new();
    if let Some((n, bytes)) = n {
        rig.machine.crash_torn_at(n, bytes);
    }
    let mut ledger = Ledger::default();
    let done = workload(&rig, &mut ledger);
    assert_eq!(done.is_err(), n.is_some(), "{done:?}");
    (rig, ledger)
}

/// Every operation, every kind of disk; with `again`, for every third of these a second crash at every operation of the
/// start that follows.
fn crash_everywhere(workload: Workload, again: bool) -> u64 {
    let ops = run_to(workload, None).0.machine.ops();
    let mut states = 0;
    for n in 1..=ops {
        let (rig, ledger) = run_to(workload, Some((n, n % 5000)));
        for persist in Persist::all(n) {
            let what = format!("crash at operation {n}, {persist:?}");
            let after = || Rig::on(rig.machine.image(persist), SMALL);
            check(&after(), &ledger, &what);
            states += 1;
            if again && states % 3 == 0 {
                states += crash_again(&after, &ledger, n, &what);
            }
        }
    }
    states
}

fn crash_again(image: &dyn Fn() -> Rig, ledger: &Ledger, n: u64, what: &str) -> u64 {
    let whole = image();
    let before = whole.machine.ops();
    drop(restart(&whole, ledger).unwrap());
    let ops = whole.machine.ops() - before;
    for m in 1..=ops {
        let rig = image();
        rig.machine.crash_torn_at(rig.machine.ops() + m, m * 700);
        assert!(restart(&rig, ledger).is_err());
        let persist = Persist::all(n * 1000 + m)[usize::try_from((n + m) % 8).unwrap()];
        let rig = Rig::on(rig.machine.image(persist), SMALL);
        check(&rig, ledger, &format!("{what}, then at operation {m} of the start, {persist:?}"));
    }
    ops
}

// I1 I2 I3, rows 18, 19, 20, 35
#[test]
fn a_crash_at_every_operation_loses_nothing() {
    let states = crash_everywhere(everyday, true);
    println!("{states} crash states");
    assert!(states > 3000, "{states}");
}

#[test]
fn a_crash_at_every_operation_of_a_fork_leaves_one_history() {
    let states = crash_everywhere(branching, true);
    println!("{states} crash states");
    assert!(states > 1000, "{states}");
}
