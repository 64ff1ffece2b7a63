//! A daemon whose system calls that change the store are counted, and one of which goes wrong: the process is killed before it or in the
//! middle of it, or the call does half of it, or fails. One count goes over all threads. For Linux on x86-64, through ptrace, and without
//! any help of the program: it is the one that is delivered.
//!
//! Counted are calls that change a directory, and writes and syncs of files below the store; what is said to sockets and pipes is not.

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Killed before the call.
    Kill,
    /// Killed after the call, of which a write did only the first half.
    Torn,
    /// A write writes only half of it and says so; it is no fault for other calls.
    Short,
    /// The call does nothing and gives this error number.
    Fails(i32),
    /// And so does whatever comes later: a disk that breaks.
    Breaks(i32),
}

/// What happens to the calls.
#[derive(Debug, Clone, Copy)]
pub enum Script {
    /// They are counted.
    Count,
    /// The n-th, from 1, goes wrong.
    At(u64, Fault),
    /// Every sync does nothing and says that all is well: a disk that lies.
    NoSyncs,
}

/// What was seen of a daemon that has ended.
#[derive(Debug, Default)]
pub struct Seen {
    /// Calls that changed the store, in their order, with the file where one is open.
    pub calls: Vec<(&'static str, String)>,
    /// The call that went wrong, and the file.
    pub hit: Option<String>,
}

/// A traced daemon.
pub struct Traced {
    /// Its process.
    pub pid: Pid,
    thread: JoinHandle<Seen>,
}

/// The numbers of x86-64: calls on an open file.
const ON_FILES: [(u64, &str); 13] = [
    (1, "write"),
    (18, "pwrite64"),
    (20, "writev"),
    (296, "pwritev"),
    (328, "pwritev2"),
    (74, "fsync"),
    (75, "fdatasync"),
    (277, "sync_file_range"),
    (77, "ftruncate"),
    (285, "fallocate"),
    (326, "copy_file_range"),
    (91, "fchmod"),
    (16, "ioctl"),
];

/// Calls that change directories.
const ON_NAMES: [(u64, &str); 13] = [
    (82, "rename"),
    (264, "renameat"),
    (316, "renameat2"),
    (87, "unlink"),
    (263, "unlinkat"),
    (76, "truncate"),
    (83, "mkdir"),
    (258, "mkdirat"),
    (84, "rmdir"),
    (86, "link"),
    (265, "linkat"),
    (88, "symlink"),
    (266, "symlinkat"),
];

/// Those with a number of bytes as the third argument.
const WRITES: [&str; 2] = ["write", "pwrite64"];

const SYNCS: [&str; 2] = ["fsync", "fdatasync"];

impl Traced {
    /// Starts a command that says what it has to say into a file; files below `root` are the store. `None` where processes must not be traced.
    pub fn start(command: &Command, root: &Path, script: Script, log: File) -> Option<Traced> {
        if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            eprintln!("skipped: system calls are counted on x86-64 alone");
            return None;
        }
        // It stops before it becomes the program, so that nothing is missed.
        let mut stub = Command::new("sh");
        stub.args(["-c", r#"kill -STOP $$; exec "$0" "$@""#]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => stub.env(name, value),
                None => stub.env_remove(name),
            };
        }
        stub.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let (sender, started) = mpsc::channel();
        let root = root.to_owned();
        let thread = std::thread::spawn(move || match attach(stub) {
            Ok((child, pid)) => {
                sender.send(Some(pid)).unwrap();
                let mut tracer =
                    Tracer { root, script, main: pid, open: BTreeMap::new(), seen: Seen::default(), began: false };
                tracer.follow();
                drop(child);
                tracer.seen
            }
            Err(e) => {
                eprintln!("skipped: processes cannot be traced here: {e}");
                sender.send(None).unwrap();
                Seen::default()
            }
        });
        let pid = started.recv().unwrap()?;
        Some(Traced { pid, thread })
    }

    /// True if it has ended.
    pub fn gone(&self) -> bool {
        self.thread.is_finished()
    }

    /// Sends a signal, if it is still there.
    pub fn signal(&self, signal: Signal) {
        if !self.gone() {
            let _ = kill(self.pid, signal);
        }
    }

    /// Waits for its end.
    pub fn ended(self) -> Seen {
        self.thread.join().unwrap()
    }
}

fn attach(mut stub: Command) -> nix::Result<(Child, Pid)> {
    let mut child = stub.spawn().unwrap();
    let pid = Pid::from_raw(child.id().cast_signed());
    match seize(pid) {
        Ok(()) => Ok((child, pid)),
        Err(e) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(e)
        }
    }
}

fn seize(pid: Pid) -> nix::Result<()> {
    let stopped = waitpid(pid, Some(WaitPidFlag::WUNTRACED))?;
    assert!(matches!(stopped, WaitStatus::Stopped(..)), "{stopped:?}");
    let follow = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    ptrace::seize(pid, follow)?;
    kill(pid, Signal::SIGCONT)
}

/// What a thread is told when its call comes back.
#[derive(Debug, Clone, Copy)]
enum Return {
    Answer(i64),
    Killed,
}

struct Tracer {
    root: PathBuf,
    script: Script,
    main: Pid,
    open: BTreeMap<Pid, Return>,
    seen: Seen,
    began: bool,
}

impl Tracer {
    fn follow(&mut self) {
        // Only what this thread has started: other tests have children too.
        let ours = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        loop {
            let thread = match waitpid(None, Some(ours)) {
                Ok(WaitStatus::PtraceSyscall(thread)) => {
                    // A thread may be gone at any moment; its next report says so.
                    let _ = self.call(thread);
                    let _ = ptrace::syscall(thread, None);
                    continue;
                }
                Ok(WaitStatus::PtraceEvent(thread, _, event)) => {
                    self.began |= event == ptrace::Event::PTRACE_EVENT_EXEC as i32;
                    thread
                }
                Ok(WaitStatus::Stopped(thread, signal)) => {
                    let _ = ptrace::syscall(thread, signal);
                    continue;
                }
                Ok(WaitStatus::Exited(thread, _) | WaitStatus::Signaled(thread, ..)) if thread == self.main => return,
                Ok(_) => continue,
                Err(_) => return,
            };
            let _ = ptrace::syscall(thread, None);
        }
    }

    fn call(&mut self, thread: Pid) -> nix::Result<()> {
        let entry = ptrace::syscall_info(thread)?.op == 1;
        match self.open.remove(&thread) {
            Some(Return::Answer(answer)) if !entry => {
                let mut registers = ptrace::getregs(thread)?;
                registers.rax = answer.cast_unsigned();
                return ptrace::setregs(thread, registers);
            }
            Some(Return::Killed) if !entry => return kill(self.main, Signal::SIGKILL),
            _ => {}
        }
        if !entry || !self.began {
            return Ok(());
        }
        let mut registers = ptrace::getregs(thread)?;
        let Some((name, file)) = self.changes(registers.orig_rax, registers.rdi) else { return Ok(()) };
        self.seen.calls.push((name, file.clone()));
        let now = self.seen.calls.len() as u64;
        let fault = match self.script {
            Script::Count => return Ok(()),
            Script::At(n, fault) if n == now || (n < now && matches!(fault, Fault::Breaks(_))) => fault,
            Script::At(..) => return Ok(()),
            Script::NoSyncs if SYNCS.contains(&name) => Fault::Fails(0),
            Script::NoSyncs => return Ok(()),
        };
        self.seen.hit.get_or_insert_with(|| format!("{name} {file}"));
        let answer = match fault {
            Fault::Kill => return kill(self.main, Signal::SIGKILL),
            Fault::Fails(error) | Fault::Breaks(error) => {
                registers.orig_rax = u64::MAX;
                Some(Return::Answer(-i64::from(error)))
            }
            Fault::Torn | Fault::Short => {
                if WRITES.contains(&name) && registers.rdx > 1 {
                    registers.rdx /= 2;
                }
                (fault == Fault::Torn).then_some(Return::Killed)
            }
        };
        self.open.extend(answer.map(|answer| (thread, answer)));
        ptrace::setregs(thread, registers)
    }

    /// The name of a call that changes the store, and its file.
    fn changes(&self, number: u64, first: u64) -> Option<(&'static str, String)> {
        let named = |table: &[(u64, &'static str)]| table.iter().find(|(n, _)| *n == number).map(|(_, name)| *name);
        if let Some(name) = named(&ON_NAMES) {
            return Some((name, String::new()));
        }
        let name = named(&ON_FILES)?;
        let file = std::fs::read_link(format!("/proc/{}/fd/{first}", self.main)).ok()?;
        let below = file.strip_prefix(&self.root).ok()?;
        Some((name, below.display().to_string()))
    }
}
