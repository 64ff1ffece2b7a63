//! A home of an older time than the database: somebody has put a copy of it back.
//!
//! # Operation
//! Of database and partition either may be of the past. Where the database is, the partition proves what it lacks; where the partition
//! is, what it lacks stands in the log. The modification sequence tells which: a checkpoint writes nothing into the database file that is not
//! in the partition already, so a row of that file which counts more changes than index and manifest know is newer than they are.
//!
//! Then nothing of the home is adopted at first. Each of its mailboxes is judged as by a look at its index ([`crate::store::Store::examine`]), which brings
//! from the log what is proven; what the home says of names, rights and limits is made anew from the database; and then it is looked at
//! again: what the database does not know, and of which nothing is newer than that, was given up since. A mailbox whose changes the log does not hold any more stays as the database has it, and is a finding: whoever accepts what is left says
//! so with `reconstruct -r`.

use super::{Changed, Wanted, before, known};
use crate::error::{Result, StoreError};
use crate::model::keys::split;
use crate::model::name::key_text;
use crate::partition::index::Index;
use crate::partition::tree::{Home, Place};
use crate::store::Store;
use crate::store::commit::lock;
use crate::store::mail::{away, mailboxes_at};
use std::collections::BTreeSet;
use std::sync::PoisonError;

/// What is told of such a mailbox.
pub(super) const OLDER: &str = "index and manifest of an older time";

impl Store {
    /// Makes the home anew from its mailboxes and the database, as far as these were brought up to date.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if the partition is not there or the last checkpoint failed; those of the disks.
    pub fn settle_home(&self, partition: &str, home: &Home, ids: &BTreeSet<u64>, wanted: Wanted<'_>) -> Result<()> {
        let _gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        if self.checkpointing() {
            return Err(StoreError::Busy { why: "the last checkpoint failed".to_owned() });
        }
        let _writer = lock(&self.db);
        let base = self.base.load_full();
        let disk = self.partitions.disk(partition).ok_or_else(|| away(partition))?;
        let mut newest: Vec<Place> = Vec::new();
        for id in ids {
            let Some((key, row)) = known(&*base.db, *id)? else { continue };
            let (place, (_, row, _)) = (home.mailbox(*id), before(&key, &row)?);
            let reached = Index::new(&*disk, self.partitions.owner(), &place).last_modseq()?;
            if reached.is_some_and(|reached| reached >= row.highest_modseq) {
                newest.push(place);
            }
        }
        self.anew(partition, home, &newest)?;
        if wanted.users {
            self.remirror(&base.db, (partition, &*disk), home)?;
        }
        Ok(())
    }

    /// The mailboxes of such a home that are meant, as the database file has them: what came or was renamed since is of no newer change.
    pub(super) fn to_bring_up_to_date(
        &self,
        partition: &str,
        home: &Home,
        older: BTreeSet<u64>,
        wanted: Wanted<'_>,
    ) -> Result<BTreeSet<u64>> {
        let base = self.base.load_full();
        let mut ids = older;
        for id in mailboxes_at(&*base.db, partition, home)? {
            let key = known(&*base.db, id)?.map(|(key, _)| key).unwrap_or_default();
            let name = split(&key).map_or(&key[..], |(name, _)| name);
            ids.extend((wanted.mailboxes)(name).then_some(id));
        }
        Ok(ids)
    }
}

/// What would be done, told by somebody who only looks.
pub(super) fn would(store: &Store, older: &BTreeSet<u64>) -> Result<Vec<Changed>> {
    let base = store.base.load_full();
    let name = |id: &u64| {
        let key = known(&*base.db, *id)?.map(|(key, _)| key).unwrap_or_default();
        let name = split(&key).map_or(&key[..], |(name, _)| name);
        let action = format!("{OLDER}: brought up to date from the log");
        Ok(Changed { what: key_text(name), action })
    };
    older.iter().map(name).collect()
}
