//! A snapshot looked at as a database that nobody knows: its files, its structure, every row, every rule between tables, what its
//! manifest says of it, and whether the log behind it leads on.

use super::CACHE_BYTES;
use crate::beside;
use crate::db::{self, Db};
use crate::error::{Result, StoreError};
use crate::jobs::registry::Context;
use crate::model;
use crate::snapshot::{DB_FILE, Depth, MANIFEST, Manifest, Shelf, TableSum};
use crate::store::Store;
use crate::wal;

/// Most findings of one snapshot that are told.
const FINDINGS_MAX: usize = 1000;

/// Something that is not as it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: String,
    /// The table; empty if it is of none.
    pub table: String,
    /// The key of the row; empty if it is of none.
    pub key: String,
    /// What was looked at.
    pub what: String,
    /// What is there.
    pub found: String,
    /// What should be there.
    pub expected: String,
}

impl Finding {
    fn of(e: &StoreError) -> Finding {
        match e.clone() {
            StoreError::Corrupt { file, offset, what, found, expected } => {
                let what = if offset > 0 { format!("{what} at offset {offset}") } else { what };
                Finding { file, what, found, expected, ..Finding::default() }
            }
            StoreError::Foreign { file, what, found, expected } => {
                Finding { file, what: what.to_owned(), found, expected, ..Finding::default() }
            }
            StoreError::Missing { files } => {
                let (found, expected) = ("nothing".to_owned(), "a file".to_owned());
                Finding { file: files.join(", "), what: "file".to_owned(), found, expected, ..Finding::default() }
            }
            StoreError::Io { op, path, source } => Finding {
                file: path,
                what: op.to_owned(),
                found: source.to_string(),
                expected: "a readable file".to_owned(),
                ..Finding::default()
            },
            other => Finding { what: other.to_string(), ..Finding::default() },
        }
    }
}

/// What a verification saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The snapshot.
    pub id: String,
    /// Rows read.
    pub rows: u64,
    /// The log behind it leads to the present: a rollback to it would lose nothing.
    pub zero_loss: bool,
    /// What is wrong; empty: it passed.
    pub findings: Vec<Finding>,
}

/// Looks at everything; changes nothing.
///
/// # Errors
/// If there is no such snapshot, or it was ended; if it could not be read, and nothing proves that something is wrong with it: then it is as
/// good or bad as it was.
pub(super) fn verify(store: &Store, shelf: &Shelf, id: &str, ctx: &Context) -> Result<Verified> {
    let durable = store.checkpoint_lsn();
    let snapshot = super::asking(shelf, ctx).read(id, Depth::Bytes)?;
    if let (Some(e), None) = (snapshot.unread(), snapshot.problems.iter().find(|problem| is_proof(problem))) {
        return Err(e.clone());
    }
    let mut findings: Vec<Finding> = snapshot.problems.iter().map(Finding::of).collect();
    let mut verified = Verified { id: id.to_owned(), rows: 0, zero_loss: false, findings: Vec::new() };
    if let (Some(manifest), []) = (&snapshot.manifest, &findings[..]) {
        match look_inside(store, shelf, id, manifest, ctx, &mut findings) {
            Ok(rows) => verified.rows = rows,
            Err(e) if is_proof(&e) || !findings.is_empty() => findings.push(Finding::of(&e)),
            Err(e) => return Err(e),
        }
        match reach(store, manifest) {
            Ok(lsn) => verified.zero_loss = lsn >= durable,
            Err(e) => tracing::warn!(event = "snapshot_log", id, error = %e, "the log behind it could not be read"),
        }
    }
    findings.truncate(FINDINGS_MAX);
    verified.findings = findings;
    Ok(verified)
}

/// True of what is wrong with the bytes of a snapshot; anything else is wrong with whoever reads them.
fn is_proof(e: &StoreError) -> bool {
    matches!(e, StoreError::Corrupt { .. } | StoreError::Missing { .. } | StoreError::Foreign { .. })
}

/// The database of a snapshot: gives the number of rows read.
fn look_inside(
    store: &Store,
    shelf: &Shelf,
    id: &str,
    manifest: &Manifest,
    ctx: &Context,
    findings: &mut Vec<Finding>,
) -> Result<u64> {
    let path = shelf.path(id, DB_FILE);
    let examined = Db::examine_while(shelf.disk(), &path, Some(store.store_id()), ctx.going_on())?;
    compare(shelf, id, manifest, &examined.meta, findings);
    let total = Some(super::rows(&examined.meta));
    let database = examined.open_to_read(shelf.disk(), &path, db::Options { cache_bytes: CACHE_BYTES, pace: None })?;
    let (reader, other) = (database.reader()?, database.reader()?);
    let mut each = |rows| {
        ctx.progress(rows, total, "rows", id);
        !ctx.cancelled()
    };
    // The rows one by one, and the rules between them, which take longer: at the same time.
    let (rows, rules) = std::thread::scope(|scope| {
        let look = || model::check::check_while(&other, &mut |_| !ctx.cancelled());
        let rules = beside::help(scope, look);
        let rows = db::check(&reader, &mut each);
        let panicked = |_| Err(StoreError::Bug("the check of the rules panicked".to_owned()));
        (rows, rules.map_or_else(look, |rules| rules.join().unwrap_or_else(panicked)))
    });
    if ctx.cancelled() {
        return Err(StoreError::Busy { why: "the verification was ended".to_owned() });
    }
    if let Some(e) = rows.unread.filter(|_| !rows.findings.iter().any(|f| f.what == db::ROW)) {
        return Err(e);
    }
    findings.extend(rows.findings.into_iter().map(|f| Finding {
        file: f.file,
        table: f.table.name().to_owned(),
        key: f.key,
        what: f.what.to_owned(),
        found: f.found,
        expected: f.expected,
    }));
    let file = shelf.disk().display(&path);
    findings.extend(rules?.findings.into_iter().map(|f| {
        let (table, key) = f.place.strip_prefix("table ").and_then(|p| p.split_once(", ")).unwrap_or(("", &f.place));
        Finding {
            file: file.clone(),
            table: table.to_owned(),
            key: key.to_owned(),
            what: f.what.to_owned(),
            found: f.found,
            expected: f.expected,
        }
    }));
    Ok(rows.rows)
}

/// What the database says of itself, held against the manifest.
fn compare(shelf: &Shelf, id: &str, manifest: &Manifest, meta: &db::Meta, findings: &mut Vec<Finding>) {
    let file = shelf.disk().display(&shelf.path(id, MANIFEST));
    let mut differs = |table: &str, what: &str, found: String, expected: String| {
        if found != expected {
            let (file, table, what) = (file.clone(), table.to_owned(), what.to_owned());
            findings.push(Finding { file, table, key: String::new(), what, found, expected });
        }
    };
    differs("", "store id", manifest.store_id.to_string(), meta.store_id.to_string());
    differs("", "LSN", manifest.lsn.to_string(), meta.applied_lsn.to_string());
    differs("", "epoch", manifest.epoch.to_string(), meta.epoch.to_string());
    differs("", "schema version", manifest.schema.to_string(), meta.schema.to_string());
    differs("", "number of tables", manifest.tables.len().to_string(), meta.all().len().to_string());
    for (said, &table) in manifest.tables.iter().zip(meta.all()) {
        let TableSum { name, rows, digest } = said;
        let held = meta.table(table);
        differs(name, "table", name.clone(), table.name().to_owned());
        differs(name, "number of rows", rows.to_string(), held.rows.to_string());
        differs(name, "digest", format!("{digest:032x}"), format!("{:032x}", held.digest));
    }
}

/// How far the log behind the snapshot leads. A record that is being written while it is read may look broken, but lies behind
/// everything that was durable before.
fn reach(store: &Store, manifest: &Manifest) -> Result<crate::lsn::Lsn> {
    let proof = wal::Proof::default();
    let survey = wal::survey(&*store.disks().log, store.store_id(), proof, wal::Depth::From(manifest.lsn))?;
    Ok(survey.reach(manifest.epoch, manifest.lsn).lsn)
}
