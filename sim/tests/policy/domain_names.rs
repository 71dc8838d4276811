//! ClusterNetworkPolicy's domainNames: what a pod's resolver says opens what policy names,
//! for that pod, for as long as it is good, and nothing else. Real questions and answers over
//! virtual time; each flow is judged three ways, as everywhere here.

use std::net::IpAddr;

use crate::shop::{Shop, network_policies};
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::wire::build::{Body, FrameSpec};
use sluice_host_agent::evaluate::KnownNames;
use sluice_host_agent::manifest::{Loaded, load_texts};
use sluice_sim::dns::{Kind, Message};
use sluice_sim::world::{DNS_PORT, Exchange};

/// The resolver that policy lets pods ask.
const RESOLVER: &str = "192.0.2.53";
const ALLOWED: &str = "allow, Admin:names egress[1]";
const DENIED: &str = "egress, Admin:names egress[2]";

/// A policy for all pods of shop: the resolver may be asked, HTTPS to these names, nothing
/// else.
fn names(patterns: &str) -> String {
    let dns = "{udp: {destinationPort: {number: 53}}}, {tcp: {destinationPort: {number: 53}}}";
    admin(&format!(
        "{{action: Accept, to: [{{networks: [{RESOLVER}/32]}}], protocols: [{dns}]}}, \
         {{action: Accept, to: [{{domainNames: [{patterns}]}}], \
           protocols: [{{tcp: {{destinationPort: {{number: 443}}}}}}]}}, \
         {{action: Deny, to: [{{networks: [0.0.0.0/0, '::/0']}}]}}"
    ))
}

fn admin(egress: &str) -> String {
    format!(
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\n\
         metadata: {{name: names}}\nspec:\n  tier: Admin\n  priority: 1\n  \
         subject: {{namespaces: {{matchLabels: {{team: shop}}}}}}\n  egress: [{egress}]\n---\n"
    )
}

/// The running shop, what its pods were told, and the questions so far.
struct Rig {
    shop: Shop,
    asked: u16,
}

impl Rig {
    fn new(patterns: &str) -> Self {
        Self::under(&names(patterns))
    }

    fn under(policies: &str) -> Self {
        let shop = Shop::under(policies);
        Self { shop, asked: 0 }
    }

    fn query(&mut self, name: &str, kind: Kind) -> Message {
        self.asked += 1;
        Message::query(0x5100 + self.asked, name, kind)
    }

    /// A pod asks a server and gets an answer, which comes to it.
    fn hear(&mut self, pod: &str, server: &str, query: &Message, answer: &[u8], tcp: bool) {
        assert!(self.try_hear(pod, server, query, answer, tcp));
    }

    fn try_hear(
        &mut self,
        pod: &str,
        server: &str,
        query: &Message,
        answer: &[u8],
        tcp: bool,
    ) -> bool {
        let (from, from_ip) = self.shop.party(pod);
        let (server, server_ip) = self.shop.party(server);
        let exchange = Exchange {
            from: &from,
            from_ip,
            server: &server,
            server_ip,
            src_port: 10_000 + self.asked,
            dst_port: DNS_PORT,
            tcp,
            query: &query.bytes(),
            answer,
        };
        self.shop.world.exchange(&exchange).unwrap()
    }

    /// A pod resolves a name to addresses of one family.
    fn resolve(&mut self, pod: &str, name: &str, ips: &[IpAddr], ttl_s: u32) {
        let query = self.query(name, ips.first().map_or(Kind::A, |it| Kind::of(*it)));
        let answer = ips
            .iter()
            .fold(query.answer(), |it, ip| it.addr(*ip, ttl_s));
        self.hear(pod, RESOLVER, &query, &answer.bytes(), false);
    }

    /// A pod says something to a host outside by the same flow each time, and hears it back.
    fn talks(&mut self, pod: &str, to: &str) -> bool {
        let (from, from_ip) = self.shop.party(pod);
        let (server, server_ip) = self.shop.party(to);
        let exchange = Exchange {
            from: &from,
            from_ip,
            server: &server,
            server_ip,
            src_port: 9_000,
            dst_port: 443,
            tcp: false,
            query: b"hello",
            answer: b"hello",
        };
        self.shop.world.exchange(&exchange).unwrap()
    }

    fn wait(&mut self, seconds: u64) {
        self.shop.world.run_for(seconds * Tick::SECOND);
    }

    /// Asserts that a flow is allowed for these names, all of its destination.
    fn allowed(&mut self, flow: &str, names: &[&str]) {
        self.shop.check(flow, ALLOWED, &known(flow, names));
    }

    /// Asserts that a flow is denied, as one that nobody named.
    fn denied(&mut self, flow: &str) {
        self.shop.check(flow, DENIED, KnownNames::NONE);
    }

    /// Asserts that a flow is denied though these names are known.
    fn denied_knowing(&mut self, flow: &str, names: &[&str]) {
        self.shop.check(flow, DENIED, &known(flow, names));
    }
}

fn known(flow: &str, names: &[&str]) -> KnownNames {
    let to = flow.split(' ').nth(1).unwrap().parse().unwrap();
    names.iter().map(|name| (*name, to)).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

const WEB_TO_1: &str = "web 198.51.100.1 tcp/443";
const WEB_TO_2: &str = "web 198.51.100.2 tcp/443";

#[test]
fn a_name_opens_its_addresses_for_the_ports_of_its_rule_and_for_who_asked() {
    let mut rig = Rig::new("db.example.com");
    rig.denied(WEB_TO_1);
    rig.resolve("web", "db.example.com", &[ip("198.51.100.1")], 60);
    rig.allowed(WEB_TO_1, &["db.example.com"]);
    // Not another port, protocol or address, not another pod of the node or of another.
    rig.denied_knowing("web 198.51.100.1 tcp/80", &["db.example.com"]);
    rig.denied_knowing("web 198.51.100.1 udp/443", &["db.example.com"]);
    rig.denied_knowing("web 198.51.100.1 icmp", &["db.example.com"]);
    rig.denied(WEB_TO_2);
    rig.denied("cart 198.51.100.1 tcp/443");
    rig.denied("db 198.51.100.1 tcp/443");
    rig.resolve("db", "db.example.com", &[ip("198.51.100.1")], 60);
    rig.allowed("db 198.51.100.1 tcp/443", &["db.example.com"]);
    rig.denied("cart 198.51.100.1 tcp/443");
    assert_eq!(rig.shop.world.unaccounted(), 0);
}

#[test]
fn a_name_is_known_until_its_time_is_over_and_again_when_asked_again() {
    let mut rig = Rig::new("db.example.com");
    rig.resolve("web", "db.example.com", &[ip("198.51.100.1")], 60);
    rig.wait(59);
    rig.allowed(WEB_TO_1, &["db.example.com"]);
    rig.wait(2);
    rig.denied(WEB_TO_1);
    rig.resolve("web", "db.example.com", &[ip("198.51.100.2")], 60);
    rig.denied(WEB_TO_1);
    rig.allowed(WEB_TO_2, &["db.example.com"]);
    // Asked again in time it goes on, and an answer that is good for less takes nothing away.
    rig.wait(50);
    rig.resolve("web", "db.example.com", &[ip("198.51.100.2")], 60);
    rig.resolve("web", "db.example.com", &[ip("198.51.100.2")], 10);
    rig.wait(50);
    rig.allowed(WEB_TO_2, &["db.example.com"]);
}

#[test]
fn a_time_of_nothing_is_five_seconds_and_one_of_days_an_hour() {
    let mut rig = Rig::new("db.example.com");
    rig.resolve("web", "db.example.com", &[ip("198.51.100.1")], 0);
    rig.allowed(WEB_TO_1, &["db.example.com"]);
    rig.wait(6);
    rig.denied(WEB_TO_1);
    // RFC 2181 section 8: with the highest bit set it is none.
    rig.resolve("web", "db.example.com", &[ip("198.51.100.1")], 1 << 31);
    rig.allowed(WEB_TO_1, &["db.example.com"]);
    rig.wait(6);
    rig.denied(WEB_TO_1);
    rig.resolve("web", "db.example.com", &[ip("198.51.100.1")], 86_400);
    rig.wait(3590);
    rig.allowed(WEB_TO_1, &["db.example.com"]);
    rig.wait(20);
    rig.denied(WEB_TO_1);
}

#[test]
fn a_wildcard_is_one_or_more_labels_and_not_the_apex() {
    let mut rig = Rig::new("'*.example.com'");
    for (name, to, allowed) in [
        ("example.com", "198.51.100.1", false),
        ("www.example.com", "198.51.100.2", true),
        ("a.b.c.example.com", "198.51.100.3", true),
        ("wwwexample.com", "198.51.100.4", false),
        ("www.example.com.evil.org", "198.51.100.5", false),
        ("www.example.org", "198.51.100.6", false),
    ] {
        rig.resolve("web", name, &[ip(to)], 60);
        let flow = format!("web {to} tcp/443");
        if allowed {
            rig.allowed(&flow, &[name]);
        } else {
            rig.denied_knowing(&flow, &[name]);
        }
    }
}

#[test]
fn names_have_no_case_and_a_dot_at_the_end_says_nothing() {
    let mut rig = Rig::new("DB.Example.COM., '*.Example.Org'");
    rig.resolve("web", "dB.eXample.com", &[ip("198.51.100.1")], 60);
    rig.allowed(WEB_TO_1, &["db.example.com"]);
    rig.resolve("web", "WWW.example.ORG", &[ip("198.51.100.2")], 60);
    rig.allowed(WEB_TO_2, &["www.example.org"]);
}

#[test]
fn a_dot_inside_a_label_makes_no_other_name() {
    let mut rig = Rig::new("db.example.com");
    let mut query = rig.query("db.example.com", Kind::A);
    // One label `db.example`, then `com`.
    query.name = b"\x0adb.example\x03com\0".to_vec();
    let answer = query.answer().addr(ip("198.51.100.1"), 60);
    rig.hear("web", RESOLVER, &query, &answer.bytes(), false);
    rig.denied(WEB_TO_1);
}

#[test]
fn a_chain_of_cnames_in_one_answer_leads_from_the_name_to_its_addresses() {
    let mut rig = Rig::new("www.example.com");
    let query = rig.query("www.example.com", Kind::A);
    let answer = query
        .answer()
        .cname("www.example.com", "edge.cdn.net", 300)
        .cname("Edge.cdn.net", "e1.cdn.net", 20)
        .addr_of("e1.cdn.net", ip("198.51.100.1"), 300)
        .addr_of("other.cdn.net", ip("198.51.100.2"), 300);
    rig.hear("web", RESOLVER, &query, &answer.bytes(), false);
    rig.allowed(WEB_TO_1, &["www.example.com"]);
    rig.denied(WEB_TO_2);
    // The shortest time of the chain counts.
    rig.wait(21);
    rig.denied(WEB_TO_1);

    // In any order.
    let query = rig.query("www.example.com", Kind::A);
    let answer = query
        .answer()
        .addr_of("e1.cdn.net", ip("198.51.100.1"), 60)
        .cname("edge.cdn.net", "e1.cdn.net", 60)
        .cname("www.example.com", "edge.cdn.net", 60);
    rig.hear("web", RESOLVER, &query, &answer.bytes(), false);
    rig.allowed(WEB_TO_1, &["www.example.com"]);
}

#[test]
fn only_the_name_that_was_asked_for_is_learned() {
    let mut rig = Rig::new("edge.cdn.net");
    // A chain through a name that policy names, and a record beside the question.
    let query = rig.query("www.example.com", Kind::A);
    let answer = query
        .answer()
        .cname("www.example.com", "edge.cdn.net", 60)
        .addr_of("edge.cdn.net", ip("198.51.100.1"), 60);
    rig.hear("web", RESOLVER, &query, &answer.bytes(), false);
    rig.denied(WEB_TO_1);
    let query = rig.query("www.example.com", Kind::A);
    let answer =
        query
            .answer()
            .addr(ip("198.51.100.2"), 60)
            .addr_of("edge.cdn.net", ip("198.51.100.1"), 60);
    rig.hear("web", RESOLVER, &query, &answer.bytes(), false);
    rig.denied(WEB_TO_1);
    rig.denied(WEB_TO_2);
    // A CNAME alone, and its target in another answer.
    let mut rig = Rig::new("www.example.com");
    let query = rig.query("www.example.com", Kind::A);
    let answer = query.answer().cname("www.example.com", "edge.cdn.net", 60);
    rig.hear("web", RESOLVER, &query, &answer.bytes(), false);
    rig.resolve("web", "edge.cdn.net", &[ip("198.51.100.1")], 60);
    rig.denied(WEB_TO_1);
}

#[test]
fn a_name_may_have_a_hundred_addresses_and_more() {
    let mut rig = Rig::new("'*.example.com'");
    let all: Vec<IpAddr> = (1..=120).map(|n| IpAddr::from([198, 51, 100, n])).collect();
    // What fits into one packet, and then the rest: resolvers turn them round.
    for some in all.chunks(60) {
        rig.resolve("web", "many.example.com", some, 60);
    }
    for to in [1, 60, 61, 100, 120] {
        let flow = format!("web 198.51.100.{to} tcp/443");
        rig.allowed(&flow, &["many.example.com"]);
    }
    rig.denied("web 198.51.100.121 tcp/443");
}

#[test]
fn ipv6_addresses_are_learned_of_questions_for_them_only() {
    let mut rig = Rig::new("db.example.com");
    let web6 = "fd00::1 2001:db8::7 tcp/443";
    rig.denied(web6);
    rig.resolve("web", "db.example.com", &[ip("2001:db8::7")], 60);
    rig.allowed(web6, &["db.example.com"]);
    rig.denied(WEB_TO_1);
    // An answer of the other family, and IPv4 dressed up as IPv6.
    let query = rig.query("db.example.com", Kind::A);
    let answer = query.answer().addr(ip("2001:db8::8"), 60);
    rig.hear("web", RESOLVER, &query, &answer.bytes(), false);
    rig.denied("fd00::1 2001:db8::8 tcp/443");
    rig.resolve("web", "db.example.com", &[ip("::ffff:198.51.100.1")], 60);
    rig.denied(WEB_TO_1);
}

#[test]
fn an_answer_over_tcp_counts_too() {
    let mut rig = Rig::new("db.example.com");
    let query = rig.query("db.example.com", Kind::A);
    let answer = query.answer().addr(ip("198.51.100.1"), 60);
    rig.hear("web", RESOLVER, &query, &answer.bytes(), true);
    rig.allowed(WEB_TO_1, &["db.example.com"]);
}

#[test]
fn a_resolver_that_is_a_pod_is_asked_like_any_other() {
    let peer = "{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: db}}}}";
    let policies = admin(&format!(
        "{{action: Accept, to: [{peer}]}}, \
         {{action: Accept, to: [{{domainNames: [www.example.com]}}]}}, \
         {{action: Deny, to: [{{networks: [0.0.0.0/0, '::/0']}}]}}"
    ));
    // Through ESP from node b, and from beside it.
    for pod in ["web", "cart"] {
        let mut rig = Rig::under(&policies);
        let query = rig.query("www.example.com", Kind::A);
        let answer = query.answer().addr(ip("198.51.100.1"), 60);
        rig.hear(pod, "db", &query, &answer.bytes(), false);
        rig.allowed(&format!("{pod} 198.51.100.1 tcp/443"), &["www.example.com"]);
        // The resolver itself learned nothing.
        rig.denied("db 198.51.100.1 tcp/443");
    }
}

#[test]
fn nobody_teaches_a_pod_anything_but_who_it_may_ask_and_did_ask() {
    let mut rig = Rig::new("db.example.com");
    // Another server, which policy doesn't let it ask.
    let query = rig.query("db.example.com", Kind::A);
    let answer = query.answer().addr(ip("198.51.100.1"), 60).bytes();
    assert!(!rig.try_hear("web", "192.0.2.99", &query, &answer, false));
    rig.denied(WEB_TO_1);

    // A stranger, and somebody who says that he is the resolver: the pod asked from the port.
    let query = rig.query("other.example.org", Kind::A);
    let true_answer = query.answer().addr(ip("198.51.100.9"), 60).bytes();
    rig.hear("web", RESOLVER, &query, &true_answer, false);
    for from in ["198.51.100.66", RESOLVER] {
        for id in [query.id, query.id + 1] {
            let forged = Message {
                id,
                ..Message::query(id, "db.example.com", Kind::A).answer()
            };
            let body = Body::Udp {
                src_port: 53,
                dst_port: 10_000 + rig.asked,
            };
            let mut spec = FrameSpec::new(ip(from), ip("10.0.0.1"), body);
            spec.payload = forged.addr(ip("198.51.100.1"), 60).bytes();
            rig.shop.world.send_from_outside(spec);
            rig.denied(WEB_TO_1);
        }
    }

    // Its own resolver, with an answer to another question or another's number.
    for change in [0, 1] {
        let query = rig.query("db.example.com", Kind::A);
        let mut answer = query.answer().addr(ip("198.51.100.1"), 60);
        if change == 0 {
            answer.id ^= 1;
        } else {
            answer.kind = Kind::Aaaa as u16;
        }
        rig.hear("web", RESOLVER, &query, &answer.bytes(), false);
        rig.denied(WEB_TO_1);
    }
    let query = rig.query("www.example.com", Kind::A);
    let other = Message::query(query.id, "db.example.com", Kind::A);
    let answer = other.answer().addr(ip("198.51.100.1"), 60);
    rig.hear("web", RESOLVER, &query, &answer.bytes(), false);
    rig.denied(WEB_TO_1);
    assert_eq!(rig.shop.world.unaccounted(), 0);
}

#[test]
fn an_answer_that_is_none_teaches_nothing() {
    let mut rig = Rig::new("db.example.com");
    let good = |query: &Message| query.answer().addr(ip("198.51.100.1"), 60);
    let pointer = |at: u16| (0xc000 | at).to_be_bytes();
    type Spoil = fn(Message) -> Vec<u8>;
    let cases: [(&str, Spoil); 8] = [
        ("an error", |mut it| {
            it.bits |= 3;
            it.bytes()
        }),
        ("cut by the server", |mut it| {
            it.bits |= 0x0200;
            it.bytes()
        }),
        ("cut on the way", |it| {
            let mut bytes = it.bytes();
            bytes.truncate(bytes.len() - 1);
            bytes
        }),
        ("another operation", |mut it| {
            it.bits |= 0x2800;
            it.bytes()
        }),
        ("two questions", |it| {
            let mut bytes = it.bytes();
            bytes[5] = 2;
            bytes
        }),
        ("no question", |it| {
            let mut bytes = it.bytes();
            bytes[5] = 0;
            bytes
        }),
        ("more records than there are", |it| {
            let mut bytes = it.bytes();
            bytes[7] += 1;
            bytes
        }),
        ("nothing but a header", |it| it.bytes()[..12].to_vec()),
    ];
    for (what, spoil) in cases {
        let query = rig.query("db.example.com", Kind::A);
        let answer = spoil(good(&query));
        rig.hear("web", RESOLVER, &query, &answer, false);
        rig.shop.check(WEB_TO_1, DENIED, KnownNames::NONE);
        println!("{what}: taught nothing");
    }
    // Names that lead round and forward, CNAMEs that do, and data of a wrong length: the good
    // record before them doesn't count either.
    for spoilt in [
        (pointer(0x33), 1, vec![1, 2, 3, 4]),
        (pointer(0x200), 1, vec![1, 2, 3, 4]),
        (pointer(4), 1, vec![1, 2, 3, 4]),
        (pointer(0x0c), 1, vec![1, 2, 3]),
        (pointer(0x0c), 5, pointer(0x0c).to_vec()),
    ] {
        let query = rig.query("db.example.com", Kind::A);
        let (owner, kind, data) = spoilt;
        let answer = good(&query).raw(&owner, kind, 60, &data);
        rig.hear("web", RESOLVER, &query, &answer.bytes(), false);
        rig.denied(WEB_TO_1);
    }
}

#[test]
fn names_are_for_what_is_outside_the_cluster() {
    let mut rig = Rig::new("db.example.com");
    // A pod, a node, a service, and what is no host's or only its own link's.
    let inside = [
        "10.0.1.1",
        "10.9.0.2",
        "10.96.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "224.0.0.5",
        "0.0.0.0",
    ];
    let inside = inside.map(ip);
    rig.resolve("web", "db.example.com", &inside, 60);
    rig.denied_knowing("web 10.0.1.1 tcp/443", &["db.example.com"]);
    rig.denied_knowing("web 10.9.0.2 tcp/443", &["db.example.com"]);
    let vip = "egress, service-vip";
    rig.shop
        .check("web 10.96.0.1 tcp/443", vip, KnownNames::NONE);
    rig.denied("web 169.254.169.254 tcp/443");
}

#[test]
fn a_rule_of_lower_precedence_doesnt_count_and_one_of_higher_does() {
    let rules = |first: &str, second: &str| {
        admin(&format!(
            "{{action: Accept, to: [{{networks: [{RESOLVER}/32]}}]}}, {first}, {second}"
        ))
    };
    let named = "{action: Accept, to: [{domainNames: [db.example.com]}]}";
    for (action, expected) in [
        ("Deny", "egress, Admin:names egress[1]"),
        ("Pass", "allow, no policy"),
    ] {
        let block = format!("{{action: {action}, to: [{{networks: [198.51.100.0/24]}}]}}");
        let mut rig = Rig::under(&rules(&block, named));
        rig.resolve("web", "db.example.com", &[ip("198.51.100.1")], 60);
        let names = known(WEB_TO_1, &["db.example.com"]);
        rig.shop.check(WEB_TO_1, expected, &names);
        let mut rig = Rig::under(&rules(named, &block));
        rig.resolve("web", "db.example.com", &[ip("198.51.100.1")], 60);
        rig.allowed(WEB_TO_1, &["db.example.com"]);
    }
    // In the Baseline tier NetworkPolicies come first.
    let base = rules(named, "{action: Deny, to: [{networks: [0.0.0.0/0]}]}")
        .replace("tier: Admin", "tier: Baseline");
    let closed = network_policies(&[(
        "closed",
        "{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{ports: \
         [{port: 53, protocol: UDP}]}]}",
    )]);
    let mut rig = Rig::under(&(base + &closed));
    for (pod, expected) in [
        ("cart", "allow, Baseline:names egress[1]"),
        ("web", "egress, shop/closed isolates egress"),
    ] {
        rig.resolve(pod, "db.example.com", &[ip("198.51.100.1")], 60);
        let flow = format!("{pod} 198.51.100.1 tcp/443");
        let names = known(&flow, &["db.example.com"]);
        rig.shop.check(&flow, expected, &names);
    }
}

#[test]
fn a_policy_that_no_longer_names_it_closes_it_and_one_that_does_again_asks_again() {
    let mut rig = Rig::new("db.example.com");
    rig.resolve("web", "db.example.com", &[ip("198.51.100.1")], 600);
    rig.allowed(WEB_TO_1, &["db.example.com"]);
    rig.shop.change(&names("www.example.com"));
    rig.denied_knowing(WEB_TO_1, &["db.example.com"]);
    // What stood for the name is another's number now, or its own again: the pod asks anew.
    rig.shop.change(&names("db.example.com"));
    rig.denied(WEB_TO_1);
    rig.resolve("web", "db.example.com", &[ip("198.51.100.1")], 600);
    rig.allowed(WEB_TO_1, &["db.example.com"]);
    // A change that still names it keeps it.
    rig.shop.change(&names("db.example.com, www.example.com"));
    rig.allowed(WEB_TO_1, &["db.example.com"]);
}

#[test]
fn what_stands_stays_when_the_names_time_is_over_and_ends_when_policy_does() {
    // HTTP/3, by UDP.
    let quic = |patterns: &str| {
        names(patterns).replace(
            "protocols: [{tcp: {destinationPort: {number: 443}}}]",
            "protocols: [{udp: {destinationPort: {number: 443}}}]",
        )
    };
    let new = "web 198.51.100.1 udp/443";
    let mut rig = Rig::under(&quic("db.example.com"));
    assert!(!rig.talks("web", "198.51.100.1"));
    rig.resolve("web", "db.example.com", &[ip("198.51.100.1")], 60);
    assert!(rig.talks("web", "198.51.100.1") && rig.talks("web", "198.51.100.1"));
    rig.wait(61);
    rig.denied(new);
    assert!(rig.talks("web", "198.51.100.1"));
    // Other changes of the policy, and of what it names, leave it alone.
    rig.shop.change(&quic("db.example.com, www.example.com"));
    rig.denied(new);
    assert!(rig.talks("web", "198.51.100.1"));
    rig.shop.change(&quic("www.example.com"));
    assert!(!rig.talks("web", "198.51.100.1"));
    // Named again it doesn't come back: it is a new one now.
    rig.shop.change(&quic("db.example.com"));
    assert!(!rig.talks("web", "198.51.100.1"));
    rig.resolve("web", "db.example.com", &[ip("198.51.100.1")], 60);
    assert!(rig.talks("web", "198.51.100.1"));
}

#[test]
fn who_comes_after_a_pod_knows_nothing_of_what_it_knew() {
    let mut rig = Rig::new("db.example.com");
    rig.resolve("web", "db.example.com", &[ip("198.51.100.1")], 600);
    rig.allowed(WEB_TO_1, &["db.example.com"]);
    // Gone, and again with the same name, address and VF.
    rig.shop.without("web", &names("db.example.com"));
    rig.shop.change(&names("db.example.com"));
    rig.denied(WEB_TO_1);
    rig.resolve("web", "db.example.com", &[ip("198.51.100.1")], 600);
    rig.allowed(WEB_TO_1, &["db.example.com"]);
}

#[test]
fn what_is_wrong_with_a_name_is_said_with_its_place() {
    let long = format!("{}.example.com", "a".repeat(64));
    for (name, why) in [
        ("com", "is not a domain name"),
        ("'*.com'", "is not a domain name"),
        ("a.*.com", "is not a domain name"),
        ("-a.com", "is not a domain name"),
        ("192.0.2.1", "is an address, not a name"),
        (long.as_str(), "is longer than 63 bytes"),
    ] {
        let manifest = names(name);
        let error = load_texts(&[("cnp.yaml", &manifest)])
            .unwrap_err()
            .to_string();
        assert!(error.contains(why), "{error}");
        assert!(error.starts_with("cnp.yaml:8:195: "), "{error}");
    }
}

#[test]
fn domain_names_fail_closed_where_the_api_has_none() {
    for (action, becomes) in [
        ("Deny", "the rule denies everything"),
        ("Pass", "the rule denies everything"),
    ] {
        let manifest = admin(&format!(
            "{{action: {action}, to: [{{domainNames: [a.example]}}]}}"
        ));
        let mut rig = Rig::under(&manifest);
        let expected = "egress, Admin:names egress[0]";
        rig.shop.check(WEB_TO_1, expected, KnownNames::NONE);
        let Loaded { notes, .. } = load_texts(&[("cnp.yaml", &manifest)]).unwrap();
        let what = format!("has domainNames, which only Accept rules have: {becomes}");
        assert!(
            notes.iter().any(|it| it.to_string().contains(&what)),
            "{notes:?}"
        );
    }
}
