//! Names of users and partitions, and the directory of a user.
//!
//! # Format
//! A user's directory below a partition's root is `=user/<xx>/<yy>/=<token>`. `<xx>` and `<yy>` are two hexadecimal
//! digits each: the lowest and the second byte of CRC-32 (seeded `user directory`) over the user id as first created.
//! `<token>` is that user id, cut at 200 bytes, then `~` and the user's number. It is made once, kept in the user's row,
//! and never changes: renaming a user changes no path.
//!
//! # Invariants
//! A user id holds no byte that means anything to a file system or a shell, no `~` and no `:`; a token names one
//! user for ever, because the number does.

use crate::checksum::Crc;
use crate::config::PARTITION_NAME_MAX;
use std::fmt;

/// Longest user id in bytes: it is a component of mailbox names.
pub const USER_BYTES_MAX: usize = 255;
/// Bytes of the user id that a token repeats; with the number it stays below the 255 bytes of a file name.
const TOKEN_USER_BYTES: usize = 200;
/// The directory of mailboxes that belong to no user, below a partition's root.
pub const SHARED_DIRECTORY: &str = "=shared";

/// Why text is no user id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UserIdError {
    /// Nothing, or nothing on one side of the `@`.
    #[error("a user id is 'name' or 'name@domain', and neither part may be empty")]
    Empty,
    /// Too long.
    #[error("{bytes} bytes, a user id has at most {USER_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A character that may not stand in it.
    #[error(
        "{found:?} may not stand in a user id; letters (a-z, A-Z), digits, '.', '-', '_', '+' and one '@domain' may"
    )]
    Character {
        /// The first such character.
        found: char,
    },
    /// `.` or `..`.
    #[error("'.' and '..' are no user ids")]
    Dots,
    /// A leading `-`: as an identifier of rights it would mean "not this user" (RFC 4314).
    #[error("a user id does not begin with '-', which marks negative rights")]
    Minus,
    /// A word that means everybody in rights (RFC 4314).
    #[error("'anyone' and 'anonymous' stand for everybody in rights and are no user ids")]
    Reserved,
}

/// A checked user id. Upper and lower case differ.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(Box<str>);

impl UserId {
    /// Checks a user id.
    ///
    /// # Errors
    /// The first rule it breaks.
    pub fn parse(text: &str) -> Result<UserId, UserIdError> {
        check_user(text)?;
        Ok(UserId(text.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part behind `@`.
    #[must_use]
    pub fn domain(&self) -> Option<&str> {
        self.0.split_once('@').map(|(_, domain)| domain)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// [`UserId::parse`] without keeping the id.
///
/// # Errors
/// The first rule it breaks.
pub fn check_user(text: &str) -> Result<(), UserIdError> {
    if text.len() > USER_BYTES_MAX {
        return Err(UserIdError::TooLong { bytes: text.len() });
    }
    let local = match text.split_once('@') {
        Some((_, "")) => return Err(UserIdError::Empty),
        Some((local, domain)) => {
            check_characters(domain)?;
            local
        }
        None => text,
    };
    check_characters(local)?;
    match local {
        "" => Err(UserIdError::Empty),
        "." | ".." => Err(UserIdError::Dots),
        _ if local.starts_with('-') => Err(UserIdError::Minus),
        _ if ["anyone", "anonymous"].iter().any(|word| text.eq_ignore_ascii_case(word)) => Err(UserIdError::Reserved),
        _ => Ok(()),
    }
}

fn check_characters(part: &str) -> Result<(), UserIdError> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+');
    if part.bytes().all(good) {
        return Ok(());
    }
    let found = part.chars().find(|c| !u8::try_from(*c).is_ok_and(good));
    Err(UserIdError::Character { found: found.unwrap_or(char::REPLACEMENT_CHARACTER) })
}

/// The directory of a new user, below a partition's root. Row 116.
#[must_use]
pub fn directory(user: &UserId, id: u64) -> String {
    let [low, second, ..] = Crc::seeded(b"user directory").add(user.as_str().as_bytes()).value().to_le_bytes();
    let name = &user.as_str()[..user.as_str().len().min(TOKEN_USER_BYTES)];
    format!("=user/{low:02x}/{second:02x}/={name}~{id}")
}

/// Why text is no partition name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a partition name has 1 to {PARTITION_NAME_MAX} letters (a-z, A-Z), digits, '-' or '_', and begins with a letter or digit"
)]
pub struct PartitionNameError;

/// Checks a partition name, by the rule that the configuration has for it. It may become the name of a directory.
///
/// # Errors
/// If it breaks the rule that the error states.
pub fn check_partition(name: &str) -> Result<(), PartitionNameError> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if first && name.len() <= PARTITION_NAME_MAX && name.bytes().all(good) { Ok(()) } else { Err(PartitionNameError) }
}

#[cfg(test)]
mod tests {
    use super::{PARTITION_NAME_MAX, UserId, UserIdError, check_partition, directory};

    #[test]
    fn user_ids_that_are_taken() {
        let long = format!("{}@example.org", "a".repeat(243));
        for id in ["joe", "joe@example.org", "J.o-e_+1@x", "123go", ".profile", "a..b@c", "anyone@example.org", &long] {
            assert_eq!(UserId::parse(id).unwrap().as_str(), id);
        }
        assert_eq!(UserId::parse("joe@example.org").unwrap().domain(), Some("example.org"));
        assert_eq!(UserId::parse("joe").unwrap().domain(), None);
    }

    #[test]
    fn user_ids_that_are_refused() {
        let long = "a".repeat(256);
        let cases: [(&str, UserIdError); 19] = [
            ("", UserIdError::Empty),
            ("@example.org", UserIdError::Empty),
            ("joe@", UserIdError::Empty),
            (".", UserIdError::Dots),
            ("..", UserIdError::Dots),
            ("..@example.org", UserIdError::Dots),
            ("-joe", UserIdError::Minus),
            ("Anyone", UserIdError::Reserved),
            ("anonymous", UserIdError::Reserved),
            (&long, UserIdError::TooLong { bytes: 256 }),
            ("joe@a@b", UserIdError::Character { found: '@' }),
            ("a/b", UserIdError::Character { found: '/' }),
            ("a b", UserIdError::Character { found: ' ' }),
            ("j\u{f6}", UserIdError::Character { found: '\u{f6}' }),
            ("a\u{0}b", UserIdError::Character { found: '\u{0}' }),
            ("joe@ex*mple", UserIdError::Character { found: '*' }),
            ("a%b", UserIdError::Character { found: '%' }),
            ("group:x", UserIdError::Character { found: ':' }),
            ("a~1", UserIdError::Character { found: '~' }),
        ];
        for (id, why) in cases {
            assert_eq!(UserId::parse(id), Err(why), "{id:?}");
        }
    }

    // row 116: golden, these paths exist on disks
    #[test]
    fn directories_are_stable() {
        let of = |user: &str, id| directory(&UserId::parse(user).unwrap(), id);
        assert_eq!(of("joe@example.org", 12), "=user/97/3b/=joe@example.org~12");
        assert_eq!(of("crowe", 1), "=user/f6/79/=crowe~1");
        let long = of(&"a".repeat(255), u64::MAX);
        assert!(long.rsplit('/').next().unwrap().len() <= 255, "{long}");
    }

    // row 116: two levels of directories fill evenly
    #[test]
    fn directories_spread() {
        let mut first = [0u32; 256];
        for n in 0..25_600 {
            let dir = directory(&UserId::parse(&format!("u{n}@example.org")).unwrap(), n);
            first[usize::from_str_radix(&dir[6..8], 16).unwrap()] += 1;
        }
        assert!(first.iter().all(|n| (50..=170).contains(n)), "{first:?}");
    }

    // row 115
    #[test]
    fn partition_names() {
        for good in ["primary", "archive1", "SSD-2_a", "0"] {
            assert_eq!(check_partition(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "-x", "a/b", "a b", "\u{e4}", &"a".repeat(PARTITION_NAME_MAX + 1), "a.b", "a\u{0}"] {
            assert!(check_partition(bad).is_err(), "{bad:?}");
        }
    }
}
