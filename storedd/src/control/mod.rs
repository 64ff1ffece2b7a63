//! The control door: requests of `storectl` and of other programs, over a Unix socket. The only user of `proto`.
//!
//! # Purpose
//! Lets in who may come in, bounds what each client and all together can cost, and passes requests to a [`Service`]; it
//! knows nothing of the store beyond that trait. `proto` has the wire's page.
//!
//! # Operation
//! [`Listener`] puts the socket in its place; [`Door`] accepts, asks the kernel who the other end is, and waits for the
//! greeting in a lobby that is small and short-lived, so that connections that say nothing never keep anybody out. A
//! greeted connection is one task (`session`): requests go to one of five lanes ([`dispatch`]), answers come back through
//! an outbox and leave together.
//!
//! | lane | where | which |
//! |---|---|---|
//! | own | the door | greeting, `health`, ping |
//! | quick | the connection's task | what reads a row or two, or nothing |
//! | slow | a thread that may block; one of a connection at a time, a few in all | lists, dumps, checks, checkpoint, dry runs |
//! | hold | wherever it is granted | leases and freezes, which may have to wait for others |
//! | change | submitted by the task in order, answered from wherever the commit ends | changes |
//!
//! # Invariants
//! * Every request is answered exactly once, also if the store drops it; every change asked for leaves an audit line.
//! * Changes of one connection are submitted in the order in which they came.
//! * What one connection holds is bounded ([`Limits`]): when it does not read, it is not read from; when it does nothing at
//!   all, it is closed; its slowness costs nobody else more than one place in the slow lane, for the write timeout at most.
//! * Who is served, and with what, says the table in [`access`]; nobody else is let in.

pub mod access;
mod audit;
pub mod convert;
pub mod dispatch;
mod door;
mod limits;
mod listen;
mod outbox;
mod service;
mod session;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests measure time and lay out files")]
mod tests;
mod work;

pub use door::Door;
pub use limits::{Counters, Limits};
pub use listen::Listener;
pub use service::{
    Answered, Committed, Completion, Events, Listing, OnPassage, PART_BYTES, PART_ROWS, Parts, Passage, Peer, Service,
    State, Stop,
};
