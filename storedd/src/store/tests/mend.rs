//! Damage to what lies in a partition, and what the judge of a mailbox makes of it. // rows 121, 122, 127, 128, 163, B3, B9

use super::mail::{JOE, PRIMARY, Seen, Step, of, open_mail, row, seen, take, text, user};
use super::*;
use crate::model::command::Marks;
use crate::model::message::{Flags, State};
use crate::partition::PartitionId;
use crate::partition::survey::{Depth, What};
use crate::partition::tree::{Home, Place};
use crate::wal;

pub(super) const WORK: &str = "user/joe/Work";
pub(super) const RECOVERED_OF_JOE: &str = "user/joe/Recovered";

/// Joe's INBOX with five messages, one seen, one expunged, one purged; all of it in files.
pub(super) fn filled() -> (SimDisk, Arc<Store>) {
    let machine = SimDisk::new();
    let store = open_mail(&machine).unwrap();
    store.partitions().prepare(PRIMARY, PartitionId([1; 16]), Micros(1)).unwrap();
    let seen = Marks { flags: Flags::SEEN, ..Marks::default() };
    let steps = [
        Step::Do(Command::PartitionAdd { name: PRIMARY.to_owned(), id: [1; 16] }),
        Step::Do(user("joe")),
        Step::Do(user("ann")),
        Step::Do(Command::MailboxCreate { name: WORK.to_owned(), partition: None }),
        Step::Deliver(1, 100, vec![JOE]),
        Step::Deliver(2, 200, vec![JOE, WORK]),
        Step::Deliver(3, 5000, vec![JOE]),
        Step::Deliver(4, 300, vec![JOE]),
        Step::Deliver(5, 300, vec![JOE]),
        Step::Checkpoint,
        Step::Do(Command::MessageFlags { of: of(JOE, &[1, 3]), add: seen, remove: Marks::default() }),
        Step::Do(Command::MessageExpunge { of: of(JOE, &[2, 4]) }),
        Step::Do(Command::MessagePurge { of: of(JOE, &[4]) }),
        Step::Checkpoint,
    ];
    for step in steps {
        assert!(take(&store, &step));
    }
    (machine, store)
}

pub(super) fn place(store: &Store, mailbox: &str) -> Place {
    let view = store.view();
    let (name, row) = row(&view, mailbox).unwrap();
    let of = store.folder(&view, name.key(), &row).unwrap();
    Home::parse(&of.home).unwrap().mailbox(of.mailbox)
}

pub(super) fn examine_as(store: &Store, mailbox: &str, repair: Repair) -> Examined {
    let order = Order { depth: Depth::Bytes, repair, pace: &|_| Ok(()), traces: None, readers: 1, track: None };
    store.examine(place(store, mailbox).id, &order).unwrap().unwrap()
}

/// What is to become of what was found.
pub(super) fn fates(examined: &Examined) -> Vec<(&'static str, Option<u32>, Fate)> {
    examined.findings.iter().map(|f| (f.what, f.uid, f.fate)).collect()
}

type Harm = fn(&SimDisk, &Place);

/// Damage that loses nothing, as the other twin has it all.
const HARMLESS: [(&str, Harm); 7] = [
    ("index gone", |d, p| d.erase(&p.index()).unwrap()),
    ("header of the index", |d, p| d.damage(&p.index(), 20, 1).unwrap()),
    ("middle of the index", |d, p| d.damage(&p.index(), 500, 1).unwrap()),
    ("end of the index", |d, p| {
        let len = d.stat(&p.index()).unwrap().unwrap().len;
        d.damage(&p.index(), len - 20, 1).unwrap();
    }),
    ("half of the index", |d, p| {
        let len = d.stat(&p.index()).unwrap().unwrap().len;
        d.truncate(&p.index(), len / 2).unwrap();
    }),
    ("manifest gone", |d, p| d.erase(&p.home.manifest()).unwrap()),
    ("middle of the manifest", |d, p| d.damage(&p.home.manifest(), 700, 4).unwrap()),
];

// row 121: what a reader is shown is right, and what he met is repaired behind him.
#[test]
fn one_damaged_twin_costs_nothing_and_is_made_anew() {
    for (what, harm) in HARMLESS {
        let (machine, store) = filled();
        let (disk, place) = (machine.disk(PRIMARY), place(&store, JOE));
        let before = seen(&store, what);
        harm(&disk, &place);
        let tree = disk.tree();
        let found = examine_as(&store, JOE, Repair::Nothing);
        assert!(
            !found.findings.is_empty() && found.findings.iter().all(|f| f.fate == Fate::Mendable),
            "{what}: {found:?}"
        );
        assert_eq!((disk.tree(), found.changes), (tree, vec![]), "{what}: I7");
        assert_eq!(seen(&store, what), before, "{what}: right although damaged");
        // What a reader has met is repaired by the checkpointer; what none meets, by whoever looks.
        store.mend_ailing();
        examine_as(&store, JOE, Repair::Provable);
        let clean = examine_as(&store, JOE, Repair::Nothing);
        assert_eq!(fates(&clean), [], "{what}");
        assert_eq!(seen(&store, what), before, "{what}: after the repair");
        // And it goes on.
        assert!(take(&store, &Step::Deliver(9, 50, vec![JOE])) && take(&store, &Step::Checkpoint), "{what}");
        drop(store);
        let store = open_mail(&machine).unwrap();
        assert_eq!(seen(&store, what).len(), before.len() + 1, "{what}: after a start");
    }
}

fn erase_both(machine: &SimDisk, place: &Place) {
    let disk = machine.disk(PRIMARY);
    disk.erase(&place.index()).unwrap();
    disk.erase(&place.home.manifest()).unwrap();
}

// row B3: index and manifest gone: the log has flags, UIDs, modseqs, dates and deletions.
#[test]
fn the_log_gives_back_what_both_twins_have_lost() {
    let (machine, store) = filled();
    let before = seen(&store, "before");
    erase_both(&machine, &place(&store, JOE));
    let found = examine_as(&store, JOE, Repair::Nothing);
    assert!(found.findings.iter().all(|f| f.fate == Fate::Mendable), "{found:?}");
    // The first access repairs.
    assert_eq!(seen(&store, "first access"), before);
    assert_eq!(fates(&examine_as(&store, JOE, Repair::Nothing)), []);
    assert_eq!(fates(&examine_as(&store, WORK, Repair::Provable)).len(), 0, "its mirror was made anew, too");
}

// row B3: a run over many mailboxes reads the log once for all of them.
#[test]
fn the_log_is_read_once_for_many_mailboxes() {
    let (machine, store) = filled();
    let (disk, places) = (machine.disk(PRIMARY), [place(&store, JOE), place(&store, WORK)]);
    let before = seen(&store, "before");
    places.iter().for_each(|place| disk.erase(&place.index()).unwrap());
    disk.erase(&places[0].home.manifest()).unwrap();
    let traces = Traces::of(places.iter().map(|place| place.id));
    let (repair, traces) = (Repair::Provable, Some(&traces));
    let order = Order { depth: Depth::Bytes, repair, pace: &|_| Ok(()), traces, readers: 2, track: None };
    for place in &places {
        let done = store.examine(place.id, &order).unwrap().unwrap();
        assert!(done.findings.iter().all(|f| f.fate == Fate::Mended), "{done:?}");
        lose_log(&machine);
    }
    assert_eq!(seen(&store, "after"), before);
}

// A manifest holds all of a home: one that knows everything is not written again for each index that is lost.
#[test]
fn a_mirror_that_knows_everything_stays_as_it_is() {
    let (machine, store) = filled();
    let (disk, place) = (machine.disk(PRIMARY), place(&store, JOE));
    let manifest = || crate::disk::read_small(&disk, &place.home.manifest(), 1 << 20).unwrap();
    let (before, bytes) = (seen(&store, "before"), manifest());
    disk.erase(&place.index()).unwrap();
    let done = examine_as(&store, JOE, Repair::Provable);
    assert_eq!(done.changes, ["index was made anew from manifest"]);
    assert_eq!((manifest() == bytes, seen(&store, "after")), (true, before));
    // What the index alone knows makes a new one.
    disk.erase(&place.home.manifest()).unwrap();
    let done = examine_as(&store, JOE, Repair::Provable);
    assert_eq!(done.changes, ["index and manifest were made anew from index and manifest"]);
    assert_eq!(fates(&examine_as(&store, JOE, Repair::Nothing)), []);
}

/// Damages every record of the log that is kept, so that it proves nothing.
fn lose_log(machine: &SimDisk) {
    let disk = machine.disk("log");
    for entry in disk.list("").unwrap() {
        if wal::file_number(&entry.name).is_some() {
            for at in (4096..65_536).step_by(16) {
                disk.damage(&entry.name, at, 1).unwrap();
            }
        }
    }
}

// rows 121, 122, 127: without any witness a reader gets an error that names the next step, and never a part; a person
// decides.
#[test]
fn what_nothing_proves_is_not_shown_as_if_it_were_proven() {
    for force in [false, true] {
        let (machine, store) = filled();
        let place = place(&store, JOE);
        erase_both(&machine, &place);
        lose_log(&machine);
        let view = store.view();
        let (name, before) = row(&view, JOE).unwrap();
        let of_joe = store.folder(&view, name.key(), &before).unwrap();
        let refused = store.messages(&view, &of_joe, &before).unwrap_err();
        assert!(
            refused.to_string().contains("store.idx") && refused.hint().unwrap().contains("storectl check"),
            "{refused}"
        );
        drop(view);
        let found = examine_as(&store, JOE, Repair::Nothing);
        assert!(found.findings.iter().any(|f| f.fate == Fate::Lost), "{found:?}");
        // The counts do not agree: a file of an expunged message is among them.
        let done = examine_as(&store, JOE, if force { Repair::Force } else { Repair::Recover });
        store.settle(&done.leftovers).unwrap();
        assert_eq!(fates(&examine_as(&store, JOE, Repair::Nothing)), [], "{force}");
        let now = seen(&store, "after");
        let of = |mailbox: &str| now.keys().filter(|(m, _)| m == mailbox).map(|(_, uid)| *uid).collect::<Vec<_>>();
        assert_eq!(
            of(JOE),
            if force { vec![1, 2, 3, 5] } else { vec![] },
            "nothing unproven comes into INBOX by itself"
        );
        let view = store.view();
        let recovered = row(&view, RECOVERED_OF_JOE).map(|(_, row)| row.messages);
        assert_eq!(recovered, if force { None } else { Some(4) });
        assert_eq!(row(&view, JOE).unwrap().1.uidnext, before.uidnext, "no UID is given twice");
        let disk = machine.disk(PRIMARY);
        let kept = disk.list(".quarantine").map_or(0, |all| all.len());
        assert_eq!(kept, if force { 0 } else { 4 }, "the files themselves are kept aside");
    }
}

// row 127: counts that agree are proof enough.
#[test]
fn files_that_are_what_the_row_counts_are_taken_in_where_they_lie() {
    let (machine, store) = filled();
    let purge = Command::MessagePurge { of: of(JOE, &[2]) };
    assert!(take(&store, &Step::Do(purge)) && take(&store, &Step::Checkpoint));
    erase_both(&machine, &place(&store, JOE));
    lose_log(&machine);
    let done = examine_as(&store, JOE, Repair::Provable);
    assert!(done.changes.iter().any(|c| c.contains("was taken in")), "{done:?}");
    let now = seen(&store, "after");
    assert_eq!(now.keys().filter(|(m, _)| m == JOE).map(|(_, uid)| *uid).collect::<Vec<_>>(), [1, 3, 5]);
}

// row B9: bodies are healed by the log, by a copy, and else listed; the bad file is kept.
#[test]
fn a_bad_body_is_never_served_and_healed_where_a_copy_is() {
    let harms: [(&str, Harm); 4] = [
        ("a bit", |d, p| d.damage(&p.message(1), 40, 1).unwrap()),
        ("cut", |d, p| d.truncate(&p.message(1), 10).unwrap()),
        ("gone", |d, p| d.erase(&p.message(1)).unwrap()),
        ("unreadable", |d, p| d.set_unreadable(&p.message(1), true).unwrap()),
    ];
    for (what, harm) in harms {
        for has_log in [true, false] {
            for has_copy in [true, false] {
                let (machine, store) = filled();
                let (disk, place) = (machine.disk(PRIMARY), place(&store, JOE));
                if has_copy {
                    // The same bytes in a file of their own.
                    assert!(take(&store, &Step::Deliver(1, 100, vec![WORK])) && take(&store, &Step::Checkpoint));
                }
                if !has_log {
                    lose_log(&machine);
                }
                harm(&disk, &place);
                let case = format!("{what}, log {has_log}, copy {has_copy}");
                let dry = examine_as(&store, JOE, Repair::Nothing);
                assert_eq!(dry.findings.len(), 1, "{case}");
                let view = store.view();
                let (name, row) = row(&view, JOE).unwrap();
                let of_joe = store.folder(&view, name.key(), &row).unwrap();
                let message = store.messages(&view, &of_joe, &row).unwrap().messages.remove(&1).unwrap();
                let read = store.message_bytes(&view, &of_joe, &message);
                if has_log || has_copy {
                    assert_eq!(read.unwrap(), text(1, 100), "{case}");
                    assert_eq!(fates(&examine_as(&store, JOE, Repair::Nothing)), [], "{case}: put back");
                } else {
                    let refused = read.unwrap_err();
                    assert!(
                        refused.exit() == crate::error::exit::DAMAGED && refused.to_string().contains("1.msg"),
                        "{case}: {refused}"
                    );
                    let found = examine_as(&store, JOE, Repair::Recover);
                    assert_eq!(store.heal(&found.sick, true, None, &|_| Ok(())).unwrap(), [Healed::No], "{case}");
                    assert_eq!(found.findings[0].fate, Fate::Lost, "{case}");
                }
            }
        }
    }
}

// row B9: further names of one file are no copies of it; each is healed.
#[test]
fn names_of_one_file_are_healed_each() {
    let (machine, store) = filled();
    let (disk, joe, work) = (machine.disk(PRIMARY), place(&store, JOE), place(&store, WORK));
    disk.damage(&joe.message(2), 40, 1).unwrap();
    let sick: Vec<Sick> = [JOE, WORK].iter().flat_map(|m| examine_as(&store, m, Repair::Provable).sick).collect();
    assert_eq!(sick.len(), 2, "one file under two names is no copy: {sick:?}");
    assert_eq!(store.heal(&sick, false, None, &|_| Ok(())).unwrap(), [Healed::Could; 2]);
    assert_eq!(store.heal(&sick, true, None, &|_| Ok(())).unwrap(), [Healed::Yes; 2]);
    for (mailbox, place, uid) in [(JOE, &joe, 2), (WORK, &work, 1)] {
        assert_eq!(fates(&examine_as(&store, mailbox, Repair::Nothing)), [], "{}", place.message(uid));
    }
}

// rows 18, 128: a repair that is broken off anywhere has lost nothing, and the next one ends it.
#[test]
fn a_repair_that_is_broken_off_loses_nothing() {
    let (machine, store) = filled();
    let (disk, place) = (machine.disk(PRIMARY), place(&store, JOE));
    let before = seen(&store, "before");
    disk.damage(&place.index(), 500, 1).unwrap();
    disk.damage(&place.message(1), 40, 1).unwrap();
    disk.rename(&place.message(3), &place.message(900)).unwrap();
    disk.plant(&place.message(77), b"Subject: whose?\r\n\r\n").unwrap();
    machine.set_recording(true);
    let done = examine_as(&store, JOE, Repair::Recover);
    store.heal(&done.sick, true, None, &|_| Ok(())).unwrap();
    store.settle(&done.leftovers).unwrap();
    assert_eq!(joes(&seen(&store, "repaired")), joes(&before));
    let moments = machine.take_moments();
    drop(store);
    assert!(moments.len() > 20, "{}", moments.len());
    for moment in moments.iter().step_by((moments.len() / 40).max(1)) {
        for persist in [Persist::Nothing, Persist::RandomTorn(moment.n), Persist::NamesWithoutData] {
            let what = format!("operation {} {:?} {}: {persist:?}", moment.n, moment.kind, moment.path);
            let found = moment.torn(moment.write_bytes() / 2).image(persist);
            let store = open_mail(&found).unwrap_or_else(|e| panic!("{what}: {e}"));
            let done = examine_as(&store, JOE, Repair::Recover);
            store.heal(&done.sick, true, None, &|_| Ok(())).unwrap_or_else(|e| panic!("{what}: {e}"));
            store.settle(&done.leftovers).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(joes(&seen(&store, &what)), joes(&before), "{what}");
            assert_eq!(fates(&examine_as(&store, JOE, Repair::Nothing)), [], "{what}");
            let shown = row(&store.view(), RECOVERED_OF_JOE).map(|(_, row)| row.messages);
            assert_eq!(shown, Some(1), "{what}: {done:?}");
        }
    }
}

fn joes(seen: &Seen) -> Vec<(u32, State, Flags, Vec<u8>)> {
    let of_joe = seen.iter().filter(|((mailbox, _), _)| mailbox == JOE);
    of_joe.map(|((_, uid), (state, flags, bytes))| (*uid, *state, *flags, bytes.clone())).collect()
}

// row 127: more files than findings are kept one by one: one run takes all of them in
#[test]
fn a_large_mailbox_is_filled_in_one_run() {
    let (machine, store) = filled();
    let (disk, place) = (machine.disk(PRIMARY), place(&store, WORK));
    let all = crate::partition::survey::FINDINGS_MAX as u32 + 300;
    for uid in 2..=all {
        let path = place.message(uid);
        crate::disk::create_all(&disk, crate::disk::parent(&path)).unwrap();
        disk.plant(&path, &text(uid as usize, 40)).unwrap();
    }
    examine_as(&store, WORK, Repair::Force);
    let (name, row) = row(&store.view(), WORK).unwrap();
    assert_eq!((row.messages, row.uidnext), (u64::from(all), all + 1), "{name}");
    assert!(take(&store, &Step::Checkpoint));
    assert_eq!(fates(&examine_as(&store, WORK, Repair::Nothing)), []);
}

// row B9: damage beyond what is listed is counted, healed and told like the rest, in one run
#[test]
fn more_damage_than_is_listed_is_healed_in_one_run() {
    let (machine, store) = filled();
    let (disk, place) = (machine.disk(PRIMARY), place(&store, WORK));
    let listed = crate::partition::survey::FINDINGS_MAX;
    let all = listed as u32 + 300;
    for n in 2..=all {
        assert!(take(&store, &Step::Deliver(100 + n as usize, 60, vec![WORK])));
        // A file of its own, in the directory of somebody else.
        assert!(take(&store, &Step::Deliver(100 + n as usize, 60, vec!["user/ann/INBOX"])));
    }
    assert!(take(&store, &Step::Checkpoint));
    for uid in 2..=all {
        disk.damage(&place.message(uid), 30, 1).unwrap();
    }
    let mut found = examine_as(&store, WORK, Repair::Provable);
    let damaged = u64::from(all) - 1;
    assert_eq!((found.found(), found.findings.len()), (damaged, listed));
    let sick = found.take_sick();
    assert_eq!((sick.len() as u64, found.found()), (damaged, 0), "each has its finding, listed or not");
    assert!(sick.iter().all(|(sick, finding)| finding.uid == Some(sick.uid) && finding.place == sick.file));
    let sick: Vec<Sick> = sick.into_iter().map(|(sick, _)| sick).collect();
    let healed = store.heal(&sick, true, None, &|_| Ok(())).unwrap();
    assert!(healed.iter().all(|healed| *healed == Healed::Yes));
    assert_eq!(fates(&examine_as(&store, WORK, Repair::Nothing)), []);
}

// row B9: and a copy in the same home heals them before anything else is asked
#[test]
fn more_damage_than_is_listed_is_healed_from_copies_at_home() {
    let (machine, store) = filled();
    let (disk, place) = (machine.disk(PRIMARY), place(&store, WORK));
    let all = crate::partition::survey::FINDINGS_MAX as u32 + 200;
    for n in 2..=all {
        // Two files: each is a delivery of its own.
        assert!(take(&store, &Step::Deliver(100 + n as usize, 60, vec![JOE])));
        assert!(take(&store, &Step::Deliver(100 + n as usize, 60, vec![WORK])));
    }
    assert!(take(&store, &Step::Checkpoint));
    lose_log(&machine);
    for uid in 2..=all {
        disk.damage(&place.message(uid), 30, 1).unwrap();
    }
    let found = examine_as(&store, WORK, Repair::Provable);
    assert_eq!((found.found(), found.sick.len()), (u64::from(all) - 1, 0));
    assert!(found.findings.iter().all(|f| f.fate == Fate::Mended));
    assert!(found.unlisted.values().all(|fate| *fate == Fate::Mended));
    assert_eq!(fates(&examine_as(&store, WORK, Repair::Nothing)), []);
}

// row B3: what only the log knows and what has no file, or a bad one, is found in the same look
#[test]
fn a_message_that_only_the_log_knows_is_healed_in_the_same_look() {
    let (machine, store) = filled();
    let (disk, place) = (machine.disk(PRIMARY), place(&store, JOE));
    let before = seen(&store, "before");
    erase_both(&machine, &place);
    disk.erase(&place.message(1)).unwrap();
    disk.damage(&place.message(5), 40, 1).unwrap();
    let found = examine_as(&store, JOE, Repair::Provable);
    let bodies: Vec<_> = fates(&found).into_iter().filter(|(_, uid, _)| uid.is_some()).collect();
    let lost = |what: What, uid| (what.text(), Some(uid), Fate::Lost);
    assert_eq!(bodies, [lost(What::FileBytes, 5), lost(What::FileMissing, 1)], "{found:?}");
    assert_eq!(store.heal(&found.sick, true, None, &|_| Ok(())).unwrap(), [Healed::Yes; 2]);
    assert_eq!(seen(&store, "after"), before);
    assert_eq!(fates(&examine_as(&store, JOE, Repair::Nothing)), []);
}

// rows 121, B3, I8: index and manifest are gone, and the next that comes there is a checkpoint: what it makes anew says that it is not all, the
// row keeps counting what there was, and the first access has it from the log
#[test]
fn a_checkpoint_that_meets_a_loss_does_not_hide_it() {
    let (machine, store) = filled();
    for step in [Step::Deliver(60, 70, vec![JOE]), Step::Deliver(61, 70, vec![WORK])] {
        assert!(take(&store, &step));
    }
    let before = seen(&store, "before");
    erase_both(&machine, &place(&store, JOE));
    assert!(take(&store, &Step::Checkpoint));
    let found = examine_as(&store, JOE, Repair::Nothing);
    assert!(found.findings.iter().any(|f| f.what == What::IndexBad.text() && f.fate == Fate::Mendable), "{found:?}");
    assert_eq!(seen(&store, "first access"), before);
    store.mend_ailing();
    examine_as(&store, JOE, Repair::Provable);
    assert_eq!(fates(&examine_as(&store, JOE, Repair::Nothing)), []);
    assert_eq!(seen(&store, "after"), before);
}

// rows 38, B3: index and manifest of an older time, whole and with the counts of the row, as a disk leaves them that says of a sync what is not so: what the log
// has is taken from there, and what nothing has is said.
#[test]
fn flags_of_an_older_time_are_not_taken_for_the_newest() {
    for has_log in [true, false] {
        let (machine, store) = filled();
        let (disk, place) = (machine.disk(PRIMARY), place(&store, JOE));
        let twins = [place.index(), place.home.manifest()].map(|path| (disk.peek(&path).unwrap(), path));
        let add = Marks { flags: Flags::FLAGGED, ..Marks::default() };
        let flag = Command::MessageFlags { of: of(JOE, &[1, 5]), add, remove: Marks::default() };
        assert!(take(&store, &Step::Do(flag)) && take(&store, &Step::Checkpoint));
        let before = seen(&store, "before");
        twins.iter().for_each(|(bytes, path)| disk.plant(path, bytes).unwrap());
        if !has_log {
            lose_log(&machine);
        }
        let found = examine_as(&store, JOE, Repair::Nothing);
        let expected = if has_log { Fate::Mendable } else { Fate::Lost };
        assert!(
            !found.findings.is_empty() && found.findings.iter().all(|f| f.fate == expected),
            "{has_log}: {found:?}"
        );
        let view = store.view();
        let (name, row) = row(&view, JOE).unwrap();
        let of = store.folder(&view, name.key(), &row).unwrap();
        let listed = store.messages(&view, &of, &row);
        assert_eq!(listed.is_ok(), has_log, "{listed:?}");
        drop(view);
        if has_log {
            assert_eq!(seen(&store, "healed"), before);
        } else {
            let done = examine_as(&store, JOE, Repair::Recover);
            assert!(done.findings.iter().any(|f| f.fate == Fate::Unproven), "{done:?}");
        }
        assert_eq!(fates(&examine_as(&store, JOE, Repair::Nothing)), [], "{has_log}");
    }
}
