//! The product seen from outside: the built programs, the socket, the files. One binary, one module per theme.
#![allow(clippy::disallowed_methods, reason = "tests make, damage and look at files, and wait for programs")]

/// That of the programs: a simulated machine is built and torn down hundreds of thousands of times.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(test)]
mod adoption;
#[cfg(test)]
mod ageing;
#[cfg(test)]
mod alarms;
#[cfg(test)]
mod archive;
#[cfg(test)]
mod backup_db;
#[cfg(test)]
mod bits;
#[cfg(test)]
mod check;
#[cfg(test)]
mod comeback;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod disaster;
#[cfg(test)]
mod docs;
#[cfg(test)]
mod drill;
#[cfg(test)]
mod errands;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod first_sight;
#[cfg(test)]
mod flips;
#[cfg(test)]
mod fullness;
#[cfg(test)]
mod fuzzed;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod holding;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod hostile_mail;
#[cfg(test)]
mod jobs;
#[cfg(test)]
mod json;
#[cfg(test)]
mod kill;
#[cfg(test)]
mod killed;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod lmtp;
#[cfg(test)]
mod losses;
#[cfg(test)]
mod mail_backup;
#[cfg(test)]
mod mail_full;
#[cfg(test)]
mod mail_kills;
#[cfg(test)]
mod mailboxes;
#[cfg(test)]
mod manual;
#[cfg(test)]
mod matrix;
#[cfg(test)]
mod message_path;
#[cfg(test)]
mod messages;
#[cfg(test)]
mod numbers;
#[cfg(test)]
mod partitions;
#[cfg(test)]
mod peers;
#[cfg(test)]
mod points;
#[cfg(test)]
mod power;
#[cfg(test)]
mod protocol;
#[cfg(test)]
mod quotas;
#[cfg(test)]
mod reconstruct;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod returns;
#[cfg(test)]
mod rights;
#[cfg(test)]
mod rollback;
#[cfg(test)]
mod scrub;
#[cfg(test)]
mod security;
#[cfg(test)]
mod seen;
#[cfg(test)]
mod service;
#[cfg(test)]
mod snapshots;
#[cfg(test)]
mod stalls;
#[cfg(test)]
mod starts;
#[cfg(test)]
mod sweep;
#[cfg(test)]
mod syscalls;
#[cfg(test)]
mod terminal;
#[cfg(test)]
mod transfer;
mod two_stores;
#[cfg(test)]
mod unlinked;
#[cfg(test)]
mod upgrade;
#[cfg(test)]
mod versions;
#[cfg(test)]
mod words;
