//! The user whose home it is: who he is, and what is his beside mailboxes.

use super::Changed;
use super::compare::{Comparing, known};
use super::truth::{Look, ProvenUser};
use crate::error::Result;
use crate::model::adopt::AdoptedUser;
use crate::model::keys::{joined, quota_key};
use crate::model::name::owner_of;
use crate::model::rows::{Row, UserRow};
use crate::model::seen::SeenRow;
use crate::model::user::{SHARED_DIRECTORY, directory};
use crate::model::{Command, LimitChange, Rows, Table, UserId};
use crate::partition::tree::Home;

/// Rows of what was seen that one transaction brings.
const SEEN_AT_ONCE: usize = 16;

impl Comparing<'_> {
    /// Compares the user and what is his beside mailboxes; gives his name, as it will be.
    pub(super) fn user(&mut self, proven: &ProvenUser) -> Result<Option<String>> {
        if self.is_shared() {
            return Ok(None);
        }
        let name = match &proven.row {
            Some((name, _)) => Some(name.clone()),
            None => match self.known_user()? {
                Some(known) => Some(known),
                // No row says who he is; his directory says who he was.
                None if proven.deleted.is_none() => self.named_by_directory()?,
                None => None,
            },
        };
        if let Some(name) = &name
            && self.is_second(name)?
        {
            self.found.is_deferred = true;
            return Ok(Some(name.clone()));
        }
        if self.wanted.users && self.follows(proven, name.as_deref())? {
            return Ok(name);
        }
        let (Some(name), true) = (&name, self.wanted.users) else { return Ok(name) };
        let adopted = self.adopted(name, proven)?;
        let is_new = adopted.known.is_none();
        let row = adopted.known.clone().unwrap_or_else(|| adopted.row.clone());
        let action = match (is_new, adopted.subscriptions.len()) {
            (true, _) => Some("user added".to_owned()),
            (false, 0) => None,
            (false, n) => Some(format!("{n} subscriptions added")),
        };
        if let Some(action) = action {
            let changed = Changed { what: name.clone(), action };
            self.plan.commands.push((Command::AdoptUser(Box::new(adopted)), changed));
        }
        if row.directory == self.look.home.path() {
            self.seen(name, &row, proven)?;
        }
        if !is_new && let Some(limits) = proven.limits {
            self.limits(&quota_key(name), limits)?;
        }
        Ok(Some(name.clone()))
    }

    /// The user as his home proves him, and what of it the database lacks.
    fn adopted(&self, name: &str, proven: &ProvenUser) -> Result<AdoptedUser> {
        let known = self.user_row(name)?;
        let fresh = || UserRow {
            id: self.look.home.number(),
            partition: self.look.partition.to_owned(),
            created_us: self.store.env.now().0,
            directory: self.look.home.path().to_owned(),
        };
        let mut row = proven.row.as_ref().map_or_else(fresh, |(_, row)| row.clone());
        if known.is_none() && self.is_empty_at(&row.partition) {
            // He was on his way here when his row was written.
            row.partition = self.look.partition.to_owned();
        }
        let mut subscriptions = Vec::new();
        // Another directory may be his now: what is here of him comes to it, and no more.
        if known.as_ref().is_none_or(|row| row.directory == self.look.home.path()) {
            for (mailbox, since_us) in &proven.subscriptions {
                if !self.view.contains(Table::Subscriptions, &joined(name.as_bytes(), mailbox))? {
                    subscriptions.push((mailbox.clone(), *since_us));
                }
            }
        }
        let (user, limits) = (name.to_owned(), proven.limits.unwrap_or_default());
        Ok(AdoptedUser { user, known, row, limits, subscriptions, seen: Vec::new() })
    }

    /// True if a partition is there that has nothing of this home.
    fn is_empty_at(&self, partition: &str) -> bool {
        let Some(disk) = self.store.partitions.disk(partition) else { return false };
        match disk.list(self.look.home.path()) {
            Ok(entries) => entries.is_empty(),
            Err(e) => e.kind() == std::io::ErrorKind::NotFound,
        }
    }

    /// What he has seen in mailboxes of others, as far as the database does not know it: some rows at a time, for they may be long.
    fn seen(&mut self, name: &str, row: &UserRow, proven: &ProvenUser) -> Result<()> {
        let mut lacking = Vec::new();
        for (key, seen) in &proven.seen {
            let known = self.view.get(Table::Seen, key)?.map(|known| SeenRow::decode(key, &known)).transpose()?;
            if known.is_none_or(|known| known.changed_us < seen.changed_us) {
                lacking.push((key.clone(), seen.clone()));
            }
        }
        for seen in lacking.chunks(SEEN_AT_ONCE) {
            let action = format!("what he has seen in {} mailboxes of others added", seen.len());
            let adopted = AdoptedUser {
                user: name.to_owned(),
                known: Some(row.clone()),
                row: row.clone(),
                limits: (None, None),
                subscriptions: Vec::new(),
                seen: seen.to_vec(),
            };
            let changed = Changed { what: name.to_owned(), action };
            self.plan.commands.push((Command::AdoptUser(Box::new(adopted)), changed));
        }
        Ok(())
    }

    /// The database has gone back to before the user was renamed or deleted: he is so again, and the rest is looked at behind the
    /// next checkpoint. True if that is to be done.
    fn follows(&mut self, proven: &ProvenUser, name: Option<&str>) -> Result<bool> {
        let Some(known) = self.known_user()? else { return Ok(false) };
        let row = self.user_row(&known)?;
        let before = self.base.db.get(Table::Users, known.as_bytes())?;
        let before = before.map(|before| UserRow::decode(known.as_bytes(), &before)).transpose()?;
        let is_here = row.as_ref().is_some_and(|row| row.partition == self.look.partition);
        if row == before
            && let Some(row) = &row
            && self.moves_here(&known, row, proven)?
        {
            return Ok(true);
        }
        if row != before || !is_here {
            return Ok(false);
        }
        let (command, changed) = match (&proven.row, name) {
            (Some((name, _)), _) if *name != known => (
                Command::UserRename { user: known.clone(), to: name.clone() },
                Changed { what: name.clone(), action: format!("user renamed from {known}") },
            ),
            // Where something lives he may only have moved elsewhere.
            (None, _) if proven.deleted.is_some() && !self.look.is_inhabited()? && !self.may_be_elsewhere()? => (
                Command::UserDelete { user: known.clone() },
                Changed { what: known.clone(), action: "user deleted".to_owned() },
            ),
            _ => return Ok(false),
        };
        let renamed = matches!(command, Command::UserRename { .. }).then(|| changed.what.clone());
        self.plan.commands.push((command, changed));
        if let (Some(user), Some((storage, messages))) = (renamed, proven.limits) {
            // Before the next checkpoint repeats those of the past.
            let change = |limit: Option<u64>| limit.map_or(LimitChange::Remove, LimitChange::To);
            let command =
                Command::QuotaSet { root: user.clone(), storage: change(storage), messages: change(messages) };
            self.plan.commands.push((command, Changed { what: user, action: "limits corrected".to_owned() }));
        }
        self.plan.again = true;
        Ok(true)
    }

    pub(super) fn is_shared(&self) -> bool {
        self.look.home.path() == SHARED_DIRECTORY
    }

    /// Somebody else had the name before, as the database still says; his own home says that he has it no more, and comes first.
    fn is_second(&self, name: &str) -> Result<bool> {
        let Some(first) = self.user_row(name)?.filter(|row| row.directory != self.look.home.path()) else {
            return Ok(false);
        };
        let Some(home) = Home::parse(&first.directory).filter(|_| first.partition == self.look.partition) else {
            return Ok(false);
        };
        let Look { disk, store, partition, salvage, .. } = *self.look;
        let his = Look { disk, store, partition, home: &home, salvage }.user()?;
        Ok(his.deleted.is_some() || his.row.is_some_and(|(has, _)| has != name))
    }

    /// The user of the database whose directory it is: by the name in it, or by one of his mailboxes.
    fn known_user(&self) -> Result<Option<String>> {
        let Some(named) = self.look.home.user() else { return Ok(None) };
        let his = self.user_row(named)?.is_some_and(|row| row.directory == self.look.home.path());
        if his {
            return Ok(Some(named.to_owned()));
        }
        for place in crate::partition::tree::mailboxes(self.look.disk, self.look.home)? {
            let Some((key, _)) = known(&self.view, place.id)? else { continue };
            let Some(owner) = owner_of(&key) else { continue };
            if self.user_row(owner)?.is_some_and(|row| row.directory == self.look.home.path()) {
                return Ok(Some(owner.to_owned()));
            }
        }
        Ok(None)
    }

    /// The user whose name the directory has, if there is anything of his in it.
    fn named_by_directory(&self) -> Result<Option<String>> {
        let Some(named) = self.look.home.user() else { return Ok(None) };
        let Ok(id) = UserId::parse(named) else { return Ok(None) };
        // A long name is cut in that of the directory, and is then another's.
        let is_whole = directory(&id, self.look.home.number()) == self.look.home.path();
        Ok((is_whole && self.look.is_inhabited()?).then(|| named.to_owned()))
    }

    fn user_row(&self, user: &str) -> Result<Option<UserRow>> {
        let row = self.view.get(Table::Users, user.as_bytes())?;
        row.map(|row| UserRow::decode(user.as_bytes(), &row)).transpose()
    }
}
