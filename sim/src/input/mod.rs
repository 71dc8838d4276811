//! Files that people wrote: read within bounds, and wrong at a file, a line and a column.

mod manifests;
mod party;
mod probes;
mod scenario;

use core::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode, SourceSpan};
use serde::de::DeserializeOwned;
use sluice_host_agent::manifest::LoadError;

use crate::world::WorldError;

pub use manifests::{Manifests, load_manifests};
pub use party::{PartyError, parse_party};
pub use probes::{PROBES_MAX, PlacedProbe, load_probes};
pub use scenario::{
    Action, Delete, DeleteKind, Expect, ExpectDrops, Matrix, STEPS_MAX, Scenario, Step,
    WAIT_MS_MAX, load_scenario,
};

/// Length of a file that is read, in bytes, at most.
pub const FILE_BYTES_MAX: u64 = 4 << 20;

/// Why an input can't be used. Nothing has been written when one of these is returned.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum InputError {
    /// A file can't be read.
    #[error("can't read {path}: {error}")]
    Read {
        /// The path as it was given.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// A file is too long.
    #[error("{path} is longer than the {FILE_BYTES_MAX} bytes that are read; split it")]
    TooLong {
        /// The path as it was given.
        path: String,
    },
    /// A file is no text.
    #[error("{path} is not UTF-8 text")]
    NotText {
        /// The path as it was given.
        path: String,
    },
    /// A line of a file is at fault and must not be shown.
    #[error("{path}:{line}: {message}")]
    Line {
        /// The path as it was given.
        path: String,
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        message: String,
    },
    /// A place in a file is at fault.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Fault(#[from] Fault),
    /// Manifests are at fault.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Manifests(#[from] LoadError),
    /// No world can be made of the manifests.
    #[error("these manifests make no cluster: {0}")]
    World(Box<WorldError>),
}

impl From<WorldError> for InputError {
    fn from(error: WorldError) -> Self {
        Self::World(Box::new(error))
    }
}

/// A place in a text, counted from 1, columns in characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spot {
    /// Line.
    pub line: u64,
    /// Column.
    pub column: u64,
}

impl From<serde_saphyr::Location> for Spot {
    fn from(location: serde_saphyr::Location) -> Self {
        Self {
            line: location.line(),
            column: location.column(),
        }
    }
}

/// A text with the name of its file. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Source(Arc<NamedSource<String>>);

impl Source {
    /// Reads a file.
    ///
    /// # Errors
    /// [`InputError`] if it can't be read, is too long or no text.
    pub fn read(path: &Path) -> Result<Self, InputError> {
        let name = path.display().to_string();
        let failed = |error| InputError::Read {
            path: name.clone(),
            error,
        };
        let file = File::open(path).map_err(failed)?;
        let mut bytes = Vec::new();
        let taken = file
            .take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if taken as u64 > FILE_BYTES_MAX {
            return Err(InputError::TooLong { path: name });
        }
        let text =
            String::from_utf8(bytes).map_err(|_| InputError::NotText { path: name.clone() })?;
        Ok(Self::new(name, text))
    }

    /// A text that is at hand.
    #[must_use]
    pub fn new(name: String, text: String) -> Self {
        Self(Arc::new(NamedSource::new(name, text)))
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.inner()
    }

    /// Reads the text as YAML.
    ///
    /// # Errors
    /// [`InputError::Fault`] where the YAML or its shape is wrong.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, InputError> {
        let says_nothing = |line: &str| line.trim().is_empty() || line.trim().starts_with('#');
        if self.text().lines().all(says_nothing) {
            return Err(self
                .at(Spot { line: 1, column: 1 })
                .fault("the file is empty"));
        }
        serde_saphyr::from_str(self.0.inner()).map_err(|error| {
            let spot = error
                .location()
                .map_or(Spot { line: 1, column: 1 }, Spot::from);
            let message = error.without_snippet().to_string();
            // The place stands in front already.
            let end = format!(" at line {}, column {}", spot.line, spot.column);
            let message = message.strip_suffix(&end).unwrap_or(&message).to_owned();
            self.at(spot).fault(message)
        })
    }

    /// A place in it.
    #[must_use]
    pub fn at(&self, spot: Spot) -> Place {
        Place {
            source: self.clone(),
            spot,
        }
    }
}

/// A place in a file, to complain about later.
#[derive(Clone, Debug)]
pub struct Place {
    source: Source,
    spot: Spot,
}

impl Place {
    /// The error that this place is at fault.
    #[must_use]
    pub fn fault(&self, message: impl fmt::Display) -> InputError {
        let message = message.to_string();
        InputError::Fault(Fault(Box::new(Inner {
            place: self.clone(),
            message,
        })))
    }

    /// The line, from 1.
    #[must_use]
    pub fn line(&self) -> u64 {
        self.spot.line
    }

    /// An error about a file that can't be read, told where the file was named.
    fn naming(&self, error: InputError) -> InputError {
        match error {
            InputError::Read { .. } => self.fault(error),
            InputError::Manifests(LoadError::Io { path, source }) => {
                self.fault(format!("can't read {}: {source}", path.display()))
            }
            _ => error,
        }
    }
}

/// A fault at a place: prints as `quickstart.yaml:12:5: what is wrong`, and as a
/// [`Diagnostic`] shows the line.
#[derive(Debug)]
pub struct Fault(Box<Inner>);

#[derive(Debug)]
struct Inner {
    place: Place,
    message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { place, message } = &*self.0;
        let Spot { line, column } = place.spot;
        write!(f, "{}:{line}:{column}: {message}", place.source.0.name())
    }
}

impl std::error::Error for Fault {}

impl Diagnostic for Fault {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.0.place.source.0)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = span_of(self.0.place.source.0.inner(), self.0.place.spot);
        let label = LabeledSpan::new_with_span(Some("here".to_owned()), span);
        Some(Box::new(core::iter::once(label)))
    }
}

/// From the place to the end of its word. The parser's byte offsets aren't always there,
/// its lines and columns are.
fn span_of(text: &str, spot: Spot) -> SourceSpan {
    let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).saturating_sub(1);
    let above = text
        .split_inclusive('\n')
        .take(number(spot.line))
        .map(str::len)
        .sum::<usize>();
    let line = text
        .get(above..)
        .unwrap_or_default()
        .lines()
        .next()
        .unwrap_or_default();
    let column = line
        .char_indices()
        .nth(number(spot.column))
        .map_or(line.len(), |(at, _)| at);
    let word = line.get(column..).unwrap_or_default();
    let len = word
        .find([' ', '\t', ',', ':', ']', '}'])
        .unwrap_or(word.len());
    SourceSpan::new(
        (above + column).into(),
        len.max(usize::from(!word.is_empty())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_the_word_at_its_line_and_column() {
        let text = "a: b\nü: frobnicate, x\n";
        let at = |line, column| {
            let span = span_of(text, Spot { line, column });
            text.get(span.offset()..span.offset() + span.len())
                .unwrap()
                .to_owned()
        };
        assert_eq!(at(1, 4), "b");
        assert_eq!(at(2, 4), "frobnicate");
        assert_eq!(at(2, 99), "");
        assert_eq!(at(9, 9), "");
        assert_eq!(at(0, 0), "a");
    }

    #[test]
    fn a_fault_prints_its_place_once() {
        let source = Source::new("x.yaml".to_owned(), "a: 1\nb: [\n".to_owned());
        let error = source
            .parse::<std::collections::BTreeMap<String, u8>>()
            .unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with("x.yaml:"), "{message}");
        assert!(!message.contains("at line"), "{message}");
    }
}
