//! `reconstruct`.

use super::Daemon;
use super::lists::{broken, pattern};
use crate::control::convert::failure;
use crate::control::{PART_ROWS, Peer};
use crate::jobs::reconstruct::{self, Done, Scope};
use crate::jobs::registry::Context;
use crate::model::{Rows, Table};
use crate::store::Repair;
use crate::store::adopt::Changed;
use proto::{Code, Failure, MailboxChange, Reconstruct, Reconstructed, Reply};

impl Daemon {
    /// Does what a client asked.
    pub(super) fn reconstruct(&self, peer: &Peer, asked: &Reconstruct, ctx: &Context) -> Result<Reply, Failure> {
        let store = self.store()?;
        let scope = self.scope(asked)?;
        if asked.list {
            return Ok(reply(reconstruct::list(store, &scope).map_err(|e| failure(&e))?));
        }
        if asked.database && !asked.dry_run && store.due().is_due() {
            self.register_partitions(store)?;
        }
        let repair = match (asked.dry_run, asked.fill) {
            (true, _) => Repair::Nothing,
            (false, true) => Repair::Force,
            (false, false) => Repair::Recover,
        };
        let done_so_far = match (asked.database, asked.index || asked.fill) {
            (true, true) => reconstruct::run_with_indexes(store, &scope, repair, ctx),
            (true, false) => reconstruct::run(store, &scope, ctx),
            (false, true) => reconstruct::indexes(store, &scope, repair, ctx),
            (false, false) => Ok(Done::default()),
        };
        let mut done = done_so_far.map_err(|e| failure(&e))?;
        if asked.quotas {
            self.sums(peer, &scope, ctx, &mut done)?;
        }
        let is_all = asked.database && !asked.dry_run && scope.is_everything();
        // Everything was looked at: what is not proven stays so.
        if is_all && done.is_complete() {
            store.adoption_done(&done.findings, done.findings_total).map_err(|e| failure(&e))?;
        }
        if is_all && done.findings_total == 0 {
            store.repair_done().map_err(|e| failure(&e))?;
        }
        Ok(reply(done))
    }

    fn scope(&self, asked: &Reconstruct) -> Result<Scope, Failure> {
        let store = self.store()?;
        if let Some(name) = &asked.partition
            && store.partitions().site(name).is_none()
        {
            let text = format!("no partition {name}");
            return Err(Failure::new(Code::NotFound, text).with_hint("storectl partition list"));
        }
        if let Some(user) = &asked.user {
            crate::model::user::check_user(user).map_err(|e| Failure::new(Code::BadInput, format!("{user:?}: {e}")))?;
            let known = store.view().contains(Table::Users, user.as_bytes()).map_err(broken)?;
            let mut found = known;
            for (name, _) in store.partitions().list() {
                found = found || !store.homes_named(&name, user).map_err(|e| failure(&e))?.is_empty();
            }
            if !found {
                return Err(Failure::new(Code::NoUser, format!("no user {user}, and no directory of one")));
            }
        }
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let jobs = asked.jobs.map_or(cores, |jobs| usize::try_from(jobs).unwrap_or(cores));
        let mailboxes = asked.mailboxes.iter().map(|text| pattern(text)).collect::<Result<_, _>>()?;
        let (partition, user) = (asked.partition.clone(), asked.user.clone());
        let (jobs, archive) = (jobs.clamp(1, 256), self.archived_log(store));
        Ok(Scope { partition, user, mailboxes, dry_run: asked.dry_run, jobs, archive })
    }

    /// The sums of quota roots (I9).
    fn sums(&self, peer: &Peer, scope: &Scope, ctx: &Context, done: &mut Done) -> Result<(), Failure> {
        let mut wrong = Vec::new();
        let mut keep = |part: Reply| {
            if let Reply::Recalculated(roots) = part {
                wrong.extend(roots.into_iter().take(PART_ROWS));
            }
            Ok(())
        };
        let last = self.recalc(peer, scope.dry_run, ctx, &mut keep)?;
        let _ = keep(last);
        for root in wrong {
            let (was, is) = (root.messages.from, root.messages.to);
            let (bytes_were, bytes_are) = (root.storage.from, root.storage.to);
            let action = format!("sum corrected: {is} messages of {bytes_are} bytes, not {was} of {bytes_were} bytes");
            done.change(Changed { what: root.root, action });
        }
        Ok(())
    }
}

pub(super) fn reply(done: Done) -> Reply {
    let finding = |f: crate::store::Finding| proto::Finding {
        r#where: f.r#where,
        what: f.what,
        expected: f.expected,
        found: f.found,
    };
    Reply::Reconstructed(Box::new(Reconstructed {
        checked: done.checked,
        findings: done.findings.into_iter().map(finding).collect(),
        changes: done
            .changes
            .into_iter()
            .map(|Changed { what, action }| MailboxChange { mailbox: what, action })
            .collect(),
        findings_total: done.findings_total,
        changes_total: done.changes_total,
    }))
}
