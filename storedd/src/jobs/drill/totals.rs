//! What a store holds at one moment, in a few numbers: for comparing two that should hold the same.

use crate::db::{TableMeta, row_digest};
use crate::error::Result;
use crate::jobs::registry::Context;
use crate::model::rows::{MailboxView, QuotaRow, Row};
use crate::model::{Rows, Table};
use std::ops::{Bound, ControlFlow};

/// Between two looks at whether to go on, in rows.
const LOOK: u64 = 1024;

/// Sums over every row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Totals {
    /// Rows and digest of each table, in the order of [`Table::ALL`].
    pub tables: Vec<TableMeta>,
    /// Sum of all UIDVALIDITYs.
    pub uidvalidity: u64,
    /// Sum of all UIDNEXTs.
    pub uidnext: u64,
    /// Sum of the bytes that count in quota roots.
    pub storage: u64,
    /// Sum of the messages that count in quota roots.
    pub messages: u64,
}

impl Totals {
    /// Reads everything; `None` if the job is to end.
    ///
    /// # Errors
    /// If something cannot be read.
    pub fn of(rows: &dyn Rows, context: &Context) -> Result<Option<Totals>> {
        let (mut totals, mut scratch, mut seen) = (Totals::default(), Vec::new(), 0u64);
        for table in Table::ALL {
            let mut sum = TableMeta::default();
            let mut failed = Ok(());
            rows.scan(table, Bound::Unbounded, &mut |key, row| {
                sum.count(row_digest(table, key, row, &mut scratch));
                failed = totals.add(table, key, row);
                seen += 1;
                match failed.is_err() || (seen.is_multiple_of(LOOK) && context.cancelled()) {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            })?;
            failed?;
            totals.tables.push(sum);
        }
        Ok((!context.cancelled()).then_some(totals))
    }

    fn add(&mut self, table: Table, key: &[u8], row: &[u8]) -> Result<()> {
        match table {
            Table::Mailboxes => {
                let mailbox = MailboxView::decode(key, row)?;
                self.uidvalidity += u64::from(mailbox.uidvalidity);
                self.uidnext += u64::from(mailbox.uidnext);
            }
            Table::Quotas => {
                let quota = QuotaRow::decode(key, row)?;
                self.storage = self.storage.saturating_add(quota.storage_usage);
                self.messages = self.messages.saturating_add(quota.message_usage);
            }
            _ => {}
        }
        Ok(())
    }

    /// How many rows there are.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }

    /// What differs: what it is, what these are, what `expected` are.
    #[must_use]
    pub fn differences(&self, expected: &Totals) -> Vec<(String, String, String)> {
        let mut out = Vec::new();
        let mut held = |what: String, found: String, expected: String| {
            if found != expected {
                out.push((what, found, expected));
            }
        };
        for ((table, found), expected) in Table::ALL.into_iter().zip(&self.tables).zip(&expected.tables) {
            let name = table.name();
            held(format!("table {name}: number of rows"), found.rows.to_string(), expected.rows.to_string());
            held(
                format!("table {name}: digest"),
                format!("{:032x}", found.digest),
                format!("{:032x}", expected.digest),
            );
        }
        let sums = |totals: &Totals| [totals.uidvalidity, totals.uidnext, totals.storage, totals.messages];
        let names = ["UIDVALIDITYs", "UIDNEXTs", "bytes in quota roots", "messages in quota roots"];
        for ((name, found), expected) in names.into_iter().zip(sums(self)).zip(sums(expected)) {
            held(format!("sum of {name}"), found.to_string(), expected.to_string());
        }
        out
    }
}
