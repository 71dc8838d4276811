//! Mutual TLS with a dataplane: TLS 1.3 by ring. Both sides have X.509-SVIDs, which name a
//! SPIFFE ID and no host; so the dataplane is known by its ID, not by its address.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::drivers::config::TlsConfig;

/// Bytes of a PEM file, at most.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// Why the files make no TLS client.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{}: {error}", file_name(path))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file has not what it should.
    #[error("{}: {why}", file_name(path))]
    Content {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Others than its user may read the key.
    #[error(
        "{} may be read by others (mode {mode:o}); chmod 600 it",
        file_name(path)
    )]
    KeyMode {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Certificate and key make no client.
    #[error("{} and its key make no TLS client: {error}", file_name(path))]
    Client {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        error: Error,
    },
}

/// Where the file is, its reader has said; a status shows no folders.
fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// What makes TLS of a connection. The files are read each time: a renewed certificate is
/// used by the next connection.
///
/// # Errors
/// [`TlsError`].
pub(super) fn connector(config: &TlsConfig) -> Result<TlsConnector, TlsError> {
    let mut roots = RootCertStore::empty();
    for ca in certificates(&config.ca)? {
        roots.add(ca).map_err(|error| content(&config.ca, error))?;
    }
    let chain = certificates(&config.certificate)?;
    let key = read(&config.key)?;
    let mode = fs::metadata(&config.key).map_or(0, |it| it.mode() & 0o777);
    if mode & 0o077 != 0 {
        let path = config.key.clone();
        return Err(TlsError::KeyMode { path, mode });
    }
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| content(&config.key, error))?;
    let client = |error| TlsError::Client {
        path: config.certificate.clone(),
        error,
    };
    let provider = Arc::new(ring::default_provider());
    let verifier = IdVerifier {
        id: config.id.clone(),
        roots,
        provider: Arc::clone(&provider),
    };
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(client)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(chain, key)
        .map_err(client)?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(tls)))
}

fn content(path: &Path, why: impl ToString) -> TlsError {
    TlsError::Content {
        path: path.to_owned(),
        why: why.to_string(),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |error| TlsError::Read {
        path: path.to_owned(),
        error,
    };
    let bytes = fs::read(path).map_err(failed)?;
    if bytes.len() as u64 > PEM_BYTES_MAX {
        return Err(content(path, format!("longer than {PEM_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|error| content(path, error))?;
    if found.is_empty() {
        return Err(content(path, "there is no PEM certificate in it"));
    }
    Ok(found)
}

/// Takes exactly one SPIFFE ID, signed by one of the trust anchors, in force now.
#[derive(Debug)]
struct IdVerifier {
    id: String,
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for IdVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        // An SVID has exactly one URI: of several, which would it be?
        match uris(end_entity).as_deref() {
            Some([uri]) if *uri == self.id => Ok(ServerCertVerified::assertion()),
            _ => Err(Error::InvalidCertificate(CertificateError::NotValidForName)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn uris(certificate: &CertificateDer<'_>) -> Option<Vec<String>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    };
    Some(names.value.general_names.iter().filter_map(uri).collect())
}
