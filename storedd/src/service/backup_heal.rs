//! What a restore gives back to messages that are there without their bytes.

use super::Daemon;
use super::lists::broken;
use crate::control::convert::failure;
use crate::control::{Listing, Parts, Peer};
use crate::mail;
use crate::model::Command;
use crate::model::command::{Incoming, Known, ReturningMessages, Selection};
use crate::partition::survey::Depth;
use crate::store::{Given, Store};
use proto::{BackupHeal, BackupHealed, BackupPart, BackupSick, Code, Failure, Reply, ReturningBody};
use std::collections::BTreeSet;
use std::sync::Arc;

impl Daemon {
    /// Which messages of a mailbox have no good bytes.
    pub(super) fn backup_sick(&self, name: &str, deep: bool, parts: &mut Parts<'_>) -> Result<Reply, Failure> {
        let store = self.store()?;
        let (_, row) = self.mailbox_row(&store.view(), name)?;
        let damage = self.scrubber.get().map(|scrubber| scrubber.known().damage).unwrap_or_default();
        let of_it = damage.iter().filter(|damage| damage.mailbox == row.id);
        let doubted: BTreeSet<u32> = of_it.filter_map(|damage| damage.uid).collect();
        let depth = if deep { Depth::Bytes } else { Depth::Lengths };
        let sick = store.sick(row.id, depth, &doubted).map_err(|e| failure(&e))?;
        let mut listing = Listing::new(|sick| Reply::Backup(BackupPart::Sick(sick)), parts);
        for (uid, what) in sick {
            listing.push(BackupSick { uid, what: what.text().to_owned() })?;
        }
        Ok(listing.finish())
    }

    /// Bytes for some of them.
    pub(super) fn backup_heal(&self, peer: &Peer, heal: &BackupHeal) -> Result<Reply, Failure> {
        let store = self.store()?;
        let mut brought = Vec::with_capacity(heal.messages.len());
        let taken = self.brought(peer, heal, &mut brought);
        let done = taken.and_then(|()| self.give_back(peer, &heal.name, &brought));
        // Where nobody came so far as to take them; what has its place has no staged name any more.
        brought
            .iter()
            .filter_map(|(_, message)| message.as_ref().ok())
            .for_each(|message| mail::discard(store, message));
        done
    }

    /// The bytes that a client brings, or why those of one message cannot be had.
    fn brought(&self, peer: &Peer, heal: &BackupHeal, brought: &mut Vec<Brought>) -> Result<(), Failure> {
        let (store, view) = (self.store()?, self.view()?);
        for (uid, body) in &heal.messages {
            let message = match body {
                ReturningBody::Inline(bytes) => Ok(self.whole_message(peer, Arc::new(mail::inline(bytes.clone())))?),
                ReturningBody::Sent(number) => Ok(self.sent_message(peer, *number)?),
                // Of whatever it is, it is compared with what it heals.
                ReturningBody::Copy(of) | ReturningBody::Same { uid: of, .. } => {
                    // That it is gone, or cannot be read, is no matter of the others.
                    let found = self.one(&view, &heal.from, *of).map_err(|failure| failure.message);
                    found.and_then(|(from, message)| {
                        let bytes = store.message_bytes(&view, &from.of, &message).map_err(|e| e.to_string())?;
                        Ok(Arc::new(mail::inline(bytes)))
                    })
                }
            };
            brought.push((*uid, message));
        }
        Ok(())
    }

    fn give_back(&self, peer: &Peer, name: &str, brought: &[Brought]) -> Result<Reply, Failure> {
        let store: &Arc<Store> = self.store()?;
        // It stands in line like a change of that mailbox.
        let select =
            |name: &str| Selection { name: name.to_owned(), uids: Vec::new(), known: Known::default(), exactly: false };
        let like = ReturningMessages { into: select(name), from: select(""), messages: Vec::new() };
        let like = Command::MessagesReturn(Box::new(like));
        self.watch.get().map_or(Ok(()), |watch| watch.admit(peer, &like))?;
        let pass = self.pass_here(peer, "restore", &like)?;
        let row = match self.mailbox_row(&store.view(), name) {
            Ok((_, row)) => row,
            // Deleted or renamed since it was looked for: others are still there.
            Err(gone) if matches!(gone.code, Code::NotFound | Code::NoUser) => {
                let one = |(uid, _): &Brought| BackupHealed { uid: *uid, failed: Some(gone.message.clone()) };
                return Ok(Reply::Backup(BackupPart::Healed(brought.iter().map(one).collect())));
            }
            Err(other) => return Err(other),
        };
        let good = brought.iter().filter_map(|(uid, message)| Some((*uid, message.as_ref().ok()?.clone())));
        let all: Vec<(u32, Arc<Incoming>)> = good.collect();
        let mut given = store.give_back(row.id, &all).map_err(broken)?.into_iter();
        drop(pass);
        let one = |(uid, message): &Brought| {
            let failed = match message {
                Err(why) => Some(why.clone()),
                Ok(_) => match given.next() {
                    Some(Given::Back) => None,
                    Some(Given::Moved) => {
                        Some(format!("{name} has just moved to another partition: restore it once more"))
                    }
                    Some(Given::Others) => Some(format!("message {uid} of {name} has other bytes")),
                    Some(Given::Gone) | None => Some(format!("{name} has no message {uid} any more")),
                },
            };
            BackupHealed { uid: *uid, failed }
        };
        Ok(Reply::Backup(BackupPart::Healed(brought.iter().map(one).collect())))
    }
}

/// The UID of a message, and bytes for it, or why they cannot be had.
type Brought = (u32, Result<Arc<Incoming>, String>);
