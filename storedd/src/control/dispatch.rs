//! Which road a request takes, and in which states of the store: one table.

use super::service::State;
use proto::{Code, Failure, Request};

/// The road of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Answered by the door itself.
    Own,
    /// Answered at once on the worker that read it, from memory.
    Quick,
    /// The same, from a page or two of the database, whose disk may not answer: the worker is given away meanwhile. So many at a
    /// time, further ones as slow ones.
    Look,
    /// On a thread that may block, one of a connection at a time.
    Slow,
    /// Answered when others let it: from wherever that is.
    Hold,
    /// Begun as a job, or about one; answered when it has ended.
    Job,
    /// Submitted in order, answered when it is on disk.
    Change,
}

/// What a request needs of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// A process.
    Nothing,
    /// An open database.
    Reading,
    /// A log that takes records.
    Writing,
}

fn row(request: &Request) -> (Lane, Needs) {
    match request {
        Request::Hello { .. } | Request::Health => (Lane::Own, Needs::Nothing),
        Request::Status | Request::Stats | Request::ConfigShow { .. } | Request::Shutdown { .. } | Request::Metrics => {
            (Lane::Quick, Needs::Nothing)
        }
        Request::Maintenance { .. } => (Lane::Quick, Needs::Reading),
        Request::RecoverReport { .. } | Request::ConfigReload { .. } | Request::Restart { .. } => {
            (Lane::Slow, Needs::Nothing)
        }
        Request::UserShow { .. }
        | Request::AclGet { .. }
        | Request::AclRights { .. }
        | Request::AclMy { .. }
        | Request::Hashdir { .. }
        | Request::QuotaGet { .. } => (Lane::Look, Needs::Reading),
        Request::LogList { .. }
        | Request::LogVerify
        | Request::LogDump { .. }
        | Request::UserList { .. }
        | Request::MailboxList { .. }
        | Request::MailboxListDeleted { .. }
        | Request::Subscriptions { .. }
        | Request::PartitionList
        | Request::PartitionShow { .. }
        | Request::MailboxListAs { .. }
        | Request::SubscriptionsMissing { .. }
        | Request::QuotaList { .. }
        | Request::QuotaReport { .. }
        | Request::QuotaRecalc { dry_run: true } => (Lane::Slow, Needs::Reading),
        // They read the index of a mailbox.
        Request::MailboxShow { .. }
        | Request::MailboxShowAs { .. }
        | Request::MessageList { .. }
        | Request::MessageListAs { .. }
        | Request::MessageListExpunged { .. }
        | Request::MessageShow { .. }
        | Request::MessageBytes { .. } => (Lane::Slow, Needs::Reading),
        Request::Backup(proto::BackupAsk::Heal(_)) => (Lane::Slow, Needs::Writing),
        Request::Backup(_) => (Lane::Slow, Needs::Reading),
        Request::MessageSend { .. } => (Lane::Slow, Needs::Writing),
        Request::SnapshotList | Request::SnapshotDelete { .. } | Request::AcceptLoss => (Lane::Slow, Needs::Reading),
        Request::SnapshotVerify { .. } | Request::SnapshotPrune => (Lane::Job, Needs::Reading),
        Request::SnapshotTake { .. }
        | Request::BackupDb { .. }
        | Request::BackupComplete { .. }
        | Request::Drill
        | Request::UserMove { .. } => (Lane::Job, Needs::Writing),
        Request::Expire { dry_run } | Request::Purge { dry_run } => {
            (Lane::Job, if *dry_run { Needs::Reading } else { Needs::Writing })
        }
        Request::Reconstruct(wanted) => {
            (Lane::Job, if wanted.dry_run || wanted.list { Needs::Reading } else { Needs::Writing })
        }
        Request::Check(_) => (Lane::Job, Needs::Reading),
        Request::Peruser => (Lane::Job, Needs::Writing),
        Request::Checkpoint => (Lane::Slow, Needs::Writing),
        Request::JobStart { work, .. } => (Lane::Job, row(&work.request()).1),
        Request::Jobs | Request::JobShow { .. } | Request::JobAdvance { .. } => (Lane::Quick, Needs::Nothing),
        // They note in a file which jobs run.
        Request::JobAttend { .. } | Request::JobEnd { .. } => (Lane::Slow, Needs::Nothing),
        Request::JobCancel { .. } | Request::JobFollow { .. } => (Lane::Job, Needs::Nothing),
        Request::Locks | Request::LockRelease { .. } => (Lane::Quick, Needs::Nothing),
        Request::LockBreak { .. } => (Lane::Slow, Needs::Nothing),
        Request::LockTake { .. } | Request::LockJoin { .. } | Request::Freeze { .. } => (Lane::Hold, Needs::Reading),
        Request::Drain { .. } => (Lane::Quick, Needs::Reading),
        Request::ReadOnly { .. } => (Lane::Hold, Needs::Reading),
        Request::QuotaRecalc { dry_run: false } => (Lane::Slow, Needs::Writing),
        Request::Change { dry_run: true, .. } => (Lane::Slow, Needs::Reading),
        Request::Change { dry_run: false, .. } | Request::Atomic { .. } => (Lane::Change, Needs::Writing),
    }
}

/// The road of `request` in this state of the store.
///
/// # Errors
/// Why it has none now.
pub fn lane(request: &Request, state: State) -> Result<Lane, Failure> {
    let (lane, needs) = row(request);
    let refused = match (needs, state) {
        (Needs::Nothing, _) | (_, State::Ready) => None,
        (_, State::Recovering) => {
            Some(Failure::new(Code::Unavailable, "recovering").with_hint("wait for it: storectl status --watch"))
        }
        (Needs::Reading, State::ReadOnly | State::Draining | State::Poisoned) => None,
        (Needs::Writing, State::ReadOnly) => {
            Some(Failure::new(Code::Unavailable, "the store is read-only").with_hint("see why: storectl status"))
        }
        // A checkpoint is how a draining store ends.
        (Needs::Writing, State::Draining) if *request == Request::Checkpoint => None,
        (Needs::Writing, State::Draining) => Some(
            Failure::new(Code::Busy, "draining: no new changes are taken").with_hint("try again after the restart"),
        ),
        (Needs::Writing, State::Poisoned) => Some(
            Failure::new(Code::LogFailed, "the log failed: no changes are taken until a restart")
                .with_hint("restart the daemon; it recovers by itself"),
        ),
    };
    refused.map_or(Ok(lane), Err)
}

/// `health`: done if changes are taken.
///
/// # Errors
/// `Unavailable`, naming the state.
pub fn health(state: State) -> Result<proto::Reply, Failure> {
    match state {
        State::Ready => Ok(proto::Reply::Done(proto::Done { done: true })),
        other => Err(Failure::new(Code::Unavailable, other.word()).with_hint("storectl status")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::Command;

    fn change() -> Request {
        Request::Change { command: Command::UserDelete { user: "u".to_owned() }, dry_run: false }
    }

    fn code(request: &Request, state: State) -> Option<Code> {
        lane(request, state).err().map(|failure| {
            assert!(failure.hint.is_some(), "{failure:?}");
            failure.code
        })
    }

    #[test]
    fn questions_about_the_daemon_are_answered_in_every_state() {
        for state in [State::Recovering, State::Ready, State::ReadOnly, State::Draining, State::Poisoned] {
            for request in [Request::Status, Request::Health, Request::Stats, Request::Shutdown { now: false }] {
                assert_eq!(code(&request, state), None, "{request:?} {state:?}");
            }
        }
    }

    #[test]
    fn changes_are_refused_with_the_code_of_the_state() {
        let expected = [
            (State::Recovering, Some(Code::Unavailable)),
            (State::Ready, None),
            (State::ReadOnly, Some(Code::Unavailable)),
            (State::Draining, Some(Code::Busy)),
            (State::Poisoned, Some(Code::LogFailed)),
        ];
        for (state, expected) in expected {
            assert_eq!(code(&change(), state), expected, "{state:?}");
            assert_eq!(code(&Request::Atomic { commands: vec![] }, state), expected, "{state:?}");
        }
    }

    #[test]
    fn queries_need_an_open_database_only() {
        let list = Request::MailboxList { pattern: "*".to_owned() };
        assert_eq!(code(&list, State::Recovering), Some(Code::Unavailable));
        for state in [State::Ready, State::ReadOnly, State::Draining, State::Poisoned] {
            assert_eq!(lane(&list, state), Ok(Lane::Slow));
            assert_eq!(lane(&Request::UserShow { user: "u".to_owned() }, state), Ok(Lane::Look));
        }
    }

    #[test]
    fn a_checkpoint_is_a_change_that_a_draining_store_takes() {
        assert_eq!(lane(&Request::Checkpoint, State::Draining), Ok(Lane::Slow));
        assert_eq!(code(&Request::Checkpoint, State::ReadOnly), Some(Code::Unavailable));
        assert_eq!(code(&Request::Checkpoint, State::Poisoned), Some(Code::LogFailed));
    }

    #[test]
    fn only_a_ready_store_is_healthy() {
        assert!(health(State::Ready).is_ok());
        for state in [State::Recovering, State::ReadOnly, State::Draining, State::Poisoned] {
            assert_eq!(health(state).unwrap_err().code, Code::Unavailable);
        }
    }
}
