//! Where partitions lie that were added while the daemon ran: the file `partitions.toml` in the data directory. A path is
//! a matter of this machine, so it stands neither in a log record nor in the database; the configuration file wins over
//! this one.
//!
//! # Format
//! TOML: `[partition.NAME]` with `path = "..."` and maybe `message_path = "..."`, as in the configuration file.

use crate::disk::{self, Disk};
use crate::error::{Result, StoreError};
use crate::site::Site;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Name of the file.
pub const FILE: &str = "partitions.toml";
const HEAD: &str = "# Written by storedd: where the partitions lie that `storectl partition add` added.\n";
const BYTES_MAX: u64 = 4 << 20;

/// Partition name -> where it lies; empty if there is no file.
///
/// # Errors
/// [`StoreError::Corrupt`] if the file cannot be understood, or those of the disk.
pub fn read(data: &dyn Disk) -> Result<BTreeMap<String, Site>> {
    let bytes = match disk::read_small(data, FILE, BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(e) => return Err(StoreError::io("read", data.display(FILE), e)),
    };
    let corrupt = |found: String| StoreError::Corrupt {
        file: data.display(FILE),
        offset: 0,
        what: "partition paths".to_owned(),
        found,
        expected: "[partition.NAME] with absolute paths".to_owned(),
    };
    let table: toml::Table =
        String::from_utf8_lossy(&bytes).parse().map_err(|e: toml::de::Error| corrupt(e.message().to_owned()))?;
    let Some(partitions) = table.get("partition") else { return Ok(BTreeMap::new()) };
    let partitions = partitions.as_table().ok_or_else(|| corrupt("no section".to_owned()))?;
    let absolute = |value: &toml::Value| value.as_str().map(PathBuf::from).filter(|path| path.is_absolute());
    let one = |(name, value): (&String, &toml::Value)| {
        let wrong = || corrupt(format!("[partition.{name}]"));
        let path = value.get("path").and_then(absolute).ok_or_else(wrong)?;
        let messages = value.get("message_path").map(|value| absolute(value).ok_or_else(wrong)).transpose()?;
        Ok((name.clone(), Site { path, messages }))
    };
    partitions.iter().map(one).collect()
}

/// Replaces the file, durably. Paths are absolute and UTF-8.
///
/// # Errors
/// [`StoreError::Refused`] for a path that cannot be written as text, or those of the disk.
pub fn write(data: &dyn Disk, places: &BTreeMap<String, Site>) -> Result<()> {
    let mut partitions = toml::Table::new();
    for (name, site) in places {
        let text = |path: &Path| match path.to_str().filter(|_| path.is_absolute()) {
            Some(text) => Ok(toml::Value::String(text.to_owned())),
            None => Err(StoreError::Refused {
                message: format!("partition {name}: the path {} is not absolute or not UTF-8", path.display()),
                hint: "give an absolute path".to_owned(),
                exit: crate::error::exit::BAD_INPUT,
            }),
        };
        let mut place = toml::Table::from_iter([("path".to_owned(), text(&site.path)?)]);
        if let Some(messages) = &site.messages {
            place.insert("message_path".to_owned(), text(messages)?);
        }
        partitions.insert(name.clone(), toml::Value::Table(place));
    }
    let table = toml::Table::from_iter([("partition".to_owned(), toml::Value::Table(partitions))]);
    disk::replace(data, FILE, format!("{HEAD}{table}").as_bytes())
        .map_err(|e| StoreError::io("write", data.display(FILE), e))
}
