//! Verbs that make a stopped store ready for another version of the programs; `storedd` does them.

use clap::{Args, Subcommand};
use std::ffi::OsString;

/// `prepare-upgrade`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
Runs the `storedd` beside storectl, which refuses (75) while a daemon lives. Run
it with the version that is to be replaced; twice is harmless.

Example: storectl --data-dir ./store prepare-upgrade")]
pub struct PrepareUpgradeArgs {
    /// Remove temporary files without recovering, after a warning
    #[arg(long, short = 'R')]
    pub remove_only: bool,
}

/// `upgrade`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
Recovers, takes a verified snapshot, makes a copy of the new schema, validates it
and puts it in place. Stopped anywhere, the old or the new one is whole.

Example: storectl --data-dir ./store upgrade --dry-run")]
pub struct UpgradeArgs {
    /// The schema to reach [default: that of this version]
    #[arg(long, value_name = "N")]
    pub to: Option<u32>,
    /// Say what would be done, change no byte
    #[arg(long, short = 'n')]
    pub dry_run: bool,
}

/// `downgrade`.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum DowngradeVerb {
    /// Say what stands in the way, change no byte
    Validate,
    /// Make the store one that the version before this one opens
    Enable(DowngradeEnableArgs),
    /// Take that back, until the version before has opened it
    Cancel,
}

/// `downgrade enable`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct DowngradeEnableArgs {
    /// Do not ask
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// Say what would be done, change no byte
    #[arg(long, short = 'n')]
    pub dry_run: bool,
}

fn words<'w>(verbs: &[&'w str], flags: &[(bool, &'w str)]) -> Vec<OsString> {
    let flags = flags.iter().filter(|(set, _)| *set).map(|(_, word)| *word);
    verbs.iter().copied().chain(flags).map(OsString::from).collect()
}

impl PrepareUpgradeArgs {
    /// The words for `storedd`.
    #[must_use]
    pub fn words(&self) -> Vec<OsString> {
        words(&["prepare-upgrade"], &[(self.remove_only, "--remove-only")])
    }
}

impl UpgradeArgs {
    /// The words for `storedd`.
    #[must_use]
    pub fn words(&self) -> Vec<OsString> {
        let mut words = words(&["upgrade"], &[(self.dry_run, "--dry-run")]);
        words.extend(self.to.map(|to| format!("--to={to}").into()));
        words
    }
}

impl DowngradeVerb {
    /// The words for `storedd`.
    #[must_use]
    pub fn words(&self) -> Vec<OsString> {
        match self {
            DowngradeVerb::Validate => words(&["downgrade", "validate"], &[]),
            DowngradeVerb::Enable(a) => words(&["downgrade", "enable"], &[(a.yes, "--yes"), (a.dry_run, "--dry-run")]),
            DowngradeVerb::Cancel => words(&["downgrade", "cancel"], &[]),
        }
    }
}
