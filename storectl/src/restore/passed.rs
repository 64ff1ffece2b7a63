//! Messages that were left out, for their mailboxes have them: from a pipe nobody gets their bytes once more, and references may stand for
//! them. Frames come in order, and most of a mailbox's messages as well, so runs of both say where they are.

/// Runs that are remembered: 20 bytes each. A reference to a message beyond is one for a second run.
const RUNS_MAX: usize = 1_000_000;

/// So many frames, one behind the other, and the messages of a mailbox in them, one UID behind the other.
#[derive(Debug, Clone, Copy)]
struct Run {
    frame: u64,
    uid: u32,
    count: u32,
    /// Number of its name.
    mailbox: u32,
}

/// See the page.
#[derive(Debug, Default)]
pub(super) struct Passed {
    runs: Vec<Run>,
    /// Names of mailboxes, as they came.
    names: Vec<String>,
}

impl Passed {
    /// The message of this frame is there under this UID.
    pub(super) fn add(&mut self, frame: u64, mailbox: &str, uid: u32) {
        let same = self.names.last().is_some_and(|last| last == mailbox);
        let (number, left) = (self.names.len() - usize::from(same), self.runs.len() < RUNS_MAX);
        let Ok(mailbox_number) = u32::try_from(number) else { return };
        match self.runs.last_mut() {
            Some(run) if frame < run.frame + u64::from(run.count) => {}
            Some(run)
                if run.mailbox == mailbox_number
                    && frame == run.frame + u64::from(run.count)
                    && Some(uid) == run.uid.checked_add(run.count) =>
            {
                run.count += 1;
            }
            _ if left => {
                if !same {
                    self.names.push(mailbox.to_owned());
                }
                self.runs.push(Run { frame, uid, count: 1, mailbox: mailbox_number });
            }
            _ => {}
        }
    }

    /// Mailbox and UID of the message of a frame.
    pub(super) fn get(&self, frame: u64) -> Option<(&str, u32)> {
        let at = self.runs.partition_point(|run| run.frame <= frame).checked_sub(1)?;
        let Run { frame: first, uid, count, mailbox } = self.runs[at];
        let within = u32::try_from(frame - first).ok().filter(|within| *within < count)?;
        Some((self.names.get(mailbox as usize)?, uid + within))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_where_they_are_and_grows_by_runs() {
        let mut passed = Passed::default();
        for n in 0..1_000_000u32 {
            passed.add(u64::from(n) + 10, if n < 600_000 { "a" } else { "b" }, n + 1);
        }
        assert_eq!((passed.runs.len(), passed.names.len()), (2, 2));
        assert_eq!(
            [9, 10, 600_009, 600_010, 1_000_009, 1_000_010].map(|frame| passed.get(frame)),
            [None, Some(("a", 1)), Some(("a", 600_000)), Some(("b", 600_001)), Some(("b", 1_000_000)), None]
        );
        // Gaps of frames and of UIDs, a mailbox once more, and a frame of an earlier place.
        passed.add(2_000_000, "b", 1_000_001);
        passed.add(2_000_001, "b", 7);
        passed.add(2_000_002, "a", 8);
        passed.add(5, "a", 5);
        assert_eq!(
            [1_999_999, 2_000_000, 2_000_001, 2_000_002, 5].map(|frame| passed.get(frame)),
            [None, Some(("b", 1_000_001)), Some(("b", 7)), Some(("a", 8)), None]
        );
    }

    #[test]
    fn it_is_bounded() {
        let mut passed = Passed::default();
        (0..RUNS_MAX as u64 + 1000).for_each(|n| passed.add(2 * n, "a", 1));
        assert_eq!(
            (passed.runs.len(), passed.get(0), passed.get(2 * RUNS_MAX as u64)),
            (RUNS_MAX, Some(("a", 1)), None)
        );
    }
}
