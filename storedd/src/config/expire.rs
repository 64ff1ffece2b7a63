//! Rules of ageing: `[expire.NAME]`, as many as one likes. What a rule does to a message is said where it is used.

use super::value::{Limit, Value, choice};
use std::time::Duration;
use toml::de::DeValue;

choice! {
    /// What happens to a message that a rule catches.
    ExpireAction {
        /// It is expunged: it comes back with `storectl message undelete` until it is purged.
        Discard = "discard",
        /// It is moved to the folder `move_to` of the same owner.
        Move = "move",
        /// It is counted and told, nothing else.
        Report = "report",
        /// It stays, whatever later rules say.
        Keep = "keep",
    }
}

/// One rule, as it stands in the file. Options that are not there are `None`: they catch everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpireRule {
    /// Its name, after `expire.`.
    pub name: String,
    /// Only messages of mailboxes that this pattern of LIST matches.
    pub mailboxes: String,
    /// Only messages of this partition.
    pub partition: Option<String>,
    /// Only messages whose internal date is so long ago.
    pub older_than: Option<Duration>,
    /// Only messages that came into their mailbox so long ago.
    pub saved_longer_than: Option<Duration>,
    /// Only messages with more bytes.
    pub larger_than: Option<u64>,
    /// Only messages with, or without, `\Seen`.
    pub seen: Option<bool>,
    /// Only messages with, or without, `\Deleted`.
    pub deleted: Option<bool>,
    /// Of the messages that fit, the newest so many stay.
    pub keep_messages: Option<u32>,
    /// Of the messages that fit, the newest with so many bytes together stay.
    pub keep_bytes: Option<u64>,
    /// What happens to the others.
    pub action: ExpireAction,
    /// The folder of [`ExpireAction::Move`]: below the user, as in `Archive/Old`.
    pub move_to: String,
}

/// Options of a rule, in the order in which they are shown.
pub(super) const KEYS: [&str; 11] = [
    "mailboxes",
    "partition",
    "older_than",
    "saved_longer_than",
    "larger_than",
    "seen",
    "deleted",
    "keep_messages",
    "keep_bytes",
    "action",
    "move_to",
];
/// Longest pattern in bytes; what else it must be is judged where it is used.
const PATTERN_BYTES_MAX: usize = 2000;
/// Longest folder in bytes, whoever's it is, most components, and longest component: with `user/<uid>/` before it a name may have 1000 and 32.
const FOLDER_BYTES_MAX: usize = 700;
const FOLDER_DEPTH_MAX: usize = 30;
const FOLDER_PART_BYTES_MAX: usize = 255;
/// Ages that make sense: a second to ten years.
const AGES: Limit = Limit::Millis(1_000, 315_360_000_000);

/// Why no user can have a folder of this name: what was expected. `model::name` judges names of mailboxes by the same rules, which a test of
/// `jobs::expire` holds.
fn no_folder(text: &str) -> Option<&'static str> {
    let bad = |c: char| c.is_control() || matches!(c, '*' | '%' | '\u{2028}' | '\u{2029}');
    let any = |wrong: fn(&str) -> bool| text.split('/').any(wrong);
    if text.contains(bad) {
        Some("without control characters, line separators, * and %")
    } else if any(str::is_empty) {
        Some("no / at its beginning, at its end, or beside another")
    } else if any(|part| part == "." || part == "..") {
        Some("no part of it . or ..")
    } else if text.len() > FOLDER_BYTES_MAX {
        Some("at most 700 bytes")
    } else if text.split('/').count() > FOLDER_DEPTH_MAX {
        Some("at most 30 parts")
    } else if any(|part| part.len() > FOLDER_PART_BYTES_MAX) {
        Some("no part of it longer than 255 bytes")
    } else {
        None
    }
}

impl ExpireRule {
    /// A rule with nothing but a name: every mailbox, no condition, and only told.
    #[must_use]
    pub fn new(name: &str) -> ExpireRule {
        ExpireRule {
            name: name.to_owned(),
            mailboxes: "*".to_owned(),
            partition: None,
            older_than: None,
            saved_longer_than: None,
            larger_than: None,
            seen: None,
            deleted: None,
            keep_messages: None,
            keep_bytes: None,
            action: ExpireAction::Report,
            move_to: String::new(),
        }
    }

    /// Sets one option; `None` if there is none with this name.
    pub(super) fn set(&mut self, key: &str, value: &DeValue<'_>) -> Option<Result<(), String>> {
        fn some<V: Value>(slot: &mut Option<V>, value: &DeValue<'_>, limit: Limit) -> Result<(), String> {
            V::read(value, limit).map(|read| *slot = Some(read))
        }
        Some(match key {
            "mailboxes" => String::read(value, Limit::NotEmpty).and_then(|text| {
                let fits = text.len() <= PATTERN_BYTES_MAX && !text.chars().any(char::is_control);
                self.mailboxes = text;
                fits.then_some(()).ok_or_else(|| "expected a pattern of LIST, such as \"user/*/Trash\"".to_owned())
            }),
            "partition" => some(&mut self.partition, value, Limit::NotEmpty),
            "older_than" => some(&mut self.older_than, value, AGES),
            "saved_longer_than" => some(&mut self.saved_longer_than, value, AGES),
            "larger_than" => some(&mut self.larger_than, value, Limit::Any),
            "seen" => some(&mut self.seen, value, Limit::Any),
            "deleted" => some(&mut self.deleted, value, Limit::Any),
            "keep_messages" => some(&mut self.keep_messages, value, Limit::Any),
            "keep_bytes" => some(&mut self.keep_bytes, value, Limit::Any),
            "action" => ExpireAction::read(value, Limit::Any).map(|read| self.action = read),
            "move_to" => String::read(value, Limit::NotEmpty).and_then(|text| {
                let done = no_folder(&text).map_or(Ok(()), |expected| {
                    Err(format!("found {text:?}, expected a folder of the user, such as \"Archive/Old\": {expected}"))
                });
                self.move_to = text;
                done
            }),
            _ => return None,
        })
    }

    /// What is wrong with the rule as a whole.
    pub(super) fn problem(&self) -> Option<String> {
        let limits = self.keep_messages.is_some() || self.keep_bytes.is_some();
        let chooses = self.older_than.is_some()
            || self.saved_longer_than.is_some()
            || self.larger_than.is_some()
            || self.seen.is_some()
            || self.deleted.is_some()
            || limits;
        if limits && self.action == ExpireAction::Keep {
            return Some("limits say what goes; a rule with the action `keep` has none".to_owned());
        }
        let moves = self.action == ExpireAction::Move;
        if !chooses && self.action != ExpireAction::Keep {
            return Some("without an age, size, flag or limit this rule would catch every message".to_owned());
        }
        if moves == self.move_to.is_empty() {
            return Some("`move_to` and the action `move` belong together".to_owned());
        }
        None
    }

    /// The options that are set: key and value as TOML text.
    pub(super) fn values(&self) -> Vec<(&'static str, String)> {
        fn text<V: Value>(value: Option<&V>) -> Option<String> {
            value.map(Value::toml)
        }
        let move_to = Some(&self.move_to).filter(|folder| !folder.is_empty());
        let values = [
            text(Some(&self.mailboxes)),
            text(self.partition.as_ref()),
            text(self.older_than.as_ref()),
            text(self.saved_longer_than.as_ref()),
            text(self.larger_than.as_ref()),
            text(self.seen.as_ref()),
            text(self.deleted.as_ref()),
            text(self.keep_messages.as_ref()),
            text(self.keep_bytes.as_ref()),
            text(Some(&self.action)),
            text(move_to),
        ];
        KEYS.into_iter().zip(values).filter_map(|(key, value)| Some((key, value?))).collect()
    }
}
