//! Commands that make a stopped store ready for another version of this program.

use clap::{Args, Subcommand};

/// `prepare-upgrade`.
#[derive(Debug, Args)]
pub struct PrepareUpgrade {
    /// Remove temporary files without recovering, after a warning.
    #[arg(long, short = 'R')]
    pub remove_only: bool,
    /// One JSON document on stdout.
    #[arg(long)]
    pub json: bool,
}

/// `upgrade`.
#[derive(Debug, Args)]
pub struct Upgrade {
    /// The schema to reach [default: that of this program]
    #[arg(long, value_name = "N")]
    pub to: Option<u32>,
    /// Say what would be done and change no byte.
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// One JSON document on stdout.
    #[arg(long)]
    pub json: bool,
}

/// `downgrade`.
#[derive(Debug, Args)]
pub struct Downgrade {
    /// What to do.
    #[command(subcommand)]
    pub verb: DowngradeVerb,
    /// One JSON document on stdout.
    #[arg(long, global = true)]
    pub json: bool,
}

/// The verbs of `downgrade`.
#[derive(Debug, Subcommand)]
pub enum DowngradeVerb {
    /// Say what stands in the way and change no byte.
    Validate,
    /// Make the store one that the version before this one opens; it is kept as a snapshot too.
    Enable {
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        /// Say what would be done and change no byte.
        #[arg(long, short = 'n')]
        dry_run: bool,
    },
    /// Take that back, until the version before has opened it.
    Cancel,
}
