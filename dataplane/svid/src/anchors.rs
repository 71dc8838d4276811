//! Trust anchors, with the rules of their certificates that webpki leaves out: an anchor's own
//! time and its path length. RFC 5280 section 6 makes them optional; an operator who wrote them
//! into a certificate meant them.

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::VerifiedPath;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A certificate that can't be an anchor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnchorError {
    /// Not readable.
    #[error(transparent)]
    Encoding(#[from] webpki::Error),
    /// Not a CA's.
    #[error("it is not a CA's: basic constraints and keyCertSign are needed")]
    NotACa,
}

/// Who vouches for peers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Anchors {
    all: Vec<TrustAnchor<'static>>,
    /// One for each of `all`.
    rules: Vec<Rules>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Rules {
    not_before: u64,
    not_after: u64,
    /// Most CAs between the anchor and a leaf.
    path_len: Option<u32>,
}

impl Anchors {
    /// Of CAs' certificates.
    ///
    /// # Errors
    /// The index of the certificate that is no anchor, and why.
    pub fn new(certificates: &[CertificateDer<'_>]) -> Result<Self, (usize, AnchorError)> {
        let (mut all, mut rules) = (Vec::new(), Vec::new());
        for (index, der) in certificates.iter().enumerate() {
            let anchor = webpki::anchor_from_trusted_cert(der);
            let anchor = anchor.map_err(|why| (index, why.into()))?;
            all.push(anchor.to_owned());
            rules.push(Rules::of(der).map_err(|why| (index, why))?);
        }
        Ok(Self { all, rules })
    }

    pub(crate) fn all(&self) -> &[TrustAnchor<'static>] {
        &self.all
    }

    /// Whether the time of one of them has ended between two moments.
    #[must_use]
    pub fn ended_since(&self, before: UnixTime, now: UnixTime) -> bool {
        let ended = before.as_secs()..now.as_secs();
        self.rules.iter().any(|it| ended.contains(&it.not_after))
    }

    /// Whether the rules of the anchor at this path's end allow it.
    pub(crate) fn check(
        &self,
        path: &VerifiedPath<'_>,
        now: UnixTime,
    ) -> Result<(), webpki::Error> {
        let is_its = |anchor: &&TrustAnchor<'static>| {
            core::ptr::eq::<TrustAnchor<'_>>(*anchor, path.anchor())
        };
        let rules = self.all.iter().zip(&self.rules).find(|(a, _)| is_its(a));
        let (_, rules) = rules.ok_or(webpki::Error::UnknownIssuer)?;
        let at = |secs| UnixTime::since_unix_epoch(core::time::Duration::from_secs(secs));
        if now.as_secs() > rules.not_after {
            let (time, not_after) = (now, at(rules.not_after));
            return Err(webpki::Error::CertExpired { time, not_after });
        }
        if now.as_secs() < rules.not_before {
            let (time, not_before) = (now, at(rules.not_before));
            return Err(webpki::Error::CertNotValidYet { time, not_before });
        }
        let between = path.intermediate_certificates().count();
        match rules.path_len {
            Some(max) if u32::try_from(between).is_ok_and(|n| n <= max) => Ok(()),
            Some(_) => Err(webpki::Error::PathLenConstraintViolated),
            None => Ok(()),
        }
    }
}

impl Rules {
    fn of(der: &CertificateDer<'_>) -> Result<Self, AnchorError> {
        let bad = |_| AnchorError::Encoding(webpki::Error::BadDer);
        let (_, cert) = X509Certificate::from_der(der)
            .map_err(|_| AnchorError::Encoding(webpki::Error::BadDer))?;
        let constraints = cert.basic_constraints().map_err(bad)?;
        let usage = cert.key_usage().map_err(bad)?;
        let constraints = constraints
            .filter(|c| c.value.ca)
            .ok_or(AnchorError::NotACa)?;
        if !usage.is_some_and(|u| u.value.key_cert_sign()) {
            return Err(AnchorError::NotACa);
        }
        let secs = |t: i64| u64::try_from(t).unwrap_or(0);
        Ok(Self {
            not_before: secs(cert.validity().not_before.timestamp()),
            not_after: secs(cert.validity().not_after.timestamp()),
            path_len: constraints.value.path_len_constraint,
        })
    }
}
