//! What the figures were measured on, and how much of it was used.

use serde_json::{Value, json};
use std::fs;
use std::path::Path;

fn line(file: &str, key: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let found = text.lines().find_map(|l| l.strip_prefix(key)?.split_once(':').map(|(_, v)| v.trim().to_owned()));
    found.unwrap_or_else(|| "unknown".into())
}

/// The file system a directory lies on: type and device, as the system names them.
pub fn file_system(dir: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let mut best = (0, "unknown".to_owned());
    for mount in mounts.lines() {
        let fields: Vec<&str> = mount.split(' ').collect();
        if let [device, point, kind, options, ..] = fields[..]
            && dir.starts_with(point)
            && point.len() >= best.0
        {
            best = (point.len(), format!("{kind} on {device} ({options})"));
        }
    }
    best.1
}

/// The machine, for the report.
pub fn describe(real: &Path) -> Value {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    json!({
        "cpu": line("/proc/cpuinfo", "model name"),
        "cores": cores,
        "memory": line("/proc/meminfo", "MemTotal"),
        "kernel": kernel.trim(),
        "real_disk": file_system(real),
        "load_before": fs::read_to_string("/proc/loadavg").unwrap_or_default().trim(),
    })
}

/// Processor seconds of this process, all threads, in steps of 10 ms.
pub fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok());
    ticks.sum::<u64>() as f64 / 100.0
}

/// Resident bytes of a process.
pub fn resident(pid: u32) -> u64 {
    let text = line(&format!("/proc/{pid}/status"), "VmRSS");
    text.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
}
