//! What has to be known of a store's past to read what lies in its partitions: which history was given up, and which moments somebody
//! may still go back to.
//!
//! # Purpose
//! A store that goes back to a point on purpose gives up what came behind it. Indexes and manifests hold frames of that, and a frame is
//! never changed. But each carries the LSN and the epoch of the record that made it, so that it is judged when it is read: who goes
//! back writes no partition, and one that is away meanwhile needs nothing.
//!
//! # Format
//! `given-up` in the data directory, and a copy of it in the root of each partition; text sealed with a checksum ([`crate::sealed`]):
//! ```text
//! storedd-given-up 1
//! store 0123456789abcdef0123456789abcdef
//! stretch 3 2 4711
//! crc 01234567
//! ```
//! With epoch 3 history went on behind LSN 4711 of epoch 2: what lies behind that LSN and is of an older epoch than 3 does not count.
//!
//! # Operation
//! A stretch is noted before the epoch begins; as long as that has not begun it says nothing ([`Past::learn`]), so a crash in between
//! leaves the store as it was. A history that was *lost* is not given up: what partitions hold of it is brought back.
//!
//! # Invariants
//! * LSNs are never given again (I3), epochs neither once they have begun: so a frame is of one history only.
//! * Of two stretches of which one holds all of the other the smaller goes, with the next that is noted: the file does not grow with the
//!   number of times that somebody went back to the same days.

use super::Partitions;
use super::identity::Applied;
use crate::disk::{self, Disk};
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn, StoreId};
use crate::sealed::{self, Lines};
use std::fmt::Write;
use std::io;
use std::sync::{PoisonError, RwLock};

/// Name of the file.
pub const FILE: &str = "given-up";
const KIND: &str = "storedd-given-up";
const BYTES_MAX: u64 = 1 << 20;

/// History that was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The epoch with which history went on.
    pub began: Epoch,
    /// Where it went on: what is older than that epoch and lies behind this does not count.
    pub behind: Applied,
}

impl Stretch {
    fn holds(&self, lsn: Lsn, epoch: Epoch) -> bool {
        epoch < self.began && lsn > self.behind.lsn
    }
}

/// All of it, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GivenUp(Vec<Stretch>);

impl GivenUp {
    /// Nothing was given up.
    pub const NOTHING: GivenUp = GivenUp(Vec::new());

    /// True if that is so.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.0.is_empty()
    }

    /// True of what is of a history that was given up.
    #[must_use]
    pub fn holds(&self, lsn: Lsn, epoch: Epoch) -> bool {
        self.0.iter().any(|stretch| stretch.holds(lsn, epoch))
    }

    /// The moment up to which a state counts that was of this moment.
    #[must_use]
    pub fn counts_up_to(&self, applied: Applied) -> Applied {
        let cut = self.0.iter().filter(|stretch| stretch.holds(applied.lsn, applied.epoch));
        cut.map(|stretch| stretch.behind).min_by_key(|behind| behind.lsn).unwrap_or(applied)
    }

    /// With one that is to begin; what was noted for an epoch that never began goes. The others stay as they are: until this one has
    /// begun they are needed.
    #[must_use]
    pub fn and(self, stretch: Stretch) -> GivenUp {
        let before = Epoch(stretch.began.0.saturating_sub(1));
        let mut all = self.begun(before).joined();
        all.0.push(stretch);
        all
    }

    /// Without what was noted for epochs that have not begun.
    #[must_use]
    pub fn begun(mut self, epoch: Epoch) -> GivenUp {
        self.0.retain(|stretch| stretch.began <= epoch);
        self
    }

    /// What both say, of epochs that have begun.
    #[must_use]
    pub fn join(mut self, other: GivenUp) -> GivenUp {
        self.0.extend(other.0);
        self.joined()
    }

    fn joined(mut self) -> GivenUp {
        self.0.sort_by_key(|stretch| (stretch.began, std::cmp::Reverse(stretch.behind.lsn)));
        let mut joined: Vec<Stretch> = Vec::with_capacity(self.0.len());
        for stretch in self.0 {
            joined.retain(|known| known.behind.lsn < stretch.behind.lsn);
            joined.push(stretch);
        }
        GivenUp(joined)
    }

    /// Reads the file of a data directory or of a partition's root; `None`: there is none.
    ///
    /// # Errors
    /// [`StoreError::Foreign`] for another store's or a newer program's, [`StoreError::Corrupt`] for one that is not as written,
    /// those of the disk.
    pub fn read(disk: &dyn Disk, store: StoreId) -> Result<Option<GivenUp>> {
        match disk::read_small(disk, FILE, BYTES_MAX) {
            Ok(bytes) => GivenUp::parse(&bytes, &disk.display(FILE), store).map(Some),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(StoreError::io("read", disk.display(FILE), e)),
        }
    }

    /// Writes the file, durably.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn write(&self, disk: &dyn Disk, store: StoreId) -> Result<()> {
        let bytes = sealed::seal(KIND, &self.text(store));
        disk::replace(disk, FILE, &bytes).map_err(|e| StoreError::io("write", disk.display(FILE), e))
    }

    fn text(&self, store: StoreId) -> String {
        let mut text = format!("store {store}\n");
        for Stretch { began, behind } in &self.0 {
            // A string takes everything.
            let _ = writeln!(text, "stretch {began} {} {}", behind.epoch, behind.lsn);
        }
        text
    }

    fn parse(bytes: &[u8], file: &str, store: StoreId) -> Result<GivenUp> {
        let mut lines = Lines::open(KIND, bytes, file)?;
        let found = lines.store()?;
        if found != store {
            let (found, expected) = (found.to_string(), store.to_string());
            return Err(StoreError::Foreign { file: file.to_owned(), what: "store id", found, expected });
        }
        let mut all = GivenUp::NOTHING;
        while let Some(line) = lines.next() {
            let numbers = line.strip_prefix("stretch ").unwrap_or_default().split(' ').map(|word| word.parse().ok());
            let [Some(began), Some(epoch), Some(lsn)] = numbers.collect::<Vec<Option<u64>>>()[..] else {
                return Err(lines.wrong("stretch"));
            };
            let behind = Applied { epoch: Epoch(epoch), lsn: Lsn(lsn) };
            all.0.push(Stretch { began: Epoch(began), behind });
        }
        Ok(all)
    }
}

/// What is known of a store's past at present.
#[derive(Debug, Default)]
pub struct Past {
    given_up: RwLock<GivenUp>,
    /// In order; `None`: nobody knows yet.
    moments: RwLock<Option<Vec<Lsn>>>,
}

#[cfg(test)]
static UNTOLD: Past = Past::nothing();

impl Past {
    #[cfg(test)]
    const fn nothing() -> Past {
        Past { given_up: RwLock::new(GivenUp::NOTHING), moments: RwLock::new(Some(Vec::new())) }
    }

    /// What was given up.
    #[must_use]
    pub fn given_up(&self) -> GivenUp {
        self.given_up.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on this counts, of a store that is in `epoch`.
    pub fn learn(&self, given_up: GivenUp, epoch: Epoch) {
        *self.given_up.write().unwrap_or_else(PoisonError::into_inner) = given_up.begun(epoch);
    }

    /// LSNs of databases that may take the place of the one there is: what a mailbox showed then, its index goes on showing. `None`: nobody
    /// knows yet which there are.
    #[must_use]
    pub fn moments(&self) -> Option<Vec<Lsn>> {
        self.moments.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on these are kept; `None`: nobody knows which, and all are.
    pub fn keep(&self, moments: impl Into<Option<Vec<Lsn>>>) {
        let mut moments = moments.into();
        if let Some(moments) = &mut moments {
            moments.sort_unstable();
            moments.dedup();
        }
        *self.moments.write().unwrap_or_else(PoisonError::into_inner) = moments;
    }
}

/// Whose a partition is, and what is to be known of that store to read it.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'p> {
    /// The store.
    pub store: StoreId,
    /// Its past.
    pub past: &'p Past,
}

#[cfg(test)]
impl From<StoreId> for Owner<'_> {
    /// A store that never went back, and keeps no moments.
    fn from(store: StoreId) -> Self {
        Owner { store, past: &UNTOLD }
    }
}

impl Partitions {
    /// What is known of the past of that store.
    #[must_use]
    pub fn past(&self) -> &Past {
        &self.past
    }

    /// Both, for who reads what lies in them.
    #[must_use]
    pub fn owner(&self) -> Owner<'_> {
        Owner { store: self.store_id, past: &self.past }
    }

    /// Has the root of a partition say which history was given up: who has nothing but the partition reads it there.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn tell(&self, name: &str, disk: &dyn Disk) -> Result<()> {
        let given_up = self.past.given_up();
        let Some(partition) = self.find(name).filter(|_| !given_up.is_nothing()) else { return Ok(()) };
        if partition.inner().told.as_ref() == Some(&given_up) {
            return Ok(());
        }
        match GivenUp::read(disk, self.store_id) {
            Ok(Some(said)) if said == given_up => {}
            Ok(_) | Err(StoreError::Corrupt { .. }) => given_up.write(disk, self.store_id)?,
            Err(e) => return Err(e),
        }
        partition.inner().told = Some(given_up);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = StoreId([7; 16]);

    fn stretch(began: u64, epoch: u64, lsn: u64) -> Stretch {
        Stretch { began: Epoch(began), behind: Applied { epoch: Epoch(epoch), lsn: Lsn(lsn) } }
    }

    #[test]
    fn what_was_given_up_is_told_by_lsn_and_epoch() {
        let all = GivenUp::NOTHING.and(stretch(1, 0, 100)).and(stretch(2, 1, 1_000_010));
        for (lsn, epoch, given_up) in [
            (100, 0, false),
            (101, 0, true),
            (1_000_000, 1, false),
            (1_000_010, 1, false),
            (1_000_011, 1, true),
            (2_000_000, 2, false),
        ] {
            assert_eq!(all.holds(Lsn(lsn), Epoch(epoch)), given_up, "LSN {lsn} of epoch {epoch}");
        }
        // Back behind the first: what that gave up, and more, is in the new one.
        let all = all.and(stretch(3, 0, 50));
        assert!(all.holds(Lsn(1_000_005), Epoch(1)) && all.holds(Lsn(51), Epoch(0)) && !all.holds(Lsn(50), Epoch(0)));
        let at = |epoch, lsn| Applied { epoch: Epoch(epoch), lsn: Lsn(lsn) };
        assert_eq!(all.counts_up_to(at(1, 1_000_005)), at(0, 50));
        assert_eq!(all.counts_up_to(at(0, 40)), at(0, 40));
        assert_eq!(all.counts_up_to(at(3, 3_000_000)), at(3, 3_000_000));
        assert_eq!(all.and(stretch(4, 0, 20)), GivenUp(vec![stretch(3, 0, 50), stretch(4, 0, 20)]));
    }

    #[test]
    fn an_epoch_that_never_began_says_nothing() {
        let noted = GivenUp::NOTHING.and(stretch(1, 0, 100)).and(stretch(2, 1, 1_000_010));
        assert_eq!(noted.clone().begun(Epoch(1)), GivenUp(vec![stretch(1, 0, 100)]));
        // The next attempt goes elsewhere.
        let again = noted.and(stretch(2, 1, 1_000_020));
        assert_eq!(again, GivenUp(vec![stretch(1, 0, 100), stretch(2, 1, 1_000_020)]));
        let past = Past::default();
        past.learn(again, Epoch(1));
        assert!(past.given_up().holds(Lsn(101), Epoch(0)) && !past.given_up().holds(Lsn(1_000_021), Epoch(1)));
    }

    #[test]
    fn two_that_differ_are_joined() {
        let one = GivenUp(vec![stretch(1, 0, 100), stretch(2, 1, 200)]);
        let other = GivenUp(vec![stretch(3, 0, 150)]);
        let joined = GivenUp(vec![stretch(1, 0, 100), stretch(3, 0, 150)]);
        assert_eq!(one.clone().join(other.clone()), joined);
        assert_eq!(other.join(one.clone()), joined);
        assert_eq!(one.clone().join(one.clone()), one);
    }

    #[test]
    fn golden_bytes_and_every_flip() {
        let all = GivenUp(vec![stretch(3, 2, 4711)]);
        let bytes = sealed::seal(KIND, &all.text(STORE));
        let text = "storedd-given-up 1\nstore 07070707070707070707070707070707\nstretch 3 2 4711\ncrc ";
        assert!(String::from_utf8_lossy(&bytes).starts_with(text));
        assert_eq!(GivenUp::parse(&bytes, "f", STORE).unwrap(), all);
        assert!(matches!(GivenUp::parse(&bytes, "f", StoreId([8; 16])), Err(StoreError::Foreign { .. })));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(GivenUp::parse(&bad, "f", STORE).is_err(), "byte {at}");
        }
        for bad in ["stretch 1 2", "stretch 1 2 x", "stretch 1 2 3 4", "all"] {
            let text = format!("store {STORE}\n{bad}\n");
            assert!(GivenUp::parse(&sealed::seal(KIND, &text), "f", STORE).is_err(), "{bad}");
        }
    }
}
