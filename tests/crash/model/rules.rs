//! The rules of every command, a second time.

use super::words::{OWNER_RIGHTS, canonical, changed_rights, is_below, is_inbox, owner_of, pass_on, rename_entry};
use super::{Acl, Fresh, Known, Mailbox, Number, QuotaLimits, Tables, User};
use storedd::model::command::RefusalKind;
use storedd::model::{Command, LimitChange};
use storedd::store::plan::Limits;

/// What a command must say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    Done,
    Unchanged,
    Created(String, Number, Number),
    /// So many messages.
    Back(u64),
    /// With how many messages.
    Returned(String, Number, Number, u64),
    Mailboxes(u64),
    /// Mailbox, UID, UIDVALIDITY.
    Delivered(Vec<Result<(String, u32, Number), RefusalKind>>),
    Each(Vec<Said>),
}

/// What a command must come to.
pub(super) type Plan = Result<Said, RefusalKind>;

/// Commands being done.
pub(super) struct Step {
    pub(super) tables: Tables,
    ids: u32,
    uidvalidities: u32,
    limits: Limits,
}

impl Step {
    pub(super) fn new(tables: &Tables, limits: Limits) -> Step {
        Step { tables: tables.clone(), ids: 0, uidvalidities: 0, limits }
    }

    fn fresh_id(&mut self) -> Number {
        self.ids += 1;
        Fresh(self.ids)
    }

    fn fresh_uidvalidity(&mut self) -> Number {
        self.uidvalidities += 1;
        Fresh(self.uidvalidities)
    }

    pub(super) fn run(&mut self, command: &Command) -> Plan {
        match command {
            Command::Atomic(all) => {
                let each = all.iter().map(|one| match one {
                    Command::Atomic(_) => Err(RefusalKind::BadInput),
                    one => self.one(one),
                });
                Ok(Said::Each(each.collect::<Result<_, _>>()?))
            }
            one => self.one(one),
        }
    }

    fn one(&mut self, command: &Command) -> Plan {
        match command {
            Command::UserAdd { user, partition, quota_bytes, quota_messages } => {
                self.user_add(user, partition.as_deref(), (*quota_bytes, *quota_messages))
            }
            Command::UserDelete { user } => self.user_delete(user),
            Command::UserRename { user, to } => self.user_rename(user, to),
            Command::MailboxCreate { name, partition } => self.mailbox_create(name, partition.as_deref()),
            Command::MailboxDelete { name } => self.mailbox_delete(name),
            Command::MailboxRename { from, to } => self.mailbox_rename(from, to),
            Command::AclSet { name, identifier, rights } => self.acl_set(name, identifier, rights),
            Command::AclDelete { name, identifier } => self.acl_delete(name, identifier),
            Command::Subscribe { user, name } => self.subscribe(user, name),
            Command::Unsubscribe { user, name } => self.unsubscribe(user, name),
            Command::PartitionAdd { name, id } => self.partition_add(name, *id),
            Command::PartitionRemove { name } => self.partition_remove(name),
            Command::ImportMailbox { name, partition, uidvalidity, acl } => {
                self.import(name, partition.as_deref(), *uidvalidity, acl)
            }
            Command::QuotaSet { root, storage, messages } => self.quota_set(root, *storage, *messages),
            Command::QuotaRecalc { root } => self.quota_recalc(root),
            Command::MailboxPurge { name, id, .. } => self.mailbox_purge(name, *id),
            Command::Deliver(delivery) => self.deliver(delivery),
            Command::MessageFlags { of, add, remove } => self.message_flags(of, add, remove),
            Command::MessageExpunge { of } => self.message_expunge(of),
            Command::MessageCopy { of, to, remove } => self.message_copy(of, to, *remove),
            Command::Undelete { of } => self.undelete(of),
            Command::MessagePurge { of } => self.message_purge(of),
            Command::UserMove { .. }
            | Command::AdoptUser(_)
            | Command::AdoptNames(_)
            | Command::AdoptMailbox(_)
            | Command::MessageFlagsAs { .. }
            | Command::SeenForget { .. }
            | Command::Mend(_)
            | Command::Salvage(_)
            | Command::MailboxReturns(_)
            | Command::MessagesReturn(_)
            | Command::Atomic(_) => Err(RefusalKind::BadInput),
        }
    }

    fn user(&self, user: &str) -> Result<&User, RefusalKind> {
        self.tables.users.get(user).ok_or(RefusalKind::NoUser)
    }

    fn partition(&self, asked: Option<&str>, default: &str) -> Result<String, RefusalKind> {
        let name = asked.unwrap_or(default);
        if self.tables.partitions.contains_key(name) { Ok(name.to_owned()) } else { Err(RefusalKind::NotFound) }
    }

    pub(super) fn check_owner(&self, name: &str) -> Result<(), RefusalKind> {
        owner_of(name).map_or(Ok(()), |user| self.user(user).map(|_| ()))
    }

    /// A mailbox that is there, of an owner who is there, by its one spelling.
    pub(super) fn named(&self, name: &str) -> Result<String, RefusalKind> {
        let name = canonical(name)?;
        self.check_owner(&name)?;
        if self.tables.mailboxes.contains_key(&name) { Ok(name) } else { Err(RefusalKind::NotFound) }
    }

    fn user_add(&mut self, user: &str, partition: Option<&str>, limits: QuotaLimits) -> Plan {
        if self.tables.users.contains_key(user) {
            return Err(RefusalKind::Exists);
        }
        let partition = self.partition(partition, "primary")?;
        self.new_user(user, &partition, limits);
        Ok(self.new_inbox(user, partition))
    }

    fn new_user(&mut self, user: &str, partition: &str, limits: QuotaLimits) {
        let id = self.fresh_id();
        self.tables.users.insert(user.to_owned(), User { id, partition: partition.to_owned() });
        let limits = (limits.0.or(self.limits.default_storage), limits.1.or(self.limits.default_messages));
        self.tables.quotas.insert(format!("user/{user}"), limits);
    }

    fn new_inbox(&mut self, user: &str, partition: String) -> Said {
        let acl = Acl::from([(user.to_owned(), OWNER_RIGHTS.to_owned())]);
        self.new_mailbox(&format!("user/{user}/INBOX"), partition, Known(0), acl)
    }

    fn new_mailbox(&mut self, name: &str, partition: String, uidvalidity: Number, acl: Acl) -> Said {
        let id = self.fresh_id();
        let uidvalidity = self.take(name, Mailbox::empty(id, uidvalidity, partition, acl));
        Said::Created(name.to_owned(), id, uidvalidity)
    }

    /// I6, the rule: above all that the name has had, or the same mailbox with the same one.
    pub(super) fn take(&mut self, name: &str, mut mailbox: Mailbox) -> Number {
        let keeps = match self.tables.past.get(name) {
            None => mailbox.uidvalidity != Known(0),
            Some((past, id)) => mailbox.uidvalidity > *past || (mailbox.uidvalidity == *past && mailbox.id == *id),
        };
        if !keeps {
            mailbox.uidvalidity = self.fresh_uidvalidity();
        }
        let uidvalidity = mailbox.uidvalidity;
        assert!(self.tables.mailboxes.insert(name.to_owned(), mailbox).is_none(), "the model gives {name} twice");
        uidvalidity
    }

    fn leave(&mut self, name: &str) -> Mailbox {
        let mailbox = self.tables.mailboxes.remove(name).expect("a mailbox that is there");
        let past = self.tables.past.entry(name.to_owned()).or_insert((Known(0), Known(0)));
        if past.0 <= mailbox.uidvalidity {
            *past = (mailbox.uidvalidity, mailbox.id);
        }
        mailbox
    }

    pub(super) fn bury(&mut self, name: &str) {
        let mailbox = self.leave(name);
        self.tables.tombstones.insert((name.to_owned(), mailbox.id), mailbox);
    }

    /// The names of a mailbox (which need not be there) and of all below it, in the order of their keys.
    fn subtree(&self, root: &str) -> Vec<String> {
        let all = self.tables.mailboxes.keys();
        let mut names: Vec<String> = all.filter(|name| *name == root || is_below(name, root)).cloned().collect();
        names.sort_by_key(|name| name.replace('/', "\u{1}"));
        names
    }

    fn user_delete(&mut self, user: &str) -> Plan {
        self.user(user)?;
        let names = self.subtree(&format!("user/{user}"));
        names.iter().for_each(|name| self.bury(name));
        for mailbox in self.tables.mailboxes.values_mut() {
            mailbox.acl.retain(|who, _| who != user && *who != format!("-{user}"));
        }
        self.tables.subscriptions.retain(|(who, _)| who != user);
        self.tables.users.remove(user);
        let root = format!("user/{user}");
        self.tables.quotas.retain(|name, _| *name != root && !is_below(name, &root));
        Ok(Said::Mailboxes(names.len() as u64))
    }

    fn user_rename(&mut self, user: &str, to: &str) -> Plan {
        let row = self.user(user)?.clone();
        if self.tables.users.contains_key(to) {
            return Err(RefusalKind::Exists);
        }
        self.tables.users.remove(user);
        self.tables.users.insert(to.to_owned(), row);
        let (old, new) = (format!("user/{user}"), format!("user/{to}"));
        self.move_roots(&old, &new);
        let names = self.subtree(&old);
        let moved: Vec<Mailbox> = names.iter().map(|name| self.leave(name)).collect();
        for (name, mut mailbox) in names.iter().zip(moved) {
            rename_entry(&mut mailbox.acl, user, to);
            self.take(&format!("{new}{}", &name[old.len()..]), mailbox);
        }
        self.tables.mailboxes.values_mut().for_each(|mailbox| rename_entry(&mut mailbox.acl, user, to));
        let all = std::mem::take(&mut self.tables.subscriptions);
        self.tables.subscriptions = all
            .into_iter()
            .map(|(who, name)| match (who == user, is_below(&name, &old)) {
                (true, true) => (to.to_owned(), format!("{new}{}", &name[old.len()..])),
                (true, false) => (to.to_owned(), name),
                _ => (who, name),
            })
            .collect();
        Ok(Said::Mailboxes(names.len() as u64))
    }

    fn mailbox_create(&mut self, name: &str, partition: Option<&str>) -> Plan {
        let name = canonical(name)?;
        let default = match owner_of(&name) {
            Some(user) => self.user(user)?.partition.clone(),
            None => "primary".to_owned(),
        };
        let partition = self.partition(partition, &default)?;
        if self.tables.mailboxes.contains_key(&name) {
            return Err(RefusalKind::Exists);
        }
        let acl = match owner_of(&name) {
            Some(user) => Acl::from([(user.to_owned(), OWNER_RIGHTS.to_owned())]),
            None => {
                let above = self.tables.mailboxes.iter().filter(|(above, _)| is_below(&name, above));
                above.max_by_key(|(above, _)| above.len()).map(|(_, m)| m.acl.clone()).unwrap_or_default()
            }
        };
        let said = self.new_mailbox(&name, partition, Known(0), acl);
        self.check_room(&name)?;
        Ok(said)
    }

    fn mailbox_delete(&mut self, name: &str) -> Plan {
        let name = self.named(name)?;
        if is_inbox(&name) {
            return Err(RefusalKind::NotPermitted);
        }
        self.bury(&name);
        self.tables.quotas.remove(&name);
        Ok(Said::Mailboxes(1))
    }

    fn mailbox_purge(&mut self, name: &str, id: u64) -> Plan {
        let key = (canonical(name)?, Known(id));
        self.tables.tombstones.remove(&key).map(|_| Said::Mailboxes(1)).ok_or(RefusalKind::NotFound)
    }

    fn mailbox_rename(&mut self, from: &str, to: &str) -> Plan {
        let (from, to) = (canonical(from)?, canonical(to)?);
        self.check_owner(&from)?;
        self.check_owner(&to)?;
        if !self.tables.mailboxes.contains_key(&from) {
            return Err(RefusalKind::NotFound);
        }
        if is_inbox(&from) {
            return Err(RefusalKind::NotPermitted);
        }
        if is_below(&to, &from) {
            return Err(RefusalKind::BadInput);
        }
        let names = self.subtree(&from);
        let targets: Vec<String> = names.iter().map(|name| format!("{to}{}", &name[from.len()..])).collect();
        for target in &targets {
            canonical(target)?;
        }
        for target in &targets {
            let moves_away = from != to && (*target == from || is_below(target, &from));
            if !moves_away && self.tables.mailboxes.contains_key(target) {
                return Err(RefusalKind::Exists);
            }
        }
        let above = to.rsplit_once('/').and_then(|(above, _)| self.tables.root_of(above));
        let before = above.as_deref().map(|root| self.tables.usage(root));
        self.move_roots(&from, &to);
        let moved: Vec<Mailbox> = names.iter().map(|name| self.leave(name)).collect();
        for (target, mut mailbox) in targets.iter().zip(moved) {
            pass_on(&mut mailbox.acl, owner_of(&from), owner_of(&to));
            self.take(target, mailbox);
        }
        if let Some(user) = owner_of(&from).filter(|user| owner_of(&to) == Some(*user)) {
            let follows = |name: &String| targets[names.binary_search(name).ok()?].clone().into();
            let own = |(who, name): (String, String)| match follows(&name) {
                Some(new) if who == user => (who, new),
                _ => (who, name),
            };
            self.tables.subscriptions = std::mem::take(&mut self.tables.subscriptions).into_iter().map(own).collect();
        }
        if let (Some(root), Some(before)) = (above, before) {
            self.check_growth(&root, before)?;
        }
        if owner_of(&from) != owner_of(&to) {
            self.check_room(&to)?;
        }
        Ok(Said::Mailboxes(names.len() as u64))
    }

    fn acl_set(&mut self, name: &str, identifier: &str, rights: &str) -> Plan {
        let name = self.named(name)?;
        let acl = &mut self.tables.mailboxes.get_mut(&name).ok_or(RefusalKind::NotFound)?.acl;
        let current = acl.get(identifier).map(String::as_str);
        let rights = changed_rights(current, rights)?;
        if current.unwrap_or_default() == rights {
            return Ok(Said::Unchanged);
        }
        if rights.is_empty() {
            acl.remove(identifier)
        } else {
            acl.insert(identifier.to_owned(), rights)
        };
        Ok(Said::Done)
    }

    fn acl_delete(&mut self, name: &str, identifier: &str) -> Plan {
        let name = self.named(name)?;
        let mailbox = self.tables.mailboxes.get_mut(&name).ok_or(RefusalKind::NotFound)?;
        mailbox.acl.remove(identifier).map(|_| Said::Done).ok_or(RefusalKind::NotFound)
    }

    fn subscribe(&mut self, user: &str, name: &str) -> Plan {
        let spelt = canonical(name)?;
        self.user(user)?;
        let name = self.named(&spelt)?;
        let new = self.tables.subscriptions.insert((user.to_owned(), name));
        Ok(if new { Said::Done } else { Said::Unchanged })
    }

    fn unsubscribe(&mut self, user: &str, name: &str) -> Plan {
        let name = canonical(name)?;
        self.user(user)?;
        let was = self.tables.subscriptions.remove(&(user.to_owned(), name));
        Ok(if was { Said::Done } else { Said::Unchanged })
    }

    fn partition_add(&mut self, name: &str, id: [u8; 16]) -> Plan {
        if self.tables.partitions.contains_key(name) || self.tables.partitions.values().any(|other| *other == id) {
            return Err(RefusalKind::Exists);
        }
        self.tables.partitions.insert(name.to_owned(), id);
        Ok(Said::Done)
    }

    fn partition_remove(&mut self, name: &str) -> Plan {
        let Tables { users, mailboxes, tombstones, partitions, .. } = &mut self.tables;
        if !partitions.contains_key(name) {
            return Err(RefusalKind::NotFound);
        }
        let used = users.values().map(|u| &u.partition).chain(mailboxes.values().map(|m| &m.partition));
        if used.chain(tombstones.values().map(|m| &m.partition)).any(|used| used == name) {
            return Err(RefusalKind::Busy);
        }
        partitions.remove(name);
        Ok(Said::Done)
    }

    fn import(&mut self, name: &str, partition: Option<&str>, uidvalidity: u32, acl: &Acl) -> Plan {
        let name = canonical(name)?;
        let uidvalidity = Known(uidvalidity.into());
        if let Some(mailbox) = self.tables.mailboxes.get(&name) {
            let same = (uidvalidity == Known(0) || uidvalidity == mailbox.uidvalidity) && *acl == mailbox.acl;
            return if same { Ok(Said::Unchanged) } else { Err(RefusalKind::Exists) };
        }
        let partition = self.partition(partition, "primary")?;
        if let Some(user) = owner_of(&name).filter(|user| !self.tables.users.contains_key(*user)) {
            self.new_user(user, &partition, (None, None));
            if !is_inbox(&name) {
                self.new_inbox(user, partition.clone());
            }
        }
        let said = self.new_mailbox(&name, partition, uidvalidity, acl.clone());
        self.check_room(&name)?;
        Ok(said)
    }

    /// The owner of this name has got a mailbox: not one too many.
    pub(super) fn check_room(&self, name: &str) -> Result<(), RefusalKind> {
        let most = self.limits.mailboxes_per_user as usize;
        let count = |user| self.tables.mailboxes.keys().filter(|name| owner_of(name) == Some(user)).count();
        match owner_of(name) {
            Some(user) if most > 0 && count(user) > most => Err(RefusalKind::OverQuota),
            _ => Ok(()),
        }
    }

    fn move_roots(&mut self, from: &str, to: &str) {
        let quotas = std::mem::take(&mut self.tables.quotas).into_iter();
        let moved = |name: String| {
            if name == from || is_below(&name, from) { format!("{to}{}", &name[from.len()..]) } else { name }
        };
        self.tables.quotas = quotas.map(|(name, limits)| (moved(name), limits)).collect();
    }

    /// The name of a root by what was typed, and whether it is a user; he or the mailbox must be there.
    fn root(&self, text: &str) -> Result<(String, bool), RefusalKind> {
        let user = text.strip_prefix("user/").unwrap_or(text);
        if user.contains('/') || text == "shared" {
            return Ok((self.named(text)?, false));
        }
        self.user(user).map(|_| (format!("user/{user}"), true))
    }

    fn quota_set(&mut self, root: &str, storage: LimitChange, messages: LimitChange) -> Plan {
        let (root, is_user) = self.root(root)?;
        let had = self.tables.quotas.get(&root).copied();
        let change = |change, had| match change {
            LimitChange::Keep => had,
            LimitChange::Remove => None,
            LimitChange::To(limit) => Some(limit),
        };
        let (bytes, count) = had.unwrap_or_default();
        let now = (change(storage, bytes), change(messages, count));
        if had == Some(now) || (had.is_none() && now == (None, None)) {
            return Ok(Said::Unchanged);
        }
        if now == (None, None) && !is_user {
            self.tables.quotas.remove(&root);
        } else {
            self.tables.quotas.insert(root, now);
        }
        Ok(Said::Done)
    }

    /// Usage is never wrong.
    fn quota_recalc(&self, root: &str) -> Plan {
        let (root, _) = self.root(root)?;
        if self.tables.quotas.contains_key(&root) { Ok(Said::Unchanged) } else { Err(RefusalKind::NotFound) }
    }
}
