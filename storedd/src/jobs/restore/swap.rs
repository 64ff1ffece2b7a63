//! The old directories and files put aside, the new ones in their places: by a journal, so that it is done wholly once it is begun.

use super::{Spot, Target};
use crate::disk::{self, Access, Below, Disk};
use crate::error::{Result, StoreError, exit};
use crate::lsn::Micros;
use crate::partition::places;
use crate::planted::{self, Bug};
use crate::sealed::{Lines, seal};
use crate::wal::CONTROL_FILE;
use std::fmt::Write;
use std::io;
use std::sync::Arc;

/// The journal in the data directory.
pub const JOURNAL: &str = "RESTORE";
/// In a data directory without a store, from before a restore puts anything anywhere until its copies are in their places. What it is to be goes on
/// with is in it, for people: the path of the backup.
pub const BEGUN: &str = "RESTORING";
/// Longest path that is told from it.
const BEGUN_BYTES_MAX: u64 = 1 << 16;
/// End of the name of a directory that is to take the place of another.
pub(super) const STAGED: &str = ".restore";
/// The directory of the files that are to take the places of others.
const FILES_DIR: &str = "restore.new";
/// What makes a data directory that of a store.
const MARKER: &str = "STORE";
/// The files, and the longest that each may be.
const FILES: [(&str, u64); 3] = [(CONTROL_FILE, 1 << 16), (MARKER, 1 << 16), (places::FILE, 4 << 20)];
const KIND: &str = "storedd-restore";
/// Restores of one day.
const A_DAY_MAX: u32 = 1000;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Journal {
    /// Behind the names of what is put aside.
    suffix: String,
    database: bool,
    /// `None`: it lies beside the database.
    log: Option<bool>,
    /// As [`FILES`]; `None`: that file stays as it is.
    files: [Option<bool>; 3],
}

fn there(disk: &dyn Disk, path: &str) -> Result<bool> {
    disk.stat(path).map(|found| found.is_some()).map_err(|e| StoreError::io("stat", disk.display(path), e))
}

fn aside(name: &str, suffix: &str) -> String {
    format!("{name}.{suffix}")
}

impl Journal {
    /// What a restore at this time has to do; nothing is written. Where partitions lie is a matter of the machine: what the store says of it
    /// stays.
    pub(super) fn make(target: &Target, now: Micros, has_places: bool) -> Result<Journal> {
        let data = &*target.data;
        let mut files = [Some(false); 3];
        for (had, (name, _)) in files.iter_mut().zip(FILES) {
            *had = Some(there(data, name)?);
        }
        if !has_places || files[2] == Some(true) {
            files[2] = None;
        }
        let log = target.log.as_ref().map(Spot::is_used).transpose()?;
        Ok(Journal { suffix: free_suffix(target, now)?, database: target.db.is_used()?, log, files })
    }

    /// True if the backup's file of this name takes the place of the store's.
    pub(super) fn brings(&self, file: &str) -> bool {
        FILES.iter().zip(self.files).any(|((name, _), had)| *name == file && had.is_some())
    }

    /// Old name and new name of what is put aside.
    pub(super) fn aside(&self, target: &Target) -> Vec<(String, String)> {
        let spots = target.spots().zip([Some(self.database), self.log].into_iter().flatten()).filter(|(_, had)| *had);
        let spots = spots
            .map(|(spot, _)| (spot.parent.display(&spot.name), spot.parent.display(&aside(&spot.name, &self.suffix))));
        let files = FILES.iter().zip(self.files).filter(|(_, had)| *had == Some(true));
        let files =
            files.map(|((name, _), _)| (target.data.display(name), target.data.display(&aside(name, &self.suffix))));
        spots.chain(files).collect()
    }

    fn encode(&self) -> Vec<u8> {
        let mut text = format!("suffix {}\ndatabase {}\n", self.suffix, u8::from(self.database));
        if let Some(had) = self.log {
            let _ = writeln!(text, "log {}", u8::from(had));
        }
        for ((name, _), had) in FILES.iter().zip(self.files) {
            if let Some(had) = had {
                let _ = writeln!(text, "{name} {}", u8::from(had));
            }
        }
        seal(KIND, &text)
    }

    fn decode(bytes: &[u8], file: &str) -> Result<Journal> {
        let mut lines = Lines::open(KIND, bytes, file)?;
        let suffix = lines.word("suffix")?.to_owned();
        let mut journal = Journal { suffix, database: lines.number("database")? > 0, log: None, files: [None; 3] };
        while let Some(line) = lines.next() {
            let (name, had) = line.split_once(' ').ok_or_else(|| lines.wrong("a name"))?;
            let had = Some(had == "1");
            match FILES.iter().position(|(file, _)| *file == name) {
                Some(at) => journal.files[at] = had,
                None if name == "log" => journal.log = had,
                None => return Err(lines.wrong("a name")),
            }
        }
        Ok(journal)
    }

    /// From now on there is a way forward only.
    pub(super) fn write(&self, target: &Target) -> Result<()> {
        let data = &*target.data;
        if planted::on(Bug::RestoreWithoutJournal) {
            // There when it is asked for, and not after a crash.
            let file = data.open(JOURNAL, Access::CreateNew).and_then(|file| file.write_at(0, &self.encode()));
            return file.map_err(|e| StoreError::io("write", data.display(JOURNAL), e));
        }
        disk::replace(data, JOURNAL, &self.encode()).map_err(|e| StoreError::io("write", data.display(JOURNAL), e))
    }
}

/// The first ending that nothing there has yet.
fn free_suffix(target: &Target, now: Micros) -> Result<String> {
    let day = i64::try_from(now.0).ok().and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok());
    let day = day.unwrap_or_default().strftime("asof%Y%m%d").to_string();
    for nth in 1..=A_DAY_MAX {
        let suffix = if nth == 1 { day.clone() } else { format!("{day}-{nth}") };
        let mut taken = false;
        for spot in target.spots() {
            taken |= spot.is_there(&aside(&spot.name, &suffix))?;
        }
        for (name, _) in FILES {
            taken |= there(&*target.data, &aside(name, &suffix))?;
        }
        if !taken {
            return Ok(suffix);
        }
    }
    Err(StoreError::Refused {
        message: format!(
            "there are {A_DAY_MAX} old directories of today beside {}",
            target.db.parent.display(&target.db.name)
        ),
        hint: "remove those that nobody needs any more".to_owned(),
        exit: exit::EXISTS,
    })
}

/// The directory for the files that are to take the places of others, made if it is not there.
pub(super) fn files(target: &Target) -> Result<Arc<dyn Disk>> {
    let data = &target.data;
    data.create_dir(FILES_DIR).map_err(|e| StoreError::io("create", data.display(FILES_DIR), e))?;
    Ok(Arc::new(Below::new(data.clone(), FILES_DIR)))
}

/// Removes what a restore that was broken off before it began has left.
pub(super) fn clear(target: &Target) -> Result<()> {
    for spot in target.spots() {
        clear_dir(&*spot.parent, &spot.staged())?;
    }
    clear_dir(&*target.data, FILES_DIR)
}

fn clear_dir(disk: &dyn Disk, dir: &str) -> Result<()> {
    if !there(disk, dir)? {
        return Ok(());
    }
    for entry in disk.list(dir).map_err(|e| StoreError::io("list", disk.display(dir), e))? {
        let path = format!("{dir}/{}", entry.name);
        disk.remove(&path).map_err(|e| StoreError::io("remove", disk.display(&path), e))?;
    }
    disk.remove_dir(dir).map_err(|e| StoreError::io("remove", disk.display(dir), e))
}

/// True if a restore was begun and is not finished: [`finish`] does that.
///
/// # Errors
/// Those of the disk.
pub fn is_pending(data: &dyn Disk) -> Result<bool> {
    there(data, JOURNAL)
}

/// From now on no start makes a store in this data directory, before this restore or another one has come to its end. One that has a store needs no
/// such mark: it stays what it is until the journal says otherwise.
///
/// # Errors
/// Those of the disk.
pub fn begin(data: &dyn Disk, backup: &str) -> Result<()> {
    if there(data, MARKER)? {
        return Ok(());
    }
    disk::replace(data, BEGUN, format!("{backup}\n").as_bytes())
        .map_err(|e| StoreError::io("write", data.display(BEGUN), e))
}

/// The backup that a restore was putting into a data directory without a store when it was broken off; `None`: no such thing happened.
///
/// # Errors
/// Those of the disk.
pub fn begun(data: &dyn Disk) -> Result<Option<String>> {
    if !there(data, BEGUN)? {
        return Ok(None);
    }
    // That it is there says enough.
    let bytes = disk::read_small(data, BEGUN, BEGUN_BYTES_MAX).unwrap_or_default();
    Ok(Some(String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned()))
}

/// Finishes a restore that was begun; true if there was one. The caller has the store's lock.
///
/// # Errors
/// Those of the disks: then it is still to be finished.
pub fn finish(target: &Target) -> Result<bool> {
    let data = &*target.data;
    let bytes = match disk::read_small(data, JOURNAL, 1 << 16) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        bytes => bytes.map_err(|e| StoreError::io("read", data.display(JOURNAL), e))?,
    };
    let journal = Journal::decode(&bytes, &data.display(JOURNAL))?;
    for (spot, had) in target.spots().zip([Some(journal.database), journal.log].into_iter().flatten()) {
        swap_dir(spot, had, &journal.suffix)?;
    }
    for ((name, most), had) in FILES.iter().zip(journal.files) {
        if let Some(had) = had {
            swap_file(data, name, *most, had, &journal.suffix)?;
        }
    }
    match data.remove(BEGUN) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(StoreError::io("remove", data.display(BEGUN), e)),
        _ => {}
    }
    data.remove(JOURNAL).map_err(|e| StoreError::io("remove", data.display(JOURNAL), e))?;
    data.sync_dir("").map_err(|e| StoreError::io("sync", data.display(""), e))?;
    // What is left of it is in nobody's way.
    drop(clear(target));
    Ok(true)
}

/// As long as the new directory has its first name, this is not done. An old one that was put aside already leaves its name to an empty one
/// at most.
fn swap_dir(spot: &Spot, had: bool, suffix: &str) -> Result<()> {
    let (disk, name, staged, old) = (&*spot.parent, &spot.name, spot.staged(), aside(&spot.name, suffix));
    let sync = || disk.sync_dir("").map_err(|e| StoreError::io("sync", disk.display(""), e));
    if !spot.is_there(&staged)? {
        return sync();
    }
    if had && !spot.is_there(&old)? {
        disk.rename(name, &old).map_err(|e| StoreError::io("rename", disk.display(name), e))?;
        sync()?;
    }
    if spot.is_there(name)? {
        disk.remove_dir(name).map_err(|e| StoreError::io("remove", disk.display(name), e))?;
    }
    disk.rename(&staged, name).map_err(|e| StoreError::io("rename", disk.display(&staged), e))?;
    sync()
}

fn swap_file(data: &dyn Disk, name: &str, most: u64, had: bool, suffix: &str) -> Result<()> {
    let old = aside(name, suffix);
    let read =
        |path: &str| disk::read_small(data, path, most).map_err(|e| StoreError::io("read", data.display(path), e));
    let write = |path: &str, bytes: &[u8]| {
        disk::replace(data, path, bytes).map_err(|e| StoreError::io("write", data.display(path), e))
    };
    if had && !there(data, &old)? {
        write(&old, &read(name)?)?;
    }
    write(name, &read(&format!("{FILES_DIR}/{name}"))?)
}
