//! What one node's agent does when a large cluster comes, and when it changes.

use std::time::Instant;

use anyhow::Context;
use sluice_host_agent::compile::Engine;
use sluice_host_agent::identity::IdentityTable;
use sluice_host_agent::validate::{POINTS_MAX, validate};
use sluice_offload_api::{Limits, State};

use crate::policy::cluster::{LARGE, POLICIES, SMALL, cluster, setup, vfs};
use crate::policy::event::{self, Rig};
use crate::policy::report::Case;

/// Whole compiles that are timed.
const TIMES: usize = 3;
/// Events that are timed.
const EVENTS: usize = 2_000;
/// Milliseconds: of a whole compile, and of 99 in 100 events.
const WHOLE_TARGET_MS: f64 = 2_000.0;
const EVENT_TARGET_MS: f64 = 10.0;
const MEMORY_TARGET_MIB: f64 = 512.0;

/// Compiles a cluster for one of its nodes, whole and event by event.
///
/// # Errors
/// A cluster that does not compile, or to something else than it says; an event that is not
/// acknowledged.
pub fn run(quick: bool) -> anyhow::Result<Vec<Case>> {
    let size = if quick { SMALL } else { LARGE };
    let memory = Memory::begin();
    let cluster = cluster(size)?;
    let setup = setup();
    let vfs = vfs(&cluster, &setup)?;
    let of = |case: Case| Case {
        rules: Some(u32::from(size.namespaces) * u32::from(POLICIES)),
        ..case
    };

    let mut whole = Vec::new();
    let blank = Engine::new(setup.clone(), IdentityTable::default(), Limits::MAX);
    let mut compiled = blank.clone();
    for _ in 0..TIMES {
        let began = Instant::now();
        (compiled, _) = blank.update(&cluster, &vfs).context("compiling")?;
        whole.push(ms(began));
    }
    let began = Instant::now();
    let state = compiled.state();
    let compared = validate(&cluster, &State::default(), state, 0, POINTS_MAX)?;
    let validated = ms(began);
    drop(compiled);

    let mut rig = Rig::new(cluster, setup, &vfs)?;
    // Of the agent: the dataplane is on another machine.
    let memory = memory.most_mib();
    rig.connect()?;
    let mut times = event::run(&mut rig, size, if quick { 50 } else { EVENTS })?;
    times.sort_by(f64::total_cmp);
    let note = format!(
        "pods added, relabelled and removed anywhere, each from the agent's input to the \
         dataplane's acknowledgement: {} events",
        times.len()
    );
    let mut cases = vec![
        of(Case::new("compile/whole", "sluice", "ms", best(&whole))).aiming(WHOLE_TARGET_MS),
        of(Case::new(
            "compile/validate",
            "sluice",
            "ms",
            Some(validated),
        ))
        .noting(format!(
            "{} flows compared, {} of the change not",
            compared.points, compared.left
        )),
        of(Case::new(
            "compile/event-p50",
            "sluice",
            "ms",
            at(&times, 50),
        )),
        of(Case::new(
            "compile/event-p99",
            "sluice",
            "ms",
            at(&times, 99),
        ))
        .aiming(EVENT_TARGET_MS)
        .noting(note),
        of(Case::new(
            "compile/event-slowest",
            "sluice",
            "ms",
            at(&times, 100),
        )),
    ];
    let note = "more than before, at most: the cluster, and an agent that has compiled it";
    let memory = Case::new("compile/memory", "sluice", "MiB", memory);
    cases.push(of(memory).aiming(MEMORY_TARGET_MIB).noting(note.to_owned()));
    Ok(cases)
}

fn ms(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}

fn best(times: &[f64]) -> Option<f64> {
    times.iter().copied().min_by(f64::total_cmp)
}

/// What so many of a hundred took at most; sorted.
fn at(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

/// What this process has resident, from some moment on.
struct Memory {
    before_mib: Option<f64>,
}

impl Memory {
    fn begin() -> Self {
        // proc(5): 5 resets the peak. Where that isn't allowed the figure is too high.
        drop(std::fs::write("/proc/self/clear_refs", "5"));
        Self {
            before_mib: status_mib("VmRSS:"),
        }
    }

    fn most_mib(&self) -> Option<f64> {
        Some(status_mib("VmHWM:")? - self.before_mib?)
    }
}

/// A line of proc(5)'s `status`.
fn status_mib(key: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|it| it.strip_prefix(key))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib / 1024.0)
}
