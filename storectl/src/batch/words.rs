//! A line as a verb: split as a shell does, parsed with the definitions of the command line. The plain forms of the most
//! common verbs have a way of their own, which gives the same (a test holds the two equal) without clap's time of some
//! ten microseconds.

use crate::cli::{
    AclDeleteArgs, AclSetArgs, AclVerb, Consent, DryRun, Line, MailboxCreateArgs, MailboxDeleteArgs, MailboxName,
    MailboxRenameArgs, MailboxShowArgs, MailboxVerb, SubscribeArgs, UserAddArgs, UserDeleteArgs, UserName,
    UserRenameArgs, UserVerb, Verb,
};
use crate::{later, usage};
use clap::{CommandFactory, FromArgMatches};
use proto::{Code, Failure};

/// More words than any plain form has.
const PLAIN_WORDS: usize = 6;

/// Lines to verbs. Holds the definitions, which take long to build.
#[derive(Debug)]
pub struct Parser {
    definition: clap::Command,
}

impl Default for Parser {
    fn default() -> Self {
        let mut definition = Line::command();
        definition.build();
        Parser { definition }
    }
}

impl Parser {
    /// The verb of a line.
    ///
    /// # Errors
    /// Not UTF-8 (65), quotes that do not close, no such verb, wrong arguments (64).
    pub fn parse(&mut self, line: &[u8]) -> Result<Verb, Failure> {
        let line = std::str::from_utf8(line)
            .map_err(|e| Failure::new(Code::BadInput, format!("not UTF-8 from byte {} on", e.valid_up_to() + 1)))?;
        if let Some(verb) = unquoted(line).and_then(|(words, count)| plain(&words[..count])) {
            return Ok(verb);
        }
        let words = shlex::split(line).ok_or_else(|| {
            Failure::new(Code::Usage, "a quote or a backslash that does not end")
                .with_hint("quote as in a shell: 'two words'")
        })?;
        if let Some(verb) = plain(&words.iter().map(String::as_str).collect::<Vec<_>>()) {
            return Ok(verb);
        }
        let parsed = self.definition.try_get_matches_from_mut(words).and_then(|m| Line::from_arg_matches(&m));
        parsed.map(|line| line.verb).map_err(|e| later::failure(&e).unwrap_or_else(|| usage::failure(&e)))
    }
}

/// The words of a line without quotes and comments, if they are as few as those of the plain forms.
fn unquoted(line: &str) -> Option<([&str; PLAIN_WORDS], usize)> {
    if line.bytes().any(|byte| matches!(byte, b'\'' | b'"' | b'\\' | b'#')) {
        return None;
    }
    let mut words = [""; PLAIN_WORDS];
    let mut count = 0;
    for word in line.split([' ', '\t']).filter(|word| !word.is_empty()) {
        *words.get_mut(count)? = word;
        count += 1;
    }
    Some((words, count))
}

/// The verb of words that are nothing but a common verb and its values: no options but `--yes`.
fn plain(words: &[&str]) -> Option<Verb> {
    let mut consent = Consent::default();
    let mut words = words;
    if let [rest @ .., "--yes"] = words {
        (words, consent.yes) = (rest, true);
    }
    if words.iter().any(|word| word.starts_with('-')) {
        return None;
    }
    if consent.yes { destructive(words, consent) } else { harmless(words) }
}

fn destructive(words: &[&str], consent: Consent) -> Option<Verb> {
    Some(match *words {
        ["mailbox", "delete", name] => {
            Verb::Mailbox(MailboxVerb::Delete(MailboxDeleteArgs { name: name.to_owned(), consent }))
        }
        ["user", "delete", user] => Verb::User(UserVerb::Delete(UserDeleteArgs { user: user.to_owned(), consent })),
        _ => return None,
    })
}

fn harmless(words: &[&str]) -> Option<Verb> {
    let dry = DryRun::default();
    let own = str::to_owned;
    Some(match *words {
        ["mailbox", "create", name] => {
            Verb::Mailbox(MailboxVerb::Create(MailboxCreateArgs { name: own(name), partition: None, dry }))
        }
        ["mailbox", "rename", from, to] => {
            Verb::Mailbox(MailboxVerb::Rename(MailboxRenameArgs { from: own(from), to: own(to), dry }))
        }
        ["mailbox", "show", name] => {
            Verb::Mailbox(MailboxVerb::Show(MailboxShowArgs { name: Some(own(name)), id: None, viewer: None }))
        }
        ["user", "add", user] => Verb::User(UserVerb::Add(UserAddArgs {
            user: own(user),
            partition: None,
            quota: None,
            messages: None,
            dry,
        })),
        ["user", "rename", user, to] => {
            Verb::User(UserVerb::Rename(UserRenameArgs { user: own(user), to: own(to), dry }))
        }
        ["user", "show", user] => Verb::User(UserVerb::Show(UserName { user: own(user) })),
        ["acl", "set", name, identifier, rights] => Verb::Acl(AclVerb::Set(AclSetArgs {
            name: own(name),
            identifier: own(identifier),
            rights: own(rights),
            dry,
        })),
        ["acl", "delete", name, identifier] => {
            Verb::Acl(AclVerb::Delete(AclDeleteArgs { name: own(name), identifier: own(identifier), dry }))
        }
        ["acl", "get", name] => Verb::Acl(AclVerb::Get(MailboxName { name: own(name) })),
        ["subscribe", user, name] => Verb::Subscribe(SubscribeArgs { user: own(user), name: own(name), dry }),
        ["unsubscribe", user, name] => Verb::Unsubscribe(SubscribeArgs { user: own(user), name: own(name), dry }),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_clap(line: &str) -> Verb {
        let words = shlex::split(line).unwrap();
        let matches = Line::command().try_get_matches_from(words).unwrap();
        Line::from_arg_matches(&matches).unwrap().verb
    }

    fn by_hand(line: &str) -> Option<Verb> {
        let words = shlex::split(line).unwrap();
        let found = plain(&words.iter().map(String::as_str).collect::<Vec<_>>());
        if let Some((words, count)) = unquoted(line) {
            assert_eq!(plain(&words[..count]), found, "{line}");
        }
        found
    }

    #[test]
    fn the_plain_way_gives_what_clap_gives() {
        let lines = [
            "mailbox create user/joe/Work",
            " mailbox\tcreate   user/joe/\u{c4}pfel ",
            "mailbox rename a b",
            "mailbox show a",
            "mailbox delete a --yes",
            "user add joe@example.org",
            "user rename a b",
            "user show a",
            "user delete a --yes",
            "acl set a b lrs",
            "acl set a b +lrs",
            "acl delete a b",
            "acl get a",
            "subscribe a b",
            "unsubscribe a b",
            "mailbox create 'a b'",
            "mailbox create a\\ b # why",
            "mailbox create ''",
        ];
        for line in lines {
            assert_eq!(by_hand(line), Some(by_clap(line)), "{line}");
        }
    }

    #[test]
    fn everything_else_goes_to_clap() {
        let lines = [
            "mailbox create a --dry-run",
            "mailbox create -- a",
            "mailbox create",
            "mailbox delete a",
            "mailbox delete --yes a",
            "mailbox create a --yes",
            "acl set a b -lrs",
            "mailbox list",
            "one two three four five six seven",
            "--help",
            "",
        ];
        for line in lines {
            assert_eq!(by_hand(line), None, "{line}");
        }
    }

    #[test]
    fn words_are_quoted_as_in_a_shell() {
        let mut parser = Parser::default();
        let create = |name: &str| {
            Verb::Mailbox(MailboxVerb::Create(MailboxCreateArgs {
                name: name.to_owned(),
                partition: None,
                dry: DryRun::default(),
            }))
        };
        assert_eq!(parser.parse(b"mailbox create 'user/joe/two words'").unwrap(), create("user/joe/two words"));
        assert_eq!(parser.parse(b"mailbox create a\\ b # why").unwrap(), create("a b"));
        assert_eq!(parser.parse(b"mailbox create \"it's\"").unwrap(), create("it's"));
    }

    #[test]
    fn wrong_lines_are_told_apart() {
        let mut parser = Parser::default();
        let mut code = |line: &[u8]| parser.parse(line).unwrap_err().code;
        assert_eq!(code(b"mailbox create 'a"), Code::Usage);
        assert_eq!(code(b"mailbox create \xff"), Code::BadInput);
        assert_eq!(code(b"mailbxo create a"), Code::Usage);
        assert_eq!(code(b"mailbox create"), Code::Usage);
        assert_eq!(code(b"--json status"), Code::Usage);
        assert_eq!(code(b"status --help"), Code::Usage);
    }
}
