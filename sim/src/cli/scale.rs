//! `sluice-sim scale`.

use std::fs;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::{Failure, Outcome};
use crate::oracle::Oracles;
use crate::output::{Format, Paint, note, print, show_scale, to_json};
use crate::scale::{Passed, Scale, ScalingError};

/// How long a flow goes on, in milliseconds of virtual time; then there are others. Oracles look
/// at what was seen long before.
const SLICE_MS: u64 = 1_000;

/// Make a cluster of a size, let it converge and pods speak, and measure how long that takes.
///
/// Every packet is a real one, judged, sealed, opened and judged again, and the oracles of
/// every run look at all of them. What comes out is of this machine at this moment: unlike
/// those of the other commands the numbers differ from run to run.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sluice-sim scale --nodes 10 --pods 200 --rate 10000
  sluice-sim scale --nodes 50 --pods 5000
  sluice-sim scale --nodes 1000 --whole 10 --pods 100000 --output json | jq .converge_s
  sluice-sim scale --nodes 1000 --whole 10 --pods 100000 --within 60 --memory-max 8192

Exit codes: 0 all in step, no invariant broken and no bound missed, 1 not so, 2 bad input.")]
pub(super) struct ScaleArgs {
    /// Nodes, at most 1000.
    #[arg(long, value_name = "N", default_value_t = 10)]
    nodes: usize,
    /// How many of them have an agent and a dataplane; all if nobody says. The others are
    /// objects of the API, and peers with SAs.
    #[arg(long, value_name = "N")]
    whole: Option<usize>,
    /// Pods, evenly on all nodes, at most 200 each.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pods: usize,
    /// Pods and nodes have IPv6 addresses too.
    #[arg(long)]
    dual_stack: bool,
    /// Packets a second between pods on whole nodes, in all, with their answers; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    rate: u64,
    /// Flows that they are in.
    #[arg(long, value_name = "N", default_value_t = 100)]
    flows: usize,
    /// How long pods speak, in seconds of virtual time, at most 3600.
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// No oracle looks at the packets: what the cluster alone costs.
    #[arg(long)]
    blind: bool,
    /// Exit with 1 if it is slower than so many times real time.
    #[arg(long, value_name = "TIMES", value_parser = positive)]
    at_least: Option<f64>,
    /// Exit with 1 if it takes more seconds to converge.
    #[arg(long, value_name = "S", value_parser = positive)]
    within: Option<f64>,
    /// Exit with 1 if it takes more memory, in MiB.
    #[arg(long, value_name = "MIB")]
    memory_max: Option<u64>,
    /// Where keys come from.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How the result is printed on stdout.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok();
    let number = number.filter(|it: &f64| it.is_finite() && *it > 0.0);
    number.ok_or_else(|| format!("`{text}` is no number above 0"))
}

/// What it came to.
#[derive(Clone, Debug, Serialize)]
pub struct Scaled {
    /// What was asked for.
    pub scale: Scale,
    /// Whether oracles looked.
    pub oracles: bool,
    /// From the objects until every agent has its dataplane's acknowledgement and all SAs
    /// stand, in seconds.
    pub converge_s: f64,
    /// From a policy that goes until all is in step again, in milliseconds.
    pub change_ms: f64,
    /// What the pods sent.
    pub passed: Passed,
    /// How long that took, in seconds, with what the oracles took.
    pub speak_s: f64,
    /// Virtual time by real time; none if nobody spoke.
    pub times_real: Option<f64>,
    /// The most memory that the process had at once, in MiB, where the system tells.
    pub peak_mib: Option<u64>,
    /// What is not as it must be.
    pub wrong: Vec<String>,
    /// Bounds that were asked for and are missed.
    pub missed: Vec<String>,
}

impl Scaled {
    fn hold_against(&mut self, args: &ScaleArgs) {
        let slow = |least: f64| {
            let is_slow = self.times_real.is_none_or(|times| times < least);
            is_slow.then(|| format!("not {least} times real time"))
        };
        let late = |most| {
            let is_late = self.converge_s > most;
            is_late.then(|| format!("not in step within {most} s"))
        };
        let large = |most| {
            let is_large = self.peak_mib.is_none_or(|mib| mib > most);
            is_large.then(|| format!("not within {most} MiB"))
        };
        let missed = [
            args.at_least.and_then(slow),
            args.within.and_then(late),
            args.memory_max.and_then(large),
        ];
        self.missed = missed.into_iter().flatten().collect();
    }
}

pub(super) fn run(args: &ScaleArgs) -> Outcome {
    let scale = Scale {
        nodes: args.nodes,
        whole: args.whole.unwrap_or(args.nodes),
        pods: args.pods,
        dual_stack: args.dual_stack,
        rate: args.rate,
        flows: args.flows,
        seed: args.seed,
    };
    scale.check().map_err(|error| failed(error.into()))?;
    let mut scaled = measure(scale, args).map_err(failed)?;
    scaled.hold_against(args);
    match args.output {
        Format::Json => print(&to_json(&scaled)?)?,
        Format::Table => print(show_scale(&scaled, Paint::for_stdout()).as_bytes())?,
    }
    Ok(scaled.wrong.is_empty() && scaled.missed.is_empty())
}

fn failed(error: ScalingError) -> Failure {
    Failure::Other(error.into())
}

fn measure(scale: Scale, args: &ScaleArgs) -> Result<Scaled, ScalingError> {
    let cluster = scale.cluster()?;
    let began = Instant::now();
    let mut world = scale.boot(cluster)?;
    let converge = began.elapsed();
    let Scale {
        nodes, whole, pods, ..
    } = scale;
    note(&format!(
        "{nodes} nodes, {whole} of them whole, and {pods} pods in step after {:.1} s",
        converge.as_secs_f64()
    ));
    let mut wrong = world.unsettled();
    // What it took to boot is not what oracles are for.
    let mut oracles = Oracles::default();
    let mut breaches = oracles.watch(&mut world);

    let (mut speak, mut passed) = (Duration::ZERO, Passed::default());
    let mut said = Instant::now();
    while scale.rate > 0 && passed.virtual_ms < args.seconds * 1_000 {
        let began = Instant::now();
        let watching = (!args.blind).then_some(&mut oracles);
        let slice = scale.speak(&mut world, SLICE_MS, watching, &mut breaches)?;
        speak += began.elapsed();
        passed.packets += slice.packets;
        passed.unanswered += slice.unanswered;
        passed.wire_frames += slice.wire_frames;
        passed.virtual_ms += slice.virtual_ms;
        if said.elapsed() >= Duration::from_secs(10) {
            said = Instant::now();
            note(&format!("{} ms of virtual time", passed.virtual_ms));
        }
    }
    let changed = scale.changed(world.cluster());
    let began = Instant::now();
    world.apply(changed)?;
    let change = began.elapsed();
    wrong.extend(world.unsettled());
    wrong.extend(breaches.iter().map(ToString::to_string));
    if passed.unanswered > 0 {
        let text = format!("{} questions were not answered", passed.unanswered);
        wrong.push(text);
    }
    let virtual_s = Duration::from_millis(passed.virtual_ms).as_secs_f64();
    Ok(Scaled {
        scale,
        oracles: !args.blind,
        converge_s: converge.as_secs_f64(),
        change_ms: change.as_secs_f64() * 1e3,
        passed,
        speak_s: speak.as_secs_f64(),
        times_real: (scale.rate > 0).then(|| virtual_s / speak.as_secs_f64()),
        peak_mib: peak_mib(),
        wrong,
        missed: Vec::new(),
    })
}

/// The process's peak resident memory: `VmHWM` of proc(5).
fn peak_mib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:"))?;
    let kib = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
    Some(kib / 1024)
}
