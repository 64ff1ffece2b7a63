//! Mail as other programs keep it: Maildir++ and mbox, read and written.
//!
//! Everything read here is hostile input: it may be another user's, and the reader may be root.

mod date;
mod export;
mod house;
mod import;
mod maildir;
pub mod mbox;
mod summary;

pub use house::unexpected;

use crate::cli::Global;
use crate::commands::Transfer;
use crate::exit::Outcome;
use crate::render::Style;
use crate::socket::Environment;
use jiff::Timestamp;
use std::io::Write;

/// Brings mail over; gives the exit code: 1 if something was not, or not wholly.
///
/// # Errors
/// Those of the files, those of the connection.
pub fn transfer(
    global: &Global,
    environment: &Environment,
    style: Style,
    out: &mut dyn Write,
    transfer: &Transfer,
) -> Outcome<u8> {
    match transfer {
        Transfer::FromMaildir(args) => import::maildir(global, environment, style, out, args),
        Transfer::FromMbox(args) => import::mbox(global, environment, style, out, args),
        Transfer::ToMaildir(args) => export::maildir(global, environment, style, out, args),
        Transfer::ToMbox(args) => export::mbox(global, environment, style, out, args),
    }
}

/// What is known of a message beside its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// System flags (`\Seen`) and keywords (`$Work`).
    pub flags: Vec<String>,
    /// Its internal date; `None` if nothing tells it.
    pub date: Option<Timestamp>,
}

/// Most keywords of one message here.
const KEYWORDS_MAX: usize = 64;

impl About {
    /// Takes out what is no flag here, so that it does not keep the message out; gives it.
    fn take_out_bad(&mut self) -> Vec<String> {
        let mut keywords = 0;
        let mut good = |flag: &String| {
            keywords += usize::from(!flag.starts_with('\\'));
            flag.starts_with('\\') || (is_keyword(flag) && keywords <= KEYWORDS_MAX)
        };
        let (good, bad) = std::mem::take(&mut self.flags).into_iter().partition(&mut good);
        self.flags = good;
        bad
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|known| known.eq_ignore_ascii_case(flag))
    }

    /// Those that are no system flags.
    fn keywords(&self) -> impl Iterator<Item = &str> {
        self.flags.iter().map(String::as_str).filter(|flag| !flag.starts_with('\\'))
    }
}

/// A keyword is an atom (RFC 9051 9).
fn is_keyword(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_graphic() && !b"(){%*\"\\]".contains(&b);
    (1..=255).contains(&text.len()) && text.bytes().all(good)
}

#[cfg(test)]
mod tests;
