//! The database room as a whole.

mod apply;
mod copy;
mod crash;
mod damage;

use super::*;
use crate::disk::RealDisk;
use std::collections::BTreeMap;

pub(super) const STORE: StoreId = StoreId([7; 16]);
pub(super) const FILE: &str = "mboxlist.redb";

/// Every row by table and key.
pub(super) type Model = BTreeMap<(Table, Vec<u8>), Vec<u8>>;
pub(super) type Row = (Table, Vec<u8>, Option<Vec<u8>>);

/// A directory on the system's disk that goes away with the value.
pub(super) struct Home {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: tempfile::TempDir,
}

impl Home {
    pub(super) fn empty() -> Home {
        let dir = tempfile::tempdir().unwrap();
        Home { disk: Arc::new(RealDisk::new(dir.path()).unwrap()), dir }
    }

    pub(super) fn new() -> Home {
        let home = Home::empty();
        Db::create(&home.disk, FILE, STORE, Epoch(0), Lsn::ZERO).unwrap();
        home
    }

    pub(super) fn open(&self) -> Db {
        Db::examine(&self.disk, FILE, Some(STORE), None).unwrap();
        Db::open(&self.disk, FILE, small()).unwrap()
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        bytes(&*self.disk)
    }
}

pub(super) fn small() -> Options {
    Options { cache_bytes: 1 << 20, pace: None }
}

pub(super) fn bytes(disk: &dyn Disk) -> Vec<u8> {
    crate::disk::read_small(disk, FILE, 1 << 30).unwrap()
}

pub(super) fn put(table: Table, key: &str, row: &str) -> Row {
    (table, key.as_bytes().to_vec(), Some(row.as_bytes().to_vec()))
}

/// Everything the database holds, each row checked.
pub(super) fn content(db: &Db) -> Model {
    let reader = db.reader().unwrap();
    let report = check(&reader, &mut |_| true);
    assert_eq!(report.findings, []);
    let mut model = Model::new();
    for table in Table::ALL {
        for row in reader.range(table, std::ops::Bound::Unbounded, std::ops::Bound::Unbounded).unwrap() {
            let row = row.unwrap();
            model.insert((table, row.key().to_vec()), row.row().to_vec());
        }
        let rows = model.keys().filter(|(t, _)| *t == table).count();
        assert_eq!(reader.meta().table(table).rows, rows as u64);
    }
    model
}

/// Numbers that look random and repeat with the seed.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % n
    }
}

// row 56
#[test]
fn a_new_database_is_whole_and_empty() {
    let home = Home::new();
    let meta = Db::examine(&home.disk, FILE, Some(STORE), None).unwrap();
    assert_eq!(meta, Meta::empty(SCHEMA_VERSION, STORE, Epoch(0), Lsn::ZERO));
    let db = home.open();
    assert_eq!(content(&db), Model::new());
    assert_eq!(home.disk.list("").unwrap().len(), 1, "no candidate is left");
}

#[test]
fn nothing_is_created_where_something_is() {
    let home = Home::new();
    let before = home.bytes();
    let e = Db::create(&home.disk, FILE, STORE, Epoch(0), Lsn::ZERO).unwrap_err();
    assert_eq!(e.exit(), exit::EXISTS);
    home.disk.create_dir("dir").unwrap();
    assert_eq!(Db::create(&home.disk, "dir", STORE, Epoch(0), Lsn::ZERO).unwrap_err().exit(), exit::EXISTS);
    assert_eq!(home.bytes(), before);
}

// row 57
#[test]
fn a_missing_file_is_named_and_not_made() {
    let home = Home::empty();
    for e in [Db::examine(&home.disk, FILE, None, None).unwrap_err(), Db::open(&home.disk, FILE, small()).unwrap_err()]
    {
        assert!(matches!(&e, StoreError::Missing { files } if files.len() == 1 && files[0].ends_with(FILE)), "{e}");
    }
    assert!(home.disk.list("").unwrap().is_empty());
}

// row 57: an empty file never becomes an empty store.
#[test]
fn an_empty_file_is_damage() {
    let home = Home::empty();
    home.disk.open(FILE, Access::CreateNew).unwrap();
    assert_eq!(Db::examine(&home.disk, FILE, None, None).unwrap_err().code(), "corrupt");
    assert_eq!(Db::open(&home.disk, FILE, small()).unwrap_err().code(), "corrupt");
    assert_eq!(home.disk.stat(FILE).unwrap().unwrap().len, 0);
}

#[test]
fn something_else_in_its_place_is_damage() {
    let home = Home::empty();
    home.disk.create_dir(FILE).unwrap();
    assert_eq!(Db::examine(&home.disk, FILE, None, None).unwrap_err().code(), "corrupt");
    let home = Home::empty();
    crate::disk::replace(&*home.disk, FILE, &[b'x'; 10_000]).unwrap();
    assert_eq!(Db::examine(&home.disk, FILE, None, None).unwrap_err().code(), "corrupt");
}

#[test]
fn the_database_of_another_store_is_foreign() {
    let home = Home::new();
    let e = Db::examine(&home.disk, FILE, Some(StoreId([8; 16])), None).unwrap_err();
    assert!(matches!(&e, StoreError::Foreign { what: "store id", .. }), "{e}");
}

/// A database as a program writes it that knows one schema more.
pub(crate) fn of_a_newer_program() -> Vec<u8> {
    let home = Home::new();
    let path = home.dir.path().join(FILE);
    let db = redb::Database::open(&path).unwrap();
    let txn = db.begin_write().unwrap();
    let mut value = Vec::new();
    envelope::seal(0, b"state", &[SCHEMA_VERSION as u8 + 1, 0, 0, 0, 1], &mut value);
    let meta = redb::TableDefinition::<&[u8], &[u8]>::new("meta");
    txn.open_table(meta).unwrap().insert(&b"state"[..], value.as_slice()).unwrap();
    txn.commit().unwrap();
    drop(db);
    crate::disk::read_small(&*home.disk, FILE, 64 << 20).unwrap()
}

// row 53
#[test]
fn a_newer_schema_and_an_unknown_table_are_refused() {
    let home = Home::empty();
    home.disk.open(FILE, Access::CreateNew).unwrap().write_at(0, &of_a_newer_program()).unwrap();
    for e in [Db::examine(&home.disk, FILE, None, None).unwrap_err(), Db::open(&home.disk, FILE, small()).unwrap_err()]
    {
        assert!(matches!(&e, StoreError::Foreign { what: "schema version", .. }), "{e}");
    }

    let home = Home::new();
    let db = redb::Database::open(home.dir.path().join(FILE)).unwrap();
    let txn = db.begin_write().unwrap();
    txn.open_table(redb::TableDefinition::<&[u8], &[u8]>::new("strange")).unwrap();
    txn.commit().unwrap();
    drop(db);
    let e = Db::examine(&home.disk, FILE, None, None).unwrap_err();
    assert!(matches!(&e, StoreError::Corrupt { found, .. } if found == "strange"), "{e}");
}

// row 57: one table of the seven is gone.
#[test]
fn a_missing_table_is_damage() {
    for table in Table::ALL {
        let home = Home::new();
        let db = redb::Database::open(home.dir.path().join(FILE)).unwrap();
        let txn = db.begin_write().unwrap();
        txn.delete_table(schema::definition(table)).unwrap();
        txn.commit().unwrap();
        drop(db);
        let e = Db::examine(&home.disk, FILE, None, None).unwrap_err();
        assert!(e.to_string().contains(table.name()), "{e}");
        assert_eq!(e.code(), "corrupt");
    }
}

// I7
#[test]
fn examine_changes_no_byte_of_a_clean_a_dropped_and_a_live_looking_file() {
    let home = Home::new();
    let clean = home.bytes();
    Db::examine(&home.disk, FILE, Some(STORE), None).unwrap();
    assert_eq!(home.bytes(), clean);
    let db = home.open();
    db.apply(Lsn(1), Epoch(0), [put(Table::Users, "joe", "row")]).unwrap();
    drop(db);
    let dropped = home.bytes();
    assert_ne!(dropped, clean);
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let progress: Progress = {
        let seen = Arc::clone(&seen);
        Arc::new(move |part| seen.lock().unwrap().push(part))
    };
    assert_eq!(Db::examine(&home.disk, FILE, Some(STORE), Some(progress)).unwrap().applied_lsn, Lsn(1));
    assert_eq!(home.bytes(), dropped);
    let seen = seen.lock().unwrap();
    assert!(!seen.is_empty() && seen.is_sorted() && seen.iter().all(|p| (0.0..=1.0).contains(p)), "{seen:?}");
}

#[test]
fn close_and_drop_keep_what_was_committed() {
    let home = Home::new();
    for (lsn, close) in [(1, true), (2, false), (3, true)] {
        let db = home.open();
        db.apply(Lsn(lsn), Epoch(0), [put(Table::Users, &lsn.to_string(), "row")]).unwrap();
        if close {
            db.close().unwrap()
        } else {
            drop(db)
        }
        let db = home.open();
        assert_eq!(content(&db).len() as u64, lsn);
        assert_eq!(db.reader().unwrap().meta().applied_lsn, Lsn(lsn));
    }
}

#[test]
fn a_reader_keeps_its_moment() {
    let home = Home::new();
    let db = home.open();
    db.apply(Lsn(1), Epoch(0), [put(Table::Users, "joe", "old")]).unwrap();
    let before = Arc::new(db.reader().unwrap());
    db.apply(Lsn(2), Epoch(0), [put(Table::Users, "joe", "new"), put(Table::Users, "sue", "x")]).unwrap();
    let elsewhere = Arc::clone(&before);
    let got = std::thread::spawn(move || elsewhere.get(Table::Users, b"joe").unwrap()).join().unwrap();
    assert_eq!(got.as_deref(), Some(&b"old"[..]));
    assert!(!before.contains(Table::Users, b"sue").unwrap());
    assert_eq!(before.meta().applied_lsn, Lsn(1));
    assert_eq!(db.reader().unwrap().get(Table::Users, b"joe").unwrap().as_deref(), Some(&b"new"[..]));
    assert_eq!(db.reader().unwrap().get(Table::Mailboxes, b"joe").unwrap(), None);
}

#[test]
fn ranges_have_the_bounds_asked_for() {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let home = Home::new();
    let db = home.open();
    let rows: Vec<Row> = ["a", "b", "c", "d"].map(|k| put(Table::Quotas, k, k)).into();
    db.apply(Lsn(1), Epoch(0), rows).unwrap();
    let reader = db.reader().unwrap();
    let keys = |start, end| -> String {
        let range = reader.range(Table::Quotas, start, end).unwrap();
        range.map(|row| String::from_utf8(row.unwrap().row().to_vec()).unwrap()).collect()
    };
    assert_eq!(keys(Unbounded, Unbounded), "abcd");
    assert_eq!(keys(Included(b"b"), Excluded(b"d")), "bc");
    assert_eq!(keys(Excluded(b"b"), Included(b"d")), "cd");
    assert_eq!(keys(Included(b"bb"), Unbounded), "cd");
    assert_eq!(keys(Included(b"d"), Included(b"a")), "", "an inverted range is empty, no panic");
    assert_eq!(keys(Excluded(b"b"), Excluded(b"b")), "");
}

#[test]
fn a_reader_of_a_closed_database_says_so() {
    let home = Home::new();
    let db = home.open();
    db.apply(Lsn(1), Epoch(0), (0..2000).map(|i| put(Table::Users, &format!("{i:05}"), &"r".repeat(100)))).unwrap();
    let reader = db.reader().unwrap();
    db.close().unwrap();
    for i in 0..2000 {
        match reader.get(Table::Users, format!("{i:05}").as_bytes()) {
            Ok(row) => assert_eq!(row.as_deref(), Some("r".repeat(100).as_bytes())),
            Err(e) => assert_eq!(e.code(), "busy", "{e}"),
        }
    }
}
