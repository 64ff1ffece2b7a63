//! Consent to what cannot be taken back: asked for on a terminal, an option elsewhere.

use crate::exit::{Outcome, Stop};
use crate::render::notes;
use proto::Code;
use std::io::{self, BufRead, IsTerminal};

/// Asks; anything but yes is no.
///
/// # Errors
/// Nobody can be asked, or the answer is no.
pub fn consent(question: &str) -> Outcome<()> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(Stop::hint(
            Code::Usage,
            format!("nobody can be asked here: {question}"),
            "say --yes, or --dry-run to see what it would do",
        ));
    }
    notes::question(&format!("{question} [y/N]"));
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    match read {
        Ok(_) if is_yes(&answer) => Ok(()),
        _ => Err(Stop::new(Code::Usage, "not done: the answer was not yes")),
    }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        assert!([" y\n", "YES", "yes "].into_iter().all(is_yes));
        assert!(!["", "\n", "n", "yess", "ja", "y e s"].into_iter().any(is_yes));
    }
}
