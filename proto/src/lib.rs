//! The wire protocol of storedd, and a client for it.
//!
//! # The connection
//! A Unix stream socket; no TLS, no passwords: the daemon asks the kernel who the other end is, and serves root and the
//! user it runs as. Both ends send frames ([`frame`]) with one bincode value each ([`codec`]):
//!
//! ```text
//! client                                    daemon
//!   request 1  Hello { version, client } -->
//!              <--  reply 1  Hello { version, server, state }
//!   request 2  Change { .. }             -->
//!   request 3  MailboxList { .. }        -->          more may be asked before the answers come
//!              <--  part 3   Mailboxes([..1000])      a long answer comes in parts
//!              <--  reply 2  Changed { lsn, .. }      answers come in any order; a change's when it is on disk
//!              <--  reply 3  Mailboxes([..])          the last frame of an answer is a reply or an error
//! ```
//!
//! * The changes of one connection are done in the order they were sent. A query sees every change that was answered
//!   before it was sent.
//! * A request that cannot be done is answered with a [`Failure`]; the connection goes on. Bytes that are no frame, or a
//!   missing greeting, are answered with one error under id 0, and the connection is closed.
//! * The daemon stops reading while 256 requests of a connection are unanswered, closes it after 15 minutes without any
//!   work, and when its answers are not read for 30 seconds (defaults).
//! * A client may close its sending side at once; it still gets the answers to what it sent.
//!
//! # Versions
//! 1: this. Both ends must have the same [`frame::VERSION`]. Within a version, requests and replies may be added at the end of
//! their lists: a daemon that does not know one answers with an error of code `protocol`. Everything else is a new version.
//!
//! # Clients
//! In Rust: [`Client`]. See `examples/status.rs`.

mod backup_read;
mod backups;
mod check;
pub mod client;
pub mod codec;
mod command;
mod failure;
pub mod frame;
mod jobs;
mod json;
mod locks;
mod messages;
pub mod naming;
mod numbers;
mod objects;
mod reconstruct;
mod reply;
#[cfg(test)]
mod reply_golden;
mod report;
mod request;
#[cfg(test)]
mod request_golden;
mod snapshots;
mod state;
pub mod utf7;

pub use backup_read::*;
pub use backups::*;
pub use check::*;
pub use client::{Answer, Answers, Client, ClientError, Pipeline, Timeouts};
pub use command::*;
pub use failure::*;
pub use jobs::*;
pub use locks::*;
pub use messages::*;
pub use objects::*;
pub use reconstruct::*;
pub use reply::*;
pub use report::*;
pub use request::*;
pub use snapshots::*;
pub use state::*;
