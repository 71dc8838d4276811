//! Address to identity and place, by longest prefix.

use crate::addr::Addr;
use crate::hash::HashKey;
use crate::snapshot::{Encryption, EndpointIndex, IdentityId, PeerIndex, Place};
use crate::table::dense::DenseMap;
use crate::table::frozen::{FrozenKey, FrozenMap};

/// What an address is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// Who has it.
    pub identity: IdentityId,
    /// Where it is.
    pub place: Place,
    /// What it wants of the way to another node.
    pub encryption: Encryption,
}

impl Owner {
    /// Somebody who requires encryption.
    #[must_use]
    pub const fn new(identity: IdentityId, place: Place) -> Self {
        Self {
            identity,
            place,
            encryption: Encryption::Required,
        }
    }
}

/// A [`Place`] and what its owner wants of the way there: the setting stands where the
/// place's tag leaves a byte free, so that an owner takes eight bytes in the table. Beside
/// it, it would take twelve, and half as many pods more would miss the cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Spot {
    LocalPod(Encryption, EndpointIndex),
    LocalNode(Encryption),
    RemotePod(Encryption, PeerIndex),
    Nobody(Encryption),
    RemoteNode(Encryption, PeerIndex),
    Outside(Encryption),
    ServiceVip(Encryption),
}

/// An [`Owner`] as the tables hold it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Packed {
    identity: IdentityId,
    spot: Spot,
}

const _: () = assert!(size_of::<Option<Packed>>() == 8);

impl From<Owner> for Packed {
    fn from(owner: Owner) -> Self {
        let encryption = owner.encryption;
        Self {
            identity: owner.identity,
            spot: match owner.place {
                Place::LocalPod(at) => Spot::LocalPod(encryption, at),
                Place::LocalNode => Spot::LocalNode(encryption),
                Place::RemotePod(peer) => Spot::RemotePod(encryption, peer),
                Place::Nobody => Spot::Nobody(encryption),
                Place::RemoteNode(peer) => Spot::RemoteNode(encryption, peer),
                Place::Outside => Spot::Outside(encryption),
                Place::ServiceVip => Spot::ServiceVip(encryption),
            },
        }
    }
}

impl From<Packed> for Owner {
    #[inline]
    fn from(packed: Packed) -> Self {
        let (place, encryption) = match packed.spot {
            Spot::LocalPod(encryption, at) => (Place::LocalPod(at), encryption),
            Spot::LocalNode(encryption) => (Place::LocalNode, encryption),
            Spot::RemotePod(encryption, peer) => (Place::RemotePod(peer), encryption),
            Spot::Nobody(encryption) => (Place::Nobody, encryption),
            Spot::RemoteNode(encryption, peer) => (Place::RemoteNode(peer), encryption),
            Spot::Outside(encryption) => (Place::Outside, encryption),
            Spot::ServiceVip(encryption) => (Place::ServiceVip, encryption),
        };
        Self {
            identity: packed.identity,
            place,
            encryption,
        }
    }
}

/// A prefix of IPv4: small, so that more slots of the table share a cache line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct KeyV4 {
    bits: u32,
    len: u8,
}

impl FrozenKey for KeyV4 {
    #[inline]
    fn hash(self, key: HashKey) -> u64 {
        key.hash([u64::from(self.bits) | u64::from(self.len) << 32])
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct KeyV6 {
    bits: [u64; 2],
    len: u8,
}

impl FrozenKey for KeyV6 {
    #[inline]
    fn hash(self, key: HashKey) -> u64 {
        let [high, low] = self.bits;
        key.hash([high, low, u64::from(self.len)])
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "an IPv4 address is the low word, and halves of an IPv6 address"
)]
impl KeyV4 {
    #[inline]
    fn of(addr: Addr, len: u8) -> Self {
        Self {
            bits: (addr.0 & mask(len.saturating_add(V4_BASE))) as u32,
            len,
        }
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "the two halves of the address"
)]
impl KeyV6 {
    #[inline]
    fn of(addr: Addr, len: u8) -> Self {
        let bits = addr.0 & mask(len);
        Self {
            bits: [(bits >> 64) as u64, bits as u64],
            len,
        }
    }
}

/// Prefixes as a hash table for each family; a lookup tries the lengths in use, longest
/// first, so the number of probes depends on the lengths and not on the number of prefixes.
/// IPv4 hosts, of which a cluster has most, stand apart.
#[derive(Clone, Debug)]
pub struct PrefixTable {
    hosts_v4: DenseMap<Packed>,
    v4: FrozenMap<KeyV4, Packed>,
    v6: FrozenMap<KeyV6, Packed>,
    /// Lengths in use, longest first; without the hosts' of IPv4.
    lens_v4: Box<[u8]>,
    lens_v6: Box<[u8]>,
    /// How many prefixes there are of each length that `lens_v4` and `lens_v6` are about.
    counts_v4: Vec<u32>,
    counts_v6: Vec<u32>,
}

/// Bits in front of an IPv4 address in an [`Addr`].
const V4_BASE: u8 = 96;

const fn mask(len: u8) -> u128 {
    match len {
        0 => 0,
        128.. => u128::MAX,
        _ => u128::MAX << (128 - len as u32),
    }
}

fn longest_first(counts: &[u32]) -> Box<[u8]> {
    let lens = (0..=128u8).zip(counts).filter(|it| *it.1 > 0);
    let mut lens: Vec<u8> = lens.map(|it| it.0).collect();
    lens.reverse();
    lens.into_boxed_slice()
}

fn count(counts: &mut [u32], len: u8, more: i32) {
    if let Some(count) = counts.get_mut(usize::from(len)) {
        *count = count.saturating_add_signed(more);
    }
}

impl PrefixTable {
    /// Builds from (address, length of its own family in bits, owner).
    #[must_use]
    pub fn build(key: HashKey, prefixes: &[(Addr, u8, Owner)]) -> Self {
        let of = |v4: bool| prefixes.iter().filter(move |p| p.0.is_v4() == v4);
        let v4 =
            of(true).map(|&(addr, len, owner)| (KeyV4::of(addr, len.min(32)), Packed::from(owner)));
        let (hosts, v4): (Vec<_>, Vec<_>) = v4.partition(|(prefix, _)| prefix.len == 32);
        let hosts: Vec<_> = hosts
            .into_iter()
            .map(|(k, owner)| (k.bits, owner))
            .collect();
        let v6: Vec<_> = of(false)
            .map(|&(addr, len, owner)| (KeyV6::of(addr, len.min(128)), Packed::from(owner)))
            .collect();
        let (v4, v6) = (FrozenMap::build(key, &v4), FrozenMap::build(key, &v6));
        let (mut counts_v4, mut counts_v6) = (vec![0; 33], vec![0; 129]);
        for (prefix, _) in v4.entries() {
            count(&mut counts_v4, prefix.len, 1);
        }
        for (prefix, _) in v6.entries() {
            count(&mut counts_v6, prefix.len, 1);
        }
        Self {
            lens_v4: longest_first(&counts_v4),
            lens_v6: longest_first(&counts_v6),
            hosts_v4: DenseMap::build(key, &hosts),
            v4,
            v6,
            counts_v4,
            counts_v6,
        }
    }

    /// Sets the owner of a prefix, given as in [`Self::build`]; `None` takes it out. Off the
    /// hot path, and the same for every number of prefixes but once in a while.
    pub fn set(&mut self, addr: Addr, len: u8, owner: Option<Owner>) {
        let owner = owner.map(Packed::from);
        debug_assert!(
            !addr.is_v4() || len <= 32,
            "IPv4 in IPv6 form: {addr:?}/{len}"
        );
        if addr.is_v4() {
            let len = len.min(32);
            let prefix = KeyV4::of(addr, len);
            if len == 32 {
                self.hosts_v4.set(prefix.bits, owner);
                return;
            }
            let was = self.v4.set(prefix, owner);
            if was != owner.is_some() {
                count(&mut self.counts_v4, len, if was { -1 } else { 1 });
                self.lens_v4 = longest_first(&self.counts_v4);
            }
        } else {
            let len = len.min(128);
            let was = self.v6.set(KeyV6::of(addr, len), owner);
            if was != owner.is_some() {
                count(&mut self.counts_v6, len, if was { -1 } else { 1 });
                self.lens_v6 = longest_first(&self.counts_v6);
            }
        }
    }

    /// Has the owner of an address brought into the cache, if the longest prefixes in use are
    /// what says it: those of hosts, in a cluster.
    #[inline]
    pub fn expect(&self, addr: Addr) {
        if addr.is_v4() {
            self.hosts_v4.expect(KeyV4::of(addr, 32).bits);
        } else if let Some(&len) = self.lens_v6.first() {
            self.v6.expect(KeyV6::of(addr, len));
        }
    }

    /// Who has an address.
    #[inline]
    #[must_use]
    pub fn find(&self, addr: Addr) -> Option<Owner> {
        if addr.is_v4() {
            let host = self.hosts_v4.find(KeyV4::of(addr, 32).bits);
            host.or_else(|| {
                let mut lens = self.lens_v4.iter();
                lens.find_map(|&len| self.v4.find(KeyV4::of(addr, len)))
            })
        } else {
            let mut lens = self.lens_v6.iter();
            lens.find_map(|&len| self.v6.find(KeyV6::of(addr, len)))
        }
        .map(Owner::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn owner(n: u32) -> Owner {
        Owner::new(IdentityId(n), Place::Outside)
    }

    proptest! {
        #[test]
        fn the_longest_prefix_wins_as_in_a_linear_scan(
            prefixes in prop::collection::vec((any::<u32>(), 0u8..=32), 0..80),
            near in prop::collection::vec((any::<prop::sample::Index>(), 0u32..32), 40),
        ) {
            let prefixes: Vec<_> = prefixes
                .into_iter()
                .enumerate()
                .map(|(i, (a, len))| {
                    (Addr::v4(a.to_be_bytes()), len, owner(u32::try_from(i).unwrap() + 1))
                })
                .collect();
            let table = PrefixTable::build(HashKey([7, 9]), &prefixes);
            for (index, flip) in near {
                let base = if prefixes.is_empty() { Addr::v4([1, 2, 3, 4]) }
                    else { index.get(&prefixes).0 };
                let probe = Addr(base.0 ^ (1 << flip));
                // Of equal prefixes the last stays; of different ones the longest.
                let want = prefixes
                    .iter()
                    .filter(|p| p.0.0 & mask(p.1 + 96) == probe.0 & mask(p.1 + 96))
                    .max_by_key(|p| p.1)
                    .map(|p| p.1);
                let got = table.find(probe);
                prop_assert_eq!(got.is_some(), want.is_some());
                if let (Some(got), Some(len)) = (got, want) {
                    let index = usize::try_from(got.identity.0 - 1).unwrap();
                    prop_assert_eq!(prefixes[index].1, len);
                }
            }
        }
    }

    proptest! {
        /// Around a few networks, so that pages come and go.
        #[test]
        fn a_table_that_changes_equals_one_that_is_built(
            changes in prop::collection::vec(
                (any::<bool>(), 0u32..3, 0u32..60, 28u8..=32, prop::option::weighted(0.6, 1u32..9)),
                0..500,
            ),
        ) {
            let key = HashKey([7, 9]);
            let mut table = PrefixTable::build(key, &[]);
            let mut model = std::collections::BTreeMap::new();
            let addr = |v4: bool, net: u32, host: u32| match v4 {
                true => Addr::v4((net << 16 | host).to_be_bytes()),
                false => Addr(0xfd00 << 112 | u128::from(net << 16 | host)),
            };
            for (v4, net, host, len, who) in changes {
                let host = host >> (32 - len) << (32 - len);
                let (addr, len) = (addr(v4, net, host), if v4 { len } else { len + 96 });
                table.set(addr, len, who.map(owner));
                match who {
                    Some(who) => drop(model.insert((addr.0, len), owner(who))),
                    None => drop(model.remove(&(addr.0, len))),
                }
            }
            let entries: Vec<_> = model.iter().map(|(it, who)| (Addr(it.0), it.1, *who)).collect();
            let built = PrefixTable::build(key, &entries);
            for (v4, net) in [(true, 0), (true, 1), (true, 2), (false, 0), (false, 1), (false, 2)] {
                for host in 0..64 {
                    let addr = addr(v4, net, host);
                    prop_assert_eq!(table.find(addr), built.find(addr), "{:?}", addr);
                }
            }
            prop_assert_eq!(table.lens_v4, built.lens_v4);
            prop_assert_eq!(table.lens_v6, built.lens_v6);
        }
    }

    #[test]
    fn a_host_among_many_goes_before_the_prefix_around_it() {
        let pod = |n: u8| Addr::v4([10, 1, 2, n]);
        let mut prefixes: Vec<_> = (0..200)
            .map(|n| (pod(n), 32, owner(u32::from(n) + 1)))
            .collect();
        prefixes.push((pod(0), 24, owner(900)));
        prefixes.push((pod(7), 32, owner(901)));
        let table = PrefixTable::build(HashKey([7, 9]), &prefixes);
        assert_eq!(table.find(pod(6)), Some(owner(7)));
        assert_eq!(
            table.find(pod(7)),
            Some(owner(901)),
            "the last of equal ones"
        );
        assert_eq!(table.find(pod(200)), Some(owner(900)));
        assert_eq!(table.find(Addr::v4([10, 1, 3, 6])), None);
    }

    #[test]
    fn the_families_never_meet() {
        let table = PrefixTable::build(
            HashKey([1, 1]),
            &[
                (Addr::v6([0; 16]), 0, owner(6)),
                (Addr::v4([0; 4]), 0, owner(4)),
            ],
        );
        assert_eq!(table.find(Addr::v4([8, 8, 8, 8])), Some(owner(4)));
        assert_eq!(table.find(Addr::v6([0x20; 16])), Some(owner(6)));
        let only_v6 = PrefixTable::build(HashKey([1, 1]), &[(Addr::v6([0; 16]), 0, owner(6))]);
        assert_eq!(only_v6.find(Addr::v4([8, 8, 8, 8])), None);
    }
}
