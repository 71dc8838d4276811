//! Texts that people wrote, and faults at a place in them: what a configuration, a scenario
//! or a manifest is wrong by. The daemons and the simulator read theirs through this too.

mod bounds;
#[cfg(feature = "complaint")]
mod complaint;

use core::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode, SourceSpan};
use serde::de::DeserializeOwned;
use serde_saphyr::Location;

pub(crate) use bounds::beyond;
#[cfg(feature = "complaint")]
pub use complaint::complaint;

/// A place in a text, in lines and columns from 1, columns in characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Spot {
    /// The line.
    pub line: u32,
    /// The column in characters.
    pub column: u32,
}

impl Spot {
    /// Where a text begins.
    pub const START: Self = Self { line: 1, column: 1 };
}

impl From<Location> for Spot {
    fn from(at: Location) -> Self {
        let number = |it| u32::try_from(it).unwrap_or(u32::MAX).max(1);
        Self {
            line: number(at.line()),
            column: number(at.column()),
        }
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Why there is no text.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file can't be read.
    #[error("can't read {}: {error}", path.display())]
    Io {
        /// The path as it was given.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is too long.
    #[error("{} is longer than the {bytes_max} bytes that are read; shorten or split it", path.display())]
    TooLong {
        /// The path as it was given.
        path: PathBuf,
        /// Bytes there may be.
        bytes_max: u64,
    },
    /// It is no text.
    #[error("{} is not UTF-8 text", path.display())]
    NotText {
        /// The path as it was given.
        path: PathBuf,
    },
}

/// A text with the name of its file. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Text {
    named: Arc<NamedSource<String>>,
    folder: PathBuf,
}

impl Text {
    /// Reads a file of at most `bytes_max` bytes.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(path: &Path, bytes_max: u64) -> Result<Self, ReadError> {
        let path_again = || path.to_owned();
        let bytes = read_at_most(path, bytes_max).map_err(|error| match error.kind() {
            std::io::ErrorKind::FileTooLarge => ReadError::TooLong {
                path: path_again(),
                bytes_max,
            },
            _ => ReadError::Io {
                path: path_again(),
                error,
            },
        })?;
        let text =
            String::from_utf8(bytes).map_err(|_| ReadError::NotText { path: path_again() })?;
        Ok(Self::new(path, text))
    }

    /// A text that is at hand, as if it were in a file.
    #[must_use]
    pub fn new(path: &Path, text: String) -> Self {
        Self {
            named: Arc::new(NamedSource::new(path.display().to_string(), text)),
            folder: path.parent().map(Path::to_owned).unwrap_or_default(),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.named.inner()
    }

    /// A path in it: relative to the file.
    #[must_use]
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// Reads it as YAML.
    ///
    /// # Errors
    /// A fault where the YAML or its shape is wrong.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        serde_saphyr::from_str(self.as_str()).map_err(|error| {
            let spot = error.location().map_or(Spot::START, Spot::from);
            if let Some(message) = beyond(&error) {
                return self.fault(spot, message);
            }
            let message = error.without_snippet().to_string();
            // The place stands in front already.
            let end = format!(" at line {}, column {}", spot.line, spot.column);
            let message = message.strip_suffix(&end).unwrap_or(&message);
            self.fault(spot, message)
        })
    }

    /// A fault at a place in it.
    pub fn fault(&self, at: impl Into<Spot>, message: impl fmt::Display) -> Fault {
        Fault(Box::new(Inner {
            named: Arc::clone(&self.named),
            spot: at.into(),
            message: message.to_string(),
        }))
    }
}

/// Reads a whole file.
///
/// # Errors
/// Those of reading, and `FileTooLarge` over `bytes_max` bytes.
pub fn read_at_most(path: &Path, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(bytes_max.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        let message = format!("longer than the {bytes_max} bytes that are read");
        return Err(std::io::Error::new(
            std::io::ErrorKind::FileTooLarge,
            message,
        ));
    }
    Ok(bytes)
}

/// A fault at a place: prints as `agent.yaml:12:5: what is wrong`, and as a [`Diagnostic`]
/// shows the line.
#[derive(Debug)]
pub struct Fault(Box<Inner>);

#[derive(Debug)]
struct Inner {
    named: Arc<NamedSource<String>>,
    spot: Spot,
    message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            named,
            spot,
            message,
        } = &*self.0;
        write!(f, "{}:{spot}: {message}", named.name())
    }
}

impl std::error::Error for Fault {}

impl Diagnostic for Fault {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.0.named)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = span_of(self.0.named.inner(), self.0.spot);
        let label = LabeledSpan::new_with_span(Some("here".to_owned()), span);
        Some(Box::new(core::iter::once(label)))
    }
}

/// From the place to the end of its word. The parser's own byte offsets are not always
/// there, its lines and columns are.
pub fn span_of(text: &str, spot: Spot) -> SourceSpan {
    let mut start = 0;
    for _ in 1..spot.line {
        let rest = text.get(start..).unwrap_or_default();
        start += rest.find('\n').map_or(rest.len(), |it| it + 1);
    }
    let line = text
        .get(start..)
        .unwrap_or_default()
        .lines()
        .next()
        .unwrap_or_default();
    // A byte order mark is no column.
    let mark = usize::from(spot.line == 1 && line.starts_with('\u{feff}'));
    let before = usize::try_from(spot.column)
        .unwrap_or(usize::MAX)
        .saturating_sub(1)
        + mark;
    let column = line
        .char_indices()
        .nth(before)
        .map_or(line.len(), |(at, _)| at);
    let word = line.get(column..).unwrap_or_default();
    let len = word
        .find([' ', '\t', ',', ':', ']', '}'])
        .unwrap_or(word.len());
    SourceSpan::new(
        (start + column).into(),
        len.max(usize::from(!word.is_empty())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_found_by_line_and_column() {
        let text = "\u{feff}a: b\nü: 10.0.0.1/8 # c\n";
        let at = |line, column| {
            let span = span_of(text, Spot { line, column });
            text[span.offset()..span.offset() + span.len()].to_owned()
        };
        assert_eq!(at(1, 1), "a");
        assert_eq!(at(1, 4), "b");
        assert_eq!(at(2, 1), "ü");
        assert_eq!(at(2, 4), "10.0.0.1/8");
        assert_eq!(at(2, 99), "");
        assert_eq!(at(9, 9), "");
        let start = span_of("a: b", Spot { line: 0, column: 0 });
        assert_eq!(
            (start.offset(), start.len()),
            (0, 1),
            "no place is the start"
        );
    }
    #[test]
    fn a_fault_prints_its_place_once() {
        let text = Text::new(Path::new("x.yaml"), "a: 1\nb: [\n".to_owned());
        let fault = text
            .parse::<std::collections::BTreeMap<String, u8>>()
            .unwrap_err();
        let message = fault.to_string();
        assert!(message.starts_with("x.yaml:"), "{message}");
        assert!(!message.contains("at line"), "{message}");
    }

    #[test]
    fn a_file_that_is_too_long_or_no_text_is_refused_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.yaml");
        std::fs::write(&path, [b'a', 0xff]).unwrap();
        let no_text = Text::read(&path, 2).unwrap_err();
        assert!(matches!(no_text, ReadError::NotText { .. }), "{no_text}");
        let long = Text::read(&path, 1).unwrap_err();
        assert!(
            long.to_string()
                .contains("x.yaml is longer than the 1 bytes"),
            "{long}"
        );
    }
}
