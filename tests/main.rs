//! The product seen from outside: the built programs, the socket, the files. One binary, one module per theme.

#[cfg(test)]
mod harness;
#[cfg(test)]
mod service;
