//! Rights (RFC 4314): who may do what with a mailbox.
//!
//! # Format
//! An entry is an identifier and a string of letters: `l` lookup, `r` read, `s` seen, `w` write flags, `i` insert, `p`
//! post, `k` create below, `x` delete mailbox, `t` delete messages, `e` expunge, `a` administer, `n` annotate (RFC
//! 5257), and the older `c` and `d`, which stand for `k`,`x` and for `t`,`e` (RFC 4314 2.1.1). Digits are left to
//! implementations.
//!
//! What is set here is written without `c` and `d`, in one order, [`ORDER`], each letter once. What another server's list
//! says is kept letter by letter until somebody changes that entry: then what its `c` and `d` stand for takes their place, so
//! that `-k` takes `k` away from `lrc`, too.
//!
//! # Who may do what
//! A user has what the entries `USER` and `anyone` give, without what `-USER` and `-anyone` take away ([`of_user`]). The
//! owner has [`OWNER_ALWAYS`] whatever the entries say: nobody can lock him out of his own mailbox. The store knows no groups:
//! an entry of one is kept for the server that does.
//!
//! An identifier is a user id, `anyone`, `anonymous`, `group:NAME`, or any of these behind `-`: rights taken away. It
//! need not exist: a list may name a user before it brings him.

use std::collections::BTreeMap;
use std::fmt;
use unicode_normalization::UnicodeNormalization;

/// Rights by identifier.
pub type Acl = BTreeMap<String, String>;

/// The order of letters, also Cyrus's.
pub const ORDER: &str = "lrswipkxtecdan";
/// What the owner of a new mailbox gets: every right that RFC 4314 defines, none of the older letters.
pub const OWNER_RIGHTS: &str = "lrswipkxtea";
/// What the owner of a mailbox may do whatever its entries say: see it, create below it, delete it, give rights.
pub const OWNER_ALWAYS: &str = "lkxa";
/// Everybody, as an identifier.
pub const ANYONE: &str = "anyone";
/// Who has not said who he is, as an identifier.
pub const ANONYMOUS: &str = "anonymous";
/// The older letters and what each stands for.
const VIRTUAL: [(char, &str); 2] = [('c', "kx"), ('d', "te")];
/// Longest identifier in bytes.
pub const IDENTIFIER_BYTES_MAX: usize = 255;
/// Most entries of one mailbox.
pub const ENTRIES_MAX: usize = 1000;
/// Longest rights string of another server's list: more than there are letters and digits.
const IMPORTED_BYTES_MAX: usize = 64;

/// Why rights or an identifier are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RightsError {
    /// No letter of RFC 4314.
    #[error("{found:?} is no right; rights are letters of '{ORDER}', after '+' to add or '-' to remove")]
    Letter {
        /// The first such character.
        found: char,
    },
    /// The identifier is empty, or nothing stands behind its `-`.
    #[error(
        "an identifier is a user id, 'anyone', 'anonymous' or 'group:NAME', with '-' before it for negative rights"
    )]
    NoIdentifier,
    /// The identifier is too long.
    #[error("the identifier has {bytes} bytes, at most {IDENTIFIER_BYTES_MAX} are allowed")]
    IdentifierTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A control character, or a blank at an end.
    #[error("{} may not stand there in an identifier", super::name::shown(*found))]
    IdentifierCharacter {
        /// The character.
        found: char,
    },
    /// Too many entries.
    #[error("{entries} entries, a mailbox has at most {ENTRIES_MAX}")]
    TooMany {
        /// How many there would be.
        entries: usize,
    },
    /// A list gives one identifier twice, in two spellings.
    #[error("two entries for {identifier:?}")]
    Twice {
        /// The identifier.
        identifier: String,
    },
}

/// A set of rights: one bit for each ASCII letter and digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rights(u128);

impl Rights {
    /// Reads letters of [`ORDER`], in any order, each as often as one likes.
    ///
    /// # Errors
    /// On any other character.
    pub fn parse(text: &str) -> Result<Rights, RightsError> {
        match text.chars().find(|c| !ORDER.contains(*c)) {
            Some(found) => Err(RightsError::Letter { found }),
            None => Ok(Rights::of(text)),
        }
    }

    /// Reads what a row holds, imported letters and digits among it.
    #[must_use]
    pub fn of(text: &str) -> Rights {
        Rights(text.bytes().filter(u8::is_ascii_alphanumeric).fold(0, |set, b| set | 1 << b))
    }

    /// True if `letter` is in the set.
    #[must_use]
    pub fn has(self, letter: char) -> bool {
        u8::try_from(letter).is_ok_and(|b| b < 128 && self.0 & (1 << b) != 0)
    }

    /// True if no right is in the set.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What is in either set.
    #[must_use]
    pub fn with(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }

    /// What is in this set and not in the other.
    #[must_use]
    pub fn without(self, other: Rights) -> Rights {
        Rights(self.0 & !other.0)
    }
}

impl Rights {
    /// Without `c` and `d`, with what they stand for.
    #[must_use]
    pub fn resolved(self) -> Rights {
        VIRTUAL.iter().fold(self, |rights, (letter, members)| {
            let members = if rights.has(*letter) { Rights::of(members) } else { Rights::default() };
            rights.with(members).without(Rights::of(letter.encode_utf8(&mut [0; 4])))
        })
    }

    /// As a client must be told (RFC 4314 2.1.1): with `c` and `d` exactly where a right is there that they stand for.
    #[must_use]
    pub fn told(self) -> Rights {
        let resolved = self.resolved();
        let some = |members: &str| members.chars().any(|member| resolved.has(member));
        let older: String = VIRTUAL.iter().filter(|(_, members)| some(members)).map(|(letter, _)| letter).collect();
        resolved.with(Rights::of(&older))
    }
}

/// What `user` may do in a mailbox of `owner` with these entries; see the page. [`ANONYMOUS`] is a user here.
#[must_use]
pub fn of_user<'e>(user: &str, owner: Option<&str>, entries: impl IntoIterator<Item = (&'e str, &'e str)>) -> Rights {
    let (mut given, mut taken) = (Rights::default(), Rights::default());
    for (who, rights) in entries {
        let (bare, sum) = match who.strip_prefix('-') {
            Some(bare) => (bare, &mut taken),
            None => (who, &mut given),
        };
        if bare == user || bare == ANYONE {
            *sum = sum.with(Rights::of(rights).resolved());
        }
    }
    let always = if owner == Some(user) { Rights::of(OWNER_ALWAYS) } else { Rights::default() };
    given.without(taken).with(always)
}

/// What an identifier has in a mailbox of `owner` without any entry, and the rights that an entry can give him beside, each
/// by itself (LISTRIGHTS, RFC 4314 3.7).
#[must_use]
pub fn grantable(identifier: &str, owner: Option<&str>) -> (Rights, Vec<char>) {
    let always = if owner == Some(identifier) { Rights::of(OWNER_ALWAYS) } else { Rights::default() };
    let had = |letter: &char| {
        let members = VIRTUAL.iter().find(|(older, _)| older == letter).map_or("", |(_, members)| members);
        always.has(*letter) || (!members.is_empty() && members.chars().all(|member| always.has(member)))
    };
    (always, ORDER.chars().filter(|letter| !had(letter)).collect())
}

impl fmt::Display for Rights {
    /// Letters in [`ORDER`], then others by their number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = ORDER.chars().filter(|c| self.has(*c));
        let others = (0..128u8).map(char::from).filter(|c| self.has(*c) && !ORDER.contains(*c));
        known.chain(others).try_for_each(|c| fmt::Write::write_char(f, c))
    }
}

/// What an entry becomes when asked for `lrs` (set), `+lrs` (add) or `-lrs` (remove). Empty: the entry goes. An
/// entry that keeps its rights keeps its spelling.
///
/// # Errors
/// On characters that are no rights.
pub fn changed(current: Option<&str>, request: &str) -> Result<String, RightsError> {
    let old = Rights::of(current.unwrap_or_default()).resolved();
    let new = if let Some(more) = request.strip_prefix('+') {
        old.with(Rights::parse(more)?.resolved())
    } else if let Some(fewer) = request.strip_prefix('-') {
        old.without(Rights::parse(fewer)?.resolved())
    } else {
        Rights::parse(request)?.resolved()
    };
    match current {
        Some(text) if new == old => Ok(text.to_owned()),
        _ => Ok(new.to_string()),
    }
}

/// Checks an identifier and gives it back in normalisation form C.
///
/// # Errors
/// If it is empty, too long, or holds control characters or blanks at its ends.
pub fn identifier(text: &str) -> Result<String, RightsError> {
    if text.len() > 3 * IDENTIFIER_BYTES_MAX {
        return Err(RightsError::IdentifierTooLong { bytes: text.len() });
    }
    let normal: String = if text.is_ascii() { text.to_owned() } else { text.nfc().collect() };
    if normal.len() > IDENTIFIER_BYTES_MAX {
        return Err(RightsError::IdentifierTooLong { bytes: normal.len() });
    }
    let bare = normal.strip_prefix('-').unwrap_or(&normal);
    if bare.is_empty() || bare == "group:" {
        return Err(RightsError::NoIdentifier);
    }
    let ends = bare.chars().next().into_iter().chain(bare.chars().next_back());
    let bad_end = ends.into_iter().find(|c| c.is_whitespace());
    let bad = bare.chars().find(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'));
    match bad.or(bad_end) {
        Some(found) => Err(RightsError::IdentifierCharacter { found }),
        None => Ok(normal),
    }
}

/// Checks the rights that another server's list gives a mailbox. Letters and digits stay exactly as they are.
///
/// # Errors
/// On identifiers and rights that cannot be kept, and on too many entries.
pub fn imported(acl: &Acl) -> Result<Acl, RightsError> {
    check_entries(acl.len())?;
    let mut kept = Acl::new();
    for (who, rights) in acl {
        if let Some(found) = rights.chars().find(|c| !c.is_ascii_alphanumeric()) {
            return Err(RightsError::Letter { found });
        }
        if let Some(found) = rights.chars().nth(IMPORTED_BYTES_MAX) {
            return Err(RightsError::Letter { found });
        }
        let who = identifier(who)?;
        if kept.insert(who.clone(), rights.clone()).is_some() {
            return Err(RightsError::Twice { identifier: who });
        }
    }
    Ok(kept)
}

/// Checks how many entries a mailbox has.
///
/// # Errors
/// If there are more than [`ENTRIES_MAX`].
pub fn check_entries(entries: usize) -> Result<(), RightsError> {
    if entries > ENTRIES_MAX { Err(RightsError::TooMany { entries }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::{Acl, Rights, RightsError, changed, grantable, identifier, imported, of_user};

    #[test]
    fn rights_have_one_order_and_each_letter_once() {
        assert_eq!(Rights::parse("nadcetxkpiwsrl").unwrap().to_string(), "lrswipkxtecdan");
        assert_eq!(Rights::parse("rrllr").unwrap().to_string(), "lr");
        assert_eq!(Rights::parse("").unwrap().to_string(), "");
        assert!(Rights::parse("lrs").unwrap().has('r') && !Rights::parse("lrs").unwrap().has('\u{4c7}'));
        for (text, found) in [("lrz", 'z'), ("L", 'L'), ("l r", ' '), ("lr9", '9'), ("l\u{e4}", '\u{e4}')] {
            assert_eq!(Rights::parse(text), Err(RightsError::Letter { found }), "{text}");
        }
    }

    #[test]
    fn rights_are_set_added_and_removed() {
        let cases = [
            (None, "srl", "lrs"),
            (Some("lrs"), "a", "a"),
            (Some("lrs"), "+wa", "lrswa"),
            (Some("lrs"), "-s", "lr"),
            (Some("lrs"), "-lrsw", ""),
            (Some("lrs"), "", ""),
            (None, "-lr", ""),
            (None, "+", ""),
            (Some("srl9"), "+r", "srl9"),
            (Some("srl9"), "+w", "lrsw9"),
            (Some("lrswipcda"), "-c", "lrswiptea"),
            (Some("lrswipcda"), "-k", "lrswipxtea"),
            (Some("lrswipcda"), "+kxte", "lrswipcda"),
            (Some("lrd"), "lrte", "lrd"),
            (None, "lrcd", "lrkxte"),
            (Some("c"), "-kx", ""),
        ];
        for (current, request, expected) in cases {
            assert_eq!(changed(current, request).as_deref(), Ok(expected), "{current:?} {request}");
        }
        assert!(changed(None, "+-l").is_err());
        assert!(changed(None, "++l").is_err());
    }

    // row 114: RFC 4314 2.1.1
    #[test]
    fn older_letters_stand_for_newer_ones() {
        let told = |text: &str| Rights::of(text).told().to_string();
        assert_eq!(told("lrc"), "lrkxc");
        assert_eq!(told("lrx"), "lrxc", "one of them is enough");
        assert_eq!(told("e9"), "ed9");
        assert_eq!(told("lrsa"), "lrsa");
        assert_eq!(Rights::of("cdn").resolved().to_string(), "kxten");
    }

    #[test]
    fn rights_of_a_user_are_what_is_given_without_what_is_taken() {
        let acl = [
            ("-ann", "w"),
            ("-anyone", "p"),
            ("ann", "lrswp"),
            ("anyone", "lie"),
            ("group:staff", "a"),
            ("joe", "r"),
            ("-joe", "lra"),
        ];
        let of = |user: &str| of_user(user, Some("joe"), acl).to_string();
        assert_eq!(of("ann"), "lrsie");
        assert_eq!(of("bob"), "lie");
        assert_eq!(of("anonymous"), "lie");
        assert_eq!(of("joe"), "likxea", "an owner is never locked out");
        assert_eq!(of("group:staff"), "liea", "as a server would ask that knows the members");
        assert_eq!(of_user("joe", None, [("joe", "lrcd")]).to_string(), "lrkxte");
        assert_eq!(of_user("joe", None, [("joe", "lrc"), ("-joe", "k")]).to_string(), "lrx");
        assert_eq!(of_user("joe", None, []).to_string(), "");
    }

    #[test]
    fn what_can_be_given() {
        let text = |(always, more): (Rights, Vec<char>)| (always.to_string(), String::from_iter(more));
        assert_eq!(text(grantable("ann", Some("joe"))), (String::new(), "lrswipkxtecdan".to_owned()));
        assert_eq!(text(grantable("joe", Some("joe"))), ("lkxa".to_owned(), "rswiptedn".to_owned()));
        assert_eq!(text(grantable("-joe", Some("joe"))).0, "");
    }

    #[test]
    fn identifiers() {
        for good in ["joe@example.org", "anyone", "anonymous", "group:staff", "-joe", "-group:a b", "j\u{f6}", "cyrus"]
        {
            assert_eq!(identifier(good).as_deref(), Ok(good));
        }
        assert_eq!(identifier("jo\u{308}").as_deref(), Ok("j\u{f6}"));
        for bad in ["", "-", "group:", "a\tb", "a\u{0}", "\u{2}", " a", "a ", "- a", "a\n", &"a".repeat(256)] {
            assert!(identifier(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn imported_rights_stay_verbatim() {
        let acl = Acl::from([("joe".into(), "nadcetxkpiwsrl".into()), ("anyone".into(), "9lrsB0".into())]);
        assert_eq!(imported(&acl), Ok(acl));
        let many: Acl = (0..1001).map(|n| (format!("u{n}"), "l".into())).collect();
        assert_eq!(imported(&many), Err(RightsError::TooMany { entries: 1001 }));
        assert!(imported(&Acl::from([("joe".into(), "l r".into())])).is_err());
        assert!(imported(&Acl::from([("joe".into(), "l".repeat(65))])).is_err());
        let twins = Acl::from([("jo\u{308}".into(), "l".into()), ("j\u{f6}".into(), "r".into())]);
        assert_eq!(imported(&twins), Err(RightsError::Twice { identifier: "j\u{f6}".to_owned() }));
    }
}
