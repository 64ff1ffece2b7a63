//! Which partitions the database has, written down beside it: when it is lost, they are known all the same, also those whose disks are
//! not mounted just then. One that is known is never made anew, and never forgotten.
//!
//! # Format
//! `dbdata/partitions` in the data directory, text sealed with a checksum ([`crate::sealed`]), a line for each partition: name, identity
//! (32 hexadecimal digits), and where it lies if the configuration did not say that; behind it one for its message files, if they have
//! a root of their own:
//! ```text
//! storedd-partitions 1
//! store 0123456789abcdef0123456789abcdef
//! partition archive 00112233445566778899aabbccddeeff /srv/mail2/storedd
//! messages archive /srv/mail3/storedd
//! partition primary ffeeddccbbaa99887766554433221100
//! crc 01234567
//! ```
//!
//! # Operation
//! A checkpoint writes it before the database's commit ([`Partitions::enrol`]), if anything in it has changed. It is read by a start
//! ([`read`]). It repeats what stands elsewhere: where it cannot be read or written that is said, and nothing stops for it.

use super::{PartitionId, Partitions};
use crate::disk::{self, Disk};
use crate::error::{Result, StoreError};
use crate::lsn::StoreId;
use crate::sealed::{self, Lines};
use crate::site::Site;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};

/// Name of the file, below the data directory.
pub const FILE: &str = "dbdata/partitions";
const KIND: &str = "storedd-partitions";
const BYTES_MAX: u64 = 4 << 20;

/// A partition that the database had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// Its identity.
    pub id: PartitionId,
    /// Where it lay, if the configuration did not say that.
    pub site: Option<Site>,
}

/// Partitions by name.
pub type Roll = BTreeMap<String, Enrolled>;

/// What the file says; nothing if there is none, or one of another store, as a restore leaves it.
///
/// # Errors
/// [`StoreError::Corrupt`] or [`StoreError::Foreign`] if it cannot be understood, or those of the disk.
pub fn read(data: &dyn Disk, store: StoreId) -> Result<Roll> {
    let bytes = match disk::read_small(data, FILE, BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Roll::new()),
        Err(e) => return Err(StoreError::io("read", data.display(FILE), e)),
    };
    let shown = data.display(FILE);
    let mut lines = Lines::open(KIND, &bytes, &shown)?;
    let mut roll = Roll::new();
    if lines.store()? != store {
        return Ok(roll);
    }
    while let Some(line) = lines.next() {
        let known = match line.strip_prefix("messages ") {
            Some(second) => also(&mut roll, second),
            None => parse(line).map(|one| roll.extend([one])),
        };
        known.ok_or_else(|| lines.wrong("partition"))?;
    }
    Ok(roll)
}

fn parse(line: &str) -> Option<(String, Enrolled)> {
    let mut words = line.strip_prefix("partition ")?.splitn(3, ' ');
    let (name, id) = (words.next()?, PartitionId::parse(words.next()?)?);
    let site = words.next().map(Site::from);
    site.as_ref().is_none_or(|site| site.path.is_absolute()).then(|| (name.to_owned(), Enrolled { id, site }))
}

/// The second root of a partition that was read already.
fn also(roll: &mut Roll, line: &str) -> Option<()> {
    let (name, path) = line.split_once(' ')?;
    let site = roll.get_mut(name)?.site.as_mut()?;
    site.messages = Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    site.messages.as_ref().map(drop)
}

fn text(store: StoreId, roll: &Roll) -> String {
    // A path that no line can hold is found as long as `partitions.toml` has it.
    let fits = |path: &Path| path.to_str().is_some_and(|path| !path.contains('\n'));
    let line = |(name, of): (&String, &Enrolled)| {
        let site = of.site.as_ref().filter(|site| site.roots().all(fits));
        let path = site.map(|site| format!(" {}", site.path.display())).unwrap_or_default();
        let second = site.and_then(|site| site.messages.as_ref());
        let second = second.map(|path| format!("messages {name} {}\n", path.display())).unwrap_or_default();
        format!("partition {name} {}{path}\n{second}", of.id)
    };
    std::iter::once(format!("store {store}\n")).chain(roll.iter().map(line)).collect()
}

/// What the file says, and what is so.
#[derive(Debug, Default)]
pub(super) struct Register {
    noted: Roll,
    now: Roll,
}

impl Partitions {
    fn roll(&self) -> MutexGuard<'_, Register> {
        self.roll.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The partitions that the database had when that was noted last, but for those that were taken out of it since.
    #[must_use]
    pub fn enrolled(&self) -> Roll {
        self.roll().now.clone()
    }

    /// Takes over what the file said.
    pub fn recall(&self, roll: Roll) {
        *self.roll() = Register { noted: roll.clone(), now: roll };
    }

    /// A partition was taken out of the store: it is known no more, what it lacks nobody needs, and no log is kept for it. Its directory stays
    /// as it is.
    pub fn forget(&self, name: &str) {
        self.remove(name);
        self.roll().now.remove(name);
        self.lacks_nothing(name);
    }

    /// Makes the file say what is so, durably.
    ///
    /// # Errors
    /// Those of the disk; the file then says what it said, or what it should.
    pub fn enrol(&self, data: &dyn Disk, roll: Roll) -> Result<()> {
        let before = {
            let register = self.roll();
            if register.noted == roll {
                return Ok(());
            }
            register.now.clone()
        };
        let fail = |e| StoreError::io("write", data.display(FILE), e);
        disk::create_all(data, disk::parent(FILE)).map_err(fail)?;
        disk::replace(data, FILE, &sealed::seal(KIND, &text(self.store_id, &roll))).map_err(fail)?;
        data.sync_dir("").map_err(fail)?;
        let mut register = self.roll();
        let left = |name: &String| before.contains_key(name) && !register.now.contains_key(name);
        let now = roll.iter().filter(|(name, _)| !left(name)).map(|(name, of)| (name.clone(), of.clone())).collect();
        *register = Register { noted: roll, now };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Persist, SimDisk};
    use crate::partition::RealRoots;
    use std::sync::Arc;

    fn roll() -> Roll {
        let of = |n, site: Option<Site>| Enrolled { id: PartitionId([n; 16]), site };
        let split = Site { path: "/z".into(), messages: Some("/disk b/z".into()) };
        [("primary", of(1, None)), ("far", of(2, Some("/srv/mail two/x".into()))), ("z", of(255, Some(split)))]
            .map(|(name, of)| (name.to_owned(), of))
            .into()
    }

    // row 113
    #[test]
    fn what_is_written_is_read_and_damage_is_said() {
        let machine = SimDisk::new();
        let store = StoreId([7; 16]);
        let partitions = Partitions::new(Arc::new(RealRoots), store);
        partitions.enrol(&machine.disk("data"), roll()).unwrap();
        let golden = "storedd-partitions 1\nstore 07070707070707070707070707070707\n\
            partition far 02020202020202020202020202020202 /srv/mail two/x\n\
            partition primary 01010101010101010101010101010101\n\
            partition z ffffffffffffffffffffffffffffffff /z\nmessages z /disk b/z\ncrc ";
        let bytes = disk::read_small(&machine.disk("data"), FILE, BYTES_MAX).unwrap();
        assert!(String::from_utf8(bytes.clone()).unwrap().starts_with(golden));
        assert_eq!(read(&machine.disk("data"), store).unwrap(), roll());
        assert_eq!(read(&machine.disk("data"), StoreId([8; 16])).unwrap(), Roll::new());
        let ops = machine.ops();
        partitions.enrol(&machine.disk("data"), roll()).unwrap();
        assert_eq!(machine.ops(), ops, "nothing has changed, nothing is written");
        for at in 0..bytes.len() as u64 {
            machine.disk("data").damage(FILE, at, 1).unwrap();
            let found = read(&machine.disk("data"), store);
            assert!(matches!(found, Err(StoreError::Corrupt { .. })), "byte {at}: {found:?}");
            machine.disk("data").damage(FILE, at, 1).unwrap();
        }
    }

    #[test]
    fn a_crash_leaves_the_old_or_the_new() {
        let store = StoreId([7; 16]);
        let old: Roll = roll().into_iter().take(1).collect();
        for n in 1.. {
            let machine = SimDisk::new();
            let partitions = Partitions::new(Arc::new(RealRoots), store);
            partitions.enrol(&machine.disk("data"), old.clone()).unwrap();
            let machine = machine.image(Persist::Nothing);
            machine.crash_at(machine.ops() + n);
            partitions.recall(old.clone());
            let done = partitions.enrol(&machine.disk("data"), roll()).is_ok();
            let found = read(&machine.image(Persist::Nothing).disk("data"), store).unwrap();
            assert!(found == roll() || (found == old && !done), "operation {n}: {found:?}");
            if done {
                break;
            }
        }
    }
}
