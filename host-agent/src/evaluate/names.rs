//! Which names a pod's resolver gave for which addresses.

use core::net::IpAddr;
use std::collections::BTreeSet;

use sluice_offload_api::model::DomainPattern;

/// What a pod was told by its resolver and may still go by: names and their addresses.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct KnownNames(BTreeSet<(IpAddr, String)>);

impl KnownNames {
    /// A pod that was told nothing.
    pub const NONE: &'static Self = &Self(BTreeSet::new());

    /// Adds an answer.
    pub fn insert(&mut self, name: &str, ip: IpAddr) {
        self.0.insert((ip, name.to_owned()));
    }

    /// The names of an address.
    pub fn of(&self, ip: IpAddr) -> impl Iterator<Item = &str> {
        let all = self.0.iter();
        all.filter(move |it| it.0 == ip).map(|it| it.1.as_str())
    }

    /// Whether one of an address's names is one that the pattern is for.
    #[must_use]
    pub fn is(&self, ip: IpAddr, pattern: &DomainPattern) -> bool {
        self.of(ip).any(|name| pattern.matches(name))
    }
}

impl<'a> FromIterator<(&'a str, IpAddr)> for KnownNames {
    fn from_iter<I: IntoIterator<Item = (&'a str, IpAddr)>>(answers: I) -> Self {
        let mut known = Self::default();
        for (name, ip) in answers {
            known.insert(name, ip);
        }
        known
    }
}
