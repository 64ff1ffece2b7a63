//! The database of a store becomes one of another schema, and the other way round.
//!
//! # Operation
//! The store was opened, which brought everything that was acknowledged into the database, and closed; whoever did that still holds
//! it, and with it the store's lock. [`Store::convert`] makes a copy of the other schema beside the database,
//! [`Candidate::validate`] looks at the copy as at a database that nobody knows, [`Valid::put_in_place`] gives it the database's name:
//! one rename. For an older program the log begins anew before that, so that it meets no record which it does not know, and a
//! mark is left that says how the store stood then ([`Standing`]).
//!
//! Rows of the table `ids` follow from others and stand in no record; those of `seen` do, and are left out of a database that has no such
//! table. Segments have the version of their schema: a store of schema 2 appends to none of version 1, so that an older program refuses
//! such a log by its name; one of schema 1, whoever opens it, writes none of version 2; and so on.
//!
//! # Invariants
//! * Until the rename the database is byte for byte what it was; a crash anywhere leaves the old one or the new one under its name.
//! * Nothing gets that name that was not validated: only [`Candidate::validate`] makes a [`Valid`].
//! * No log is left behind that a partition needs: one that is away lacks what is nowhere else (I4).
//! * A start never changes the schema of a database that is good unless the configuration says so.

use super::fallback;
use super::look::Found;
use super::marker::Marker;
use super::recovery::{DB_FILE, settings};
use super::reset::{have_back, lacking, needed_by};
use super::{Disks, Options, Store};
use crate::db::{self, Db, Meta};
use crate::disk;
use crate::error::{Result, StoreError, exit};
use crate::lsn::StoreId;
use crate::model;
use crate::planted::{self, Bug};
use crate::wal::{self, Control, Depth, Proof};
use std::io;
use std::sync::atomic::Ordering;

/// The copy, while it is no database yet.
const CANDIDATE: &str = "mboxlist.redb.converted";
/// Names that an interrupted copy may leave.
const LEFTOVERS: [&str; 3] = [CANDIDATE, "mboxlist.redb.converted.copy", "mboxlist.redb.converted.copy.new"];
/// In the data directory: the store was made ready for an older program.
const MARK: &str = "downgrade";
/// A mark is one short line.
const MARK_BYTES_MAX: u64 = 256;
/// Cache for writing and looking at the copy, in bytes.
const CACHE_BYTES: usize = 64 << 20;

/// For which program a store is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// This one.
    Current,
    /// One that wrote this schema; this one can upgrade it.
    Older(u32),
    /// As [`Standing::Older`], because a downgrade made it so, and no program has opened it since.
    Downgraded(u32),
}

impl Standing {
    /// What the files say: the schema of the database, and the mark of a downgrade with the control file beside it.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn of(disks: &Disks, schema: u32) -> Result<Standing> {
        if schema >= db::SCHEMA_VERSION {
            return Ok(Standing::Current);
        }
        let mark = match disk::read_small(&*disks.data, MARK, MARK_BYTES_MAX) {
            Ok(mark) => Some(mark),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => None,
            Err(e) => return Err(StoreError::io("read", disks.data.display(MARK), e)),
        };
        // Whoever opens a store writes its control file.
        let generation = Control::load(&*disks.data)?.state.map(|state| state.generation);
        let unopened = mark.is_some() && mark == generation.map(|generation| mark_of(schema, generation));
        Ok(if unopened { Standing::Downgraded(schema) } else { Standing::Older(schema) })
    }

    /// Why a start does not open the store, with the command that makes it one of this program; `None` if it does.
    #[must_use]
    pub fn refusal(self, disks: &Disks) -> Option<StoreError> {
        let file = disks.db.display(DB_FILE);
        let (schema, why, hint) = match self {
            Standing::Current => return None,
            Standing::Older(schema) => (schema, "upgrade it, which keeps a way back", "storedd upgrade"),
            Standing::Downgraded(schema) => {
                let why = "it was made ready for the program before this one: start that, or take it back";
                (schema, why, "storedd downgrade cancel")
            }
        };
        let now = db::SCHEMA_VERSION;
        let message = format!("{file}: schema version is {schema}, this program writes {now}; {why}");
        Some(StoreError::Refused { message, hint: hint.to_owned(), exit: exit::CONFIG })
    }
}

fn mark_of(schema: u32, generation: u64) -> Vec<u8> {
    format!("storedd-downgrade 1 schema {schema} generation {generation}\n").into_bytes()
}

/// Removes the mark of a downgrade, which says nothing any more.
fn clear_mark(disks: &Disks) -> Result<()> {
    match disks.data.remove(MARK) {
        Ok(()) => disks.data.sync_dir("").map_err(|e| StoreError::io("sync", disks.data.display(MARK), e)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(StoreError::io("remove", disks.data.display(MARK), e)),
    }
}

impl Found {
    /// Refuses a database of an older schema. A manual recovery goes on with it: it changes no schema.
    pub(super) fn expect_schema(&self, disks: &Disks) -> Result<()> {
        let Some(meta) = self.live_meta() else { return Ok(()) };
        Standing::of(disks, meta.schema)?.refusal(disks).map_or(Ok(()), Err)
    }
}

/// The refusal of a database that a newer program wrote: names the snapshot to go back to, the newest from before that (row 53).
pub(super) fn newer(disks: &Disks, marker: Option<&Marker>, file: &str, found: &str, expected: &str) -> StoreError {
    let snapshot = marker.and_then(|marker| fallback::newest_readable(disks, marker.store_id));
    let (way, hint) = match snapshot {
        Some(snapshot) => (
            format!(
                "the newest snapshot that this program reads is {} of {}; the log behind it is replayed",
                snapshot.id,
                super::rfc3339(snapshot.time())
            ),
            format!("use the program that wrote it, or go back: storedd snapshot install {} --yes", snapshot.id),
        ),
        None => (
            "no snapshot is there that this program reads".to_owned(),
            "use the program that wrote it; it can make the store ready for this one: storedd downgrade enable"
                .to_owned(),
        ),
    };
    StoreError::Refused {
        message: format!("{file}: {} is {found}, this program expects {expected}; {way}", db::SCHEMA),
        hint,
        exit: exit::BAD_INPUT,
    }
}

/// Schema of the database, without a look at the rest of it; `None` if nothing there says one.
#[must_use]
pub fn schema_of(disks: &Disks) -> Option<u32> {
    Db::schema_at(&disks.db, DB_FILE)
}

/// Removes what a conversion that was interrupted left; gives the names.
///
/// # Errors
/// Those of the disk.
pub fn remove_leftovers(disks: &Disks) -> Result<Vec<String>> {
    let mut removed = Vec::new();
    for file in LEFTOVERS {
        match disks.db.remove(file) {
            Ok(()) => removed.push(disks.db.display(file)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(StoreError::io("remove", disks.db.display(file), e)),
        }
    }
    Ok(removed)
}

/// True if a store of the schema `to` begins with a new log: an older program would meet records that it does not know.
fn begins_log_anew(to: u32) -> bool {
    to < db::SCHEMA_VERSION
}

/// What keeps a stopped store from becoming one of the schema `to`: partitions that lack changes and are not there to take them from the log. One
/// sentence for each, with what to do. Writes nothing (I7).
///
/// # Errors
/// Those of the disk.
pub fn lagging_behind(disks: &Disks, store_id: StoreId, to: u32) -> Result<Vec<String>> {
    if !begins_log_anew(to) {
        return Ok(Vec::new());
    }
    let away = needed_by(disks, store_id)?;
    Ok(away.into_iter().map(|(name, at)| format!("{}; {}", lacking(&name, at), have_back(&name))).collect())
}

/// A database of another schema beside the live one.
#[derive(Debug)]
pub struct Candidate<'a> {
    store: &'a Store,
    meta: Meta,
}

/// One that is what it must be.
#[derive(Debug)]
pub struct Valid<'a>(Candidate<'a>);

impl Store {
    /// Schema of the database file.
    #[must_use]
    pub fn schema(&self) -> u32 {
        self.base.load().db.meta().schema
    }

    /// Refuses a schema that this store, which was closed, cannot get now: for one that is older the log begins anew.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if a partition needs the log that there is.
    pub fn expect_convertible(&self, to: u32) -> Result<()> {
        if begins_log_anew(to) { self.expect_log_not_needed() } else { Ok(()) }
    }

    /// Makes a copy of the database, of the schema `to`. The store must have been closed, and nothing else may be done with it from
    /// now on. `each` is called now and then with the rows so far; an answer of `false` ends it.
    ///
    /// # Errors
    /// As [`db::convert()`]; then nothing is left of the copy.
    pub fn convert(&self, to: u32, each: &mut dyn FnMut(u64) -> bool) -> Result<Candidate<'_>> {
        let view = self.view();
        let applied = view.database().meta().applied_lsn;
        if applied != self.published_lsn() || applied.0 != self.appended.load(Ordering::Acquire) {
            return Err(StoreError::Bug(format!("a store that was not closed is converted at LSN {applied}")));
        }
        remove_leftovers(&self.disks)?;
        let meta = db::convert(view.database(), to, &self.disks.db, CANDIDATE, db_options(), each)?;
        Ok(Candidate { store: self, meta })
    }
}

fn db_options() -> db::Options {
    db::Options { cache_bytes: CACHE_BYTES, pace: None }
}

impl<'a> Candidate<'a> {
    /// Looks at every page, every row, and every rule between tables of the copy.
    ///
    /// # Errors
    /// [`StoreError::Refused`] with the first thing that is wrong; the database is as it was, and the copy is removed.
    pub fn validate(self) -> Result<Valid<'a>> {
        let looked = if planted::on(Bug::CopyNotValidated) { Ok(()) } else { self.look() };
        match looked {
            Ok(()) => Ok(Valid(self)),
            Err(e) => {
                // The first error is the one to tell.
                let _ = remove_leftovers(&self.store.disks);
                Err(e)
            }
        }
    }

    fn look(&self) -> Result<()> {
        let disk = &self.store.disks.db;
        let examined = Db::examine_for_open(disk, CANDIDATE, Some(self.store.store_id), None)?;
        if examined.meta != self.meta {
            return Err(not_valid(1, "it does not say of itself what was written"));
        }
        let database = examined.open_to_read(disk, CANDIDATE, db_options())?;
        let reader = database.reader()?;
        let rows = db::check(&reader, &mut |_| true);
        if let Some(f) = rows.findings.first() {
            let first = format!("table {}, {}: {}: found {}", f.table.name(), f.key, f.what, f.found);
            return Err(not_valid(rows.total, &first));
        }
        let rules = model::check::check(&reader)?;
        rules.findings.first().map_or(Ok(()), |first| Err(not_valid(rules.total, &first.to_string())))
    }
}

fn not_valid(findings: u64, first: &str) -> StoreError {
    StoreError::Refused {
        message: format!("the copy did not pass its validation, {findings} findings: {first}; the store is as it was"),
        hint: "storedd test".to_owned(),
        exit: exit::DAMAGED,
    }
}

impl Valid<'_> {
    /// Gives the copy the name of the database. Where its schema is older than this program's, the log begins anew before that.
    ///
    /// # Errors
    /// Those of the disk: then it has the name or has not.
    pub fn put_in_place(self) -> Result<Meta> {
        let Valid(Candidate { store, meta }) = self;
        let disks = &store.disks;
        if begins_log_anew(meta.schema) {
            let generation = begin_log_anew(store, &meta)?;
            disk::replace(&*disks.data, MARK, &mark_of(meta.schema, generation))
                .map_err(|e| StoreError::io("write", disks.data.display(MARK), e))?;
        }
        let fail = |op| move |e| StoreError::io(op, disks.db.display(DB_FILE), e);
        if planted::on(Bug::OldRemovedBeforeNew) {
            disks.db.remove(DB_FILE).map_err(fail("remove"))?;
            disks.db.sync_dir("").map_err(fail("sync the directory of"))?;
        }
        disks.db.rename(CANDIDATE, DB_FILE).map_err(fail("rename"))?;
        disks.db.sync_dir("").map_err(fail("sync the directory of"))?;
        if !meta.is_older() {
            clear_mark(disks)?;
        }
        Ok(meta)
    }
}

/// Begins a log that holds nothing but where it begins; what there was is put aside. Gives the generation of the control file as it
/// stands from then on.
fn begin_log_anew(store: &Store, meta: &Meta) -> Result<u64> {
    let lacking = store.partitions.needs_log();
    assert!(lacking.is_empty(), "I4: the log is all that a partition that is behind has: {lacking:?}");
    let state = store.control.state();
    let proof = Proof { control: Some(state), applied_lsn: Some(meta.applied_lsn), ..Proof::default() };
    let survey = wal::survey(&*store.disks.log, store.store_id, proof, Depth::All)?;
    let reach = survey.reach(meta.epoch, meta.applied_lsn);
    if reach.lsn != meta.applied_lsn || !reach.whole() {
        return Err(StoreError::Bug(format!("the log of a closed store leads on to LSN {}", reach.lsn)));
    }
    let sizes = settings(&Options { spares: 0, ..store.options.clone() }, meta.schema);
    let mut log = wal::afresh(&store.disks.log, &store.control, sizes, &survey, &reach, store.env.now())?;
    let durable = log.writer.sync()?.lsn();
    store.control.update(|state| {
        state.clean = true;
        state.durable_lsn = state.durable_lsn.max(durable);
    })?;
    Ok(store.control.state().generation)
}
