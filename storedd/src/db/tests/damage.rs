//! Damage: nothing of it passes for data, and looking at it changes nothing.

use super::*;
use crate::disk::SimDisk;

const LSNS: [Lsn; 2] = [Lsn(7), Lsn(9)];

/// A file with two checkpoints in it, and what it held after each.
struct Sample {
    bytes: Vec<u8>,
    after: [(Meta, Model); 2],
}

fn sample() -> Sample {
    let sim = SimDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    Db::create(&disk, FILE, STORE, Epoch(0), Lsn::ZERO).unwrap();
    let db = Db::open(&disk, FILE, small()).unwrap();
    let after = LSNS.map(|lsn| {
        let rows =
            (0..60).map(|i| put(Table::ALL[i / 9], &format!("key {i:02}"), &format!("row {i} of {lsn}").repeat(9)));
        let meta = db.apply(lsn, Epoch(0), rows).unwrap().meta;
        (meta, content(&db))
    });
    drop(db);
    Sample { bytes: sim.peek(FILE).unwrap(), after }
}

/// What was seen of damaged files.
#[derive(Debug, Default)]
struct Tally {
    cases: u64,
    refused: u64,
    same: u64,
    /// The commit before: only damage of the header leads there, and the applied LSN says it.
    before: u64,
}

impl Tally {
    /// Judges one damaged file: refused, or exactly what was stored. Whatever is done, no panic and no byte changed (I7).
    fn judge(&mut self, sample: &Sample, damaged: &[u8], case: &str) {
        self.cases += 1;
        let sim = SimDisk::new();
        sim.plant(FILE, damaged).unwrap();
        let disk: Arc<dyn Disk> = Arc::new(sim.clone());
        let examined = Db::examine(&disk, FILE, Some(STORE), None);
        assert!(sim.peek(FILE).unwrap() == damaged, "{case}: changed");
        assert_eq!(sim.ops(), 0, "{case}");
        let meta = match examined {
            Ok(meta) => meta,
            Err(e) => {
                assert!(matches!(e.code(), "corrupt" | "foreign"), "{case}: {e}");
                self.refused += 1;
                return;
            }
        };
        let db = Db::open(&disk, FILE, small()).unwrap_or_else(|e| panic!("{case}: {e}"));
        let [old, new] = &sample.after;
        if meta == new.0 {
            assert!(content(&db) == new.1, "{case}: wrong rows");
            self.same += 1;
        } else {
            assert!(meta == old.0 && content(&db) == old.1, "{case}: wrong rows");
            self.before += 1;
        }
        // What it rests on can be built upon.
        db.apply(Lsn(11), Epoch(0), [put(Table::Users, "new", "row")]).unwrap_or_else(|e| panic!("{case}: {e}"));
        assert_eq!(content(&db).len(), old.1.len() + 1, "{case}");
    }

    fn bytes(&mut self, sample: &Sample, places: impl Iterator<Item = usize>) {
        let mut damaged = sample.bytes.clone();
        for at in places {
            let whole = sample.bytes[at];
            for byte in [whole ^ (1 << (at % 8)), 0, 0xff] {
                if byte != whole {
                    damaged[at] = byte;
                    self.judge(sample, &damaged, &format!("byte {at}: {byte:02x} for {whole:02x}"));
                }
            }
            damaged[at] = whole;
        }
    }
}

/// Panics inside redb are answers here; their stories would fill the screen.
fn quietly<T>(f: impl FnOnce() -> T) -> T {
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !catching() {
                hook(info);
            }
        }));
    });
    f()
}

/// Places that are not zero, which are those in use.
fn used(sample: &Sample) -> Vec<usize> {
    (0..sample.bytes.len()).filter(|at| sample.bytes[*at] != 0).collect()
}

// I7
#[test]
fn damaged_bytes_are_refused_or_harmless() {
    let sample = sample();
    let used = used(&sample);
    let mut tally = Tally::default();
    quietly(|| {
        tally.bytes(&sample, 0..320);
        tally.bytes(&sample, used.iter().copied().step_by(61));
        tally.bytes(&sample, (0..sample.bytes.len()).step_by(16_411));
    });
    println!("{} bytes, {} in use: {tally:?}", sample.bytes.len(), used.len());
    assert!(tally.refused > 100 && tally.before < 100, "{tally:?}");
}

#[test]
#[ignore = "many minutes, every byte in use: run by hand, cargo test -p storedd-core damaged_byte -- --ignored"]
fn every_damaged_byte_is_refused_or_harmless() {
    let sample = sample();
    let mut tally = Tally::default();
    quietly(|| tally.bytes(&sample, used(&sample).into_iter()));
    println!("{tally:?}");
}

#[test]
fn a_cut_file_is_refused() {
    let sample = sample();
    let mut tally = Tally::default();
    let len = sample.bytes.len();
    quietly(|| {
        for cut in (1..400).chain((1..len).step_by(9_973)).chain(len - 5..len) {
            tally.judge(&sample, &sample.bytes[..cut], &format!("cut to {cut}"));
        }
    });
    assert_eq!(tally.refused, tally.cases, "{tally:?}");
}

#[test]
fn zeroed_and_swapped_pages_are_refused_or_harmless() {
    let sample = sample();
    let mut tally = Tally::default();
    let page = |n: usize| n * 4096..(n + 1) * 4096;
    let pages: Vec<usize> = (0..sample.bytes.len() / 4096).filter(|n| sample.bytes[page(*n)] != [0; 4096]).collect();
    quietly(|| {
        for pair in pages.windows(2) {
            let mut damaged = sample.bytes.clone();
            damaged[page(pair[0])].fill(0);
            tally.judge(&sample, &damaged, &format!("page {} zeroed", pair[0]));
            damaged[page(pair[0])].copy_from_slice(&sample.bytes[page(pair[1])]);
            damaged[page(pair[1])].copy_from_slice(&sample.bytes[page(pair[0])]);
            tally.judge(&sample, &damaged, &format!("pages {} and {} swapped", pair[0], pair[1]));
        }
    });
    assert!(tally.refused > 10, "{tally:?}");
}

// A row damaged while the database is open: each way to read it says so, and no other row suffers.
#[test]
fn a_damaged_row_is_named_by_every_way_to_read_it() {
    let home = Home::new();
    let db = home.open();
    db.apply(Lsn(1), Epoch(0), (0..300).map(|i| put(Table::Users, &format!("user {i:03}"), "row"))).unwrap();
    db.close().unwrap();
    let raw = redb::Database::open(home.dir.path().join(FILE)).unwrap();
    let txn = raw.begin_write().unwrap();
    {
        let mut table = txn.open_table(schema::definition(Table::Users)).unwrap();
        table.insert(&b"user 007"[..], &[1, b'r', 0, 0, 0, 0][..]).unwrap();
        for i in 100..250 {
            table.insert(format!("user {i:03}").as_bytes(), &[1][..]).unwrap();
        }
        table.remove(&b"user 020"[..]).unwrap();
        table.insert(&b"user 999"[..], &[1][..]).unwrap();
        let mut table = txn.open_table(schema::definition(Table::Past)).unwrap();
        let mut value = Vec::new();
        envelope::seal(Table::Past as u8, b"new", b"row", &mut value);
        table.insert(&b"new"[..], value.as_slice()).unwrap();
    }
    txn.commit().unwrap();
    drop(raw);
    let e = Db::examine(&home.disk, FILE, Some(STORE), None).unwrap_err();
    assert!(e.to_string().contains("number of rows of table past"), "{e}");

    let db = Db::open(&home.disk, FILE, small()).unwrap();
    let reader = db.reader().unwrap();
    let e = reader.get(Table::Users, b"user 007").unwrap_err();
    assert!(e.to_string().contains("row of table users, key user 007"), "{e}");
    assert_eq!(reader.get(Table::Users, b"user 008").unwrap().as_deref(), Some(&b"row"[..]));
    let all = reader.range(Table::Users, std::ops::Bound::Unbounded, std::ops::Bound::Unbounded).unwrap();
    let (good, bad): (Vec<_>, Vec<_>) = all.partition(Result::is_ok);
    assert_eq!((good.len(), bad.len()), (148, 152));

    let report = check(&reader, &mut |_| true);
    assert_eq!((report.rows, report.total, report.findings.len()), (301, 153, 100));
    assert_eq!(report.findings[0].key, "user 007");
    assert_eq!((report.findings[0].table, report.findings[0].what), (Table::Users, "row"));
    assert!(report.findings[0].file.ends_with(FILE));
    let e = db.apply(Lsn(2), Epoch(0), [put(Table::Users, "user 007", "new")]).unwrap_err();
    assert!(e.to_string().contains("key user 007"), "a damaged row is not simply covered: {e}");
}

// Rows that vanish, or come from elsewhere, with everything around them whole.
#[test]
fn a_lost_and_an_exchanged_row_show_in_counts_and_digests() {
    for exchange in [false, true] {
        let home = Home::new();
        let db = home.open();
        db.apply(Lsn(1), Epoch(0), [put(Table::Quotas, "a", "1"), put(Table::Quotas, "b", "2")]).unwrap();
        db.close().unwrap();
        let raw = redb::Database::open(home.dir.path().join(FILE)).unwrap();
        let txn = raw.begin_write().unwrap();
        let mut value = Vec::new();
        envelope::seal(Table::Quotas as u8, b"b", b"an older row", &mut value);
        {
            let mut table = txn.open_table(schema::definition(Table::Quotas)).unwrap();
            table.remove(&b"b"[..]).unwrap();
            if exchange {
                table.insert(&b"b"[..], value.as_slice()).unwrap();
            }
        }
        txn.commit().unwrap();
        drop(raw);
        let db = Db::open(&home.disk, FILE, small()).unwrap();
        let report = check(&db.reader().unwrap(), &mut |_| true);
        assert_eq!(report.total, 1, "{report:?}");
        assert_eq!(report.findings[0].what, if exchange { "digest" } else { "number of rows" });
        assert_eq!((report.findings[0].table, report.findings[0].key.as_str()), (Table::Quotas, ""));
    }
}

// S15: Damage that comes after the file was examined: redb compares no checksum then, and a damaged branch would hide rows.
#[test]
fn damage_under_an_open_database_gives_no_wrong_answer() {
    let sim = SimDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    Db::create(&disk, FILE, STORE, Epoch(0), Lsn::ZERO).unwrap();
    let db = Db::open(&disk, FILE, small()).unwrap();
    let key = |i: u32| format!("key {i:05}");
    let rows = |lsn: u64| (0..2000).map(move |i| put(Table::Users, &key(i), &format!("row {i} of {lsn}").repeat(3)));
    db.apply(Lsn(1), Epoch(0), rows(1)).unwrap();
    db.close().unwrap();
    let whole = sim.peek(FILE).unwrap();
    let used: Vec<usize> = (4096..whole.len()).filter(|at| whole[*at] != 0).collect();
    let (mut dice, mut right, mut refused) = (Dice(3), 0, 0);
    let cases = std::env::var("DAMAGE_CASES").map_or(150, |n| n.parse().unwrap());
    quietly(|| {
        for case in 0..cases {
            let sim = SimDisk::new();
            sim.plant(FILE, &whole).unwrap();
            let disk: Arc<dyn Disk> = Arc::new(sim.clone());
            let examined = Db::examine_for_open(&disk, FILE, Some(STORE), None).unwrap();
            let db = examined.open(&disk, FILE, Options { cache_bytes: 0, pace: None }).unwrap();
            let at = used[dice.below(used.len() as u64) as usize];
            let byte = [0, 0xff, whole[at] ^ 1][case % 3];
            sim.poke(FILE, at as u64, &[byte]).unwrap();
            let read = || -> Result<()> {
                let reader = db.reader()?;
                for i in (0..2000).step_by(7) {
                    let row = reader.get(Table::Users, key(i).as_bytes())?;
                    assert!(row.unwrap() == format!("row {i} of 1").repeat(3).as_bytes(), "byte {at}: {byte:02x}");
                }
                let report = check(&reader, &mut |_| true);
                assert!(report.total == 0 || byte != whole[at]);
                if report.total == 0 { Ok(()) } else { Err(StoreError::Bug("seen by the check".to_owned())) }
            };
            let (was_read, applied) = (read(), db.apply(Lsn(2), Epoch(0), rows(2)));
            match (was_read, applied) {
                (Ok(()), Ok(_)) => {
                    assert_eq!(content(&db).len(), 2000);
                    right += 1;
                }
                (Ok(()), Err(e)) | (Err(e), _) => {
                    assert!(matches!(e.code(), "corrupt" | "bug"), "byte {at} {byte:02x}: {e}");
                    refused += 1;
                }
            }
        }
    });
    println!("{right} right, {refused} refused");
    assert!(right > 0 && refused > right);
}

// Between the examination and the first read.
#[test]
fn a_page_is_compared_with_what_was_examined() {
    let sample = sample();
    let sim = SimDisk::new();
    sim.plant(FILE, &sample.bytes).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    let (mut pages, mut rows) = (0, 0);
    for at in used(&sample).into_iter().filter(|at| *at >= 4096).step_by(211) {
        for examined in [true, false] {
            sim.plant(FILE, &sample.bytes).unwrap();
            let seen = Db::examine_for_open(&disk, FILE, Some(STORE), None).unwrap();
            sim.damage(FILE, at as u64, 0x10).unwrap();
            let open =
                |options| if examined { seen.open(&disk, FILE, options) } else { Db::open(&disk, FILE, options) };
            let Err(e) = quietly(|| {
                let db = open(small())?;
                let reader = db.reader()?;
                let all = |t| {
                    reader
                        .range(t, std::ops::Bound::Unbounded, std::ops::Bound::Unbounded)?
                        .try_for_each(|r| r.map(drop))
                };
                Table::ALL.into_iter().try_for_each(all)
            }) else {
                continue;
            };
            let page = e.to_string().contains("page at offset") && e.to_string().contains("found other bytes");
            assert!(page || !examined, "byte {at}: {e}");
            pages += u32::from(page);
            rows += u32::from(e.to_string().contains("row of table"));
        }
    }
    assert!(pages > 20 && rows > 20, "{pages} pages, {rows} rows");
}
