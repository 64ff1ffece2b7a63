//! What clap has to say: help and versions, which are results, and usage errors, which are failures like others.

use clap::error::ErrorKind;
use proto::{Code, Failure};

/// True for help and version, which were asked for.
#[must_use]
pub fn is_asked_for(error: &clap::Error) -> bool {
    matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
}

/// A usage error as a failure: what is wrong in one line, and what to type instead.
#[must_use]
pub fn failure(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let code = if error.kind() == ErrorKind::InvalidUtf8 { Code::BadInput } else { Code::Usage };
    if is_asked_for(error) {
        return Failure {
            code,
            message: "help is no result here".to_owned(),
            hint: Some("storectl --help".to_owned()),
        };
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Failure { code, message: "no verb".to_owned(), hint: Some("storectl --help".to_owned()) };
    }
    let mut paragraphs = text.split("\n\n");
    let what = paragraphs.next().unwrap_or_default();
    let what = what.strip_prefix("error: ").unwrap_or(what);
    let message = what.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let tip = paragraphs.clone().find_map(|paragraph| paragraph.trim().strip_prefix("tip: "));
    let usage = paragraphs.find_map(|paragraph| paragraph.trim().strip_prefix("Usage: "));
    let usage = usage.filter(|usage| !usage.starts_with("storectl <") && !usage.starts_with("storectl ["));
    let hint = tip.or(usage).map(|hint| hint.lines().map(str::trim).collect::<Vec<_>>().join(" "));
    Failure { code, message, hint: Some(hint.unwrap_or_else(|| "storectl --help".to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::definition;

    fn fail(words: &[&str]) -> Failure {
        failure(&definition().try_get_matches_from(words).unwrap_err())
    }

    #[test]
    fn usage_errors_name_the_next_command() {
        let wrong = fail(&["storectl", "mailbxo"]);
        assert_eq!((wrong.code, wrong.message.as_str()), (Code::Usage, "unrecognized subcommand 'mailbxo'"));
        assert_eq!(wrong.hint.as_deref(), Some("a similar subcommand exists: 'mailbox'"));
        let missing = fail(&["storectl", "user", "show"]);
        assert_eq!(missing.message, "the following required arguments were not provided: <USER>");
        assert!(missing.hint.unwrap().starts_with("storectl user show"));
        assert_eq!(fail(&["storectl", "user", "add", "joe", "--quota", "much"]).code, Code::Usage);
        assert_eq!(fail(&["storectl"]).message, "no verb");
    }

    #[test]
    fn a_name_that_is_no_utf8_is_bad_input() {
        use std::os::unix::ffi::OsStrExt;
        let words = [&b"storectl"[..], b"mailbox", b"show", b"\xff"].map(std::ffi::OsStr::from_bytes);
        assert_eq!(failure(&definition().try_get_matches_from(words).unwrap_err()).code, Code::BadInput);
    }
}
