//! What was taken away long enough ago goes for good.

use super::report::Line;
use super::walk::{Opened, page, row};
use super::{Aged, Ageing, BATCH, Hands, Result, STALE_MAX, Settings, Tried, Work, ended, lock};
use crate::jobs::registry::Context;
use crate::lsn::Micros;
use crate::model::message::State;
use crate::model::name::key_text;
use crate::model::rows::{MailboxRow, MailboxView, Row, TombstoneRow, split};
use crate::model::{Command, Table};
use crate::store::rfc3339;
use std::collections::HashMap;
use std::time::Duration;

/// Mailboxes that are remembered as having nothing to purge: 40 bytes each.
const CALM_MAX: usize = 1_000_000;

/// What becomes of what was taken away while the clock was ahead: nobody knows how long ago that was.
const AHEAD: &str = "kept until it is old enough; undelete it and take it away again, to have it purged sooner";

/// What is known of mailboxes that were looked at: by number, their modseq then and when the first of their expunged messages is old
/// enough (`u64::MAX`: none). Nothing in them can be purged before, unless the modseq has changed.
pub(super) type Calm = HashMap<u64, (u64, u64)>;

impl Ageing {
    /// Gives up for good what was expunged or deleted longer ago than `cleanup_age`.
    ///
    /// # Errors
    /// The store takes no changes any more; it was ended. What was done until then stays done.
    pub fn purge(&self, settings: &Settings, dry_run: bool, ctx: &Context, hands: Hands<'_>) -> Result<Aged> {
        let _turn = (!dry_run).then(|| lock(&self.turn));
        let mut calm = std::mem::take(&mut lock(&self.memory).calm);
        let told = Aged::new(dry_run);
        let mut work = Work { store: &self.store, hands, ctx, now: self.env.now(), pace: settings.pace, told };
        let done = work.purge_all(settings.cleanup_age, &mut calm);
        lock(&self.memory).calm = calm;
        if !dry_run {
            self.ended(super::Due::Purge, done.is_ok());
        }
        done.map(|()| work.told)
    }
}

impl Work<'_> {
    fn purge_all(&mut self, cleanup_age: Duration, calm: &mut Calm) -> Result<()> {
        let age = u64::try_from(cleanup_age.as_micros()).unwrap_or(u64::MAX);
        // Taken away at this moment or before: old enough.
        let Some(before) = self.now.0.checked_sub(age).map(Micros) else { return Ok(()) };
        self.purge_mailboxes(before)?;
        let mut after = Vec::new();
        loop {
            let mailboxes = page(self.store, Table::Mailboxes, &after)?;
            let Some((last, _)) = mailboxes.last().cloned() else { return Ok(()) };
            for (key, seen) in mailboxes {
                let seen = MailboxView::decode(&key, &seen)?;
                self.step(&key)?;
                // Nothing was ever taken out of it.
                let is_untouched = u64::from(seen.uidnext) == seen.messages + 1;
                let is_calm =
                    calm.get(&seen.id).is_some_and(|(modseq, due)| *modseq == seen.highest_modseq && self.now.0 < *due);
                if !is_untouched && !is_calm {
                    self.purge_mailbox(&key, seen.id, before, age, calm)?;
                }
            }
            after = last;
        }
    }

    fn step(&mut self, key: &[u8]) -> Result<()> {
        self.told.mailboxes += 1;
        self.ctx.progress(self.told.mailboxes, None, "mailboxes", &key_text(key));
        if self.ctx.cancelled() { Err(ended()) } else { Ok(()) }
    }

    /// The expunged messages of one mailbox.
    fn purge_mailbox(&mut self, key: &[u8], id: u64, before: Micros, age: u64, calm: &mut Calm) -> Result<()> {
        let (mut messages, mut bytes) = (0, 0u64);
        for _ in 0..STALE_MAX {
            let view = self.store.view();
            let Some(row) = row(&view, key)?.filter(|row| row.id == id) else { break };
            let modseq = row.highest_modseq;
            let Some(opened) = self.open(&view, key, row)? else { break };
            drop(view);
            self.paced(1)?;
            let (old, oldest, ahead) = expunged(&opened, before, self.now);
            if old.is_empty() {
                if ahead > 0 {
                    let why = format!("{ahead} messages were expunged at a time that did not come yet; {AHEAD}");
                    self.told.problem(&key_text(key), &why);
                } else if calm.len() < CALM_MAX || calm.contains_key(&id) {
                    calm.insert(id, (modseq, oldest.saturating_add(age)));
                }
                break;
            }
            let sum =
                |uids: &[u32]| uids.iter().filter_map(|uid| opened.messages.get(uid)).map(|m| m.size).sum::<u64>();
            if self.told.dry_run {
                (messages, bytes) = (old.len() as u64, sum(&old));
                break;
            }
            for batch in old.chunks(BATCH) {
                let command = Command::MessagePurge { of: opened.select(batch) };
                match self.try_hard(&opened.name, &command)? {
                    Tried::Done => (messages, bytes) = (messages + batch.len() as u64, bytes + sum(batch)),
                    // Looked at again.
                    Tried::Stale => break,
                    Tried::Left => {
                        self.purged(key, messages, bytes);
                        return Ok(());
                    }
                }
                self.paced(batch.len())?;
            }
        }
        self.purged(key, messages, bytes);
        Ok(())
    }

    fn purged(&mut self, key: &[u8], messages: u64, bytes: u64) {
        if messages > 0 {
            let (mailbox, rule) = (key_text(key), String::new());
            self.told.line(Line { mailbox, rule, action: "purge", messages, bytes, to: None });
        }
    }

    /// Mailboxes that were deleted.
    fn purge_mailboxes(&mut self, before: Micros) -> Result<()> {
        let mut after = Vec::new();
        loop {
            let rows = page(self.store, Table::Past, &after)?;
            let Some((last, _)) = rows.last().cloned() else { return Ok(()) };
            for (key, row) in rows {
                let Some((name, _)) = split(&key) else { continue };
                let TombstoneRow { deleted_us, mailbox, .. } = TombstoneRow::decode(&key, &row)?;
                self.step(name)?;
                if Micros(deleted_us).is_ahead_of(self.now) {
                    let at = rfc3339(Micros(deleted_us));
                    self.told
                        .problem(&key_text(name), &format!("it was deleted at {at}, which did not come yet; {AHEAD}"));
                } else if deleted_us <= before.0 {
                    self.purge_deleted(&key_text(name), &mailbox, deleted_us)?;
                }
            }
            after = last;
        }
    }

    fn purge_deleted(&mut self, name: &str, was: &MailboxRow, deleted_us: u64) -> Result<()> {
        if !self.told.dry_run {
            let command = Command::MailboxPurge { name: name.to_owned(), id: was.id, deleted_us: Some(deleted_us) };
            match self.try_hard(name, &command)? {
                Tried::Done => {}
                Tried::Stale | Tried::Left => return Ok(()),
            }
            self.paced(1)?;
        }
        let (mailbox, rule) = (name.to_owned(), String::new());
        self.told.line(Line { mailbox, rule, action: "remove", messages: was.messages, bytes: was.bytes, to: None });
        Ok(())
    }
}

/// The messages that were expunged at a time or before it, when the first of all expunged ones was (`u64::MAX`: there are none), and how
/// many of them at a time ahead of `now`.
fn expunged(opened: &Opened, before: Micros, now: Micros) -> (Vec<u32>, u64, u64) {
    let all = || opened.messages.values().filter(|m| m.state == State::Expunged);
    let old = all().filter(|m| m.expunged_us <= before.0).map(|m| m.uid).collect();
    let ahead = all().filter(|m| Micros(m.expunged_us).is_ahead_of(now)).count() as u64;
    (old, all().map(|m| m.expunged_us).min().unwrap_or(u64::MAX), ahead)
}
