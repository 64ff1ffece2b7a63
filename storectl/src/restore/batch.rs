//! Messages on their way into the open mailbox, many in a transaction.

use super::put::{Restorer, Went, is_about_it};
use super::summary::Restored;
use crate::exit::{Outcome, Stop};
use jiff::{SignedDuration, Timestamp};
use proto::ReturningMessage;
use std::io::{Read, Seek};

/// After so long a lease is taken again; it lasts twice as long.
const LEASE_RENEWED: SignedDuration = SignedDuration::from_mins(30);

impl<R: Read + Seek> Restorer<'_, R> {
    /// Sends what waits.
    pub(super) fn flush(&mut self) -> Outcome<()> {
        let batch = std::mem::take(&mut self.batch);
        let from = std::mem::take(&mut self.batch_from);
        self.batch_bytes = 0;
        let Some(open) = self.open.as_ref().filter(|_| !batch.is_empty()) else { return Ok(()) };
        let (messages, about): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|one| (one.message, (one.size, one.object, one.uid, one.frame, one.digest))).unzip();
        let name = open.name.clone();
        self.renew()?;
        let uids: Vec<Result<u32, String>> = match self.asked.args.dry_run {
            true => messages.iter().map(|message| Ok(message.uid.unwrap_or(0))).collect(),
            false => self.send(&name, &from, messages)?,
        };
        self.added(&name);
        for ((size, object, uid, frame, digest), new_uid) in about.into_iter().zip(uids) {
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
            self.summary.restored.push(Restored { object, uid, mailbox: name.clone(), new_uid });
        }
        Ok(())
    }

    /// Sends messages in one transaction; if that is refused, each alone, so that one costs no other. Gives their UIDs, or why not.
    fn send(&mut self, name: &str, from: &str, messages: Vec<ReturningMessage>) -> Outcome<Vec<Result<u32, String>>> {
        let mut alone = Vec::new();
        match self.house.put(name, from, messages.clone()) {
            Ok(uids) => return Ok(uids.into_iter().map(Ok).collect()),
            Err(Stop::Failed(failure)) if is_about_it(failure.code) && messages.len() == 1 => {
                return Ok(vec![Err(failure.message)]);
            }
            Err(Stop::Failed(failure)) if is_about_it(failure.code) => {}
            Err(stop) => return Err(stop),
        }
        for message in messages {
            alone.push(match self.house.put(name, from, vec![message]) {
                Ok(uids) => uids.first().copied().ok_or_else(|| "the daemon gave it no UID".to_owned()),
                Err(Stop::Failed(failure)) if is_about_it(failure.code) => Err(failure.message),
                Err(stop) => return Err(stop),
            });
        }
        Ok(alone)
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
