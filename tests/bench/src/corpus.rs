//! Messages of real sizes: nine in ten are as long as a message of `tests/fixtures/mail/eml`, with its header and words of all of them;
//! the tenth has an attachment of 16 to 128 KiB. Every message is another, so that no program packs what mail would not let it pack.

use crate::engines::Failure;
use crate::job::Random;
use std::path::Path;

/// Every so many messages one has an attachment.
const ATTACHED: u64 = 10;
/// Bytes of attachments before they are encoded: from, and by how much more at most.
const ATTACHMENT: (u64, u64) = (12 << 10, 84 << 10);
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// See the page.
#[derive(Debug)]
pub struct Corpus {
    /// Header, and length of the body.
    shapes: Vec<(Vec<u8>, usize)>,
    words: Vec<Vec<u8>>,
}

impl Corpus {
    /// Reads the messages of the repository.
    ///
    /// # Errors
    /// If they are not there.
    pub fn load() -> Result<Corpus, Failure> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/mail/eml");
        let mut paths: Vec<_> = std::fs::read_dir(dir)?.collect::<Result<Vec<_>, _>>()?;
        paths.sort_by_key(std::fs::DirEntry::file_name);
        let (mut shapes, mut words) = (Vec::new(), Vec::new());
        for path in paths {
            let text = std::fs::read(path.path())?;
            let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let (header, body) = text.split_at(end + 2);
            // Lines that any server keeps as they are.
            let is_plain = |line: &&[u8]| line.ends_with(b"\r\n") && line.len() < 990 && line.is_ascii();
            let header: Vec<u8> = header.split_inclusive(|b| *b == b'\n').filter(is_plain).flatten().copied().collect();
            let long = |word: &&[u8]| !word.is_empty() && word.len() < 40 && word.is_ascii();
            words.extend(body.split(u8::is_ascii_whitespace).filter(long).map(<[u8]>::to_vec));
            shapes.push((header, body.len()));
        }
        match shapes.is_empty() || words.is_empty() {
            true => Err(Failure::new("tests/fixtures/mail/eml has no messages")),
            false => Ok(Corpus { shapes, words }),
        }
    }

    /// Message number `n`, as it lies in a file.
    pub fn message(&self, n: u64) -> Vec<u8> {
        let mut random = Random::new(n + 1);
        let mut below = |limit: usize| usize::try_from(random.below(limit as u64)).unwrap_or(0);
        let (header, length) = &self.shapes[below(self.shapes.len())];
        // In front, where a server that looks for the number of a message finds it.
        let mut text = format!("Message-ID: <{n}@bench.example.org>\r\n").into_bytes();
        let unique = header.split_inclusive(|b| *b == b'\n');
        text.extend(unique.filter(|l| !l.to_ascii_lowercase().starts_with(b"message-id:")).flatten());
        text.extend_from_slice(b"\r\n");
        let end = text.len() + length;
        let mut column = 0;
        while text.len() < end {
            let word = &self.words[below(self.words.len())];
            text.extend_from_slice(word);
            column += word.len() + 1;
            match column > 70 {
                true => text.extend_from_slice(b"\r\n"),
                false => text.push(b' '),
            }
            column = if column > 70 { 0 } else { column };
        }
        text.extend_from_slice(b"\r\n");
        if n % ATTACHED == ATTACHED - 1 {
            let (from, more) = ATTACHMENT;
            let lines = (from + below(usize::try_from(more).unwrap_or(0)) as u64) / 57;
            for _ in 0..lines {
                text.extend((0..76).map(|_| ALPHABET[below(64)]));
                text.extend_from_slice(b"\r\n");
            }
        }
        text
    }

    /// The same as it goes over the wire: dots stuffed, ended.
    pub fn on_wire(&self, n: u64) -> Vec<u8> {
        let text = self.message(n);
        let mut wire = Vec::with_capacity(text.len() + 64);
        for line in text.split_inclusive(|b| *b == b'\n') {
            wire.extend(line.starts_with(b".").then_some(b'.'));
            wire.extend_from_slice(line);
        }
        wire.extend_from_slice(b".\r\n");
        wire
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_mail_and_all_different() {
        let corpus = Corpus::load().unwrap();
        let all: Vec<Vec<u8>> = (0..200).map(|n| corpus.message(n)).collect();
        for (n, text) in all.iter().enumerate() {
            assert!(text.ends_with(b"\r\n") && text.windows(4).any(|w| w == b"\r\n\r\n"), "{n}");
            assert!(text.iter().enumerate().all(|(at, b)| *b != b'\n' || text[at - 1] == b'\r'), "{n}");
            assert_eq!(*text, corpus.message(n as u64));
        }
        let mean = all.iter().map(Vec::len).sum::<usize>() / all.len();
        assert!((6000..16_000).contains(&mean), "{mean}");
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 200);
        let wire = corpus.on_wire(0);
        assert!(wire.ends_with(b"\r\n.\r\n"));
    }
}
