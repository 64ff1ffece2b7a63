//! The store on which the work is done.

use super::super::driver::Driver;
use super::super::workload::{PARTITIONS, Step};
use super::super::{mail, world};
use super::essence::{Essence, essence};
use std::collections::BTreeSet;
use std::sync::Arc;
use storedd::disk::{Disk, Kind, SimDisk};
use storedd::env::{Env, SimEnv};
use storedd::jobs;
use storedd::lsn::Micros;
use storedd::model::Command;
use storedd::model::command::{Delivery, Marks, Selection, Target};
use storedd::model::message::Flags;
use storedd::store::plan::Limits;
use storedd::store::{CommitError, Options, Store};
use world::{Dump, PARTITION_IDS};

/// The work is done so long after the mail came, in days.
const DAYS: i64 = 40;
pub(super) const DAY: i64 = 86_400;
/// Shared with everybody.
pub(super) const NEWS: &str = "shared/news";
/// On the first partition, with much of everything.
pub(super) const INBOX: &str = "user/ann/INBOX";
pub(super) const FOLDER: &str = "user/ann/Projekte";

/// A stopped store, and what it holds.
pub(super) struct Base {
    pub(super) seed: u64,
    pub(super) machine: SimDisk,
    pub(super) options: Options,
    pub(super) essence: Essence,
}

/// A store at work.
pub(super) struct Stage {
    pub(super) store: Arc<Store>,
    pub(super) env: Arc<SimEnv>,
}

impl Stage {
    pub(super) fn dump(&self) -> Result<Dump, String> {
        world::dump(&self.store, &self.store.view()).map_err(|e| format!("reading: {e}"))
    }

    /// Has a command done that may have been done before.
    pub(super) fn commit(&self, command: Command) -> Result<(), String> {
        match self.store.commit(command.clone()) {
            Err(CommitError::Refused(why)) if format!("{:?}", why.kind) == "Exists" => Ok(()),
            Err(e) => Err(format!("{command:?}: {e:?}")),
            Ok(_) => Ok(()),
        }
    }
}

/// A start as the daemon's, long after.
pub(super) fn begin(machine: &SimDisk, base: &Base, salt: u64) -> Result<Stage, String> {
    let env = world::env(salt, DAYS * DAY);
    let (store, report) =
        world::open(machine, &env, &base.options).map_err(|e| format!("the store does not come up: {e}"))?;
    if let Some(lost) = report.lost.filter(|_| !store.due().is_due()) {
        return Err(format!("the start says that something is lost: {lost:?}; {:?}", report.findings));
    }
    let registered = jobs::partitions::register(&store, || unreachable!("both have their files"), env.now());
    registered.map_err(|e| format!("the partitions: {e:?}"))?;
    Ok(Stage { store, env })
}

/// Files of a disk, or of both disks of a partition that has two, in order.
pub(super) fn files(machine: &SimDisk, disk: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for disk in world::disks_of(machine, disk) {
        mail::walk(&disk, "", &mut paths).unwrap();
    }
    paths.sort();
    paths
}

pub(super) fn deliver(nth: u64, size: usize, to: &[&str], old: bool) -> Command {
    let to = to.iter().map(|name| Target { name: (*name).to_owned(), or: None }).collect();
    let internal = i64::from(world::SECONDS_AT_START) + if old { 0 } else { DAYS * DAY };
    Command::Deliver(Delivery {
        message: mail::incoming(mail::text(nth, size)),
        to,
        flags: if nth.is_multiple_of(3) { Flags::FLAGGED } else { Flags::NONE },
        keywords: BTreeSet::new(),
        internal_us: Some(internal as u64 * 1_000_000 + nth),
        each: false,
    })
}

pub(super) fn of(name: &str, uids: &[u32]) -> Selection {
    Selection { name: name.to_owned(), uids: uids.to_vec(), ..Selection::default() }
}

fn create(name: &str) -> Command {
    Command::MailboxCreate { name: name.to_owned(), partition: None }
}

/// The messages that were delivered before, by their numbers.
pub(super) const TEXTS: [u64; 10] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

fn size(nth: u64) -> usize {
    match nth {
        1..=4 => 100 + 300 * nth as usize,
        8 => 200,
        9 => 900,
        _ => 2500,
    }
}

/// The bytes of one of them.
pub(super) fn text_of(nth: u64) -> Vec<u8> {
    mail::text(nth, size(nth))
}

/// What was done before, in three parts.
fn past() -> [Vec<Command>; 3] {
    let user = |user: &str, partition: &str| Command::UserAdd {
        user: user.to_owned(),
        partition: Some(partition.to_owned()),
        quota_bytes: Some(1 << 20),
        quota_messages: None,
    };
    let mut first =
        vec![user("ann", "primary"), user("bob", "second"), create(FOLDER), create("user/ann/Alt"), create(NEWS)];
    first.push(Command::AclSet { name: NEWS.to_owned(), identifier: "anyone".to_owned(), rights: "lrs".to_owned() });
    first.push(Command::Subscribe { user: "bob".to_owned(), name: NEWS.to_owned() });
    first.extend((1..=4).map(|n| deliver(n, size(n), &[INBOX, "user/bob/INBOX"], n % 2 == 0)));
    first.extend((5..=7).map(|n| deliver(n, size(n), &[FOLDER, NEWS], n == 5)));
    first.push(deliver(8, size(8), &["user/ann/Alt"], true));
    let flags = Marks { flags: Flags::SEEN, ..Marks::default() };
    let second = vec![
        Command::MessageExpunge { of: of(INBOX, &[2]) },
        Command::MailboxDelete { name: "user/ann/Alt".to_owned() },
        Command::MessageCopy { of: of(FOLDER, &[1, 2]), to: "user/bob/INBOX".to_owned(), remove: false },
        Command::MessageFlags { of: of(INBOX, &[1, 3]), add: flags, remove: Marks::default() },
        Command::MessageFlagsAs {
            user: "bob".to_owned(),
            of: of(NEWS, &[1]),
            add: Marks { flags: Flags::SEEN, ..Marks::default() },
            remove: Marks::default(),
        },
    ];
    let third = vec![
        deliver(9, size(9), &[INBOX, FOLDER], false),
        Command::MessageExpunge { of: of(FOLDER, &[3]) },
        deliver(10, size(10), &["user/bob/INBOX", NEWS], true),
    ];
    [first, second, third]
}

/// A store with two users, two partitions and a shared mailbox, stopped: in order, or killed with changes behind the last checkpoint.
pub(super) fn base(seed: u64, in_order: bool) -> Result<Base, String> {
    let options = world::options(seed);
    let options = Options { segment_size: 64 << 10, limits: Limits::default(), ..options };
    let env = world::env(seed, 0);
    let started = Driver::first_start(world::machine(seed), env.clone(), options.clone());
    let mut driver = started.map_err(|e| format!("the first start: {e}"))?;
    let act = |driver: &mut Driver, step: Step| -> Result<(), String> {
        let did = driver.act(&step).map_err(|e| format!("{step:?}: {e}"))?;
        did.errors().next().map_or(Ok(()), |e| Err(format!("{step:?}: {e}")))
    };
    for (name, id) in PARTITIONS.into_iter().zip(PARTITION_IDS) {
        act(&mut driver, Step::PreparePartition(name))?;
        act(&mut driver, Step::Commit(Command::PartitionAdd { name: name.to_owned(), id: [id; 16] }))?;
    }
    for (nth, part) in past().into_iter().enumerate() {
        let store = driver.store().ok_or("no store")?.clone();
        for command in part {
            let taken = mail::taken_in(&store, &command).map_err(|e| e.to_string())?;
            store.commit(taken).map_err(|e| format!("{command:?}: {e:?}"))?;
            env.set_now(Micros(env.now().0 + 1_000_000));
        }
        if nth < 2 && (in_order || seed.is_multiple_of(2) || nth == 0) {
            store.checkpoint().map_err(|e| e.to_string())?;
        }
    }
    let store = driver.store().ok_or("no store")?.clone();
    if in_order {
        store.write_out_seen(Micros(0)).map_err(|e| e.to_string())?;
        store.close().map_err(|e| e.to_string())?;
    }
    let dump = world::dump(&store, &store.view()).map_err(|e| e.to_string())?;
    drop(store);
    driver.drop_store();
    let machine = driver.machine.moment().killed();
    Ok(Base { seed, machine, options, essence: essence(&dump)? })
}

/// Every directory of a disk that holds an index, in order.
pub(super) fn indexes(machine: &SimDisk, disk: &str) -> Vec<String> {
    files(machine, disk).into_iter().filter(|path| path.ends_with("/store.idx")).collect()
}

/// True if the disk has something of this name.
pub(super) fn is_there(machine: &SimDisk, disk: &str, path: &str) -> bool {
    machine.disk(disk).stat(path).is_ok_and(|stat| stat.is_some_and(|stat| stat.kind == Kind::File))
}
