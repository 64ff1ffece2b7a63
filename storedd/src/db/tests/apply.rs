//! What a checkpoint writes.

use super::*;

// I5
#[test]
fn rows_counts_and_digests_follow_a_model_under_random_changes() {
    let home = Home::new();
    let mut db = home.open();
    let mut model = Model::new();
    let mut dice = Dice(1);
    for round in 1..=60 {
        let mut changes = BTreeMap::new();
        let dense = dice.below(3) == 0;
        for i in 0..dice.below(300) {
            let table = Table::ALL[dice.below(7) as usize];
            let key = if dense { format!("k{round}-{i:04}") } else { format!("key{}", dice.below(400)) };
            let longest = if dice.below(50) == 0 { 9000 } else { 90 };
            let row = vec![dice.below(256) as u8; dice.below(longest) as usize];
            changes.insert((table, key.into_bytes()), (dice.below(4) > 0).then_some(row));
        }
        let put = changes.values().filter(|r| r.is_some()).count() as u64;
        let removed = changes.iter().filter(|(k, r)| r.is_none() && model.contains_key(*k)).count() as u64;
        let rows = changes.iter().map(|((t, k), r)| (*t, k.clone(), r.clone()));
        // Twice: replaying is harmless.
        let applied = db.apply(Lsn(round), Epoch(0), rows.clone()).unwrap();
        assert_eq!((applied.rows_put, applied.rows_removed), (put, removed));
        let again = db.apply(Lsn(round), Epoch(0), rows).unwrap();
        assert_eq!(again.meta, applied.meta);
        for (key, row) in changes {
            match row {
                Some(row) => model.insert(key, row),
                None => model.remove(&key),
            };
        }
        assert_eq!(content(&db), model, "round {round}");
        if round % 10 == 0 {
            drop(db);
            db = home.open();
            assert_eq!(db.reader().unwrap().meta(), &applied.meta);
        }
    }
}

#[test]
fn digests_depend_on_no_order_and_vanish_with_the_rows() {
    let (one, two) = (Home::new(), Home::new());
    let (a, b) = (one.open(), two.open());
    let keys: Vec<String> = (0..50).map(|i| format!("{i:03}")).collect();
    a.apply(Lsn(50), Epoch(0), keys.iter().map(|k| put(Table::Past, k, k))).unwrap();
    for (i, key) in keys.iter().rev().enumerate() {
        b.apply(Lsn(i as u64 + 1), Epoch(0), [put(Table::Past, key, "first")]).unwrap();
        b.apply(Lsn(i as u64 + 1), Epoch(0), [put(Table::Past, key, key)]).unwrap();
    }
    assert_eq!(a.reader().unwrap().meta(), b.reader().unwrap().meta());
    let gone = b.apply(Lsn(51), Epoch(0), keys.iter().map(|k| (Table::Past, k.clone(), None::<Vec<u8>>))).unwrap();
    assert_eq!(gone.meta.tables, [TableMeta::default(); Table::ALL.len()]);
}

#[test]
fn the_same_row_elsewhere_has_another_digest() {
    let mut scratch = Vec::new();
    let one = schema::digest(Table::Users, b"ab", b"c", &mut scratch);
    assert_ne!(one, schema::digest(Table::Users, b"a", b"bc", &mut scratch));
    assert_ne!(one, schema::digest(Table::Past, b"ab", b"c", &mut scratch));
}

// I1, I3
#[test]
fn an_lsn_never_goes_back_within_its_epoch() {
    let home = Home::new();
    let mut db = home.open();
    let none: [Row; 0] = [];
    db.apply(Lsn(5), Epoch(1), none.clone()).unwrap();
    for (lsn, epoch) in [(4, 1), (9, 0)] {
        assert_eq!(db.apply(Lsn(lsn), Epoch(epoch), none.clone()).unwrap_err().code(), "bug");
        assert_eq!(db.reader().unwrap_err().code(), "busy", "undecided until reopened");
        assert_eq!(db.reopen().unwrap().applied_lsn, Lsn(5));
    }
    assert_eq!(db.apply(Lsn(5), Epoch(1), none.clone()).unwrap().meta.applied_lsn, Lsn(5));
    assert_eq!(db.apply(Lsn(4), Epoch(2), none).unwrap().meta.epoch, Epoch(2));
}

#[test]
fn rows_out_of_order_or_limits_change_nothing() {
    let home = Home::new();
    let mut db = home.open();
    let long = "k".repeat(2049);
    let bad: Vec<Vec<Row>> = vec![
        vec![put(Table::Users, "b", ""), put(Table::Users, "a", "")],
        vec![put(Table::Users, "b", ""), put(Table::Users, "b", "")],
        vec![put(Table::Mailboxes, "b", ""), put(Table::Users, "c", "")],
        vec![put(Table::Users, "b", ""), put(Table::Users, "", "")],
        vec![put(Table::Users, &long, "")],
        vec![(Table::Users, vec![1], Some(vec![0; (16 << 20) + 1]))],
    ];
    for rows in bad {
        assert_eq!(db.apply(Lsn(1), Epoch(0), rows).unwrap_err().code(), "bug");
        assert_eq!(db.reopen().unwrap().applied_lsn, Lsn::ZERO);
        assert_eq!(content(&db), Model::new());
    }
    db.apply(Lsn(1), Epoch(0), [put(Table::Users, &long[1..], "")]).unwrap();
}

#[test]
fn a_panic_of_the_caller_is_a_bug_and_commits_nothing() {
    let home = Home::new();
    let mut db = home.open();
    let rows = (0..100).map(|i| if i < 50 { put(Table::Users, &format!("{i:03}"), "row") } else { panic!("caller") });
    let e = db.apply(Lsn(1), Epoch(0), rows).unwrap_err();
    assert!(matches!(&e, StoreError::Bug(text) if text.contains("caller")), "{e}");
    assert_eq!(db.reopen().unwrap().applied_lsn, Lsn::ZERO);
    assert_eq!(content(&db), Model::new());
    db.apply(Lsn(1), Epoch(0), [put(Table::Users, "a", "row")]).unwrap();
    assert_eq!(content(&db).len(), 1);
}

#[test]
fn long_runs_of_new_rows_land_between_old_ones() {
    let home = Home::new();
    let db = home.open();
    let old = |i: u32| format!("{:06}", i * 1000);
    let mut model = Model::new();
    let mut apply = |lsn, rows: Vec<Row>| {
        for (table, key, row) in rows.clone() {
            model.insert((table, key), row.unwrap());
        }
        db.apply(Lsn(lsn), Epoch(0), rows).unwrap();
        assert!(content(&db) == model);
    };
    apply(1, (0..40).map(|i| put(Table::Mailboxes, &old(i), "old")).collect());
    // Runs of 30 in each gap, with the old row between them replaced in the same commit.
    apply(
        2,
        (0..40)
            .flat_map(|i| (0..30).map(move |j| put(Table::Mailboxes, &format!("{:06}", i * 1000 + j * 7), "new")))
            .collect(),
    );
    apply(3, (0..5000).map(|i| put(Table::Subscriptions, &format!("{i:06}"), "bulk")).collect());
}
