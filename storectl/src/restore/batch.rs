//! Messages on their way into the open mailbox, many in a transaction.

use super::put::{Restorer, Waiting, Went, is_about_it};
use super::summary::Restored;
use crate::exit::{Outcome, Stop};
use jiff::{SignedDuration, Timestamp};
use proto::{Code, Failure, ReturningBody, ReturningMessage};
use std::io::{Read, Seek};
use std::ops::Range;

/// After so long a lease is taken again; it lasts twice as long.
const LEASE_RENEWED: SignedDuration = SignedDuration::from_mins(30);

impl<R: Read + Seek> Restorer<'_, R> {
    /// Sends what waits.
    pub(super) fn flush(&mut self) -> Outcome<()> {
        let batch = std::mem::take(&mut self.batch);
        (self.batch_bytes, self.batch_sent) = (0, 0);
        let Some(open) = self.open.as_ref().filter(|_| !batch.is_empty()) else { return Ok(()) };
        let name = open.name.clone();
        self.renew()?;
        let (heals, batch): (Vec<Waiting>, Vec<Waiting>) = batch.into_iter().partition(|one| one.heals.is_some());
        let healed: Vec<Result<u32, String>> = match self.asked.args.dry_run {
            true => heals.iter().map(|one| Ok(one.heals.unwrap_or(0))).collect(),
            false => self.heal(&name, &heals)?,
        };
        let uids: Vec<Result<u32, String>> = match self.asked.args.dry_run {
            true => batch.iter().map(|one| Ok(one.message.uid.unwrap_or(0))).collect(),
            false => self.send(&name, &batch)?,
        };
        self.added(&name);
        for (one, new_uid) in heals.into_iter().chain(batch).zip(healed.into_iter().chain(uids)) {
            let Waiting { size, object, uid, frame, digest, heals, .. } = one;
            let new_uid = match new_uid {
                Ok(new_uid) => new_uid,
                Err(why) => {
                    self.summary.fail(object, Some(uid), why);
                    continue;
                }
            };
            self.summary.bytes += size;
            if let Some(frame) = frame.filter(|_| !self.asked.args.dry_run) {
                let digest = blake3::Hash::from_hex(digest).ok();
                self.went.insert(frame, Went { mailbox: name.clone(), uid: new_uid, digest });
            }
            self.open.iter_mut().for_each(|open| open.reached = open.reached.max(new_uid.saturating_add(1)));
            let restored = Restored { object, uid, mailbox: name.clone(), new_uid };
            match heals {
                Some(_) => self.summary.healed.push(restored),
                None => self.summary.restored.push(restored),
            }
        }
        Ok(())
    }

    /// Sends messages, those that are copied from one mailbox and others between them in one transaction, all transactions at once, so that
    /// they share a sync. Where one is refused, each of its messages goes alone, so that one costs no other. Gives their UIDs, or why not.
    fn send(&mut self, name: &str, batch: &[Waiting]) -> Outcome<Vec<Result<u32, String>>> {
        let groups = groups(batch);
        let of = |group: &(String, Range<usize>)| {
            let messages = batch[group.1.clone()].iter().map(|one| one.message.clone()).collect();
            (group.0.clone(), messages)
        };
        let answers = self.house.put(name, groups.iter().map(of).collect())?;
        let mut all = Vec::with_capacity(batch.len());
        for ((from, range), answer) in groups.into_iter().zip(answers) {
            match answer {
                Ok(uids) => all.extend(uids.into_iter().map(Ok)),
                Err(failure)
                    if is_about_it(failure.code) && range.len() == 1 && !has_another_way(&batch[range.start]) =>
                {
                    all.push(Err(failure.message));
                }
                Err(failure) if is_about_it(failure.code) => {
                    for one in &batch[range] {
                        all.push(self.send_alone(name, &from, one)?);
                    }
                }
                Err(failure) => return Err(Stop::Failed(failure)),
            }
        }
        Ok(all)
    }

    fn send_alone(&mut self, name: &str, from: &str, one: &Waiting) -> Outcome<Result<u32, String>> {
        match self.try_alone(name, from, one, one.message.uid)? {
            // What it was to be copied from is not there any more: the archive has it, too.
            Err(failure) if is_gone(failure.code) && is_copied(one) => match self.brought(one)? {
                Some(own) => self.send_alone(name, "", &own),
                None => Ok(Err(failure.message)),
            },
            // A message that nobody can see any more had it.
            Err(failure) if failure.code == Code::Exists && one.fills => {
                self.go_behind()?;
                Ok(self.try_alone(name, from, one, None)?.map_err(|failure| failure.message))
            }
            done => Ok(done.map_err(|failure| failure.message)),
        }
    }

    /// A message that was to be copied, with its bytes out of the archive, if that can be asked.
    fn brought(&mut self, one: &Waiting) -> Outcome<Option<Waiting>> {
        let (Some(seeker), Some(frame)) = (&mut self.seeker, one.frame) else { return Ok(None) };
        let bytes = seeker.message(frame).map_err(|e| Stop::new(Code::Io, format!("the archive: {e}")))?;
        let bytes = bytes.filter(|bytes| *blake3::hash(bytes).to_hex() == *one.digest);
        Ok(bytes.map(|bytes| Waiting {
            // It is sent before it is tried.
            message: ReturningMessage { body: ReturningBody::Inline(Vec::new()), ..one.message.clone() },
            from: String::new(),
            again: Some(bytes),
            ..one.clone()
        }))
    }

    fn try_alone(&mut self, name: &str, from: &str, one: &Waiting, uid: Option<u32>) -> Outcome<Result<u32, Failure>> {
        let mut message = ReturningMessage { uid, ..one.message.clone() };
        if let Some(bytes) = &one.again {
            // What was sent ahead went with the refusal.
            message.body = ReturningBody::Sent(self.house.send(name, bytes)?);
        }
        match self.house.put(name, vec![(from.to_owned(), vec![message])])?.pop() {
            Some(Ok(uids)) => {
                let uid = uids.first().copied();
                uid.map(Ok).ok_or_else(|| Stop::new(Code::Protocol, "the daemon gave a message no UID"))
            }
            Some(Err(failure)) if is_about_it(failure.code) => Ok(Err(failure)),
            Some(Err(failure)) => Err(Stop::Failed(failure)),
            None => Err(Stop::new(Code::Bug, "no answer")),
        }
    }

    /// Lets the open mailbox give no UID more that the archive may have given: a message that comes with another takes none of another message
    /// of the archive, and none that users of it have seen there.
    pub(super) fn go_behind(&mut self) -> Outcome<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let uidnext = open.archived.uidnext;
        if open.keeps_uids && !self.asked.args.dry_run && open.reached < uidnext {
            self.house.go_behind(&open.name, open.id, open.archived.uidvalidity, uidnext)?;
            open.reached = uidnext;
        }
        Ok(())
    }

    /// Takes the lease on the open mailbox again before it ends.
    fn renew(&mut self) -> Outcome<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        if let Some((lease, _)) =
            open.lease.filter(|(_, since)| Timestamp::now().duration_since(*since) > LEASE_RENEWED)
        {
            self.house.release(lease)?;
            open.lease = Some((self.house.lock(&open.name)?, Timestamp::now()));
        }
        Ok(())
    }
}

fn is_gone(code: Code) -> bool {
    matches!(code, Code::NotFound | Code::NoUser)
}

fn is_copied(one: &Waiting) -> bool {
    matches!(one.message.body, ReturningBody::Copy(_) | ReturningBody::Same { .. })
}

/// True if what was refused may come all the same, alone and in another way.
fn has_another_way(one: &Waiting) -> bool {
    one.fills || is_copied(one)
}

/// What goes in one transaction each: all that are copied come from one mailbox.
pub(super) fn groups(batch: &[Waiting]) -> Vec<(String, Range<usize>)> {
    let mut groups: Vec<(String, Range<usize>)> = Vec::new();
    for (at, one) in batch.iter().enumerate() {
        match groups.last_mut() {
            Some((from, range)) if from.is_empty() || one.from.is_empty() || *from == one.from => {
                if from.is_empty() {
                    from.clone_from(&one.from);
                }
                range.end = at + 1;
            }
            _ => groups.push((one.from.clone(), at..at + 1)),
        }
    }
    groups
}
