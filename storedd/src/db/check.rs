//! A look at every row: does each decode its envelope, and are they as many, and the same, as the database says.

use super::read::{DbReader, show_key};
use super::schema::{TableMeta, digest};
use crate::error::StoreError;
use crate::model::Table;
use std::ops::Bound;

/// Most findings that a report lists; the rest is counted.
const FINDINGS_MAX: usize = 100;

/// [`Finding::what`] of a row whose bytes are not those that were written.
pub const ROW: &str = "row";

/// Something in the database that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The database file.
    pub file: String,
    /// The table.
    pub table: Table,
    /// The key as text, empty if the finding is of the whole table.
    pub key: String,
    /// What is wrong: `row`, `number of rows`, `digest`, `table`.
    pub what: &'static str,
    /// What is there.
    pub found: String,
    /// What should be there.
    pub expected: String,
}

/// What [`check`] saw.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Rows read.
    pub rows: u64,
    /// The first 100 findings.
    pub findings: Vec<Finding>,
    /// Number of all findings.
    pub total: u64,
    /// Why a table could not be read to its end, where it was the disk that did not give its pages: what there is of it is a finding, and says
    /// nothing of its bytes.
    pub unread: Option<StoreError>,
}

impl Report {
    fn could_not_read(&mut self, e: &StoreError) {
        if self.unread.is_none() && !matches!(e, StoreError::Corrupt { .. } | StoreError::Foreign { .. }) {
            self.unread = Some(e.clone());
        }
    }

    fn add(&mut self, finding: impl FnOnce() -> Finding) {
        self.total += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding());
        }
    }
}

/// Reads every row of every table. Changes nothing (I7). `each` is called now and then with the rows read so far; an answer of
/// `false` ends the check early, with what was seen by then.
pub fn check(reader: &DbReader, each: &mut dyn FnMut(u64) -> bool) -> Report {
    let mut report = Report::default();
    for table in reader.meta().all().iter().copied() {
        let before = report.total;
        let Some(seen) = check_table(reader, table, &mut report, each) else { return report };
        let whole = report.total == before;
        let said = reader.meta().table(table);
        let mut differs = |what, found: String, expected: String| {
            let file = reader.file().to_owned();
            report.add(|| Finding { file, table, key: String::new(), what, found, expected });
        };
        if seen.rows != said.rows {
            differs("number of rows", seen.rows.to_string(), said.rows.to_string());
        } else if whole && seen.digest != said.digest {
            differs("digest", format!("{:032x}", seen.digest), format!("{:032x}", said.digest));
        }
    }
    report
}

/// `None` if `each` ended the check.
fn check_table(
    reader: &DbReader,
    table: Table,
    report: &mut Report,
    each: &mut dyn FnMut(u64) -> bool,
) -> Option<TableMeta> {
    let file = || reader.file().to_owned();
    let mut seen = TableMeta::default();
    let mut scratch = Vec::new();
    let mut range = match reader.range(table, Bound::Unbounded, Bound::Unbounded) {
        Ok(range) => range,
        Err(e) => {
            report.could_not_read(&e);
            let expected = "readable".to_owned();
            report.add(|| Finding {
                file: file(),
                table,
                key: String::new(),
                what: "table",
                found: e.to_string(),
                expected,
            });
            return Some(seen);
        }
    };
    while let Some(row) = range.next_unchecked() {
        report.rows += 1;
        if report.rows.is_multiple_of(1024) && !each(report.rows) {
            return None;
        }
        let (key, found, expected) = match &row {
            Ok(row) => match row.check(table) {
                Ok(bytes) => {
                    seen.add(digest(table, row.key(), bytes, &mut scratch));
                    continue;
                }
                Err(broken) => (show_key(row.key()), broken.found(), broken.expected()),
            },
            Err(e) => {
                report.could_not_read(e);
                (String::new(), e.to_string(), "readable".to_owned())
            }
        };
        seen.rows += 1;
        let what = if row.is_ok() { ROW } else { "table" };
        report.add(|| Finding { file: file(), table, key, what, found, expected });
    }
    Some(seen)
}
