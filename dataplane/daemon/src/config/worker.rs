//! The worker's part of the configuration.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_saphyr::Spanned;
use sluice_dataplane_core::flow::quota::Quotas;
use sluice_dataplane_core::flow::state::Timeouts;
use sluice_dataplane_core::names::learned::LearnLimits;
use sluice_dataplane_core::steer::WORKERS_MAX;
use sluice_dataplane_core::tick::Tick;

use super::{FLOWS_MAX, Fault, Idle, Text, WorkerSetup, wire};

const FLOWS_DEFAULT: u32 = 1 << 18;
const SLEEP_US_DEFAULT: u32 = 200;
const SLEEP_US_MAX: u32 = 10_000;
/// Addresses that one VF's pod can know by names, at most.
const NAMES_MAX: u32 = 1 << 16;
/// A day: names are asked for again long before.
const NAMES_S_MAX: u32 = 86_400;
/// A week: what is silent for longer holds a place for nothing.
const TIMEOUT_S_MAX: u32 = 604_800;

pub(super) fn worker(source: &Text, worker: &wire::Worker) -> Result<WorkerSetup, Fault> {
    let flows = within(source, "flows", &worker.flows, FLOWS_MAX)?.unwrap_or(FLOWS_DEFAULT);
    let default = Quotas::of(count(flows));
    let vf_flows = within(source, "vf_flows_max", &worker.vf_flows_max, flows)?;
    let flows_max = vf_flows.map_or(default.flows_max, count);
    let half_open = within(source, "vf_half_open_max", &worker.vf_half_open_max, flows)?;
    let half_open_max = half_open.map_or(default.half_open_max.min(flows_max), count);
    if half_open_max > flows_max
        && let Some(at) = &worker.vf_half_open_max
    {
        let message = format!("vf_half_open_max is more than vf_flows_max, {flows_max}");
        return Err(source.fault(at.referenced, message));
    }
    Ok(WorkerSetup {
        cores: cores(source, worker)?,
        idle: idle(source, worker)?,
        flows,
        quotas: Quotas {
            flows_max,
            half_open_max,
        },
        timeouts: timeouts(source, &worker.timeouts_s)?,
        names: names(source, worker)?,
    })
}

/// Who runs where: a worker on each core that is named, or so many that the kernel places.
fn cores(source: &Text, worker: &wire::Worker) -> Result<Vec<Option<u16>>, Fault> {
    if let (Some(core), Some(_)) = (&worker.core, &worker.cores) {
        let message = "`core` and `cores` exclude each other; keep one";
        return Err(source.fault(core.referenced, message));
    }
    let cores = match (&worker.core, &worker.cores) {
        (Some(core), _) => Some((vec![core.value], core.referenced)),
        (None, Some(cores)) => Some((cores.value.clone(), cores.referenced)),
        (None, None) => None,
    };
    if let Some((cores, at)) = &cores {
        let mut seen = BTreeSet::new();
        if let Some(twice) = cores.iter().find(|it| !seen.insert(**it)) {
            return Err(source.fault(*at, format!("core {twice} is there twice")));
        }
    }
    let named = cores.as_ref().map(|(cores, at)| (cores.len(), *at));
    let counted = worker.count.as_ref();
    let counted = counted.map(|it| (usize::from(it.value), it.referenced));
    if let (Some((cores, _)), Some((count, at))) = (named, counted)
        && cores != count
    {
        let message = format!("{count} workers, but {cores} cores are named; leave one out");
        return Err(source.fault(at, message));
    }
    if let Some((count, at)) = named.or(counted)
        && !(1..=WORKERS_MAX).contains(&count)
    {
        let message = format!("1 to {WORKERS_MAX} workers, not {count}");
        return Err(source.fault(at, message));
    }
    Ok(match cores {
        Some((cores, _)) => cores.into_iter().map(Some).collect(),
        None => vec![None; counted.map_or(1, |(count, _)| count)],
    })
}

fn names(source: &Text, worker: &wire::Worker) -> Result<LearnLimits, Fault> {
    let default = LearnLimits::default();
    let addresses = within(source, "vf_names_max", &worker.vf_names_max, NAMES_MAX)?;
    let [least, most] = default.ttl_s;
    let given = within(source, "names_s_max", &worker.names_s_max, NAMES_S_MAX)?;
    let most = given.unwrap_or(most);
    let least_given = within(source, "names_s_min", &worker.names_s_min, most)?;
    Ok(LearnLimits {
        addresses_per_vf: addresses.map_or(default.addresses_per_vf, count),
        ttl_s: [least_given.unwrap_or(least.min(most)), most],
    })
}

fn count(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn idle(source: &Text, worker: &wire::Worker) -> Result<Idle, Fault> {
    let Some(at) = &worker.idle else {
        return Ok(Idle::Spin);
    };
    match (at.value.policy, at.value.sleep_us_max) {
        (wire::IdlePolicy::Spin, None) => Ok(Idle::Spin),
        (wire::IdlePolicy::Spin, Some(_)) => {
            Err(source.fault(at.referenced, "`sleep_us_max` is for `adaptive` only"))
        }
        (wire::IdlePolicy::Adaptive, us) => {
            let us = us.unwrap_or(SLEEP_US_DEFAULT);
            if !(1..=SLEEP_US_MAX).contains(&us) {
                let message = format!("`sleep_us_max` is from 1 to {SLEEP_US_MAX}");
                return Err(source.fault(at.referenced, message));
            }
            let sleep_max = Duration::from_micros(us.into());
            Ok(Idle::Adaptive { sleep_max })
        }
    }
}

fn timeouts(source: &Text, given: &wire::Timeouts) -> Result<Timeouts, Fault> {
    let mut timeouts = Timeouts::default();
    for (name, given, ns) in [
        (
            "tcp_opening",
            &given.tcp_opening,
            &mut timeouts.tcp_opening_ns,
        ),
        (
            "tcp_established",
            &given.tcp_established,
            &mut timeouts.tcp_established_ns,
        ),
        (
            "tcp_closing",
            &given.tcp_closing,
            &mut timeouts.tcp_closing_ns,
        ),
        ("tcp_closed", &given.tcp_closed, &mut timeouts.tcp_closed_ns),
        (
            "udp_established",
            &given.udp_established,
            &mut timeouts.udp_established_ns,
        ),
        (
            "sctp_established",
            &given.sctp_established,
            &mut timeouts.sctp_established_ns,
        ),
        (
            "sctp_closing",
            &given.sctp_closing,
            &mut timeouts.sctp_closing_ns,
        ),
        (
            "sctp_closed",
            &given.sctp_closed,
            &mut timeouts.sctp_closed_ns,
        ),
        (
            "other_opening",
            &given.other_opening,
            &mut timeouts.other_opening_ns,
        ),
    ] {
        if let Some(seconds) = within(source, name, given, TIMEOUT_S_MAX)? {
            *ns = u64::from(seconds) * Tick::SECOND;
        }
    }
    Ok(timeouts)
}

/// A number from 1 to `max`.
fn within(
    source: &Text,
    name: &str,
    value: &Option<Spanned<u32>>,
    max: u32,
) -> Result<Option<u32>, Fault> {
    match value {
        Some(at) if !(1..=max).contains(&at.value) => {
            let message = format!("{name} is from 1 to {max}");
            Err(source.fault(at.referenced, message))
        }
        value => Ok(value.as_ref().map(|it| it.value)),
    }
}
