//! TLS between nodes: 1.3 only, both ends show an SVID, no tickets, no early data.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, NamedGroup,
    OtherError, ServerConfig, SignatureScheme,
};
use sluice_crypto::lifecycle::{EXPORTER_CONTEXT, EXPORTER_LABEL, ExporterSecret};
use sluice_svid::{self as svid, Accept, Role, SpiffeId, SvidError};

use crate::identity::Identity;

/// Names the protocol and its version, so that a TLS peer of another kind ends in the handshake.
const ALPN: &[u8] = b"sluice-node/1";

/// The groups that we exchange keys in, best first: the hybrid of ML-KEM-768 (FIPS 203) and
/// X25519 (draft-ietf-tls-ecdhe-mlkem), which what is recorded today can't be opened by later,
/// then the classical ones for a peer without it.
const GROUPS: [&dyn SupportedKxGroup; 4] = [
    kx_group::X25519MLKEM768,
    kx_group::X25519,
    kx_group::SECP256R1,
    kx_group::SECP384R1,
];

/// aws-lc-rs, as ring has no ML-KEM.
pub(crate) fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: GROUPS.to_vec(),
        ..aws_lc_rs::default_provider()
    }
}

/// What checks the signatures of peers' chains.
pub(crate) fn algorithms() -> svid::Algorithms<'static> {
    provider().signature_verification_algorithms.all
}

/// Whether a session's keys come of a post-quantum exchange, too.
pub(crate) fn is_post_quantum<D>(connection: &rustls::ConnectionCommon<D>) -> bool {
    let group = connection.negotiated_key_exchange_group();
    group.is_some_and(|it| it.name() == NamedGroup::X25519MLKEM768)
}

/// For one dial, to `expected` and nobody else.
pub(crate) fn client(
    identity: &Arc<Identity>,
    expected: &SpiffeId,
) -> Result<ClientConfig, rustls::Error> {
    let verifier = Verifier::new(identity, Accept::Only(expected.clone()));
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(identity.resolver());
    // A resumed session would do without a certificate, and its keys hang on older ones.
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = false;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

/// For one connection that came in, from one of `dialling`: the peers that are to dial us.
pub(crate) fn server(
    identity: &Arc<Identity>,
    dialling: Arc<BTreeSet<SpiffeId>>,
) -> Result<ServerConfig, rustls::Error> {
    let verifier = Verifier::new(identity, Accept::Dialling(dialling));
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(identity.resolver());
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

/// The server name is not looked at: a peer is its SPIFFE ID.
pub(crate) fn server_name() -> Result<ServerName<'static>, rustls::Error> {
    ServerName::try_from("sluice-node.invalid")
        .map_err(|why| rustls::Error::General(why.to_string()))
}

/// The secret of one session, for one epoch.
pub(crate) fn export<D>(
    connection: &rustls::ConnectionCommon<D>,
) -> Result<ExporterSecret, rustls::Error> {
    let mut bytes = [0; ExporterSecret::LEN];
    connection.export_keying_material(&mut bytes, EXPORTER_LABEL, Some(EXPORTER_CONTEXT))?;
    Ok(ExporterSecret::take_from(&mut bytes))
}

/// What a handshake's error says about the peer's certificate, if that is what failed.
pub(crate) fn svid_error(error: &io::Error) -> Option<&SvidError> {
    match tls_error(error)? {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => {
            inner.downcast_ref()
        }
        _ => None,
    }
}

/// The TLS error within an I/O error.
pub(crate) fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

struct Verifier {
    identity: Arc<Identity>,
    accept: Accept,
    provider: Arc<CryptoProvider>,
}

impl core::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Verifier({:?})", self.accept)
    }
}

impl Verifier {
    fn new(identity: &Arc<Identity>, accept: Accept) -> Arc<Self> {
        Arc::new(Self {
            identity: identity.clone(),
            accept,
            provider: Arc::new(provider()),
        })
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        role: Role,
        now: UnixTime,
    ) -> Result<(), SvidError> {
        let Identity {
            anchors, domain, ..
        } = &*self.identity;
        let algorithms = self.provider.signature_verification_algorithms.all;
        let chain = (leaf, intermediates);
        let got = svid::verify(algorithms, chain, anchors, domain, role, now)?;
        self.accept.check(got, &self.identity.id)
    }

    fn signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }
}

fn refused(error: SvidError) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

/// Not reached: neither end offers 1.2.
fn no_tls12() -> rustls::Error {
    rustls::Error::General("TLS 1.2 is not spoken between nodes".to_owned())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, Role::Server, now)
            .map(|()| ServerCertVerified::assertion())
            .map_err(refused)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, Role::Client, now)
            .map(|()| ClientCertVerified::assertion())
            .map_err(refused)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
