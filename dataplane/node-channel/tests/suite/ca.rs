//! A CA, and the files of a node in a folder of its own.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use sluice_node_channel::{Files, SpiffeId, TrustDomain, make_key_and_request};
use sluice_offload_api::model::NodeName;
use time::{Duration, OffsetDateTime};

pub(crate) fn domain() -> TrustDomain {
    TrustDomain::new("test").unwrap()
}

pub(crate) fn id(node: &str) -> SpiffeId {
    SpiffeId::of_node(&domain(), &NodeName::from(node)).unwrap()
}

/// Removed with what is in it.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Relaxed: only the number counts.
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sluice-node-channel-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let params = Self::params(name, BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// One whose own time is over.
    pub(crate) fn expired(name: &str) -> Self {
        let mut params = Self::params(name, BasicConstraints::Unconstrained);
        params.not_after = OffsetDateTime::now_utc() - Duration::minutes(1);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// One that may sign leaves, but no CAs.
    pub(crate) fn of_leaves_only(name: &str) -> Self {
        let params = Self::params(name, BasicConstraints::Constrained(0));
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// A CA that this one vouches for.
    pub(crate) fn intermediate(&self, name: &str) -> Self {
        let params = Self::params(name, BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::signed_by(params, key, &self.0).unwrap())
    }

    fn params(name: &str, constraints: BasicConstraints) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(constraints);
        params.key_usages.push(KeyUsagePurpose::KeyCertSign);
        params.distinguished_name = rcgen::DistinguishedName::new();
        let dn = &mut params.distinguished_name;
        dn.push(rcgen::DnType::CommonName, name);
        params
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn der(&self) -> Vec<u8> {
        self.0.der().to_vec()
    }

    /// Signs a request as it is, for `valid` from a minute ago.
    pub(crate) fn sign(&self, request: &str, valid: Duration) -> String {
        let mut request = CertificateSigningRequestParams::from_pem(request).unwrap();
        let from = OffsetDateTime::now_utc() - Duration::minutes(1);
        request.params.not_before = from;
        request.params.not_after = from + valid;
        request.signed_by(&self.0).unwrap().pem()
    }

    /// A certificate that may be wrong in any way.
    pub(crate) fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = CertificateParams::default();
        params.key_usages.push(KeyUsagePurpose::DigitalSignature);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap();
        Issued {
            chain: vec![cert.der().clone()],
            key: key.serialize_der(),
        }
    }

    /// One that is right but for so many CAs between this one and it.
    pub(crate) fn issue_through(&self, count: usize, node: &str) -> Issued {
        let mut cas: Vec<Self> = Vec::new();
        for n in 0..count {
            cas.push(cas.last().unwrap_or(self).intermediate(&n.to_string()));
        }
        let mut issued = cas.last().unwrap_or(self).issue_for(node);
        let ders = cas.iter().rev().map(|it| it.0.der().clone());
        issued.chain.extend(ders);
        issued
    }

    /// A right one.
    pub(crate) fn issue_for(&self, node: &str) -> Issued {
        self.issue(|params| params.subject_alt_names.push(uri(node)))
    }
}

pub(crate) struct Issued {
    pub(crate) chain: Vec<rustls::pki_types::CertificateDer<'static>>,
    pub(crate) key: Vec<u8>,
}

pub(crate) fn uri(node: &str) -> SanType {
    SanType::URI(id(node).as_str().try_into().unwrap())
}

/// A node's key, request and files.
pub(crate) struct Papers {
    pub(crate) node: String,
    folder: Folder,
    request: String,
}

impl Papers {
    /// A key and files of a node whom `ca` vouches for and who trusts `ca`.
    pub(crate) fn new(node: &str, ca: &Ca) -> Self {
        let folder = Folder::new();
        let request = make_key_and_request(&folder.0.join("key.pem"), &id(node)).unwrap();
        let papers = Self {
            node: node.to_owned(),
            folder,
            request,
        };
        papers.certify(ca, Duration::days(1));
        papers.trust(&[ca]);
        papers
    }

    pub(crate) fn files(&self) -> Files {
        Files {
            svid: self.folder.0.join("svid.pem"),
            key: self.folder.0.join("key.pem"),
            anchors: self.folder.0.join("anchors.pem"),
        }
    }

    pub(crate) fn certify(&self, ca: &Ca, valid: Duration) {
        self.put("svid.pem", &ca.sign(&self.request, valid));
    }

    /// By an intermediate CA, whose certificate goes with it.
    pub(crate) fn certify_through(&self, intermediate: &Ca) {
        let leaf = intermediate.sign(&self.request, Duration::days(1));
        self.put("svid.pem", &format!("{leaf}\n{}", intermediate.pem()));
    }

    /// By a CA, with another's certificate beside it that has nothing to do with it.
    pub(crate) fn certify_beside(&self, ca: &Ca, other: &Ca) {
        let leaf = ca.sign(&self.request, Duration::days(1));
        self.put("svid.pem", &format!("{leaf}\n{}", other.pem()));
    }

    pub(crate) fn trust(&self, cas: &[&Ca]) {
        let anchors: Vec<_> = cas.iter().map(|ca| ca.pem()).collect();
        self.put("anchors.pem", &anchors.join("\n"));
    }

    /// By rename, as files that others read ought to be replaced.
    pub(crate) fn put(&self, name: &str, text: &str) {
        let new = self.folder.0.join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.folder.0.join(name)).unwrap();
    }
}
