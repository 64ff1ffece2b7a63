//! What a run did, or would do, mailbox by mailbox.

/// Lines that are told; the sums count all.
const LINES_MAX: usize = 5000;
/// Problems that are told.
const PROBLEMS_MAX: usize = 200;

/// What was done, or would be, to messages of one mailbox for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Full name.
    pub mailbox: String,
    /// The rule; empty where none decides: what is purged.
    pub rule: String,
    /// `discard`, `move`, `report`, `purge`, `remove`.
    pub action: &'static str,
    /// Messages.
    pub messages: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Where they go; full name.
    pub to: Option<String>,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Aged {
    /// Nothing was changed.
    pub dry_run: bool,
    /// The first lines.
    pub lines: Vec<Line>,
    /// How many there are.
    pub lines_total: u64,
    /// Mailboxes looked at.
    pub mailboxes: u64,
    /// Messages of all lines.
    pub messages: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// What could not be done, and why; the first ones.
    pub problems: Vec<String>,
    /// How many there are.
    pub problems_total: u64,
}

impl Aged {
    pub(super) fn new(dry_run: bool) -> Aged {
        Aged { dry_run, ..Aged::default() }
    }

    pub(super) fn line(&mut self, line: Line) {
        let Line { mailbox, rule, action, messages, bytes, to } = &line;
        if !self.dry_run {
            tracing::info!(event = "aged", mailbox, rule, action, messages, bytes, to);
        }
        self.lines_total += 1;
        (self.messages, self.bytes) = (self.messages + messages, self.bytes.saturating_add(*bytes));
        if self.lines.len() < LINES_MAX {
            self.lines.push(line);
        }
    }

    pub(super) fn problem(&mut self, mailbox: &str, why: &str) {
        tracing::warn!(event = "not_aged", mailbox, why, "its messages stay as they are");
        self.problems_total += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(format!("{mailbox}: {why}"));
        }
    }
}
