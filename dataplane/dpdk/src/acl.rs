//! DPDK's packet classifier, `librte_acl`: a second opinion on the walk's own tables, and
//! what they are measured beside. The walk itself doesn't use it: a rule that comes or goes
//! makes it build everything anew.

use core::ops::RangeInclusive;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};
use std::ffi::CString;

use sluice_dpdk_sys as sys;

use crate::eal::Eal;
use crate::errno::{Errno, check};

/// Headers that are classified in one call, at most.
pub const BURST_MAX: usize = 32;

/// Protocol, both addresses, both ports.
const FIELDS: usize = 5;

/// An IPv4 prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefix {
    /// In network order.
    pub addr: [u8; 4],
    /// 0 to 32 bits.
    pub len: u8,
}

/// A rule, by its place in the list that it is given in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// IANA number; `None` is any.
    pub protocol: Option<u8>,
    /// Source.
    pub src: Prefix,
    /// Destination.
    pub dst: Prefix,
    /// Source ports.
    pub src_ports: RangeInclusive<u16>,
    /// Destination ports.
    pub dst_ports: RangeInclusive<u16>,
}

/// What is classified: an IPv4 header's fields as they stand on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Header {
    protocol: u8,
    // The fields behind the first must begin at multiples of four.
    _unused: [u8; 3],
    src: [u8; 4],
    dst: [u8; 4],
    src_port: [u8; 2],
    dst_port: [u8; 2],
}

impl Header {
    /// Of numbers in host order and addresses in network order.
    #[must_use]
    pub const fn new(
        protocol: u8,
        src: [u8; 4],
        dst: [u8; 4],
        src_port: u16,
        dst_port: u16,
    ) -> Self {
        Self {
            protocol,
            _unused: [0; 3],
            src,
            dst,
            src_port: src_port.to_be_bytes(),
            dst_port: dst_port.to_be_bytes(),
        }
    }
}

/// `librte_acl` with [`FIELDS`] fields behind its own data, which it takes as a flexible
/// array.
#[repr(C)]
struct RawRule {
    data: sys::rte_acl_rule_data,
    fields: [sys::rte_acl_field; FIELDS],
}

// RTE_ACL_RULE_SZ: the flexible struct, its fields behind it.
const _: () = assert!(
    size_of::<RawRule>()
        == size_of::<sys::rte_acl_rule>() + FIELDS * size_of::<sys::rte_acl_field>()
);
const _: () = assert!(core::mem::offset_of!(RawRule, fields) == size_of::<sys::rte_acl_rule>());

/// The rules can't be compiled.
#[derive(Debug, thiserror::Error)]
#[error("{count} rules can't be made an ACL: {step}: {errno}")]
pub struct AclError {
    /// How many rules.
    pub count: usize,
    /// Where it failed.
    pub step: &'static str,
    /// Why.
    pub errno: Errno,
}

/// Compiled rules. The lowest rule that matches decides.
#[derive(Debug)]
pub struct Acl {
    raw: NonNull<sys::rte_acl_ctx>,
    rules: usize,
}

// SAFETY: a context is not bound to a thread; building and freeing need it alone, which
// ownership gives.
unsafe impl Send for Acl {}

impl Acl {
    /// Compiles rules. `bytes_max` is for the compiled ones; 0 sets no bound.
    ///
    /// # Errors
    /// [`AclError`]: no rules, too little memory.
    pub fn build(_up: &Eal, rules: &[Rule], bytes_max: usize) -> Result<Self, AclError> {
        // To DPDK two of a name are one context, which would be freed twice. Relaxed: only
        // that no two get the same number matters.
        static NAMES: AtomicU32 = AtomicU32::new(0);
        let failed = |step| {
            move |errno| AclError {
                count: rules.len(),
                step,
                errno,
            }
        };
        let count = u32::try_from(rules.len()).map_err(|_| failed("number of rules")(INVALID))?;
        let name = format!("sluice-{}", NAMES.fetch_add(1, Ordering::Relaxed));
        let name = CString::new(name).map_err(|_| failed("name")(INVALID))?;
        let param = sys::rte_acl_param {
            name: name.as_ptr(),
            socket_id: sys::SLUICE_SOCKET_ANY,
            rule_size: u32::try_from(size_of::<RawRule>()).unwrap_or(0),
            max_rule_num: count,
        };
        // SAFETY: the EAL is up (the argument); param and its name live through the call,
        // which copies both.
        let raw = unsafe { sys::rte_acl_create(&raw const param) };
        let raw = NonNull::new(raw).ok_or_else(|| failed("create")(Errno::last()))?;
        let acl = Self {
            raw,
            rules: rules.len(),
        };
        let raw_rules: Vec<_> = (0..)
            .zip(rules)
            .map(|(n, rule)| raw_rule(n, rule))
            .collect();
        // SAFETY: the context is ours alone; the rules are of the size that it was told
        // (param), as many as said, and copied.
        let added =
            unsafe { sys::rte_acl_add_rules(raw.as_ptr(), raw_rules.as_ptr().cast(), count) };
        check(added).map_err(failed("add"))?;
        let config = config(bytes_max);
        // SAFETY: the context is ours alone; the config lives through the call.
        let built = unsafe { sys::rte_acl_build(raw.as_ptr(), &raw const config) };
        check(built).map_err(failed("build"))?;
        Ok(acl)
    }

    /// The lowest matching rule's index for each header, by its place; `None` where none
    /// matches and beyond [`BURST_MAX`].
    #[must_use]
    pub fn classify(&self, headers: &[Header]) -> [Option<usize>; BURST_MAX] {
        let count = headers.len().min(BURST_MAX);
        let mut data = [core::ptr::null::<u8>(); BURST_MAX];
        for (pointer, header) in data.iter_mut().zip(headers) {
            *pointer = core::ptr::from_ref(header).cast();
        }
        let mut found = [0u32; BURST_MAX];
        #[allow(clippy::cast_possible_truncation, reason = "at most BURST_MAX")]
        let count = count as u32;
        // SAFETY: the context was built (an Acl exists only then); the first `count` pointers are of headers as config() describes them,
        // borrowed through the call, and `found` has room for one result of each.
        let done = unsafe {
            sys::rte_acl_classify(
                self.raw.as_ptr(),
                data.as_mut_ptr(),
                found.as_mut_ptr(),
                count,
                1,
            )
        };
        debug_assert_eq!(done, 0, "one category is always right");
        // What matched says its index and one more: 0 is no match.
        found.map(|n| (n as usize).checked_sub(1))
    }

    /// How many rules there are.
    #[must_use]
    pub const fn rules(&self) -> usize {
        self.rules
    }
}

impl Drop for Acl {
    fn drop(&mut self) {
        // SAFETY: made by rte_acl_create, freed once; no call on it is under way (&mut).
        unsafe { sys::rte_acl_free(self.raw.as_ptr()) };
    }
}

/// `EINVAL` on every Linux.
const INVALID: Errno = Errno(22);

fn raw_rule(n: u32, rule: &Rule) -> RawRule {
    let zero = sys::rte_acl_field::default();
    let mut fields = [zero; FIELDS];
    let [protocol, src, dst, src_port, dst_port] = &mut fields;
    protocol.value.u8_ = rule.protocol.unwrap_or(0);
    protocol.mask_range.u8_ = if rule.protocol.is_some() { 0xff } else { 0 };
    for (field, prefix) in [(src, rule.src), (dst, rule.dst)] {
        field.value.u32_ = u32::from_be_bytes(prefix.addr);
        field.mask_range.u32_ = u32::from(prefix.len.min(32));
    }
    for (field, ports) in [(src_port, &rule.src_ports), (dst_port, &rule.dst_ports)] {
        field.value.u16_ = *ports.start();
        field.mask_range.u16_ = *ports.end();
    }
    let highest = sys::RTE_ACL_MAX_PRIORITY;
    RawRule {
        data: sys::rte_acl_rule_data {
            category_mask: 1,
            priority: i32::try_from(highest.saturating_sub(n)).unwrap_or(i32::MAX),
            userdata: n.saturating_add(1),
        },
        fields,
    }
}

fn config(bytes_max: usize) -> sys::rte_acl_config {
    let mut config = sys::rte_acl_config {
        num_categories: 1,
        num_fields: u32::try_from(FIELDS).unwrap_or(0),
        max_size: bytes_max,
        ..Default::default()
    };
    let bitmask = sys::RTE_ACL_FIELD_TYPE_BITMASK;
    let mask = sys::RTE_ACL_FIELD_TYPE_MASK;
    let range = sys::RTE_ACL_FIELD_TYPE_RANGE;
    // Type, bytes, which group of four bytes it is read with, where.
    let fields = [
        (bitmask, 1, 0, core::mem::offset_of!(Header, protocol)),
        (mask, 4, 1, core::mem::offset_of!(Header, src)),
        (mask, 4, 2, core::mem::offset_of!(Header, dst)),
        (range, 2, 3, core::mem::offset_of!(Header, src_port)),
        (range, 2, 3, core::mem::offset_of!(Header, dst_port)),
    ];
    for (n, (def, (kind, size, input, offset))) in (0..).zip(config.defs.iter_mut().zip(fields)) {
        *def = sys::rte_acl_field_def {
            type_: u8::try_from(kind).unwrap_or(u8::MAX),
            size,
            field_index: n,
            input_index: input,
            offset: u32::try_from(offset).unwrap_or(u32::MAX),
        };
    }
    config
}

#[cfg(test)]
mod tests {
    use sluice_dataplane_core::hash::HashKey;
    use sluice_dataplane_core::snapshot::IdentityId;
    use sluice_dataplane_core::table::policy::{
        Action, Direction, PolicyTable, Row, Ruling, Tier, Transport,
    };

    use super::*;
    use crate::testing::eal;

    const ANY: Prefix = Prefix {
        addr: [0; 4],
        len: 0,
    };
    const POD: [u8; 4] = [10, 1, 0, 10];

    fn rule(addr: [u8; 4], len: u8, dst_ports: RangeInclusive<u16>) -> Rule {
        Rule {
            protocol: Some(6),
            src: Prefix { addr, len },
            dst: ANY,
            src_ports: 0..=u16::MAX,
            dst_ports,
        }
    }

    /// Numbers that spread, the same each time.
    fn spread(n: u32) -> u32 {
        let n = n.wrapping_add(1).wrapping_mul(0x9e37_79b1);
        (n ^ n >> 15).wrapping_mul(0x85eb_ca77) ^ n >> 13
    }

    #[test]
    fn the_lowest_matching_rule_is_found() {
        let rules = [
            rule([10, 0, 0, 0], 8, 80..=90),
            rule([10, 0, 0, 7], 32, 0..=u16::MAX),
        ];
        let acl = Acl::build(eal(), &rules, 0).unwrap();
        let asked = [
            ([10, 0, 0, 7], 85),
            ([10, 0, 0, 7], 91),
            ([10, 0, 0, 8], 91),
        ];
        let headers = asked.map(|(src, port)| Header::new(6, src, POD, 1, port));
        assert_eq!(acl.classify(&headers)[..4], [Some(0), Some(1), None, None]);
        let udp = Header::new(17, [10, 0, 0, 7], POD, 1, 85);
        assert_eq!(acl.classify(&[udp])[0], None);
    }

    #[test]
    fn no_rules_are_refused_and_two_lists_are_kept_apart() {
        let none = Acl::build(eal(), &[], 0).unwrap_err();
        assert!(none.to_string().starts_with("0 rules"), "{none}");
        let (a, b) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        let of = |addr| Acl::build(eal(), &[rule(addr, 32, 80..=90)], 0).unwrap();
        let acl = of(a);
        drop(of(b));
        let headers = [a, b].map(|src| Header::new(6, src, POD, 1, 85));
        assert_eq!(acl.classify(&headers)[..2], [Some(0), None]);
    }

    #[test]
    fn it_says_what_the_policy_table_says() {
        // Overlapping blocks of every length, a few peers, rules about anyone.
        let rows: Vec<_> = (0..400u32)
            .map(|n| {
                let port_len = u8::try_from(spread(n) % 17).unwrap();
                let rest = u16::MAX.checked_shr(u32::from(port_len)).unwrap_or(0);
                Row {
                    direction: Direction::Ingress,
                    tier: Tier::Namespace,
                    peer: (n % 9 != 0).then_some(IdentityId(1 + n % 7)),
                    transport: [Some(Transport::Tcp), Some(Transport::Udp)][n as usize % 2],
                    port_base: u16::try_from(spread(n) >> 16).unwrap() & !rest,
                    port_len,
                    action: if n % 3 == 0 {
                        Action::Allow
                    } else {
                        Action::Deny
                    },
                    rule: 399 - n,
                }
            })
            .collect();
        let rules: Vec<_> = rows
            .iter()
            .rev()
            .map(|row| {
                let rest = u16::MAX.checked_shr(u32::from(row.port_len)).unwrap_or(0);
                let protocol = match row.transport {
                    Some(Transport::Tcp) => 6,
                    _ => 17,
                };
                let src = row.peer.map_or(ANY, |peer| Prefix {
                    addr: peer.0.to_be_bytes(),
                    len: 32,
                });
                Rule {
                    protocol: Some(protocol),
                    src,
                    ..rule([0; 4], 0, row.port_base..=row.port_base | rest)
                }
            })
            .collect();
        let none = Ruling {
            allow: false,
            rule: u32::MAX,
        };
        let table = PolicyTable::build(HashKey([3, 5]), &rows, none, none);
        let acl = Acl::build(eal(), &rules, 0).unwrap();
        for n in 0..20_000 {
            let (peer, port) = (1 + spread(n) % 8, u16::try_from(spread(n) >> 16).unwrap());
            let (protocol, transport) = [(6, Transport::Tcp), (17, Transport::Udp)][n as usize % 2];
            let ours = table.judge(Direction::Ingress, IdentityId(peer), Some(transport), port);
            let header = Header::new(protocol, peer.to_be_bytes(), POD, 9, port);
            let theirs = acl.classify(&[header])[0].map(|n| u32::try_from(n).unwrap());
            assert_eq!(theirs, (ours != none).then_some(ours.rule), "{header:?}");
        }
    }
}
