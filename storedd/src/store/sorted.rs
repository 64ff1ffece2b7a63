//! Rows that a replay brought: the newest state of each, in memory, in key order, never changed.
//!
//! # Purpose
//! A start may find millions of changed rows, and nobody is served before they are in order. An ordered map takes two
//! allocations and a search for each; here rows lie one behind the other as they came, and what is put in order is a slot
//! of 24 bytes for each.
//!
//! # Form
//! A *block* is a few MiB of rows, `key length u16 | row length u32 | key | row`, native byte order, and for each table
//! its slots. A slot is the head of the key (see [`super::overlay::head`]) and the place of the row.
//!
//! # Operation
//! [`Sorter::put`] fills a block. A full one is sorted by a second thread while the next one fills; that is computation
//! only, so a run on a simulated disk repeats from its seed. [`Sorter::finish`] merges the sorted blocks. A replay of less
//! than one block starts no thread.

use super::names::Names;
use super::overlay::head;
use crate::beside;
use crate::error::{Result, StoreError};
use crate::model::Table;
use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::Scope;

/// A block is full from here on; it is longer by at most the rows of one put.
const BLOCK_BYTES: usize = 4 << 20;
/// Bytes in front of a key and a row.
const LENGTHS_BYTES: usize = 6;
/// Stands for the length of a row that is gone.
const GONE: u32 = u32::MAX;
const TABLES: usize = Table::IN_MEMORY.len();

/// Where a row lies, and the beginning of its key: as two numbers, since a `u128` would make it a third longer.
#[derive(Debug, Clone, Copy)]
struct Slot {
    head: [u64; 2],
    block: u32,
    offset: u32,
}

fn two(head: u128) -> [u64; 2] {
    [(head >> 64) as u64, head as u64]
}

/// Key and row that lie at `offset`.
fn read(bytes: &[u8], offset: u32) -> (&[u8], Option<&[u8]>) {
    let rest = &bytes[offset as usize..];
    let key_len = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
    let row_len = u32::from_ne_bytes([rest[2], rest[3], rest[4], rest[5]]);
    let (key, rest) = rest[LENGTHS_BYTES..].split_at(key_len);
    (key, (row_len != GONE).then(|| &rest[..row_len as usize]))
}

/// Rows as they came.
#[derive(Debug, Default)]
struct Block {
    bytes: Vec<u8>,
    slots: [Vec<Slot>; TABLES],
}

impl Block {
    /// An empty block with room for what `before` held.
    fn like(before: &Block) -> Block {
        Block {
            bytes: Vec::with_capacity(before.bytes.len() + before.bytes.len() / 16),
            slots: std::array::from_fn(|table| Vec::with_capacity(before.slots[table].len())),
        }
    }

    /// Sorts the slots by key, leaves the newest of each key, and notes the keys.
    fn sort(&mut self, names: &Names) {
        let rows = self.slots.iter().map(Vec::len).sum::<usize>();
        let bytes = &self.bytes;
        let key = |slot: &Slot| read(bytes, slot.offset).0;
        for (slots, table) in self.slots.iter_mut().zip(Table::IN_MEMORY) {
            slots.reverse();
            put_in_order(slots, key);
            slots.iter().for_each(|slot| names.note(table, key(slot)));
        }
        // The same few rows changed again and again would take as much memory as log.
        if self.slots.iter().map(Vec::len).sum::<usize>() < rows / 2 {
            self.drop_old();
        }
    }

    /// Keeps the rows that have slots.
    fn drop_old(&mut self) {
        let old = std::mem::take(&mut self.bytes);
        for slot in self.slots.iter_mut().flatten() {
            let (key, row) = read(&old, slot.offset);
            let from = slot.offset as usize;
            // Not longer than before, so its offsets fit.
            slot.offset = self.bytes.len() as u32;
            self.bytes.extend_from_slice(&old[from..from + LENGTHS_BYTES + key.len() + row.map_or(0, <[u8]>::len)]);
        }
        self.slots.iter_mut().for_each(Vec::shrink_to_fit);
    }
}

/// Sorts slots by key, where `key` finds it, and leaves the first of each key; so the newest comes first. Keys are looked at only among equal
/// heads, a few at a time that then lie in the processor's cache. The sort of the standard library merges what is in
/// order already, and leaves equal ones in their order.
fn put_in_order<'k>(slots: &mut Vec<Slot>, key: impl Fn(&Slot) -> &'k [u8]) {
    slots.sort_by_key(|slot| slot.head);
    for same in slots.chunk_by_mut(|a, b| a.head == b.head).filter(|same| same.len() > 1) {
        same.sort_by_key(|slot| key(slot));
    }
    slots.dedup_by(|older, newest| older.head == newest.head && key(older) == key(newest));
}

/// A sorted block.
struct Done {
    block: Block,
    /// What it had before.
    bytes: usize,
}

/// The thread beside, as soon as there is one.
struct Beside {
    todo: SyncSender<Block>,
    done: Receiver<Done>,
    /// Blocks that it has, and their bytes.
    under_way: usize,
    bytes: usize,
}

/// Puts rows in order as they come; see the page.
pub(super) struct Sorter<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    names: &'scope Names,
    filling: Block,
    beside: Option<Beside>,
    /// In the order in which they came.
    sorted: Vec<Block>,
    sorted_bytes: usize,
}

impl<'scope, 'env> Sorter<'scope, 'env> {
    /// Every key is noted in `names`.
    pub(super) fn new(scope: &'scope Scope<'scope, 'env>, names: &'scope Names) -> Sorter<'scope, 'env> {
        let (filling, sorted) = (Block::default(), Vec::new());
        Sorter { scope, names, filling, beside: None, sorted, sorted_bytes: 0 }
    }

    /// Takes the state that a row has from now on; `None`: it is gone.
    ///
    /// # Errors
    /// If the thread that sorts ended.
    pub(super) fn put(&mut self, table: Table, key: &[u8], row: Option<&[u8]>) -> Result<()> {
        let block = &mut self.filling;
        let lengths = (u16::try_from(key.len()), row.map_or(Ok(GONE), |row| u32::try_from(row.len())));
        let (Ok(key_len), Ok(row_len), Ok(offset)) = (lengths.0, lengths.1, u32::try_from(block.bytes.len())) else {
            return Err(StoreError::Bug(format!("a key of {} bytes in the log", key.len())));
        };
        block.bytes.extend_from_slice(&key_len.to_ne_bytes());
        block.bytes.extend_from_slice(&row_len.to_ne_bytes());
        block.bytes.extend_from_slice(key);
        block.bytes.extend_from_slice(row.unwrap_or_default());
        block.slots[table as usize - 1].push(Slot { head: two(head(key)), block: 0, offset });
        if block.bytes.len() >= BLOCK_BYTES { self.next_block() } else { Ok(()) }
    }

    /// Bytes held, slots included.
    pub(super) fn bytes(&self) -> usize {
        self.sorted_bytes + self.beside.as_ref().map_or(0, |beside| beside.bytes) + bytes_of(&self.filling)
    }

    fn next_block(&mut self) -> Result<()> {
        let next = Block::like(&self.filling);
        let full = std::mem::replace(&mut self.filling, next);
        if self.beside.is_none() {
            self.beside = Beside::start(self.scope, self.names);
        }
        let Some(beside) = &mut self.beside else {
            let mut block = full;
            block.sort(self.names);
            self.sorted_bytes += bytes_of(&block);
            self.sorted.push(block);
            return Ok(());
        };
        beside.under_way += 1;
        beside.bytes += bytes_of(&full);
        beside.todo.send(full).map_err(|_| ended())?;
        while let Ok(done) = beside.done.try_recv() {
            self.sorted_bytes += beside.got(&done);
            self.sorted.push(done.block);
        }
        Ok(())
    }

    /// Everything that was put since the start or the last call, in order.
    ///
    /// # Errors
    /// If the thread that sorts ended.
    pub(super) fn finish(&mut self) -> Result<Sorted> {
        let mut last = std::mem::take(&mut self.filling);
        last.sort(self.names);
        if let Some(beside) = &mut self.beside {
            while beside.under_way > 0 {
                let done = beside.done.recv().map_err(|_| ended())?;
                beside.got(&done);
                self.sorted.push(done.block);
            }
        }
        self.sorted.push(last);
        self.sorted_bytes = 0;
        Ok(Sorted::merged(std::mem::take(&mut self.sorted)))
    }
}

impl Beside {
    /// `None` if there is no thread to be had: then who puts sorts.
    fn start<'scope>(scope: &'scope Scope<'scope, '_>, names: &'scope Names) -> Option<Beside> {
        let (todo, blocks) = sync_channel::<Block>(1);
        let (sorted, done): (Sender<Done>, _) = channel();
        beside::help(scope, move || {
            for mut block in blocks {
                let bytes = bytes_of(&block);
                block.sort(names);
                if sorted.send(Done { block, bytes }).is_err() {
                    return;
                }
            }
        })?;
        Some(Beside { todo, done, under_way: 0, bytes: 0 })
    }

    /// A block came back; gives the bytes it has now.
    fn got(&mut self, done: &Done) -> usize {
        self.under_way -= 1;
        self.bytes -= done.bytes;
        bytes_of(&done.block)
    }
}

fn bytes_of(block: &Block) -> usize {
    block.bytes.len() + block.slots.iter().map(Vec::len).sum::<usize>() * size_of::<Slot>()
}

fn ended() -> StoreError {
    StoreError::Bug("the thread that sorts replayed rows ended".to_owned())
}

/// Rows in order; see the page.
#[derive(Default)]
pub(crate) struct Sorted {
    blocks: Vec<Vec<u8>>,
    tables: [Vec<Slot>; TABLES],
}

impl Sorted {
    /// Merges sorted blocks, of which later ones say what is newer.
    fn merged(blocks: Vec<Block>) -> Sorted {
        let mut all = Sorted::default();
        let mut slots: [Vec<Vec<Slot>>; TABLES] = Default::default();
        for block in blocks {
            all.blocks.push(block.bytes);
            slots.iter_mut().zip(block.slots).for_each(|(all, of_block)| all.push(of_block));
        }
        for (table, of_blocks) in slots.into_iter().enumerate() {
            all.tables[table] = all.merge(of_blocks);
        }
        all
    }

    /// The slots of one table in order; they come block by block.
    fn merge(&self, of_blocks: Vec<Vec<Slot>>) -> Vec<Slot> {
        let mut slots = Vec::with_capacity(of_blocks.iter().map(Vec::len).sum());
        for (number, of_block) in (0u32..).zip(of_blocks).collect::<Vec<_>>().into_iter().rev() {
            slots.extend(of_block.into_iter().map(|slot| Slot { block: number, ..slot }));
        }
        put_in_order(&mut slots, |slot| self.read(slot).0);
        slots
    }

    fn read(&self, slot: &Slot) -> (&[u8], Option<&[u8]>) {
        read(&self.blocks[slot.block as usize], slot.offset)
    }

    /// Index of the first slot of a table whose key is not in front of `start`.
    fn first(&self, table: Table, start: Bound<&[u8]>) -> usize {
        let (key, with) = match start {
            Bound::Unbounded => return 0,
            Bound::Included(key) => (key, false),
            Bound::Excluded(key) => (key, true),
        };
        let head = two(head(key));
        self.tables[table as usize - 1].partition_point(|slot| {
            match slot.head.cmp(&head).then_with(|| self.read(slot).0.cmp(key)) {
                Ordering::Less => true,
                Ordering::Equal => with,
                Ordering::Greater => false,
            }
        })
    }

    /// What is known of a row: `None` if nothing, `Some(None)` if it is gone.
    pub(super) fn get(&self, table: Table, key: &[u8]) -> Option<Option<&[u8]>> {
        self.range(table, Bound::Included(key)).next().filter(|(found, _)| *found == key).map(|(_, row)| row)
    }

    /// Keys and rows of a table from `start` on, in key order; `None`: the row is gone.
    pub(super) fn range(&self, table: Table, start: Bound<&[u8]>) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.tables[table as usize - 1][self.first(table, start)..].iter().map(|slot| self.read(slot))
    }

    /// All rows of the database's tables in order of table and key.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (Table, &[u8], Option<&[u8]>)> {
        let rows = |table| self.range(table, Bound::Unbounded).map(move |(key, row)| (table, key, row));
        Table::ALL.into_iter().flat_map(rows)
    }

    /// Rows of all tables.
    pub(super) fn len(&self) -> usize {
        self.tables.iter().map(Vec::len).sum()
    }

    /// Bytes held, slots included.
    pub(super) fn bytes(&self) -> usize {
        self.blocks.iter().map(Vec::len).sum::<usize>() + self.len() * size_of::<Slot>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    type Model = BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>;

    /// Puts `rows` rows whose keys repeat, share beginnings and differ behind their heads; about 100 bytes each.
    fn put(sorter: &mut Sorter<'_, '_>, model: &mut Model, seed: &mut u64, rows: usize) {
        for _ in 0..rows {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let number = *seed >> 48;
            let table = Table::ALL[number as usize % 3];
            let key = match *seed >> 33 & 3 {
                0 => format!("user\u{1}the-same-beginning-of-all-{number}"),
                1 => format!("user\u{1}{number}\u{1}INBOX"),
                2 => format!("user{number}"),
                _ => format!("shared\u{1}\u{fc}{number}"),
            };
            let row = (*seed >> 40 & 7 != 0).then(|| seed.to_be_bytes().repeat(8));
            sorter.put(table, key.as_bytes(), row.as_deref()).unwrap();
            model.insert((table, key.into_bytes()), row);
        }
    }

    fn assert_same(sorted: &Sorted, model: &Model) {
        assert_eq!(sorted.len(), model.len());
        let expected = model.iter().map(|((table, key), row)| (*table, key.as_slice(), row.as_deref()));
        assert!(sorted.iter().eq(expected));
        for ((table, key), row) in model {
            assert_eq!(sorted.get(*table, key), Some(row.as_deref()));
            let after = model.range((Bound::Excluded((*table, key.clone())), Bound::Unbounded)).next();
            let after = after.filter(|((t, _), _)| t == table).map(|((_, key), _)| key.as_slice());
            assert_eq!(sorted.range(*table, Bound::Excluded(key)).next().map(|(key, _)| key), after);
        }
        assert_eq!(sorted.get(Table::Users, b"nobody"), None);
        assert_eq!(sorted.get(Table::Partitions, b"user"), None);
    }

    // A replay of changes to a few large rows held all of their versions in memory.
    #[test]
    fn rows_that_change_again_and_again_take_no_more_memory_than_one_block_each_time() {
        let names = Names::sized(10);
        let row = vec![7; 64 << 10];
        let sorted = std::thread::scope(|scope| {
            let mut sorter = Sorter::new(scope, &names);
            for n in 0..1000u32 {
                sorter
                    .put(Table::Mailboxes, &[b'a' + (n % 3) as u8], Some(&[&n.to_be_bytes()[..], &row].concat()))
                    .unwrap();
            }
            sorter.finish().unwrap()
        });
        assert_eq!(sorted.len(), 3);
        assert!(sorted.bytes() < 2 * BLOCK_BYTES + 64 * row.len(), "{} bytes of {}", sorted.bytes(), 1000 * row.len());
        let first = |key: &[u8]| sorted.get(Table::Mailboxes, key).flatten().map(|row| row[..4].to_vec());
        assert_eq!(
            [b"a", b"b", b"c"].map(|key| first(key)),
            [999u32, 997, 998].map(|n| Some(n.to_be_bytes().to_vec()))
        );
    }

    #[test]
    fn the_newest_of_each_row_comes_out_in_order_from_one_block_and_from_many() {
        for rows in [0, 1, 2000, 150_000] {
            let names = Names::sized(rows);
            let (mut model, mut seed) = (Model::new(), 7);
            let sorted = std::thread::scope(|scope| {
                let mut sorter = Sorter::new(scope, &names);
                put(&mut sorter, &mut model, &mut seed, rows);
                assert_eq!(sorter.beside.is_some(), rows > 100_000, "{} bytes", sorter.bytes());
                assert_eq!(sorter.bytes() > 0, rows > 0);
                let first = sorter.finish().unwrap();
                assert_same(&first, &std::mem::take(&mut model));
                // It goes on with nothing.
                assert_eq!(sorter.bytes(), 0);
                put(&mut sorter, &mut model, &mut seed, rows);
                sorter.finish().unwrap()
            });
            assert_same(&sorted, &model);
            assert!(model.keys().all(|(table, key)| names.maybe(crate::store::names::hash(*table, key))));
        }
    }

    // A start to which the system gave no thread for it panicked.
    #[test]
    fn rows_are_sorted_without_help() {
        let (names, mut model, mut seed) = (Names::sized(200_000), Model::new(), 7);
        let sorted = beside::tests::alone(|| {
            std::thread::scope(|scope| {
                let mut sorter = Sorter::new(scope, &names);
                put(&mut sorter, &mut model, &mut seed, 200_000);
                assert!(sorter.beside.is_none() && sorter.bytes() > BLOCK_BYTES);
                sorter.finish().unwrap()
            })
        });
        assert_same(&sorted, &model);
    }
}
