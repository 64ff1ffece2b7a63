//! What a store must show that went back to a point, and how it gets there: as a daemon does it, homes first.

use super::mail::Shelves;
use super::world::{self, Dump};
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use storedd::disk::SimDisk;
use storedd::model::message::State;
use storedd::model::rows::{MailboxRow, QuotaRow, Row, TombstoneRow, split};
use storedd::model::{Rows, Table};
use storedd::store::adopt::Wanted;
use storedd::store::{Options, Report, Store};

/// Has every home looked at that is still to be, as the job of a start does.
pub(super) fn adopt(store: &Store) -> Result<(), String> {
    if !store.due().is_due() {
        return Ok(());
    }
    let wanted = Wanted { dry_run: false, mailboxes: &|_| true, users: true, is_up_to_date: false };
    let mut names = Vec::new();
    let view = store.view();
    let scanned = view.scan(Table::Partitions, Bound::Unbounded, &mut |key, _| {
        names.push(String::from_utf8_lossy(key).into_owned());
        ControlFlow::Continue(())
    });
    scanned.map_err(|e| e.to_string())?;
    for name in names {
        for home in store.homes(&name).map_err(|e| format!("homes of {name}: {e}"))? {
            let done = store.reconcile(&name, &home, wanted).map_err(|e| format!("{home}: {e}"))?;
            if done.is_deferred {
                return Err(format!("{home} waits for somebody"));
            }
        }
    }
    store.adoption_done(&[], 0).map_err(|e| e.to_string())
}

/// A start as the daemon's, until nothing is left of what was given up.
pub(super) fn start(machine: &SimDisk, options: &Options, salt: u64) -> Result<(Dump, Report), String> {
    let (store, report) =
        world::open(machine, &world::env(salt, 9000), options).map_err(|e| format!("no start: {e}"))?;
    if !store.partitions().behind().is_empty() {
        // A checkpoint that the daemon makes at once: nobody reads a partition before it has been looked what that lacks.
        store.checkpoint().map_err(|e| format!("the first checkpoint: {e}"))?;
    }
    adopt(&store)?;
    super::driver::check_store(&store)?;
    let dump = world::dump(&store, &store.view()).map_err(|e| e.to_string())?;
    Ok((dump, report))
}

/// A row without what going back may move: the numbers of a mailbox, which go on above those that were given up, and its counts, which
/// are held against its messages elsewhere.
fn settled(table: Table, key: &[u8], row: &[u8]) -> (Vec<u8>, u32, u64) {
    let plain = |row: MailboxRow| MailboxRow { uidnext: 1, highest_modseq: 1, messages: 0, bytes: 0, unseen: 0, ..row };
    match table {
        Table::Mailboxes => {
            let row = MailboxRow::decode(key, row).unwrap();
            let (uidnext, modseq) = (row.uidnext, row.highest_modseq);
            (plain(row).encode().unwrap(), uidnext, modseq)
        }
        Table::Past if split(key).is_some() => {
            let row = TombstoneRow::decode(key, row).unwrap();
            let (uidnext, modseq) = (row.mailbox.uidnext, row.mailbox.highest_modseq);
            let row = TombstoneRow { mailbox: plain(row.mailbox), ..row };
            (row.encode().unwrap(), uidnext, modseq)
        }
        Table::Quotas => {
            let row = QuotaRow {
                storage_usage: 0,
                message_usage: 0,
                over_since_us: 0,
                ..QuotaRow::decode(key, row).unwrap()
            };
            (row.encode().unwrap(), 0, 0)
        }
        _ => (row.to_vec(), 0, 0),
    }
}

fn rows(dump: &Dump) -> BTreeMap<(Table, &[u8]), &[u8]> {
    dump.rows.iter().map(|(table, key, row)| ((*table, &key[..]), &row[..])).collect()
}

/// By mailbox id, its UIDNEXT and modification sequence.
fn numbers(dump: &Dump) -> BTreeMap<u64, (u32, u64)> {
    let mut numbers = BTreeMap::new();
    for (table, key, row) in &dump.rows {
        let row = match table {
            Table::Mailboxes => MailboxRow::decode(key, row).unwrap(),
            Table::Past if split(key).is_some() => TombstoneRow::decode(key, row).unwrap().mailbox,
            _ => continue,
        };
        numbers.insert(row.id, (row.uidnext, row.highest_modseq));
    }
    numbers
}

/// Fails unless `shown` is the store as it was at `point`, after all of `gave_up` was given up: every row and every message, as it was.
/// Only what was purged meanwhile may be gone, and no number that was given is given again (I6).
pub(super) fn is_at(shown: &Dump, point: &Dump, gave_up: &Dump) -> Result<(), String> {
    let (ours, theirs) = (rows(shown), rows(point));
    if let Some((table, key)) =
        ours.keys().chain(theirs.keys()).find(|at| !(ours.contains_key(*at) && theirs.contains_key(*at)))
    {
        let whose = if ours.contains_key(&(*table, *key)) { "shown" } else { "missing" };
        return Err(format!("{whose}: {} {:?}", table.name(), String::from_utf8_lossy(key)));
    }
    for ((table, key), row) in &ours {
        let (is, was) = (settled(*table, key, row), settled(*table, key, theirs[&(*table, *key)]));
        if is.0 != was.0 || is.1 < was.1 || is.2 < was.2 {
            return Err(format!("{} {:?} is {is:?}, was {was:?}", table.name(), String::from_utf8_lossy(key)));
        }
    }
    let (now, given) = (numbers(shown), numbers(gave_up));
    for (id, (uidnext, modseq)) in &now {
        if given.get(id).is_some_and(|(was_next, was_modseq)| uidnext < was_next || modseq < was_modseq) {
            return Err(format!("mailbox {id} goes on with UID {uidnext} and {modseq}, and had {:?}", given[id]));
        }
    }
    messages(&shown.mail, &point.mail, &gave_up.mail)
}

fn messages(shown: &Shelves, point: &Shelves, gave_up: &Shelves) -> Result<(), String> {
    for (id, shelf) in shown {
        for (uid, message) in shelf {
            let was = point.get(id).and_then(|shelf| shelf.get(uid));
            if was != Some(message) {
                return Err(format!("message {uid} of mailbox {id} is {message:?}, was {was:?}"));
            }
        }
    }
    for (id, shelf) in point {
        for uid in shelf.keys().filter(|uid| !shown.get(id).is_some_and(|shelf| shelf.contains_key(uid))) {
            let later = gave_up.get(id).and_then(|shelf| shelf.get(uid));
            if later.is_some_and(|(message, _)| message.state != State::Purged) {
                return Err(format!("message {uid} of mailbox {id} is gone, and nobody purged it"));
            }
        }
    }
    Ok(())
}
