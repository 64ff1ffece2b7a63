//! The door for mail: LMTP (RFC 2033), on a Unix socket and on a loopback port.
//!
//! # Purpose
//! Takes messages from a mail transfer agent and gives each to the mailboxes of its recipients. What it knows of the store is the
//! trait [`Delivery`].
//!
//! # Operation
//! [`Door`] accepts. A connection is one task (`session`), which moves bytes between its socket and a [`machine::Machine`],
//! the protocol, and does what that asks: look recipients up, keep the message, have it stored. A message stays in memory up
//! to the store's inline limit; a longer one goes to a file of the store as it comes. However many recipients a
//! message has, it is given to the store once.
//!
//! PIPELINING, 8BITMIME, SMTPUTF8, CHUNKING, SIZE and ENHANCEDSTATUSCODES are there; DSN, TLS and AUTH are not: the other end
//! is on this host.
//!
//! # Invariants
//! * 250 for a recipient leaves when the message is on disk for him, and not before (I2).
//! * Whatever keeps a message from being stored at present is answered with 4xx, so that the sender keeps it.
//! * The message is stored as it came, one line before it excepted: `Return-Path:` with the sender (RFC 5321 4.4).
//! * What one session holds is bounded: a line, a read, the inline limit; and in time, in each phase.

pub mod address;
mod counters;
mod data;
mod delivery;
mod door;
mod intake;
mod line;
pub mod machine;
pub mod reply;
mod session;

pub use counters::Counters;
pub use delivery::{Delivery, Done, Message, Staging, Stored};
pub use door::{Closer, Door, Limits, Sockets};
