//! Addresses of envelopes, and which user and folder they mean.
//!
//! # Format
//! A path is `<local@domain>`, `<local>`, or `<>` for nobody. `local` is a run of printable characters or a quoted string
//! (RFC 5321 4.1.2); a route before the mailbox is dropped. An address without a domain is as good as one with it: users of
//! this store need none.
//!
//! # Which user
//! An address means the first of these users that there is: exactly as written; with the domain in lower case; all in lower
//! case. Without a domain, and with one that is configured as local, the part before `@` alone is tried as well. If there is
//! none, what follows the first delimiter (`+`) is taken for a folder, and the same is tried with what stands before it: so a
//! user whose id has a `+` comes before a folder of another.

use crate::model::UserId;

/// Longest path in bytes. RFC 5321 has 256; a folder's name may stand in it.
pub const PATH_BYTES_MAX: usize = 1024;

/// An address of an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// As written, without a route.
    text: String,
    /// Without quotes.
    local: String,
    domain: Option<String>,
}

/// Text that is no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl Address {
    /// Reads a path from the beginning of `text`; gives the address, `None` for `<>`, and what stands behind the path.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(text: &str) -> Result<(Option<Address>, &str), Malformed> {
        let inner = text.strip_prefix('<').ok_or(Malformed)?;
        if let Some(rest) = inner.strip_prefix('>') {
            return Ok((None, rest));
        }
        let mailbox = without_route(inner)?;
        let (local, behind) = if let Some(quoted) = mailbox.strip_prefix('"') {
            unquote(quoted)?
        } else {
            let end = mailbox.find(['@', '>']).ok_or(Malformed)?;
            let (local, behind) = mailbox.split_at(end);
            if !local.chars().all(is_plain) {
                return Err(Malformed);
            }
            (local.to_owned(), behind)
        };
        let (domain, rest) = match behind.strip_prefix('@') {
            None => (None, behind.strip_prefix('>').ok_or(Malformed)?),
            Some(domain) => {
                let (domain, rest) = domain.split_once('>').ok_or(Malformed)?;
                let good = |c: char| is_plain(c) || matches!(c, '[' | ']' | ':');
                if domain.is_empty() || !domain.chars().all(good) {
                    return Err(Malformed);
                }
                (Some(domain.to_owned()), rest)
            }
        };
        let written = mailbox.len() - rest.len() - 1;
        if local.is_empty() || written > PATH_BYTES_MAX {
            return Err(Malformed);
        }
        Ok((Some(Address { text: mailbox[..written].to_owned(), local, domain }), rest))
    }

    /// As written, without a route and without the angle brackets. It holds no control characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The users, and with them the folders, that it may mean, the best first; see the page.
    #[must_use]
    pub fn meanings(&self, rules: &Rules) -> Vec<Meaning> {
        let mut out = Vec::new();
        self.users(&self.local, rules, None, &mut out);
        if let Some(delimiter) = rules.delimiter
            && let Some((local, folder)) = self.local.split_once(delimiter)
        {
            let folder = Some(folder).filter(|folder| !folder.is_empty());
            self.users(local, rules, folder, &mut out);
        }
        out
    }

    fn users(&self, local: &str, rules: &Rules, folder: Option<&str>, out: &mut Vec<Meaning>) {
        let lower = local.to_ascii_lowercase();
        let mut forms = Vec::new();
        if let Some(domain) = &self.domain {
            let domain_lower = domain.to_ascii_lowercase();
            forms.push(format!("{local}@{domain}"));
            forms.push(format!("{local}@{domain_lower}"));
            forms.push(format!("{lower}@{domain_lower}"));
        }
        if self.domain.as_deref().is_none_or(|domain| rules.is_local(domain)) {
            forms.push(local.to_owned());
            forms.push(lower);
        }
        for user in forms.iter().filter_map(|form| UserId::parse(form).ok()) {
            let meaning = Meaning { user, folder: folder.map(str::to_owned) };
            if !out.contains(&meaning) {
                out.push(meaning);
            }
        }
    }
}

/// A user that an address may mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meaning {
    /// The user.
    pub user: UserId,
    /// The folder below him, as the address names it; `None`: INBOX.
    pub folder: Option<String>,
}

/// How addresses are read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// What stands between user and folder; `None`: nothing does.
    pub delimiter: Option<char>,
    /// Domains, in lower case, whose users have ids without a domain; `*` is every domain.
    pub local_domains: Vec<String>,
}

impl Rules {
    /// Reads the options of the configuration: at most one character, and domains with blanks between them.
    #[must_use]
    pub fn new(delimiter: &str, local_domains: &str) -> Rules {
        Rules {
            delimiter: delimiter.chars().next(),
            local_domains: local_domains.split_whitespace().map(str::to_ascii_lowercase).collect(),
        }
    }

    fn is_local(&self, domain: &str) -> bool {
        self.local_domains.iter().any(|local| local == "*" || local.eq_ignore_ascii_case(domain))
    }
}

/// A character that may stand unquoted.
fn is_plain(c: char) -> bool {
    !c.is_control() && !matches!(c, ' ' | '<' | '>' | '(' | ')' | '[' | ']' | ',' | ';' | ':' | '\\' | '"' | '@')
}

/// What stands behind a route `@a,@b:`, if there is one.
fn without_route(text: &str) -> Result<&str, Malformed> {
    if !text.starts_with('@') {
        return Ok(text);
    }
    let (route, mailbox) = text.split_once(':').ok_or(Malformed)?;
    let hop = |hop: &str| hop.strip_prefix('@').is_some_and(|h| !h.is_empty() && h.chars().all(is_plain));
    if route.split(',').all(hop) { Ok(mailbox) } else { Err(Malformed) }
}

/// The text of a quoted string whose first quote is gone, and what stands behind the last.
fn unquote(text: &str) -> Result<(String, &str), Malformed> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((out, &text[at + 1..])),
            '\\' => out.push(chars.next().map(|(_, c)| c).filter(|c| !c.is_control()).ok_or(Malformed)?),
            c if c.is_control() => return Err(Malformed),
            c => out.push(c),
        }
    }
    Err(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(path: &str) -> Address {
        let (address, rest) = Address::parse(path).unwrap();
        assert_eq!(rest, "");
        address.unwrap()
    }

    #[test]
    fn paths_that_are_taken() {
        for (path, text, local, domain) in [
            ("<joe@example.org>", "joe@example.org", "joe", Some("example.org")),
            ("<joe>", "joe", "joe", None),
            ("<Joe.A+Work/x@Example.Org>", "Joe.A+Work/x@Example.Org", "Joe.A+Work/x", Some("Example.Org")),
            ("<a..b.@x>", "a..b.@x", "a..b.", Some("x")),
            ("<\"joe smith\"@x>", "\"joe smith\"@x", "joe smith", Some("x")),
            ("<\"a\\\"b@>c\">", "\"a\\\"b@>c\"", "a\"b@>c", None),
            ("<@a,@b:joe@x>", "joe@x", "joe", Some("x")),
            ("<joe@[IPv6:::1]>", "joe@[IPv6:::1]", "joe", Some("[IPv6:::1]")),
            ("<j\u{f6}@\u{e4}.org>", "j\u{f6}@\u{e4}.org", "j\u{f6}", Some("\u{e4}.org")),
        ] {
            let found = address(path);
            assert_eq!((found.as_str(), &*found.local, found.domain.as_deref()), (text, local, domain), "{path}");
        }
        assert_eq!(Address::parse("<>"), Ok((None, "")));
        assert_eq!(Address::parse("<> SIZE=1"), Ok((None, " SIZE=1")));
        assert_eq!(Address::parse("<a@b> X").unwrap().1, " X");
        let longest = format!("<{}>", "a".repeat(PATH_BYTES_MAX));
        assert_eq!(address(&longest).as_str().len(), PATH_BYTES_MAX);
    }

    #[test]
    fn paths_that_are_refused() {
        let long = format!("<{}>", "a".repeat(PATH_BYTES_MAX + 1));
        let bad = [
            "",
            "<",
            "joe@x",
            "<joe@x",
            "<@x>",
            "<joe@>",
            "<joe@a@b>",
            "<joe smith@x>",
            "<joe\r@x>",
            "<joe\n@x>",
            "<joe\u{0}@x>",
            "<\"joe@x>",
            "<\"joe\\\">",
            "<\"a\u{1}\"@x>",
            "<\"a\"b@x>",
            "<@a:>",
            "<@a joe@x>",
            "<@:joe@x>",
            "<a<b@x>",
            "<\"\"@x>",
            "<joe@x\u{7f}>",
            &long,
        ];
        for path in bad {
            assert_eq!(Address::parse(path), Err(Malformed), "{path:?}");
        }
    }

    fn meanings(path: &str, delimiter: &str, local: &str) -> Vec<String> {
        let found = address(path).meanings(&Rules::new(delimiter, local));
        found
            .into_iter()
            .map(|m| format!("{}{}", m.user, m.folder.map_or(String::new(), |f| format!(" {f}"))))
            .collect()
    }

    #[test]
    fn users_are_tried_from_the_exact_to_the_lenient() {
        assert_eq!(meanings("<Joe@X.org>", "+", ""), ["Joe@X.org", "Joe@x.org", "joe@x.org"]);
        assert_eq!(meanings("<joe@x.org>", "+", ""), ["joe@x.org"]);
        assert_eq!(meanings("<Joe>", "+", ""), ["Joe", "joe"]);
        assert_eq!(meanings("<joe@x.org>", "+", "y.org X.ORG"), ["joe@x.org", "joe"]);
        assert_eq!(meanings("<joe@x.org>", "+", "*"), ["joe@x.org", "joe"]);
        assert_eq!(meanings("<\"joe\"@x.org>", "+", ""), ["joe@x.org"]);
        assert_eq!(meanings("<\"joe smith\"@x.org>", "+", ""), [""; 0], "no user has such an id");
        assert_eq!(meanings("<-joe@x.org>", "+", ""), [""; 0]);
    }

    #[test]
    fn a_user_with_a_plus_comes_before_a_folder() {
        assert_eq!(meanings("<joe+Work@x>", "+", ""), ["joe+Work@x", "joe+work@x", "joe@x Work"]);
        assert_eq!(meanings("<joe+Lists/a+b@x>", "+", ""), ["joe@x Lists/a+b"]);
        assert_eq!(meanings("<joe+@x>", "+", ""), ["joe+@x", "joe@x"]);
        assert_eq!(meanings("<joe+Work@x>", "", ""), ["joe+Work@x", "joe+work@x"]);
        assert_eq!(meanings("<joe-Work@x>", "-", ""), ["joe-Work@x", "joe-work@x", "joe@x Work"]);
        assert_eq!(meanings("<+Work@x>", "+", ""), ["+Work@x", "+work@x"], "nobody stands before the delimiter");
        assert_eq!(meanings("<joe+../x@x>", "+", ""), ["joe@x ../x"], "whether that is a folder is for names to say");
    }
}
