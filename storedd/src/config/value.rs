//! How a value is written in the configuration file. The Rust type decides: `u64` is a size in bytes, `u32` a count,
//! [`Duration`] a time, `PathBuf` a path, `String` a name, `bool` a switch, the enums below a choice of words.

use std::path::PathBuf;
use std::time::Duration;
use toml::de::DeValue;

/// One kibibyte.
pub const KIB: u64 = 1024;
/// One mebibyte.
pub const MIB: u64 = 1024 * KIB;
/// One gibibyte.
pub const GIB: u64 = 1024 * MIB;

const UNITS_BYTES: [(&str, u64); 5] = [("TiB", 1024 * GIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB), ("B", 1)];
const UNITS_MICROS: [(&str, u64); 5] =
    [("ms", 1_000), ("s", 1_000_000), ("min", 60_000_000), ("h", 3_600_000_000), ("d", 86_400_000_000)];

/// What values of an option are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Anything of its type.
    Any,
    /// Not the empty string.
    NotEmpty,
    /// Bytes, from and to, both included.
    Bytes(u64, u64),
    /// Bytes, a power of two, from and to, both included.
    PowerOfTwo(u64, u64),
    /// Milliseconds, from and to, both included.
    Millis(u64, u64),
    /// A count, from and to, both included.
    Count(u32, u32),
}

impl Limit {
    /// The rule in words; empty if there is none.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Limit::Any => String::new(),
            Limit::NotEmpty => "not empty".to_owned(),
            Limit::Bytes(low, high) => format!("{} to {}", size_text(low), size_text(high)),
            Limit::PowerOfTwo(low, high) => format!("a power of two, {} to {}", size_text(low), size_text(high)),
            Limit::Millis(low, high) => {
                format!("{} to {}", time_text(Duration::from_millis(low)), time_text(Duration::from_millis(high)))
            }
            Limit::Count(low, high) => format!("{low} to {high}"),
        }
    }

    fn allows(self, measure: u64) -> bool {
        match self {
            Limit::Any => true,
            Limit::NotEmpty => measure > 0,
            Limit::Bytes(low, high) => (low..=high).contains(&measure),
            Limit::PowerOfTwo(low, high) => measure.is_power_of_two() && (low..=high).contains(&measure),
            Limit::Millis(low, high) => (low.saturating_mul(1000)..=high.saturating_mul(1000)).contains(&measure),
            Limit::Count(low, high) => (u64::from(low)..=u64::from(high)).contains(&measure),
        }
    }
}

/// A type that an option may have.
pub trait Value: Sized {
    /// Unit or form, as the documentation names it.
    const UNIT: &'static str;
    /// Reads a value; the error says what was expected.
    ///
    /// # Errors
    /// A clause such as `expected a size such as "64MiB"`.
    fn parse(value: &DeValue<'_>) -> Result<Self, String>;
    /// The value as TOML text; parsing it gives the same value.
    fn toml(&self) -> String;
    /// What a [`Limit`] is compared with: bytes, microseconds, count, or length.
    fn measure(&self) -> u64;

    /// Reads a value and holds it against its limit.
    ///
    /// # Errors
    /// A clause that names what was found and what was expected.
    fn read(value: &DeValue<'_>, limit: Limit) -> Result<Self, String> {
        let read = Self::parse(value)?;
        if limit.allows(read.measure()) {
            return Ok(read);
        }
        Err(format!("{} is out of range, expected {}", read.toml(), limit.text()))
    }
}

impl Value for u64 {
    const UNIT: &'static str = "bytes";

    fn parse(value: &DeValue<'_>) -> Result<u64, String> {
        let bytes = match value {
            DeValue::String(text) => with_unit(text, &UNITS_BYTES),
            DeValue::Integer(_) => integer(value),
            _ => None,
        };
        bytes.ok_or_else(|| {
            format!(
                "found {}, expected a size: bytes, or a text such as \"64MiB\" (B, KiB, MiB, GiB, TiB)",
                shown(value)
            )
        })
    }

    fn toml(&self) -> String {
        quoted(&size_text(*self))
    }

    fn measure(&self) -> u64 {
        *self
    }
}

impl Value for Duration {
    const UNIT: &'static str = "seconds";

    fn parse(value: &DeValue<'_>) -> Result<Duration, String> {
        let micros = match value {
            DeValue::String(text) => with_unit(text, &UNITS_MICROS),
            DeValue::Integer(_) => integer(value).and_then(|s| s.checked_mul(1_000_000)),
            DeValue::Float(text) => seconds(text.as_str()),
            _ => None,
        };
        micros.map(Duration::from_micros).ok_or_else(|| {
            format!("found {}, expected a time: seconds, or a text such as \"60s\" (ms, s, min, h, d)", shown(value))
        })
    }

    fn toml(&self) -> String {
        quoted(&time_text(*self))
    }

    fn measure(&self) -> u64 {
        u64::try_from(self.as_micros()).unwrap_or(u64::MAX)
    }
}

/// A time of day in UTC, to the minute: `"23:00"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeOfDay(u32);

impl TimeOfDay {
    /// So many minutes after midnight; the next day begins again.
    #[must_use]
    pub const fn minutes(after_midnight: u32) -> TimeOfDay {
        TimeOfDay(after_midnight % 1440)
    }

    /// How long after midnight.
    #[must_use]
    pub fn after_midnight(self) -> Duration {
        Duration::from_secs(u64::from(self.0) * 60)
    }
}

impl Value for TimeOfDay {
    const UNIT: &'static str = "time of day, UTC";

    fn parse(value: &DeValue<'_>) -> Result<TimeOfDay, String> {
        let two = |text: &str, below: u32| {
            let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
            text.parse::<u32>().ok().filter(|n| digits && *n < below)
        };
        let read = value.as_str().and_then(|text| text.split_once(':'));
        let read = read.and_then(|(hours, minutes)| Some(two(hours, 24)? * 60 + two(minutes, 60)?));
        read.map(TimeOfDay).ok_or_else(|| format!("found {}, expected a time such as \"23:00\"", shown(value)))
    }

    fn toml(&self) -> String {
        quoted(&format!("{:02}:{:02}", self.0 / 60, self.0 % 60))
    }

    fn measure(&self) -> u64 {
        u64::from(self.0)
    }
}

impl Value for u32 {
    const UNIT: &'static str = "count";

    fn parse(value: &DeValue<'_>) -> Result<u32, String> {
        integer(value)
            .and_then(|n| u32::try_from(n).ok())
            .ok_or_else(|| format!("found {}, expected a whole number from 0 to {}", shown(value), u32::MAX))
    }

    fn toml(&self) -> String {
        self.to_string()
    }

    fn measure(&self) -> u64 {
        u64::from(*self)
    }
}

impl Value for bool {
    const UNIT: &'static str = "true or false";

    fn parse(value: &DeValue<'_>) -> Result<bool, String> {
        value.as_bool().ok_or_else(|| format!("found {}, expected true or false", shown(value)))
    }

    fn toml(&self) -> String {
        self.to_string()
    }

    fn measure(&self) -> u64 {
        u64::from(*self)
    }
}

impl Value for String {
    const UNIT: &'static str = "name";

    fn parse(value: &DeValue<'_>) -> Result<String, String> {
        value.as_str().map(str::to_owned).ok_or_else(|| format!("found {}, expected a text in quotes", shown(value)))
    }

    fn toml(&self) -> String {
        quoted(self)
    }

    fn measure(&self) -> u64 {
        self.len() as u64
    }
}

impl Value for PathBuf {
    const UNIT: &'static str = "path";

    fn parse(value: &DeValue<'_>) -> Result<PathBuf, String> {
        let text = String::parse(value)?;
        if text.contains('\0') {
            return Err("a path cannot contain a zero byte".to_owned());
        }
        Ok(PathBuf::from(text))
    }

    fn toml(&self) -> String {
        quoted(&self.to_string_lossy())
    }

    fn measure(&self) -> u64 {
        self.as_os_str().len() as u64
    }
}

/// Defines an enum whose values are words in the file.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// The word that stands for it in the configuration file.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }
        }

        impl $crate::config::value::Value for $name {
            const UNIT: &'static str = "word";

            fn parse(value: &toml::de::DeValue<'_>) -> Result<$name, String> {
                match value.as_str() {
                    $(Some($word) => Ok($name::$variant),)*
                    _ => Err(format!(
                        "found {}, expected one of {}",
                        $crate::config::value::shown(value),
                        [$($word),*].join(", ")
                    )),
                }
            }

            fn toml(&self) -> String {
                $crate::config::value::quoted(self.word())
            }

            fn measure(&self) -> u64 {
                0
            }
        }
    };
}
pub(super) use choice;

/// A size with the largest unit that divides it.
#[must_use]
pub fn size_text(bytes: u64) -> String {
    let unit = UNITS_BYTES.into_iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    let (name, factor) = unit.unwrap_or(("B", 1));
    format!("{}{name}", bytes / factor)
}

/// A time in seconds, or in milliseconds where seconds do not divide it.
#[must_use]
pub fn time_text(time: Duration) -> String {
    if time.subsec_millis() == 0 { format!("{}s", time.as_secs()) } else { format!("{}ms", time.as_millis()) }
}

/// `found` for messages: the value as written, without its content where it is a table or an array.
pub(super) fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(n) => n.as_str().to_owned(),
        DeValue::Float(n) => n.as_str().to_owned(),
        DeValue::Boolean(b) => b.to_string(),
        DeValue::Datetime(t) => t.to_string(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// A text as a TOML basic string.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn integer(value: &DeValue<'_>) -> Option<u64> {
    let n = value.as_integer()?;
    u64::from_str_radix(n.as_str(), n.radix()).ok()
}

/// Microseconds of a decimal number of seconds, exactly; more than six decimals are refused.
fn seconds(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.')?;
    if part.len() > 6 || !part.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let part: u64 = format!("{part:0<6}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(part)
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}
