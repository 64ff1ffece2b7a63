//! The backup archive: mailboxes and their messages in one file or pipe.
//!
//! # Purpose
//! What `storectl backup` writes and `storectl restore` reads. It is written and read in one pass; where the medium can be
//! sought in, one mailbox or one message is found without reading the rest. A damaged archive gives back everything that
//! is not damaged, and says what is.
//!
//! # Format
//! Frames, one behind the other, from byte 0; [`frame`] has their head. What stands in a frame is JSON ([`content`]),
//! in a frame of a message followed by bytes of the message. A reader needs zstd, BLAKE3 and JSON, and this page.
//!
//! | kind | name | payload |
//! |---|---|---|
//! | 1 | archive | [`content::About`]: which store, which moment, since when, which objects. The first frame |
//! | 2 | user | [`content::User`]: limits and subscriptions of the user whose mailboxes follow |
//! | 3 | mailbox | [`content::Mailbox`]: its messages follow |
//! | 4 | message | 4 bytes (little-endian): length of the JSON; [`content::Message`]; the first [`PART_BYTES`] of its bytes |
//! | 5 | more | the next [`PART_BYTES`] of the message before |
//! | 6 | reference | [`content::Reference`]: a message whose bytes stand in an earlier frame |
//! | 7 | close | [`content::Close`]: how many messages the mailbox had; what went since an earlier archive; what it comes to. A mailbox without it could not be listed |
//! | 8 | index | [`content::Index`]: where frames begin |
//! | 10 | moves | [`content::Moves`]: only in an archive that follows another, before its mailboxes: names that changed, mailboxes that are gone |
//! | 9 | end | [`content::End`]: totals. Behind it nothing but the footer, and zeros up to a whole block |
//!
//! The footer: offset of the first index frame, offset of the end frame (8 bytes each, little-endian), [`FOOTER`].
//!
//! # Invariants
//! * A frame holds bytes of at most one message; damage in one place costs what stands in the frames it touches, and the
//!   references to them.
//! * A frame of another archive, of another place or of another order is never taken: the head says the archive's id, its
//!   own number and its own offset, under a checksum.
//! * An archive without its end frame is incomplete, and is called so.
//! * Nothing in it is a path: names of mailboxes are checked by the store that they are restored into.

pub mod content;
pub mod frame;
mod read;
mod seek;
#[cfg(test)]
mod tests;
pub mod uids;
mod write;

pub use read::{Damage, Found, Item, Reader};
pub use seek::Seeker;
pub use write::{Options, Totals, Writer};

/// Bytes of a message in one frame, at most.
pub const PART_BYTES: usize = 1 << 20;
/// Longest message in bytes: what a reader has to set aside for one.
pub const MESSAGE_BYTES_MAX: u64 = 1 << 30;
/// Most entries of a list that goes on over several frames: subscriptions of a user, runs of UIDs of a mailbox. Packed they take next to no room, so
/// that a small archive could fill the memory of whoever reads it.
pub const LISTED_MAX: usize = 4_000_000;
/// Bytes of the JSON of one frame, at most.
pub const JSON_BYTES_MAX: usize = 1 << 20;
/// Bytes of a payload before it was packed, at most: what a reader has to set aside.
pub const RAW_BYTES_MAX: usize = 4 + JSON_BYTES_MAX + PART_BYTES;
/// Bytes of a payload as it is stored, at most.
pub const STORED_BYTES_MAX: usize = RAW_BYTES_MAX + (64 << 10);
/// The last bytes of an archive.
pub const FOOTER: [u8; 8] = *b"sda-end\n";
/// Bytes of the footer.
pub const FOOTER_BYTES: usize = 24;
