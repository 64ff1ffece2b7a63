//! # Purpose
//! Names of the tables, and the record of what the database holds.
//!
//! # Format
//! The record under key `state` of table `meta`, inside a value envelope (table number 0), little-endian:
//! ```text
//! schema u32 | store id 16 bytes | epoch u64 | applied LSN u64 | for each table ( rows u64 | digest u128 )
//! ```
//! The tables stand in the order of their numbers. `schema` comes first in every version to come, so that an older program
//! can say which version it met. Versions:
//!
//! | schema | tables |
//! |---|---|
//! | 1 | numbers 1 to 7 |
//! | 2 | and `ids`, whose rows follow from the others |
//! | 3 | and `seen`, empty at first; rows of quota roots over their limit may have version 2 |
//!
//! A database keeps its schema; [`super::convert()`] makes one of another schema from it.

use super::backend::{Failed, Health};
use super::envelope;
use super::slot;
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn, StoreId};
use crate::model::Table;
use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, TableHandle,
    WriteTransaction,
};

/// Version of what stands inside a new database; a higher one is refused.
pub const SCHEMA_VERSION: u32 = 3;
/// What [`StoreError::Foreign`] calls it.
pub const SCHEMA: &str = "schema version";
/// The oldest version that can be read.
pub const SCHEMA_OLDEST: u32 = 1;

/// True of a schema that this program reads.
#[must_use]
pub fn reads(schema: u32) -> bool {
    (SCHEMA_OLDEST..=SCHEMA_VERSION).contains(&schema)
}

/// Every table is this.
pub(super) type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

const META: Definition = TableDefinition::new("meta");
const META_KEY: &[u8] = b"state";
/// The table number in the envelope of the record.
const META_TABLE: u8 = 0;
const TABLES: usize = Table::ALL.len();
const META_BYTES: usize = 4 + 16 + 8 + 8 + TABLES * 24;

/// The tables of a schema, in the order of their numbers.
pub(super) fn tables(schema: u32) -> &'static [Table] {
    const ALL: &[Table] = &Table::ALL;
    match schema {
        ..2 => &ALL[..7],
        2 => &ALL[..8],
        _ => ALL,
    }
}

/// The redb table that holds `table`.
pub(super) fn definition(table: Table) -> Definition {
    TableDefinition::new(table.name())
}

/// What the database says of one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableMeta {
    /// Number of rows.
    pub rows: u64,
    /// Wrapping sum of the digests of all rows; 0 for an empty table.
    pub digest: u128,
}

impl TableMeta {
    /// One more row, with this digest.
    pub fn count(&mut self, digest: u128) {
        self.add(digest);
    }

    pub(super) fn add(&mut self, digest: u128) {
        self.rows += 1;
        self.digest = self.digest.wrapping_add(digest);
    }

    /// False if there is no row to take away: then the counts do not describe the table.
    pub(super) fn take(&mut self, digest: u128) -> bool {
        self.digest = self.digest.wrapping_sub(digest);
        let rows = self.rows.checked_sub(1);
        self.rows = rows.unwrap_or(0);
        rows.is_some()
    }
}

/// What the database says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Version of the content.
    pub schema: u32,
    /// The store it belongs to.
    pub store_id: StoreId,
    /// The epoch of the applied LSN.
    pub epoch: Epoch,
    /// Every record up to this one is contained, no later one is.
    pub applied_lsn: Lsn,
    /// In the order of [`Table::ALL`].
    pub tables: [TableMeta; TABLES],
}

impl Meta {
    pub(super) fn empty(schema: u32, store_id: StoreId, epoch: Epoch, applied_lsn: Lsn) -> Meta {
        Meta { schema, store_id, epoch, applied_lsn, tables: [TableMeta::default(); TABLES] }
    }

    /// The tables that a database of this schema has, in the order of their numbers.
    #[must_use]
    pub fn all(&self) -> &'static [Table] {
        tables(self.schema)
    }

    /// Whether it has this table.
    #[must_use]
    pub fn has(&self, table: Table) -> bool {
        self.all().contains(&table)
    }

    /// True if a newer schema is known here.
    #[must_use]
    pub fn is_older(&self) -> bool {
        self.schema < SCHEMA_VERSION
    }

    /// Rows and digest of one table; none of one that it does not have.
    #[must_use]
    pub fn table(&self, table: Table) -> &TableMeta {
        &self.tables[slot(table)]
    }

    /// Rows of all tables.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|t| t.rows).sum()
    }

    pub(super) fn table_mut(&mut self, table: Table) -> &mut TableMeta {
        &mut self.tables[slot(table)]
    }

    pub(super) fn expect_store(&self, store: Option<StoreId>, file: &str) -> Result<()> {
        match store {
            Some(store) if store != self.store_id => Err(StoreError::Foreign {
                file: file.to_owned(),
                what: "store id",
                found: self.store_id.to_string(),
                expected: store.to_string(),
            }),
            _ => Ok(()),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(META_BYTES);
        out.extend_from_slice(&self.schema.to_le_bytes());
        out.extend_from_slice(&self.store_id.0);
        out.extend_from_slice(&self.epoch.0.to_le_bytes());
        out.extend_from_slice(&self.applied_lsn.0.to_le_bytes());
        for table in self.all().iter().map(|table| self.table(*table)) {
            out.extend_from_slice(&table.rows.to_le_bytes());
            out.extend_from_slice(&table.digest.to_le_bytes());
        }
        out
    }

    fn decode(bytes: &[u8], file: &str) -> Result<Meta> {
        let mut rest = bytes;
        let short =
            || super::corrupt(file, "record of the tables", format!("{} bytes", bytes.len()), "a record of its schema");
        let schema = u32::from_le_bytes(take(&mut rest).ok_or_else(short)?);
        if !reads(schema) {
            return Err(StoreError::Foreign {
                file: file.to_owned(),
                what: SCHEMA,
                found: schema.to_string(),
                expected: format!("{SCHEMA_OLDEST} to {SCHEMA_VERSION}"),
            });
        }
        let meta = (|| {
            let store_id = StoreId(take(&mut rest)?);
            let epoch = Epoch(u64::from_le_bytes(take(&mut rest)?));
            let applied_lsn = Lsn(u64::from_le_bytes(take(&mut rest)?));
            let mut meta = Meta::empty(schema, store_id, epoch, applied_lsn);
            for table in tables(schema) {
                let table = meta.table_mut(*table);
                table.rows = u64::from_le_bytes(take(&mut rest)?);
                table.digest = u128::from_le_bytes(take(&mut rest)?);
            }
            rest.is_empty().then_some(meta)
        })();
        meta.ok_or_else(short)
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

/// The digest of one row; `scratch` spares an allocation.
pub fn digest(table: Table, key: &[u8], row: &[u8], scratch: &mut Vec<u8>) -> u128 {
    scratch.clear();
    scratch.push(table as u8);
    scratch.extend_from_slice(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_le_bytes());
    scratch.extend_from_slice(key);
    scratch.extend_from_slice(row);
    twox_hash::XxHash3_128::oneshot(scratch)
}

/// Makes every table of its schema, and the record.
pub(super) fn write_empty(db: &Database, meta: &Meta) -> Result<(), Failed> {
    let mut txn = db.begin_write()?;
    txn.set_quick_repair(true);
    for table in meta.all() {
        txn.open_table(definition(*table))?;
    }
    write_meta(&txn, meta)?;
    Ok(txn.commit()?)
}

/// Writes the record as a part of `txn`.
pub(super) fn write_meta(txn: &WriteTransaction, meta: &Meta) -> Result<(), Failed> {
    let mut value = Vec::new();
    envelope::seal(META_TABLE, META_KEY, &meta.encode(), &mut value);
    txn.open_table(META)?.insert(META_KEY, value.as_slice())?;
    Ok(())
}

/// The record as `txn` finds it before its own changes.
pub(super) fn meta_in(txn: &WriteTransaction, health: &Health) -> Result<Meta, Failed> {
    parse(&txn.open_table(META)?, health)
}

/// The record of a read transaction.
pub(super) fn read(txn: &ReadTransaction, health: &Health) -> Result<Meta, Failed> {
    parse(&txn.open_table(META)?, health)
}

/// The record, and whether the tables are those that it describes: all there, no other, each as long as it says.
pub(super) fn read_whole(db: &Database, health: &Health) -> Result<Meta, Failed> {
    let txn = db.begin_read()?;
    let meta = read(&txn, health)?;
    let known = |name: &str| name == META.name() || meta.all().iter().any(|t| t.name() == name);
    if let Some(table) = txn.list_tables()?.find(|t| !known(t.name())) {
        let found: String = table.name().escape_debug().take(80).collect();
        return Err(super::corrupt(health.file(), "list of tables", found, "no such table").into());
    }
    for table in meta.all().iter().copied() {
        let (found, expected) = (txn.open_table(definition(table))?.len()?, meta.table(table).rows);
        if found != expected {
            let what = format!("number of rows of table {}", table.name());
            return Err(super::corrupt(health.file(), &what, found.to_string(), &expected.to_string()).into());
        }
    }
    Ok(meta)
}

fn parse(table: &impl ReadableTable<&'static [u8], &'static [u8]>, health: &Health) -> Result<Meta, Failed> {
    let what = "record of the tables";
    let Some(value) = table.get(META_KEY)? else {
        return Err(super::corrupt(health.file(), what, "nothing".to_owned(), "a record").into());
    };
    let row = envelope::open(META_TABLE, META_KEY, value.value())
        .map_err(|broken| super::corrupt(health.file(), what, broken.found(), &broken.expected()))?;
    Ok(Meta::decode(row, health.file())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Meta {
        sample_of(SCHEMA_VERSION)
    }

    fn sample_of(schema: u32) -> Meta {
        let mut meta = Meta::empty(schema, StoreId([0xab; 16]), Epoch(3), Lsn(0x0102));
        *meta.table_mut(*meta.all().last().unwrap()) = TableMeta { rows: 5, digest: 0x0f0e };
        meta
    }

    #[test]
    fn golden_bytes() {
        for (schema, tables) in [(1, 7), (2, 8), (3, 9)] {
            let bytes = sample_of(schema).encode();
            let mut expected = vec![schema as u8, 0, 0, 0];
            expected.extend_from_slice(&[0xab; 16]);
            expected.extend_from_slice(&[3, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
            expected.resize(36 + (tables - 1) * 24, 0);
            expected.extend_from_slice(&[5, 0, 0, 0, 0, 0, 0, 0, 0x0e, 0x0f]);
            expected.extend_from_slice(&[0; 14]);
            assert_eq!(bytes, expected);
            assert_eq!(Meta::decode(&bytes, "f").unwrap(), sample_of(schema));
        }
    }

    #[test]
    fn golden_digest() {
        let mut scratch = Vec::new();
        assert_eq!(digest(Table::Users, b"joe", b"row", &mut scratch), 0x7187ab88aa1ded0f6a0baea6f54994fa);
        assert_eq!(scratch, b"\x01\x03\0\0\0joerow");
    }

    #[test]
    fn every_length_but_one_is_refused() {
        let bytes = sample().encode();
        for len in 0..bytes.len() {
            assert_eq!(Meta::decode(&bytes[..len], "f").unwrap_err().code(), "corrupt", "{len} bytes");
        }
        assert_eq!(Meta::decode(&[&bytes[..], &[0]].concat(), "f").unwrap_err().code(), "corrupt");
    }

    // row 53
    #[test]
    fn a_newer_schema_is_named_whatever_follows() {
        let e = Meta::decode(&[4, 0, 0, 0, 9, 9], "f").unwrap_err();
        assert!(matches!(&e, StoreError::Foreign { what: "schema version", found, .. } if found == "4"), "{e}");
        let e = Meta::decode(&[0; 40], "f").unwrap_err();
        assert!(matches!(&e, StoreError::Foreign { found, .. } if found == "0"), "{e}");
    }
}
