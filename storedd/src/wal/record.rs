//! One record: 38 bytes of header, then the payload. The layout stands on the page of [`super`].

use crate::checksum::Crc;
use crate::lsn::{Epoch, Lsn, Micros, StoreId};
use crate::planted::{self, Bug};

/// Bytes of a record header.
pub const RECORD_HEADER_BYTES: usize = 38;
/// Longest payload of any record: what 24 bits can say.
pub const PAYLOAD_BYTES_MAX: usize = (1 << 24) - 1;

/// No LSN, epoch or segment number on disk is as large: arithmetic on them cannot overflow.
pub(super) const NUMBER_MAX: u64 = 1 << 62;

/// First two bytes of a record. Neither ASCII nor UTF-8, so that text rarely looks like a record.
const MAGIC: [u8; 2] = [0xd5, 0xf1];
/// What the header checksum covers.
const CHECKED_BYTES: usize = RECORD_HEADER_BYTES - 4;
/// Stands for "nothing is claimed to be durable".
const DELTA_UNKNOWN: u32 = u32::MAX;

/// What a record is. The number stands on disk and is never reused; a reader that meets an unknown one stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The changes of one command.
    Transaction = 1,
    /// No payload; written when the log falls idle, to state the durable LSN.
    Seal = 2,
    /// First record of a new epoch: where its history leaves the one before.
    Fork = 3,
    /// The changes of one command, and bytes of messages behind them.
    Bodied = 4,
}

impl Kind {
    /// Name as shown to people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Transaction => "transaction",
            Kind::Seal => "seal",
            Kind::Fork => "fork",
            Kind::Bodied => "transaction with bodies",
        }
    }

    /// The kind with this number.
    #[must_use]
    pub fn from_number(n: u8) -> Option<Kind> {
        [Kind::Transaction, Kind::Seal, Kind::Fork, Kind::Bodied].into_iter().find(|k| *k as u8 == n)
    }
}

/// Where every checksum of one segment starts: store, epoch and segment number. So a record of another store, of
/// another epoch or of the file's earlier life never validates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seed(u32);

impl Seed {
    pub(super) fn new(store: StoreId, epoch: Epoch, segment: u64) -> Seed {
        let crc = Crc::seeded(b"log record").add(&store.0).add(&epoch.0.to_le_bytes()).add(&segment.to_le_bytes());
        Seed(crc.value())
    }

    /// The header's checksum also starts from its own place, so that a record found anywhere else in the segment (a
    /// swapped page, a copy of the log inside a message) never validates.
    fn header(self, offset: u64) -> Crc {
        let folded = u32::try_from(offset & 0xffff_ffff).unwrap_or(0);
        Crc::resume(self.0 ^ folded)
    }

    /// The checksum of a payload; of one with bodies that of what stands before them.
    pub(super) fn payload(self, kind: u8, payload: &[u8]) -> u32 {
        let bodied = kind == Kind::Bodied as u8;
        let checked = if bodied { super::payload::before_bodies(payload) } else { payload };
        Crc::resume(self.0).add(checked).value()
    }
}

/// A record header as it is known after its checksum was found right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    /// Number of the kind; may be unknown here.
    pub kind: u8,
    /// Payload bytes.
    pub len: usize,
    pub lsn: Lsn,
    /// Highest LSN known synced when this record was encoded; zero if nothing is claimed.
    pub durable: Lsn,
    pub time: Micros,
    /// Checksum of the record before.
    pub previous: u32,
    pub payload_crc: u32,
    /// This record's checksum: what the next one carries as `previous`.
    pub checksum: u32,
}

/// Why bytes are no record of this place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub what: &'static str,
    pub found: String,
    pub expected: String,
}

impl Fault {
    pub(super) fn new(what: &'static str, found: impl ToString, expected: impl ToString) -> Fault {
        Fault { what, found: found.to_string(), expected: expected.to_string() }
    }
}

/// Everything of a header that the encoder chooses.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewRecord<'a> {
    pub kind: Kind,
    pub lsn: Lsn,
    pub durable: Lsn,
    pub time: Micros,
    pub previous: u32,
    pub payload: &'a [u8],
}

/// Appends a record that will stand at `offset` of its segment; gives its checksum. The payload is at most
/// [`PAYLOAD_BYTES_MAX`] bytes: the encoder has seen to that.
pub(super) fn put(seed: Seed, offset: u64, record: &NewRecord<'_>, out: &mut Vec<u8>) -> u32 {
    debug_assert!(record.payload.len() <= PAYLOAD_BYTES_MAX && record.durable < record.lsn);
    let mut header = [0u8; RECORD_HEADER_BYTES];
    header[0..2].copy_from_slice(&MAGIC);
    header[2] = record.kind as u8;
    header[3..6].copy_from_slice(&record.payload.len().to_le_bytes()[..3]);
    header[6..14].copy_from_slice(&record.lsn.0.to_le_bytes());
    header[14..18].copy_from_slice(&delta(record.lsn, record.durable).to_le_bytes());
    header[18..26].copy_from_slice(&record.time.0.to_le_bytes());
    header[26..30].copy_from_slice(&record.previous.to_le_bytes());
    header[30..34].copy_from_slice(&seed.payload(record.kind as u8, record.payload).to_le_bytes());
    let checksum = seed.header(offset).add(&header[..CHECKED_BYTES]).value();
    header[CHECKED_BYTES..].copy_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(record.payload);
    checksum
}

/// How far the durable LSN lies behind. What does not fit claims nothing: less than the truth is safe, more is not.
fn delta(lsn: Lsn, durable: Lsn) -> u32 {
    match durable {
        Lsn::ZERO => DELTA_UNKNOWN,
        _ => u32::try_from(lsn.0.saturating_sub(durable.0)).unwrap_or(DELTA_UNKNOWN),
    }
}

/// True where a record may begin; a cheap test before [`parse`].
pub(super) fn looks_like(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// The magic's first byte, to search for.
pub(super) const MAGIC_FIRST: u8 = MAGIC[0];

/// Reads the header that stands at `offset`. Only after its own checksum was found right is a length believed.
pub(super) fn parse(seed: Seed, offset: u64, bytes: &[u8; RECORD_HEADER_BYTES]) -> Result<RecordHeader, Fault> {
    if !looks_like(bytes) {
        let found = format!("{:02x}{:02x}", bytes[0], bytes[1]);
        return Err(Fault::new("record magic", found, format_args!("{:02x}{:02x}", MAGIC[0], MAGIC[1])));
    }
    let checksum = u32_at(bytes, CHECKED_BYTES);
    let expected = seed.header(offset).add(&bytes[..CHECKED_BYTES]).value();
    if checksum != expected && !planted::on(Bug::RecordHeaderChecksumIgnored) {
        let (found, expected) = (format!("{checksum:08x}"), format!("{expected:08x}"));
        return Err(Fault::new("record header checksum", found, expected));
    }
    let lsn = Lsn(u64_at(bytes, 6));
    if lsn == Lsn::ZERO || lsn.0 >= NUMBER_MAX {
        return Err(Fault::new("LSN", lsn, format_args!("1 to {}", NUMBER_MAX - 1)));
    }
    let durable = match u32_at(bytes, 14) {
        DELTA_UNKNOWN => Lsn::ZERO,
        delta => Lsn(lsn.0.saturating_sub(u64::from(delta))),
    };
    Ok(RecordHeader {
        kind: bytes[2],
        len: usize::from(bytes[3]) | usize::from(bytes[4]) << 8 | usize::from(bytes[5]) << 16,
        lsn,
        durable,
        time: Micros(u64_at(bytes, 18)),
        previous: u32_at(bytes, 26),
        payload_crc: u32_at(bytes, 30),
        checksum,
    })
}

/// Four little-endian bytes; the callers' arrays are long enough by their type.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].try_into().map_or(0, u32::from_le_bytes)
}

/// Eight little-endian bytes.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes)
}

/// An empty record of any kind, for tests of kinds that this program does not know.
#[cfg(test)]
pub(super) fn put_kind(seed: Seed, offset: u64, kind: u8, lsn: Lsn, previous: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let time = Micros(u64::MAX);
    let record = NewRecord { kind: Kind::Seal, lsn: Lsn(1), durable: Lsn::ZERO, time, previous, payload: &[] };
    put(seed, offset, &record, &mut bytes);
    bytes[2] = kind;
    bytes[6..14].copy_from_slice(&lsn.0.to_le_bytes());
    let checksum = seed.header(offset).add(&bytes[..CHECKED_BYTES]).value();
    bytes[CHECKED_BYTES..RECORD_HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = StoreId([7; 16]);

    fn sample(payload: &[u8]) -> Vec<u8> {
        let record = NewRecord {
            kind: Kind::Transaction,
            lsn: Lsn(0x0102),
            durable: Lsn(0x0100),
            time: Micros(0x0005_0403_0201_0000),
            previous: 0xaabb_ccdd,
            payload,
        };
        let mut out = Vec::new();
        put(Seed::new(STORE, Epoch(1), 42), 4096, &record, &mut out);
        out
    }

    fn header_of(bytes: &[u8]) -> &[u8; RECORD_HEADER_BYTES] {
        bytes[..RECORD_HEADER_BYTES].try_into().unwrap()
    }

    #[test]
    fn golden_bytes() {
        let hex: String = sample(b"hello").iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, GOLDEN);
    }

    // Computed by another implementation (zlib) from the page of the format.
    const GOLDEN: &str = "d5f1010500000201000000000000020000000000010203040500ddccbbaa74a93bc8d2dfd1ad68656c6c6f";

    #[test]
    fn a_header_comes_back_and_only_at_its_place() {
        let bytes = sample(b"hello");
        let seed = Seed::new(STORE, Epoch(1), 42);
        let header = parse(seed, 4096, header_of(&bytes)).unwrap();
        assert_eq!((header.lsn, header.durable, header.len), (Lsn(0x0102), Lsn(0x0100), 5));
        assert_eq!(header.payload_crc, seed.payload(1, b"hello"));
        for (seed, offset) in [
            (seed, 4097),
            (Seed::new(STORE, Epoch(2), 42), 4096),
            (Seed::new(STORE, Epoch(1), 43), 4096),
            (Seed::new(StoreId([8; 16]), Epoch(1), 42), 4096),
        ] {
            assert_eq!(parse(seed, offset, header_of(&bytes)).unwrap_err().what, "record header checksum");
        }
    }

    #[test]
    fn zeros_are_no_record() {
        let seed = Seed::new(STORE, Epoch(0), 1);
        assert_eq!(parse(seed, 4096, &[0; RECORD_HEADER_BYTES]).unwrap_err().what, "record magic");
    }

    #[test]
    fn what_does_not_fit_claims_nothing() {
        assert_eq!(delta(Lsn(10), Lsn(7)), 3);
        assert_eq!(delta(Lsn(u64::MAX), Lsn(1)), DELTA_UNKNOWN);
        assert_eq!(delta(Lsn(10), Lsn::ZERO), DELTA_UNKNOWN);
    }
}
