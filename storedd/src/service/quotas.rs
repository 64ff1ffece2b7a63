//! Quota roots: limits and usage, which are at their limit, and which were counted wrong.

use super::Daemon;
use super::lists::{broken, each_row, pattern, user_row};
use crate::control::convert::recalculated;
use crate::control::{Listing, PART_ROWS, Parts, Peer};
use crate::jobs::registry::{Context, Kind};
use crate::lsn::{Lsn, Micros};
use crate::model::command::{Recalculated, RefusalKind};
use crate::model::name::key_text;
use crate::model::quota::{Counted, Tally, is_at, roots_above};
use crate::model::rows::{MailboxView, QuotaRow, Row};
use crate::model::{Command, Outcome, QuotaRoot, Refusal, Rows, Table};
use crate::store::{CommitError, Committed, View, rfc3339};
use proto::naming::quoted;
use proto::{Code, Failure, Reply};
use std::time::Duration;

/// Counting all roots again.
pub(super) const RECALC: Kind = Kind::new("quota recalc", Some("quota"));

impl Daemon {
    /// The root of a user, or the one in which a mailbox counts.
    pub(super) fn quota_get(&self, text: &str) -> Result<Reply, Failure> {
        let view = self.view()?;
        let root = QuotaRoot::parse(text).map_err(|e| Failure::new(Code::BadInput, format!("{text:?}: {e}")))?;
        match &root {
            QuotaRoot::User(user) => drop(user_row(&view, user)?),
            QuotaRoot::Mailbox(name) => drop(self.mailbox_row(&view, &name.to_string())?),
        }
        for key in roots_above(&root.key()) {
            if let Some(quota) = quota_at(&view, key, self.grace())? {
                return Ok(Reply::Quota(quota));
            }
        }
        Err(Failure::new(Code::NotFound, format!("{root} counts in no quota root"))
            .with_hint(format!("give it a limit: storectl quota set {} --storage SIZE", quoted(&root.to_string()))))
    }

    pub(super) fn quota_list(&self, wanted: &str, parts: &mut Parts<'_>) -> Result<Reply, Failure> {
        let pattern = pattern(wanted)?;
        self.quotas(pattern.key_prefix(), |key, _| pattern.matches(key), parts)
    }

    pub(super) fn quota_report(&self, over: Option<u32>, parts: &mut Parts<'_>) -> Result<Reply, Failure> {
        let percent = over.unwrap_or_else(|| self.config().quota.warn_percent);
        let reached = |row: &QuotaRow| {
            is_at(row.storage_usage, row.storage_limit, percent) || is_at(row.message_usage, row.message_limit, percent)
        };
        self.quotas(b"", |_, row| reached(row), parts)
    }

    pub(super) fn grace(&self) -> Grace {
        (self.env.now(), self.config().quota.grace)
    }

    /// The roots whose keys begin with `prefix` and that are wanted.
    fn quotas(
        &self,
        prefix: &[u8],
        wanted: impl Fn(&[u8], &QuotaRow) -> bool,
        parts: &mut Parts<'_>,
    ) -> Result<Reply, Failure> {
        let (mut listing, grace) = (Listing::new(Reply::Quotas, parts), self.grace());
        each_row(&self.view()?, Table::Quotas, prefix, &mut |key, row| {
            let row = QuotaRow::decode(key, row).map_err(broken)?;
            if wanted(key, &row) {
                listing.push(quota(key, &row, grace))?;
            }
            Ok(())
        })?;
        Ok(listing.finish())
    }

    /// Counts every root on one view, which stops nobody. What differs there is counted again by a command of its own, at
    /// the moment of that command: a message that came meanwhile is no difference.
    pub(super) fn quota_recalc(&self, peer: &Peer, dry_run: bool, parts: &mut Parts<'_>) -> Result<Reply, Failure> {
        if dry_run {
            return self.recalc(peer, true, &Context::idle(), parts);
        }
        // Goes on when nobody reads any more, as every job does.
        let mut heard = |part| {
            let _ = parts(part);
            Ok(())
        };
        self.jobs.run(RECALC, super::jobs::asker(peer), |ctx| self.recalc(peer, false, ctx, &mut heard))
    }

    /// The same as a job that nobody need follow; gives the first of the roots that were wrong.
    pub(super) fn quota_recalc_alone(&self, peer: &Peer, ctx: &Context) -> Result<Reply, Failure> {
        let mut first = Vec::new();
        let mut keep = |part: Reply| {
            if let Reply::Recalculated(roots) = part {
                let room = PART_ROWS.saturating_sub(first.len());
                first.extend(roots.into_iter().take(room));
            }
            Ok(())
        };
        let last = self.recalc(peer, false, ctx, &mut keep)?;
        // Nobody stops it from being kept.
        let _ = keep(last);
        Ok(Reply::Recalculated(first))
    }

    pub(super) fn recalc(
        &self,
        peer: &Peer,
        dry_run: bool,
        ctx: &Context,
        parts: &mut Parts<'_>,
    ) -> Result<Reply, Failure> {
        let view = self.view()?;
        let mut listing = Listing::new(Reply::Recalculated, parts);
        let mut counted = |counted: Counted| {
            let Some(wrong) = differs(&view, counted)? else { return Ok(()) };
            if dry_run {
                return Ok(listing.push(recalculated(Lsn::ZERO, wrong))?);
            }
            let (lsn, roots) = self.recalc_root(peer, wrong.root)?;
            roots.into_iter().try_for_each(|root| Ok(listing.push(recalculated(lsn, root))?))
        };
        let (mut tally, mut closed) = (Tally::default(), Vec::new());
        let mut rows = 0;
        each_row(&view, Table::Mailboxes, b"", &mut |key, row| {
            rows += 1;
            ctx.progress(rows, None, "mailboxes", "");
            if ctx.cancelled() {
                return Err(Failure::new(Code::Busy, "ended early"));
            }
            let usage = MailboxView::decode(key, row).map_err(broken)?.usage();
            tally.add(&view, key, usage, &mut |root| closed.push(root)).map_err(broken)?;
            closed.drain(..).try_for_each(&mut counted)
        })?;
        tally.finish(&mut |root| closed.push(root));
        closed.into_iter().try_for_each(&mut counted)?;
        Ok(listing.finish())
    }

    /// Counts one root again, as a change like any other: it waits for who holds it.
    fn recalc_root(&self, peer: &Peer, root: String) -> Result<(Lsn, Vec<Recalculated>), Failure> {
        let gone = |why: &Refusal| [RefusalKind::NoUser, RefusalKind::NotFound].contains(&why.kind);
        let command = Command::QuotaRecalc { root };
        let _pass = self.pass_here(peer, RECALC.verb, &command)?;
        match self.store()?.commit(command) {
            Ok(Committed { lsn, outcome: Outcome::Recalculated(roots) }) => Ok((lsn, roots)),
            Ok(other) => Err(Failure::new(Code::Bug, format!("counting a quota root again gave {other:?}"))),
            Err(CommitError::Refused(why)) if gone(&why) => Ok((Lsn::ZERO, Vec::new())),
            Err(other) => super::handle::committed(Err(other)).map(|done| (done.lsn, Vec::new())),
        }
    }
}

/// The root, if its row says something else than was counted.
fn differs(view: &View, Counted { root, usage }: Counted) -> Result<Option<Recalculated>, Failure> {
    let Some(row) = view.get(Table::Quotas, &root).map_err(broken)? else { return Ok(None) };
    let from = QuotaRow::decode(&root, &row).map_err(broken)?.usage();
    Ok((from != usage).then(|| Recalculated { root: key_text(&root), from, to: usage }))
}

/// What time it is, and how long mail is taken for a root that is over a limit.
pub(super) type Grace = (Micros, Duration);

/// For those who look at nothing but limits and usage.
pub(super) const LIMITS_ALONE: Grace = (Micros(0), Duration::ZERO);

/// The root with this key, if it is one.
pub(super) fn quota_at(view: &View, key: &[u8], grace: Grace) -> Result<Option<proto::Quota>, Failure> {
    let Some(row) = view.get(Table::Quotas, key).map_err(broken)? else { return Ok(None) };
    Ok(Some(quota(key, &QuotaRow::decode(key, &row).map_err(broken)?, grace)))
}

fn quota(key: &[u8], row: &QuotaRow, grace: Grace) -> proto::Quota {
    let over = (row.over_since_us > 0).then_some(row.over_since_us);
    let left = |since: u64| grace.1.saturating_sub(Duration::from_micros(grace.0.0.saturating_sub(since))).as_secs();
    proto::Quota {
        over_since: over.map(|since| rfc3339(Micros(since))),
        grace_left: over.map(left),
        root: key_text(key),
        storage: proto::Resource { usage: row.storage_usage, limit: row.storage_limit },
        messages: proto::Resource { usage: row.message_usage, limit: row.message_limit },
    }
}
