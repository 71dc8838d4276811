//! A CA and what it signs, for one test.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use time::{Duration, OffsetDateTime};

pub(crate) const AGENT: &str = "spiffe://cluster.local/sluice/agent/a";
pub(crate) const SERVER: &str = "dataplane-a";

pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A certificate and its key.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    pub(crate) fn uri(&self, name: &str) -> Pair {
        self.sign(SanType::URI(name.try_into().unwrap()), 1)
    }

    /// An SVID of a node in the trust domain `test`.
    pub(crate) fn node(&self, name: &str) -> Pair {
        self.uri(&format!("spiffe://test/sluice/node/{name}"))
    }

    pub(crate) fn dns(&self, name: &str) -> Pair {
        self.sign(SanType::DnsName(name.try_into().unwrap()), 1)
    }

    pub(crate) fn expired(&self, name: &str) -> Pair {
        self.sign(SanType::URI(name.try_into().unwrap()), -1)
    }

    /// Valid from two days ago for so many days from now.
    fn sign(&self, name: SanType, days: i64) -> Pair {
        let now = OffsetDateTime::now_utc();
        let mut params = CertificateParams::default();
        params.not_before = now - Duration::days(2);
        params.not_after = now + Duration::days(days);
        params.subject_alt_names = vec![name];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair {
            certificate,
            key: key.serialize_pem(),
        }
    }
}
