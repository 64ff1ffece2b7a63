//! A disk in memory.
/// A disk in memory.
#[derive(Debug)]
pub struct SimDisk;
/// A fault.
#[derive(Debug)]
pub enum Fault {}
/// What survives.
#[derive(Debug)]
pub enum Persist {}
