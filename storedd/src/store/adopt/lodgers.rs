//! Who lives in a directory that has another's name: users who were renamed. Found out once for an adoption, so that a user who is asked
//! for comes ahead of the queue also then.

use super::truth::Look;
use crate::error::{Result, StoreError};
use crate::partition::tree::Home;
use crate::store::Store;
use crate::store::mail::user_home;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

/// The partition, and where on it.
type At = (String, Home);

/// Who lives where.
#[derive(Debug, Default)]
pub(super) struct Lodgers {
    /// Directories by user.
    homes: BTreeMap<String, Vec<At>>,
    /// Directories with mailboxes of which nothing says whose they are: anybody's.
    unknown: BTreeSet<At>,
}

/// What was found out; `None`: nobody has looked.
#[derive(Debug, Default)]
pub(super) struct Register(Mutex<Option<Arc<Lodgers>>>);

impl Register {
    pub(super) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Store {
    /// Finds out who lives where, anew; whoever asks meanwhile is told to come back. Reads every manifest of the partitions that are
    /// there: some 120 bytes for each message.
    ///
    /// # Errors
    /// Those of `pace`, which is called for each home, and of a disk that cannot be listed.
    pub fn learn_lodgers(&self, pace: &dyn Fn() -> Result<()>) -> Result<()> {
        let mut known = self.due.lodgers.0.lock().unwrap_or_else(PoisonError::into_inner);
        *known = None;
        *known = Some(Arc::new(self.look_for_lodgers(pace)?));
        Ok(())
    }

    /// Directories of a user that have another's name; `None`: it is being found out.
    ///
    /// # Errors
    /// As [`Store::learn_lodgers`], where nobody has looked yet.
    pub fn lodges(&self, user: &str) -> Result<Option<Vec<At>>> {
        Ok(self.lodgers()?.map(|known| known.homes.get(user).cloned().unwrap_or_default()))
    }

    /// Who lives where; `None`: it is being found out.
    fn lodgers(&self) -> Result<Option<Arc<Lodgers>>> {
        let mut known = match self.due.lodgers.0.try_lock() {
            Ok(known) => known,
            Err(TryLockError::Poisoned(e)) => e.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(None),
        };
        if known.is_none() {
            *known = Some(Arc::new(self.look_for_lodgers(&|| Ok(()))?));
        }
        Ok(known.clone())
    }

    fn look_for_lodgers(&self, pace: &dyn Fn() -> Result<()>) -> Result<Lodgers> {
        let (salvage, mut found) = (self.due.salvage(self)?, Lodgers::default());
        for (partition, _) in self.partitions.list() {
            let Some(disk) = self.partitions.disk(&partition) else { continue };
            let homes = match self.homes(&partition) {
                // It has gone just now.
                Err(StoreError::Busy { .. }) => continue,
                homes => homes?,
            };
            for home in homes {
                pace()?;
                let look = Look {
                    disk: &*disk,
                    store: self.partitions.owner(),
                    partition: &partition,
                    home: &home,
                    salvage: &salvage,
                };
                // A manifest that cannot be read is somebody else's finding.
                let users = match look.user().ok().and_then(|user| user.row) {
                    Some((user, _)) => Some([user].into()),
                    None => look.owners(),
                };
                if users.is_none() {
                    found.unknown.insert((partition.clone(), home.clone()));
                }
                for user in users.unwrap_or_default().into_iter().filter(|user| Some(user.as_str()) != home.user()) {
                    found.homes.entry(user).or_default().push((partition.clone(), home.clone()));
                }
            }
        }
        Ok(found)
    }

    /// True if mail of a user whom the database does not have may lie where nobody could look yet: on a partition that is away, in a
    /// directory of his name, or in one of which nothing says whose it is. False when no adoption is due.
    ///
    /// # Errors
    /// Those of database and disks.
    pub fn may_come(&self, user: &str) -> Result<bool> {
        if !self.due.is_due() {
            return Ok(false);
        }
        let is_open = |(partition, home): &At| !self.due.is_done(partition, home);
        let is_away = |(partition, _): &(String, _)| self.partitions.disk(partition).is_none();
        let (Some(homes), Some(lodgers)) = (self.homes_to_adopt(user)?, self.lodgers()?) else { return Ok(true) };
        Ok(self.partitions.list().iter().any(is_away)
            || homes.iter().any(is_open)
            || lodgers.unknown.iter().any(is_open))
    }

    /// Every directory in which mail of a user may lie, as far as partitions are there; `None`: it is being found out.
    ///
    /// # Errors
    /// Those of database and disks.
    pub fn homes_to_adopt(&self, user: &str) -> Result<Option<Vec<At>>> {
        let mut homes = Vec::new();
        for (partition, _) in self.partitions.list() {
            homes.extend(self.homes_named(&partition, user)?.into_iter().map(|home| (partition.clone(), home)));
        }
        homes.extend(user_home(&self.view(), user.as_bytes())?);
        match self.lodges(user)? {
            Some(lodges) => homes.extend(lodges),
            // Who is known is not held up by that.
            None if homes.is_empty() => return Ok(None),
            None => {}
        }
        homes.sort();
        homes.dedup();
        Ok(Some(homes))
    }
}
