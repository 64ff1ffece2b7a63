//! Appending, rolling, stopping, going on, forking, retiring.

use super::*;
use crate::disk::{Access, Fault};
use crate::error::StoreError;

#[test]
fn what_is_synced_is_read_again() {
    let rig = Rig::new();
    let mut running = rig.create().unwrap();
    assert_eq!(running.commit(&["a", "b"], 10).unwrap(), Lsn(2));
    assert_eq!(running.commit(&["c"], 10).unwrap(), Lsn(3));
    assert_eq!(running.stop().unwrap(), Lsn(4));
    let keys: Vec<_> = rig.read().into_iter().map(|(lsn, key)| (lsn.0, key)).collect();
    assert_eq!(keys, [(1, b"a".to_vec()), (2, b"b".to_vec()), (3, b"c".to_vec())]);
    let survey = rig.survey();
    assert_eq!(survey.segments[0].end, End::Clean);
    assert_eq!(survey.problems().len(), 0);
    let reach = survey.reach(EPOCH, Lsn(2));
    assert_eq!((reach.lsn, reach.stop), (Lsn(4), Stop::End));
}

#[test]
fn segments_roll_chain_and_retire() {
    let rig = Rig::new();
    let mut running = rig.create().unwrap();
    let last = fill(&mut running, 60, 1);
    let list = running.log.segments.list();
    assert!(list.len() >= 4, "{list:?}");
    assert!(list.windows(2).all(|w| w[0].last_lsn.unwrap().next() == w[1].first_lsn));
    assert_eq!(running.control.state().highest_segment, list.last().unwrap().number);
    let survey = rig.survey();
    assert_eq!(survey.problems().len(), 0);
    assert_eq!(survey.reach(EPOCH, Lsn::ZERO).lsn, last);
    // Only the tail needs to be read for a database that holds the rest.
    let proof = Proof { control: None, applied_lsn: Some(last), ..Proof::default() };
    let tail = super::super::survey(rig.disk.as_ref(), STORE, proof, Depth::From(last)).unwrap();
    assert_eq!(tail.segments.iter().filter(|s| s.end != End::Unread).count(), 1);
    assert_eq!(tail.reach(EPOCH, last).stop, Stop::End);
    // Retired: all but the active one; one becomes a spare, the others go.
    let upto = list[1].last_lsn.unwrap();
    assert_eq!(running.log.segments.removable(upto), ["log.0000000001", "log.0000000002"]);
    assert_eq!(running.log.segments.retire(upto).unwrap(), ["log.0000000001", "log.0000000002"]);
    assert!(running.log.segments.retire(upto).unwrap().is_empty());
    let active = list.last().unwrap();
    running.log.segments.retire(Lsn(u64::MAX)).unwrap();
    assert_eq!(running.log.segments.list().len(), 1);
    assert_eq!(running.control.state().lowest_segment, active.number);
    while running.log.spares.prepare().unwrap() {}
    assert_eq!(running.log.spares.ready(), 1);
    let survey = rig.survey_with(Some(last));
    assert_eq!(survey.problems().len(), 0, "a retired segment is not missed");
    assert_eq!(survey.reach(EPOCH, last).stop, Stop::End);
    let early = survey.reach(EPOCH, Lsn(1)).stop;
    assert!(matches!(early, Stop::Before { .. }), "{early:?}");
    let names: Vec<String> = rig.disk.list("").unwrap().into_iter().map(|e| e.name).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn a_recycled_segment_is_zero_again() {
    let rig = Rig::new();
    let mut running = rig.create().unwrap();
    fill(&mut running, 30, 2);
    running.log.segments.retire(Lsn(u64::MAX)).unwrap();
    while running.log.spares.prepare().unwrap() {}
    let spare = rig.disk.list("").unwrap().into_iter().find(|e| e.name.starts_with("spare.")).unwrap();
    assert_eq!(spare.len, SMALL.segment_bytes);
    assert!(rig.log_disk().peek(&spare.name).unwrap().iter().all(|b| *b == 0));
}

#[test]
fn half_made_spares_are_not_trusted() {
    let rig = Rig::new();
    let log = rig.log_disk();
    log.plant("spare.3.new", &[1; 100]).unwrap();
    log.plant("spare.4", &[0; 100]).unwrap();
    log.plant("spare.fork", &[1; 100]).unwrap();
    log.plant("spare.7", &vec![0; SMALL.segment_bytes as usize]).unwrap();
    let spares = Spares::open(rig.disk.clone(), SMALL.segment_bytes, 2, 0).unwrap();
    assert_eq!(spares.ready(), 1);
    assert!(spares.prepare().unwrap());
    assert!(!spares.prepare().unwrap());
    let names: Vec<String> = rig.disk.list("").unwrap().into_iter().map(|e| e.name).collect();
    assert_eq!(names, ["spare.7", "spare.8"]);
}

#[test]
fn a_full_disk_refuses_the_reservation_and_breaks_nothing() {
    let rig = Rig::new();
    let mut running = rig.create().unwrap();
    rig.log_disk().set_free_bytes(0);
    // Appends go on in what is there; the first record that would roll is refused before it is encoded.
    let refused = loop {
        match running.commit(&["k"], 900) {
            Ok(_) => {}
            Err(e) => break e,
        }
    };
    assert!(matches!(refused, StoreError::NoSpace { .. }), "{refused}");
    assert!(!rig.disk.list("").unwrap().iter().any(|e| e.name.starts_with("spare.")), "no half spare is left");
    let before = running.log.encoder.next_lsn();
    rig.log_disk().set_unbounded();
    assert_eq!(running.commit(&["k"], 900).unwrap(), before);
    assert_eq!(rig.read().len() as u64, before.0);
}

#[test]
fn reservations_are_counted() {
    let rig = Rig::new();
    let spares = Spares::open(rig.disk.clone(), SMALL.segment_bytes, 1, 0).unwrap();
    spares.prepare().unwrap();
    rig.log_disk().set_free_bytes(0);
    spares.reserve().unwrap();
    assert_eq!(spares.ready(), 0);
    assert!(matches!(spares.reserve(), Err(StoreError::NoSpace { .. })));
    spares.unreserve();
    spares.reserve().unwrap();
}

#[test]
fn a_payload_that_is_too_long_is_refused_and_changes_nothing() {
    let rig = Rig::new();
    let mut running = rig.create().unwrap();
    let max = running.log.encoder.payload_bytes_max();
    let mut out = Vec::new();
    let refused = running.log.encoder.push(Kind::Transaction, &vec![0; max + 1], Micros(1), Lsn::ZERO, &mut out);
    assert!(matches!(refused, Err(StoreError::Refused { .. })));
    assert!(out.is_empty());
    assert_eq!(running.log.encoder.next_lsn(), Lsn(1));
    running.log.encoder.push(Kind::Transaction, &vec![0; max], Micros(1), Lsn::ZERO, &mut out).unwrap();
}

#[test]
fn times_never_go_back() {
    let rig = Rig::new();
    let mut running = rig.create().unwrap();
    running.commit(&["a"], 1).unwrap();
    running.now = 5;
    running.commit(&["b"], 1).unwrap();
    drop(running);
    let mut times = Vec::new();
    let survey = rig.survey();
    replay(rig.disk.as_ref(), &survey, EPOCH, Lsn::ZERO, Lsn(2), &mut |r| {
        times.push(r.time.0);
        Ok(())
    })
    .unwrap();
    assert_eq!(times, [1010, 1010]);
    assert_eq!(rig.resume().unwrap().log.encoder.last_time(), Micros(1010));
}

// I2: no token without a successful sync, and nothing after a failed one.
#[test]
fn a_failed_write_or_sync_poisons() {
    for (step, fault) in
        [(1, Fault::Eio), (2, Fault::Eio), (2, Fault::SyncDropsData), (1, Fault::ShortWrite), (1, Fault::NoSpace)]
    {
        let rig = Rig::new();
        let mut running = rig.create().unwrap();
        running.commit(&["a"], 1).unwrap();
        rig.machine.fail_at(rig.machine.ops() + step, fault);
        let first = running.commit(&["b"], 1).unwrap_err();
        let StoreError::Poisoned { cause } = &first else { panic!("{first}") };
        let again = running.log.writer.sync().unwrap_err();
        assert!(matches!(&again, StoreError::Poisoned { cause: c } if c == cause), "the first cause is kept: {again}");
        assert!(running.log.writer.write(&[]).is_err());
        assert_eq!(running.log.writer.synced(), Lsn(1));
    }
}

#[test]
fn what_only_the_page_cache_held_is_written_again_before_it_is_shown() {
    let rig = Rig::new();
    let mut running = rig.create().unwrap();
    running.commit(&["a"], 1).unwrap();
    running.write(&["b", "c"], 100).unwrap();
    rig.machine.fail_at(rig.machine.ops() + 1, Fault::SyncDropsData);
    assert!(running.sync().is_err());
    // The process restarts; the page cache still shows both records.
    let resumed = rig.resume().unwrap();
    assert_eq!(resumed.synced, Lsn(3));
    drop(resumed);
    let after = Rig::on(rig.machine.image(crate::disk::Persist::Nothing), SMALL);
    assert_eq!(after.read().len(), 3, "a power cut takes back nothing that was shown");
}

#[test]
fn a_torn_rest_is_kept_and_zeroed_before_anything_is_appended() {
    let rig = Rig::new();
    let mut running = rig.create().unwrap();
    running.commit(&["a"], 1).unwrap();
    running.write(&["b", "c"], 300).unwrap();
    drop(running);
    let file = file_name(1);
    let at = rig.survey().segments[0].runs[0].end - 5;
    rig.log_disk().poke(&file, at, &[0; 5]).unwrap();
    let survey = rig.survey();
    let End::Torn { offset, bytes, records } = survey.segments[0].end else { panic!("{:?}", survey.segments[0]) };
    assert_eq!(records, 0);
    let torn = rig.log_disk().peek(&file).unwrap()[offset as usize..(offset + bytes) as usize].to_vec();
    let resumed = rig.resume().unwrap();
    let cut = resumed.log.done.cut.clone().unwrap();
    assert_eq!((cut.offset, cut.bytes), (offset, bytes));
    assert_eq!(rig.log_disk().peek(&cut.kept.unwrap()).unwrap(), torn);
    assert!(rig.log_disk().peek(&file).unwrap()[offset as usize..].iter().all(|b| *b == 0));
    assert_eq!(resumed.synced, Lsn(2));
    drop(resumed);
    assert_eq!(rig.survey().segments[0].end, End::Clean);
}

#[test]
fn without_space_for_the_torn_rest_the_log_goes_on_in_a_spare() {
    let rig = Rig::new();
    let mut running = rig.create().unwrap();
    while running.log.spares.prepare().unwrap() {}
    running.commit(&["a"], 1).unwrap();
    running.write(&["b"], 300).unwrap();
    drop(running);
    let at = rig.survey().segments[0].runs[0].end - 5;
    rig.log_disk().poke(&file_name(1), at, &[0; 5]).unwrap();
    rig.log_disk().set_free_bytes(0);
    let mut resumed = rig.resume().unwrap();
    assert_eq!(resumed.log.done.cut.clone().unwrap().kept, None);
    assert_eq!(resumed.commit(&["c"], 1).unwrap(), Lsn(2));
    drop(resumed);
    let survey = rig.survey();
    assert!(matches!(survey.segments[0].end, End::Surplus { .. }), "{:?}", survey.segments[0].end);
    assert_eq!(survey.problems().len(), 0);
    let keys: Vec<_> = rig.read().into_iter().map(|(_, key)| key).collect();
    assert_eq!(keys, [b"a".to_vec(), b"c".to_vec()]);
}

// row 34: a link to a segment on another disk is followed and never written, cut, reused or removed at its target.
#[test]
fn a_linked_segment_is_read_only() {
    let rig = Rig::new();
    let mut running = rig.create().unwrap();
    running.commit(&["a"], 1).unwrap();
    running.write(&["b"], 300).unwrap();
    drop(running);
    let at = rig.survey().segments[0].runs[0].end - 5;
    let log = rig.log_disk();
    log.poke(&file_name(1), at, &[0; 5]).unwrap();
    let bytes = log.peek(&file_name(1)).unwrap();
    log.erase(&file_name(1)).unwrap();
    log.plant("elsewhere", &bytes).unwrap();
    log.plant_symlink(&file_name(1), "elsewhere").unwrap();
    let mut resumed = rig.resume().unwrap();
    assert_eq!(resumed.commit(&["c"], 1).unwrap(), Lsn(2));
    let keys: Vec<_> = rig.read().into_iter().map(|(_, key)| key).collect();
    assert_eq!(keys, [b"a".to_vec(), b"c".to_vec()]);
    assert!(rig.survey().segments[0].symlink);
    resumed.log.segments.retire(Lsn(1)).unwrap();
    while resumed.log.spares.prepare().unwrap() {}
    assert_eq!(rig.disk.stat(&file_name(1)).unwrap(), None);
    assert_eq!(log.peek("elsewhere").unwrap(), bytes);
}

#[test]
fn a_fork_gives_up_what_lies_behind_it() {
    let rig = Rig::new();
    let mut running = rig.create().unwrap();
    let last = fill(&mut running, 60, 3);
    let before = running.log.segments.list();
    drop(running);
    let survey = rig.survey();
    let half = Lsn(last.0 / 2);
    let reach = reach_until(rig.disk.as_ref(), &survey, EPOCH, Lsn::ZERO, half).unwrap();
    assert_eq!(reach.lsn, half);
    // The place behind a record is the same from wherever one comes, from that record itself, too.
    for lsn in (1..=last.0).map(Lsn) {
        let place = |from| reach_until(rig.disk.as_ref(), &survey, EPOCH, from, lsn).unwrap();
        assert_eq!(
            (place(lsn).place, place(lsn).checksum),
            (place(Lsn::ZERO).place, place(Lsn::ZERO).checksum),
            "{lsn}"
        );
    }
    let mut forked = rig.fork_at(&survey, &reach);
    let fork = forked.log.done.fork.unwrap();
    assert!(fork.first > last && fork.first.0.is_multiple_of(1_000_000), "{fork:?}");
    assert_eq!((fork.parent, fork.reached), (EPOCH, half));
    assert!(!forked.log.done.quarantined.is_empty());
    assert_eq!(forked.log.encoder.segment(), before.last().unwrap().number + 1, "no number is used twice");
    forked.commit(&["new"], 1).unwrap();
    drop(forked);
    let survey = rig.survey();
    assert_eq!(survey.problems().len(), 0);
    let reach = survey.reach(EPOCH, Lsn::ZERO);
    assert_eq!((reach.lsn, reach.epoch, reach.stop), (fork.first.next(), Epoch(1), Stop::End));
    let keys = rig.read();
    assert_eq!(keys.last().unwrap().1, b"new");
    assert!(keys.iter().all(|(lsn, _)| *lsn <= half || *lsn > fork.first));
    // A state on the branch that was given up is not brought forward; one at the fork is.
    assert_eq!(survey.reach(EPOCH, half.next()).stop, Stop::OtherHistory);
    assert_eq!(survey.reach(EPOCH, half).lsn, fork.first.next());
    assert_eq!(survey.reach(Epoch(1), fork.first).lsn, fork.first.next());
    let mut resumed = rig.resume_at(&survey, &survey.reach(Epoch(1), fork.first)).unwrap();
    resumed.commit(&["newer"], 1).unwrap();
}

#[test]
fn a_fork_from_a_state_without_a_log() {
    let rig = Rig::new();
    let control = Control::create(&rig.data, ControlState::new(STORE)).unwrap();
    control.update(|s| s.highest_segment = 3).unwrap();
    let survey = rig.survey_with(Some(Lsn(77)));
    assert_eq!(survey.missing_files(), ["log.0000000001", "log.0000000002", "log.0000000003"]); // row 29
    let reach = survey.reach(EPOCH, Lsn(77));
    assert!(matches!(reach.stop, Stop::Missing(ref files) if files.len() == 3));
    let mut forked = rig.fork_at(&survey, &reach);
    forked.commit(&["x"], 1).unwrap();
    let survey = rig.survey_with(Some(Lsn(77)));
    assert_eq!(survey.problems().len(), 0);
    assert_eq!(survey.segments[0].number, 4);
    let reach = survey.reach(EPOCH, Lsn(77));
    assert_eq!((reach.lsn, reach.stop), (forked.synced, Stop::End));
}

#[test]
fn a_state_ahead_of_the_log_forks_and_keeps_the_old_segments() {
    let rig = Rig::new();
    let mut running = rig.create().unwrap();
    let last = fill(&mut running, 30, 5);
    drop(running);
    let ahead = Lsn(last.0 + 5);
    let survey = rig.survey_with(Some(ahead));
    let reach = survey.reach(EPOCH, ahead);
    assert!(matches!(reach.stop, Stop::Damaged { .. }), "the database proves that more was there: {:?}", reach.stop);
    let forked = rig.fork_at(&survey, &reach);
    assert!(forked.log.done.quarantined.is_empty());
    let survey = rig.survey_with(Some(ahead));
    assert_eq!(survey.reach(EPOCH, ahead).lsn, forked.synced);
    assert!(!survey.reach(EPOCH, Lsn::ZERO).whole());
}

#[test]
fn a_new_segment_size_begins_with_the_next_segment() {
    let mut rig = Rig::new();
    let mut running = rig.create().unwrap();
    fill(&mut running, 10, 4);
    drop(running);
    rig.settings.segment_bytes *= 2;
    let mut resumed = rig.resume().unwrap();
    fill(&mut resumed, 60, 5);
    let sizes: Vec<u64> = resumed.log.segments.list().iter().map(|s| s.bytes).collect();
    assert!(sizes.starts_with(&[SMALL.segment_bytes]) && sizes.ends_with(&[SMALL.segment_bytes * 2]), "{sizes:?}");
    assert_eq!(rig.survey().problems().len(), 0);
}

#[test]
fn create_refuses_a_log_with_records_and_takes_an_empty_one() {
    let rig = Rig::new();
    drop(rig.create().unwrap());
    let mut again = rig.create().unwrap();
    again.commit(&["a"], 1).unwrap();
    drop(again);
    assert!(matches!(rig.create(), Err(StoreError::Refused { .. })));
    let tiny = Settings { segment_bytes: 1000, spares: 0, reserve: 0, version: VERSION };
    assert!(matches!(Rig::on(SimDisk::new(), tiny).create(), Err(StoreError::Refused { .. })));
}

// I7
#[test]
fn a_survey_changes_nothing() {
    let rig = Rig::new();
    let mut running = rig.create().unwrap();
    let last = fill(&mut running, 30, 6);
    running.write(&["unsynced"], 10).unwrap();
    drop(running);
    let before = rig.machine.tree_hash();
    let ops = rig.machine.ops();
    let survey = rig.survey();
    let reach = survey.reach(EPOCH, Lsn::ZERO);
    rig.read_to(&survey, reach.lsn);
    assert_eq!(reach.lsn, last.next());
    assert_eq!((rig.machine.tree_hash(), rig.machine.ops()), (before, ops));
}

#[test]
fn the_control_file_survives_any_one_damage_and_never_goes_back() {
    let rig = Rig::new();
    let control = Control::create(&rig.data, ControlState::new(STORE)).unwrap();
    control.update(|s| (s.uidvalidity_high, s.object_id_high, s.lowest_segment) = (500, 900, 3)).unwrap();
    control.note(|s| s.highest_segment = 9).unwrap();
    control.update(|s| s.uidvalidity_high = 1).unwrap();
    let good = rig.data.peek(CONTROL_FILE).unwrap();
    assert_eq!(good.len(), 8192);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        let disk = SimDisk::new();
        disk.plant(CONTROL_FILE, &bad).unwrap();
        let loaded = Control::load(&disk).unwrap();
        assert_eq!(loaded.problems.len(), 1, "byte {at}");
        let state = loaded.state.unwrap();
        assert_eq!((state.uidvalidity_high, state.object_id_high, state.lowest_segment), (500, 900, 3), "byte {at}");
    }
    for len in [0, 1, 4095, 4096, 8191, 8193] {
        let disk = SimDisk::new();
        let mut cut = good.clone();
        cut.resize(len, 0);
        disk.plant(CONTROL_FILE, &cut).unwrap();
        let loaded = Control::load(&disk).unwrap();
        assert!(!loaded.problems.is_empty() && loaded.exists);
    }
    assert!(Control::load(&SimDisk::new()).unwrap().state.is_none());
}

#[test]
fn a_control_write_that_fails_is_the_last_one() {
    let rig = Rig::new();
    let control = Control::create(&rig.data, ControlState::new(STORE)).unwrap();
    rig.machine.fail_at(rig.machine.ops() + 2, Fault::Eio);
    assert!(control.update(|s| s.uidvalidity_high = 7).is_err());
    assert_eq!(control.state().uidvalidity_high, 0);
    assert!(matches!(control.update(|s| s.uidvalidity_high = 8), Err(StoreError::Poisoned { .. })));
    assert!(rig.data.open(CONTROL_FILE, Access::Read).is_ok());
}
