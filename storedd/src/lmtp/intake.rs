//! The bytes of one message, as they come: in memory, and beyond the store's inline limit in a file of the store.

use super::delivery::{Delivery, Message, Staging};
use super::reply::Refused;
use crate::model::MailboxName;
use std::sync::Arc;

/// Bytes that are gathered before they go to the file.
const PIECE_BYTES: usize = 256 << 10;

/// See the page.
pub(super) struct Intake {
    delivery: Arc<dyn Delivery>,
    /// One of the recipients.
    to: MailboxName,
    memory: Vec<u8>,
    staging: Option<Box<dyn Staging>>,
    bytes: u64,
}

impl Intake {
    pub(super) fn new(delivery: Arc<dyn Delivery>, to: MailboxName) -> Intake {
        Intake { delivery, to, memory: Vec::new(), staging: None, bytes: 0 }
    }

    /// Keeps bytes in memory; [`Intake::spool`] is to be called before the next.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.memory.extend_from_slice(bytes);
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// True once it goes to a file.
    pub(super) fn is_long(&self) -> bool {
        self.staging.is_some()
    }

    /// Moves what is too much for memory to the file.
    ///
    /// # Errors
    /// Why it cannot be kept.
    pub(super) async fn spool(&mut self) -> Result<(), Refused> {
        let most = if self.staging.is_some() { PIECE_BYTES } else { self.delivery.inline_limit() };
        if self.memory.len() > most { self.write().await } else { Ok(()) }
    }

    async fn write(&mut self) -> Result<(), Refused> {
        let (delivery, to) = (self.delivery.clone(), self.to.clone());
        let (staging, piece) = (self.staging.take(), std::mem::take(&mut self.memory));
        let write = move || {
            let mut staging = staging.map_or_else(|| delivery.stage(&to), Ok)?;
            staging.add(&piece)?;
            Ok((staging, piece))
        };
        let (staging, mut piece) = tokio::task::spawn_blocking(write).await.unwrap_or(Err(Refused::Failed))?;
        piece.clear();
        (self.staging, self.memory) = (Some(staging), piece);
        Ok(())
    }

    /// The whole message.
    ///
    /// # Errors
    /// Why the rest of it cannot be kept.
    pub(super) async fn finish(mut self) -> Result<Message, Refused> {
        if self.staging.is_some() && !self.memory.is_empty() {
            self.write().await?;
        }
        match self.staging.take() {
            Some(staging) => Ok(Message::Staged(staging)),
            None => Ok(Message::Inline(std::mem::take(&mut self.memory))),
        }
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        if let (Some(staging), Ok(runtime)) = (self.staging.take(), tokio::runtime::Handle::try_current()) {
            // Removing a file waits for the disk.
            drop(runtime.spawn_blocking(move || drop(staging)));
        }
    }
}
