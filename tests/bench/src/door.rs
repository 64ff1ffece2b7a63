//! The same control door in front of three services: the store, the raw group commit, and an echo that knows nothing.

use crate::clients::Plan;
use crate::device;
use crate::engines::raw::{Raw, Waiter};
use crate::engines::storedd::Storedd;
use crate::engines::{Engine, Failure};
use crate::job::{self, Mix, World};
use crate::machine;
use crate::report::{Cell, Cost, Key, Report};
use crate::settings::Settings;
use crate::socket::{self, Ask};
use proto::{Code, Reply, Request};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;
use storedd::control::{Committed, Completion, Counters, Door, Limits, Listener, Parts, Peer, Service, State};
use storedd::lsn::Lsn;
use storedd::model::{Command, Outcome};
use storedd::place;
use storedd::service::{Daemon, Event, Handle};
use tokio::runtime::Runtime;

/// Threads of the runtime behind the doors, as in the daemon.
const WORKERS: usize = 2;

fn unknown() -> proto::Failure {
    proto::Failure::new(Code::Bug, "the bench does not ask this")
}

/// Group commit and nothing else: answers what the store would answer.
struct RawService(Arc<Raw>);

impl Service for RawService {
    fn state(&self) -> State {
        State::Ready
    }
    fn change(&self, _: &Peer, command: Command, done: Completion) {
        let (kind, outcome) = match command {
            Command::MailboxCreate { name, .. } => (0, Outcome::Created { name, id: 1, uidvalidity: 1 }),
            Command::AclSet { .. } => (1, Outcome::Done),
            Command::MailboxRename { .. } => (2, Outcome::Mailboxes(1)),
            _ => return done(Err(unknown())),
        };
        let answer = move |result: Result<Lsn, Failure>| {
            done(result.map(|lsn| Committed { lsn, outcome }).map_err(|e| proto::Failure::new(Code::Io, e.0)));
        };
        self.0.log.submit(self.0.world().shape.record[kind], Waiter::Callback(Box::new(answer)));
    }
    fn dry_run(&self, _: &Peer, _: Command) -> Result<Committed, proto::Failure> {
        Err(unknown())
    }
    fn partition(&self, _: &str, _: &storedd::site::Site, _: bool) -> Result<[u8; 16], proto::Failure> {
        Err(unknown())
    }
    fn query(&self, _: &Request, _: &Peer, _: &mut Parts<'_>) -> Result<Reply, proto::Failure> {
        Err(unknown())
    }
}

/// Answers every query with the same reply.
struct EchoService(Reply);

impl Service for EchoService {
    fn state(&self) -> State {
        State::Ready
    }
    fn change(&self, _: &Peer, _: Command, done: Completion) {
        done(Err(unknown()));
    }
    fn dry_run(&self, _: &Peer, _: Command) -> Result<Committed, proto::Failure> {
        Err(unknown())
    }
    fn partition(&self, _: &str, _: &storedd::site::Site, _: bool) -> Result<[u8; 16], proto::Failure> {
        Err(unknown())
    }
    fn query(&self, _: &Request, _: &Peer, _: &mut Parts<'_>) -> Result<Reply, proto::Failure> {
        Ok(self.0.clone())
    }
}

struct Open {
    name: &'static str,
    path: PathBuf,
    world: Arc<World>,
    _door: Door,
}

/// Three open doors and what is behind them.
pub struct Doors {
    open: Vec<Open>,
    /// Keeps the daemon's event channel open; nothing is read from it.
    _events: Receiver<Event>,
    storedd: Arc<Storedd>,
    /// Dropped last: the doors live in it.
    runtime: Runtime,
}

impl Doors {
    /// Opens the doors of a store and a raw log, with sockets in `dir`.
    ///
    /// # Errors
    /// If a socket or the runtime cannot be made, or a lookup fails.
    pub fn open(dir: &Path, storedd: &Arc<Storedd>, raw: &Arc<Raw>) -> Result<Doors, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("door")
            .enable_all()
            .build()?;
        let (events, inbox) = channel();
        let daemon = Daemon::new(storedd.config.clone(), place::env(), events, Arc::new(Counters::default()));
        daemon.set_store(Arc::clone(&storedd.store));
        let handle = Handle(Arc::new(daemon));
        let peer = Peer {
            connection: 1,
            late: false,
            uid: 0,
            gid: 0,
            pid: 0,
            client: String::new(),
            role: storedd::control::access::Role::Owner,
        };
        let specimen = Request::MailboxShow { name: job::mailbox_name(0, 0) };
        let reply = handle.query(&specimen, &peer, &mut |_| Ok(()));
        let reply = reply.map_err(|e| Failure::new(e.to_string()))?;
        let mut doors = Doors { open: Vec::new(), _events: inbox, storedd: Arc::clone(storedd), runtime };
        doors.add(dir, "storedd", storedd.world(), Arc::new(handle))?;
        doors.add(dir, "raw", raw.world(), Arc::new(RawService(Arc::clone(raw))))?;
        doors.add(dir, "echo", storedd.world(), Arc::new(EchoService(reply)))?;
        Ok(doors)
    }

    fn add(
        &mut self,
        dir: &Path,
        name: &'static str,
        world: &Arc<World>,
        service: Arc<dyn Service>,
    ) -> Result<(), Failure> {
        let path = dir.join(format!("{name}.sock"));
        let listener = Listener::bind(&path, 0o600)?;
        let counters = Arc::new(Counters::default());
        let door = {
            let _inside = self.runtime.enter();
            Door::open(listener, service, Limits::default(), counters)?
        };
        self.open.push(Open { name, path, world: Arc::clone(world), _door: door });
        Ok(())
    }

    /// One round over the sockets.
    ///
    /// # Errors
    /// If a connection breaks or the store fails.
    pub fn round(
        &self,
        report: &mut Report,
        device: &'static str,
        settings: &Settings,
        round: usize,
    ) -> Result<(), Failure> {
        let changes = settings.clients.iter().map(|n| (*n, 1)).chain([(64, 8)]);
        for (clients, depth) in changes {
            for open in self.open.iter().filter(|o| o.name != "echo") {
                let plan = settings.plan(crate::clients::Form::Callback, clients, Mix::MIXED);
                self.measure(report, device, open, &plan, (depth, Ask::Changes), round)?;
            }
        }
        for open in self.open.iter().filter(|o| o.name != "raw") {
            let mix = Mix { name: "lookup", ..Mix::MIXED };
            let plan = settings.plan(crate::clients::Form::Callback, 64, mix);
            self.measure(report, device, open, &plan, (1, Ask::Lookups), round)?;
        }
        Ok(())
    }

    fn measure(
        &self,
        report: &mut Report,
        device: &'static str,
        open: &Open,
        plan: &Plan,
        (depth, ask): (usize, Ask),
        round: usize,
    ) -> Result<(), Failure> {
        let (syncs, cpu) = (device::syncs(), machine::cpu_seconds());
        let run = socket::run(&open.path, &open.world, plan, depth, ask)
            .map_err(|e| Failure::new(format!("{} over the socket: {e}", open.name)))?;
        let (syncs, cpu) = (device::syncs() - syncs, machine::cpu_seconds() - cpu);
        let start = Instant::now();
        if open.name == "storedd" {
            self.storedd.settle()?;
        }
        let cost = Cost { drain: start.elapsed().as_secs_f64(), syncs, cpu };
        if let Some(error) = &run.error {
            println!("  {} over the socket: {} failed: {error}", open.name, run.failed);
        }
        let key = Key { device, form: "socket", mix: plan.mix.name, clients: plan.clients, depth, engine: open.name };
        report.cells.push(Cell::new(key, round, plan, &run, cost));
        Ok(())
    }
}
