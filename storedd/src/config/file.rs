//! The text of the file: syntax, unknown names, wrong values. Nothing stops at the first problem.

use super::expire::{self, ExpireRule};
use super::options::{OPTIONS, SECTIONS};
use super::value::{Limit, Value, shown};
use super::{Config, Origin, PARTITION_NAME_MAX, Problem, default_partition_path};
use crate::site::Site;
use std::collections::BTreeMap;
use std::path::PathBuf;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// Sets in `config` what `text` says and returns what is wrong with it.
pub(super) fn read_into(config: &mut Config, text: &str) -> Vec<Problem> {
    let file = config.file.as_ref().map_or_else(|| "configuration".to_owned(), |f| f.display().to_string());
    let mut reader = Reader { file, text, problems: Vec::new() };
    let (root, errors) = DeTable::parse_recoverable(text);
    for e in &errors {
        let at = e.span().map_or(0, |s| s.start);
        reader.problem(at, "", e.message().replace('\n', ", "));
    }
    for (name, value) in root.get_ref() {
        reader.section(config, name, value);
    }
    reader.problems
}

struct Reader<'t> {
    file: String,
    text: &'t str,
    problems: Vec<Problem>,
}

type Key<'t> = Spanned<DeString<'t>>;
type Node<'t> = Spanned<DeValue<'t>>;

impl Reader<'_> {
    fn section(&mut self, config: &mut Config, name: &Key<'_>, value: &Node<'_>) {
        let section: &str = name.get_ref();
        let at = name.span().start;
        let known = ["partition", "expire"].contains(&section) || SECTIONS.iter().any(|(s, _)| *s == section);
        if !known {
            let names = SECTIONS.iter().map(|(s, _)| *s).chain(["partition.NAME", "expire.NAME"]);
            return self.problem(at, section, unknown("section", section, names));
        }
        let Some(table) = value.get_ref().as_table() else {
            let found = shown(value.get_ref());
            return self.problem(at, section, format!("found {found}, expected a section: [{section}]"));
        };
        match section {
            "partition" => return self.partitions(config, table),
            "expire" => return self.rules(config, table),
            _ => {}
        }
        for (key, value) in table {
            self.option(config, section, key, value);
        }
    }

    fn option(&mut self, config: &mut Config, section: &str, key: &Key<'_>, value: &Node<'_>) {
        let key_text: &str = key.get_ref();
        let option = format!("{section}.{key_text}");
        match config.sections.set(section, key_text, value.get_ref()) {
            None => {
                let keys = OPTIONS.iter().filter(|o| o.section == section).map(|o| o.key);
                self.problem(key.span().start, &option, unknown("option", key_text, keys));
            }
            Some(Err(message)) => self.problem(value.span().start, &option, message),
            Some(Ok(())) => {
                config.origins.insert(option, Origin::Line(self.line(key.span().start)));
            }
        }
    }

    fn partitions(&mut self, config: &mut Config, table: &DeTable<'_>) {
        let mut partitions = BTreeMap::new();
        for (name, value) in table {
            let option = format!("partition.{}", name.get_ref());
            let at = name.span().start;
            if let Err(message) = partition_name(name.get_ref()) {
                self.problem(at, &option, message);
                continue;
            }
            let Some(keys) = value.get_ref().as_table() else {
                let found = shown(value.get_ref());
                self.problem(at, &option, format!("found {found}, expected a section: [{option}]"));
                continue;
            };
            let mut site = Site::from(default_partition_path(name.get_ref()));
            for (key, value) in keys {
                let (key_text, at): (&str, _) = (key.get_ref(), key.span().start);
                let option = format!("{option}.{key_text}");
                let read = PathBuf::read(value.get_ref(), Limit::NotEmpty);
                match (key_text, read) {
                    ("path", Ok(read)) => site.path = read,
                    ("message_path", Ok(read)) => site.messages = Some(read),
                    ("path" | "message_path", Err(message)) => self.problem(value.span().start, &option, message),
                    _ => {
                        self.problem(at, &option, unknown("option", key_text, ["path", "message_path"].into_iter()));
                        continue;
                    }
                }
                config.origins.insert(option, Origin::Line(self.line(at)));
            }
            config.origins.entry(format!("{option}.path")).or_insert_with(|| Origin::Line(self.line(at)));
            partitions.insert(name.get_ref().to_string(), site);
        }
        if !partitions.is_empty() {
            config.partitions = partitions;
        }
    }

    /// Rules of ageing, in the order of the file.
    fn rules(&mut self, config: &mut Config, table: &DeTable<'_>) {
        let mut tables: Vec<_> = table.iter().collect();
        tables.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in tables {
            let option = format!("expire.{}", name.get_ref());
            let at = name.span().start;
            if partition_name(name.get_ref()).is_err() {
                self.problem(at, &option, "a rule's name is letters, digits, - and _, at most 64".to_owned());
                continue;
            }
            let Some(keys) = value.get_ref().as_table() else {
                let found = shown(value.get_ref());
                self.problem(at, &option, format!("found {found}, expected a section: [{option}]"));
                continue;
            };
            let (mut rule, before) = (ExpireRule::new(name.get_ref()), self.problems.len());
            for (key, value) in keys {
                let (key_text, at): (&str, _) = (key.get_ref(), key.span().start);
                let option = format!("{option}.{key_text}");
                match rule.set(key_text, value.get_ref()) {
                    None => self.problem(at, &option, unknown("option", key_text, expire::KEYS.into_iter())),
                    Some(Err(message)) => self.problem(value.span().start, &option, message),
                    Some(Ok(())) => drop(config.origins.insert(option, Origin::Line(self.line(at)))),
                }
            }
            match rule.problem() {
                // What is wrong with the whole may follow from what is wrong with a part.
                Some(message) if self.problems.len() == before => self.problem(at, &option, message),
                _ => config.expire.push(rule),
            }
        }
    }

    fn problem(&mut self, at: usize, option: &str, message: String) {
        let (file, line) = (self.file.clone(), self.line(at));
        self.problems.push(Problem { file, line, option: option.to_owned(), message });
    }

    /// Line, from 1, of a byte offset.
    fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().get(..at).unwrap_or(self.text.as_bytes());
        before.iter().filter(|b| **b == b'\n').count() + 1
    }
}

/// Whether a text may name a partition: it stands in paths, in rows and in commands.
///
/// # Errors
/// What is expected.
pub(super) fn partition_name(name: &str) -> Result<(), String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let good = name.len() <= PARTITION_NAME_MAX
        && name.bytes().all(allowed)
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if good {
        return Ok(());
    }
    Err(format!(
        "a partition's name is 1 to {PARTITION_NAME_MAX} letters, digits, - and _, and begins with a letter or digit"
    ))
}

/// Says that a name is unknown, which ones are known, and which one is nearest.
fn unknown<'n>(what: &str, found: &str, known: impl Iterator<Item = &'n str> + Clone) -> String {
    let near = known.clone().map(|name| (distance(found, name), name)).min().filter(|(d, _)| *d * 3 <= found.len());
    match near {
        Some((_, name)) => format!("unknown {what}; did you mean {name}?"),
        None => format!("unknown {what}, expected one of {}", known.collect::<Vec<_>>().join(", ")),
    }
}

/// Levenshtein's distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let changed = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}
