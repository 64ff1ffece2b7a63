//! The heart.

pub mod plan;
