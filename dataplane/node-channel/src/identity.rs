//! This node's SVID, its key, and the anchors that vouch for the others; its files of them.

use std::fs;
use std::io;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, DnType, KeyPair, KeyUsagePurpose, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use sluice_svid::{self as svid, AnchorError, Anchors, SpiffeId, SvidError, TrustDomain};
use zeroize::Zeroizing;

use crate::workload::WorkloadApi;

/// Longest file read, in bytes.
const FILE_LEN_MAX: u64 = 1 << 20;

/// Most trust anchors.
pub(crate) const ANCHORS_MAX: usize = 64;

/// Where the identity comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// Files, which somebody else renews.
    Files(Files),
    /// A SPIFFE Workload API, which renews it itself.
    WorkloadApi(WorkloadApi),
}

impl From<Files> for Source {
    fn from(files: Files) -> Self {
        Self::Files(files)
    }
}

impl From<WorkloadApi> for Source {
    fn from(api: WorkloadApi) -> Self {
        Self::WorkloadApi(api)
    }
}

/// Where the identity lies. All are PEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Files {
    /// The leaf, then intermediates.
    pub svid: PathBuf,
    /// Its private key, PKCS#8; readable by its owner only.
    pub key: PathBuf,
    /// The trust anchors.
    pub anchors: PathBuf,
}

/// Files that don't make an identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Not to be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// Too long.
    #[error("{} has {len} bytes, more than {FILE_LEN_MAX}", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Its length.
        len: u64,
    },
    /// Not PEM, or without what it should hold.
    #[error("{} holds no {what} in PEM: {why}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What should be there.
        what: &'static str,
        /// What is wrong.
        why: rustls::pki_types::pem::Error,
    },
    /// A key that others may read.
    #[error(
        "{} has mode {mode:o}; others must not read a private key: chmod 600",
        path.display()
    )]
    KeyMode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not an anchor.
    #[error("certificate {index} in {} is no trust anchor: {why}", path.display())]
    Anchor {
        /// The file.
        path: PathBuf,
        /// Which one, from 0.
        index: usize,
        /// What is wrong.
        why: AnchorError,
    },
    /// Too many anchors.
    #[error("{} holds more than {ANCHORS_MAX} trust anchors", path.display())]
    AnchorCount {
        /// The file.
        path: PathBuf,
    },
    /// Our own SVID is none.
    #[error("{}: {why}", path.display())]
    Svid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: SvidError,
    },
    /// An SVID of somebody else.
    #[error("{} is the SVID of {got}, this node is {expected}", path.display())]
    NotUs {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        got: SpiffeId,
        /// Who we are.
        expected: SpiffeId,
    },
    /// TLS refuses them, as when the key is not the certificate's.
    #[error("SVID and key don't go together: {0}")]
    Tls(#[from] rustls::Error),
    /// A key or a request could not be made.
    #[error("the key or the request can't be made: {0}")]
    Request(#[from] rcgen::Error),
}

/// Tells one state of the files from another, by what is in them: a file's time may be as coarse
/// as a second, and a renewed certificate is often just as long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stamp([Option<[u8; 32]>; 3]);

impl Stamp {
    pub(crate) fn of(files: &Files) -> Self {
        let of = |path: &PathBuf| {
            let digest = ring::digest::digest(&ring::digest::SHA256, &read(path).ok()?);
            digest.as_ref().try_into().ok()
        };
        Self([&files.svid, &files.key, &files.anchors].map(of))
    }
}

/// What the files say, or the Workload API.
pub(crate) struct Identity {
    pub(crate) id: SpiffeId,
    pub(crate) domain: TrustDomain,
    key: Arc<CertifiedKey>,
    pub(crate) anchors: Anchors,
    /// Of the SVID, in seconds since 1970.
    pub(crate) not_after: u64,
}

impl Identity {
    /// Whether our own SVID isn't good any more, so that no peer may be asked to accept it: why.
    pub(crate) fn expiry(&self, now: UnixTime) -> Option<String> {
        let is_expired = self.not_after < now.as_secs();
        is_expired.then(|| {
            format!(
                "the SVID of {} has expired; sign a new one, or see why the Workload API gives none",
                self.id
            )
        })
    }

    /// Reads the files and checks that they are this node's.
    pub(crate) fn load(
        files: &Files,
        id: &SpiffeId,
        domain: &TrustDomain,
    ) -> Result<Self, IdentityError> {
        let chain = certificates(&files.svid)?;
        if let Some(leaf) = chain.first() {
            let path = files.svid.clone();
            let got =
                svid::check_leaf(leaf, domain).map_err(|why| IdentityError::Svid { path, why })?;
            if got != *id {
                let (path, expected) = (files.svid.clone(), id.clone());
                return Err(IdentityError::NotUs {
                    path,
                    got,
                    expected,
                });
            }
        }
        let key = signing_key(&files.key)?;
        let anchors = anchors(&files.anchors)?;
        Ok(Self::new(id, domain, chain, key, anchors)?)
    }

    /// Of a chain whose leaf was checked to be this node's.
    pub(crate) fn new(
        id: &SpiffeId,
        domain: &TrustDomain,
        chain: Vec<CertificateDer<'static>>,
        key: Arc<dyn SigningKey>,
        anchors: Anchors,
    ) -> Result<Self, rustls::Error> {
        let not_after = chain.first().map_or(0, svid::not_after);
        let key = CertifiedKey::new(chain, key);
        // Refuses a key that is not the certificate's.
        key.keys_match()?;
        Ok(Self {
            id: id.clone(),
            domain: domain.clone(),
            key: Arc::new(key),
            anchors,
            not_after,
        })
    }

    /// Shows the SVID and signs with its key, at either end of a handshake.
    pub(crate) fn resolver(&self) -> Arc<SingleCertAndKey> {
        Arc::new(SingleCertAndKey::from(self.key.clone()))
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
    let io = |source| IdentityError::Io {
        path: path.to_owned(),
        source,
    };
    let len = fs::metadata(path).map_err(io)?.len();
    if len > FILE_LEN_MAX {
        let path = path.to_owned();
        return Err(IdentityError::Length { path, len });
    }
    Ok(Zeroizing::new(fs::read(path).map_err(io)?))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let pem = |why| IdentityError::Pem {
        path: path.to_owned(),
        what: "certificate",
        why,
    };
    let bytes = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let all = all.map_err(pem)?;
    if all.is_empty() {
        return Err(pem(rustls::pki_types::pem::Error::NoItemsFound));
    }
    Ok(all)
}

/// The key as ring holds it; what it was read from is erased.
fn signing_key(path: &Path) -> Result<Arc<dyn SigningKey>, IdentityError> {
    check_mode(path)?;
    let bytes = read(path)?;
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|why| IdentityError::Pem {
        path: path.to_owned(),
        what: "private key",
        why,
    })?;
    let key = Zeroizing::new(key);
    Ok(rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)?)
}

#[cfg(unix)]
fn check_mode(path: &Path) -> Result<(), IdentityError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = fs::metadata(path).map_err(|source| IdentityError::Io {
        path: path.to_owned(),
        source,
    })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(IdentityError::KeyMode { path, mode });
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_mode(_path: &Path) -> Result<(), IdentityError> {
    Ok(())
}

fn anchors(path: &Path) -> Result<Anchors, IdentityError> {
    let all = certificates(path)?;
    if all.len() > ANCHORS_MAX {
        let path = path.to_owned();
        return Err(IdentityError::AnchorCount { path });
    }
    Anchors::new(&all).map_err(|(index, why)| IdentityError::Anchor {
        path: path.to_owned(),
        index,
        why,
    })
}

/// Makes a node's private key at `key`, which must not exist, and gives the certificate request
/// in PEM for its CA to sign. The key leaves this machine in no other way.
///
/// # Errors
/// [`IdentityError`].
pub fn make_key_and_request(key: &Path, id: &SpiffeId) -> Result<String, IdentityError> {
    let pair = KeyPair::generate()?;
    let request = request(&pair, id)?;
    let pem = Zeroizing::new(pair.serialize_pem());
    write_new(key, pem.as_bytes()).map_err(|source| IdentityError::Io {
        path: key.to_owned(),
        source,
    })?;
    Ok(request)
}

/// The request for another certificate of a node's key that is there, as PEM.
///
/// # Errors
/// [`IdentityError`].
pub fn request_again(key: &Path, id: &SpiffeId) -> Result<String, IdentityError> {
    check_mode(key)?;
    let bytes = read(key)?;
    let pem = core::str::from_utf8(&bytes).map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
    request(&KeyPair::from_pem(pem)?, id)
}

fn request(pair: &KeyPair, id: &SpiffeId) -> Result<String, IdentityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let name = id.as_str().rsplit('/').next().unwrap_or_default();
    // X.520 allows a common name 64 characters; who it is stands in the URI.
    let name: String = name.chars().take(64).collect();
    params.distinguished_name.push(DnType::CommonName, name);
    params
        .subject_alt_names
        .push(SanType::URI(id.as_str().try_into()?));
    params.key_usages.push(KeyUsagePurpose::DigitalSignature);
    Ok(params.serialize_request(pair)?.pem()?)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
