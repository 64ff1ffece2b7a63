//! What the control door asks of the daemon: the one implementation of [`Service`] in the product. Each request goes to the room that knows it.

use super::{Daemon, Event, logs};
use crate::control::access::Groups;
use crate::control::convert::{failure, refusal};
use crate::control::dispatch;
use crate::control::{Answered, Committed, Completion, Events, OnPassage, Parts, Passage, Peer, Service, State};
use crate::lsn::Lsn;
use crate::model::Command;
use crate::model::command::{Incoming, ReturningBody};
use crate::site::Site;
use crate::store::plan::{self, PlanError};
use crate::store::{Answer, CommitError};
use proto::{Code, Failure, Reply, Request};
use std::sync::Arc;

/// A handle that the door can own.
#[derive(Clone)]
pub struct Handle(pub Arc<Daemon>);

impl Service for Handle {
    fn state(&self) -> State {
        match self.0.inner_state() {
            State::Ready if self.0.modes.is_leaving() => State::Draining,
            state => state,
        }
    }

    fn health(&self) -> Result<Reply, Failure> {
        let done = dispatch::health(self.state())?;
        self.0.health(done)
    }

    fn state_for(&self, peer: &Peer) -> State {
        if peer.late { self.state() } else { self.0.inner_state() }
    }

    fn greeted(&self, connection: u64) -> bool {
        self.0.modes.greeted(connection)
    }

    fn gone(&self, connection: u64) {
        self.0.modes.gone(connection);
        self.0.leases.gone(connection);
        self.0.jobs.left(connection);
        self.0.senders.gone(connection, self.0.store.get());
        self.0.readers.gone(connection);
        self.0.clients.gone(connection);
    }

    fn pass(
        &self,
        peer: &Peer,
        verb: &'static str,
        command: &Command,
        later: &mut dyn FnMut() -> OnPassage,
    ) -> Passage {
        self.0.pass(peer, verb, command, later)
    }

    fn hold(&self, peer: &Peer, request: &Request, cut: Box<dyn Fn() + Send>, done: Answered) {
        self.0.hold(peer, request, cut, done);
    }

    fn job(&self, peer: &Peer, request: &Request, events: Events, done: Answered) {
        self.0.job(peer, request, events, done);
    }

    fn groups(&self) -> Groups {
        let config = self.0.config();
        Groups { admin: config.access.admin_group.clone(), reader: config.access.reader_group.clone() }
    }

    fn change(&self, peer: &Peer, command: Command, done: Completion) {
        let admitted = self.0.watch.get().map_or(Ok(()), |watch| watch.admit(peer, &command));
        let admitted = admitted.and_then(|()| self.0.adopt_named(&command));
        let prepared = admitted.and_then(|()| self.0.with_messages(peer, command));
        match prepared.and_then(|command| Ok((self.0.store()?, command))) {
            Ok((store, command)) => {
                let (daemon, of) = (Arc::clone(&self.0), store.clone());
                let (messages, leaving) = (messages_in(&command), partitions_leaving(&command));
                let again = command.is_tried_again().then(|| command.clone());
                store.submit(
                    command,
                    Box::new(move |answer| {
                        if let (Err(CommitError::Stale | CommitError::Uncounted(_)), Some(command)) = (&answer, again) {
                            return daemon.again(of, command, done);
                        }
                        daemon.notice_poison(&answer);
                        if answer.is_ok() {
                            leaving.iter().for_each(|name| of.partitions().forget(name));
                        }
                        if !crate::mail::may_have_taken(&answer) {
                            messages.iter().for_each(|message| crate::mail::discard(&of, message));
                        }
                        done(committed(answer));
                    }),
                );
            }
            Err(failure) => done(Err(failure)),
        }
    }

    fn dry_run(&self, peer: &Peer, command: Command) -> Result<Committed, Failure> {
        let store = self.0.store()?;
        let command = self.prepare(peer, command)?;
        let (policy, now) = (store.policy(), self.0.env.now());
        match plan::plan_with(&policy, &command, &store.view(), &mut plan::Unissued::default(), now) {
            Ok(planned) => Ok(Committed { lsn: Lsn::ZERO, outcome: planned.outcome }),
            Err(PlanError::Refused(r)) => Err(refusal(r)),
            Err(PlanError::Failed(e)) => Err(failure(&e)),
            Err(PlanError::Stale | PlanError::Uncounted { .. }) => committed(Err(CommitError::Stale)),
        }
    }

    fn prepare(&self, peer: &Peer, command: Command) -> Result<Command, Failure> {
        self.0.adopt_named(&command)?;
        self.0.settle_messages(peer, &command)?;
        match command.selects() {
            true => self.0.store()?.prepare(command).map_err(|e| failure(&e)),
            false => Ok(command),
        }
    }

    fn partition(&self, name: &str, site: &Site, dry_run: bool) -> Result<[u8; 16], Failure> {
        self.0.prepare_partition(name, site, dry_run)
    }

    fn query(&self, request: &Request, peer: &Peer, parts: &mut Parts<'_>) -> Result<Reply, Failure> {
        let daemon = &self.0;
        daemon.adopt_asked(request)?;
        match request {
            Request::Status => Ok(Reply::Status(Box::new(daemon.status(self.state())))),
            Request::Stats => Ok(Reply::Stats(Box::new(daemon.stats()))),
            Request::Checkpoint => daemon.checkpoint(),
            Request::LogList { all } => daemon.log_list(*all),
            Request::LogVerify => daemon.log_verify(),
            Request::LogDump { from, to, since_us, mailbox, user } => {
                let wanted = logs::Wanted::new(*from, *to, *since_us, mailbox.as_deref(), user.as_deref())?;
                daemon.log_dump(&wanted, parts)
            }
            Request::RecoverReport { last } => daemon.reports(*last),
            Request::UserList { pattern } => daemon.user_list(pattern.as_deref(), parts),
            Request::UserShow { user } => daemon.user_show(user),
            Request::MailboxList { pattern } => daemon.mailbox_list(pattern, parts),
            Request::MailboxListDeleted { pattern } => daemon.mailbox_list_deleted(pattern, parts),
            Request::MailboxShow { name } => daemon.mailbox_show(name),
            Request::AclGet { name } => daemon.acl_get(name),
            Request::Subscriptions { user } => daemon.subscriptions(user),
            Request::PartitionList => daemon.partition_list(),
            Request::PartitionShow { name } => daemon.partition_show(name),
            Request::Hashdir { user, absolute } => daemon.hashdir(user, *absolute),
            Request::QuotaGet { root } => daemon.quota_get(root),
            Request::AclRights { name, identifier } => daemon.acl_rights(name, identifier),
            Request::AclMy { name, user } => daemon.acl_my(name, user),
            Request::MailboxListAs { user, pattern } => daemon.mailbox_list_as(user, pattern, parts),
            Request::MailboxShowAs { user, name } => daemon.mailbox_show_as(user, name),
            Request::SubscriptionsMissing { user } => daemon.subscriptions_missing(user, parts),
            Request::QuotaList { pattern } => daemon.quota_list(pattern, parts),
            Request::QuotaReport { over } => daemon.quota_report(*over, parts),
            Request::QuotaRecalc { dry_run } => daemon.quota_recalc(peer, *dry_run, parts),
            Request::ConfigShow { defaults } => Ok(daemon.config_values(*defaults)),
            Request::Maintenance { window } => daemon.watch()?.set_maintenance(window, peer).map(Reply::Maintenance),
            Request::Metrics => Ok(Reply::Metrics(daemon.exposition(self.state()))),
            Request::Shutdown { now } => {
                tracing::info!(event = "shutdown_asked", uid = peer.uid, pid = peer.pid, now);
                drop(daemon.events.send(Event::Stop { now: *now }));
                Ok(Reply::Done(proto::Done { done: true }))
            }
            Request::Restart { accept_loss } => daemon.restart(peer, *accept_loss),
            Request::AcceptLoss => daemon.accept_loss(peer),
            Request::ConfigReload { dry_run } => daemon.config_reload(*dry_run),
            Request::MessageSend { number, to, bytes, last } => daemon.message_send(peer, *number, to, bytes, *last),
            Request::MessageList { name, expunged } => daemon.message_list(name, *expunged, parts),
            Request::MessageListExpunged { name } => daemon.message_list_expunged(name, parts),
            Request::MessageListAs { user, name } => daemon.message_list_as(user, name, parts),
            Request::MessageShow { name, uid } => daemon.message_show(name, *uid),
            Request::MessageBytes { name, uid } => daemon.message_bytes(name, *uid, parts),
            Request::Backup(ask) => daemon.backup(peer, ask, parts),
            Request::SnapshotList => daemon.snapshot_list(),
            Request::SnapshotDelete { id } => daemon.snapshot_delete(id),
            Request::Jobs => Ok(daemon.job_list()),
            Request::JobAttend { errand } => daemon.job_attend(peer, *errand),
            Request::JobAdvance { id, done, total, item } => daemon.job_advance(peer, *id, (*done, *total), item),
            Request::JobEnd { id, told, failure } => daemon.job_end(peer, *id, told, failure.as_ref()),
            Request::JobShow { id } => daemon.job_show(*id),
            Request::Locks => Ok(daemon.locks()),
            Request::LockRelease { id } => daemon.lock_release(peer, *id),
            Request::LockBreak { id } => daemon.lock_break(peer, *id),
            Request::Drain { wait_ms } => Ok(daemon.begin_drain(peer, *wait_ms)),
            Request::LockTake { .. }
            | Request::LockJoin { .. }
            | Request::Freeze { .. }
            | Request::ReadOnly { .. }
            | Request::SnapshotTake { .. }
            | Request::SnapshotVerify { .. }
            | Request::SnapshotPrune
            | Request::BackupDb { .. }
            | Request::BackupComplete { .. }
            | Request::Drill
            | Request::Reconstruct(_)
            | Request::Expire { .. }
            | Request::Purge { .. }
            | Request::Check(_)
            | Request::Peruser
            | Request::UserMove { .. }
            | Request::JobStart { .. }
            | Request::JobCancel { .. }
            | Request::JobFollow { .. } => Err(Failure::new(Code::Bug, "this is no query")),
            Request::Hello { .. } | Request::Health | Request::Change { .. } | Request::Atomic { .. } => {
                Err(Failure::new(Code::Bug, "the door answers this itself"))
            }
        }
    }
}

impl Handle {
    /// Every number in the text format of Prometheus.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.0.exposition(self.state())
    }
}

/// The messages that a command brings.
fn messages_in(command: &Command) -> Vec<Arc<Incoming>> {
    match command {
        Command::Deliver(delivery) => vec![delivery.message.clone()],
        Command::MessagesReturn(back) => {
            let bytes = back.messages.iter().filter_map(|returning| match &returning.body {
                ReturningBody::Bytes(message) => Some(message.clone()),
                ReturningBody::Copy(..) => None,
            });
            bytes.collect()
        }
        Command::Atomic(commands) => commands.iter().flat_map(messages_in).collect(),
        _ => Vec::new(),
    }
}

/// The partitions that a command takes out of the store.
fn partitions_leaving(command: &Command) -> Vec<String> {
    match command {
        Command::PartitionRemove { name } => vec![name.clone()],
        Command::Atomic(commands) => commands.iter().flat_map(partitions_leaving).collect(),
        _ => Vec::new(),
    }
}

/// What the door is told of an answer.
pub(super) fn committed(answer: Answer) -> Result<Committed, Failure> {
    match answer {
        Ok(done) => Ok(Committed { lsn: done.lsn, outcome: done.outcome }),
        Err(CommitError::Refused(r)) => Err(refusal(r)),
        Err(CommitError::Failed(e)) => Err(failure(&e)),
        Err(CommitError::Stale | CommitError::Uncounted(_)) => {
            Err(Failure::new(Code::Busy, "what it is about changes all the time").with_hint("try again"))
        }
    }
}
