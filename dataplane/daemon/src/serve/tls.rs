//! Mutual TLS: TLS 1.3 only, by ring; a client needs a certificate of our CA with the name of
//! an allowed agent in it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{Error, RootCertStore, ServerConfig, version};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::config::{TcpConfig, check_mode};

/// Bytes of a PEM file, at most.
const PEM_BYTES_MAX: u64 = 1 << 20;
/// Certificates in one file, at most.
const CERTIFICATES_MAX: usize = 64;

/// The files make no TLS server.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error("{}: {error}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        error: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The trust anchors.
    #[error("the CA's certificates make no trust anchors: {0}")]
    Ca(#[from] VerifierBuilderError),
    /// Certificate and key.
    #[error("certificate and key make no server: {0}")]
    Server(#[from] Error),
}

/// A TLS server's side from files.
///
/// # Errors
/// [`TlsError`].
pub(crate) fn acceptor(config: &TcpConfig) -> Result<TlsAcceptor, TlsError> {
    let mut roots = RootCertStore::empty();
    for ca in certificates(&config.ca)? {
        roots.add(ca).map_err(|error| fault(&config.ca, error))?;
    }
    let provider = Arc::new(default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()?;
    check_mode(&config.key).map_err(|error| fault(&config.key, error))?;
    let pem = read(&config.key)?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| fault(&config.key, error))?;
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&config.certificate)?, key)?;
    server.alpn_protocols = vec![b"h2".to_vec()];
    // Each connection proves itself anew: no ticket outlives a revoked name.
    server.send_tls13_tickets = 0;
    Ok(TlsAcceptor::from(Arc::new(server)))
}

/// The acceptor of the files as they are now: short-lived certificates are renewed in place.
pub(super) struct Renewing {
    config: TcpConfig,
    written: [Stamp; 3],
    acceptor: TlsAcceptor,
}

impl Renewing {
    pub(super) fn new(config: TcpConfig) -> Result<Self, TlsError> {
        let (written, acceptor) = (written(&config), acceptor(&config)?);
        Ok(Self {
            config,
            written,
            acceptor,
        })
    }

    /// Reads the files again if one of them has changed. What can't be used is reported once,
    /// and the last good ones stay: whoever replaces a pair does it one after the other.
    pub(super) fn acceptor(&mut self) -> TlsAcceptor {
        let written = written(&self.config);
        if written != self.written {
            self.written = written;
            match acceptor(&self.config) {
                Ok(fresh) => {
                    tracing::info!("certificates were read again");
                    self.acceptor = fresh;
                }
                Err(error) => tracing::warn!(%error, "the last good certificates stay in use"),
            }
        }
        self.acceptor.clone()
    }
}

/// When a file was written, and its length; `None` if it isn't there.
type Stamp = Option<(SystemTime, u64)>;

fn written(config: &TcpConfig) -> [Stamp; 3] {
    [&config.certificate, &config.key, &config.ca].map(|path| {
        let file = std::fs::metadata(path).ok()?;
        Some((file.modified().ok()?, file.len()))
    })
}

fn fault(path: &Path, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TlsError {
    TlsError::File {
        path: path.to_owned(),
        error: error.into(),
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let mut bytes = Zeroizing::new(Vec::new());
    let file = File::open(path).map_err(|error| fault(path, error))?;
    let read = file.take(PEM_BYTES_MAX + 1).read_to_end(&mut bytes);
    let len = read.map_err(|error| fault(path, error))?;
    if len as u64 > PEM_BYTES_MAX {
        return Err(fault(
            path,
            format!("longer than the {PEM_BYTES_MAX} bytes that are read"),
        ));
    }
    Ok(bytes)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem)
        .take(CERTIFICATES_MAX + 1)
        .collect();
    let found = found.map_err(|error| fault(path, error))?;
    match found.len() {
        0 => Err(fault(path, "there is no PEM certificate in it")),
        1..=CERTIFICATES_MAX => Ok(found),
        _ => Err(fault(
            path,
            format!("more than {CERTIFICATES_MAX} certificates"),
        )),
    }
}

/// The first of a verified certificate's URI and DNS names that is an allowed agent's.
pub(super) fn agent<'a>(
    certificate: &CertificateDer<'_>,
    allowed: &'a [String],
) -> Option<&'a str> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    names
        .value
        .general_names
        .iter()
        .find_map(|name| match name {
            GeneralName::URI(name) | GeneralName::DNSName(name) => {
                allowed.iter().map(String::as_str).find(|it| it == name)
            }
            _ => None,
        })
}
