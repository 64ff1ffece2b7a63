//! What the log still says of messages: their states, and where their bytes stand.
//!
//! Reads all of the log that is kept, so it is for what is damaged, and for many at a time.

use crate::disk::Disk;
use crate::error::Result;
use crate::lsn::{Lsn, Micros};
use crate::model::message::{Digest, Message};
use crate::model::{BodySource, Change, LogPlace};
use crate::partition::index::Stamped;
use crate::store::Store;
use crate::wal::{self, Depth, RecordRef};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// What the log was asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    /// The states of all messages of these mailboxes.
    pub(super) mailboxes: BTreeSet<u64>,
    /// Where bytes with these digests stand.
    pub(super) digests: BTreeSet<Digest>,
}

/// What it said.
#[derive(Debug, Clone, Default)]
pub(super) struct Traced {
    /// States by mailbox, in the order of their LSNs.
    pub(super) states: BTreeMap<u64, Vec<Stamped<Message>>>,
    /// Where bytes stand.
    pub(super) bodies: BTreeMap<Digest, LogPlace>,
    /// When the oldest record was made that is kept.
    pub(super) since: Micros,
    /// Its LSN.
    pub(super) first: Lsn,
    /// No record behind that is missing or damaged.
    pub(super) is_whole: bool,
}

/// Mailboxes for which the log is read at once.
const AT_ONCE: usize = 1000;
/// Readings that are kept: threads of one run are about as far as each other.
const KEPT: usize = 2;

/// What the log says of the mailboxes of one run. It is as long for one of them as for all, so it is read for many at a time, when the
/// first of them needs it.
#[derive(Debug, Default)]
pub struct Traces {
    pieces: Vec<BTreeSet<u64>>,
    kept: Mutex<VecDeque<Kept>>,
}

/// One reading.
#[derive(Debug)]
struct Kept {
    piece: usize,
    upto: Lsn,
    traced: Arc<Traced>,
}

impl Traces {
    /// For these mailboxes, in the order in which they are looked at.
    pub fn of(mailboxes: impl IntoIterator<Item = u64>) -> Traces {
        let all: Vec<u64> = mailboxes.into_iter().collect();
        let pieces = all.chunks(AT_ONCE).map(|ids| ids.iter().copied().collect()).collect();
        Traces { pieces, kept: Mutex::default() }
    }

    /// What the log says of a mailbox up to the last checkpoint.
    ///
    /// # Errors
    /// Those of the disk.
    pub(super) fn get(&self, store: &Store, mailbox: u64) -> Result<Arc<Traced>> {
        let log = &*store.disks.log;
        let Some(piece) = self.pieces.iter().position(|ids| ids.contains(&mailbox)) else {
            let asked = Asked { mailboxes: [mailbox].into(), ..Asked::default() };
            return Ok(Arc::new(store.trace(log, &asked, store.checkpoint_lsn())?));
        };
        // Who needs it too waits for it.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let upto = store.checkpoint_lsn();
        if let Some(known) = kept.iter().find(|kept| kept.piece == piece && kept.upto == upto) {
            return Ok(known.traced.clone());
        }
        let asked = Asked { mailboxes: self.pieces[piece].clone(), ..Asked::default() };
        let traced = Arc::new(store.trace(log, &asked, upto)?);
        kept.retain(|kept| kept.piece != piece);
        kept.push_front(Kept { piece, upto, traced: traced.clone() });
        kept.truncate(KEPT);
        Ok(traced)
    }
}

impl Traced {
    fn take(&mut self, record: &RecordRef<'_>, asked: &Asked) -> Result<()> {
        if self.since.0 == 0 {
            (self.since, self.first) = (record.time, record.lsn);
        }
        if !record.is_transaction() {
            return Ok(());
        }
        record.for_each_change(&mut |change| {
            let Change::Message { of, message, body } = change else { return Ok(()) };
            let is_asked = asked.mailboxes.contains(&of.mailbox);
            if !is_asked && asked.digests.is_empty() {
                return Ok(());
            }
            // The checksums covered what the planner wrote.
            let Ok(value) = Message::decode(&message) else { return Ok(()) };
            if let (BodySource::Inline(n), true) = (&body, asked.digests.contains(&value.digest)) {
                let place = record.bodies()?.get(*n as usize).copied();
                self.bodies.extend(place.map(|place| (value.digest, place)));
            }
            if is_asked {
                let state = Stamped { lsn: record.lsn, epoch: record.epoch, value };
                self.states.entry(of.mailbox).or_default().push(state);
            }
            Ok(())
        })
    }
}

impl Store {
    /// Reads the log in `disk` (that of the store, or an archive of it) up to `upto`.
    ///
    /// # Errors
    /// Those of the disk. Damaged places are left out, see [`Traced::is_whole`].
    pub(super) fn trace(&self, disk: &dyn Disk, asked: &Asked, upto: Lsn) -> Result<Traced> {
        let survey = wal::survey(disk, self.store_id, wal::Proof::default(), Depth::All)?;
        let (mut traced, given_up) = (Traced::default(), self.partitions.past().given_up());
        // What is being written at its end looks broken, and lies behind what is asked for.
        let (mut next, mut gaps) = (None, 0u64);
        let outcome = wal::records(disk, &survey, Lsn::ZERO, upto, &mut |record| {
            gaps += u64::from(next.is_some_and(|next| next != record.lsn));
            next = Some(Lsn(record.lsn.0 + 1));
            if given_up.holds(record.lsn, record.epoch) { Ok(()) } else { traced.take(record, asked) }
        });
        traced.is_whole = outcome.is_ok() && gaps == 0 && next.is_some_and(|next| next > upto);
        if let Err(e) = outcome {
            tracing::warn!(event = "log_not_read", error = %e, "what it holds behind that is not used for a repair");
        }
        Ok(traced)
    }
}
