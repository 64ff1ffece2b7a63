//! `log dump --follow`: records as they are acknowledged.
//!
//! # Operation
//! The daemon is asked how far its log is, which costs it nothing, and for the records up to there when it has moved. So nothing is
//! shown that is not on disk, and nobody waits inside the daemon.

use crate::ask::connect;
use crate::cli::{Global, LogDumpArgs};
use crate::commands::{self, Ask};
use crate::exit::{DONE, Outcome, Stop};
use crate::render::{self, Answer, Style};
use crate::socket::Environment;
use proto::{Client, Code, Reply, Request};
use std::io::Write;
use std::ops::ControlFlow;
use std::time::Duration;

/// Between two looks at how far the log is.
const LOOK: Duration = Duration::from_millis(200);

/// Prints what there is, then what comes, until `--to` is reached, the reader goes away, or the daemon does.
///
/// # Errors
/// Those of the connection, also its end (69), and of `out`.
pub fn dump(
    global: &Global,
    environment: &Environment,
    style: Style,
    out: &mut dyn Write,
    args: LogDumpArgs,
) -> Outcome<u8> {
    let last = args.to.unwrap_or(u64::MAX);
    let mut next = args.from.unwrap_or(1).max(1);
    let Ask { mut request, .. } = commands::dump(args);
    let mut client = connect(global, environment, true)?;
    let shown = Ask { request: request.clone(), ..commands::status() };
    let mut answer = Answer::new(&shown, style);
    while next <= last {
        let reached = reached(&mut client)?.min(last);
        if reached < next {
            std::thread::sleep(LOOK);
            continue;
        }
        if let Request::LogDump { from, to, .. } = &mut request {
            (*from, *to) = (Some(next), Some(reached));
        }
        records(&mut client, &request, style, &mut answer, out)?;
        out.flush().map_err(|e| Stop::output(&e))?;
        next = reached.saturating_add(1);
    }
    Ok(DONE)
}

/// The last LSN that readers see.
fn reached(client: &mut Client) -> Outcome<u64> {
    match client.call(&Request::Status).map_err(|e| Stop::Failed(e.failure()))? {
        Reply::Status(status) => Ok(status.applied_lsn),
        other => Err(Stop::new(Code::Protocol, format!("the daemon answered status with {other:?}"))),
    }
}

fn records(
    client: &mut Client,
    request: &Request,
    style: Style,
    answer: &mut Answer<'_>,
    out: &mut dyn Write,
) -> Outcome<()> {
    let mut stopped = None;
    let asked = client.call_stream(request, |part| {
        let printed = match part {
            Reply::Records(records) if style.json => render::record_lines(out, &records),
            part => answer.part(out, part),
        };
        match printed {
            Ok(()) => ControlFlow::Continue(()),
            Err(stop) => {
                stopped = Some(stop);
                ControlFlow::Break(())
            }
        }
    });
    match stopped {
        Some(stop) => Err(stop),
        None => asked.map_err(|e| Stop::Failed(e.failure())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Act, Fake};
    use proto::{Record, Status};

    #[test]
    fn what_comes_is_asked_for_once() {
        let reached = std::sync::atomic::AtomicU64::new(2);
        let fake = Fake::start(move |request| match request {
            Request::Status => {
                let applied_lsn = reached.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                Act::Reply(Reply::Status(Box::new(Status { applied_lsn, ..Status::default() })))
            }
            Request::LogDump { from, to, .. } => {
                let record = |lsn| Record {
                    lsn,
                    time: String::new(),
                    kind: "seal".to_owned(),
                    file: String::new(),
                    offset: 0,
                    bytes: 1,
                    changes: Vec::new(),
                };
                Act::Reply(Reply::Records((from.unwrap()..=to.unwrap()).map(record).collect()))
            }
            other => panic!("{other:?}"),
        });
        let global = Global { data_dir: Some(fake.dir()), ..Global::default() };
        let args = LogDumpArgs { from: Some(2), to: Some(4), since: None, mailbox: None, user: None, follow: true };
        let mut out = Vec::new();
        let style = Style { json: true, tty: false };
        assert_eq!(dump(&global, &Environment::default(), style, &mut out, args).unwrap(), DONE);
        let lines = String::from_utf8(out).unwrap();
        let lsn = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["lsn"].as_u64().unwrap();
        assert_eq!(lines.lines().map(lsn).collect::<Vec<_>>(), [2, 3, 4]);
        let dumps = fake.asked.try_iter().filter(|request| matches!(request, Request::LogDump { .. })).count();
        assert_eq!(dumps, 3);
    }
}
