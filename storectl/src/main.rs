//! The binary `storectl`: everything is in the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    storectl::run(std::env::args_os())
}
