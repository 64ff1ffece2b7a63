//! What the door answers: a code, an enhanced status code (RFC 2034, RFC 3463), a text.

use std::borrow::Cow;

/// Longest text of a reply in bytes; a reply line has at most 512 (RFC 5321 4.5.3.1.5).
const TEXT_BYTES_MAX: usize = 400;

/// One reply of one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Three digits; 250 and below 400 is taken, 4xx is to be tried again, 5xx is refused for good.
    pub code: u16,
    /// Enhanced status code, such as `4.2.2`.
    pub status: &'static str,
    /// For people.
    pub text: Cow<'static, str>,
}

impl Reply {
    /// A reply.
    #[must_use]
    pub fn new(code: u16, status: &'static str, text: impl Into<Cow<'static, str>>) -> Reply {
        Reply { code, status, text: text.into() }
    }

    /// True for 2xx.
    #[must_use]
    pub fn is_done(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// Writes it as one line. What would break the line, or is not ASCII, becomes `?`.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{} {} ", self.code, self.status).as_bytes());
        let shown = |c: char| if matches!(c, ' '..='~') { c as u8 } else { b'?' };
        out.extend(self.text.chars().take(TEXT_BYTES_MAX).map(shown));
        out.extend_from_slice(b"\r\n");
    }
}

/// Why mail for a recipient was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Nobody has this address.
    Unknown,
    /// He has no INBOX, and no other place was named.
    NoInbox,
    /// His quota, or that of a mailbox, is used up.
    OverQuota,
    /// The store does not take changes now: it recovers, stops, or waits for a person.
    NotReady(&'static str),
    /// The disk is full.
    NoSpace,
    /// Somebody holds the mailbox, or too much is at work.
    Busy,
    /// Longer than the store takes.
    TooLarge,
    /// Anything else; the log has an event that says what.
    Failed,
    /// The disk failed, or the daemon ends, before it was known: it may be there twice when it has been sent again.
    Unclear,
}

impl Refused {
    /// A word for counters and log lines.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Refused::Unknown => "unknown",
            Refused::NoInbox => "no_inbox",
            Refused::OverQuota => "over_quota",
            Refused::NotReady(_) => "not_ready",
            Refused::NoSpace => "no_space",
            Refused::Busy => "busy",
            Refused::TooLarge => "too_large",
            Refused::Failed => "failed",
            Refused::Unclear => "unclear",
        }
    }

    /// The reply. All but an unknown recipient and a message that will never fit are to be tried again, so that the sender
    /// keeps the mail; a recipient over quota is refused for good if `bounce` says so.
    #[must_use]
    pub fn reply(&self, bounce: bool) -> Reply {
        match self {
            Refused::Unknown => Reply::new(550, "5.1.1", "no such recipient here"),
            Refused::NoInbox => Reply::new(451, "4.2.0", "the recipient has no INBOX"),
            Refused::OverQuota if bounce => Reply::new(552, "5.2.2", "the mailbox is full"),
            Refused::OverQuota => Reply::new(452, "4.2.2", "the mailbox is full"),
            Refused::NotReady(why) => Reply::new(451, "4.3.2", *why),
            Refused::NoSpace => Reply::new(451, "4.3.1", "the store is full"),
            Refused::Busy => Reply::new(451, "4.3.2", "busy"),
            Refused::TooLarge => Reply::new(552, "5.3.4", "the message is too large"),
            Refused::Failed => Reply::new(451, "4.3.0", "the message could not be stored"),
            Refused::Unclear => {
                Reply::new(451, "4.3.0", "it is not known whether the message was stored; try again later")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_one_line_whatever_it_says() {
        let mut out = Vec::new();
        Reply::new(550, "5.1.1", "a\r\n250 ok \u{e4}\u{0}").put(&mut out);
        assert_eq!(out, b"550 5.1.1 a??250 ok ??\r\n");
        let mut out = Vec::new();
        Reply::new(550, "5.1.1", "\u{e4}".repeat(10_000)).put(&mut out);
        assert!(out.len() <= 512 && out.ends_with(b"?\r\n"));
    }

    #[test]
    fn only_what_can_never_be_taken_is_refused_for_good() {
        let temporary = [
            Refused::NoInbox,
            Refused::OverQuota,
            Refused::NotReady("x"),
            Refused::NoSpace,
            Refused::Busy,
            Refused::Failed,
            Refused::Unclear,
        ];
        for refused in temporary {
            let reply = refused.reply(false);
            assert!((400..500).contains(&reply.code) && reply.status.starts_with('4'), "{refused:?}");
        }
        for refused in [Refused::Unknown, Refused::TooLarge] {
            let reply = refused.reply(false);
            assert!((500..600).contains(&reply.code) && reply.status.starts_with('5'), "{refused:?}");
        }
        assert_eq!(Refused::OverQuota.reply(false), Reply::new(452, "4.2.2", "the mailbox is full"));
        assert_eq!(Refused::OverQuota.reply(true), Reply::new(552, "5.2.2", "the mailbox is full"));
    }
}
