//! Bytes that somebody brings for messages that are there without theirs: from a backup, where nothing in the store has them any more.
//!
//! # Operation
//! [`Store::sick`] tells which messages of a mailbox that are; [`Store::give_back`] puts bytes in their places, all of them with the same
//! syncs. No row changes: the message is the one that it was, and its digest says which bytes are its own.

use super::case::Eye;
use super::heal::{Put, Sick};
use super::mend::READERS;
use super::told::told;
use crate::error::Result;
use crate::model::Folder;
use crate::model::command::{Incoming, IncomingBytes};
use crate::model::name::key_text;
use crate::partition::bodies::{self, Body};
use crate::partition::survey::{Depth, What};
use crate::store::Store;
use crate::store::commit::lock;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What became of bytes that were brought for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// The message has them, durably.
    Back,
    /// There is no such message.
    Gone,
    /// Its mailbox lies elsewhere since it was looked for.
    Moved,
    /// They are not its bytes.
    Others,
}

impl Store {
    /// The messages of a mailbox whose bytes are gone or damaged, as deep as asked; bytes are read of those in `doubted`, and of those in
    /// which a reader found others. Whether there is a copy elsewhere is not asked. Changes nothing (I7).
    ///
    /// # Errors
    /// [`crate::error::StoreError::Busy`] if its partition is not there; a newer or foreign journal; those of the disk.
    pub fn sick(&self, mailbox: u64, depth: Depth, doubted: &BTreeSet<u32>) -> Result<BTreeMap<u32, What>> {
        let look = |depth, deep: &BTreeSet<u32>, readers| {
            self.case(mailbox, Eye { depth, deep, pace: &|_| Ok(()), readers, within: None }, None)
        };
        let Some(seen) = look(depth, doubted, READERS)? else { return Ok(BTreeMap::new()) };
        let mut suspects: BTreeSet<u32> = seen.bodiless().into_keys().collect();
        let is_hopeless = |digest| self.ailing.is_hopeless(digest);
        suspects.extend(seen.survey.known.iter().map(|m| &m.value).filter(|m| is_hopeless(&m.digest)).map(|m| m.uid));
        if suspects.is_empty() {
            return Ok(BTreeMap::new());
        }
        // As the one who writes to the partition: a message that a checkpoint is just making a file for lacks none.
        let _writer = lock(&self.db);
        let close = look(Depth::Names, &suspects, 1)?;
        Ok(close.map(|case| case.bodiless()).unwrap_or_default())
    }

    /// Gives messages of a mailbox bytes that were brought for them; of those whose file is good nothing is changed. What was staged is not
    /// staged any more. Answers in the same order.
    ///
    /// # Errors
    /// [`crate::error::StoreError::Busy`] if the partition of the mailbox is not there; those of the disk.
    pub fn give_back(&self, mailbox: u64, all: &[(u32, Arc<Incoming>)]) -> Result<Vec<Given>> {
        let mut files = Vec::new();
        let done = self.staged_for(mailbox, all, &mut files).and_then(|given| {
            let (Some((first, _)), true) = (files.first(), given.contains(&Given::Back)) else { return Ok(given) };
            let staged: Vec<(&Sick, u64)> = files.iter().map(|(sick, number)| (sick, *number)).collect();
            let mut put = self.put_staged(&first.of.partition, &staged)?.into_iter();
            let mut became = || match put.next() {
                Some(Put::Good) => Given::Back,
                Some(Put::Elsewhere) => Given::Moved,
                Some(Put::Gone) | None => Given::Gone,
            };
            Ok(given.into_iter().map(|given| if given == Given::Back { became() } else { given }).collect())
        });
        for (partition, number) in files.iter().map(|(sick, number)| (&*sick.of.partition, *number)).chain(staged(all))
        {
            // Of what has its place no staged name is left. What stays is taken away by the next start.
            self.partitions.disk(partition).map(|disk| bodies::unstage(&*disk, number));
        }
        done
    }

    /// Has the bytes staged on the partition of the mailbox, those that are the bytes of its messages; those in `files` are to be put in
    /// place in the order of what is [`Given::Back`].
    fn staged_for(
        &self,
        mailbox: u64,
        all: &[(u32, Arc<Incoming>)],
        files: &mut Vec<(Sick, u64)>,
    ) -> Result<Vec<Given>> {
        let view = self.view();
        let Some(told) = told(&view, mailbox)? else { return Ok(vec![Given::Gone; all.len()]) };
        let home = told.row.home.clone().unwrap_or(told.owner);
        let of = Folder { partition: Cow::Owned(told.row.partition.clone()), home: Cow::Owned(home), mailbox };
        let (place, name) = (super::source::place(&of)?, key_text(&told.key));
        let disk = self.partitions.disk(&of.partition).ok_or_else(|| super::source::away(&of.partition))?;
        let uids: Vec<u32> = all.iter().map(|(uid, _)| *uid).collect();
        let known = self.selected(&view, &of, &told.row, &uids)?;
        let mut given = Vec::with_capacity(all.len());
        for (uid, incoming) in all {
            let body = Body { size: incoming.size, digest: incoming.digest };
            given.push(match known.get(uid) {
                None => Given::Gone,
                Some(message) if Body::from(message) != body => Given::Others,
                Some(_) => {
                    let file = disk.display(&place.message(*uid));
                    let sick = Sick { mailbox: name.clone(), of: of.clone(), uid: *uid, file, body };
                    let number = match &incoming.bytes {
                        IncomingBytes::Staged { partition, number } if *partition == of.partition => *number,
                        IncomingBytes::Staged { partition, number } => {
                            let from = self.partitions.disk(partition).ok_or_else(|| super::source::away(partition))?;
                            self.stage_for(&sick, &bodies::read_staged(&*from, *number, body)?)?
                        }
                        IncomingBytes::Inline { bytes, .. } => self.stage_for(&sick, bytes)?,
                    };
                    files.push((sick, number));
                    Given::Back
                }
            });
        }
        Ok(given)
    }
}

/// The staged files that were brought.
fn staged(all: &[(u32, Arc<Incoming>)]) -> impl Iterator<Item = (&str, u64)> {
    all.iter().filter_map(|(_, incoming)| match &incoming.bytes {
        IncomingBytes::Staged { partition, number } => Some((&**partition, *number)),
        IncomingBytes::Inline { .. } => None,
    })
}
