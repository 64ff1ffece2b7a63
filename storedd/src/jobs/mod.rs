//! Long-running work and the maintenance that the store itself does not do.

pub mod archive;
pub mod backlog;
pub mod backups;
pub mod copies;
pub mod drill;
pub mod pace;
pub mod partitions;
pub mod registry;
pub mod restore;
pub mod snapshots;
pub mod upgrade;
