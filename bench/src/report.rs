//! What was measured, as JSON and as a table.

use std::io::{self, Write};

use serde::Serialize;

/// One case and frame length.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Measured {
    /// Ports and way: `mem/vf-to-uplink-esp`.
    pub case: String,
    /// Bytes of the frame as the pod sends or gets it, without FCS.
    pub frame_bytes: usize,
    /// Nanoseconds of a packet, ports included.
    pub ns_per_packet: f64,
    /// Of these, what the same ports take to forward and do nothing.
    pub baseline_ns: f64,
    /// The rest.
    pub net_ns: f64,
    /// Millions of packets a second and core, ports included.
    pub mpps: f64,
    /// Gigabits of frames a second and core, ports included.
    pub gbps: f64,
    /// The cipher alone on the frame's packet; none where nothing is sealed or opened.
    pub bare_aead_ns: Option<f64>,
    /// Another program measured in the same run.
    pub peer: Option<String>,
    /// Its nanoseconds over ours.
    pub ratio: Option<f64>,
}

impl Measured {
    /// From what two medians and the cipher say, in nanoseconds.
    #[must_use]
    pub fn new(case: &str, frame_bytes: usize, ns: f64, baseline_ns: f64) -> Self {
        #[allow(
            clippy::cast_precision_loss,
            reason = "frames are shorter than 2^52 bytes"
        )]
        let bits = frame_bytes as f64 * 8.0;
        Self {
            case: case.to_owned(),
            frame_bytes,
            ns_per_packet: round(ns),
            baseline_ns: round(baseline_ns),
            net_ns: round(ns - baseline_ns),
            mpps: round(1000.0 / ns),
            gbps: round(bits / ns),
            bare_aead_ns: None,
            peer: None,
            ratio: None,
        }
    }

    /// With the cipher beside it.
    #[must_use]
    pub fn beside(self, bare_aead_ns: f64) -> Self {
        Self {
            bare_aead_ns: Some(round(bare_aead_ns)),
            ..self
        }
    }
}

/// To three decimals: more would only be noise.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// One JSON document, a list.
///
/// # Errors
/// When `out` can't be written to.
pub fn write_json(out: &mut impl Write, all: &[Measured]) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, all)?;
    writeln!(out)
}

/// A table for people.
///
/// # Errors
/// When `out` can't be written to.
pub fn write_table(out: &mut impl Write, all: &[Measured]) -> io::Result<()> {
    writeln!(
        out,
        "{:<28} {:>6} {:>10} {:>10} {:>10} {:>8} {:>8} {:>10}",
        "case", "bytes", "ns/packet", "no-op ns", "net ns", "Mpps", "Gbit/s", "AEAD ns"
    )?;
    for one in all {
        let bare = one
            .bare_aead_ns
            .map_or("-".to_owned(), |ns| format!("{ns:.1}"));
        writeln!(
            out,
            "{:<28} {:>6} {:>10.1} {:>10.1} {:>10.1} {:>8.2} {:>8.2} {bare:>10}",
            one.case,
            one.frame_bytes,
            one.ns_per_packet,
            one.baseline_ns,
            one.net_ns,
            one.mpps,
            one.gbps
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_the_time_upside_down() {
        let one = Measured::new("mem/x", 500, 100.0, 20.0);
        assert_eq!((one.mpps, one.gbps, one.net_ns), (10.0, 40.0, 80.0));
    }
}
