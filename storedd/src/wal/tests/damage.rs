//! Every byte of a log changed, pages zeroed and swapped, files cut, removed, swapped, exchanged for foreign and older
//! ones. Nothing of it may panic, and nothing acknowledged may be lost without being named (rows 29, 38).

use super::*;
use crate::error::StoreError;
use std::collections::BTreeMap;

/// A log and what is true about it.
struct Sample {
    rig: Rig,
    /// Key by LSN; seals have none.
    truth: BTreeMap<Lsn, Vec<u8>>,
    /// Highest LSN acknowledged.
    last: Lsn,
    /// First LSN of the last group, if no seal follows it: a loss from here on cannot be noticed.
    open_from: Option<Lsn>,
    /// Offset, end and LSN of every record of the last segment.
    records: Vec<(u64, u64, Lsn)>,
}

/// What came of a damage.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Nothing is lost and nothing is said.
    Same,
    /// Nothing is lost; what is wrong is named.
    Named,
    /// Something is lost, and it is named what and where.
    Told,
    /// Lost without a word.
    Silent,
}

impl Sample {
    fn new(rig: Rig, last: Lsn, open_from: Option<Lsn>) -> Sample {
        let truth = rig.read().into_iter().collect();
        let survey = rig.survey();
        assert_eq!(survey.problems().len(), 0);
        let active = survey.segments.last().unwrap().number;
        let mut records = Vec::new();
        replay(rig.disk.as_ref(), &survey, EPOCH, Lsn::ZERO, last, &mut |r| {
            if r.segment == active {
                records.push((r.offset, r.offset + (RECORD_HEADER_BYTES + r.payload.len()) as u64, r.lsn));
            }
            Ok(())
        })
        .unwrap();
        Sample { rig, truth, last, open_from, records }
    }

    /// One segment, three groups.
    fn small(seal: bool) -> Sample {
        let rig = Rig::new();
        let mut running = rig.create().unwrap();
        running.commit(&["a", "b"], 20).unwrap();
        running.commit(&["c"], 60).unwrap();
        running.commit(&["d", "e"], 30).unwrap();
        let last = if seal { running.seal().unwrap() } else { running.synced };
        drop(running);
        Sample::new(rig, last, if seal { Some(last) } else { Some(Lsn(4)) })
    }

    /// Four segments, stopped in order or not.
    fn large(stop: bool) -> Sample {
        let rig = Rig::new();
        let mut running = rig.create().unwrap();
        while running.log.segments.list().len() < 4 {
            running.commit(&["x", "y"], 1500).unwrap();
        }
        let first = running.commit(&["z"], 100).unwrap();
        let last = if stop { running.stop().unwrap() } else { first };
        Sample::new(rig, last, (!stop).then_some(first))
    }

    fn files(&self) -> Vec<String> {
        self.rig.survey().segments.into_iter().map(|s| s.file).collect()
    }

    /// Looks at the present state of the disk: no reader may panic, none may invent.
    fn outcome(&self) -> (Outcome, Survey, Reach) {
        let survey = self.rig.survey();
        let reach = survey.reach(EPOCH, Lsn::ZERO);
        let check = |record: &RecordRef<'_>| {
            record.for_each_change(&mut |change| {
                let (Change::Put { key, .. } | Change::Remove { key, .. }) = change else { panic!("{change:?}") };
                assert_eq!(self.truth.get(&record.lsn).map(Vec::as_slice), Some(&*key), "invented LSN {}", record.lsn);
                Ok(())
            })
        };
        let read = replay(self.rig.disk.as_ref(), &survey, EPOCH, Lsn::ZERO, reach.lsn, &mut { check }).unwrap();
        assert_eq!(read.records, reach.lsn.0);
        salvage(self.rig.disk.as_ref(), &survey, &reach, &mut { check }).unwrap();
        let said = !survey.problems().is_empty();
        let outcome = match (reach.lsn >= self.last, said || !reach.whole()) {
            (true, false) => Outcome::Same,
            (true, true) => Outcome::Named,
            (false, true) => Outcome::Told,
            (false, false) => Outcome::Silent,
        };
        (outcome, survey, reach)
    }

    /// The disk with one file exchanged for as long as `look` runs.
    fn with_file<T>(&self, file: &str, bytes: &[u8], look: impl FnOnce() -> T) -> T {
        let disk = self.rig.log_disk();
        let before = disk.peek(file).unwrap();
        disk.plant(file, bytes).unwrap();
        let answer = look();
        disk.plant(file, &before).unwrap();
        answer
    }
}

/// Every byte of a one-segment log: flipped, zero, all ones.
fn every_byte(sample: &Sample, stride_behind: usize) -> BTreeMap<String, u64> {
    let disk = sample.rig.log_disk();
    let file = file_name(1);
    let good = disk.peek(&file).unwrap();
    let end = sample.records.last().unwrap().1 as usize;
    let mut counts = BTreeMap::new();
    let behind = (end..good.len()).step_by(stride_behind);
    for at in (0..end).chain(behind) {
        for bad in [good[at] ^ 0x10, 0, 0xff] {
            disk.poke(&file, at as u64, &[bad]).unwrap();
            let (outcome, survey, reach) = sample.outcome();
            if bad == good[at] {
                assert_eq!(outcome, Outcome::Same);
                continue;
            }
            let place = judge_byte(sample, at as u64, &outcome, &survey, &reach);
            *counts.entry(format!("{place}: {outcome:?}")).or_insert(0) += 1;
        }
        disk.poke(&file, at as u64, &[good[at]]).unwrap();
    }
    counts
}

/// What one changed byte must lead to, exactly.
fn judge_byte(sample: &Sample, at: u64, outcome: &Outcome, survey: &Survey, reach: &Reach) -> &'static str {
    let segment = &survey.segments[0];
    let hit = sample.records.iter().find(|(from, to, _)| (*from..*to).contains(&at));
    if at < SEGMENT_HEADER_BYTES {
        assert_eq!((outcome, segment.damages[0].offset, reach.lsn), (&Outcome::Named, 0, sample.last), "byte {at}");
        return "header page";
    }
    let Some((offset, _, lsn)) = hit else {
        assert!(matches!(segment.end, End::Torn { .. }), "byte {at}: {:?}", segment.end);
        assert_eq!(reach.lsn, sample.last);
        return "behind the end";
    };
    assert_eq!(reach.lsn.next(), *lsn, "byte {at}");
    if sample.open_from.is_some_and(|open| *lsn >= open) {
        let End::Torn { offset: torn, bytes, .. } = segment.end else { panic!("byte {at}: {:?}", segment.end) };
        assert!(torn == *offset && bytes > 0, "byte {at}: its bytes are reported");
        return "last unsealed group";
    }
    assert_eq!((outcome, segment.damages[0].offset), (&Outcome::Told, *offset), "byte {at}");
    assert!(matches!(&reach.stop, Stop::Damaged { damage, .. } if damage.lsn == Some(*lsn)), "byte {at}");
    let rest = salvage(sample.rig.disk.as_ref(), survey, reach, &mut |_| Ok(())).unwrap();
    assert_eq!(rest.records, sample.last.0 - lsn.0, "byte {at}: everything behind is found again");
    // A database state behind the damage loses nothing.
    let ahead = survey.reach(EPOCH, *lsn);
    assert!(ahead.lsn == sample.last && ahead.whole(), "byte {at}: {ahead:?}");
    "record"
}

// row 38
#[test]
fn every_changed_byte_is_named_or_lies_in_the_last_unsealed_group() {
    for seal in [false, true] {
        let sample = Sample::small(seal);
        println!("seal {seal}: {:?}", every_byte(&sample, 97));
    }
}

// row 38
#[test]
fn changed_bytes_of_a_log_of_several_segments() {
    for stop in [false, true] {
        let sample = Sample::large(stop);
        let disk = sample.rig.log_disk();
        let mut silent = 0;
        for file in sample.files() {
            let good = disk.peek(&file).unwrap();
            for at in (0..100).chain(4090..4200).chain((4200..good.len()).step_by(131)) {
                for bad in [good[at] ^ 1, 0, 0xff] {
                    disk.poke(&file, at as u64, &[bad]).unwrap();
                    let (outcome, _, reach) = sample.outcome();
                    if outcome == Outcome::Silent {
                        silent += 1;
                        assert!(sample.open_from.is_some_and(|open| reach.lsn.next() >= open), "{file} {at}");
                    }
                }
                disk.poke(&file, at as u64, &[good[at]]).unwrap();
            }
        }
        assert!(!stop || silent == 0, "after a clean stop nothing is open to doubt");
    }
}

// row 38: a shorter file is damage at any length.
#[test]
fn every_truncation_is_named() {
    let sample = Sample::small(true);
    let good = sample.rig.log_disk().peek(&file_name(1)).unwrap();
    for len in (0..4700).chain((4700..good.len()).step_by(211)) {
        sample.with_file(&file_name(1), &good[..len], || {
            let (outcome, survey, _) = sample.outcome();
            assert!(matches!(outcome, Outcome::Told | Outcome::Named), "{len}: {outcome:?} {survey:?}");
        });
    }
    let mut longer = good.clone();
    longer.push(1);
    let outcome = sample.with_file(&file_name(1), &longer, || sample.outcome().0);
    assert_eq!(outcome, Outcome::Named);
}

#[test]
fn zeroed_and_swapped_pages_are_named() {
    let sample = Sample::large(true);
    let disk = sample.rig.log_disk();
    for file in sample.files() {
        let good = disk.peek(&file).unwrap();
        for page in [512, 4096] {
            let pages = good.len() / page;
            for a in 0..pages {
                let mut zeroed = good.clone();
                zeroed[a * page..(a + 1) * page].fill(0);
                let outcome = sample.with_file(&file, &zeroed, || sample.outcome().0);
                let same = zeroed == good;
                assert_eq!(outcome == Outcome::Same, same, "{file}: page {a} of {page} zeroed: {outcome:?}");
                for b in a + 1..pages {
                    if (a + b) % 5 != 0 {
                        continue;
                    }
                    let mut swapped = good.clone();
                    swapped.copy_within(a * page..(a + 1) * page, b * page);
                    swapped[a * page..(a + 1) * page].copy_from_slice(&good[b * page..(b + 1) * page]);
                    let outcome = sample.with_file(&file, &swapped, || sample.outcome().0);
                    assert_ne!(outcome, Outcome::Silent, "{file}: pages {a} and {b} of {page} swapped");
                    assert_eq!(
                        outcome == Outcome::Same,
                        swapped == good,
                        "{file}: pages {a} and {b} of {page} swapped"
                    );
                }
            }
        }
    }
}

// row 29: first, middle, last and all; exactly the missing files are named.
#[test]
fn missing_segments_are_named_and_no_others() {
    let sample = Sample::large(false);
    let files = sample.files();
    let disk = sample.rig.log_disk();
    for mask in 1_u32..1 << files.len() {
        let gone: Vec<String> =
            files.iter().enumerate().filter(|(n, _)| mask >> n & 1 == 1).map(|f| f.1.clone()).collect();
        let kept: Vec<(String, Vec<u8>)> = gone.iter().map(|f| (f.clone(), disk.peek(f).unwrap())).collect();
        gone.iter().for_each(|file| disk.erase(file).unwrap());
        let survey = sample.rig.survey();
        assert_eq!(survey.missing_files(), gone);
        assert!(matches!(&survey.problems()[0], StoreError::Missing { files } if *files == gone));
        let reach = survey.reach(EPOCH, Lsn::ZERO);
        assert!(matches!(&reach.stop, Stop::Missing(files) if gone.starts_with(files)), "{:?}", reach.stop);
        kept.iter().for_each(|(file, bytes)| disk.plant(file, bytes).unwrap());
        // row 30: put back, nothing is lost.
        assert_eq!(sample.outcome().0, Outcome::Same);
    }
}

// row 33: a hole below the segments that the control file asks for still ends the replay and is named.
#[test]
fn a_hole_among_old_segments_is_named_by_the_reach() {
    let sample = Sample::large(false);
    let state = Control::load(&sample.rig.data).unwrap().state.unwrap();
    Control::open(&sample.rig.data, state).unwrap().update(|s| s.lowest_segment = 4).unwrap();
    sample.rig.log_disk().erase(&file_name(2)).unwrap();
    let survey = sample.rig.survey();
    assert!(survey.missing_files().is_empty());
    let reach = survey.reach(EPOCH, Lsn::ZERO);
    assert_eq!(reach.stop, Stop::Missing(vec![file_name(2)]));
    assert!(survey.reach(EPOCH, sample.last).whole(), "older logs than the state are not required");
}

#[test]
fn exchanged_foreign_and_older_segments_are_named() {
    let sample = Sample::large(true);
    let disk = sample.rig.log_disk();
    let files = sample.files();
    let bytes: Vec<Vec<u8>> = files.iter().map(|f| disk.peek(f).unwrap()).collect();
    for (a, file) in files.iter().enumerate() {
        for other in (0..files.len()).filter(|b| *b != a) {
            let outcome = sample.with_file(file, &bytes[other], || sample.outcome().0);
            assert_eq!(outcome, Outcome::Told, "{file} exchanged for {}", files[other]);
        }
        // Of another store.
        let mut foreign = Vec::new();
        let mut header = sample.rig.survey().segments[a].header.clone().unwrap();
        header.store_id = StoreId([9; 16]);
        header.put(&mut foreign);
        foreign.extend_from_slice(&bytes[a][foreign.len()..]);
        sample.with_file(file, &foreign, || {
            let refusal = sample.rig.survey().refusal();
            assert!(matches!(refusal, Some(StoreError::Foreign { what: "store id", .. })), "{file}: {refusal:?}");
        });
        // An older copy: some records short.
        let segment = &sample.rig.survey().segments[a];
        let end = segment.runs[0].end as usize;
        let mut older = bytes[a].clone();
        older[end - 400.min(end - 4096)..].fill(0);
        let outcome = sample.with_file(file, &older, || sample.outcome().0);
        assert_eq!(outcome, Outcome::Told, "{file} exchanged for an older copy");
    }
}

#[test]
fn an_older_log_is_noticed_by_the_database() {
    let sample = Sample::small(false);
    let disk = sample.rig.log_disk();
    let mut older = disk.peek(&file_name(1)).unwrap();
    older[sample.records[2].0 as usize..].fill(0);
    disk.plant(&file_name(1), &older).unwrap();
    let survey = sample.rig.survey_with(Some(Lsn(4)));
    let damage = &survey.segments[0].damages[0];
    assert_eq!((damage.lsn, &damage.proof), (Some(Lsn(3)), &ProvedBy::Database(Lsn(4))));
    assert!(!survey.reach(EPOCH, Lsn::ZERO).whole());
    assert!(matches!(survey.reach(EPOCH, Lsn(4)).stop, Stop::Damaged { .. }));
}

// An unsynced group may leave any of its pages: that is torn, whatever lies behind it.
#[test]
fn whole_records_behind_a_torn_place_prove_nothing() {
    let rig = Rig::new();
    let mut running = rig.create().unwrap();
    running.commit(&["a"], 10).unwrap();
    running.write(&["b", "c", "d"], 600).unwrap();
    drop(running);
    let survey = rig.survey();
    assert_eq!(survey.reach(EPOCH, Lsn::ZERO).lsn, Lsn(4));
    let start = survey.segments[0].runs[0].offset + 38 + 17;
    rig.log_disk().poke(&file_name(1), start + 100, &[0; 8]).unwrap();
    let survey = rig.survey();
    assert!(matches!(survey.segments[0].end, End::Torn { records: 2, .. }), "{:?}", survey.segments[0].end);
    assert!(survey.problems().is_empty());
    let reach = survey.reach(EPOCH, Lsn::ZERO);
    assert_eq!((reach.lsn, reach.stop), (Lsn(1), Stop::Torn));
}

// An unknown kind is never skipped.
#[test]
fn a_record_of_an_unknown_kind_stops_loudly() {
    let sample = Sample::small(false);
    let disk = sample.rig.log_disk();
    let (offset, _, lsn) = sample.records[2];
    let survey = sample.rig.survey();
    let previous = {
        let mut checksum = 0;
        replay(sample.rig.disk.as_ref(), &survey, EPOCH, Lsn::ZERO, Lsn(2), &mut |r| {
            checksum = r.checksum;
            Ok(())
        })
        .unwrap();
        checksum
    };
    let seed = super::super::record::Seed::new(STORE, EPOCH, 1);
    let bytes = super::super::record::put_kind(seed, offset, 9, lsn, previous);
    disk.poke(&file_name(1), offset, &bytes).unwrap();
    let survey = sample.rig.survey();
    assert!(matches!(&survey.segments[0].end, End::Newer(r) if (r.offset, r.lsn, r.kind) == (offset, lsn, 9)));
    assert!(matches!(survey.refusal(), Some(StoreError::Foreign { what: "record kind", .. })));
    let reach = survey.reach(EPOCH, Lsn::ZERO);
    assert!(matches!(reach.stop, Stop::Newer { .. }) && reach.lsn.next() == lsn);
    assert!(sample.rig.resume_at(&survey, &reach).is_err());
}

// A log inside a message: a copy of records in a payload is never taken for records.
#[test]
fn a_copy_of_the_log_inside_a_record_is_not_read() {
    let rig = Rig::new();
    let mut running = rig.create().unwrap();
    running.commit(&["a", "b", "c"], 20).unwrap();
    let (from, to) = {
        let run = &rig.survey().segments[0].runs[0];
        (run.offset as usize, run.end as usize)
    };
    let copy = rig.log_disk().peek(&file_name(1)).unwrap()[from..to].to_vec();
    let mut pieces = Vec::new();
    running.log.encoder.push(Kind::Transaction, &copy, Micros(9999), Lsn(3), &mut pieces).unwrap();
    running.log.writer.write(&pieces).unwrap();
    running.sync().unwrap();
    running.seal().unwrap();
    drop(running);
    // The header of the record that holds the copy is damaged, so its bytes are searched for records.
    rig.log_disk().damage(&file_name(1), to as u64 + 8, 1).unwrap();
    let survey = rig.survey();
    let damage = &survey.segments[0].damages[0];
    assert_eq!((damage.offset, damage.bytes), (to as u64, (38 + copy.len()) as u64));
    assert_eq!(survey.segments[0].runs.len(), 2);
}

// A record of a history that went on differently fits in every number; only the record that it says it follows is another.
#[test]
fn a_record_of_another_history_is_not_taken() {
    let written = |keys: [&str; 3]| {
        let rig = Rig::new();
        let mut running = rig.create().unwrap();
        let ends = keys.map(|key| {
            running.commit(&[key], 20).unwrap();
            running.log.encoder.position().offset
        });
        running.seal().unwrap();
        drop(running);
        (rig, ends)
    };
    let ((rig, ends), (other, others)) = (written(["a", "b", "c"]), written(["x", "y", "z"]));
    assert_eq!(ends, others);
    let strange = &other.log_disk().peek(&file_name(1)).unwrap()[ends[0] as usize..ends[1] as usize];
    rig.log_disk().poke(&file_name(1), ends[0], strange).unwrap();
    let survey = rig.survey();
    let damage = &survey.segments[0].damages[0];
    assert_eq!((damage.offset, damage.what.as_str()), (ends[0], "checksum of the record before"), "{damage:?}");
}

// Random bytes in place of a segment, or behind its header: never a panic, never a hang.
#[test]
fn noise_is_survived() {
    let sample = Sample::large(true);
    let file = file_name(4);
    let good = sample.rig.log_disk().peek(&file).unwrap();
    let env = SimEnv::new(Micros(0), 11);
    for round in 0..200_usize {
        let mut bytes = good.clone();
        let from = if round % 2 == 0 { 4096 + round * 7 } else { round * 3 };
        for chunk in bytes[from..].chunks_mut(16) {
            let random = env.random();
            chunk.copy_from_slice(&random[..chunk.len()]);
            if round % 3 == 0 {
                chunk.iter_mut().for_each(|b| *b = if *b & 1 == 0 { 0xd5 } else { 0xf1 });
            }
        }
        let (outcome, ..) = sample.with_file(&file, &bytes, || sample.outcome());
        assert!(matches!(outcome, Outcome::Told | Outcome::Named), "round {round}: {outcome:?}");
    }
}

// After a damage that the database is ahead of, the log goes on where it is; after one that it is not, it forks.
#[test]
fn life_after_damage() {
    let sample = Sample::small(true);
    let disk = sample.rig.log_disk();
    disk.damage(&file_name(1), sample.records[1].0 + 3, 0x40).unwrap();
    let survey = sample.rig.survey();
    let broken = survey.reach(EPOCH, Lsn::ZERO);
    assert!(sample.rig.resume_at(&survey, &broken).is_err(), "going on would lose what lies behind");
    let ahead = survey.reach(EPOCH, Lsn(2));
    let mut running = sample.rig.resume_at(&survey, &ahead).unwrap();
    let next = running.commit(&["more"], 10).unwrap();
    drop(running);
    assert_eq!(next, sample.last.next());
    let survey = sample.rig.survey();
    assert_eq!(survey.reach(EPOCH, Lsn(2)).lsn, next);
    let broken = survey.reach(EPOCH, Lsn::ZERO);
    let mut forked = sample.rig.fork_at(&survey, &broken);
    forked.commit(&["new"], 10).unwrap();
    let survey = sample.rig.survey();
    assert_eq!(survey.reach(EPOCH, Lsn::ZERO).lsn, forked.synced);
    assert!(matches!(survey.segments[0].end, End::Surplus { .. }));
}

// A damaged header page in front of whole records loses nothing; the log goes on in a new segment.
#[test]
fn a_damaged_header_is_named_and_loses_nothing() {
    let sample = Sample::small(true);
    let disk = sample.rig.log_disk();
    disk.poke(&file_name(1), 0, &[0; 4096]).unwrap();
    let survey = sample.rig.survey();
    let reach = survey.reach(EPOCH, Lsn::ZERO);
    assert!(reach.lsn == sample.last && reach.whole());
    let mut running = sample.rig.resume_at(&survey, &reach).unwrap();
    running.commit(&["more"], 10).unwrap();
    drop(running);
    let survey = sample.rig.survey();
    assert_eq!(survey.segments.len(), 2);
    assert_eq!(survey.problems().len(), 1);
    assert_eq!(survey.reach(EPOCH, Lsn::ZERO).lsn, sample.last.next());
    // With the first record gone too, what lies behind is still found.
    disk.poke(&file_name(1), 4096, &[0; 40]).unwrap();
    let survey = sample.rig.survey();
    let reach = survey.reach(EPOCH, Lsn::ZERO);
    assert!(matches!(reach.stop, Stop::Damaged { .. }) && reach.lsn == Lsn::ZERO, "{reach:?}");
    assert_eq!(salvage(sample.rig.disk.as_ref(), &survey, &reach, &mut |_| Ok(())).unwrap().records, sample.last.0);
}

// After a stop in order a cut file has lost nothing, and the log goes on without a fork.
#[test]
fn a_file_cut_behind_the_last_record_of_a_clean_stop_loses_nothing() {
    let rig = Rig::new();
    let mut running = rig.create().unwrap();
    running.commit(&["a"], 10).unwrap();
    let last = running.stop().unwrap();
    rig.log_disk().truncate(&file_name(1), 9000).unwrap();
    let survey = rig.survey();
    assert_eq!(survey.problems().len(), 1);
    let reach = survey.reach(EPOCH, Lsn::ZERO);
    assert!(reach.lsn == last && reach.whole(), "{reach:?}");
    let mut running = rig.resume_at(&survey, &reach).unwrap();
    assert_eq!(running.commit(&["b"], 10).unwrap(), last.next());
    drop(running);
    assert_eq!(rig.survey().reach(EPOCH, Lsn::ZERO).lsn, last.next());
}

// Numbers that no log reaches, under right checksums: refused, never an overflow.
#[test]
fn absurd_numbers_are_damage() {
    let sample = Sample::small(false);
    let disk = sample.rig.log_disk();
    let good = sample.rig.survey().segments[0].header.clone().unwrap();
    let absurd: [fn(&mut Header); 4] = [
        |h| h.first_lsn = Lsn(u64::MAX),
        |h| h.epoch = Epoch(u64::MAX),
        |h| h.segment_bytes = u64::MAX,
        |h| (h.first_lsn, h.previous_lsn) = (Lsn::ZERO, Lsn::ZERO),
    ];
    for spoil in absurd {
        let (mut header, mut page) = (good.clone(), Vec::new());
        spoil(&mut header);
        header.put(&mut page);
        disk.poke(&file_name(1), 0, &page).unwrap();
        assert_eq!(sample.outcome().0, Outcome::Named, "{header:?}");
    }
    let seed = super::super::record::Seed::new(STORE, EPOCH, 1);
    for lsn in [0, 1 << 62, u64::MAX] {
        let bytes = super::super::record::put_kind(seed, SEGMENT_HEADER_BYTES, 2, Lsn(lsn), 0);
        disk.poke(&file_name(1), SEGMENT_HEADER_BYTES, &bytes).unwrap();
        let _ = sample.rig.survey().reach(EPOCH, Lsn::ZERO);
    }
}
