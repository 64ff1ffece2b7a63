//! Prints what a daemon says of itself: `cargo run -p storedd-proto --example status -- /run/storedd/control.sock`

use proto::{Client, ClientError, Reply, Request, Timeouts};
use std::process::ExitCode;

fn main() -> ExitCode {
    let path = std::env::args().nth(1).unwrap_or_else(|| "/run/storedd/control.sock".to_owned());
    match status(&path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let failure = e.failure();
            eprintln!("{}", failure.message);
            if let Some(hint) = &failure.hint {
                eprintln!("{hint}");
            }
            ExitCode::from(failure.code.exit())
        }
    }
}

fn status(path: &str) -> Result<(), ClientError> {
    let mut client = Client::connect(path, "status example", Timeouts::default())?;
    println!("{} speaks protocol version {}", client.hello().server, client.hello().version);
    if let Reply::Status(status) = client.call(&Request::Status)? {
        println!("{}: applied LSN {}, synced LSN {}", status.state, status.applied_lsn, status.synced_lsn);
        for alarm in &status.alarms {
            println!("alarm {}: {}", alarm.name, alarm.message);
        }
    }
    let all = Request::MailboxList { pattern: "*".to_owned() };
    client.call_stream(&all, |part| {
        if let Reply::Mailboxes(mailboxes) = part {
            mailboxes.iter().for_each(|m| println!("{} {} messages", m.name, m.messages));
        }
        std::ops::ControlFlow::Continue(())
    })
}
