//! What a backup reads: all mailboxes of one moment, their messages, the bytes of these.
//!
//! # Operation
//! A moment belongs to its connection, one each; it keeps indexes as they were and pins no database. What is read of the database
//! is read when it is made, and goes to the client at once.

use super::Daemon;
use super::lists::{broken, each_row, subscribed, user_id, user_row};
use super::quotas::{LIMITS_ALONE, quota_at};
use crate::beside;
use crate::control::{Listing, Parts, Peer};
use crate::error::StoreError;
use crate::jobs::objects::{Excluded, Groups, Object, Objects};
use crate::lsn::{Epoch, Lsn, Micros};
use crate::model::message::Message;
use crate::model::name::{key_text, owner_of};
use crate::model::rows::{MailboxRow, Row, quota_key};
use crate::model::{Folder, Rows, Table};
use crate::store::{Known, Listed, Moment, Store, View, rfc3339};
use proto::{
    BackupAsk, BackupBegun, BackupMailbox, BackupMessage, BackupPart, BackupPiece, BackupUser, Code, Done, Failure,
    READ_IN_TURN, Reply,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of a piece.
const PIECE_BYTES: usize = 256 << 10;
/// Bytes of the pieces of one part.
const PART_BYTES: usize = 256 << 10;
/// Messages whose bytes one request asks for, at most.
const UIDS_MAX: usize = 100_000;
/// Bytes of messages that are read at once, and held, of one request.
const READ_BYTES: u64 = 4 << 20;
/// Threads that read them.
const READERS: usize = 8;
/// Lists of messages that are remembered for the bytes that are asked for next.
const LISTS_KEPT: usize = 4;

/// A mailbox of a moment.
#[derive(Debug)]
struct Target {
    folder: Folder<'static>,
    row: MailboxRow,
}

/// What one connection reads.
#[derive(Debug)]
struct Reading {
    moment: Moment,
    /// All of the store was asked for.
    is_everything: bool,
    targets: HashMap<u64, Target>,
    /// Mailboxes that are not among them: number and name.
    left_out: Vec<(u64, String)>,
    /// The newest last.
    lists: Mutex<Vec<(u64, Arc<Listed>)>>,
}

/// The moments that connections read.
#[derive(Debug, Default)]
pub(super) struct Readers(Mutex<BTreeMap<u64, Arc<Reading>>>);

impl Readers {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Reading>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection has ended.
    pub(super) fn gone(&self, connection: u64) {
        let gone = self.lock().remove(&connection);
        drop(gone);
    }
}

/// Sends the pieces of messages as they come.
pub(super) struct Pieces<'a, 'b> {
    part: Vec<BackupPiece>,
    bytes: usize,
    parts: &'a mut Parts<'b>,
}

impl<'a, 'b> Pieces<'a, 'b> {
    pub(super) fn new(parts: &'a mut Parts<'b>) -> Pieces<'a, 'b> {
        Pieces { part: Vec::new(), bytes: 0, parts }
    }

    /// The bytes of a message, or why they cannot be had.
    pub(super) fn push(&mut self, uid: u32, found: Result<Vec<u8>, String>) -> Result<(), Failure> {
        for piece in cut(uid, found) {
            self.bytes += piece.bytes.len() + 64;
            self.part.push(piece);
            if self.bytes >= PART_BYTES {
                self.bytes = 0;
                (self.parts)(pieces(std::mem::take(&mut self.part)))?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Reply {
        pieces(self.part)
    }
}

fn pieces(pieces: Vec<BackupPiece>) -> Reply {
    Reply::Backup(BackupPart::Pieces(pieces))
}

impl Daemon {
    fn backup_follows(&self, lsn: Lsn, epoch: Epoch) -> Result<Reply, Failure> {
        if self.store()?.partitions().past().given_up().holds(lsn, epoch) {
            let text =
                format!("the store has gone back behind LSN {lsn} of epoch {epoch}: it has another history since");
            return Err(Failure::new(Code::BadInput, text));
        }
        Ok(Reply::Done(Done { done: true }))
    }

    /// `backup`.
    pub(super) fn backup(&self, peer: &Peer, ask: &BackupAsk, parts: &mut Parts<'_>) -> Result<Reply, Failure> {
        if let BackupAsk::Begin { objects } = ask {
            return self.backup_begin(peer, objects, parts);
        }
        match ask {
            BackupAsk::Changes { lsn, epoch, until_us } => {
                let from = Known { lsn: Lsn(*lsn), epoch: Epoch(*epoch), time: Micros(0) };
                return self.backup_changes(from, Micros(*until_us), parts);
            }
            BackupAsk::Bygone { messages } => return self.backup_bygone(messages, parts),
            BackupAsk::AtWork(work) => {
                if work.is_last && !work.restores {
                    self.archive_is_whole(peer);
                }
                return self.client_at_work(peer, work);
            }
            BackupAsk::Sick { name, deep } => return self.backup_sick(name, *deep, parts),
            BackupAsk::Heal(heal) => return self.backup_heal(peer, heal),
            BackupAsk::Follows { lsn, epoch } => return self.backup_follows(Lsn(*lsn), Epoch(*epoch)),
            _ => {}
        }
        let reading = self.readers.lock().get(&peer.connection).cloned();
        let reading = reading.ok_or_else(|| Failure::new(Code::BadInput, "this connection has begun no backup"))?;
        let store = self.store()?;
        match ask {
            BackupAsk::Messages { mailbox } => {
                let listed = reading.list(store, *mailbox)?;
                let wrap = |messages| Reply::Backup(BackupPart::Messages(messages));
                let mut listing = Listing::new(wrap, parts);
                // One that a restore has made has messages that say when they were saved where they came from: here they came with it.
                let made_us = reading.target(*mailbox)?.row.created_us;
                for message in listed.messages.values().filter(|m| m.is_live()) {
                    let line = line(message);
                    listing.push(BackupMessage { saved_us: line.saved_us.max(made_us), ..line })?;
                }
                Ok(listing.finish())
            }
            BackupAsk::Bytes { mailbox, uids } => reading.bytes(store, *mailbox, uids, parts),
            BackupAsk::LeftOut => {
                let mut listing = Listing::new(|all| Reply::Backup(BackupPart::LeftOut(all)), parts);
                reading.left_out.iter().try_for_each(|one| listing.push(one.clone()))?;
                Ok(listing.finish())
            }
            _ => Err(Failure::new(Code::Bug, "answered above")),
        }
    }

    /// The client of this connection has put the archive in its place: if it has all mail, that is known from now on.
    fn archive_is_whole(&self, peer: &Peer) {
        let reading = self.readers.lock().get(&peer.connection).cloned();
        let time = reading.filter(|reading| reading.is_everything).map(|reading| reading.moment.time());
        if let (Some(time), Ok(copies)) = (time, self.copies()) {
            copies.backups.note_mail(time);
        }
    }

    /// The objects that these words ask for; that there is such a thing was looked at.
    pub(super) fn objects(&self, view: &View, words: &[String]) -> Result<Objects, Failure> {
        let config = self.config();
        let file = &config.backup.groups;
        let groups = if file.as_os_str().is_empty() { Groups::default() } else { read_groups(file)? };
        let excluded = Excluded::parse(&config.backup.exclude);
        let objects = Objects::new(words, groups, excluded).map_err(|e| {
            Failure::new(Code::BadInput, e.to_string()).with_hint("/partition/group/user/folder, or a user id")
        })?;
        objects.wanted().iter().try_for_each(|object| is_there(view, object))?;
        let named = objects.wanted().iter().zip(words);
        named
            .filter(|(object, _)| object.is_particular())
            .try_for_each(|(object, word)| takes_something(view, &objects, object, word))?;
        Ok(objects)
    }

    fn backup_begin(&self, peer: &Peer, words: &[String], parts: &mut Parts<'_>) -> Result<Reply, Failure> {
        let store = self.store()?;
        // Before the checkpoint that a moment costs.
        self.objects(&store.view(), words)?;
        let (moment, view) = store.moment().map_err(broken)?;
        let objects = self.objects(&view, words)?;
        parts(Reply::Backup(BackupPart::Begun(BackupBegun {
            store: store.store_id().to_string(),
            lsn: moment.lsn().0,
            epoch: moment.epoch().0,
            time: rfc3339(moment.time()),
        })))?;
        let wrap = |mailboxes| Reply::Backup(BackupPart::Mailboxes(mailboxes));
        let mut listing = Listing::new(wrap, parts);
        let (mut targets, mut left_out, mut owner) = (HashMap::new(), Vec::new(), None);
        each_row(&view, Table::Mailboxes, &objects.key_prefix(), &mut |key, row| {
            let row = MailboxRow::decode(key, row).map_err(broken)?;
            if !objects.take(key, &row.partition) {
                left_out.push((row.id, key_text(key)));
                return Ok(());
            }
            let folder = store.folder(&view, key, &row).map_err(broken)?;
            let is_first = owner_of(key).is_some_and(|of| owner.as_deref() != Some(of));
            if is_first {
                owner = owner_of(key).map(str::to_owned);
            }
            let about = if is_first { owner.as_deref().map(|user| owner_row(&view, user)).transpose()? } else { None };
            listing.push(mailbox(&view, key, &row, objects.path(key, &row.partition), about)?)?;
            targets.insert(row.id, Target { folder, row });
            Ok(())
        })?;
        let last = listing.finish();
        let is_everything = words.iter().any(|word| word == "/");
        let reading = Arc::new(Reading { moment, is_everything, targets, left_out, lists: Mutex::default() });
        self.readers.lock().insert(peer.connection, reading);
        // Nobody tells twice that a connection has ended: it may have been while the mailboxes were listed.
        parts(last).inspect_err(|_| self.readers.gone(peer.connection))?;
        Ok(wrap(Vec::new()))
    }
}

fn read_groups(file: &std::path::Path) -> Result<Groups, Failure> {
    let shown = file.display();
    let hint = format!("look at it: {}", proto::naming::quoted(&shown.to_string()));
    let bytes = crate::disk::outside::read(file, crate::jobs::objects::FILE_BYTES_MAX)
        .map_err(|e| Failure::new(Code::Config, format!("{shown}: {e}")).with_hint(hint.clone()))?;
    let text = String::from_utf8_lossy(&bytes);
    Groups::parse(&text).map_err(|wrong| {
        let lines: Vec<String> = wrong.iter().map(|e| format!("{shown}:{}: {}", e.line, e.what)).collect();
        Failure::new(Code::Config, lines.join("; ")).with_hint(hint)
    })
}

/// Refuses an object that names something which is not there.
fn is_there(view: &View, object: &Object) -> Result<(), Failure> {
    let missing = |code, what: String, list: &str| Err(Failure::new(code, what).with_hint(format!("storectl {list}")));
    let has = |table, key: &[u8]| view.contains(table, key).map_err(broken);
    let user = match object {
        Object::User(user) => Some(user),
        Object::Part { partition, user, .. } => {
            if !has(Table::Partitions, partition.as_bytes())? {
                return missing(Code::NotFound, format!("no such partition: {partition}"), "partition list");
            }
            user.as_ref()
        }
        Object::Mailbox(name) if !has(Table::Mailboxes, name.key())? => {
            return missing(Code::NotFound, format!("no such mailbox: {name}"), "mailbox list");
        }
        _ => None,
    };
    match user {
        Some(user) => user_row(view, &user_id(user)?).map(drop),
        None => Ok(()),
    }
}

/// Refuses an object that is somebody's, and takes no mailbox: a name that was typed wrong, or a user who lies on another partition by now. An
/// archive of nothing would take the place of one that has his mail.
fn takes_something(view: &View, objects: &Objects, object: &Object, word: &str) -> Result<(), Failure> {
    let mut found = false;
    each_row(view, Table::Mailboxes, &object.key_prefix(), &mut |key, row| {
        found = found || objects.take_by(object, key, &MailboxRow::decode(key, row).map_err(broken)?.partition);
        Ok(())
    })?;
    if found {
        return Ok(());
    }
    let hint = match object {
        Object::User(user) | Object::Part { user: Some(user), .. } => format!("storectl mailbox list 'user/{user}/*'"),
        _ => "storectl mailbox list".to_owned(),
    };
    Err(Failure::new(Code::NotFound, format!("no such mailbox: {word} has none that is backed up")).with_hint(hint))
}

fn owner_row(view: &View, user: &str) -> Result<BackupUser, Failure> {
    let row = user_row(view, &user_id(user)?)?;
    let quota = quota_at(view, &quota_key(user), LIMITS_ALONE)?;
    Ok(BackupUser {
        user: user.to_owned(),
        partition: row.partition,
        quota_bytes: quota.as_ref().and_then(|quota| quota.storage.limit),
        quota_messages: quota.as_ref().and_then(|quota| quota.messages.limit),
        subscriptions: subscribed(view, user)?,
    })
}

fn mailbox(
    view: &View,
    key: &[u8],
    row: &MailboxRow,
    object: String,
    owner: Option<BackupUser>,
) -> Result<BackupMailbox, Failure> {
    Ok(BackupMailbox {
        object,
        name: key_text(key),
        id: row.id,
        partition: row.partition.clone(),
        uidvalidity: row.uidvalidity,
        uidnext: row.uidnext,
        highest_modseq: row.highest_modseq,
        messages: row.messages,
        bytes: row.bytes,
        acl: row.acl.clone(),
        quota: quota_at(view, key, LIMITS_ALONE)?.map(|quota| (quota.storage.limit, quota.messages.limit)),
        owner,
    })
}

pub(super) fn line(message: &Message) -> BackupMessage {
    BackupMessage {
        uid: message.uid,
        size: message.size,
        digest: message.digest.0,
        internal_us: message.internal_us,
        saved_us: message.saved_us,
        modseq: message.modseq,
        flags: message.flag_names(),
    }
}

impl Reading {
    fn target(&self, mailbox: u64) -> Result<&Target, Failure> {
        let none = || Failure::new(Code::NotFound, format!("mailbox {mailbox} is not in this backup"));
        self.targets.get(&mailbox).ok_or_else(none)
    }

    fn list(&self, store: &Store, mailbox: u64) -> Result<Arc<Listed>, Failure> {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = lists.iter().find(|(id, _)| *id == mailbox) {
            return Ok(known.clone());
        }
        drop(lists);
        let Target { folder, row } = self.target(mailbox)?;
        let listed = Arc::new(store.messages_at(&self.moment, folder, row).map_err(broken)?);
        lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        if lists.len() >= LISTS_KEPT {
            lists.remove(0);
        }
        lists.push((mailbox, listed.clone()));
        Ok(listed)
    }

    fn bytes(&self, store: &Store, mailbox: u64, uids: &[u32], parts: &mut Parts<'_>) -> Result<Reply, Failure> {
        if uids.len() > UIDS_MAX {
            return Err(Failure::new(Code::BadInput, format!("{} messages at once, at most {UIDS_MAX}", uids.len())));
        }
        let folder = &self.target(mailbox)?.folder;
        let listed = self.list(store, mailbox)?;
        let mut pieces = Pieces::new(parts);
        let size = |uid: &u32| listed.messages.get(uid).map_or(0, |message| message.size);
        let mut left = uids;
        while !left.is_empty() {
            let mut bytes = 0;
            let more = left.iter().take_while(|uid| {
                bytes += size(uid);
                bytes <= READ_BYTES
            });
            // One that is longer is read alone.
            let (some, rest) = left.split_at(more.count().max(1));
            left = rest;
            for (uid, found) in read(store, folder, &listed, some) {
                pieces.push(uid, found)?;
            }
        }
        Ok(pieces.finish())
    }
}

/// The bytes of messages, or why they cannot be had, in the same order. Several are read at a time: a cold disk gives them sooner so.
fn read(store: &Store, folder: &Folder<'_>, listed: &Listed, uids: &[u32]) -> Vec<(u32, Result<Vec<u8>, String>)> {
    let one = |uid: &u32| match listed.messages.get(uid) {
        Some(message) => (*uid, bytes_of(store, folder, message)),
        None => (*uid, Err(format!("no message {uid}"))),
    };
    if uids.len() <= READ_IN_TURN {
        return uids.iter().map(one).collect();
    }
    std::thread::scope(|scope| {
        let share = |uids| beside::help(scope, move || -> Vec<_> { <[u32]>::iter(uids).map(one).collect() });
        let shares: Vec<_> = uids.chunks(uids.len().div_ceil(READERS)).map(|uids| (uids, share(uids))).collect();
        let failed = |uid: &u32| (*uid, Err("the thread that read it has ended".to_owned()));
        let done = |(uids, share): (&[u32], Option<std::thread::ScopedJoinHandle<'_, Vec<_>>>)| match share {
            Some(share) => share.join().unwrap_or_else(|_| uids.iter().map(failed).collect()),
            None => uids.iter().map(one).collect(),
        };
        shares.into_iter().flat_map(done).collect()
    })
}

/// The bytes of a message; it may have gone elsewhere since the moment.
fn bytes_of(store: &Store, folder: &Folder<'_>, message: &Message) -> Result<Vec<u8>, String> {
    store.message_bytes(&store.view(), folder, message).map_err(|e| match e {
        StoreError::Corrupt { file, .. } => format!("{file} is damaged"),
        other => other.to_string(),
    })
}

fn cut(uid: u32, found: Result<Vec<u8>, String>) -> Vec<BackupPiece> {
    let (bytes, failed) = match found {
        Ok(bytes) => (bytes, None),
        Err(why) => (Vec::new(), Some(why)),
    };
    if bytes.len() <= PIECE_BYTES {
        return vec![BackupPiece { uid, bytes, last: true, failed }];
    }
    let count = bytes.len().div_ceil(PIECE_BYTES);
    let piece =
        |(n, bytes): (usize, &[u8])| BackupPiece { uid, bytes: bytes.to_vec(), last: n + 1 == count, failed: None };
    bytes.chunks(PIECE_BYTES).enumerate().map(piece).collect()
}
