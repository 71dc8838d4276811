//! What one response of the Workload API says of this node, now.

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use sluice_svid::{
    self as svid, AnchorError, Anchors, INTERMEDIATES_MAX, SpiffeId, SvidError, TrustDomain,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::proto::{X509svid, X509svidResponse};
use super::shortened;
use crate::identity::{ANCHORS_MAX, Identity};

/// Most SVIDs of a response.
pub const SVIDS_MAX: usize = 64;

/// Most SPIFFE IDs that an error names.
const NAMED_MAX: usize = 8;

/// A response that is no identity of this node. None changes what came before, but for
/// [`Self::NotOffered`].
#[derive(Debug, thiserror::Error)]
pub enum ResponseError {
    /// Without a single SVID, which the standard doesn't allow.
    #[error("the response holds no SVID")]
    NoSvid,
    /// More than anyone needs.
    #[error("the response holds {got} SVIDs, more than {SVIDS_MAX}")]
    Svids {
        /// How many.
        got: usize,
    },
    /// Those of others only, so ours is withdrawn or was never given.
    #[error(
        "no SVID of {expected} is offered, but of {offered}; its registration entry's selectors \
         are to fit this process"
    )]
    NotOffered {
        /// Who we are.
        expected: SpiffeId,
        /// Whose there are, the first of them.
        offered: String,
    },
    /// One of the fields that an SVID always has is empty.
    #[error("the SVID of this node has an empty `{field}`")]
    Empty {
        /// Its name in the standard.
        field: &'static str,
    },
    /// Not certificates one behind the other.
    #[error("certificate {index} of `{field}` can't be read as DER")]
    Der {
        /// Its name in the standard.
        field: &'static str,
        /// Which one, from 0.
        index: usize,
    },
    /// More certificates than are taken.
    #[error("`{field}` holds more than {most} certificates")]
    Certificates {
        /// Its name in the standard.
        field: &'static str,
        /// The bound.
        most: usize,
    },
    /// Its certificate is no SVID.
    #[error("`x509_svid`: {0}")]
    Svid(#[from] SvidError),
    /// Its certificate is somebody else's.
    #[error("an SVID that is said to be of {expected} is of {got}")]
    NotUs {
        /// Whose it is.
        got: SpiffeId,
        /// Who we are.
        expected: SpiffeId,
    },
    /// Its time is over.
    #[error("the SVID of this node has expired")]
    Expired,
    /// A CA that can't be one.
    #[error("certificate {index} of `bundle` is no trust anchor: {why}")]
    Anchor {
        /// Which one, from 0.
        index: usize,
        /// What is wrong.
        why: AnchorError,
    },
    /// TLS refuses them, as when the key is not the certificate's.
    #[error("SVID and key don't go together: {0}")]
    Tls(#[from] rustls::Error),
}

impl ResponseError {
    /// Whether the API has said that this node is not entitled to an SVID, and not just something
    /// that can't be understood.
    pub(super) const fn is_withdrawal(&self) -> bool {
        matches!(self, Self::NotOffered { .. })
    }
}

/// The identity of `id` in a response, by the rules that files are held to. The key is read where
/// it lies; what the response has of it goes with the response.
pub(super) fn identity(
    response: &X509svidResponse,
    id: &SpiffeId,
    domain: &TrustDomain,
) -> Result<Identity, ResponseError> {
    let svid = choose(&response.svids, id)?;
    for (field, bytes) in [
        ("x509_svid", &svid.x509_svid),
        ("x509_svid_key", &svid.x509_svid_key),
        ("bundle", &svid.bundle),
    ] {
        if bytes.is_empty() {
            return Err(ResponseError::Empty { field });
        }
    }
    let chain = certificates("x509_svid", &svid.x509_svid, 1 + INTERMEDIATES_MAX)?;
    if let Some(leaf) = chain.first() {
        let got = svid::check_leaf(leaf, domain)?;
        if got != *id {
            let expected = id.clone();
            return Err(ResponseError::NotUs { got, expected });
        }
    }
    // What stands beside it may be no part of its chain.
    let end = chain.first().map(svid::not_after);
    if end.is_some_and(|it| it < UnixTime::now().as_secs()) {
        return Err(ResponseError::Expired);
    }
    let anchors = certificates("bundle", &svid.bundle, ANCHORS_MAX)?;
    let anchors =
        Anchors::new(&anchors).map_err(|(index, why)| ResponseError::Anchor { index, why })?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(svid.x509_svid_key.as_slice()));
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)?;
    Ok(Identity::new(id, domain, chain, key, anchors)?)
}

/// The one of this node. Of two with its ID the first, as the standard has it for a default.
fn choose<'a>(svids: &'a [X509svid], id: &SpiffeId) -> Result<&'a X509svid, ResponseError> {
    match svids.len() {
        0 => return Err(ResponseError::NoSvid),
        1..=SVIDS_MAX => {}
        got => return Err(ResponseError::Svids { got }),
    }
    let ours = svids.iter().find(|it| it.spiffe_id == id.as_str());
    ours.ok_or_else(|| ResponseError::NotOffered {
        expected: id.clone(),
        offered: named(svids),
    })
}

/// Whose SVIDs these say they are.
fn named(svids: &[X509svid]) -> String {
    let names = svids.iter().take(NAMED_MAX);
    let names: Vec<_> = names.map(|it| shortened(&it.spiffe_id)).collect();
    let more = svids.len().saturating_sub(NAMED_MAX);
    match more {
        0 => names.join(", "),
        _ => format!("{} and {more} more", names.join(", ")),
    }
}

/// Certificates that lie one behind the other; nothing says where one ends but itself.
fn certificates(
    field: &'static str,
    mut der: &[u8],
    most: usize,
) -> Result<Vec<CertificateDer<'static>>, ResponseError> {
    let mut all = Vec::new();
    while !der.is_empty() {
        let index = all.len();
        if index == most {
            return Err(ResponseError::Certificates { field, most });
        }
        let (rest, _) =
            X509Certificate::from_der(der).map_err(|_| ResponseError::Der { field, index })?;
        let (one, _) = der.split_at(der.len().saturating_sub(rest.len()));
        if one.is_empty() {
            return Err(ResponseError::Der { field, index });
        }
        all.push(CertificateDer::from(one.to_vec()));
        der = rest;
    }
    Ok(all)
}
