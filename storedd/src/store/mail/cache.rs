//! Indexes that were read, so that who asks for one message after the other does not read all of them each time.
//!
//! # Operation
//! An index is kept decoded, with the stamp that the file system gave its file before and after it was read. Who asks for it again has the
//! stamp compared: one look at a name instead of reading the file. A file that was written to, by a checkpoint, a repair or by hand, has
//! another stamp, and is read again. So nobody is served what the file does not hold; only what a disk does to bytes by itself shows no
//! sooner than at the next reading, and whoever looks for that (`check`, the scrub, repairs, checkpoints) reads files and never this.
//!
//! # Invariants
//! * Only an index that is whole is kept: one with damage is read, and found damaged, each time.
//! * A file that was written to a moment ago is not believed to stay as it is: times have the grain of a clock.
//! * What is served for one message was held against the mailbox's row at the same checkpoint first ([`Loaded::is_proven`]).
//! * So many bytes are held at the most; what was asked for longest ago goes first.

use crate::disk::{Disk, Stamp};
use crate::error::Result;
use crate::lsn::{Lsn, Micros};
use crate::model::Usage;
use crate::model::message::Message;
use crate::model::rows::MailboxRow;
use crate::partition::Owner;
use crate::partition::index::{History, Index, Stamped};
use crate::partition::tree::Place;
use crate::store::commit::lock;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// How long a file must have been at rest, in nanoseconds: many times the grain of the clock of any kernel.
const AT_REST_NS: i128 = 100_000_000;
/// Bytes of an index without messages, about.
const OVERHEAD: usize = 1024;

/// An index as it was read.
#[derive(Debug, Default)]
pub(in crate::store) struct Loaded {
    pub(super) history: History,
    /// What its messages add up to at one moment, asked for again and again.
    summed: Mutex<Option<Summed>>,
}

#[derive(Debug, Clone, Copy)]
struct Summed {
    upto: Lsn,
    usage: Usage,
    modseq: u64,
}

impl Loaded {
    /// The state of a message at a moment.
    pub(super) fn message(&self, uid: u32, upto: Lsn) -> Option<&Message> {
        self.history.state(uid, upto).map(|state| &state.value)
    }

    /// True if it has everything up to a checkpoint, at which the mailbox's row was `settled`.
    pub(super) fn is_proven(&self, upto: Lsn, settled: &MailboxRow) -> bool {
        let mut summed = lock(&self.summed);
        let Summed { usage, modseq, .. } = match *summed {
            Some(known) if known.upto == upto => known,
            _ => {
                let live = self.history.at(upto).map(|m| &m.value).filter(|m| m.is_live());
                let usage = live.fold(Usage::default(), |sum, m| sum.plus(Usage { bytes: m.size, messages: 1 }));
                *summed.insert(Summed { upto, usage, modseq: self.history.highest_modseq(upto) })
            }
        };
        self.history.reading.is_whole() && modseq >= settled.highest_modseq && usage == settled.usage()
    }

    /// Bytes of memory, about.
    fn weight(&self) -> usize {
        let keywords = |m: &Stamped<Message>| m.value.keywords.iter().map(|word| word.len() + 64).sum::<usize>();
        let messages = &self.history.messages;
        OVERHEAD + std::mem::size_of_val(&messages[..]) + messages.iter().map(keywords).sum::<usize>()
    }
}

#[derive(Debug)]
struct Kept {
    partition: String,
    stamp: Stamp,
    loaded: Arc<Loaded>,
    weight: usize,
    /// When it was asked for last, counted in askings.
    used: u64,
}

#[derive(Debug, Default)]
struct State {
    kept: HashMap<u64, Kept>,
    /// Mailboxes by when they were asked for.
    order: BTreeMap<u64, u64>,
    weight: usize,
    asked: u64,
}

impl State {
    fn find(&mut self, id: u64, partition: &str, stamp: Stamp) -> Option<Arc<Loaded>> {
        self.asked += 1;
        let kept = self.kept.get_mut(&id)?;
        if kept.stamp != stamp || kept.partition != partition {
            self.forget(id);
            return None;
        }
        self.order.remove(&kept.used);
        kept.used = self.asked;
        self.order.insert(kept.used, id);
        Some(kept.loaded.clone())
    }

    fn keep(&mut self, id: u64, kept: Kept, most: usize) {
        self.forget(id);
        self.asked += 1;
        self.weight += kept.weight;
        self.order.insert(self.asked, id);
        self.kept.insert(id, Kept { used: self.asked, ..kept });
        while self.weight > most
            && let Some((_, oldest)) = self.order.first_key_value()
        {
            self.forget(*oldest);
        }
    }

    fn forget(&mut self, id: u64) {
        if let Some(gone) = self.kept.remove(&id) {
            self.order.remove(&gone.used);
            self.weight -= gone.weight;
        }
    }
}

/// See the page.
#[derive(Debug, Default)]
pub(in crate::store) struct Indexes {
    most: usize,
    state: Mutex<State>,
    found: AtomicU64,
    read: AtomicU64,
}

/// What the indexes in memory come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IndexesHeld {
    /// Bytes of memory, about.
    pub bytes: u64,
    /// How often one was found.
    pub found: u64,
    /// How often one was read.
    pub read: u64,
}

impl Indexes {
    /// At most so many bytes.
    pub(in crate::store) fn new(most: usize) -> Indexes {
        Indexes { most, ..Indexes::default() }
    }

    pub(in crate::store) fn held(&self) -> IndexesHeld {
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let bytes = lock(&self.state).weight as u64;
        IndexesHeld { bytes, found: load(&self.found), read: load(&self.read) }
    }

    /// The index of a mailbox.
    ///
    /// # Errors
    /// As [`Index::read`].
    pub(super) fn load(
        &self,
        (partition, disk): (&str, &dyn Disk),
        owner: Owner<'_>,
        place: &Place,
        now: Micros,
    ) -> Result<Arc<Loaded>> {
        // Where nothing tells whether a file was written to, it is read.
        let stamp = || disk.stamp(&place.index()).ok().flatten();
        let before = stamp();
        if let Some(loaded) = before.and_then(|stamp| lock(&self.state).find(place.id, partition, stamp)) {
            self.found.fetch_add(1, Ordering::Relaxed);
            return Ok(loaded);
        }
        self.read.fetch_add(1, Ordering::Relaxed);
        let history = Index::new(disk, owner, place).read()?;
        let loaded = Arc::new(Loaded { history, summed: Mutex::default() });
        if let Some(stamp) = before.filter(|before| stamp() == Some(*before) && is_at_rest(*before, now))
            && loaded.history.reading.is_whole()
        {
            let (partition, weight) = (partition.to_owned(), loaded.weight());
            if weight <= self.most {
                let kept = Kept { partition, stamp, loaded: loaded.clone(), weight, used: 0 };
                lock(&self.state).keep(place.id, kept, self.most);
            }
        }
        Ok(loaded)
    }
}

fn is_at_rest(stamp: Stamp, now: Micros) -> bool {
    i128::from(now.0) * 1000 - stamp.changed.max(stamp.modified) >= AT_REST_NS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Access, RealDisk, create_all};
    use crate::lsn::{Epoch, StoreId};
    use crate::model::message::{Digest, Flags, State as MessageState};
    use crate::partition::index::Run;
    use crate::partition::tree::Home;
    use std::collections::BTreeSet;

    const STORE: StoreId = StoreId([5; 16]);
    const LATER: Micros = Micros(u64::MAX / 2000);

    fn run(uids: std::ops::RangeInclusive<u32>, lsn: u64) -> Run {
        let message = |uid| Message {
            uid,
            state: MessageState::Live,
            flags: Flags::NONE,
            keywords: BTreeSet::new(),
            modseq: lsn,
            size: 10,
            header_size: 2,
            internal_us: 1,
            saved_us: 1,
            expunged_us: 0,
            digest: Digest::default(),
        };
        let stamped = |uid| Stamped { lsn: Lsn(lsn), epoch: Epoch(0), value: message(uid) };
        Run { head: None, messages: uids.map(stamped).collect() }
    }

    fn settled(messages: u64, highest_modseq: u64) -> MailboxRow {
        MailboxRow {
            id: 7,
            partition: "p".to_owned(),
            uidvalidity: 1,
            uidnext: 1000,
            highest_modseq,
            messages,
            bytes: 10 * messages,
            unseen: 0,
            created_us: 1,
            home: None,
            acl: Default::default(),
        }
    }

    #[test]
    fn what_is_served_is_what_the_file_holds() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(dir.path()).unwrap();
        let place = Home::parse("=shared").unwrap().mailbox(7);
        create_all(&disk, &place.path()).unwrap();
        let indexes = Indexes::new(1 << 20);
        let load = |now| indexes.load(("p", &disk), STORE.into(), &place, now).unwrap();
        let counts = || (indexes.held().found, indexes.held().read);
        Index::new(&disk, STORE, &place).write_new(&run(1..=3, 5)).unwrap();
        // Written a moment ago, as far as the clock tells.
        load(Micros(0));
        load(LATER);
        assert_eq!(counts(), (0, 2));
        let kept = load(LATER);
        assert_eq!(counts(), (1, 2));
        assert!(kept.is_proven(Lsn(5), &settled(3, 5)) && !kept.is_proven(Lsn(5), &settled(4, 5)));
        assert!(!kept.is_proven(Lsn(5), &settled(3, 6)) && !kept.is_proven(Lsn(4), &settled(3, 5)));
        assert_eq!(kept.message(2, Lsn(5)).unwrap().uid, 2);
        assert!(kept.message(2, Lsn(4)).is_none() && kept.message(4, Lsn(5)).is_none());
        // Another partition of the same name is another file; so is one that grew.
        indexes.load(("q", &disk), STORE.into(), &place, LATER).unwrap();
        Index::new(&disk, STORE, &place).write(&run(2..=4, 6)).unwrap();
        let grown = load(LATER);
        assert_eq!(counts(), (1, 4));
        assert_eq!((grown.message(2, Lsn(6)).unwrap().modseq, grown.message(2, Lsn(5)).unwrap().modseq), (6, 5));
        assert!(grown.is_proven(Lsn(6), &settled(4, 6)) && grown.is_proven(Lsn(5), &settled(3, 5)));
        // A bit that somebody flips is found, and what is damaged is never kept.
        let file = disk.open(&place.index(), Access::Write).unwrap();
        let mut byte = [0];
        file.read_at(200, &mut byte).unwrap();
        file.write_at(200, &[byte[0] ^ 1]).unwrap();
        for _ in 0..2 {
            assert!(!load(LATER).history.reading.is_whole());
        }
        assert_eq!(counts(), (1, 6));
        assert_eq!(indexes.held().bytes, 0);
    }

    #[test]
    fn no_more_is_held_than_is_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(dir.path()).unwrap();
        let place = |id| Home::parse("=shared").unwrap().mailbox(id);
        for id in 1..=4 {
            create_all(&disk, &place(id).path()).unwrap();
            Index::new(&disk, STORE, &place(id)).write_new(&run(1..=10, 5)).unwrap();
        }
        let indexes = Indexes::new(8192);
        let load = |id| drop(indexes.load(("p", &disk), STORE.into(), &place(id), LATER).unwrap());
        load(1);
        let one = indexes.held().bytes;
        assert!((1500..4000).contains(&one), "{one}");
        for id in [2, 1, 3, 4, 1] {
            load(id);
            assert!(indexes.held().bytes <= 8192);
        }
        // 1 was asked for all the time, 2 longest ago.
        assert_eq!((indexes.held().found, indexes.held().read), (2, 4));
        load(2);
        assert_eq!(indexes.held().read, 5);
        let none = Indexes::new(0);
        none.load(("p", &disk), STORE.into(), &place(1), LATER).unwrap();
        assert_eq!(none.held().bytes, 0);
    }
}
