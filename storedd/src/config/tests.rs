//! Tests of the configuration: rows 27, 32, 75, 160.

use super::value::{GIB, MIB, size_text, time_text};
use super::*;
use std::fmt::Write;
use std::time::Duration;

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/storedd.toml");

const HEAD: &str = r#"# Configuration of storedd: /etc/storedd/storedd.toml, or the file named by --config or STOREDD_CONFIG.
#
# Every option stands here with its default, commented out. After the sentence, in brackets: unit, allowed values, and
# whether a reload (SIGHUP, systemctl reload storedd) is enough to change it; the others are read at the start. Sizes are
# bytes or texts such as "64MiB", times are seconds or texts such as "60s", "100ms", "5min". An unknown key is an error.
# Check this file with: storedd --check-config --config FILE
"#;

const TAIL: &str = r#"
# A directory tree for messages, best one for each disk. Without any such section there is one partition, `primary`;
# otherwise there are exactly those that are named. The name is part of the store: give the partition another path when
# its directory has moved, never another name. More partitions can be added while the daemon runs:
# storectl partition add NAME PATH [--message-path PATH].
[partition.primary]
# The root directory; a relative path counts from data_dir. [path; not empty]
#path = "partition/primary"
# A root of their own for the message files, on another disk; indexes and all else stay in path. It is chosen when the
# partition is made: to change it, add another partition and move the users there. [path; not empty; default path]
# message_path = "/srv/large/mail"

# Rules of ageing, each a section of its own, looked at in the order of this file every night (and by storectl expire): the
# first rule that catches a message decides. A rule catches what all of its options fit; keep_messages and keep_bytes
# spare the newest ones of a mailbox among those. A reload is enough.
#[expire.trash]
# Mailboxes, by a pattern of LIST: % stands for anything but /. [default "*", every mailbox]
#mailboxes = "user/%/Trash"
# Only those of one partition. [name]
#partition = "primary"
# Internal date, and the time since the message came into its mailbox. [seconds; 1s to 315360000s]
#older_than = "90d"
#saved_longer_than = "30d"
# [bytes]
#larger_than = "20MiB"
# With the flag, or without. [true or false]
#seen = true
#deleted = true
# The newest so many stay, or the newest with so many bytes together. [count; bytes]
#keep_messages = 10000
#keep_bytes = "2GiB"
# discard: expunge, to be undeleted until purged; move: to the folder move_to of the same owner; report: only tell;
# keep: spare from all rules below. [default report]
#action = "discard"
#move_to = "Archive"
"#;

fn load(text: &str) -> Result<Config, Vec<String>> {
    let given = Config::from_text(text, Some(Path::new("storedd.toml")), None, None);
    given.map_err(|problems| problems.iter().map(Problem::to_string).collect())
}

fn problems(text: &str) -> Vec<String> {
    load(text).expect_err("a bad configuration was accepted")
}

fn sample() -> String {
    String::from_utf8(crate::disk::outside::read(Path::new(SAMPLE), FILE_BYTES_MAX).unwrap()).unwrap()
}

/// The documented file as the table says it must be: what `config/storedd.toml` is made from.
fn documented() -> String {
    let mut text = String::from(HEAD);
    for (section, about) in SECTIONS {
        let _ = write!(text, "\n# {}\n[{section}]\n", about.trim());
        for (option, value) in OPTIONS.iter().zip(Sections::default().values()).filter(|(o, _)| o.section == *section) {
            let mut facts = vec![option.unit.to_owned()];
            facts.extend(Some(option.limit.text()).filter(|t| !t.is_empty()));
            facts.extend((option.effect == Effect::Reload).then(|| "a reload is enough".to_owned()));
            for line in wrapped(&format!("{} [{}]", option.sentence, facts.join("; "))) {
                let _ = writeln!(text, "# {line}");
            }
            let _ = writeln!(text, "#{} = {value}", option.key);
        }
    }
    text += TAIL;
    text
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("starts with one line");
        if last.len() + word.len() > 110 {
            lines.push(word.to_owned());
        } else {
            let gap = if last.is_empty() { "" } else { " " };
            *last += &format!("{gap}{word}");
        }
    }
    lines
}

#[test]
fn the_documented_file_says_what_the_table_says() {
    let expected = documented();
    let found = sample();
    let line = expected.lines().zip(found.lines()).position(|(a, b)| a != b);
    assert!(
        expected == found,
        "config/storedd.toml differs from line {line:?} on (0 is the first); expected:\n{expected}"
    );
}

#[test]
fn every_option_is_documented_with_its_default() {
    // A rule is an example, not a default.
    let sample_options = sample().split("\n#[expire.").next().unwrap().to_owned();
    let live: String = sample_options
        .lines()
        .map(|l| l.strip_prefix('#').filter(|l| !l.starts_with(' ')).unwrap_or(l))
        .fold(String::new(), |mut text, line| {
            text += line;
            text.push('\n');
            text
        });
    let config = load(&live).unwrap();
    for name in config.values().keys() {
        assert!(matches!(config.origin(name), Origin::Line(_)), "{name} is not documented");
    }
    let defaults = load("").unwrap();
    assert_eq!(config.values(), defaults.values());
    assert_eq!(load(&sample()).unwrap().values(), defaults.values(), "the delivered file changes a default");
}

#[test]
fn without_anything_a_try_out_stands_below_the_working_directory() {
    let config = Config::from_text("", None, None, None).unwrap();
    let here = std::env::current_dir().unwrap().join(TRYOUT_DIR);
    assert_eq!(config.store.data_dir, here);
    assert_eq!(config.control.socket, here.join("control.sock"));
    assert_eq!(config.partitions, BTreeMap::from([("primary".to_owned(), here.join("partition/primary").into())]));
}

#[test]
fn the_command_line_wins_over_the_file() {
    let text = "[store]\ndata_dir = '/a'\nlog_dir = '/logs'\n[control]\nsocket = '/run/x.sock'\n[partition.primary]\npath = 'p'";
    let dir = Some(Path::new("/b/./c/"));
    let config = Config::from_text(text, Some(Path::new("f")), dir, None).unwrap();
    assert_eq!(config.store.data_dir, Path::new("/b/c"));
    assert_eq!(config.store.db_dir, Path::new("/b/c/mboxlist"));
    assert_eq!(config.store.log_dir, Path::new("/logs"));
    assert_eq!(config.control.socket, Path::new("/b/c/control.sock"));
    assert_eq!(config.partitions["primary"], "/b/c/p".into());
    assert_eq!(config.origin("store.data_dir"), Origin::Given("--data-dir"));
    let config = Config::from_text(text, Some(Path::new("f")), dir, Some(Path::new("/s"))).unwrap();
    assert_eq!(config.control.socket, Path::new("/s"));
    let config = Config::from_text(text, Some(Path::new("f")), None, None).unwrap();
    assert_eq!(
        (config.store.data_dir.as_path(), config.control.socket.as_path()),
        (Path::new("/a"), Path::new("/run/x.sock"))
    );
    assert_eq!(Config::in_dir(Path::new("/b")).control.socket, Path::new("/b/control.sock"));
}

#[test]
fn sizes_and_times_are_numbers_or_texts() {
    let log = |value: &str| load(&format!("[log]\nsegment_size = {value}")).map(|c| c.log.segment_size);
    for (text, bytes) in [("1048576", MIB), ("0x100000", MIB), ("'1MiB'", MIB), ("'1024 KiB'", MIB), ("\"1GiB\"", GIB)]
    {
        assert_eq!(log(text).unwrap(), bytes, "{text}");
    }
    for text in
        ["'3MiB'", "524288", "'2GiB'", "-1", "1.5", "'64MB'", "'MiB'", "''", "true", "[1]", "'99999999999999999TiB'"]
    {
        assert!(log(text).is_err(), "{text}");
    }
    let idle = |value: &str| load(&format!("[log]\nseal_idle = {value}")).map(|c| c.log.seal_idle);
    let expected =
        [("2", 2000), ("0.25", 250), ("'250ms'", 250), ("'60s'", 60_000), ("'1min'", 60_000), ("'1 s'", 1000)];
    for (text, millis) in expected {
        assert_eq!(idle(text).unwrap(), Duration::from_millis(millis), "{text}");
    }
    for text in ["-1", "-0.5", "nan", "inf", "1e3", "'2h'", "'s'", "99999999999999999999", "0.0000001", "'1 week'"] {
        assert!(idle(text).is_err(), "{text}");
    }
    assert_eq!([size_text(1000), size_text(1536), size_text(0)], ["1000B", "1536B", "0B"]);
    assert_eq!([time_text(Duration::from_millis(1500)), time_text(Duration::ZERO)], ["1500ms", "0s"]);
}

#[test]
fn every_problem_is_named_with_its_line() {
    let text = "[log]\nsegment_sise = 1\nspares = 'two'\n\n[recovery]\non_loss = \"stop\"\n[stors]\na = 1\n[control]\n\
                max_frame = 1\nx = 1\n[partition.'a/b']\n[partition.b]\npaht = 1\npath = ''\n";
    let found = problems(text);
    let expected = [
        "storedd.toml:2: log.segment_sise: unknown option; did you mean segment_size?",
        "storedd.toml:3: log.spares: found \"two\", expected a whole number from 0 to 4294967295",
        "storedd.toml:6: recovery.on_loss: found \"stop\", expected one of continue, hold",
        "storedd.toml:7: stors: unknown section; did you mean store?",
        "storedd.toml:10: control.max_frame: \"1B\" is out of range, expected 64KiB to 8MiB",
        "storedd.toml:11: control.x: unknown option, expected one of socket, max_connections, max_in_flight, max_frame, \
         hello_timeout, idle_timeout, write_timeout",
    ];
    for line in expected {
        assert!(found.iter().any(|f| f == line), "{line}\nnot in\n{}", found.join("\n"));
    }
    assert!(found.iter().any(|f| f.starts_with("storedd.toml:12: partition.a/b: a partition's name is")));
    assert!(found.iter().any(|f| f.starts_with("storedd.toml:14: partition.b.paht: unknown option")));
    assert!(found.iter().any(|f| f.starts_with("storedd.toml:15: partition.b.path: \"\" is out of range")));
}

#[test]
fn several_errors_of_syntax_are_all_named() {
    let found = problems("[log]\nspares = = 2\nseal_idle = 1 1\n[log]\n[control\n");
    for line in [2, 3, 4, 5] {
        assert!(
            found.iter().any(|f| f.starts_with(&format!("storedd.toml:{line}:"))),
            "line {line}\n{}",
            found.join("\n")
        );
    }
    assert!(!problems("log = 1\npartition = 2\n[partitions]\n").is_empty());
    assert!(!problems("[partition]\nprimary = 1").is_empty());
}

#[test]
fn options_side_by_side() {
    let found = problems("[checkpoint]\noverlay_bytes = '128MiB'\noverlay_bytes_max = '200MiB'");
    assert!(found[0].starts_with("storedd.toml:3: checkpoint.overlay_bytes_max: "), "{found:?}");
    let found = problems("[partition.fast]\npath = '/fast'");
    assert!(found[0].contains("there is no [partition.primary]; partitions are fast"), "{found:?}");
    let long = format!("[control]\nsocket = '/{}'", "x".repeat(SOCKET_PATH_MAX));
    assert!(problems(&long)[0].starts_with("storedd.toml:2: control.socket: "), "{long}");
    let fits = format!("[control]\nsocket = '/{}'", "x".repeat(SOCKET_PATH_MAX - 1));
    assert!(load(&fits).is_ok());
}

#[test]
fn a_partition_has_a_directory_of_its_own() {
    let place = |path: &str| {
        load(&format!("[store]\ndata_dir = '/d'\n[partition.primary]\npath = '/m/a'\n[partition.x]\npath = '{path}'"))
    };
    assert!(place("/m/b").is_ok());
    assert!(place("own").is_ok());
    for path in ["/m/a", "/m/a/.", "/m/a/b", "/m", "/", "/d", "mboxlist", "/d/mboxlist/x"] {
        let found = place(path).expect_err(path);
        assert!(found[0].starts_with("storedd.toml:6: partition.x.path: "), "{path}: {found:?}");
    }
}

#[test]
fn check_names_directories_that_cannot_be() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path();
    std::os::unix::fs::symlink(here, here.join("link")).unwrap();
    std::os::unix::fs::symlink(here.join("nowhere"), here.join("dangling")).unwrap();
    let file = here.join("storedd.toml");
    let write = |text: &str| {
        #[expect(clippy::disallowed_methods, reason = "a test makes its own files")]
        std::fs::write(&file, text).unwrap();
        check(Some(&file), None, None).iter().map(Problem::to_string).collect::<Vec<_>>()
    };
    let base = format!("[store]\ndata_dir = '{}'\n", here.join("new/store").display());
    assert_eq!(write(&base), Vec::<String>::new());
    assert!(!here.join("new").exists(), "a check changes nothing");
    let found = write(&format!("{base}log_dir = '{}/log'\n", file.display()));
    assert!(found.len() == 1 && found[0].contains("toml:3: store.log_dir: ") && found[0].contains("not a directory"));
    let found = write(&format!("{base}db_dir = '{}'\n", here.join("dangling/x").display()));
    assert!(found.len() == 1 && found[0].contains("toml:3: store.db_dir: "), "{found:?}");
    let at = |name: &str| here.join(name).display().to_string();
    let found =
        write(&format!("{base}[partition.primary]\npath = '{}'\n[partition.b]\npath = '{}'\n", at("p"), at("link/p")));
    assert!(found.len() == 1 && found[0].contains("the same directory as partition."), "{found:?}");
    let found = check(Some(&here.join("none.toml")), None, None);
    assert!(found.len() == 1 && found[0].line == 0 && found[0].file.ends_with("none.toml"), "{found:?}");
    assert_eq!(check(Some(here), None, None).len(), 1);
}

#[test]
fn what_is_shown_gives_the_same_configuration_again() {
    let text =
        "[store]\ndata_dir = '/d'\n[log]\nseal_idle = '250ms'\n[partition.primary]\n[partition.b]\npath = '/b\"c'\n";
    let config = load(text).unwrap();
    let shown = config.render();
    assert!(shown.contains("data_dir = \"/d\"  # line 2\n"), "{shown}");
    assert!(shown.contains("spares = 2  # default\n"), "{shown}");
    assert_eq!(load(&shown).unwrap().values(), config.values());
}

#[test]
fn a_reload_takes_over_what_it_may_and_names_the_rest() {
    let old = load("[messages]\nlevel = 'info'").unwrap();
    let new = load("[messages]\nlevel = 'debug'\n[log]\nspares = 5\n[partition.primary]\n[partition.b]").unwrap();
    let found: Vec<_> = old.differences(&new).into_iter().map(|d| (d.option, d.from, d.to, d.effect)).collect();
    let row = |option: &str, from: &str, to: &str, effect| (option.to_owned(), from.to_owned(), to.to_owned(), effect);
    let expected = [
        row("log.spares", "2", "5", Effect::Restart),
        row("messages.level", "\"info\"", "\"debug\"", Effect::Reload),
        row("partition.b.path", "", "\"/var/lib/storedd/partition/b\"", Effect::Restart),
    ];
    assert_eq!(found.len(), 3, "{found:?}");
    for row in expected {
        assert!(found.contains(&row), "{row:?} not in {found:?}");
    }
    let reloaded = old.reloaded(&new);
    assert_eq!((reloaded.messages.level, reloaded.log.spares), (Level::Debug, 2));
}

#[test]
fn reading_again_keeps_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("storedd.toml");
    #[expect(clippy::disallowed_methods, reason = "a test makes its own files")]
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    write("");
    let (data, socket) = (Path::new("/d"), Path::new("/run/s.sock"));
    let first = Config::load(Some(&file), Some(data), Some(socket)).unwrap();
    assert_eq!(first.again().unwrap().unwrap(), first);
    write("[store]\ndata_dir = '/elsewhere'\n[log]\nspares = 3\n[control]\nsocket = 'x'");
    let again = first.again().unwrap().unwrap();
    let changed: Vec<_> = first.differences(&again).into_iter().map(|d| d.option).collect();
    assert_eq!(changed, ["log.spares"]);
    assert!(Config::in_dir(data).again().is_none());
}

#[test]
fn the_limits_of_a_frame_are_those_of_the_protocol() {
    assert_eq!(Sections::default().control.max_frame, u64::from(proto::frame::REQUEST_BYTES_DEFAULT));
    let row = OPTIONS.iter().find(|o| o.key == "max_frame").unwrap();
    assert_eq!(row.limit, value::Limit::Bytes(64 * value::KIB, u64::from(proto::frame::PAYLOAD_BYTES_MAX)));
}

#[test]
fn rules_of_ageing_stand_in_the_order_of_the_file() {
    let text = "[expire.z]\nolder_than = '30d'\nseen = true\naction = 'discard'\n[expire.a]\nmailboxes = 'user/%/Old'\n\
                keep_messages = 5\nkeep_bytes = '1MiB'\naction = 'move'\nmove_to = 'Archive/x'\n[expire.k]\naction = 'keep'\n";
    let config = load(text).unwrap();
    assert_eq!(config.expire.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["z", "a", "k"]);
    let [z, a, k] = &config.expire[..] else { panic!("{:?}", config.expire) };
    assert_eq!(
        (z.older_than, z.seen, z.action),
        (Some(Duration::from_secs(30 * 86_400)), Some(true), ExpireAction::Discard)
    );
    assert_eq!((a.keep_messages, a.keep_bytes, a.move_to.as_str()), (Some(5), Some(MIB), "Archive/x"));
    assert_eq!((k.action, k.mailboxes.as_str()), (ExpireAction::Keep, "*"));
    // What is shown gives the same rules.
    assert_eq!(load(&config.render()).unwrap().expire, config.expire);
    let plain = load("").unwrap();
    let differs = plain.differences(&config);
    assert!(differs.iter().any(|d| d.option == "expire.z.seen" && d.effect == Effect::Reload), "{differs:?}");
    assert_eq!(plain.reloaded(&config).expire, config.expire);
}

#[test]
fn a_rule_that_would_catch_everything_or_nothing_is_refused() {
    let all = problems("[expire.all]\naction = 'discard'\n");
    assert!(all[0].starts_with("storedd.toml:1: expire.all: without an age"), "{all:?}");
    for bad in [
        "older_than = '1d'\naction = 'move'",
        "older_than = '1d'\nmove_to = 'x'",
        "older_than = '0s'",
        "older_than = '1d'\nmove_to = 'a//b'\naction = 'move'",
        "older_than = '1d'\nmailboxes = ''",
        "older_then = '1d'",
        "older_than = '1d'\naction = 'delete'",
    ] {
        assert_eq!(problems(&format!("[expire.r]\n{bad}\n")).len(), 1, "{bad}");
    }
    assert!(problems("[expire.r]\nolder_then = '1d'\n")[0].contains("did you mean older_than?"));
    assert!(problems("[expire]\nr = 1\n")[0].contains("expected a section: [expire.r]"));
    assert!(problems("[expire.'a b']\nolder_than = '1d'\n")[0].contains("a rule's name"));
}

#[test]
fn no_text_makes_the_reader_panic() {
    let text = sample().replace('#', "");
    for cut in (0..text.len()).step_by(7).filter(|n| text.is_char_boundary(*n)) {
        let _ = load(&text[..cut]);
    }
    const SIGNS: &[u8] = b"[]='\"\n.{}0-x\\";
    let mut seed = 1u64;
    for _ in 0..500 {
        let mut bytes = text.clone().into_bytes();
        for _ in 0..3 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = usize::try_from(seed >> 33).unwrap() % bytes.len();
            bytes[at] = SIGNS[usize::try_from(seed >> 20).unwrap() % SIGNS.len()];
        }
        let _ = load(&String::from_utf8_lossy(&bytes));
    }
}
