//! Verbs about long-running work.

use crate::files;
use clap::{Args, Subcommand};
use proto::{Code, Failure};
use std::path::Path;

/// An option of all verbs whose work is a job.
#[derive(Debug, Clone, Copy, PartialEq, Args)]
pub struct Detach {
    /// Return at once with the number of the job, which goes on; see `storectl jobs`
    #[arg(long)]
    pub detach: bool,
}

impl Detach {
    /// Whether work on `file` is to go on without this program.
    ///
    /// # Errors
    /// It is asked for, and the file is standard input or output, or a pipe, which ends with this program or with another (64).
    pub fn of(self, file: Option<&Path>) -> Result<bool, Failure> {
        match file.filter(|file| self.detach && files::ends_with_program(file)) {
            Some(file) if file.as_os_str() == "-" => {
                Err(Failure::new(Code::Usage, "--detach needs a file: standard input and output end with this program"))
            }
            Some(file) => {
                let text = format!("--detach needs a file: {} is a pipe, or belongs to this program", file.display());
                Err(Failure::new(Code::Usage, text))
            }
            None => Ok(self.detach),
        }
    }
}

/// `jobs`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
A job goes on when the program that asked for it ends. Ctrl-C in a program that
waits for a job ends the program, prints the number of the job, and leaves it to
the daemon. What a program does itself, because it reads or writes files (import,
export, backup, restore, batch), is a job once it has taken a second and ends with
the program; import, export, backup and restore with --detach are left to a program
of their own.
A job that was cancelled keeps what it has done; run again, it goes on from there.

Examples:
  storectl snapshot take --verify --detach
  storectl jobs follow 7
  storectl jobs cancel 7")]
pub struct JobsArgs {
    /// What else [default: list].
    #[command(subcommand)]
    pub verb: Option<JobsVerb>,
}

/// `jobs ...`.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum JobsVerb {
    /// What is at work, what waits, and what has ended
    List,
    /// One job: who asked for it, how far it is, why it failed
    Show(JobArgs),
    /// Have a job end as soon as it can; returns when it has
    Cancel(JobArgs),
    /// Show how a job goes on until it ends, then what it ended with, with its exit code
    Follow(JobArgs),
}

/// One job.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct JobArgs {
    /// Its number, as `jobs list` shows it
    #[arg(value_name = "JOB")]
    pub id: u64,
}
