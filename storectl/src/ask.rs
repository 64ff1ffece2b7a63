//! One question at a time: the connection, the answer, its exit code.

use crate::cli::Global;
use crate::commands::{self, Ask};
use crate::confirm;
use crate::exit::{NOT_RUNNING, Outcome, Stop};
use crate::offline;
use crate::render::{self, Answer, Style, frame, notes};
use crate::socket::{self, Environment};
use crate::suggest;
use proto::{Client, ClientError, Code, Failure, Reply, Request};
use std::io::Write;
use std::ops::ControlFlow;
use std::time::Duration;

/// Between two prints of `status --watch`.
const WATCH: Duration = Duration::from_secs(2);
/// Between two looks at the size of the terminal.
const LOOK: Duration = Duration::from_millis(100);

/// Connects to the daemon that the options name.
///
/// # Errors
/// Those of the search and of the connection.
pub fn connect(global: &Global, environment: &Environment, long: bool) -> Outcome<Client> {
    let path = socket::path(global, environment)?;
    socket::connect(&path, global.timeout, long).map_err(|e| Stop::Failed(unconnected(global, &e)))
}

/// As [`connect`], for bulk work.
///
/// # Errors
/// As [`connect`].
pub fn connect_bulk(global: &Global, environment: &Environment) -> Outcome<Client> {
    let path = socket::path(global, environment)?;
    socket::connect_bulk(&path, global.timeout).map_err(|e| Stop::Failed(unconnected(global, &e)))
}

/// Why there is no connection, with the very command that starts the daemon where it is known.
pub fn unconnected(global: &Global, error: &ClientError) -> Failure {
    let failure = error.failure();
    match &global.data_dir {
        Some(dir) if is_not_running(error) && global.socket.is_none() => {
            failure.with_hint(format!("start the daemon: storedd --data-dir {}", dir.display()))
        }
        _ => failure,
    }
}

/// Asks one thing and prints the answer.
///
/// # Errors
/// No consent, no connection, a refusal, an answer that breaks off.
pub fn one(global: &Global, environment: &Environment, style: Style, out: &mut dyn Write, ask: &Ask) -> Outcome<u8> {
    if let Some(question) = &ask.question {
        confirm::consent(question)?;
    }
    let path = socket::path(global, environment)?;
    let client = socket::connect(&path, global.timeout, ask.long);
    let mut client = match client {
        Err(e) if ask.request == Request::Status && is_not_running(&e) => {
            return not_running(style, out, &unconnected(global, &e));
        }
        client => client.map_err(|e| Stop::Failed(unconnected(global, &e)))?,
    };
    answer(&mut client, style, out, ask).map_err(|stop| suggest::add(stop, global, environment, &ask.request))
}

/// Asks over a connection that is there and prints the answer.
pub fn answer(client: &mut Client, style: Style, out: &mut dyn Write, ask: &Ask) -> Outcome<u8> {
    let mut answer = Answer::new(ask, style);
    let mut stopped = None;
    let asked = client.call_stream(&ask.request, |part| match answer.part(out, part) {
        Ok(()) => ControlFlow::Continue(()),
        Err(stop) => {
            stopped = Some(stop);
            ControlFlow::Break(())
        }
    });
    match (stopped, asked) {
        (Some(stop), _) => Err(stop),
        (None, Ok(())) => answer.end(out),
        (None, Err(e)) if answer.begun() => {
            out.flush().map_err(|e| Stop::output(&e))?;
            Err(Stop::Broken(e.failure()))
        }
        (None, Err(e)) => Err(Stop::Failed(e.failure())),
    }
}

/// True if there is no daemon, as opposed to one that cannot be reached.
pub fn is_not_running(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. } => error.failure().code == Code::Unavailable,
        ClientError::Lost { .. } => true,
        _ => false,
    }
}

/// `status` has a code of its own for this.
fn not_running(style: Style, out: &mut dyn Write, failure: &Failure) -> Outcome<u8> {
    notes::failure(failure);
    if style.json {
        render::error(out, failure).and_then(|()| out.flush()).map_err(|e| Stop::output(&e))?;
    }
    Ok(NOT_RUNNING)
}

/// `recover --report`: the daemon tells; while there is none, `storedd` looks into the store.
///
/// # Errors
/// As [`one`].
pub fn report(
    global: &Global,
    environment: &Environment,
    style: Style,
    out: &mut dyn Write,
    last: Option<u32>,
) -> Outcome<u8> {
    let path = socket::path(global, environment)?;
    match socket::connect(&path, global.timeout, false) {
        Ok(mut client) => answer(&mut client, style, out, &commands::report(last)),
        Err(e) if is_not_running(&e) => offline_report(global, style, out, last),
        Err(e) => Err(Stop::Failed(e.failure())),
    }
}

fn offline_report(global: &Global, style: Style, out: &mut dyn Write, last: Option<u32>) -> Outcome<u8> {
    let ask = commands::report(last);
    match offline::reports(global, last.unwrap_or(1))? {
        Ok(reports) => {
            let mut answer = Answer::new(&ask, style);
            answer.part(out, Reply::Reports(reports))?;
            answer.end(out)
        }
        // It has told why on standard error.
        Err((code, said)) => {
            if style.json {
                render::text(out, &said)?;
            }
            Ok(code)
        }
    }
}

/// `status --watch`: prints until the daemon or the reader is gone.
///
/// # Errors
/// As [`one`].
pub fn watch(global: &Global, environment: &Environment, style: Style, out: &mut dyn Write) -> Outcome<u8> {
    let ask = commands::status();
    let path = socket::path(global, environment)?;
    let mut connected = socket::connect(&path, global.timeout, false);
    loop {
        let shown = match &mut connected {
            Ok(client) => client.call(&ask.request),
            Err(e) if is_not_running(e) => return not_running(style, out, &unconnected(global, e)),
            Err(e) => return Err(Stop::Failed(e.failure())),
        };
        match shown {
            Ok(reply) => {
                let mut text = Vec::new();
                let mut answer = Answer::new(&ask, style);
                answer.part(&mut text, reply)?;
                answer.end(&mut text)?;
                show_for(WATCH, out, style, &String::from_utf8_lossy(&text))?;
            }
            Err(e) if is_not_running(&e) => return not_running(style, out, &e.failure()),
            Err(e) => return Err(Stop::Failed(e.failure())),
        }
    }
}

/// Shows `text` for so long, and again as soon as the terminal gets another size.
fn show_for(time: Duration, out: &mut dyn Write, style: Style, text: &str) -> Outcome<()> {
    let mut shown = None;
    for _ in 0..time.div_duration_f64(LOOK) as u32 {
        let size = frame::size().filter(|_| style.tty);
        if shown != Some(size) {
            shown = Some(size);
            frame::show(out, style, size, text).map_err(|e| Stop::output(&e))?;
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::DONE;
    use crate::fake::{Act, Fake};
    use proto::{Mailbox, Report};

    const JSON: Style = Style { json: true, tty: false };

    fn global(fake: &Fake) -> Global {
        Global { data_dir: Some(fake.dir()), ..Global::default() }
    }

    fn run(global: &Global, ask: &Ask) -> (Outcome<u8>, String) {
        let mut out = Vec::new();
        let end = one(global, &Environment::default(), JSON, &mut out, ask);
        (end, String::from_utf8(out).unwrap())
    }

    fn verb(words: &str) -> Ask {
        use clap::Parser;
        let words = std::iter::once("storectl").chain(words.split(' '));
        match commands::plan(crate::cli::Cli::try_parse_from(words).unwrap().verb).unwrap() {
            commands::Plan::Ask(ask) => ask,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn status_says_3_and_everything_else_69_while_no_daemon_runs() {
        let dir = tempfile::tempdir().unwrap();
        let nobody = Global { data_dir: Some(dir.path().to_owned()), ..Global::default() };
        let (end, out) = run(&nobody, &verb("status"));
        assert_eq!(end.unwrap(), NOT_RUNNING);
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(value["error"]["code"], "unavailable");
        assert!(value["error"]["hint"].is_string());
        for words in ["health", "user list", "checkpoint"] {
            let (end, out) = run(&nobody, &verb(words));
            assert!(matches!(end, Err(Stop::Failed(f)) if f.code == Code::Unavailable && f.hint.is_some()), "{words}");
            assert_eq!(out, "");
        }
        // A socket nobody listens on any more.
        drop(std::os::unix::net::UnixListener::bind(dir.path().join("control.sock")).unwrap());
        assert_eq!(run(&nobody, &verb("status")).0.unwrap(), NOT_RUNNING);
    }

    #[test]
    fn answers_and_refusals() {
        let fake = Fake::start(|request| match request {
            Request::Status => Act::Reply(Reply::Status(Box::default())),
            Request::Health => Act::Refuse(Failure::new(Code::Unavailable, "recovering")),
            _ => Act::Refuse(Failure::new(Code::NoUser, "no user joe")),
        });
        assert_eq!(run(&global(&fake), &verb("status")).0.unwrap(), DONE);
        for (words, code) in [("health", 69), ("user show joe", 67)] {
            let (end, _) = run(&global(&fake), &verb(words));
            assert!(matches!(end, Err(Stop::Failed(f)) if f.code.exit() == code), "{words}");
        }
    }

    #[test]
    fn a_list_that_breaks_off_is_told_as_such() {
        let mailboxes = || {
            let acl = std::collections::BTreeMap::new();
            let (name, partition, path) = ("a".to_owned(), String::new(), String::new());
            let m = Mailbox { name, id: 1, partition, path, uidvalidity: 1, uidnext: 1, messages: 0, bytes: 0, acl };
            Reply::Mailboxes(vec![m])
        };
        let mut breaks = true;
        let fake = Fake::start(move |_| match std::mem::take(&mut breaks) {
            true => Act::Breaks(vec![mailboxes()], Failure::new(Code::Busy, "stopping")),
            false => Act::Parts(vec![mailboxes(), mailboxes()]),
        });
        let (end, out) = run(&global(&fake), &verb("mailbox list"));
        assert!(matches!(end, Err(Stop::Broken(f)) if f.code == Code::Busy));
        assert!(out.starts_with("[{") && !out.ends_with(']'), "{out}");
        let (end, out) = run(&global(&fake), &verb("mailbox list"));
        assert_eq!(end.unwrap(), DONE);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap().as_array().unwrap().len(), 2);
    }

    #[test]
    fn destructive_verbs_need_consent() {
        let fake = Fake::start(crate::fake::changes());
        // Under a test runner nobody can be asked only if its input is no terminal, so the question is put directly.
        let ask = verb("user delete joe");
        assert_eq!(ask.question.as_deref(), Some("delete the user joe with all mailboxes and messages?"));
        for words in ["user delete joe --yes", "user delete joe --dry-run", "mailbox delete a -y"] {
            assert_eq!(verb(words).question, None, "{words}");
            assert_eq!(run(&global(&fake), &verb(words)).0.unwrap(), DONE, "{words}");
        }
    }

    #[test]
    fn a_report_comes_from_the_daemon_as_one_object() {
        let fake = Fake::start(|_| Act::Reply(Reply::Reports(vec![Report::default(), Report::default()])));
        let mut out = Vec::new();
        let end = report(&global(&fake), &Environment::default(), JSON, &mut out, None);
        assert_eq!(end.unwrap(), DONE);
        assert!(out.starts_with(b"{\"started\""));
        assert_eq!(fake.asked.recv().unwrap(), Request::RecoverReport { last: 1 });
    }
}
