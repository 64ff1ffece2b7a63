//! A store becomes one of another schema: stopped at every operation of the way up and of the way down, and again in the second
//! attempt. What is found is the old or the new one, with every row, and the same command goes on.

use super::number;
use super::rebuilt::worked;
use super::world::{self, Dump, dump};
use crate::harness::total;
use std::sync::Arc;
use std::time::Duration;
use storedd::db::{self, Db};
use storedd::disk::{Moment, Persist, SimDisk};
use storedd::env::Env;
use storedd::error::StoreError;
use storedd::jobs::snapshots::Settings;
use storedd::jobs::upgrade::{Asked, Done, change_schema};
use storedd::model::rows::quota_key;
use storedd::model::{Command, Table, check};
use storedd::store::decision::Policy;
use storedd::store::{self, OnProgress, Options, Report, Store};

const SETTINGS: Settings = Settings { interval: Duration::from_secs(86_400), keep: 2, verify: true, pace: 1 << 40 };
const DATABASE: &str = "mboxlist.redb";
const NEWEST: u32 = db::SCHEMA_VERSION;

/// `upgrade` or `downgrade enable`.
fn change(machine: &SimDisk, options: &Options, to: u32) -> Result<Done, StoreError> {
    change_with(machine, options, to, true)
}

fn change_with(machine: &SimDisk, options: &Options, to: u32, snapshot: bool) -> Result<Done, StoreError> {
    let disks = world::disks(machine);
    let env: Arc<dyn Env> = world::env(9, 4000);
    let asked = Asked { to: Some(to), snapshot, settings: SETTINGS, told: &mut |_| {}, each: &|_| true };
    let lock = store::take_lock(&disks)?;
    change_schema(&disks, &env, options.clone(), lock, asked, &(Arc::new(|_| {}) as OnProgress))
}

/// Opens the store as a manual recovery does, whatever its schema is.
fn open(machine: &SimDisk, options: &Options) -> Result<(Arc<Store>, Report), StoreError> {
    let disks = world::disks(machine);
    let strict = Policy { strict: true, hold_on_loss: false, accept_loss: false, catastrophic: false };
    let lock = store::take_lock(&disks)?;
    store::open(disks, world::env(9, 8000), options.clone(), lock, strict, &(Arc::new(|_| {}) as OnProgress))
}

/// A store that was killed at work, of an older schema or of the newest; and what it holds.
fn base(seed: u64, schema: u32) -> (SimDisk, Options, Dump) {
    let (mut driver, options) = worked(seed, 64 << 10).unwrap();
    driver.drop_store();
    let machine = driver.machine.image(Persist::Nothing);
    change(&machine, &options, schema).unwrap();
    let (store, _) = open(&machine, &options).unwrap();
    assert_eq!(store.schema(), schema);
    for n in 0..5 {
        store.commit(Command::MailboxCreate { name: format!("shared/late{n}"), partition: None }).unwrap();
    }
    store.commit(Command::MailboxRename { from: "shared/late1".into(), to: "shared/moved".into() }).unwrap();
    store.commit(Command::MailboxDelete { name: "shared/late2".into() }).unwrap();
    let held = dump(&store, &store.view()).unwrap().logged();
    drop(store);
    (machine.image(Persist::Nothing), options, held)
}

/// What a second program finds on what a crash left.
struct Witness<'a> {
    options: &'a Options,
    held: &'a Dump,
    legal: [u32; 2],
}

impl Witness<'_> {
    /// The store opens by itself with all it held, by its own database; gives its schema.
    fn look(&self, machine: &SimDisk, case: &str) -> u32 {
        let (store, report) = open(machine, self.options).unwrap_or_else(|e| panic!("{case}: {e}"));
        assert_eq!((report.base.as_str(), &report.lost), ("live", &None), "{case}: {report:?}");
        assert!(self.legal.contains(&store.schema()), "{case}: schema {}", store.schema());
        let view = store.view();
        assert!(dump(&store, &view).unwrap().logged() == *self.held, "{case}: other rows");
        let rules = check::check(&view).unwrap();
        assert!(rules.findings.is_empty(), "{case}: {:?}", rules.findings);
        store.schema()
    }
}

/// The moments of one change, and of how many ways a crash at one may leave the disks.
fn ways(moment: &Moment, n: usize) -> Vec<Persist> {
    match moment.unsynced() {
        0 => vec![Persist::Nothing],
        _ => vec![Persist::Nothing, Persist::Everything, Persist::RandomTorn(n as u64)],
    }
}

/// Stops the change at every operation; every so many times also the one that follows it, twice in a row.
fn stopped_everywhere(seed: u64, from: u32, to: u32) -> (usize, usize) {
    let (machine, options, held) = base(seed, from);
    let witness = Witness { options: &options, held: &held, legal: [from, to] };
    let recorded = machine.image(Persist::Nothing);
    recorded.set_recording(true);
    let done = change(&recorded, &options, to).unwrap();
    assert_eq!((done.from, done.to), (from, to));
    let moments = recorded.take_moments();
    let (mut states, mut new) = (0, 0);
    for (n, moment) in moments.iter().enumerate() {
        for persist in ways(moment, n) {
            let case = format!("seed {seed}, {from} to {to}, operation {} {}, {persist:?}", moment.n, moment.path);
            let found = witness.look(&moment.image(persist), &case);
            (states, new) = (states + 1, new + usize::from(found == to));
        }
        if n % 40 == seed as usize % 40 {
            states += stopped_again(&witness, moment, to, n);
        }
    }
    assert!(moments.len() > 100 && new > 0 && new < states, "{} operations, {new} of {states} new", moments.len());
    assert_eq!(witness.look(&recorded.image(Persist::Nothing), "when it is done"), to);
    (moments.len(), states)
}

/// The second attempt, stopped in its turn; then the third, which goes through.
fn stopped_again(witness: &Witness<'_>, first: &Moment, to: u32, salt: usize) -> usize {
    let machine = first.image(Persist::RandomTorn(salt as u64));
    machine.set_recording(true);
    let case = format!("stopped at operation {} {}", first.n, first.path);
    change(&machine, witness.options, to).unwrap_or_else(|e| panic!("{case}, again: {e}"));
    let mut states = 0;
    for (n, second) in machine.take_moments().iter().enumerate().filter(|(n, _)| (n + salt).is_multiple_of(29)) {
        let case = format!("{case}, and again at {} {}", second.n, second.path);
        let image = second.image(Persist::RandomTorn(n as u64));
        witness.look(&image.image(Persist::Everything), &case);
        let done = change(&image, witness.options, to).unwrap_or_else(|e| panic!("{case}: {e}"));
        assert_eq!(done.to, to, "{case}");
        assert_eq!(witness.look(&image.image(Persist::Nothing), &case), to, "{case}");
        states += 2;
    }
    states
}

// row 153, B8: a crash after every step leaves old or new, never between
#[test]
fn a_change_of_the_schema_is_stopped_at_every_operation() {
    for seed in 1..=number("STOREDD_SCHEMA_SEEDS", 1) {
        for (from, to) in [(NEWEST - 1, NEWEST), (NEWEST, NEWEST - 1)] {
            let (operations, states) = stopped_everywhere(seed, from, to);
            total(&format!("schema {from} to {to}, seed {seed}: stopped at {operations} operations, {states} states"));
        }
    }
}

// row 153: what is not what it must be never takes the database's place
#[test]
fn a_copy_that_breaks_a_rule_is_not_put_in_place() {
    for (from, to) in [(NEWEST - 1, NEWEST), (NEWEST, NEWEST - 1)] {
        let (machine, options, _) = base(2, from);
        let (store, _) = open(&machine, &options).unwrap();
        store
            .commit(Command::UserAdd {
                user: "victim".into(),
                partition: None,
                quota_bytes: None,
                quota_messages: None,
            })
            .unwrap();
        store.close().unwrap();
        drop(store);
        // A row that every user must have, taken out by a hand that knows the format: counts and digests are right.
        let disk = world::disks(&machine).db;
        let meta = Db::examine(&disk, DATABASE, None, None).unwrap();
        let database = Db::open(&disk, DATABASE, db::Options::default()).unwrap();
        let gone = (Table::Quotas, quota_key("victim"), None::<Vec<u8>>);
        database.apply(meta.applied_lsn, meta.epoch, [gone]).unwrap();
        drop(database);
        let e = change(&machine, &options, to).unwrap_err();
        assert!(e.to_string().contains("the snapshot") && e.exit() == 2, "{e}");
        let e = change_with(&machine, &options, to, false).unwrap_err();
        assert!(e.to_string().contains("the copy did not pass its validation") && e.exit() == 2, "{e}");
        assert!(e.to_string().contains("victim"), "{e}");
        let (store, _) = open(&machine, &options).unwrap();
        assert_eq!(store.schema(), from);
        assert!(!disk.list("").unwrap().iter().any(|e| e.name.contains("converted")), "{:?}", disk.list(""));
    }
}

// row 153: a full disk, wherever it is met, leaves the store as it was; with room again the same command goes on
#[test]
fn a_full_disk_leaves_the_store_as_it_was() {
    let (machine, options, held) = base(3, NEWEST - 1);
    let witness = Witness { options: &options, held: &held, legal: [NEWEST - 1, NEWEST] };
    let mut refused = 0;
    for room in (0..).map(|n: u64| n * (48 << 10)) {
        let machine = machine.image(Persist::Nothing);
        ["data", "db", "log"].iter().for_each(|disk| machine.disk(disk).set_free_bytes(room));
        let done = change(&machine, &options, NEWEST);
        ["data", "db", "log"].iter().for_each(|disk| machine.disk(disk).set_unbounded());
        let case = format!("{room} bytes free, {done:?}");
        let after = machine.image(Persist::Nothing);
        witness.look(&after.image(Persist::Nothing), &case);
        assert_eq!(change(&after, &options, NEWEST).unwrap().to, NEWEST, "{case}");
        match done {
            Ok(_) => break,
            Err(StoreError::NoSpace { .. }) => refused += 1,
            // What is told of a disk that was full while it worked.
            Err(StoreError::Busy { .. } | StoreError::Refused { .. }) => refused += 1,
            Err(e) => panic!("{case}: {e}"),
        }
    }
    assert!(refused > 3, "{refused}");
}
