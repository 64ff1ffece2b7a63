//! Collects what was measured, and prints medians and ratios.

use crate::clients::{Plan, Run};
use crate::goals::Counted;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What stays the same between the rounds of one measurement.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// `controlled` or `real`.
    pub device: &'static str,
    /// `callback`, `threads` or `socket`.
    pub form: &'static str,
    /// Name of the mix.
    pub mix: &'static str,
    /// Clients.
    pub clients: usize,
    /// Operations in flight per client.
    pub depth: usize,
    /// Name of the engine.
    pub engine: &'static str,
}

/// One measurement of one round.
#[derive(Debug, Clone)]
pub struct Cell {
    /// Which.
    pub key: Key,
    /// Round, from 0.
    pub round: usize,
    /// Operations a second.
    pub rate: f64,
    /// The same with the time counted that work put off took afterwards.
    pub drained: f64,
    /// Latencies in microseconds: p50, p99, p99.9, max.
    pub latency_us: [f64; 4],
    /// Syncs per operation.
    pub syncs: f64,
    /// Processor time per operation in microseconds, clients included.
    pub cpu_us: f64,
    /// Operations refused or failed, and the first reason.
    pub failed: (u64, Option<String>),
}

/// What was spent beside the counted time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// Seconds until everything put off was done.
    pub drain: f64,
    /// Syncs.
    pub syncs: u64,
    /// Processor seconds.
    pub cpu: f64,
}

/// The four latencies that are reported, in microseconds.
pub fn latencies(run: &Run) -> [f64; 4] {
    let us = |ns: u64| ns as f64 / 1000.0;
    let q = |q: f64| us(run.latency.quantile(q));
    [q(0.5), q(0.99), q(0.999), us(run.latency.max())]
}

impl Cell {
    /// From one run.
    pub fn new(key: Key, round: usize, plan: &Plan, run: &Run, cost: Cost) -> Cell {
        let all = run.seconds + plan.warm_up.as_secs_f64();
        // Syncs and processor time are of the warm-up, too; operations were counted after it.
        let ops_of_all = run.rate() * all;
        Cell {
            key,
            round,
            rate: run.rate(),
            drained: ops_of_all / (all + cost.drain),
            latency_us: latencies(run),
            syncs: cost.syncs as f64 / ops_of_all.max(1.0),
            cpu_us: cost.cpu * 1e6 / ops_of_all.max(1.0),
            failed: (run.failed, run.error.clone()),
        }
    }

    /// Of reads: nothing but a rate.
    pub fn reading(key: Key, round: usize, rate: f64) -> Cell {
        Cell { key, round, rate, drained: rate, latency_us: [0.0; 4], syncs: 0.0, cpu_us: 0.0, failed: (0, None) }
    }

    fn json(&self) -> Value {
        json!({
            "device": self.key.device, "form": self.key.form, "mix": self.key.mix, "clients": self.key.clients,
            "depth": self.key.depth, "engine": self.key.engine, "round": self.round, "per_second": self.rate,
            "per_second_drained": self.drained, "p50_us": self.latency_us[0], "p99_us": self.latency_us[1],
            "p999_us": self.latency_us[2], "max_us": self.latency_us[3], "syncs_per_op": self.syncs,
            "cpu_us_per_op": self.cpu_us, "failed": self.failed.0, "error": self.failed.1,
        })
    }
}

/// Medians over the rounds, with the spread of the rate.
#[derive(Debug, Clone, Default)]
pub struct Median {
    /// Operations a second: median, lowest, highest.
    pub rate: [f64; 3],
    /// As in [`Cell`].
    pub drained: f64,
    /// As in [`Cell`].
    pub latency_us: [f64; 4],
    /// As in [`Cell`].
    pub syncs: f64,
    /// As in [`Cell`].
    pub cpu_us: f64,
    /// Of all rounds.
    pub failed: u64,
}

/// The middle of some numbers; 0 of none.
pub fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    match numbers.len() {
        0 => 0.0,
        n if n % 2 == 1 => numbers[n / 2],
        n => f64::midpoint(numbers[n / 2 - 1], numbers[n / 2]),
    }
}

/// One line of `quality.md`: a goal and what was measured for it.
#[derive(Debug, Clone)]
pub struct Goal {
    /// `G1` and so on.
    pub name: &'static str,
    /// What is compared.
    pub what: String,
    /// Measured.
    pub value: f64,
    /// Bound.
    pub bound: f64,
    /// True: at least the bound is wanted; false: at most.
    pub at_least: bool,
    /// Unit of both: `x`, `ms`, ...
    pub unit: &'static str,
}

impl Goal {
    /// True if the goal is met.
    pub fn met(&self) -> bool {
        if self.at_least { self.value >= self.bound } else { self.value <= self.bound }
    }
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub struct Report {
    /// Rounds of measurements.
    pub cells: Vec<Cell>,
    /// Goals.
    pub goals: Vec<Goal>,
    /// Single figures, in the order they were made: what, value, unit.
    pub figures: Vec<(String, f64, &'static str)>,
    /// What engines counted during the runs with 64 clients and callbacks, by device and engine.
    pub counted: BTreeMap<(&'static str, &'static str), Counted>,
    /// What was left out, and why.
    pub skipped: Vec<String>,
}

impl Report {
    /// Medians of all measurements.
    pub fn medians(&self) -> BTreeMap<Key, Median> {
        let mut groups: BTreeMap<Key, Vec<&Cell>> = BTreeMap::new();
        for cell in &self.cells {
            groups.entry(cell.key.clone()).or_default().push(cell);
        }
        groups.into_iter().map(|(key, cells)| (key, Report::median_of(&cells))).collect()
    }

    fn median_of(cells: &[&Cell]) -> Median {
        let mid = |f: &dyn Fn(&Cell) -> f64| median(cells.iter().map(|c| f(c)));
        let rates = cells.iter().map(|c| c.rate);
        Median {
            rate: [mid(&|c| c.rate), rates.clone().fold(f64::INFINITY, f64::min), rates.fold(0.0, f64::max)],
            drained: mid(&|c| c.drained),
            latency_us: [0, 1, 2, 3].map(|i| mid(&|c| c.latency_us[i])),
            syncs: mid(&|c| c.syncs),
            cpu_us: mid(&|c| c.cpu_us),
            failed: cells.iter().map(|c| c.failed.0).sum(),
        }
    }

    /// The ratio of two engines' rates, round by round, then the median: what the disk does from minute to minute
    /// cancels out. 0 if either was not measured.
    pub fn ratio(&self, key: &Key, over: &Key) -> f64 {
        let of =
            |k: &Key| self.cells.iter().filter(|c| c.key == *k).map(|c| (c.round, c.rate)).collect::<BTreeMap<_, _>>();
        let over = of(over);
        median(of(key).into_iter().filter_map(|(round, rate)| Some(rate / over.get(&round)?)))
    }

    /// Notes a single figure and prints it.
    pub fn figure(&mut self, what: impl Into<String>, value: f64, unit: &'static str) {
        let what = what.into();
        println!("  {what}: {} {unit}", number(value));
        self.figures.push((what, value, unit));
    }

    /// Notes and prints what was left out.
    pub fn skip(&mut self, what: impl Into<String>) {
        let what = what.into();
        println!("  skipped: {what}");
        self.skipped.push(what);
    }

    /// The tables of all rounds, for people.
    pub fn tables(&self) -> String {
        let mut out = String::new();
        let mut heading = None;
        let medians = self.medians();
        let (reads, changes): (Vec<_>, Vec<_>) = medians.into_iter().partition(|(key, _)| key.form == "read");
        for (key, m) in reads {
            if heading.replace((key.device, key.form, key.mix, 1, 1)) != Some((key.device, key.form, key.mix, 1, 1)) {
                let _ = writeln!(out, "\n{} device, in process, 1 thread, {}, a second", key.device, key.mix);
            }
            let [rate, low, high] = m.rate.map(number);
            let _ = writeln!(out, "  {:<14}{rate:>10}{:>21}", key.engine, format!("{low} - {high}"));
        }
        for (key, m) in changes {
            let this = (key.device, key.form, key.mix, key.clients, key.depth);
            if heading != Some(this) {
                heading = Some(this);
                let depth = if key.depth > 1 { format!(" x {} in flight", key.depth) } else { String::new() };
                let _ = writeln!(
                    out,
                    "\n{} device, {}, {} client(s){depth}, {}\n  {:<14}{:>10}{:>21}{:>10}{:>9}{:>9}{:>10}{:>9}{:>10}{:>8}",
                    key.device,
                    key.form,
                    key.clients,
                    key.mix,
                    "engine",
                    "ops/s",
                    "lowest - highest",
                    "drained",
                    "p50 us",
                    "p99 us",
                    "p99.9 us",
                    "max ms",
                    "syncs/op",
                    "cpu us"
                );
            }
            let spread = format!("{} - {}", number(m.rate[1]), number(m.rate[2]));
            let _ = writeln!(
                out,
                "  {:<14}{:>10}{spread:>21}{:>10}{:>9}{:>9}{:>10}{:>9}{:>10.3}{:>8.1}{}",
                key.engine,
                number(m.rate[0]),
                number(m.drained),
                number(m.latency_us[0]),
                number(m.latency_us[1]),
                number(m.latency_us[2]),
                number(m.latency_us[3] / 1000.0),
                m.syncs,
                m.cpu_us,
                if m.failed > 0 { format!("  {} failed", m.failed) } else { String::new() }
            );
        }
        out
    }

    /// The goals, for people.
    pub fn goal_lines(&self) -> String {
        let mut out = String::from("\nGoals (quality.md, section 1)\n");
        for goal in &self.goals {
            let _ = writeln!(
                out,
                "  {:<5}{:<74}{:>10} {:<3} (goal {} {})  {}",
                goal.name,
                goal.what,
                number(goal.value),
                goal.unit,
                if goal.at_least { ">=" } else { "<=" },
                number(goal.bound),
                if goal.met() { "pass" } else { "SHORT" }
            );
        }
        out
    }

    /// Everything, for programs.
    pub fn json(&self, machine: &Value, settings: &Value) -> Value {
        let goals = self.goals.iter().map(|g| {
            json!({"name": g.name, "what": g.what, "value": g.value, "bound": g.bound, "at_least": g.at_least,
                   "unit": g.unit, "met": g.met()})
        });
        json!({
            "machine": machine, "settings": settings, "goals": goals.collect::<Vec<_>>(),
            "figures": self.figures.iter().map(|(what, value, unit)| json!({"what": what, "value": value, "unit": unit}))
                .collect::<Vec<_>>(),
            "cells": self.cells.iter().map(Cell::json).collect::<Vec<_>>(), "skipped": self.skipped,
        })
    }
}

/// A number as short as it is useful.
pub fn number(n: f64) -> String {
    match n.abs() {
        a if a >= 100_000.0 => format!("{:.0}k", n / 1000.0),
        a if a >= 10_000.0 => format!("{:.1}k", n / 1000.0),
        a if a >= 100.0 => format!("{n:.0}"),
        a if a >= 10.0 => format!("{n:.1}"),
        0.0 => "0".into(),
        a if a < 0.01 => format!("{n:.4}"),
        _ => format!("{n:.2}"),
    }
}
