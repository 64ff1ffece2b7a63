//! What lies on two partitions: of a user who moved where the database has gone back to before, or of one who is moving now.
//!
//! A copy that is being made of what a user has ([`crate::store::Moving`]) is nobody's yet, whole or not: as long as the original is there it
//! counts, and so it does where its partition is away. What a checkpoint wrote of a mailbox that lies here names this partition; only that is
//! held against what the database says, and the newer one of them counts. So no message is there twice, and none is taken for another.

use super::Changed;
use super::compare::Comparing;
use super::mailbox::before;
use super::truth::{Proven, ProvenUser};
use crate::error::Result;
use crate::model::Command;
use crate::model::rows::UserRow;
use crate::partition::covers::covers;
use crate::partition::tree;
use crate::store::mail;

impl Comparing<'_> {
    /// True if what lies here of a mailbox that the database has as `now` is not what counts.
    pub(super) fn counts_elsewhere(&self, proven: &Proven, now: Option<&(Vec<u8>, Vec<u8>)>) -> Result<bool> {
        let here = self.look.partition;
        let known = now.map(|(key, row)| before(key, row)).transpose()?.map(|(_, row, _)| row);
        let said = proven.head.as_ref().map(|head| &head.row);
        let Some(other) = known.as_ref().or(said).map(|row| row.partition.as_str()).filter(|other| *other != here)
        else {
            return Ok(false);
        };
        let partitions = self.store.partitions();
        if partitions.site(other).is_none() {
            return Ok(false);
        }
        let is_newer = match (said, &known) {
            (Some(said), Some(known)) => said.partition == here && said.highest_modseq > known.highest_modseq,
            _ => false,
        };
        let is_there = match partitions.disk(other) {
            Some(disk) => {
                matches!(disk.stat(&proven.place.path()), Ok(Some(_)))
                    && covers(&*disk, self.look.disk, self.look.store, &proven.place)?
            }
            None => true,
        };
        Ok(is_there && !is_newer)
    }

    /// The database has gone back to before the user moved here: he does again, with all that he has. True if that is to be done.
    pub(super) fn moves_here(&mut self, user: &str, row: &UserRow, proven: &ProvenUser) -> Result<bool> {
        let here = self.look.partition;
        let says = |(name, said): &(String, UserRow)| name == user && said.partition == here;
        if row.partition == here || !proven.row.as_ref().is_some_and(says) {
            return Ok(false);
        }
        let Some(disk) = self.store.partitions().disk(&row.partition) else { return Ok(false) };
        // What a replay has written there since is a part of what is here.
        for place in tree::mailboxes(&*disk, self.look.home)? {
            if !covers(self.look.disk, &*disk, self.look.store, &place)? {
                return Ok(false);
            }
        }
        let lying = mail::lying(&self.view, user, &row.partition)?;
        let copied = lying.into_iter().map(|(place, modseq, _)| (place.id, modseq)).collect();
        let (what, action) = (user.to_owned(), format!("user moved here from partition {}", row.partition));
        let command = Command::UserMove { user: user.to_owned(), to: here.to_owned(), copied };
        self.plan.commands.push((command, Changed { what, action }));
        self.plan.again = true;
        Ok(true)
    }

    /// True if the home may be on another partition, too: there is something in it there, or nobody can look.
    pub(super) fn may_be_elsewhere(&self) -> Result<bool> {
        for (name, _) in self.store.partitions().list() {
            if name == self.look.partition {
                continue;
            }
            match self.store.partitions().disk(&name) {
                Some(disk) if tree::mailboxes(&*disk, self.look.home)?.is_empty() => {}
                _ => return Ok(true),
            }
        }
        Ok(false)
    }
}
