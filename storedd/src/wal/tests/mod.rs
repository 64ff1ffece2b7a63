//! The log on the simulated disk.

mod crash;
mod damage;
mod life;

use super::*;
use crate::disk::{Disk, SimDisk};
use crate::env::{Env, SimEnv};
use crate::lsn::{Epoch, Lsn, Micros, StoreId};
use crate::model::{Change, Table};
use std::sync::Arc;

const STORE: StoreId = StoreId([7; 16]);
const SMALL: Settings = Settings { segment_bytes: SEGMENT_BYTES_MIN, spares: 1, reserve: 0, version: VERSION };
const EPOCH: Epoch = Epoch(0);

/// A log disk and a data disk of one machine.
struct Rig {
    machine: SimDisk,
    disk: Arc<dyn Disk>,
    data: SimDisk,
    settings: Settings,
}

/// A running log and what it has promised.
struct Running {
    log: Log,
    control: Arc<Control>,
    now: u64,
    synced: Lsn,
}

impl Rig {
    fn new() -> Rig {
        Rig::on(SimDisk::new(), SMALL)
    }

    fn on(machine: SimDisk, settings: Settings) -> Rig {
        let (disk, data) = (machine.disk("log"), machine.disk("data"));
        Rig { machine, disk: Arc::new(disk), data, settings }
    }

    fn log_disk(&self) -> SimDisk {
        self.machine.disk("log")
    }

    fn create(&self) -> crate::error::Result<Running> {
        let loaded = Control::load(&self.data)?;
        let control = Arc::new(match loaded.state {
            Some(state) => Control::open(&self.data, state)?,
            None => Control::create(&self.data, ControlState::new(STORE))?,
        });
        let log = create(&self.disk, &control, self.settings, Micros(1000))?;
        Ok(Running { log, control, now: 1000, synced: Lsn::ZERO })
    }

    fn survey(&self) -> Survey {
        self.survey_with(None)
    }

    fn survey_with(&self, applied_lsn: Option<Lsn>) -> Survey {
        let control = Control::load(&self.data).unwrap().state;
        survey(self.disk.as_ref(), STORE, Proof { control, applied_lsn, ..Proof::default() }, Depth::All).unwrap()
    }

    /// Goes on behind everything that is readable from the start of the log.
    fn resume(&self) -> crate::error::Result<Running> {
        let control = Control::load(&self.data)?.state;
        let proof = Proof { control: control.clone(), ..Proof::default() };
        let survey = survey(self.disk.as_ref(), STORE, proof, Depth::All)?;
        let reach = survey.reach(EPOCH, Lsn::ZERO);
        self.resume_at(&survey, &reach)
    }

    fn resume_at(&self, survey: &Survey, reach: &Reach) -> crate::error::Result<Running> {
        let state = Control::load(&self.data)?.state.expect("a control file");
        let control = Arc::new(Control::open(&self.data, state)?);
        let log = resume(&self.disk, &control, self.settings, survey, reach)?;
        Ok(Running { log, control, now: reach.time.0, synced: reach.lsn })
    }

    fn fork_at(&self, survey: &Survey, reach: &Reach) -> Running {
        let state = Control::load(&self.data).unwrap().state.expect("a control file");
        let control = Arc::new(Control::open(&self.data, state).unwrap());
        let log = fork(&self.disk, &control, self.settings, survey, reach, Micros(reach.time.0 + 1)).unwrap();
        let synced = log.done.fork.unwrap().first;
        Running { log, control, now: reach.time.0 + 1, synced }
    }

    /// Every transaction's first key, from the start of the log to its end.
    fn read(&self) -> Vec<(Lsn, Vec<u8>)> {
        let survey = self.survey();
        let reach = survey.reach(EPOCH, Lsn::ZERO);
        self.read_to(&survey, reach.lsn)
    }

    fn read_to(&self, survey: &Survey, to: Lsn) -> Vec<(Lsn, Vec<u8>)> {
        let mut out = Vec::new();
        replay(self.disk.as_ref(), survey, EPOCH, Lsn::ZERO, to, &mut |record| {
            record.for_each_change(&mut |change| {
                let (Change::Put { key, .. } | Change::Remove { key, .. }) = change else { panic!("{change:?}") };
                out.push((record.lsn, key.into_owned()));
                Ok(())
            })
        })
        .unwrap();
        out
    }
}

impl Running {
    /// Appends transactions with these keys as one group, without a sync.
    fn write(&mut self, keys: &[&str], row: usize) -> crate::error::Result<Lsn> {
        let mut pieces = Vec::new();
        let mut last = self.log.encoder.next_lsn();
        for key in keys {
            let change = Change::Put { table: Table::Users, key: key.as_bytes().into(), row: vec![b'r'; row].into() };
            let mut payload = Vec::new();
            put_transaction(&[change], &mut payload)?;
            self.now += 10;
            if self.log.encoder.would_roll(payload.len()) {
                self.log.spares.reserve()?;
            }
            let synced = self.synced;
            last = self.log.encoder.push(Kind::Transaction, &payload, Micros(self.now), synced, &mut pieces)?;
        }
        self.log.writer.write(&pieces)?;
        Ok(last)
    }

    fn sync(&mut self) -> crate::error::Result<Lsn> {
        self.synced = self.log.writer.sync()?.lsn();
        Ok(self.synced)
    }

    /// One group, synced.
    fn commit(&mut self, keys: &[&str], row: usize) -> crate::error::Result<Lsn> {
        self.write(keys, row)?;
        self.sync()
    }

    fn seal(&mut self) -> crate::error::Result<Lsn> {
        let mut pieces = Vec::new();
        if self.log.encoder.would_roll(0) {
            self.log.spares.reserve()?;
        }
        self.log.encoder.push(Kind::Seal, &[], Micros(self.now), self.synced, &mut pieces)?;
        self.log.writer.write(&pieces)?;
        self.sync()
    }

    /// Seals and says so in the control file.
    fn stop(mut self) -> crate::error::Result<Lsn> {
        let last = self.seal()?;
        self.control.update(|state| {
            state.clean = true;
            state.durable_lsn = last;
        })?;
        Ok(last)
    }
}

/// Fills several segments with groups of differing sizes; gives the last LSN synced.
fn fill(running: &mut Running, groups: usize, seed: u64) -> Lsn {
    let env = SimEnv::new(Micros(0), seed);
    for group in 0..groups {
        let random = env.random();
        let names: Vec<String> = (0..1 + usize::from(random[0] % 4)).map(|n| format!("g{group}-{n}")).collect();
        let keys: Vec<&str> = names.iter().map(String::as_str).collect();
        running.commit(&keys, usize::from(random[1]) * 4).unwrap();
    }
    running.synced
}
