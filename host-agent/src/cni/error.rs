//! Errors as the specification wants them: JSON on stdout.

use serde_json::json;

/// What kind of error it is: the specification's numbers, from 100 on our own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum CniCode {
    /// A version that isn't supported.
    Version = 1,
    /// An environment variable is missing or wrong.
    Environment = 4,
    /// Reading or talking failed.
    Io = 5,
    /// The configuration is no JSON.
    Decode = 6,
    /// The configuration makes no sense.
    Config = 7,
    /// It may work later.
    TryAgain = 11,
    /// STATUS: ADD would fail.
    NotAvailable = 50,
    /// The agent refuses: the VF is another pod's, and the like.
    Refused = 100,
}

/// An error for the runtime.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text}: {details} (code {})", *code as u32)]
pub struct CniError {
    /// What kind.
    pub code: CniCode,
    /// What is wrong.
    pub text: String,
    /// Why, and what to do.
    pub details: String,
    version: Option<String>,
}

impl CniError {
    pub(super) fn new(code: CniCode, text: impl Into<String>, details: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            details: details.into(),
            version: None,
        }
    }

    pub(super) fn in_version(mut self, version: &str) -> Self {
        self.version.get_or_insert_with(|| version.to_owned());
        self
    }

    /// What to print on stdout.
    #[must_use]
    pub fn to_json(&self) -> String {
        let version = self.version.as_deref().unwrap_or("1.0.0");
        json!({
            "cniVersion": version,
            "code": self.code as u32,
            "msg": self.text,
            "details": self.details,
        })
        .to_string()
    }
}
