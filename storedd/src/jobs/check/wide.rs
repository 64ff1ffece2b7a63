//! What a check of everything looks at beside mailboxes: the rows of the database and the rules between them, the log, directories that
//! no mailbox owns.

use crate::db;
use crate::error::{Result, StoreError};
use crate::jobs::registry::Context;
use crate::model::rows::id_key;
use crate::model::{self, Rows, Table};
use crate::partition::tree;
use crate::store::{Fate, MailFinding, Store};
use crate::wal;

/// What no damage is, but something that nobody knows.
pub(super) const UNKNOWN_DIRECTORY: &str = "unknown mailbox directory";
/// One that could not be looked into.
pub(super) const PARTITION: &str = "partition";

type Each<'e> = &'e mut dyn FnMut(MailFinding);

/// Looks at all of it but the log. Pages of the database are in use for as long as its rows are read.
pub(super) fn look(store: &Store, ctx: &Context, each: Each<'_>) -> Result<()> {
    database(store, ctx, each)?;
    strangers(store, ctx, each)
}

fn finding(place: String, what: &'static str, found: String, expected: String, fate: Fate) -> MailFinding {
    MailFinding { place, uid: None, what, expected, found, fate }
}

fn database(store: &Store, ctx: &Context, each: Each<'_>) -> Result<()> {
    let view = store.view();
    let rows = db::check(view.database(), &mut |rows| {
        ctx.progress(rows, None, "rows", "database");
        !ctx.cancelled()
    });
    // A row that is damaged is in the log or in a snapshot: a start with either puts it back.
    for f in rows.findings {
        let place = format!("{} table {} {}", f.file, f.table.name(), f.key);
        each(finding(place, f.what, f.found, f.expected, Fate::Unproven));
    }
    let rules = model::check::check_while(view.database(), &mut |_| !ctx.cancelled());
    match rules {
        Ok(rules) => rules.findings.into_iter().for_each(|f| {
            each(finding(f.place, f.what, f.found, f.expected, Fate::Unproven));
        }),
        Err(StoreError::Corrupt { file, what, found, expected, .. }) => {
            each(finding(format!("{file}: {what}"), "row", found, expected, Fate::Unproven));
        }
        Err(e) => return Err(e),
    }
    if ctx.cancelled() { Err(StoreError::Busy { why: "it was ended".to_owned() }) } else { Ok(()) }
}

/// The whole log. A record that is being written while it is looked at may look broken, so a problem counts if it is there twice.
pub(super) fn log(store: &Store, each: Each<'_>) -> Result<()> {
    let look = || {
        wal::survey(&*store.disks().log, store.store_id(), wal::Proof::default(), wal::Depth::All).map(|s| s.problems())
    };
    if look()?.is_empty() {
        return Ok(());
    }
    for problem in look()? {
        let (place, found, expected) = match problem {
            StoreError::Corrupt { file, offset, what, found, expected } => {
                (format!("{file} offset {offset}: {what}"), found, expected)
            }
            other => (store.disks().log.display(""), other.to_string(), "a whole log".to_owned()),
        };
        // What it says is in the database and the partitions, up to the last checkpoint.
        each(finding(place, "log", found, expected, Fate::Unproven));
    }
    Ok(())
}

/// Directories of mailboxes that no row knows.
fn strangers(store: &Store, ctx: &Context, each: Each<'_>) -> Result<()> {
    for (name, _) in store.partitions().list() {
        let Some(disk) = store.partitions().disk(&name) else { continue };
        let mut found = Vec::new();
        let listed = tree::homes(&*disk, &mut |home| {
            ctx.progress(0, None, "directories", home.path());
            if ctx.cancelled() {
                return Err(StoreError::Busy { why: "it was ended".to_owned() });
            }
            let view = store.view();
            for place in tree::mailboxes(&*disk, &home)? {
                let key = id_key(place.id);
                // What a purge has given up goes after the next checkpoint.
                let is_known = view.contains(Table::Ids, &key)? || Rows::contains(view.database(), Table::Ids, &key)?;
                if !is_known {
                    found.push(place);
                }
            }
            Ok(())
        });
        match listed {
            Err(e @ StoreError::Busy { .. }) => return Err(e),
            Err(e) => each(finding(name.clone(), PARTITION, e.to_string(), "directories".to_owned(), Fate::Unproven)),
            Ok(()) => {}
        }
        // Those that were on their way out have gone by now, or hold nothing.
        for place in found {
            if disk.list(&place.path()).is_ok_and(|entries| !entries.is_empty()) {
                let expected = "a mailbox that is known (next: storectl reconstruct -m)".to_owned();
                let found = "no row with its number".to_owned();
                each(finding(disk.display(&place.path()), UNKNOWN_DIRECTORY, found, expected, Fate::Unproven));
            }
        }
    }
    Ok(())
}
