//! What a size came to, for people.

use super::paint::{Ink, Paint};
use crate::cli::Scaled;
use crate::scale::{Passed, Scale};

/// Things that are wrong and told of, at most.
const WRONG_MAX: usize = 10;

/// How large, how long, how fast.
#[must_use]
pub fn show_scale(scaled: &Scaled, paint: Paint) -> String {
    let Scale {
        nodes,
        whole,
        pods,
        rate,
        flows,
        ..
    } = scaled.scale;
    let mut out = String::new();
    let mut line = |name: &str, text: String| out.push_str(&format!("{name:<22}{text}\n"));
    line("nodes", format!("{nodes}, {whole} of them whole"));
    line("pods", pods.to_string());
    line("to converge", format!("{:.2} s", scaled.converge_s));
    line(
        "one policy changed",
        format!("in step after {:.1} ms", scaled.change_ms),
    );
    if let Some(times) = scaled.times_real {
        let Passed {
            packets,
            wire_frames,
            virtual_ms,
            ..
        } = scaled.passed;
        let oracles = if scaled.oracles {
            "all oracles on"
        } else {
            "no oracle looks"
        };
        line(
            "traffic",
            format!("{rate} packets a second in {flows} flows, {oracles}"),
        );
        line(
            "passed",
            format!("{packets} packets, {wire_frames} frames on the wires"),
        );
        line(
            "speed",
            format!(
                "{times:.1} times real time ({virtual_ms} ms in {:.2} s)",
                scaled.speak_s
            ),
        );
    }
    if let Some(mib) = scaled.peak_mib {
        line("peak memory", format!("{mib} MiB"));
    }
    for missed in &scaled.missed {
        out.push_str(&format!("{}\n", paint.ink(Ink::Bad, missed)));
    }
    for wrong in scaled.wrong.iter().take(WRONG_MAX) {
        out.push_str(&format!("{}\n", paint.ink(Ink::Bad, wrong)));
    }
    let verdict = if scaled.wrong.is_empty() {
        paint.ink(Ink::Good, "All in step, and every invariant held.")
    } else {
        paint.ink(Ink::Bad, "Not as it must be.")
    };
    out.push_str(&format!("\n{verdict}\n"));
    out
}
