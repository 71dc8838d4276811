//! Kubernetes manifests: files in, a [`Cluster`](crate::cluster::Cluster) out.
//!
//! What a person wrote is wrong at a file, a line and a column, and says what would be
//! right. Policies are read strictly, since a field that is overlooked there is a rule that
//! is missing; other objects carry much that is none of our business.

mod assemble;
mod check;
mod documents;
mod error;
mod kinds;
mod load;
mod read;
mod templates;
mod wire;

#[cfg(feature = "incident")]
pub(crate) use self::check::encryption::ENCRYPTION;
pub use assemble::assemble;
pub use error::{LoadError, ManifestError, ManifestFault};
pub use load::{Loaded, Place, load_dir, load_texts};
pub use read::{ManifestObject, Note, Object, parse};
pub use templates::{Template, load_templates, templates};

pub use crate::text::Spot;
