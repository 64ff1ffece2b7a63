//! All of the archive that an incremental one follows, frame by frame: where its index does not lead to its mailboxes, and where its messages are
//! to be proven.
//!
//! # Invariants
//! * A message counts as one that the archive has only if its bytes have its digest, or stand in a frame of which that is so.
//! * Of a mailbox whose head is damaged nothing counts, and of one whose end is damaged only what was met.

use super::Skipped;
use super::base::{Base, Known, known, sorted_runs};
use crate::archive::content::{About, Before, Close, Mailbox, Message, Reference};
use crate::archive::uids::{Uids, shown};
use crate::archive::{Damage, Found, Item, LISTED_MAX, Reader};
use crate::exit::{Outcome, Stop};
use crate::files;
use proto::Code;
use std::collections::HashMap;
use std::path::Path;

/// What to do about an archive of which not enough is known.
const HINT: &str = "make a full backup: without --since-archive";

/// Damaged messages that are named one by one; of those behind them runs are named. What an archive says it has costs nothing to say.
const NAMED_MAX: u64 = 100_000;

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
    /// Messages among these that are named one by one.
    named: u64,
}

impl Whole {
    /// Nothing of an archive was read yet.
    fn of(name: String, proves: bool) -> Whole {
        Whole {
            name,
            proves,
            about: None,
            mailboxes: HashMap::new(),
            names: HashMap::new(),
            open: None,
            coming: None,
            bad: Vec::new(),
            damaged: Vec::new(),
            named: 0,
        }
    }

    /// Reads an archive from its first byte to its last.
    ///
    /// # Errors
    /// It cannot be read, is no archive, or is of other frames than it was closed with (65); unless it `proves`: anything of it is damaged (65).
    pub(super) fn read(path: &Path, proves: bool) -> Outcome<Base> {
        let mut whole = Whole::of(path.display().to_string(), proves);
        let (mut reader, mut has_end) =
            (Reader::new(files::open(path)?).of_device(files::is_block_device(path)), false);
        while let Some(item) = reader.next().map_err(|e| files::failed(path, &e))? {
            match item {
                Item::Frame { number, found, .. } => {
                    has_end |= matches!(found, Found::End(_));
                    whole.frame(number, found)?;
                }
                Item::Damage(damage) => whole.damage(damage)?,
            }
        }
        whole.end(reader.is_complete() && !has_end)
    }

    fn frame(&mut self, number: u64, found: Found) -> Outcome<()> {
        if let Found::More(bytes) = &found {
            self.more(bytes);
            return Ok(());
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
                // They came in order.
                let before = |frame: u64| self.bad.partition_point(|(first, _)| *first <= frame).checked_sub(1);
                let is_bad = |frame: u64| before(frame).is_some_and(|at| frame < self.bad[at].1);
                if !frame.is_some_and(is_bad) {
                    self.good(&message);
                }
            }
            Found::Close(close) => self.close(close)?,
            _ => {}
        }
        Ok(())
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

    fn close(&mut self, close: Close) -> Outcome<()> {
        let Some(open) = self.open.as_mut().filter(|open| open.begins == close.begins) else { return Ok(()) };
        let more = close.kept.unwrap_or_default();
        let listed = open.kept.len() + open.has.len() + more.len() + close.has.len();
        if listed > LISTED_MAX {
            let text = format!("{} lists {listed} runs of messages of a mailbox, more than {LISTED_MAX}", self.name);
            return Err(Stop::hint(Code::BadInput, text, HINT));
        }
        open.kept.extend(more);
        open.has.extend(close.has);
        if close.continues {
            return Ok(());
        }
        let Some(Open { id, object, before, good, kept, has, .. }) = self.open.take() else { return Ok(()) };
        let met = good.len() as u64;
        let (all, good) = (Uids::of(has), sorted_runs(good));
        // Without what is damaged nobody can tell what a restore leaves.
        let before = Before { state: close.state.filter(|_| all == good), ..before };
        for run in all.without(&good).pairs() {
            self.lacks(&object, *run);
        }
        if all.pairs().is_empty() && met < close.messages {
            // One of an older program does not say which.
            let reason = format!("{} messages damaged in {}", close.messages - met, self.name);
            self.damaged.push(Skipped { object, uid: None, reason });
        }
        self.names.insert(before.name.clone(), id);
        self.mailboxes.insert(id, Known { before, has: good.with(kept) });
        Ok(())
    }

    /// Messages that it says it has, and has not.
    fn lacks(&mut self, object: &str, run: (u32, u32)) {
        let (count, why) = (u64::from(run.1 - run.0) + 1, format!("damaged in {}", self.name));
        let skipped = |uid, reason| Skipped { object: object.to_owned(), uid, reason };
        if self.named + count > NAMED_MAX {
            self.damaged.push(skipped(None, format!("messages {} {why}", shown(run))));
        } else {
            self.named += count;
            self.damaged.extend((run.0..=run.1).map(|uid| skipped(Some(uid), why.clone())));
        }
    }

    /// One without its end could not be listed: it is as if it were not there. Or that is damaged: only what was met of it counts.
    fn unclosed(&mut self) {
        let Some(open) = self.open.take().filter(|_| self.proves && !self.bad.is_empty()) else { return };
        let Open { id, object, before, good, kept, .. } = open;
        let reason = format!("its end is damaged in {}", self.name);
        self.damaged.push(Skipped { object, uid: None, reason });
        self.names.insert(before.name.clone(), id);
        self.mailboxes.insert(id, Known { before, has: sorted_runs(good).with(kept) });
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

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(proves: bool) -> Whole {
        Whole::of("a".to_owned(), proves)
    }

    fn mailbox(name: &str) -> Mailbox {
        let text = format!(
            r#"{{"object":"/p/{name}","name":"{name}","id":"{}","partition":"p","uidvalidity":1,"uidnext":9,"highest_modseq":9,"acl":{{}}}}"#,
            name.len()
        );
        serde_json::from_str(&text).unwrap()
    }

    fn close(has: Vec<(u32, u32)>, continues: bool) -> Found {
        Found::Close(Close { begins: 1, has, continues, ..Close::default() })
    }

    // Each of the messages that a few bytes of an archive name was a number in a set, and a line: 4,000,000,000 of them.
    #[test]
    fn what_an_archive_says_it_has_costs_what_it_says_and_not_what_it_names() {
        let mut archive = whole(true);
        archive.frame(1, Found::Mailbox(mailbox("a"))).unwrap();
        archive.frame(2, close(vec![(3, 5)], true)).unwrap();
        archive.frame(3, close(vec![(1, 1_000_000), (7, 9)], false)).unwrap();
        assert!(archive.damaged.len() < 1000, "{} lines", archive.damaged.len());
        archive.frame(1, Found::Mailbox(mailbox("bb"))).unwrap();
        archive.frame(2, close(vec![(1, u32::MAX)], false)).unwrap();
        archive.frame(1, Found::Mailbox(mailbox("ccc"))).unwrap();
        archive.frame(2, close(vec![(4, 5)], false)).unwrap();
        let said: Vec<_> = archive.damaged.iter().map(|s| (s.object.as_str(), s.uid, s.reason.as_str())).collect();
        assert_eq!(
            said,
            [
                ("/p/a", None, "messages 1-1000000 damaged in a"),
                ("/p/bb", None, "messages 1-4294967295 damaged in a"),
                ("/p/ccc", Some(4), "damaged in a"),
                ("/p/ccc", Some(5), "damaged in a"),
            ]
        );
        assert!(archive.mailboxes.values().all(|known| known.has.count() == 0), "none of them counts");
        // A list of pairs that goes on and on.
        let mut archive = whole(false);
        archive.frame(1, Found::Mailbox(mailbox("a"))).unwrap();
        let many = || close((0..60_000).map(|n| (n, n)).collect(), true);
        let ended = (0..100).find_map(|_| archive.frame(2, many()).err());
        assert!(matches!(ended, Some(Stop::Failed(failure)) if failure.code == Code::BadInput));
    }
}
