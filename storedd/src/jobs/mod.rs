//! Long-running work and the maintenance that the store itself does not do.

pub mod archive;
pub mod backlog;
pub mod backups;
pub mod check;
pub mod complete;
pub mod copies;
pub mod drill;
pub mod expire;
pub mod objects;
pub mod pace;
pub mod partitions;
pub mod reconstruct;
pub mod registry;
pub mod restore;
pub mod scrub;
pub mod snapshots;
pub mod upgrade;
