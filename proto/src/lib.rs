//! The wire protocol of storedd.

mod reply;
mod request;

pub use reply::*;
pub use request::*;
