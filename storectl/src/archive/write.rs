//! Writing an archive, in one pass.
//!
//! # Operation
//! Payloads are packed by worker threads; the caller's thread gives them their heads and writes them, in order. What is under
//! way is bounded: a slow medium slows the caller.

use super::content::{About, Close, End, Index, Mailbox, Message, Moves, Reference, User, add_to_runs};
use super::frame::{self, ArchiveId, Head, Kind, Packing};
use super::{FOOTER, PART_BYTES, RAW_BYTES_MAX};
use serde::Serialize;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Payloads under way for each worker.
const AHEAD: usize = 32;
/// Bytes under way, at most.
const AHEAD_BYTES: usize = 64 << 20;
/// Bytes of the entries of one index frame, about.
const INDEX_BYTES: usize = 256 << 10;

/// Entries of each list in one frame of kind close.
const CLOSE_ENTRIES: usize = 14_000;

/// How an archive is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Of zstd: 1 to 19; 0 packs nothing.
    pub level: i32,
    /// Threads that pack.
    pub jobs: usize,
    /// The last block is filled up with zeros to this many bytes; 1 fills nothing.
    pub block_bytes: usize,
}

/// What an archive holds.
pub type Totals = End;

/// A payload on its way: to a worker, and packed to the writer.
struct Packed {
    kind: Kind,
    packing: Packing,
    raw: u32,
    stored: Vec<u8>,
    sum: [u8; 8],
}

fn packed(kind: Kind, payload: Vec<u8>, level: i32) -> Packed {
    let raw = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let (packing, stored) = frame::pack(payload, level);
    let sum = frame::sum(&stored);
    Packed { kind, packing, raw, stored, sum }
}

type Work = (Kind, Vec<u8>, SyncSender<Packed>);

/// Threads that pack.
#[derive(Debug)]
struct Workers {
    work: Option<SyncSender<Work>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    fn start(options: Options) -> io::Result<Workers> {
        let (work, queue) = sync_channel::<Work>(options.jobs.max(1) * AHEAD);
        let queue = Arc::new(Mutex::new(queue));
        let one = |number| {
            let queue = queue.clone();
            let pack = move || {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((kind, payload, done)) = next else { return };
                    // Nobody waits for it any more: the writer has failed.
                    let _ = done.send(packed(kind, payload, options.level));
                }
            };
            std::thread::Builder::new().name(format!("pack-{number}")).spawn(pack)
        };
        let threads = (0..options.jobs.max(1)).map(one).collect::<io::Result<_>>()?;
        Ok(Workers { work: Some(work), threads })
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.work = None;
        for thread in self.threads.drain(..) {
            // A worker that panicked has been told of on the way.
            let _ = thread.join();
        }
    }
}

/// An archive that is being written. Without [`Writer::finish`] it stays incomplete.
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: W,
    options: Options,
    id: ArchiveId,
    workers: Workers,
    under_way: VecDeque<(Receiver<Packed>, usize)>,
    under_way_bytes: usize,
    /// Frames handed in.
    handed: u64,
    /// Frames written.
    written: u64,
    offset: u64,
    digest: blake3::Hasher,
    index: Index,
    /// What a mailbox's or user's frame is, until its offset is known.
    named: HashMap<u64, Name>,
    /// Frames of messages that were referred to.
    wanted: BTreeSet<u64>,
    /// UIDs of the mailbox that is open.
    has: Vec<(u32, u32)>,
    /// Offsets of the frames of messages.
    offsets: HashMap<u64, u64>,
    totals: End,
}

#[derive(Debug)]
enum Name {
    User(String),
    Mailbox(String),
    Close,
}

impl<W: Write> Writer<W> {
    /// Begins an archive; its id is that which `about` states in hexadecimal digits.
    ///
    /// # Errors
    /// Those of `out`; [`io::ErrorKind::InvalidInput`] for an id that is none.
    pub fn new(out: W, options: Options, about: &About) -> io::Result<Writer<W>> {
        let id = archive_id(&about.id).ok_or(io::ErrorKind::InvalidInput)?;
        let mut writer = Writer {
            out,
            options,
            id,
            workers: Workers::start(options)?,
            under_way: VecDeque::new(),
            under_way_bytes: 0,
            handed: 0,
            written: 0,
            offset: 0,
            digest: blake3::Hasher::new(),
            index: Index::default(),
            named: HashMap::new(),
            has: Vec::new(),
            wanted: BTreeSet::new(),
            offsets: HashMap::new(),
            totals: End::default(),
        };
        writer.json(Kind::Archive, about)?;
        Ok(writer)
    }

    /// The owner of the mailboxes that follow.
    ///
    /// # Errors
    /// Those of the output.
    pub fn user(&mut self, user: &User) -> io::Result<()> {
        self.named.insert(self.handed, Name::User(user.user.clone()));
        let mut parts = parts(user.subscriptions.iter().cloned(), String::len);
        let first = parts.next().unwrap_or_default();
        let of = |subscriptions| User { subscriptions, ..user.clone() };
        self.json(Kind::User, &of(first))?;
        // A reader adds them up.
        parts.try_for_each(|more| self.json(Kind::User, &of(more)).map(drop))
    }

    /// What became of mailboxes of the archive before; in front of all of them.
    ///
    /// # Errors
    /// Those of the output.
    pub fn moves(&mut self, moves: Moves) -> io::Result<()> {
        // What is gone makes room for what is renamed.
        for gone in parts(moves.gone.into_iter(), |before| 64 + before.name.len()) {
            self.json(Kind::Moves, &Moves { renamed: Vec::new(), gone })?;
        }
        let rights =
            |mailbox: &Mailbox| mailbox.acl.iter().map(|(who, rights)| who.len() + rights.len() + 8).sum::<usize>();
        for renamed in parts(moves.renamed.into_iter(), |m| 300 + m.name.len() + m.object.len() + rights(m)) {
            self.json(Kind::Moves, &Moves { renamed, gone: Vec::new() })?;
        }
        Ok(())
    }

    /// A mailbox; its messages follow. Gives the number of its frame.
    ///
    /// # Errors
    /// Those of the output.
    pub fn mailbox(&mut self, mailbox: &Mailbox) -> io::Result<u64> {
        self.totals.mailboxes += 1;
        self.has.clear();
        self.named.insert(self.handed, Name::Mailbox(mailbox.object.clone()));
        self.json(Kind::Mailbox, mailbox)
    }

    /// A message and its first bytes: all of them, or the first [`PART_BYTES`], after which [`Writer::more`] takes the rest. Gives the number
    /// that a reference names.
    ///
    /// # Errors
    /// Those of the output.
    pub fn message(&mut self, message: &Message, first: &[u8]) -> io::Result<u64> {
        let json = serde_json::to_vec(message)?;
        let length = u32::try_from(json.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let part = &first[..first.len().min(PART_BYTES)];
        let mut payload = Vec::with_capacity(4 + json.len() + part.len());
        payload.extend_from_slice(&length.to_le_bytes());
        payload.extend_from_slice(&json);
        payload.extend_from_slice(part);
        self.totals.messages += 1;
        add_to_runs(&mut self.has, message.uid);
        self.totals.bytes += message.size;
        let number = self.hand(Kind::Message, payload)?;
        self.more(&first[part.len()..])?;
        Ok(number)
    }

    /// Further bytes of the message before. All pieces but the last are whole multiples of [`PART_BYTES`].
    ///
    /// # Errors
    /// Those of the output.
    pub fn more(&mut self, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(PART_BYTES).try_for_each(|part| self.hand(Kind::More, part.to_vec()).map(drop))
    }

    /// A message whose bytes stand in an earlier frame, or in an earlier archive.
    ///
    /// # Errors
    /// Those of the output.
    pub fn reference(&mut self, reference: &Reference) -> io::Result<()> {
        self.totals.copies += 1;
        add_to_runs(&mut self.has, reference.message.uid);
        self.wanted.extend(reference.frame);
        self.json(Kind::Reference, reference).map(drop)
    }

    /// The mailbox is whole.
    ///
    /// # Errors
    /// Those of the output.
    pub fn close(&mut self, close: &Close) -> io::Result<()> {
        fn part<T: Clone>(all: &[T], n: usize) -> Vec<T> {
            all.chunks(CLOSE_ENTRIES).nth(n).unwrap_or_default().to_vec()
        }
        let has = std::mem::take(&mut self.has);
        let kept = close.kept.as_ref().map_or(0, Vec::len);
        let frames = kept.max(has.len()).max(close.unreadable.len()).div_ceil(CLOSE_ENTRIES).max(1);
        self.named.insert(self.handed, Name::Close);
        for n in 0..frames {
            let part = Close {
                continues: n + 1 < frames,
                kept: close.kept.as_ref().map(|all| part(all, n)),
                has: part(&has, n),
                unreadable: part(&close.unreadable, n),
                ..*close
            };
            self.json(Kind::Close, &part)?;
        }
        Ok(())
    }

    /// The archive is whole. Gives its totals and the output, which is flushed and not synced.
    ///
    /// # Errors
    /// Those of the output.
    pub fn finish(mut self) -> io::Result<(Totals, W)> {
        self.settle(0)?;
        let first = self.offset;
        self.put_index()?;
        self.settle(0)?;
        let end = self.offset;
        self.totals.frames = self.written;
        self.totals.digest = self.digest.finalize().to_hex().to_string();
        self.json(Kind::End, &self.totals.clone())?;
        self.settle(0)?;
        let mut footer = Vec::with_capacity(super::FOOTER_BYTES);
        footer.extend_from_slice(&first.to_le_bytes());
        footer.extend_from_slice(&end.to_le_bytes());
        footer.extend_from_slice(&FOOTER);
        let length = self.offset + footer.len() as u64;
        let block = self.options.block_bytes.max(1) as u64;
        footer.resize(footer.len() + (length.next_multiple_of(block) - length) as usize, 0);
        self.out.write_all(&footer)?;
        self.out.flush()?;
        Ok((self.totals, self.out))
    }

    fn put_index(&mut self) -> io::Result<()> {
        let all = std::mem::take(&mut self.index);
        let wanted = std::mem::take(&mut self.wanted);
        let offsets = std::mem::take(&mut self.offsets);
        let found = wanted.iter().filter_map(|number| Some((*number, *offsets.get(number)?)));
        for users in parts(all.users.into_iter(), |(name, _)| name.len()) {
            self.json(Kind::Index, &Index { users, ..Index::default() })?;
        }
        for mailboxes in parts(all.mailboxes.into_iter(), |(name, _)| name.len()) {
            self.json(Kind::Index, &Index { mailboxes, ..Index::default() })?;
        }
        for closes in parts(all.closes.into_iter(), |_| 0) {
            self.json(Kind::Index, &Index { closes, ..Index::default() })?;
        }
        for frames in parts(found, |_| 0) {
            self.json(Kind::Index, &Index { frames, ..Index::default() })?;
        }
        Ok(())
    }

    fn json(&mut self, kind: Kind, content: &impl Serialize) -> io::Result<u64> {
        self.hand(kind, serde_json::to_vec(content)?)
    }

    /// Hands a payload to a worker; gives the number of its frame.
    fn hand(&mut self, kind: Kind, payload: Vec<u8>) -> io::Result<u64> {
        let (done, ready) = sync_channel(1);
        let bytes = payload.len();
        if bytes > RAW_BYTES_MAX {
            // No reader would take it.
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{bytes} bytes for one frame of kind {kind:?}"),
            ));
        }
        let work = self.workers.work.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        // The queue has room for all that may be under way.
        work.send((kind, payload, done)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        self.under_way.push_back((ready, bytes));
        self.under_way_bytes += bytes;
        self.handed += 1;
        self.settle(self.options.jobs.max(1) * AHEAD)?;
        Ok(self.handed - 1)
    }

    /// Writes what is packed until no more than `left` payloads are under way.
    fn settle(&mut self, left: usize) -> io::Result<()> {
        while self.under_way.len() > left || self.under_way_bytes > AHEAD_BYTES {
            let Some((ready, bytes)) = self.under_way.pop_front() else { break };
            self.under_way_bytes -= bytes;
            let packed = ready.recv().map_err(|_| io::Error::other("a thread that packs has ended"))?;
            self.put(packed)?;
        }
        Ok(())
    }

    fn put(&mut self, packed: Packed) -> io::Result<()> {
        let number = self.written;
        match (packed.kind, self.named.remove(&number)) {
            (Kind::Message, _) => drop(self.offsets.insert(number, self.offset)),
            (_, Some(Name::User(user))) => self.index.users.push((user, self.offset)),
            (_, Some(Name::Mailbox(object))) => self.index.mailboxes.push((object, self.offset)),
            (_, Some(Name::Close)) => self.index.closes.push(self.offset),
            _ => {}
        }
        let head = Head {
            kind: packed.kind,
            packing: packed.packing,
            archive: self.id,
            number,
            offset: self.offset,
            stored: u32::try_from(packed.stored.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
            raw: packed.raw,
            payload_sum: packed.sum,
        };
        let bytes = head.encode();
        self.digest.update(&bytes);
        self.digest.update(&packed.stored);
        self.out.write_all(&bytes)?;
        self.out.write_all(&packed.stored)?;
        self.offset = head.end();
        self.written += 1;
        Ok(())
    }
}

/// The entries in runs of about [`INDEX_BYTES`].
fn parts<T>(entries: impl Iterator<Item = T>, length: impl Fn(&T) -> usize) -> impl Iterator<Item = Vec<T>> {
    /// Digits and signs of one entry.
    const BESIDE: usize = 48;
    let mut entries = entries.peekable();
    std::iter::from_fn(move || {
        let (mut part, mut bytes) = (Vec::new(), 0);
        while bytes < INDEX_BYTES {
            let Some(entry) = entries.next() else { break };
            bytes += BESIDE + length(&entry);
            part.push(entry);
        }
        (!part.is_empty()).then_some(part)
    })
}

/// An id written in 32 hexadecimal digits.
pub(super) fn archive_id(text: &str) -> Option<ArchiveId> {
    let mut id = ArchiveId::default();
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    for (n, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * n..2 * n + 2], 16).ok()?;
    }
    Some(id)
}
