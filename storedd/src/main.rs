//! `storedd`: arguments to exit status.

use std::process::ExitCode;

/// Rows are allocated by one thread and freed by another, by the million: a sixth of a commit's processor time with the C
/// library's allocator (measured by the bench).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ExitCode::from(storedd::cli::main())
}
