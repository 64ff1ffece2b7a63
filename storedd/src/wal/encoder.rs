//! Turns payloads into the bytes of the log. Pure: no I/O, no clock, no lock; called under the planner's lock.

use super::payload::Fork;
use super::record::{self, Kind, NewRecord, PAYLOAD_BYTES_MAX, RECORD_HEADER_BYTES, Seed};
use super::segment::{Header, SEGMENT_HEADER_BYTES};
use crate::error::{Result, StoreError, exit};
use crate::lsn::{Epoch, Lsn, Micros, StoreId};
use crate::model::LogPlace;

/// Whose log, and which stretch of its history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The store.
    pub store_id: StoreId,
    /// The epoch.
    pub epoch: Epoch,
    /// Format version of the segments that are made.
    pub version: u32,
}

/// Bytes for one segment, without a gap. The first piece of a segment begins at offset 0, with the header page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Segment number.
    pub segment: u64,
    /// Where the bytes belong.
    pub offset: u64,
    /// Whole records.
    pub bytes: Vec<u8>,
    /// LSN of the last record in it.
    pub last_lsn: Lsn,
}

/// The place behind the last record, and what the next one must be chained to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// Segment that holds it; 0 if there is none.
    pub segment: u64,
    /// Offset behind it.
    pub offset: u64,
    pub lsn: Lsn,
    pub checksum: u32,
    pub time: Micros,
}

/// Knows where the next record goes and what it is chained to.
#[derive(Debug)]
pub struct Encoder {
    identity: Identity,
    seed: Seed,
    at: Position,
    next_lsn: Lsn,
    /// Size of the segment that is being filled, and of those to come.
    size: u64,
    next_size: u64,
    /// What the next segment's header names as the segment before. Differs from the one being filled where a fork
    /// leaves segments out.
    next_segment: u64,
}

/// Longest payload that a log with segments of this size takes.
#[must_use]
pub fn payload_bytes_max(segment_bytes: u64) -> usize {
    usize::try_from(segment_bytes / 2).unwrap_or(usize::MAX).min(PAYLOAD_BYTES_MAX)
}

impl Encoder {
    /// Goes on behind `at` in a segment of `size` bytes.
    pub(super) fn append(identity: Identity, at: Position, size: u64, next_size: u64) -> Encoder {
        let seed = Seed::new(identity.store_id, identity.epoch, at.segment);
        Encoder { identity, seed, at, next_lsn: at.lsn.next(), size, next_size, next_segment: at.segment + 1 }
    }

    /// Goes on behind `at`, in the new segment `segment`, which the first record makes.
    pub(super) fn roll_first(identity: Identity, at: Position, segment: u64, next_size: u64) -> Encoder {
        Encoder { next_segment: segment, ..Encoder::append(identity, at, 0, next_size) }
    }

    /// LSN that the next record gets.
    #[must_use]
    pub fn next_lsn(&self) -> Lsn {
        self.next_lsn
    }

    /// Where the bodies stand of the record that was pushed last, whose payload this is.
    ///
    /// # Errors
    /// [`StoreError::Bug`] if it is no payload with bodies.
    pub fn bodies(&self, payload: &[u8]) -> Result<Vec<LogPlace>> {
        let bodied = super::payload::bodied(payload).map_err(|e| StoreError::Bug(e.to_string()))?;
        let (segment, start) = (self.at.segment, self.at.offset - payload.len() as u64);
        Ok(bodied.bodies.iter().map(|body| LogPlace { segment, offset: start + body.at as u64 }).collect())
    }

    /// Where the next record goes and what it is chained to.
    pub(super) fn position(&self) -> Position {
        self.at
    }

    /// Store and epoch.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Number of the segment that holds the last record.
    #[must_use]
    pub fn segment(&self) -> u64 {
        self.at.segment
    }

    /// Time of the last record.
    #[must_use]
    pub fn last_time(&self) -> Micros {
        self.at.time
    }

    /// Longest payload that [`Encoder::push`] takes.
    #[must_use]
    pub fn payload_bytes_max(&self) -> usize {
        payload_bytes_max(self.next_size)
    }

    /// True if a payload of this length begins a new segment: then `Spares::reserve` must have succeeded before it is
    /// pushed, so that the log never meets a full disk half-way.
    #[must_use]
    pub fn would_roll(&self, payload: usize) -> bool {
        self.at.offset + (RECORD_HEADER_BYTES + payload) as u64 > self.size
    }

    /// Appends one record to the last piece of `out`, or to a new one where that does not fit. Allocates only what the
    /// pieces grow by. `durable`: highest LSN known synced. Times never go back: an older `now` is taken as the last
    /// record's time.
    ///
    /// # Errors
    /// If the payload is longer than [`Encoder::payload_bytes_max`]; nothing is changed then.
    pub fn push(&mut self, kind: Kind, payload: &[u8], now: Micros, durable: Lsn, out: &mut Vec<Piece>) -> Result<Lsn> {
        if payload.len() > self.payload_bytes_max() {
            return Err(self.too_long(payload.len()));
        }
        if self.would_roll(payload.len()) {
            out.push(self.roll(now));
        }
        let adjoining = out
            .last()
            .is_some_and(|p| p.segment == self.at.segment && p.offset + p.bytes.len() as u64 == self.at.offset);
        if !adjoining {
            let (segment, offset) = (self.at.segment, self.at.offset);
            out.push(Piece { segment, offset, bytes: Vec::new(), last_lsn: self.next_lsn });
        }
        let Some(piece) = out.last_mut() else { return Err(StoreError::Bug("a piece just pushed is gone".into())) };
        Ok(self.put(kind, payload, now, durable, piece))
    }

    fn put(&mut self, kind: Kind, payload: &[u8], now: Micros, durable: Lsn, piece: &mut Piece) -> Lsn {
        let lsn = self.next_lsn;
        self.at.time = self.at.time.max(now);
        // A record never vouches for itself, whatever the caller says.
        let durable = durable.min(Lsn(lsn.0.saturating_sub(1)));
        let (time, previous) = (self.at.time, self.at.checksum);
        let new = NewRecord { kind, lsn, durable, time, previous, payload };
        self.at.checksum = record::put(self.seed, self.at.offset, &new, &mut piece.bytes);
        self.at.offset += (RECORD_HEADER_BYTES + payload.len()) as u64;
        self.at.lsn = lsn;
        self.next_lsn = lsn.next();
        piece.last_lsn = lsn;
        lsn
    }

    /// Begins the next segment: gives its first piece, with the header page only.
    fn roll(&mut self, now: Micros) -> Piece {
        let header = Header {
            version: self.identity.version,
            store_id: self.identity.store_id,
            epoch: self.identity.epoch,
            number: self.next_segment,
            previous: self.at.segment,
            first_lsn: self.next_lsn,
            previous_lsn: self.at.lsn,
            previous_checksum: self.at.checksum,
            segment_bytes: self.next_size,
            created: self.at.time.max(now),
        };
        let mut bytes = Vec::new();
        header.put(&mut bytes);
        self.at.segment = header.number;
        self.at.offset = SEGMENT_HEADER_BYTES;
        self.size = self.next_size;
        self.next_segment = header.number + 1;
        self.seed = Seed::new(self.identity.store_id, self.identity.epoch, header.number);
        Piece { segment: header.number, offset: 0, bytes, last_lsn: self.at.lsn }
    }

    /// Begins an epoch: its first segment, with the fork record, as one piece. `self` goes on behind the fork's LSN
    /// reached; the caller made it with [`Encoder::roll_first`].
    pub(super) fn fork(&mut self, fork: &Fork, now: Micros) -> Result<Piece> {
        let payload = fork.encode()?;
        self.next_lsn = fork.first;
        let mut piece = self.roll(now);
        let settled = Lsn(fork.first.0 - 1);
        self.put(Kind::Fork, &payload, now, settled, &mut piece);
        Ok(piece)
    }

    /// Begins the very first segment, or one behind a segment that cannot be written, without a record.
    pub(super) fn open_segment(&mut self, now: Micros) -> Piece {
        self.roll(now)
    }

    fn too_long(&self, len: usize) -> StoreError {
        StoreError::Refused {
            message: format!(
                "the transaction has {len} bytes, one log record takes at most {}",
                self.payload_bytes_max()
            ),
            hint: "do it in smaller parts".into(),
            exit: exit::BUSY,
        }
    }
}
