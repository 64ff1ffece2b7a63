//! The message store daemon, as a library. Modules stand in floor order, ground floor first; a module
//! imports from its own folder and from the floors below it (see ARCHITECTURE.md, "Floors").

// Floor 0: facts and the outside world behind traits.
pub mod beside;
pub mod checksum;
pub mod config;
pub mod disk;
pub mod env;
pub mod error;
pub mod lsn;
pub mod planted;
pub mod sealed;
pub mod site;
// Floor 1: the words of the mail world; no I/O, no async.
pub mod model;
// Floor 2: four rooms that do not know each other.
pub mod db;
pub mod partition;
pub mod snapshot;
pub mod wal;
// Floor 3: the heart.
pub mod store;
// Floor 4: what watches the store, long-running work, who holds what, messages on their way in, and the state files it stamps.
pub mod alarms;
pub mod jobs;
pub mod leases;
pub mod mail;
pub mod statefile;
// Floor 5: the doors.
pub mod control;
pub mod lmtp;
pub mod metrics;
pub mod service;
// Floor 6: the programs: start, offline verbs, demo; messages, reload, signals, systemd.
pub mod cli;
pub mod daemon;
pub mod demo;
mod descriptors;
pub mod logfile;
pub mod logging;
pub mod logsink;
pub mod offline;
pub mod place;
pub mod reload;
pub mod signals;
pub mod startup;
pub mod systemd;
mod threads;
