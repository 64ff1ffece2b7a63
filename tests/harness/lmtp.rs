//! A client for LMTP that says exactly what it is told to say.

use super::PATIENCE;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// One session.
pub struct Lmtp {
    stream: BufReader<Box<dyn Stream>>,
}

impl Lmtp {
    /// Connects to a Unix socket and takes the greeting.
    pub fn unix(path: &Path) -> Lmtp {
        let stream = UnixStream::connect(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Lmtp::greeted(Box::new(stream))
    }

    /// Connects to a port and takes the greeting.
    pub fn tcp(address: SocketAddr) -> Lmtp {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Lmtp::greeted(Box::new(stream))
    }

    fn greeted(stream: Box<dyn Stream>) -> Lmtp {
        let mut session = Lmtp { stream: BufReader::new(stream) };
        let greeting = session.reply();
        assert!(greeting.starts_with("220 "), "{greeting}");
        session.ask("LHLO client.example");
        session
    }

    /// Sends bytes as they are; who has gone does not take them.
    pub fn send(&mut self, bytes: &[u8]) {
        match self.stream.get_mut().write_all(bytes) {
            Err(e) if !has_gone(&e) => panic!("{e}"),
            _ => {}
        }
    }

    /// The last line of the next reply; empty if the other side has gone.
    pub fn reply(&mut self) -> String {
        loop {
            let mut line = String::new();
            match self.stream.read_line(&mut line) {
                Err(e) if has_gone(&e) => return String::new(),
                read => read.unwrap(),
            };
            if line.as_bytes().get(3) != Some(&b'-') {
                return line.trim_end().to_owned();
            }
        }
    }

    /// Sends a line and takes the reply; empty if the other side has gone.
    pub fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n").as_bytes());
        self.reply()
    }

    /// Begins a transaction; the replies to each recipient.
    pub fn begin(&mut self, to: &[&str]) -> Vec<String> {
        assert_eq!(self.ask("MAIL FROM:<sender@example.net>"), "250 2.1.0 ok");
        to.iter().map(|to| self.ask(&format!("RCPT TO:<{to}>"))).collect()
    }

    /// A whole transaction whose recipients are all taken: one reply for each.
    pub fn deliver(&mut self, to: &[&str], message: &[u8]) -> Vec<String> {
        for reply in self.begin(to) {
            assert_eq!(reply, "250 2.1.5 ok");
        }
        assert!(self.ask("DATA").starts_with("354 "));
        self.send(&stuffed(message));
        to.iter().map(|_| self.reply()).collect()
    }
}

fn has_gone(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset)
}

/// A message as it stands behind DATA.
pub fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, byte) in message.iter().enumerate() {
        if *byte == b'.' && (at == 0 || message[..at].ends_with(b"\r\n")) {
            out.push(b'.');
        }
        out.push(*byte);
    }
    if !message.is_empty() && !message.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}
