//! Lookups and listings in process, beside the databases that have them.

use crate::engines::{Engine, Failure, Reader};
use crate::job::{PER_USER, Random, key_of, user_id};
use crate::report::{Cell, Key, Report};
use crate::settings::Settings;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One lookup of a random mailbox.
const LOOKUP: &str = "lookup";
/// All mailboxes of a random user; rows a second.
const USER: &str = "list-user";
/// All mailboxes; rows a second.
const ALL: &str = "list-all";

/// Key of a reading measurement.
pub fn key(device: &'static str, mix: &'static str, engine: &'static str) -> Key {
    Key { device, form: "read", mix, clients: 1, depth: 1, engine }
}

/// Goals are measured on these.
pub const MIXES: [&str; 3] = [LOOKUP, USER, ALL];

fn rows_a_second(
    engine: &dyn Engine,
    reader: &mut dyn Reader,
    mix: &str,
    time: Duration,
    seed: u64,
) -> Result<f64, Failure> {
    let world = engine.world();
    let mut random = Random::new(seed);
    let keys: Vec<Vec<u8>> = (0..16_384).map(|_| world.key(random.below(world.rows))).collect();
    let mut next = keys.chunks(64).cycle();
    let start = Instant::now();
    let (mut rows, mut taken) = (0, Duration::ZERO);
    while taken < time {
        match mix {
            LOOKUP => {
                for key in next.next().unwrap_or_default() {
                    reader.lookup(key)?;
                }
                rows += 64;
            }
            USER => {
                let prefix = key_of(&format!("user/{}/", user_id(random.below(world.users()))));
                let found = reader.list(&prefix)?;
                if found < PER_USER {
                    return Err(Failure::new(format!("{found} rows below a user, expected {PER_USER}")));
                }
                rows += found;
            }
            _ => {
                let found = reader.list(b"user")?;
                if found < world.rows {
                    return Err(Failure::new(format!("{found} rows listed, expected {}", world.rows)));
                }
                rows += found;
            }
        }
        taken = start.elapsed();
    }
    Ok(rows as f64 / taken.as_secs_f64())
}

/// One round of all readers on one device.
///
/// # Errors
/// Those of the engines.
pub fn round(
    report: &mut Report,
    device: &'static str,
    engines: &[Arc<dyn Engine>],
    settings: &Settings,
    round: usize,
) -> Result<(), Failure> {
    for mix in MIXES {
        for engine in engines {
            // The three ways of SQLite read alike.
            if matches!(engine.name(), "sqlite-mutex" | "sqlite-group") {
                continue;
            }
            let Some(mut reader) = engine.reader()? else { continue };
            let time = Duration::from_secs_f64(settings.seconds / 2.0);
            let rate = rows_a_second(&**engine, &mut *reader, mix, time, round as u64 + 1)
                .map_err(|e| Failure::new(format!("{}: {mix}: {e}", engine.name())))?;
            let key = key(device, mix, engine.name());
            report.cells.push(Cell::reading(key, round, rate));
        }
    }
    Ok(())
}
