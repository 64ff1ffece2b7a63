//! Messages on a disk that loses what was not synced: a machine that stops at every operation, in every way.

use super::*;
use crate::mail::Intake;
use crate::model::command::{Delivery, Marks, Selection, Target};
use crate::model::message::{Flags, State};
use crate::model::name::{key_text, subtree_end, user_prefix};
use crate::model::rows::{MailboxRow, QuotaRow, TombstoneRow, id_of, quota_key, split};
use crate::model::seen::SeenRow;
use crate::model::{MailboxName, Usage};
use crate::partition::PartitionId;
use crate::partition::tree::{self, Place};
use std::collections::BTreeSet;
use std::ops::{Bound, ControlFlow};

pub(super) const JOE: &str = "user/joe/INBOX";
pub(super) const ANN: &str = "user/ann/INBOX";
const OLD: &str = "user/joe/Old";
pub(super) const PRIMARY: &str = "primary";

pub(super) fn mail_disks(machine: &SimDisk) -> Disks {
    Disks { partitions: [(PRIMARY.to_owned(), PRIMARY.into())].into(), ..disks(machine) }
}

/// A short message travels in the log here, one of more than 600 bytes is staged.
pub(super) fn open_mail(machine: &SimDisk) -> Result<Arc<Store>> {
    open_with(machine, Options { inline_limit: 600, segment_size: 64 << 10, spares: 0, ..options() })
}

fn open_with(machine: &SimDisk, options: Options) -> Result<Arc<Store>> {
    let disks = mail_disks(machine);
    let env = Arc::new(SimEnv::new(Micros(1_800_000_000_000_000), 7));
    let lock = take_lock(&disks)?;
    let progress: OnProgress = Arc::new(|_| {});
    Ok(open(disks, env, options, lock, START, &progress)?.0)
}

pub(super) fn text(n: usize, bytes: usize) -> Vec<u8> {
    let mut text = format!("Subject: {n}\r\n\r\n").into_bytes();
    text.resize(bytes, b'a' + u8::try_from(n % 26).unwrap());
    text
}

/// What can be seen of all messages: mailbox, UID, state, flags, bytes.
pub(super) type Seen = BTreeMap<(String, u32), (State, Flags, Vec<u8>)>;

pub(super) fn row(view: &View, mailbox: &str) -> Option<(MailboxName, MailboxRow)> {
    let name = MailboxName::parse(mailbox).unwrap();
    let row = view.get(Table::Mailboxes, name.key()).unwrap()?;
    let row = MailboxRow::decode(name.key(), &row).unwrap();
    Some((name, row))
}

/// What a user's mailboxes count together.
fn usage(view: &View, user: &str) -> Usage {
    let (start, mut sum) = (user_prefix(user), Usage::default());
    let mut each = |key: &[u8], row: &[u8]| {
        sum = sum.plus(MailboxRow::decode(key, row).unwrap().usage());
        std::ops::ControlFlow::Continue(())
    };
    view.scan_until(Table::Mailboxes, Bound::Included(&start), &subtree_end(&start[..start.len() - 1]), &mut each)
        .unwrap();
    sum
}

/// Looks at everything, and at what must hold whatever happened.
pub(super) fn seen(store: &Store, what: &str) -> Seen {
    seen_in(store, &[(JOE, "joe"), (OLD, "joe"), (ANN, "ann")], what)
}

/// As [`seen`], of some mailboxes and their users.
pub(super) fn seen_in(store: &Store, mailboxes: &[(&str, &'static str)], what: &str) -> Seen {
    seen_at(store, &store.view(), mailboxes, what)
}

/// As [`seen_in`], at the moment of a view.
pub(super) fn seen_at(store: &Store, view: &View, mailboxes: &[(&str, &'static str)], what: &str) -> Seen {
    let mut seen = Seen::new();
    for (mailbox, user) in mailboxes {
        let Some((name, row)) = row(view, mailbox) else { continue };
        let of = store.folder(view, name.key(), &row).unwrap();
        let listed = store.messages(view, &of, &row).unwrap_or_else(|e| panic!("{what}: {e}"));
        let quota = view.get(Table::Quotas, &quota_key(user)).unwrap().unwrap();
        assert_eq!(QuotaRow::decode(&quota_key(user), &quota).unwrap().usage(), usage(view, user), "{what}: I9");
        for (uid, message) in listed.messages {
            assert!(uid < row.uidnext && message.modseq <= row.highest_modseq, "{what}");
            let bytes = store.message_bytes(view, &of, &message).unwrap_or_else(|e| panic!("{what}: {uid}: {e}"));
            seen.insert(((*mailbox).to_owned(), uid), (message.state, message.flags, bytes));
        }
    }
    view.scan(Table::Seen, Bound::Unbounded, &mut |key, row| {
        let row = SeenRow::decode(key, row).unwrap();
        seen.insert((key_text(key), DELETED), (State::Purged, Flags::NONE, format!("{:?}", row.runs()).into_bytes()));
        ControlFlow::Continue(())
    })
    .unwrap();
    for (name, _) in tombstones(view) {
        seen.insert((name, DELETED), (State::Expunged, Flags::NONE, Vec::new()));
    }
    seen
}

/// Stands where a UID would, for a mailbox that was deleted.
const DELETED: u32 = 0;

/// Name and number of the mailboxes that were deleted and are not purged.
pub(super) fn tombstones(view: &View) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    view.scan(Table::Past, Bound::Unbounded, &mut |key, _| {
        found.extend(split(key).map(|(name, id)| (key_text(name), id_of(id).unwrap())));
        ControlFlow::Continue(())
    })
    .unwrap();
    found
}

#[derive(Clone)]
pub(super) enum Step {
    Do(Command),
    Deliver(usize, usize, Vec<&'static str>),
    Checkpoint,
    /// The deleted mailbox with this name goes for good.
    PurgeMailbox(&'static str),
    /// What was seen goes to the manifests.
    WriteOut,
}

pub(super) fn of(name: &str, uids: &[u32]) -> Selection {
    Selection { name: name.to_owned(), uids: uids.to_vec(), ..Selection::default() }
}

pub(super) fn user(user: &str) -> Command {
    Command::UserAdd { user: user.to_owned(), partition: None, quota_bytes: Some(1 << 20), quota_messages: None }
}

pub(super) fn steps() -> Vec<Step> {
    let seen = Marks { flags: Flags::SEEN, ..Marks::default() };
    let flag = |uids: &[u32]| Command::MessageFlags { of: of(JOE, uids), add: seen.clone(), remove: Marks::default() };
    let copy =
        |name, uids: &[u32], to: &str, remove| Command::MessageCopy { of: of(name, uids), to: to.to_owned(), remove };
    let expunge = |name, uids: &[u32]| Command::MessageExpunge { of: of(name, uids) };
    let see = |uids: &[u32]| Command::MessageFlagsAs {
        user: "ann".to_owned(),
        of: of(JOE, uids),
        add: seen.clone(),
        remove: Marks::default(),
    };
    let create = |name: &str| Command::MailboxCreate { name: name.to_owned(), partition: None };
    let purge = |name, uids: &[u32]| Command::MessagePurge { of: of(name, uids) };
    vec![
        Step::Do(Command::PartitionAdd { name: PRIMARY.to_owned(), id: [1; 16] }),
        Step::Do(user("joe")),
        Step::Do(user("ann")),
        Step::Deliver(1, 100, vec![JOE]),
        Step::Deliver(2, 200, vec![JOE, ANN]),
        Step::Deliver(3, 5000, vec![ANN, JOE]),
        Step::Checkpoint,
        Step::Do(flag(&[1, 3])),
        Step::Do(copy(JOE, &[1, 2], ANN, false)),
        Step::Do(expunge(JOE, &[1, 2])),
        Step::Do(purge(JOE, &[2])),
        Step::Do(Command::Undelete { of: of(JOE, &[1]) }),
        Step::Checkpoint,
        // Come, copied, gone for good, and the copy copied and gone: within one interval.
        Step::Deliver(4, 300, vec![JOE]),
        Step::Do(copy(JOE, &[4], ANN, true)),
        Step::Do(purge(JOE, &[4])),
        Step::Do(copy(ANN, &[5], JOE, false)),
        Step::Do(expunge(ANN, &[5])),
        Step::Do(purge(ANN, &[5])),
        Step::Deliver(5, 2000, vec![JOE]),
        Step::Do(copy(JOE, &[6], ANN, false)),
        Step::Checkpoint,
        Step::Do(copy(JOE, &[5], ANN, false)),
        Step::Do(expunge(JOE, &[5])),
        Step::Do(purge(JOE, &[5])),
        Step::Checkpoint,
        // Ann reads in Joe's INBOX.
        Step::Do(Command::AclSet { name: JOE.to_owned(), identifier: "ann".to_owned(), rights: "lrs".to_owned() }),
        Step::Do(see(&[1, 3])),
        Step::WriteOut,
        Step::Do(see(&[6])),
        Step::Do(flag(&[1])),
        Step::Deliver(6, 100, vec![ANN]),
        // Deleted and gone for good, once within an interval and once later.
        Step::Do(create(OLD)),
        Step::Deliver(7, 100, vec![OLD]),
        Step::Do(Command::MailboxDelete { name: OLD.to_owned() }),
        Step::PurgeMailbox(OLD),
        Step::Do(create(OLD)),
        Step::Deliver(8, 5000, vec![OLD, JOE]),
        Step::Checkpoint,
        Step::Do(Command::MailboxDelete { name: OLD.to_owned() }),
        Step::Checkpoint,
        Step::PurgeMailbox(OLD),
        Step::Checkpoint,
    ]
}

/// Does one step; true if it is acknowledged.
pub(super) fn take(store: &Arc<Store>, step: &Step) -> bool {
    match step {
        Step::Do(command) => store.commit(command.clone()).is_ok(),
        Step::Checkpoint => store.checkpoint().is_ok(),
        Step::WriteOut => store.write_out_seen(Micros(0)).is_ok(),
        Step::PurgeMailbox(name) => {
            let found = tombstones(&store.view()).into_iter().find(|(deleted, _)| deleted == name);
            let purge = |(name, id)| Command::MailboxPurge { name, id, deleted_us: None };
            found.is_some_and(|found| store.commit(purge(found)).is_ok())
        }
        Step::Deliver(n, bytes, to) => {
            let mut intake = Intake::new(store, PRIMARY);
            let Ok(message) =
                text(*n, *bytes).chunks(999).try_for_each(|piece| intake.add(piece)).and_then(|()| intake.finish())
            else {
                return false;
            };
            let to = to.iter().map(|name| Target { name: (*name).to_owned(), or: None }).collect();
            let (flags, keywords) = (Flags::NONE, BTreeSet::new());
            let delivery = Delivery { message, to, flags, keywords, internal_us: None, each: false };
            store.commit(Command::Deliver(delivery)).is_ok()
        }
    }
}

/// The message files that are there.
fn files(machine: &SimDisk) -> BTreeSet<(Place, u32)> {
    let disk = machine.disk(PRIMARY);
    let mut found = BTreeSet::new();
    tree::homes(&disk, &mut |home| {
        for place in tree::mailboxes(&disk, &home)? {
            found.extend(place.uids(&disk)?.into_iter().map(|uid| (place.clone(), uid)));
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(tree::staged_numbers(&disk).unwrap(), [] as [u64; 0], "nothing stays on its way in");
    found
}

/// The mailboxes that have a directory.
fn directories(machine: &SimDisk) -> BTreeSet<u64> {
    let (disk, mut found) = (machine.disk(PRIMARY), BTreeSet::new());
    tree::homes(&disk, &mut |home| {
        found.extend(tree::mailboxes(&disk, &home)?.into_iter().map(|place| place.id));
        Ok(())
    })
    .unwrap();
    found
}

/// The mailboxes, deleted ones too, that ever had a message.
fn known(view: &View) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    view.scan(Table::Mailboxes, Bound::Unbounded, &mut |key, row| {
        let row = MailboxRow::decode(key, row).unwrap();
        found.extend((row.uidnext > 1).then_some(row.id));
        ControlFlow::Continue(())
    })
    .unwrap();
    view.scan(Table::Past, Bound::Unbounded, &mut |key, row| {
        if split(key).is_some() {
            let row = TombstoneRow::decode(key, row).unwrap().mailbox;
            found.extend((row.uidnext > 1).then_some(row.id));
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    found
}

/// A start after a crash: what was acknowledged is there, and of what was under way all or nothing.
fn check(found: &SimDisk, expected: &[Seen], what: &str) {
    let store = open_mail(found).unwrap_or_else(|e| panic!("{what}: {e}"));
    let now = seen(&store, what);
    assert!(expected.contains(&now), "{what}: {:?}", now.keys().collect::<Vec<_>>());
    store.checkpoint().unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(seen(&store, what), now, "{what}: after a checkpoint");
    super::mirror::assert_mirrored(&store, found, what);
    let view = store.view();
    let mut wanted = BTreeSet::new();
    for (mailbox, uid) in now.keys().filter(|(_, uid)| *uid != DELETED) {
        let (name, row) = row(&view, mailbox).unwrap();
        let of = store.folder(&view, name.key(), &row).unwrap();
        wanted.insert((tree::Home::parse(&of.home).unwrap().mailbox(of.mailbox), *uid));
    }
    let deleted: BTreeSet<u64> = tombstones(&view).into_iter().map(|(_, id)| id).collect();
    let mut there = files(found);
    there.retain(|(place, _)| !deleted.contains(&place.id));
    assert_eq!(there, wanted, "{what}: a message without a file, or a file of none");
    assert_eq!(directories(found), known(&view), "{what}: directories");
    drop(view);
    drop(store);
}

// rows 18, 20, 21: every acknowledged message is there with its bytes, state and flags, wherever the machine stops
#[test]
fn every_crash_keeps_every_acknowledged_message() {
    let machine = SimDisk::new();
    let store = open_mail(&machine).unwrap();
    store.partitions().prepare(PRIMARY, PartitionId([1; 16]), Micros(1)).unwrap();
    machine.set_recording(true);
    // At which operation each step was acknowledged, and what could be seen then.
    let mut told = vec![(machine.ops(), seen(&store, "begin"))];
    for (n, step) in steps().iter().enumerate() {
        assert!(take(&store, step), "step {n}");
        told.push((machine.ops(), seen(&store, "after a step")));
    }
    let last = &told.last().unwrap().1;
    assert_eq!(last.values().filter(|(state, ..)| *state == State::Live).count(), 11, "{:?}", last.keys());
    let moments = machine.take_moments();
    drop(store);
    let (mut states, step) = (0, (moments.len() / 150).max(1));
    for moment in moments.iter().step_by(step) {
        let acked = told.iter().filter(|(op, _)| *op < moment.n).count().max(1) - 1;
        let expected: Vec<Seen> =
            told[acked..(acked + 2).min(told.len())].iter().map(|(_, seen)| seen.clone()).collect();
        for persist in [Persist::Nothing, Persist::RandomTorn(moment.n), Persist::NamesWithoutData] {
            let what = format!("operation {} {:?} {}: {persist:?}", moment.n, moment.kind, moment.path);
            let found = moment.torn(moment.write_bytes() / 2).image(persist);
            check(&found, &expected, &what);
            states += 1;
        }
    }
    assert!(states > 300, "{states}");
}

// A replay that is larger than memory may be writes down as it goes. It could not find its own rows by their keys, so that messages were
// written down without their bytes.
#[test]
fn a_replay_in_pieces_keeps_the_bytes() {
    let machine = SimDisk::new();
    let store = open_mail(&machine).unwrap();
    store.partitions().prepare(PRIMARY, PartitionId([1; 16]), Micros(1)).unwrap();
    let deliveries = (1..40).map(|n| Step::Deliver(n, 50 * n, vec![JOE, ANN]));
    for (n, step) in steps()[..3].iter().cloned().chain(deliveries).enumerate() {
        assert!(take(&store, &step), "step {n}");
    }
    let expected = seen(&store, "before");
    drop(store);
    let small = Options { inline_limit: 600, segment_size: 64 << 10, overlay_bytes_max: 4 << 10, ..options() };
    let store = open_with(&machine, small).unwrap();
    assert!(store.checkpoint_lsn() > Lsn(10), "it was written down in pieces");
    assert_eq!(seen(&store, "after"), expected);
}

// A mailbox that was deleted and purged between two checkpoints: its directory stayed for ever.
#[test]
fn a_mailbox_that_is_deleted_and_purged_at_once_leaves_no_directory() {
    let machine = SimDisk::new();
    let store = open_mail(&machine).unwrap();
    store.partitions().prepare(PRIMARY, PartitionId([1; 16]), Micros(1)).unwrap();
    let name = "user/joe/a";
    let there = [
        Step::Do(Command::MailboxCreate { name: name.to_owned(), partition: None }),
        Step::Deliver(1, 2000, vec![name]),
        Step::Checkpoint,
    ];
    for (n, step) in steps()[..3].iter().chain(&there).enumerate() {
        assert!(take(&store, step), "step {n}");
    }
    let (_, MailboxRow { id, .. }) = row(&store.view(), name).unwrap();
    assert_eq!(files(&machine).len(), 1);
    let gone = [
        // One more, which is staged still.
        Step::Deliver(2, 2000, vec![name]),
        Step::Do(Command::MailboxDelete { name: name.to_owned() }),
        // Its name is taken again.
        Step::Do(Command::MailboxCreate { name: name.to_owned(), partition: None }),
        Step::Do(Command::MailboxPurge { name: name.to_owned(), id, deleted_us: None }),
        Step::Checkpoint,
    ];
    for (n, step) in gone.iter().enumerate() {
        assert!(take(&store, step), "step {n}");
    }
    assert_eq!(files(&machine), BTreeSet::new());
    let disk = machine.disk(PRIMARY);
    let mut left = Vec::new();
    tree::homes(&disk, &mut |home| {
        left.extend(tree::mailboxes(&disk, &home)?.into_iter().map(|place| place.id));
        Ok(())
    })
    .unwrap();
    assert!(!left.contains(&id), "{left:?}");
}

// A long message that came and was purged between two checkpoints: its staged file stayed until the next start.
#[test]
fn a_staged_message_that_is_purged_at_once_leaves_no_file() {
    let machine = SimDisk::new();
    let store = open_mail(&machine).unwrap();
    store.partitions().prepare(PRIMARY, PartitionId([1; 16]), Micros(1)).unwrap();
    let gone = [
        Step::Deliver(1, 2000, vec![JOE]),
        Step::Do(Command::MessageExpunge { of: of(JOE, &[1]) }),
        Step::Do(Command::MessagePurge { of: of(JOE, &[1]) }),
        Step::Checkpoint,
    ];
    for (n, step) in steps()[..3].iter().chain(&gone).enumerate() {
        assert!(take(&store, step), "step {n}");
    }
    assert_eq!(files(&machine), BTreeSet::new());
}

// A database that is older than what its partitions hold (a snapshot in its place): copies of messages that were staged or purged could
// not be read, and no checkpoint came to its end, because the staged file and the original were long gone.
#[test]
fn an_older_database_finds_the_bytes_of_copies() {
    let machine = SimDisk::new();
    let store = open_mail(&machine).unwrap();
    store.partitions().prepare(PRIMARY, PartitionId([1; 16]), Micros(1)).unwrap();
    for step in &steps()[..3] {
        assert!(take(&store, step));
    }
    store.checkpoint().unwrap();
    let db = machine.disk("db");
    let older = db.peek("mboxlist.redb").unwrap();
    let copy = |name: &str, uid, to: &str| {
        Step::Do(Command::MessageCopy { of: of(name, &[uid]), to: to.to_owned(), remove: false })
    };
    let steps = [
        Step::Deliver(1, 2000, vec![JOE]),
        Step::Checkpoint,
        copy(JOE, 1, ANN),
        Step::Checkpoint,
        Step::Do(Command::MessageExpunge { of: of(JOE, &[1]) }),
        Step::Do(Command::MessagePurge { of: of(JOE, &[1]) }),
        Step::Checkpoint,
        // The only file is that of the first copy.
        copy(ANN, 1, JOE),
    ];
    for (n, step) in steps.iter().enumerate() {
        assert!(take(&store, step), "step {n}");
    }
    let expected = seen(&store, "before");
    drop(store);
    let found = machine.image(Persist::Everything);
    found.disk("db").erase("mboxlist.redb").unwrap();
    found.disk("db").plant("mboxlist.redb", &older).unwrap();
    check(&found, &[expected], "with the older database");
}

// An archive by date goes on from the time of the one before: what is saved while that begins, behind what it shows, must not have an earlier
// time than that says of itself.
#[test]
fn the_time_of_a_moment_is_that_before_its_checkpoint() {
    let machine = SimDisk::new();
    let store = open_mail(&machine).unwrap();
    store.commit(Command::PartitionAdd { name: PRIMARY.to_owned(), id: [1; 16] }).unwrap();
    for n in 0..3 {
        store.commit(user(&format!("u{n}"))).unwrap();
        let (moment, view) = store.moment().unwrap();
        let checkpoint = store.last_times().0.unwrap();
        assert!(moment.time() < checkpoint && moment.lsn() == view.lsn(), "{moment:?}, checkpoint {checkpoint:?}");
    }
}
