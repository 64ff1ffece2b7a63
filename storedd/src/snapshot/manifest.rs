//! # Purpose
//! The texts of a snapshot: `MANIFEST`, `.snaptime`, `.verified`.
//!
//! # Format
//! Sealed texts, see `sealed.rs`. `MANIFEST`:
//! ```text
//! storedd-snapshot 1
//! store 000102030405060708090a0b0c0d0e0f
//! lsn 42
//! epoch 0
//! time 1800000000000000
//! schema 1
//! table users 7 000000000000000000000000000000ff
//! file mboxlist.redb 1048576 89abcdef
//! crc 01234567
//! ```
//! `time` is microseconds since 1970 UTC; `table` has name, rows and digest (as the database's own record has it), one line for each
//! table; `file` has name, length in bytes and CRC-32, seeded with the store id and the name. `.snaptime`:
//! ```text
//! storedd-snaptime 1
//! time 1800000000000000
//! crc 01234567
//! ```
//! `.verified` has the time of the verification, and the CRC-32 of the two other texts:
//! ```text
//! storedd-verified 1
//! time 1800000000000000
//! manifest 89abcdef
//! snaptime 89abcdef
//! crc 01234567
//! ```

use super::corrupt;
use crate::error::Result;
use crate::lsn::{Epoch, Lsn, Micros, StoreId};
use crate::planted::{self, Bug};
use crate::sealed::{Lines, crc, seal};
use std::fmt::Write;

/// What the database says of one of its tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSum {
    /// Its name.
    pub name: String,
    /// Number of rows.
    pub rows: u64,
    /// Digest over them.
    pub digest: u128,
}

/// Length and checksum of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSum {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// CRC-32 over store id, name and content.
    pub crc: u32,
}

/// What a snapshot says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The store it is of.
    pub store_id: StoreId,
    /// Every record up to this one is contained, no later one is.
    pub lsn: Lsn,
    /// Epoch of that LSN.
    pub epoch: Epoch,
    /// When it was taken.
    pub time: Micros,
    /// Version of what stands in the database.
    pub schema: u32,
    /// Every table.
    pub tables: Vec<TableSum>,
    /// Every file but the texts.
    pub files: Vec<FileSum>,
}

impl Manifest {
    const KIND: &str = "storedd-snapshot";

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut text = String::new();
        let _ = writeln!(text, "store {}\nlsn {}\nepoch {}", self.store_id, self.lsn, self.epoch);
        let _ = writeln!(text, "time {}\nschema {}", self.time.0, self.schema);
        put_sums(&mut text, &self.tables, &self.files);
        seal(Self::KIND, &text)
    }

    pub(super) fn decode(bytes: &[u8], file: &str) -> Result<Manifest> {
        let mut lines = Lines::open(Self::KIND, bytes, file)?;
        let mut manifest = Manifest {
            store_id: lines.store()?,
            lsn: Lsn(lines.number("lsn")?),
            epoch: Epoch(lines.number("epoch")?),
            time: Micros(lines.number("time")?),
            schema: u32::try_from(lines.number("schema")?).map_err(|_| lines.wrong("schema"))?,
            tables: Vec::new(),
            files: Vec::new(),
        };
        (manifest.tables, manifest.files) = sums(&mut lines)?;
        Ok(manifest)
    }

    /// # Errors
    /// [`StoreError::Corrupt`] if the directory's name has another LSN.
    pub(super) fn expect_lsn(&self, lsn: Lsn, file: &str) -> Result<()> {
        if self.lsn == lsn {
            return Ok(());
        }
        Err(corrupt(file, "LSN", self.lsn.to_string(), &format!("{lsn}, as in the name of the directory")))
    }
}

/// The lines of tables and files.
pub(super) fn put_sums(text: &mut String, tables: &[TableSum], files: &[FileSum]) {
    for TableSum { name, rows, digest } in tables {
        let _ = writeln!(text, "table {name} {rows} {digest:032x}");
    }
    for FileSum { name, bytes, crc } in files {
        let _ = writeln!(text, "file {name} {bytes} {crc:08x}");
    }
}

/// The rest of a text, which is lines of tables and files.
pub(super) fn sums(lines: &mut Lines<'_>) -> Result<(Vec<TableSum>, Vec<FileSum>)> {
    let (mut tables, mut files) = (Vec::new(), Vec::new());
    while let Some(line) = lines.next() {
        let mut words = line.split(' ');
        let four = (words.next(), words.next(), words.next(), words.next(), words.next());
        let known = match four {
            (Some("table"), Some(name), Some(rows), Some(digest), None) => (|| {
                let (rows, digest) = (rows.parse().ok()?, u128::from_str_radix(digest, 16).ok()?);
                tables.push(TableSum { name: name.to_owned(), rows, digest });
                Some(())
            })(),
            // A name is never a path: no file outside the directory is ever looked at.
            (Some("file"), Some(name), Some(bytes), Some(crc), None) if !name.contains('/') => (|| {
                let (bytes, crc) = (bytes.parse().ok()?, u32::from_str_radix(crc, 16).ok()?);
                files.push(FileSum { name: name.to_owned(), bytes, crc });
                Some(())
            })(),
            _ => None,
        };
        known.ok_or_else(|| lines.wrong("table or file"))?;
    }
    Ok((tables, files))
}

/// `.snaptime`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Snaptime {
    pub(super) time: Micros,
}

impl Snaptime {
    const KIND: &str = "storedd-snaptime";

    pub(super) fn encode(self) -> Vec<u8> {
        seal(Self::KIND, &format!("time {}\n", self.time.0))
    }

    pub(super) fn decode(bytes: &[u8], file: &str) -> Result<Snaptime> {
        let mut lines = Lines::open(Self::KIND, bytes, file)?;
        let time = Micros(lines.number("time")?);
        lines.end()?;
        Ok(Snaptime { time })
    }
}

/// `.verified`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) time: Micros,
    pub(super) manifest: u32,
    pub(super) snaptime: u32,
}

impl Mark {
    const KIND: &str = "storedd-verified";

    pub(super) fn of(time: Micros, manifest: &[u8], snaptime: &[u8]) -> Mark {
        Mark { time, manifest: crc(Self::KIND, manifest), snaptime: crc(Self::KIND, snaptime) }
    }

    pub(super) fn speaks_of(self, manifest: &[u8], snaptime: &[u8]) -> bool {
        self == Mark::of(self.time, manifest, snaptime) || planted::on(Bug::MarkNotCompared)
    }

    pub(super) fn encode(self) -> Vec<u8> {
        let Mark { time, manifest, snaptime } = self;
        seal(Self::KIND, &format!("time {}\nmanifest {manifest:08x}\nsnaptime {snaptime:08x}\n", time.0))
    }

    pub(super) fn decode(bytes: &[u8], file: &str) -> Result<Mark> {
        let mut lines = Lines::open(Self::KIND, bytes, file)?;
        let time = Micros(lines.number("time")?);
        let mut sum = |key| {
            let word = lines.word(key)?;
            u32::from_str_radix(word, 16).map_err(|_| lines.wrong(key))
        };
        let (manifest, snaptime) = (sum("manifest")?, sum("snaptime")?);
        lines.end()?;
        Ok(Mark { time, manifest, snaptime })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::StoreError;

    fn manifest() -> Manifest {
        Manifest {
            store_id: StoreId(std::array::from_fn(|n| n as u8)),
            lsn: Lsn(42),
            epoch: Epoch(3),
            time: Micros(1_800_000_000_000_000),
            schema: 1,
            tables: vec![TableSum { name: "users".to_owned(), rows: 7, digest: 0xff }],
            files: vec![FileSum { name: "mboxlist.redb".to_owned(), bytes: 1 << 20, crc: 0x89ab_cdef }],
        }
    }

    // The formats are pinned: whoever changes one makes another version and a way to read this one.
    #[test]
    fn golden_bytes() {
        let text = String::from_utf8(manifest().encode()).unwrap();
        let body = "storedd-snapshot 1\nstore 000102030405060708090a0b0c0d0e0f\nlsn 42\nepoch 3\ntime 1800000000000000\n\
            schema 1\ntable users 7 000000000000000000000000000000ff\nfile mboxlist.redb 1048576 89abcdef\n";
        assert_eq!(text, format!("{body}crc dff8c1e0\n"));
        let text = String::from_utf8(Snaptime { time: Micros(5) }.encode()).unwrap();
        assert_eq!(text, "storedd-snaptime 1\ntime 5\ncrc eb73ca8b\n");
        let mark = Mark { time: Micros(6), manifest: 1, snaptime: 2 };
        let text = String::from_utf8(mark.encode()).unwrap();
        assert_eq!(text, "storedd-verified 1\ntime 6\nmanifest 00000001\nsnaptime 00000002\ncrc 309f35c0\n");
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(Manifest::decode(&manifest().encode(), "m").unwrap(), manifest());
        let mark = Mark::of(Micros(6), b"m", b"s");
        assert_eq!(Mark::decode(&mark.encode(), "v").unwrap(), mark);
        assert!(mark.speaks_of(b"m", b"s") && !mark.speaks_of(b"n", b"s") && !mark.speaks_of(b"m", b"t"));
    }

    #[test]
    fn every_flip_and_every_cut_is_noticed() {
        let texts =
            [manifest().encode(), Snaptime { time: Micros(5) }.encode(), Mark::of(Micros(6), b"m", b"s").encode()];
        let bad = |kind: usize, bytes: &[u8]| match kind {
            0 => Manifest::decode(bytes, "f").is_err(),
            1 => Snaptime::decode(bytes, "f").is_err(),
            _ => Mark::decode(bytes, "f").is_err(),
        };
        for (kind, text) in texts.iter().enumerate() {
            for at in 0..text.len() {
                for bit in 0..8 {
                    let mut flipped = text.clone();
                    flipped[at] ^= 1 << bit;
                    assert!(bad(kind, &flipped), "{kind}: bit {bit} of byte {at}");
                }
                assert!(bad(kind, &text[..at]), "{kind}: cut at {at}");
            }
        }
    }

    #[test]
    fn another_version_and_another_kind_are_told_from_damage() {
        let newer =
            String::from_utf8(Snaptime { time: Micros(5) }.encode()).unwrap().replace("snaptime 1", "snaptime 2");
        let body = &newer[..newer.len() - 13];
        let newer = format!("{body}crc {:08x}\n", crc(Snaptime::KIND, body.as_bytes()));
        assert!(matches!(Snaptime::decode(newer.as_bytes(), "f"), Err(StoreError::Foreign { .. })));
        assert!(matches!(Manifest::decode(&seal("storedd-other", ""), "f"), Err(StoreError::Corrupt { .. })));
    }
}
