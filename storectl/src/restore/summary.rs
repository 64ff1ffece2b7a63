//! What a restore came to.

use crate::errand;
use crate::exit::{DONE, Outcome, PARTLY, Stop};
use crate::render::words::{bytes, counted};
use crate::render::{self, Style, notes};
use jiff::Timestamp;
use proto::Code;
use serde::Serialize;
use std::collections::BTreeSet;
use std::io::Write;

/// Lines that are told one by one; `--json` has all.
const TOLD_MAX: usize = 1000;

/// A message that is back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// `/partition/group/user/folder` in the archive.
    pub object: String,
    /// Its UID there.
    pub uid: u32,
    /// Mailbox in the store.
    pub mailbox: String,
    /// Its UID there; with --dry-run 0 where it is not known.
    pub new_uid: u32,
}

/// A mailbox that has another name now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Renamed {
    /// Full name that it had here.
    pub from: String,
    /// Full name.
    pub to: String,
}

/// A message that was left out, or something that could not be restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// `/partition/group/user/folder` in the archive, or the place of damage in it.
    pub object: String,
    /// Its UID there; null if it is no single message.
    pub uid: Option<u32>,
    /// Why.
    pub reason: String,
}

/// The moment that was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AsOf {
    /// The one that was asked for.
    pub asked: Timestamp,
    /// The one of which everything is known: the same, or that of the archive.
    pub reached: Timestamp,
    /// Everything up to this LSN is in it.
    pub lsn: u64,
}

/// The keys of --json.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// Messages that are back.
    pub restored: Vec<Restored>,
    /// Messages that were there without their bytes, and have them again: nothing else of them has changed.
    pub healed: Vec<Restored>,
    /// Messages that were left out: the mailbox has them.
    pub skipped: Vec<Remark>,
    /// What could not be restored.
    pub unrestorable: Vec<Remark>,
    /// Mailboxes that were made.
    pub mailboxes: Vec<String>,
    /// Messages that were taken away, for the archive says that they are gone.
    pub deleted: u64,
    /// Mailboxes that were deleted, for the archive says that they are gone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deleted_mailboxes: Vec<String>,
    /// Mailboxes that were given another name, for the archive says that they have it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub renamed_mailboxes: Vec<Renamed>,
    /// Bytes of the messages that are back, and of those that were healed.
    pub bytes: u64,
    /// With --as-of: which moment it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_of: Option<AsOf>,
    /// Nothing was changed.
    pub dry_run: bool,
    /// Objects that were asked for of which something was met, by their number on the command line.
    #[serde(skip)]
    pub met: BTreeSet<usize>,
    /// Messages that are there, which the archive has with other flags.
    #[serde(skip)]
    pub changed: u64,
}

impl Summary {
    /// The moment that is restored.
    pub fn reached(&mut self, asked: Timestamp, reached: Timestamp, lsn: u64) {
        self.as_of = Some(AsOf { asked, reached, lsn });
    }

    /// Messages that are done with.
    pub fn done(&self) -> u64 {
        (self.restored.len() + self.healed.len() + self.skipped.len()) as u64
    }

    /// Something could not be restored.
    pub fn fail(&mut self, object: String, uid: Option<u32>, reason: String) {
        if self.unrestorable.len() < TOLD_MAX {
            let uid = uid.map_or(String::new(), |uid| format!(" {uid}"));
            notes::note(&format!("not restored: {object}{uid}: {reason}"));
        }
        self.unrestorable.push(Remark { object, uid, reason });
    }

    /// Prints it; the exit code.
    ///
    /// # Errors
    /// Nothing could be restored (65); those of `out`.
    pub fn end(self, out: &mut dyn Write, style: Style) -> Outcome<u8> {
        let would = if self.dry_run { "would have " } else { "" };
        let mut lines: Vec<String> = Vec::new();
        let is_gone = |name: &String| format!("{would}deleted {name}: the archive says that it is gone");
        lines.extend(self.deleted_mailboxes.iter().map(is_gone));
        let is_renamed =
            |Renamed { from, to }: &Renamed| format!("{would}renamed {from} to {to}, as the archive has it");
        lines.extend(self.renamed_mailboxes.iter().map(is_renamed));
        lines.extend(
            self.healed
                .iter()
                .map(|h| format!("{} {}: {would}put back the bytes of {} {}", h.object, h.uid, h.mailbox, h.new_uid)),
        );
        let renumbered = self.restored.iter().filter(|r| r.new_uid != 0 && r.new_uid != r.uid);
        lines.extend(renumbered.map(|r| format!("{} {} is {} {}", r.object, r.uid, r.mailbox, r.new_uid)));
        lines.push(format!(
            "{would}restored {} ({}), {} healed, {} skipped, {} made, {} taken away, {} not restored",
            counted(self.restored.len() as u64, "message"),
            bytes(self.bytes),
            self.healed.len(),
            self.skipped.len(),
            counted(self.mailboxes.len() as u64, "mailbox"),
            self.deleted,
            self.unrestorable.len(),
        ));
        let nothing = self.restored.is_empty()
            && self.healed.is_empty()
            && self.skipped.is_empty()
            && self.mailboxes.is_empty()
            && self.deleted == 0
            && self.deleted_mailboxes.is_empty()
            && self.renamed_mailboxes.is_empty()
            && self.changed == 0;
        if let Some(first) = self.unrestorable.first().filter(|_| nothing) {
            let text = format!("nothing could be restored: {}: {}", first.object, first.reason);
            return Err(Stop::hint(Code::BadInput, text, "see what it holds: storectl restore -t -f FILE"));
        }
        // What counts most comes first: of much only the beginning is kept.
        let failed = self.unrestorable.iter().map(|one| {
            let uid = one.uid.map_or(String::new(), |uid| format!(" {uid}"));
            format!("not restored: {}{uid}: {}", one.object, one.reason)
        });
        let kept: Vec<String> =
            lines.last().cloned().into_iter().chain(failed).chain(lines.iter().rev().skip(1).rev().cloned()).collect();
        errand::told(&self, &kept);
        render::summary(out, style, &self, &lines)?;
        Ok(if self.unrestorable.is_empty() { DONE } else { PARTLY })
    }
}
