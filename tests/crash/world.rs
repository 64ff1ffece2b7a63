//! A machine with the disks of a store, and a store on it.

use super::mail::{self, Shelves};
use super::random::{Random, mix_all};
use super::workload::PARTITIONS;
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use storedd::disk::{Disk, SimDisk};
use storedd::env::SimEnv;
use storedd::error::StoreError;
use storedd::lsn::{Micros, StoreId};
use storedd::model::{Rows, Table};
use storedd::partition::{PartitionId, Roots};
use storedd::site::Site;
use storedd::store::decision::Policy;
use storedd::store::plan::Limits;
use storedd::store::{self, Behind, Disks, Options, Plan, Report, Store, View, Wanted};

/// The simulated clock starts here.
pub(super) const SECONDS_AT_START: u32 = 1_700_000_000;

/// Snapshots lie in the usual place here, which is whoever's store lies around it.
pub(super) const NOBODY: StoreId = StoreId([0; 16]);

/// Root directories of partitions: disks of the machine, by name.
#[derive(Debug)]
struct SimRoots(SimDisk);

impl Roots for SimRoots {
    fn open(&self, path: &Path) -> std::io::Result<Arc<dyn Disk>> {
        Ok(Arc::new(self.0.disk(&path.to_string_lossy())))
    }

    fn make(&self, path: &Path) -> std::io::Result<Arc<dyn Disk>> {
        self.open(path)
    }
}

/// The disks of a store on this machine.
pub(super) fn disks(machine: &SimDisk) -> Disks {
    Disks {
        data: Arc::new(machine.disk("data")),
        db: Arc::new(machine.disk("db")),
        log: Arc::new(machine.disk("log")),
        roots: Arc::new(SimRoots(machine.clone())),
        partitions: PARTITIONS.iter().map(|name| ((*name).to_owned(), site(machine, name))).collect(),
        snapshots: Default::default(),
    }
}

/// A machine with empty disks. Of some seeds the first partition has its message files on another disk, of some the second, of some both.
pub(super) fn machine(seed: u64) -> SimDisk {
    let machine = SimDisk::new();
    ["data", "db", "log"].iter().chain(&PARTITIONS).for_each(|name| drop(machine.disk(name)));
    for (name, is_split) in PARTITIONS.into_iter().zip([seed % 2 == 1, seed % 4 >= 2]) {
        if is_split {
            drop(machine.disk(&message_disk(name)));
        }
    }
    machine
}

/// The disk for message files of a partition that has one.
pub(super) fn message_disk(partition: &str) -> String {
    format!("{partition}-messages")
}

fn site(machine: &SimDisk, partition: &str) -> Site {
    let messages = Some(message_disk(partition)).filter(|disk| machine.has_disk(disk));
    Site { path: partition.into(), messages: messages.map(Into::into) }
}

/// The disks of a partition: one, or two.
pub(super) fn disks_of(machine: &SimDisk, partition: &str) -> Vec<SimDisk> {
    site(machine, partition).roots().map(|root| machine.disk(&root.to_string_lossy())).collect()
}

/// The disk of a partition where message files lie.
pub(super) fn disk_of_messages(machine: &SimDisk, partition: &str) -> SimDisk {
    disks_of(machine, partition).pop().expect("a partition has a root")
}

/// Small sizes, so that segments end, numbers are reserved and lists are cut all the time.
pub(super) fn options(seed: u64) -> Options {
    let mut random = Random::new(mix_all(&[seed, 1]));
    Options {
        segment_size: [32 << 10, 64 << 10][random.below(2)],
        spares: random.below(3),
        seal_idle: Duration::from_millis(1),
        overlay_bytes: 16 << 10,
        overlay_bytes_max: [24 << 10, 1 << 20][random.below(2)],
        database_cache: 1 << 20,
        inline_limit: [200, 600][random.below(2)],
        id_block: [1, 4, 16][random.below(3)],
        reports: 2,
        limits: Limits {
            mailboxes_per_user: [0, 2, 5][random.below(3)],
            default_storage: random.once_in(2).then_some(1 << 20),
            default_messages: random.once_in(3).then_some(100),
            ..Limits::default()
        },
        ..Options::default()
    }
}

/// A clock that starts so many seconds after the first start of the store (or before it).
pub(super) fn env(seed: u64, seconds: i64) -> Arc<SimEnv> {
    let start = i64::from(SECONDS_AT_START) + seconds;
    Arc::new(SimEnv::new(Micros(start.max(0) as u64 * 1_000_000), seed))
}

/// A start, as the daemon's: what is lost is lost, and said.
pub(super) fn open(
    machine: &SimDisk,
    env: &Arc<SimEnv>,
    options: &Options,
) -> Result<(Arc<Store>, Report), StoreError> {
    let disks = disks(machine);
    let lock = store::take_lock(&disks)?;
    let policy = Policy::default();
    store::open(disks, env.clone(), options.clone(), lock, policy, &(Arc::new(|_| {}) as store::OnProgress))
}

/// Puts the best snapshot in place of the database.
pub(super) fn install(
    machine: &SimDisk,
    env: &Arc<SimEnv>,
    options: &Options,
    behind: Behind,
) -> Result<(Arc<Store>, Report), StoreError> {
    let disks = disks(machine);
    let lock = store::take_lock(&disks)?;
    let progress: store::OnProgress = Arc::new(|_| {});
    let plan = Plan::install(disks, lock, &Wanted::Any, behind, &progress)?;
    plan.carry_out(env.clone(), options.clone(), "snapshot install", &progress)
}

/// Of each of [`PARTITIONS`] the byte of which its identity is made.
pub(super) const PARTITION_IDS: [u8; 2] = [1, 2];

/// The identity that a partition gets here.
pub(super) fn partition_id(name: &str) -> PartitionId {
    PartitionId([PARTITION_IDS[usize::from(name != PARTITIONS[0])]; 16])
}

/// Every row of every table, and every message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Dump {
    pub(super) rows: Vec<(Table, Vec<u8>, Vec<u8>)>,
    pub(super) mail: Shelves,
}

impl Dump {
    /// Without the tables whose rows follow from others.
    pub(super) fn logged(mut self) -> Dump {
        self.rows.retain(|(table, ..)| table.is_logged());
        self
    }
}

/// Everything that can be read.
pub(super) fn dump(store: &Store, view: &View) -> Result<Dump, StoreError> {
    let mut dump = Dump { mail: mail::shelves(store, view)?, ..Dump::default() };
    for table in Table::ALL {
        view.scan(table, Bound::Unbounded, &mut |key, row| {
            dump.rows.push((table, key.to_vec(), row.to_vec()));
            ControlFlow::Continue(())
        })?;
    }
    Ok(dump)
}
