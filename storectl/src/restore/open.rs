//! The mailbox of the store that messages of an archive go to: one that is there, or one that is made as the archive knew it.

use super::house::Beside;
use super::put::{Restorer, is_about_it};
use super::select::owner;
use crate::archive::content::{Mailbox, Message, State};
use crate::exit::{Outcome, Stop};
use crate::render::notes;
use jiff::Timestamp;
use proto::{Code, Limit, MailboxDetail};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::{Read, Seek};

/// A mailbox that messages go to.
#[derive(Debug)]
pub struct Open {
    /// Number of its frame.
    pub begins: u64,
    /// Number of the mailbox here.
    pub id: u64,
    pub archived: Mailbox,
    pub name: String,
    /// Messages keep their UIDs.
    pub keeps_uids: bool,
    /// The first UID that it has never given; in one that was made, none is given that the archive has.
    pub uidnext: u32,
    /// The same by now, as far as this run has raised it.
    pub reached: u32,
    /// It is the mailbox that was saved, in the store that it was saved from.
    pub is_origin: bool,
    /// See [`Open::fills`].
    fills: Option<bool>,
    /// What it has, by digest and date: a UID.
    pub has: HashMap<(String, i64), u32>,
    /// Messages that were there, by UID.
    pub there: HashMap<u32, There>,
    /// UIDs of those that were expunged and can be brought back, once they were asked for.
    pub expunged: Option<HashSet<u32>>,
    /// Messages whose bytes are gone or damaged, by digest: also expunged ones, which can be brought back.
    pub sick: HashMap<String, Vec<u32>>,
    /// Number of the lease, and since when.
    pub lease: Option<(u64, Timestamp)>,
    /// Messages and references of it that were met.
    pub met: u64,
    /// Something of the archive was damaged since its frame.
    pub is_damaged: bool,
    /// It is as the archive knew it but for messages that are still to come.
    pub was_made: bool,
    /// It is not there yet: it is made when the first message comes to it.
    pub unmade: bool,
    /// Messages of an earlier archive that this one has with other flags.
    pub touched: Vec<Message>,
    /// The messages that this archive has, by UID, if it follows another.
    pub named: HashMap<u32, Named>,
    /// UIDs of those that are there without change, of an archive that follows another.
    pub kept: Option<Vec<(u32, u32)>>,
}

impl Open {
    /// Whether the mailbox is as the archive before this one left it, but for what an earlier run of this one has put into it: nobody knows
    /// better than the archive what is there. Never of the mailbox that was saved itself: what its user has done since counts. One with another
    /// UIDVALIDITY is so, too, if each message of that archive is there under the UID that it had, with its bytes and flags, and nothing else is.
    pub fn is_as_left(&self) -> bool {
        let is_other = !self.was_made && !self.is_origin;
        let Some(before) = self.archived.before.as_ref().filter(|_| is_other) else { return false };
        let Some(left) = before.state else {
            if !self.keeps_uids {
                return false;
            }
            // An archive of an older program.
            let is_named =
                |uid: &u32, digest: &String| self.named.get(uid).is_some_and(|named| named.digest == *digest);
            let is_ours = |(uid, (digest, _)): (&u32, &There)| *uid < before.uidnext || is_named(uid, digest);
            return (before.uidnext..=self.archived.uidnext).contains(&self.uidnext) && self.there.iter().all(is_ours);
        };
        let is_put = |uid: &u32, here: &There| self.named.get(uid).is_some_and(|named| named.is_new && named.is(here));
        state(self.there.iter().filter(|(uid, here)| !is_put(uid, here))) == left
    }

    /// Whether a message that has no place behind UIDNEXT may take its own UID all the same: nobody else has had it.
    pub fn fills(&mut self, uid: u32) -> bool {
        if self.there.contains_key(&uid) {
            return false;
        }
        // By now all is known that an earlier run has put before it.
        let fills = self.fills.unwrap_or_else(|| self.is_as_left());
        *self.fills.insert(fills)
    }
}

/// Digest and flags of a message that is there.
pub type There = (String, Vec<String>);

/// A message that the archive names.
#[derive(Debug)]
pub struct Named {
    pub digest: String,
    pub flags: Vec<String>,
    /// The archive before does not have it.
    pub is_new: bool,
}

impl Named {
    /// Whether the message that is there is as the archive has it.
    fn is(&self, (digest, flags): &There) -> bool {
        self.digest == *digest && is_same(&self.flags, flags)
    }
}

/// Whether these are the same flags.
pub fn is_same(these: &[String], those: &[String]) -> bool {
    these.len() == those.len() && these.iter().all(|flag| those.contains(flag))
}

/// What messages these are.
pub fn state<'a>(all: impl Iterator<Item = (&'a u32, &'a There)>) -> State {
    let mut state = State::default();
    for (uid, (digest, flags)) in all {
        state.add(*uid, blake3::Hash::from_hex(digest).unwrap_or_else(|_| [0; 32].into()).as_bytes(), flags);
    }
    state
}

impl<R: Read + Seek> Restorer<'_, R> {
    /// Opens the mailbox of the store that a mailbox of the archive goes to. Where that cannot be, for its name is none or it is deleted or
    /// renamed meanwhile, none is open, and it is told.
    pub(super) fn enter(&mut self, begins: u64, archived: Mailbox) -> Outcome<()> {
        let object = archived.object.clone();
        let entered = self.find(begins, archived);
        self.or_fail(&object, None, entered).map(drop)
    }

    /// What was to be done with an object; `None` if that was refused for its own sake, which is told: the others go on.
    pub(super) fn or_fail<T>(&mut self, object: &str, uid: Option<u32>, done: Outcome<T>) -> Outcome<Option<T>> {
        let why = match done {
            Ok(done) => return Ok(Some(done)),
            Err(Stop::Failed(failure)) => match failure.code {
                Code::NotFound | Code::NoUser => format!("{}: it has gone since it was looked for", failure.message),
                Code::BadInput | Code::Exists => failure.message,
                _ => return Err(Stop::Failed(failure)),
            },
            Err(stop) => return Err(stop),
        };
        self.summary.fail(object.to_owned(), uid, why);
        Ok(None)
    }

    fn find(&mut self, begins: u64, archived: Mailbox) -> Outcome<()> {
        let mut name = self.asked.names.of(&archived.name);
        let mut here = self.here(&name)?;
        if let Some(live) = self.planned.get(&name).cloned().flatten() {
            name = live;
        }
        if self.asked.args.heal {
            // Of one that is not there nothing is lost.
            self.open = here.map(|_| self.look_into(begins, archived, name)).transpose()?;
            return Ok(());
        }
        // The mailbox that has its name here is another, which the archive before has brought.
        let is_occupied = archived.before.is_none() && self.occupied.contains(&name);
        if here.is_some() && (self.asked.args.new_folder || is_occupied) {
            name = self.free_name(&name)?;
            here = None;
        }
        let mut renamed = None;
        if let (None, Some(before)) = (&here, &archived.before)
            && before.name != archived.name
            && self.asked.names.are_kept()
            && !self.asked.args.skip_deletes
        {
            // It had another name in the archive before, and has it still here.
            let old = self.asked.names.of(&before.name);
            here = self.here(&old)?.filter(|found| found.mailbox.uidvalidity == archived.uidvalidity);
            renamed = here.as_ref().map(|_| old);
        }
        if let Some(before) = &archived.before
            && !self.asked.args.alone
            && here.as_ref().is_none_or(|here| {
                here.mailbox.uidvalidity == archived.uidvalidity && here.mailbox.uidnext < before.uidnext
            })
        {
            let text = "the archive before this one is not restored here (--alone restores it all the same)".to_owned();
            self.summary.fail(archived.object.clone(), None, text);
            return Ok(());
        }
        if let Some(old) = renamed {
            let is_origin = here.as_ref().is_some_and(|here| self.is_origin(here.mailbox.id, &archived.id));
            if !is_origin {
                self.rename(&old, &name)?;
            }
            if is_origin || self.asked.args.dry_run {
                name = old;
            }
        }
        self.open = Some(match here {
            Some(_) => self.look_into(begins, archived, name)?,
            None => self.unmade(begins, archived, name),
        });
        // What is looked for in many mailboxes may be in none of them.
        if self.asked.query.is_all() { self.made().map(drop) } else { Ok(()) }
    }

    /// A mailbox that is there.
    ///
    /// # Errors
    /// It is not there any more; those that end the whole run.
    pub(super) fn look_into(&mut self, begins: u64, archived: Mailbox, name: String) -> Outcome<Open> {
        let adds = !self.asked.args.dry_run && !self.asked.args.heal;
        let sick = self.look_for_sick(&name)?;
        let lease = if adds { Some(self.house.lock(&name)?) } else { None };
        let looked = self.look((begins, archived), name, lease, sick);
        if let (Err(_), Some(lease)) = (&looked, lease) {
            // Should the connection be gone, so is the lease.
            let _ = self.house.release(lease);
        }
        looked
    }

    fn look(
        &mut self,
        (begins, archived): (u64, Mailbox),
        name: String,
        lease: Option<u64>,
        sick: BTreeSet<u32>,
    ) -> Outcome<Open> {
        let adds = lease.is_some();
        let here = self.house.mailbox(&name)?;
        let messages = self.house.messages(&name)?;
        let date = |message: &proto::Message| {
            message.internal_date.parse::<Timestamp>().map_or(0, |date| date.as_microsecond())
        };
        let has = messages.iter().map(|message| ((message.digest.clone(), date(message)), message.uid)).collect();
        let sick = self.sick_by_digest(&name, sick, &messages)?;
        let is_same = here.as_ref().is_some_and(|here| here.mailbox.uidvalidity == archived.uidvalidity);
        let keeps_uids = is_same && self.asked.names.are_kept();
        let was_made = keeps_uids && here.as_ref().is_some_and(|here| self.is_unfinished(here, &messages, &archived));
        if was_made && adds {
            self.resumed(&name);
        }
        let (id, uidnext) = here.map_or((0, 1), |here| (here.mailbox.id, here.mailbox.uidnext));
        Ok(Open {
            begins,
            id,
            keeps_uids,
            uidnext,
            reached: uidnext,
            is_origin: self.is_origin(id, &archived.id),
            fills: None,
            has,
            there: messages.into_iter().map(|message| (message.uid, (message.digest, message.flags))).collect(),
            expunged: None,
            sick,
            lease: lease.map(|lease| (lease, Timestamp::now())),
            met: 0,
            is_damaged: false,
            was_made,
            unmade: false,
            touched: Vec::new(),
            named: HashMap::new(),
            kept: None,
            name,
            archived,
        })
    }

    /// Whether a mailbox here is the one that was saved: the number that it had, in hexadecimal digits, is that of one here.
    pub(super) fn is_origin(&self, id: u64, archived: &str) -> bool {
        let is_here = self.about.as_ref().is_some_and(|about| about.store == self.house.store());
        is_here && format!("{id:x}") == archived
    }

    /// Whether a mailbox is one that a restore of this archive has made, and that nobody has used since: all that was ever done to it is that
    /// messages of the archive were put into it. Then those that are missing get their own UIDs, too.
    fn is_unfinished(&self, here: &MailboxDetail, messages: &[proto::Message], archived: &Mailbox) -> bool {
        // The mailbox that was archived has another number.
        let is_other = !self.is_origin(here.mailbox.id, &archived.id);
        // Every message that comes raises the modseq by one, and so does everything else that is done.
        let is_untouched = here.highest_modseq == archived.highest_modseq.saturating_add(messages.len() as u64);
        let are_archived = messages.iter().all(|message| message.uid < archived.uidnext);
        is_other && is_untouched && are_archived && archived.before.is_none()
    }

    /// The user of a mailbox was made by a run that was broken off.
    fn resumed(&mut self, name: &str) {
        let Some(user) = owner(name).map(str::to_owned) else { return };
        self.users.insert(user.clone(), true);
        self.subscribe_later(&user);
    }

    /// A mailbox that is not there.
    fn unmade(&self, begins: u64, archived: Mailbox, name: String) -> Open {
        Open {
            begins,
            id: 0,
            reached: archived.uidnext,
            is_origin: false,
            fills: None,
            keeps_uids: self.asked.names.are_kept() && archived.uidvalidity != 0,
            uidnext: archived.uidnext,
            has: HashMap::new(),
            there: HashMap::new(),
            expunged: None,
            sick: HashMap::new(),
            lease: None,
            met: 0,
            is_damaged: false,
            was_made: true,
            unmade: true,
            touched: Vec::new(),
            named: HashMap::new(),
            kept: None,
            name,
            archived,
        }
    }

    /// Makes the open mailbox if it is not there yet. False if none is open, also because that was refused for its own sake, which is told.
    pub(super) fn made(&mut self) -> Outcome<bool> {
        let Some(mut open) = self.open.take_if(|open| open.unmade) else { return Ok(self.open.is_some()) };
        open.unmade = false;
        let object = open.archived.object.clone();
        let made = self.make(open);
        self.open = self.or_fail(&object, None, made)?.flatten();
        Ok(self.open.is_some())
    }

    /// Makes a mailbox as the archive knew it, and its owner.
    fn make(&mut self, mut open: Open) -> Outcome<Option<Open>> {
        let about = self.about.clone();
        let store = about.as_ref().map_or("", |about| about.store.as_str());
        let is_incremental = about.as_ref().is_some_and(|about| about.since.is_some());
        if is_incremental && !self.asked.args.dry_run {
            notes::note(&format!(
                "{} is not there: hold the delivery to it, or create it before, until the last archive is restored",
                open.name
            ));
        }
        self.make_inbox(&open.name, store)?;
        let is_new_user = self.is_new_user(&open.name)?;
        self.summary.mailboxes.push(open.name.clone());
        if self.asked.args.dry_run {
            return Ok(Some(open));
        }
        let of = open.archived.clone();
        let made = match self.asked.names.are_kept() {
            true => self.make_as(&open.name, &of, store, is_new_user),
            // What many folders come together in has the rights and limits of none of them.
            false => self.house.create(&open.name, owner(&open.name).filter(|_| is_new_user)).map(|()| 0),
        };
        let given = match made {
            Ok(given) => given,
            // Somebody has made it since it was looked for: the last request of a restore that was killed, for example.
            Err(Stop::Failed(failure)) if failure.code == Code::Exists && self.house.mailbox(&open.name)?.is_some() => {
                self.summary.mailboxes.pop();
                let Open { begins, archived, name, met, named, .. } = open;
                return Ok(Some(Open { met, named, ..self.look_into(begins, archived, name)? }));
            }
            Err(Stop::Failed(failure)) if is_about_it(failure.code) => {
                self.summary.mailboxes.pop();
                self.summary.fail(of.object.clone(), None, failure.message);
                return Ok(None);
            }
            Err(stop) => return Err(stop),
        };
        self.added(&open.name);
        open.keeps_uids &= given == open.archived.uidvalidity;
        if !open.keeps_uids
            && self.asked.names.are_kept()
            && open.archived.uidvalidity != 0
            && !self.asked.args.new_folder
        {
            notes::note(&format!("{} has UIDVALIDITY {given}: it had a later one than the archive has", open.name));
        }
        open.was_made = open.keeps_uids;
        Ok(Some(open))
    }

    /// Makes a mailbox with the name that it has here; gives its UIDVALIDITY.
    fn make_as(&mut self, name: &str, of: &Mailbox, store: &str, is_new_user: bool) -> Outcome<u32> {
        // With a name of its own it is another mailbox.
        let new = Mailbox { uidvalidity: 0, uidnext: 1, id: String::new(), ..of.clone() };
        let beside = self.beside(name, is_new_user, of.quota);
        let acl = of.acl.iter().map(|(who, rights)| (self.asked.names.user(who), rights.clone())).collect();
        let is_other = self.asked.args.new_folder && name != of.name;
        self.house.make(name, if is_other { &new } else { of }, store, acl, beside)
    }

    /// Who is made with a folder gets the INBOX that the archive has of him, though no message of it was asked for: it is the same one when
    /// the rest comes.
    fn make_inbox(&mut self, name: &str, store: &str) -> Outcome<()> {
        let Some(inbox) = self.inbox.take_if(|inbox| owner(&inbox.name) == owner(name)) else { return Ok(()) };
        if inbox.name == name || !self.is_new_user(name)? {
            return Ok(());
        }
        if !self.asked.args.dry_run {
            let object = inbox.archived.object.clone();
            let made = self.make_as(&inbox.name, &inbox.archived, store, true);
            if self.or_fail(&object, None, made)?.is_none() {
                return Ok(());
            }
            self.added(&inbox.name);
        }
        self.summary.mailboxes.push(inbox.name);
        Ok(())
    }

    /// What is made with a mailbox: limits of its owner, if he is new; its own; his subscription to it.
    fn beside(&mut self, name: &str, is_new_user: bool, quota: Option<(Option<u64>, Option<u64>)>) -> Beside {
        let limit = |limit: Option<u64>| limit.map_or(Limit::None, Limit::At);
        let mut beside = Beside::default();
        if let Some(user) = owner(name).filter(|user| self.users.get(*user) == Some(&true)) {
            let about = self.user.as_ref().filter(|about| self.asked.names.user(&about.user) == user);
            if let Some(about) = about.filter(|_| is_new_user) {
                beside.limits.push((user.to_owned(), (limit(about.quota_bytes), limit(about.quota_messages))));
            }
            let mut names = about.iter().flat_map(|about| &about.subscriptions).map(|name| self.asked.names.of(name));
            beside.subscriber = names.any(|wanted| wanted == name).then(|| user.to_owned());
            let user = user.to_owned();
            self.subscribe_later(&user);
        }
        beside.limits.extend(quota.map(|(storage, messages)| (name.to_owned(), (limit(storage), limit(messages)))));
        beside
    }

    /// The subscriptions of a user who was made, to mailboxes that may come later.
    fn subscribe_later(&mut self, user: &str) {
        let about = self.user.as_ref().filter(|about| self.asked.names.user(&about.user) == user);
        if let Some(about) = about.filter(|_| !self.subscriptions.contains_key(user)) {
            let names = about.subscriptions.iter().map(|name| self.asked.names.of(name)).collect();
            self.subscriptions.insert(user.to_owned(), names);
        }
    }

    /// Something came to a mailbox.
    pub(super) fn added(&mut self, name: &str) {
        if let Some(user) = owner(name).filter(|user| !self.enriched.contains(*user)) {
            self.enriched.insert(user.to_owned());
        }
    }

    /// Whether the owner of a mailbox is made with it.
    fn is_new_user(&mut self, name: &str) -> Outcome<bool> {
        let Some(user) = owner(name) else { return Ok(false) };
        if self.users.contains_key(user) {
            return Ok(false);
        }
        let is_new = !self.house.has_user(user)?;
        self.users.insert(user.to_owned(), is_new);
        Ok(is_new)
    }

    /// `name.20261123`, or with a number behind it.
    fn free_name(&mut self, name: &str) -> Outcome<String> {
        let day = jiff::Zoned::now().strftime("%Y%m%d").to_string();
        for n in 0..1000 {
            let free = if n == 0 { format!("{name}.{day}") } else { format!("{name}.{day}.{n}") };
            if self.house.mailbox(&free)?.is_none() {
                return Ok(free);
            }
        }
        Err(Stop::new(Code::Exists, format!("no name is free beside {name}")))
    }
}

/// A mailbox of which only a message tells.
pub fn lost(message: &Message) -> Mailbox {
    named(&message.mailbox)
}

/// A mailbox of which only the name is known.
pub fn named(name: &str) -> Mailbox {
    let name = name.to_owned();
    let object = match owner(&name) {
        Some(user) => format!("/?/?/{}", name.strip_prefix("user/").unwrap_or(user)),
        None => format!("/?/{name}"),
    };
    Mailbox {
        object,
        name,
        id: String::new(),
        partition: String::new(),
        uidvalidity: 0,
        uidnext: 1,
        highest_modseq: 1,
        acl: BTreeMap::new(),
        quota: None,
        before: None,
    }
}
