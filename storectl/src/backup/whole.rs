//! All of the archive that an incremental one follows, frame by frame: where its index does not lead to its mailboxes, and where its messages are
//! to be proven.
//!
//! # Invariants
//! * A message counts as one that the archive has only if its bytes have its digest, or stand in a frame of which that is so.
//! * Of a mailbox whose head is damaged nothing counts, and of one whose end is damaged only what was met.

use super::Skipped;
use super::base::{Base, Known, joined, known, sorted_runs};
use crate::archive::content::{About, Before, Close, Mailbox, Message, Reference};
use crate::archive::{Damage, Found, Item, Reader};
use crate::exit::{Outcome, Stop};
use crate::files;
use proto::Code;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

/// What to do about an archive of which not enough is known.
const HINT: &str = "make a full backup: without --since-archive";

/// A mailbox whose frames are passing.
struct Open {
    begins: u64,
    id: u64,
    object: String,
    before: Before,
    /// Those of its messages that are good.
    good: Vec<u32>,
    /// What its end says of it, so far.
    kept: Vec<(u32, u32)>,
    has: Vec<(u32, u32)>,
}

/// A message whose bytes are passing.
struct Coming {
    frame: u64,
    message: Message,
    bytes: u64,
    hasher: blake3::Hasher,
}

/// See the page.
pub(super) struct Whole {
    name: String,
    /// Bytes of messages are compared with their digests, and damage is noted instead of refused.
    proves: bool,
    about: Option<About>,
    mailboxes: HashMap<u64, Known>,
    names: HashMap<String, u64>,
    open: Option<Open>,
    coming: Option<Coming>,
    /// Frames that are not there or not good: the first, and the one behind the last.
    bad: Vec<(u64, u64)>,
    damaged: Vec<Skipped>,
}

impl Whole {
    /// Reads an archive from its first byte to its last.
    ///
    /// # Errors
    /// It cannot be read, is no archive, or is of other frames than it was closed with (65); unless it `proves`: anything of it is damaged (65).
    pub(super) fn read(path: &Path, proves: bool) -> Outcome<Base> {
        let mut whole = Whole {
            name: path.display().to_string(),
            proves,
            about: None,
            mailboxes: HashMap::new(),
            names: HashMap::new(),
            open: None,
            coming: None,
            bad: Vec::new(),
            damaged: Vec::new(),
        };
        let (mut reader, mut has_end) =
            (Reader::new(files::open(path)?).of_device(files::is_block_device(path)), false);
        while let Some(item) = reader.next().map_err(|e| files::failed(path, &e))? {
            match item {
                Item::Frame { number, found, .. } => {
                    has_end |= matches!(found, Found::End(_));
                    whole.frame(number, found);
                }
                Item::Damage(damage) => whole.damage(damage)?,
            }
        }
        whole.end(reader.is_complete() && !has_end)
    }

    fn frame(&mut self, number: u64, found: Found) {
        if let Found::More(bytes) = &found {
            return self.more(bytes);
        }
        self.cut_off();
        match found {
            Found::Archive(about) => self.about = Some(about),
            Found::Mailbox(mailbox) => self.begin(number, mailbox),
            Found::Message(message, first) => {
                self.coming = Some(Coming { frame: number, message, bytes: 0, hasher: blake3::Hasher::new() });
                self.more(&first);
            }
            Found::Reference(Reference { message, frame, .. }) => {
                let is_bad = |frame: u64| self.bad.iter().any(|(first, end)| (*first..*end).contains(&frame));
                if !frame.is_some_and(is_bad) {
                    self.good(&message);
                }
            }
            Found::Close(close) => self.close(close),
            _ => {}
        }
    }

    fn begin(&mut self, begins: u64, mailbox: Mailbox) {
        self.unclosed();
        let object = mailbox.object.clone();
        let (id, before) = known(mailbox, None);
        self.open = Some(Open { begins, id, object, before, good: Vec::new(), kept: Vec::new(), has: Vec::new() });
    }

    /// The next bytes of the message that is passing.
    fn more(&mut self, bytes: &[u8]) {
        let Some(coming) = &mut self.coming else { return };
        coming.bytes += bytes.len() as u64;
        if self.proves {
            coming.hasher.update(bytes);
        }
        if coming.bytes < coming.message.size {
            return;
        }
        let Some(Coming { frame, message, bytes, hasher }) = self.coming.take() else { return };
        match !self.proves || (bytes == message.size && *hasher.finalize().to_hex() == *message.digest) {
            true => self.good(&message),
            false => self.bad.push((frame, frame + 1)),
        }
    }

    fn good(&mut self, message: &Message) {
        if let Some(open) = self.open.as_mut().filter(|open| open.begins == message.begins) {
            open.good.push(message.uid);
        }
    }

    /// A message whose last bytes did not come.
    fn cut_off(&mut self) {
        self.bad.extend(self.coming.take().map(|coming| (coming.frame, coming.frame + 1)));
    }

    fn close(&mut self, close: Close) {
        let Some(open) = self.open.as_mut().filter(|open| open.begins == close.begins) else { return };
        open.kept.extend(close.kept.unwrap_or_default());
        open.has.extend(close.has);
        if close.continues {
            return;
        }
        let Some(Open { id, object, before, good, kept, has, .. }) = self.open.take() else { return };
        let all: BTreeSet<u32> = has.iter().flat_map(|(first, last)| *first..=*last).collect();
        let are_good: BTreeSet<u32> = good.iter().copied().collect();
        let why = || format!("damaged in {}", self.name);
        let damaged = all.difference(&are_good);
        // Without what is damaged nobody can tell what a restore leaves.
        let before = Before { state: close.state.filter(|_| all == are_good), ..before };
        self.damaged.extend(damaged.map(|uid| Skipped { object: object.clone(), uid: Some(*uid), reason: why() }));
        if all.is_empty() && (good.len() as u64) < close.messages {
            // One of an older program does not say which.
            let reason = format!("{} messages {}", close.messages - good.len() as u64, why());
            self.damaged.push(Skipped { object, uid: None, reason });
        }
        self.names.insert(before.name.clone(), id);
        self.mailboxes.insert(id, Known { before, has: joined(sorted_runs(good), kept) });
    }

    /// One without its end could not be listed: it is as if it were not there. Or that is damaged: only what was met of it counts.
    fn unclosed(&mut self) {
        let Some(open) = self.open.take().filter(|_| self.proves && !self.bad.is_empty()) else { return };
        let Open { id, object, before, good, kept, .. } = open;
        let reason = format!("its end is damaged in {}", self.name);
        self.damaged.push(Skipped { object, uid: None, reason });
        self.names.insert(before.name.clone(), id);
        self.mailboxes.insert(id, Known { before, has: joined(sorted_runs(good), kept) });
    }

    fn damage(&mut self, damage: Damage) -> Outcome<()> {
        if !self.proves {
            let text = format!("{} is damaged, {damage}", self.name);
            return Err(Stop::hint(Code::BadInput, text, HINT));
        }
        self.cut_off();
        self.bad.push((damage.frames.0, damage.frames.1.unwrap_or(u64::MAX)));
        let object = format!("bytes {} to {} of {}", damage.from, damage.to, self.name);
        self.damaged.push(Skipped { object, uid: None, reason: damage.what });
        Ok(())
    }

    fn end(mut self, is_another: bool) -> Outcome<Base> {
        self.cut_off();
        self.unclosed();
        if is_another {
            let text =
                format!("{} is of other frames than it was closed with: none of them can be relied on", self.name);
            return Err(Stop::hint(Code::BadInput, text, HINT));
        }
        let Whole { name, about, mailboxes, names, damaged, .. } = self;
        let none = || Stop::hint(Code::BadInput, format!("{name} is no archive that can be read"), HINT);
        let about = about.ok_or_else(none)?;
        Ok(Base { name, about, mailboxes, names, damaged })
    }
}
