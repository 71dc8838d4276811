//! What the command `gateway` found, as JSON and as a table.

use std::io::{self, Write};

use serde::Serialize;

use super::Way;
use crate::targets;

/// What one size takes.
#[derive(Clone, Debug, Serialize)]
pub struct Gateway {
    /// What is done to the packets.
    pub direction: Way,
    /// By what they are sealed.
    pub algorithm: String,
    /// Bytes of the inner packet, or `imix`: 64, 594 and 1518, 7 to 4 to 1.
    pub inner_bytes: String,
    /// Flows whose packets come in turn.
    pub flows: u16,
    /// Nanoseconds a packet that we take, in the quietest second.
    pub sluice_ns: f64,
    /// Nanoseconds a packet that ipsec-secgw takes, in its quietest.
    pub secgw_ns: f64,
    /// Our part of its speed: more than 1 is ahead.
    pub ratio: f64,
    /// What `ratio` is to be at least.
    pub target: f64,
    /// The same of the medians of all seconds, with whatever else the machine did in them.
    pub median_ratio: f64,
    /// Packets of our replay window; none where nothing is opened.
    pub sluice_window: Option<usize>,
    /// Of ipsec-secgw's, which has none: 0.
    pub secgw_window: Option<usize>,
}

/// Whether all keep to their target.
///
/// # Errors
/// The names of those that don't.
pub fn check(all: &[Gateway]) -> anyhow::Result<()> {
    let name = |it: &Gateway| {
        let (way, algorithm) = (it.direction.name(), &it.algorithm);
        format!("{way} {algorithm} {} flows: {}", it.inner_bytes, it.flows)
    };
    let held = all.iter().map(|it| (name(it), it.ratio >= it.target));
    targets::check(&held.collect::<Vec<_>>())
}

/// One JSON document, a list.
///
/// # Errors
/// When `out` can't be written to.
pub fn write_json(out: &mut impl Write, all: &[Gateway]) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, all)?;
    writeln!(out)
}

/// A table for people.
///
/// # Errors
/// When `out` can't be written to.
pub fn write_table(out: &mut impl Write, all: &[Gateway]) -> io::Result<()> {
    writeln!(
        out,
        "{:<9} {:<12} {:>11} {:>6} {:>10} {:>15} {:>6} {:>11}",
        "direction",
        "algorithm",
        "inner bytes",
        "flows",
        "sluice ns",
        "ipsec-secgw ns",
        "ratio",
        "of medians"
    )?;
    for it in all {
        writeln!(
            out,
            "{:<9} {:<12} {:>11} {:>6} {:>10.1} {:>15.1} {:>6.2} {:>11.2}",
            it.direction.name(),
            it.algorithm,
            it.inner_bytes,
            it.flows,
            it.sluice_ns,
            it.secgw_ns,
            it.ratio,
            it.median_ratio
        )?;
    }
    let mut opened = all.iter().filter_map(|it| it.sluice_window);
    if let Some(window) = opened.next() {
        writeln!(
            out,
            "open: our replay window has {window} packets, ipsec-secgw checks no replays"
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_behind_at_a_size_is_named() {
        let one = |inner_bytes: &str, ratio| Gateway {
            direction: Way::Open,
            algorithm: "aes128gcm16".to_owned(),
            inner_bytes: inner_bytes.to_owned(),
            flows: 64,
            sluice_ns: 100.0,
            secgw_ns: 100.0 * ratio,
            ratio,
            target: 1.0,
            // Tells of the machine; no target is of it.
            median_ratio: 0.5,
            sluice_window: Some(1024),
            secgw_window: Some(0),
        };
        assert!(check(&[one("64", 1.0), one("imix", 1.2)]).is_ok());
        let error = check(&[one("64", 1.0), one("imix", 0.99)]).map_err(|it| it.to_string());
        let missed = "1 of 2 targets are missed: open aes128gcm16 imix flows: 64";
        assert_eq!(error, Err(missed.to_owned()));
    }
}
