//! A certificate authority whose keys, and all that it signs, are of the seed: Ed25519 draws nothing
//! to sign by, so that bytes are the same on every machine.

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use sluice_svid::{Anchors, SpiffeId};
use time::OffsetDateTime;

use super::CertificateError;
use crate::keys::SeedKeys;

/// What stands before an Ed25519 key's 32 bytes in PKCS#8 (RFC 8410 section 7).
const PKCS8_HEAD: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
const SEED_LEN: usize = 32;
/// An authority's own certificate: ten years before the world begins and after.
const YEARS_TEN_SECS: u64 = 10 * 365 * 86_400;

/// From when to when a certificate is good, in seconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Validity {
    pub(super) not_before: u64,
    pub(super) not_after: u64,
}

/// Who signs.
#[derive(Debug)]
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) anchors: Anchors,
}

impl Authority {
    /// One of a name, as of the world's beginning.
    pub(super) fn new(keys: &SeedKeys, name: &str, begin: u64) -> Result<Self, CertificateError> {
        let key = key(keys, &[b"ca", name.as_bytes()])?;
        let mut params = params(name);
        params.serial_number = Some(SerialNumber::from(1));
        params.not_before = time(begin.saturating_sub(YEARS_TEN_SECS))?;
        params.not_after = time(begin.saturating_add(YEARS_TEN_SECS))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let own = params.self_signed(&key)?;
        let anchors = Anchors::new(&[own.der().clone()]);
        Ok(Self {
            issuer: Issuer::new(params, key),
            anchors: anchors.map_err(|it| it.1)?,
        })
    }

    /// The X.509-SVID of `id`, the `serial`th of a `holder`, whose key is its own each time.
    pub(super) fn issue(
        &self,
        keys: &SeedKeys,
        holder: &str,
        id: &SpiffeId,
        serial: u64,
        validity: Validity,
    ) -> Result<CertificateDer<'static>, CertificateError> {
        let key = key(keys, &[b"svid", holder.as_bytes(), &serial.to_be_bytes()])?;
        let mut params = params(holder);
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_before = time(validity.not_before)?;
        params.not_after = time(validity.not_after)?;
        params.is_ca = IsCa::NoCa;
        params.subject_alt_names = vec![SanType::URI(uri(id)?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        Ok(params.signed_by(&key, &self.issuer)?.der().clone())
    }
}

fn key(keys: &SeedKeys, purpose: &[&[u8]]) -> Result<KeyPair, CertificateError> {
    let mut der = PKCS8_HEAD.to_vec();
    der.extend(keys.bytes(purpose, SEED_LEN));
    let der = PrivatePkcs8KeyDer::from(der);
    Ok(KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ED25519)?)
}

fn uri(id: &SpiffeId) -> Result<Ia5String, rcgen::Error> {
    Ia5String::try_from(id.as_str())
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // X.520 allows a common name 64 characters; who it is stands in the URI.
    let name: String = name.chars().take(64).collect();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn time(secs: u64) -> Result<OffsetDateTime, CertificateError> {
    let secs = i64::try_from(secs).unwrap_or(i64::MAX);
    Ok(OffsetDateTime::from_unix_timestamp(secs)?)
}
