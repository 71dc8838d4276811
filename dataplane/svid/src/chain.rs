//! What a peer has shown, for as long as there are keys that it was shown for.

use core::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};

use crate::anchors::Anchors;
use crate::check::{self, Algorithms, Role, SvidError};
use crate::id::{SpiffeId, TrustDomain};

/// What the peer showed, to be looked at again when anchors change.
#[derive(Debug)]
pub struct Chain {
    certificates: Vec<CertificateDer<'static>>,
    role: Role,
    /// When it was shown, and good.
    shown: UnixTime,
    /// When the first of them expires, in seconds since 1970.
    not_after: u64,
}

/// What has become of a chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Doubt {
    /// Its time is over. An anchor vouches for it still, as it was.
    Expired(SvidError),
    /// No anchor vouches for it any more, whatever the time.
    Untrusted(SvidError),
}

impl Doubt {
    /// What is wrong with it.
    #[must_use]
    pub fn why(self) -> SvidError {
        match self {
            Self::Expired(why) | Self::Untrusted(why) => why,
        }
    }
}

impl Chain {
    /// Of certificates that were good when they were shown, the leaf first.
    #[must_use]
    pub fn new(certificates: Vec<CertificateDer<'static>>, role: Role, shown: UnixTime) -> Self {
        let not_after = certificates.iter().map(check::not_after).min();
        Self {
            not_after: not_after.unwrap_or(0),
            certificates,
            role,
            shown,
        }
    }

    /// Whether the time of one of them is over.
    #[must_use]
    pub const fn is_expired(&self, now: UnixTime) -> bool {
        self.not_after < now.as_secs()
    }

    /// Whether an anchor vouches for it now.
    ///
    /// When it doesn't, which of several faults is told is the library's choice, and certificates
    /// that the peer has put beside its own may be what it speaks of. So whether it is the time alone
    /// is asked by itself: as of the moment in which all was good.
    ///
    /// # Errors
    /// [`Doubt`].
    pub fn verify(
        &self,
        algorithms: Algorithms<'_>,
        anchors: &Anchors,
        domain: &TrustDomain,
        now: UnixTime,
    ) -> Result<(), Doubt> {
        let verify_at = |at| self.verify_at(algorithms, anchors, domain, at);
        let Err(why) = verify_at(now) else {
            return Ok(());
        };
        // A CA's renewed certificate may be younger than what is asked of: then at the end of its time.
        let end = UnixTime::since_unix_epoch(Duration::from_secs(self.not_after));
        if verify_at(self.shown).is_ok() || verify_at(end).is_ok() {
            return Err(Doubt::Expired(why));
        }
        Err(Doubt::Untrusted(match why {
            SvidError::Expired { got } => SvidError::UnknownIssuer { got },
            why => why,
        }))
    }

    fn verify_at(
        &self,
        algorithms: Algorithms<'_>,
        anchors: &Anchors,
        domain: &TrustDomain,
        at: UnixTime,
    ) -> Result<SpiffeId, SvidError> {
        let what = "it is missing";
        let chain = self.certificates.split_first();
        let (leaf, rest) = chain.ok_or(SvidError::Encoding { what })?;
        check::verify(algorithms, (leaf, rest), anchors, domain, self.role, at)
    }
}
