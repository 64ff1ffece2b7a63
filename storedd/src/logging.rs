//! Messages of the daemon, on stderr. The only file that names `tracing-subscriber`.
//!
//! # Format
//! One line for each message, every one with a stable name `event=`, by which people and scripts find it:
//!
//! * text: `2026-11-22T10:15:30.123456Z info event=store.ready lsn=42 message="the store is ready"`
//! * journal: `<6>event=store.ready lsn=42 message="the store is ready"`; the journal adds the time and reads the
//!   priority (`sd-daemon(3)`)
//! * json: one object with `time`, `level`, `event`, `message` and the fields
//!
//! A value with anything but letters, digits and `.:/@+-_,%` stands in quotes, with `\"`, `\\`, `\n` and `\u{..}` for what
//! would break the line. Messages of libraries have their module as event and are shown from `warn` on.

use crate::config::options::MessageOptions;
use crate::config::{Format, Level};
use crate::env::{Env, RealEnv};
use crate::logfile::LogFile;
use crate::logsink::{Sink, Stderr};
use std::fmt::{self, Write};
use std::sync::Arc;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry, reload};

/// Longest wait for a reader of messages at the end of the process.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_secs(1);

/// Changes the level while the daemon runs, and opens the message log anew.
#[derive(Debug, Clone)]
pub struct LevelHandle {
    level: reload::Handle<Targets, Registry>,
    sinks: Vec<Sink>,
    file: Option<Arc<LogFile>>,
}

impl LevelHandle {
    /// Shows messages from this level on.
    pub fn set(&self, level: Level) {
        // The subscriber lives as long as the process; without it there is nothing to set.
        let _ = self.level.reload(targets(level));
    }

    /// Waits a moment for messages that nobody has read yet; before the process ends.
    pub fn flush(&self) {
        self.sinks.iter().for_each(|sink| sink.flush_within(LAST_WORDS));
    }

    /// Opens the message log by its name, which another program may have given to another file.
    pub fn reopen(&self) {
        if let Some(file) = &self.file {
            file.reopen();
        }
    }
}

/// Sends the messages of this process to stderr and, where it is configured, to a file; those of a panic too. Call it
/// once; a second call changes nothing that is shown.
#[must_use]
pub fn start(options: &MessageOptions) -> LevelHandle {
    let file = LogFile::open(&options.directory, options.file_bytes, options.files).map(Arc::new);
    let format = options.format;
    let sink = Sink::new(Stderr, move |count| dropped(format, count));
    let kept = file.clone().map(|file| Sink::new(file, move |count| dropped(in_file(format), count)));
    let (subscriber, mut handle) = subscriber(options.format, options.level, sink.clone(), kept.clone());
    handle.sinks.push(sink);
    handle.sinks.extend(kept);
    handle.file = file;
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if crate::db::catching() {
                // Damage of the database file: it becomes an error that names the file.
                return tracing::debug!(event = "database.panic", "{info}");
            }
            tracing::error!(event = "bug.panic", place = info.location().map(ToString::to_string), "{info}");
            before(info);
        }));
    }
    handle
}

/// How messages look in the message log, where nobody adds a time.
fn in_file(format: Format) -> Format {
    if format == Format::Json { Format::Json } else { Format::Text }
}

fn subscriber<W>(format: Format, level: Level, writer: W, kept: Option<Sink>) -> (impl Subscriber, LevelHandle)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(targets(level));
    let lines = tracing_subscriber::fmt::layer().event_format(Lines(resolve(format))).with_writer(writer);
    let kept = kept.map(|kept| tracing_subscriber::fmt::layer().event_format(Lines(in_file(format))).with_writer(kept));
    // One filter for both: they say the same.
    (
        Registry::default().with(lines.and_then(kept).with_filter(filter)),
        LevelHandle { level: handle, sinks: Vec::new(), file: None },
    )
}

/// The line that says how many messages nobody read in time.
fn dropped(format: Format, count: u64) -> Vec<u8> {
    let text = "messages were dropped: whoever reads them is too slow";
    let line = match resolve(format) {
        Format::Json => {
            let (time, level, event) = (now(), "warn", "messages_dropped");
            serde_json::json!({"time": time, "level": level, "event": event, "message": text, "count": count})
                .to_string()
        }
        Format::Journal => format!("<4>event=messages_dropped count={count} message={}", quoted(text)),
        _ => format!("{} warn event=messages_dropped count={count} message={}", now(), quoted(text)),
    };
    (line + "\n").into_bytes()
}

/// What `auto` means here: under the service manager, stderr is the journal.
fn resolve(format: Format) -> Format {
    match format {
        Format::Auto if std::env::var_os("JOURNAL_STREAM").is_some() => Format::Journal,
        Format::Auto => Format::Text,
        other => other,
    }
}

fn targets(level: Level) -> Targets {
    let level = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    Targets::new().with_target("storedd", level).with_target("audit", level).with_default(level.min(LevelFilter::WARN))
}

/// Writes a message as one line.
#[derive(Debug, Clone, Copy)]
struct Lines(Format);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let name = fields.event.take().unwrap_or_else(|| event.metadata().target().replace("::", "."));
        let level = *event.metadata().level();
        let word = match level {
            tracing::Level::ERROR => "error",
            tracing::Level::WARN => "warn",
            tracing::Level::INFO => "info",
            tracing::Level::DEBUG => "debug",
            tracing::Level::TRACE => "trace",
        };
        if self.0 == Format::Json {
            return writeln!(out, "{}", fields.json(&name, word));
        }
        match self.0 {
            Format::Journal => write!(out, "<{}>", priority(level))?,
            _ => write!(out, "{} {word} ", now())?,
        }
        write!(out, "event={}", plain(&name))?;
        for (key, value) in &fields.others {
            write!(out, " {key}={}", plain(value.as_text().as_ref()))?;
        }
        if let Some(message) = &fields.message {
            write!(out, " message={}", quoted(message))?;
        }
        writeln!(out)
    }
}

/// syslog's number of a level.
fn priority(level: tracing::Level) -> u8 {
    match level {
        tracing::Level::ERROR => 3,
        tracing::Level::WARN => 4,
        tracing::Level::INFO => 6,
        _ => 7,
    }
}

fn now() -> String {
    let micros = i64::try_from(RealEnv::default().now().0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_microsecond(micros).map_or_else(|_| micros.to_string(), |t| format!("{t:.6}"))
}

/// The fields of one message.
#[derive(Debug, Default)]
struct Fields {
    event: Option<String>,
    message: Option<String>,
    others: Vec<(&'static str, Value)>,
}

#[derive(Debug)]
enum Value {
    Json(serde_json::Value),
    Text(String),
}

impl Value {
    fn as_text(&self) -> std::borrow::Cow<'_, str> {
        match self {
            Value::Json(value) => value.to_string().into(),
            Value::Text(text) => text.into(),
        }
    }
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("event", Value::Text(text)) => self.event = Some(text),
            ("message", Value::Text(text)) => self.message = Some(text),
            (name, value) => self.others.push((name, value)),
        }
    }

    fn json(self, event: &str, level: &str) -> serde_json::Value {
        let mut object = serde_json::Map::new();
        object.insert("time".to_owned(), now().into());
        object.insert("level".to_owned(), level.into());
        object.insert("event".to_owned(), event.into());
        object.extend(self.message.map(|m| ("message".to_owned(), m.into())));
        for (name, value) in self.others {
            let value = match value {
                Value::Json(value) => value,
                Value::Text(text) => text.into(),
            };
            object.insert(name.to_owned(), value);
        }
        object.into()
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::Text(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::Text(value.to_owned()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::Json(value.into()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::Json(value.into()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::Json(value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::Json(value.into()));
    }
}

/// A value, in quotes only where it needs them.
fn plain(text: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || b".:/@+-_,%".contains(&b);
    if !text.is_empty() && text.bytes().all(bare) { text.to_owned() } else { quoted(text) }
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            // Control characters, and those that turn the direction of text or break lines.
            c if c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines(format: Format, level: Level, say: impl FnOnce(&LevelHandle)) -> Vec<String> {
        let memory = Memory::default();
        let writer = memory.clone();
        let (subscriber, handle) = subscriber(format, level, move || writer.clone(), None);
        tracing::subscriber::with_default(subscriber, || say(&handle));
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn one_line_with_event_and_fields() {
        let found = lines(Format::Text, Level::Info, |_| {
            tracing::info!(event = "store.ready", lsn = 42u64, path = "/a b", ok = true, "ready after {} s", 1.5);
            tracing::warn!("a\"b\\c\nd\u{202e}\u{7}ä");
        });
        let (time, rest) = found[0].split_once(' ').unwrap();
        assert_eq!(time.len(), "2026-11-22T10:15:30.123456Z".len(), "{time}");
        assert_eq!(rest, "info event=store.ready lsn=42 path=\"/a b\" ok=true message=\"ready after 1.5 s\"");
        assert!(found[1].ends_with("warn event=storedd.logging.tests message=\"a\\\"b\\\\c\\nd\\u{202e}\\u{7}ä\""));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn the_journal_gets_a_priority_and_no_time() {
        let found = lines(Format::Journal, Level::Debug, |_| {
            tracing::error!(event = "a.b", "x");
            tracing::warn!(event = "a.b", "x");
            tracing::info!(event = "a.b");
            tracing::debug!(event = "a.b", "x");
        });
        let expected =
            ["<3>event=a.b message=\"x\"", "<4>event=a.b message=\"x\"", "<6>event=a.b", "<7>event=a.b message=\"x\""];
        assert_eq!(found, expected);
    }

    #[test]
    fn json_keeps_numbers() {
        let found = lines(Format::Json, Level::Info, |_| tracing::info!(event = "a.b", n = 5u64, t = "x\ny", "hello"));
        let value: serde_json::Value = serde_json::from_str(&found[0]).unwrap();
        assert_eq!(value["n"], 5);
        assert_eq!((&value["t"], &value["event"]), (&"x\ny".into(), &"a.b".into()));
        assert_eq!((&value["level"], &value["message"]), (&"info".into(), &"hello".into()));
        assert!(value["time"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn the_level_changes_while_running_and_libraries_are_quieter() {
        let found = lines(Format::Journal, Level::Info, |handle| {
            tracing::debug!(event = "no");
            tracing::info!(target: "tokio", event = "no");
            handle.set(Level::Debug);
            tracing::debug!(event = "yes");
            tracing::warn!(target: "tokio::runtime", "yes");
            handle.set(Level::Error);
            tracing::warn!(target: "tokio", event = "no");
            tracing::warn!(event = "no");
        });
        assert_eq!(found, ["<7>event=yes", "<4>event=tokio.runtime message=\"yes\""]);
    }
}
