//! A configuration file's text, and faults at a place in it.

use core::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode, SourceSpan};
use serde::de::DeserializeOwned;
use serde_saphyr::Location;

use super::{CONFIG_BYTES_MAX, ConfigError};
use crate::manifest::{Spot, span_of};

/// A text with the name of its file. Paths in it are relative to the file.
#[derive(Clone, Debug)]
pub(super) struct Text {
    text: Arc<NamedSource<String>>,
    folder: PathBuf,
}

impl Text {
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let failed = |error| ConfigError::Read {
            path: path.to_owned(),
            error,
        };
        let file = File::open(path).map_err(failed)?;
        let mut text = String::new();
        file.take(CONFIG_BYTES_MAX + 1)
            .read_to_string(&mut text)
            .map_err(failed)?;
        if text.len() as u64 > CONFIG_BYTES_MAX {
            let path = path.to_owned();
            return Err(ConfigError::TooLong { path });
        }
        Ok(Self::new(path, text))
    }

    pub(super) fn new(path: &Path, text: String) -> Self {
        Self {
            text: Arc::new(NamedSource::new(path.display().to_string(), text)),
            folder: path.parent().map(Path::to_owned).unwrap_or_default(),
        }
    }

    pub(super) fn resolve(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        serde_saphyr::from_str(self.text.inner()).map_err(|error| {
            let at = error
                .location()
                .map_or((1, 1), |it| (it.line(), it.column()));
            let message = error.without_snippet().to_string();
            // The place stands in front already.
            let end = format!(" at line {}, column {}", at.0, at.1);
            let message = message.strip_suffix(&end).unwrap_or(&message).to_owned();
            self.fault_at(at, message)
        })
    }

    pub(super) fn fault(&self, at: Location, message: impl fmt::Display) -> ConfigError {
        self.fault_at((at.line(), at.column()), message.to_string())
    }

    fn fault_at(&self, (line, column): (u64, u64), message: String) -> ConfigError {
        let number = |it| u32::try_from(it).unwrap_or(u32::MAX);
        let spot = Spot {
            line: number(line),
            column: number(column),
        };
        ConfigError::Fault(Fault(Box::new(Inner {
            text: Arc::clone(&self.text),
            spot,
            span: span_of(self.text.inner(), spot),
            message,
        })))
    }
}

/// A fault at a place: prints as `agent.yaml:12:5: what is wrong`, and as a [`Diagnostic`]
/// shows the line.
#[derive(Debug)]
pub struct Fault(Box<Inner>);

#[derive(Debug)]
struct Inner {
    text: Arc<NamedSource<String>>,
    spot: Spot,
    span: SourceSpan,
    message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            text,
            spot,
            message,
            ..
        } = &*self.0;
        write!(f, "{}:{spot}: {message}", text.name())
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
