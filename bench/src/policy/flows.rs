//! What flows cost: memory, new connections, and what one pod's flood takes from another.

use std::time::Duration;

use anyhow::{Context, ensure};
use sluice_crypto::key::Algorithm;
use sluice_dataplane_core::flow::table::Flow;
use sluice_dataplane_core::meta::tcp_flag::{ACK, SYN};
use sluice_dataplane_core::port::BURST_MAX;
use sluice_dataplane_core::snapshot::PortIndex;
use sluice_dataplane_core::wire::build::Body;

use crate::bed::{Bed, Side, UPLINK, VF0, VF1};
use crate::frames::of_len;
use crate::memory::FLOWS;
use crate::policy::report::Case;
use crate::timing::{median, timed};

/// Flows that are opened to see what they take: more than any allocator keeps at hand.
const MANY: usize = 1 << 19;
/// Bytes of a flow, at most.
const BYTES_TARGET: f64 = 128.0;
/// Of what the others send, the part that a flood may cost them.
const LOSS_TARGET: f64 = 0.01;
/// Established connections beside a flood.
const VICTIMS: u16 = 256;
/// Of these, how many speak in each poll; and how many that are new.
const SPEAKING: u16 = 4;

fn bed(side: Side, flows: usize) -> Bed {
    Bed::new(side, Algorithm::Aes128Gcm16, flows)
}

fn tcp(from: (Side, u8), to: (Side, u8), ports: (u16, u16), flags: u8, at: [u32; 2]) -> Vec<u8> {
    let body = Body::Tcp {
        src_port: ports.0,
        dst_port: ports.1,
        flags,
        seq: at[0],
        ack: at[1],
        mss: None,
    };
    let source = (from.0.pod_mac(from.1), from.0.pod(from.1));
    of_len(source, to.0.pod(to.1), body, 60)
}

/// The `n`th SYN of the first pod; no two have the same ports.
fn syn(n: usize, to: (Side, u8)) -> Vec<u8> {
    #[allow(clippy::cast_possible_truncation, reason = "in two halves")]
    let ports = (n as u16, 1 + (n >> 16) as u16);
    tcp((Side::A, 0), to, ports, SYN, [1, 0])
}

/// All of it.
///
/// # Errors
/// Frames that were lost where none may be.
pub fn run(quick: bool) -> anyhow::Result<Vec<Case>> {
    let mut all = vec![memory()?];
    all.push(connections(if quick { 1 << 12 } else { 1 << 17 })?);
    all.extend(flood(if quick { 1 << 10 } else { FLOWS })?);
    Ok(all)
}

/// Bytes that the process has in memory.
fn resident() -> anyhow::Result<usize> {
    let path = "/proc/self/smaps_rollup";
    let rollup = std::fs::read_to_string(path).context(path)?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: usize = kib.context("no Rss in kB")?.trim().parse()?;
    Ok(kib * 1024)
}

/// What the process grows by for each flow that a worker opens, buckets included.
fn memory() -> anyhow::Result<Case> {
    // A worker has more than flows: what one with hardly any takes is left out.
    let none = resident()?;
    let few = filled(BURST_MAX)?;
    let before = resident()?;
    let bed = filled(MANY)?;
    let grown = resident()?.saturating_sub(before);
    let grown = grown.saturating_sub(before.saturating_sub(none));
    drop(few);
    let flows = bed.handle.counters.flows.read();
    ensure!(flows > 0, "no flow was opened");
    let note = format!("of these {} in the entry", size_of::<Flow>());
    let value = ratio(grown as u64, flows);
    Ok(
        Case::new("flow/memory", "sluice", "bytes/flow", Some(value))
            .aiming(BYTES_TARGET)
            .noting(note),
    )
}

/// A bed that has opened so many flows, if it takes them.
fn filled(flows: usize) -> anyhow::Result<Bed> {
    let mut bed = bed(Side::A, flows);
    for burst in 0..flows / BURST_MAX {
        open(&mut bed, burst, (Side::A, 1));
    }
    Ok(bed)
}

/// One burst of new connections of the first pod: the time it took, and how many went on.
fn open(bed: &mut Bed, burst: usize, to: (Side, u8)) -> (Duration, usize) {
    for n in 0..BURST_MAX {
        bed.deliver(VF0, &syn(burst * BURST_MAX + n, to));
    }
    let spent = timed(|| bed.poll());
    (spent, bed.discard())
}

/// New connections from pod to pod on one node: parsed, judged at both ends, entered.
fn connections(count: usize) -> anyhow::Result<Case> {
    let mut bed = bed(Side::A, count);
    let mut ns = Vec::new();
    for burst in 0..count / BURST_MAX {
        let (spent, sent) = open(&mut bed, burst, (Side::A, 1));
        // What a share of the table may refuse is no connection.
        if sent == BURST_MAX {
            #[allow(clippy::cast_precision_loss, reason = "32")]
            ns.push(spent.as_secs_f64() * 1e9 / BURST_MAX as f64);
        }
    }
    ensure!(!ns.is_empty(), "no burst of connections was let in whole");
    let whole = ns.len() * BURST_MAX;
    let case = Case::new(
        "flow/new-connections",
        "sluice",
        "1/s/core",
        Some(1e9 / median(&mut ns)),
    );
    Ok(if whole < count {
        case.noting(format!("{whole} of {count} SYNs were let in"))
    } else {
        case
    })
}

/// Takes what one bed sent by its uplink to the other.
fn carry(from: &mut Bed, to: &mut Bed) {
    for frame in from.collect(UPLINK) {
        to.deliver(UPLINK, &frame);
    }
    to.poll();
}

/// The first pod opens connections as fast as it can, four times what the table holds; the
/// second has some that are established and opens a few more.
fn flood(capacity: usize) -> anyhow::Result<[Case; 2]> {
    let (mut a, mut b) = (bed(Side::A, capacity), bed(Side::B, FLOWS));
    let (victim, server) = ((Side::A, 1), (Side::B, 0));
    for n in 0..VICTIMS {
        let ports = (1_000 + n, 443);
        a.deliver(VF1, &tcp(victim, server, ports, SYN, [100, 0]));
        a.poll();
        carry(&mut a, &mut b);
        b.deliver(
            VF0,
            &tcp(server, victim, (443, ports.0), SYN | ACK, [300, 101]),
        );
        b.poll();
        carry(&mut b, &mut a);
        a.deliver(VF1, &tcp(victim, server, ports, ACK, [101, 301]));
        a.poll();
        carry(&mut a, &mut b);
        a.discard();
        ensure!(b.discard() == 2, "connection {n} was not established");
    }
    let forwarded = |bed: &Bed, port: PortIndex| bed.handle.counters.port(port).forwarded.read();
    let (mut established, mut established_sent) = (0u64, 0u64);
    let (mut new, mut new_sent) = (0u64, 0u64);
    let mut fresh = 0u16;
    for burst in 0..capacity * 4 / BURST_MAX {
        // In turn, so that each is counted alone: the old ones, the flood, the new ones.
        let before = forwarded(&a, VF1);
        for k in 0..SPEAKING {
            #[allow(clippy::cast_possible_truncation, reason = "modulo the victims")]
            let n = (burst * usize::from(SPEAKING)) as u16 % VICTIMS + k;
            let ports = (1_000 + n % VICTIMS, 443);
            a.deliver(VF1, &tcp(victim, server, ports, ACK, [101, 301]));
        }
        open(&mut a, burst, server);
        established += forwarded(&a, VF1) - before;
        established_sent += u64::from(SPEAKING);

        let before = forwarded(&a, VF1);
        // At a modest rate: one for every eight bursts of the flood.
        if burst % 8 == 0 {
            let ports = (10_000 + fresh % 20_000, 80 + fresh / 20_000);
            fresh += 1;
            a.deliver(VF1, &tcp(victim, server, ports, SYN, [1, 0]));
            a.poll();
            a.discard();
            new += forwarded(&a, VF1) - before;
            new_sent += 1;
        }
    }
    let lost = |went: u64, sent: u64| ratio(sent.saturating_sub(went), sent);
    let case = |name, value| {
        Case::new(name, "sluice", "fraction lost", Some(value))
            .aiming(LOSS_TARGET)
            .noting("one VF floods SYNs, four times what the table holds")
    };
    Ok([
        case("flood/established", lost(established, established_sent)),
        case("flood/new", lost(new, new_sent)),
    ])
}

#[allow(clippy::cast_precision_loss, reason = "counts of less than 2^52")]
fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b as f64
}
