//! The kinds of findings.

use core::fmt;
use core::str::FromStr;

use serde::{Serialize, Serializer};

/// A kind of finding. Numbers are never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Code {
    /// SL001.
    SelectsNothing,
    /// SL002.
    ShadowedRule,
    /// SL003.
    OpenNamespace,
    /// SL004.
    UnknownLabel,
    /// SL005.
    PeerMatchesNothing,
    /// SL006.
    UnknownPortName,
    /// SL007.
    UndeclaredPort,
    /// SL008.
    NoNetwork,
}

/// How much a finding weighs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It is most likely a mistake.
    Warning,
    /// It may be meant so.
    Note,
}

impl Code {
    /// All of them, by number.
    pub const ALL: [Self; 8] = [
        Self::SelectsNothing,
        Self::ShadowedRule,
        Self::OpenNamespace,
        Self::UnknownLabel,
        Self::PeerMatchesNothing,
        Self::UnknownPortName,
        Self::UndeclaredPort,
        Self::NoNetwork,
    ];

    /// `SL001`.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::SelectsNothing => "SL001",
            Self::ShadowedRule => "SL002",
            Self::OpenNamespace => "SL003",
            Self::UnknownLabel => "SL004",
            Self::PeerMatchesNothing => "SL005",
            Self::UnknownPortName => "SL006",
            Self::UndeclaredPort => "SL007",
            Self::NoNetwork => "SL008",
        }
    }

    /// `selects-nothing`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SelectsNothing => "selects-nothing",
            Self::ShadowedRule => "shadowed-rule",
            Self::OpenNamespace => "open-namespace",
            Self::UnknownLabel => "unknown-label",
            Self::PeerMatchesNothing => "peer-matches-nothing",
            Self::UnknownPortName => "unknown-port-name",
            Self::UndeclaredPort => "undeclared-port",
            Self::NoNetwork => "no-network",
        }
    }

    /// What it is, in a sentence.
    #[must_use]
    pub const fn summary(self) -> &'static str {
        match self {
            Self::SelectsNothing => "A policy is for no pod.",
            Self::ShadowedRule => {
                "A rule never decides: others, asked before it, decide all that it matches."
            }
            Self::OpenNamespace => "Pods of a namespace have no policy in a direction.",
            Self::UnknownLabel => "A selector asks for a label that nothing has.",
            Self::PeerMatchesNothing => "A peer matches no pod and no node.",
            Self::UnknownPortName => "A port's name is none of the destination's.",
            Self::UndeclaredPort => "A port's number is none that the pods declare.",
            Self::NoNetwork => "A MultiNetworkPolicy is for a network that no pod is on.",
        }
    }

    /// How much it weighs.
    #[must_use]
    pub const fn level(self) -> Level {
        match self {
            Self::UndeclaredPort => Level::Note,
            _ => Level::Warning,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

/// A text that is no code.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{text}` is no code; those are {}", known())]
pub struct CodeError {
    /// The text.
    pub text: String,
}

fn known() -> String {
    let all: Vec<_> = Code::ALL.iter().map(|it| it.id()).collect();
    all.join(", ")
}

impl FromStr for Code {
    type Err = CodeError;

    fn from_str(text: &str) -> Result<Self, CodeError> {
        let is = |it: &Self| it.id().eq_ignore_ascii_case(text) || it.name() == text;
        let text = || text.to_owned();
        Self::ALL
            .into_iter()
            .find(is)
            .ok_or_else(|| CodeError { text: text() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_by_number_and_by_name() {
        for code in Code::ALL {
            assert_eq!(code.id().parse(), Ok(code));
            assert_eq!(code.name().parse(), Ok(code));
        }
        let error = "SL999".parse::<Code>().unwrap_err().to_string();
        assert!(
            error.starts_with("`SL999` is no code; those are SL001, "),
            "{error}"
        );
    }
}
