//! A message: what a mailbox knows of it beside its bytes.
//!
//! # Purpose
//! One form for the log, for memory, for `store.idx` and for its mirror: the state of one message from now on, made once
//! by the planner. It states everything, so it can be judged and applied alone, and applied twice.
//!
//! # Format
//! Little-endian, 88 bytes and the keywords:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 1 | version, 1 |
//! | 1 | 1 | state: 1 live, 2 expunged, 3 purged |
//! | 2 | 2 | system flags: 1 \Seen, 2 \Answered, 4 \Flagged, 8 \Deleted, 16 \Draft |
//! | 4 | 4 | UID, never 0 |
//! | 8 | 8 | modseq |
//! | 16 | 8 | size in bytes |
//! | 24 | 4 | size of the header in bytes, its empty line included |
//! | 28 | 8 | internal date, microseconds since 1970 |
//! | 36 | 8 | when it came into this mailbox, microseconds since 1970 |
//! | 44 | 8 | when it was expunged, microseconds since 1970; 0 if it was not |
//! | 52 | 32 | BLAKE3 of the bytes |
//! | 84 | 1 | number of keywords |
//! | 85 | 3 | zero |
//! | 88 | | each keyword: its length in one byte, its text |
//!
//! # Invariants
//! * Equal messages have equal bytes; keywords are in order, without repeats. Golden bytes in the tests pin them.
//! * Decoding takes nothing that encoding would not make.

use crate::error::{Result, StoreError};
use std::collections::BTreeSet;
use std::fmt;

/// Version of the encoding.
pub const VERSION: u8 = 1;
/// Bytes of a message without keywords.
pub const FIXED_BYTES: usize = 88;
/// Most keywords of one message.
pub const KEYWORDS_MAX: usize = 64;
/// Longest keyword in bytes.
pub const KEYWORD_BYTES_MAX: usize = 255;
/// Longest encoded message.
pub const BYTES_MAX: usize = FIXED_BYTES + KEYWORDS_MAX * (KEYWORD_BYTES_MAX + 1);

/// BLAKE3 of a message's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// System flags (RFC 9051 2.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Flags(u16);

impl Flags {
    /// None.
    pub const NONE: Flags = Flags(0);
    /// `\Seen`.
    pub const SEEN: Flags = Flags(1);
    /// `\Answered`.
    pub const ANSWERED: Flags = Flags(2);
    /// `\Flagged`.
    pub const FLAGGED: Flags = Flags(4);
    /// `\Deleted`.
    pub const DELETED: Flags = Flags(8);
    /// `\Draft`.
    pub const DRAFT: Flags = Flags(16);
    const NAMES: [(Flags, &'static str); 5] = [
        (Flags::SEEN, "\\Seen"),
        (Flags::ANSWERED, "\\Answered"),
        (Flags::FLAGGED, "\\Flagged"),
        (Flags::DELETED, "\\Deleted"),
        (Flags::DRAFT, "\\Draft"),
    ];

    /// The flag with this name, in any case; `None` for another word.
    #[must_use]
    pub fn named(name: &str) -> Option<Flags> {
        Flags::NAMES.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(flag, _)| *flag)
    }

    /// The names of all that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Flags::NAMES.into_iter().filter(move |(flag, _)| self.has(*flag)).map(|(_, name)| name)
    }

    /// True if all of `other` are set.
    #[must_use]
    pub fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// These and those.
    #[must_use]
    pub fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// These without those.
    #[must_use]
    pub fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }

    fn from_bits(bits: u16) -> Option<Flags> {
        (bits < 32).then_some(Flags(bits))
    }
}

/// Why text is no keyword.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a keyword has 1 to {KEYWORD_BYTES_MAX} printable ASCII characters, none of them one of ( ) {{ % * \" \\ ] or a space"
)]
pub struct KeywordError;

/// Checks a keyword: an atom (RFC 9051 9), also one that begins with `$`.
///
/// # Errors
/// If it breaks the rule that the error states.
pub fn check_keyword(text: &str) -> Result<(), KeywordError> {
    let good = |b: u8| b.is_ascii_graphic() && !b"(){%*\"\\]".contains(&b);
    if (1..=KEYWORD_BYTES_MAX).contains(&text.len()) && text.bytes().all(good) { Ok(()) } else { Err(KeywordError) }
}

/// Reads flags as a person types them: system flags with their backslash, keywords without.
///
/// # Errors
/// The first that is neither.
pub fn parse_flags<'t>(words: impl IntoIterator<Item = &'t str>) -> Result<(Flags, BTreeSet<String>), String> {
    let (mut flags, mut keywords) = (Flags::NONE, BTreeSet::new());
    for word in words {
        match Flags::named(word) {
            Some(flag) => flags = flags.with(flag),
            None => {
                check_keyword(word).map_err(|why| format!("bad flag {word:?}: {why}"))?;
                keywords.insert(word.to_owned());
            }
        }
    }
    if keywords.len() > KEYWORDS_MAX {
        return Err(format!("{} keywords, at most {KEYWORDS_MAX}", keywords.len()));
    }
    Ok((flags, keywords))
}

/// Whether a message is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// It is.
    Live = 1,
    /// No longer, and it can be brought back.
    Expunged = 2,
    /// For good; its UID is never given again.
    Purged = 3,
}

impl State {
    /// Its name.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            State::Live => "live",
            State::Expunged => "expunged",
            State::Purged => "purged",
        }
    }
}

/// One message of one mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// UID, never 0.
    pub uid: u32,
    /// Whether it is there.
    pub state: State,
    /// System flags.
    pub flags: Flags,
    /// Keywords; at most [`KEYWORDS_MAX`], each as [`check_keyword`] allows.
    pub keywords: BTreeSet<String>,
    /// Mod-sequence of its last change (RFC 7162).
    pub modseq: u64,
    /// Bytes.
    pub size: u64,
    /// Bytes of the header, its empty line included.
    pub header_size: u32,
    /// INTERNALDATE, microseconds since 1970.
    pub internal_us: u64,
    /// When it came into this mailbox (SAVEDATE, RFC 8514), microseconds since 1970.
    pub saved_us: u64,
    /// When it was expunged, microseconds since 1970; 0 if it was not.
    pub expunged_us: u64,
    /// BLAKE3 of its bytes.
    pub digest: Digest,
}

impl Message {
    /// Appends the encoded message.
    ///
    /// # Errors
    /// [`StoreError::Bug`] if it breaks a limit: what comes from outside was checked before.
    pub fn put(&self, out: &mut Vec<u8>) -> Result<()> {
        if self.uid == 0
            || self.keywords.len() > KEYWORDS_MAX
            || self.keywords.iter().any(|k| check_keyword(k).is_err())
        {
            return Err(StoreError::Bug(format!("message {} cannot be encoded: {:?}", self.uid, self.keywords)));
        }
        out.extend_from_slice(&[VERSION, self.state as u8]);
        out.extend_from_slice(&self.flags.0.to_le_bytes());
        out.extend_from_slice(&self.uid.to_le_bytes());
        out.extend_from_slice(&self.modseq.to_le_bytes());
        out.extend_from_slice(&self.size.to_le_bytes());
        out.extend_from_slice(&self.header_size.to_le_bytes());
        for us in [self.internal_us, self.saved_us, self.expunged_us] {
            out.extend_from_slice(&us.to_le_bytes());
        }
        out.extend_from_slice(&self.digest.0);
        out.extend_from_slice(&[u8::try_from(self.keywords.len()).unwrap_or(u8::MAX), 0, 0, 0]);
        for keyword in &self.keywords {
            out.push(u8::try_from(keyword.len()).unwrap_or(u8::MAX));
            out.extend_from_slice(keyword.as_bytes());
        }
        Ok(())
    }

    /// Reads an encoded message; every byte must be used.
    ///
    /// # Errors
    /// What was found, as text: the caller knows where.
    pub fn decode(bytes: &[u8]) -> Result<Message, String> {
        if bytes.first().is_some_and(|version| *version != VERSION) {
            return Err(format!("version {} of a message", bytes[0]));
        }
        let Some((fixed, mut rest)) = bytes.split_first_chunk::<FIXED_BYTES>() else {
            return Err(format!("a message of {} bytes", bytes.len()));
        };
        let state = [State::Live, State::Expunged, State::Purged].into_iter().find(|s| *s as u8 == fixed[1]);
        let flags = Flags::from_bits(u16::from_le_bytes(array(fixed, 2)));
        let (Some(state), Some(flags)) = (state, flags) else {
            return Err(format!("state and flags {:02x?}", &fixed[1..4]));
        };
        let uid = u32::from_le_bytes(array(fixed, 4));
        if uid == 0 || fixed[85..] != [0; 3] {
            return Err(format!("UID {uid}, padding {:02x?}", &fixed[85..]));
        }
        let mut keywords = BTreeSet::new();
        for _ in 0..fixed[84] {
            let text = rest.split_first().and_then(|(len, more)| more.split_at_checked(usize::from(*len)));
            let (text, more) = text.ok_or("keywords that end too early")?;
            let text = std::str::from_utf8(text).ok().filter(|t| check_keyword(t).is_ok()).ok_or("a bad keyword")?;
            if keywords.last().is_some_and(|last: &String| last.as_str() >= text) {
                return Err("keywords out of order".to_owned());
            }
            keywords.insert(text.to_owned());
            rest = more;
        }
        if !rest.is_empty() || keywords.len() > KEYWORDS_MAX {
            return Err(format!("{} keywords, {} bytes behind them", keywords.len(), rest.len()));
        }
        let number = |at| u64::from_le_bytes(array(fixed, at));
        Ok(Message {
            uid,
            state,
            flags,
            keywords,
            modseq: number(8),
            size: number(16),
            header_size: u32::from_le_bytes(array(fixed, 24)),
            internal_us: number(28),
            saved_us: number(36),
            expunged_us: number(44),
            digest: Digest(array(fixed, 52)),
        })
    }

    /// Its system flags and keywords, by name.
    #[must_use]
    pub fn flag_names(&self) -> Vec<String> {
        self.flags.names().map(str::to_owned).chain(self.keywords.iter().cloned()).collect()
    }

    /// True if it is there.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.state == State::Live
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|n| bytes[at + n])
}

/// The UID of an encoded message, its rest not looked at.
#[must_use]
pub fn message_uid(bytes: &[u8]) -> Option<u32> {
    let uid = bytes.first_chunk::<8>()?.last_chunk::<4>()?;
    Some(u32::from_le_bytes(*uid)).filter(|uid| *uid > 0)
}

/// Bytes of the header of a message, its empty line included; all of it if there is no body. Lines end with LF, with or
/// without CR before it.
#[must_use]
pub fn header_size(message: &[u8]) -> u32 {
    let mut end = HeaderEnd::default();
    end.add(message);
    end.size()
}

/// Looks for the end of a header while a message comes in pieces. Each byte is looked at once, and none is kept.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeaderEnd {
    bytes: u64,
    /// Bytes of the line that has begun, 2 for more, and whether its first is a CR.
    line: u8,
    is_cr: bool,
    found: bool,
}

impl HeaderEnd {
    /// The next bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        if self.found {
            return;
        }
        for byte in bytes {
            self.bytes += 1;
            match (byte, self.line) {
                (b'\n', 0) => self.found = true,
                (b'\n', 1) if self.is_cr => self.found = true,
                (b'\n', _) => self.line = 0,
                (byte, 0) => (self.line, self.is_cr) = (1, *byte == b'\r'),
                _ => self.line = 2,
            }
            if self.found {
                return;
            }
        }
    }

    /// Bytes of the header so far, its empty line included.
    #[must_use]
    pub fn size(self) -> u32 {
        u32::try_from(self.bytes).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Message {
        Message {
            uid: 7,
            state: State::Expunged,
            flags: Flags::SEEN.with(Flags::FLAGGED),
            keywords: ["$Work", "abc"].map(str::to_owned).into(),
            modseq: 0x0102,
            size: 4096,
            header_size: 512,
            internal_us: 3,
            saved_us: 4,
            expunged_us: 5,
            digest: Digest([0xab; 32]),
        }
    }

    fn encoded(message: &Message) -> Vec<u8> {
        let mut out = Vec::new();
        message.put(&mut out).unwrap();
        out
    }

    #[test]
    fn a_header_ends_wherever_it_is_cut() {
        let cases: [(&[u8], u32); 8] = [
            (b"", 0),
            (b"\r\nbody", 2),
            (b"\nbody\n\n", 1),
            (b"a: b\r\n\r\nbody\r\n\r\n", 8),
            (b"a: b\n\nbody", 6),
            (b"a\r\r\n\rx\n\r\n", 9),
            (b"a: b\r\nno end", 12),
            (b"\r\r\n\n", 4),
        ];
        for (message, size) in cases {
            assert_eq!(header_size(message), size, "{message:?}");
            for cut in 0..message.len() {
                let mut end = HeaderEnd::default();
                end.add(&message[..cut]);
                message[cut..].iter().for_each(|byte| end.add(&[*byte]));
                assert_eq!(end.size(), size, "{message:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn golden_bytes() {
        let hex: String = encoded(&sample()).iter().map(|b| format!("{b:02x}")).collect();
        let expected = concat!(
            "0102050007000000020100000000000000100000000000000002000003000000000000000400000000000000",
            "0500000000000000abababababababababababababababababababababababababababababababab",
            "02000000",
            "0524576f726b",
            "03616263"
        );
        assert_eq!(hex, expected);
        assert_eq!(Message::decode(&encoded(&sample())), Ok(sample()));
    }

    #[test]
    fn what_encoding_would_not_make_is_refused() {
        let good = encoded(&sample());
        for cut in 0..good.len() {
            assert!(Message::decode(&good[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bytes = good.clone();
                bytes[at] ^= 1 << bit;
                if let Ok(other) = Message::decode(&bytes) {
                    assert!(encoded(&other) == bytes && other != sample(), "byte {at} bit {bit}");
                }
            }
        }
        let mut longer = good.clone();
        longer.push(0);
        assert!(Message::decode(&longer).is_err());
        let bad = Message { keywords: ["a b".to_owned()].into(), ..sample() };
        assert!(bad.put(&mut Vec::new()).is_err());
        let many = Message { keywords: (0..65).map(|n| format!("k{n}")).collect(), ..sample() };
        assert!(many.put(&mut Vec::new()).is_err());
        let most = Message { keywords: (0..64).map(|n| format!("{n:0>255}")).collect(), ..sample() };
        assert_eq!(encoded(&most).len(), BYTES_MAX);
        assert_eq!(Message::decode(&encoded(&most)), Ok(most));
    }

    #[test]
    fn flags_have_names() {
        assert_eq!(Flags::named("\\seen"), Some(Flags::SEEN));
        assert_eq!(Flags::named("Seen"), None);
        let both = Flags::DRAFT.with(Flags::SEEN);
        assert_eq!(both.names().collect::<Vec<_>>(), ["\\Seen", "\\Draft"]);
        assert_eq!(both.without(Flags::SEEN), Flags::DRAFT);
        assert!(
            check_keyword("$Forwarded").is_ok() && check_keyword("\\Recent").is_err() && check_keyword("").is_err()
        );
    }

    #[test]
    fn headers_end_at_the_first_empty_line() {
        assert_eq!(header_size(b"A: b\r\n\r\nbody"), 8);
        assert_eq!(header_size(b"A: b\n\nbody\n\n"), 6);
        assert_eq!(header_size(b"A: b\r\nno body"), 13);
        assert_eq!(header_size(b"\r\nbody"), 2);
        assert_eq!(header_size(b""), 0);
        assert_eq!(header_size(b"A: b\r\n\rx\n\n"), 10);
    }
}
