//! Names of mailboxes.
//!
//! # Format
//! A full name is components with `/` between them: `user/<uid>/<folder>...` belongs to that user, `shared` and
//! `shared/...` to nobody. It is UTF-8 in normalisation form C. The key of a mailbox is its name with byte 0x01 for
//! `/`. As no other byte below 0x20 stands in a name, a mailbox and everything below it are one contiguous range of
//! keys: from the key itself up to the key plus 0x02, see [`subtree_end`].
//!
//! # Rules
//! Components have 1 to 255 bytes, there are at most 32 of them, and all together have at most 1,000 bytes. Refused
//! are:
//! * control characters (Unicode category Cc: C0 with NUL, DEL, C1), and U+2028 and U+2029, which break lines like
//!   C1's NEL: a list has one name a line. Format characters (Cf, among them joiners and direction marks) stay: several
//!   scripts cannot be written without them;
//! * `%` and `*`, the wildcards of LIST;
//! * components that are empty (so also a leading, trailing or doubled `/`), `.` or `..`;
//! * a first component other than `user` and `shared`; `user` alone and `user/<uid>` alone, which are no mailboxes; a
//!   `<uid>` that is no user id.
//!
//! `INBOX` in any case, as third component of a user's name, is `INBOX` (RFC 9051 5.1), also with components behind
//! it. Everywhere else upper and lower case differ.
//!
//! # Invariants
//! Equal mailboxes have equal keys, and a key gives back the name it was made of.

use super::user::{UserIdError, check_user};
use std::fmt;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// Longest component in bytes.
pub const COMPONENT_BYTES_MAX: usize = 255;
/// Most components.
pub const DEPTH_MAX: usize = 32;
/// Longest name in bytes.
pub const NAME_BYTES_MAX: usize = 1000;
/// Stands for `/` in keys.
pub const SEPARATOR: u8 = 0x01;
/// Stands between an identifier and a mailbox key in keys of several parts; sorts right behind a subtree.
pub const JOINT: u8 = 0x02;
/// The mailbox that every user has.
pub const INBOX: &str = "INBOX";
/// Normalising makes text at most three times shorter, so nothing longer can be a name.
const TYPED_BYTES_MAX: usize = 3 * NAME_BYTES_MAX;

/// Why text is no mailbox name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Too long as a whole.
    #[error("{bytes} bytes, a name has at most {NAME_BYTES_MAX}")]
    TooLong {
        /// Its length in UTF-8.
        bytes: usize,
    },
    /// One component is too long.
    #[error("component {index} has {bytes} bytes, at most {COMPONENT_BYTES_MAX} are allowed")]
    ComponentTooLong {
        /// Which, from 1.
        index: usize,
        /// Its length.
        bytes: usize,
    },
    /// Too many components.
    #[error("{depth} components, at most {DEPTH_MAX} are allowed")]
    TooDeep {
        /// How many.
        depth: usize,
    },
    /// Nothing between two `/`, before the first or behind the last.
    #[error("component {index} is empty")]
    Empty {
        /// Which, from 1.
        index: usize,
    },
    /// `.` or `..`.
    #[error("component {index} is '.' or '..'")]
    Dots {
        /// Which, from 1.
        index: usize,
    },
    /// A character that no name may hold.
    #[error("{} may not stand in a mailbox name", shown(*found))]
    Character {
        /// The character.
        found: char,
    },
    /// A first component of another kind.
    #[error("a mailbox name begins with 'user/' or 'shared/', not with '{found}'")]
    Root {
        /// The first component.
        found: String,
    },
    /// A user's name without a folder.
    #[error("'{found}' names a user, not a mailbox")]
    NoFolder {
        /// The name as typed.
        found: String,
    },
    /// The second component is no user id.
    #[error("'{found}' is no user id: {why}")]
    User {
        /// The second component.
        found: String,
        /// Why.
        why: UserIdError,
    },
}

/// A character in an error: as it is where it can be seen, else by its number.
pub(super) fn shown(found: char) -> String {
    let seen = found.is_alphanumeric() || found.is_ascii_graphic();
    if seen { format!("'{found}'") } else { format!("character U+{:04X}", u32::from(found)) }
}

impl NameError {
    /// What to type instead, where that can be told.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            NameError::NoFolder { found } if found.starts_with("user/") => {
                Some(format!("its mailbox is {found}/{INBOX}"))
            }
            NameError::NoFolder { .. } | NameError::Root { .. } => {
                Some("names look like user/joe@example.org/Drafts or shared/news".to_owned())
            }
            NameError::Character { found: '%' | '*' } => {
                Some("'%' and '*' are wildcards: storectl mailbox list PATTERN".to_owned())
            }
            _ => None,
        }
    }
}

/// A checked, normalised mailbox name.
#[derive(Debug, Clone)]
pub struct MailboxName {
    /// The name with 0x01 for `/`.
    key: Box<str>,
    /// True if what was typed was not in normalisation form C.
    renormalised: bool,
}

impl PartialEq for MailboxName {
    fn eq(&self, other: &MailboxName) -> bool {
        self.key == other.key
    }
}

impl Eq for MailboxName {}

impl MailboxName {
    /// Checks a name as a person or a program gave it and brings it into its one form.
    ///
    /// # Errors
    /// The first rule it breaks.
    pub fn parse(text: &str) -> Result<MailboxName, NameError> {
        if text.len() > TYPED_BYTES_MAX {
            return Err(NameError::TooLong { bytes: text.len() });
        }
        if text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes {
            return Ok(MailboxName { key: build(text)?, renormalised: false });
        }
        let normal: String = text.nfc().collect();
        Ok(MailboxName { key: build(&normal)?, renormalised: normal != text })
    }

    /// The INBOX of a user.
    #[must_use]
    pub fn inbox(user: &str) -> MailboxName {
        MailboxName { key: format!("user\u{1}{user}\u{1}{INBOX}").into(), renormalised: false }
    }

    /// The name whose key this is; `None` if the bytes are no key.
    #[must_use]
    pub fn from_key(key: &[u8]) -> Option<MailboxName> {
        let text = std::str::from_utf8(key).ok()?;
        if text.contains('/') {
            return None;
        }
        let name = MailboxName::parse(&text.replace('\u{1}', "/")).ok()?;
        (&*name.key == text).then_some(name)
    }

    /// The key in the tables `Mailboxes` and `Past`.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.key.as_bytes()
    }

    /// True if what was typed differed from this name by normalisation only.
    #[must_use]
    pub fn was_renormalised(&self) -> bool {
        self.renormalised
    }

    /// The user it belongs to; `None` for shared names.
    #[must_use]
    pub fn owner(&self) -> Option<&str> {
        owner_of(self.key.as_bytes())
    }

    /// True for a user's INBOX itself.
    #[must_use]
    pub fn is_inbox(&self) -> bool {
        let mut parts = self.key.split('\u{1}');
        self.owner().is_some() && parts.nth(2) == Some(INBOX) && parts.next().is_none()
    }

    /// True if `other` lies below this name.
    #[must_use]
    pub fn is_above(&self, other: &MailboxName) -> bool {
        other.key.strip_prefix(&*self.key).is_some_and(|rest| rest.starts_with('\u{1}'))
    }
}

impl fmt::Display for MailboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key.replace('\u{1}', "/"))
    }
}

/// One pass over a normalised name: checks every rule and writes the key.
fn build(text: &str) -> Result<Box<str>, NameError> {
    if text.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong { bytes: text.len() });
    }
    let mut key = String::with_capacity(text.len());
    let mut depth = 0;
    let mut in_user = false;
    for part in text.split('/') {
        depth += 1;
        check_component(part, depth)?;
        match depth {
            1 if part == "user" => in_user = true,
            1 if part == "shared" => {}
            1 => return Err(NameError::Root { found: part.to_owned() }),
            2 if in_user => {
                check_user(part).map_err(|why| NameError::User { found: part.to_owned(), why })?;
            }
            _ => {}
        }
        if depth > 1 {
            key.push('\u{1}');
        }
        if in_user && depth == 3 && part.eq_ignore_ascii_case(INBOX) {
            key.push_str(INBOX);
        } else {
            key.push_str(part);
        }
    }
    if depth > DEPTH_MAX {
        return Err(NameError::TooDeep { depth });
    }
    if in_user && depth < 3 {
        return Err(NameError::NoFolder { found: text.to_owned() });
    }
    Ok(key.into_boxed_str())
}

fn check_component(part: &str, index: usize) -> Result<(), NameError> {
    match part {
        "" => return Err(NameError::Empty { index }),
        "." | ".." => return Err(NameError::Dots { index }),
        _ => {}
    }
    let plain = |b: u8| matches!(b, b' '..=b'~') && b != b'%' && b != b'*';
    if !part.bytes().all(plain) {
        let refused = |c: &char| c.is_control() || matches!(c, '%' | '*' | '\u{2028}' | '\u{2029}');
        if let Some(found) = part.chars().find(refused) {
            return Err(NameError::Character { found });
        }
    }
    if part.len() > COMPONENT_BYTES_MAX {
        return Err(NameError::ComponentTooLong { index, bytes: part.len() });
    }
    Ok(())
}

/// The user to whom the mailbox with this key belongs.
#[must_use]
pub fn owner_of(key: &[u8]) -> Option<&str> {
    let rest = key.strip_prefix(b"user\x01")?;
    let end = rest.iter().position(|b| *b == SEPARATOR)?;
    std::str::from_utf8(&rest[..end]).ok()
}

/// The first key behind a mailbox and everything below it; the range begins with the key itself.
#[must_use]
pub fn subtree_end(key: &[u8]) -> Vec<u8> {
    let mut end = Vec::with_capacity(key.len() + 1);
    end.extend_from_slice(key);
    end.push(JOINT);
    end
}

/// What all mailbox keys of a user begin with.
#[must_use]
pub fn user_prefix(user: &str) -> Vec<u8> {
    format!("user\u{1}{user}\u{1}").into_bytes()
}

/// A key in readable form: `/` for 0x01. Bytes that are no UTF-8 are replaced.
#[must_use]
pub fn key_text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).replace('\u{1}', "/")
}

#[cfg(test)]
#[path = "name_tests.rs"]
mod tests;
