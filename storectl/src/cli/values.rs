//! Values of options: sizes, waiting times, points in time, renamings of partitions.

use proto::Limit;
use verbs::parse_since;

/// What stands for the absence of a limit.
const NO_LIMIT: &str = "none";

/// A number of bytes: `1073741824`, `2GiB`, `500MB`, `1.5 GiB`; `K`, `M`, `G`, `T` alone are powers of 1024.
///
/// # Errors
/// Not a number, an unknown unit, more than fits 64 bits.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit_bytes(unit.trim()).ok_or_else(|| wrong_size(text))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.len() > 9 || (number.contains('.') && (fraction.is_empty() || unit == 1)) {
        return Err(wrong_size(text));
    }
    let whole: u128 = whole.parse().map_err(|_| wrong_size(text))?;
    let part: u128 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| wrong_size(text))? };
    let scale = 10u128.pow(u32::try_from(fraction.len()).map_err(|_| wrong_size(text))?);
    let bytes = whole.checked_mul(unit).and_then(|bytes| bytes.checked_add(part * unit / scale));
    bytes.and_then(|bytes| u64::try_from(bytes).ok()).ok_or_else(|| format!("{text} is more than 16 EiB"))
}

/// A limit of bytes: a size, or `none`.
///
/// # Errors
/// As [`parse_size`].
pub fn parse_storage_limit(text: &str) -> Result<Limit, String> {
    if text == NO_LIMIT { Ok(Limit::None) } else { parse_size(text).map(Limit::At) }
}

/// A limit of messages: a whole number, or `none`.
///
/// # Errors
/// Neither of them, or more than fits 64 bits.
pub fn parse_messages_limit(text: &str) -> Result<Limit, String> {
    let wrong = || format!("{text:?} is not a number of messages; write a whole number, or {NO_LIMIT}");
    if text == NO_LIMIT { Ok(Limit::None) } else { text.parse().map(Limit::At).map_err(|_| wrong()) }
}

fn unit_bytes(unit: &str) -> Option<u128> {
    const DECIMAL: u128 = 1000;
    const BINARY: u128 = 1024;
    Some(match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => DECIMAL,
        "mb" => DECIMAL.pow(2),
        "gb" => DECIMAL.pow(3),
        "tb" => DECIMAL.pow(4),
        "k" | "kib" => BINARY,
        "m" | "mib" => BINARY.pow(2),
        "g" | "gib" => BINARY.pow(3),
        "t" | "tib" => BINARY.pow(4),
        _ => return None,
    })
}

fn wrong_size(text: &str) -> String {
    format!("{text:?} is not a size; write bytes (1048576) or a unit (500MB, 2GiB)")
}

/// The moment from which on a backup takes messages: `YYYYMMDD[:HHMMSS]` in local time, else as [`parse_since`].
///
/// # Errors
/// None of them.
pub fn parse_backup_since(text: &str) -> Result<jiff::Timestamp, String> {
    let civil = if text.contains(':') { "%Y%m%d:%H%M%S" } else { "%Y%m%d" };
    if text.len() >= 8 && text.bytes().all(|b| b.is_ascii_digit() || b == b':') {
        let wrong = |e: jiff::Error| format!("{text:?} is not YYYYMMDD[:HHMMSS]: {e}");
        let parsed = jiff::fmt::strtime::parse(civil, text).map_err(wrong)?;
        let date = parsed.to_date().map_err(wrong)?;
        let time = if text.contains(':') { parsed.to_time().map_err(wrong)? } else { jiff::civil::Time::midnight() };
        let zone = local_zone().map_err(|e| {
            format!("{text:?} is local time, and TZ is no time zone: {e}; write RFC 3339 (2026-11-22T10:00:00Z)")
        })?;
        let zoned = date.to_datetime(time).to_zoned(zone).map_err(wrong)?;
        return Ok(zoned.timestamp());
    }
    let micros = parse_since(text)?.micros(jiff::Timestamp::now());
    i64::try_from(micros)
        .ok()
        .and_then(|m| jiff::Timestamp::from_microsecond(m).ok())
        .ok_or_else(|| format!("{text:?} is no time"))
}

/// The time zone of this machine; UTC where nothing says one. One that is named and not known is no UTC.
fn local_zone() -> Result<jiff::tz::TimeZone, jiff::Error> {
    let is_named = std::env::var_os("TZ").is_some_and(|name| !name.is_empty());
    if is_named { jiff::tz::TimeZone::try_system() } else { Ok(jiff::tz::TimeZone::system()) }
}

/// `OLD=NEW` of `--map-partition`.
///
/// # Errors
/// No `=`, or nothing on one side of it.
pub fn parse_renaming(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((old, new)) if !old.is_empty() && !new.is_empty() => Ok((old.to_owned(), new.to_owned())),
        _ => Err(format!("{text:?} is not OLD=NEW")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let good = [
            ("0", 0),
            ("1048576", 1 << 20),
            ("2GiB", 2 << 30),
            ("500MB", 500_000_000),
            ("1.5 GiB", 3 << 29),
            ("10k", 10_240),
            ("10kb", 10_000),
            ("7B", 7),
            ("18446744073709551615", u64::MAX),
        ];
        for (text, bytes) in good {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in
            ["", "GiB", "-1", "1.5", "1.", ".5G", "2 XB", "1e9", "18446744073709551616", "99999999999TiB", "1 2"]
        {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    // row 117
    #[test]
    fn limits() {
        assert_eq!(parse_storage_limit("none"), Ok(Limit::None));
        assert_eq!(parse_storage_limit("2GiB"), Ok(Limit::At(2 << 30)));
        assert_eq!(parse_storage_limit("0"), Ok(Limit::At(0)));
        assert_eq!(parse_messages_limit("none"), Ok(Limit::None));
        assert_eq!(parse_messages_limit("18446744073709551615"), Ok(Limit::At(u64::MAX)));
        for text in ["", "-1", "1k", "1.5", "None", " 1", "18446744073709551616"] {
            assert!(parse_messages_limit(text).is_err(), "{text}");
        }
        for text in ["", "-1", "None", "20000000TiB"] {
            assert!(parse_storage_limit(text).is_err(), "{text}");
        }
    }

    #[test]
    fn renamings() {
        assert_eq!(parse_renaming("a=b"), Ok(("a".to_owned(), "b".to_owned())));
        for text in ["a", "=b", "a=", ""] {
            assert!(parse_renaming(text).is_err(), "{text}");
        }
    }
}
