//! As much of IMAP as it takes to look at what a peer has.

use crate::engines::Failure;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// Longest time until an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A session.
pub struct Imap(BufReader<TcpStream>);

impl Imap {
    /// Logs a user in; the peers take any password here.
    ///
    /// # Errors
    /// If nobody listens, or he may not.
    pub fn login(port: u16, user: &str) -> Result<Imap, Failure> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut imap = Imap(BufReader::new(stream));
        imap.line()?;
        imap.ask(&format!("LOGIN {user} x"))?;
        Ok(imap)
    }

    /// One answer line; what it has of literals follows their length.
    fn line(&mut self) -> Result<Vec<u8>, Failure> {
        let mut line = Vec::new();
        loop {
            if self.0.read_until(b'\n', &mut line)? == 0 {
                return Err(Failure::new("the server closed the session"));
            }
            let text = String::from_utf8_lossy(&line);
            let length =
                text.trim_end().strip_suffix('}').and_then(|t| t.rsplit_once('{')).and_then(|(_, n)| n.parse().ok());
            let Some(length) = length else { return Ok(line) };
            let mut literal = vec![0; length];
            self.0.read_exact(&mut literal)?;
            line.extend(literal);
        }
    }

    /// Sends a command; gives the untagged answers.
    ///
    /// # Errors
    /// If it is refused.
    pub fn ask(&mut self, command: &str) -> Result<Vec<Vec<u8>>, Failure> {
        self.0.get_mut().write_all(format!("a {command}\r\n").as_bytes())?;
        let mut answers = Vec::new();
        loop {
            let line = self.line()?;
            match line.strip_prefix(b"a ") {
                Some(end) if end.starts_with(b"OK") => return Ok(answers),
                Some(end) => {
                    return Err(Failure::new(format!("{command}: {}", String::from_utf8_lossy(end).trim_end())));
                }
                None => answers.push(line),
            }
        }
    }
}

/// The number behind a word in an answer.
pub fn number(answer: &[u8], word: &str) -> Option<u32> {
    let text = String::from_utf8_lossy(answer);
    let rest = text.split_once(word)?.1.trim_start();
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
