use super::*;
use crate::fake::{Act, Fake, changes};
use proto::{Reply, Status};
use std::sync::{Arc, Mutex};

const JSON: Style = Style { json: true, tty: false };
const TEXT: Style = Style { json: false, tty: false };

/// Runs a batch over an input file; gives its end and what it printed.
fn batch(fake: &Fake, input: &[u8], style: Style, atomic: bool) -> (Outcome<u8>, String) {
    let file = fake.dir().join("lines");
    #[expect(clippy::disallowed_methods, reason = "a test")]
    std::fs::write(&file, input).unwrap();
    let mut out = Vec::new();
    let input = files::open(&file).unwrap();
    let end = run(&BatchArgs { atomic, file }, input, fake.client(), style, &mut out);
    (end, String::from_utf8(out).unwrap())
}

fn failure(end: Outcome<u8>) -> Failure {
    match end {
        Err(Stop::Failed(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

#[test]
fn results_come_in_order_and_refused_lines_do_not_stop_the_rest() {
    let fake = Fake::start(changes());
    let input = b"mailbox create a\nmailbox create bad\nnonsense\nmailbox create 'b c'\n";
    let (end, out) = batch(&fake, input, JSON, false);
    assert_eq!(end.unwrap(), PARTLY);
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4);
    assert_eq!((lines[0]["lsn"].as_u64(), lines[0]["name"].as_str()), (Some(1), Some("a")));
    assert_eq!(lines[1]["error"]["code"], "bad_input");
    assert_eq!(lines[2]["error"]["code"], "usage");
    assert_eq!((lines[3]["lsn"].as_u64(), lines[3]["name"].as_str()), (Some(2), Some("b c")));
    let (end, out) = batch(&fake, input, TEXT, false);
    assert_eq!(end.unwrap(), PARTLY);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "ok line 1: created mailbox a (LSN 3)");
    assert_eq!(lines[1], "error: line 2: a bad name; next: choose a better one");
    assert!(lines[2].starts_with("error: line 3: unrecognized subcommand 'nonsense'"), "{out}");
}

#[test]
fn a_batch_without_refusals_ends_with_zero() {
    let fake = Fake::start(changes());
    let (end, out) = batch(&fake, b"# nothing\n\nmailbox create a", JSON, false);
    assert_eq!((end.unwrap(), out.lines().count()), (DONE, 1));
    assert_eq!(batch(&fake, b"", JSON, false).1, "");
}

#[test]
fn answers_out_of_order_are_put_in_order() {
    let mut first = true;
    let mut rest = changes();
    let fake = Fake::start(move |request| match rest(request) {
        Act::Reply(reply) if std::mem::take(&mut first) => Act::Later(reply),
        act => act,
    });
    let (end, out) = batch(&fake, b"user show a\nuser show b\n", TEXT, false);
    end.unwrap();
    assert_eq!(out, "ok line 1: done\nok line 2: done\n");
}

#[test]
fn a_query_sees_the_lines_before_it_and_not_those_behind() {
    let fake = Fake::start(changes());
    let mut input = String::new();
    for n in 0..1000 {
        input += &format!("mailbox create {n}\n");
    }
    input += "subscriptions joe\n";
    for n in 0..1000 {
        input += &format!("mailbox create {n}\n");
    }
    let (end, out) = batch(&fake, input.as_bytes(), JSON, false);
    end.unwrap();
    assert_eq!(out.lines().nth(1000).unwrap(), "[\"joe at 1000\"]");
    assert_eq!(out.lines().count(), 2001);
    // Nothing came behind the query before it was answered.
    let asked: Vec<Request> = fake.asked.try_iter().collect();
    assert!(matches!(asked[1000], Request::Subscriptions { .. }));
}

#[test]
fn what_nobody_consented_to_is_refused() {
    let fake = Fake::start(changes());
    let (end, out) =
        batch(&fake, b"user delete a\nuser delete a --yes\nuser delete a --dry-run\nbatch -\n", TEXT, false);
    assert_eq!(end.unwrap(), PARTLY);
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("error: line 1: nobody can be asked"), "{out}");
    assert_eq!(lines[1..3], ["ok line 2: deleted user a (LSN 1)", "ok line 3: would delete user a"]);
    assert!(lines[3].starts_with("error: line 4: batch cannot be a line"), "{out}");
}

#[test]
fn a_lost_connection_ends_with_69_and_nothing_is_sent_again() {
    let mut count = 0;
    let mut rest = changes();
    let fake = Fake::start(move |request| {
        count += 1;
        if count == 3 { Act::Close } else { rest(request) }
    });
    let input = b"mailbox create a\nmailbox create b\nmailbox create c\nmailbox create d\n";
    let (end, out) = batch(&fake, input, JSON, false);
    let failure = failure(end);
    assert_eq!(failure.code, Code::Unavailable);
    assert!(failure.message.contains("lines 3 to 4 have no answer"), "{}", failure.message);
    assert_eq!(out.lines().count(), 2);
    let sent = fake.asked.try_iter().filter(|r| matches!(r, Request::Change { .. })).count();
    assert!(sent <= 4);
}

/// An output that tells what was flushed.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<(Vec<u8>, String)>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().0.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        let mut inner = self.0.lock().unwrap();
        let held = String::from_utf8(std::mem::take(&mut inner.0)).unwrap();
        inner.1.push_str(&held);
        Ok(())
    }
}

fn wait_for(out: &Shared, lines: usize) {
    for _ in 0..1000 {
        if out.0.lock().unwrap().1.lines().count() >= lines {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{lines} lines did not come: {:?}", out.0.lock().unwrap());
}

/// Starts a batch over a pipe that stays open.
fn interactive(fake: &Fake) -> (std::process::ChildStdin, Shared, std::thread::JoinHandle<Outcome<u8>>) {
    let mut cat = std::process::Command::new("cat")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let (input, source) = (cat.stdin.take().unwrap(), cat.stdout.take().unwrap());
    let (out, client) = (Shared::default(), fake.client());
    let mut sink = out.clone();
    let thread = std::thread::spawn(move || {
        let end = over(Box::new(source), Path::new("-"), client, TEXT, &mut sink);
        cat.kill().unwrap();
        cat.wait().unwrap();
        end
    });
    (input, out, thread)
}

#[test]
fn each_line_is_answered_while_the_input_stays_open() {
    let fake = Fake::start(changes());
    let (mut input, out, thread) = interactive(&fake);
    for n in 1..=3 {
        writeln!(input, "mailbox create {n}").unwrap();
        wait_for(&out, n);
    }
    writeln!(input, "nonsense").unwrap();
    wait_for(&out, 4);
    drop(input);
    assert_eq!(thread.join().unwrap().unwrap(), PARTLY);
}

#[test]
fn a_daemon_that_goes_away_is_noticed_while_the_input_stays_open() {
    let mut rest = changes();
    let fake = Fake::start(move |request| if *request == Request::Health { Act::Close } else { rest(request) });
    let (mut input, out, thread) = interactive(&fake);
    writeln!(input, "mailbox create a").unwrap();
    wait_for(&out, 1);
    let failure = failure(thread.join().unwrap());
    assert_eq!(failure.code, Code::Unavailable);
    drop(input);
}

#[test]
fn an_atomic_batch_is_one_request() {
    let fake = Fake::start(changes());
    let (end, out) = batch(&fake, b"mailbox create a\nacl set a joe lrs\n", TEXT, true);
    assert_eq!(end.unwrap(), DONE);
    assert_eq!(out, "ok line 1: created mailbox a (LSN 1)\nok line 2: set rights lrs for joe on a (LSN 1)\n");
    assert_eq!(fake.asked.try_iter().count(), 1);
}

#[test]
fn an_atomic_batch_with_a_wrong_line_sends_nothing() {
    let fake = Fake::start(changes());
    for wrong in ["nonsense", "status", "mailbox create b --dry-run", "user delete a"] {
        let (end, out) = batch(&fake, format!("mailbox create a\n{wrong}\n").as_bytes(), JSON, true);
        assert_eq!(end.unwrap(), PARTLY, "{wrong}");
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert!(value["error"]["message"].as_str().unwrap().starts_with("nothing was done: line 2: "), "{out}");
    }
    assert_eq!(fake.asked.try_iter().count(), 0);
    assert_eq!(batch(&fake, b"# nothing\n", JSON, true).0.unwrap(), DONE);
}

#[test]
fn queries_are_objects_on_one_line() {
    let fake =
        Fake::start(|_| Act::Reply(Reply::Status(Box::new(Status { state: "ready".into(), ..Status::default() }))));
    let (end, out) = batch(&fake, b"status\nstatus\n", TEXT, false);
    end.unwrap();
    assert_eq!(out.lines().count(), 2);
    assert!(out.starts_with("ok line 1: {\"state\":\"ready\""), "{out}");
}

/// Not timed: prints how many lines a second are parsed. Run in release with --nocapture to see it.
#[test]
fn lines_are_parsed_fast() {
    let count = if cfg!(debug_assertions) { 2_000 } else { 1_000_000 };
    let mut parser = Parser::default();
    for line in ["mailbox create user/joe@example.org/Projekte", "mailbox create 'user/joe/two words'"] {
        let start = jiff::Timestamp::now();
        for _ in 0..count {
            std::hint::black_box(parser.parse(line.as_bytes()).and_then(commands::line).unwrap());
        }
        let seconds = (jiff::Timestamp::now() - start).total(jiff::Unit::Second).unwrap();
        println!("{line}: {:.0} lines a second", f64::from(count) / seconds);
    }
}
