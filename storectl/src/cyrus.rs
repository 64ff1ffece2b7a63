//! The mailbox list of a Cyrus server as commands for storedd.
//!
//! # Purpose
//! `ctl_mboxlist -d` writes all mailboxes of a server with their UIDVALIDITY, partition and rights. [`read`] turns that
//! into one [`proto::Command::ImportMailbox`] each, and says of every entry that becomes none why.
//!
//! # Format
//! JSON: an object, name -> entry, or a list of entries with `name`. Of an entry are read `mbtype`, `partition`,
//! `uidvalidity` (number, or text of one) and `acl` (object, identifier -> rights, or as in older lists text of
//! identifiers and rights, each followed by a tab). What else stands there is passed over.
//!
//! Names are in Cyrus's internal form: an optional `domain!`, then components with `.` between them, in modified
//! UTF-7, with `^` for a dot inside a component.
//!
//! # Operation
//! `domain!user.joe.Sub` becomes `user/joe@domain/Sub`, `user.joe` becomes `user/joe/INBOX`. Anything else goes below
//! `shared/`: the domain, if there is one, then the components, of which a leading `shared` is not repeated. Entries of
//! deleted mailboxes are left out. Names that do not decode are refused, and so are *all* entries that map to one name:
//! which of them it should be is not for a program to guess. INBOXes come first, so that a user is made with the
//! INBOX of the list. Whether a name is a good one is the daemon's to say.
//!
//! # Invariants
//! Every entry of the list is in exactly one of `imports`, `left_out` and `refused`. No input panics.

use proto::{Command, utf7};
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use unicode_normalization::UnicodeNormalization;

/// What a list means here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mapped {
    /// Mailboxes to import, in the order in which to ask for them.
    pub imports: Vec<Import>,
    /// Names of deleted mailboxes.
    pub left_out: Vec<String>,
    /// Entries that cannot be imported.
    pub refused: Vec<Refused>,
}

/// One mailbox to import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// The name in the list.
    pub source: String,
    /// What to ask for: always [`Command::ImportMailbox`].
    pub command: Command,
}

/// One entry that cannot be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The name in the list.
    pub source: String,
    /// Why.
    pub reason: String,
}

/// A partition of the list that does not exist here under its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionChange {
    /// Its name in the list.
    pub from: String,
    /// The partition that takes its place; `None`: the default one.
    pub to: Option<String>,
    /// How many mailboxes.
    pub mailboxes: u64,
}

impl Mapped {
    /// Puts the partitions of this store in the place of the list's: what `map` says, else the same name if it is
    /// `known`, else the default one. Gives every change, in order of name.
    ///
    /// # Errors
    /// The target of `map` that is not known; nothing is changed then.
    pub fn map_partitions(
        &mut self,
        map: &BTreeMap<String, String>,
        known: &BTreeSet<String>,
    ) -> Result<Vec<PartitionChange>, String> {
        if let Some(target) = map.values().find(|target| !known.contains(*target)) {
            return Err(target.clone());
        }
        let mut changes: BTreeMap<String, PartitionChange> = BTreeMap::new();
        for import in &mut self.imports {
            let Command::ImportMailbox { partition, .. } = &mut import.command else { continue };
            let Some(from) = partition.take() else { continue };
            let to = map.get(&from).or_else(|| known.get(&from)).cloned();
            if to.as_ref() != Some(&from) {
                let change = PartitionChange { from: from.clone(), to: to.clone(), mailboxes: 0 };
                changes.entry(from).or_insert(change).mailboxes += 1;
            }
            *partition = to;
        }
        Ok(changes.into_values().collect())
    }
}

/// Why text is no such list.
#[derive(Debug)]
pub struct ListError(serde_json::Error);

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a mailbox list as 'ctl_mboxlist -d' writes it: {}", self.0)
    }
}

impl std::error::Error for ListError {}

/// Reads a list.
///
/// # Errors
/// If it is no JSON, or neither an object nor a list. A bad entry in it is among those refused.
pub fn read(json: &[u8]) -> Result<Mapped, ListError> {
    let List(entries) = serde_json::from_slice(json).map_err(ListError)?;
    let mut mapped = Mapped::default();
    let mut taken: BTreeMap<String, Vec<Import>> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    for (source, entry) in entries {
        match convert(&source, entry) {
            Ok(None) => mapped.left_out.push(source),
            Ok(Some((name, command))) => {
                let same = taken.entry(name.clone()).or_default();
                if same.is_empty() {
                    order.push(name);
                }
                same.push(Import { source, command });
            }
            Err(reason) => mapped.refused.push(Refused { source, reason }),
        }
    }
    // Stable: INBOXes first, else the order of the list.
    order.sort_by_key(|name| !is_inbox(name));
    for name in order {
        match taken.remove(&name) {
            Some(one) if one.len() == 1 => mapped.imports.extend(one),
            several => refuse_all(&name, several.unwrap_or_default(), &mut mapped.refused),
        }
    }
    Ok(mapped)
}

/// Refuses entries that map to one name, each with the names of the others.
fn refuse_all(name: &str, same: Vec<Import>, refused: &mut Vec<Refused>) {
    const SHOWN: usize = 3;
    for (at, import) in same.iter().enumerate() {
        let others = same.iter().enumerate().filter(|(other, _)| *other != at);
        let others: Vec<&str> = others.map(|(_, other)| other.source.as_str()).take(SHOWN).collect();
        let more = if same.len() - 1 > SHOWN { ", ..." } else { "" };
        let reason = format!("maps to {name}, and so does {}{more}", others.join(", "));
        refused.push(Refused { source: import.source.clone(), reason });
    }
}

/// The name here and the command for one entry; `None` for a deleted mailbox.
fn convert(source: &str, entry: Form<Entry>) -> Result<Option<(String, Command)>, String> {
    let Form::Good(entry) = entry else { return Err("the entry is no object".to_owned()) };
    let mbtype = text("mbtype", entry.mbtype)?.unwrap_or_default();
    if mbtype.contains('d') || local_part(source).1.starts_with("DELETED.") {
        return Ok(None);
    }
    let name = map_name(source)?;
    let partition = text("partition", entry.partition)?.filter(|name| !name.is_empty());
    let uidvalidity = match entry.uidvalidity {
        None => 0,
        Some(Form::Good(Scalar::Number(n))) => u32::try_from(n).map_err(|_| format!("UIDVALIDITY {n}"))?,
        Some(Form::Good(Scalar::Text(digits))) => {
            digits.parse().map_err(|_| format!("UIDVALIDITY {digits:?} is no number of 32 bits"))?
        }
        Some(Form::Bad(_)) => return Err("UIDVALIDITY is no number".to_owned()),
    };
    let acl = match entry.acl {
        None => BTreeMap::new(),
        Some(Form::Good(Rights::Object(acl))) => acl,
        Some(Form::Good(Rights::Text(text))) => older_rights(&text)?,
        Some(Form::Bad(_)) => return Err("acl is neither an object of texts nor text".to_owned()),
    };
    let command = Command::ImportMailbox { name: name.clone(), partition, uidvalidity, acl };
    Ok(Some((name, command)))
}

fn text(field: &str, value: Option<Form<Scalar>>) -> Result<Option<String>, String> {
    match value {
        None => Ok(None),
        Some(Form::Good(Scalar::Text(text))) => Ok(Some(text)),
        Some(_) => Err(format!("{field} is no text")),
    }
}

/// `joe<TAB>lrs<TAB>anyone<TAB>l<TAB>`.
fn older_rights(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut acl = BTreeMap::new();
    let mut words = text.strip_suffix('\t').unwrap_or(text).split('\t');
    while let Some(who) = words.next().filter(|who| !who.is_empty()) {
        let rights = words.next().ok_or_else(|| format!("acl has no rights for {who:?}"))?;
        if acl.insert(who.to_owned(), rights.to_owned()).is_some() {
            return Err(format!("acl has two entries for {who:?}"));
        }
    }
    match words.next() {
        Some(_) => Err("acl has an entry without identifier".to_owned()),
        None => Ok(acl),
    }
}

/// Domain and local part of an internal name.
fn local_part(source: &str) -> (Option<&str>, &str) {
    match source.split_once('!') {
        Some((domain, local)) => (Some(domain), local),
        None => (None, source),
    }
}

/// The full name here of an internal name, in its one form.
fn map_name(source: &str) -> Result<String, String> {
    let (domain, local) = local_part(source);
    if domain.is_some_and(|domain| domain.is_empty() || domain.contains('/')) {
        return Err("what stands before '!' is no domain".to_owned());
    }
    let components = local.split('.').map(component).collect::<Result<Vec<_>, _>>()?;
    let mut name: Vec<String> = Vec::with_capacity(components.len() + 2);
    let mut rest = components.into_iter().peekable();
    let first = rest.next().unwrap_or_default();
    if first == "user" && rest.peek().is_some() {
        let mut user = rest.next().unwrap_or_default();
        if let Some(domain) = domain {
            user = format!("{user}@{domain}");
        }
        name.extend(["user".to_owned(), user]);
        match rest.peek_mut() {
            None => name.push(INBOX.to_owned()),
            // Where users have another INBOX below theirs, the two meet under one name, and are refused.
            Some(folder) if folder.eq_ignore_ascii_case(INBOX) => INBOX.clone_into(folder),
            Some(_) => {}
        }
    } else {
        name.push("shared".to_owned());
        name.extend(domain.map(str::to_owned));
        if first != "shared" {
            name.push(first);
        }
    }
    name.extend(rest);
    Ok(name.join("/").nfc().collect())
}

const INBOX: &str = "INBOX";

fn is_inbox(name: &str) -> bool {
    name.strip_prefix("user/").and_then(|rest| rest.split_once('/')).is_some_and(|(_, folder)| folder == INBOX)
}

/// One component, decoded.
fn component(text: &str) -> Result<String, String> {
    let decoded = utf7::decode(text).map_err(|e| format!("component {text:?} is no modified UTF-7: {e}"))?;
    if decoded.is_empty() {
        return Err("a component is empty".to_owned());
    }
    if decoded.contains('/') {
        return Err(format!("component {decoded:?} holds a '/', which separates components here"));
    }
    Ok(decoded.replace('^', "."))
}

/// The entries of a list in order, also those whose name stands there twice.
struct List(Vec<(String, Form<Entry>)>);

#[derive(serde::Deserialize)]
struct Entry {
    name: Option<String>,
    mbtype: Option<Form<Scalar>>,
    partition: Option<Form<Scalar>>,
    uidvalidity: Option<Form<Scalar>>,
    acl: Option<Form<Rights>>,
}

/// A value that has the form expected, or any other: then one entry is bad, not the list.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Form<T> {
    Good(T),
    Bad(IgnoredAny),
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Number(u64),
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Rights {
    Object(BTreeMap<String, String>),
    Text(String),
}

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<List, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = List;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object or a list of mailboxes")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<List, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(List(entries))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = seq.next_element::<Entry>()? {
                    let name = entry.name.clone().ok_or_else(|| de::Error::missing_field("name"))?;
                    entries.push((name, Form::Good(entry)));
                }
                Ok(List(entries))
            }
        }

        input.deserialize_any(Entries)
    }
}

#[cfg(test)]
#[path = "cyrus_tests.rs"]
mod tests;
