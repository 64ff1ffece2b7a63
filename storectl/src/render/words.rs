//! Numbers and names as people read them: ages, sizes, durations, text without control characters.

use std::borrow::Cow;

/// Seconds in words, with the two largest units: `3 minutes 20 seconds`.
#[must_use]
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "unknown".to_owned();
    }
    if seconds < 0.001 {
        return format!("{:.0} us", seconds * 1e6);
    }
    if seconds < 1.0 {
        return format!("{:.0} ms", seconds * 1e3);
    }
    if seconds < 10.0 {
        return format!("{seconds:.1} seconds");
    }
    const UNITS: [(u64, &str); 4] = [(86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    // Saturates for ages no store reaches.
    let mut rest = seconds.round() as u64;
    let mut words = Vec::new();
    for (unit, name) in UNITS {
        let count = rest / unit;
        rest %= unit;
        if count > 0 {
            words.push(counted(count, name));
        } else if !words.is_empty() {
            break;
        }
        if words.len() == 2 {
            break;
        }
    }
    words.join(" ")
}

/// `5 minutes ago`, or `never`.
#[must_use]
pub fn age(seconds: Option<f64>) -> String {
    match seconds {
        None => "never".to_owned(),
        Some(seconds) if seconds < 1.0 => "just now".to_owned(),
        Some(seconds) => format!("{} ago", duration(seconds)),
    }
}

/// `1 row`, `2 rows`; the plural of `mailbox` and its like takes `es`.
#[must_use]
pub fn counted(count: u64, noun: &str) -> String {
    let ending = match count {
        1 => "",
        _ if noun.ends_with(['x', 's']) => "es",
        _ => "s",
    };
    format!("{count} {noun}{ending}")
}

/// Bytes in binary units: `64.0 MiB`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Microseconds, short: `85 us`, `1.2 ms`, `3.4 s`.
#[must_use]
pub fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.2} s", us as f64 / 1e6),
    }
}

/// Rights of a mailbox on one line: `anyone=lr, joe=lrs`.
#[must_use]
pub fn rights(acl: &std::collections::BTreeMap<String, String>) -> String {
    acl.iter().map(|(who, rights)| format!("{who}={rights}")).collect::<Vec<_>>().join(", ")
}

/// The text with control characters written out, so that it stays on one line and drives no terminal.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    escape(text, |c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'))
}

/// As [`printable`], and without the marks that reorder what stands around them on a terminal.
#[must_use]
pub fn for_terminal(text: &str) -> Cow<'_, str> {
    let reorders = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    escape(text, |c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') || reorders(c))
}

fn escape(text: &str, unwanted: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&unwanted) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if unwanted(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_at_most() {
        let cases = [
            (0.0, "0 us"),
            (0.000_085, "85 us"),
            (0.25, "250 ms"),
            (3.25, "3.2 seconds"),
            (61.0, "1 minute 1 second"),
            (3600.0, "1 hour"),
            (3605.0, "1 hour"),
            (90_061.0, "1 day 1 hour"),
            (172_800.0, "2 days"),
            (f64::NAN, "unknown"),
            (-1.0, "unknown"),
        ];
        for (seconds, words) in cases {
            assert_eq!(duration(seconds), words);
        }
    }

    #[test]
    fn ages() {
        assert_eq!(age(None), "never");
        assert_eq!(age(Some(0.2)), "just now");
        assert_eq!(age(Some(125.0)), "2 minutes 5 seconds ago");
    }

    #[test]
    fn counts_sizes_and_latencies() {
        assert_eq!(
            [counted(1, "mailbox"), counted(2, "mailbox"), counted(0, "user")],
            ["1 mailbox", "2 mailboxes", "0 users"]
        );
        assert_eq!(
            [bytes(0), bytes(1023), bytes(1 << 26), bytes(u64::MAX)],
            ["0 B", "1023 B", "64.0 MiB", "16777216.0 TiB"]
        );
        assert_eq!(bytes((1 << 20) - 1), "1.0 MiB");
        assert_eq!([micros(85), micros(1_234), micros(3_400_000)], ["85 us", "1.2 ms", "3.40 s"]);
    }

    // S17, S24
    #[test]
    fn names_cannot_drive_a_terminal() {
        assert_eq!(printable("user/joe/\u{c4}pfel"), "user/joe/\u{c4}pfel");
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\u{a}");
        assert_eq!(printable("x\u{202e}y"), "x\u{202e}y", "a script gets the name as it is");
        assert_eq!(for_terminal("x\u{202e}y\t"), "x\\u{202e}y\\u{9}");
    }
}
