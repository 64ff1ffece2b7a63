//! An archive that follows another, where it speaks of messages of that one: other flags, and what is gone.
//!
//! # Invariants
//! * Nothing of it is done to a mailbox that somebody has used since the archive before was restored into it: he knows better.
//! * What damage may hide is never taken for gone.

use super::house::Mark;
use super::open::{Named, Open, There, is_same, named, state};
use super::put::{Restorer, key};
use super::select::is_inbox;
use super::summary::Renamed;
use crate::archive::LISTED_MAX;
use crate::archive::content::{Before, Close, Mailbox, Message, Moves};
use crate::archive::uids::{Uids, shown};
use crate::exit::{Outcome, Stop};
use crate::render::notes;
use crate::render::words::counted;
use proto::{Code, MailboxDetail};
use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Seek};

/// Runs of UIDs that are told.
const RUNS_TOLD: usize = 20;

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
        let changes_nothing = asked.args.skip_deletes || asked.args.new_folder || asked.args.heal;
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
                let here = self.here(&old)?.filter(|here| is_as_archived(here, &mailbox));
                // Whoever has given the mailbox that was saved a name knows better.
                if here.is_none_or(|here| self.is_origin(here.mailbox.id, &mailbox.id)) {
                    continue;
                }
                match self.here(&new)? {
                    None => {
                        let renamed = self.rename(&old, &new);
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
        let is_kept =
            is_inbox(&name) || self.is_origin(here.mailbox.id, &before.id) || !self.is_left(&name, &here, before)?;
        if is_kept {
            notes::note(&format!(
                "{name} is gone in the archive, and is kept here: it was used since, is the one that was saved, or is an INBOX"
            ));
            self.occupied.insert(name);
            return Ok(());
        }
        if self.asked.args.dry_run {
            self.planned.insert(name.clone(), None);
        } else {
            self.house.delete(&name)?;
        }
        self.summary.deleted_mailboxes.push(name);
        Ok(())
    }

    /// Whether a mailbox is as the archive before left it.
    fn is_left(&mut self, name: &str, here: &MailboxDetail, before: &Before) -> Outcome<bool> {
        let Some(left) = before.state.filter(|_| here.mailbox.uidnext == before.uidnext) else {
            return Ok(here.mailbox.uidnext == before.uidnext);
        };
        let all: HashMap<u32, There> = self
            .house
            .messages(name)?
            .into_iter()
            .map(|message| (message.uid, (message.digest, message.flags)))
            .collect();
        Ok(state(all.iter()) == left)
    }

    /// The mailbox that has this name, or would have it by now with --dry-run.
    pub(super) fn here(&mut self, name: &str) -> Outcome<Option<MailboxDetail>> {
        match self.planned.get(name).cloned() {
            Some(None) => Ok(None),
            Some(Some(live)) => self.house.mailbox(&live),
            None => self.house.mailbox(name),
        }
    }

    /// Gives a mailbox another name, or plans to.
    pub(super) fn rename(&mut self, old: &str, new: &str) -> Outcome<()> {
        if self.asked.args.dry_run {
            let live = self.planned.insert(old.to_owned(), None).flatten();
            self.planned.insert(new.to_owned(), Some(live.unwrap_or_else(|| old.to_owned())));
        } else {
            self.house.rename(old, new)?;
        }
        self.summary.renamed_mailboxes.push(Renamed { from: old.to_owned(), to: new.to_owned() });
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
        let (digest, flags) = (message.digest.clone(), message.flags.clone());
        open.named.insert(message.uid, Named { digest, flags, is_new: false });
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
        if close.continues || self.open.as_ref().is_some_and(|open| open.unmade) {
            return Ok(());
        }
        let object = self.object();
        let done = match self.open.as_ref().is_some_and(Open::is_as_left) {
            true => self.follow(close),
            false => self.used(close),
        };
        let done = done.and_then(|()| self.go_behind());
        self.or_fail(&object, None, done).map(drop)
    }

    /// Gives messages of the archive before the flags that this one has for them, and takes away what the store had lost since: both at once.
    fn follow(&mut self, close: &Close) -> Outcome<()> {
        let gone = self.lost_since(close);
        let Some(open) = &mut self.open else { return Ok(()) };
        let (name, mut marks) = (open.name.clone(), BTreeMap::<Mark, Vec<u32>>::new());
        for message in std::mem::take(&mut open.touched) {
            let here = open.there.get(&message.uid).filter(|(digest, _)| *digest == message.digest);
            if let Some((_, flags)) = here.filter(|(_, flags)| !is_same(flags, &message.flags)) {
                let mark = (without(&message.flags, flags), without(flags, &message.flags));
                marks.entry(mark).or_default().push(message.uid);
            }
        }
        let is_nothing = marks.is_empty() && gone.is_empty();
        if !self.asked.args.dry_run && !is_nothing {
            self.house.follow(&name, marks, &gone)?;
        }
        self.summary.deleted += gone.len() as u64;
        Ok(())
    }

    /// What the store had lost since the archive before.
    fn lost_since(&self, close: &Close) -> Vec<u32> {
        let Some(open) = &self.open else { return Vec::new() };
        let (Some(before), Some(kept)) = (&open.archived.before, &open.kept) else { return Vec::new() };
        // What a lost frame named would be taken for gone.
        let is_told = !open.is_damaged && open.met == close.messages;
        if !is_told || self.asked.args.skip_deletes || !self.asked.query.is_all() {
            return Vec::new();
        }
        let kept = Uids::of(kept.clone());
        let is_gone = |uid: &u32| *uid < before.uidnext && !kept.has(*uid) && !open.named.contains_key(uid);
        let mut gone: Vec<u32> = open.there.keys().copied().filter(is_gone).collect();
        gone.sort_unstable();
        gone
    }

    /// The mailbox is not as the archive before left it: what this one says of messages of that one is not done. Told is what that costs.
    fn used(&mut self, close: &Close) -> Outcome<()> {
        if self.open.as_ref().is_some_and(|open| !open.keeps_uids && !open.was_made) {
            self.unfollowed(close);
            return Ok(());
        }
        let lost = self.lost_since(close);
        let Some(open) = self.open.as_ref().filter(|open| open.keeps_uids && open.archived.before.is_some()) else {
            return Ok(());
        };
        let is_done = close.state.is_some_and(|done| state(open.there.iter()) == done);
        if is_done || self.asked.args.alone || open.was_made || !self.asked.query.is_all() {
            return Ok(());
        }
        let is_other = |message: &Message| {
            let here = open.there.get(&message.uid).filter(|(digest, _)| *digest == message.digest);
            here.is_some_and(|(_, flags)| !is_same(flags, &message.flags))
        };
        let differs = !lost.is_empty() || open.touched.iter().any(is_other);
        let (name, is_origin) = (open.name.clone(), open.is_origin);
        if differs && is_origin {
            notes::note(&format!(
                "{name} is the mailbox that was saved: it keeps its flags, and what this archive has no more"
            ));
        } else if differs {
            notes::note(&format!(
                "{name} is not as the archive before this one left it, which is not restored, or it was used since: it keeps its flags, and what \
                 this archive has no more"
            ));
        }
        if is_origin { Ok(()) } else { self.lacking(&name) }
    }

    /// The mailbox is none that an archive brought, but one that was there: its messages have other UIDs, so nothing that the archive says of one by its UID is
    /// done to it. Told is how many it has that the archive has not: what is gone there is among them.
    fn unfollowed(&mut self, close: &Close) {
        let asked = self.asked;
        let is_less =
            asked.args.skip_deletes || asked.args.alone || asked.args.new_folder || asked.references.is_some();
        let Some(open) = self.open.as_ref().filter(|open| open.archived.before.is_some()) else { return };
        let is_told = !open.is_damaged && open.met == close.messages;
        let Some(kept) = open.kept.as_ref().filter(|_| is_told && !is_less && asked.query.is_all()) else { return };
        let runs = kept.iter().filter(|(first, last)| first <= last);
        let archived = runs.map(|(first, last)| u64::from(last - first) + 1).sum::<u64>() + open.named.len() as u64;
        let came = self.summary.restored.iter().filter(|one| one.mailbox == open.name).count();
        let (here, name) = ((open.there.len() + came) as u64, &open.name);
        let has_other_flags = |message: &Message| {
            let here = open.has.get(&key(message)).and_then(|uid| open.there.get(uid));
            here.is_some_and(|(_, flags)| !is_same(flags, &message.flags))
        };
        let (more, flags) = (here.saturating_sub(archived), open.touched.iter().filter(|m| has_other_flags(m)).count());
        if more == 0 && flags == 0 {
            return;
        }
        let why = format!(
            "{name} was there before it was restored, with UIDs of its own: nothing is taken away from it. It has {} more than the archive ({here} and \
             {archived}), among them what is gone there, and {flags} with other flags. To have it as it was saved: restore the archives in their order \
             into an empty store, storectl backup -f FILE there, and restore that FILE here when {name} is deleted",
            counted(more, "message")
        );
        let object = self.object();
        self.summary.fail(object, None, why);
    }

    /// Names messages of earlier archives that are not there, and have not been expunged here.
    fn lacking(&mut self, name: &str) -> Outcome<()> {
        let Some(open) = &self.open else { return Ok(()) };
        let kept = Uids::of(open.kept.clone().unwrap_or_default());
        let of = |uids: Vec<u32>| Uids::of(uids.into_iter().map(|uid| (uid, uid)).collect());
        let there = of(open.there.keys().copied().collect());
        let lacking = kept.without(&there);
        if lacking.pairs().is_empty() {
            return Ok(());
        }
        let expunged = of(self.house.expunged(name)?.into_iter().map(|message| message.uid).collect());
        let lacking = lacking.without(&expunged);
        let lacking = lacking.pairs();
        if !lacking.is_empty() {
            let uids: Vec<String> = lacking.iter().take(RUNS_TOLD).map(|run| shown(*run)).collect();
            let more = if lacking.len() > RUNS_TOLD { " and more" } else { "" };
            let why = format!(
                "UID {}{more} of it: in an archive before this one, which is not restored here",
                uids.join(", ")
            );
            let object = self.object();
            self.summary.fail(object, None, why);
        }
        Ok(())
    }
}

/// Those flags of the first that are not among the second.
fn without(these: &[String], those: &[String]) -> Vec<String> {
    these.iter().filter(|flag| !those.contains(flag)).cloned().collect()
}
