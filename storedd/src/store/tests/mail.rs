//! Messages on a disk that loses what was not synced: a machine that stops at every operation, in every way.

use super::*;
use crate::mail::Intake;
use crate::model::MailboxName;
use crate::model::command::{Delivery, Marks, Selection, Target};
use crate::model::message::{Flags, State};
use crate::model::rows::{MailboxRow, QuotaRow, quota_key};
use crate::partition::PartitionId;
use crate::partition::tree::{self, Place};
use std::collections::BTreeSet;

const JOE: &str = "user/joe/INBOX";
const ANN: &str = "user/ann/INBOX";
const PRIMARY: &str = "primary";

fn mail_disks(machine: &SimDisk) -> Disks {
    Disks { partitions: [(PRIMARY.to_owned(), PathBuf::from(PRIMARY))].into(), ..disks(machine) }
}

/// A short message travels in the log here, one of more than 600 bytes is staged.
fn open_mail(machine: &SimDisk) -> Result<Arc<Store>> {
    let disks = mail_disks(machine);
    let env = Arc::new(SimEnv::new(Micros(1_800_000_000_000_000), 7));
    let lock = take_lock(&disks)?;
    let progress: OnProgress = Arc::new(|_| {});
    let options = Options { inline_limit: 600, segment_size: 64 << 10, spares: 0, ..options() };
    Ok(open(disks, env, options, lock, START, &progress)?.0)
}

fn text(n: usize, bytes: usize) -> Vec<u8> {
    let mut text = format!("Subject: {n}\r\n\r\n").into_bytes();
    text.resize(bytes, b'a' + u8::try_from(n % 26).unwrap());
    text
}

/// What can be seen of all messages: mailbox, UID, state, flags, bytes.
type Seen = BTreeMap<(String, u32), (State, Flags, Vec<u8>)>;

fn row(view: &View, mailbox: &str) -> Option<(MailboxName, MailboxRow)> {
    let name = MailboxName::parse(mailbox).unwrap();
    let row = view.get(Table::Mailboxes, name.key()).unwrap()?;
    let row = MailboxRow::decode(name.key(), &row).unwrap();
    Some((name, row))
}

/// Looks at everything, and at what must hold whatever happened.
fn seen(store: &Store, what: &str) -> Seen {
    let (view, mut seen) = (store.view(), Seen::new());
    for (mailbox, user) in [(JOE, "joe"), (ANN, "ann")] {
        let Some((name, row)) = row(&view, mailbox) else { continue };
        let of = store.folder(&view, name.key(), &row).unwrap();
        let listed = store.messages(&view, &of, &row).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(listed.is_whole, "{what}: {mailbox} {row:?} {listed:?}");
        let quota = view.get(Table::Quotas, &quota_key(user)).unwrap().unwrap();
        assert_eq!(QuotaRow::decode(&quota_key(user), &quota).unwrap().usage(), row.usage(), "{what}: I9");
        for (uid, message) in listed.messages {
            assert!(uid < row.uidnext && message.modseq <= row.highest_modseq, "{what}");
            let bytes = store.message_bytes(&view, &of, &message).unwrap_or_else(|e| panic!("{what}: {uid}: {e}"));
            seen.insert((mailbox.to_owned(), uid), (message.state, message.flags, bytes));
        }
    }
    seen
}

#[derive(Clone)]
enum Step {
    Do(Command),
    Deliver(usize, usize, Vec<&'static str>),
    Checkpoint,
}

fn of(name: &str, uids: &[u32]) -> Selection {
    Selection { name: name.to_owned(), uids: uids.to_vec(), ..Selection::default() }
}

fn steps() -> Vec<Step> {
    let user = |user: &str| Command::UserAdd {
        user: user.to_owned(),
        partition: None,
        quota_bytes: Some(1 << 20),
        quota_messages: None,
    };
    let seen = Marks { flags: Flags::SEEN, ..Marks::default() };
    let flag = |uids: &[u32]| Command::MessageFlags { of: of(JOE, uids), add: seen.clone(), remove: Marks::default() };
    let copy =
        |name, uids: &[u32], to: &str, remove| Command::MessageCopy { of: of(name, uids), to: to.to_owned(), remove };
    let expunge = |name, uids: &[u32]| Command::MessageExpunge { of: of(name, uids) };
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
        Step::Do(flag(&[1])),
        Step::Deliver(6, 100, vec![ANN]),
    ]
}

/// Does one step; true if it is acknowledged.
fn take(store: &Arc<Store>, step: &Step) -> bool {
    match step {
        Step::Do(command) => store.commit(command.clone()).is_ok(),
        Step::Checkpoint => store.checkpoint().is_ok(),
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

/// A start after a crash: what was acknowledged is there, and of what was under way all or nothing.
fn check(found: &SimDisk, expected: &[Seen], what: &str) {
    let store = open_mail(found).unwrap_or_else(|e| panic!("{what}: {e}"));
    let now = seen(&store, what);
    assert!(expected.contains(&now), "{what}: {:?}", now.keys().collect::<Vec<_>>());
    store.checkpoint().unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(seen(&store, what), now, "{what}: after a checkpoint");
    let view = store.view();
    let mut wanted = BTreeSet::new();
    for (mailbox, uid) in now.keys() {
        let (name, row) = row(&view, mailbox).unwrap();
        let of = store.folder(&view, name.key(), &row).unwrap();
        wanted.insert((tree::Home::parse(&of.home).unwrap().mailbox(of.mailbox), *uid));
    }
    let there = files(found);
    assert!(wanted.is_subset(&there), "{what}: a message without a file");
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
    assert_eq!(last.values().filter(|(state, ..)| *state == State::Live).count(), 10, "{:?}", last.keys());
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

// The test above is believed because it catches these.
#[cfg(feature = "planted-bugs")]
#[test]
fn planted_faults_of_messages_are_caught() {
    use crate::planted::Bug;
    for bug in Bug::OF_MAIL {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["store::tests::mail::one_planted_fault", "--exact", "--ignored"]);
        let caught = child.env("STOREDD_BUG", (bug as u32).to_string()).output().unwrap();
        assert!(!caught.status.success(), "{bug:?} was not caught");
    }
}

#[cfg(feature = "planted-bugs")]
#[test]
#[ignore = "a planted fault is on for its whole process: planted_faults_of_messages_are_caught runs it, and it fails"]
fn one_planted_fault() {
    use crate::planted::{Bug, plant};
    let asked = std::env::var("STOREDD_BUG").unwrap_or_default();
    plant(Bug::OF_MAIL.into_iter().find(|bug| (*bug as u32).to_string() == asked));
    every_crash_keeps_every_acknowledged_message();
}
