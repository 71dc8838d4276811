//! Whether a certificate chain is the X.509-SVID of the node that is expected: a pure function
//! of the chain, the trust anchors and the time.

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use sluice_mutants::{self as mutants, Mutant};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::anchors::Anchors;
use crate::id::{IdError, SpiffeId, TrustDomain};

/// Most certificates beside the leaf.
pub const INTERMEDIATES_MAX: usize = 4;

/// What checks signatures, by a library of the caller's choice.
pub type Algorithms<'a> = &'a [&'a dyn SignatureVerificationAlgorithm];

/// In which part of the handshake the certificate's owner stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// It dialled.
    Client,
    /// It was dialled.
    Server,
}

/// Why a chain is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SvidError {
    /// Not X.509, or a second copy of an extension.
    #[error("the certificate can't be read: {what}")]
    Encoding {
        /// Which part.
        what: &'static str,
    },
    /// Not exactly one URI among the alternative names.
    #[error("the certificate has {got} URI names; an X.509-SVID has exactly one (SPIFFE X.509 2)")]
    UriNames {
        /// How many.
        got: usize,
    },
    /// A URI that names no Sluice node.
    #[error(transparent)]
    Id(#[from] IdError),
    /// Another trust domain.
    #[error("{got} is not of trust domain {expected}")]
    TrustDomain {
        /// Who it says it is.
        got: SpiffeId,
        /// Ours.
        expected: TrustDomain,
    },
    /// A CA's certificate used as a node's.
    #[error("the certificate of {got} is a CA's; a leaf must not be one (SPIFFE X.509 4.1)")]
    CaLeaf {
        /// Who it says it is.
        got: SpiffeId,
    },
    /// Wrong or no key usage.
    #[error(
        "the key usage of {got} must have digitalSignature and neither keyCertSign nor cRLSign \
         (SPIFFE X.509 4.3)"
    )]
    KeyUsage {
        /// Who it says it is.
        got: SpiffeId,
    },
    /// Its time is over.
    #[error("the certificate of {got}, or one that it chains to, has expired")]
    Expired {
        /// Who it says it is.
        got: SpiffeId,
    },
    /// Its time has not come.
    #[error("the certificate of {got} is not valid yet; are the clocks right?")]
    NotYetValid {
        /// Who it says it is.
        got: SpiffeId,
    },
    /// No way from it to an anchor.
    #[error("the certificate of {got} chains to none of the trust anchors")]
    UnknownIssuer {
        /// Who it says it is.
        got: SpiffeId,
    },
    /// Refused for another reason.
    #[error("the chain of {got} is not valid: {why}")]
    Chain {
        /// Who it says it is.
        got: SpiffeId,
        /// What is wrong.
        why: webpki::Error,
    },
    /// A good certificate, of somebody else.
    #[error("the peer is {got}, expected was {expected}")]
    Unexpected {
        /// Who it is.
        got: SpiffeId,
        /// Who should have been there.
        expected: SpiffeId,
    },
    /// A good certificate of a node that we have no peer for.
    #[error("{got} is not a peer of this node")]
    NotAPeer {
        /// Who it is.
        got: SpiffeId,
    },
    /// The higher ID dialled.
    #[error("{got} dialled, but the lower SPIFFE ID dials")]
    WrongWay {
        /// Who it is.
        got: SpiffeId,
    },
}

/// Who a leaf says it is, if its form is an X.509-SVID's. Proves nothing yet.
///
/// # Errors
/// [`SvidError`].
pub fn check_leaf(leaf: &CertificateDer<'_>, domain: &TrustDomain) -> Result<SpiffeId, SvidError> {
    let encoding = |what| move |_| SvidError::Encoding { what };
    let (rest, cert) =
        X509Certificate::from_der(leaf).map_err(|_| SvidError::Encoding { what: "its DER" })?;
    if !rest.is_empty() {
        return Err(SvidError::Encoding {
            what: "bytes follow it",
        });
    }
    let names = cert
        .subject_alternative_name()
        .map_err(encoding("its alternative names"))?;
    let names = names.map(|n| n.value.general_names.as_slice());
    let uris: Vec<&str> = names
        .unwrap_or_default()
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    let [uri] = uris.as_slice() else {
        return Err(SvidError::UriNames { got: uris.len() });
    };
    let got = SpiffeId::parse(uri)?;
    if !got.is_in(domain) {
        let expected = domain.clone();
        return Err(SvidError::TrustDomain { got, expected });
    }
    let constraints = cert
        .basic_constraints()
        .map_err(encoding("its basic constraints"))?;
    if constraints.is_some_and(|c| c.value.ca) {
        return Err(SvidError::CaLeaf { got });
    }
    let usage = cert.key_usage().map_err(encoding("its key usage"))?;
    let usage = usage.map(|u| u.value);
    if !usage.is_some_and(|u| u.digital_signature() && !u.key_cert_sign() && !u.crl_sign()) {
        return Err(SvidError::KeyUsage { got });
    }
    Ok(got)
}

/// When a certificate's time ends, in seconds since 1970; 0 if that can't be read.
#[must_use]
pub fn not_after(leaf: &CertificateDer<'_>) -> u64 {
    let parsed = X509Certificate::from_der(leaf);
    let end = parsed.map(|(_, cert)| cert.validity().not_after.timestamp());
    u64::try_from(end.unwrap_or(0)).unwrap_or(0)
}

/// Who the owner of this chain, a leaf and intermediates, is, if it is an X.509-SVID that an anchor
/// vouches for at `now`.
///
/// # Errors
/// [`SvidError`].
pub fn verify(
    algorithms: Algorithms<'_>,
    (leaf, intermediates): (&CertificateDer<'_>, &[CertificateDer<'_>]),
    anchors: &Anchors,
    domain: &TrustDomain,
    role: Role,
    now: UnixTime,
) -> Result<SpiffeId, SvidError> {
    let got = check_leaf(leaf, domain)?;
    if intermediates.len() > INTERMEDIATES_MAX {
        let why = webpki::Error::MaximumPathDepthExceeded;
        return Err(SvidError::Chain { got, why });
    }
    let usage = match role {
        Role::Client => KeyUsage::client_auth(),
        Role::Server => KeyUsage::server_auth(),
    };
    let verified = EndEntityCert::try_from(leaf).and_then(|cert| {
        cert.verify_for_usage(
            algorithms,
            anchors.all(),
            intermediates,
            now,
            usage,
            None,
            Some(&|path: &VerifiedPath<'_>| anchors.check(path, now)),
        )
        .map(|_| ())
    });
    match verified {
        Ok(()) => Ok(got),
        Err(webpki::Error::CertExpired { .. }) if mutants::is(Mutant::ExpiryUnasked) => Ok(got),
        Err(webpki::Error::CertExpired { .. }) => Err(SvidError::Expired { got }),
        Err(webpki::Error::CertNotValidYet { .. }) => Err(SvidError::NotYetValid { got }),
        Err(webpki::Error::UnknownIssuer) => Err(SvidError::UnknownIssuer { got }),
        Err(why) => Err(SvidError::Chain { got, why }),
    }
}
