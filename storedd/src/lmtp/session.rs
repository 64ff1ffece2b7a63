//! One session, as one task.

use super::address::Address;
use super::counters::count;
use super::delivery::{Message, Stored};
use super::door::{Ending, Seat};
use super::intake::Intake;
use super::machine::{Machine, Step};
use super::reply::{Refused, Reply};
use crate::model::MailboxName;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

/// Room for one read.
const READ_BYTES: usize = 32 << 10;
/// Time for the greeting of a client.
const GREETING: Duration = Duration::from_secs(30);
/// Time for a client to take what is answered.
const TAKE: Duration = Duration::from_secs(60);
/// Time from the first byte of a message to its last.
const MESSAGE: Duration = Duration::from_secs(3600);

/// For so long after its last byte or answer a client is waited for: a group of messages is kept open for it.
const PROMPT: Duration = Duration::from_millis(10);

/// See the page.
pub(super) struct Session<S> {
    stream: S,
    seat: Seat,
    ending: watch::Receiver<Ending>,
    machine: Machine<MailboxName>,
    /// The recipient that was found last: one of those of the message that comes.
    to: Option<MailboxName>,
    intake: Option<Intake>,
    /// Held while the client goes on without a pause.
    coming: Option<Box<dyn Send>>,
    /// When the message that comes has to be there.
    whole_by: Option<Instant>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    pub(super) fn new(stream: S, seat: Seat, ending: watch::Receiver<Ending>) -> Session<S> {
        let machine = Machine::new("storedd", seat.door.limits.machine.clone());
        Session { stream, seat, ending, machine, to: None, intake: None, coming: None, whole_by: None }
    }

    /// Serves to the end; an error is a client that is gone, or does not read.
    pub(super) async fn run(mut self) -> io::Result<()> {
        loop {
            match self.machine.step() {
                Step::More => {
                    self.expect();
                    self.flush().await?;
                    if !self.read().await? {
                        return Ok(());
                    }
                }
                Step::Resolve(to) => {
                    let found = resolve(&self.seat, &to).await;
                    self.to = found.as_ref().ok().or(self.to.as_ref()).cloned();
                    let found = found.map_err(|refused| self.refusal(&refused, to.as_str()));
                    self.machine.resolved(found);
                }
                Step::Body(bytes) => {
                    let delivery = &self.seat.door.delivery;
                    let to = self.to.clone();
                    let begin = || to.map(|to| Intake::new(delivery.clone(), to));
                    let Some(intake) = self.intake.take().or_else(begin) else { continue };
                    let intake = self.intake.insert(intake);
                    intake.add(bytes);
                    if let Err(refused) = intake.spool().await {
                        self.intake = None;
                        let reply = self.refusal(&refused, "all recipients");
                        self.machine.cannot_keep(reply);
                    }
                }
                Step::Deliver(targets) => {
                    self.whole_by = None;
                    let replies = self.deliver(targets).await;
                    self.machine.delivered(replies);
                }
                Step::Discard => self.intake = None,
                Step::Close => {
                    self.flush().await?;
                    return self.stream.shutdown().await;
                }
            }
        }
    }

    /// A client that was just heard or answered is likely to bring a message next; not at once, if that is a long one.
    fn expect(&mut self) {
        let comes = self.machine.client().is_some() && !self.intake.as_ref().is_some_and(Intake::is_long);
        if comes != self.coming.is_some() {
            self.coming = if comes { self.seat.door.delivery.expect() } else { None };
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        let output = self.machine.output();
        if output.is_empty() {
            return Ok(());
        }
        let write = async {
            self.stream.write_all(output).await?;
            self.stream.flush().await
        };
        let written = timeout(TAKE, write).await;
        output.clear();
        written.unwrap_or_else(|_| {
            count(&self.seat.door.counters.timed_out);
            Err(io::ErrorKind::TimedOut.into())
        })
    }

    /// Reads what has come; false if the client sends no more.
    async fn read(&mut self) -> io::Result<bool> {
        let limits = &self.seat.door.limits;
        let now = Instant::now();
        let until = if self.machine.is_in_message() {
            let whole_by = *self.whole_by.get_or_insert(now + MESSAGE);
            whole_by.min(now + limits.data_timeout)
        } else {
            self.whole_by = None;
            now + if self.machine.client().is_some() { limits.idle_timeout } else { GREETING }
        };
        let prompt = until.min(now + PROMPT);
        loop {
            let until = if self.coming.is_some() { prompt } else { until };
            let buffer = self.machine.buffer();
            buffer.reserve(READ_BYTES);
            tokio::select! {
                biased;
                _ = self.ending.changed() => match *self.ending.borrow_and_update() {
                    Ending::None => {}
                    Ending::Finish => self.machine.close(),
                    Ending::Now => self.machine.end(&Reply::new(421, "4.3.2", "the daemon stops; try again later")),
                },
                read = timeout_at(until, self.stream.read_buf(buffer)) => match read {
                    Ok(read) => return Ok(read? > 0),
                    // It takes its time: nobody waits for it any more.
                    Err(_) if self.coming.take().is_some() => continue,
                    Err(_) => {
                        count(&self.seat.door.counters.timed_out);
                        self.machine.end(&Reply::new(421, "4.4.2", "nothing came for too long"));
                    }
                },
            }
            return Ok(true);
        }
    }

    /// Has the message stored; one reply for each recipient. Recipients that lead to one mailbox get one copy there.
    async fn deliver(&mut self, targets: Vec<MailboxName>) -> Vec<Reply> {
        let door = self.seat.door.clone();
        let intake = self.intake.take();
        let bytes = intake.as_ref().map_or(0, Intake::bytes);
        let mut boxes: Vec<MailboxName> = Vec::with_capacity(targets.len());
        for target in &targets {
            if !boxes.contains(target) {
                boxes.push(target.clone());
            }
        }
        let whole = match intake {
            Some(intake) => intake.finish().await,
            // Every message has at least the line with its sender.
            None => Err(Refused::Failed),
        };
        let results = match whole {
            Ok(message) => store(&self.seat, message, boxes.clone(), self.coming.take()).await,
            Err(refused) => vec![Err(refused); boxes.len()],
        };
        count(&door.counters.messages);
        door.counters.bytes.fetch_add(bytes, Ordering::Relaxed);
        let result = |target: &MailboxName| {
            let at = boxes.iter().position(|each| each == target);
            at.and_then(|at| results.get(at)).cloned().unwrap_or(Err(Refused::Failed))
        };
        targets
            .iter()
            .map(|target| match result(target) {
                Ok(Stored { uid, lsn }) => {
                    count(&door.counters.delivered);
                    let (session, client, outcome) = (self.seat.shown(), self.machine.client(), "done");
                    tracing::event!(
                        name: "audit", target: "audit", tracing::Level::INFO,
                        verb = "lmtp deliver", session, client, target = %target, outcome, message = uid, bytes, lsn
                    );
                    Reply::new(250, "2.0.0", "stored")
                }
                Err(refused) => self.refusal(&refused, &target.to_string()),
            })
            .collect()
    }

    /// Counts a refusal and gives its reply.
    fn refusal(&self, refused: &Refused, recipient: &str) -> Reply {
        let door = &self.seat.door;
        door.counters.refusal(refused);
        let reply = refused.reply(door.limits.over_quota_bounces);
        let (session, client) = (self.seat.shown(), self.machine.client());
        tracing::info!(event = "lmtp.refused", session, client, recipient, why = refused.word(), code = reply.code);
        reply
    }
}

/// Finds the mailbox for an address. The workers of the runtime are few, and all sessions are theirs.
async fn resolve(seat: &Seat, to: &Address) -> Result<MailboxName, Refused> {
    let delivery = seat.door.delivery.clone();
    if !delivery.resolves_slowly() {
        return delivery.resolve(to);
    }
    let to = to.clone();
    tokio::task::spawn_blocking(move || delivery.resolve(&to)).await.unwrap_or(Err(Refused::Failed))
}

/// Gives a message to the store and waits until it is on disk, or refused.
async fn store(
    seat: &Seat,
    message: Message,
    boxes: Vec<MailboxName>,
    coming: Option<Box<dyn Send>>,
) -> Vec<Result<Stored, Refused>> {
    let (delivery, session) = (seat.door.delivery.clone(), seat.number);
    let (tell, told) = oneshot::channel();
    // Who is gone is told nothing.
    let done = Box::new(move |results| drop(tell.send(results)));
    match message {
        Message::Inline(_) => delivery.deliver(session, message, boxes, done),
        Message::Staged(_) => {
            // Long: nobody waits for it.
            drop(tokio::task::spawn_blocking(move || delivery.deliver(session, message, boxes, done)))
        }
    }
    drop(coming);
    told.await.unwrap_or_default()
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
