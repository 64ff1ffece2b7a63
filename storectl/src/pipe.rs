//! # Purpose
//! Many requests on their way at once over one connection, answers in the order of the requests.
//!
//! # Operation
//! A thread of its own receives and puts what it gets on the caller's channel of [`Event`]s, beside whatever else the
//! caller waits for; so one loop waits for everything. The caller hands answers back with [`Pipe::answered`] and takes
//! them in order with [`Pipe::take`].
//!
//! # Invariants
//! * At most [`WINDOW`] requests are unanswered, at most four times as many places are held: memory is bounded.
//! * A query is sent only when every change before it is answered, and a change only when every query before it is: so
//!   each line sees exactly what the lines before it did. Long answers travel alone.
//! * Nothing is ever sent a second time.

use crate::commands::Ask;
use proto::{Answer, Answers, Client, ClientError, Failure, Pipeline, Request};
use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::Sender;

/// Requests without an answer at most; what the daemon allows for one connection.
pub const WINDOW: usize = 256;
/// Requests and refusals whose turn has not come at most.
const PLACES: usize = 4 * WINDOW;

/// What the loop waits for.
#[derive(Debug)]
pub enum Event {
    /// An answer came.
    Answer(u64, Answer),
    /// The connection ended; the last event of it.
    Lost(ClientError),
    /// Bytes of the input.
    Input(Vec<u8>),
    /// The input ended.
    End,
    /// The input failed.
    Unreadable(io::Error),
}

/// Requests that may be on their way together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Road {
    /// Changes: the daemon does them in the order they were sent.
    Change,
    /// Short queries.
    Query,
    /// What must have the connection for itself: long answers, acts on the whole store.
    Alone,
}

impl Road {
    /// The road of a request.
    #[must_use]
    pub fn of(ask: &Ask) -> Road {
        match ask.request {
            Request::Change { .. } => Road::Change,
            Request::MailboxShow { .. }
            | Request::UserShow { .. }
            | Request::AclGet { .. }
            | Request::AclRights { .. }
            | Request::AclMy { .. }
            | Request::MailboxShowAs { .. }
            | Request::QuotaGet { .. }
            | Request::Hashdir { .. }
            | Request::PartitionShow { .. } => Road::Query,
            _ => Road::Alone,
        }
    }
}

/// The requests of one connection whose answers have not been taken yet.
#[derive(Debug)]
pub struct Pipe<T> {
    pipeline: Pipeline,
    places: VecDeque<Place<T>>,
    road: Road,
    unanswered: usize,
    unsent: usize,
}

#[derive(Debug)]
struct Place<T> {
    tag: T,
    /// 0 for what was never sent.
    id: u64,
    answer: Option<Answer>,
}

impl<T> Pipe<T> {
    /// Splits the connection; what comes from it goes to `events`.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn new(client: Client, events: Sender<Event>) -> Result<Pipe<T>, ClientError> {
        let (pipeline, answers) = client.pipeline(WINDOW)?;
        std::thread::spawn(move || receive(answers, &events));
        Ok(Pipe { pipeline, places: VecDeque::new(), road: Road::Change, unanswered: 0, unsent: 0 })
    }

    /// True if anything may be put in.
    #[must_use]
    pub fn has_place(&self) -> bool {
        self.places.len() < PLACES && self.unanswered < WINDOW
    }

    /// True if a request of this kind may be sent now.
    #[must_use]
    pub fn accepts(&self, road: Road) -> bool {
        self.unanswered == 0 || (self.has_place() && road == self.road && road != Road::Alone)
    }

    /// Sends what `tag` asks. Only if [`Pipe::accepts`] its road.
    ///
    /// # Errors
    /// Those of the connection; [`ClientError::Unsendable`] leaves all as it was.
    pub fn submit(&mut self, tag: T, road: Road, request: fn(&T) -> &Request) -> Result<(), (T, ClientError)> {
        debug_assert!(self.accepts(road));
        match self.pipeline.submit(request(&tag)) {
            Ok(id) => {
                self.road = road;
                self.unanswered += 1;
                self.unsent += 1;
                self.places.push_back(Place { tag, id, answer: None });
                Ok(())
            }
            Err(e) => Err((tag, e)),
        }
    }

    /// Takes a place in the order for what was refused before it was sent.
    pub fn refuse(&mut self, tag: T, failure: Failure) {
        self.places.push_back(Place { tag, id: 0, answer: Some(Err(failure)) });
    }

    /// Notes an answer that came.
    pub fn answered(&mut self, id: u64, answer: Answer) {
        if let Some(place) = self.places.iter_mut().find(|place| place.id == id && place.answer.is_none()) {
            place.answer = Some(answer);
            self.unanswered -= 1;
        }
    }

    /// The next answer in the order of the requests, if it is there.
    pub fn take(&mut self) -> Option<(T, Answer)> {
        self.places.front()?.answer.as_ref()?;
        let Place { tag, answer, .. } = self.places.pop_front()?;
        Some((tag, answer?))
    }

    /// True if [`Pipe::take`] gives something.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.places.front().is_some_and(|place| place.answer.is_some())
    }

    /// Requests without an answer.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// What waits for its turn, first the oldest.
    pub fn tags(&self) -> impl Iterator<Item = &T> {
        self.places.iter().map(|place| &place.tag)
    }

    /// Sends what is held back. While more input is at hand, this waits until the daemon is about to run out of work: so
    /// many requests leave with one write.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn flush(&mut self, more_at_hand: bool) -> Result<(), ClientError> {
        let on_the_way = self.unanswered - self.unsent.min(self.unanswered);
        if self.unsent == 0 || (more_at_hand && on_the_way > WINDOW / 2) {
            return Ok(());
        }
        self.unsent = 0;
        self.pipeline.flush()
    }
}

fn receive(mut answers: Answers, events: &Sender<Event>) {
    loop {
        let event = match answers.next() {
            Ok(Some((id, answer))) => Event::Answer(id, answer),
            Ok(None) => return,
            Err(e) => Event::Lost(e),
        };
        let last = matches!(event, Event::Lost(_));
        if events.send(event).is_err() || last {
            return;
        }
    }
}
