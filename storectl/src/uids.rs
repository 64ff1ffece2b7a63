//! UIDs as they are typed: numbers and ranges of them, with commas between. What a range stands for is asked of the daemon first, for it
//! takes those that are there; a number that is not there is refused by the daemon, as ever.

use crate::ask;
use crate::cli::Global;
use crate::commands::Ask;
use crate::exit::{Outcome, Stop};
use crate::mail::unexpected;
use crate::render::Style;
use crate::socket::Environment;
use proto::{Code, Command, Failure, Reply, Request};
use std::io::Write;
use std::ops::RangeInclusive;

/// Most UIDs of one range, and of one command.
const MOST: u32 = 1_000_000;

/// One UID, or a range of which those are meant that are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uids {
    /// One.
    One(u32),
    /// From the first to the last; without an end it ends at [`u32::MAX`].
    Range(RangeInclusive<u32>),
}

/// Reads one of them: `4`, `4-9`, `4:9`, `4:*` (from 4 on).
///
/// # Errors
/// It is none; a range that ends before it begins, or has more than a million.
pub fn parse(text: &str) -> Result<Uids, String> {
    let wrong = || format!("{text:?} is no UID; write them as `storectl message list` shows them: 4 or 4,7 or 4-9,12");
    let number = |text: &str| text.parse::<u32>().map_err(|_| wrong());
    let Some((first, last)) = text.split_once(['-', ':']) else { return number(text).map(Uids::One) };
    let first = number(first)?;
    if last == "*" {
        return Ok(Uids::Range(first..=u32::MAX));
    }
    let last = number(last)?;
    match last.checked_sub(first) {
        None => Err(format!("{text:?} ends before it begins; write it as {last}-{first}")),
        Some(more) if more >= MOST => Err(format!("{text:?} are more than {MOST} UIDs; take them in parts")),
        Some(_) => Ok(Uids::Range(first..=last)),
    }
}

/// Reads one UID where no range can stand.
///
/// # Errors
/// It is none.
pub fn parse_one(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("{text:?} is no UID; write one as `storectl message list` shows it"))
}

/// The UIDs where no range is among them.
#[must_use]
pub fn plain(all: &[Uids]) -> Option<Vec<u32>> {
    let one = |uids: &Uids| if let Uids::One(uid) = uids { Some(*uid) } else { None };
    all.iter().map(one).collect()
}

/// Asks which of the ranges are there, then what is to be done with them, and prints the answer.
///
/// # Errors
/// None of them is there; those of the connection and of the request.
pub fn run(
    global: &Global,
    environment: &Environment,
    style: Style,
    out: &mut dyn Write,
    mut ask: Ask,
    wanted: &[Uids],
) -> Outcome<u8> {
    let Some((name, uids, expunged)) = chosen(&mut ask.request) else {
        return Err(Stop::new(Code::Bug, "a request without UIDs"));
    };
    let mut client = ask::connect(global, environment, true)?;
    let list = Request::MessageList { name: name.to_owned(), expunged };
    let there = match client.call(&list).map_err(|e| Stop::Failed(e.failure()))? {
        Reply::Messages(messages) => messages.into_iter().map(|message| message.uid).collect::<Vec<_>>(),
        other => return Err(unexpected(&other)),
    };
    *uids = taken(wanted, &there, name, expunged)?;
    ask::one(global, environment, style, out, &ask)
}

/// The UIDs that are meant, in order, each once.
fn taken(wanted: &[Uids], there: &[u32], name: &str, expunged: bool) -> Result<Vec<u32>, Failure> {
    let mut taken = Vec::new();
    for uids in wanted {
        match uids {
            Uids::One(uid) => taken.push(*uid),
            Uids::Range(range) => taken.extend(there.iter().filter(|uid| range.contains(uid))),
        }
    }
    taken.sort_unstable();
    taken.dedup();
    // IMPORTANT: for an undelete no UIDs are all of them.
    if taken.is_empty() {
        let (kind, list) = if expunged { ("expunged ", " --expunged") } else { ("", "") };
        return Err(Failure::new(Code::NotFound, format!("no {kind}message of {name} is in that range"))
            .with_hint(format!("storectl message list {}{list}", proto::naming::quoted(name))));
    }
    if taken.len() > MOST as usize {
        let text = format!("{} UIDs, and at most {MOST} at once", taken.len());
        return Err(Failure::new(Code::BadInput, text).with_hint("take them in parts"));
    }
    Ok(taken)
}

/// The mailbox of a request, its UIDs, and whether they are of expunged messages.
fn chosen(request: &mut Request) -> Option<(&str, &mut Vec<u32>, bool)> {
    let Request::Change { command, .. } = request else { return None };
    Some(match command {
        Command::MailboxUndelete { name, uids } => (name, uids, true),
        Command::MessageFlags { name, uids, .. }
        | Command::MessageFlagsAs { name, uids, .. }
        | Command::MessageExpunge { name, uids }
        | Command::MessageCopy { name, uids, .. } => (name, uids, false),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_and_ranges() {
        assert_eq!(parse("4"), Ok(Uids::One(4)));
        assert_eq!(parse("4-9"), Ok(Uids::Range(4..=9)));
        assert_eq!(parse("4:4"), Ok(Uids::Range(4..=4)));
        assert_eq!(parse("4:*"), Ok(Uids::Range(4..=u32::MAX)));
        assert_eq!(parse("1-1000000"), Ok(Uids::Range(1..=1_000_000)));
        for (text, said) in [
            ("", "is no UID"),
            ("x", "is no UID"),
            ("-4", "is no UID"),
            ("4-", "is no UID"),
            ("*", "is no UID"),
            ("*:4", "is no UID"),
            ("4-9-12", "is no UID"),
            ("4294967296", "is no UID"),
            ("9-4", "write it as 4-9"),
            ("1-1000001", "more than 1000000"),
        ] {
            assert!(parse(text).unwrap_err().contains(said), "{text}");
        }
        assert_eq!(plain(&[Uids::One(7), Uids::One(4)]), Some(vec![7, 4]));
        assert_eq!(plain(&[Uids::One(7), Uids::Range(4..=4)]), None);
    }

    #[test]
    fn a_range_takes_those_that_are_there() {
        let taken = |wanted: &[Uids]| taken(wanted, &[2, 4, 5, 9], "m", true);
        let (range, one) = (|of| Uids::Range(of), Uids::One);
        assert_eq!(taken(&[range(3..=8)]), Ok(vec![4, 5]));
        assert_eq!(taken(&[one(7), range(5..=u32::MAX), range(4..=5)]), Ok(vec![4, 5, 7, 9]));
        assert_eq!(taken(&[range(6..=8)]).unwrap_err().code, Code::NotFound, "nothing is not everything");
    }
}
