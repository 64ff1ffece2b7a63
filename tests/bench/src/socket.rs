//! Clients over the socket: one thread, an asynchronous task per connection, the frames and encodings of `proto`. The same
//! clients ask the store, the raw group commit and the echo.

use crate::clients::{Plan, Run};
use crate::engines::Failure;
use crate::hist::Histogram;
use crate::job::{self, Op, Random, Script, World};
use proto::frame::{Inbox, Kind, PAYLOAD_BYTES_MAX, VERSION};
use proto::{Command, Request, codec};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

/// What the clients ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Changes, by the plan's mix.
    Changes,
    /// One mailbox by name, a random one each time.
    Lookups,
}

/// The request for an operation.
pub fn request_of(op: Op) -> Request {
    let command = match op {
        Op::Create { user, number } => {
            Command::MailboxCreate { name: job::created_name(user, number), partition: None }
        }
        Op::Acl { mailbox, name, full } => Command::AclSet {
            name: job::mailbox_name(mailbox, name),
            identifier: job::IDENTIFIER.to_owned(),
            rights: job::rights(full).to_owned(),
        },
        Op::Rename { mailbox, name } => {
            Command::MailboxRename { from: job::mailbox_name(mailbox, name), to: job::mailbox_name(mailbox, name ^ 1) }
        }
    };
    Request::Change { command, dry_run: false }
}

struct Connection {
    stream: UnixStream,
    inbox: Inbox,
    out: Vec<u8>,
    last_id: u64,
    under_way: Vec<(u64, Instant)>,
    script: Script,
    random: Random,
    world: Arc<World>,
    ask: Ask,
    latency: Histogram,
    failed: u64,
    error: Option<String>,
}

impl Connection {
    /// Puts the next request into the buffer to send.
    fn ask_next(&mut self) -> Result<(), Failure> {
        let request = match self.ask {
            Ask::Changes => request_of(self.script.next_op()),
            Ask::Lookups => Request::MailboxShow { name: self.world.name(self.random.below(self.world.rows)) },
        };
        self.put(&request)
    }

    fn put(&mut self, request: &Request) -> Result<(), Failure> {
        self.last_id += 1;
        self.under_way.push((self.last_id, Instant::now()));
        Ok(codec::put(&mut self.out, Kind::Request, self.last_id, request)?)
    }

    /// Waits for bytes and takes the answers in them; when each of them was asked, and if it was a refusal.
    async fn receive(&mut self, answered: &mut Vec<Instant>) -> Result<(), Failure> {
        self.stream.readable().await?;
        match self.stream.try_read_buf(self.inbox.buffer()) {
            Ok(0) => return Err(Failure::new("the connection was closed")),
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e.into()),
        }
        while let Some(frame) = self.inbox.next(PAYLOAD_BYTES_MAX)? {
            if frame.kind == Kind::Part {
                continue;
            }
            if frame.kind == Kind::Error {
                self.failed += 1;
                let failure: proto::Failure = codec::decode(frame.payload)?;
                self.error.get_or_insert_with(|| failure.to_string());
            }
            let place = self.under_way.iter().position(|(id, _)| *id == frame.id);
            let place = place.ok_or_else(|| Failure::new("an answer to nothing that was asked"))?;
            answered.push(self.under_way.swap_remove(place).1);
        }
        Ok(())
    }

    async fn run(mut self, plan: Plan, depth: usize, from: Instant, to: Instant) -> Result<Run, Failure> {
        for _ in 0..depth {
            self.ask_next()?;
        }
        let mut answered = Vec::new();
        loop {
            if !self.out.is_empty() {
                self.stream.write_all(&self.out).await?;
                self.out.clear();
            }
            if self.under_way.is_empty() {
                break;
            }
            self.receive(&mut answered).await?;
            let now = Instant::now();
            for asked in answered.drain(..) {
                if now >= from && now < to {
                    self.latency.record(u64::try_from((now - asked).as_nanos()).unwrap_or(u64::MAX));
                }
                if now < to {
                    self.ask_next()?;
                }
            }
        }
        let ops = self.latency.count() - self.failed.min(self.latency.count());
        let seconds = plan.time.as_secs_f64();
        Ok(Run { ops, seconds, latency: self.latency, failed: self.failed, error: self.error })
    }
}

async fn connect(path: &Path, world: &Arc<World>, plan: &Plan, ask: Ask, id: usize) -> Result<Connection, Failure> {
    let mut connection = Connection {
        stream: UnixStream::connect(path).await?,
        inbox: Inbox::default(),
        out: Vec::new(),
        last_id: 0,
        under_way: Vec::new(),
        script: Script::new(world, plan.mix, id, plan.clients),
        random: Random::new(id as u64 + 1),
        world: Arc::clone(world),
        ask,
        latency: Histogram::default(),
        failed: 0,
        error: None,
    };
    connection.put(&Request::Hello { version: VERSION, client: "storedd-bench".into() })?;
    connection.stream.write_all(&connection.out).await?;
    connection.out.clear();
    let mut answered = Vec::new();
    while answered.is_empty() {
        connection.receive(&mut answered).await?;
    }
    match connection.error.take() {
        Some(error) => Err(Failure(error)),
        None => Ok(connection),
    }
}

/// Runs `plan.clients` connections to the socket at `path`, each with `depth` requests under way.
///
/// # Errors
/// If a connection cannot be made or breaks. Refusals are counted in the result.
pub fn run(path: &Path, world: &Arc<World>, plan: &Plan, depth: usize, ask: Ask) -> Result<Run, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let mut connections = Vec::new();
        for id in 0..plan.clients {
            connections.push(connect(path, world, plan, ask, id).await?);
        }
        let from = Instant::now() + plan.warm_up;
        let to = from + plan.time;
        let tasks: Vec<_> =
            connections.into_iter().map(|c| tokio::task::spawn_local(c.run(*plan, depth, from, to))).collect();
        let mut all = Run { seconds: plan.time.as_secs_f64(), ..Run::default() };
        for task in tasks {
            let one = task.await??;
            all.ops += one.ops;
            all.latency.merge(&one.latency);
            all.failed += one.failed;
            all.error = all.error.or(one.error);
        }
        Ok(all)
    })
}
