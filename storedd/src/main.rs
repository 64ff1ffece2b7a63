//! `storedd`: arguments to exit status.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(storedd::cli::main())
}
