//! Whether what lies of a mailbox on one partition is all on another, too.
//!
//! A mailbox that moves is whole in its new place before anything says so; and yet a place may hold only a part of it: a replay, or a return to a
//! point, writes what changed to the place that was right at that moment, where the mailbox may lie no more. So nothing is taken away, and
//! nothing left out of account, because of a row that names another place: only because of what is there.

use super::index::Index;
use super::past::Owner;
use super::tree::Place;
use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::lsn::Lsn;
use crate::model::message::State;
use std::collections::BTreeSet;

/// True if `there` has everything of a mailbox that `here` has: for each file that lies here a file, unless the message is purged there; and of
/// a message that only the index knows here, at least as much.
///
/// # Errors
/// Those of the disks.
pub fn covers(there: &dyn Disk, here: &dyn Disk, owner: Owner<'_>, place: &Place) -> Result<bool> {
    let is_missing = match here.stat(&place.path()) {
        Ok(found) => found.is_none(),
        Err(e) => return Err(StoreError::io("look at", here.display(&place.path()), e)),
    };
    if is_missing {
        return Ok(true);
    }
    let (here, there) = (Uids::of(here, owner, place)?, Uids::of(there, owner, place)?);
    let has_bytes = |uid: &u32| there.files.contains(uid) || there.purged.contains(uid);
    let is_known = |uid: &u32| has_bytes(uid) || there.alive.contains(uid);
    Ok(here.files.iter().all(has_bytes) && here.alive.iter().all(is_known))
}

/// What lies of a mailbox in one place; nothing if it is not there.
struct Uids {
    files: BTreeSet<u32>,
    /// That the index knows, and does not call purged.
    alive: BTreeSet<u32>,
    purged: BTreeSet<u32>,
}

impl Uids {
    fn of(disk: &dyn Disk, owner: Owner<'_>, place: &Place) -> Result<Uids> {
        let files = place.uids(disk)?.into_iter().collect();
        let mut uids = Uids { files, alive: BTreeSet::new(), purged: BTreeSet::new() };
        match Index::new(disk, owner, place).read() {
            Ok(history) => {
                for message in history.at(Lsn(u64::MAX)).map(|m| &m.value) {
                    let of = if message.state == State::Purged { &mut uids.purged } else { &mut uids.alive };
                    of.insert(message.uid);
                }
            }
            // What is damaged, or a crash left half written, speaks for nothing; the files do.
            Err(StoreError::Corrupt { .. } | StoreError::Foreign { .. }) => {}
            Err(e) => return Err(e),
        }
        Ok(uids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{SimDisk, create_all, parent};
    use crate::lsn::{Epoch, StoreId};
    use crate::model::message::{Flags, Message};
    use crate::partition::bodies::Body;
    use crate::partition::index::{Run, Stamped};
    use crate::partition::tree::Home;

    fn place() -> Place {
        Home::parse("=user/f6/79/=crowe~1").unwrap().mailbox(5)
    }

    /// A place with these files, and an index of these messages.
    fn lies(files: &[u32], known: &[(u32, State)]) -> SimDisk {
        let disk = SimDisk::new();
        for uid in files {
            create_all(&disk, parent(&place().message(*uid))).unwrap();
            disk.plant(&place().message(*uid), b"x").unwrap();
        }
        let body = Body::of(b"x");
        let stamped = |(uid, state): &(u32, State)| {
            let value = Message {
                uid: *uid,
                state: *state,
                flags: Flags::NONE,
                keywords: BTreeSet::new(),
                modseq: 1,
                size: body.size,
                header_size: 1,
                internal_us: 1,
                saved_us: 1,
                expunged_us: 0,
                digest: body.digest,
            };
            Stamped { lsn: Lsn(1), epoch: Epoch(1), value }
        };
        let run = Run { messages: known.iter().map(stamped).collect(), ..Run::default() };
        Index::new(&disk, StoreId([1; 16]), &place()).write_new(&run).unwrap();
        disk
    }

    // I8: bytes that lie nowhere else are not taken away because an index knows of them
    #[test]
    fn a_file_is_covered_by_a_file() {
        use State::{Live, Purged};
        let covered = |there: &SimDisk, here: &SimDisk| covers(there, here, StoreId([1; 16]).into(), &place()).unwrap();
        let here = lies(&[1], &[(1, Live)]);
        assert!(covered(&lies(&[1], &[(1, Live)]), &here));
        assert!(covered(&lies(&[], &[(1, Purged)]), &here));
        assert!(!covered(&lies(&[], &[(1, Live)]), &here), "known there, and the bytes are here alone");
        assert!(!covered(&SimDisk::new(), &here));
        assert!(covered(&lies(&[], &[(1, Live)]), &lies(&[], &[(1, Live)])), "bytes that are nowhere hold nothing up");
        assert!(!covered(&SimDisk::new(), &lies(&[], &[(1, Live)])));
        assert!(covered(&SimDisk::new(), &SimDisk::new()));
    }
}
