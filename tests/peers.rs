//! Beside programs of others. These tests need Debian packages and root, and are ignored unless asked for: `.ci/peers` installs
//! what they need and runs them, and there nothing is skipped.

use crate::harness::{PATIENCE, TestStore, run, until};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Messages that go through Postfix.
const MESSAGES: usize = 2000;
/// How often the daemon is killed meanwhile.
const KILLS: usize = 10;

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A Postfix of its own, with its configuration, queue and log in one directory.
struct Postfix {
    dir: PathBuf,
    smtp: SocketAddr,
}

impl Postfix {
    /// Delivers to `lmtp`, an address of a transport, with an LMTP client that is in its chroot (`y`) or not (`n`).
    fn start(dir: PathBuf, lmtp: &str, chroot: &str) -> Postfix {
        let smtp = free_port();
        for name in ["etc", "spool", "lib"] {
            std::fs::create_dir_all(dir.join(name)).unwrap();
        }
        let shown = dir.display();
        let main = format!(
            "compatibility_level = 3.6\nqueue_directory = {shown}/spool\ndata_directory = {shown}/lib\n\
             command_directory = /usr/sbin\ndaemon_directory = /usr/lib/postfix/sbin\nmail_owner = postfix\n\
             setgid_group = postdrop\nmaillog_file = {shown}/mail.log\nmaillog_file_prefixes = {shown}\n\
             myhostname = mx.example.org\nmydestination =\nlocal_recipient_maps =\ninet_interfaces = 127.0.0.1\n\
             inet_protocols = ipv4\nmynetworks = 127.0.0.0/8\nalias_maps =\nalias_database =\n\
             smtpd_recipient_restrictions = permit_mynetworks, reject\nsmtpd_relay_restrictions = permit_mynetworks, reject\n\
             virtual_mailbox_domains = example.org\nvirtual_mailbox_maps = static:any\n\
             virtual_transport = lmtp:{lmtp}\nminimal_backoff_time = 1s\nmaximal_backoff_time = 2s\n\
             queue_run_delay = 1s\ntransport_retry_time = 1s\nbounce_queue_lifetime = 0\n\
             default_destination_concurrency_failed_cohort_limit = 1000000\nsmtpd_client_connection_count_limit = 0\n\
             local_header_rewrite_clients =\ndisable_mime_output_conversion = yes\n"
        );
        std::fs::write(dir.join("etc/main.cf"), main).unwrap();
        let services = [
            "pickup unix n - n 60 1 pickup",
            "cleanup unix n - n - 0 cleanup",
            "qmgr unix n - n 1 1 qmgr",
            "tlsmgr unix - - n 1000? 1 tlsmgr",
            "rewrite unix - - n - - trivial-rewrite",
            "bounce unix - - n - 0 bounce",
            "defer unix - - n - 0 bounce",
            "trace unix - - n - 0 bounce",
            "verify unix - - n - 1 verify",
            "flush unix n - n 1000? 0 flush",
            "proxymap unix - - n - - proxymap",
            "error unix - - n - - error",
            "retry unix - - n - - error",
            "discard unix - - n - - discard",
            "anvil unix - - n - 1 anvil",
            "scache unix - - n - 1 scache",
            "postlog unix-dgram n - n - 1 postlogd",
        ];
        let services = services.join("\n");
        let master = format!("{smtp} inet n - n - - smtpd\nlmtp unix - - {chroot} - - lmtp\n{services}\n");
        std::fs::write(dir.join("etc/master.cf"), master).unwrap();
        std::fs::write(dir.join("mail.log"), "").unwrap();
        let owner = run(Command::new("chown").arg("postfix").arg(dir.join("lib")), None);
        assert_eq!(owner.status, 0, "{owner:?}");
        let postfix = Postfix { dir, smtp };
        let started = postfix.run("start");
        assert_eq!(started.status, 0, "{started:?}\n{}", postfix.log());
        until("Postfix listens", || TcpStream::connect(smtp).ok());
        postfix
    }

    fn run(&self, verb: &str) -> crate::harness::Run {
        run(Command::new("/usr/sbin/postfix").arg("-c").arg(self.dir.join("etc")).arg(verb), None)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("mail.log")).unwrap_or_default()
    }

    /// A client, greeted.
    fn client(&self) -> BufReader<TcpStream> {
        let mut smtp = BufReader::new(TcpStream::connect(self.smtp).unwrap());
        smtp.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
        let mut line = String::new();
        smtp.read_line(&mut line).unwrap();
        smtp.get_mut().write_all(b"HELO client\r\n").unwrap();
        smtp.read_line(&mut line).unwrap();
        smtp
    }

    /// The numbers of messages, by the ids under which they stand in the queue.
    fn numbers(log: &str) -> BTreeMap<String, usize> {
        let line = |line: &str| {
            let (head, id) = line.split_once(": message-id=<")?;
            let number = id.strip_suffix("@test>")?.parse().ok()?;
            Some((head.rsplit(' ').next()?.to_owned(), number))
        };
        log.lines().filter_map(line).collect()
    }

    /// Which message was logged as sent to whom.
    fn sent(&self) -> BTreeSet<(usize, String)> {
        let log = self.log();
        let numbers = Postfix::numbers(&log);
        let line = |line: &str| {
            let (head, rest) = line.split_once(": to=<")?;
            let id = head.rsplit(' ').next()?;
            rest.contains("status=sent").then_some(())?;
            Some((*numbers.get(id)?, rest.split('@').next()?.to_owned()))
        };
        log.lines().filter_map(line).collect()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        let _ = self.run("abort");
    }
}

/// Gives a message to Postfix by SMTP.
fn send(smtp: &mut BufReader<TcpStream>, to: &[String], message: &[u8]) {
    let mut ask = |line: &[u8], expected: &str| {
        smtp.get_mut().write_all(line).unwrap();
        loop {
            let mut reply = String::new();
            smtp.read_line(&mut reply).unwrap();
            assert!(reply.starts_with(expected), "{reply}");
            if reply.as_bytes().get(3) == Some(&b' ') {
                return;
            }
        }
    };
    ask(b"MAIL FROM:<sender@example.net>\r\n", "250");
    to.iter().for_each(|to| ask(format!("RCPT TO:<{to}@example.org>\r\n").as_bytes(), "250"));
    ask(b"DATA\r\n", "354");
    ask(&crate::harness::lmtp::stuffed(message), "250");
}

/// Message number `n`: a number by which it is found again, behind it a real message or a generated one.
fn message(n: usize, corpus: &[Vec<u8>]) -> Vec<u8> {
    let head = format!("Message-ID: <{n}@test>\r\nX-Number: {n}\r\n");
    let rest = match n % 4 {
        0 => corpus[n / 4 % corpus.len()].clone(),
        _ => format!("Subject: {n}\r\n\r\n{}\r\n", format!("line {n}\r\n").repeat(n % 400)).into_bytes(),
    };
    [head.into_bytes(), rest].concat()
}

/// Real messages, with the line ends and the lengths of line that come through any mail system as they are.
fn corpus() -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mail/eml");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let all = paths.iter().map(|path| std::fs::read(path).unwrap());
    let plain = |text: &Vec<u8>| {
        let lines: Vec<&[u8]> = text.split_inclusive(|b| *b == b'\n').collect();
        let header_names = lines[0].iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'-').count();
        lines.iter().all(|line| line.ends_with(b"\r\n") && line.len() < 990 && !line[..line.len() - 2].contains(&b'\r'))
            && !text.contains(&0)
            && lines[0].get(header_names) == Some(&b':')
            // Postfix takes these headers out.
            && !["\nreturn-path:", "\nbcc:", "\ncontent-length:", "\nresent-bcc:"]
                .iter()
                .any(|name| format!("\n{}", String::from_utf8_lossy(text).to_lowercase()).contains(name))
    };
    let chosen: Vec<Vec<u8>> = all.filter(plain).collect();
    assert!(chosen.len() >= 10, "{} real messages", chosen.len());
    chosen
}

// B14: whatever Postfix was told is stored is there, also if the daemon is killed again and again
#[test]
#[ignore = "needs Postfix and root: .ci/peers runs it"]
fn postfix_delivers_through_ten_kills() {
    assert!(Path::new("/usr/sbin/postfix").exists(), "Postfix is not installed: apt-get install postfix");
    let store = TestStore::new();
    let top = store.beside("");
    std::fs::set_permissions(&top, std::fs::Permissions::from_mode(0o755)).unwrap();
    let lmtp = free_port();
    let config = store.beside("storedd.toml");
    std::fs::write(&config, format!("[log]\nsegment_size = \"4MiB\"\n[lmtp]\nlisten = \"{lmtp}\"\n")).unwrap();
    let start = || store.start_with(&["--config", config.to_str().unwrap()]);
    let mut daemon = start();
    let users: Vec<String> = (0..8).map(|n| format!("user{n}")).collect();
    for user in &users {
        store.ctl(&["user", "add", &format!("{user}@example.org")]).expect(0);
    }
    let postfix = Postfix::start(store.beside("postfix"), &format!("inet:127.0.0.1:{}", lmtp.port()), "n");
    let corpus = corpus();
    let mut smtp = postfix.client();
    let mut expected = BTreeSet::new();
    for n in 0..MESSAGES {
        let to: Vec<String> = (0..1 + n % 3).map(|at| users[(n + at) % users.len()].clone()).collect();
        send(&mut smtp, &to, &message(n, &corpus));
        expected.extend(to.into_iter().map(|user| (n, user)));
        if n % (MESSAGES / KILLS) == MESSAGES / KILLS / 2 {
            daemon.kill();
            daemon = start();
        }
    }
    let begun = Instant::now();
    let sent = loop {
        let sent = postfix.sent();
        if sent.len() >= expected.len() || begun.elapsed() > 5 * PATIENCE {
            break sent;
        }
        std::thread::sleep(Duration::from_millis(500));
    };
    assert_eq!(sent.len(), expected.len(), "all of it was delivered in the end");
    let mut copies = 0;
    for user in &users {
        let mailbox = format!("user/{user}@example.org/INBOX");
        let list = store.json(&["message", "list", &mailbox]);
        let mut found: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        for entry in list.as_array().unwrap() {
            let mut show = Command::new(env!("CARGO_BIN_EXE_storectl"));
            show.arg("--data-dir").arg(&store.data).args(["message", "show", &mailbox]);
            let bytes = show.arg(entry["uid"].to_string()).arg("--raw").output().unwrap().stdout;
            let text = String::from_utf8_lossy(&bytes);
            let number = text.split("X-Number: ").nth(1).unwrap().lines().next().unwrap().trim().parse().unwrap();
            copies += usize::from(found.insert(number, bytes).is_some());
        }
        for (n, _) in sent.iter().filter(|(_, to)| to == user) {
            let bytes = found.get(n).unwrap_or_else(|| panic!("message {n} for {user} was sent and is not there"));
            assert!(bytes.ends_with(&message(*n, &corpus)), "message {n} for {user} is another");
        }
    }
    println!("{} deliveries of {MESSAGES} messages, {KILLS} kills, {copies} second copies", sent.len());
    assert!(copies <= KILLS * 100, "a second copy comes only of a reply that was cut off: {copies}");
    drop(postfix);
    assert_eq!(daemon.stop(), 0);
}

// B14: docs/mail.md: the socket is reached by a client outside of its chroot, and, below the queue directory, by one inside; with
// the rights of a group, as the service gives them.
#[test]
#[ignore = "needs Postfix and root: .ci/peers runs it"]
fn postfix_delivers_over_a_socket() {
    assert!(Path::new("/usr/sbin/postfix").exists(), "Postfix is not installed: apt-get install postfix");
    for chroot in ["n", "y"] {
        let store = TestStore::new();
        std::fs::set_permissions(store.beside(""), std::fs::Permissions::from_mode(0o755)).unwrap();
        let dir = store.beside("postfix");
        let run_dir = dir.join("spool/storedd");
        std::fs::create_dir_all(&run_dir).unwrap();
        let socket = run_dir.join("lmtp.sock");
        let config = store.beside("storedd.toml");
        std::fs::write(&config, format!("[lmtp]\nsocket = {socket:?}\n")).unwrap();
        let daemon = store.start_with(&["--config", config.to_str().unwrap()]);
        store.ctl(&["user", "add", "joe@example.org"]).expect(0);
        for path in [&run_dir, &socket] {
            let given = run(Command::new("chgrp").arg("postfix").arg(path), None);
            assert_eq!(given.status, 0, "{given:?}");
        }
        std::fs::set_permissions(&run_dir, std::fs::Permissions::from_mode(0o750)).unwrap();
        assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
        let seen = if chroot == "y" { "/storedd/lmtp.sock".to_owned() } else { socket.display().to_string() };
        let postfix = Postfix::start(dir, &format!("unix:{seen}"), chroot);
        let mut smtp = postfix.client();
        let corpus = corpus();
        (0..20).for_each(|n| send(&mut smtp, &["joe".to_owned()], &message(n, &corpus)));
        until("all are sent", || (postfix.sent().len() == 20).then_some(()));
        let list = store.json(&["message", "list", "user/joe@example.org/INBOX"]);
        assert_eq!(list.as_array().unwrap().len(), 20, "chroot {chroot}");
        drop(postfix);
        assert_eq!(daemon.stop(), 0);
    }
}
