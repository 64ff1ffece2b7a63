//! What happened: the payload of a log record.
//!
//! A transaction is a list of changes, all or nothing. A change states the new state of one row, so applying it is
//! deterministic and applying it twice is harmless (I5). It names no host and no absolute path.

use super::table::Table;
use serde::{Deserialize, Serialize};

/// One row's new state. Borrows from the record it was decoded from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change<'a> {
    /// The row is now this.
    Put {
        /// Which table.
        table: Table,
        /// Its key: 1 to [`super::table::KEY_BYTES_MAX`] bytes, none of them zero.
        #[serde(borrow)]
        key: std::borrow::Cow<'a, [u8]>,
        /// The encoded row.
        #[serde(borrow)]
        row: std::borrow::Cow<'a, [u8]>,
    },
    /// The row is gone.
    Remove {
        /// Which table.
        table: Table,
        /// Its key.
        #[serde(borrow)]
        key: std::borrow::Cow<'a, [u8]>,
    },
}

impl Change<'_> {
    /// The table of its row.
    #[must_use]
    pub fn table(&self) -> Table {
        match self {
            Change::Put { table, .. } | Change::Remove { table, .. } => *table,
        }
    }
}

/// The changes of one command, all or nothing.
pub type Transaction = Vec<Change<'static>>;
