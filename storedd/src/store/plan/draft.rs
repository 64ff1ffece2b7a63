//! Rows as they will be: the rows of one moment and the changes planned on top of them.

use super::{Plan, refuse};
use crate::error::Result;
use crate::model::command::{Incoming, IncomingBytes};
use crate::model::mail::{BodyRow, MessageRow, message_key};
use crate::model::message::{FIXED_BYTES, Message};
use crate::model::name::subtree_end;
use crate::model::quota::{Usage, covers};
use crate::model::rows::Row;
use crate::model::table::EachRow;
use crate::model::{BodySource, Change, Folder, Rows, Table, Transaction};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

/// What a change costs in a record beside its key and row, at most: tags and lengths.
const CHANGE_BYTES: usize = 16;

/// The same for a message: tags, lengths, mailbox id, where its bytes come from.
const MESSAGE_BYTES: usize = 160;

/// The state that a message has from now on.
struct PlannedMessage {
    of: Folder<'static>,
    bytes: Vec<u8>,
    body: BodySource<'static>,
}

/// New state by key; `None`: the row goes.
type Changed = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A key and its row.
pub(super) type Pair = (Vec<u8>, Vec<u8>);

pub(super) struct Draft<'a> {
    rows: &'a dyn Rows,
    changed: [Changed; Table::ALL.len()],
    messages: BTreeMap<(u64, u32), PlannedMessage>,
    bodies: Vec<Arc<Incoming>>,
    bytes: usize,
    bytes_max: usize,
}

impl<'a> Draft<'a> {
    pub(super) fn new(rows: &'a dyn Rows, bytes_max: usize) -> Draft<'a> {
        Draft { rows, changed: Default::default(), messages: BTreeMap::new(), bodies: Vec::new(), bytes: 0, bytes_max }
    }

    fn changed(&self, table: Table) -> &Changed {
        &self.changed[table as usize - 1]
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        match self.changed(table).get(key) {
            Some(row) => Ok(row.clone()),
            None => self.rows.get(table, key),
        }
    }

    pub(super) fn contains(&self, table: Table, key: &[u8]) -> Result<bool> {
        match self.changed(table).get(key) {
            Some(row) => Ok(row.is_some()),
            None => self.rows.contains(table, key),
        }
    }

    /// False only if no mailbox lies below the mailbox with this key.
    pub(super) fn may_lie_below(&self, mailbox: &[u8]) -> bool {
        !self.changed(Table::Mailboxes).is_empty() || self.rows.may_lie_below(mailbox)
    }

    /// The decoded row under `key`.
    pub(super) fn read<R: Row>(&self, key: &[u8]) -> Result<Option<R>> {
        self.get(R::TABLE, key)?.map(|row| R::decode(key, &row)).transpose()
    }

    pub(super) fn put<R: Row>(&mut self, key: Vec<u8>, row: &R) -> Plan<()> {
        let row = row.encode()?;
        self.set(R::TABLE, key, Some(row))
    }

    pub(super) fn remove(&mut self, table: Table, key: Vec<u8>) -> Plan<()> {
        self.set(table, key, None)
    }

    fn set(&mut self, table: Table, key: Vec<u8>, row: Option<Vec<u8>>) -> Plan<()> {
        self.bytes += row.as_ref().map_or(0, Vec::len);
        let key_bytes = key.len();
        match self.changed[table as usize - 1].insert(key, row) {
            Some(before) => self.bytes -= before.map_or(0, |row| row.len()),
            None => self.bytes += CHANGE_BYTES + key_bytes,
        }
        if self.bytes > self.bytes_max { Err(refuse::too_large(self.bytes_max)) } else { Ok(()) }
    }

    /// What a root holds and how many mailboxes may be counted here, of the rows below the draft; `None` if the draft changes
    /// what counts in it.
    pub(super) fn counted_before(&self, root: &[u8]) -> Option<(Option<Usage>, usize)> {
        let end = subtree_end(root);
        let changes = |table| {
            let below = self.changed(table).range::<[u8], _>((Bound::Included(root), Bound::Excluded(&end[..])));
            below.filter(|(key, _)| covers(root, key)).any(|(key, _)| table == Table::Mailboxes || key != root)
        };
        let is_changed = changes(Table::Mailboxes) || changes(Table::Quotas);
        (!is_changed).then(|| (self.rows.counted(root), self.rows.counts_at_once()))
    }

    /// So many mailboxes are counted for a transaction that changes what it counts: a few times what one could change.
    pub(super) fn counts_at_most(&self) -> usize {
        self.rows.counts_at_once().saturating_mul(10)
    }

    /// How many mailboxes the user has, what is planned left aside.
    pub(super) fn mailboxes_before(&self, user: &str) -> Result<u64> {
        self.rows.mailboxes_of(user)
    }

    /// All rows with `start <= key < end`, in order. Refused where they are more than a transaction could change.
    pub(super) fn range(&self, table: Table, start: &[u8], end: &[u8]) -> Plan<Vec<Pair>> {
        let mut found: Vec<Pair> = Vec::new();
        let mut bytes = 0;
        self.walk(table, start, Some(end), &mut |key, row| {
            if bytes > self.bytes_max {
                return ControlFlow::Break(());
            }
            bytes += key.len() + row.len();
            found.push((key.to_vec(), row.to_vec()));
            ControlFlow::Continue(())
        })?;
        if bytes > self.bytes_max { Err(refuse::too_large(self.bytes_max)) } else { Ok(found) }
    }

    /// [`Rows::scan`] over what will be.
    pub(super) fn scan(&self, table: Table, start: &[u8], each: EachRow<'_>) -> Result<()> {
        self.walk(table, start, None, each)
    }

    /// True if a message waits for its file whose bytes are staged in a partition, or are those of a message there.
    pub(super) fn reads_in(&self, name: &str) -> Result<bool> {
        let planned = self.messages.values().any(|message| match &message.body {
            BodySource::Staged { partition, .. } => partition == name,
            BodySource::Copy { of, .. } => of.partition == name,
            BodySource::Inline(_) | BodySource::Kept => false,
        });
        let mut found = Ok(planned);
        self.rows.scan(Table::Bodies, Bound::Unbounded, &mut |_, row| {
            found = BodyRow::decode(row).map(|row| match row {
                BodyRow::Staged { partition, .. } => partition == name,
                BodyRow::Copy { of, .. } => of.partition == name,
                BodyRow::Logged(_) => false,
            });
            if matches!(found, Ok(false)) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        if planned { Ok(true) } else { found }
    }

    fn walk(&self, table: Table, start: &[u8], end: Option<&[u8]>, each: EachRow<'_>) -> Result<()> {
        if end.is_some_and(|end| end <= start) {
            return Ok(());
        }
        let (start, upto) = (Bound::Included(start), end.map_or(Bound::Unbounded, Bound::Excluded));
        let below = |each: EachRow<'_>| match end {
            Some(end) => self.rows.scan_until(table, start, end, each),
            None => self.rows.scan(table, start, each),
        };
        let mut planned = self.changed(table).range::<[u8], _>((start, upto)).peekable();
        if planned.peek().is_none() {
            return below(each);
        }
        let mut ended = ControlFlow::Continue(());
        below(&mut |key, row| {
            while let Some((k, r)) = planned.next_if(|(k, _)| k.as_slice() < key) {
                if let Some(r) = r {
                    ended = each(k, r);
                    if ended.is_break() {
                        return ended;
                    }
                }
            }
            ended = match planned.next_if(|(k, _)| k.as_slice() == key) {
                Some((_, Some(changed))) => each(key, changed),
                Some((_, None)) => ControlFlow::Continue(()),
                None => each(key, row),
            };
            ended
        })?;
        for (key, row) in planned {
            if ended.is_break() {
                break;
            }
            if let Some(row) = row {
                ended = each(key, row);
            }
        }
        Ok(())
    }

    /// The number in this transaction of the bytes of a message that comes in; `None` if they go elsewhere than into the log.
    pub(super) fn body(&mut self, message: &Arc<Incoming>) -> Plan<Option<u32>> {
        let IncomingBytes::Inline { bytes, .. } = &message.bytes else { return Ok(None) };
        if let Some(known) = self.bodies.iter().position(|known| Arc::ptr_eq(known, message)) {
            return Ok(u32::try_from(known).ok());
        }
        self.grow(bytes.len() + CHANGE_BYTES)?;
        self.bodies.push(message.clone());
        Ok(u32::try_from(self.bodies.len() - 1).ok())
    }

    /// Puts the state that a message has from now on.
    pub(super) fn put_message(
        &mut self,
        of: &Folder<'static>,
        message: &Message,
        body: BodySource<'static>,
    ) -> Plan<()> {
        let mut bytes = Vec::with_capacity(FIXED_BYTES);
        message.put(&mut bytes)?;
        self.grow(bytes.len() + of.partition.len() + of.home.len() + MESSAGE_BYTES)?;
        let planned = self.messages.entry((of.mailbox, message.uid));
        let planned =
            planned.or_insert_with(|| PlannedMessage { of: of.clone(), bytes: Vec::new(), body: BodySource::Kept });
        planned.bytes = bytes;
        if body != BodySource::Kept {
            planned.body = body;
        }
        Ok(())
    }

    /// A message as it will be, if that is planned, or as memory has it; `None`: the index says.
    pub(super) fn message(&self, mailbox: u64, uid: u32) -> Result<Option<Message>> {
        if let Some(planned) = self.messages.get(&(mailbox, uid)) {
            let message = Message::decode(&planned.bytes).map_err(crate::error::StoreError::Bug)?;
            return Ok(Some(message));
        }
        let row = self.rows.get(Table::Messages, &message_key(mailbox, uid))?;
        row.map(|row| MessageRow::decode(&row)?.message()).transpose()
    }

    fn grow(&mut self, bytes: usize) -> Plan<()> {
        self.bytes += bytes;
        if self.bytes > self.bytes_max { Err(refuse::too_large(self.bytes_max)) } else { Ok(()) }
    }

    /// The transaction: one change a key, in order of table and key, messages behind all rows; and the bodies that it names.
    pub(super) fn finish(self) -> (Transaction, Vec<Arc<Incoming>>) {
        let count = self.changed.iter().map(BTreeMap::len).sum::<usize>() + self.messages.len();
        let mut changes = Vec::with_capacity(count);
        for (table, changed) in Table::ALL.into_iter().zip(self.changed) {
            changes.extend(changed.into_iter().map(|(key, row)| match row {
                Some(row) => Change::Put { table, key: Cow::Owned(key), row: Cow::Owned(row) },
                None => Change::Remove { table, key: Cow::Owned(key) },
            }));
        }
        changes.extend(self.messages.into_values().map(|planned| {
            let PlannedMessage { of, bytes, body } = planned;
            Change::Message { of, message: Cow::Owned(bytes), body }
        }));
        (changes, self.bodies)
    }
}

/// For what only reads, and is to see what will be.
impl Rows for Draft<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Draft::get(self, table, key)
    }

    fn contains(&self, table: Table, key: &[u8]) -> Result<bool> {
        Draft::contains(self, table, key)
    }

    fn indexed_upto(&self) -> crate::lsn::Lsn {
        self.rows.indexed_upto()
    }

    fn scan(&self, table: Table, start: Bound<&[u8]>, each: EachRow<'_>) -> Result<()> {
        let (from, skipped) = match start {
            Bound::Included(from) => (from, None),
            Bound::Excluded(from) => (from, Some(from)),
            Bound::Unbounded => (&b""[..], None),
        };
        self.walk(table, from, None, &mut |key, row| {
            if skipped == Some(key) { ControlFlow::Continue(()) } else { each(key, row) }
        })
    }

    fn scan_until(&self, table: Table, start: Bound<&[u8]>, end: &[u8], each: EachRow<'_>) -> Result<()> {
        match start {
            Bound::Included(from) => self.walk(table, from, Some(end), each),
            other => Rows::scan(self, table, other, &mut |key, row| {
                if key < end { each(key, row) } else { ControlFlow::Break(()) }
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Draft;
    use crate::model::table::MapRows;
    use crate::model::{Rows, Table};
    use std::ops::{Bound, ControlFlow};

    const TABLE: Table = Table::Subscriptions;

    fn all(rows: &MapRows) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut all = Vec::new();
        let mut each = |key: &[u8], row: &[u8]| {
            all.push((key.to_vec(), row.to_vec()));
            ControlFlow::Continue(())
        };
        rows.scan(TABLE, Bound::Unbounded, &mut each).unwrap();
        all
    }

    // What a draft shows is what the rows show once its changes are applied.
    #[test]
    fn a_draft_shows_what_will_be() {
        let mut seed = 0xd4af7u64;
        let mut below = |n: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).unwrap() % n
        };
        for round in 0..2000 {
            let mut rows = MapRows::default();
            for _ in 0..below(8) {
                rows.0.insert((TABLE, vec![b'a' + u8::try_from(below(10)).unwrap()]), vec![1]);
            }
            // neighbours of the table that must not show
            rows.0.insert((Table::Quotas, b"a".to_vec()), vec![9]);
            rows.0.insert((Table::Rights, b"a".to_vec()), vec![9]);
            let base = rows.clone();
            let mut draft = Draft::new(&base, 1 << 20);
            for _ in 0..below(8) {
                let key = vec![b'a' + u8::try_from(below(10)).unwrap()];
                let row = (below(3) > 0).then(|| vec![2, u8::try_from(below(200)).unwrap()]);
                draft.set(TABLE, key, row).unwrap();
            }
            let start = vec![b'a' + u8::try_from(below(10)).unwrap()];
            let end = vec![b'a' + u8::try_from(below(12)).unwrap()];
            let shown = draft.range(TABLE, &start, &end).unwrap();
            let stops = below(3);
            let mut first = Vec::new();
            draft
                .scan(TABLE, &start, &mut |key, _| {
                    first.push(key.to_vec());
                    if first.len() > stops { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                })
                .unwrap();
            let got: Vec<_> = (b'a'..b'm').map(|k| (draft.get(TABLE, &[k]), draft.contains(TABLE, &[k]))).collect();
            rows.apply(&draft.finish().0);
            let expected: Vec<_> = all(&rows).into_iter().filter(|(key, _)| *key >= start && *key < end).collect();
            assert_eq!(shown, expected, "round {round}");
            let expected: Vec<_> = all(&rows).into_iter().map(|(key, _)| key).filter(|key| *key >= start).collect();
            assert_eq!(first, expected[..expected.len().min(stops + 1)], "round {round}");
            for (key, (row, there)) in (b'a'..b'm').zip(got) {
                assert_eq!(row.unwrap(), rows.get(TABLE, &[key]).unwrap(), "round {round}");
                assert_eq!(there.unwrap(), rows.contains(TABLE, &[key]).unwrap(), "round {round}");
            }
        }
    }
}
