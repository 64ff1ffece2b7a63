//! Reading an archive, in one pass, whatever its state.

use super::content::{About, Close, End, Index, Mailbox, Message, Moves, Reference, User};
use super::frame::{self, ArchiveId, HEAD_BYTES, Head, HeadError, Kind, MAGIC};
use super::{FOOTER, FOOTER_BYTES, STORED_BYTES_MAX};
use serde::de::DeserializeOwned;
use std::io::{self, Read};

/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;

/// A place that cannot be used. What was before and what is behind can.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bytes {from} to {to}: {what}")]
pub struct Damage {
    /// Where it begins.
    pub from: u64,
    /// Where the next good frame begins, or the archive ends.
    pub to: u64,
    /// What is wrong.
    pub what: String,
    /// Numbers of the frames that are not there or not whole: the first, and the one behind the last if one is known.
    pub frames: (u64, Option<u64>),
}

/// What stands in a frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// What the archive is.
    Archive(About),
    /// The owner of what follows.
    User(User),
    /// What became of mailboxes of the archive before.
    Moves(Moves),
    /// A mailbox.
    Mailbox(Mailbox),
    /// A message and its first bytes; [`Found::More`] follows if they are not all.
    Message(Message, Vec<u8>),
    /// Further bytes of the message in the frame before.
    More(Vec<u8>),
    /// A message whose bytes stand elsewhere.
    Reference(Reference),
    /// The mailbox is whole.
    Close(Close),
    /// Where frames begin.
    Index(Index),
    /// The archive is whole.
    End(End),
}

/// One thing found on the way.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// A frame that is as it was written.
    Frame {
        /// Its number.
        number: u64,
        /// Where it begins.
        offset: u64,
        /// What stands in it.
        found: Found,
    },
    /// Something else.
    Damage(Damage),
}

/// Reads what stands in a frame whose checksums were found right.
pub(super) fn found(head: &Head, stored: Vec<u8>) -> Result<Found, String> {
    fn json<T: DeserializeOwned>(payload: &[u8]) -> Result<T, String> {
        serde_json::from_slice(payload).map_err(|e| format!("its text cannot be read: {e}"))
    }
    let payload = frame::unpack(head, stored)?;
    Ok(match head.kind {
        Kind::Archive => Found::Archive(json(&payload)?),
        Kind::User => Found::User(json(&payload)?),
        Kind::Mailbox => Found::Mailbox(json(&payload)?),
        Kind::Message => {
            let (length, rest) = payload.split_first_chunk::<4>().ok_or("it is too short")?;
            let length = u32::from_le_bytes(*length) as usize;
            let (text, bytes) = rest.split_at_checked(length).ok_or("its text is longer than it")?;
            Found::Message(json(text)?, bytes.to_vec())
        }
        Kind::More => Found::More(payload),
        Kind::Reference => Found::Reference(json(&payload)?),
        Kind::Close => Found::Close(json(&payload)?),
        Kind::Index => Found::Index(json(&payload)?),
        Kind::End => Found::End(json(&payload)?),
        Kind::Moves => Found::Moves(json(&payload)?),
    })
}

/// Reads an archive from its first byte.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    /// Bytes that were read, from `done` on not looked at yet.
    bytes: Vec<u8>,
    done: usize,
    /// Where in the archive `bytes[done]` is.
    offset: u64,
    is_at_end: bool,
    id: Option<ArchiveId>,
    /// Number of the next frame.
    number: u64,
    /// Nothing more comes of it.
    ended: bool,
    /// The last frame was found.
    closed: bool,
    digest: blake3::Hasher,
    /// Nothing was damaged so far: the digest in the last frame holds.
    is_whole: bool,
    /// What is behind the last frame is somebody else's.
    ends_at_its_end: bool,
}

impl<R: Read> Reader<R> {
    /// Reads nothing yet.
    pub fn new(input: R) -> Reader<R> {
        Reader {
            input,
            bytes: Vec::new(),
            done: 0,
            offset: 0,
            is_at_end: false,
            id: None,
            number: 0,
            ended: false,
            closed: false,
            digest: blake3::Hasher::new(),
            is_whole: true,
            ends_at_its_end: false,
        }
    }

    /// From a device, which still has what was on it before behind the archive: nobody looks at that.
    pub fn of_device(mut self, is_device: bool) -> Reader<R> {
        self.ends_at_its_end = is_device;
        self
    }

    /// True once the last frame was found: what was not there until then is not in the archive.
    pub fn is_complete(&self) -> bool {
        self.closed
    }

    /// Id of the archive, once a frame was found.
    pub fn id(&self) -> Option<ArchiveId> {
        self.id
    }

    /// The next thing; `None` behind the last. An archive that ends before its last frame ends with a [`Damage`].
    ///
    /// # Errors
    /// Those of the input.
    #[expect(clippy::should_implement_trait, reason = "fallible, as reading is")]
    pub fn next(&mut self) -> io::Result<Option<Item>> {
        if self.ended {
            return Ok(None);
        }
        if self.closed {
            self.ended = true;
            return if self.ends_at_its_end { Ok(None) } else { self.rest() };
        }
        let (from, expected) = (self.offset, self.number);
        match self.head()? {
            Some(Ok(head)) if head.number >= expected => {
                if head.number > expected {
                    // Only a frame that was taken out whole, and all offsets changed behind it, leaves no bytes between.
                    self.number = head.number;
                    return self.damage(from, "frames are missing", (expected, Some(head.number))).map(Some);
                }
                self.frame(&head).map(Some)
            }
            Some(Err(HeadError::Newer(version))) => {
                self.ended = true;
                let what = HeadError::Newer(version).to_string();
                self.damage(from, &what, (expected, None)).map(Some)
            }
            None => {
                self.ended = true;
                self.is_whole = false;
                let what = if self.offset == 0 { "it is empty" } else { "it ends here, without its last frame" };
                let damage = Damage { from, to: from, what: what.to_owned(), frames: (expected, None) };
                Ok(Some(Item::Damage(damage)))
            }
            Some(other) => {
                let what = match other {
                    Err(e) => e.to_string(),
                    Ok(_) => "a frame of an earlier place".to_owned(),
                };
                self.resume(from, &what).map(Some)
            }
        }
    }

    fn damage(&mut self, from: u64, what: &str, frames: (u64, Option<u64>)) -> io::Result<Item> {
        self.is_whole = false;
        Ok(Item::Damage(Damage { from, to: self.offset, what: what.to_owned(), frames }))
    }

    /// Sees to it that `count` bytes are there, if the input has as many; gives how many are.
    fn fill(&mut self, count: usize) -> io::Result<usize> {
        if self.bytes.len() - self.done < count && !self.is_at_end {
            self.bytes.drain(..self.done);
            self.done = 0;
            while self.bytes.len() < count && !self.is_at_end {
                let before = self.bytes.len();
                self.bytes.resize(before + READ_BYTES, 0);
                let result = self.input.read(&mut self.bytes[before..]);
                let read = match &result {
                    Ok(read) => *read,
                    Err(_) => 0,
                };
                self.bytes.truncate(before + read);
                match result {
                    Ok(read) => self.is_at_end = read == 0,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(self.bytes.len() - self.done)
    }

    fn pass(&mut self, count: usize) {
        self.done += count;
        self.offset += count as u64;
    }

    /// The head at this place; `None` at the end of the input.
    fn head(&mut self) -> io::Result<Option<Result<Head, HeadError>>> {
        let there = self.fill(HEAD_BYTES)?;
        if there == 0 {
            return Ok(None);
        }
        let Some(bytes) = self.bytes[self.done..].first_chunk::<HEAD_BYTES>() else {
            return Ok(Some(Err(HeadError::None)));
        };
        Ok(Some(Head::decode(bytes).and_then(|head| {
            // Bytes may have been put in or taken out before it. As long as the archive is not known only the right place counts:
            // a message may hold an archive.
            let fits = self.id.map_or(head.offset == self.offset, |id| id == head.archive);
            if fits { Ok(head) } else { Err(HeadError::Wrong("the head of another place or archive")) }
        })))
    }

    /// The frame with this head, which begins here.
    fn frame(&mut self, head: &Head) -> io::Result<Item> {
        let length = HEAD_BYTES + head.stored as usize;
        debug_assert!(length <= HEAD_BYTES + STORED_BYTES_MAX);
        let there = self.fill(length)?;
        self.id = Some(head.archive);
        self.number = head.number.saturating_add(1);
        let from = self.offset;
        if there < length {
            self.pass(there);
            self.ended = true;
            return self.damage(from, "it ends here, in the middle of a frame", (head.number, None));
        }
        let whole = &self.bytes[self.done..self.done + length];
        let stored = whole[HEAD_BYTES..].to_vec();
        if head.kind != Kind::End {
            self.digest.update(whole);
        }
        self.pass(length);
        let frames = (head.number, Some(head.number.saturating_add(1)));
        if frame::sum(&stored) != head.payload_sum {
            // What is behind it is found by the length in the head, which has a checksum of its own.
            return self.damage(from, "a frame with another checksum", frames);
        }
        match found(head, stored) {
            Ok(found) => {
                self.closed = matches!(found, Found::End(_));
                if let Found::End(end) = &found
                    && self.is_whole
                    && *self.digest.finalize().to_hex() != *end.digest
                {
                    return self.damage(
                        from,
                        "all frames are good, and they are not those that it was closed with",
                        frames,
                    );
                }
                Ok(Item::Frame { number: head.number, offset: from, found })
            }
            Err(what) => self.damage(from, &format!("a frame that is not what it says: {what}"), frames),
        }
    }

    /// Behind the last frame: the footer, or nothing, and zeros.
    fn rest(&mut self) -> io::Result<Option<Item>> {
        if self.fill(FOOTER_BYTES)? >= FOOTER_BYTES
            && let Some(bytes) = self.bytes[self.done..].first_chunk()
            && footer(bytes).is_some()
        {
            self.pass(FOOTER_BYTES);
        }
        loop {
            let there = self.fill(READ_BYTES)?;
            if there == 0 {
                return Ok(None);
            }
            let zeros = self.bytes[self.done..].iter().take_while(|b| **b == 0).count();
            self.pass(zeros);
            if zeros < there {
                let from = self.offset;
                return self
                    .damage(from, "bytes behind its end that do not belong to it", (self.number, Some(self.number)))
                    .map(Some);
            }
        }
    }

    /// Looks for the next good head behind bytes that are none.
    fn resume(&mut self, from: u64, what: &str) -> io::Result<Item> {
        let expected = self.number;
        self.pass(1);
        loop {
            let there = self.fill(READ_BYTES)?;
            if there == 0 {
                self.ended = true;
                let what = format!("{what}, and nothing good behind it");
                return self.damage(from, &what, (expected, None));
            }
            let ahead = &self.bytes[self.done..];
            match ahead.windows(MAGIC.len()).position(|window| window == MAGIC) {
                Some(at) => {
                    self.pass(at);
                    if let Some(Ok(head)) = self.head()?
                        && head.number >= expected
                    {
                        self.number = head.number;
                        return self.damage(from, what, (expected, Some(head.number)));
                    }
                    self.pass(1);
                }
                None => {
                    // The beginning of a head may stand at the end of what was read.
                    let keep = if self.is_at_end { 0 } else { MAGIC.len() - 1 };
                    self.pass(there.saturating_sub(keep).max(usize::from(self.is_at_end)));
                }
            }
        }
    }
}

/// Reads a footer: offsets of the first index frame and of the end frame.
pub(super) fn footer(bytes: &[u8; FOOTER_BYTES]) -> Option<(u64, u64)> {
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|n| bytes[at + n]));
    (bytes[16..] == FOOTER).then(|| (word(0), word(8)))
}
