//! The control door.
