//! What a home's manifest says beside messages, so that a partition gives back everything that it holds when the database is gone.
//!
//! # What stands where
//! | row of the database | in the manifest of |
//! |---|---|
//! | user | his directory, on his partition |
//! | limits of a quota root | its user; of a shared mailbox, the home of that |
//! | subscription, what was seen | its user |
//! | what a name stood for | the home of the mailbox that had it last; if that is gone for good, of its owner |
//! | mailbox, deleted mailbox | the home in which it lies, as a head (`partition::index::Head`) |
//!
//! Usage is not written for its own sake: it follows from the messages. Rights stand in heads, the table of ids follows.
//!
//! A rename of a user changes the key of every mailbox he has, in the log and in the database; so each of their heads is written
//! again, too. Who reads heads takes the user's name from the row of the user whose directory the head names: one row says it
//! for all, also where a head lags behind.
//!
//! # Cost
//! A checkpoint touches the homes of which something changed and no other. A mailbox that never had a message has no index and no
//! directory: it is one head in the manifest.

use super::source::place;
use super::told::{Told, folder, told};
use crate::db::DbReader;
use crate::error::Result;
use crate::lsn::Lsn;
use crate::model::mail::{MessageRow, split_key};
use crate::model::name::{JOINT, owner_of, user_prefix};
use crate::model::rows::{
    MailboxRow, MailboxView, PastRow, QuotaRow, Row, TombstoneRow, UserRow, UserView, id_of, joined, quota_key, split,
};
use crate::model::seen::SeenRow;
use crate::model::user::SHARED_DIRECTORY;
use crate::model::{Rows, Table};
use crate::partition::tree::{Home, Place};
use crate::store::overlay::Overlay;
use crate::store::view::View;
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

/// What a checkpoint writes to one home.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// Mailboxes with messages or rows that changed, by id.
    pub(super) mailboxes: Vec<u64>,
    /// Rows that changed.
    pub(super) rows: Vec<(Table, Vec<u8>)>,
}

impl Due {
    pub(super) fn settle(&mut self) {
        self.mailboxes.sort_unstable();
        self.mailboxes.dedup();
        self.rows.sort_unstable();
        self.rows.dedup();
    }
}

/// Homes of which something is to be written.
pub(super) type Homes = BTreeMap<Home, Due>;

/// The same, by partition.
pub(super) type Touched = BTreeMap<String, Homes>;

/// A home and its partition.
type At = (String, Home);

/// Takes key and row; `None`: it is gone.
type EachChanged<'a> = &'a mut dyn FnMut(&[u8], Option<&[u8]>) -> Result<()>;

/// Calls `each` with the newest state of every row of a table that changed.
pub(super) fn each_changed(
    overlay: &Overlay,
    table: Table,
    (start, end): (Bound<&[u8]>, Option<&[u8]>),
    upto: Lsn,
    each: EachChanged<'_>,
) -> Result<()> {
    let mut cursor = overlay.range(table, start, upto);
    while cursor.key().is_some_and(|key| end.is_none_or(|end| key < end)) {
        cursor.with_current(|key, row| each(key, row)).transpose()?;
        cursor.advance();
    }
    Ok(())
}

const ALL: (Bound<&[u8]>, Option<&[u8]>) = (Bound::Unbounded, None);

/// Calls `each` with one changed message of every mailbox that has any.
pub(super) fn each_with_mail(
    overlay: &Overlay,
    upto: Lsn,
    each: &mut dyn FnMut(&MessageRow<'_>) -> Result<()>,
) -> Result<()> {
    let mut last = None;
    each_changed(overlay, Table::Messages, ALL, upto, &mut |key, row| {
        let id = split_key(key).map(|(id, _)| id);
        if let (Some(row), true) = (row, last != id) {
            each(&MessageRow::decode(row)?)?;
            last = id;
        }
        Ok(())
    })
}

/// The homes of which something changed in `overlay`; `view` shows the moment `upto`.
///
/// What users have seen changes with every message that is read, and is written only when that is asked for: what changed at
/// `seen_since` (microseconds since 1970) or later.
pub(super) fn touched(view: &View, overlay: &Overlay, upto: Lsn, seen_since: Option<u64>) -> Result<Touched> {
    let mut walk = Walk { view, before: view.database(), touched: Touched::new() };
    each_with_mail(overlay, upto, &mut |row| {
        let place = place(&row.of)?;
        walk.due(&row.of.partition, place.home).mailboxes.push(place.id);
        Ok(())
    })?;
    each_changed(overlay, Table::Mailboxes, ALL, upto, &mut |key, row| walk.mailbox(key, row))?;
    each_changed(overlay, Table::Past, ALL, upto, &mut |key, row| walk.past(key, row))?;
    each_changed(overlay, Table::Users, ALL, upto, &mut |key, row| walk.user(key, row))?;
    each_changed(overlay, Table::Quotas, ALL, upto, &mut |key, row| walk.quota(key, row))?;
    each_changed(overlay, Table::Subscriptions, ALL, upto, &mut |key, _| {
        let Some((who, _)) = split(key) else { return Ok(()) };
        walk.row_of_user(Table::Subscriptions, key, &String::from_utf8_lossy(who))
    })?;
    each_changed(overlay, Table::Seen, ALL, upto, &mut |key, row| if row.is_none() { walk.seen(key) } else { Ok(()) })?;
    if let Some(since) = seen_since {
        walk.seen_since(since)?;
    }
    let mut touched = walk.touched;
    touched.values_mut().flat_map(BTreeMap::values_mut).for_each(Due::settle);
    Ok(touched)
}

struct Walk<'a> {
    view: &'a View,
    /// As the last checkpoint left it.
    before: &'a DbReader,
    touched: Touched,
}

impl Walk<'_> {
    fn due(&mut self, partition: &str, home: Home) -> &mut Due {
        if !self.touched.contains_key(partition) {
            self.touched.insert(partition.to_owned(), BTreeMap::new());
        }
        self.touched.entry(partition.to_owned()).or_default().entry(home).or_default()
    }

    fn row(&mut self, at: At, table: Table, key: &[u8]) {
        self.due(&at.0, at.1).rows.push((table, key.to_vec()));
    }

    fn mailbox(&mut self, key: &[u8], row: Option<&[u8]>) -> Result<()> {
        // One that left its name has another, or is deleted, or is gone: its past says so.
        let Some(row) = row else { return Ok(()) };
        let row = MailboxRow::decode(key, row)?;
        let place = place(&folder(self.view, key, &row)?)?;
        self.left(&row, place.id)?;
        self.due(&row.partition, place.home).mailboxes.push(place.id);
        Ok(())
    }

    /// A mailbox has left this name: was it deleted and purged since the last checkpoint?
    fn left_for_good(&mut self, key: &[u8]) -> Result<()> {
        let Some(row) = self.before.get(Table::Mailboxes, key)? else { return Ok(()) };
        let row = MailboxRow::decode(key, &row)?;
        if told(self.view, row.id)?.is_none() {
            let place = place(&folder(self.before, key, &row)?)?;
            self.due(&row.partition, place.home).mailboxes.push(place.id);
        }
        Ok(())
    }

    /// A mailbox may have come from another partition, where it is to go.
    fn left(&mut self, row: &MailboxRow, id: u64) -> Result<()> {
        if row.uidnext > 1
            && let Some(before) = told(self.before, id)?.filter(|before| before.row.partition != row.partition)
            && let Some((partition, home)) = before.home()
        {
            self.due(&partition, home).mailboxes.push(id);
        }
        Ok(())
    }

    fn past(&mut self, key: &[u8], row: Option<&[u8]>) -> Result<()> {
        if let Some((_, id)) = split(key) {
            let before = if row.is_none() { self.before.get(Table::Past, key)? } else { None };
            let Some(row) = row.or(before.as_deref()) else { return Ok(()) };
            let row = TombstoneRow::decode(key, row)?;
            if let (Some(place), Some(_)) = (Place::parse(&row.directory), id_of(id)) {
                self.left(&row.mailbox, place.id)?;
                self.due(&row.mailbox.partition, place.home).mailboxes.push(place.id);
            }
            return Ok(());
        }
        self.left_for_good(key)?;
        let before = if row.is_none() { self.before.get(Table::Past, key)? } else { None };
        let Some(row) = row.or(before.as_deref()) else { return Ok(()) };
        if let Some(at) = self.lies(PastRow::decode(key, row)?.mailbox_id)? {
            self.row(at, Table::Past, key);
            return Ok(());
        }
        // It came, and was gone for good, since the last checkpoint.
        let owner = owner_of(key).unwrap_or_default();
        match user_home(self.view, owner.as_bytes())?.or(user_home(self.before, owner.as_bytes())?) {
            Some(at) => self.row(at, Table::Past, key),
            None => self.anywhere()?.into_iter().for_each(|at| self.row(at, Table::Past, key)),
        }
        Ok(())
    }

    /// The home of what has none: that of shared mailboxes on the first partition.
    fn anywhere(&self) -> Result<Option<At>> {
        let mut first = None;
        self.view.scan(Table::Partitions, Bound::Unbounded, &mut |key, _| {
            first = Some(String::from_utf8_lossy(key).into_owned());
            ControlFlow::Break(())
        })?;
        Ok(first.zip(Home::parse(SHARED_DIRECTORY)))
    }

    /// What all users have seen, as far as it changed since a time.
    fn seen_since(&mut self, since: u64) -> Result<()> {
        let (view, mut ended) = (self.view, Ok(()));
        view.scan(Table::Seen, Bound::Unbounded, &mut |key, row| {
            ended =
                SeenRow::decode(key, row).and_then(|row| if row.changed_us >= since { self.seen(key) } else { Ok(()) });
            if ended.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        ended
    }

    /// What a user has seen.
    fn seen(&mut self, key: &[u8]) -> Result<()> {
        let Some((who, _)) = split(key) else { return Ok(()) };
        self.row_of_user(Table::Seen, key, &String::from_utf8_lossy(who))
    }

    /// Where a mailbox lies or lay, deleted or not.
    fn lies(&self, id: u64) -> Result<Option<At>> {
        let known = match told(self.view, id)? {
            Some(known) => Some(known),
            None => told(self.before, id)?,
        };
        Ok(known.and_then(|known| known.home()))
    }

    fn user(&mut self, key: &[u8], row: Option<&[u8]>) -> Result<()> {
        let (now, before) = (row.map(|row| home_in(key, row)).transpose()?.flatten(), user_home(self.before, key)?);
        if let Some(now) = &now {
            self.row(now.clone(), Table::Users, key);
            if before.as_ref().is_some_and(|before| before != now) {
                // He has come here from another partition, with all that he has.
                for (table, key) in rows_of_user(self.view, &String::from_utf8_lossy(key))? {
                    self.row(now.clone(), table, &key);
                }
            }
        }
        if let Some(before) = before.filter(|before| now.as_ref() != Some(before)) {
            self.row(before, Table::Users, key);
        }
        Ok(())
    }

    fn quota(&mut self, key: &[u8], row: Option<&[u8]>) -> Result<()> {
        let limits = |row: &[u8]| QuotaRow::decode(key, row).map(|row| (row.storage_limit, row.message_limit));
        let before = self.before.get(Table::Quotas, key)?;
        let same = before.is_some()
            && row.map(limits).transpose()? == before.as_deref().map(limits).transpose()?
            && row.is_some();
        let Some(user) = quota_user(key) else {
            let at = match self.view.get(Table::Mailboxes, key)? {
                Some(row) => self.mailbox_home(self.view, key, &row)?,
                None => match self.before.get(Table::Mailboxes, key)? {
                    Some(row) => self.mailbox_home(self.before, key, &row)?,
                    None => None,
                },
            };
            at.filter(|_| !same).into_iter().for_each(|at| self.row(at, Table::Quotas, key));
            return Ok(());
        };
        if same && user_home(self.view, user.as_bytes())? == user_home(self.before, user.as_bytes())? {
            return Ok(());
        }
        self.row_of_user(Table::Quotas, key, &user)
    }

    fn mailbox_home(&self, rows: &dyn Rows, key: &[u8], row: &[u8]) -> Result<Option<At>> {
        let row = MailboxRow::decode(key, row)?;
        let of = folder(rows, key, &row)?;
        Ok(Home::parse(&of.home).map(|home| (row.partition, home)))
    }

    /// A row that belongs to the user with this id, now or before.
    fn row_of_user(&mut self, table: Table, key: &[u8], user: &str) -> Result<()> {
        let (now, before) = (user_home(self.view, user.as_bytes())?, user_home(self.before, user.as_bytes())?);
        let before = before.filter(|before| now.as_ref() != Some(before));
        now.into_iter().chain(before).for_each(|at| self.row(at, table, key));
        Ok(())
    }
}

/// Whose limits these are, if a user's: of him or of a mailbox of his.
pub(super) fn quota_user(key: &[u8]) -> Option<String> {
    let rest = key.strip_prefix(b"user\x01")?;
    let user = rest.split(|b| *b == crate::model::name::SEPARATOR).next()?;
    Some(String::from_utf8_lossy(user).into_owned())
}

fn home_in(key: &[u8], row: &[u8]) -> Result<Option<At>> {
    let row = UserView::decode(key, row)?;
    Ok(Home::parse(row.directory).map(|home| (row.partition.to_owned(), home)))
}

/// Where the user with this id has his own manifest.
pub(in crate::store) fn user_home(rows: &dyn Rows, user: &[u8]) -> Result<Option<At>> {
    rows.get(Table::Users, user)?.map_or(Ok(None), |row| home_in(user, &row))
}

/// What belongs to a user beside his row and his mailboxes.
fn rows_of_user(rows: &dyn Rows, user: &str) -> Result<Vec<(Table, Vec<u8>)>> {
    let mut found = Vec::new();
    let root = quota_key(user);
    let mut add = |table: Table, start: &[u8], end: &[u8], wanted: &dyn Fn(&[u8]) -> bool| {
        rows.scan_until(table, Bound::Included(start), end, &mut |key, _| {
            if wanted(key) {
                found.push((table, key.to_vec()));
            }
            ControlFlow::Continue(())
        })
    };
    let below = user_prefix(user);
    let end = crate::model::name::subtree_end(&root);
    add(Table::Quotas, &root, &end, &|key| key == root || key.starts_with(&below))?;
    for table in [Table::Subscriptions, Table::Seen] {
        add(table, &joined(user.as_bytes(), b""), &[user.as_bytes(), &[JOINT + 1]].concat(), &|_| true)?;
    }
    add(Table::Past, &below, &end, &|key| key.starts_with(&below) && split(key).is_none())?;
    Ok(found)
}

/// The rows that a checkpoint writes to a home: `None` for those that are gone from it.
pub(super) fn value(rows: &dyn Rows, at: (&str, &Home), table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
    let Some(row) = rows.get(table, key)? else { return Ok(None) };
    let user = match table {
        Table::Users => Some(String::from_utf8_lossy(key).into_owned()),
        Table::Quotas => quota_user(key),
        Table::Subscriptions | Table::Seen => split(key).map(|(who, _)| String::from_utf8_lossy(who).into_owned()),
        _ => None,
    };
    // Somebody else may have the user's name meanwhile, or he may have gone elsewhere.
    let elsewhere = match user {
        Some(user) => user_home(rows, user.as_bytes())?.is_none_or(|(partition, home)| (&*partition, &home) != at),
        None => false,
    };
    Ok((!elsewhere).then_some(row))
}

/// The user whose directory this is: the one of whom it has the name, or, if he was renamed, another.
fn user_of(rows: &dyn Rows, home: &Home) -> Result<Option<(String, UserRow)>> {
    let is_his = |key: &[u8], row: &[u8]| UserView::decode(key, row).is_ok_and(|row| row.directory == home.path());
    if let Some(user) = home.user()
        && let Some(row) = rows.get(Table::Users, user.as_bytes())?
        && is_his(user.as_bytes(), &row)
    {
        return Ok(Some((user.to_owned(), UserRow::decode(user.as_bytes(), &row)?)));
    }
    let mut found = None;
    rows.scan(Table::Users, Bound::Unbounded, &mut |key, row| {
        if is_his(key, row) {
            found = Some((key.to_vec(), row.to_vec()));
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    found.map_or(Ok(None), |(key, row)| {
        Ok(Some((String::from_utf8_lossy(&key).into_owned(), UserRow::decode(&key, &row)?)))
    })
}

/// True if the database has anything that belongs to a home.
pub(in crate::store) fn is_home(rows: &dyn Rows, partition: &str, home: &Home) -> Result<bool> {
    Ok(!rows_at(rows, partition, home)?.is_empty() || !mailboxes_at(rows, partition, home)?.is_empty())
}

/// Every row that belongs to a home.
pub(in crate::store) fn rows_at(rows: &dyn Rows, partition: &str, home: &Home) -> Result<Vec<(Table, Vec<u8>)>> {
    if home.path() != SHARED_DIRECTORY {
        let Some((user, row)) = user_of(rows, home)? else { return Ok(Vec::new()) };
        if row.partition != partition {
            return Ok(Vec::new());
        }
        let mut all = rows_of_user(rows, &user)?;
        all.push((Table::Users, user.into_bytes()));
        return Ok(all);
    }
    let mut all = Vec::new();
    for table in [Table::Past, Table::Quotas] {
        rows.scan_until(table, Bound::Included(b"shared"), b"shared\x02", &mut |key, _| {
            if split(key).is_none() {
                all.push((table, key.to_vec()));
            }
            ControlFlow::Continue(())
        })?;
    }
    Ok(all)
}

/// The mailboxes that lie in a home, deleted ones too, as far as they have a name of its user.
pub(in crate::store) fn mailboxes_at(rows: &dyn Rows, partition: &str, home: &Home) -> Result<Vec<u64>> {
    let (start, end) = if home.path() == SHARED_DIRECTORY {
        (b"shared".to_vec(), b"shared\x02".to_vec())
    } else {
        let Some((user, _)) = user_of(rows, home)? else { return Ok(Vec::new()) };
        let root = quota_key(&user);
        (user_prefix(&user), crate::model::name::subtree_end(&root))
    };
    let (mut ids, mut failed) = (Vec::new(), Ok(()));
    let mut keep = |done: Result<Option<u64>>| match done {
        Ok(id) => {
            ids.extend(id);
            ControlFlow::Continue(())
        }
        Err(e) => {
            failed = Err(e);
            ControlFlow::Break(())
        }
    };
    rows.scan_until(Table::Mailboxes, Bound::Included(&start), &end, &mut |key, row| {
        keep(MailboxView::decode(key, row).map(|row| {
            let here = row.partition == partition && row.home.is_none_or(|lies_in| lies_in == home.path());
            (here && owner_of(key).is_some() == (home.path() != SHARED_DIRECTORY)).then_some(row.id)
        }))
    })?;
    rows.scan_until(Table::Past, Bound::Included(&start), &end, &mut |key, row| {
        if split(key).is_none() {
            return ControlFlow::Continue(());
        }
        keep(TombstoneRow::decode(key, row).map(|row| {
            let at = Place::parse(&row.directory).filter(|place| place.home == *home);
            at.filter(|_| row.mailbox.partition == partition).map(|place| place.id)
        }))
    })?;
    failed.map(|()| ids)
}

impl Told {
    /// Where it lies; `None` if that is no directory.
    pub(super) fn home(self) -> Option<At> {
        let home = Home::parse(self.row.home.as_deref().unwrap_or(&self.owner))?;
        Some((self.row.partition, home))
    }
}

/// The directory of the home in which a mailbox lies, deleted or not; `None`: there is no such mailbox.
pub(in crate::store) fn home_of(rows: &dyn Rows, id: u64) -> Result<Option<String>> {
    Ok(told(rows, id)?.and_then(Told::home).map(|(_, home)| home.path().to_owned()))
}
