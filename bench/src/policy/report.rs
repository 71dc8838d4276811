//! What the command `policy` found, as JSON and as a table.

use std::io::{self, Write};

use serde::Serialize;

use crate::policy::rules::Keys;
use crate::targets;
use crate::timing::Pair;

/// Which lookup.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Who looks up.
    pub peer: &'static str,
    /// Which headers.
    pub keys: Keys,
    /// Rules.
    pub rules: u32,
    /// Identities.
    pub identities: u32,
}

impl Place {
    /// What its ratio may be.
    #[must_use]
    pub const fn keys_target(&self) -> f64 {
        self.keys.target()
    }
}

/// One number, and what it is compared with.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Case {
    /// What was measured: `lookup/random`.
    pub case: String,
    /// Who: `sluice`, or another way to do the same.
    pub peer: String,
    /// Rules of the policy; none where that doesn't matter.
    pub rules: Option<u32>,
    /// Identities in the cluster; none where that doesn't matter.
    pub identities: Option<u32>,
    /// What was found; none where it couldn't be measured, and then `note` says why.
    pub value: Option<f64>,
    /// Of `value` and `baseline`.
    pub unit: &'static str,
    /// What `value` is compared with.
    pub baseline: Option<f64>,
    /// `value` over `baseline`: the median of the rounds' ratios, in each of which both were
    /// measured; so not exactly the quotient of the two.
    pub ratio: Option<f64>,
    /// What `ratio` may be at most, or `value` where there is no baseline.
    pub target: Option<f64>,
    /// Why there is no value, or what to know of it.
    pub note: Option<String>,
    /// What it was measured on.
    pub machine: String,
}

impl Case {
    /// Without a baseline.
    #[must_use]
    pub fn new(case: &str, peer: &str, unit: &'static str, value: Option<f64>) -> Self {
        Self {
            case: case.to_owned(),
            peer: peer.to_owned(),
            rules: None,
            identities: None,
            value: value.map(round),
            unit,
            baseline: None,
            ratio: None,
            target: None,
            note: None,
            machine: String::new(),
        }
    }

    /// The time of a lookup.
    #[must_use]
    pub fn lookup(place: Place, ns: f64) -> Self {
        let name = format!("lookup/{}", place.keys.name());
        Self::new(&name, place.peer, "ns/lookup", Some(ns)).of(place.rules, place.identities)
    }

    /// A lookup that couldn't be measured.
    #[must_use]
    pub fn unmeasured_lookup(place: Place, why: String) -> Self {
        Self {
            value: None,
            ..Self::lookup(place, f64::NAN).noting(why)
        }
    }

    /// With its size.
    #[must_use]
    pub fn of(self, rules: u32, identities: u32) -> Self {
        Self {
            rules: Some(rules),
            identities: Some(identities),
            ..self
        }
    }

    /// With what it is compared with.
    #[must_use]
    pub fn beside(self, pair: Pair, target: Option<f64>) -> Self {
        Self {
            baseline: Some(round(pair.small)),
            ratio: Some(round(pair.ratio)),
            target,
            ..self
        }
    }

    /// With what `value` may be at most.
    #[must_use]
    pub fn aiming(self, target: f64) -> Self {
        Self {
            target: Some(target),
            ..self
        }
    }

    /// With something to know.
    #[must_use]
    pub fn noting(self, note: impl Into<String>) -> Self {
        Self {
            note: Some(note.into()),
            ..self
        }
    }
}

impl Case {
    /// Whether it is as it is to be; nothing where nothing is promised.
    fn holds(&self) -> Option<bool> {
        let target = self.target?;
        let found = match self.baseline {
            Some(_) => self.ratio,
            None => self.value,
        };
        // What couldn't be measured holds nothing.
        Some(found.is_some_and(|it| it <= target))
    }
}

/// Whether all that have a target keep to it.
///
/// # Errors
/// The names of those that don't, or that none has one.
pub fn check(all: &[Case]) -> anyhow::Result<()> {
    let name = |it: &Case| {
        let size = it.rules.zip(it.identities);
        let size = size.map(|(rules, identities)| format!(" {rules} {identities}"));
        format!("{} {}{}", it.case, it.peer, size.unwrap_or_default())
    };
    let held = all.iter().filter_map(|it| Some((name(it), it.holds()?)));
    targets::check(&held.collect::<Vec<_>>())
}

/// To three decimals: more would only be noise. A fraction keeps six.
fn round(value: f64) -> f64 {
    let scale = if value.abs() < 0.1 { 1e6 } else { 1e3 };
    (value * scale).round() / scale
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
        "{:<22} {:<14} {:>7} {:>10} {:>14} {:<10} {:>12} {:>8} {:>7}",
        "case", "peer", "rules", "identities", "value", "unit", "baseline", "ratio", "target"
    )?;
    for one in all {
        let number = |value: Option<f64>, digits: usize| {
            value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
        };
        let count = |value: Option<u32>| value.map_or("-".to_owned(), |n| n.to_string());
        let digits = match one.value {
            Some(value) if value.abs() < 1.0 => 4,
            _ => 1,
        };
        write!(
            out,
            "{:<22} {:<14} {:>7} {:>10} {:>14} {:<10} {:>12} {:>8} {:>7}",
            one.case,
            one.peer,
            count(one.rules),
            count(one.identities),
            number(one.value, digits),
            one.unit,
            number(one.baseline, digits),
            number(one.ratio, 2),
            number(one.target, 2),
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

    fn lookup(ratio: f64) -> Case {
        let pair = Pair {
            small: 10.0,
            large: 10.0 * ratio,
            ratio,
        };
        let case = Case::new("lookup/random", "sluice", "ns/lookup", Some(pair.large));
        case.of(1_000, 100).beside(pair, Some(2.0))
    }

    fn told(all: &[Case]) -> String {
        check(all).map_or_else(|error| error.to_string(), |()| "met".to_owned())
    }

    #[test]
    fn a_target_is_of_the_ratio_and_of_the_value_where_nothing_is_beside_it() {
        let lost = |value| Case::new("flood/new", "sluice", "part", value).aiming(0.01);
        let other = Case::new("nft/random", "nft-map", "ns", Some(900.0));
        let met = [lookup(2.0), lost(Some(0.01)), other.clone()];
        assert_eq!(told(&met), "met");
        let slow = [
            (lookup(2.001), "lookup/random sluice 1000 100"),
            (lost(Some(0.02)), "flood/new sluice"),
            (lost(None), "flood/new sluice"),
        ];
        for (one, name) in slow {
            let all = [&met[..], &[one]].concat();
            assert_eq!(told(&all), format!("1 of 3 targets are missed: {name}"));
        }
        assert_eq!(told(&[other]), "nothing that was measured has a target");
    }
}
