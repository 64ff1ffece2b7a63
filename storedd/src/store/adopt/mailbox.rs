//! One mailbox as its partition proves it, beside what the database says of it.

use super::compare::{Comparing, FINDINGS, known};
use super::older::OLDER;
use super::truth::Proven;
use super::{Changed, Stranger, due};
use crate::error::Result;
use crate::model::adopt::AdoptedMailbox;
use crate::model::keys::split;
use crate::model::mail::message_key;
use crate::model::message::Message;
use crate::model::name::{key_text, owner_of, user_prefix};
use crate::model::rows::{MailboxRow, Row, TombstoneRow};
use crate::model::{Command, MailboxName, Rows, Table};
use crate::partition::apply::{self, Target};
use crate::store::commit::lock;
use crate::store::report::Finding;

/// What is told of a message file of which nothing is known.
pub(super) const UNKNOWN_FILE: &str = "unknown message file";

impl Comparing<'_> {
    pub(super) fn mailbox(&mut self, proven: Proven, user: Option<&str>) -> Result<()> {
        let id = proven.place.id;
        let newest = known(&self.view, id)?;
        let key = match &proven.head {
            // A deleted one keeps the name that it had.
            Some(head) if head.deleted_us > 0 => Some(head.name.clone()),
            Some(head) => Some(self.key(&head.name, &head.owner, user)),
            None => newest.as_ref().map(|(key, _)| split(key).map_or(&key[..], |(name, _)| name).to_vec()),
        };
        if key.as_deref().is_some_and(|key| !(self.wanted.mailboxes)(key)) {
            return Ok(());
        }
        self.found.checked += 1;
        // What the partition holds is of one moment with the last checkpoint: what has changed since says nothing against it.
        let now = known(&*self.base.db, id)?;
        let changes = newest != now;
        if changes && (newest.is_none() || now.is_none()) {
            // It came or went since; the next checkpoint writes that down.
            self.plan.again |= newest.is_some() && !self.wanted.dry_run && proven.is_partial;
            return Ok(());
        }
        if self.counts_elsewhere(&proven, now.as_ref())? {
            return Ok(());
        }
        if self.is_older(&proven, now.as_ref())? {
            return Ok(());
        }
        match (&now, &proven.head) {
            (None, None) => self.loose(&proven, user),
            _ => self.strangers(&proven, user)?,
        }
        let Some(head) = &proven.head else {
            if let (Some((key, _)), false) = (&now, proven.is_gone) {
                let (name, found) = (key_text(key), proven.problem.clone().unwrap_or_else(|| "nothing".to_owned()));
                self.finding(&proven.place, &format!("what is known of {name}"), "index or manifest", found);
            }
            return Ok(());
        };
        for uid in &proven.lost {
            let file = self.look.disk.display(&proven.place.message(*uid));
            let (expected, found) = ("a file".to_owned(), "none".to_owned());
            let what = "message file missing".to_owned();
            self.retold(&proven.place, Finding { r#where: file, what, expected, found });
        }
        let name = key.clone().unwrap_or_default();
        self.heal(&proven, &name)?;
        let mut row = head.row.clone();
        row.partition = self.look.partition.to_owned();
        let mut deleted_us = head.deleted_us;
        let mut removed = false;
        let is_inbox = MailboxName::from_key(&name).is_some_and(|name| name.is_inbox());
        if deleted_us == 0 && !proven.has_directory && proven.lost.len() as u64 == proven.messages && row.uidnext > 1 {
            if is_inbox || !proven.is_whole {
                self.finding(&proven.place, "directory of a mailbox missing", "a directory", "none".to_owned());
            } else if proven.messages > 0 || now.is_some() {
                (deleted_us, removed) = (self.store.env.now().0.max(1), true);
            }
        }
        let before = now.as_ref().map(|(key, row)| before(key, row)).transpose()?;
        if let Some((_, old, _)) = &before {
            // What may have been given is never given again.
            row.uidnext = row.uidnext.max(old.uidnext);
            row.highest_modseq = row.highest_modseq.max(old.highest_modseq);
            row.home.clone_from(&old.home);
        }
        let may_skip = !changes && !proven.is_partial && !removed;
        if row.uidnext > 1 && may_skip && self.store.due.skips(id, self.wanted.dry_run) {
            row.uidnext = row.uidnext.saturating_add(due::UID_MARGIN);
            row.highest_modseq = row.highest_modseq.saturating_add(due::MODSEQ_MARGIN);
        }
        let same = before.as_ref().is_some_and(|(known, old, deleted)| {
            *known == name && *old == row && (*deleted == deleted_us || (removed && *deleted > 0))
        });
        if same && proven.adopt.is_empty() {
            return Ok(());
        }
        if changes
            && proven.adopt.is_empty()
            && self.is_known_since(newest.as_ref(), (&name, &row, deleted_us), removed)?
        {
            return Ok(());
        }
        if before.is_some() && !proven.is_whole {
            self.finding(&proven.place, "index and manifest", "one of them whole", "neither".to_owned());
            return Ok(());
        }
        if changes && !self.wanted.dry_run {
            // What is adopted counts from the row as it is; behind a checkpoint that is the one that was compared.
            self.plan.again = true;
            return Ok(());
        }
        let what = key_text(&name);
        let action = match (&before, removed) {
            (_, true) => format!("removed: its directory is gone, with {} messages", proven.messages),
            (None, _) if deleted_us > 0 => format!("deleted mailbox added, with {} messages", proven.messages),
            (None, _) => format!("added, with {} messages, UIDVALIDITY {}", row.messages, row.uidvalidity),
            (Some((old, _, 0)), _) if deleted_us > 0 => format!("deleted (was {})", key_text(old)),
            (Some((old, ..)), _) if *old != name => format!("renamed from {}", key_text(old)),
            (Some((_, _, deleted)), _) if *deleted > 0 && deleted_us == 0 => "brought back".to_owned(),
            (Some((_, old, _)), _) => differences(old, &row, proven.adopt.len()),
        };
        self.plan.again |= proven.is_partial;
        self.plan.is_piece |= proven.is_partial;
        let adopted = AdoptedMailbox {
            key: name,
            home: self.look.home.path().to_owned(),
            known: now,
            row,
            deleted_us,
            messages: proven.adopt,
        };
        self.plan.commands.push((Command::AdoptMailbox(Box::new(adopted)), Changed { what, action }));
        Ok(())
    }

    /// Whether index and manifest are whole, and of an older time than the database.
    fn is_older(&mut self, proven: &Proven, now: Option<&(Vec<u8>, Vec<u8>)>) -> Result<bool> {
        if now.is_none() && self.is_given_up(proven) {
            let found = "a copy of an older time: it was purged since".to_owned();
            self.finding(&proven.place, "a mailbox that is gone for good", "none", found);
            return Ok(true);
        }
        let Some((key, row)) = now.filter(|_| proven.is_whole && !proven.is_gone) else { return Ok(false) };
        let (_, row, _) = before(key, row)?;
        let counts_less = proven.had < row.messages;
        if proven.reached > row.highest_modseq || (proven.reached == row.highest_modseq && !counts_less) {
            return Ok(false);
        }
        if self.wanted.is_up_to_date {
            let found = format!("changes up to {}, {} messages", proven.reached, proven.had);
            let expected = format!("changes up to {}, {} messages", row.highest_modseq, row.messages);
            self.finding(&proven.place, OLDER, &expected, found);
            // The log that was set aside may have what the partition lacks.
            return Ok(proven.adopt.is_empty());
        } else {
            self.plan.older.insert(proven.place.id);
        }
        Ok(true)
    }

    /// Whether a mailbox that the database does not have was there before, in a home that was of an older time as a whole.
    fn is_given_up(&self, proven: &Proven) -> bool {
        let is_past = proven.last_lsn <= self.base.db.meta().applied_lsn;
        self.wanted.is_up_to_date && is_past && proven.head.is_some() && !self.store.due.is_due()
    }

    /// Whether the newest row of a mailbox, which no checkpoint has written yet, says already what was proven of it: it was adopted just now.
    fn is_known_since(
        &self,
        newest: Option<&(Vec<u8>, Vec<u8>)>,
        (name, row, deleted_us): (&[u8], &MailboxRow, u64),
        removed: bool,
    ) -> Result<bool> {
        let Some((known, last, deleted)) = newest.map(|(key, row)| before(key, row)).transpose()? else {
            return Ok(false);
        };
        let uidnext = row.uidnext.max(last.uidnext);
        let highest_modseq = row.highest_modseq.max(last.highest_modseq);
        let is_so = match removed {
            true => deleted > 0,
            false => deleted == deleted_us && MailboxRow { uidnext, highest_modseq, ..row.clone() } == last,
        };
        Ok(known == name && is_so)
    }

    /// The key of a mailbox: that of its head, with the name that its owner has now.
    fn key(&self, name: &[u8], owner: &str, user: Option<&str>) -> Vec<u8> {
        let (Some(user), true, Some(was)) = (user, owner == self.look.home.path(), owner_of(name)) else {
            return name.to_vec();
        };
        [&user_prefix(user)[..], &name[user_prefix(was).len()..]].concat()
    }

    /// An index that is missing or damaged is made again from what else is known of its mailbox.
    fn heal(&mut self, proven: &Proven, name: &[u8]) -> Result<()> {
        let Some(history) = &proven.heal else { return Ok(()) };
        let action = match &proven.problem {
            Some(problem) => format!("index made again from the manifest: {problem}"),
            None if history.reading.is_there => "index made again from the manifest: it ended too early".to_owned(),
            None => "index made again from the manifest".to_owned(),
        };
        self.found.changes.push(Changed { what: key_text(name), action });
        if self.wanted.dry_run {
            return Ok(());
        }
        // Nobody else mends meanwhile.
        let _writer = lock(&self.store.db);
        let committed = self.base.db.meta().applied_lsn;
        let keep_from = self.store.bases.oldest(committed, &self.base.db);
        let target = Target {
            disk: self.look.disk,
            store: self.look.store,
            keep_from,
            durable: committed,
            is_replay: false,
            distrusts: false,
            is_piece: false,
        };
        apply::heal(target, &proven.place, history)
    }

    /// Files of which nothing is known, in memory neither.
    fn strangers(&mut self, proven: &Proven, user: Option<&str>) -> Result<()> {
        for uid in &proven.strangers {
            if self.view.get(Table::Messages, &message_key(proven.place.id, *uid))?.is_none() {
                self.stranger(proven, (*uid, None), user, true);
            }
        }
        Ok(())
    }

    /// Files of a mailbox of which nobody knows what it was.
    fn loose(&mut self, proven: &Proven, user: Option<&str>) {
        for (uid, known) in &proven.loose {
            self.stranger(proven, (*uid, known.clone()), user, false);
        }
    }

    fn stranger(
        &mut self,
        proven: &Proven,
        (uid, known): (u32, Option<Message>),
        user: Option<&str>,
        is_at_home: bool,
    ) {
        let found = match user.is_some() || self.is_shared() {
            true => "nothing: for the folder Recovered",
            false => "nothing, nor whose it is: it stays there",
        };
        if self.found.findings.len() < FINDINGS {
            let r#where = self.look.disk.display(&proven.place.message(uid));
            let (what, expected) = (UNKNOWN_FILE.to_owned(), "a message that is known".to_owned());
            self.found.findings.push(Finding { r#where, what, expected, found: found.to_owned() });
        }
        self.found.strangers.push(Stranger {
            partition: self.look.partition.to_owned(),
            place: proven.place.clone(),
            uid,
            is_at_home,
            known,
            user: user.map(str::to_owned),
        });
    }
}

/// Name, row and time of deletion of a mailbox as the database has it.
pub(in crate::store) fn before(key: &[u8], row: &[u8]) -> Result<(Vec<u8>, MailboxRow, u64)> {
    match split(key) {
        None => Ok((key.to_vec(), MailboxRow::decode(key, row)?, 0)),
        Some((name, _)) => {
            let row = TombstoneRow::decode(key, row)?;
            Ok((name.to_vec(), row.mailbox, row.deleted_us))
        }
    }
}

fn differences(old: &MailboxRow, new: &MailboxRow, brought: usize) -> String {
    let mut parts = Vec::new();
    if (old.messages, old.bytes) != (new.messages, new.bytes) {
        parts.push(format!("{} messages instead of {}", new.messages, old.messages));
    }
    if old.uidvalidity != new.uidvalidity {
        parts.push(format!("UIDVALIDITY {} instead of {}", new.uidvalidity, old.uidvalidity));
    }
    if old.uidnext != new.uidnext {
        parts.push(format!("UIDNEXT {} instead of {}", new.uidnext, old.uidnext));
    }
    if old.acl != new.acl {
        parts.push("rights".to_owned());
    }
    if brought > 0 {
        parts.push(format!("{brought} messages brought back from the log"));
    }
    if parts.is_empty() {
        parts.push("counts and marks".to_owned());
    }
    format!("corrected: {}", parts.join(", "))
}
