//! Verbs of the plan that this version does not have. Someone who knows them from the documentation of a
//! later version, or from another mail server, is told so, instead of being shown a verb that sounds like it.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use proto::{Code, Failure};

/// Verbs by the verb they stand under.
const VERBS: &[(&str, &[&str])] = &[("mailbox", &["expunge", "orphans"])];

/// The failure that says so, if that is what went wrong.
#[must_use]
pub fn failure(error: &clap::Error) -> Option<Failure> {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return None;
    }
    let Some(ContextValue::String(found)) = error.get(ContextKind::InvalidSubcommand) else { return None };
    let under = verb_of(error);
    VERBS.iter().find(|(verb, words)| *verb == under && words.contains(&found.as_str()))?;
    let what = format!("{under} {found}");
    let message = format!("{} is planned, and not in version {}", what.trim(), env!("CARGO_PKG_VERSION"));
    let hint = "storectl --help lists what there is; README.md, \"What is coming\"";
    Some(Failure::new(Code::Usage, message).with_hint(hint))
}

/// The verb whose usage the error shows: `log dump` of `Usage: storectl log dump [OPTIONS]`.
fn verb_of(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let usage = text.lines().find_map(|line| line.strip_prefix("Usage: ")).unwrap_or_default();
    let words = usage.split(' ').skip_while(|word| *word == "storectl");
    words.take_while(|word| !word.starts_with(['[', '<', '-'])).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Line, definition};
    use clap::Parser;

    fn told(line: &str) -> Option<(String, String)> {
        let words = std::iter::once("storectl").chain(line.split(' '));
        let failure = failure(&definition().try_get_matches_from(words).unwrap_err())?;
        assert_eq!(failure.code, Code::Usage);
        Some((failure.message.split(" is planned").next().unwrap().to_owned(), failure.hint.unwrap()))
    }

    #[test]
    fn what_is_planned_is_told_from_what_is_mistyped() {
        for line in ["mailbox orphans", "mailbox expunge"] {
            let (what, hint) = told(line).unwrap_or_else(|| panic!("{line}"));
            assert!(line.starts_with(&what), "{line}: {what}");
            assert!(!hint.is_empty());
        }
        for line in ["mailbxo", "user install", "status --follow", "log verify --catastrophic", "user add"] {
            assert_eq!(told(line), None, "{line}");
        }
    }

    #[test]
    fn the_lines_of_a_batch_are_told_the_same() {
        for (line, expected) in [("mailbox orphans", "mailbox orphans"), ("mailbox expunge", "mailbox expunge")] {
            let error = Line::try_parse_from(line.split(' ')).unwrap_err();
            assert!(failure(&error).unwrap().message.starts_with(&format!("{expected} is planned")), "{line}");
        }
    }
}
