//! A segment file: its name and its header page. The layout stands on the page of [`super`].

use super::record::{NUMBER_MAX, u32_at, u64_at};
use crate::checksum::Crc;
use crate::lsn::{Epoch, Lsn, Micros, StoreId};

/// Bytes of the header page; the first record stands behind it.
pub const SEGMENT_HEADER_BYTES: u64 = 4096;
/// Smallest segment that the format allows (the configuration asks for more: a small one rolls all the time).
pub const SEGMENT_BYTES_MIN: u64 = 16 << 10;
/// Largest segment: an offset fits 32 bits.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;

pub(super) const PAGE: usize = SEGMENT_HEADER_BYTES as usize;
const MAGIC: &[u8; 8] = b"STORELOG";
/// The format version written. 1 and 2 have the same fields; what differs is who may append: a program that knows version 1 alone
/// knows nothing of tables whose rows are not logged, one that knows 2 nothing of the table `seen`, so they must not go on with such a log.
pub const VERSION: u32 = 3;
/// The oldest format version that is read.
pub const VERSION_OLDEST: u32 = 1;
const CRC_AT: usize = PAGE - 4;

/// Name of the segment with this number: at least ten digits, so that names sort as numbers do.
#[must_use]
pub fn file_name(number: u64) -> String {
    format!("log.{number:010}")
}

/// Number of a segment file; `None` for any other name, also for one that [`file_name`] never makes.
#[must_use]
pub fn file_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix("log.")?.parse().ok()?;
    (number > 0 && number < NUMBER_MAX && file_name(number) == name).then_some(number)
}

/// What a segment says of itself on its first page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Format version of the segment.
    pub version: u32,
    /// Whose log.
    pub store_id: StoreId,
    /// Epoch of every record in it.
    pub epoch: Epoch,
    /// Its number, as in its name.
    pub number: u64,
    /// Number of the segment before in this history; 0 if there is none. It is the number minus one except where an
    /// epoch begins.
    pub previous: u64,
    /// LSN of its first record.
    pub first_lsn: Lsn,
    /// LSN of the last record before it in this history. It is the first LSN minus one except where an epoch begins.
    pub previous_lsn: Lsn,
    /// Checksum of that record; 0 where there is none or where it is not known any more.
    pub previous_checksum: u32,
    /// Length of the file in bytes.
    pub segment_bytes: u64,
    /// When it was made.
    pub created: Micros,
}

/// What is wrong with a header page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderProblem {
    /// Not the bytes that were written there.
    #[error("{what}: found {found}, expected {expected}")]
    Damaged {
        /// Which part.
        what: &'static str,
        /// What was there.
        found: String,
        /// What should have been there.
        expected: String,
    },
    /// A whole and right page, of a newer program, or of one too old.
    #[error("format version {found}; this program understands {VERSION_OLDEST} to {VERSION}")]
    Unknown {
        /// Version found.
        found: u32,
    },
    /// A whole and right page, of another store.
    #[error("store {found}; this store is {expected}")]
    Foreign {
        /// Whose it is.
        found: StoreId,
        /// Whose it should be.
        expected: StoreId,
    },
}

fn damaged(what: &'static str, found: impl ToString, expected: impl ToString) -> HeaderProblem {
    HeaderProblem::Damaged { what, found: found.to_string(), expected: expected.to_string() }
}

impl Header {
    /// Appends the header page.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&self.previous_checksum.to_le_bytes());
        out.extend_from_slice(&self.store_id.0);
        for n in [
            self.epoch.0,
            self.number,
            self.previous,
            self.first_lsn.0,
            self.previous_lsn.0,
            self.segment_bytes,
            self.created.0,
        ] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        out.resize(start + CRC_AT, 0);
        let crc = page_crc(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
    }

    /// Reads a header page of the segment `number` of `store`, in a file of `file_bytes`. Magic, version and checksum
    /// keep their places in every version, so that a newer page is told from a damaged one.
    ///
    /// # Errors
    /// What is wrong with it, the first thing only.
    pub(super) fn parse(page: &[u8], store: StoreId, number: u64) -> Result<Header, HeaderProblem> {
        let page: &[u8; PAGE] =
            page.try_into().map_err(|_| damaged("header page", format_args!("{} bytes", page.len()), PAGE))?;
        if page.iter().all(|b| *b == 0) {
            return Err(damaged("header page", "zeros", "a header"));
        }
        if page[..8] != *MAGIC {
            return Err(damaged("header magic", hex(&page[..8]), hex(MAGIC)));
        }
        let (found, expected) = (u32_at(page, CRC_AT), page_crc(&page[..CRC_AT]));
        if found != expected {
            return Err(damaged("header checksum", format_args!("{found:08x}"), format_args!("{expected:08x}")));
        }
        let version = u32_at(page, 8);
        if !(VERSION_OLDEST..=VERSION).contains(&version) {
            return Err(HeaderProblem::Unknown { found: version });
        }
        let mut store_id = StoreId([0; 16]);
        store_id.0.copy_from_slice(&page[16..32]);
        if store_id != store {
            return Err(HeaderProblem::Foreign { found: store_id, expected: store });
        }
        let header = Header {
            version,
            store_id,
            epoch: Epoch(u64_at(page, 32)),
            number: u64_at(page, 40),
            previous: u64_at(page, 48),
            first_lsn: Lsn(u64_at(page, 56)),
            previous_lsn: Lsn(u64_at(page, 64)),
            previous_checksum: u32_at(page, 12),
            segment_bytes: u64_at(page, 72),
            created: Micros(u64_at(page, 80)),
        };
        header.check(number)?;
        Ok(header)
    }

    /// What the fields must be to each other.
    pub(super) fn check(&self, number: u64) -> Result<(), HeaderProblem> {
        if self.number != number {
            return Err(damaged("segment number", self.number, number));
        }
        if let Some(large) = [self.epoch.0, self.number, self.first_lsn.0].into_iter().find(|n| *n >= NUMBER_MAX) {
            return Err(damaged("epoch, number or LSN", large, format_args!("less than {NUMBER_MAX}")));
        }
        if self.previous >= number {
            return Err(damaged("number of the segment before", self.previous, format_args!("less than {number}")));
        }
        if self.previous_lsn >= self.first_lsn {
            return Err(damaged("first LSN", self.first_lsn, format_args!("more than {}", self.previous_lsn)));
        }
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            let range = format!("{SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX}");
            return Err(damaged("segment size", self.segment_bytes, range));
        }
        Ok(())
    }
}

fn page_crc(bytes: &[u8]) -> u32 {
    Crc::seeded(b"log segment header").add(bytes).value()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Header {
        Header {
            version: VERSION,
            store_id: StoreId([7; 16]),
            epoch: Epoch(1),
            number: 42,
            previous: 41,
            first_lsn: Lsn(1000),
            previous_lsn: Lsn(999),
            previous_checksum: 0xaabb_ccdd,
            segment_bytes: 64 << 20,
            created: Micros(0x0005_0403_0201_0000),
        }
    }

    fn page(header: &Header) -> Vec<u8> {
        let mut out = Vec::new();
        header.put(&mut out);
        out
    }

    #[test]
    fn golden_bytes() {
        for (version, crc) in [(1, GOLDEN_CRC_1), (2, GOLDEN_CRC_2)] {
            let page = page(&Header { version, ..sample() });
            assert_eq!(hex(&page[..8]) + &hex(&page[12..88]), GOLDEN_FIELDS);
            assert_eq!(hex(&page[8..12]), format!("0{version}000000"));
            assert!(page[88..CRC_AT].iter().all(|b| *b == 0));
            assert_eq!(hex(&page[CRC_AT..]), crc);
        }
    }

    // Computed by another implementation (zlib) from the page of the format.
    const GOLDEN_FIELDS: &str = concat!(
        "53544f52454c4f47ddccbbaa0707070707070707070707070707070701000000000000002a00000000000000",
        "2900000000000000e803000000000000e70300000000000000000004000000000000010203040500",
    );
    const GOLDEN_CRC_1: &str = "1db5c6fb";
    const GOLDEN_CRC_2: &str = "8ee59aaf";

    #[test]
    fn a_page_comes_back_and_any_changed_byte_is_noticed() {
        let (header, store) = (sample(), StoreId([7; 16]));
        let good = page(&header);
        assert_eq!(Header::parse(&good, store, 42), Ok(header));
        for at in 0..PAGE {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(matches!(Header::parse(&bad, store, 42), Err(HeaderProblem::Damaged { .. })), "byte {at}");
        }
    }

    #[test]
    fn foreign_newer_and_misnamed_are_told_apart() {
        let (header, store) = (sample(), StoreId([7; 16]));
        let good = page(&header);
        assert!(matches!(Header::parse(&good, StoreId([8; 16]), 42), Err(HeaderProblem::Foreign { .. })));
        assert!(matches!(Header::parse(&good, store, 43), Err(HeaderProblem::Damaged { what: "segment number", .. })));
        let mut newer = good.clone();
        newer[8] = VERSION as u8 + 1;
        let crc = page_crc(&newer[..CRC_AT]).to_le_bytes();
        newer[CRC_AT..].copy_from_slice(&crc);
        assert_eq!(Header::parse(&newer, store, 42), Err(HeaderProblem::Unknown { found: VERSION + 1 }));
        assert!(Header::parse(&[], store, 42).is_err());
    }

    #[test]
    fn names() {
        assert_eq!(file_name(42), "log.0000000042");
        assert_eq!(file_number("log.0000000042"), Some(42));
        assert_eq!(file_number("log.12345678901"), Some(12_345_678_901));
        for name in ["log.42", "log.00000000042", "log.0000000000", "log.+000000042", "spare.1", "log.000000004x"] {
            assert_eq!(file_number(name), None, "{name}");
        }
    }
}
