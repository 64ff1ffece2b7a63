//! An archive that follows another, where it speaks of messages of that one: other flags, and what is gone.
//!
//! # Invariants
//! * Nothing of it is done to a mailbox that somebody has used since the archive before was restored into it: he knows better.
//! * What damage may hide is never taken for gone.

use super::open::named;
use super::put::{Restorer, key};
use crate::archive::LISTED_MAX;
use crate::archive::content::{Before, Close, Mailbox, Message, Moves};
use crate::exit::{Outcome, Stop};
use crate::render::notes;
use proto::{Code, MailboxDetail};
use std::io::{Read, Seek};

/// Messages that are taken away in one transaction.
const EXPUNGED_AT_ONCE: usize = 500;

/// A renaming that is still to be done: the mailbox, its name here and its new one.
type Renaming = (Mailbox, String, String);

/// Whether a mailbox here is that of the archive before, which is restored.
fn is_as_archived(here: &MailboxDetail, renamed: &Mailbox) -> bool {
    let known = renamed.before.as_ref().is_some_and(|before| before.uidnext <= here.mailbox.uidnext);
    known && here.mailbox.uidvalidity == renamed.uidvalidity
}

/// Refuses a list that goes on over so many frames that it fills the memory.
///
/// # Errors
/// [`Code::BadInput`].
pub(super) fn expect_listed(entries: usize, what: &str) -> Outcome<()> {
    if entries <= LISTED_MAX {
        return Ok(());
    }
    let text = format!("the archive lists {entries} {what}, and no store gives more than {LISTED_MAX}");
    Err(Stop::hint(Code::BadInput, text, "see what it holds: storectl restore -t -f FILE"))
}

impl<R: Read + Seek> Restorer<'_, R> {
    /// Does with mailboxes of the archive before what was done with them since, before anything comes to those that may have their names now.
    pub(super) fn moved(&mut self, moves: Moves) -> Outcome<()> {
        let asked = self.asked;
        let changes_nothing = asked.args.dry_run || asked.args.skip_deletes || asked.args.new_folder || asked.args.heal;
        if changes_nothing || asked.references.is_some() || !asked.names.are_kept() || !asked.query.is_all() {
            return Ok(());
        }
        for gone in moves.gone {
            let done = self.gone(&gone);
            self.or_fail(&gone.name, None, done)?;
        }
        let mut left: Vec<Renaming> = Vec::new();
        for mailbox in moves.renamed.into_iter().filter(|mailbox| asked.objects.take(mailbox)) {
            if let Some(before) = &mailbox.before {
                let (old, new) = (asked.names.of(&before.name), asked.names.of(&mailbox.name));
                left.push((mailbox, old, new));
            }
        }
        // Each may make room for another.
        loop {
            let before = left.len();
            for (mailbox, old, new) in std::mem::take(&mut left) {
                let here = self.house.mailbox(&old)?.filter(|here| is_as_archived(here, &mailbox));
                if here.is_none() {
                    continue;
                }
                match self.house.mailbox(&new)? {
                    None => {
                        let renamed = self.house.rename(&old, &new);
                        self.or_fail(&mailbox.object, None, renamed)?;
                    }
                    Some(_) => left.push((mailbox, old, new)),
                }
            }
            if left.is_empty() || left.len() == before {
                self.unmoved(left);
                return Ok(());
            }
        }
    }

    /// A mailbox that is gone goes here too, if nobody has used it since.
    fn gone(&mut self, before: &Before) -> Outcome<()> {
        let name = self.asked.names.of(&before.name);
        if !self.asked.objects.take(&named(&before.name)) {
            return Ok(());
        }
        self.meet(&named(&before.name));
        let here = self.house.mailbox(&name)?.filter(|here| here.mailbox.uidvalidity == before.uidvalidity);
        let Some(here) = here else { return Ok(()) };
        let is_inbox = name.ends_with("/INBOX") && name.matches('/').count() == 2;
        if is_inbox || here.mailbox.uidnext != before.uidnext {
            notes::note(&format!("{name} is gone in the archive, and is kept here: it has newer mail, or is an INBOX"));
            self.occupied.insert(name);
            return Ok(());
        }
        self.house.delete(&name)?;
        self.summary.deleted_mailboxes.push(name);
        Ok(())
    }

    /// What cannot be renamed: an operator has given the name to another mailbox here.
    fn unmoved(&mut self, left: Vec<Renaming>) {
        for (mailbox, old, new) in left {
            self.summary.fail(
                mailbox.object,
                None,
                format!("{old} here is to be {new}, and another mailbox has that name"),
            );
            self.occupied.insert(old);
        }
    }

    /// Whether a UID is one that the archive before had and could not bring back, for it was damaged there: the message takes its own place.
    pub(super) fn fills_gap(&mut self, uid: u32) -> Outcome<bool> {
        let Some(open) = &mut self.open else { return Ok(false) };
        let is_older = open.archived.before.as_ref().is_some_and(|before| uid < before.uidnext);
        if !is_older || !open.keeps_uids || open.was_made || uid >= open.uidnext || open.there.contains_key(&uid) {
            return Ok(false);
        }
        let expunged = match &mut open.expunged {
            Some(known) => known,
            none => none.insert(self.house.expunged(&open.name)?.into_iter().map(|message| message.uid).collect()),
        };
        Ok(!expunged.contains(&uid))
    }

    /// Of an archive that follows another: a message of that one has other flags. Decided when all of the mailbox is known.
    pub(super) fn changed(&mut self, message: &Message) -> Outcome<()> {
        let is_taken = self.asked.query.takes(message, &[]) && !self.asked.args.heal;
        let Some(open) = &mut self.open else { return Ok(()) };
        open.named.insert(message.uid, message.digest.clone());
        let is_here = open.there.contains_key(&message.uid) || open.has.contains_key(&key(message));
        if is_taken && !is_here {
            let object = self.object();
            self.summary.fail(object, Some(message.uid), "its bytes are in an earlier archive".to_owned());
        } else if is_taken {
            self.summary.changed += 1;
            open.touched.push(message.clone());
        }
        Ok(())
    }

    /// Gives messages of the archive before the flags that this one has for them. Whoever has used the mailbox since knows better.
    fn mark(&mut self) -> Outcome<()> {
        let Some(open) = self.open.as_mut().filter(|open| open.is_as_left()) else { return Ok(()) };
        let name = open.name.clone();
        for message in std::mem::take(&mut open.touched) {
            let here = open.there.get(&message.uid).filter(|(digest, _)| *digest == message.digest);
            if let Some((_, flags)) = here.filter(|_| !self.asked.args.dry_run) {
                self.house.flags(&name, message.uid, flags, &message.flags)?;
            }
        }
        Ok(())
    }

    /// The archive has nothing more of the mailbox.
    pub(super) fn close(&mut self, close: &Close) -> Outcome<()> {
        self.flush()?;
        if self.asked.args.heal {
            return Ok(());
        }
        expect_listed(self.summary.unrestorable.len() + close.unreadable.len(), "messages that could not be read")?;
        for uid in &close.unreadable {
            let object = self.object();
            self.summary.fail(object, Some(*uid), "it could not be read when the archive was made".to_owned());
        }
        if let (Some(open), Some(more)) = (&mut self.open, &close.kept) {
            let kept = open.kept.get_or_insert_default();
            expect_listed(kept.len() + more.len(), "runs of messages of a mailbox")?;
            kept.extend(more);
        }
        if close.continues {
            return Ok(());
        }
        let object = self.object();
        let done = self.mark().and_then(|()| self.take_away(close));
        self.or_fail(&object, None, done).map(drop)
    }

    /// Takes away what the store had lost since the archive before: only where the mailbox is as that archive left it.
    fn take_away(&mut self, close: &Close) -> Outcome<()> {
        let (Some(open), Some(before)) = (&self.open, self.open.as_ref().and_then(|o| o.archived.before.as_ref()))
        else {
            return Ok(());
        };
        let Some(kept) = open.kept.as_ref().filter(|_| open.is_as_left()) else { return Ok(()) };
        // What a lost frame named would be taken for gone.
        let is_told = !open.is_damaged && open.met == close.messages;
        if !is_told || self.asked.args.skip_deletes || !self.asked.query.is_all() {
            return Ok(());
        }
        let is_kept = |uid: u32| kept.iter().any(|(first, last)| (*first..=*last).contains(&uid));
        let is_gone = |uid: &u32| *uid < before.uidnext && !is_kept(*uid) && !open.named.contains_key(uid);
        let mut gone: Vec<u32> = open.there.keys().copied().filter(is_gone).collect();
        gone.sort_unstable();
        self.summary.deleted += gone.len() as u64;
        let name = open.name.clone();
        if self.asked.args.dry_run {
            return Ok(());
        }
        gone.chunks(EXPUNGED_AT_ONCE).try_for_each(|uids| self.house.expunge(&name, uids.to_vec()))
    }
}
