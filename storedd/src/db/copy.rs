//! A database copied row by row into a new file: for snapshots, to give unused space back, and as one of another schema.
//!
//! The live file is never copied as bytes: under a writer such a copy is torn. A read transaction is one moment, and its rows arrive
//! sorted, which is the fastest load there is; the copy is about half as long as a file that has lived.

use super::{Db, DbReader, Meta, Options, SCHEMA_OLDEST, SCHEMA_VERSION, TableMeta, corrupt, derive};
use crate::disk::{Disk, parent};
use crate::error::{Result, StoreError, exit};
use crate::lsn::{Epoch, Lsn};
use crate::model::Table;
use crate::model::rows::without_grace;
use std::ops::Bound;
use std::sync::Arc;

/// The first schema whose rows of quota roots say since when they are over a limit.
const GRACE: u32 = 3;

/// Copies what `reader` sees to a new database at `path`, which appears there whole or not at all, and durably. Each row's
/// checksum is compared, and the counts and digests of the copy with those of the source. `each` is called now and then with the number
/// of rows so far; an answer of `false` ends the copy. Look at it once more with [`Db::examine`] before relying on it.
///
/// # Errors
/// [`StoreError::Refused`] if something is at `path`; [`StoreError::Corrupt`] if the source is damaged;
/// [`StoreError::Busy`] if `each` ended it; those of the disk. Then nothing is at `path`.
pub fn copy(
    reader: &DbReader,
    disk: &Arc<dyn Disk>,
    path: &str,
    options: Options,
    each: &mut dyn FnMut(u64) -> bool,
) -> Result<Meta> {
    convert(reader, reader.meta().schema, disk, path, options, each)
}

/// [`copy`] as a database of the schema `schema`: a table that it has and the source has not is made from the others (what users have seen
/// follows from nothing: that is empty), one that it has not is left out, and rows that it does not know lose what it does not know. All
/// else is the same, row for row.
///
/// # Errors
/// As [`copy`]; [`StoreError::Bug`] for a schema that is not known.
pub fn convert(
    reader: &DbReader,
    schema: u32,
    disk: &Arc<dyn Disk>,
    path: &str,
    options: Options,
    each: &mut dyn FnMut(u64) -> bool,
) -> Result<Meta> {
    if !(SCHEMA_OLDEST..=SCHEMA_VERSION).contains(&schema) {
        return Err(StoreError::Bug(format!("a database of schema {schema} was asked for")));
    }
    let io = |op| move |e| StoreError::io(op, disk.display(path), e);
    if disk.stat(path).map_err(io("stat"))?.is_some() {
        return Err(StoreError::Refused {
            message: format!("{} exists; a copy never replaces anything", disk.display(path)),
            hint: "choose another name".to_owned(),
            exit: exit::EXISTS,
        });
    }
    let candidate = format!("{path}.copy");
    let clear = || match disk.stat(&candidate).map_err(io("stat"))? {
        Some(_) => disk.remove(&candidate).map_err(io("remove")),
        None => Ok(()),
    };
    clear()?;
    let meta = match fill(reader, schema, disk, &candidate, options, each) {
        Ok(meta) => meta,
        Err(e) => {
            // The first error is the one to tell.
            let _ = clear();
            return Err(e);
        }
    };
    disk.rename(&candidate, path).map_err(io("rename"))?;
    disk.sync_dir(parent(path)).map_err(io("sync the directory of"))?;
    Ok(meta)
}

fn fill(
    reader: &DbReader,
    schema: u32,
    disk: &Arc<dyn Disk>,
    path: &str,
    options: Options,
    each: &mut dyn FnMut(u64) -> bool,
) -> Result<Meta> {
    let source = reader.meta();
    // Until its one commit the copy says of itself that it holds nothing.
    let empty = Meta::empty(schema, source.store_id, Epoch(0), Lsn::ZERO);
    Db::create_as(disk, path, &empty)?;
    let db = Db::open(disk, path, options)?;
    let made = if empty.has(Table::Ids) && !reader.has(Table::Ids) { derive::ids(reader, &db, each)? } else { 0 };
    let mut rows = made;
    let all = source.all().iter().flat_map(|&table| {
        let (range, failed) = match reader.range(table, Bound::Unbounded, Bound::Unbounded) {
            Ok(range) => (Some(range), None),
            Err(e) => (None, Some(Err(e))),
        };
        let rows = range.into_iter().flatten().map(move |row| {
            let row = row?;
            let value = match table {
                Table::Quotas if schema < GRACE => without_grace(row.key(), row.row())?,
                _ => row.row().to_vec(),
            };
            Ok((table, row.key().to_vec(), Some(value)))
        });
        failed.into_iter().chain(rows)
    });
    let counted = all.map(|row| {
        rows += 1;
        match rows.is_multiple_of(1024) && !each(rows) {
            true => Err(StoreError::Busy { why: "the copy was ended".to_owned() }),
            false => row,
        }
    });
    let copied = db.apply_read(source.applied_lsn, source.epoch, counted)?.meta;
    let expected = Meta { schema, tables: expected(source, &copied, made), ..source.clone() };
    if copied != expected {
        let found = format!("{} rows, or others", copied.rows());
        return Err(corrupt(reader.file(), "rows of all tables", found, &format!("{} rows", source.rows())));
    }
    db.close()?;
    Ok(copied)
}

/// What the tables of the copy must hold: those of the source what they held there; the table that was made so many rows, whatever
/// their digest.
fn expected(source: &Meta, copied: &Meta, made: u64) -> [TableMeta; Table::ALL.len()] {
    Table::ALL.map(|table| match (copied.has(table), source.has(table)) {
        (false, _) => TableMeta::default(),
        (true, true) if table == Table::Quotas && copied.schema < GRACE => {
            TableMeta { digest: copied.table(table).digest, ..*source.table(table) }
        }
        (true, true) => *source.table(table),
        (true, false) if table == Table::Ids => TableMeta { rows: made, digest: copied.table(table).digest },
        (true, false) => TableMeta::default(),
    })
}
