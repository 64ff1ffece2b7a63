//! A model of the mailbox list that knows nothing of rows, keys and drafts: names are text with `/`, a mailbox is a thing with a
//! serial number.

use super::*;
use crate::model::rights;
use crate::model::rows::PastRow;
use crate::model::{LimitChange, QuotaRoot};
use std::collections::BTreeMap;
use unicode_normalization::UnicodeNormalization;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Box {
    pub(super) id: u64,
    pub(super) uidvalidity: u32,
    pub(super) partition: String,
    pub(super) bytes: u64,
    pub(super) acl: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Simple {
    /// User -> partition.
    pub(super) users: BTreeMap<String, String>,
    pub(super) boxes: BTreeMap<String, Box>,
    pub(super) subscriptions: BTreeSet<(String, String)>,
    /// Limits of every quota root.
    pub(super) roots: BTreeMap<String, (Option<u64>, Option<u64>)>,
    /// Every UIDVALIDITY that a name ever had -> the mailbox that had it.
    pub(super) history: BTreeMap<String, BTreeMap<u32, u64>>,
}

pub(super) type Why = BTreeSet<u8>;

pub(super) fn code(kind: RefusalKind) -> u8 {
    kind.exit()
}

/// The canonical name, `Err` for a bad one.
pub(super) fn canonical(text: &str) -> Option<String> {
    let normal: String = text.nfc().collect();
    let mut parts: Vec<&str> = normal.split('/').collect();
    let bad = |p: &&str| p.is_empty() || [".", ".."].contains(p) || p.contains(['%', '*', '\n']);
    if parts.iter().any(bad) || !["user", "shared"].contains(&parts[0]) || (parts[0] == "user" && parts.len() < 3) {
        return None;
    }
    if parts[0] == "user" && parts[2].eq_ignore_ascii_case("inbox") {
        parts[2] = "INBOX";
    }
    Some(parts.join("/"))
}

pub(super) fn owner(name: &str) -> Option<String> {
    name.strip_prefix("user/").and_then(|rest| rest.split('/').next()).map(str::to_owned)
}

pub(super) fn is_inbox(name: &str) -> bool {
    name.starts_with("user/") && name.ends_with("/INBOX") && name.matches('/').count() == 2
}

pub(super) fn below<'n>(name: &'n str, root: &str) -> Option<&'n str> {
    name.strip_prefix(root).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Most mailboxes of a user here.
pub(super) const MAILBOXES: usize = 6;

impl Simple {
    /// The quota root in which a mailbox of this name counts.
    pub(super) fn root_of(&self, name: &str) -> Option<String> {
        let mut name = name;
        while !self.roots.contains_key(name) {
            name = name.rsplit_once('/')?.0;
        }
        Some(name.to_owned())
    }

    /// Bytes that count in a root; each message has 10.
    pub(super) fn used(&self, root: &str) -> u64 {
        self.boxes.iter().filter(|(name, _)| self.root_of(name).as_deref() == Some(root)).map(|(_, b)| b.bytes).sum()
    }

    pub(super) fn is_full(&self, user: Option<String>) -> bool {
        user.is_some_and(|user| {
            self.boxes.keys().filter(|name| owner(name).as_ref() == Some(&user)).count() > MAILBOXES
        })
    }

    /// What only shows once it is done: too many mailboxes, or too much in a root.
    pub(super) fn is_over_after(&self, command: &Command) -> bool {
        let mut after = self.clone();
        match command {
            Command::MailboxCreate { name, .. } | Command::ImportMailbox { name, .. } => {
                after.apply(command);
                after.boxes.len() > self.boxes.len() && after.is_full(owner(&canonical(name).unwrap()))
            }
            Command::MailboxRename { from, to } => {
                let (from, to) = (canonical(from).unwrap(), canonical(to).unwrap());
                after.apply(command);
                let root = to.rsplit_once('/').and_then(|(above, _)| self.root_of(above));
                let grew = root.is_some_and(|root| {
                    let (was, is, (bytes, messages)) = (self.used(&root), after.used(&root), self.roots[&root]);
                    is > was && (bytes.is_some_and(|limit| is > limit) || messages.is_some_and(|limit| is / 10 > limit))
                });
                grew || (owner(&from) != owner(&to) && after.is_full(owner(&to)))
            }
            _ => false,
        }
    }

    pub(super) fn set_quota(&mut self, root: &str, storage: LimitChange, messages: LimitChange) {
        let had = self.roots.get(root).copied().unwrap_or_default();
        let now = (storage.of(had.0), messages.of(had.1));
        let is_user = root.starts_with("user/") && root.matches('/').count() == 1;
        if now == (None, None) && !is_user {
            self.roots.remove(root);
        } else {
            self.roots.insert(root.to_owned(), now);
        }
    }

    /// Roots below `from`, and it itself, are now below `to`.
    pub(super) fn move_roots(&mut self, from: &str, to: &str) {
        let moved = |name: String| below(&name, from).map(|rest| format!("{to}{rest}")).unwrap_or(name);
        self.roots = std::mem::take(&mut self.roots).into_iter().map(|(name, l)| (moved(name), l)).collect();
    }

    pub(super) fn missing_owner(&self, name: &str) -> bool {
        owner(name).is_some_and(|user| !self.users.contains_key(&user))
    }

    /// All reasons why the command cannot be done; empty if it can.
    pub(super) fn reasons(&self, command: &Command) -> Why {
        use RefusalKind::{BadInput, Exists, NoUser, NotFound, NotPermitted};
        let mut why = Why::new();
        let mut say = |when: bool, kind: RefusalKind| {
            if when {
                why.insert(code(kind));
            }
        };
        let taken = |text: &str| if text.nfc().eq(text.chars()) { Exists } else { BadInput };
        match command {
            Command::UserAdd { user, partition, .. } => {
                say(self.users.contains_key(user), Exists);
                say(partition.as_deref() == Some("moon"), NotFound);
            }
            Command::UserDelete { user } => say(!self.users.contains_key(user), NoUser),
            Command::UserRename { user, to } => {
                say(!self.users.contains_key(user), NoUser);
                say(self.users.contains_key(to), Exists);
            }
            Command::MailboxCreate { name, partition } => match canonical(name) {
                None => say(true, BadInput),
                Some(full) => {
                    say(self.missing_owner(&full), NoUser);
                    say(self.boxes.contains_key(&full), taken(name));
                    say(partition.as_deref() == Some("moon"), NotFound);
                }
            },
            Command::MailboxDelete { name } => match canonical(name) {
                None => say(true, BadInput),
                Some(name) => {
                    say(self.missing_owner(&name), NoUser);
                    say(!self.boxes.contains_key(&name), NotFound);
                    say(is_inbox(&name), NotPermitted);
                }
            },
            Command::MailboxRename { from, to } => match (canonical(from), canonical(to)) {
                (Some(old), Some(new)) => {
                    say(self.missing_owner(&old) || self.missing_owner(&new), NoUser);
                    say(!self.boxes.contains_key(&old), NotFound);
                    say(is_inbox(&old), NotPermitted);
                    say(old != new && below(&new, &old).is_some(), BadInput);
                    for name in self.boxes.keys() {
                        if let Some(rest) = below(name, &old) {
                            let target = format!("{new}{rest}");
                            let leaves = old != new && below(&target, &old).is_some();
                            let kind = if rest.is_empty() { taken(to) } else { Exists };
                            say(self.boxes.contains_key(&target) && !leaves, kind);
                        }
                    }
                }
                _ => say(true, BadInput),
            },
            Command::AclSet { name, .. } | Command::AclDelete { name, .. } => match canonical(name) {
                None => say(true, BadInput),
                Some(full) => {
                    say(self.missing_owner(&full), NoUser);
                    say(!self.boxes.contains_key(&full), NotFound);
                    if let (Command::AclDelete { identifier, .. }, Some(b)) = (command, self.boxes.get(&full)) {
                        say(!b.acl.contains_key(identifier), NotFound);
                    }
                }
            },
            Command::Subscribe { user, name } | Command::Unsubscribe { user, name } => match canonical(name) {
                None => say(true, BadInput),
                Some(full) => {
                    say(!self.users.contains_key(user), NoUser);
                    if matches!(command, Command::Subscribe { .. }) {
                        say(self.missing_owner(&full), NoUser);
                        say(!self.boxes.contains_key(&full), NotFound);
                    }
                }
            },
            Command::QuotaSet { root, .. } | Command::QuotaRecalc { root } => match QuotaRoot::parse(root) {
                Err(_) => say(true, BadInput),
                Ok(QuotaRoot::User(user)) => say(!self.users.contains_key(user.as_str()), NoUser),
                Ok(QuotaRoot::Mailbox(name)) => {
                    say(self.missing_owner(&name.to_string()), NoUser);
                    say(!self.boxes.contains_key(&name.to_string()), NotFound);
                }
            },
            Command::ImportMailbox { name, uidvalidity, acl, partition } => match canonical(name) {
                None => say(true, BadInput),
                Some(full) => match self.boxes.get(&full) {
                    Some(b) => {
                        let same = *uidvalidity == 0 || *uidvalidity == b.uidvalidity;
                        say(!same || *acl != b.acl, Exists);
                    }
                    None => say(partition.as_deref() == Some("moon"), NotFound),
                },
            },
            other => panic!("{other:?} is not random"),
        }
        why
    }

    /// Does a command that can be done. Numbers are 0 where new ones are needed.
    pub(super) fn apply(&mut self, command: &Command) {
        match command {
            Command::UserAdd { user, partition, quota_bytes, quota_messages } => {
                self.add_user(user, partition.as_deref());
                self.roots.insert(format!("user/{user}"), (*quota_bytes, *quota_messages));
            }
            Command::UserDelete { user } => {
                self.users.remove(user);
                self.roots.retain(|root, _| below(root, &format!("user/{user}")).is_none());
                self.boxes.retain(|name, _| owner(name).as_ref() != Some(user));
                self.subscriptions.retain(|(who, _)| who != user);
                for b in self.boxes.values_mut() {
                    b.acl.retain(|who, _| who != user && *who != format!("-{user}"));
                }
            }
            Command::UserRename { user, to } => {
                self.rename_user(user, to);
                self.move_roots(&format!("user/{user}"), &format!("user/{to}"));
            }
            Command::QuotaSet { root, storage, messages } => {
                let root = QuotaRoot::parse(root).unwrap().to_string();
                self.set_quota(&root, *storage, *messages);
            }
            Command::QuotaRecalc { .. } => {}
            Command::MailboxCreate { name, partition } => {
                let name = canonical(name).unwrap();
                let acl = match owner(&name) {
                    Some(user) => full(&user),
                    None => self.above(&name),
                };
                self.create(name, partition.as_deref(), 0, acl);
            }
            Command::MailboxDelete { name } => {
                self.boxes.remove(&canonical(name).unwrap());
                self.roots.remove(&canonical(name).unwrap());
            }
            Command::MailboxRename { from, to } => {
                let (from, to) = (canonical(from).unwrap(), canonical(to).unwrap());
                self.move_roots(&from, &to);
                let names: Vec<String> = self.boxes.keys().filter(|n| below(n, &from).is_some()).cloned().collect();
                let moved: Vec<(String, Box)> =
                    names.iter().map(|n| (n.replacen(&from, &to, 1), self.boxes.remove(n).unwrap())).collect();
                if owner(&from) == owner(&to) {
                    let own = |(who, name): (String, String)| match below(&name, &from) {
                        Some(rest) if names.contains(&name) && owner(&from).as_ref() == Some(&who) => {
                            (who, format!("{to}{rest}"))
                        }
                        _ => (who, name),
                    };
                    self.subscriptions = std::mem::take(&mut self.subscriptions).into_iter().map(own).collect();
                }
                for (name, mut b) in moved {
                    if owner(&from) != owner(&to) {
                        pass_on(&mut b.acl, owner(&from), owner(&to));
                    }
                    self.boxes.insert(name, b);
                }
            }
            Command::AclSet { name, identifier, rights } => {
                let acl = &mut self.boxes.get_mut(&canonical(name).unwrap()).unwrap().acl;
                let now = rights::changed(acl.get(identifier).map(String::as_str), rights).unwrap();
                acl.insert(identifier.clone(), now);
                acl.retain(|_, rights| !rights.is_empty());
            }
            Command::AclDelete { name, identifier } => {
                self.boxes.get_mut(&canonical(name).unwrap()).unwrap().acl.remove(identifier);
            }
            Command::Subscribe { user, name } => {
                self.subscriptions.insert((user.clone(), canonical(name).unwrap()));
            }
            Command::Unsubscribe { user, name } => {
                self.subscriptions.remove(&(user.clone(), canonical(name).unwrap()));
            }
            Command::ImportMailbox { name, partition, uidvalidity, acl } => {
                let name = canonical(name).unwrap();
                if self.boxes.contains_key(&name) {
                    return;
                }
                if let Some(user) = owner(&name).filter(|user| !self.users.contains_key(user)) {
                    self.add_user(&user, partition.as_deref());
                    if is_inbox(&name) {
                        self.boxes.remove(&name);
                    }
                }
                let partition = partition.as_deref().unwrap_or("primary");
                self.create(name, Some(partition), *uidvalidity, acl.clone());
            }
            other => panic!("{other:?} is not random"),
        }
    }

    pub(super) fn add_user(&mut self, user: &str, partition: Option<&str>) {
        self.users.insert(user.to_owned(), partition.unwrap_or("primary").to_owned());
        self.roots.insert(format!("user/{user}"), (None, None));
        self.create(format!("user/{user}/INBOX"), None, 0, full(user));
    }

    pub(super) fn create(
        &mut self,
        name: String,
        partition: Option<&str>,
        uidvalidity: u32,
        acl: BTreeMap<String, String>,
    ) {
        let own = owner(&name).map_or("primary", |user| &self.users[&user]);
        let partition = partition.unwrap_or(own).to_owned();
        self.boxes.insert(name, Box { id: 0, uidvalidity, partition, bytes: 0, acl });
    }

    pub(super) fn above(&self, name: &str) -> BTreeMap<String, String> {
        let mut name = name;
        while let Some((above, _)) = name.rsplit_once('/') {
            if let Some(b) = self.boxes.get(above) {
                return b.acl.clone();
            }
            name = above;
        }
        BTreeMap::new()
    }

    pub(super) fn rename_user(&mut self, user: &str, to: &str) {
        let partition = self.users.remove(user).unwrap();
        self.users.insert(to.to_owned(), partition);
        let own = |name: &String| match name.strip_prefix(&format!("user/{user}/")) {
            Some(rest) => format!("user/{to}/{rest}"),
            None => name.clone(),
        };
        self.boxes = std::mem::take(&mut self.boxes).into_iter().map(|(name, b)| (own(&name), b)).collect();
        for b in self.boxes.values_mut() {
            for sign in ["", "-"] {
                if let Some(rights) = b.acl.remove(&format!("{sign}{user}")) {
                    b.acl.insert(format!("{sign}{to}"), rights);
                }
            }
        }
        let renamed =
            |(who, name): (String, String)| if who == user { (to.to_owned(), own(&name)) } else { (who, name) };
        self.subscriptions = std::mem::take(&mut self.subscriptions).into_iter().map(renamed).collect();
    }

    /// Takes over the numbers that the planner gave, after looking at each: a mailbox that was there keeps its id; a
    /// name takes a UIDVALIDITY that no other mailbox has had there, none below what it had, and none but the
    /// mailbox's own if that can be (I6).
    pub(super) fn settle(&mut self, world: &World, known: &BTreeSet<u64>) {
        for (name, b) in &mut self.boxes {
            let row = world.mailbox(name).unwrap_or_else(|| panic!("{name} is not there"));
            if b.id == 0 {
                assert!(!known.contains(&row.id), "{name}: id {} was given before", row.id);
                b.id = row.id;
            }
            assert_eq!(b.id, row.id, "{name}");
            let history = self.history.entry(name.clone()).or_default();
            let highest = history.last_key_value().map(|(uidvalidity, id)| (*uidvalidity, *id));
            let may_keep = match highest {
                None => true,
                Some((uidvalidity, id)) => b.uidvalidity > uidvalidity || (b.uidvalidity, b.id) == (uidvalidity, id),
            };
            if b.uidvalidity != 0 && may_keep {
                assert_eq!(row.uidvalidity, b.uidvalidity, "{name} could keep its UIDVALIDITY");
            } else {
                assert!(row.uidvalidity > highest.map_or(0, |(uidvalidity, _)| uidvalidity), "{name}");
            }
            b.uidvalidity = row.uidvalidity;
            let had = *history.entry(row.uidvalidity).or_insert(row.id);
            assert_eq!(had, row.id, "{name} with UIDVALIDITY {} names two mailboxes", row.uidvalidity); // I6
        }
    }

    /// After a batch: mailboxes may have been elsewhere in between, where nobody saw them but the names.
    pub(super) fn forget_between(&mut self, world: &World) {
        for (name, b) in &mut self.boxes {
            b.uidvalidity = world.mailbox(name).map_or(0, |row| row.uidvalidity);
        }
        for name in world.keys(Table::Past).iter().filter(|key| !key.contains(": deleted mailbox")) {
            let key = MailboxName::parse(name).unwrap();
            let past = world.rows.get(Table::Past, key.key()).unwrap().unwrap();
            let past = PastRow::decode(key.key(), &past).unwrap();
            let had = self.history.entry(name.clone()).or_default().entry(past.uidvalidity);
            assert_eq!(*had.or_insert(past.mailbox_id), past.mailbox_id, "{name}");
        }
    }

    pub(super) fn compare(&self, world: &World) {
        assert_eq!(world.keys(Table::Users), self.users.keys().cloned().collect::<Vec<_>>());
        for (user, partition) in &self.users {
            assert_eq!(world.user(user).unwrap().partition, *partition);
        }
        assert_eq!(
            world.keys(Table::Quotas).into_iter().collect::<BTreeSet<_>>(),
            self.roots.keys().cloned().collect()
        );
        for (root, limits) in &self.roots {
            let key = QuotaRoot::parse(root).unwrap().key();
            let row = QuotaRow::decode(&key, &world.rows.get(Table::Quotas, &key).unwrap().unwrap()).unwrap();
            assert_eq!((row.storage_limit, row.message_limit), *limits, "{root}");
            let used = self.used(root);
            assert_eq!((row.storage_usage, row.message_usage), (used, used / 10), "{root}"); // I9
        }
        let names: BTreeSet<String> = world.keys(Table::Mailboxes).into_iter().collect();
        assert_eq!(names, self.boxes.keys().cloned().collect::<BTreeSet<_>>());
        for (name, b) in &self.boxes {
            let row = world.mailbox(name).unwrap();
            assert_eq!((&row.partition, row.bytes, &row.acl), (&b.partition, b.bytes, &b.acl), "{name}");
        }
        let subscriptions: BTreeSet<String> = self.subscriptions.iter().map(|(w, n)| format!("{w}: {n}")).collect();
        assert_eq!(world.keys(Table::Subscriptions).into_iter().collect::<BTreeSet<_>>(), subscriptions);
    }
}

pub(super) fn full(user: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(user.to_owned(), "lrswipkxtea".to_owned())])
}

pub(super) fn pass_on(acl: &mut BTreeMap<String, String>, old: Option<String>, new: Option<String>) {
    let Some(new) = new else { return };
    let had = old.and_then(|old| acl.remove(&old)).unwrap_or_else(|| "lrswipkxtea".to_owned());
    let rights = match acl.get(&new) {
        Some(own) => "lrswipkxtecdan9".chars().filter(|c| own.contains(*c) || had.contains(*c)).collect(),
        None => had,
    };
    acl.insert(new, rights);
}
