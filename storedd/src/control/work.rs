//! What a session does with a request, lane by lane, and with what comes back.

use super::access;
use super::audit::Audit;
use super::convert;
use super::dispatch::{self, Lane};
use super::door::Shared;
use super::limits::Share;
use super::outbox::{Ending, Item, Outbox, Ticket};
use super::service::{OnPassage, Passage, Peer, Stop};
use super::session::{Blocked, Session};
use crate::model;
use proto::codec::{self, CodecError, Payload};
use proto::frame::{self, CONNECTION_ID, Kind};
use proto::{Body, Code, Command, Failure, Reply, Request};
use std::panic::{AssertUnwindSafe, catch_unwind};

impl Session {
    /// Takes one frame of the client.
    pub(super) fn handle(&mut self, kind: Kind, id: u64, request: Option<Result<Request, CodecError>>) {
        match (kind, request) {
            (_, _) if id == CONNECTION_ID => {
                self.say_farewell(Failure::new(Code::Protocol, "a request with id 0, expected 1 or more"));
            }
            (_, Some(Ok(request))) => self.start(id, request),
            (_, Some(Err(e))) => {
                let code = if matches!(e, CodecError::Unknown { .. }) { Code::Protocol } else { Code::BadInput };
                let hint = "use client and daemon of the same release";
                self.put(Kind::Error, id, &Failure::new(code, e.to_string()).with_hint(hint));
            }
            // An empty payload always fits.
            (Kind::Ping, None) => drop(frame::put(&mut self.out, Kind::Ping, id, &[])),
            (kind, None) => {
                let text = format!("a frame of kind {kind:?} came from the client, expected a request or a ping");
                self.say_farewell(Failure::new(Code::Protocol, text));
            }
        }
    }

    fn start(&mut self, id: u64, request: Request) {
        self.door.counters.request(&request);
        let least = access::least(&request);
        if self.peer.role < least {
            let verb = request.verb();
            let text = format!(
                "{verb} needs the role {}; user {} is a {}",
                least.word(),
                self.peer.uid,
                self.peer.role.word()
            );
            let failure = Failure::new(Code::NotPermitted, text).with_hint("run this as root: sudo storectl");
            return self.refuse(id, Audit::of(&request), &failure);
        }
        let state = self.door.service.state_for(&self.peer);
        match dispatch::lane(&request, state) {
            Err(failure) => self.refuse(id, Audit::of(&request), &failure),
            Ok(Lane::Own) => {
                let answer = match request {
                    Request::Health => self.door.service.health(),
                    _ => Err(Failure::new(Code::Protocol, "greeted already")),
                };
                self.answer(id, &answer);
            }
            Ok(Lane::Quick) => self.quick(id, &request),
            Ok(Lane::Look) => match Share::take(&self.door.counters, |c| &c.looks, 1, self.door.limits.looks) {
                // Others go on at this worker's place, also with what the system has to say, should this wait for a disk.
                Some(_place) => tokio::task::block_in_place(|| self.quick(id, &request)),
                None => self.enqueue(id, request),
            },
            Ok(Lane::Slow) => self.enqueue(id, request),
            Ok(Lane::Hold) => self.hold(id, &request),
            Ok(Lane::Job) => self.job(id, &request),
            Ok(Lane::Change) if needs_preparation(&request) => {
                self.barrier = true;
                self.enqueue(id, request);
            }
            Ok(Lane::Change) => {
                self.in_flight += 1;
                let (audit, verb) = (Audit::of(&request), request.verb());
                let command = change(request, &mut |_, _| Err(Failure::new(Code::Bug, "a partition was not prepared")));
                self.submit(id, verb, command, audit);
            }
        }
    }

    /// Answers at once, on this worker.
    fn quick(&mut self, id: u64, request: &Request) {
        let out = &mut self.out;
        let mut parts = |part: Reply| {
            put(out, Kind::Part, id, &part);
            Ok(())
        };
        let answer = guarded(|| self.door.service.query(request, &self.peer, &mut parts));
        if let (Some(audit), Ok(_)) = (Audit::of(request), &answer) {
            audit.done(&self.peer);
        }
        self.answer(id, &answer);
    }

    /// Hands over a request that may have to wait for others.
    fn hold(&mut self, id: u64, request: &Request) {
        self.in_flight += 1;
        let (audit, outbox, ended) = (Audit::of(request), self.outbox.clone(), self.outbox.clone());
        let done = Box::new(move |answer| outbox.push(Item::Held { id, answer, audit }));
        let cut = Box::new(move || ended.end(Ending::Now));
        let _ = guarded(|| {
            self.door.service.hold(&self.peer, request, cut, done);
            Ok(())
        });
    }

    /// Hands over what is a job, or about one.
    fn job(&mut self, id: u64, request: &Request) {
        self.in_flight += 1;
        let (audit, outbox, events) = (Audit::of(request), self.outbox.clone(), self.outbox.clone());
        let done = Box::new(move |answer| outbox.push(Item::Held { id, answer, audit }));
        let events = Box::new(move |event: Reply| {
            events.push_event(|| {
                let mut frame = Vec::new();
                put(&mut frame, Kind::Part, id, &event);
                frame
            })
        });
        let _ = guarded(|| {
            self.door.service.job(&self.peer, request, events, done);
            Ok(())
        });
    }

    /// Gives a change to the store, unless it has to wait for others first.
    fn submit(&mut self, id: u64, verb: &'static str, command: Result<model::Command, Failure>, audit: Option<Audit>) {
        let command = match command {
            Ok(command) => command,
            Err(failure) => return self.give(id, Err(failure), audit, None),
        };
        let outbox = &self.outbox;
        let mut later = || -> OnPassage {
            let outbox = outbox.clone();
            Box::new(move |passed| outbox.push(Item::Passed(passed)))
        };
        match self.door.service.pass(&self.peer, verb, &command, &mut later) {
            Passage::Open(pass) => self.give(id, Ok(command), audit, pass),
            Passage::Later => {
                self.barrier = true;
                self.blocked = Some(Blocked { id, command, audit });
            }
        }
    }

    /// Gives a change to the store, whose queue is bounded.
    fn give(
        &mut self,
        id: u64,
        command: Result<model::Command, Failure>,
        audit: Option<Audit>,
        pass: Option<crate::leases::Pass>,
    ) {
        let (door, limit) = (&self.door, self.door.limits.queue);
        let prepared = command.and_then(|command| {
            let at_work = Share::take(&door.counters, |c| &c.changes, 1, limit).ok_or_else(|| {
                Failure::new(Code::Busy, format!("{limit} changes are at work")).with_hint("try again")
            })?;
            Ok((command, at_work))
        });
        match prepared {
            Ok((command, at_work)) => {
                let ticket = Ticket { outbox: self.outbox.clone(), id, audit, at_work: Some(at_work), _pass: pass };
                let done = Box::new(move |answer| ticket.answer(answer));
                // The ticket answers, also when the store fails before it has called it.
                let _ = guarded(|| {
                    self.door.service.change(&self.peer, command, done);
                    Ok(())
                });
            }
            Err(failure) => {
                self.in_flight -= 1;
                self.refuse(id, audit, &failure);
            }
        }
    }

    fn refuse(&mut self, id: u64, audit: Option<Audit>, failure: &Failure) {
        if let Some(audit) = audit {
            audit.failed(&self.peer, failure);
        }
        self.door.counters.refusal(failure.code);
        self.put(Kind::Error, id, failure);
    }

    /// Takes a finished piece of work and writes its answer.
    pub(super) fn finish(&mut self, item: Item) {
        match item {
            Item::Part(frame) => self.out.extend_from_slice(&frame),
            Item::Changed { id, answer, audit } => {
                self.in_flight -= 1;
                if let Some(audit) = audit {
                    audit.changed(&self.peer, &answer);
                }
                self.answer(id, &answer.map(convert::reply));
            }
            Item::Answer(frame) => {
                self.in_flight -= 1;
                self.out.extend_from_slice(&frame);
                self.next_slow();
            }
            Item::Held { id, answer, audit } => {
                self.in_flight -= 1;
                match (audit, &answer) {
                    (Some(audit), Ok(_)) => audit.done(&self.peer),
                    (Some(audit), Err(failure)) => audit.failed(&self.peer, failure),
                    (None, _) => {}
                }
                self.answer(id, &answer);
            }
            Item::Passed(passed) => {
                self.barrier = false;
                if let Some(Blocked { id, command, audit }) = self.blocked.take() {
                    match passed {
                        Ok(pass) => self.give(id, Ok(command), audit, Some(pass)),
                        Err(failure) => self.give(id, Err(failure), audit, None),
                    }
                }
            }
            Item::Prepared { id, verb, command, audit } => {
                self.barrier = false;
                self.submit(id, verb, command, audit);
                self.next_slow();
            }
        }
    }

    fn answer(&mut self, id: u64, answer: &Result<Reply, Failure>) {
        match answer {
            Ok(reply) => self.put(Kind::Reply, id, reply),
            Err(failure) => {
                self.door.counters.refusal(failure.code);
                self.put(Kind::Error, id, failure);
            }
        }
    }

    /// Encodes a frame behind those that wait to be written.
    pub(super) fn put<T: Payload>(&mut self, kind: Kind, id: u64, value: &T) {
        put(&mut self.out, kind, id, value);
    }

    fn enqueue(&mut self, id: u64, request: Request) {
        self.in_flight += 1;
        self.waiting.push_back((id, request));
        if self.slow.is_none() {
            self.next_slow();
        }
    }

    /// Starts the next piece of slow work of this connection, as soon as there is a place for it.
    fn next_slow(&mut self) {
        self.slow = self.waiting.pop_front().map(|(id, request)| {
            let (door, outbox, peer) = (self.door.clone(), self.outbox.clone(), self.peer.clone());
            let work = async move {
                // The semaphore is never closed.
                let place = door.scans.clone().acquire_owned().await;
                tokio::task::spawn_blocking(move || {
                    slow(&door, &outbox, &peer, id, request);
                    drop(place);
                });
            };
            tokio::spawn(work).abort_handle()
        });
    }
}

/// Works on a request on a thread that may block.
fn slow(door: &Shared, outbox: &Outbox, peer: &Peer, id: u64, request: Request) {
    if outbox.is_closed() {
        return;
    }
    let service = &*door.service;
    let answer = match request {
        Request::Change { command, dry_run: true } => guarded(|| {
            let command = convert::command(command, &mut |name, site| service.partition(name, site, true))?;
            service.dry_run(peer, command).map(convert::reply).map(convert::without_numbers)
        }),
        request @ (Request::Change { .. } | Request::Atomic { .. }) => {
            let (audit, verb) = (Audit::of(&request), request.verb());
            let command = guarded(|| {
                let command = change(request, &mut |name, site| service.partition(name, site, false))?;
                service.prepare(peer, command)
            });
            return outbox.push(Item::Prepared { id, verb, command, audit });
        }
        request => {
            let audit = Audit::of(&request);
            let answer = guarded(|| {
                let mut parts = |part: Reply| -> Result<(), Stop> {
                    let mut frame = Vec::new();
                    put(&mut frame, Kind::Part, id, &part);
                    outbox.push_part(frame)
                };
                service.query(&request, peer, &mut parts)
            });
            match (audit, &answer) {
                (Some(audit), Ok(_)) => audit.done(peer),
                (Some(audit), Err(failure)) => audit.failed(peer, failure),
                (None, _) => {}
            }
            answer
        }
    };
    let mut frame = Vec::new();
    match &answer {
        Ok(reply) => put(&mut frame, Kind::Reply, id, reply),
        Err(failure) => put(&mut frame, Kind::Error, id, failure),
    }
    outbox.push(Item::Answer(frame));
}

/// Encodes a frame; a value that fits none is answered as the bug it is.
pub(super) fn put<T: Payload>(out: &mut Vec<u8>, kind: Kind, id: u64, value: &T) {
    if let Err(e) = codec::put(out, kind, id, value) {
        let failure = Failure::new(Code::Bug, format!("the answer cannot be sent: {e}"));
        // Its few bytes always fit.
        let _ = codec::put(out, Kind::Error, id, &failure);
    }
}

/// A panic of the house is an answer, and costs nobody else anything.
fn guarded<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text");
        tracing::error!(event = "control.panic", panic = text, "a request ended in a panic");
        Err(Failure::new(Code::Bug, format!("the daemon failed on this request: {text}")))
    })
}

fn change(request: Request, partition: &mut convert::PartitionId<'_>) -> Result<model::Command, Failure> {
    match request {
        Request::Change { command, .. } => convert::command(command, partition),
        Request::Atomic { commands } => convert::atomic(commands, partition),
        other => Err(Failure::new(Code::Bug, format!("{} is no change", other.verb()))),
    }
}

/// Disks have to be asked before it can be planned.
fn needs_preparation(request: &Request) -> bool {
    let asks = |command: &Command| {
        matches!(
            command,
            Command::PartitionAdd { .. }
                | Command::MessageFlags { .. }
                | Command::MessageFlagsAs { .. }
                | Command::MessageExpunge { .. }
                | Command::MessageCopy { .. }
                | Command::MailboxUndelete { .. }
                | Command::MessageReturn(_)
                | Command::MessageDeliver { body: Body::Sent(_), .. }
        )
    };
    match request {
        Request::Change { command, .. } => asks(command),
        Request::Atomic { commands } => commands.iter().any(asks),
        _ => false,
    }
}
