//! Flags set as a user, with his rights (RFC 4314 4); and what each has seen in mailboxes that are not his.

use super::{Plan, Planner, refuse};
use crate::model::command::{Marks, Selection};
use crate::model::message::{Flags, State};
use crate::model::rights;
use crate::model::rows::id_key;
use crate::model::seen::{RUNS_MAX, SeenRow, seen_key};
use crate::model::{Outcome, Rows, Table};

/// The right to see a mailbox, and those to set flags.
const LOOKUP: char = 'l';
const KEEP_SEEN: char = 's';
const WRITE: char = 'w';
const DELETE: char = 't';

impl Planner<'_> {
    /// As `message_flags`, as far as this user may; `\Seen` of a mailbox that is not his is his own.
    pub(super) fn message_flags_as(
        &mut self,
        user: &str,
        selection: &Selection,
        add: &Marks,
        remove: &Marks,
    ) -> Plan<Outcome> {
        let user = self.user_id(user)?;
        let user = user.as_str();
        drop(self.user_row(user)?);
        let name = self.name(&selection.name)?;
        self.check_owner(&name)?;
        let row = self.mailbox(&name)?;
        let entries = row.acl.iter().map(|(who, rights)| (who.as_str(), rights.as_str()));
        let has = rights::of_user(user, name.owner(), entries);
        if !has.has(LOOKUP) {
            return Err(refuse::no_mailbox(&name));
        }
        let all = add.flags.with(remove.flags);
        let rest = all.without(Flags::SEEN).without(Flags::DELETED);
        let other = rest != Flags::NONE || !add.keywords.is_empty() || !remove.keywords.is_empty();
        for (asked, right) in [(all.has(Flags::SEEN), KEEP_SEEN), (all.has(Flags::DELETED), DELETE), (other, WRITE)] {
            if asked && !has.has(right) {
                return Err(refuse::no_right(user, &name, right));
            }
        }
        if name.owner() == Some(user) {
            return self.message_flags(selection, add, remove);
        }
        let seen = self.see(user, row.id, selection, (add.flags, remove.flags))?;
        let without = |marks: &Marks| Marks { flags: marks.flags.without(Flags::SEEN), ..marks.clone() };
        let rest = match other || all.has(Flags::DELETED) {
            true => self.message_flags(selection, &without(add), &without(remove))?,
            false => Outcome::Unchanged,
        };
        Ok(if seen { Outcome::Done } else { rest })
    }

    /// Notes what a user has seen; true if that is new.
    fn see(&mut self, user: &str, mailbox: u64, selection: &Selection, (add, remove): (Flags, Flags)) -> Plan<bool> {
        let opened = self.open_mailbox(&selection.name)?;
        let messages = self.selected(&opened, selection, State::Live)?;
        let seen = match (add.has(Flags::SEEN), remove.has(Flags::SEEN)) {
            (true, _) => true,
            (false, true) => false,
            (false, false) => return Ok(false),
        };
        let key = seen_key(user, mailbox);
        let mut row: SeenRow = self.draft.read(&key)?.unwrap_or_default();
        let changed = messages.iter().fold(false, |changed, message| row.set(message.uid, seen) | changed);
        if !changed {
            return Ok(false);
        }
        if row.runs().len() > RUNS_MAX {
            return Err(refuse::seen_here_and_there(user, &opened.name));
        }
        (row.modseq, row.changed_us) = (row.modseq + 1, self.now.0);
        // Nothing seen is no row; but the write-out learns of it by the row that goes.
        match row.is_empty() {
            true => self.draft.remove(Table::Seen, key)?,
            false => self.draft.put(key, &row)?,
        }
        Ok(true)
    }

    /// The mailbox is gone for good: nobody has seen anything in it.
    pub(super) fn seen_forget(&mut self, user: &str, mailbox: u64) -> Plan<Outcome> {
        let key = seen_key(user, mailbox);
        if self.draft.contains(Table::Ids, &id_key(mailbox))? || !Rows::contains(&self.draft, Table::Seen, &key)? {
            return Ok(Outcome::Unchanged);
        }
        self.draft.remove(Table::Seen, key)?;
        Ok(Outcome::Done)
    }
}
