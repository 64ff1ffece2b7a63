//! Command line.

use crate::clients::{Form, Plan};
use crate::job::Mix;
use clap::Parser;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// storedd beside its peers, interleaved in one run, as ratios.
#[derive(Debug, Clone, Parser)]
#[command(name = "storedd-bench")]
pub struct Settings {
    /// Three minutes instead of half an hour: fewer rows, rounds and client counts; figures scatter more.
    #[arg(long)]
    pub quick: bool,
    /// Mailboxes each engine is loaded with.
    #[arg(long, default_value_t = 1_000_000, default_value_if("quick", "true", "100000"))]
    pub rows: u64,
    /// Interleaved rounds; medians are reported.
    #[arg(long, default_value_t = 5, default_value_if("quick", "true", "3"))]
    pub rounds: usize,
    /// Seconds of one measurement.
    #[arg(long, default_value_t = 1.0, default_value_if("quick", "true", "0.3"))]
    pub seconds: f64,
    /// Client counts.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 64, 256],
          default_value_if("quick", "true", "1,64"))]
    pub clients: Vec<usize>,
    /// Engines, all if absent.
    #[arg(long, value_delimiter = ',', value_parser = ["storedd", "raw", "sqlite", "lmdb", "fjall", "redb"])]
    pub engines: Vec<String>,
    /// Sections, all but `side` if absent: that writes `docs/peers.md`.
    #[arg(long, value_delimiter = ',', value_parser = ["commits", "socket", "reads", "sustained", "snapshots", "restart", "delivery", "reconstruct", "archive", "side"])]
    pub sections: Vec<String>,
    /// What clients of the section `commits` do, all if absent.
    #[arg(long, value_delimiter = ',', value_parser = ["mix", "create", "acl", "rename"])]
    pub mixes: Vec<String>,
    /// Devices: `controlled` (memory, each sync takes a fixed time), `real` (the disk of `--dir`).
    #[arg(long, value_delimiter = ',', value_parser = ["controlled", "real"], default_value = "controlled,real")]
    pub devices: Vec<String>,
    /// Microseconds of a sync on the controlled device.
    #[arg(long, default_value_t = 100)]
    pub sync_us: u64,
    /// Where `tests/peers/peers install` put Cyrus and Dovecot; without it the sections of mail have no peers. Needs root.
    #[arg(long)]
    pub peers: Option<PathBuf>,
    /// Messages of the section `reconstruct`.
    #[arg(long, default_value_t = 200_000, default_value_if("quick", "true", "10000"))]
    pub messages: u64,
    /// Messages of the section `archive`.
    #[arg(long, default_value_t = 100_000, default_value_if("quick", "true", "10000"))]
    pub archived: u64,
    /// Directory on the real disk; a temporary directory is made in it. Default: beside this program.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Where bench.json and bench.svg are written. Default: `bench` beside this program.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Where the section `side` writes its table. Default: `docs` of this repository.
    #[arg(long)]
    pub docs: Option<PathBuf>,
    /// Seconds of the sustained run.
    #[arg(long, default_value_t = 30.0, default_value_if("quick", "true", "5"))]
    pub sustained: f64,
    /// Log behind the last checkpoint that the restart replays, in MiB.
    #[arg(long, default_value_t = 256, default_value_if("quick", "true", "32"))]
    pub log_mib: u64,
}

impl Settings {
    /// True if an engine is to be measured.
    pub fn wants(&self, engine: &str) -> bool {
        self.engines.is_empty() || self.engines.iter().any(|e| e == engine)
    }

    /// True if a mix is to be measured.
    pub fn mix(&self, mix: Mix) -> bool {
        self.mixes.is_empty() || self.mixes.iter().any(|m| m == mix.name)
    }

    /// True if a section is to be run.
    pub fn section(&self, name: &str) -> bool {
        self.sections.is_empty() || self.sections.iter().any(|s| s == name)
    }

    /// True if a section was asked for by its name.
    pub fn is_asked(&self, name: &str) -> bool {
        self.sections.iter().any(|s| s == name)
    }

    /// One measurement.
    pub fn plan(&self, form: Form, clients: usize, mix: Mix) -> Plan {
        let time = Duration::from_secs_f64(self.seconds);
        Plan { form, clients, time, warm_up: time / 5, mix }
    }

    /// For the report.
    pub fn json(&self) -> Value {
        json!({
            "quick": self.quick, "rows": self.rows, "rounds": self.rounds, "seconds": self.seconds,
            "clients": self.clients, "sync_us": self.sync_us, "sustained_seconds": self.sustained, "log_mib": self.log_mib,
            "messages": self.messages, "archived": self.archived,
        })
    }
}
