//! The bytes of a message behind DATA.
//!
//! # Rules
//! The message ends with CR LF `.` CR LF and with nothing else, and a leading dot is removed from a line only behind CR LF. A
//! bare CR, a bare LF and a NUL are bytes of the message like any other, kept as they came: were one of them taken for the end of a
//! line here and not by the sender, one message could carry another past him. The CR LF before the last dot belongs to the
//! message.

/// What has come of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Decoder {
    /// Behind CR LF, or at the beginning.
    #[default]
    LineStart,
    /// Within a line.
    Line,
    /// Behind a CR.
    Cr,
    /// Behind a dot that begins a line.
    Dot,
    /// Behind a dot that begins a line, and a CR.
    DotCr,
}

impl Decoder {
    /// Takes bytes from the beginning of `input` and puts those of the message to `out`. Gives how many it took, and
    /// whether the message has ended with them; all, if it has not.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, bool) {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match (*self, byte) {
                (Decoder::LineStart, b'.') => *self = Decoder::Dot,
                (Decoder::DotCr, b'\n') => {
                    *self = Decoder::LineStart;
                    return (at + 1, true);
                }
                (Decoder::Dot, b'\r') => *self = Decoder::DotCr,
                (Decoder::DotCr, _) => {
                    // The dot was stuffed, and the CR is one of the message; this byte is looked at again behind it.
                    out.push(b'\r');
                    *self = Decoder::Cr;
                    continue;
                }
                (Decoder::Cr, b'\n') => {
                    out.push(byte);
                    *self = Decoder::LineStart;
                }
                (_, b'\r') => {
                    out.push(byte);
                    *self = Decoder::Cr;
                }
                _ => {
                    let run = input[at..].iter().position(|b| *b == b'\r').unwrap_or(input.len() - at);
                    out.extend_from_slice(&input[at..at + run]);
                    *self = Decoder::Line;
                    at += run;
                    continue;
                }
            }
            at += 1;
        }
        (at, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message and what is left behind it; `None` if it does not end.
    fn decode(input: &[u8], step: usize) -> Option<(Vec<u8>, Vec<u8>)> {
        let (mut decoder, mut out, mut at) = (Decoder::default(), Vec::new(), 0);
        while at < input.len() {
            let piece = &input[at..input.len().min(at + step)];
            let (took, over) = decoder.decode(piece, &mut out);
            at += took;
            if over {
                return Some((out, input[at..].to_vec()));
            }
            assert_eq!(took, piece.len());
        }
        None
    }

    #[test]
    fn messages_end_with_a_dot_between_line_ends_alone() {
        for (input, message, rest) in [
            (&b"a\r\nb\r\n.\r\nQUIT"[..], &b"a\r\nb\r\n"[..], &b"QUIT"[..]),
            (b".\r\n", b"", b""),
            (b"\r\n.\r\n", b"\r\n", b""),
            (b"..\r\n.\r\n", b".\r\n", b""),
            (b"...x\r\n.x\r\n.\r\n", b"..x\r\nx\r\n", b""),
            (b"a\n.\n.\r\nb\r\n.\r\n", b"a\n.\n.\r\nb\r\n", b""),
            (b"a\r.\r.\r\nb\r\n.\r\n", b"a\r.\r.\r\nb\r\n", b""),
            (b"a\r\n.\rb\r\n.\r\n", b"a\r\n\rb\r\n", b""),
            (b"a\r\n.\r\r\n.\r\n", b"a\r\n\r\r\n", b""),
            (b"a\r\n.\nb\r\n.\r\n", b"a\r\n\nb\r\n", b""),
            (b"a\0b\r\n.\r\n", b"a\0b\r\n", b""),
            (b"a\r\r\n.\r\n", b"a\r\r\n", b""),
        ] {
            for step in 1..=input.len() {
                let found = decode(input, step);
                assert_eq!(found, Some((message.to_vec(), rest.to_vec())), "{:?} by {step}", input.escape_ascii());
            }
        }
    }

    /// What smugglers send for the end of a message (CVE-2023-51764 and its like).
    #[test]
    fn nothing_else_is_an_end() {
        let ends: [&[u8]; 12] = [
            b"\n.\n",
            b"\n.\r\n",
            b"\r.\r",
            b"\r.\r\n",
            b"\r\n.\n",
            b"\r\n.\r",
            b"\r\n\0.\r\n",
            b"\r\n.\0\r\n",
            b"\n\r.\r\n",
            b"\r\n.\r\r\n",
            b"\r\n..\r\n",
            b"\r\n. \r\n",
        ];
        for end in ends {
            let input = [b"x", end, b"MAIL FROM:<a@b>\r\n"].concat();
            for step in 1..=input.len() {
                assert_eq!(decode(&input, step), None, "{:?} by {step}", end.escape_ascii());
            }
        }
    }

    #[test]
    fn what_is_stuffed_comes_out_as_it_was() {
        // Every text of five of these bytes, stuffed as a client does it.
        let bytes = [b'.', b'\r', b'\n', b'a'];
        for n in 0..bytes.len().pow(5) {
            let mut message: Vec<u8> = (0..5).map(|at| bytes[n / bytes.len().pow(at) % bytes.len()]).collect();
            message.extend_from_slice(b"\r\n");
            let mut wire = Vec::new();
            for at in 0..message.len() {
                if message[at] == b'.' && (at == 0 || message[..at].ends_with(b"\r\n")) {
                    wire.push(b'.');
                }
                wire.push(message[at]);
            }
            wire.extend_from_slice(b".\r\n");
            for step in [1, 2, 3, wire.len()] {
                assert_eq!(decode(&wire, step), Some((message.clone(), Vec::new())), "{:?}", message.escape_ascii());
            }
        }
    }
}
