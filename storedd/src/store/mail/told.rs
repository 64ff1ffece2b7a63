//! What rows say of a mailbox: where it lies, and what was ever told of it.

use crate::error::{Result, StoreError};
use crate::model::name::owner_of;
use crate::model::rows::{IdRow, MailboxRow, Row, TombstoneRow, UserView, id_key, split};
use crate::model::user::SHARED_DIRECTORY;
use crate::model::{Folder, Rows, Table};
use std::borrow::Cow;

/// Where the messages of a mailbox lie.
pub(super) fn folder(rows: &dyn Rows, key: &[u8], row: &MailboxRow) -> Result<Folder<'static>> {
    let home = match &row.home {
        Some(home) => home.clone(),
        None => owner_directory(rows, key)?,
    };
    Ok(Folder { partition: Cow::Owned(row.partition.clone()), home: Cow::Owned(home), mailbox: row.id })
}

/// The directory of the owner of a mailbox.
fn owner_directory(rows: &dyn Rows, key: &[u8]) -> Result<String> {
    let Some(owner) = owner_of(key) else { return Ok(SHARED_DIRECTORY.to_owned()) };
    let row = rows.get(Table::Users, owner.as_bytes())?;
    let row = row.ok_or_else(|| StoreError::Bug(format!("a mailbox of {owner}, who is no user")))?;
    Ok(UserView::decode(owner.as_bytes(), &row)?.directory.to_owned())
}

/// What was ever told of a mailbox: its key, its row, when it was deleted.
pub(super) struct Told {
    pub(super) key: Vec<u8>,
    pub(super) row: MailboxRow,
    /// Directory of its owner; of a deleted one the home in which it lies.
    pub(super) owner: String,
    pub(super) deleted_us: u64,
}

/// What the rows say of the mailbox with this number; `None` if it is gone for good.
pub(super) fn told(rows: &dyn Rows, id: u64) -> Result<Option<Told>> {
    let key = id_key(id);
    let Some(row) = rows.get(Table::Ids, &key)? else { return Ok(None) };
    let at = IdRow::decode(&key, &row)?;
    let key = at.key.as_bytes();
    let Some(bytes) = rows.get(at.table(), key)? else { return Ok(None) };
    match split(key) {
        None => {
            let row = MailboxRow::decode(key, &bytes)?;
            Ok(Some(Told { key: key.to_vec(), owner: owner_directory(rows, key)?, row, deleted_us: 0 }))
        }
        Some((name, _)) => {
            let TombstoneRow { deleted_us, directory, mailbox } = TombstoneRow::decode(key, &bytes)?;
            let owner = directory.rsplit_once('/').map_or(SHARED_DIRECTORY, |(home, _)| home).to_owned();
            Ok(Some(Told { key: name.to_vec(), row: mailbox, owner, deleted_us }))
        }
    }
}
