//! Mailboxes: create, delete, rename; and how a mailbox takes and leaves a name. // row 119

use super::draft::Pair;
use super::{Plan, Planner, refuse};
use crate::model::name::{key_text, owner_of, subtree_end};
use crate::model::rights::{Acl, OWNER_RIGHTS, Rights};
use crate::model::rows::{
    IdRow, MailboxRow, PastRow, RightsRow, Row, TombstoneRow, UserView, id_key, joined, tombstone_key,
};
use crate::model::user::SHARED_DIRECTORY;
use crate::model::{MailboxName, Outcome, Table, Usage};

/// To whom mailboxes belong, and where new ones lie below a partition's root.
pub(super) struct Owner {
    /// `None`: shared.
    pub(super) user: Option<String>,
    pub(super) directory: String,
}

/// A mailbox on its way: old key, new key, row.
type Moved = (Vec<u8>, Vec<u8>, MailboxRow);

impl Planner<'_> {
    pub(super) fn mailbox_create(&mut self, text: &str, partition: Option<&str>) -> Plan<Outcome> {
        let name = self.name(text)?;
        let partition = self.partition_of_new(&name, partition)?;
        if self.draft.contains(Table::Mailboxes, name.key())? {
            return Err(refuse::mailbox_exists(&name));
        }
        let acl = match name.owner() {
            Some(user) => Acl::from([(user.to_owned(), OWNER_RIGHTS.to_owned())]),
            None => self.acl_above(&name)?,
        };
        let outcome = self.new_mailbox(&name, partition, 0, acl)?;
        name.owner().map_or(Ok(()), |user| self.check_mailboxes_of(user))?;
        Ok(outcome)
    }

    /// The partition of a new mailbox: the one asked for, else its owner's, else the default. An owner must be there.
    fn partition_of_new(&self, name: &MailboxName, asked: Option<&str>) -> Plan<String> {
        let Some(user) = name.owner() else { return self.partition(asked, self.policy.default_partition) };
        let row = self.draft.get(Table::Users, user.as_bytes())?.ok_or_else(|| refuse::no_user(user))?;
        match asked {
            Some(asked) => self.partition(Some(asked), ""),
            None => Ok(UserView::decode(user.as_bytes(), &row)?.partition.to_owned()),
        }
    }

    /// A shared mailbox gets the rights of the nearest mailbox above it, for it has no owner who could see it; a user's
    /// gets none but his, so that a folder is shared only when he says so.
    fn acl_above(&self, name: &MailboxName) -> Plan<Acl> {
        let mut key = name.key();
        while let Some(end) = key.iter().rposition(|b| *b == crate::model::name::SEPARATOR) {
            key = &key[..end];
            if let Some(row) = self.draft.read::<MailboxRow>(key)? {
                return Ok(row.acl);
            }
        }
        Ok(Acl::new())
    }

    /// Writes the rows of a new, empty mailbox under a name that is free. `uidvalidity` 0: any.
    pub(super) fn new_mailbox(
        &mut self,
        name: &MailboxName,
        partition: String,
        uidvalidity: u32,
        acl: Acl,
    ) -> Plan<Outcome> {
        let id = self.ids.next_object_id()?;
        let row = MailboxRow {
            id,
            partition,
            uidvalidity,
            uidnext: 1,
            highest_modseq: 1,
            messages: 0,
            bytes: 0,
            unseen: 0,
            created_us: self.now.0,
            home: None,
            acl,
        };
        let uidvalidity = self.take(name.key(), row, name.owner())?;
        Ok(Outcome::Created { name: name.to_string(), id, uidvalidity })
    }

    pub(super) fn mailbox_delete(&mut self, text: &str) -> Plan<Outcome> {
        let name = self.name(text)?;
        let owner = self.owner_of_name(&name)?;
        let row = self.mailbox(&name)?;
        if let (Some(user), true) = (name.owner(), name.is_inbox()) {
            return Err(refuse::inbox_stays(user, "deleted"));
        }
        self.bury(name.key(), &row, &owner)?;
        Ok(Outcome::Mailboxes(1))
    }

    pub(super) fn mailbox_rename(&mut self, from: &str, to: &str) -> Plan<Outcome> {
        let (from, to) = (self.name(from)?, self.name(to)?);
        let old_owner = self.owner_of_name(&from)?;
        let new_owner = self.owner_of_name(&to)?;
        let rows = self.subtree(&from)?;
        if let (Some(user), true) = (from.owner(), from.is_inbox()) {
            return Err(refuse::inbox_stays(user, "renamed"));
        }
        if from.is_above(&to) {
            return Err(refuse::into_itself(&from, &to));
        }
        let moved = self.moved(rows, from.key(), to.key())?;
        self.check_free(&from, &to, &moved)?;
        let root = self.root_above(to.key())?;
        for (old, _, row) in &moved {
            self.leave(old, row, old_owner.user.as_deref())?;
        }
        self.move_roots(moved.iter().map(|(old, new, _)| (old.as_slice(), new.as_slice())))?;
        let mut names = Vec::with_capacity(moved.len());
        for (old, new, mut row) in moved {
            if old_owner.user != new_owner.user {
                change_owner(&mut row, &old_owner, &new_owner);
            }
            self.take(&new, row, new_owner.user.as_deref())?;
            names.push((old, new));
        }
        self.subscriptions_follow(&names, &old_owner, &new_owner)?;
        self.check_quota(&to, root)?;
        if let (Some(user), true) = (&new_owner.user, new_owner.user != old_owner.user) {
            self.check_mailboxes_of(user)?;
        }
        Ok(Outcome::Mailboxes(names.len() as u64))
    }

    /// A mailbox that is there, and all below it.
    fn subtree(&self, top: &MailboxName) -> Plan<Vec<Pair>> {
        let key = top.key();
        let row = self.draft.get(Table::Mailboxes, key)?.ok_or_else(|| refuse::no_mailbox(top))?;
        if self.draft.may_lie_below(key) {
            return self.draft.range(Table::Mailboxes, key, &subtree_end(key));
        }
        Ok(vec![(key.to_vec(), row)])
    }

    /// No name that is taken stays taken: every target is free, or is itself on its way elsewhere.
    fn check_free(&self, from: &MailboxName, to: &MailboxName, moved: &[Moved]) -> Plan<()> {
        let end = subtree_end(from.key());
        for (_, new, _) in moved {
            let moves_away = from != to && new.as_slice() >= from.key() && new < &end;
            if !moves_away && self.draft.contains(Table::Mailboxes, new)? {
                let taken = if new == to.key() { Some(to.clone()) } else { MailboxName::from_key(new) };
                return Err(refuse::mailbox_exists(&taken.unwrap_or_else(|| to.clone())));
            }
        }
        Ok(())
    }

    /// Old key, new key and row of mailboxes whose keys begin with `from`, which becomes `to`.
    pub(super) fn moved(&self, rows: Vec<Pair>, from: &[u8], to: &[u8]) -> Plan<Vec<Moved>> {
        let mut moved = Vec::with_capacity(rows.len());
        for (old, row) in rows {
            let row = MailboxRow::decode(&old, &row)?;
            let new = [to, &old[from.len()..]].concat();
            let name = MailboxName::parse(&key_text(&new));
            name.map_err(|why| refuse::bad_new_name(&key_text(&old), &why))?;
            moved.push((old, new, row));
        }
        Ok(moved)
    }

    /// The mailbox takes a free name: decides its UIDVALIDITY there (I6), and writes its rows. Gives the UIDVALIDITY.
    pub(super) fn take(&mut self, key: &[u8], mut row: MailboxRow, owner: Option<&str>) -> Plan<u32> {
        let past: Option<PastRow> = self.draft.read(key)?;
        row.uidvalidity = match past {
            None if row.uidvalidity != 0 => row.uidvalidity,
            Some(past) if row.uidvalidity > past.uidvalidity => row.uidvalidity,
            Some(past) if row.uidvalidity == past.uidvalidity && row.id == past.mailbox_id => row.uidvalidity,
            past => self.ids.next_uidvalidity(past.map_or(0, |past| past.uidvalidity))?,
        };
        self.turn_rights(key, &Acl::new(), &row.acl, owner)?;
        self.charge(key, &row, Usage::plus)?;
        self.draft.put(key.to_vec(), &row)?;
        self.draft.put(id_key(row.id), &IdRow::of(key))?;
        self.count(owner, 1);
        Ok(row.uidvalidity)
    }

    /// The mailbox leaves its name, which remembers it (I6).
    pub(super) fn leave(&mut self, key: &[u8], row: &MailboxRow, owner: Option<&str>) -> Plan<()> {
        let past: Option<PastRow> = self.draft.read(key)?;
        if past.is_none_or(|past| past.uidvalidity <= row.uidvalidity) {
            let past = PastRow { uidvalidity: row.uidvalidity, mailbox_id: row.id };
            self.draft.put(key.to_vec(), &past)?;
        }
        self.turn_rights(key, &row.acl, &Acl::new(), owner)?;
        self.charge(key, row, Usage::minus)?;
        self.count(owner, -1);
        self.draft.remove(Table::Mailboxes, key.to_vec())
    }

    /// The mailbox leaves its name for good; its tombstone says where its messages lie.
    pub(super) fn bury(&mut self, key: &[u8], row: &MailboxRow, owner: &Owner) -> Plan<()> {
        self.dissolve_root(key)?;
        self.leave(key, row, owner.user.as_deref())?;
        let directory = row.directory(Some(&owner.directory));
        let tombstone = TombstoneRow { deleted_us: self.now.0, directory, mailbox: row.clone() };
        let place = tombstone_key(key, row.id);
        self.draft.put(id_key(row.id), &IdRow::of(&place))?;
        self.draft.put(place, &tombstone)
    }

    fn count(&mut self, owner: Option<&str>, by: i64) {
        self.counts.mailboxes += by;
        if let Some(user) = owner {
            match self.come.get_mut(user) {
                Some(come) => *come += by,
                None => drop(self.come.insert(user.to_owned(), by)),
            }
        }
    }

    /// Brings the table of rights from `old` to `new`. It holds every entry but the owner's.
    pub(super) fn turn_rights(&mut self, key: &[u8], old: &Acl, new: &Acl, owner: Option<&str>) -> Plan<()> {
        for who in old.keys().filter(|who| Some(who.as_str()) != owner && !new.contains_key(*who)) {
            self.draft.remove(Table::Rights, joined(who.as_bytes(), key))?;
        }
        for (who, rights) in new.iter().filter(|(who, _)| Some(who.as_str()) != owner) {
            if old.get(who) != Some(rights) {
                self.draft.put(joined(who.as_bytes(), key), &RightsRow { rights: rights.clone() })?;
            }
        }
        Ok(())
    }

    pub(super) fn name(&self, text: &str) -> Plan<MailboxName> {
        MailboxName::parse(text).map_err(|why| refuse::bad_name(text, &why))
    }

    /// The mailbox with this name; its owner is known to be there.
    pub(super) fn mailbox(&self, name: &MailboxName) -> Plan<MailboxRow> {
        self.draft.read(name.key())?.ok_or_else(|| refuse::no_mailbox(name))
    }

    /// The owner of a name; a user who must be there.
    pub(super) fn owner_of_name(&self, name: &MailboxName) -> Plan<Owner> {
        match name.owner() {
            Some(user) => self.owner(user),
            None => Ok(Owner { user: None, directory: SHARED_DIRECTORY.to_owned() }),
        }
    }

    /// Changes the rights of a mailbox that is there, in both tables.
    pub(super) fn change_acl(&mut self, key: &[u8], mut row: MailboxRow, change: impl FnOnce(&mut Acl)) -> Plan<()> {
        let mut acl = row.acl.clone();
        change(&mut acl);
        self.turn_rights(key, &row.acl, &acl, owner_of(key))?;
        row.acl = acl;
        self.draft.put(key.to_vec(), &row)
    }
}

/// A mailbox passes to another owner: it stays where it lies, and the owner's rights pass on with it.
fn change_owner(row: &mut MailboxRow, old: &Owner, new: &Owner) {
    let lies_in = row.home.take().unwrap_or_else(|| old.directory.clone());
    row.home = (lies_in != new.directory).then_some(lies_in);
    if let Some(user) = &new.user {
        let had = old.user.as_ref().and_then(|old| row.acl.remove(old)).unwrap_or_else(|| OWNER_RIGHTS.to_owned());
        let now = match row.acl.get(user) {
            Some(rights) => Rights::of(rights).with(Rights::of(&had)).to_string(),
            None => had,
        };
        row.acl.insert(user.clone(), now);
    }
}
