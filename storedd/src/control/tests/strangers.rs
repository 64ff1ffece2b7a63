//! Users who may not come in. Needs root and `setpriv`; elsewhere the socket's mode alone is looked at.

use super::*;
use std::process::Command as Process;

const CHILD: &str = "STOREDD_TEST_STRANGER";

/// What the child does: connects as somebody else, prints how it was received.
#[test]
fn stranger() {
    let Ok(path) = std::env::var(CHILD) else { return };
    match Client::connect(path, "stranger", Timeouts::default()) {
        Ok(_) => println!("answer: let in"),
        Err(e) => println!("answer: {:?} {e}", e.failure().code),
    }
}

fn as_nobody(house: &House) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    // The test program where anybody may run it.
    let program = house.dir.path().join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = Process::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["--exact", "control::tests::strangers::stranger", "--nocapture"])
        .env(CHILD, house.path())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let answer = text.lines().find_map(|line| line.split_once("answer: ").map(|(_, answer)| answer.to_owned()));
    Some(answer.unwrap_or_else(|| panic!("the child ran and said nothing: {output:?}")))
}

// S1, S2
#[test]
fn a_stranger_is_refused_by_the_socket_and_by_the_door() {
    let house = House::new(Limits::default());
    let mode = std::fs::metadata(house.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o660);
    let Some(answer) = as_nobody(&house) else { return };
    assert!(answer.starts_with("NotPermitted not allowed to connect"), "{answer}");
    std::fs::set_permissions(house.path(), std::fs::Permissions::from_mode(0o666)).unwrap();
    let answer = as_nobody(&house).unwrap();
    assert!(answer.starts_with("NotPermitted user 65534 is not permitted, expected root"), "{answer}");
    assert_eq!(house.counters.not_permitted.load(Ordering::Relaxed), 1);
    assert_eq!(house.counters.ungreeted.load(Ordering::Relaxed), 0);
}
