//! The rules at work.

use super::mark::Mark;
use super::report::Line;
use super::walk::{Opened, page, row};
use super::{Aged, Ageing, BATCH, Caught, Hands, Result, Rules, STALE_MAX, Settings, Tried, Work, ended, lock};
use crate::config::{ExpireAction, ExpireRule};
use crate::error::{StoreError, exit};
use crate::jobs::registry::Context;
use crate::model::name::key_text;
use crate::model::rows::mailbox_id;
use crate::model::{Command, Table};
use std::collections::BTreeMap;

/// Messages and their bytes.
type Sum = (u64, u64);

impl Ageing {
    /// Has the rules work on every mailbox. With `goes_on` it begins where a run of the last day was cut off.
    ///
    /// # Errors
    /// A rule that cannot be one; the store takes no changes any more; it was ended. What was done until then stays done.
    pub fn expire(
        &self,
        settings: &Settings,
        (dry_run, goes_on): (bool, bool),
        ctx: &Context,
        hands: Hands<'_>,
    ) -> Result<Aged> {
        let rules = Rules::new(&settings.rules).map_err(|(option, why)| StoreError::Refused {
            message: format!("{option}: {why}"),
            hint: "storectl config check".to_owned(),
            exit: exit::CONFIG,
        })?;
        let _turn = (!dry_run).then(|| lock(&self.turn));
        let (now, data) = (self.env.now(), &*self.store.disks().data);
        let mut mark = match goes_on {
            true => Mark::read(data, now).unwrap_or_else(|| Mark::new(now)),
            false => Mark::new(now),
        };
        let told = Aged::new(dry_run);
        let mut work = Work { store: &self.store, hands, ctx, now, pace: settings.pace, told };
        let done = work.all(&rules, &mut mark, |mark| if dry_run { Ok(()) } else { mark.write(data) });
        if !dry_run {
            self.ended(super::Due::Expire, done.is_ok());
        }
        done?;
        if !dry_run {
            Mark::clear(data)?;
        }
        Ok(work.told)
    }
}

impl Work<'_> {
    fn all(&mut self, rules: &Rules, mark: &mut Mark, mut keep: impl FnMut(&Mark) -> Result<()>) -> Result<()> {
        loop {
            let mailboxes = page(self.store, Table::Mailboxes, &mark.after)?;
            let Some((last, _)) = mailboxes.last().cloned() else { return Ok(()) };
            for (key, seen) in mailboxes {
                self.told.mailboxes += 1;
                self.ctx.progress(self.told.mailboxes, None, "mailboxes", &key_text(&key));
                if self.ctx.cancelled() {
                    return Err(ended());
                }
                self.mailbox(rules, &key, mailbox_id(&key, &seen)?)?;
            }
            mark.after = last;
            keep(mark)?;
        }
    }

    fn mailbox(&mut self, rules: &Rules, key: &[u8], id: u64) -> Result<()> {
        let mut sums: BTreeMap<usize, Sum> = BTreeMap::new();
        for _ in 0..STALE_MAX {
            let view = self.store.view();
            let Some(row) = row(&view, key)? else { break };
            let partition = row.partition.clone();
            if row.id != id || row.messages == 0 || !rules.concern(key, &partition) {
                break;
            }
            let Some(opened) = self.open(&view, key, row)? else { break };
            drop(view);
            self.paced(1)?;
            let messages: Vec<_> = opened.messages.values().collect();
            let caught = rules.judge(key, &partition, &messages, self.now);
            if self.treat(rules, key, &opened, &caught, &mut sums)? {
                self.tell(rules, key, &sums);
                return Ok(());
            }
        }
        self.tell(rules, key, &sums);
        Ok(())
    }

    /// Does to the messages of a mailbox what the rules say; false if they have changed since they were read.
    fn treat(
        &mut self,
        rules: &Rules,
        key: &[u8],
        opened: &Opened,
        caught: &[Caught],
        sums: &mut BTreeMap<usize, Sum>,
    ) -> Result<bool> {
        for same in caught.chunk_by(|a, b| a.rule == b.rule) {
            let Some(at) = same.first().map(|caught| caught.rule) else { continue };
            let Some(rule) = rules.get(at) else { continue };
            let sum = |caught: &[Caught]| (caught.len() as u64, caught.iter().map(|c| c.size).sum::<u64>());
            if self.told.dry_run || rule.action == ExpireAction::Report {
                // Told once, however often the mailbox is looked at.
                sums.insert(at, sum(same));
                continue;
            }
            for batch in same.chunks(BATCH) {
                match self.act(rules, rule, at, key, opened, batch)? {
                    Tried::Done => {
                        let (messages, bytes) = sum(batch);
                        let all = sums.entry(at).or_default();
                        *all = (all.0 + messages, all.1.saturating_add(bytes));
                    }
                    Tried::Stale => return Ok(false),
                    Tried::Left => break,
                }
                self.paced(batch.len())?;
            }
        }
        Ok(true)
    }

    fn act(
        &mut self,
        rules: &Rules,
        rule: &ExpireRule,
        at: usize,
        key: &[u8],
        opened: &Opened,
        batch: &[Caught],
    ) -> Result<Tried> {
        let uids: Vec<u32> = batch.iter().map(|caught| caught.uid).collect();
        let of = opened.select(&uids);
        if rule.action != ExpireAction::Move {
            return self.try_hard(&opened.name, &Command::MessageExpunge { of });
        }
        let Some(to) = rules.target(at, key) else { return Ok(Tried::Left) };
        if row(&self.store.view(), to.key())?.is_none() {
            let create = Command::MailboxCreate { name: to.to_string(), partition: None };
            if let Tried::Left = self.try_hard(&opened.name, &create)? {
                return Ok(Tried::Left);
            }
        }
        self.try_hard(&opened.name, &Command::MessageCopy { of, to: to.to_string(), remove: true })
    }

    fn tell(&mut self, rules: &Rules, key: &[u8], sums: &BTreeMap<usize, Sum>) {
        for (at, (messages, bytes)) in sums.iter().filter(|(_, sum)| sum.0 > 0) {
            let Some(rule) = rules.get(*at) else { continue };
            self.told.line(Line {
                mailbox: key_text(key),
                rule: rule.name.clone(),
                action: rule.action.word(),
                messages: *messages,
                bytes: *bytes,
                to: rules.target(*at, key).map(|name| name.to_string()),
            });
        }
    }
}
