//! What records say that the database does not have: the log that a start has set aside, because the database from which it leads
//! on was lost, or something in front of it.

use crate::disk::{Access, Below, Disk};
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn, StoreId};
use crate::model::keys::{id_of, split};
use crate::model::message::Message;
use crate::model::name::owner_of;
use crate::model::rows::{MailboxRow, Row, TombstoneRow, UserView};
use crate::model::user::SHARED_DIRECTORY;
use crate::model::{BodySource, Change, Folder, LogPlace, Table};
use crate::partition::GivenUp;
use crate::partition::bodies::Body;
use crate::partition::index::Stamped;
use crate::partition::manifest::MirroredRows;
use crate::partition::tree::Place;
use crate::wal::{self, QUARANTINE, RecordRef};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a record says of a mailbox.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) key: Vec<u8>,
    pub(super) row: MailboxRow,
    pub(super) deleted_us: u64,
}

/// Where the bytes of a message are that came with a record.
#[derive(Debug, Clone)]
pub(super) enum Bytes {
    Logged { file: String, at: LogPlace },
    Staged { partition: String, number: u64 },
    Copy { of: Folder<'static>, uid: u32 },
}

/// The newest that the records say of everything.
#[derive(Debug, Default)]
pub(super) struct Salvage {
    log: Option<Arc<dyn Disk>>,
    /// Messages, and bytes of them, that one transaction can bring.
    pub(super) piece: (usize, u64),
    /// Users, limits, subscriptions, past names.
    pub(super) rows: MirroredRows,
    /// `None`: the mailbox is gone for good.
    pub(super) mailboxes: BTreeMap<u64, Stamped<Option<Said>>>,
    pub(super) messages: BTreeMap<u64, BTreeMap<u32, Stamped<Message>>>,
    bodies: BTreeMap<(u64, u32), Bytes>,
    /// First and last LSN of what was read without a gap, in order when all was read.
    stretches: Vec<(Lsn, Lsn)>,
    /// Where mailboxes lie, by partition and home.
    folders: BTreeMap<(String, String), BTreeSet<u64>>,
    /// Mailboxes that lie in the directory of their owner, by partition and owner; none for shared ones.
    owned: BTreeMap<(String, Option<String>), BTreeSet<u64>>,
}

/// Keeps what was said last. Whole segments are read before rests, so not in the order in which it was said.
fn keep_newest<K: Ord, V>(known: &mut BTreeMap<K, Stamped<V>>, key: K, said: Stamped<V>) {
    if known.get(&key).is_none_or(|known| known.lsn <= said.lsn) {
        known.insert(key, said);
    }
}

impl Salvage {
    /// Reads the records behind `from` that lie in the quarantine of a log. What a person gave up is evidence of nothing.
    pub(super) fn read(
        log: &Arc<dyn Disk>,
        store: StoreId,
        newest: Epoch,
        from: Lsn,
        given_up: &GivenUp,
    ) -> Result<Salvage> {
        let kept: Arc<dyn Disk> = Arc::new(Below::new(log.clone(), QUARANTINE));
        let mut salvage = Salvage { log: Some(kept.clone()), ..Salvage::default() };
        match kept.list("") {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(salvage),
            Err(e) => return Err(StoreError::io("list", kept.display(""), e)),
            Ok(_) => {}
        }
        let survey = wal::survey(&*kept, store, wal::Proof::default(), wal::Depth::All)?;
        let each = &mut |record: &RecordRef<'_>| match given_up.holds(record.lsn, record.epoch) {
            true => Ok(()),
            false => salvage.record(record),
        };
        wal::records(&*kept, &survey, from, Lsn(u64::MAX), each)?;
        wal::cuts(&*kept, store, newest, from, each)?;
        salvage.stretches.sort_unstable();
        Ok(salvage)
    }

    /// True if it holds everything behind `from`, up to `to`.
    pub(super) fn leads(&self, from: Lsn, to: Lsn) -> bool {
        let mut reached: Option<Lsn> = None;
        for (first, last) in &self.stretches {
            if first.0 <= reached.unwrap_or(from).0.saturating_add(1) {
                reached = reached.max(Some(*last));
            }
        }
        reached.is_some_and(|reached| reached >= to)
    }

    /// What it lacks of the records behind `from`, up to `to`: first and last of each gap.
    pub(super) fn gaps(&self, from: Lsn, to: Lsn) -> Vec<(Lsn, Lsn)> {
        let (mut gaps, mut reached) = (Vec::new(), from);
        let end = to.next();
        for (first, last) in self.stretches.iter().copied().chain([(end, end)]) {
            if first > reached.next() && reached < to {
                gaps.push((reached.next(), Lsn(first.0 - 1).min(to)));
            }
            reached = reached.max(last);
        }
        gaps
    }

    fn record(&mut self, record: &RecordRef<'_>) -> Result<()> {
        match self.stretches.last_mut() {
            Some((_, last)) if record.lsn.0 == last.0.saturating_add(1) => *last = record.lsn,
            _ => self.stretches.push((record.lsn, record.lsn)),
        }
        let places = record.bodies()?;
        record.for_each_change(&mut |change| match change {
            Change::Put { table, key, row } => self.row(record, table, &key, Some(&row)),
            Change::Remove { table, key } => self.row(record, table, &key, None),
            Change::Message { of, message, body } => {
                let state =
                    Message::decode(&message).map_err(|found| StoreError::Bug(format!("a message: {found}")))?;
                let (mailbox, uid) = (of.mailbox, state.uid);
                let bytes = match body {
                    BodySource::Kept => None,
                    BodySource::Inline(n) => {
                        let at = usize::try_from(n).ok().and_then(|n| places.get(n)).copied();
                        at.map(|at| Bytes::Logged { file: record.file.to_owned(), at })
                    }
                    BodySource::Staged { partition, number } => {
                        Some(Bytes::Staged { partition: partition.into_owned(), number })
                    }
                    BodySource::Copy { of, uid } => Some(Bytes::Copy { of: of.into_owned(), uid }),
                };
                if let Some(bytes) = bytes {
                    self.bodies.entry((mailbox, uid)).or_insert(bytes);
                }
                let home = (of.partition.into_owned(), of.home.into_owned());
                self.folders.entry(home).or_default().insert(mailbox);
                let state = Stamped { lsn: record.lsn, epoch: record.epoch, value: state };
                keep_newest(self.messages.entry(mailbox).or_default(), uid, state);
                Ok(())
            }
        })
    }

    fn row(&mut self, record: &RecordRef<'_>, table: Table, key: &[u8], row: Option<&[u8]>) -> Result<()> {
        let (lsn, epoch) = (record.lsn, record.epoch);
        match (table, row, split(key)) {
            (Table::Mailboxes, Some(row), _) => {
                let row = MailboxRow::decode(key, row)?;
                let partition = row.partition.clone();
                match &row.home {
                    Some(home) => self.folders.entry((partition, home.clone())).or_default().insert(row.id),
                    None => {
                        let owner = owner_of(key).map(str::to_owned);
                        self.owned.entry((partition, owner)).or_default().insert(row.id)
                    }
                };
                let said = Said { key: key.to_vec(), deleted_us: 0, row };
                keep_newest(&mut self.mailboxes, said.row.id, Stamped { lsn, epoch, value: Some(said) });
            }
            (Table::Past, Some(row), Some((name, _))) => {
                let row = TombstoneRow::decode(key, row)?;
                if let Some(place) = Place::parse(&row.directory) {
                    let home = (row.mailbox.partition.clone(), place.home.path().to_owned());
                    self.folders.entry(home).or_default().insert(row.mailbox.id);
                }
                let said = Said { key: name.to_vec(), deleted_us: row.deleted_us, row: row.mailbox };
                keep_newest(&mut self.mailboxes, said.row.id, Stamped { lsn, epoch, value: Some(said) });
            }
            (Table::Past, None, Some((_, id))) => {
                if let Some(id) = id_of(id) {
                    let back = self.mailboxes.get(&id).is_some_and(|known| known.lsn == lsn && known.value.is_some());
                    if !back {
                        keep_newest(&mut self.mailboxes, id, Stamped { lsn, epoch, value: None });
                    }
                }
            }
            (Table::Users | Table::Quotas | Table::Subscriptions | Table::Seen | Table::Past, row, _) => {
                let value = row.map(<[u8]>::to_vec);
                keep_newest(&mut self.rows, (table, key.to_vec()), Stamped { lsn, epoch, value });
            }
            _ => {}
        }
        Ok(())
    }

    /// True if there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.mailboxes.is_empty() && self.messages.is_empty()
    }

    /// The homes of a partition of which it speaks.
    pub(super) fn homes(&self, partition: &str) -> BTreeSet<String> {
        let of_mail = self.folders.keys().filter(|(at, _)| at == partition).map(|(_, home)| home.clone());
        let users = self.rows.iter().filter(|((table, _), _)| *table == Table::Users);
        let of_users = users.filter_map(|((_, key), row)| {
            let row = UserView::decode(key, row.value.as_deref()?).ok()?;
            (row.partition == partition).then(|| row.directory.to_owned())
        });
        let shared = self.owned.contains_key(&(partition.to_owned(), None)).then(|| SHARED_DIRECTORY.to_owned());
        of_mail.chain(of_users).chain(shared).collect()
    }

    /// The mailboxes of which it speaks in a home, which is that of `owner`; without one it is that of shared ones, or of nobody.
    pub(super) fn ids(&self, partition: &str, home: &str, owner: Option<&str>) -> BTreeSet<u64> {
        let mut ids = self.folders.get(&(partition.to_owned(), home.to_owned())).cloned().unwrap_or_default();
        if owner.is_some() || home == SHARED_DIRECTORY {
            ids.extend(self.owned.get(&(partition.to_owned(), owner.map(str::to_owned))).into_iter().flatten());
        }
        ids
    }

    /// Adds what it says later than `rows` do of these rows, and of the user whose directory is `home`.
    pub(super) fn add_to(&self, rows: &mut MirroredRows, home: &str) {
        let his = |key: &[u8], row: &Stamped<Option<Vec<u8>>>| {
            row.value.as_deref().is_some_and(|row| UserView::decode(key, row).is_ok_and(|row| row.directory == home))
        };
        let mut users: BTreeSet<Vec<u8>> = BTreeSet::new();
        for ((table, key), row) in &self.rows {
            let belongs = match table {
                Table::Users => {
                    let his = his(key, row);
                    if his {
                        users.insert(key.clone());
                    }
                    his
                }
                _ => super::owner_in(*table, key).is_some_and(|user| users.contains(user.as_bytes())),
            };
            let at = (*table, key.clone());
            let known = rows.get(&at).map(|known| known.lsn);
            if (belongs && known.is_none()) || known.is_some_and(|known| known < row.lsn) {
                rows.insert(at, row.clone());
            }
        }
    }

    /// Where the bytes of a message are; chains of copies are followed. `None`: in a file of its own, if anywhere.
    pub(super) fn bytes(&self, mailbox: u64, uid: u32) -> Option<&Bytes> {
        let mut found = self.bodies.get(&(mailbox, uid))?;
        for _ in 0..self.bodies.len() {
            match found {
                Bytes::Copy { of, uid } => match self.bodies.get(&(of.mailbox, *uid)) {
                    Some(next) => found = next,
                    None => return Some(found),
                },
                _ => return Some(found),
            }
        }
        None
    }

    /// Reads the bytes that stand in a log file that was set aside, and compares their digest.
    pub(super) fn logged(&self, file: &str, at: LogPlace, body: Body) -> Result<Vec<u8>> {
        let log = self.log.as_ref().ok_or_else(|| StoreError::Bug("bytes without a log".to_owned()))?;
        let io = |e| StoreError::io("read", log.display(file), e);
        let mut bytes = vec![0; usize::try_from(body.size).unwrap_or(0)];
        log.open(file, Access::Read).and_then(|file| file.read_at(at.offset, &mut bytes)).map_err(io)?;
        let found = Body::of(&bytes);
        if found == body {
            return Ok(bytes);
        }
        Err(StoreError::Corrupt {
            file: log.display(file),
            offset: at.offset,
            what: "digest of a message".to_owned(),
            found: found.digest.to_string(),
            expected: body.digest.to_string(),
        })
    }
}
