//! The text format of Prometheus, version 0.0.4.
//!
//! # Format
//! For each family `# HELP name text`, `# TYPE name type`, then its samples: `name{label="value",...} number`. A backslash,
//! a quote and a line end in a label's value are escaped with a backslash, in a help text all but the quote. Names begin
//! with `storedd_` and end with the base unit (`_seconds`, `_bytes`), counters with `_total`.

use std::fmt::Write;

/// Media type of what is written.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a family's numbers mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from 0 at the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations by size.
    Histogram,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// Labels of a sample.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// An exposition that is being written.
#[derive(Debug, Default)]
pub struct Text {
    out: String,
}

impl Text {
    /// Begins a family; its samples follow.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // A String takes everything.
        let _ = write!(self.out, "# HELP {name} {help}\n# TYPE {name} {}\n", kind.word());
        Family { out: &mut self.out, name }
    }

    /// A gauge with one sample.
    pub fn gauge(&mut self, name: &'static str, help: &str, value: f64) {
        self.family(name, Kind::Gauge, help).sample(&[], value);
    }

    /// A gauge with one sample, or none where the value is not known.
    pub fn known(&mut self, name: &'static str, help: &str, value: Option<f64>) {
        let mut family = self.family(name, Kind::Gauge, help);
        if let Some(value) = value {
            family.sample(&[], value);
        }
    }

    /// A counter with one sample.
    pub fn counter(&mut self, name: &'static str, help: &str, value: u64) {
        self.family(name, Kind::Counter, help).sample(&[], value as f64);
    }

    /// Everything written.
    #[must_use]
    pub fn finish(self) -> String {
        self.out
    }
}

/// A family whose samples are being written.
#[derive(Debug)]
pub struct Family<'a> {
    out: &'a mut String,
    name: &'static str,
}

impl Family<'_> {
    /// Writes one sample.
    pub fn sample(&mut self, labels: Labels<'_>, value: f64) {
        self.line("", labels, value);
    }

    /// Writes a histogram: the number of observations up to each bound, in rising order, then all of them and their sum.
    pub fn histogram(&mut self, upto: &[(f64, u64)], count: u64, sum: f64) {
        for (bound, observations) in upto {
            self.line("_bucket", &[("le", &number(*bound))], *observations as f64);
        }
        self.line("_bucket", &[("le", "+Inf")], count as f64);
        self.line("_sum", &[], sum);
        self.line("_count", &[], count as f64);
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, value: f64) {
        self.out.push_str(self.name);
        self.out.push_str(suffix);
        for (at, (name, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            // A String takes everything.
            let _ = write!(self.out, "{}{name}=\"{value}\"", if at == 0 { '{' } else { ',' });
        }
        if !labels.is_empty() {
            self.out.push('}');
        }
        self.out.push(' ');
        self.out.push_str(&number(value));
        self.out.push('\n');
    }
}

fn number(value: f64) -> String {
    match value {
        v if v.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        v => format!("{v}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_text() {
        let mut text = Text::default();
        text.counter("storedd_x_total", "Things.", 3);
        text.family("storedd_y_bytes", Kind::Gauge, "A \\ and\na \"line\".")
            .sample(&[("path", "a\\b\"c\nd"), ("e", "")], 0.5);
        text.known("storedd_z", "Not known.", None);
        text.family("storedd_h_seconds", Kind::Histogram, "Times.").histogram(&[(0.000064, 1), (1.0, 2)], 3, 7.25);
        text.gauge("storedd_i", "Infinite.", f64::INFINITY);
        let expected = r#"# HELP storedd_x_total Things.
# TYPE storedd_x_total counter
storedd_x_total 3
# HELP storedd_y_bytes A \\ and\na "line".
# TYPE storedd_y_bytes gauge
storedd_y_bytes{path="a\\b\"c\nd",e=""} 0.5
# HELP storedd_z Not known.
# TYPE storedd_z gauge
# HELP storedd_h_seconds Times.
# TYPE storedd_h_seconds histogram
storedd_h_seconds_bucket{le="0.000064"} 1
storedd_h_seconds_bucket{le="1"} 2
storedd_h_seconds_bucket{le="+Inf"} 3
storedd_h_seconds_sum 7.25
storedd_h_seconds_count 3
# HELP storedd_i Infinite.
# TYPE storedd_i gauge
storedd_i +Inf
"#;
        assert_eq!(text.finish(), expected);
    }
}
