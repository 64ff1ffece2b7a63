//! Finding one mailbox or one message in an archive that can be sought in.

use super::content::{About, Close, Index, Mailbox};
use super::frame::{ArchiveId, HEAD_BYTES, Head};
use super::read::{self, Found};
use super::{FOOTER_BYTES, Item, LISTED_MAX, MESSAGE_BYTES_MAX, Reader};
use std::collections::HashMap;
use std::io::{self, Read, Seek, SeekFrom};

/// Zeros behind the footer that are looked through, at most.
const PADDING_MAX: u64 = 16 << 20;

/// The head of an archive, and its mailboxes without their messages.
pub type Contents = (About, Vec<(Mailbox, Close)>);

/// An archive with its index.
#[derive(Debug)]
pub struct Seeker<R> {
    input: R,
    /// Its id, once it is known.
    id: Option<ArchiveId>,
    frames: HashMap<u64, u64>,
    mailboxes: Vec<(String, u64)>,
    users: Vec<(String, u64)>,
    closes: Vec<u64>,
    /// The index was read whole; without it frames are looked for from the beginning.
    has_index: bool,
    /// They were.
    looked: bool,
    /// Bytes were put in or taken out: frames are not where their heads say.
    is_shifted: bool,
}

fn too_many(what: &str, most: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it lists more than {most} {what}, and cannot have so many"))
}

impl<R: Read + Seek> Seeker<R> {
    /// Reads the index, if it is there and good.
    ///
    /// # Errors
    /// Those of the input.
    pub fn new(input: R) -> io::Result<Seeker<R>> {
        let mut seeker = Seeker {
            input,
            id: None,
            frames: HashMap::new(),
            mailboxes: Vec::new(),
            users: Vec::new(),
            closes: Vec::new(),
            has_index: false,
            looked: false,
            is_shifted: false,
        };
        if let Some((first, end)) = seeker.footer()? {
            seeker.has_index = seeker.read_index(first, end)?;
        }
        Ok(seeker)
    }

    /// Objects of the mailboxes and the offsets of their frames; `None` without an index.
    pub fn mailboxes(&self) -> Option<&[(String, u64)]> {
        self.has_index.then_some(&self.mailboxes)
    }

    /// User ids and the offsets of their frames; `None` without an index.
    pub fn users(&self) -> Option<&[(String, u64)]> {
        self.has_index.then_some(&self.users)
    }

    /// What the archive says of its mailboxes, without reading their messages: the head of each, and all of its end. `None` where the index does
    /// not lead to that, or one of these frames is not good.
    ///
    /// # Errors
    /// Those of the input.
    pub fn contents(&mut self) -> io::Result<Option<Contents>> {
        if !self.has_index || (self.closes.is_empty() && !self.mailboxes.is_empty()) {
            return Ok(None);
        }
        let Some((_, Found::Archive(about))) = self.frame(0)? else { return Ok(None) };
        let mut heads = HashMap::new();
        for (_, at) in self.mailboxes.clone() {
            let Some((head, Found::Mailbox(mailbox))) = self.frame(at)? else { return Ok(None) };
            heads.insert(head.number, mailbox);
        }
        let mut contents = Vec::with_capacity(self.closes.len());
        for at in self.closes.clone() {
            let Some(close) = self.close(at)? else { return Ok(None) };
            let Some(mailbox) = heads.remove(&close.begins) else { return Ok(None) };
            contents.push((mailbox, close));
        }
        Ok(Some((about, contents)))
    }

    /// All frames of the end of a mailbox as one.
    fn close(&mut self, mut at: u64) -> io::Result<Option<Close>> {
        let mut whole: Option<Close> = None;
        loop {
            let Some((head, Found::Close(part))) = self.frame(at)? else { return Ok(None) };
            at = head.end();
            let continues = part.continues;
            match &mut whole {
                None => whole = Some(part),
                Some(whole) => {
                    let lists = |close: &Close| {
                        close.has.len() + close.unreadable.len() + close.kept.as_ref().map_or(0, Vec::len)
                    };
                    if lists(whole) + lists(&part) > LISTED_MAX {
                        return Err(too_many("runs of messages of a mailbox", LISTED_MAX as u64));
                    }
                    whole.has.extend(part.has);
                    whole.unreadable.extend(part.unreadable);
                    whole.kept.get_or_insert_default().extend(part.kept.unwrap_or_default());
                }
            }
            if !continues {
                return Ok(whole);
            }
        }
    }

    /// The bytes of the message in the frame with this number; `None` if they are not there or not whole.
    ///
    /// # Errors
    /// Those of the input.
    pub fn message(&mut self, number: u64) -> io::Result<Option<Vec<u8>>> {
        let at = match self.frames.get(&number) {
            Some(at) => Some(*at),
            None => self.look_for(number)?,
        };
        let Some(at) = at else { return Ok(None) };
        let Some((head, Found::Message(message, mut bytes))) = self.frame(at)? else { return Ok(None) };
        if head.number != number || message.size > MESSAGE_BYTES_MAX {
            return Ok(None);
        }
        let end = |at: u64, head: &Head| at + HEAD_BYTES as u64 + u64::from(head.stored);
        let mut next = end(at, &head);
        while (bytes.len() as u64) < message.size {
            let Some((head, Found::More(more))) = self.frame(next)? else { return Ok(None) };
            next = end(next, &head);
            bytes.extend_from_slice(&more);
        }
        let is_whole = bytes.len() as u64 == message.size && *blake3::hash(&bytes).to_hex() == *message.digest;
        Ok(is_whole.then_some(bytes))
    }

    /// Gives the input back, at an unknown place.
    pub fn into_inner(self) -> R {
        self.input
    }

    fn footer(&mut self) -> io::Result<Option<(u64, u64)>> {
        let length = self.input.seek(SeekFrom::End(0))?;
        let from = length.saturating_sub(PADDING_MAX);
        let mut at = length;
        let mut block = Vec::new();
        // Backwards over zeros.
        while at > from {
            let start = at.saturating_sub(64 << 10).max(from);
            block.resize((at - start) as usize, 0);
            self.input.seek(SeekFrom::Start(start))?;
            self.input.read_exact(&mut block)?;
            match block.iter().rposition(|b| *b != 0) {
                Some(last) => {
                    at = start + last as u64 + 1;
                    break;
                }
                None => at = start,
            }
        }
        let Some(start) = at.checked_sub(FOOTER_BYTES as u64) else { return Ok(None) };
        let mut footer = [0; FOOTER_BYTES];
        self.input.seek(SeekFrom::Start(start))?;
        self.input.read_exact(&mut footer)?;
        Ok(read::footer(&footer).filter(|(first, end)| first <= end && *end < length))
    }

    /// Reads the index frames; false if one of them is not good.
    fn read_index(&mut self, first: u64, end: u64) -> io::Result<bool> {
        let mut at = first;
        while at < end {
            let Some((head, Found::Index(Index { users, mailboxes, closes, frames }))) = self.frame(at)? else {
                return Ok(false);
            };
            self.id = Some(head.archive);
            // Each of them has a head of its own.
            let listed = self.users.len() + self.mailboxes.len() + self.closes.len() + self.frames.len();
            let more = users.len() + mailboxes.len() + closes.len() + frames.len();
            if (listed + more) as u64 > end / HEAD_BYTES as u64 {
                return Err(too_many("frames in its index", end / HEAD_BYTES as u64));
            }
            self.users.extend(users);
            self.mailboxes.extend(mailboxes);
            self.closes.extend(closes);
            self.frames.extend(frames);
            // Its own head says where it ends: behind its beginning, which is this one.
            at = head.end();
        }
        Ok(matches!(self.frame(at)?, Some((_, Found::End(_)))))
    }

    /// The frame at an offset; `None` if there is no good one.
    fn frame(&mut self, at: u64) -> io::Result<Option<(Head, Found)>> {
        self.input.seek(SeekFrom::Start(at))?;
        let mut bytes = [0; HEAD_BYTES];
        let cut = |e: io::Error| if e.kind() == io::ErrorKind::UnexpectedEof { Ok(None) } else { Err(e) };
        if let Err(e) = self.input.read_exact(&mut bytes) {
            return cut(e);
        }
        let Ok(head) = Head::decode(&bytes) else { return Ok(None) };
        let mut stored = vec![0; head.stored as usize];
        if let Err(e) = self.input.read_exact(&mut stored) {
            return cut(e);
        }
        let is_here = head.offset == at || self.is_shifted;
        if !is_here || self.id.is_some_and(|id| id != head.archive) || super::frame::sum(&stored) != head.payload_sum {
            return Ok(None);
        }
        Ok(read::found(&head, stored).ok().map(|found| (head, found)))
    }

    /// Looks for a frame from the beginning, and remembers all that it meets.
    fn look_for(&mut self, number: u64) -> io::Result<Option<u64>> {
        if self.has_index || self.looked {
            return Ok(None);
        }
        self.looked = true;
        self.input.seek(SeekFrom::Start(0))?;
        let mut reader = Reader::new(&mut self.input);
        let mut frames = HashMap::new();
        while let Some(item) = reader.next()? {
            if let Item::Frame { number, offset, found: Found::Message(..) } = item {
                frames.insert(number, offset);
            }
        }
        self.id = reader.id();
        self.is_shifted = true;
        self.frames.extend(frames);
        Ok(self.frames.get(&number).copied())
    }
}
