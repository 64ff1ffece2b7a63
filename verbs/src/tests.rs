use super::*;
use clap::{Parser, Subcommand};
use std::time::Duration;

/// A program that has them all, as both have.
#[derive(Debug, Parser)]
struct Program {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, PartialEq, Subcommand)]
enum Verb {
    Recover(WithReport),
    Test(Test),
    RestoreDb(RestoreDb),
    #[command(subcommand)]
    Log(Log),
    #[command(subcommand)]
    Snapshot(Snapshot),
    PrepareUpgrade(PrepareUpgrade),
    Upgrade(Upgrade),
    #[command(subcommand)]
    Downgrade(DowngradeVerb),
}

#[derive(Debug, PartialEq, Args)]
struct WithReport {
    #[arg(long)]
    report: bool,
    #[command(flatten)]
    run: Recover,
}

#[derive(Debug, PartialEq, Subcommand)]
enum Log {
    Reset(LogReset),
}

#[derive(Debug, PartialEq, Subcommand)]
enum Snapshot {
    Install(SnapshotInstall),
}

fn parsed(words: &[OsString]) -> Verb {
    let words = std::iter::once("program".into()).chain(words.iter().cloned());
    Program::try_parse_from(words).unwrap_or_else(|e| panic!("{e}")).verb
}

fn now() -> jiff::Timestamp {
    jiff::Timestamp::from_second(1_700_000_000).unwrap()
}

/// What is said again is the same: every option set, and none.
#[test]
fn the_words_say_the_same() {
    let at = Some(Since::At(1_700_000_000_000_001));
    for set in [true, false] {
        let run = Recover {
            all: set,
            catastrophic: set,
            until_lsn: None,
            until_time: at.filter(|_| set),
            accept_loss: false,
            yes: set,
            dry_run: set,
            verbose: set,
            json: false,
        };
        assert_eq!(parsed(&run.words(now())), Verb::Recover(WithReport { report: false, run }));
        let run = Recover { until_lsn: set.then_some(7), ..Recover::default() };
        assert_eq!(parsed(&run.words(now())), Verb::Recover(WithReport { report: false, run }));
        let run = Recover { accept_loss: set, ..Recover::default() };
        assert_eq!(parsed(&run.words(now())), Verb::Recover(WithReport { report: false, run }));
        let test = Test { deadlocks: set, recover: set, verbose: set, json: false };
        assert_eq!(parsed(&test.words(now())), Verb::Test(test));
        let restore = RestoreDb {
            backup: "/media/-b".into(),
            yes: set,
            dry_run: set,
            partition: if set { vec![] } else { vec!["a".to_owned(), "b".to_owned()] },
            other_store: set,
            verbose: set,
            json: false,
        };
        assert_eq!(parsed(&restore.words(now())), Verb::RestoreDb(restore));
        let reset = LogReset { yes: set, dry_run: set, verbose: set, json: false };
        assert_eq!(parsed(&reset.words(now())), Verb::Log(Log::Reset(reset)));
        for (id, before) in [(Some("--yes".to_owned()), None), (None, at)] {
            let install = SnapshotInstall {
                id,
                before,
                leave_log: set,
                accept_loss: false,
                yes: set,
                dry_run: set,
                verbose: set,
                json: false,
            };
            assert_eq!(parsed(&install.words(now())), Verb::Snapshot(Snapshot::Install(install)));
        }
        let prepare = PrepareUpgrade { remove_only: set, json: false };
        assert_eq!(parsed(&prepare.words(now())), Verb::PrepareUpgrade(prepare));
        let upgrade = Upgrade { to: set.then_some(3), dry_run: set, json: false };
        assert_eq!(parsed(&upgrade.words(now())), Verb::Upgrade(upgrade));
        let enable = DowngradeVerb::Enable(DowngradeEnable { yes: set, dry_run: set });
        assert_eq!(parsed(&enable.words(now())), Verb::Downgrade(enable));
    }
    for verb in [DowngradeVerb::Validate, DowngradeVerb::Cancel] {
        assert_eq!(parsed(&verb.words(now())), Verb::Downgrade(verb));
    }
}

/// A relative path is said as it is meant here, and a time ago as the moment that it is now.
#[test]
fn what_depends_on_place_and_time_is_settled() {
    let words = RestoreDb { backup: "-b".into(), ..RestoreDb::default() }.words(now());
    assert!(std::path::Path::new(words.last().unwrap()).is_absolute(), "{words:?}");
    let words = Recover { until_time: Some(Since::Ago(Duration::from_secs(3600))), ..Recover::default() }.words(now());
    assert_eq!(words, ["recover", "--until-time=2023-11-14T21:13:20Z"]);
    let late = Recover { until_time: Some(Since::At(u64::MAX)), ..Recover::default() }.words(now());
    assert!(late[1].to_str().unwrap().starts_with("--until-time=9999-12-3"), "{late:?}");
}

#[test]
fn waiting_times() {
    assert_eq!(parse_duration("30"), Ok(Duration::from_secs(30)));
    assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
    assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
    for text in ["", "s", "-1", "1w", "1.5s", "99999999999999999999d"] {
        assert!(parse_duration(text).is_err(), "{text}");
    }
}

#[test]
fn points_in_time() {
    assert_eq!(parse_since("1970-01-01T00:00:01Z"), Ok(Since::At(1_000_000)));
    assert_eq!(parse_since("2h"), Ok(Since::Ago(Duration::from_secs(7200))));
    let now = jiff::Timestamp::from_second(10_000).unwrap();
    assert_eq!(parse_since("1h").unwrap().micros(now), 6_400_000_000);
    assert!(parse_since("yesterday").is_err());
    assert!(parse_since("1960-01-01T00:00:00Z").is_err());
}
