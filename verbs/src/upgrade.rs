//! Verbs that make a stopped store ready for another version of the programs.

use super::{Words, said};
use clap::{Args, Subcommand};
use std::ffi::OsString;

/// `prepare-upgrade`.
#[derive(Debug, Clone, PartialEq, Default, Args)]
pub struct PrepareUpgrade {
    /// Remove temporary files without recovering, after a warning
    #[arg(long, short = 'R')]
    pub remove_only: bool,
    /// One JSON document on stdout; an option of the program.
    #[arg(skip)]
    pub json: bool,
}

impl Words for PrepareUpgrade {
    fn words(&self, _now: jiff::Timestamp) -> Vec<OsString> {
        said(&["prepare-upgrade"], &[(self.remove_only, "--remove-only")])
    }
}

/// `upgrade`.
#[derive(Debug, Clone, PartialEq, Default, Args)]
pub struct Upgrade {
    /// The schema to reach [default: that of this version]
    #[arg(long, value_name = "N")]
    pub to: Option<u32>,
    /// Say what would be done, change no byte
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// One JSON document on stdout; an option of the program.
    #[arg(skip)]
    pub json: bool,
}

impl Words for Upgrade {
    fn words(&self, _now: jiff::Timestamp) -> Vec<OsString> {
        let mut words = said(&["upgrade"], &[(self.dry_run, "--dry-run")]);
        words.extend(self.to.map(|to| format!("--to={to}").into()));
        words
    }
}

/// The verbs of `downgrade`.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum DowngradeVerb {
    /// Say what stands in the way, change no byte
    Validate,
    /// Make the store one that the version before this one opens; it is kept as a snapshot too
    Enable(DowngradeEnable),
    /// Take that back, until the version before has opened it
    Cancel,
}

/// `downgrade enable`.
#[derive(Debug, Clone, PartialEq, Default, Args)]
pub struct DowngradeEnable {
    /// Do not ask
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// Say what would be done, change no byte
    #[arg(long, short = 'n')]
    pub dry_run: bool,
}

impl Words for DowngradeVerb {
    fn words(&self, _now: jiff::Timestamp) -> Vec<OsString> {
        match self {
            DowngradeVerb::Validate => said(&["downgrade", "validate"], &[]),
            DowngradeVerb::Enable(a) => said(&["downgrade", "enable"], &[(a.yes, "--yes"), (a.dry_run, "--dry-run")]),
            DowngradeVerb::Cancel => said(&["downgrade", "cancel"], &[]),
        }
    }
}
