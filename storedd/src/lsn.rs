//! Numbers that must not be mixed up: LSN, epoch, segment number, store id.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Log sequence number: the number of a record, from 1, plus one each time, never reused (I3). 0 is "before the first".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Before the first record.
    pub const ZERO: Lsn = Lsn(0);

    /// The LSN after this one.
    #[must_use]
    pub fn next(self) -> Lsn {
        Lsn(self.0 + 1)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One unforked stretch of history; 0 from the first start, plus one at each fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identity of a store: 16 random bytes made at the first start, shown as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StoreId(pub [u8; 16]);

impl StoreId {
    /// Reads what [`fmt::Display`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<StoreId> {
        let is_hex = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|_| is_hex)?;
        Some(StoreId(number.to_be_bytes()))
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A moment: microseconds since 1970-01-01 00:00 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Micros(pub u64);

/// Clocks are corrected by so much without anybody noticing.
const CORRECTED: Duration = Duration::from_secs(60);

impl Micros {
    /// Time since `then`; `None` if that lies more than a minute ahead of this moment: the clock was ahead when it was noted, or is behind
    /// now, and nobody knows how long ago it was. What is done again and again is due then, and nothing is old.
    #[must_use]
    pub fn since(self, then: Micros) -> Option<Duration> {
        (!then.is_ahead_of(self)).then(|| Duration::from_micros(self.0.saturating_sub(then.0)))
    }

    /// True of a moment that the clock which shows `now` cannot have noted.
    #[must_use]
    pub fn is_ahead_of(self, now: Micros) -> bool {
        u128::from(self.0.saturating_sub(now.0)) > CORRECTED.as_micros()
    }
}
