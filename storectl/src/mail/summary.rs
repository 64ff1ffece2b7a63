//! What an import or an export came to.

use crate::errand;
use crate::exit::{DONE, Outcome, PARTLY, Stop};
use crate::render::words::{bytes, counted};
use crate::render::{self, Style, notes};
use proto::{Code, Failure};
use serde::Serialize;
use std::io::Write;

/// Lines of what was not taken that are told one by one, of each kind; the rest is counted, and `--json` has all.
const TOLD_MAX: usize = 10;

/// Something of the source, and what about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// Where: a file, or a place in it.
    pub source: String,
    /// What.
    pub reason: String,
}

/// The keys of --json.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// Messages that were brought over, or with --dry-run: that would be.
    pub messages: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Messages that were there already.
    pub unchanged: u64,
    /// Mailboxes or folders that were made.
    pub mailboxes: Vec<String>,
    /// Messages that were not brought over.
    pub refused: Vec<Remark>,
    /// What was not kept of messages that were brought over, and what is no message.
    pub not_kept: Vec<Remark>,
    /// Nothing was changed.
    pub dry_run: bool,
}

impl Summary {
    /// A message is not brought over.
    pub fn refuse(&mut self, source: String, reason: impl Into<String>) {
        let remark = Remark { source, reason: reason.into() };
        if self.refused.len() < TOLD_MAX {
            notes::note(&format!("refused {}: {}", remark.source, remark.reason));
        }
        self.refused.push(remark);
    }

    /// Something is lost of a message that is brought over.
    pub fn not_kept(&mut self, source: String, reason: impl Into<String>) {
        let remark = Remark { source, reason: reason.into() };
        if self.not_kept.len() < TOLD_MAX {
            notes::note(&format!("not kept of {}: {}", remark.source, remark.reason));
        }
        self.not_kept.push(remark);
    }

    /// Takes a failure of one message; ends the run if the next ones would fare no better.
    ///
    /// # Errors
    /// The failure, with what was done so far.
    pub fn failed(&mut self, source: String, failure: Failure) -> Outcome<()> {
        let about_it = matches!(
            failure.code,
            Code::BadInput | Code::NotFound | Code::Exists | Code::Usage | Code::OverQuota | Code::Damaged
        );
        if about_it {
            self.refuse(source, failure.message);
            return Ok(());
        }
        let message =
            format!("interrupted at {source}, behind {}: {}", counted(self.messages, "message"), failure.message);
        let hint = "run the same command again: what is there already is left as it is";
        Err(Stop::hint(failure.code, message, hint))
    }

    /// Prints it; the exit code: 1 if something was refused or not kept.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn end(self, out: &mut dyn Write, style: Style, verb: &str) -> Outcome<u8> {
        let would = if self.dry_run { "would have " } else { "" };
        // Nothing is made where mail goes out.
        let made = match (verb, self.mailboxes.len() as u64) {
            ("exported", 0) => String::new(),
            (_, made) => format!(", {} made", counted(made, "mailbox")),
        };
        let line = format!(
            "{would}{verb} {} ({}), {} unchanged{made}, {} refused, {} not wholly kept",
            counted(self.messages, "message"),
            bytes(self.bytes),
            self.unchanged,
            self.refused.len(),
            self.not_kept.len()
        );
        for (what, all) in [("refused", &self.refused), ("not wholly kept", &self.not_kept)] {
            if let Some(more @ 1..) = all.len().checked_sub(TOLD_MAX) {
                notes::note(&format!("and {more} more {what}; --json names them all"));
            }
        }
        errand::told(&self, std::slice::from_ref(&line));
        render::summary(out, style, &self, &[line])?;
        let whole = self.refused.is_empty() && self.not_kept.is_empty();
        Ok(if whole { DONE } else { PARTLY })
    }
}
