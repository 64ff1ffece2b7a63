//! Bodies that are damaged or gone, and where their bytes are once more.
//!
//! # Sources, in this order
//! 1. Another message of the same home, or, where the whole store is searched, of any home of any partition, whose file has the same
//!    digest: the manifests name them. Further names of the same file are as bad as it is; so every copy is read and compared.
//! 2. The log, as long as it is kept, and an archive of it.
//!
//! The bytes are staged, synced, and take the place of the bad ones, which go on under a name in the quarantine. Many messages share the
//! syncs. Bytes that somebody brings go the same way ([`super::given`]).

use super::case::Case;
use super::mend::{Fate, Finding};
use super::told::told;
use super::trace::Asked;
use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::lsn::Lsn;
use crate::model::Folder;
use crate::model::message::{Digest, Message};
use crate::partition::bodies::{self, Body};
use crate::partition::manifest::Manifest;
use crate::partition::mend;
use crate::partition::survey::What;
use crate::partition::tree::{self, Home};
use crate::store::Store;
use crate::store::commit::lock;
use std::collections::{BTreeMap, BTreeSet};

/// A message whose bytes are gone or damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sick {
    /// Readable name of the mailbox.
    pub mailbox: String,
    /// Where it lies.
    pub of: Folder<'static>,
    /// UID.
    pub uid: u32,
    /// Its file, as a person would type it.
    pub file: String,
    /// What the bytes are.
    pub body: Body,
}

/// What became of a message whose bytes were gone or damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Healed {
    /// The bytes are there again.
    Yes,
    /// Nobody needs them any more: the message was purged meanwhile.
    Gone,
    /// They could be: a copy was found, and nothing was to be changed.
    Could,
    /// No copy was found.
    No,
}

impl Sick {
    /// What tells of it, where only its kind is known.
    pub(super) fn finding(&self, what: What) -> Finding {
        let (expected, found) = (format!("{} bytes, digest {}", self.body.size, self.body.digest), "none".to_owned());
        let found = if what == What::FileMissing { found } else { "something else".to_owned() };
        Finding { place: self.file.clone(), uid: Some(self.uid), what: what.text(), expected, found, fate: Fate::Lost }
    }
}

impl Case {
    /// A message of it whose bytes are bad.
    pub(super) fn sick(&self, message: &Message) -> Sick {
        Sick {
            mailbox: self.name.clone(),
            of: self.of.clone(),
            uid: message.uid,
            file: self.disk.display(&self.place.message(message.uid)),
            body: Body::from(message),
        }
    }
}

impl Healed {
    /// What is to become of a finding of which it came to this.
    #[must_use]
    pub fn fate(self) -> Fate {
        match self {
            Healed::Yes | Healed::Gone => Fate::Mended,
            Healed::Could => Fate::Mendable,
            Healed::No => Fate::Lost,
        }
    }
}

impl Sick {
    /// That it was healed, in words.
    #[must_use]
    pub fn put_back(&self) -> String {
        format!("message {}: its bytes were put back", self.uid)
    }
}

/// What became of a file that was staged for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    /// The message has good bytes.
    Good,
    /// It was purged: nobody will ask for it again.
    Gone,
    /// It lies elsewhere since it was looked at, and is to be looked at there.
    Elsewhere,
}

/// Messages whose bytes are put back with the same syncs.
const TOGETHER: usize = 256;

/// Digests and the sizes that belong to them.
type Wanted = BTreeMap<Digest, u64>;
/// Takes good bytes.
type Each<'e> = &'e mut dyn FnMut(Digest, Vec<u8>) -> Result<()>;

/// Messages for whose bytes is being looked.
struct Healing<'a> {
    store: &'a Store,
    all: &'a [Sick],
    /// Bytes are put back.
    change: bool,
    healed: Vec<Healed>,
    /// Those that were not found yet: which messages have them.
    left: BTreeMap<Digest, Vec<usize>>,
    /// Those whose bytes are staged, by partition.
    staged: BTreeMap<String, Vec<(usize, u64)>>,
}

impl Healing<'_> {
    fn of<'a>(store: &'a Store, all: &'a [Sick], change: bool) -> Healing<'a> {
        let mut left: BTreeMap<Digest, Vec<usize>> = BTreeMap::new();
        all.iter().enumerate().for_each(|(n, sick)| left.entry(sick.body.digest).or_default().push(n));
        Healing { store, all, change, healed: vec![Healed::No; all.len()], left, staged: BTreeMap::new() }
    }

    fn wanted(&self) -> Wanted {
        self.left.iter().filter_map(|(digest, of)| Some((*digest, self.all[*of.first()?].body.size))).collect()
    }

    fn is_done(&self) -> bool {
        self.left.is_empty()
    }

    /// Good bytes were found.
    fn take(&mut self, digest: Digest, bytes: &[u8]) -> Result<()> {
        for n in self.left.remove(&digest).unwrap_or_default() {
            let sick = &self.all[n];
            self.healed[n] = Healed::Could;
            if !self.change {
                continue;
            }
            let number = self.store.stage_for(sick, bytes)?;
            let of_partition = self.staged.entry(sick.of.partition.to_string()).or_default();
            of_partition.push((n, number));
            if of_partition.len() >= TOGETHER {
                self.put()?;
            }
        }
        Ok(())
    }

    /// Puts back what is staged.
    fn put(&mut self) -> Result<()> {
        let all = self.all;
        while let Some((partition, staged)) = self.staged.pop_first() {
            let files: Vec<(&Sick, u64)> = staged.iter().map(|(n, number)| (&all[*n], *number)).collect();
            for ((n, _), put) in staged.iter().zip(self.store.put_staged(&partition, &files)?) {
                self.healed[*n] = match put {
                    Put::Good => Healed::Yes,
                    Put::Gone => Healed::Gone,
                    // Where it lies now, the next look puts it back.
                    Put::Elsewhere => Healed::Could,
                };
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Healed>> {
        self.put()?;
        Ok(std::mem::take(&mut self.healed))
    }
}

impl Drop for Healing<'_> {
    fn drop(&mut self) {
        // The work was ended. What stays is taken away by the next start.
        for (partition, staged) in &self.staged {
            let Some(disk) = self.store.partitions.disk(partition) else { continue };
            staged.iter().for_each(|(_, number)| drop(bodies::unstage(&*disk, *number)));
        }
    }
}

impl Store {
    /// Good bytes of a message whose own were found bad by a reader: a copy at home or in the log, which is put in its place. `None` if
    /// there is none; that is remembered, so that the log is read once for it.
    pub(super) fn heal_on_read(&self, of: &Folder<'_>, message: &Message) -> Result<Option<Vec<u8>>> {
        let body = Body { size: message.size, digest: message.digest };
        let sick = Sick {
            mailbox: format!("mailbox {}", of.mailbox),
            file: super::source::place(of)?.message(message.uid),
            of: of.clone().into_owned(),
            uid: message.uid,
            body,
        };
        tracing::warn!(event = "message_damaged", mailbox = of.mailbox, uid = sick.uid, file = sick.file);
        let bytes = match self.twin_at_home(&sick)? {
            Some(bytes) => Some(bytes),
            None if self.ailing.is_hopeless(&body.digest) => None,
            None => {
                let mut found = None;
                self.logged_bodies(&*self.disks.log, &Wanted::from([(body.digest, body.size)]), &mut |_, bytes| {
                    found = Some(bytes);
                    Ok(())
                })?;
                found
            }
        };
        match &bytes {
            // The bytes are right even where they cannot be put back.
            Some(bytes) if !self.hold => {
                if let Err(e) = self.put_back(&sick, bytes) {
                    tracing::warn!(event = "message_not_healed", file = sick.file, error = %e);
                }
            }
            Some(_) => {}
            None => self.ailing.give_up(body.digest),
        }
        Ok(bytes)
    }

    /// The bytes of a message of which another message of the same home has a good file.
    pub(super) fn twin_at_home(&self, sick: &Sick) -> Result<Option<Vec<u8>>> {
        let Some(disk) = self.partitions.disk(&sick.of.partition) else { return Ok(None) };
        let Some(home) = Home::parse(&sick.of.home) else { return Ok(None) };
        let wanted = Wanted::from([(sick.body.digest, sick.body.size)]);
        let mut found = None;
        self.twins_in(&*disk, &home, &wanted, &mut |_, bytes| {
            found = Some(bytes);
            Ok(())
        })?;
        Ok(found)
    }

    /// Gives the bytes of good files in a home, each digest once.
    fn twins_in(&self, disk: &dyn Disk, home: &Home, wanted: &Wanted, each: Each<'_>) -> Result<()> {
        let digests: BTreeSet<Digest> = wanted.keys().copied().collect();
        let mut given = BTreeSet::new();
        for (digest, mailbox, uid) in Manifest::new(disk, self.partitions.owner(), home).find(&digests)? {
            let body = Body { size: wanted.get(&digest).copied().unwrap_or_default(), digest };
            if given.contains(&digest) {
                continue;
            }
            if let Ok(bytes) = bodies::read(disk, &home.mailbox(mailbox), uid, body) {
                given.insert(digest);
                each(digest, bytes)?;
            }
        }
        Ok(())
    }

    /// Looks for the bytes of messages of one home with its other messages: its manifest is read once for all of them. Puts them back if
    /// `change` says so.
    pub(super) fn heal_at_home(&self, of: &Folder<'_>, all: &[Sick], change: bool) -> Result<Vec<Healed>> {
        let mut healing = Healing::of(self, all, change);
        if let (false, Some(disk), Some(home)) =
            (all.is_empty(), self.partitions.disk(&of.partition), Home::parse(&of.home))
        {
            self.twins_in(&*disk, &home, &healing.wanted(), &mut |digest, bytes| healing.take(digest, &bytes))?;
        }
        healing.finish()
    }

    /// Looks for the bytes of messages in the whole store, in the log, and in `archive`; puts them back if `change` says so. `pace` is
    /// called for each home that is looked at.
    ///
    /// # Errors
    /// Those of the disks and of `pace`.
    pub fn heal(
        &self,
        all: &[Sick],
        change: bool,
        archive: Option<&dyn Disk>,
        pace: &dyn Fn(u64) -> Result<()>,
    ) -> Result<Vec<Healed>> {
        let mut healing = Healing::of(self, all, change);
        for log in [Some(&*self.disks.log), archive].into_iter().flatten() {
            self.logged_bodies(log, &healing.wanted(), &mut |digest, bytes| healing.take(digest, &bytes))?;
        }
        for (name, _) in self.partitions.list() {
            let Some(disk) = self.partitions.disk(&name).filter(|_| !healing.is_done()) else { continue };
            tree::homes(&*disk, &mut |home| {
                pace(0)?;
                let wanted = healing.wanted();
                if wanted.is_empty() {
                    return Ok(());
                }
                let mut failed = None;
                let mut take = |digest, bytes: Vec<u8>| {
                    let taken = healing.take(digest, &bytes);
                    taken.inspect_err(|e| failed = Some(e.clone()))
                };
                let done = self.twins_in(&*disk, &home, &wanted, &mut take);
                // A manifest that cannot be read is somebody else's finding.
                done.or_else(|_| failed.map_or(Ok(()), Err))
            })?;
        }
        healing.finish()
    }

    /// [`Store::heal`] from the log alone: one pass, and no look at other homes.
    ///
    /// # Errors
    /// Those of the disks.
    pub(super) fn heal_from_log(&self, all: &[Sick]) -> Result<Vec<Healed>> {
        let mut healing = Healing::of(self, all, true);
        self.logged_bodies(&*self.disks.log, &healing.wanted(), &mut |digest, bytes| healing.take(digest, &bytes))?;
        healing.finish()
    }

    /// Gives the bytes that a log still has, one message after the other, each compared with its digest.
    pub(super) fn logged_bodies(&self, log: &dyn Disk, wanted: &Wanted, each: Each<'_>) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let asked = Asked { digests: wanted.keys().copied().collect(), ..Asked::default() };
        let traced = self.trace(log, &asked, Lsn(self.published_lsn().0))?;
        let disks = super::Disks { log, ..self.mail_disks() };
        for (digest, place) in &traced.bodies {
            let Some(size) = wanted.get(digest) else { continue };
            if let Ok(bytes) = disks.logged(*place, Body { size: *size, digest: *digest }) {
                each(*digest, bytes)?;
            }
        }
        Ok(())
    }

    /// Puts the bytes of a message back, if it is still there and its file is still bad; true if the file is good then.
    ///
    /// # Errors
    /// Those of the disk.
    pub(super) fn put_back(&self, sick: &Sick, bytes: &[u8]) -> Result<bool> {
        let number = self.stage_for(sick, bytes)?;
        Ok(self.put_staged(&sick.of.partition, &[(sick, number)])? == [Put::Good])
    }

    /// Stages the bytes of a message on its partition, for [`Store::put_staged`]: they are not durable. Gives the number of the file.
    ///
    /// # Errors
    /// A partition that is not there; those of the disk.
    pub(super) fn stage_for(&self, sick: &Sick, bytes: &[u8]) -> Result<u64> {
        let disk = self.partitions.disk(&sick.of.partition).ok_or_else(|| super::source::away(&sick.of.partition))?;
        let number = self.staging_number();
        if mend::write(&disk, number, bytes)? != sick.body {
            bodies::unstage(&*disk, number)?;
            return Err(StoreError::Bug(format!("other bytes for {}", sick.file)));
        }
        Ok(number)
    }

    /// Gives messages of one partition the files that were staged for them, those that are still there and whose files are still bad, durably.
    /// None is staged any more.
    ///
    /// # Errors
    /// A partition that is not there; those of the disk. A partition whose sync failed is not there any more.
    pub(super) fn put_staged(&self, partition: &str, all: &[(&Sick, u64)]) -> Result<Vec<Put>> {
        let disk = self.partitions.disk(partition).ok_or_else(|| super::source::away(partition))?;
        let mut bad = Vec::new();
        // Whoever writes to the partition waits meanwhile, for some renames.
        let writer = lock(&self.db);
        let done = self.standing(all)?;
        for ((sick, number), put) in all.iter().zip(&done) {
            let place = super::source::place(&sick.of)?;
            let is_good = || bodies::compare(&*disk, &place, sick.uid, sick.body).is_ok_and(|found| found == sick.body);
            match *put != Put::Good || is_good() {
                true => bodies::unstage(&*disk, *number)?,
                false => bad.push(mend::Replacement { place, uid: sick.uid, number: *number }),
            }
        }
        let sync = || {
            disk.sync_tree().map_err(|e| {
                // IMPORTANT: never tried again: after a failed sync the page cache may lie, and a checkpoint would not be told.
                self.partitions.fail(partition, format!("a sync failed: {e}"));
                StoreError::io("sync", disk.display(""), e)
            })
        };
        if !bad.is_empty() {
            mend::replace(&*disk, &bad, &sync)?;
        }
        drop(writer);
        for (sick, _) in all.iter().zip(&done).filter(|(_, put)| **put == Put::Good).map(|(one, _)| one) {
            self.ailing.is_back(&sick.body.digest);
            tracing::warn!(event = "message_healed", mailbox = sick.mailbox, uid = sick.uid, file = sick.file);
        }
        Ok(done)
    }

    /// What can become of files that are staged for these messages, as they stand now: those that are still where they were looked at can have
    /// them. For who holds the database's lock, so that no checkpoint comes between.
    fn standing(&self, all: &[(&Sick, u64)]) -> Result<Vec<Put>> {
        let (view, mut uids) = (self.view(), BTreeMap::<u64, Vec<u32>>::new());
        all.iter().for_each(|(sick, _)| uids.entry(sick.of.mailbox).or_default().push(sick.uid));
        let mut known = BTreeMap::new();
        for (mailbox, uids) in uids {
            let Some(told) = told(&view, mailbox)? else { continue };
            let home = told.row.home.clone().unwrap_or_else(|| told.owner.clone());
            let of = Folder { partition: told.row.partition.clone().into(), home: home.into(), mailbox };
            // Where nothing proves what is there, all of it is, as far as anybody knows.
            let found = self.selected_as_is(&view, &of, &told.row, &uids).unwrap_or_default();
            known.insert(mailbox, (of, found));
        }
        let stands = |(sick, _): &(&Sick, u64)| match known.get(&sick.of.mailbox) {
            None => Put::Gone,
            Some((of, _)) if *of != sick.of => Put::Elsewhere,
            Some((_, Some(found))) if !found.contains_key(&sick.uid) => Put::Gone,
            Some(_) => Put::Good,
        };
        Ok(all.iter().map(stands).collect())
    }
}
