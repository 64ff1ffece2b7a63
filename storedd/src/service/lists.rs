//! Queries over one view: users, mailboxes, rights, subscriptions, partitions.

use super::Daemon;
use crate::control::convert::failure;
use crate::control::{Listing, Parts};
use crate::error::StoreError;
use crate::lsn::Micros;
use crate::model::message::{Flags, Message};
use crate::model::name::{owner_of, user_prefix};
use crate::model::pattern::Pattern;
use crate::model::rows::{
    IdRow, MailboxRow, MailboxView, PartitionRow, Row, TombstoneRow, UserRow, id_key, joined, quota_key, readable_key,
    split,
};
use crate::model::{MailboxName, Rows, Table, UserId, utf7};
use crate::partition::State;
use crate::store::{Store, View, rfc3339};
use proto::{Code, Failure, Reply};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

/// Longest wait for a partition to say how it is.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where each partition lies, for the paths of a listing.
pub(super) type Roots = BTreeMap<String, String>;

/// Takes a key and its row; an error ends the walk.
pub(super) type EachRow<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), Failure> + 'a;

pub(super) fn broken(e: StoreError) -> Failure {
    failure(&e)
}

/// Calls `each` for every row whose key begins with `prefix`, until it fails.
pub(super) fn each_row(view: &View, table: Table, prefix: &[u8], each: &mut EachRow<'_>) -> Result<(), Failure> {
    let mut ended = Ok(());
    let mut one = |key: &[u8], row: &[u8]| {
        ended = each(key, row);
        if ended.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    // The first key behind all that begin so; a prefix is UTF-8, so its last byte is not the highest.
    let mut end = prefix.to_vec();
    match end.last_mut() {
        Some(last) => {
            *last = last.saturating_add(1);
            view.scan_until(table, Bound::Included(prefix), &end, &mut one)
        }
        None => view.scan(table, Bound::Unbounded, &mut one),
    }
    .map_err(broken)?;
    ended
}

fn count_rows(view: &View, table: Table, prefix: &[u8]) -> Result<u64, Failure> {
    let mut count = 0;
    each_row(view, table, prefix, &mut |_, _| {
        count += 1;
        Ok(())
    })?;
    Ok(count)
}

pub(super) fn user_id(text: &str) -> Result<UserId, Failure> {
    UserId::parse(text).map_err(|e| Failure::new(Code::BadInput, format!("{text:?}: {e}")))
}

fn mailbox_name(text: &str) -> Result<MailboxName, Failure> {
    MailboxName::parse(text).map_err(|e| {
        let failure = Failure::new(Code::BadInput, format!("{text:?}: {e}"));
        match e.hint() {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    })
}

pub(super) fn pattern(text: &str) -> Result<Pattern, Failure> {
    Pattern::parse(text).map_err(|e| Failure::new(Code::BadInput, format!("pattern {text:?}: {e}")))
}

pub(super) fn user_row(view: &View, user: &UserId) -> Result<UserRow, Failure> {
    let row = view.get(Table::Users, user.as_str().as_bytes()).map_err(broken)?.ok_or_else(|| {
        Failure::new(Code::NoUser, format!("no such user: {}", user.as_str())).with_hint("storectl user list")
    })?;
    UserRow::decode(user.as_str().as_bytes(), &row).map_err(broken)
}

/// What `mailbox list` shows of a row.
pub(super) fn mailbox(
    roots: &Roots,
    owners: &mut BTreeMap<String, String>,
    view: &View,
    key: &[u8],
    row: &MailboxRow,
) -> Result<proto::Mailbox, Failure> {
    let name = crate::model::name::key_text(key);
    let home = match owner_of(key) {
        Some(owner) if row.home.is_none() => {
            if !owners.contains_key(owner) {
                // Names come sorted by owner: one is enough to remember.
                owners.clear();
                owners.insert(owner.to_owned(), user_row(view, &user_id(owner)?)?.directory);
            }
            owners.get(owner).map(String::as_str)
        }
        _ => None,
    };
    let directory = row.directory(home);
    let root = roots.get(&row.partition).map_or("", String::as_str);
    Ok(proto::Mailbox {
        name,
        id: row.id,
        partition: row.partition.clone(),
        path: format!("{root}/{directory}"),
        uidvalidity: row.uidvalidity,
        uidnext: row.uidnext,
        messages: row.messages,
        bytes: row.bytes,
        acl: row.acl.clone(),
    })
}

/// There is no mailbox with this name, or none that is to be seen.
pub(super) fn no_mailbox(name: &MailboxName) -> Failure {
    Failure::new(Code::NotFound, format!("no such mailbox: {name}")).with_hint("storectl mailbox list")
}

/// Stands for a mailbox name where its number is known: `id:42`. A name never begins so.
const BY_ID: &str = "id:";

/// The name of the mailbox with this number, as directories and messages of the daemon have it.
fn name_of(view: &View, id: &str) -> Result<MailboxName, Failure> {
    let wrong = || Failure::new(Code::BadInput, format!("{id:?} is no number of a mailbox"));
    let id: u64 = id.parse().map_err(|_| wrong())?;
    let key = id_key(id);
    let Some(row) = view.get(Table::Ids, &key).map_err(broken)? else {
        return Err(Failure::new(
            Code::NotFound,
            format!("no mailbox ever had the number {id}, or nothing is left of it"),
        ));
    };
    let place = IdRow::decode(&key, &row).map_err(broken)?;
    if place.table() == Table::Past {
        let place = readable_key(Table::Past, place.key.as_bytes());
        return Err(Failure::new(Code::NotFound, format!("that mailbox was deleted: {place}")));
    }
    MailboxName::from_key(place.key.as_bytes()).ok_or_else(wrong)
}

impl Daemon {
    pub(super) fn roots(&self) -> Result<Roots, Failure> {
        Ok(self
            .store()?
            .partitions()
            .list()
            .into_iter()
            .map(|(n, site)| (n, site.path.display().to_string()))
            .collect())
    }

    pub(super) fn user_list(&self, wanted: Option<&str>, parts: &mut Parts<'_>) -> Result<Reply, Failure> {
        let view = self.view()?;
        let pattern = pattern(wanted.unwrap_or("*"))?;
        let mut listing = Listing::new(Reply::Users, parts);
        each_row(&view, Table::Users, &[], &mut |key, row| {
            if !pattern.matches(key) {
                return Ok(());
            }
            let user = String::from_utf8_lossy(key).into_owned();
            let row = UserRow::decode(key, row).map_err(broken)?;
            let mailboxes = count_rows(&view, Table::Mailboxes, &user_prefix(&user))?;
            listing.push(proto::User { user, partition: row.partition, mailboxes })?;
            Ok(())
        })?;
        Ok(listing.finish())
    }

    pub(super) fn user_show(&self, user: &str) -> Result<Reply, Failure> {
        let view = self.view()?;
        let user = user_id(user)?;
        let row = user_row(&view, &user)?;
        let quota = super::quotas::quota_at(&view, &quota_key(user.as_str()), self.grace())?;
        Ok(Reply::UserDetail(Box::new(proto::UserDetail {
            id: row.id,
            created: rfc3339(Micros(row.created_us)),
            directory: row.directory.clone(),
            mailboxes: count_rows(&view, Table::Mailboxes, &user_prefix(user.as_str()))?,
            partition: row.partition,
            quota,
            subscriptions: subscribed(&view, user.as_str())?,
            user: user.as_str().to_owned(),
        })))
    }

    pub(super) fn mailbox_list(&self, wanted: &str, parts: &mut Parts<'_>) -> Result<Reply, Failure> {
        let view = self.view()?;
        let pattern = pattern(wanted)?;
        let roots = self.roots()?;
        let mut owners = BTreeMap::new();
        let mut listing = Listing::new(Reply::Mailboxes, parts);
        each_row(&view, Table::Mailboxes, pattern.key_prefix(), &mut |key, row| {
            if pattern.matches(key) {
                let row = MailboxRow::decode(key, row).map_err(broken)?;
                listing.push(mailbox(&roots, &mut owners, &view, key, &row)?)?;
            }
            Ok(())
        })?;
        Ok(listing.finish())
    }

    /// `mailbox list --deleted`: what `mailbox undelete` can bring back. Of one name the mailbox that was deleted first comes first.
    pub(super) fn mailbox_list_deleted(&self, wanted: &str, parts: &mut Parts<'_>) -> Result<Reply, Failure> {
        let view = self.view()?;
        let pattern = pattern(wanted)?;
        let mut listing = Listing::new(Reply::DeletedMailboxes, parts);
        // Those of one name, which stand together.
        let mut same: Vec<(u64, proto::DeletedMailbox)> = Vec::new();
        each_row(&view, Table::Past, pattern.key_prefix(), &mut |key, row| {
            let Some((name, _)) = split(key).filter(|(name, _)| pattern.matches(name)) else { return Ok(()) };
            let TombstoneRow { deleted_us, mailbox, .. } = TombstoneRow::decode(key, row).map_err(broken)?;
            let name = crate::model::name::key_text(name);
            if same.first().is_some_and(|(_, before)| before.name != name) {
                push_by_age(&mut listing, &mut same)?;
            }
            let deleted = proto::DeletedMailbox {
                name,
                id: mailbox.id,
                partition: mailbox.partition,
                uidvalidity: mailbox.uidvalidity,
                messages: mailbox.messages,
                bytes: mailbox.bytes,
                deleted: rfc3339(Micros(deleted_us)),
                purge_due: self.purge_due(deleted_us),
            };
            same.push((deleted_us, deleted));
            Ok(())
        })?;
        push_by_age(&mut listing, &mut same)?;
        Ok(listing.finish())
    }

    /// From when on a purge takes what was taken away then; `None`: at no time that can be told.
    pub(super) fn purge_due(&self, taken_us: u64) -> Option<String> {
        let age = u64::try_from(self.config().ageing.cleanup_age.as_micros()).ok()?;
        taken_us.checked_add(age).map(|due| rfc3339(Micros(due)))
    }

    pub(super) fn mailbox_row(&self, view: &View, text: &str) -> Result<(MailboxName, MailboxRow), Failure> {
        let name = match text.strip_prefix(BY_ID) {
            Some(id) => name_of(view, id)?,
            None => mailbox_name(text)?,
        };
        let Some(row) = view.get(Table::Mailboxes, name.key()).map_err(broken)? else {
            if let Some(owner) = name.owner() {
                user_row(view, &user_id(owner)?)?;
            }
            return Err(no_mailbox(&name));
        };
        let row = MailboxRow::decode(name.key(), &row).map_err(broken)?;
        Ok((name, row))
    }

    pub(super) fn mailbox_show(&self, text: &str) -> Result<Reply, Failure> {
        let view = self.view()?;
        let (name, row) = self.mailbox_row(&view, text)?;
        Ok(Reply::MailboxDetail(Box::new(proto::MailboxDetail {
            mailbox: mailbox(&self.roots()?, &mut BTreeMap::new(), &view, name.key(), &row)?,
            highest_modseq: row.highest_modseq,
            unseen: row.unseen,
            flags: self.flags_in(&view, &name, &row),
            created: rfc3339(Micros(row.created_us)),
            name_utf7: utf7::encode(&name.to_string()),
        })))
    }

    /// The flags and keywords that messages of a mailbox have. Where they cannot be read the rest is to be shown all the same.
    fn flags_in(&self, view: &View, name: &MailboxName, row: &MailboxRow) -> Vec<String> {
        let Ok(store) = self.store() else { return Vec::new() };
        let listed = store.folder(view, name.key(), row).and_then(|of| store.messages(view, &of, row));
        let messages = listed.map(|listed| listed.messages).unwrap_or_default();
        let (mut flags, mut keywords) = (Flags::NONE, BTreeSet::new());
        for message in messages.into_values().filter(Message::is_live) {
            flags = flags.with(message.flags);
            keywords.extend(message.keywords);
        }
        flags.names().map(str::to_owned).chain(keywords).collect()
    }

    pub(super) fn acl_get(&self, text: &str) -> Result<Reply, Failure> {
        let (name, row) = self.mailbox_row(&self.view()?, text)?;
        Ok(Reply::Acl(proto::Acl { name: name.to_string(), acl: row.acl }))
    }

    pub(super) fn subscriptions(&self, user: &str) -> Result<Reply, Failure> {
        let view = self.view()?;
        let user = user_id(user)?;
        user_row(&view, &user)?;
        Ok(Reply::Subscriptions(subscribed(&view, user.as_str())?))
    }

    pub(super) fn partition_list(&self) -> Result<Reply, Failure> {
        let view = self.view()?;
        let mut users: BTreeMap<String, u64> = BTreeMap::new();
        each_row(&view, Table::Users, &[], &mut |key, row| {
            *users.entry(UserRow::decode(key, row).map_err(broken)?.partition).or_default() += 1;
            Ok(())
        })?;
        let mut mailboxes: BTreeMap<String, u64> = BTreeMap::new();
        each_row(&view, Table::Mailboxes, &[], &mut |key, row| {
            *mailboxes.entry(MailboxView::decode(key, row).map_err(broken)?.partition.to_owned()).or_default() += 1;
            Ok(())
        })?;
        let store = self.store()?;
        let (mut out, lagging) = (Vec::new(), store.lagging());
        each_row(&view, Table::Partitions, &[], &mut |key, row| {
            let name = String::from_utf8_lossy(key).into_owned();
            let (site, (state, second)) = (store.partitions().site(&name), self.partition_state(store, &name));
            let messages = site.as_ref().and_then(|site| site.messages.as_ref()).zip(second);
            let messages = messages.map(|(path, state)| {
                let (path, free_bytes) = (path.display().to_string(), state.free_bytes());
                Box::new(proto::MessageRoot { path, state: state.word().to_owned(), free_bytes, why: state.why() })
            });
            let behind = lagging.iter().find(|behind| behind.partition == name);
            out.push(proto::Partition {
                why: state.why(),
                behind_lsn: behind.map(|behind| behind.upto.0),
                log_bytes: behind.map_or(0, |behind| behind.log_bytes),
                log_bytes_max: self.config().log.partition_bytes,
                path: site.as_ref().map(|site| site.path.display().to_string()).unwrap_or_default(),
                messages,
                id: hex(&PartitionRow::decode(key, row).map_err(broken)?.id),
                state: state.word().to_owned(),
                free_bytes: state.free_bytes(),
                users: users.get(&name).copied().unwrap_or(0),
                mailboxes: mailboxes.get(&name).copied().unwrap_or(0),
                name,
            });
            Ok(())
        })?;
        Ok(Reply::Partitions(out))
    }

    /// How a partition is now, and the root of its message files by itself if that is another; `missing` where a file system does not
    /// answer. At most one thread for each call waits for it, and none once it is known not to answer.
    fn partition_state(&self, store: &Arc<Store>, name: &str) -> (State, Option<State>) {
        let missing = |why: &str| State::Missing { why: why.to_owned() };
        let both = |state: State| (state.clone(), Some(state));
        let silent = || both(missing("its file system does not answer"));
        if self.watch.get().is_some_and(|watch| watch.prober().is_silent(name)) {
            return silent();
        }
        let (tell, told) = channel();
        let (asked, wanted) = (store.clone(), name.to_owned());
        let look = move || (asked.partitions().state(&wanted), asked.partitions().message_state(&wanted));
        let ask = move || drop(tell.send(look()));
        match std::thread::Builder::new().name("partition".to_owned()).spawn(ask) {
            Ok(_) => told.recv_timeout(PATIENCE).unwrap_or_else(|_| silent()),
            Err(e) => both(missing(&format!("no thread can be started: {e}"))),
        }
    }

    pub(super) fn partition_show(&self, name: &str) -> Result<Reply, Failure> {
        match self.partition_list()? {
            Reply::Partitions(all) => all.into_iter().find(|p| p.name == name).map(Reply::Partition).ok_or_else(|| {
                Failure::new(Code::NotFound, format!("no such partition: {name}")).with_hint("storectl partition list")
            }),
            other => Ok(other),
        }
    }

    pub(super) fn hashdir(&self, user: &str, absolute: bool) -> Result<Reply, Failure> {
        let view = self.view()?;
        let user = user_id(user)?;
        let row = user_row(&view, &user)?;
        let site = self.store()?.partitions().site(&row.partition);
        let below = |root: &Path| root.join(row.directory.as_str()).display().to_string();
        let (directory, messages) = match site.filter(|_| absolute) {
            Some(site) => (below(&site.path), site.messages.as_deref().map(below)),
            None => (row.directory.clone(), None),
        };
        let user = user.as_str().to_owned();
        Ok(Reply::Hashdir(proto::Hashdir { user, partition: row.partition, directory, messages }))
    }
}

/// Lists deleted mailboxes that had one name, the oldest first, and forgets them.
fn push_by_age(
    listing: &mut Listing<'_, '_, proto::DeletedMailbox>,
    same: &mut Vec<(u64, proto::DeletedMailbox)>,
) -> Result<(), Failure> {
    same.sort_by_key(|(deleted_us, mailbox)| (*deleted_us, mailbox.uidvalidity));
    same.drain(..).try_for_each(|(_, mailbox)| listing.push(mailbox))?;
    Ok(())
}

pub(super) fn subscribed(view: &View, user: &str) -> Result<Vec<String>, Failure> {
    let prefix = joined(user.as_bytes(), b"");
    let mut out = Vec::new();
    each_row(view, Table::Subscriptions, &prefix, &mut |key, _| {
        out.push(crate::model::name::key_text(&key[prefix.len()..]));
        Ok(())
    })?;
    Ok(out)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
