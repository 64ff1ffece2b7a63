//! The command line of `storedd`; the contract stands in README.md and in `--help`.

use crate::config::{self, Config, Problem};
use crate::error::exit;
use crate::{daemon, demo, offline, place};
use clap::{Args, Parser, Subcommand};
use serde_json::json;
use std::path::PathBuf;
use verbs::{DowngradeVerb, LogReset, PrepareUpgrade, RestoreDb, Since, SnapshotInstall, Test, Upgrade};

/// The table of exit statuses at the end of `--help`.
pub const EXIT_STATUSES: &str = "Exit status:
   0  done, nothing wrong               1  done, and problems found
   2  data damaged or lost             64  usage
  65  bad input, foreign or newer file 66  no such input file
  69  not ready                        70  a bug
  71  the log failed, restart recovers 73  exists already
  74  I/O error                        75  in use, busy or full: try again
  77  not permitted                    78  configuration";

/// Keeps the mailbox list of a mail server, so that no change it has acknowledged is lost.
///
/// Without a command: runs the daemon in the foreground until SIGTERM. With no configuration at all
/// `storedd --data-dir DIR` makes or opens a store in DIR; its socket is DIR/control.sock.
#[derive(Debug, Parser)]
#[command(name = "storedd", version, after_help = EXIT_STATUSES, disable_help_subcommand = true, args_conflicts_with_subcommands = false)]
pub struct Cli {
    /// Where things are.
    #[command(flatten)]
    pub place: Place,
    /// Check the configuration, name every problem with its line, and end (0 or 78).
    #[arg(long)]
    pub check_config: bool,
    /// With --check-config: also 78 if the store is of another version and waits for an upgrade by hand.
    #[arg(long, requires = "check_config")]
    pub with_store: bool,
    /// One JSON document on stdout, of an offline command.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do instead of running the daemon.
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// Where things are; before or after the command.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Where the store is")]
pub struct Place {
    /// Configuration file [default: /etc/storedd/storedd.toml if it is there]
    #[arg(long, global = true, value_name = "FILE", env = "STOREDD_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// Data directory; wins over the configuration [default without any: ./storedd-data]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Control socket; wins over the configuration.
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// Offline commands: they take the store's lock and refuse (75) while a daemon lives.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// The whole story in a temporary directory: mailboxes in, kill -9, recovery, what was kept.
    Demo,
    /// Make a stopped store consistent from the files present, and say what was done.
    ///
    /// Refuses (2) when something that was acknowledged cannot be reached, names the files, and changes nothing.
    Recover(Recover),
    /// What files and the system say of a daemon, without asking it and without a lock: for one that hangs; 0 it lives, 3 not.
    Status,
    /// Quick test of a stopped store: open, check, close (0 good, 1 bad).
    Test(Test),
    /// Put a backup in the place of a stopped store, and recover it.
    ///
    /// What is there is kept under another name: <dir>.asof<date>. Everything in the backup is checked before anything is
    /// touched; broken off, it has either not begun, or the next start finishes it.
    RestoreDb(RestoreDb),
    /// The log of a stopped store.
    #[command(subcommand)]
    Log(Log),
    /// Snapshots of a stopped store.
    #[command(subcommand)]
    Snapshot(Snapshot),
    /// Make a stopped store ready for the next version of this program; twice is harmless.
    ///
    /// What the log holds comes into the database, and nothing temporary is left. Run it with the version to be replaced.
    PrepareUpgrade(PrepareUpgrade),
    /// Bring a stopped store of an older version to this one: copy, upgrade, validate, put in place.
    ///
    /// It is recovered first, and a verified snapshot of it is kept as the way back. Stopped anywhere, the old or the new one is
    /// whole, and the same command goes on.
    Upgrade(Upgrade),
    /// Make a stopped store one that the version before this one opens, or take that back.
    #[command(subcommand)]
    Downgrade(DowngradeVerb),
}

/// `snapshot`.
#[derive(Debug, Subcommand)]
pub enum Snapshot {
    /// Put a snapshot in place of the database, and replay the log behind it; needs --yes.
    ///
    /// The database that is there, be it what it may, goes to removed/. Refuses (2) when the log does not lead to the end, and
    /// changes nothing then.
    Install(SnapshotInstall),
}

/// `log`.
#[derive(Debug, Subcommand)]
pub enum Log {
    /// Verify the database, go on from it with a new log, set the old one aside; needs --yes.
    ///
    /// What can be read of the old log is taken first; what cannot is given up, and said (then the status is 2). Old log
    /// files go to quarantine/, none is deleted.
    Reset(LogReset),
}

/// `recover`; short options may be bundled (`-cv`).
#[derive(Debug, Clone, Args)]
pub struct Recover {
    /// Show what the last start found and did, and change nothing.
    #[arg(long)]
    pub report: bool,
    /// The last N starts, newest first.
    #[arg(long, value_name = "N", requires = "report", value_parser = clap::value_parser!(u32).range(1..))]
    pub last: Option<u32>,
    /// What makes the run.
    #[command(flatten)]
    pub run: verbs::Recover,
}

/// Does what the command line asks for; the exit status of the program.
#[must_use]
pub fn main() -> u8 {
    match Cli::try_parse() {
        Ok(cli) => run(&cli),
        Err(e) => {
            // Help and version go to stdout and are no failure; clap knows which is which.
            let wrong = e.use_stderr();
            drop(e.print());
            if wrong && std::env::args_os().any(|arg| arg == "--json") {
                let text = e.render().to_string();
                let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
                println!("{}", json!({"error": {"code": "usage", "message": message, "hint": "storedd --help"}}));
            }
            if wrong { exit::USAGE } else { exit::OK }
        }
    }
}

fn run(cli: &Cli) -> u8 {
    if matches!(cli.verb, Some(Verb::Demo)) {
        return demo::run();
    }
    let Place { config, data_dir, socket } = &cli.place;
    if cli.check_config {
        let problems = config::check(config.as_deref(), data_dir.as_deref(), socket.as_deref());
        if problems.is_empty() {
            let loaded = Config::load(config.as_deref(), data_dir.as_deref(), socket.as_deref());
            let waits = loaded.as_ref().ok().filter(|_| cli.with_store).and_then(offline::wants_upgrade);
            if let Some(status) = waits {
                return status;
            }
            match loaded.ok().and_then(|config| config.file) {
                file if cli.json => println!("{}", json!({"ok": true, "file": file})),
                Some(file) => println!("the configuration is good: {}", file.display()),
                None => println!("the configuration is good: there is no file, every option has its default"),
            }
            return exit::OK;
        }
        return complain(&problems, cli);
    }
    let loaded = match Config::load(config.as_deref(), data_dir.as_deref(), socket.as_deref()) {
        Ok(loaded) => loaded,
        Err(problems) => return complain(&problems, cli),
    };
    act(cli, loaded)
}

fn act(cli: &Cli, loaded: Config) -> u8 {
    let json = cli.json;
    // A time ago is one moment, however often it is asked for.
    let now = place::env().now();
    let settled = |time: Since| Since::At(time.micros_before(now.0));
    match &cli.verb {
        None if json => {
            eprintln!("storedd: --json is for a command, and there is none\n  next: storedd --help");
            exit::USAGE
        }
        None => daemon::run(loaded),
        Some(Verb::Recover(args)) => {
            let until_time = args.run.until_time.map(settled);
            let run = verbs::Recover { json, until_time, ..args.run.clone() };
            offline::recover(&loaded, &Recover { run, ..args.clone() })
        }
        Some(Verb::Status) => offline::status(&loaded, json),
        Some(Verb::Test(args)) => offline::test(&loaded, &Test { json, ..args.clone() }),
        Some(Verb::RestoreDb(args)) => offline::restore_db(&loaded, &RestoreDb { json, ..args.clone() }),
        Some(Verb::Log(Log::Reset(args))) => offline::log_reset(&loaded, &LogReset { json, ..args.clone() }),
        Some(Verb::Snapshot(Snapshot::Install(args))) => {
            let before = args.before.map(settled);
            offline::snapshot_install(&loaded, &SnapshotInstall { json, before, ..args.clone() })
        }
        Some(Verb::PrepareUpgrade(args)) => offline::prepare(&loaded, &PrepareUpgrade { json, ..args.clone() }),
        Some(Verb::Upgrade(args)) => offline::upgrade(&loaded, &Upgrade { json, ..args.clone() }),
        Some(Verb::Downgrade(verb)) => offline::downgrade(&loaded, verb, json),
        Some(Verb::Demo) => demo::run(),
    }
}

fn complain(problems: &[Problem], cli: &Cli) -> u8 {
    let place = &cli.place;
    for problem in problems {
        eprintln!("storedd: {problem}");
    }
    let text = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let (config, data_dir, socket) = (text(&place.config), text(&place.data_dir), text(&place.socket));
    let given = [("--config", &config), ("--data-dir", &data_dir), ("--socket", &socket)];
    let named = given.into_iter().filter_map(|(option, value)| Some((option, value.as_deref()?)));
    let check = proto::naming::complete("storedd --check-config", &proto::naming::options(named));
    let next = format!("correct what is named, then check again: {check}");
    eprintln!("  next: {next}");
    if cli.json {
        let all: Vec<String> = problems.iter().map(Problem::to_string).collect();
        println!("{}", json!({"error": {"code": "config", "message": all.join("; "), "hint": next}}));
    }
    exit::CONFIG
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    // row 61
    #[test]
    fn short_options_bundle_and_places_stand_anywhere() {
        let cli = Cli::try_parse_from(["storedd", "test", "-lv", "--data-dir", "x"]).unwrap();
        assert_eq!(cli.place.data_dir, Some("x".into()));
        assert!(matches!(cli.verb, Some(Verb::Test(Test { deadlocks: true, verbose: true, recover: false, .. }))));
        let cli = Cli::try_parse_from(["storedd", "recover", "-cvn"]).unwrap();
        let Some(Verb::Recover(Recover { run, .. })) = cli.verb else { panic!("no recover") };
        assert!(run.catastrophic && run.verbose && run.dry_run);
    }

    #[test]
    fn a_point_is_one_point() {
        let parse = |words: &str| Cli::try_parse_from(words.split(' '));
        let cli = parse("storedd recover --until-time 2026-11-22T10:00:00+01:00").unwrap();
        let Some(Verb::Recover(Recover { run, .. })) = cli.verb else { panic!("no recover") };
        assert_eq!(run.until_time, Some(Since::At(1_795_338_000_000_000)));
        for words in
            ["--until-lsn 1 --until-time 2026-11-22T10:00:00Z", "--until-lsn 1 --accept-loss", "--until-time now"]
        {
            assert!(parse(&format!("storedd recover {words}")).is_err(), "{words}");
        }
    }
}
