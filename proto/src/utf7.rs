//! Modified UTF-7, the spelling of mailbox names in IMAP before UTF-8.
//!
//! # Format
//! RFC 3501 section 5.1.3: printable ASCII (0x20-0x7E) stands for itself, except `&`, which is `&-`. Everything else is
//! UTF-16, big-endian, in base64 with `,` for `/` and without padding, between `&` and `-`.
//!
//! # Operation
//! [`encode`] makes the one canonical spelling of a name, [`decode`] takes that spelling and no other. Two spellings
//! of one name would be two keys for one mailbox, or one that slips past a check; so printable ASCII in base64, two
//! runs side by side, a missing `-`, bits left over that are not zero, and lone surrogates are errors.
//!
//! # Invariants
//! `decode(encode(s)) == s` for every string; `decode(t) == Ok(s)` implies `encode(s) == t`; no input panics.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

/// Why text is no modified UTF-7. `at` is a byte offset in the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Utf7Error {
    /// A byte that may not stand outside a base64 run.
    #[error("byte 0x{byte:02x} at {at}: only printable ASCII may stand for itself in modified UTF-7")]
    NotPrintable {
        /// Offset.
        at: usize,
        /// What stands there.
        byte: u8,
    },
    /// A byte that is not in the base64 alphabet, inside a run.
    #[error("byte 0x{byte:02x} at {at} is not in the base64 alphabet of modified UTF-7")]
    NotBase64 {
        /// Offset.
        at: usize,
        /// What stands there.
        byte: u8,
    },
    /// A run without its `-`.
    #[error("the run that begins at {at} has no closing '-'")]
    Unterminated {
        /// Offset of the `&`.
        at: usize,
    },
    /// The run holds no whole number of UTF-16 units, or bits that are not zero behind the last.
    #[error("the run that begins at {at} does not end at a UTF-16 unit")]
    OddBits {
        /// Offset of the `&`.
        at: usize,
    },
    /// Half a surrogate pair.
    #[error("the run that begins at {at} holds half a surrogate pair")]
    Surrogate {
        /// Offset of the `&`.
        at: usize,
    },
    /// Readable, but not the one spelling.
    #[error("not canonical: the name is spelled {expected:?}")]
    NotCanonical {
        /// The canonical spelling of the same name.
        expected: String,
    },
}

/// The canonical spelling of a name.
#[must_use]
pub fn encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 8);
    let mut run: Vec<u16> = Vec::new();
    for c in name.chars() {
        if matches!(c, ' '..='~') {
            flush(&mut run, &mut out);
            out.push(c);
            if c == '&' {
                out.push('-');
            }
        } else {
            run.extend_from_slice(c.encode_utf16(&mut [0; 2]));
        }
    }
    flush(&mut run, &mut out);
    out
}

/// Writes the collected UTF-16 units as one run.
fn flush(run: &mut Vec<u16>, out: &mut String) {
    if run.is_empty() {
        return;
    }
    out.push('&');
    let (mut bits, mut held) = (0u32, 0u32);
    for unit in run.drain(..) {
        bits = (bits << 16) | u32::from(unit);
        held += 16;
        while held >= 6 {
            held -= 6;
            out.push(symbol(bits >> held));
        }
        bits &= (1 << held) - 1;
    }
    if held > 0 {
        out.push(symbol(bits << (6 - held)));
    }
    out.push('-');
}

fn symbol(bits: u32) -> char {
    char::from(ALPHABET[(bits & 63) as usize])
}

/// The name that canonical text spells.
///
/// # Errors
/// Everything that [`encode`] does not write.
pub fn decode(text: &str) -> Result<String, Utf7Error> {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'&' => {
                let rest = &bytes[at + 1..];
                let end = rest.iter().position(|&b| b == b'-').ok_or(Utf7Error::Unterminated { at })?;
                if end == 0 {
                    out.push('&');
                } else {
                    decode_run(&rest[..end], at, &mut out)?;
                }
                at += end + 2;
            }
            b' '..=b'~' => {
                out.push(char::from(byte));
                at += 1;
            }
            _ => return Err(Utf7Error::NotPrintable { at, byte }),
        }
    }
    let expected = encode(&out);
    if expected == text { Ok(out) } else { Err(Utf7Error::NotCanonical { expected }) }
}

/// Decodes the base64 between `&` (at `start`) and `-`.
fn decode_run(run: &[u8], start: usize, out: &mut String) -> Result<(), Utf7Error> {
    let mut units = Vec::with_capacity(run.len() * 6 / 16);
    let (mut bits, mut held) = (0u32, 0u32);
    for (i, &byte) in run.iter().enumerate() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b',' => 63,
            _ => return Err(Utf7Error::NotBase64 { at: start + 1 + i, byte }),
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 16 {
            held -= 16;
            units.push(u16::try_from((bits >> held) & 0xffff).unwrap_or_default());
            bits &= (1 << held) - 1;
        }
    }
    if held >= 6 || bits != 0 || units.is_empty() {
        return Err(Utf7Error::OddBits { at: start });
    }
    for c in char::decode_utf16(units) {
        out.push(c.map_err(|_| Utf7Error::Surrogate { at: start })?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Utf7Error, decode, encode};

    /// Names and spellings from RFC 3501 5.1.3, RFC 2152, and a real server's list.
    const PAIRS: [(&str, &str); 9] = [
        ("~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
        ("台北", "&U,BTFw-"),
        ("rust & systems", "rust &- systems"),
        ("Äpfel", "&AMQ-pfel"),
        ("", ""),
        ("INBOX", "INBOX"),
        ("&&", "&-&-"),
        ("\u{1f4e7} post", "&2D3c5w- post"),
        ("A\u{0}\u{7f}", "A&AAAAfw-"),
    ];

    struct Seeded(u64);

    impl Seeded {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            self.0 >> 33
        }

        fn below(&mut self, n: u64) -> u64 {
            self.next() % n
        }
    }

    // row 119: names in any script, in the spelling older clients use
    #[test]
    fn known_names_have_their_known_spelling() {
        for (name, text) in PAIRS {
            assert_eq!(encode(name), text);
            assert_eq!(decode(text).as_deref(), Ok(name));
        }
    }

    // S8
    #[test]
    fn every_character_has_one_spelling() {
        for c in (0..=0x10_ffffu32).filter_map(char::from_u32) {
            let mut buffer = [0; 4];
            let name: &str = c.encode_utf8(&mut buffer);
            assert_eq!(decode(&encode(name)).as_deref(), Ok(name), "U+{:04X}", u32::from(c));
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        let twins =
            ["&AGE-", "&AC8-", "&AC4ALg-", "&ACY-", "&AMQ-&AMQ-", "&AMQAYQ-", "a&AMQ-&1DzcAA-", "&U,BTFw-&ZeVnLIqe-"];
        for text in twins {
            assert!(decode(text).is_err(), "{text}");
        }
        assert_eq!(decode("&AGE-"), Err(Utf7Error::NotCanonical { expected: "a".to_owned() }));
        assert_eq!(decode("x&AMQ"), Err(Utf7Error::Unterminated { at: 1 }));
        assert_eq!(decode("&"), Err(Utf7Error::Unterminated { at: 0 }));
        assert_eq!(decode("&A-"), Err(Utf7Error::OddBits { at: 0 }));
        assert_eq!(decode("&AMR-"), Err(Utf7Error::OddBits { at: 0 }), "a bit left over");
        assert_eq!(decode("&AMQA-"), Err(Utf7Error::OddBits { at: 0 }), "a digit left over");
        assert_eq!(decode("&2D0-"), Err(Utf7Error::Surrogate { at: 0 }));
        assert_eq!(decode("&A/Q-"), Err(Utf7Error::NotBase64 { at: 2, byte: b'/' }));
        assert_eq!(decode("&AM=-"), Err(Utf7Error::NotBase64 { at: 3, byte: b'=' }));
        assert_eq!(decode("a\u{e4}"), Err(Utf7Error::NotPrintable { at: 1, byte: 0xc3 }));
        assert_eq!(decode("a\tb"), Err(Utf7Error::NotPrintable { at: 1, byte: 9 }));
    }

    // S8
    #[test]
    fn random_names_come_back() {
        let mut rng = Seeded(0x7117);
        for round in 0..100_000 {
            let name: String = (0..rng.below(12))
                .filter_map(|_| {
                    let top = [0x7f, 0x2ff, 0xffff, 0x10_ffff][rng.below(4) as usize];
                    char::from_u32(rng.below(top) as u32)
                })
                .collect();
            assert_eq!(decode(&encode(&name)).as_deref(), Ok(name.as_str()), "round {round}");
        }
    }

    #[test]
    fn random_text_is_refused_or_canonical() {
        let mut rng = Seeded(0x1713);
        let alphabet: Vec<char> = "&&&&--AMQgkVz09+,/=a \u{e4}\u{0}".chars().collect();
        let mut read = 0;
        for round in 0..300_000 {
            let text: String =
                (0..rng.below(14)).map(|_| alphabet[rng.below(alphabet.len() as u64) as usize]).collect();
            if let Ok(name) = decode(&text) {
                read += 1;
                assert_eq!(encode(&name), text, "round {round}");
            }
        }
        assert!(read > 1000, "only {read} of the texts were canonical");
    }
}
