//! The system's disk.
/// The system's disk.
#[derive(Debug)]
pub struct RealDisk;
