//! A peer that is not ours: TLS with any certificate, then any bytes.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::ca::Issued;
use crate::node::PATIENCE;

#[derive(Debug)]
struct Gullible;

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider = rustls::crypto::ring::default_provider();
        provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

pub(crate) fn client_config(
    issued: Option<Issued>,
    version: &'static rustls::SupportedProtocolVersion,
) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible));
    let mut config = match issued {
        Some(issued) => {
            let key = PrivateKeyDer::try_from(issued.key).unwrap();
            builder.with_client_auth_cert(issued.chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"sluice-node/1".to_vec()];
    config
}

/// Dials, with whatever comes of it at this end. In TLS 1.3 a client learns only later that it
/// was refused.
pub(crate) async fn dial_with(
    addr: SocketAddr,
    config: ClientConfig,
) -> std::io::Result<client::TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(addr).await.unwrap();
    let name = ServerName::try_from("x.invalid").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
}

pub(crate) async fn dial(addr: SocketAddr, issued: Issued) -> client::TlsStream<TcpStream> {
    let config = client_config(Some(issued), &rustls::version::TLS13);
    dial_with(addr, config).await.unwrap()
}

/// Reads until the other end closes, and how.
pub(crate) async fn read_to_end<S: AsyncReadExt + Unpin>(
    stream: &mut S,
) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
    read.expect("the other end keeps it open").map(|_| bytes)
}

/// Answers one connection with a certificate that the dialler should not like.
pub(crate) async fn answer(
    listener: &TcpListener,
    issued: Issued,
) -> std::io::Result<server::TlsStream<TcpStream>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(issued.key).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(issued.chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"sluice-node/1".to_vec()];
    let accepted = timeout(PATIENCE, listener.accept()).await;
    let (tcp, _) = accepted.expect("nobody dials").unwrap();
    TlsAcceptor::from(Arc::new(config)).accept(tcp).await
}
