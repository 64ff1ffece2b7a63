//! A table that follows from others, made for a database that does not have it.

use super::{Db, DbReader};
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn};
use crate::model::Table;
use crate::model::ids;
use std::ops::Bound;

/// Rows sorted and written together: some 30 MiB of memory, whatever the number of mailboxes.
const BATCH: usize = 1 << 18;

/// Makes the table of ids in `into`, which holds nothing yet and says so, from the mailboxes and tombstones that `reader` sees. Gives the
/// number of its rows; `each` as in [`super::copy()`].
pub(super) fn ids(reader: &DbReader, into: &Db, each: &mut dyn FnMut(u64) -> bool) -> Result<u64> {
    let mut batch = Vec::new();
    let mut made = 0;
    for table in [Table::Mailboxes, Table::Past] {
        for row in reader.range(table, Bound::Unbounded, Bound::Unbounded)? {
            let row = row?;
            batch.extend(ids::of_row(table, row.key(), row.row())?);
            if batch.len() >= BATCH {
                made += write(into, &mut batch)?;
            }
            if batch.len().is_multiple_of(1024) && !each(made) {
                return Err(StoreError::Busy { why: "the copy was ended".to_owned() });
            }
        }
    }
    Ok(made + write(into, &mut batch)?)
}

/// Writes a batch in key order and empties it.
fn write(into: &Db, batch: &mut Vec<(Vec<u8>, Vec<u8>)>) -> Result<u64> {
    batch.sort_unstable();
    if let Some(twice) = batch.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let key = super::read::show_key(&twice[0].0);
        let found = format!("{} and {}", super::read::show_key(&twice[0].1), super::read::show_key(&twice[1].1));
        return Err(super::corrupt(into.health.file(), &format!("number {key}"), found, "one mailbox"));
    }
    let rows = batch.drain(..).map(|(key, row)| (Table::Ids, key, Some(row)));
    Ok(into.apply(Lsn::ZERO, Epoch(0), rows)?.rows_put)
}
