//! Commands in messages, complete enough to be copied: a hint says `storectl status`; whoever shows it puts in how the
//! store was named to him, `storectl --data-dir ./store status`, so that the copied line reaches the same store (row 16).

use std::ops::Range;

/// Programs whose commands are completed.
const PROGRAMS: [&str; 2] = ["storectl", "storedd"];
/// What follows a program's name where a command is meant and not the program itself.
const VERBS: &[&str] = &[
    "acl",
    "backup",
    "backup-db",
    "batch",
    "check",
    "checkpoint",
    "completions",
    "config",
    "downgrade",
    "drain",
    "drill",
    "expire",
    "export",
    "freeze",
    "hashdir",
    "health",
    "import",
    "jobs",
    "locks",
    "log",
    "mailbox",
    "maintenance",
    "message",
    "metrics",
    "partition",
    "peruser",
    "prepare-upgrade",
    "purge",
    "read-only",
    "quota",
    "reconstruct",
    "recover",
    "restart",
    "restore",
    "restore-db",
    "shutdown",
    "snapshot",
    "stats",
    "status",
    "subscribe",
    "subscriptions",
    "test",
    "unsubscribe",
    "upgrade",
    "user",
    "--check-config",
];

/// A word as a shell reads it back.
#[must_use]
pub fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/@.-_+:,=".contains(&b) || b >= 0x80;
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Options that name a store, as a shell reads them, each with a blank behind it; empty if there are none.
#[must_use]
pub fn options<'a>(named: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    named.into_iter().map(|(option, value)| format!("{option} {} ", quoted(value))).collect()
}

/// The text with `options` (see [`options`]) put into every command of ours in it, unless one stands there already. Quoted
/// words behind a command are names, whatever they say.
#[must_use]
pub fn complete(text: &str, options: &str) -> String {
    if options.is_empty() {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + options.len());
    let (mut rest, mut in_command) = (text, false);
    while let Some((at, program)) = first_program(rest) {
        if let Some(word) = in_command.then(|| first_quoted(rest)).flatten().filter(|word| word.start < at) {
            out.push_str(&rest[..word.end]);
            rest = &rest[word.end..];
            continue;
        }
        let (before, behind) = rest.split_at(at + program.len());
        out.push_str(before);
        rest = behind;
        let word_before = before[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || "/-_.".contains(c));
        let argument = behind.strip_prefix(' ').unwrap_or_default();
        let verb = argument.split(|c: char| !(c.is_ascii_lowercase() || c == '-')).next().unwrap_or_default();
        if !word_before && VERBS.contains(&verb) {
            out.push(' ');
            out.push_str(options);
            rest = argument;
            in_command = true;
        }
    }
    out + rest
}

/// The first word that [`quoted`] has put quotes around.
fn first_quoted(text: &str) -> Option<Range<usize>> {
    let opens = |at: usize| text[..at].ends_with([' ', '=']);
    let start = text.match_indices('\'').map(|(at, _)| at).find(|at| opens(*at))?;
    let mut end = start + 1;
    loop {
        end += text[end..].find('\'')? + 1;
        // A quote within the word.
        match text[end..].strip_prefix(r"\''") {
            Some(_) => end += 3,
            None => return Some(start..end),
        }
    }
}

fn first_program(text: &str) -> Option<(usize, &'static str)> {
    PROGRAMS.iter().filter_map(|program| Some((text.find(program)?, *program))).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_completed_and_nothing_else_is() {
        let place = options([("--data-dir", "/srv/my mail"), ("--socket", "/run/s")]);
        assert_eq!(place, "--data-dir '/srv/my mail' --socket /run/s ");
        let d = "--data-dir d ";
        for (text, completed) in [
            ("storectl status", "storectl --data-dir d status"),
            (
                "run: storedd recover -v, then storectl user list.",
                "run: storedd --data-dir d recover -v, then storectl --data-dir d user list.",
            ),
            ("storectl log list", "storectl --data-dir d log list"),
            ("storedd --check-config", "storedd --data-dir d --check-config"),
            ("the storedd beside storectl, which refuses", "the storedd beside storectl, which refuses"),
            ("systemctl reload storedd", "systemctl reload storedd"),
            ("storectl --help lists", "storectl --help lists"),
            ("storedd --data-dir x recover", "storedd --data-dir x recover"),
            ("/usr/bin/storectl status", "/usr/bin/storectl status"),
            ("my-storectl status", "my-storectl status"),
            ("storectl tests", "storectl tests"),
            ("storectl user show 'storectl status'", "storectl --data-dir d user show 'storectl status'"),
            (
                r"storectl user show 'it'\''s storectl status', storedd test",
                r"storectl --data-dir d user show 'it'\''s storectl status', storedd --data-dir d test",
            ),
            ("type 'storectl status'", "type 'storectl --data-dir d status'"),
            ("storectl status; joe's storectl test", "storectl --data-dir d status; joe's storectl --data-dir d test"),
            ("storectl", "storectl"),
            ("storectl ", "storectl "),
            ("\u{e4} storectl user show j\u{f6}rg", "\u{e4} storectl --data-dir d user show j\u{f6}rg"),
        ] {
            assert_eq!(complete(text, d), completed);
            assert_eq!(complete(text, ""), text);
        }
    }

    #[test]
    fn a_quoted_word_is_read_back_by_a_shell() {
        for word in ["a", "/srv/mail", "", "a b", "it's", "$HOME `x` \"y\" \\", "*?[", "\u{e4}\u{f6}", "\n"] {
            let said = std::process::Command::new("sh").args(["-c", &format!("printf %s {}", quoted(word))]).output();
            assert_eq!(String::from_utf8(said.unwrap().stdout).unwrap(), word);
        }
    }
}
