//! What a partition, and the log that was set aside, prove of one home.
//!
//! # Order of trust
//! Of two states of a thing the one with the higher LSN counts, wherever it stands: index, manifest, log. An index that is whole speaks for
//! its mailbox; one that is not, or ends before the manifest does, is merged with what the manifest knows. Files prove that there is
//! a message and what its bytes are, and nothing else of it.

use super::salvage::{Bytes, Salvage};
use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::lsn::Lsn;
use crate::model::adopt::{AdoptedBody, AdoptedMessage};
use crate::model::command::{Incoming, IncomingBytes};
use crate::model::message::{Message, State};
use crate::model::name::owner_of;
use crate::model::rows::{MailboxRow, PastRow, QuotaRow, Row, SubscriptionRow, UserRow};
use crate::model::seen::SeenRow;
use crate::model::user::SHARED_DIRECTORY;
use crate::model::{Table, Usage};
use crate::partition::Owner;
use crate::partition::bodies::{self, Body};
use crate::partition::index::{Head, History, Index, Stamped};
use crate::partition::journal::Reading;
use crate::partition::manifest::{Manifest, MirroredRows};
use crate::partition::tree::{self, Home, Place};
use crate::wal::payload::body_crc;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Mailboxes whose histories are in memory at once.
const AT_ONCE: usize = 64;
/// Bytes of messages that one transaction brings along, and how many, at the most.
const BROUGHT_BYTES: u64 = 4 << 20;
const BROUGHT: usize = 4096;

/// Where and with what to look.
pub(super) struct Look<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) store: Owner<'a>,
    pub(super) partition: &'a str,
    pub(super) home: &'a Home,
    pub(super) salvage: &'a Salvage,
}

/// Limits of bytes and of messages.
pub(super) type Limits = (Option<u64>, Option<u64>);

/// The user whose home it is, and what is his.
#[derive(Debug, Default)]
pub(super) struct ProvenUser {
    /// User id and row; `None`: no row says so.
    pub(super) row: Option<(String, UserRow)>,
    /// He was deleted, under this id.
    pub(super) deleted: Option<String>,
    pub(super) limits: Option<Limits>,
    /// Limits of roots that are mailboxes.
    pub(super) roots: Vec<(Vec<u8>, Limits)>,
    pub(super) subscriptions: Vec<(Vec<u8>, u64)>,
    pub(super) past: Vec<(Vec<u8>, PastRow)>,
    /// What he has seen in mailboxes of others, by the key of the row.
    pub(super) seen: Vec<(Vec<u8>, SeenRow)>,
}

/// What is proven of a mailbox.
#[derive(Debug)]
pub(super) struct Proven {
    pub(super) place: Place,
    /// `None`: nobody knows what it is.
    pub(super) head: Option<Head>,
    /// It is gone for good.
    pub(super) is_gone: bool,
    /// Index or manifest is whole, so that what they do not know was not.
    pub(super) is_whole: bool,
    /// Of the changes up to the moment that was asked for all are known up to this one.
    pub(super) reached: u64,
    /// Messages that the mailbox had at that moment, as far as they are known.
    pub(super) had: u64,
    /// The newest frame about it.
    pub(super) last_lsn: Lsn,
    /// It has a directory.
    pub(super) has_directory: bool,
    /// Messages that can be read or brought back, of all states but purged.
    pub(super) messages: u64,
    /// Messages to bring along: the log knows them better than the partition.
    pub(super) adopt: Vec<AdoptedMessage>,
    /// UIDs of messages that are proven, and whose bytes are nowhere.
    pub(super) lost: Vec<u32>,
    /// UIDs of files of which nothing is known.
    pub(super) strangers: Vec<u32>,
    /// Where nobody knows what mailbox it is: every file, and what is known of its message.
    pub(super) loose: Vec<(u32, Option<Message>)>,
    /// What is wrong with the index, if anything.
    pub(super) problem: Option<String>,
    /// What to make the index from that is missing or not whole.
    pub(super) heal: Option<History>,
    /// The log knows of more messages than go into one transaction: to be looked at again behind the next checkpoint.
    pub(super) is_partial: bool,
}

impl Look<'_> {
    fn manifest(&self) -> Manifest<'_> {
        Manifest::new(self.disk, self.store, self.home)
    }

    /// The rows of the manifest, and how well it can be read.
    pub(super) fn rows(&self) -> Result<(MirroredRows, Reading)> {
        self.manifest().rows()
    }

    /// The mailboxes that the manifest knows; of those that are gone, since when.
    pub(super) fn known_mailboxes(&self) -> Result<BTreeMap<u64, Option<Stamped<u64>>>> {
        self.manifest().mailboxes()
    }

    /// What is proven of the user.
    pub(super) fn user(&self) -> Result<ProvenUser> {
        let (mut rows, _) = self.manifest().rows()?;
        self.salvage.add_to(&mut rows, self.home.path());
        proven_user(&rows, self.home)
    }

    /// The users whose mailboxes lie in it, as its indexes say; `None`: there are mailboxes, or there may be, and none says whose it is.
    pub(super) fn owners(&self) -> Option<BTreeSet<String>> {
        let places = tree::mailboxes(self.disk, self.home).ok()?;
        let owner = |place: &Place| {
            let head = Index::new(self.disk, self.store, place).read().ok()?.head?;
            owner_of(&head.value.name).map(str::to_owned)
        };
        let owners: BTreeSet<String> = places.iter().filter_map(owner).collect();
        let is_known = !owners.is_empty() || places.is_empty() || self.home.path() == SHARED_DIRECTORY;
        is_known.then_some(owners)
    }

    /// True if there is a directory of a mailbox that is not known to be deleted, or the manifest knows of one.
    pub(super) fn is_inhabited(&self) -> Result<bool> {
        let manifest = self.manifest();
        let known = manifest.mailboxes()?;
        let alive = known.iter().filter(|(_, gone)| gone.is_none()).map(|(id, _)| *id).collect();
        let (mut live, mut told) = (false, BTreeSet::new());
        manifest.heads(&alive, &mut |id, head| {
            live |= head.value.deleted_us == 0;
            told.insert(id);
            Ok(())
        })?;
        for place in tree::mailboxes(self.disk, self.home)? {
            if !told.contains(&place.id) && known.get(&place.id).is_none_or(Option::is_none) {
                let head = Index::new(self.disk, self.store, &place).read()?.head;
                live |= head.is_none_or(|head| head.value.deleted_us == 0);
            }
        }
        Ok(live)
    }

    /// Calls `each` with every mailbox of which anything in the home speaks. `owner`: the user whose home it is; `upto`: the moment of the
    /// database to which it is compared.
    pub(super) fn mailboxes(
        &self,
        owner: Option<&str>,
        upto: Lsn,
        each: &mut dyn FnMut(Proven) -> Result<()>,
    ) -> Result<()> {
        let manifest = self.manifest();
        let (newest, reading) = manifest.newest()?;
        let found: BTreeSet<u64> = tree::mailboxes(self.disk, self.home)?.into_iter().map(|place| place.id).collect();
        let mut ids: BTreeSet<u64> = newest.keys().copied().chain(found.iter().copied()).collect();
        ids.extend(self.salvage.ids(self.partition, self.home.path(), owner));
        let ids: Vec<u64> = ids.into_iter().collect();
        for ids in ids.chunks(AT_ONCE) {
            let mut histories = BTreeMap::new();
            let mut ask = BTreeSet::new();
            for id in ids {
                let index = Index::new(self.disk, self.store, &self.home.mailbox(*id));
                let (history, problem) = match index.read() {
                    Ok(history) => (history, None),
                    // Its frames are good, and not understood: damage that no checksum saw. Its twin is asked.
                    Err(e @ StoreError::Corrupt { .. }) => (History::default(), Some(e.to_string())),
                    Err(e) => return Err(e),
                };
                let known = newest.get(id).map(|(stamp, _)| stamp.lsn);
                if !history.reading.is_whole() || known.is_some_and(|lsn| history.reading.last_lsn < lsn) {
                    ask.insert(*id);
                }
                histories.insert(*id, (history, problem));
            }
            let mut mirrors = if ask.is_empty() { BTreeMap::new() } else { manifest.histories(&ask)? };
            for (id, (mut history, mut problem)) in histories {
                let is_whole = history.reading.is_whole() || (reading.is_there && reading.is_whole());
                if history.reading.is_there && !history.reading.is_whole() {
                    problem.get_or_insert_with(|| history.reading.problem());
                }
                let is_short = mirrors.contains_key(&id) || !history.reading.is_whole();
                let reading = history.reading.clone();
                mirrors.remove(&id).into_iter().for_each(|mirror| history.merge(mirror));
                let knows = history.head.is_some() || !history.messages.is_empty();
                let heal = (is_short && knows && found.contains(&id)).then(|| History { reading, ..history.clone() });
                let gone = newest.get(&id).and_then(|(stamp, gone)| gone.then_some(stamp.lsn));
                let place = self.home.mailbox(id);
                let reached = history.highest_modseq(upto);
                let had = history.at(upto).filter(|message| message.value.is_live()).count() as u64;
                let newest_head = history.head.iter().map(|head| head.lsn);
                let last_lsn = history.messages.iter().map(|m| m.lsn).chain(newest_head).max().unwrap_or(Lsn::ZERO);
                let mut proven = self.proven(place, history, gone, found.contains(&id))?;
                (proven.reached, proven.had, proven.last_lsn) = (reached, had, last_lsn);
                (proven.is_whole, proven.problem, proven.heal) = (is_whole, problem, heal);
                each(proven)?;
            }
        }
        Ok(())
    }

    fn proven(&self, place: Place, history: History, gone: Option<Lsn>, has_directory: bool) -> Result<Proven> {
        let mut states: BTreeMap<u32, (Lsn, Message)> =
            history.at(Lsn(u64::MAX)).map(|m| (m.value.uid, (m.lsn, m.value.clone()))).collect();
        let files: BTreeSet<u32> = place.uids(self.disk)?.into_iter().collect();
        let (mut newer, mut bytes, mut is_partial) = (Vec::new(), 0, false);
        let most = (BROUGHT.min(self.salvage.piece.0), BROUGHT_BYTES.min(self.salvage.piece.1));
        for (uid, said) in self.salvage.messages.get(&place.id).into_iter().flatten() {
            if states.get(uid).is_none_or(|(lsn, _)| *lsn < said.lsn) {
                if newer.len() >= most.0 || (bytes > 0 && bytes + said.value.size > most.1) {
                    is_partial = true;
                    break;
                }
                bytes += said.value.size;
                newer.push(*uid);
                states.insert(*uid, (said.lsn, said.value.clone()));
            }
        }
        let mut proven = Proven {
            head: None,
            is_gone: gone.is_some(),
            is_whole: true,
            reached: 0,
            had: 0,
            last_lsn: Lsn::ZERO,
            has_directory,
            messages: 0,
            adopt: Vec::new(),
            lost: Vec::new(),
            strangers: files.iter().copied().filter(|uid| !states.contains_key(uid) && !is_partial).collect(),
            loose: Vec::new(),
            problem: None,
            heal: None,
            is_partial,
            place,
        };
        let is_at_hand = |uid: &u32| files.contains(uid);
        for uid in newer {
            let state = states[&uid].1.clone();
            let body = match state.state {
                State::Purged => AdoptedBody::Kept,
                _ if is_at_hand(&uid) => AdoptedBody::Kept,
                _ => match self.body(&proven.place, &state) {
                    Ok(Some(body)) => body,
                    Ok(None) => {
                        proven.lost.push(uid);
                        AdoptedBody::Kept
                    }
                    Err(StoreError::Corrupt { .. } | StoreError::Io { .. }) => {
                        proven.lost.push(uid);
                        AdoptedBody::Kept
                    }
                    Err(e) => return Err(e),
                },
            };
            proven.adopt.push(AdoptedMessage { state, body });
        }
        let brought: BTreeSet<u32> = proven.adopt.iter().map(|message| message.state.uid).collect();
        for uid in states.iter().filter(|(_, (_, message))| message.state != State::Purged).map(|(uid, _)| uid) {
            proven.messages += 1;
            if !brought.contains(uid) && !is_at_hand(uid) {
                proven.lost.push(*uid);
            }
        }
        proven.head = self.head(&proven, history.head, &states, files.last().copied(), gone);
        if proven.head.is_none() && !proven.is_gone {
            let known = |uid: &u32| states.get(uid).map(|(_, message)| message.clone());
            let is_purged = |known: &Option<Message>| known.as_ref().is_some_and(|m| m.state == State::Purged);
            let loose = files.iter().map(|uid| (*uid, known(uid)));
            proven.loose = loose.filter(|(_, known)| !is_purged(known)).collect();
        }
        Ok(proven)
    }

    /// What the mailbox is, counted again from its messages.
    fn head(
        &self,
        proven: &Proven,
        head: Option<Stamped<Head>>,
        states: &BTreeMap<u32, (Lsn, Message)>,
        last_file: Option<u32>,
        gone: Option<Lsn>,
    ) -> Option<Head> {
        let said = self.salvage.mailboxes.get(&proven.place.id);
        let mut head = match (head, said) {
            (head, Some(said)) if head.as_ref().is_none_or(|head| head.lsn < said.lsn) => {
                let value = said.value.clone()?;
                let owner = head.map_or_else(|| self.home.path().to_owned(), |head| head.value.owner);
                let (key, row, deleted_us) = (value.key, value.row, value.deleted_us);
                Head { name: key, owner, quota_root: Vec::new(), deleted_us, keywords: Vec::new(), row }
            }
            (head, _) => head?.value,
        };
        if gone.is_some() {
            return None;
        }
        let row: &mut MailboxRow = &mut head.row;
        let live = || states.values().map(|(_, message)| message).filter(|message| message.is_live());
        let usage = live().fold(Usage::default(), |sum, m| sum.plus(Usage { bytes: m.size, messages: 1 }));
        (row.messages, row.bytes) = (usage.messages, usage.bytes);
        row.unseen = live().filter(|m| !m.flags.has(crate::model::message::Flags::SEEN)).count() as u64;
        let last = states.keys().next_back().copied().max(last_file).unwrap_or(0);
        row.uidnext = row.uidnext.max(last.saturating_add(1));
        let modseq = states.values().map(|(_, message)| message.modseq).max().unwrap_or(0);
        row.highest_modseq = row.highest_modseq.max(modseq);
        Some(head)
    }

    /// Where the bytes of a message come from that has no file; `None`: from nowhere.
    fn body(&self, place: &Place, message: &Message) -> Result<Option<AdoptedBody>> {
        let body = Body { size: message.size, digest: message.digest };
        let bytes = match self.salvage.bytes(place.id, message.uid) {
            None => return Ok(None),
            Some(Bytes::Staged { partition, number }) => {
                return Ok(Some(AdoptedBody::Staged { partition: partition.clone(), number: *number }));
            }
            Some(Bytes::Logged { file, at }) => self.salvage.logged(file, *at, body)?,
            Some(Bytes::Copy { of, uid }) => {
                let origin = Home::parse(&of.home).filter(|_| of.partition == self.partition);
                match origin {
                    Some(home) => bodies::read(self.disk, &home.mailbox(of.mailbox), *uid, body)?,
                    None => return Ok(None),
                }
            }
        };
        let crc = body_crc(&bytes);
        let (size, digest, header_size) = (message.size, message.digest, message.header_size);
        let bytes = IncomingBytes::Inline { bytes, crc };
        Ok(Some(AdoptedBody::Logged(Arc::new(Incoming { size, digest, header_size, bytes }))))
    }
}

fn proven_user(rows: &MirroredRows, home: &Home) -> Result<ProvenUser> {
    let mut user = ProvenUser::default();
    let mut newest: Option<Lsn> = None;
    let users = rows.iter().filter(|((table, _), _)| *table == Table::Users);
    for ((_, key), row) in users.clone() {
        let Some(bytes) = &row.value else { continue };
        let decoded = UserRow::decode(key, bytes)?;
        if decoded.directory == home.path() && newest.is_none_or(|known| known <= row.lsn) {
            newest = Some(row.lsn);
            user.row = Some((String::from_utf8_lossy(key).into_owned(), decoded));
        }
    }
    if user.row.is_none() {
        let last = users.max_by_key(|(_, row)| row.lsn);
        user.deleted = last.map(|((_, key), _)| String::from_utf8_lossy(key).into_owned());
    }
    let name = user.row.as_ref().map(|(name, _)| name.clone());
    for ((table, key), row) in rows {
        let Some(bytes) = &row.value else { continue };
        let owner = super::owner_in(*table, key);
        match table {
            Table::Past => user.past.push((key.clone(), PastRow::decode(key, bytes)?)),
            // What is left of one who had the name before him is not his.
            _ if owner != name => {}
            Table::Seen => user.seen.push((key.clone(), SeenRow::decode(key, bytes)?)),
            Table::Quotas => {
                let row = QuotaRow::decode(key, bytes)?;
                let limits = (row.storage_limit, row.message_limit);
                let own = name.as_deref().is_some_and(|name| crate::model::keys::quota_key(name) == *key);
                if own { user.limits = Some(limits) } else { user.roots.push((key.clone(), limits)) }
            }
            Table::Subscriptions => {
                if let Some((_, mailbox)) = crate::model::keys::split(key) {
                    user.subscriptions.push((mailbox.to_vec(), SubscriptionRow::decode(key, bytes)?.since_us));
                }
            }
            _ => {}
        }
    }
    Ok(user)
}
