//! The write-ahead log.
//!
//! # Purpose
//! The log is the only promise of the store: what is synced here is kept, whatever happens; everything else can be made
//! again from it. It is a sequence of records, numbered from 1 without a gap (LSN, I3), cut into segment files of equal
//! size that exist in full length before the first record is written into them.
//!
//! Its files lie on a disk of their own (which may share a directory with the database): `log.<ten digits or more>`,
//! spare segments ([`spares`]), `quarantine/`. The control file ([`control`]) lies on the data root's disk.
//!
//! # Format
//! All numbers are little-endian. A segment is a header page of 4096 bytes, then records without a gap, then zeros.
//! The header page:
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `STORELOG` |
//! | 8 | 4 | format version, 2; 1 is read, and not appended to but by a store of schema 1 |
//! | 12 | 4 | checksum of the last record before this segment; 0 if there is none or if it is not known |
//! | 16 | 16 | store id |
//! | 32 | 8 | epoch |
//! | 40 | 8 | segment number, as in the name |
//! | 48 | 8 | number of the segment before in this history; 0 if there is none |
//! | 56 | 8 | LSN of the first record |
//! | 64 | 8 | LSN of the last record before, in this history |
//! | 72 | 8 | length of the file |
//! | 80 | 8 | time it was made, microseconds since 1970 UTC |
//! | 4092 | 4 | CRC-32 over the 4092 bytes before |
//!
//! Magic, version and CRC keep their places in every version; the rest of the page is zero. A record:
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 2 | magic `d5 f1` |
//! | 2 | 1 | kind: 1 transaction, 2 seal, 3 fork |
//! | 3 | 3 | payload length |
//! | 6 | 8 | LSN |
//! | 14 | 4 | LSN minus durable LSN; all ones: nothing is claimed |
//! | 18 | 8 | time, microseconds since 1970 UTC; never less than the record's before |
//! | 26 | 4 | checksum of the record before (the chain; it crosses segments) |
//! | 30 | 4 | CRC-32 of the payload |
//! | 34 | 4 | CRC-32 of the 34 bytes before: *the checksum of this record* |
//! | 38 | | payload ([`payload`]) |
//!
//! Both checksums start from the CRC-32 of store id, epoch and segment number, the header's also from the record's own
//! offset. So nothing validates in another store, epoch, file or place: no frame of a recycled file, no swapped page, no
//! copy of the log inside a message. A length is believed only after the header's checksum was found right. A record
//! never crosses the end of a segment; a payload is at most half a segment, and at most 16 MiB - 1.
//!
//! The **durable LSN** is the highest LSN known synced when the record was encoded. A **seal** has no payload; it is
//! written when the log falls idle and at a clean stop, and so states that everything before it was durable. It has an
//! LSN like any record. A **fork** is the first record of an epoch and names parent epoch, LSN reached, its own LSN and
//! the segment that is left; the new epoch's first segment has a number above all before, and the segments between
//! that it and the one it names do not count any more.
//!
//! # Operation
//! [`Encoder`] makes bytes under the planner's lock; [`Writer`] writes and syncs them, a group at a time, and begins
//! segments (order and reasons on its page). [`survey()`] collects evidence without writing; [`Survey::reach`] says how
//! far a database state can be brought; [`replay()`] reads that stretch; [`resume()`] goes on behind it, [`fork()`] gives
//! up what lies behind it, [`afresh()`] all of it; [`salvage()`] reads what is given up, [`cuts()`] what was
//! cut off and kept.
//!
//! **Torn or damaged.** Where a record is expected and none is valid, the place is *damaged* if anything proves that its
//! LSN was durable: a later valid record that states so, a later segment, the control file, the database, or a file that
//! is shorter than it was made. Otherwise it is *torn*, whatever lies behind it: a group that was never synced may have
//! left its second page and not its first. Only the last group before a crash, if no seal followed, is open to doubt.
//! Records behind a damage are found again by their own checksums; a database state that lies behind the damage goes on
//! from there without loss.
//!
//! # Invariants
//! * A record is acknowledged only with a [`Synced`] that covers it.
//! * A segment has its full length, its header and everything before it durable before it has its name.
//! * Nothing in front of the end of the log is ever overwritten with other bytes.
//! * A reader never panics, never loops, never follows a length, a count or a number that is not covered by a checksum.

pub mod control;
pub mod payload;
pub mod spares;

mod cuts;
mod encoder;
mod judge;
mod owner;
mod reach;
mod record;
mod replay;
mod resume;
mod scan;
mod segment;
mod segments;
mod survey;
mod writer;

#[cfg(test)]
mod tests;

pub use control::{CONTROL_FILE, Control, ControlState, Loaded};
pub use cuts::cuts;
pub use encoder::{Encoder, Identity, Piece, payload_bytes_max};
pub use owner::{Owner, owners};
pub use payload::{Changes, Fork, PayloadProblem, put_transaction};
pub use reach::{Historic, Part, Reach, Stop, accept};
pub use record::{Kind, PAYLOAD_BYTES_MAX, RECORD_HEADER_BYTES};
pub use replay::{RecordRef, ReplayStats, reach_until, records, replay, salvage};
pub use resume::{Cut, Log, QUARANTINE, Resumed, Settings, afresh, create, fork, keep_aside, resume};
pub use scan::{Run, UnknownKind};
pub use segment::{
    Header, HeaderProblem, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SEGMENT_HEADER_BYTES, VERSION, VERSION_OLDEST,
    file_name, file_number,
};
pub use segments::{SegmentInfo, Segments};
pub use spares::Spares;
pub use survey::{Damage, Depth, End, Proof, ProvedBy, SegmentEvidence, Survey, survey, survey_told};
pub use writer::{PutBack, Synced, Writer, WriterStats};
