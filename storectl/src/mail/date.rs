//! Dates of `From ` lines: `Thu Nov 22 22:47:03 2026`, as asctime(3) writes them, in UTC (RFC 4155).

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The date as it is written; to the second.
#[must_use]
pub fn put(date: Timestamp) -> String {
    let at = Offset::UTC.to_datetime(date);
    let day = DAYS[(at.weekday().to_monday_zero_offset()).clamp(0, 6) as usize];
    let month = MONTHS[(at.month() - 1).clamp(0, 11) as usize];
    format!("{day} {month} {:2} {:02}:{:02}:{:02} {:04}", at.day(), at.hour(), at.minute(), at.second(), at.year())
}

/// The sender and the date of what stands behind `From `. A zone may stand before the year as a name, which is passed over,
/// or behind it in digits; seconds may be missing. `None` if there is no date.
#[must_use]
pub fn read(text: &str) -> Option<(String, Timestamp)> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let at = (0..words.len().saturating_sub(4)).rev().find(|at| {
        let is = |list: &[&str], word: &str| list.contains(&word);
        is(&DAYS, words[*at]) && is(&MONTHS, words[at + 1])
    })?;
    let [_, month, day, time, rest @ ..] = &words[at..] else { return None };
    let month = MONTHS.iter().position(|name| name == month)? as i8 + 1;
    let year_at = rest.iter().position(|word| word.len() == 4 && word.bytes().all(|b| b.is_ascii_digit()))?;
    if year_at > 1 {
        return None;
    }
    let mut clock = time.split(':').map(|part| part.parse::<i8>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next().unwrap_or(Some(0))?);
    let at_time = DateTime::new(rest[year_at].parse().ok()?, month, day.parse().ok()?, hour, minute, second.min(59), 0);
    let offset = rest.get(year_at + 1).and_then(|word| zone(word)).unwrap_or(Offset::UTC);
    Some((words[..at].join(" "), offset.to_timestamp(at_time.ok()?).ok()?))
}

/// A zone in digits: `+0100`.
fn zone(word: &str) -> Option<Offset> {
    let (sign, digits) = (word.get(..1)?, word.get(1..)?);
    if digits.len() != 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds = digits[..2].parse::<i32>().ok()? * 3600 + digits[2..].parse::<i32>().ok()? * 60;
    match sign {
        "+" => Offset::from_seconds(seconds).ok(),
        "-" => Offset::from_seconds(-seconds).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_many_programs() {
        for (text, sender, date) in [
            ("joe@x.org Sun Nov 22 22:47:03 2026", "joe@x.org", "2026-11-22T22:47:03Z"),
            ("MAILER-DAEMON Thu Jan  1 00:00:00 1970", "MAILER-DAEMON", "1970-01-01T00:00:00Z"),
            ("joe Sun Nov 22 22:47:03 2026 +0100", "joe", "2026-11-22T21:47:03Z"),
            ("joe Sun Nov 22 22:47:03 CET 2026", "joe", "2026-11-22T22:47:03Z"),
            ("joe Sun Nov 22 22:47 2026", "joe", "2026-11-22T22:47:00Z"),
            ("joe smith  Sun Nov 22 22:47:60 2026 remote from x", "joe smith", "2026-11-22T22:47:59Z"),
            (" Sun Nov 22 22:47:03 2026", "", "2026-11-22T22:47:03Z"),
        ] {
            assert_eq!(read(text), Some((sender.to_owned(), date.parse().unwrap())), "{text}");
        }
        for text in [
            "now on",
            "",
            "joe",
            "Sun Nov",
            "joe Sun Nov 32 00:00:00 2026",
            "joe Sun Nov 22 25:00:00 2026",
            "joe Sun Nov 22 2026",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for date in ["1970-01-01T00:00:00Z", "2026-11-22T22:47:03Z", "2024-02-29T23:59:59Z", "1999-12-31T00:00:01Z"] {
            let date: Timestamp = date.parse().unwrap();
            assert_eq!(read(&format!("a@b {}", put(date))), Some(("a@b".to_owned(), date)));
        }
        assert_eq!(put("2026-11-02T02:04:05Z".parse().unwrap()), "Mon Nov  2 02:04:05 2026");
    }
}
