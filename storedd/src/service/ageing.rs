//! `expire`, `purge`, `peruser`: by hand and when they are due.

use super::Daemon;
use super::jobs::{AGEING, NOBODYS, itself};
use crate::control::Peer;
use crate::control::access::Role;
use crate::control::convert::failure;
use crate::error::StoreError;
use crate::jobs::expire::{Aged, Ageing, Due, Line, Undone};
use crate::jobs::registry::{Context, Kind};
use crate::lsn::Micros;
use crate::model::command::RefusalKind;
use crate::model::{Command, Outcome};
use crate::place;
use crate::statefile::Act;
use crate::store::CommitError;
use proto::{Code, Done, Failure, Reply};
use std::sync::Arc;

impl Daemon {
    /// Who ages messages; to be called before [`Daemon::set_store`].
    pub fn set_ageing(&self, ageing: Arc<Ageing>) {
        let first = self.ageing.set(ageing).is_ok();
        assert!(first, "the messages of a store are aged by one");
    }

    fn ageing(&self) -> Result<&Arc<Ageing>, Failure> {
        self.ageing.get().ok_or_else(|| Failure::new(Code::Unavailable, "recovering"))
    }

    /// `expire`.
    pub(super) fn expire(&self, peer: &Peer, dry_run: bool, ctx: &Context) -> Result<Reply, Failure> {
        self.aged(peer, Due::Expire, (dry_run, false), ctx)
    }

    /// `purge`.
    pub(super) fn purge(&self, peer: &Peer, dry_run: bool, ctx: &Context) -> Result<Reply, Failure> {
        self.aged(peer, Due::Purge, (dry_run, false), ctx)
    }

    fn aged(&self, peer: &Peer, what: Due, (dry_run, goes_on): (bool, bool), ctx: &Context) -> Result<Reply, Failure> {
        let (ageing, settings) = (self.ageing()?, place::ageing_settings(&self.config()));
        let hands = |command: Command| self.hand(peer, verb(what), command);
        let (act, done) = match what {
            Due::Expire => (Act::Expire, ageing.expire(&settings, (dry_run, goes_on), ctx, &hands)),
            Due::Purge => (Act::Purge, ageing.purge(&settings, dry_run, ctx, &hands)),
            Due::Peruser => return self.peruser(peer, ctx),
        };
        let aged = done.map_err(|e| failure(&e))?;
        if !dry_run {
            self.watch()?.note(act);
        }
        Ok(Reply::Aged(Box::new(wire(aged))))
    }

    /// `peruser`: what users have seen in mailboxes of others is written to the partitions.
    pub(super) fn peruser(&self, peer: &Peer, ctx: &Context) -> Result<Reply, Failure> {
        let (watch, ageing) = (self.watch()?, self.ageing()?);
        // What was changed since a moment that did not come yet is nothing; then all is written.
        let last = watch.stamped().peruser.filter(|last| !last.is_ahead_of(self.env.now()));
        let since = last.map_or(Micros(0), |last| Micros(last.0.saturating_sub(WRITE_OUT_OVERLAP_US)));
        let hands = |command: Command| self.hand(peer, "peruser", command);
        ageing.forget_seen(ctx, &hands).map_err(|e| failure(&e))?;
        self.store()?.write_out_seen(since).map_err(|e| failure(&e))?;
        watch.note(Act::Peruser);
        Ok(Reply::Done(Done { done: true }))
    }

    /// Does a command for the work, as far as nobody and nothing is in the way.
    pub(super) fn hand(&self, peer: &Peer, verb: &'static str, command: Command) -> Result<Outcome, Undone> {
        let said = |failure: Failure| match failure.code {
            Code::Busy | Code::Unavailable => Undone::Busy(failure.message),
            _ => Undone::Refused(failure.message),
        };
        self.watch().and_then(|watch| watch.admit(peer, &command)).map_err(said)?;
        let _pass = self.pass_here(peer, verb, &command).map_err(said)?;
        let answer = self.store().map_err(said)?.commit_once(command);
        self.notice_poison(&answer);
        match answer {
            Ok(done) => Ok(done.outcome),
            Err(CommitError::Stale | CommitError::Uncounted(_)) => Err(Undone::Stale),
            Err(CommitError::Refused(why)) => match why.kind {
                // Somebody else has made it meanwhile.
                RefusalKind::Exists => Ok(Outcome::Unchanged),
                RefusalKind::Busy => Err(Undone::Busy(why.message)),
                _ => Err(Undone::Refused(why.message)),
            },
            Err(CommitError::Failed(e @ (StoreError::Busy { .. } | StoreError::NoSpace { .. }))) => {
                Err(Undone::Busy(e.to_string()))
            }
            Err(CommitError::Failed(e)) => Err(Undone::Failed(e)),
        }
    }

    /// Does what is due of both, as a job.
    pub fn keep_ageing(&self, ageing: &Ageing) {
        let Ok(watch) = self.watch() else { return };
        if !self.keeps_schedule() {
            return;
        }
        let (config, last) = (self.config(), watch.stamped());
        let settings = place::ageing_settings(&config);
        let Some(due) = ageing.due(&settings, last) else { return };
        let asker = itself();
        let peer = Peer {
            connection: NOBODYS,
            late: false,
            uid: asker.uid,
            gid: rustix::process::getegid().as_raw(),
            pid: asker.pid,
            client: asker.client.clone(),
            role: Role::Owner,
        };
        let kind = Kind::new(verb(due), AGEING);
        // How it ended is in the log, and with the job.
        drop(self.jobs.run(kind, asker, |ctx| match due {
            Due::Peruser => self.peruser(&peer, ctx).inspect_err(|_| ageing.failed(due)),
            due => self.aged(&peer, due, (false, true), ctx),
        }));
    }
}

/// A write-out begins so long before the last one ended: a change that it was too early for is in the next.
const WRITE_OUT_OVERLAP_US: u64 = 3_600_000_000;

fn verb(what: Due) -> &'static str {
    match what {
        Due::Expire => "expire",
        Due::Purge => "purge",
        Due::Peruser => "peruser",
    }
}

fn wire(aged: Aged) -> proto::Aged {
    let line = |Line { mailbox, rule, action, messages, bytes, to }| proto::AgedLine {
        mailbox,
        rule,
        action: String::from(action),
        messages,
        bytes,
        to,
    };
    proto::Aged {
        dry_run: aged.dry_run,
        lines: aged.lines.into_iter().map(line).collect(),
        lines_total: aged.lines_total,
        mailboxes: aged.mailboxes,
        messages: aged.messages,
        bytes: aged.bytes,
        problems: aged.problems,
        problems_total: aged.problems_total,
    }
}
