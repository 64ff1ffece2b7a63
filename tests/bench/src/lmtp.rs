//! LMTP sessions that deliver, one thread each: the same client for every server, without pipelining, as `smtp-source` is.

use crate::engines::Failure;
use crate::hist::Histogram;
use crate::job::Random;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Longest time until an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// One session, greeted.
pub struct Session {
    inbox: BufReader<TcpStream>,
    line: String,
}

impl Session {
    /// Connects to a port on loopback and says `LHLO`.
    ///
    /// # Errors
    /// If nobody listens, or the answer is not what it should be.
    pub fn open(port: u16) -> Result<Session, Failure> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut session = Session { inbox: BufReader::new(stream), line: String::new() };
        session.expect("the greeting", '2')?;
        session.ask(b"LHLO bench.example.org\r\n", '2')?;
        Ok(session)
    }

    /// Reads an answer, all its lines.
    fn expect(&mut self, to: &str, digit: char) -> Result<(), Failure> {
        loop {
            self.line.clear();
            if self.inbox.read_line(&mut self.line)? == 0 {
                return Err(Failure::new("the server closed the session"));
            }
            if self.line.as_bytes().get(3) != Some(&b'-') {
                break;
            }
        }
        match self.line.starts_with(digit) {
            true => Ok(()),
            false => Err(Failure::new(format!("{}: {}", to.trim_end(), self.line.trim_end()))),
        }
    }

    fn ask(&mut self, line: &[u8], digit: char) -> Result<(), Failure> {
        self.inbox.get_mut().write_all(line)?;
        self.expect(&String::from_utf8_lossy(&line[..line.len().min(100)]), digit)
    }

    /// Delivers a message (dot-stuffed, ended) to one user.
    ///
    /// # Errors
    /// If the server does not take it.
    pub fn deliver(&mut self, user: &str, message: &[u8]) -> Result<(), Failure> {
        self.ask(b"MAIL FROM:<bench@example.org>\r\n", '2')?;
        self.ask(format!("RCPT TO:<{user}@example.org>\r\n").as_bytes(), '2')?;
        self.ask(b"DATA\r\n", '3')?;
        self.inbox.get_mut().write_all(message)?;
        self.expect("message", '2')
    }
}

/// A message of so many bytes as it goes over the wire, with its end.
pub fn message(bytes: usize, random: &mut Random) -> Vec<u8> {
    let mut text = format!(
        "From: bench@example.org\r\nTo: somebody@example.org\r\nSubject: {0:016x}\r\nMessage-ID: <{0:016x}@bench.example.org>\r\n\r\n",
        random.below(u64::MAX)
    )
    .into_bytes();
    while text.len() < bytes {
        // Letters that do not compress to nothing, in lines of 76.
        let line = (0..74).map(|_| b'a' + random.below(26) as u8);
        text.extend(line);
        text.extend_from_slice(b"\r\n");
    }
    text.truncate(bytes.saturating_sub(2));
    text.extend_from_slice(b"\r\n.\r\n");
    text
}

/// What a run of deliverers showed.
#[derive(Debug, Default)]
pub struct Delivered {
    /// Messages answered in the counted time.
    pub messages: u64,
    /// Counted seconds.
    pub seconds: f64,
    /// Latency of a message, from `MAIL` to the answer after its data.
    pub latency: Histogram,
}

/// Name of one of the users who get mail.
pub fn user(n: u64) -> String {
    format!("bench{n:03}")
}

/// Lets `sessions` deliver to `users` users for a while, each its next message when the last one was answered.
///
/// # Errors
/// The first refusal or failure.
pub fn run(port: u16, sessions: usize, users: u64, bytes: usize, time: Duration) -> Result<Delivered, Failure> {
    let (stop, messages) = (AtomicBool::new(false), AtomicU64::new(0));
    let one = |n: usize| -> Result<Histogram, Failure> {
        let mut random = Random::new(n as u64 + 1);
        let texts: Vec<Vec<u8>> = (0..8).map(|_| message(bytes, &mut random)).collect();
        let (mut session, mut latency, mut turn) = (Session::open(port)?, Histogram::default(), n);
        while !stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            session.deliver(&user(random.below(users)), &texts[turn % texts.len()])?;
            latency.record(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
            messages.fetch_add(1, Ordering::Relaxed);
            turn += 1;
        }
        Ok(latency)
    };
    let begun = Instant::now();
    let latency = std::thread::scope(|scope| {
        let one = &one;
        let deliverers: Vec<_> = (0..sessions).map(|n| scope.spawn(move || one(n))).collect();
        while begun.elapsed() < time && deliverers.iter().any(|d| !d.is_finished()) {
            std::thread::sleep(Duration::from_millis(5));
        }
        stop.store(true, Ordering::Relaxed);
        let mut all = Histogram::default();
        for deliverer in deliverers {
            all.merge(&deliverer.join().map_err(|_| Failure::new("a deliverer panicked"))??);
        }
        Ok::<_, Failure>(all)
    })?;
    Ok(Delivered { messages: messages.into_inner(), seconds: begun.elapsed().as_secs_f64(), latency })
}
