//! Points in time and lengths of it, as a person types them.

use std::time::Duration;

/// A waiting time: `30` and `30s` are seconds, `5m` minutes, `2h` hours, `500ms` milliseconds, `1d` days.
///
/// # Errors
/// Not a number, an unknown unit, more than fits.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time; write seconds (30) or a unit (500ms, 30s, 5m, 2h, 1d)");
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit_ms = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" | "min" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        "d" => 24 * 60 * 60 * 1000,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(wrong)
}

/// A point in time, or a time before now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// Microseconds since 1970.
    At(u64),
    /// So long before now.
    Ago(Duration),
}

impl Since {
    /// Microseconds since 1970, given what time it is.
    #[must_use]
    pub fn micros(self, now: jiff::Timestamp) -> u64 {
        self.micros_before(u64::try_from(now.as_microsecond()).unwrap_or(0))
    }

    /// The same, where `now` is in microseconds since 1970, too.
    #[must_use]
    pub fn micros_before(self, now: u64) -> u64 {
        match self {
            Since::At(micros) => micros,
            Since::Ago(ago) => now.saturating_sub(u64::try_from(ago.as_micros()).unwrap_or(u64::MAX)),
        }
    }

    /// As text that names it to the microsecond.
    #[must_use]
    pub fn rfc3339(self, now: jiff::Timestamp) -> String {
        let time =
            i64::try_from(self.micros(now)).ok().and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok());
        // Later than any calendar: the newest that there is.
        time.unwrap_or(jiff::Timestamp::MAX).to_string()
    }
}

/// RFC 3339 (`2026-11-22T10:00:00Z`) or a time before now (`2h`).
///
/// # Errors
/// Neither of them, or before 1970.
pub fn parse_since(text: &str) -> Result<Since, String> {
    if let Ok(ago) = parse_duration(text) {
        return Ok(Since::Ago(ago));
    }
    let time: jiff::Timestamp = text
        .parse()
        .map_err(|_| format!("{text:?} is not a time; write RFC 3339 (2026-11-22T10:00:00Z) or a time ago (2h)"))?;
    let offset = text.rsplit_once(['+', '-']).filter(|_| text.contains(':') && !text.ends_with(['Z', 'z']));
    if let Some((_, offset)) = offset
        && offset.get(..2).and_then(|hours| hours.parse::<u8>().ok()).is_some_and(|hours| hours > 23)
    {
        return Err(format!("{text:?} has no offset that there is: hours go up to 23"));
    }
    u64::try_from(time.as_microsecond()).map(Since::At).map_err(|_| format!("{text:?} lies before 1970"))
}
