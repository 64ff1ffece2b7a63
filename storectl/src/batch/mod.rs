//! # Purpose
//! Many commands over one connection, a result line each, in order.
//!
//! # Operation
//! One thread reads the input, one receives answers, this one waits for both: it parses lines, sends requests as long as
//! the window has room, and prints what is ready. Whenever nothing has come, everything held back is sent and printed; so
//! a script may wait for each answer before it writes the next line.
//!
//! # Invariants
//! * Results come in the order of the lines; a refused line does not stop the others.
//! * A lost connection ends the batch (69). Nothing is sent again: the first line without a result is where it stopped.

mod atomic;
mod lines;
#[cfg(test)]
mod tests;
mod words;

use crate::cli::BatchArgs;
use crate::commands::{self, Ask, Form};
use crate::errand;
use crate::exit::{DONE, Outcome, PARTLY, Stop};
use crate::files;
use crate::pipe::{Event, Pipe, Road};
use crate::render::{self, Style, notes};
use lines::{Line, Lines};
use proto::{Answer, Client, ClientError, Code, Failure, Request};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::Duration;
use words::Parser;

/// Bytes read from the input at once; at most two such pieces are held.
const PIECE_BYTES: usize = 64 << 10;
/// An idle connection is tried this often: so the daemon does not take it for forgotten, and its end is noticed while the
/// input stays open.
const IDLE: Duration = Duration::from_secs(2);

/// Runs a batch over its opened input; gives its exit code.
///
/// # Errors
/// The input cannot be read, the connection is lost, the output cannot be written.
pub fn run(
    args: &BatchArgs,
    input: Box<dyn Read + Send>,
    client: Client,
    style: Style,
    out: &mut dyn Write,
) -> Outcome<u8> {
    if args.atomic {
        return atomic::run(&args.file, input, client, style, out);
    }
    over(input, &args.file, client, style, out)
}

/// Runs the lines of `input`; `file` names it in messages.
fn over(input: Box<dyn Read + Send>, file: &Path, client: Client, style: Style, out: &mut dyn Write) -> Outcome<u8> {
    let (events_in, events) = mpsc::channel();
    let input = Input::start(input, events_in.clone());
    let pipe = Pipe::new(client, events_in).map_err(|e| Stop::Failed(e.failure()))?;
    let parser = Parser::default();
    let (lines, tally) = (Lines::default(), Tally::default());
    let mut batch = Batch { pipe, lines, input, parser, style, held: None, tally, unreadable: None };
    batch.run(&events, out, file)
}

/// What takes a place in the order.
#[derive(Debug)]
enum Turn {
    /// A line and what it asks; `None` if it asks nothing because it was refused here.
    Line(u64, Option<Box<Ask>>),
    /// A sign of life, of which nothing is printed.
    Idle,
}

#[derive(Debug, Default)]
struct Tally {
    lines: u64,
    refused: u64,
    /// The first refused line.
    first: u64,
}

#[derive(Debug)]
struct Batch {
    pipe: Pipe<Turn>,
    lines: Lines,
    input: Input,
    parser: Parser,
    style: Style,
    /// A line that waits until others are answered.
    held: Option<(u64, Box<Ask>)>,
    tally: Tally,
    /// Why the input ended too early.
    unreadable: Option<Stop>,
}

impl Batch {
    fn run(&mut self, events: &Receiver<Event>, out: &mut dyn Write, file: &Path) -> Outcome<u8> {
        loop {
            self.print(out)?;
            if let Err(cancelled) = errand::check() {
                // What was sent is answered; no more is.
                self.unreadable.get_or_insert(cancelled);
                self.held = None;
                self.lines.stop();
            }
            self.send(out)?;
            if self.pipe.is_ready() {
                continue;
            }
            if self.lines.is_over() && self.held.is_none() && self.pipe.unanswered() == 0 {
                return self.end(out);
            }
            match self.wait(events, out)? {
                Some(Event::Answer(id, answer)) => self.pipe.answered(id, answer),
                Some(Event::Lost(error)) => return Err(self.lost(out, &error)),
                Some(Event::Input(piece)) => {
                    self.input.asked = false;
                    self.lines.push(&piece);
                }
                Some(Event::End) => self.lines.end(),
                Some(Event::Unreadable(error)) => {
                    self.unreadable = Some(files::failed(file, &error));
                    self.lines.cut();
                }
                None => self.stay(out)?,
            }
        }
    }

    /// Prints the results whose turn it is.
    fn print(&mut self, out: &mut dyn Write) -> Outcome<()> {
        while let Some((turn, answer)) = self.pipe.take() {
            let Turn::Line(number, ask) = turn else { continue };
            self.tally.lines += 1;
            errand::advance();
            self.result(out, number, ask, answer).map_err(|e| Stop::output(&e))?;
        }
        Ok(())
    }

    fn result(&mut self, out: &mut dyn Write, number: u64, ask: Option<Box<Ask>>, answer: Answer) -> io::Result<()> {
        let failure = match (ask, answer) {
            (Some(ask), Ok(reply)) if ask.form == Form::Single && is_empty(&reply) => {
                Failure { code: Code::NotFound, message: "the daemon has no report of a start".into(), hint: None }
            }
            (Some(ask), Ok(reply)) => return render::line(out, self.style, number, &ask, reply),
            (_, Err(failure)) => failure,
            (None, Ok(_)) => return Ok(()),
        };
        self.tally.refused += 1;
        if self.tally.first == 0 {
            self.tally.first = number;
        }
        render::refused_line(out, self.style, number, &failure)
    }

    /// Sends lines as long as there are some and room for them.
    fn send(&mut self, out: &mut dyn Write) -> Outcome<()> {
        while self.pipe.has_place() {
            let Some((number, ask)) = self.held.take().or_else(|| self.next_ask()) else { break };
            let road = Road::of(&ask);
            if !self.pipe.accepts(road) {
                self.held = Some((number, ask));
                break;
            }
            match self.pipe.submit(Turn::Line(number, Some(ask)), road, request) {
                Ok(()) => {}
                Err((turn, e)) if !e.is_fatal() => self.pipe.refuse(turn, e.failure()),
                Err((_, e)) => return Err(self.lost(out, &e)),
            }
        }
        self.input.want(&self.lines);
        Ok(())
    }

    /// The next line that asks something; refused ones take their places on the way.
    fn next_ask(&mut self) -> Option<(u64, Box<Ask>)> {
        while self.pipe.has_place() {
            let line = self.lines.next()?;
            let asked = match line {
                Line::Bytes(bytes) => self.parser.parse(bytes).and_then(commands::line),
                Line::TooLong => Err(Failure::new(Code::BadInput, "the line is longer than 1 MiB")),
            };
            let number = self.lines.number();
            match asked {
                Ok(ask) => return Some((number, Box::new(ask))),
                Err(failure) => self.pipe.refuse(Turn::Line(number, None), failure),
            }
        }
        None
    }

    /// The next event; `None` after a while without any. Before it waits, all that is held back leaves.
    fn wait(&mut self, events: &Receiver<Event>, out: &mut dyn Write) -> Outcome<Option<Event>> {
        match events.try_recv() {
            Ok(event) => return Ok(Some(event)),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
        }
        let more_at_hand = self.held.is_some() || self.lines.waiting() > 0;
        if let Err(e) = self.pipe.flush(more_at_hand) {
            return Err(self.lost(out, &e));
        }
        out.flush().map_err(|e| Stop::output(&e))?;
        match events.recv_timeout(IDLE) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(Stop::new(Code::Bug, "the threads of the batch are gone")),
        }
    }

    /// Nothing came for a while.
    fn stay(&mut self, out: &mut dyn Write) -> Outcome<()> {
        if self.pipe.unanswered() > 0 {
            return Ok(());
        }
        match self.pipe.submit(Turn::Idle, Road::Alone, request) {
            Ok(()) => Ok(()),
            Err((_, e)) => Err(self.lost(out, &e)),
        }
    }

    /// The connection is gone: what was answered is printed, what was not is told.
    fn lost(&mut self, out: &mut dyn Write, error: &ClientError) -> Stop {
        if let Err(stop) = self.print(out) {
            return stop;
        }
        let number = |turn: &Turn| if let Turn::Line(number, _) = turn { Some(*number) } else { None };
        let mut open = self.pipe.tags().filter_map(number);
        let where_ = match (open.next(), open.last()) {
            (None, _) => "after the last line that was read".to_owned(),
            (Some(only), None) => format!("line {only} has no answer"),
            (Some(first), Some(last)) => format!("lines {first} to {last} have no answer"),
        };
        let mut failure = error.failure();
        failure.message = format!("batch interrupted: {where_}: {}", failure.message);
        failure.hint = Some(
            "look what was done (storectl mailbox list, storectl log dump), then run the lines from there on"
                .to_owned(),
        );
        failure.code = Code::Unavailable;
        Stop::Failed(failure)
    }

    fn end(&mut self, out: &mut dyn Write) -> Outcome<u8> {
        out.flush().map_err(|e| Stop::output(&e))?;
        if let Some(stop) = self.unreadable.take() {
            return Err(stop);
        }
        let Tally { lines, refused, first } = self.tally;
        if refused == 0 {
            return Ok(DONE);
        }
        notes::note(&format!(
            "{refused} of {} refused, the first is line {first}",
            render::words::counted(lines, "line")
        ));
        Ok(PARTLY)
    }
}

fn is_empty(reply: &proto::Reply) -> bool {
    matches!(reply, proto::Reply::Reports(reports) if reports.is_empty())
}

/// What a place in the order asks.
fn request(turn: &Turn) -> &Request {
    match turn {
        Turn::Line(_, Some(ask)) => &ask.request,
        Turn::Line(_, None) | Turn::Idle => &Request::Health,
    }
}

/// The thread that reads the input: one piece for each that is asked for, so that it never runs ahead.
#[derive(Debug)]
struct Input {
    wishes: Sender<()>,
    asked: bool,
}

impl Input {
    fn start(input: Box<dyn Read + Send>, events: Sender<Event>) -> Input {
        let (wishes, asked) = mpsc::channel();
        std::thread::spawn(move || read(input, &asked, &events));
        Input { wishes, asked: false }
    }

    /// Asks for the next piece if the lines run out.
    fn want(&mut self, lines: &Lines) {
        if !self.asked && (lines.is_dry() || lines.waiting() < PIECE_BYTES) {
            // A reader that is gone has said before why.
            self.asked = self.wishes.send(()).is_ok();
        }
    }
}

fn read(mut input: Box<dyn Read + Send>, wishes: &Receiver<()>, events: &Sender<Event>) {
    let mut piece = vec![0; PIECE_BYTES];
    while wishes.recv().is_ok() {
        let event = loop {
            match input.read(&mut piece) {
                Ok(0) => break Event::End,
                Ok(length) => break Event::Input(piece[..length].to_vec()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => break Event::Unreadable(e),
            }
        };
        let more = matches!(event, Event::Input(_));
        if events.send(event).is_err() || !more {
            return;
        }
    }
}
