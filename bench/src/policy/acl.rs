//! `librte_acl` on the same rules, in bursts of 32 as its examples use it.

use std::hint::black_box;

use sluice_dpdk::acl::{Acl, BURST_MAX, Header as AclHeader, Prefix, Rule as AclRule};

use crate::devices;
use crate::policy::lookup::Contender;
use crate::policy::rules::{FALLBACK, Header, RuleSet, address, pod};

/// Bytes of compiled rules, at most: a list that takes more says so.
const BYTES_MAX: usize = 384 << 20;

/// A compiled list.
pub struct Classifier {
    acl: Acl,
    allow: Vec<bool>,
    /// As they stand in packets; making them is not on the clock.
    headers: Vec<AclHeader>,
}

impl Classifier {
    /// With a rule set, and the headers that it will be asked about.
    ///
    /// # Errors
    /// DPDK that does not come up; rules that it can't compile.
    pub fn new(set: &RuleSet, headers: &[Header]) -> anyhow::Result<Self> {
        let (eal, _) = devices::start()?;
        let rules: Vec<_> = set
            .rules
            .iter()
            .map(|rule| AclRule {
                protocol: Some(rule.protocol),
                src: host(address(rule.identity)),
                dst: host(pod()),
                src_ports: 0..=u16::MAX,
                dst_ports: rule.ports(),
            })
            .collect();
        Ok(Self {
            acl: Acl::build(&eal, &rules, BYTES_MAX)?,
            allow: set.rules.iter().map(|rule| rule.allow).collect(),
            headers: headers.iter().map(in_packet).collect(),
        })
    }
}

const fn host(addr: [u8; 4]) -> Prefix {
    Prefix { addr, len: 32 }
}

fn in_packet(header: &Header) -> AclHeader {
    AclHeader::new(header.protocol, header.src, pod(), 40_000, header.port)
}

impl Contender for Classifier {
    fn verdicts(&mut self, headers: &[Header]) -> Vec<bool> {
        let headers: Vec<_> = headers.iter().map(in_packet).collect();
        let bursts = headers.chunks(BURST_MAX).flat_map(|burst| {
            let found = self.acl.classify(burst);
            let allow = found.map(|rule| rule.map_or(FALLBACK, |n| self.allow[n]));
            allow.into_iter().take(burst.len())
        });
        bursts.collect()
    }

    fn pass(&mut self, _: &[Header], at: usize, count: usize) {
        for burst in (at..at + count).step_by(BURST_MAX) {
            let at = burst % self.headers.len();
            let end = (at + BURST_MAX).min(self.headers.len());
            let found = self.acl.classify(black_box(&self.headers[at..end]));
            for rule in found {
                black_box(rule.map_or(FALLBACK, |n| self.allow[n]));
            }
        }
    }
}
