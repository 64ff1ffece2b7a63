//! The rules of messages, a second time.

use super::rules::{Plan, Said, Step};
use super::words::{canonical, is_below, is_inbox};
use super::{Acl, Letter, Mailbox, Number, Tables, Usage};
use crate::crash::mail::{bytes_of, sum};
use std::collections::{BTreeMap, BTreeSet};
use storedd::model::command::{Delivery, Marks, RefusalKind, Selection};

impl Mailbox {
    /// One that nothing has come to yet.
    pub(super) fn empty(id: Number, uidvalidity: Number, partition: String, acl: Acl) -> Mailbox {
        Mailbox { id, uidvalidity, partition, acl, uidnext: 1, modseq: 1, mail: BTreeMap::new() }
    }

    fn usage(&self) -> Usage {
        let live = self.mail.values().filter(|letter| !letter.expunged);
        live.fold((0, 0), |(bytes, count), letter| (bytes + letter.size, count + 1))
    }

    /// A message comes; its UID.
    fn arrive(&mut self, letter: Letter) -> u32 {
        let uid = self.uidnext;
        self.uidnext += 1;
        self.modseq += 1;
        self.mail.insert(uid, Letter { modseq: self.modseq, ..letter });
        uid
    }
}

impl Tables {
    /// The quota root in which a name counts: itself or the nearest one above it.
    pub(super) fn root_of(&self, name: &str) -> Option<String> {
        let covers = |root: &&String| *root == name || is_below(name, root);
        self.quotas.keys().filter(covers).max_by_key(|root| root.len()).cloned()
    }

    /// What counts in a root.
    pub(super) fn usage(&self, root: &str) -> Usage {
        let counts = self.mailboxes.iter().filter(|(name, _)| self.root_of(name).as_deref() == Some(root));
        counts.map(|(_, m)| m.usage()).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// Names of mailboxes with messages in this state, and their UIDs.
    pub(in crate::crash) fn letters(&self, expunged: bool) -> Vec<(String, Vec<u32>)> {
        let uids = |m: &Mailbox| m.mail.iter().filter(|(_, l)| l.expunged == expunged).map(|(uid, _)| *uid).collect();
        let all = self.mailboxes.iter().map(|(name, m)| (name.clone(), uids(m)));
        all.filter(|(_, uids): &(_, Vec<u32>)| !uids.is_empty()).collect()
    }

    /// Deleted mailboxes.
    pub(in crate::crash) fn graves(&self) -> Vec<(String, u64)> {
        self.tombstones.keys().map(|(name, id)| (name.clone(), id.known())).collect()
    }

    /// Names under which exactly one deleted mailbox lies, and none that is there.
    pub(in crate::crash) fn buried(&self) -> Vec<String> {
        let names: Vec<&String> = self.tombstones.keys().map(|(name, _)| name).collect();
        let once = |name: &&&String| names.iter().filter(|other| other == name).count() == 1;
        let free = |name: &&&String| !self.mailboxes.contains_key(**name);
        names.iter().filter(once).filter(free).map(|name| (**name).clone()).collect()
    }
}

impl Step {
    /// Refused if so much more under a name were beyond a limit.
    fn check_quota(&self, name: &str, more: Usage) -> Result<(), RefusalKind> {
        let Some(root) = self.tables.root_of(name) else { return Ok(()) };
        let (used, limits) = (self.tables.usage(&root), self.tables.quotas[&root]);
        let over = |used: u64, limit: Option<u64>| limit.is_some_and(|limit| used > limit);
        if over(used.0 + more.0, limits.0) || over(used.1 + more.1, limits.1) {
            return Err(RefusalKind::OverQuota);
        }
        Ok(())
    }

    /// Refused if a root has grown beyond a limit.
    pub(super) fn check_growth(&self, root: &str, before: Usage) -> Result<(), RefusalKind> {
        let Some(limits) = self.tables.quotas.get(root) else { return Ok(()) };
        let now = self.tables.usage(root);
        let over = |now: u64, was: u64, limit: Option<u64>| now > was && limit.is_some_and(|limit| now > limit);
        if over(now.0, before.0, limits.0) || over(now.1, before.1, limits.1) {
            return Err(RefusalKind::OverQuota);
        }
        Ok(())
    }

    fn mailbox(&mut self, name: &str) -> &mut Mailbox {
        self.tables.mailboxes.get_mut(name).expect("a mailbox that is there")
    }

    pub(super) fn deliver(&mut self, delivery: &Delivery) -> Plan {
        let bytes = bytes_of(&delivery.message);
        let letter = Letter {
            expunged: false,
            flags: delivery.flags,
            keywords: delivery.keywords.clone(),
            modseq: 0,
            internal_us: delivery.internal_us.unwrap_or_default(),
            size: bytes.len() as u64,
            sum: sum(bytes),
        };
        let mut done = Vec::new();
        for target in &delivery.to {
            let name = match (self.named(&target.name), &target.or) {
                (Err(RefusalKind::NotFound), Some(or)) => self.named(or),
                (found, _) => found,
            };
            match name.and_then(|name| self.arrive(name, letter.clone())) {
                Err(e) if !delivery.each => return Err(e),
                told => done.push(told),
            }
        }
        Ok(Said::Delivered(done))
    }

    fn arrive(&mut self, name: String, letter: Letter) -> Result<(String, u32, Number), RefusalKind> {
        self.check_quota(&name, (letter.size, 1))?;
        let mailbox = self.mailbox(&name);
        let (uid, uidvalidity) = (mailbox.arrive(letter), mailbox.uidvalidity);
        Ok((name, uid, uidvalidity))
    }

    /// The mailbox and the UIDs that were asked for, which must all be in this state.
    fn selected(&self, of: &Selection, expunged: bool) -> Result<(String, Vec<u32>), RefusalKind> {
        let name = self.named(&of.name)?;
        let mail = &self.tables.mailboxes[&name].mail;
        let mut uids = of.uids.clone();
        uids.sort_unstable();
        uids.dedup();
        if uids.iter().any(|uid| mail.get(uid).is_none_or(|letter| letter.expunged != expunged)) {
            return Err(RefusalKind::NotFound);
        }
        Ok((name, uids))
    }

    pub(super) fn message_flags(&mut self, of: &Selection, add: &Marks, remove: &Marks) -> Plan {
        let (name, uids) = self.selected(of, false)?;
        let mailbox = self.mailbox(&name);
        let (modseq, mut changed) = (mailbox.modseq + 1, false);
        for uid in uids {
            let letter = mailbox.mail.get_mut(&uid).expect("it was selected");
            let before = letter.clone();
            letter.flags = letter.flags.without(remove.flags).with(add.flags);
            letter.keywords = letter.keywords.difference(&remove.keywords).cloned().collect();
            letter.keywords.extend(add.keywords.iter().cloned());
            if *letter != before {
                (letter.modseq, changed) = (modseq, true);
            }
        }
        if !changed {
            return Ok(Said::Unchanged);
        }
        mailbox.modseq = modseq;
        Ok(Said::Done)
    }

    pub(super) fn message_expunge(&mut self, of: &Selection) -> Plan {
        let (name, uids) = self.selected(of, false)?;
        Ok(self.turn(&name, &uids, true))
    }

    /// Messages go, or come back.
    fn turn(&mut self, name: &str, uids: &[u32], expunged: bool) -> Said {
        if uids.is_empty() {
            return Said::Unchanged;
        }
        let mailbox = self.mailbox(name);
        mailbox.modseq += 1;
        for uid in uids {
            let letter = mailbox.mail.get_mut(uid).expect("it was selected");
            (letter.expunged, letter.modseq) = (expunged, mailbox.modseq);
        }
        Said::Done
    }

    pub(super) fn message_copy(&mut self, of: &Selection, to: &str, remove: bool) -> Plan {
        self.named(&of.name)?;
        let to = self.named(to)?;
        let (name, uids) = self.selected(of, false)?;
        let letters: Vec<Letter> = uids.iter().map(|uid| self.tables.mailboxes[&name].mail[uid].clone()).collect();
        if remove {
            self.turn(&name, &uids, true);
        }
        let told = letters.into_iter().map(|letter| self.arrive(to.clone(), letter).map(Ok));
        Ok(Said::Delivered(told.collect::<Result<_, _>>()?))
    }

    pub(super) fn undelete(&mut self, of: &Selection) -> Plan {
        let name = canonical(&of.name)?;
        self.check_owner(&name)?;
        if !self.tables.mailboxes.contains_key(&name) {
            return self.mailbox_undelete(&name, of.uids.is_empty());
        }
        let is_left = self.tables.tombstones.keys().any(|(of, _)| *of == name);
        if is_inbox(&name) && of.uids.is_empty() && self.tables.mailboxes[&name].uidnext == 1 && is_left {
            return self.mailbox_undelete(&name, true);
        }
        let mail = &self.tables.mailboxes[&name].mail;
        let all = mail.iter().filter(|(_, letter)| letter.expunged).map(|(uid, _)| *uid);
        let uids = if of.uids.is_empty() { all.collect() } else { self.selected(of, true)?.1 };
        for uid in &uids {
            let size = self.tables.mailboxes[&name].mail[uid].size;
            self.check_quota(&name, (size, 1))?;
            self.mailbox(&name).mail.get_mut(uid).expect("it was selected").expunged = false;
        }
        let back = uids.iter().collect::<BTreeSet<_>>().len() as u64;
        Ok(match self.turn(&name, &uids, false) {
            Said::Done => Said::Back(back),
            other => other,
        })
    }

    fn mailbox_undelete(&mut self, name: &str, whole: bool) -> Plan {
        let buried = self.tables.tombstones.iter().filter(|((of, _), _)| of == name);
        let newest = buried.max_by_key(|(_, mailbox)| mailbox.uidvalidity).map(|(key, _)| key.clone());
        let Some(key) = newest.filter(|_| whole) else { return Err(RefusalKind::NotFound) };
        self.check_quota(name, self.tables.tombstones[&key].usage())?;
        let mailbox = self.tables.tombstones.remove(&key).expect("it is there");
        if self.tables.mailboxes.contains_key(name) {
            self.bury(name);
            self.tables.quotas.remove(name);
        }
        let (id, (_, messages)) = (mailbox.id, mailbox.usage());
        let uidvalidity = self.take(name, mailbox);
        self.check_room(name)?;
        Ok(Said::Returned(name.to_owned(), id, uidvalidity, messages))
    }

    pub(super) fn message_purge(&mut self, of: &Selection) -> Plan {
        let (name, uids) = self.selected(of, true)?;
        if uids.is_empty() {
            return Ok(Said::Unchanged);
        }
        let mailbox = self.mailbox(&name);
        mailbox.modseq += 1;
        mailbox.mail.retain(|uid, _| !uids.contains(uid));
        Ok(Said::Done)
    }
}
