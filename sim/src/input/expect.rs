//! What must be true of a run so far.

use std::collections::BTreeMap;

use serde::Deserialize;
use sluice_dataplane_core::reason::DropReason;

use super::scenario::duration_ns;
use super::{InputError, Place};
use crate::world::MARKS;

/// What must be true of the run so far.
#[derive(Clone, Debug, Default)]
pub struct Expect {
    /// Dropped frames by reason, over all ports.
    pub drops: BTreeMap<&'static str, Count>,
    /// Whose drops; else those of all nodes.
    pub node: Option<String>,
    /// Every allowed probe between pods of two nodes crossed the wire inside ESP.
    pub encrypted: bool,
    /// Bytes of the payload marker that may be found in clear.
    pub cleartext_bytes: Option<usize>,
    /// How many probes were answered, and how many weren't.
    pub answers: Answers,
    /// Every node does what the API says, within so many nanoseconds.
    pub settled_within_ns: Option<u64>,
    /// How often faults took effect.
    pub marks: BTreeMap<&'static str, Count>,
}

/// Probes by what came of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answers {
    /// Those that were answered.
    pub allow: Option<Count>,
    /// Those that were not.
    pub deny: Option<Count>,
}

/// How many.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "CountEntry")]
pub enum Count {
    /// At least one.
    Some,
    /// Exactly so many.
    Exactly(u64),
}

impl Count {
    /// Whether a number is right.
    #[must_use]
    pub const fn is(self, number: u64) -> bool {
        match self {
            Self::Some => number > 0,
            Self::Exactly(wanted) => number == wanted,
        }
    }
}

impl core::fmt::Display for Count {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Some => f.write_str("some"),
            Self::Exactly(0) => f.write_str("no"),
            Self::Exactly(number) => write!(f, "{number}"),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "write none, some or a number")]
enum CountEntry {
    Word(String),
    Number(u64),
}

/// A text that is no number.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no count; write none, some or a number")]
struct NoCount(String);

impl TryFrom<CountEntry> for Count {
    type Error = NoCount;

    fn try_from(entry: CountEntry) -> Result<Self, NoCount> {
        match entry {
            CountEntry::Number(number) => Ok(Self::Exactly(number)),
            CountEntry::Word(word) if word == "some" => Ok(Self::Some),
            CountEntry::Word(word) if word == "none" => Ok(Self::Exactly(0)),
            CountEntry::Word(word) => Err(NoCount(word)),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectEntry {
    #[serde(default)]
    drops: BTreeMap<String, Count>,
    node: Option<String>,
    encrypted: Option<All>,
    cleartext_bytes: Option<usize>,
    #[serde(default)]
    answers: Answers,
    settled_within: Option<String>,
    #[serde(default)]
    marks: BTreeMap<String, Count>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum All {
    All,
}

impl ExpectEntry {
    pub(super) fn check(self, place: &Place) -> Result<Expect, InputError> {
        if self.node.is_some() && self.drops.is_empty() {
            return Err(place.fault("`node` says whose `drops` are meant; there are none"));
        }
        let reasons: Vec<_> = DropReason::ALL.iter().map(|it| it.name()).collect();
        let reason = |(name, count): (String, Count)| {
            let known = known(&name, &reasons, "reason for a drop", place)?;
            Ok((known, count))
        };
        let mark = |(name, count): (String, Count)| {
            let known = known(&name, &MARKS, "mark", place)?;
            Ok((known, count))
        };
        let within = self.settled_within.as_deref();
        Ok(Expect {
            drops: self
                .drops
                .into_iter()
                .map(reason)
                .collect::<Result<_, InputError>>()?,
            node: self.node,
            encrypted: matches!(self.encrypted, Some(All::All)),
            cleartext_bytes: self.cleartext_bytes,
            answers: self.answers,
            settled_within_ns: within.map(|it| duration_ns(it, place)).transpose()?,
            marks: self
                .marks
                .into_iter()
                .map(mark)
                .collect::<Result<_, InputError>>()?,
        })
    }
}

/// One of some names.
fn known(
    name: &str,
    all: &[&'static str],
    what: &str,
    place: &Place,
) -> Result<&'static str, InputError> {
    let found = all.iter().copied().find(|it| *it == name);
    found.ok_or_else(|| {
        let all = all.join(", ");
        place.fault(format!("`{name}` is no {what}; those are {all}"))
    })
}
