//! How a partition is, for people and for those who write to it.

use crate::disk::Space;

/// How a partition is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// There, and with room.
    Ok {
        /// Free bytes.
        free: u64,
    },
    /// There, with fewer than [`super::FULL_BELOW`] free bytes.
    Full {
        /// Free bytes.
        free: u64,
    },
    /// There, and without changes that were made while it was not: they are in the log, and it is not read before it has them.
    Behind {
        /// Free bytes.
        free: u64,
        /// Up to where it holds everything, and what is in the way.
        why: String,
    },
    /// Not there, or not to be read.
    Missing {
        /// What was found.
        why: String,
    },
    /// There, and not this partition of this store.
    Foreign {
        /// What was found.
        why: String,
    },
}

impl State {
    /// Of a partition that is there, by the room of its disk.
    #[must_use]
    pub fn of(space: Space) -> State {
        let free = space.free;
        if free < space.reserve(super::FULL_BELOW) { State::Full { free } } else { State::Ok { free } }
    }

    /// The word that people and scripts see.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            State::Ok { .. } => "ok",
            State::Full { .. } => "full",
            State::Behind { .. } => "behind",
            State::Missing { .. } => "missing",
            State::Foreign { .. } => "foreign",
        }
    }

    /// Free bytes, where there is a disk.
    #[must_use]
    pub fn free_bytes(&self) -> Option<u64> {
        match self {
            State::Ok { free } | State::Full { free } | State::Behind { free, .. } => Some(*free),
            State::Missing { .. } | State::Foreign { .. } => None,
        }
    }

    /// What is wrong; `None` if nothing is.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        match self {
            State::Ok { .. } => None,
            State::Full { free } => Some(format!("{free} bytes are free")),
            State::Behind { why, .. } | State::Missing { why } | State::Foreign { why } => Some(why.clone()),
        }
    }

    /// True if directories and files can be made.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        matches!(self, State::Ok { .. })
    }
}
