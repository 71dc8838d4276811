//! The annotation that every kind of policy may have: whether it is in force.

use crate::cluster::Mode;
use crate::manifest::error::{ManifestError, ManifestFault};
use crate::manifest::read::At;
use crate::manifest::wire::Annotations;

/// The annotation of a policy that says whether it is in force.
const MODE: &str = "sluice.dev/mode";

/// A policy's mode; without the annotation it is enforced.
pub(super) fn mode(at: &At<'_>, annotations: &Option<Annotations>) -> Result<Mode, ManifestError> {
    let given = annotations.as_ref().and_then(|it| it.get(MODE));
    match given.and_then(Option::as_ref) {
        None => Ok(Mode::Enforce),
        Some(text) => match text.value.as_str() {
            "enforce" => Ok(Mode::Enforce),
            "shadow" => Ok(Mode::Shadow),
            other => {
                let text_of = other.to_owned();
                Err(at.fault(
                    at.spot(text.referenced),
                    ManifestFault::Mode { text: text_of },
                ))
            }
        },
    }
}
