//! Who holds what, who waits for it: the answers to `locks`.

use serde::{Deserialize, Serialize};

/// `locks`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Locks {
    /// Leases, oldest first.
    pub held: Vec<Lock>,
    /// Who waits, in the order of coming.
    pub waiting: Vec<LockWait>,
    /// Circles that somebody would have closed and was refused for; since the start.
    pub deadlocks: u64,
    /// Waits that ended at their limit; since the start.
    pub waited_too_long: u64,
    /// Leases that ended at their deadline; since the start.
    pub expired: u64,
    /// Seconds that the oldest change behind the door has been waiting for its answer; null if none waits.
    pub oldest_change: Option<f64>,
    /// Longest wait of a change for a lease, in seconds.
    pub limit: f64,
}

/// One lease.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Lock {
    /// Number, for `locks break`.
    pub id: u64,
    /// `/`, a user id, or the full name of a mailbox.
    pub resource: String,
    /// `lease`, `freeze`.
    pub kind: String,
    /// Process that holds it.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// What it asked for.
    pub verb: String,
    /// What it calls itself.
    pub client: String,
    /// Why.
    pub reason: String,
    /// Seconds since it was granted.
    pub age: f64,
    /// Seconds until it ends by itself; null: with its connection.
    pub left: Option<f64>,
    /// How many wait for it.
    pub waiters: u64,
}

/// One who waits.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LockWait {
    /// What is waited for.
    pub resource: String,
    /// `lease`, `change`.
    pub wants: String,
    /// Process that waits.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// What it asked for.
    pub verb: String,
    /// What it calls itself.
    pub client: String,
    /// Seconds since it came.
    pub age: f64,
    /// Seconds until it is refused.
    pub left: f64,
    /// Numbers of the leases in its way.
    pub locks: Vec<u64>,
    /// Processes that came before it and wait for the same.
    pub behind: Vec<i32>,
}
