//! Long-running work.
