//! Maildir++: a directory for each folder, a file for each message, flags in the file's name.
//!
//! # Format
//! The root is INBOX; the folder `A/B` is the directory `.A.B`. Each has `cur` (seen by a client), `new` and `tmp` (being
//! written). A file's name is `unique[,S=bytes][,W=bytes with CR LF]:2,flags`; `;` or `!` stands for `:` where a file system
//! does not take it. Flags are letters: `D F P R S T`, and `a` to `z` for keywords, whose names Dovecot has in the
//! folder's `dovecot-keywords`, one a line: `0 $Work`. The internal date is the file's time of modification. Names of folders
//! are in modified UTF-7, or in UTF-8; a dot within a name is written `&AC4-`, as Courier does it.

use super::About;
use proto::utf7;
use std::collections::BTreeMap;

pub mod mark;
pub mod read;
pub mod write;

/// Flags that have a letter. There is no system flag for a message that was passed on: a keyword is usual (RFC 9051 2.3.2).
const FLAGS: [(char, &str); 6] = [
    ('D', "\\Draft"),
    ('F', "\\Flagged"),
    ('P', "$Forwarded"),
    ('R', "\\Answered"),
    ('S', "\\Seen"),
    ('T', "\\Deleted"),
];
/// Most keywords of a folder: one for each small letter.
const KEYWORDS_MAX: usize = 26;
/// Where Dovecot keeps the names of keywords.
const KEYWORDS_FILE: &str = "dovecot-keywords";
/// Where it keeps the folders that the user subscribes to.
const SUBSCRIPTIONS_FILE: &str = "subscriptions";

/// What the name of a message's file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Name {
    /// What stands before everything else; names one message in its folder.
    pub unique: String,
    /// Bytes of the file (`S=`).
    pub size: Option<u64>,
    /// Bytes with every line end as CR LF (`W=`).
    pub wire_size: Option<u64>,
    /// The letters behind `2,`.
    pub letters: String,
}

impl Name {
    /// Reads a name; every text is one.
    #[must_use]
    pub fn read(text: &str) -> Name {
        let marks = [":2,", ";2,", "!2,"];
        let info = marks.iter().filter_map(|mark| text.rfind(mark)).max();
        let (base, info) = info.map_or((text, ""), |at| (&text[..at], &text[at + 3..]));
        let mut parts = base.split(',');
        let mut name = Name { unique: parts.next().unwrap_or_default().to_owned(), ..Name::default() };
        for part in parts {
            match part.split_once('=') {
                Some(("S", bytes)) => name.size = bytes.parse().ok(),
                Some(("W", bytes)) => name.wire_size = bytes.parse().ok(),
                _ => {}
            }
        }
        // Others put fields of their own behind a comma.
        name.letters = info.split(',').next().unwrap_or_default().to_owned();
        name
    }

    /// The name of a file in `cur`.
    #[must_use]
    pub fn put(&self) -> String {
        let mut out = self.unique.clone();
        for (key, bytes) in [("S", self.size), ("W", self.wire_size)] {
            if let Some(bytes) = bytes {
                out += &format!(",{key}={bytes}");
            }
        }
        let mut letters: Vec<char> = self.letters.chars().collect();
        // Readers expect them in order.
        letters.sort_unstable();
        letters.dedup();
        out + ":2," + &letters.into_iter().collect::<String>()
    }
}

/// The names of a folder's keywords, by their letters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keywords(BTreeMap<char, String>);

impl Keywords {
    /// Reads the file of names; a line that is none is passed over.
    #[must_use]
    pub fn read(text: &str) -> Keywords {
        let named = text.lines().filter_map(|line| {
            let (number, name) = line.split_once(' ')?;
            let number = number.parse::<u8>().ok().filter(|n| usize::from(*n) < KEYWORDS_MAX)?;
            let name = name.trim();
            (!name.is_empty()).then(|| (char::from(b'a' + number), name.to_owned()))
        });
        Keywords(named.collect())
    }

    /// The file of names.
    #[must_use]
    pub fn put(&self) -> String {
        self.0.iter().map(|(letter, name)| format!("{} {name}\n", *letter as u8 - b'a')).collect()
    }

    /// The letter of a keyword, which may be a new one; `None` if there are no more.
    pub fn letter(&mut self, name: &str) -> Option<char> {
        if let Some((letter, _)) = self.0.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)) {
            return Some(*letter);
        }
        let letter = ('a'..='z').find(|letter| !self.0.contains_key(letter))?;
        self.0.insert(letter, name.to_owned());
        Some(letter)
    }

    /// The flags that letters mean, and the letters that mean nothing here.
    #[must_use]
    pub fn flags(&self, letters: &str) -> (Vec<String>, String) {
        let (mut flags, mut unknown) = (Vec::new(), String::new());
        for letter in letters.chars() {
            let flag = FLAGS.iter().find(|(known, _)| *known == letter).map(|(_, flag)| *flag);
            match flag.or(self.0.get(&letter).map(String::as_str)) {
                Some(flag) if flags.iter().any(|known| known == flag) => {}
                Some(flag) => flags.push(flag.to_owned()),
                None => unknown.push(letter),
            }
        }
        (flags, unknown)
    }

    /// The letters of flags, and the flags for which there is no letter any more.
    pub fn letters(&mut self, about: &About) -> (String, Vec<String>) {
        let (mut letters, mut left) = (String::new(), Vec::new());
        for flag in &about.flags {
            let known = FLAGS.iter().find(|(_, known)| known.eq_ignore_ascii_case(flag)).map(|(letter, _)| *letter);
            let letter = known.or_else(|| if flag.starts_with('\\') { None } else { self.letter(flag) });
            match letter {
                Some(letter) => letters.push(letter),
                None => left.push(flag.clone()),
            }
        }
        (letters, left)
    }
}

/// The folder that a directory holds, as components; empty for INBOX. `None`: it is none.
#[must_use]
pub fn folder_of(directory: &str) -> Option<Vec<String>> {
    let names = directory.strip_prefix('.')?;
    if names.is_empty() || names == "." {
        return None;
    }
    names.split('.').map(component).collect()
}

/// A component of a folder's name: modified UTF-7 with dots as `&AC4-`, else as it is.
fn component(text: &str) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    let parts: Result<Vec<String>, _> = text.split("&AC4-").map(utf7::decode).collect();
    Some(parts.map_or_else(|_| text.to_owned(), |parts| parts.join(".")))
}

/// The directory of a folder, given as components; empty for INBOX.
#[must_use]
pub fn directory_of(folder: &[String]) -> String {
    let name = |component: &String| {
        let parts: Vec<String> = component.split('.').map(utf7::encode).collect();
        format!(".{}", parts.join("&AC4-"))
    };
    folder.iter().map(name).collect()
}

#[cfg(test)]
#[path = "maildir_tests.rs"]
mod tests;
