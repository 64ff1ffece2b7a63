//! Messages as clients ask for them: long ones on their way in, lists, one message, its bytes.

use super::Daemon;
use super::lists::broken;
use crate::control::convert::{self, failure};
use crate::control::{Listing, Parts, Peer};
use crate::error::StoreError;
use crate::lsn::Micros;
use crate::mail::{self, Intake};
use crate::model::Command;
use crate::model::command::{Delivery, Incoming, IncomingBytes, ReturningBody};
use crate::model::message::{Flags, Message, State};
use crate::partition::bodies::{self, Unsynced};
use crate::store::{Listed, Store, View, rfc3339};
use proto::{Code, Failure, MessageSent, Reply};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Messages that one connection may have under way.
const SENDING_MAX: usize = 8;
/// Bytes of a part of a message's bytes.
const PART_BYTES: usize = 256 << 10;
/// Bytes of a header that `message show` shows.
const HEADER_SHOWN: usize = 64 << 10;

/// A message that a connection sends in pieces.
#[derive(Debug)]
enum Sending {
    Begun(Intake),
    Whole(Sent),
    /// A piece of it is being taken.
    Busy,
}

impl Sending {
    /// Nobody delivers it: what was staged of it goes.
    fn discard(self, store: Option<&Arc<Store>>) {
        if let (Sending::Whole(sent), Some(store)) = (self, store) {
            mail::discard(store, &sent.message);
        }
    }
}

/// A message that was sent. It is made durable when something names it, with the others that it names.
#[derive(Debug)]
struct Sent {
    message: Arc<Incoming>,
    unsynced: Option<Unsynced>,
}

/// The messages that connections have sent and not delivered yet.
#[derive(Debug, Default)]
pub(super) struct Senders {
    by_connection: Mutex<BTreeMap<(u64, u64), Sending>>,
}

impl Senders {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(u64, u64), Sending>> {
        self.by_connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is there of a message, or begins one; its place stays taken.
    fn take(
        &self,
        connection: u64,
        number: Option<u64>,
        begin: impl FnOnce() -> Intake,
    ) -> Result<(u64, Intake), Failure> {
        let mut all = self.lock();
        if let Some(number) = number {
            let place = all.get_mut(&(connection, number)).filter(|sending| matches!(sending, Sending::Begun(_)));
            return match place.map(|sending| std::mem::replace(sending, Sending::Busy)) {
                Some(Sending::Begun(intake)) => Ok((number, intake)),
                _ => Err(unknown(number)),
            };
        }
        let mine = all.range((connection, 0)..=(connection, u64::MAX));
        let (count, last) = mine.fold((0, 0), |(count, _), ((_, number), _)| (count + 1, *number));
        if count >= SENDING_MAX {
            let text = format!("{SENDING_MAX} messages of this connection are under way");
            return Err(Failure::new(Code::Busy, text).with_hint("deliver them first"));
        }
        all.insert((connection, last + 1), Sending::Busy);
        Ok((last + 1, begin()))
    }

    /// Gives a message that was taken its place back. Gives it to the caller, whose it is, if the place is gone, and the connection with it.
    fn put(&self, connection: u64, number: u64, sending: Sending) -> Option<Sending> {
        match self.lock().get_mut(&(connection, number)) {
            Some(place @ Sending::Busy) => {
                *place = sending;
                None
            }
            _ => Some(sending),
        }
    }

    /// A message that was taken is no more.
    fn lose(&self, connection: u64, number: u64) {
        self.lock().remove(&(connection, number));
    }

    /// The message that a connection has sent; it is that of its delivery from now on.
    fn whole(&self, connection: u64, number: u64) -> Option<Sent> {
        let mut all = self.lock();
        match all.remove(&(connection, number))? {
            Sending::Whole(message) => Some(message),
            other => {
                all.insert((connection, number), other);
                None
            }
        }
    }

    /// Makes messages that a connection has sent durable, all of them together. Until that is done none of them can be had; of those that
    /// cannot be made so nothing is left.
    fn settle(&self, connection: u64, numbers: &[u64], store: Option<&Arc<Store>>) -> Result<(), StoreError> {
        let (mut all, mut messages, mut unsynced) = (self.lock(), Vec::new(), Vec::new());
        for number in numbers {
            let Some(place) = all.get_mut(&(connection, *number)) else { continue };
            *place = match std::mem::replace(place, Sending::Busy) {
                Sending::Whole(Sent { message, unsynced: Some(file) }) => {
                    messages.push((*number, message));
                    unsynced.push(file);
                    continue;
                }
                other => other,
            };
        }
        drop(all);
        let done = bodies::sync_staged(unsynced);
        // IMPORTANT: durable only now; who asks on the same connection meanwhile gets none of them.
        for (number, message) in messages {
            let sent = Sending::Whole(Sent { message, unsynced: None });
            match done {
                Ok(()) => self.put(connection, number, sent).into_iter().for_each(|orphan| orphan.discard(store)),
                Err(_) => self.lose(connection, number),
            }
        }
        done
    }

    /// The connection has ended: what it did not deliver goes.
    pub(super) fn gone(&self, connection: u64, store: Option<&Arc<Store>>) {
        let mut all = self.lock();
        let mine: Vec<_> = all.range((connection, 0)..=(connection, u64::MAX)).map(|(key, _)| *key).collect();
        let left: Vec<_> = mine.iter().filter_map(|key| all.remove(key)).collect();
        drop(all);
        left.into_iter().for_each(|sending| sending.discard(store));
    }
}

fn unknown(number: u64) -> Failure {
    Failure::new(Code::NotFound, format!("this connection sends no message {number}"))
        .with_hint("send it from its beginning")
}

impl Daemon {
    /// `message send`.
    pub(super) fn message_send(
        &self,
        peer: &Peer,
        number: Option<u64>,
        to: &str,
        bytes: &[u8],
        last: bool,
    ) -> Result<Reply, Failure> {
        let store = self.store()?;
        let partition = mail::partition_of(store, &store.view(), to).map_err(broken)?;
        let (number, mut intake) = self.senders.take(peer.connection, number, || Intake::new(store, &partition))?;
        let taken = intake.add(bytes).map(|()| match last {
            false => (intake.len(), Sending::Begun(intake)),
            true => {
                let (message, unsynced) = intake.finish_later();
                (message.size, Sending::Whole(Sent { message, unsynced }))
            }
        });
        let (size, sending) = taken.inspect_err(|_| self.senders.lose(peer.connection, number)).map_err(broken)?;
        if let Some(orphan) = self.senders.put(peer.connection, number, sending) {
            // Nobody hears that any more.
            orphan.discard(Some(store));
            return Err(unknown(number));
        }
        Ok(Reply::MessageSent(MessageSent { number, size }))
    }

    /// The message that this connection has sent before under a number; it is the caller's from now on, and need not be durable.
    pub(super) fn sent_message(&self, peer: &Peer, number: u64) -> Result<Arc<Incoming>, Failure> {
        Ok(self.senders.whole(peer.connection, number).ok_or_else(|| unknown(number))?.message)
    }

    /// Makes the messages durable that a command names, which were sent before it.
    ///
    /// # Errors
    /// Those of the disks; the messages are gone then.
    pub(super) fn settle_messages(&self, peer: &Peer, command: &Command) -> Result<(), Failure> {
        let numbers = sent_for(command);
        self.senders.settle(peer.connection, &numbers, self.store.get()).map_err(|e| failure(&e))
    }

    /// The message that a command brings or names.
    pub(super) fn whole_message(&self, peer: &Peer, message: Arc<Incoming>) -> Result<Arc<Incoming>, Failure> {
        let message = match convert::sent(&message) {
            Some(number) => {
                // IMPORTANT: no record may name what is not durable; see [`Daemon::settle_messages`], which has done it by now.
                self.senders.settle(peer.connection, &[number], self.store.get()).map_err(|e| failure(&e))?;
                self.sent_message(peer, number)?
            }
            None => message,
        };
        let limit = self.store()?.inline_limit() as u64;
        if matches!(&message.bytes, IncomingBytes::Inline { .. }) && message.size > limit {
            let text = format!("a message of {} bytes in a request, at most {limit}", message.size);
            return Err(Failure::new(Code::BadInput, text).with_hint("send it in pieces first"));
        }
        Ok(message)
    }

    /// A command whose messages are those that it names: they were sent before, or are in it.
    pub(super) fn with_messages(&self, peer: &Peer, command: Command) -> Result<Command, Failure> {
        Ok(match command {
            Command::Deliver(delivery) => {
                let message = self.whole_message(peer, delivery.message)?;
                Command::Deliver(Delivery { message, ..delivery })
            }
            Command::MessagesReturn(mut back) => {
                for returning in &mut back.messages {
                    if let ReturningBody::Bytes(message) = &mut returning.body {
                        *message = self.whole_message(peer, message.clone())?;
                    }
                }
                Command::MessagesReturn(back)
            }
            Command::Atomic(commands) => {
                let all: Result<_, _> = commands.into_iter().map(|one| self.with_messages(peer, one)).collect();
                Command::Atomic(all?)
            }
            other => other,
        })
    }

    /// Does a command that brought what did not hold any more; on a thread of its own, for it reads indexes.
    pub(super) fn again(self: Arc<Daemon>, store: Arc<Store>, command: Command, done: crate::control::Completion) {
        let work = move || {
            let answer = store.commit(command);
            self.notice_poison(&answer);
            done(super::handle::committed(answer));
        };
        if let Err(e) = std::thread::Builder::new().name("again".to_owned()).spawn(work) {
            // What it would have answered was dropped with it, which answers.
            tracing::warn!(event = "no_thread", error = %e);
        }
    }

    /// The messages of a mailbox, with its name and UIDVALIDITY.
    fn listed(&self, view: &View, name: &str) -> Result<(Open, Listed), Failure> {
        let store = self.store()?;
        let (name, row) = self.mailbox_row(view, name)?;
        let of = store.folder(view, name.key(), &row).map_err(broken)?;
        let listed = store.messages(view, &of, &row).map_err(broken)?;
        Ok((Open { name: name.to_string(), uidvalidity: row.uidvalidity, of }, listed))
    }

    /// `message list`.
    pub(super) fn message_list(&self, name: &str, expunged: bool, parts: &mut Parts<'_>) -> Result<Reply, Failure> {
        let (_, listed) = self.listed(&self.view()?, name)?;
        let wanted = if expunged { State::Expunged } else { State::Live };
        let mut listing = Listing::new(Reply::Messages, parts);
        for message in listed.messages.values().filter(|m| m.state == wanted) {
            listing.push(line(message))?;
        }
        Ok(listing.finish())
    }

    /// `message list --expunged`.
    pub(super) fn message_list_expunged(&self, name: &str, parts: &mut Parts<'_>) -> Result<Reply, Failure> {
        let (_, listed) = self.listed(&self.view()?, name)?;
        let mut listing = Listing::new(Reply::ExpungedMessages, parts);
        for message in listed.messages.values().filter(|m| m.state == State::Expunged) {
            let proto::Message { uid, size, internal_date, flags, modseq, digest } = line(message);
            let expunged = rfc3339(Micros(message.expunged_us));
            let purge_due = self.purge_due(message.expunged_us);
            listing.push(proto::ExpungedMessage {
                uid,
                size,
                internal_date,
                flags,
                modseq,
                digest,
                expunged,
                purge_due,
            })?;
        }
        Ok(listing.finish())
    }

    /// `message list --as`: what the user may read, with his own `\Seen`.
    pub(super) fn message_list_as(&self, user: &str, name: &str, parts: &mut Parts<'_>) -> Result<Reply, Failure> {
        let view = self.view()?;
        let seen = self.seen_by(&view, user, name, 'r')?;
        let (_, listed) = self.listed(&view, name)?;
        let mut listing = Listing::new(Reply::Messages, parts);
        for mut message in listed.messages.into_values().filter(|m| m.state == State::Live) {
            if let Some(seen) = &seen {
                let rest = message.flags.without(Flags::SEEN);
                message.flags = if seen.has(message.uid) { rest.with(Flags::SEEN) } else { rest };
            }
            listing.push(line(&message))?;
        }
        Ok(listing.finish())
    }

    pub(super) fn one(&self, view: &View, name: &str, uid: u32) -> Result<(Open, Message), Failure> {
        let store = self.store()?;
        let (name, row) = self.mailbox_row(view, name)?;
        let of = store.folder(view, name.key(), &row).map_err(broken)?;
        let message = store.message(view, &of, &row, uid).map_err(broken)?.ok_or_else(|| {
            Failure::new(Code::NotFound, format!("no message {uid} in {name}"))
                .with_hint(format!("storectl message list {}", proto::naming::quoted(&name.to_string())))
        })?;
        Ok((Open { name: name.to_string(), uidvalidity: row.uidvalidity, of }, message))
    }

    /// `message show`.
    pub(super) fn message_show(&self, name: &str, uid: u32) -> Result<Reply, Failure> {
        let view = self.view()?;
        let (open, message) = self.one(&view, name, uid)?;
        let bytes = self.store()?.message_bytes(&view, &open.of, &message).map_err(broken)?;
        let end = (message.header_size as usize).min(bytes.len()).min(HEADER_SHOWN);
        Ok(Reply::Message(Box::new(proto::MessageDetail {
            mailbox: open.name,
            uidvalidity: open.uidvalidity,
            message: line(&message),
            state: message.state.word().to_owned(),
            saved: rfc3339(Micros(message.saved_us)),
            expunged: (message.expunged_us > 0).then(|| rfc3339(Micros(message.expunged_us))),
            header_size: message.header_size,
            header: String::from_utf8_lossy(&bytes[..end]).into_owned(),
        })))
    }

    /// `message show --raw`.
    pub(super) fn message_bytes(&self, name: &str, uid: u32, parts: &mut Parts<'_>) -> Result<Reply, Failure> {
        let view = self.view()?;
        let (open, message) = self.one(&view, name, uid)?;
        let bytes = self.store()?.message_bytes(&view, &open.of, &message).map_err(|e| failure(&e))?;
        let mut pieces = bytes.chunks(PART_BYTES).peekable();
        while let Some(piece) = pieces.next() {
            if pieces.peek().is_none() {
                return Ok(Reply::MessageBytes(piece.to_vec()));
            }
            parts(Reply::MessageBytes(piece.to_vec()))?;
        }
        Ok(Reply::MessageBytes(Vec::new()))
    }
}

/// The numbers of the messages that a command names.
fn sent_for(command: &Command) -> Vec<u64> {
    match command {
        Command::Deliver(delivery) => convert::sent(&delivery.message).into_iter().collect(),
        Command::MessagesReturn(back) => {
            let bodies = back.messages.iter().filter_map(|returning| match &returning.body {
                ReturningBody::Bytes(message) => convert::sent(message),
                ReturningBody::Copy(..) => None,
            });
            bodies.collect()
        }
        Command::Atomic(commands) => commands.iter().flat_map(sent_for).collect(),
        _ => Vec::new(),
    }
}

/// A mailbox that is looked into.
pub(super) struct Open {
    name: String,
    uidvalidity: u32,
    pub(super) of: crate::model::Folder<'static>,
}

fn line(message: &Message) -> proto::Message {
    proto::Message {
        uid: message.uid,
        size: message.size,
        internal_date: rfc3339(Micros(message.internal_us)),
        flags: message.flag_names(),
        modseq: message.modseq,
        digest: message.digest.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk, Fault, SimDisk, Stuck};
    use crate::partition::tree;

    /// A message that is staged on a disk and not durable.
    fn sent(disk: &Arc<dyn Disk>, number: u64) -> Sending {
        let mut staging = bodies::stage(disk.clone(), number).unwrap();
        staging.add(b"Subject: long\r\n\r\n").unwrap();
        let (body, unsynced) = staging.unsynced();
        let bytes = IncomingBytes::Staged { partition: "primary".to_owned(), number };
        let message = Arc::new(Incoming { size: body.size, digest: body.digest, header_size: 19, bytes });
        Sending::Whole(Sent { message, unsynced: Some(unsynced) })
    }

    fn insert(senders: &Senders, connection: u64, number: u64, sending: Sending) {
        senders.lock().insert((connection, number), sending);
    }

    // A sync that fails takes those along that it was for, and none that was durable before: nobody would have taken its file away
    #[test]
    fn what_was_durable_outlives_a_sync_that_fails() {
        let machine = SimDisk::new();
        let disk: Arc<dyn Disk> = Arc::new(machine.disk("primary"));
        let senders = Senders::default();
        (1..=3).for_each(|number| insert(&senders, 7, number, sent(&disk, number)));
        senders.settle(7, &[1], None).unwrap();
        machine.fail_at(machine.ops() + 1, Fault::Eio);
        assert!(senders.settle(7, &[1, 2], None).is_err());
        assert!(senders.whole(7, 2).is_none() && disk.stat(&tree::staged(2)).unwrap().is_none());
        let first = senders.whole(7, 1).unwrap();
        assert!(first.unsynced.is_none() && disk.stat(&tree::staged(1)).unwrap().is_some());
        assert!(senders.whole(7, 3).unwrap().unsynced.is_some(), "nobody asked for it");
    }

    // What is just being made durable is not taken for durable by another request of the same connection
    #[test]
    fn what_is_not_durable_yet_is_not_had() {
        let machine = SimDisk::new();
        let gate = Arc::new(Mutex::new(()));
        let disk: Arc<dyn Disk> = Arc::new(Stuck::new(machine.disk("primary"), gate.clone()));
        let senders = Senders::default();
        insert(&senders, 7, 1, sent(&disk, 1));
        std::thread::scope(|scope| {
            let shut = gate.lock().unwrap();
            let settling = scope.spawn(|| senders.settle(7, &[1], None));
            // Until it is at it.
            while senders
                .lock()
                .values()
                .any(|sending| matches!(sending, Sending::Whole(Sent { unsynced: Some(_), .. })))
            {
                std::thread::yield_now();
            }
            senders.settle(7, &[1], None).unwrap();
            assert!(senders.whole(7, 1).is_none(), "it is not durable");
            drop(shut);
            settling.join().unwrap().unwrap();
        });
        assert!(senders.whole(7, 1).is_some());
    }

    // A client that died while a piece of its message was written left the message, and its file, behind for ever.
    #[test]
    fn what_a_connection_that_is_gone_has_sent_is_given_back() {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new());
        let senders = Senders::default();
        let place = || insert(&senders, 1, 7, Sending::Busy);
        place();
        assert!(senders.put(1, 7, sent(&disk, 1)).is_none(), "its place is there");
        assert!(senders.whole(1, 7).is_some());
        place();
        senders.gone(1, None);
        assert!(matches!(senders.put(1, 7, sent(&disk, 2)), Some(Sending::Whole(_))));
        assert!(senders.lock().is_empty());
        place();
        senders.lose(1, 7);
        assert!(senders.lock().is_empty());
    }
}
