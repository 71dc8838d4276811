//! What the command `esp` found, as JSON and as a table.

use std::io::{self, Write};

use serde::Serialize;
use sluice_crypto::key::Algorithm;

use crate::targets;

/// One number, and what it is compared with.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Case {
    /// What was measured: `seal`, `open`, `bare/seal`, `bare/open`, `seal/many-sas`,
    /// `open/many-sas`, `rekey`.
    pub case: String,
    /// Who: `sluice`, a library, or `openssl speed`.
    pub who: String,
    /// The cipher.
    pub algorithm: String,
    /// Bytes of the inner packet, or `imix`: 64, 594 and 1518, 7 to 4 to 1.
    pub inner_bytes: String,
    /// SAs whose packets come in turn.
    pub sas: u32,
    /// Nanoseconds of a packet; none where it couldn't be measured, and then `note` says why.
    pub ns_per_packet: Option<f64>,
    /// Gigabits of inner packets a second and core.
    pub gbps: Option<f64>,
    /// What it is compared with, in the same rounds.
    pub peer: Option<String>,
    /// The peer's nanoseconds.
    pub peer_ns: Option<f64>,
    /// Beside a bare AEAD the part of its speed; with many SAs, their time over one's; with
    /// rekeys, over that without.
    pub ratio: Option<f64>,
    /// What `ratio` is to be: with many SAs at most, else at least.
    pub target: Option<f64>,
    /// Rekeys of both nodes a second and core, under the load of these packets, if there are any.
    pub rekeys_per_second: Option<f64>,
    /// Why there is no number, or what to know of it.
    pub note: Option<String>,
    /// What it was measured on.
    pub machine: String,
}

impl Case {
    /// Nothing measured yet.
    #[must_use]
    pub fn new(case: &str, who: &str, algorithm: Algorithm, inner_bytes: &str, sas: u32) -> Self {
        Self {
            case: case.to_owned(),
            who: who.to_owned(),
            algorithm: algorithm.name().to_owned(),
            inner_bytes: inner_bytes.to_owned(),
            sas,
            ns_per_packet: None,
            gbps: None,
            peer: None,
            peer_ns: None,
            ratio: None,
            target: None,
            rekeys_per_second: None,
            note: None,
            machine: String::new(),
        }
    }

    /// With the time of a packet of so many bytes, on average.
    #[must_use]
    pub fn taking(self, ns: f64, bytes: f64) -> Self {
        Self {
            ns_per_packet: Some(round(ns)),
            gbps: Some(round(bytes * 8.0 / ns)),
            ..self
        }
    }

    /// With what it is compared with.
    #[must_use]
    pub fn beside(self, peer: &str, peer_ns: f64, ratio: f64, target: Option<f64>) -> Self {
        Self {
            peer: Some(peer.to_owned()),
            peer_ns: Some(round(peer_ns)),
            ratio: Some(round(ratio)),
            target,
            ..self
        }
    }

    /// With a rekey every so many packets, which take so long each.
    #[must_use]
    pub fn rekeying(self, ns: f64, packets: usize) -> Self {
        #[allow(clippy::cast_precision_loss, reason = "a pass is short")]
        let pass_ns = ns * packets as f64;
        self.rekeys(1e9 / pass_ns)
    }

    /// With so many rekeys a second.
    #[must_use]
    pub fn rekeys(self, per_second: f64) -> Self {
        Self {
            rekeys_per_second: Some(round(per_second)),
            ..self
        }
    }

    /// With why there is no number, or what to know of it.
    #[must_use]
    pub fn noting(self, note: String) -> Self {
        Self {
            note: Some(note),
            ..self
        }
    }
}

impl Case {
    /// Whether it is as it is to be; nothing where nothing is promised.
    fn holds(&self) -> Option<bool> {
        let target = self.target?;
        let at_most = self.case.ends_with("/many-sas");
        // What couldn't be measured holds nothing.
        Some(self.ratio.is_some_and(|ratio| {
            if at_most {
                ratio <= target
            } else {
                ratio >= target
            }
        }))
    }
}

/// Whether all that have a target keep to it.
///
/// # Errors
/// The names of those that don't, or that none has one.
pub fn check(all: &[Case]) -> anyhow::Result<()> {
    let name = |it: &Case| format!("{} {} {}", it.case, it.algorithm, it.inner_bytes);
    let held = all.iter().filter_map(|it| Some((name(it), it.holds()?)));
    targets::check(&held.collect::<Vec<_>>())
}

/// To three decimals: more would only be noise.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// One JSON document, a list.
///
/// # Errors
/// When `out` can't be written to.
pub fn write_json(out: &mut impl Write, all: &[Case]) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, all)?;
    writeln!(out)
}

/// A table for people.
///
/// # Errors
/// When `out` can't be written to.
pub fn write_table(out: &mut impl Write, all: &[Case]) -> io::Result<()> {
    writeln!(
        out,
        "{:<14} {:<14} {:<17} {:>6} {:>6} {:>10} {:>8} {:<15} {:>9} {:>6} {:>6} {:>8}",
        "case",
        "who",
        "algorithm",
        "bytes",
        "SAs",
        "ns/packet",
        "Gbit/s",
        "beside",
        "its ns",
        "ratio",
        "target",
        "rekeys/s"
    )?;
    for one in all {
        let number = |value: Option<f64>, digits: usize| {
            value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
        };
        write!(
            out,
            "{:<14} {:<14} {:<17} {:>6} {:>6} {:>10} {:>8} {:<15} {:>9} {:>6} {:>6} {:>8}",
            one.case,
            one.who,
            one.algorithm,
            one.inner_bytes,
            one.sas,
            number(one.ns_per_packet, 1),
            number(one.gbps, 2),
            one.peer.as_deref().unwrap_or("-"),
            number(one.peer_ns, 1),
            number(one.ratio, 2),
            number(one.target, 2),
            number(one.rekeys_per_second, 0),
        )?;
        match &one.note {
            Some(note) => writeln!(out, "  {note}")?,
            None => writeln!(out)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(name: &str, ratio: f64, target: Option<f64>) -> Case {
        let case = Case::new(name, "sluice", Algorithm::Aes128Gcm16, "1420", 1);
        case.beside("it", 100.0, ratio, target)
    }

    fn told(all: &[Case]) -> String {
        check(all).map_or_else(|error| error.to_string(), |()| "met".to_owned())
    }

    #[test]
    fn a_target_is_met_from_its_own_side_of_it() {
        let met = [
            case("seal", 0.85, Some(0.85)),
            case("open", 0.99, Some(0.85)),
            case("seal/many-sas", 1.3, Some(1.3)),
            case("open/many-sas", 0.9, Some(2.0)),
            case("rekey", 9.0, None),
        ];
        assert_eq!(told(&met), "met");
        let unmeasured = Case {
            ratio: None,
            ..case("open", 1.0, Some(0.85))
        };
        let slow = [
            case("seal", 0.849, Some(0.85)),
            case("seal/many-sas", 1.301, Some(1.3)),
            unmeasured,
        ];
        for one in slow {
            let name = format!("{} aes128gcm16 1420", one.case);
            let all = [&met[..], &[one]].concat();
            assert_eq!(told(&all), format!("1 of 5 targets are missed: {name}"));
        }
    }

    #[test]
    fn without_a_target_there_is_nothing_to_meet() {
        let all = [case("rekey", 1.0, None)];
        assert_eq!(told(&all), "nothing that was measured has a target");
    }
}
