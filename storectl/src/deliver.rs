//! `message deliver`: the message comes from standard input; a long one goes to the daemon in pieces before.

use crate::ask;
use crate::cli::{Global, MessageDeliverArgs};
use crate::commands::Ask;
use crate::exit::{Outcome, Stop};
use crate::render::{Answer, Style};
use crate::socket::Environment;
use proto::{Body, Client, Code, Command, Failure, Reply, Request};
use std::io::{self, Read, Write};

/// Longest message that is sent with its delivery; also the smallest that a store may be told to take so.
const INLINE_MAX: usize = 4 << 10;
/// A piece of a longer one.
const PIECE: usize = 256 << 10;

/// Delivers what `input` holds.
///
/// # Errors
/// No connection, a refusal, an input that cannot be read.
pub fn run(
    global: &Global,
    environment: &Environment,
    style: Style,
    out: &mut dyn Write,
    args: MessageDeliverArgs,
    mut input: impl Read,
) -> Outcome<u8> {
    let MessageDeliverArgs { to, flags, internal_date } = args;
    let internal_us = internal_date.map(|date| u64::try_from(date.as_microsecond()));
    let internal_us = internal_us.transpose().map_err(|_| Stop::new(Code::BadInput, "a date before 1970"))?;
    let mut client = ask::connect(global, environment, true)?;
    let body = send(&mut client, &to[0], &mut input)?;
    let flags = flags.split_ascii_whitespace().map(str::to_owned).collect();
    let request = Request::Change { command: Command::MessageDeliver { to, flags, internal_us, body }, dry_run: false };
    let reply = client.call(&request).map_err(|e| Stop::Failed(e.failure()))?;
    let ask = Ask::of(request);
    let mut answer = Answer::new(&ask, style);
    answer.part(out, reply)?;
    answer.end(out)
}

/// Reads as much as there is, at most so many bytes.
fn fill(input: &mut impl Read, most: usize) -> Outcome<Vec<u8>> {
    let mut piece = Vec::new();
    let read = io::Read::by_ref(input).take(most as u64).read_to_end(&mut piece);
    read.map_err(|e| Stop::Failed(Failure::new(Code::Io, format!("standard input: {e}"))))?;
    Ok(piece)
}

/// A short message as it is; a long one as the number under which the daemon has it.
fn send(client: &mut Client, to: &str, input: &mut impl Read) -> Outcome<Body> {
    let mut piece = fill(input, PIECE)?;
    if piece.len() <= INLINE_MAX {
        return Ok(Body::Inline(piece));
    }
    let mut number = None;
    loop {
        let next = fill(input, PIECE)?;
        let last = next.is_empty();
        let request = Request::MessageSend { number, to: to.to_owned(), bytes: piece, last };
        match client.call(&request).map_err(|e| Stop::Failed(e.failure()))? {
            Reply::MessageSent(sent) if last => return Ok(Body::Sent(sent.number)),
            Reply::MessageSent(sent) => number = Some(sent.number),
            _ => return Err(Stop::new(Code::Protocol, "the daemon answered something else than was asked")),
        }
        piece = next;
    }
}
