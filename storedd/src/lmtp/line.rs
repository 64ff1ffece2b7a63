//! Lines of commands.
//!
//! A parser of our own, and not the crate `smtp-proto` (0.2.5): that one ends a command at a bare LF and drops every CR within
//! it, refuses `RCPT TO:<joe>` although users here need no domain, and takes `<postmaster>` for the null sender.

use super::address::Address;
use super::reply::Reply;

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The greeting; with the client's name.
    Lhlo(String),
    /// Begins a transaction.
    Mail {
        /// The sender; `None` for `<>`.
        from: Option<Address>,
        /// The size that the client has declared, in bytes.
        size: Option<u64>,
        /// Addresses may be UTF-8 (RFC 6531).
        utf8: bool,
    },
    /// Adds a recipient.
    Rcpt(Address),
    /// The message follows.
    Data,
    /// So many bytes of the message follow (RFC 3030).
    Bdat {
        /// How many.
        bytes: u64,
        /// They are the last.
        last: bool,
    },
    /// Ends the transaction.
    Rset,
    /// Nothing.
    Noop,
    /// Asks about an address.
    Vrfy,
    /// Asks for help.
    Help,
    /// Ends the session.
    Quit,
}

/// Reads a line without its CR LF.
///
/// # Errors
/// The reply that it gets.
pub fn parse(line: &[u8]) -> Result<Command, Reply> {
    let text = std::str::from_utf8(line).ok().filter(|text| !text.chars().any(char::is_control));
    let text = text.ok_or_else(|| syntax("a command is UTF-8 without control characters"))?.trim_end_matches(' ');
    let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
    match verb.to_ascii_uppercase().as_str() {
        "LHLO" if rest.is_empty() => Err(argument("LHLO name")),
        "LHLO" => Ok(Command::Lhlo(rest.to_owned())),
        "HELO" | "EHLO" => Err(Reply::new(500, "5.5.1", "this is LMTP: LHLO name")),
        "MAIL" => mail(rest),
        "RCPT" => rcpt(rest),
        "DATA" => alone(rest, Command::Data, "DATA"),
        "BDAT" => bdat(rest),
        "RSET" => alone(rest, Command::Rset, "RSET"),
        "QUIT" => alone(rest, Command::Quit, "QUIT"),
        "NOOP" => Ok(Command::Noop),
        "VRFY" => Ok(Command::Vrfy),
        "HELP" => Ok(Command::Help),
        "EXPN" | "ETRN" | "STARTTLS" | "AUTH" => Err(Reply::new(502, "5.5.1", "not implemented")),
        _ => Err(Reply::new(500, "5.5.1", "no such command")),
    }
}

fn syntax(text: &'static str) -> Reply {
    Reply::new(500, "5.5.2", text)
}

fn argument(expected: &'static str) -> Reply {
    Reply::new(501, "5.5.4", format!("expected {expected}"))
}

fn alone(rest: &str, command: Command, expected: &'static str) -> Result<Command, Reply> {
    if rest.is_empty() { Ok(command) } else { Err(argument(expected)) }
}

/// The path behind `FROM:` or `TO:`, and the parameters behind it.
fn path<'a>(rest: &'a str, word: &str, expected: &'static str) -> Result<(Option<Address>, Vec<&'a str>), Reply> {
    let named = rest.get(..word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word));
    let text = if named { rest[word.len()..].trim_start_matches(' ') } else { return Err(argument(expected)) };
    let status = if word == "TO:" { "5.1.3" } else { "5.1.7" };
    let (address, rest) = Address::parse(text).map_err(|_| Reply::new(501, status, "malformed address"))?;
    if !rest.is_empty() && !rest.starts_with(' ') {
        return Err(argument(expected));
    }
    Ok((address, rest.split(' ').filter(|word| !word.is_empty()).collect()))
}

fn mail(rest: &str) -> Result<Command, Reply> {
    let (from, parameters) = path(rest, "FROM:", "MAIL FROM:<address>")?;
    let (mut size, mut utf8) = (None, false);
    for parameter in parameters {
        let (key, value) = parameter.split_once('=').map_or((parameter, None), |(key, value)| (key, Some(value)));
        match (key.to_ascii_uppercase().as_str(), value) {
            ("SIZE", Some(value)) => {
                let digits = !value.is_empty() && value.len() <= 20 && value.bytes().all(|b| b.is_ascii_digit());
                // Twenty digits may be more than fits: then it is too large in any case.
                size =
                    Some(if digits { value.parse().unwrap_or(u64::MAX) } else { return Err(argument("SIZE=bytes")) });
            }
            ("BODY", Some(value)) if ["7BIT", "8BITMIME"].iter().any(|known| known.eq_ignore_ascii_case(value)) => {}
            ("BODY", _) => return Err(argument("BODY=7BIT or BODY=8BITMIME")),
            ("SMTPUTF8", None) => utf8 = true,
            _ => return Err(unknown()),
        }
    }
    if !utf8 && from.as_ref().is_some_and(|from| !from.as_str().is_ascii()) {
        return Err(needs_utf8());
    }
    Ok(Command::Mail { from, size, utf8 })
}

fn rcpt(rest: &str) -> Result<Command, Reply> {
    match path(rest, "TO:", "RCPT TO:<address>")? {
        (None, _) => Err(Reply::new(501, "5.1.3", "a recipient is not empty")),
        (Some(_), parameters) if !parameters.is_empty() => Err(unknown()),
        (Some(to), _) => Ok(Command::Rcpt(to)),
    }
}

fn bdat(rest: &str) -> Result<Command, Reply> {
    let (count, last) = match rest.split_once(' ') {
        None => (rest, false),
        Some((count, word)) if word.trim_start_matches(' ').eq_ignore_ascii_case("LAST") => (count, true),
        Some(_) => return Err(argument("BDAT bytes [LAST]")),
    };
    let digits = !count.is_empty() && count.len() <= 19 && count.bytes().all(|b| b.is_ascii_digit());
    let bytes = count.parse().ok().filter(|_| digits).ok_or_else(|| argument("BDAT bytes [LAST]"))?;
    Ok(Command::Bdat { bytes, last })
}

fn unknown() -> Reply {
    Reply::new(555, "5.5.4", "unknown parameter")
}

/// An address that is not ASCII, without the parameter that allows it.
pub(super) fn needs_utf8() -> Reply {
    Reply::new(553, "5.6.7", "an address that is not ASCII needs SMTPUTF8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(line: &str) -> u16 {
        parse(line.as_bytes()).unwrap_err().code
    }

    #[test]
    fn commands_that_are_understood() {
        let address = |path| Address::parse(path).unwrap().0;
        let mail = |from, size, utf8| Ok(Command::Mail { from: address(from), size, utf8 });
        for (line, expected) in [
            ("LHLO client.example", Ok(Command::Lhlo("client.example".to_owned()))),
            ("mail from:<a@b>", mail("<a@b>", None, false)),
            ("MAIL FROM: <a@b>  SIZE=100 BODY=8BITMIME ", mail("<a@b>", Some(100), false)),
            ("MAIL FROM:<> size=0 body=7bit smtputf8", mail("<>", Some(0), true)),
            ("MAIL FROM:<\u{e4}@b> SMTPUTF8", mail("<\u{e4}@b>", None, true)),
            ("MAIL FROM:<a> SIZE=99999999999999999999", mail("<a>", Some(u64::MAX), false)),
            ("Rcpt To:<joe+Work@x>", Ok(Command::Rcpt(address("<joe+Work@x>").unwrap()))),
            ("DATA", Ok(Command::Data)),
            ("BDAT 0", Ok(Command::Bdat { bytes: 0, last: false })),
            ("bdat 86 last", Ok(Command::Bdat { bytes: 86, last: true })),
            ("RSET", Ok(Command::Rset)),
            ("NOOP whatever", Ok(Command::Noop)),
            ("VRFY joe", Ok(Command::Vrfy)),
            ("HELP", Ok(Command::Help)),
            ("quit ", Ok(Command::Quit)),
        ] {
            assert_eq!(parse(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn what_is_wrong_has_its_code() {
        for (line, expected) in [
            ("", 500),
            ("LHLO", 501),
            ("EHLO x", 500),
            ("HELO x", 500),
            ("GET / HTTP/1.1", 500),
            ("MAIL", 501),
            ("MAIL FROM", 501),
            ("MAIL <a@b>", 501),
            ("MAIL FROM:a@b", 501),
            ("MAIL FROM:<a@b>SIZE=1", 501),
            ("MAIL FROM:<a@b> SIZE=-1", 501),
            ("MAIL FROM:<a@b> SIZE", 555),
            ("MAIL FROM:<a@b> SIZE=1x", 501),
            ("MAIL FROM:<a@b> BODY=BINARYMIME", 501),
            ("MAIL FROM:<a@b> RET=FULL", 555),
            ("MAIL FROM:<\u{e4}@b>", 553),
            ("RCPT TO:<>", 501),
            ("RCPT TO:<joe@x> NOTIFY=NEVER", 555),
            ("RCPT TO:joe", 501),
            ("RCPT \u{e4}", 501),
            ("DATA x", 501),
            ("BDAT", 501),
            ("BDAT x", 501),
            ("BDAT 1 LAS", 501),
            ("BDAT 99999999999999999999", 501),
            ("BDAT +1", 501),
            ("AUTH PLAIN", 502),
            ("NOOP\u{0}", 500),
            ("NOOP\tx", 500),
            ("NOOP\nRSET", 500),
            ("NOOP\rRSET", 500),
        ] {
            assert_eq!(code(line), expected, "{line:?}");
        }
        assert_eq!(parse(b"NOOP \xff").unwrap_err().code, 500);
    }
}
