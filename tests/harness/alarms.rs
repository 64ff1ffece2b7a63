//! Alarms, as `status` shows them.

use super::{TestStore, until};
use serde_json::Value;

/// The alarm of this name, if it is raised.
pub fn alarm(store: &TestStore, name: &str) -> Option<Value> {
    let status = store.json(&["status"]);
    status["alarms"].as_array().unwrap().iter().find(|alarm| alarm["name"] == name).cloned()
}

/// Waits until it is raised.
pub fn raised(store: &TestStore, name: &str) -> Value {
    until(&format!("{name} is raised"), || alarm(store, name))
}

/// Waits until it is cleared.
pub fn cleared(store: &TestStore, name: &str) {
    until(&format!("{name} is cleared"), || alarm(store, name).is_none().then_some(()));
}
