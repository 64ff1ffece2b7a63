//! Patterns of LIST (RFC 9051 6.3.9): `*` stands for any text, `%` for any text without `/`.
//!
//! # Operation
//! A pattern becomes a row of tokens and is matched as a set of positions in that row, one bit each, moved on by every
//! byte of the name. Work is bytes of the name times tokens / 64, whatever the pattern: there is no backtracking that
//! `*a*a*a*b` could make explode. Wildcards side by side are joined first (`*%` is `*`), so each step needs one shift.
//!
//! It matches keys, in which 0x01 stands for `/`, so that a listing builds no name it does not show. What stands before
//! the first wildcard bounds the range of keys that can match at all.
//!
//! The third component of a user's name is `INBOX` if a pattern spells it so in any case.

use super::name::{COMPONENT_BYTES_MAX, INBOX, SEPARATOR};
use unicode_normalization::UnicodeNormalization;

/// Longest pattern in bytes.
pub const PATTERN_BYTES_MAX: usize = 2000;

/// Why text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Too long.
    #[error("the pattern has {bytes} bytes, at most {PATTERN_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A control character.
    #[error("{} may not stand in a pattern", super::name::shown(*found))]
    Character {
        /// The character.
        found: char,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Byte(u8),
    Any,
    AnyInside,
}

/// A compiled pattern.
#[derive(Debug, Clone)]
pub struct Pattern {
    tokens: Vec<Token>,
    /// Bytes before the first wildcard.
    prefix: Vec<u8>,
    /// Bit sets over positions, `words` u64 each: the tokens that are wildcards, and those that are `*`.
    wild: Vec<u64>,
    any: Vec<u64>,
    /// For each byte, the tokens it satisfies: 256 sets.
    takes: Vec<u64>,
    words: usize,
}

impl Pattern {
    /// Compiles a pattern over full names. The pattern is normalised as names are.
    ///
    /// # Errors
    /// If it is too long or holds control characters.
    pub fn parse(text: &str) -> Result<Pattern, PatternError> {
        if text.len() > 3 * PATTERN_BYTES_MAX {
            return Err(PatternError::TooLong { bytes: text.len() });
        }
        let text: String = if text.is_ascii() { text.to_owned() } else { text.nfc().collect() };
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PatternError::TooLong { bytes: text.len() });
        }
        if let Some(found) = text.chars().find(|c| c.is_control()) {
            return Err(PatternError::Character { found });
        }
        Ok(Pattern::compile(tokens(&inbox_in_capitals(text))))
    }

    fn compile(tokens: Vec<Token>) -> Pattern {
        let words = tokens.len() / 64 + 1;
        let mut pattern = Pattern {
            prefix: tokens.iter().map_while(|t| if let Token::Byte(b) = t { Some(*b) } else { None }).collect(),
            wild: vec![0; words],
            any: vec![0; words],
            takes: vec![0; 256 * words],
            words,
            tokens,
        };
        for (at, token) in pattern.tokens.iter().enumerate() {
            let (word, bit) = (at / 64, 1u64 << (at % 64));
            match token {
                Token::Byte(b) => pattern.takes[usize::from(*b) * words + word] |= bit,
                Token::Any => {
                    pattern.wild[word] |= bit;
                    pattern.any[word] |= bit;
                }
                Token::AnyInside => pattern.wild[word] |= bit,
            }
        }
        pattern
    }

    /// What every matching key begins with; may be empty. Scan from here until keys no longer begin with it.
    #[must_use]
    pub fn key_prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// The one key that can match, if the pattern has no wildcard.
    #[must_use]
    pub fn literal(&self) -> Option<&[u8]> {
        (self.prefix.len() == self.tokens.len()).then_some(&self.prefix)
    }

    /// True if the pattern matches the mailbox with this key. A user id is such a key, too.
    #[must_use]
    pub fn matches(&self, key: &[u8]) -> bool {
        let Some(rest) = key.strip_prefix(self.prefix.as_slice()) else { return false };
        if self.words == 1 { self.run_short(rest) } else { self.run_long(rest) }
    }

    /// Up to 63 tokens: the set is one number.
    fn run_short(&self, rest: &[u8]) -> bool {
        let (wild, any, end) = (self.wild[0], self.any[0], 1u64 << self.tokens.len());
        // A `*` that ends the pattern takes all the rest.
        let open = if self.tokens.last() == Some(&Token::Any) { end } else { 0 };
        let mut set = 1u64 << self.prefix.len();
        set |= (set & wild) << 1;
        for &byte in rest {
            if set & open != 0 {
                return true;
            }
            let stays = if byte == SEPARATOR { any } else { wild };
            set = ((set & self.takes[usize::from(byte)]) << 1) | (set & stays);
            set |= (set & wild) << 1;
            if set == 0 {
                return false;
            }
        }
        set & end != 0
    }

    fn run_long(&self, rest: &[u8]) -> bool {
        let end = self.tokens.len();
        let mut set = vec![0u64; self.words];
        set[self.prefix.len() / 64] |= 1 << (self.prefix.len() % 64);
        self.pass_wildcards(&mut set);
        for &byte in rest {
            let stays = if byte == SEPARATOR { &self.any } else { &self.wild };
            let takes = &self.takes[usize::from(byte) * self.words..][..self.words];
            let mut carry = 0;
            for (word, bits) in set.iter_mut().enumerate() {
                let moved = *bits & takes[word];
                *bits = (moved << 1) | carry | (*bits & stays[word]);
                carry = moved >> 63;
            }
            self.pass_wildcards(&mut set);
            if set.iter().all(|bits| *bits == 0) {
                return false;
            }
        }
        set[end / 64] & (1 << (end % 64)) != 0
    }

    /// A wildcard may stand for nothing: its position also reaches the next. Never two side by side, so once is enough.
    fn pass_wildcards(&self, set: &mut [u64]) {
        let mut carry = 0;
        for (bits, wild) in set.iter_mut().zip(&self.wild) {
            let passed = *bits & wild;
            *bits |= (passed << 1) | carry;
            carry = passed >> 63;
        }
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        let token = match byte {
            b'*' => Token::Any,
            b'%' => Token::AnyInside,
            b'/' => Token::Byte(SEPARATOR),
            _ => Token::Byte(byte),
        };
        match (tokens.last_mut(), token) {
            (Some(Token::Any), Token::Any | Token::AnyInside) | (Some(Token::AnyInside), Token::AnyInside) => {}
            (Some(last @ Token::AnyInside), Token::Any) => *last = Token::Any,
            _ => tokens.push(token),
        }
    }
    tokens
}

/// Writes INBOX in capitals where the pattern spells exactly that as third component of a user's name.
fn inbox_in_capitals(mut text: String) -> String {
    let Some(user) = text.strip_prefix("user/").and_then(|rest| rest.split('/').next()) else { return text };
    let start = "user/".len() + user.len() + 1;
    let third = text.get(start..).map_or("", |rest| rest.split('/').next().unwrap_or_default());
    if user.len() <= COMPONENT_BYTES_MAX && !user.contains('*') && third.eq_ignore_ascii_case(INBOX) {
        let end = start + third.len();
        text.replace_range(start..end, INBOX);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Pattern, PatternError};

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(name.replace('/', "\u{1}").as_bytes())
    }

    /// By the words of RFC 9051: does `pattern[i..]` match `name[j..]`, from the ends to the fronts.
    fn slow(pattern: &[u8], name: &[u8]) -> bool {
        let mut table = vec![vec![false; name.len() + 1]; pattern.len() + 1];
        table[pattern.len()][name.len()] = true;
        for i in (0..pattern.len()).rev() {
            for j in (0..=name.len()).rev() {
                let nothing = table[i + 1][j];
                table[i][j] = match (pattern[i], name.get(j)) {
                    (b'*', next) => nothing || (next.is_some() && table[i][j + 1]),
                    (b'%', next) => nothing || (next.is_some_and(|b| *b != b'/') && table[i][j + 1]),
                    (b, next) => next == Some(&b) && table[i + 1][j + 1],
                };
            }
        }
        table[0][0]
    }

    // row 118
    #[test]
    fn wildcards() {
        let cases = [
            ("*", "user/joe/INBOX", true),
            ("user/joe*", "user/joe@example.org/INBOX", true),
            ("user/joe*", "user/jo/INBOX", false),
            ("user/joe/%", "user/joe/INBOX", true),
            ("user/joe/%", "user/joe/A/B", false),
            ("user/joe/%/%", "user/joe/A/B", true),
            ("user/%/INBOX", "user/joe/INBOX", true),
            ("user/%/INBOX", "user/joe/A/INBOX", false),
            ("user/*/INBOX", "user/joe/A/INBOX", true),
            ("user/joe/inbox", "user/joe/INBOX", true),
            ("user/%/inbox", "user/joe/INBOX", true),
            ("user/joe/Inbox/*", "user/joe/INBOX/x", true),
            ("user/joe/A/inbox", "user/joe/A/INBOX", false),
            ("user/*/inbox", "user/joe/A/INBOX", false),
            ("shared/inbox", "shared/INBOX", false),
            ("shared/\u{53f0}%", "shared/\u{53f0}\u{5317}", true),
            ("shared/A\u{308}*", "shared/\u{c4}pfel", true),
            ("*%*%%**a", "user/joe/a", true),
            ("", "shared", false),
            ("shared", "shared", true),
            ("shared%", "shared/x", false),
            ("shared*", "shared", true),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn prefixes_bound_the_scan() {
        let prefix = |p: &str| Pattern::parse(p).unwrap().key_prefix().to_vec();
        assert_eq!(prefix("user/joe*"), b"user\x01joe");
        assert_eq!(prefix("user/joe/INBOX"), b"user\x01joe\x01INBOX");
        assert_eq!(prefix("%/x"), b"");
        assert_eq!(Pattern::parse("user/joe/inbox").unwrap().literal(), Some(&b"user\x01joe\x01INBOX"[..]));
        assert_eq!(Pattern::parse("user/joe/%").unwrap().literal(), None);
    }

    #[test]
    fn refused() {
        assert_eq!(Pattern::parse(&"a".repeat(2001)).err(), Some(PatternError::TooLong { bytes: 2001 }));
        assert_eq!(Pattern::parse("a\u{1}").err(), Some(PatternError::Character { found: '\u{1}' }));
    }

    #[test]
    fn agrees_with_the_definition() {
        let mut seed = 0x5eedu64;
        let mut below = |n: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % n
        };
        let mut matched = 0;
        for round in 0..30_000 {
            let mut pattern: Vec<u8> = (0..below(9)).map(|_| b"ab/**%%"[below(7)]).collect();
            let mut name: Vec<u8> = (0..below(12)).map(|_| b"aab/"[below(4)]).collect();
            if round % 4 == 0 {
                // more than 63 tokens: the long form
                let pad = vec![b'a'; 50 + below(30)];
                pattern.extend_from_slice(&pad);
                name.extend_from_slice(&pad);
            }
            let (pattern, name) = (String::from_utf8(pattern).unwrap(), String::from_utf8(name).unwrap());
            let expected = slow(pattern.as_bytes(), name.as_bytes());
            matched += usize::from(expected);
            assert_eq!(matches(&pattern, &name), expected, "round {round}: {pattern} {name}");
        }
        assert!(matched > 1_500, "{matched}");
    }

    // S21
    #[test]
    fn no_pattern_explodes() {
        let name = "a".repeat(1000);
        for pattern in ["*a".repeat(900) + "b", "%a".repeat(900) + "b", "*a%".repeat(600) + "b", "*".repeat(1999) + "b"]
        {
            // A thousand names in well under a second each, even unoptimised; backtracking would not end at all.
            let compiled = Pattern::parse(&pattern).unwrap();
            assert!((0..50).all(|_| !compiled.matches(name.as_bytes())));
        }
    }
}
