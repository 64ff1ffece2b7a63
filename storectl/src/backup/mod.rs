//! `backup`: mailboxes of one moment into an archive.
//!
//! # Operation
//! The daemon makes a moment and lists its mailboxes. For each, lists of messages and then their bytes are asked for ahead, and
//! written as they come, in the order of the mailboxes. Which messages stand in the archive already is known here, by
//! their digests.
//!
//! # Invariants
//! * What is on its way is bounded, in number and in bytes.
//! * A file has its name when it is whole and on disk.

mod base;
mod house;
mod medium;
pub(crate) mod save;
mod stage;
mod whole;

use crate::archive::content::{About, Since};
use crate::archive::{Options, Writer};
use crate::ask;
use crate::cli::{BackupArgs, Global};
use crate::exit::{DONE, Outcome, PARTLY, Stop};
use crate::render::words::{bytes, counted};
use crate::render::{self, Style};
use crate::socket::Environment;
use crate::{errand, files};
use house::House;
use medium::Medium;
use proto::{BackupBegun, BackupMailbox, BackupWork, Code};
use serde::Serialize;
use std::io::Write;

/// By how much a backup that is paced stands behind others who want a processor (`nice`).
const MODEST: i32 = 10;
/// Longest list of objects in bytes.
const LIST_BYTES_MAX: u64 = 64 << 20;

/// The keys of --json.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// Mailboxes.
    pub objects: u64,
    /// Messages whose bytes stand in it.
    pub messages: u64,
    /// Further ones that refer to these.
    pub copies: u64,
    /// Bytes of the messages.
    pub bytes: u64,
    /// Bytes of the archive.
    pub archive_bytes: u64,
    /// Everything up to this LSN is in it.
    pub lsn: u64,
    /// Messages that could not be read.
    pub skipped: Vec<Skipped>,
    /// With --verify-base: what of the archive before is damaged. What the store still has of it stands in this one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub base_damage: Vec<Skipped>,
}

/// A message that could not be read, or something of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// `/partition/group/user/folder`, or the place of damage in an archive.
    pub object: String,
    /// UID; null if it is no single message.
    pub uid: Option<u32>,
    /// Why.
    pub reason: String,
}

/// Makes a backup; gives the exit code: 1 if messages could not be read.
///
/// # Errors
/// Those of the connection and of the medium; what was written of a file is gone then.
pub fn run(
    global: &Global,
    environment: &Environment,
    style: Style,
    out: &mut dyn Write,
    args: &BackupArgs,
) -> Outcome<u8> {
    let mut objects = args.objects.clone();
    if let Some(list) = &args.list {
        objects.extend(read_list(list)?);
    }
    let read = if args.verify_base { base::Base::proven } else { base::Base::read };
    let base = args.since_archive.as_deref().map(read).transpose()?;
    let objects = if objects.is_empty() { vec!["/".to_owned()] } else { objects };
    let mut run = Run { args, base };
    if let Some(dir) = &args.stage {
        let (house, begun, mailboxes) = House::begin(ask::connect_bulk(global, environment)?, &objects)?;
        return stage::run(&mut run, house, &begun, mailboxes, dir, style, out);
    }
    let file = args.file.as_deref().ok_or_else(|| Stop::new(Code::Usage, "give a file: -f FILE"))?;
    let medium = Medium::at(file)?;
    let to_stdout = medium.is_stdout();
    let (mut house, begun, mailboxes) = House::begin(ask::connect_bulk(global, environment)?, &objects)?;
    let summary = run.save(&mut house, &begun, &mailboxes, objects, medium)?;
    house.tell(last(&summary))?;
    let line = summary.line();
    errand::told(&summary, std::slice::from_ref(&line));
    if to_stdout {
        // The archive is there.
        render::notes::text(&format!("{line}\n"));
    } else {
        render::summary(out, style, &summary, &[line])?;
    }
    Ok(if summary.skipped.is_empty() && summary.base_damage.is_empty() { DONE } else { PARTLY })
}

/// The last word to the daemon.
fn last(summary: &Summary) -> BackupWork {
    let done = summary.messages + summary.copies;
    BackupWork { restores: false, done, total: Some(done), item: String::new(), is_last: true }
}

impl Summary {
    fn line(&self) -> String {
        let damaged = match self.base_damage.len() {
            0 => String::new(),
            n => format!("; {n} damaged in the archive before: what the store still has of that is in this one"),
        };
        format!(
            "backed up {}: {} ({}) and {}, {} in the archive, up to LSN {}, {} not readable{damaged}",
            counted(self.objects, "mailbox"),
            counted(self.messages, "message"),
            bytes(self.bytes),
            counted(self.copies, "reference"),
            bytes(self.archive_bytes),
            self.lsn,
            self.skipped.len(),
        )
    }
}

/// What was asked for.
struct Run<'a> {
    args: &'a BackupArgs,
    base: Option<base::Base>,
}

impl Run<'_> {
    /// Writes one archive of these mailboxes.
    fn save(
        &mut self,
        house: &mut House,
        begun: &BackupBegun,
        mailboxes: &[BackupMailbox],
        objects: Vec<String>,
        medium: Medium,
    ) -> Outcome<Summary> {
        let (args, base) = (self.args, self.base.as_ref());
        let since = match (&args.since, base) {
            (Some(time), _) => Some(Since::Time(*time)),
            (None, Some(base)) => Some(base.since(begun, house)?),
            (None, None) => None,
        };
        let is_everything = objects.iter().any(|object| object == "/");
        let about = About {
            program: format!("storectl {}", env!("CARGO_PKG_VERSION")),
            store: begun.store.clone(),
            id: new_id()?,
            epoch: begun.epoch,
            lsn: begun.lsn,
            time: begun.time.parse().map_err(|e| Stop::new(Code::Protocol, format!("time {:?}: {e}", begun.time)))?,
            since,
            objects,
            single_copy: !args.ignore_links,
        };
        let pace = args.pace.unwrap_or_else(|| house.pace());
        let options = Options {
            level: args.level,
            // What is paced leaves the other processors to users.
            jobs: args.jobs.map_or_else(|| if pace > 0 { 1 } else { processors() }, usize::from),
            block_bytes: if medium.has_blocks() { args.blocking_factor as usize * crate::cli::BLOCK_BYTES } else { 1 },
        };
        if pace > 0 {
            // Threads that pack come later, and are as modest. That it cannot be is no reason to make no backup.
            let _ = rustix::process::nice(MODEST);
        }
        let failed = medium.failure();
        let mut writer = Writer::new(medium, options, &about).map_err(&failed)?;
        if let Some(base) = base {
            let left_out = if is_everything { Some(house.left_out()?) } else { None };
            writer.moves(base.moves(mailboxes, left_out.as_deref())).map_err(&failed)?;
        }
        let saved = save::save(house, writer, mailboxes, &save::Wanted { about: &about, base, pace }, &failed)?;
        let (totals, medium) = saved.writer.finish().map_err(&failed)?;
        Ok(Summary {
            objects: totals.mailboxes,
            messages: totals.messages,
            copies: totals.copies,
            bytes: totals.bytes,
            archive_bytes: medium.put()?,
            lsn: about.lsn,
            skipped: saved.skipped,
            base_damage: base.map_or(Vec::new(), |base| base.damaged.clone()),
        })
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn read_list(list: &std::path::Path) -> Outcome<Vec<String>> {
    let bytes = files::read(list, LIST_BYTES_MAX)?;
    let text = String::from_utf8(bytes)
        .map_err(|e| Stop::new(Code::BadInput, format!("{} is not UTF-8: {e}", list.display())))?;
    Ok(text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect())
}

/// A random id.
fn new_id() -> Outcome<String> {
    let mut id = [0; 16];
    let mut have = 0;
    while have < id.len() {
        have += rustix::rand::getrandom(&mut id[have..], rustix::rand::GetRandomFlags::empty())
            .map_err(|e| Stop::new(Code::Io, format!("no random numbers: {e}")))?;
    }
    Ok(id.iter().map(|byte| format!("{byte:02x}")).collect())
}
