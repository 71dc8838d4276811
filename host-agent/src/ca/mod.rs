//! The offline CA: it signs what dataplanes and agents ask for, and is on no node.
//!
//! Keys are made where they are used. What comes here is a request with a name and the proof
//! that its sender has the key; what goes back is an X.509-SVID. Of the request only the
//! public key and the name are taken: everything else the CA says itself.
//!
//! Source: the SPIFFE standards X509-SVID and SPIFFE-ID, RFC 5280, RFC 2986.

mod id;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKeyData as _, SanType,
    SerialNumber, SignatureAlgorithm,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use time::{Duration, OffsetDateTime};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

pub use id::{IdError, Role, SvidId, TrustDomain};

/// Clocks differ: a certificate is in force from so long before it was signed.
const SKEW: Duration = Duration::minutes(5);
/// Bytes of a serial number: RFC 5280 section 4.1.2.2 allows 20.
const SERIAL_LEN: usize = 16;

/// Why something isn't signed, or can't be read.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A name that isn't one.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The request is no PEM of a PKCS #10 request, or has what isn't understood.
    #[error("the request can't be read: {0}")]
    Request(rcgen::Error),
    /// Whoever sent it has not shown that the key is theirs.
    #[error("the request's signature is wrong; it was changed, or its sender lacks the key")]
    Signature,
    /// Not exactly one name.
    #[error("the request must have exactly one name, a URI; it has {count}")]
    Names {
        /// How many.
        count: usize,
    },
    /// Another domain's.
    #[error("{id} is not of trust domain {domain}, and only its own CA may sign it")]
    Domain {
        /// Who asks.
        id: String,
        /// This CA's.
        domain: TrustDomain,
    },
    /// A kind of key that isn't signed.
    #[error("the request's key is not ECDSA P-256, P-384 or Ed25519")]
    Key,
    /// The CA's time is over.
    #[error("the CA's certificate is not in force now; make a new one with `ca init`")]
    Expired,
    /// Not a CA's certificate, or not of ours.
    #[error("the CA's certificate can't be used: {why}")]
    Certificate {
        /// Why.
        why: String,
    },
    /// The key of another certificate.
    #[error("ca.key is not the key of ca.pem")]
    KeyMismatch,
    /// No randomness.
    #[error("the system gives no random numbers")]
    Random,
    /// The library.
    #[error("no certificate could be made: {0}")]
    Make(rcgen::Error),
}

/// A key in PEM, wiped when it is dropped.
pub type KeyPem = Zeroizing<String>;

/// A CA with its key.
pub struct Authority {
    pem: String,
    domain: TrustDomain,
    issuer: Issuer<'static, KeyPair>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

impl core::fmt::Debug for Authority {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Authority")
            .field("domain", &self.domain)
            .finish_non_exhaustive()
    }
}

/// What was signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signed {
    /// The certificate, PEM.
    pub pem: String,
    /// Whose it is.
    pub id: SvidId,
    /// Until when it is in force.
    pub not_after: OffsetDateTime,
}

impl Authority {
    /// Makes a CA and its key.
    ///
    /// # Errors
    /// [`CaError::Random`], [`CaError::Make`].
    pub fn create(
        domain: &TrustDomain,
        now: OffsetDateTime,
        lifetime: Duration,
    ) -> Result<(Self, KeyPem), CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(CaError::Make)?;
        let key_pem = Zeroizing::new(key.serialize_pem());
        let mut params = params(&domain.uri(), &format!("Sluice CA of {domain}"))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial_number()?);
        params.not_before = now - SKEW;
        params.not_after = now + lifetime;
        let pem = params.self_signed(&key).map_err(CaError::Make)?.pem();
        Ok((Self::open(&pem, &key_pem)?, key_pem))
    }

    /// Opens a CA from its files' texts.
    ///
    /// # Errors
    /// [`CaError`] if they aren't a CA of ours and its key.
    pub fn open(pem: &str, key_pem: &str) -> Result<Self, CaError> {
        let key = KeyPair::from_pem(key_pem).map_err(|error| CaError::Certificate {
            why: format!("its key can't be read: {error}"),
        })?;
        let certificate = Certificate::parse(pem)?;
        if certificate.public_key != key.subject_public_key_info() {
            return Err(CaError::KeyMismatch);
        }
        let domain = certificate.authority_of()?;
        let issuer = Issuer::from_ca_cert_pem(pem, key).map_err(CaError::Make)?;
        Ok(Self {
            pem: pem.to_owned(),
            domain,
            issuer,
            not_before: certificate.not_before,
            not_after: certificate.not_after,
        })
    }

    /// Its certificate, PEM: what nodes trust.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Whom it signs for.
    #[must_use]
    pub const fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// Signs a request, PEM. What comes out ends with the CA at the latest.
    ///
    /// # Errors
    /// [`CaError`]: what makes the request unfit.
    pub fn sign(
        &self,
        request: &str,
        now: OffsetDateTime,
        lifetime: Duration,
    ) -> Result<Signed, CaError> {
        if now < self.not_before || now >= self.not_after {
            return Err(CaError::Expired);
        }
        let request = CertificateSigningRequestParams::from_pem(request);
        let request = request.map_err(|error| match error {
            rcgen::Error::InvalidCertificationRequestSignature => CaError::Signature,
            error => CaError::Request(error),
        })?;
        let id = self.asked_for(&request.params)?;
        check_key(
            request.public_key.algorithm(),
            request.public_key.der_bytes(),
        )?;
        let mut params = params(&id.to_string(), &id.subject())?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial_number()?);
        params.not_before = (now - SKEW).max(self.not_before);
        params.not_after = (now + lifetime).min(self.not_after);
        let not_after = params.not_after;
        let signed = params.signed_by(&request.public_key, &self.issuer);
        Ok(Signed {
            pem: signed.map_err(CaError::Make)?.pem(),
            id,
            not_after,
        })
    }

    fn asked_for(&self, params: &CertificateParams) -> Result<SvidId, CaError> {
        let names = &params.subject_alt_names;
        let [SanType::URI(uri)] = names.as_slice() else {
            let count = names.len();
            return Err(CaError::Names { count });
        };
        let id: SvidId = uri.as_str().parse()?;
        if *id.domain() != self.domain {
            return Err(CaError::Domain {
                id: id.to_string(),
                domain: self.domain.clone(),
            });
        }
        Ok(id)
    }
}

/// A key and the request to sign it, both PEM: what a dataplane or agent makes for itself.
///
/// # Errors
/// [`CaError::Make`].
pub fn request(id: &SvidId) -> Result<(KeyPem, String), CaError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(CaError::Make)?;
    let request = request_for(id, &key)?;
    Ok((Zeroizing::new(key.serialize_pem()), request))
}

/// The request to sign a key that is there, PEM: a renewal.
///
/// # Errors
/// [`CaError::Make`] if it is no key.
pub fn renewal(id: &SvidId, key_pem: &str) -> Result<String, CaError> {
    let key = KeyPair::from_pem(key_pem).map_err(CaError::Make)?;
    request_for(id, &key)
}

fn request_for(id: &SvidId, key: &KeyPair) -> Result<String, CaError> {
    let params = params(&id.to_string(), &id.subject())?;
    let request = params.serialize_request(key).map_err(CaError::Make)?;
    request.pem().map_err(CaError::Make)
}

fn params(uri: &str, subject: &str) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, subject);
    params.distinguished_name = name;
    let uri = uri.to_owned().try_into().map_err(CaError::Make)?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    Ok(params)
}

/// Drawn, so that a key that is signed again gets another one.
fn serial_number() -> Result<SerialNumber, CaError> {
    let mut serial = [0; SERIAL_LEN];
    SystemRandom::new()
        .fill(&mut serial)
        .map_err(|_| CaError::Random)?;
    // Positive, and of one length.
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&serial))
}

/// The request's key goes into the certificate under the algorithm of its signature: they
/// must be of one kind, which its length tells.
fn check_key(algorithm: &SignatureAlgorithm, key: &[u8]) -> Result<(), CaError> {
    let fits = [
        (&PKCS_ECDSA_P256_SHA256, 65),
        (&PKCS_ECDSA_P384_SHA384, 97),
        (&PKCS_ED25519, 32),
    ];
    let fits = fits
        .iter()
        .any(|(it, len)| *it == algorithm && key.len() == *len);
    if fits { Ok(()) } else { Err(CaError::Key) }
}

/// What a certificate says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    /// Its URIs.
    pub uris: Vec<String>,
    /// Whether it may sign others.
    pub is_ca: bool,
    /// From then on it is in force.
    pub not_before: OffsetDateTime,
    /// Until then.
    pub not_after: OffsetDateTime,
    public_key: Vec<u8>,
    der: Vec<u8>,
}

impl Certificate {
    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// [`CaError::Certificate`].
    pub fn parse(pem: &str) -> Result<Self, CaError> {
        let unfit = |why: String| CaError::Certificate { why };
        let mut found = Pem::iter_from_buffer(pem.as_bytes()).flatten();
        let found = found.find(|it| it.label == "CERTIFICATE");
        let der = found
            .ok_or_else(|| unfit("there is none in it".to_owned()))?
            .contents;
        let (_, parsed) =
            X509Certificate::from_der(&der).map_err(|error| unfit(error.to_string()))?;
        let names = parsed.subject_alternative_name().ok().flatten();
        let uris = names.into_iter().flat_map(|it| &it.value.general_names);
        let uris = uris.filter_map(|it| match it {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        });
        Ok(Self {
            uris: uris.collect(),
            is_ca: parsed.is_ca(),
            not_before: parsed.validity().not_before.to_datetime(),
            not_after: parsed.validity().not_after.to_datetime(),
            public_key: parsed.public_key().raw.to_vec(),
            der: der.clone(),
        })
    }

    /// The domain it is the CA of.
    ///
    /// # Errors
    /// [`CaError::Certificate`] if it is none, [`CaError::Id`] if its name is wrong.
    pub fn authority_of(&self) -> Result<TrustDomain, CaError> {
        let unfit = |why: &str| CaError::Certificate {
            why: why.to_owned(),
        };
        if !self.is_ca {
            return Err(unfit("it is no CA's"));
        }
        match self.uris.as_slice() {
            [uri] => Ok(TrustDomain::from_uri(uri)?),
            _ => Err(unfit("it has no trust domain; make it with `ca init`")),
        }
    }

    /// Whether this is an SVID of ours that `authority` has signed and that is in force.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn check(&self, authority: &Self, now: OffsetDateTime) -> Result<SvidId, String> {
        let domain = authority
            .authority_of()
            .map_err(|error| error.to_string())?;
        let [uri] = self.uris.as_slice() else {
            return Err(format!("it has {} URIs, not one", self.uris.len()));
        };
        let id: SvidId = uri.parse().map_err(|error: IdError| error.to_string())?;
        if *id.domain() != domain {
            return Err(format!("{id} is not of trust domain {domain}"));
        }
        if self.is_ca {
            return Err("it may sign others".to_owned());
        }
        let parse = |der| X509Certificate::from_der(der).map_err(|error| error.to_string());
        let ((_, own), (_, other)) = (parse(&self.der)?, parse(&authority.der)?);
        own.verify_signature(Some(other.public_key()))
            .map_err(|_| "it is not signed by that CA".to_owned())?;
        for (who, it) in [("the CA", authority), ("it", self)] {
            if now < it.not_before || now >= it.not_after {
                return Err(format!(
                    "{who} is in force from {} to {}",
                    it.not_before, it.not_after
                ));
            }
        }
        Ok(id)
    }
}

#[cfg(test)]
mod tests;
