//! The annotation that a namespace and a pod may have: whether what it says to other nodes is
//! encrypted.

use sluice_offload_api::model::Encryption;

use crate::manifest::read::{At, Note};
use crate::manifest::wire::Annotations;

/// The annotation.
pub(crate) const ENCRYPTION: &str = "sluice.dev/encryption";

/// The setting of an object, `what` for people, if it has one. A value that is none is as
/// strict as can be, and told: it is the word of one pod's owner, and must not keep the rest
/// of the manifests from being taken.
pub(super) fn encryption(
    at: &At<'_>,
    what: &str,
    annotations: Option<&Annotations>,
    notes: &mut Vec<Note>,
) -> Option<Encryption> {
    let text = annotations?.get(ENCRYPTION)?.as_ref()?;
    match text.value.parse() {
        Ok(setting) => Some(setting),
        Err(error) => {
            let told = format!("{what}: {ENCRYPTION}: {error}; until it is one, required holds");
            notes.push(at.note(at.spot(text.referenced), told));
            Some(Encryption::Required)
        }
    }
}
