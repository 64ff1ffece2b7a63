//! A batch in one transaction: all of its lines or none.

use super::lines::{Line, Lines};
use super::words::Parser;
use crate::commands::{self, Ask};
use crate::exit::{DONE, Outcome, PARTLY, Stop};
use crate::files;
use crate::render::{self, Style, notes};
use proto::{Client, ClientError, Code, Command, Failure, Reply, Request};
use std::io::{Read, Write};
use std::path::Path;

/// Most bytes of lines; a transaction takes no more.
const INPUT_BYTES_MAX: u64 = 8 << 20;

/// Runs all lines of the input in one transaction; gives the exit code.
///
/// # Errors
/// The input cannot be read, the connection is lost, the output cannot be written.
pub fn run(
    file: &Path,
    input: Box<dyn Read + Send>,
    mut client: Client,
    style: Style,
    out: &mut dyn Write,
) -> Outcome<u8> {
    let mut bytes = Vec::new();
    input.take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|e| files::failed(file, &e))?;
    if bytes.len() as u64 > INPUT_BYTES_MAX {
        return Err(too_much("more than 8 MiB of lines"));
    }
    let (commands, asks) = match commands(&bytes) {
        Ok(all) => all,
        Err(mut failure) => {
            failure.message = format!("nothing was done: {}", failure.message);
            return refused(out, style, &failure);
        }
    };
    if commands.is_empty() {
        return Ok(DONE);
    }
    match client.call(&Request::Atomic { commands }) {
        Ok(Reply::Each(changes)) => {
            for ((number, ask), changed) in asks.iter().zip(changes) {
                render::line(out, style, *number, ask, Reply::Changed(changed)).map_err(|e| Stop::output(&e))?;
            }
            out.flush().map_err(|e| Stop::output(&e))?;
            Ok(DONE)
        }
        Ok(other) => Err(Stop::new(Code::Protocol, format!("the daemon answered a transaction with {other:?}"))),
        Err(ClientError::Failed(failure)) => refused(out, style, &failure),
        Err(ClientError::Dismissed(failure)) if failure.code == Code::BadInput => Err(too_much(&failure.message)),
        Err(e) => Err(Stop::Failed(e.failure())),
    }
}

fn too_much(found: &str) -> Stop {
    Stop::hint(
        Code::BadInput,
        format!("nothing was done: too much for one transaction: {found}"),
        "cut the input into several batches, or leave --atomic out",
    )
}

/// Nothing was done; one result tells why.
fn refused(out: &mut dyn Write, style: Style, failure: &Failure) -> Outcome<u8> {
    notes::failure(failure);
    if style.json {
        render::error(out, failure).and_then(|()| out.flush()).map_err(|e| Stop::output(&e))?;
    }
    Ok(PARTLY)
}

type Lined = (Vec<Command>, Vec<(u64, Ask)>);

/// The commands of the lines, or what is wrong with the first wrong one.
fn commands(bytes: &[u8]) -> Result<Lined, Failure> {
    let (mut lines, mut parser) = (Lines::default(), Parser::default());
    lines.push(bytes);
    lines.end();
    let (mut commands, mut asks) = (Vec::new(), Vec::new());
    while let Some(line) = lines.next() {
        let asked = match line {
            Line::Bytes(bytes) => parser.parse(bytes).and_then(commands::line),
            Line::TooLong => Err(Failure::new(Code::BadInput, "the line is longer than 1 MiB")),
        };
        let number = lines.number();
        let ask = asked.and_then(a_change).map_err(|mut failure| {
            failure.message = format!("line {number}: {}", failure.message);
            failure
        })?;
        if let Request::Change { command, .. } = &ask.request {
            commands.push(command.clone());
            asks.push((number, ask));
        }
    }
    Ok((commands, asks))
}

fn a_change(ask: Ask) -> Result<Ask, Failure> {
    match ask.request {
        Request::Change { dry_run: false, .. } => Ok(ask),
        Request::Change { .. } => Err(Failure::new(Code::Usage, "a dry run cannot be part of a transaction")
            .with_hint("leave --dry-run out, or run the batch without --atomic")),
        _ => Err(Failure::new(Code::Usage, "only changes can be part of a transaction")
            .with_hint("run the batch without --atomic, or the query by itself")),
    }
}
