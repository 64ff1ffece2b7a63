//! Who lives in a directory that has another's name: users who were renamed. Found out once for an adoption, so that a user who is asked
//! for comes ahead of the queue also then.

use super::truth::Look;
use crate::error::Result;
use crate::partition::tree::Home;
use crate::store::Store;
use crate::store::mail::user_home;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

/// Directories by user: the partition, and where on it.
pub(super) type Lodgers = BTreeMap<String, Vec<(String, Home)>>;

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
    pub fn lodges(&self, user: &str) -> Result<Option<Vec<(String, Home)>>> {
        let mut known = match self.due.lodgers.0.try_lock() {
            Ok(known) => known,
            Err(TryLockError::Poisoned(e)) => e.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(None),
        };
        if known.is_none() {
            *known = Some(Arc::new(self.look_for_lodgers(&|| Ok(()))?));
        }
        Ok(known.as_ref().map(|known| known.get(user).cloned().unwrap_or_default()))
    }

    fn look_for_lodgers(&self, pace: &dyn Fn() -> Result<()>) -> Result<Lodgers> {
        let (salvage, mut found) = (self.due.salvage(self)?, Lodgers::new());
        for (partition, _) in self.partitions.list() {
            let Some(disk) = self.partitions.disk(&partition) else { continue };
            for home in self.homes(&partition)? {
                pace()?;
                let look = Look {
                    disk: &*disk,
                    store: self.partitions.owner(),
                    partition: &partition,
                    home: &home,
                    salvage: &salvage,
                };
                // A manifest that cannot be read is somebody else's finding.
                let row = look.user().ok().and_then(|user| user.row);
                let Some((user, _)) = row.filter(|(user, _)| Some(user.as_str()) != home.user()) else { continue };
                found.entry(user).or_default().push((partition.clone(), home));
            }
        }
        Ok(found)
    }

    /// Every directory in which mail of a user may lie, as far as partitions are there; `None`: it is being found out.
    ///
    /// # Errors
    /// Those of database and disks.
    pub fn homes_to_adopt(&self, user: &str) -> Result<Option<Vec<(String, Home)>>> {
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
