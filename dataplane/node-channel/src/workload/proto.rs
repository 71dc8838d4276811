//! The Workload API's types and client, as generated from `proto/spiffe/workload.proto`.
//!
//! Any value of them may be nonsense. [`super::response`] makes an identity of them.

use core::fmt;

use zeroize::Zeroize;

pub(super) use generated::spiffe_workload_api_client::SpiffeWorkloadApiClient;
pub(super) use generated::{X509svid, X509svidRequest, X509svidResponse};

mod generated {
    #![allow(
        missing_docs,
        unreachable_pub,
        dead_code,
        clippy::all,
        clippy::pedantic,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::allow_attributes_without_reason,
        reason = "generated code; the .proto file has the documentation"
    )]

    include!(concat!(env!("OUT_DIR"), "/_.rs"));
}

/// Says whose it is and how long its parts are; the key's bytes stay out.
impl fmt::Debug for X509svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("X509svid")
            .field("spiffe_id", &self.spiffe_id)
            .field("x509_svid_len", &self.x509_svid.len())
            .field("bundle_len", &self.bundle.len())
            .finish_non_exhaustive()
    }
}

/// The key goes with it, also when a response was refused or only half of it came.
impl Drop for X509svid {
    fn drop(&mut self) {
        self.x509_svid_key.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_not_shown() {
        let svid = X509svid {
            spiffe_id: "spiffe://test/sluice/node/a".to_owned(),
            x509_svid: vec![1; 3],
            x509_svid_key: vec![171; 48],
            bundle: vec![2; 5],
            hint: String::new(),
        };
        let response = X509svidResponse {
            svids: vec![svid],
            ..X509svidResponse::default()
        };
        let shown = format!("{response:?}");
        assert!(shown.contains("spiffe://test/sluice/node/a"), "{shown}");
        assert!(shown.contains("bundle_len: 5"), "{shown}");
        assert!(!shown.contains("171"), "{shown}");
    }
}
