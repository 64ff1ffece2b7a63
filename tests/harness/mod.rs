//! What every theme uses: a store in a temporary directory, the real daemon, `storectl`.

pub mod alarms;
pub mod disks;
pub mod lmtp;
pub mod mail;
pub mod tracer;

use proto::client::{Client, Timeouts};
use serde_json::Value;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A line that is shown also where a test passes.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// What a rig looked at, for `.ci/run` and `.ci/proof`.
pub fn total(line: &str) {
    say(&format!("rig: {line}"));
}

/// Waits until `found` gives something.
pub fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A path as it is typed.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A data directory and what was started on it. On failure the directory is kept and its path printed.
pub struct TestStore {
    dir: Option<tempfile::TempDir>,
    /// The data directory.
    pub data: PathBuf,
    /// Started without a configuration of the test's own, the daemon gets one with small log files: each is written once
    /// when it is made, and a hundred tests with files of the usual size write as much as a disk takes in a minute.
    pub small_logs: bool,
}

impl TestStore {
    /// An empty place for a store.
    pub fn new() -> TestStore {
        let dir = tempfile::Builder::new().prefix("storedd-test-").tempdir().unwrap();
        let data = dir.path().join("store");
        TestStore { dir: Some(dir), data, small_logs: true }
    }

    /// A directory beside the store.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.data.parent().unwrap().join(name)
    }

    /// Starts the daemon and waits until it is ready.
    pub fn start(&self) -> Daemon {
        self.start_with(&[])
    }

    /// As [`TestStore::start`] with more options.
    pub fn start_with(&self, args: &[&str]) -> Daemon {
        let mut daemon = self.spawn(args);
        daemon.wait_ready();
        daemon
    }

    /// Starts the daemon and waits for nothing.
    pub fn spawn(&self, args: &[&str]) -> Daemon {
        self.spawn_by(Command::new(env!("CARGO_BIN_EXE_storedd")), args)
    }

    /// As [`TestStore::spawn`], through a command that becomes the daemon.
    pub fn spawn_by(&self, mut command: Command, args: &[&str]) -> Daemon {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.beside("daemon.log")).unwrap();
        if self.small_logs && !args.contains(&"--config") {
            let config = self.beside("small-logs.toml");
            std::fs::write(&config, "[log]\nsegment_size = \"1MiB\"\n").unwrap();
            command.arg("--config").arg(config);
        }
        let child = command
            .arg("--data-dir")
            .arg(&self.data)
            .args(args)
            .env_remove("NOTIFY_SOCKET")
            .env_remove("STOREDD_CONFIG")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.daemon(child)
    }

    /// A daemon on this store that was started elsewhere, its output in `daemon.log` beside the store.
    pub fn daemon(&self, child: Child) -> Daemon {
        Daemon { child, socket: self.data.join("control.sock"), log: self.beside("daemon.log") }
    }

    /// Runs `storedd` with a verb, to its end.
    pub fn storedd(&self, args: &[&str]) -> Run {
        run(Command::new(env!("CARGO_BIN_EXE_storedd")).arg("--data-dir").arg(&self.data).args(args), None)
    }

    /// Runs `storectl`, to its end.
    pub fn ctl(&self, args: &[&str]) -> Run {
        self.ctl_with(args, None)
    }

    /// Runs `storectl` with something on its standard input.
    pub fn ctl_with(&self, args: &[&str], input: Option<&[u8]>) -> Run {
        run(Command::new(env!("CARGO_BIN_EXE_storectl")).arg("--data-dir").arg(&self.data).args(args), input)
    }

    /// Starts `storectl` and waits for nothing; [`Run::of`] waits for its end.
    pub fn begin(&self, args: &[&str]) -> Child {
        self.begin_from(args, Stdio::null())
    }

    /// [`TestStore::begin`] of one whose standard input the test writes.
    pub fn begin_with_input(&self, args: &[&str]) -> Child {
        self.begin_from(args, Stdio::piped())
    }

    fn begin_from(&self, args: &[&str], input: Stdio) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_storectl"));
        command.arg("--data-dir").arg(&self.data).args(args).stdin(input);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs `storectl --json`, demands status 0, and returns the document.
    pub fn json(&self, args: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(args);
        let run = self.ctl(&all);
        assert_eq!(run.status, 0, "storectl {all:?}: {run:?}");
        run.json()
    }

    /// Changes nothing, says everything: a hash of every file below the data directory, sockets and the state file
    /// left out, also one that a daemon left half done when it ended at once.
    pub fn tree(&self) -> Vec<(String, Vec<u8>)> {
        let mut out = Vec::new();
        walk(&self.data, &self.data, &mut out);
        out.sort();
        out
    }
}

fn walk(root: &Path, dir: &Path, out: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            out.push((name, Vec::new()));
            walk(root, &path, out);
        } else if kind.is_file() && !["state", "state.new", "lock"].contains(&name.as_str()) {
            out.push((name, std::fs::read(&path).unwrap()));
        }
    }
}

impl Drop for TestStore {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(dir) = self.dir.take()
        {
            eprintln!("the store of this test is kept in {}", dir.keep().display());
        }
    }
}

/// A running daemon; killed when dropped.
pub struct Daemon {
    /// Its process.
    pub child: Child,
    /// Its socket.
    pub socket: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Waits until the daemon says that it is ready (or read-only).
    pub fn wait_ready(&mut self) {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the daemon ended with {status}:\n{}", self.log());
            }
            if let Ok(client) = Client::connect(&self.socket, "test", Timeouts::default())
                && ["ready", "read-only"].contains(&client.hello().state.as_str())
            {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "not ready:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The same daemon, which listens elsewhere than in its data directory.
    pub fn at(mut self, socket: &Path) -> Daemon {
        self.socket = socket.to_owned();
        self
    }

    /// A connection.
    pub fn client(&self) -> Client {
        Client::connect(&self.socket, "test", Timeouts::default()).unwrap()
    }

    /// Everything that daemons on this store said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// SIGKILL, at once.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// SIGTERM, then waits; the exit status.
    pub fn stop(mut self) -> i32 {
        self.signal(rustix::process::Signal::TERM);
        self.wait()
    }

    /// Waits for the end; the exit status, or minus the signal.
    pub fn wait(&mut self) -> i32 {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                use std::os::unix::process::ExitStatusExt;
                return status.code().unwrap_or_else(|| -status.signal().unwrap_or(0));
            }
            assert!(begun.elapsed() < PATIENCE, "does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that ended.
#[derive(Debug)]
pub struct Run {
    /// Exit status; minus the signal if one ended it.
    pub status: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Run {
    /// What a child says that [`TestStore::begin`] has started, when it has ended.
    pub fn of(child: Child) -> Run {
        let done = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Run { status: done.status.code().unwrap_or(-1), out: text(done.stdout), err: text(done.stderr) }
    }

    /// Standard output as one JSON document.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("no JSON ({e}): {self:?}"))
    }

    /// Demands a status.
    #[track_caller]
    pub fn expect(self, status: i32) -> Run {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

/// Runs a command line as a person would who copies it from the log, with our programs in the path.
pub fn typed(line: &str) -> Run {
    let bin = Path::new(env!("CARGO_BIN_EXE_storectl")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    run(Command::new("sh").args(["-c", line]).env("PATH", path), None)
}

/// Runs a program to its end, with a limit of time.
pub fn run(command: &mut Command, input: Option<&[u8]>) -> Run {
    command.env_remove("NOTIFY_SOCKET").env_remove("STOREDD_SOCKET").env_remove("STOREDD_CONFIG");
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let feeder = input.map(|input| {
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
        // A program may end before it has read everything.
        std::thread::spawn(move || drop(stdin.write_all(&input)))
    });
    let drain = |mut from: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            from.read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let out = drain(Box::new(child.stdout.take().unwrap()));
    let err = drain(Box::new(child.stderr.take().unwrap()));
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > PATIENCE {
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    if let Some(feeder) = feeder {
        feeder.join().unwrap();
    }
    use std::os::unix::process::ExitStatusExt;
    Run {
        status: status.code().unwrap_or_else(|| -status.signal().unwrap_or(0)),
        out: out.join().unwrap(),
        err: err.join().unwrap(),
    }
}
