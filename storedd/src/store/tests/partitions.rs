//! A partition that goes away and comes back: it stops no other, and lacks nothing in the end, wherever the machine stops.

use super::mail::{ANN, JOE, PRIMARY, Seen, Step, of, seen, seen_at, take};
use super::*;
use crate::model::command::Marks;
use crate::model::message::{Flags, State};
use crate::model::rows::{MailboxRow, Row, TombstoneRow, UserRow, split};
use crate::partition::bodies::Body;
use crate::partition::tree::{self, Home};
use crate::partition::{PartitionId, identity};
use crate::store::adopt::Wanted;
use std::collections::BTreeSet;

pub(super) const FAR: &str = "far";

pub(super) fn far_disks(machine: &SimDisk) -> Disks {
    let partitions = [PRIMARY, FAR].map(|name| (name.to_owned(), name.into()));
    Disks { partitions: partitions.into(), ..disks(machine) }
}

pub(super) fn open_far(machine: &SimDisk) -> Result<Arc<Store>> {
    let disks = far_disks(machine);
    let env = Arc::new(SimEnv::new(Micros(1_800_000_000_000_000), 7));
    let lock = take_lock(&disks)?;
    let progress: OnProgress = Arc::new(|_| {});
    let options = Options { inline_limit: 600, segment_size: 64 << 10, spares: 0, ..options() };
    Ok(open(disks, env, options, lock, START, &progress)?.0)
}

/// A store with the near partition and the far one.
pub(super) fn with_far() -> (SimDisk, Arc<Store>) {
    let machine = SimDisk::new();
    let store = open_far(&machine).unwrap();
    for (name, id) in [(PRIMARY, 1), (FAR, 2)] {
        store.partitions().prepare(name, PartitionId([id; 16]), Micros(1)).unwrap();
        assert!(take(&store, &Step::Do(Command::PartitionAdd { name: name.to_owned(), id: [id; 16] })));
    }
    (machine, store)
}

/// What happens to the machine.
#[derive(Clone)]
enum Event {
    Step(Step),
    Away,
    Back,
}

/// Takes the partition away, or brings it back; says so to a store that runs.
fn put(machine: &SimDisk, is_there: bool, store: Option<&Store>) {
    let root = machine.disk(FAR);
    let (from, to) = if is_there { ("kept", "PARTITION") } else { ("PARTITION", "kept") };
    if root.stat(from).unwrap().is_some() {
        root.rename(from, to).unwrap();
        root.sync_dir("").unwrap();
    }
    if let Some(store) = store {
        let state = store.partitions().state(FAR);
        assert_eq!(state.word() == "missing", !is_there, "{state:?}");
    }
}

fn events() -> Vec<Event> {
    let user = |user: &str, partition: &str| Command::UserAdd {
        user: user.to_owned(),
        partition: Some(partition.to_owned()),
        quota_bytes: Some(1 << 20),
        quota_messages: None,
    };
    let add = |name: &str, n| Command::PartitionAdd { name: name.to_owned(), id: [n; 16] };
    let marks = Marks { flags: Flags::SEEN, ..Marks::default() };
    let flag =
        |name, uids: &[u32]| Command::MessageFlags { of: of(name, uids), add: marks.clone(), remove: Marks::default() };
    let copy =
        |name, uids: &[u32], to: &str| Command::MessageCopy { of: of(name, uids), to: to.to_owned(), remove: false };
    let expunge = |name, uids: &[u32]| Command::MessageExpunge { of: of(name, uids) };
    let purge = |name, uids: &[u32]| Command::MessagePurge { of: of(name, uids) };
    let run = |command| Event::Step(Step::Do(command));
    let deliver = |n, bytes, to: &[&'static str]| Event::Step(Step::Deliver(n, bytes, to.to_vec()));
    let checkpoint = || Event::Step(Step::Checkpoint);
    vec![
        run(add(PRIMARY, 1)),
        run(add(FAR, 2)),
        run(user("joe", PRIMARY)),
        run(user("ann", FAR)),
        deliver(1, 100, &[JOE, ANN]),
        deliver(2, 3000, &[JOE, ANN]),
        checkpoint(),
        run(flag(ANN, &[1])),
        Event::Away,
        // Mail goes on coming in, short and long; and a copy whose only file is that of another partition, which goes.
        deliver(3, 100, &[ANN]),
        deliver(4, 2000, &[ANN, JOE]),
        run(copy(JOE, &[1], ANN)),
        checkpoint(),
        run(expunge(JOE, &[1])),
        run(purge(JOE, &[1])),
        deliver(5, 300, &[JOE, ANN]),
        checkpoint(),
        run(flag(JOE, &[2])),
        checkpoint(),
        Event::Back,
        // Nothing of it is in this checkpoint: what it lacked is made durable all the same.
        run(flag(JOE, &[3])),
        checkpoint(),
        run(expunge(ANN, &[3])),
        run(purge(ANN, &[3])),
        deliver(6, 100, &[ANN]),
        checkpoint(),
    ]
}

fn happen(machine: &SimDisk, store: &Arc<Store>, event: &Event) -> bool {
    match event {
        Event::Step(step) => take(store, step),
        Event::Away => {
            put(machine, false, Some(store));
            true
        }
        Event::Back => {
            put(machine, true, Some(store));
            true
        }
    }
}

/// What is to be seen while the far partition may be away: of it nothing.
fn near(seen: &Seen) -> Seen {
    seen.iter().filter(|((mailbox, _), _)| mailbox == JOE).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// A store that was found after a crash: with the far partition as it was, then with it back.
fn check(found: &SimDisk, expected: &[Seen], what: &str) {
    let was_away = found.disk(FAR).stat("kept").unwrap().is_some();
    let store = open_far(found).unwrap_or_else(|e| panic!("{what}: {e}"));
    if was_away {
        let now = mail::seen_in(&store, &[(JOE, "joe")], what);
        assert!(expected.iter().any(|seen| near(seen) == now), "{what}: without it: {:?}", now.keys());
        store.checkpoint().unwrap_or_else(|e| panic!("{what}: without it: {e}"));
        assert_eq!(mail::seen_in(&store, &[(JOE, "joe")], what), now, "{what}: without it, after a checkpoint");
        // Its log is not given up either.
        store.clean_log().unwrap();
        put(found, true, Some(&store));
    }
    store.checkpoint().unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(store.partitions().behind().len(), 0, "{what}: {:?}", store.partitions().behind());
    let now = seen(&store, what);
    assert!(expected.contains(&now), "{what}: {:?}", now.keys().collect::<Vec<_>>());
    assert_eq!(store.repair_recommended(), None, "{what}");
    assert!(found.disk("data").stat("behind").unwrap().is_none(), "{what}: nothing is behind");
}

// row 111: every acknowledged message is there once its partition is back, wherever the machine stops; I4
#[test]
fn a_partition_that_comes_and_goes_loses_nothing_in_any_crash() {
    let machine = SimDisk::new();
    let store = open_far(&machine).unwrap();
    for (name, id) in [(PRIMARY, 1), (FAR, 2)] {
        store.partitions().prepare(name, PartitionId([id; 16]), Micros(1)).unwrap();
    }
    machine.set_recording(true);
    // What can be seen as soon as all is there, at which operation.
    let mut told = Vec::new();
    let twin = |machine: &SimDisk| {
        let whole = machine.image(Persist::Everything);
        put(&whole, true, None);
        let store = open_far(&whole).unwrap();
        store.checkpoint().unwrap();
        seen(&store, "beside")
    };
    told.push((machine.ops(), twin(&machine)));
    for (n, event) in events().iter().enumerate() {
        assert!(happen(&machine, &store, event), "event {n}");
        told.push((machine.ops(), twin(&machine)));
    }
    let last = &told.last().unwrap().1;
    assert_eq!(seen(&store, "last"), *last);
    assert_eq!(last.values().filter(|(state, ..)| *state == State::Live).count(), 9, "{:?}", last.keys());
    let moments = machine.take_moments();
    drop(store);
    let (mut states, step) = (0, (moments.len() / 100).max(1));
    for moment in moments.iter().step_by(step) {
        let acked = told.iter().filter(|(op, _)| *op < moment.n).count().max(1) - 1;
        let expected: Vec<Seen> =
            told[acked..(acked + 2).min(told.len())].iter().map(|(_, seen)| seen.clone()).collect();
        for persist in [Persist::Nothing, Persist::RandomTorn(moment.n)] {
            let what = format!("operation {} {:?} {}: {persist:?}", moment.n, moment.kind, moment.path);
            let found = moment.torn(moment.write_bytes() / 2).image(persist);
            // Every fourth stops once more, in the start or in what follows it.
            found.set_recording(states % 4 == 0);
            check(&found, &expected, &what);
            let again = found.take_moments();
            for second in again.iter().step_by((again.len() / 3).max(1)) {
                let what = format!("{what}, then operation {} {:?} {}", second.n, second.kind, second.path);
                check(&second.image(Persist::RandomTorn(second.n)), &expected, &what);
                states += 1;
            }
            states += 1;
        }
    }
    assert!(states > 250, "{states}");
}

// row 117: with the last mailbox of a user who is gone his directory goes, and only his; and it does not come back.
#[test]
fn a_user_who_is_gone_leaves_no_directory() {
    let machine = SimDisk::new();
    let store = mail::open_mail(&machine).unwrap();
    store.partitions().prepare(PRIMARY, PartitionId([1; 16]), Micros(1)).unwrap();
    let user = |user: &str| Command::UserAdd {
        user: user.to_owned(),
        partition: None,
        quota_bytes: None,
        quota_messages: None,
    };
    let run = |command| assert!(take(&store, &Step::Do(command)));
    run(Command::PartitionAdd { name: PRIMARY.to_owned(), id: [1; 16] });
    run(user("joe"));
    run(user("ann"));
    assert!(take(&store, &Step::Deliver(1, 100, vec![JOE, ANN])));
    store.checkpoint().unwrap();
    let homes = || {
        let mut homes = Vec::new();
        let each = &mut |home: tree::Home| {
            homes.push(home.user().unwrap().to_owned());
            Ok(())
        };
        tree::homes(&machine.disk(PRIMARY), each).unwrap();
        homes.sort();
        homes
    };
    assert_eq!(homes(), ["ann", "joe"]);
    run(Command::UserDelete { user: "joe".to_owned() });
    store.checkpoint().unwrap();
    assert_eq!(homes(), ["ann", "joe"], "it can be undeleted");
    for (name, id) in mail::tombstones(&store.view()) {
        run(Command::MailboxPurge { name, id, deleted_us: None });
    }
    store.checkpoint().unwrap();
    assert_eq!(homes(), ["ann"]);
    let above = machine.disk(PRIMARY).list("=user").unwrap();
    assert_eq!(above.len(), 1, "{above:?}");
    drop(store);
    let store = mail::open_mail(&machine.image(Persist::Everything)).unwrap();
    store.checkpoint().unwrap();
    assert_eq!(homes(), ["ann"]);
}

/// Mailboxes that have a directory on a partition, and those that are to have one.
fn assert_directories(machine: &SimDisk, store: &Store, what: &str) {
    let view = store.view();
    for partition in [PRIMARY, FAR] {
        let (disk, mut there, mut wanted) = (machine.disk(partition), BTreeSet::new(), BTreeSet::new());
        tree::homes(&disk, &mut |home| {
            there.extend(tree::mailboxes(&disk, &home)?.into_iter().map(|place| place.id));
            Ok(())
        })
        .unwrap();
        let mut note =
            |row: MailboxRow| wanted.extend((row.partition == partition && row.uidnext > 1).then_some(row.id));
        view.scan(Table::Mailboxes, std::ops::Bound::Unbounded, &mut |key, row| {
            note(MailboxRow::decode(key, row).unwrap());
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
        view.scan(Table::Past, std::ops::Bound::Unbounded, &mut |key, row| {
            if split(key).is_some() {
                note(TombstoneRow::decode(key, row).unwrap().mailbox);
            }
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(there, wanted, "{what}: directories on {partition}");
    }
}

/// Moves joe to the far partition; mail comes in on the way.
fn relocate(store: &Arc<Store>) {
    let mut moving = store.begin_move("joe", FAR).unwrap().unwrap();
    let unused = |what: &str| {
        let row = store.view().get(Table::Users, b"joe").unwrap().unwrap();
        let home = Home::parse(&UserRow::decode(b"joe", &row).unwrap().directory).unwrap();
        let wanted = Wanted { dry_run: true, mailboxes: &|_| true, users: true, is_up_to_date: false };
        let found = store.reconcile(FAR, &home, wanted).unwrap();
        let (strangers, changes, findings) = (found.strangers, found.changes, found.findings);
        assert!(strangers.is_empty() && changes.is_empty() && findings.is_empty(), "{what}: {changes:?} {findings:?}");
    };
    let first = moving.copy(&mut |nth, _| {
        unused(&format!("a copy, {nth} mailboxes of it"));
        true
    });
    let first = first.unwrap();
    unused("a copy that nobody has");
    assert!(take(store, &Step::Deliver(7, 200, vec![JOE])));
    assert!(take(store, &Step::Do(Command::MessagePurge { of: of(JOE, &[2]) })));
    assert!(matches!(store.commit(first), Err(CommitError::Stale)), "mail came in");
    let command = moving.copy(&mut |_, _| true).unwrap();
    let look = |view: &View| seen_at(store, view, &[(JOE, "joe"), (ANN, "ann")], "a reader on the way");
    let reader = store.view();
    let before = look(&reader);
    store.commit(command).unwrap();
    assert!(take(store, &Step::Deliver(8, 3000, vec![JOE, ANN])));
    store.checkpoint().unwrap();
    moving.done().unwrap();
    assert_eq!(look(&reader), before, "who reads on the way finds everything where it is now");
}

// row 115: a user moves with everything, while mail comes in; wherever the machine stops, he lies in one place with all of it, and nothing
// stays in the other.
#[test]
fn a_user_moves_and_no_crash_loses_or_leaves_anything() {
    let (machine, store) = with_far();
    for user in ["joe", "ann"] {
        let (user, partition) = (user.to_owned(), Some(PRIMARY.to_owned()));
        let add = Command::UserAdd { user, partition, quota_bytes: Some(1 << 20), quota_messages: None };
        assert!(take(&store, &Step::Do(add)));
    }
    assert!(take(&store, &Step::Deliver(1, 100, vec![JOE, ANN])));
    assert!(take(&store, &Step::Deliver(2, 3000, vec![JOE, ANN])));
    assert!(take(&store, &Step::Deliver(3, 300, vec![JOE])));
    assert!(take(&store, &Step::Do(Command::MessageExpunge { of: of(JOE, &[2]) })));
    let (text, partition) = ("user/joe/Old".to_owned(), None);
    assert!(take(&store, &Step::Do(Command::MailboxCreate { name: text.clone(), partition })));
    assert!(take(&store, &Step::Deliver(4, 100, vec!["user/joe/Old"])));
    assert!(take(&store, &Step::Do(Command::MailboxDelete { name: text })));
    store.checkpoint().unwrap();
    machine.set_recording(true);
    let begun = (machine.ops(), seen(&store, "begin"));
    relocate(&store);
    let last = seen(&store, "end");
    assert!(begun.1.len() < last.len());
    assert_directories(&machine, &store, "end");
    let moments = machine.take_moments();
    drop(store);
    let (mut moved, mut states, step) = (0, 0, (moments.len() / 80).max(1));
    for moment in moments.iter().step_by(step) {
        for persist in [Persist::Nothing, Persist::RandomTorn(moment.n)] {
            let what = format!("operation {} {:?} {}: {persist:?}", moment.n, moment.kind, moment.path);
            let found = moment.torn(moment.write_bytes() / 2).image(persist);
            let store = open_far(&found).unwrap_or_else(|e| panic!("{what}: {e}"));
            let now = seen(&store, &what);
            for (key, value) in &begun.1 {
                // The second message is purged on the way.
                assert!(now.get(key) == Some(value) || key.1 == 2, "{what}: {key:?}");
            }
            store.checkpoint().unwrap();
            assert_eq!(seen(&store, &what), now, "{what}: after a checkpoint");
            assert_directories(&found, &store, &what);
            let row = store.view().get(Table::Users, b"joe").unwrap().unwrap();
            moved += usize::from(UserRow::decode(b"joe", &row).unwrap().partition == FAR);
            states += 1;
        }
    }
    assert!(states > 100 && moved > 0 && moved < states, "{moved} of {states}");
}

// rows 115, 128: bytes that were found for a message whose user moved meanwhile are not put where he lay
#[test]
fn what_moved_since_it_was_looked_at_gets_no_file_where_it_lay() {
    let (machine, store) = with_far();
    let (user, partition) = ("joe".to_owned(), Some(PRIMARY.to_owned()));
    let add = Command::UserAdd { user, partition, quota_bytes: Some(1 << 20), quota_messages: None };
    assert!(take(&store, &Step::Do(add)) && take(&store, &Step::Deliver(1, 100, vec![JOE])));
    store.checkpoint().unwrap();
    let sick = || {
        let view = store.view();
        let (name, row) = mail::row(&view, JOE).unwrap();
        let of = store.folder(&view, name.key(), &row).unwrap();
        let place = Home::parse(&of.home).unwrap().mailbox(of.mailbox);
        let body = Body::of(&mail::text(1, 100));
        let path = place.message(1);
        (Sick { mailbox: JOE.to_owned(), of, uid: 1, file: path.clone(), body }, path)
    };
    let (before, path) = sick();
    machine.disk(PRIMARY).damage(&path, 40, 1).unwrap();
    let mut moving = store.begin_move("joe", FAR).unwrap().unwrap();
    let command = moving.copy(&mut |_, _| true).unwrap();
    store.commit(command).unwrap();
    store.checkpoint().unwrap();
    moving.done().unwrap();
    assert!(machine.disk(PRIMARY).stat(&path).unwrap().is_none(), "nothing lies there any more");
    let heal = |sick: Sick| store.heal(&[sick], true, None, &|_| Ok(())).unwrap();
    assert_eq!(heal(before), [Healed::Could], "the log has it");
    assert!(machine.disk(PRIMARY).stat(&path).unwrap().is_none(), "nothing is put there");
    let (now, path) = sick();
    assert_eq!((heal(now), machine.disk(FAR).peek(&path).unwrap()), (vec![Healed::Yes], mail::text(1, 100)));
}

// row 111: a partition that is away for very long costs log, which is counted and bounds what is taken for it, and no memory
#[test]
fn a_partition_that_is_away_for_long_costs_no_memory() {
    let machine = SimDisk::new();
    let store = open_far(&machine).unwrap();
    for (name, n) in [(PRIMARY, 1), (FAR, 2)] {
        store.partitions().prepare(name, PartitionId([n; 16]), Micros(1)).unwrap();
    }
    for event in events().iter().take(7) {
        assert!(happen(&machine, &store, event));
    }
    put(&machine, false, Some(&store));
    store.set_partition_log(512 << 10);
    let (mut held, mut log, mut refused) = (Vec::new(), 0, 0);
    for n in 0..1500 {
        assert!(take(&store, &Step::Deliver(100 + n, 400, vec![JOE])), "others go on");
        refused += usize::from(!take(&store, &Step::Deliver(5000 + n, 400, vec![ANN])));
        if n % 5 == 4 {
            assert!(take(&store, &Step::Checkpoint));
            held.push(store.base.load().active.bytes());
            let lagging = store.lagging();
            let [far] = &lagging[..] else { panic!("{lagging:?}") };
            assert!(far.partition == FAR && far.log_bytes >= log, "what is kept for it is counted: {far:?}");
            assert_eq!(far.is_closed, far.log_bytes >= 512 << 10);
            log = far.log_bytes;
        }
    }
    assert!(log > 1 << 20 && (500..1500).contains(&refused), "{log} bytes of log, {refused} refused");
    let (first, last) = (held[..20].iter().max().unwrap(), held[held.len() - 20..].iter().max().unwrap());
    assert!(last <= first, "memory: {first} bytes at first, {last} at last");
    put(&machine, true, Some(&store));
    assert!(take(&store, &Step::Checkpoint));
    assert!(store.lagging().is_empty() && take(&store, &Step::Deliver(9, 400, vec![ANN])));
    let taken = seen(&store, "after").keys().filter(|(mailbox, _)| mailbox == ANN).count();
    assert_eq!(taken, 1500 - refused + 3, "all that was taken is there");
}

/// Ann on the far partition with mail; nobody on the near one.
fn one_far_away() -> (SimDisk, Arc<Store>) {
    let (machine, store) = with_far();
    let (user, partition) = ("ann".to_owned(), Some(FAR.to_owned()));
    let add = Command::UserAdd { user, partition, quota_bytes: None, quota_messages: None };
    assert!(take(&store, &Step::Do(add)));
    assert!(take(&store, &Step::Deliver(1, 100, vec![ANN])));
    assert!(take(&store, &Step::Deliver(2, 3000, vec![ANN])));
    store.checkpoint().unwrap();
    (machine, store)
}

fn seen_of_ann(store: &Store, what: &str) -> Seen {
    mail::seen_in(store, &[(ANN, "ann")], what)
}

// rows 111, 115: mail for a partition that is away was staged on an empty one, which was then taken out of the store: the other waited for it
// for ever, and what was acknowledged was gone with the disk.
#[test]
fn a_partition_whose_staged_mail_is_needed_stays() {
    let (machine, store) = one_far_away();
    put(&machine, false, Some(&store));
    // A long one: staged on the partition that is there.
    assert!(take(&store, &Step::Deliver(3, 2000, vec![ANN])));
    let remove = || Command::PartitionRemove { name: PRIMARY.to_owned() };
    let refused = |when: &str| match store.commit(remove()) {
        Err(CommitError::Refused(refusal)) if refusal.kind == RefusalKind::Busy => refusal,
        answer => panic!("{when}: {answer:?}"),
    };
    assert_eq!(refused("in memory").hint.as_deref(), Some("storectl checkpoint, and again"));
    store.checkpoint().unwrap();
    assert_eq!(refused("behind").hint.as_deref(), Some("storectl partition show far"));
    put(&machine, true, Some(&store));
    store.checkpoint().unwrap();
    assert!(store.partitions().behind().is_empty());
    let before = seen_of_ann(&store, "before");
    assert_eq!(before.len(), 3);
    // On its way while the partition goes: it is told to come again.
    let mut intake = crate::mail::Intake::new(&store, PRIMARY);
    intake.add(&mail::text(4, 2000)).unwrap();
    let message = intake.finish().unwrap();
    store.commit(remove()).unwrap();
    store.partitions().forget(PRIMARY);
    let to = vec![crate::model::command::Target { name: ANN.to_owned(), or: None }];
    let (flags, keywords) = (Flags::NONE, BTreeSet::new());
    let late = crate::model::command::Delivery { message, to, flags, keywords, internal_us: None, each: false };
    let answer = store.commit(Command::Deliver(late));
    assert!(matches!(&answer, Err(CommitError::Refused(r)) if r.kind == RefusalKind::Busy), "{answer:?}");
    store.checkpoint().unwrap();
    assert!(store.partitions().behind().is_empty());
    assert_eq!(seen_of_ann(&store, "after"), before);
}

// row 111: what a partition needs from one that is not in the store any more is lost, and said; the partition itself is not.
#[test]
fn a_partition_is_not_behind_for_ever_for_one_that_was_removed() {
    let (machine, store) = one_far_away();
    put(&machine, false, Some(&store));
    assert!(take(&store, &Step::Deliver(3, 2000, vec![ANN])));
    assert!(take(&store, &Step::Deliver(4, 100, vec![ANN])));
    store.checkpoint().unwrap();
    store.partitions().forget(PRIMARY);
    put(&machine, true, Some(&store));
    store.checkpoint().unwrap();
    assert!(store.partitions().behind().is_empty(), "{:?}", store.partitions().behind());
    assert!(store.repair_recommended().is_some(), "one message is without its bytes");
    let (name, row) = mail::row(&store.view(), ANN).unwrap();
    let view = store.view();
    let of = store.folder(&view, name.key(), &row).unwrap();
    let readable = |message: &crate::model::message::Message| store.message_bytes(&view, &of, message).is_ok();
    let listed = store.messages(&view, &of, &row).unwrap().messages;
    assert_eq!(listed.values().filter(|m| readable(m)).map(|m| m.uid).collect::<Vec<_>>(), [1, 2, 4]);
}

// rows 111, 115: a partition that lacks changes, and that nobody uses any more, is taken out of the store; the machine stops before it is noted that it lacks
// nothing. Its line kept the log for ever, and no log could be begun anew.
#[test]
fn no_log_is_kept_for_one_that_was_removed_before_a_crash() {
    let (machine, store) = one_far_away();
    let noted = identity::applied(&machine.disk(PRIMARY)).unwrap().unwrap();
    store.partitions().fall_behind(PRIMARY, noted, "it was away");
    store.partitions().note_behind().unwrap();
    store.commit(Command::PartitionRemove { name: PRIMARY.to_owned() }).unwrap();
    machine.disk(PRIMARY).erase("PARTITION").unwrap();
    // Nobody was told, nothing was noted.
    drop(store);
    let after = machine.image(Persist::Nothing);
    let store = open_far(&after).unwrap();
    assert!(store.partitions().behind().is_empty(), "{:?}", store.partitions().behind());
    store.checkpoint().unwrap();
    assert!(store.partitions().needs_log().is_empty() && after.disk("data").peek("behind").is_err());
    store.reset_log().unwrap();
}

// row 111: a checkpoint brings a partition what it lacks, and then fails: what is to go from that partition goes all the same, then or after
// the next start.
#[test]
fn what_a_late_partition_is_to_lose_outlives_a_failed_checkpoint() {
    for restarts in [false, true] {
        let (machine, mut store) = one_far_away();
        assert!(take(&store, &Step::Do(Command::MessageExpunge { of: of(ANN, &[1]) })));
        assert!(take(&store, &Step::Do(Command::MessagePurge { of: of(ANN, &[1]) })));
        let (user, partition) = ("joe".to_owned(), Some(PRIMARY.to_owned()));
        let add = Command::UserAdd { user, partition, quota_bytes: None, quota_messages: None };
        assert!(take(&store, &Step::Do(add)));
        put(&machine, false, Some(&store));
        store.checkpoint().unwrap();
        assert!(take(&store, &Step::Deliver(3, 300, vec![JOE])));
        put(&machine, true, Some(&store));
        machine.disk(PRIMARY).set_free_bytes(0);
        store.checkpoint().unwrap_err();
        machine.disk(PRIMARY).set_unbounded();
        let mut found = machine.clone();
        if restarts {
            found = machine.image(Persist::Nothing);
            drop(store);
            store = open_far(&found).unwrap();
        }
        store.checkpoint().unwrap();
        assert!(store.partitions().behind().is_empty());
        let user = store.view().get(Table::Users, b"ann").unwrap().unwrap();
        let home = Home::parse(&UserRow::decode(b"ann", &user).unwrap().directory).unwrap();
        let place = home.mailbox(mail::row(&store.view(), ANN).unwrap().1.id);
        assert_eq!(place.uids(&found.disk(FAR)).unwrap().into_iter().collect::<Vec<_>>(), [2], "restarts: {restarts}");
    }
}
