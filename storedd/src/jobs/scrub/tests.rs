//! The record: what is forgotten, and what is not.

use super::record::{Ended, Pass, Record};
use super::*;
use crate::disk::SimDisk;
use crate::store::MailFinding;
use std::collections::BTreeMap;

fn finding(place: &str) -> MailFinding {
    let (expected, found) = ("good".to_owned(), "bad".to_owned());
    MailFinding { place: place.to_owned(), uid: Some(1), what: "message digest", expected, found, fate: Fate::Lost }
}

fn places(record: &Record) -> Vec<(u64, &str, u64)> {
    record.damage.iter().map(|d| (d.mailbox, d.place.as_str(), d.since_us)).collect()
}

#[test]
fn damage_is_forgotten_where_somebody_has_looked() {
    let mut record = Record::default();
    let found = |all: &[(u64, &str)]| {
        let mut by: BTreeMap<u64, Vec<MailFinding>> = BTreeMap::new();
        all.iter().for_each(|(id, place)| by.entry(*id).or_default().push(finding(place)));
        by
    };
    record.take(&BTreeSet::new(), &found(&[(1, "a"), (1, "b"), (2, "c"), (0, "log")]), Micros(10));
    assert_eq!(places(&record), [(0, "log", 10), (1, "a", 10), (1, "b", 10), (2, "c", 10)]);
    // Nobody looked at the second one and beside mailboxes; of the first one a part is well, and it is bad since it was found first.
    record.take(&[1].into(), &found(&[(1, "b"), (3, "d")]), Micros(20));
    assert_eq!(places(&record), [(0, "log", 10), (2, "c", 10), (1, "b", 10), (3, "d", 20)]);
    record.take(&[0, 1, 2, 3].into(), &found(&[]), Micros(30));
    assert_eq!(places(&record), []);
}

#[test]
fn what_is_written_is_read_and_what_is_damaged_is_not_believed() {
    let machine = SimDisk::new();
    let data = machine.disk("data");
    assert_eq!(Record::read(&data).unwrap(), Record::default());
    let counts = Counts { mailboxes: 1, messages: 2, bytes: 3, found: 4, healed: 5 };
    let within = Within { whole: [3, 4].into(), messages: 5, bytes: 6, mailbox: 7, uid: 8 };
    let mut record = Record {
        pass: Some(Pass { begun_us: 6, mark: "mailboxes user\u{1}joe".to_owned(), counts, within: within.clone() }),
        last: Some(Ended { begun_us: 7, ended_us: 8, counts }),
        damage: Vec::new(),
    };
    record.take(&BTreeSet::new(), &[(9, vec![finding("a\nb")])].into(), Micros(10));
    record.write(&data).unwrap();
    assert_eq!(Record::read(&data).unwrap(), record);
    let bytes = crate::disk::read_small(&data, "dbdata/scrub", 1 << 20).unwrap();
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 4;
        crate::disk::replace(&data, "dbdata/scrub", &bad).unwrap();
        assert!(Record::read(&data).is_err(), "byte {at}");
    }
}

// A clock that was ahead once: the next pass waited until it came there again.
#[test]
fn a_pass_of_a_time_that_did_not_come_yet_does_not_end_the_scrub() {
    use crate::jobs::restore::tests::{env, start};
    let (store, _) = start(&SimDisk::new(), false, 0).unwrap();
    let scrubber = Scrubber::new(store, env(100_000)).unwrap();
    let settings = Settings { interval: Duration::from_secs(86_400), pace: 1 << 40 };
    let last = |begun_us| {
        lock(&scrubber.record).last = Some(Ended { begun_us, ended_us: begun_us, counts: Counts::default() });
        scrubber.due(settings)
    };
    let now = scrubber.env.now().0;
    assert_eq!((last(now), last(now + 50_000_000)), (None, None));
    assert_eq!(last(now + 365 * 86_400_000_000), Some(Due::Pass));
}
