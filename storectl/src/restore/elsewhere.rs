//! Messages whose bytes stand elsewhere in the archive: copied from where those went, looked up, or wanted for a second run.

use super::open::lost;
use super::put::{Restorer, Went, key};
use super::references::Wanted;
use crate::archive::content::{Mailbox, Message, Reference};
use crate::exit::{Outcome, Stop};
use proto::{Code, ReturningBody};
use std::io::{Read, Seek};

impl<R: Read + Seek> Restorer<'_, R> {
    /// Whether the bytes of a frame are in the store, so that a reference to it needs no others.
    ///
    /// # Errors
    /// Those that end the whole run.
    pub(super) fn has_put(&mut self, frame: u64) -> Outcome<bool> {
        if self.batch.iter().any(|waiting| waiting.frame == Some(frame)) {
            self.flush()?;
        }
        Ok(self.went.contains_key(&frame) && !self.asked.query.needs_header())
    }

    /// A message whose bytes stand elsewhere.
    pub(super) fn reference(&mut self, reference: Reference) -> Outcome<()> {
        let Reference { message, frame, of } = reference;
        if !self.is_of(&message)? {
            return Ok(());
        }
        let Some(frame) = frame else { return self.changed(&message) };
        if !self.asked.query.needs_header() && !self.asked.query.takes(&message, &[]) {
            return Ok(());
        }
        if self.batch.iter().any(|waiting| waiting.frame == Some(frame)) {
            self.flush()?;
        }
        // A frame of other bytes than the reference states is none that it may stand for.
        let is_it = |went: &Went| went.digest.is_some_and(|digest| *digest.to_hex() == *message.digest);
        if let Some(went) = self.went.get(&frame).filter(|went| is_it(went)).cloned()
            && !self.asked.query.needs_header()
        {
            return self.copy(&message, &went, frame);
        }
        if !self.is_sick(&message) && self.is_there(&message, false) {
            return Ok(());
        }
        if self.seeker.is_none()
            && !self.asked.query.needs_header()
            && let Some((mailbox, uid)) = self.passed.get(frame).map(|(mailbox, uid)| (mailbox.to_owned(), uid))
            && let Some(digest) = self.house.digest(&mailbox, uid)?
            && *digest.to_hex() == *message.digest
        {
            let went = Went { mailbox, uid, digest: Some(digest) };
            self.went.insert(frame, went.clone());
            return self.copy(&message, &went, frame);
        }
        let Some(seeker) = &mut self.seeker else { return self.want(message, frame, of) };
        let bytes = seeker.message(frame).map_err(|e| Stop::new(Code::Io, format!("the archive: {e}")))?;
        match bytes.filter(|bytes| *blake3::hash(bytes).to_hex() == *message.digest) {
            // Found again it is one message more that others may refer to.
            Some(bytes) => self.restore(&message, &bytes, Some(frame)),
            None => {
                let object = self.object();
                let of = of.map_or(String::new(), |(object, uid)| format!(": those of {object} {uid}"));
                self.summary.fail(object, Some(message.uid), format!("its bytes are not in the archive any more{of}"));
                Ok(())
            }
        }
    }

    /// A message gets the bytes that another one of the store has, if it is that one still: its mailbox may have been replaced meanwhile.
    fn copy(&mut self, message: &Message, went: &Went, frame: u64) -> Outcome<()> {
        let body = match went.digest {
            Some(digest) => ReturningBody::Same { uid: went.uid, digest: digest.into() },
            None => ReturningBody::Copy(went.uid),
        };
        if !self.made()? {
            return Ok(());
        }
        let sick = self.take_sick(message);
        for of in &sick {
            self.queue(message, (body.clone(), None), went.mailbox.clone(), Some(frame), Some(*of))?;
        }
        if self.is_there(message, !sick.is_empty()) {
            return Ok(());
        }
        self.queue(message, (body, None), went.mailbox.clone(), Some(frame), None)
    }

    /// A message was left out, for the mailbox has it: from a pipe nobody gets its bytes once more, and others may refer to them.
    pub(super) fn pass(&mut self, message: &Message, frame: Option<u64>) {
        let (Some(open), Some(frame)) = (self.open.as_ref().filter(|_| self.seeker.is_none()), frame) else { return };
        let is_itself = open.there.get(&message.uid).is_some_and(|(digest, _)| *digest == message.digest);
        let twin = || open.has.get(&key(message)).copied();
        if let Some(uid) = if is_itself { Some(message.uid) } else { twin() } {
            self.passed.add(frame, &open.name, uid);
        }
    }

    /// A reference that cannot be followed in a pipe.
    fn want(&mut self, message: Message, frame: u64, of: Option<(String, u32)>) -> Outcome<()> {
        // The second run looks for the mailbox.
        self.made()?;
        let (Some(open), Some(about)) = (&mut self.open, &self.about) else { return Ok(()) };
        let keeps_uid = open.keeps_uids && (open.was_made || open.fills(message.uid));
        let depends =
            of.as_ref().map_or(String::new(), |(object, uid)| format!(": {object} {uid} is to be restored first"));
        self.wanted.push(Wanted {
            archive: about.id.clone(),
            frame,
            of,
            object: open.archived.object.clone(),
            to: open.name.clone(),
            keeps_uid,
            message: message.clone(),
        });
        let object = self.object();
        self.summary.fail(object, Some(message.uid), format!("its bytes stand elsewhere in the archive{depends}"));
        Ok(())
    }

    /// The second run: the bytes that a reference wanted.
    pub(super) fn late(&mut self, wanted: &Wanted, bytes: &[u8]) -> Outcome<()> {
        if self.about.as_ref().is_none_or(|about| about.id != wanted.archive) {
            return Err(Stop::new(Code::BadInput, format!("the references are those of archive {}", wanted.archive)));
        }
        let here = self.house.mailbox(&wanted.to)?;
        let Some(here) = here else {
            self.summary.fail(
                wanted.object.clone(),
                Some(wanted.message.uid),
                format!("{} is not there any more", wanted.to),
            );
            return Ok(());
        };
        self.leave()?;
        let archived =
            Mailbox { object: wanted.object.clone(), uidvalidity: here.mailbox.uidvalidity, ..lost(&wanted.message) };
        let looked = self.look_into(0, archived, wanted.to.clone());
        let looked = self.or_fail(&wanted.object, Some(wanted.message.uid), looked)?;
        let Some(mut open) = looked else { return Ok(()) };
        let is_free = !open.there.contains_key(&wanted.message.uid);
        (open.keeps_uids, open.was_made) = (wanted.keeps_uid && is_free, wanted.keeps_uid && is_free);
        self.open = Some(open);
        self.restore(&wanted.message, bytes, None)?;
        self.keep_sick();
        self.leave()
    }
}
