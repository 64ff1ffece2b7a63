//! Where things lie below a partition's root. Pure: paths from numbers, numbers from names that were found.
//!
//! # Format
//! ```text
//! =user/<xx>/<yy>/=<token>/            a home: the directory of a user, see `model::user`
//! =shared/                             the home of mailboxes that belong to no user
//!   manifest                           what is known of everything in the home: `super::manifest`
//!   <mailbox id>/store.idx             the messages of a mailbox: `super::index`
//!   <mailbox id>/<nn>/<uid>.msg        one message, as it came: plain RFC 5322
//! .staging/<number>.msg                a long message on its way in
//! .staging/<hash>.new                  an index or manifest that is being made anew
//! .staging/<hash>.msg.new              a message file that is being copied as it is
//! .quarantine/<mailbox id>-<uid>-<n>   bytes that were found where others belong
//! ```
//! A split partition has two roots: files that end in `.msg`, and what of them is staged or in the quarantine, lie in the second one, all other
//! files in the first, and the directories above a file in both ([`side`], [`super::split`]).
//!
//! `<nn>` is two hexadecimal digits: the UID divided by 1024, modulo 256. Neighbours share a directory: a small mailbox
//! has one, 1,000,000 messages make 256 of some 3,900 names each. Ids and UIDs are decimal without leading zeros.
//!
//! # Invariants
//! * No name that came from outside becomes part of a path, but for a user id within the token, which holds nothing that means
//!   anything to a file system.
//! * [`Home::parse`] takes what `model::user::directory` makes and nothing else, so a directory that stands in a row or in a
//!   log record never leads anywhere else.

use super::identity::FILE_MESSAGES;
use crate::disk::{Disk, Entry, Kind};
use crate::error::{Result, StoreError};
use crate::model::user::{SHARED_DIRECTORY, check_user};
use std::collections::BTreeMap;
use std::fmt;
use std::io;

/// Directory of long messages on their way in.
pub const STAGING: &str = ".staging";
/// Directory of bytes that were found where others belong.
pub const QUARANTINE: &str = ".quarantine";
/// Name of the index of a mailbox.
pub const INDEX: &str = "store.idx";
/// Name of the manifest of a home.
pub const MANIFEST: &str = "manifest";
const USERS: &str = "=user";
const UIDS_PER_DIRECTORY: u32 = 1024;
const SUFFIX: &str = ".msg";
const CANDIDATE: &str = ".new";

/// The directory of a user, or that of shared mailboxes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Home {
    directory: String,
    number: u64,
}

impl Home {
    /// Checks a directory; `None` if it is none that a user or shared mailboxes can have.
    #[must_use]
    pub fn parse(directory: &str) -> Option<Home> {
        if directory == SHARED_DIRECTORY {
            return Some(Home { directory: directory.to_owned(), number: 0 });
        }
        let mut parts = directory.split('/');
        let (users, low, second, token) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let hex =
            |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let (user, number) = token.strip_prefix('=')?.split_once('~')?;
        let number = decimal(number).filter(|n| *n > 0)?;
        // A long user id is cut, maybe right behind its `@`.
        let named = check_user(user).is_ok() || user.strip_suffix('@').is_some_and(|cut| check_user(cut).is_ok());
        let good = users == USERS && hex(low) && hex(second) && named && token.len() <= 255 && parts.next().is_none();
        good.then(|| Home { directory: directory.to_owned(), number })
    }

    /// Its path below the root.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.directory
    }

    /// The user's number; 0 for shared mailboxes.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The user id it was made for, as first created; cut if that was long. `None` for shared mailboxes.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        let (_, token) = self.directory.rsplit_once('/')?;
        Some(token.strip_prefix('=')?.split_once('~')?.0)
    }

    /// Path of its manifest.
    #[must_use]
    pub fn manifest(&self) -> String {
        format!("{}/{MANIFEST}", self.directory)
    }

    /// The place of a mailbox in it.
    #[must_use]
    pub fn mailbox(&self, id: u64) -> Place {
        Place { home: self.clone(), id }
    }
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.directory)
    }
}

/// Where a mailbox lies below a partition's root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// In whose directory.
    pub home: Home,
    /// Mailbox id.
    pub id: u64,
}

impl Place {
    /// Checks the directory of a mailbox, as `MailboxRow::directory` makes it.
    #[must_use]
    pub fn parse(directory: &str) -> Option<Place> {
        let (home, id) = directory.rsplit_once('/')?;
        Some(Place { home: Home::parse(home)?, id: decimal(id).filter(|id| *id > 0)? })
    }

    /// Its path below the root.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}", self.home.directory, self.id)
    }

    /// Path of its index.
    #[must_use]
    pub fn index(&self) -> String {
        format!("{}/{}/{INDEX}", self.home.directory, self.id)
    }

    /// Path of a message.
    #[must_use]
    pub fn message(&self, uid: u32) -> String {
        format!("{}/{}/{}/{uid}{SUFFIX}", self.home.directory, self.id, group(uid))
    }

    /// UIDs of the message files that are there, in order. Names that are none are left out.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn uids(&self, disk: &dyn Disk) -> Result<Vec<u32>> {
        Ok(self.listed(disk, names)?.into_keys().collect())
    }

    /// The message files that are there: UIDs and lengths in bytes. Names that are none are left out.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn lengths(&self, disk: &dyn Disk) -> Result<BTreeMap<u32, u64>> {
        self.listed(disk, list)
    }

    fn listed(&self, disk: &dyn Disk, how: Lists) -> Result<BTreeMap<u32, u64>> {
        let mut all = BTreeMap::new();
        for dir in names(disk, &self.path())?.into_iter().filter(|e| e.kind == Kind::Dir) {
            let files = how(disk, &format!("{}/{}", self.path(), dir.name))?;
            let uid =
                |name: &str| Some(name.strip_suffix(SUFFIX)?).and_then(decimal).and_then(|n| u32::try_from(n).ok());
            let files = files.into_iter().filter(|e| e.kind == Kind::File);
            let named = files.filter_map(|e| Some((uid(&e.name)?, e.len)));
            all.extend(named.filter(|(uid, _)| *uid > 0 && group(*uid) == dir.name));
        }
        Ok(all)
    }
}

/// How a directory is listed: [`list`] or [`names`].
type Lists = fn(&dyn Disk, &str) -> Result<Vec<Entry>>;

/// Takes the directory of a home away that has no mailboxes any more, with its manifest and the directories above it as far as they are
/// empty. One that holds anything else stays.
///
/// # Errors
/// Those of the disk.
pub fn remove_home(disk: &dyn Disk, home: &Home) -> Result<()> {
    let io = |e| StoreError::io("remove", disk.display(home.path()), e);
    let entries = names(disk, home.path())?;
    if entries.iter().any(|entry| entry.name != MANIFEST) {
        return Ok(());
    }
    for entry in &entries {
        match disk.remove(&format!("{}/{}", home.path(), entry.name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io(e)),
            _ => {}
        }
    }
    let mut dir = home.path();
    while !dir.is_empty() && dir != USERS {
        match disk.remove_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(()),
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io(e)),
            _ => dir = crate::disk::parent(dir),
        }
    }
    Ok(())
}

/// The directory of a message in its mailbox.
fn group(uid: u32) -> String {
    format!("{:02x}", uid / UIDS_PER_DIRECTORY % 256)
}

/// A number as this room writes it.
pub(super) fn decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// Path of a long message on its way in.
#[must_use]
pub fn staged(number: u64) -> String {
    format!("{STAGING}/{number}{SUFFIX}")
}

/// Path under which the file at `path` is made anew, before it takes its name. It is not beside it, so that a start finds what a
/// crash left without a look into every directory.
#[must_use]
pub fn candidate(path: &str) -> String {
    let suffix = if side(path) == Side::Messages { SUFFIX } else { "" };
    format!("{STAGING}/{}{suffix}{CANDIDATE}", &blake3::hash(path.as_bytes()).to_hex()[..16])
}

/// In which root of a split partition something lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The first, with identity, indexes and manifests.
    Index,
    /// The second, with message files.
    Messages,
    /// A directory above files of both.
    Both,
}

/// In which root of a split partition a path leads somewhere. A name that this room gives nothing is on both.
#[must_use]
pub fn side(path: &str) -> Side {
    let (top, rest) = path.split_once('/').unwrap_or((path, ""));
    match top {
        USERS => rest.splitn(4, '/').nth(3).map_or(Side::Both, side_in_home),
        SHARED_DIRECTORY => side_in_home(rest),
        STAGING if rest.is_empty() => Side::Both,
        STAGING if rest.strip_suffix(CANDIDATE).unwrap_or(rest).ends_with(SUFFIX) => Side::Messages,
        QUARANTINE => side_in_quarantine(rest),
        _ if top.strip_suffix(CANDIDATE).unwrap_or(top) == FILE_MESSAGES => Side::Messages,
        "" => Side::Both,
        _ => Side::Index,
    }
}

fn side_in_home(path: &str) -> Side {
    match path.split_once('/') {
        None if path == MANIFEST => Side::Index,
        None => Side::Both,
        Some((_, below)) => side_in_mailbox(below),
    }
}

fn side_in_mailbox(path: &str) -> Side {
    if path == INDEX { Side::Index } else { Side::Messages }
}

fn side_in_quarantine(path: &str) -> Side {
    let (name, below) = path.split_once('/').map_or((path, None), |(name, below)| (name, Some(below)));
    let Some((_, what)) = name.split_once('-') else { return Side::Both };
    if what.starts_with("mailbox-") {
        return below.map_or(Side::Both, side_in_mailbox);
    }
    if what.starts_with(INDEX) || what.starts_with(MANIFEST) { Side::Index } else { Side::Messages }
}

/// Paths of journals that were being made anew.
///
/// # Errors
/// Those of the disk.
pub fn candidates(disk: &dyn Disk) -> Result<Vec<String>> {
    let found = names(disk, STAGING)?.into_iter().filter(|e| e.name.ends_with(CANDIDATE));
    Ok(found.map(|e| format!("{STAGING}/{}", e.name)).collect())
}

/// Numbers of the messages on their way in.
///
/// # Errors
/// Those of the disk.
pub fn staged_numbers(disk: &dyn Disk) -> Result<Vec<u64>> {
    let found = names(disk, STAGING)?;
    Ok(found.into_iter().filter_map(|e| decimal(e.name.strip_suffix(SUFFIX)?)).collect())
}

/// Calls `each` with every home that is there.
///
/// # Errors
/// Those of the disk and of `each`.
pub fn homes(disk: &dyn Disk, each: &mut dyn FnMut(Home) -> Result<()>) -> Result<()> {
    let dirs = |dir: &str| -> Result<Vec<String>> {
        let found = names(disk, dir)?.into_iter().filter(|e| e.kind == Kind::Dir);
        Ok(found.map(|e| format!("{dir}/{}", e.name)).collect())
    };
    if !names(disk, SHARED_DIRECTORY)?.is_empty() {
        each(Home { directory: SHARED_DIRECTORY.to_owned(), number: 0 })?;
    }
    for low in dirs(USERS)? {
        for second in dirs(&low)? {
            dirs(&second)?.iter().filter_map(|dir| Home::parse(dir)).try_for_each(&mut *each)?;
        }
    }
    Ok(())
}

/// What has the name of a home and is no directory, in the order of the tree: a link leads nowhere, and says that mail of that user may lie
/// elsewhere.
///
/// # Errors
/// Those of the disk.
pub fn strange_homes(disk: &dyn Disk) -> Result<Vec<Home>> {
    let below = |dir: &str, is_dir: bool| -> Result<Vec<String>> {
        let found = names(disk, dir)?.into_iter().filter(|e| (e.kind == Kind::Dir) == is_dir);
        Ok(found.map(|e| format!("{dir}/{}", e.name)).collect())
    };
    let mut strange = Vec::new();
    for low in below(USERS, true)? {
        for second in below(&low, true)? {
            strange.extend(below(&second, false)?.iter().filter_map(|path| Home::parse(path)));
        }
    }
    Ok(strange)
}

/// The mailboxes that are there in a home, by id.
///
/// # Errors
/// Those of the disk.
pub fn mailboxes(disk: &dyn Disk, home: &Home) -> Result<Vec<Place>> {
    let found = names(disk, home.path())?.into_iter().filter(|e| e.kind == Kind::Dir);
    let mut places: Vec<_> =
        found.filter_map(|e| decimal(&e.name)).filter(|id| *id > 0).map(|id| home.mailbox(id)).collect();
    places.sort();
    Ok(places)
}

/// What a directory holds; nothing if it is not there.
fn list(disk: &dyn Disk, dir: &str) -> Result<Vec<Entry>> {
    found(disk, dir, disk.list(dir))
}

/// The same without lengths.
fn names(disk: &dyn Disk, dir: &str) -> Result<Vec<Entry>> {
    found(disk, dir, disk.names(dir))
}

fn found(disk: &dyn Disk, dir: &str, found: io::Result<Vec<Entry>>) -> Result<Vec<Entry>> {
    match found {
        Ok(entries) => Ok(entries),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(StoreError::io("list", disk.display(dir), e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Access, SimDisk, create_all};
    use crate::model::UserId;
    use crate::model::user::directory;

    #[test]
    fn homes_are_what_users_have() {
        let of = |user: &str, id| directory(&UserId::parse(user).unwrap(), id);
        let long = format!("{}@example.org", "a".repeat(199));
        for dir in [of("joe@example.org", 12), of("j", u64::MAX), of(&long, 3), of(&"a".repeat(255), 3)] {
            let home = Home::parse(&dir).unwrap_or_else(|| panic!("{dir}"));
            assert_eq!(home.path(), dir);
            let place = home.mailbox(77);
            assert_eq!(Place::parse(&place.path()), Some(place));
        }
        assert_eq!(Home::parse(&of("joe", 12)).unwrap().number(), 12);
        assert_eq!(Home::parse(&of("joe", 12)).unwrap().user(), Some("joe"));
        assert_eq!(Home::parse("=shared").unwrap().user(), None);
        assert_eq!(Home::parse("=shared").unwrap().number(), 0);
        for bad in [
            "",
            "/",
            "=user",
            "=user/00/00",
            "=user/00/00/=a",
            "=user/00/00/=a~0",
            "=user/00/00/=a~01",
            "=user/0/00/=a~1",
            "=user/../00/=a~1",
            "=user/00/00/=..~1",
            "=user/00/00/=a~1/..",
            "=user/00/00/=a/b~1",
            "=user/AA/00/=a~1",
            "/=shared",
            "=shared/",
            "=user/00/00/a~1",
            "=user/00/00/=a~1~2",
            "=user/00/00/=\u{0}~1",
            "=user/00/00/=~1",
        ] {
            assert_eq!(Home::parse(bad), None, "{bad:?}");
            assert_eq!(Place::parse(&format!("{bad}/1")), None, "{bad:?}");
        }
        assert_eq!(Place::parse("=shared/0"), None);
        assert_eq!(Place::parse("=shared/007"), None);
    }

    #[test]
    fn what_lies_in_a_partition_is_found_and_nothing_else() {
        let disk = SimDisk::new();
        let home = Home::parse("=user/f6/79/=crowe~1").unwrap();
        let place = home.mailbox(5);
        assert_eq!(place.message(1), "=user/f6/79/=crowe~1/5/00/1.msg");
        assert_eq!(place.message(1_000_000), "=user/f6/79/=crowe~1/5/d0/1000000.msg");
        assert_eq!(place.message(u32::MAX), "=user/f6/79/=crowe~1/5/ff/4294967295.msg");
        assert_eq!((place.uids(&disk).unwrap(), mailboxes(&disk, &home).unwrap()), (vec![], vec![]));
        let wrong = [format!("{}/01/9.msg", place.path()), format!("{}/00/x.msg", place.path())];
        for path in [place.message(2048), place.message(2), staged(7), format!("{STAGING}/x")].iter().chain(&wrong) {
            create_all(&disk, crate::disk::parent(path)).unwrap();
            disk.open(path, Access::CreateNew).unwrap();
        }
        create_all(&disk, "=user/00/00/not one").unwrap();
        disk.plant_symlink(&place.message(3), "=user").unwrap();
        assert_eq!(place.uids(&disk).unwrap(), [2, 2048]);
        assert_eq!(mailboxes(&disk, &home).unwrap(), [place]);
        assert_eq!(staged_numbers(&disk).unwrap(), [7]);
        let mut found = Vec::new();
        homes(&disk, &mut |home| {
            found.push(home);
            Ok(())
        })
        .unwrap();
        assert_eq!(found, [home]);
    }
}
