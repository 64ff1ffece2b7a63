//! Messages on their way in, for every door: what a message is is computed here, by the thread that has it.
//!
//! # Operation
//! An [`Intake`] takes the bytes as they come and hashes them. Up to `inline_limit` they stay in memory and travel in the record;
//! a longer message goes to a staged file of a partition, which is durable before its record is written. [`deliver`] submits it for
//! all who are to have it, as one transaction.

use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::model::command::{Delivery, Incoming, IncomingBytes};
use crate::model::message::{HeaderEnd, header_size};
use crate::model::rows::{MailboxView, Row, UserRow};
use crate::model::{Command, MailboxName, Outcome, Rows, Table};
use crate::partition::bodies::{self, Body, Hasher, Staging, Unsynced};
use crate::store::{Answer, CommitError, Store, View};
use crate::wal::payload::body_crc;
use std::io;
use std::sync::Arc;

/// Attempts to find a number for a staged file that nobody has.
const NUMBERS: usize = 16;

/// Takes a message in; dropped before its end, it leaves nothing behind.
pub struct Intake {
    store: Arc<Store>,
    partition: String,
    state: State,
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intake").field("partition", &self.partition).finish_non_exhaustive()
    }
}

enum State {
    /// Short so far.
    Memory(Vec<u8>),
    /// Long: in a file.
    File(Box<File>),
}

struct File {
    staging: Staging,
    number: u64,
    header: HeaderEnd,
}

impl Intake {
    /// For a message whose first addressee's mail lies on `partition`: a long one is staged there.
    #[must_use]
    pub fn new(store: &Arc<Store>, partition: &str) -> Intake {
        Intake { store: store.clone(), partition: partition.to_owned(), state: State::Memory(Vec::new()) }
    }

    /// True once it is written to a file: further bytes may wait for a disk.
    #[must_use]
    pub fn is_long(&self) -> bool {
        matches!(self.state, State::File(_))
    }

    /// Bytes so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        match &self.state {
            State::Memory(bytes) => bytes.len() as u64,
            State::File(file) => file.staging.len(),
        }
    }

    /// True if nothing came yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if the partition is not there; those of its disk.
    pub fn add(&mut self, bytes: &[u8]) -> Result<()> {
        if let State::Memory(held) = &mut self.state {
            if held.len() + bytes.len() <= self.store.inline_limit() {
                held.extend_from_slice(bytes);
                return Ok(());
            }
            let held = std::mem::take(held);
            let (staging, number) = self.stage()?;
            self.state = State::File(Box::new(File { staging, number, header: HeaderEnd::default() }));
            self.add_to_file(&held)?;
        }
        self.add_to_file(bytes)
    }

    fn add_to_file(&mut self, bytes: &[u8]) -> Result<()> {
        let State::File(file) = &mut self.state else { return Ok(()) };
        file.staging.add(bytes)?;
        file.header.add(bytes);
        Ok(())
    }

    fn stage(&mut self) -> Result<(Staging, u64)> {
        let disk = self.disk()?;
        for _ in 0..NUMBERS {
            let number = self.store.staging_number();
            match bodies::stage(disk.clone(), number) {
                Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
                staging => return Ok((staging?, number)),
            }
        }
        Err(StoreError::Busy { why: "no free number for a staged message".to_owned() })
    }

    /// Where a long message is staged: on its partition, on another one while that is away.
    fn disk(&mut self) -> Result<Arc<dyn Disk>> {
        let partitions = self.store.partitions();
        let others = partitions.list().into_iter().map(|(name, _)| name).filter(|name| *name != self.partition);
        let found = std::iter::once(self.partition.clone()).chain(others).find_map(|name| {
            let disk = partitions.disk(&name)?;
            Some((name, disk))
        });
        let (name, disk) = found.ok_or_else(|| StoreError::Busy {
            why: format!("partition {0} is not there: storectl partition show {0}", self.partition),
        })?;
        self.partition = name;
        Ok(disk)
    }

    /// The message, durable if it was staged: then this waits for the disk.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn finish(self) -> Result<Arc<Incoming>> {
        let (message, unsynced) = self.finish_later();
        bodies::sync_staged(unsynced.into_iter().collect())?;
        Ok(message)
    }

    /// The message, and what is to be made durable before it is submitted, if it was staged: with that of others, by [`bodies::sync_staged`].
    #[must_use]
    pub fn finish_later(self) -> (Arc<Incoming>, Option<Unsynced>) {
        match self.state {
            State::Memory(bytes) => (Arc::new(inline(bytes)), None),
            State::File(file) => {
                let File { staging, number, header } = *file;
                let (Body { size, digest }, unsynced) = staging.unsynced();
                let staged = IncomingBytes::Staged { partition: self.partition, number };
                (Arc::new(Incoming { size, digest, header_size: header.size(), bytes: staged }), Some(unsynced))
            }
        }
    }
}

/// A message that travels in its record.
#[must_use]
pub fn inline(bytes: Vec<u8>) -> Incoming {
    let mut hasher = Hasher::default();
    hasher.add(&bytes);
    let Body { size, digest } = hasher.body();
    let (header_size, crc) = (header_size(&bytes), body_crc(&bytes));
    Incoming { size, digest, header_size, bytes: IncomingBytes::Inline { bytes, crc } }
}

/// The partition where the mail of a mailbox lies, or would lie if there were such a mailbox; the default one if nobody can say.
///
/// # Errors
/// If the database cannot be read.
pub fn partition_of(store: &Store, view: &View, mailbox: &str) -> Result<String> {
    let default = || store.options().default_partition.clone();
    let Ok(name) = MailboxName::parse(mailbox) else { return Ok(default()) };
    if let Some(row) = view.get(Table::Mailboxes, name.key())? {
        return Ok(MailboxView::decode(name.key(), &row)?.partition.to_owned());
    }
    let Some(owner) = name.owner() else { return Ok(default()) };
    let row = view.get(Table::Users, owner.as_bytes())?;
    Ok(row.map(|row| UserRow::decode(owner.as_bytes(), &row)).transpose()?.map_or_else(default, |user| user.partition))
}

/// Takes the staged file of a message away that nobody has taken.
pub fn discard(store: &Store, message: &Incoming) {
    let IncomingBytes::Staged { partition, number } = &message.bytes else { return };
    if let Some(disk) = store.partitions().disk(partition)
        && let Err(e) = bodies::unstage(&*disk, *number)
    {
        tracing::debug!(event = "staged_message_stays", error = %e, "the next start takes it away");
    }
}

/// True if a command that ended so may have put its message somewhere.
#[must_use]
pub fn may_have_taken(answer: &Answer) -> bool {
    match answer {
        Ok(done) => match &done.outcome {
            Outcome::Delivered(all) => all.iter().any(std::result::Result::is_ok),
            _ => true,
        },
        Err(CommitError::Refused(_) | CommitError::Stale | CommitError::Uncounted(_)) => false,
        // Undecided until a restart.
        Err(CommitError::Failed(e)) => matches!(e, StoreError::Poisoned { .. }),
    }
}

/// Submits a message for all who are to have it. `done` is called when it is on disk and visible, or with why it is not; from the
/// thread that synced it, so it must be short and must not wait.
pub fn deliver(store: &Arc<Store>, delivery: Delivery, done: Box<dyn FnOnce(Answer) + Send>) {
    let (message, of) = (delivery.message.clone(), store.clone());
    store.submit(
        Command::Deliver(delivery),
        Box::new(move |answer| {
            if !may_have_taken(&answer) {
                discard(&of, &message);
            }
            done(answer);
        }),
    );
}
