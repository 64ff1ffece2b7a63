//! That an adoption is due: the mark of a start that took a database which is not all that there was.
//!
//! # Format
//! `adoption-due` below the data directory: one line, `storedd adoption 1 FROM CHECKPOINT KNOWN CLEAN`: the LSN that the start reached, the LSN
//! up to which partitions were durable, the highest LSN that anything named, and 1 if the store was stopped cleanly before, else 0.
//! It is written before anything is given up, and taken away when every home was looked at; so an adoption goes on after a
//! restart.

use super::Store;
use super::back::Tally;
use super::lodgers;
use super::salvage::Salvage;
use crate::disk::{self, Disk};
use crate::error::{Result, StoreError};
use crate::lsn::Lsn;
use crate::partition::journal::Reading;
use crate::partition::tree::Home;
use crate::store::report::Finding;
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The mark, below the data directory.
const MARK: &str = "adoption-due";
const BEGINNING: &str = "storedd adoption 1 ";
const BYTES_MAX: u64 = 4096;
/// UIDs that a mailbox skips after a loss: more than may have been given and are nowhere.
pub(super) const UID_MARGIN: u32 = 1 << 16;
/// The same for its modification sequence.
pub(super) const MODSEQ_MARGIN: u64 = 1 << 16;

/// What a start knew that took a database which is not all that there was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::store) struct Loss {
    /// The LSN that it reached.
    pub(in crate::store) from: Lsn,
    /// Partitions were durable up to here.
    pub(in crate::store) checkpoint: Lsn,
    /// The highest LSN that anything named.
    pub(in crate::store) known: Lsn,
    /// The store was stopped cleanly before.
    pub(in crate::store) clean: bool,
}

/// What is left to adopt.
#[derive(Debug, Default)]
pub struct Due {
    state: Mutex<State>,
    pub(super) lodgers: lodgers::Register,
}

#[derive(Debug, Default)]
struct State {
    loss: Option<Loss>,
    salvage: Option<Arc<Salvage>>,
    begun: bool,
    /// Mailboxes whose UIDNEXT was moved.
    skipped: BTreeSet<u64>,
    done: BTreeSet<(String, Home)>,
    tally: Tally,
}

/// Notes durably that an adoption is due; one that was due before goes on from where that began.
pub(in crate::store) fn note(disk: &dyn Disk, loss: Loss) -> Result<()> {
    let loss = read(disk).map_or(loss, |before| Loss {
        from: before.from.min(loss.from),
        checkpoint: before.checkpoint.min(loss.checkpoint),
        known: before.known.max(loss.known),
        clean: before.clean && loss.clean,
    });
    let Loss { from, checkpoint, known, clean } = loss;
    let text = format!("{BEGINNING}{from} {checkpoint} {known} {}\n", u8::from(clean));
    disk::replace(disk, MARK, text.as_bytes()).map_err(|e| StoreError::io("write", disk.display(MARK), e))
}

/// Notes durably that nobody knows which numbers were given.
pub(in crate::store) fn distrust(disk: &dyn Disk) -> Result<()> {
    let before = read(disk).unwrap_or_default();
    note(disk, Loss { known: Lsn(u64::MAX), clean: false, ..before })
}

/// True if an adoption is due already, which one that is noted now goes on with.
pub(in crate::store) fn is_noted(disk: &dyn Disk) -> bool {
    read(disk).is_some()
}

fn read(disk: &dyn Disk) -> Option<Loss> {
    // One that cannot be understood says that one is due: from the beginning, and nobody knows how much was lost.
    let unknown = Loss { known: Lsn(u64::MAX), ..Loss::default() };
    match disk::read_small(disk, MARK, BYTES_MAX) {
        Ok(bytes) => Some(parse(&String::from_utf8_lossy(&bytes)).unwrap_or(unknown)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(_) => Some(unknown),
    }
}

fn parse(text: &str) -> Option<Loss> {
    let numbers: Vec<u64> = text.strip_prefix(BEGINNING)?.split_whitespace().map_while(|n| n.parse().ok()).collect();
    let [from, checkpoint, known, clean] = numbers[..] else { return None };
    Some(Loss { from: Lsn(from), checkpoint: Lsn(checkpoint), known: Lsn(known), clean: clean == 1 })
}

impl Due {
    /// What the data directory says.
    pub(in crate::store) fn of(disk: &dyn Disk) -> Due {
        let state = Mutex::new(State { loss: read(disk), ..State::default() });
        Due { state, lodgers: lodgers::Register::default() }
    }

    /// Takes what the data directory says by now.
    pub(in crate::store) fn read_again(&self, disk: &dyn Disk) {
        self.lock().loss = read(disk);
    }

    /// It was due before the start that this process made.
    pub(in crate::store) fn is_continued(&self) {
        self.lock().tally.is_continued = true;
    }

    /// The adoption brought mailboxes and messages.
    pub(super) fn brought(&self, (mailboxes, messages): (u64, u64)) {
        let mut state = self.lock();
        if state.loss.is_some() {
            state.tally.mailboxes += mailboxes;
            state.tally.messages += messages;
        }
    }

    /// How a manifest was found: if it is missing, or something of it is gone that was durable before the loss, that is noted.
    pub(super) fn read_manifest(&self, of: &str, reading: &Reading) {
        let mut state = self.lock();
        let Some(loss) = state.loss else { return };
        // Behind what was durable a crash leaves gaps.
        let durable = if loss.checkpoint == Lsn::ZERO { loss.known } else { loss.checkpoint };
        if !reading.is_there || reading.is_damaged(durable) {
            state.tally.without_manifest.insert(of.to_owned());
        }
    }

    /// What was brought so far, and of which loss; `None` if no adoption is due.
    pub(super) fn tally(&self) -> Option<(Loss, Tally, Arc<Salvage>)> {
        let mut state = self.lock();
        let loss = state.loss?;
        Some((loss, std::mem::take(&mut state.tally), state.salvage.clone().unwrap_or_default()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True while there are homes that nobody has looked at since a loss.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.lock().loss.is_some()
    }

    /// True if more UIDs of a mailbox may have been given than anybody knows, and they were not skipped yet; they are from now on, unless
    /// that is only asked.
    pub(super) fn skips(&self, mailbox: u64, only_asked: bool) -> bool {
        let mut state = self.lock();
        let Some(loss) = state.loss else { return false };
        let is_whole = loss.clean || state.salvage.as_ref().is_some_and(|log| log.leads(loss.checkpoint, loss.known));
        !is_whole && if only_asked { !state.skipped.contains(&mailbox) } else { state.skipped.insert(mailbox) }
    }

    /// True until the first checkpoint since a loss.
    pub(super) fn begins(&self) -> bool {
        let state = self.lock();
        state.loss.is_some() && !state.begun
    }

    pub(super) fn begun(&self) {
        self.lock().begun = true;
    }

    /// True of a home that was looked at.
    #[must_use]
    pub fn is_done(&self, partition: &str, home: &Home) -> bool {
        let state = self.lock();
        state.loss.is_none() || state.done.contains(&(partition.to_owned(), home.clone()))
    }

    /// A home was looked at.
    pub fn done(&self, partition: &str, home: &Home) {
        let mut state = self.lock();
        if state.loss.is_some() {
            state.done.insert((partition.to_owned(), home.clone()));
        }
    }

    /// What the log says that was set aside; nothing if no adoption is due.
    pub(super) fn salvage(&self, store: &Store) -> Result<Arc<Salvage>> {
        let mut state = self.lock();
        let Some(loss) = state.loss else { return Ok(Arc::default()) };
        if let Some(known) = &state.salvage {
            return Ok(known.clone());
        }
        let mut read = Salvage::read(
            &store.disks.log,
            store.store_id,
            store.epoch,
            loss.from,
            &store.partitions.past().given_up(),
        )?;
        read.piece = (store.piece(), store.piece_bytes() as u64);
        let read = Arc::new(read);
        if !read.is_empty() {
            tracing::info!(
                event = "log_salvaged",
                mailboxes = read.mailboxes.len(),
                with_messages = read.messages.len()
            );
        }
        state.salvage = Some(read.clone());
        Ok(read)
    }
}

impl Store {
    /// What is left to adopt.
    #[must_use]
    pub fn due(&self) -> &Due {
        &self.due
    }

    /// Every home was looked at: no adoption is due any more. What was adopted is made durable in the database first. `findings`: what could
    /// not be proven, the first of `total`.
    ///
    /// # Errors
    /// Those of the disk; the adoption is then still due.
    pub fn adoption_done(&self, findings: &[Finding], total: u64) -> Result<()> {
        if !self.due.is_due() {
            return Ok(());
        }
        self.checkpoint()?;
        self.tell_what_came_back(findings, total);
        let disk = &*self.disks.data;
        match disk.remove(MARK) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("remove", disk.display(MARK), e));
            }
            _ => {}
        }
        disk.sync_dir("").map_err(|e| StoreError::io("sync", disk.display(MARK), e))?;
        *self.due.lock() = State::default();
        self.due.lodgers.clear();
        Ok(())
    }
}
