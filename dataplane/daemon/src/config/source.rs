//! Texts that people wrote, and faults at a place in them.

use core::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode, SourceSpan};
use serde::de::DeserializeOwned;
use serde_saphyr::Location;

use super::ConfigError;

/// Length of a configuration file in bytes, at most.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// A text with the name of its file. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    text: Arc<NamedSource<String>>,
    folder: PathBuf,
}

impl Source {
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let failed = |error| ConfigError::Read {
            path: path.to_owned(),
            error,
        };
        let bytes = read_at_most(path, CONFIG_BYTES_MAX).map_err(failed)?;
        let text = String::from_utf8(bytes).map_err(|error| {
            failed(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                error.utf8_error(),
            ))
        })?;
        Ok(Self::new(path, text))
    }

    pub(crate) fn new(path: &Path, text: String) -> Self {
        Self {
            text: Arc::new(NamedSource::new(path.display().to_string(), text)),
            folder: path.parent().map(Path::to_owned).unwrap_or_default(),
        }
    }

    /// Paths in a file are relative to the file.
    pub(crate) fn resolve(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        serde_saphyr::from_str(self.text.inner()).map_err(|error| {
            let (line, column) = error
                .location()
                .map_or((1, 1), |at| (at.line(), at.column()));
            let message = error.without_snippet().to_string();
            // The place stands in front already.
            let end = format!(" at line {line}, column {column}");
            let message = message.strip_suffix(&end).unwrap_or(&message).to_owned();
            self.fault_at(line, column, message)
        })
    }

    pub(crate) fn fault(&self, at: Location, message: impl fmt::Display) -> ConfigError {
        self.fault_at(at.line(), at.column(), message.to_string())
    }

    fn fault_at(&self, line: u64, column: u64, message: String) -> ConfigError {
        let span = span_of(self.text.inner(), line, column);
        let text = Arc::clone(&self.text);
        ConfigError::Fault(Fault(Box::new(Inner {
            text,
            line,
            column,
            span,
            message,
        })))
    }
}

/// Reads a whole file.
///
/// # Errors
/// Those of reading, and `FileTooLarge` over `max` bytes.
pub(crate) fn read_at_most(path: &Path, max: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(max.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        let message = format!("longer than the {max} bytes that are read");
        return Err(std::io::Error::new(
            std::io::ErrorKind::FileTooLarge,
            message,
        ));
    }
    Ok(bytes)
}

/// A fault at a place: prints as `dataplane.yaml:12:5: what is wrong`, and as a
/// [`Diagnostic`] shows the line.
#[derive(Debug)]
pub struct Fault(Box<Inner>);

#[derive(Debug)]
struct Inner {
    text: Arc<NamedSource<String>>,
    line: u64,
    column: u64,
    span: SourceSpan,
    message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            text,
            line,
            column,
            message,
            ..
        } = &*self.0;
        write!(f, "{}:{line}:{column}: {message}", text.name())
    }
}

impl std::error::Error for Fault {}

impl Diagnostic for Fault {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.0.text)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = LabeledSpan::new_with_span(Some("here".to_owned()), self.0.span);
        Some(Box::new(core::iter::once(label)))
    }
}

/// From the place to the end of its word. The parser's byte offsets aren't always there,
/// its lines and columns are.
fn span_of(text: &str, line: u64, column: u64) -> SourceSpan {
    let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).saturating_sub(1);
    let above = text
        .split_inclusive('\n')
        .take(number(line))
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
        .nth(number(column))
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
            let span = span_of(text, line, column);
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
}
