//! `check`.

use super::jobs::Detach;
use clap::Args;

/// `check`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
Compares rows, indexes, manifests, memory and message files with each other, and
changes nothing. Users go on reading and getting mail meanwhile. Without MAILBOX
and --partition also the rules of the database, and directories that no mailbox
owns; with --deep also every message, byte by byte, and the whole log.

Each finding says what is to become of it: mendable (something has it all),
unproven (it is there, and nothing proves where it belongs), lost.

Exit status: 0 nothing found; 1 something found; 2 something is lost.

Examples:
  storectl check                          the whole store, without reading messages
  storectl check --all --deep             and every message
  storectl check 'user/joe/*' --deep
  storectl check --partition primary --jobs 4")]
pub struct CheckArgs {
    /// Full names, or patterns with `*` and `%`
    #[arg(value_name = "MAILBOX", conflicts_with_all = ["all", "partition"])]
    pub mailboxes: Vec<String>,
    /// Only this partition
    #[arg(short = 'p', long, value_name = "PARTITION", conflicts_with = "all")]
    pub partition: Option<String>,
    /// The whole store, as without any of these
    #[arg(long)]
    pub all: bool,
    /// Read every message and compare its digest
    #[arg(long)]
    pub deep: bool,
    /// Threads; as many as there are processors unless said
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub jobs: Option<u32>,
    /// `--detach`.
    #[command(flatten)]
    pub detach: Detach,
}
