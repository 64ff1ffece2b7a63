//! Tests.
#[cfg(test)]
mod service;
