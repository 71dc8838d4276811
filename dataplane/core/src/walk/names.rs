//! Stage names: what resolvers tell pods whose policy names domains, before they hear it.
//!
//! Only what policy has let pass gets here, so nobody teaches a pod anything but who it may
//! ask and did ask.

use crate::addr::Addr;
use crate::batch::Path;
use crate::flow::key::Tuple;
use crate::meta::{FragKind, Meta, proto};
use crate::names::learned::{NoRoom, PATTERNS_PER_ADDR_MAX};
use crate::names::message::Message;
use crate::names::{DNS_PORT, DomainId};
use crate::port::{Frame, Port};
use crate::reason::DropReason;
use crate::route::Attach;
use crate::snapshot::{Endpoint, PortIndex, Snapshot};
use crate::steer::News;
use crate::table::policy::PolicyTable;
use crate::walk::Walk;
use crate::wire::bytes::be16;

/// Bytes of a UDP header.
const UDP_HEADER_LEN: usize = 8;
/// Messages read in one TCP segment, at most: clients ask for both families at once.
const MESSAGES_MAX: usize = 4;
/// What one answer can teach a pod where other workers have to hear of it, in addresses times
/// patterns. The API asks for 100 of a name.
const TOLD_MAX: usize = 256;

pub(crate) fn names<P: Port>(walk: &mut Walk<'_, P>) {
    if !walk.follows_names {
        return;
    }
    walk.each(u32::MAX, |walk, at| {
        let Some(slot) = walk.batch.slot(at) else {
            return;
        };
        let (meta, path, from, to) = (slot.meta, slot.path, slot.from, slot.to);
        let is_dns = meta.src_port == DNS_PORT || meta.dst_port == DNS_PORT;
        if !is_dns || path != Path::Tracked || meta.frag != FragKind::Whole {
            return;
        }
        let tuple = Tuple::from(&meta);
        let Some(found) = walk.flows.find(tuple, walk.now) else {
            return;
        };
        let Some(flow) = walk.flows.flow(found.slot) else {
            return;
        };
        let asker = flow.tuple();
        let end = if found.from_initiator { from } else { to };
        let Some((pod, table)) = namer(walk.snapshot, end) else {
            return;
        };
        if asker.dst_port != DNS_PORT {
            return;
        }
        let Some(frame) = walk.batch.slot(at).and_then(|slot| slot.frame.take()) else {
            return;
        };
        let mut heard = true;
        for message in messages(frame.bytes(), &meta) {
            if found.from_initiator {
                if let Ok(question) = Message::read(message)
                    && !question.is_response
                {
                    walk.questions.ask(pod.port, &asker, &question, walk.now);
                }
            } else {
                heard &= learn(walk, pod, table, &asker, message);
            }
        }
        if let Some(slot) = walk.batch.slot(at) {
            slot.frame = Some(frame);
        }
        if !heard {
            // What it names may be tried at once, and not every worker knows: who asked asks
            // again.
            walk.drop(at, DropReason::Handoff);
        }
    });
}

/// The pod at an end of a flow and its policy, if that names domains.
fn namer(snapshot: &Snapshot, end: Attach) -> Option<(&Endpoint, &PolicyTable)> {
    let Attach::Port(port) = end else {
        return None;
    };
    let pod = snapshot.endpoint_of(port)?;
    let table = &snapshot.policies.get(pod.policy.0 as usize)?.table;
    (!table.patterns().is_empty()).then_some((pod, table))
}

/// The messages that are whole in a packet: the one of a UDP datagram, or those of a TCP
/// segment that begins with one (RFC 1035 section 4.2.2, RFC 7766 section 8).
fn messages<'f>(frame: &'f [u8], meta: &Meta) -> impl Iterator<Item = &'f [u8]> {
    let l4 = usize::from(meta.l4_off);
    let end = usize::from(meta.l3_end);
    let is_udp = meta.protocol == proto::UDP;
    let start = match meta.protocol {
        proto::UDP => Some(l4 + UDP_HEADER_LEN),
        proto::TCP => frame.get(l4 + 12).map(|it| l4 + usize::from(it >> 4) * 4),
        _ => None,
    };
    let end = if is_udp {
        let len = be16(frame, l4 + 4).map_or(0, usize::from);
        end.min(l4 + len)
    } else {
        end
    };
    let mut rest = start.and_then(|it| frame.get(it..end)).unwrap_or_default();
    let mut whole = is_udp;
    core::iter::from_fn(move || {
        if whole {
            whole = false;
            return Some(core::mem::take(&mut rest)).filter(|it| !it.is_empty());
        }
        let len = usize::from(be16(rest, 0)?);
        let message = rest.get(2..2 + len)?;
        rest = rest.get(2 + len..)?;
        Some(message)
    })
    .take(MESSAGES_MAX)
}

/// Reads an answer and notes what it says to its asker. Whether all workers have heard it.
fn learn<P: Port>(
    walk: &mut Walk<'_, P>,
    pod: &Endpoint,
    table: &PolicyTable,
    asker: &Tuple,
    message: &[u8],
) -> bool {
    let Ok(answer) = Message::read(message) else {
        walk.counters.names_malformed.add(1);
        return true;
    };
    if !answer.is_response || !walk.questions.take(pod.port, asker, &answer, walk.now) {
        walk.counters.names_unasked.add(1);
        return true;
    }
    let (mut domains, mut count) = ([DomainId::NONE; PATTERNS_PER_ADDR_MAX], 0);
    let mut left_out = 0;
    table
        .patterns()
        .find(&answer.name, &mut |domain| match domains.get_mut(count) {
            Some(to) => {
                *to = domain;
                count += 1;
            }
            None => left_out += 1,
        });
    if count == 0 || answer.asked.is_none() || !answer.is_whole {
        return true;
    }
    let domains = domains.get(..count).unwrap_or_default();
    let (who, mut swept) = ((pod.port, pod.born), false);
    let (mut learned, mut full, mut unheard) = (0, 0, 0);
    let mut room = if walk.handoff.is_alone() {
        usize::MAX
    } else {
        TOLD_MAX
    };
    let read = answer.addresses(&mut |addr, ttl_s| {
        if is_nowhere(addr) {
            return;
        }
        full += left_out;
        for &domain in domains {
            if room == 0 || note(walk, who, addr, domain, ttl_s, &mut swept).is_err() {
                full += 1;
                continue;
            }
            (learned, room) = (learned + 1, room - 1);
            if !walk.handoff.is_alone() {
                let news = News::Name {
                    pod: who,
                    addr,
                    domain,
                    ttl_s,
                };
                unheard += walk.handoff.tell(pod.port, news);
            }
        }
    });
    if read.is_err() {
        walk.counters.names_malformed.add(1);
    }
    if learned > 0 {
        walk.counters.names_learned.add(1);
    }
    walk.counters.names_full.add(full);
    walk.counters.news_lost.add(unheard);
    unheard == 0
}

/// Notes that a pod was told an address; `swept` says whether room was looked for already.
fn note<P: Port>(
    walk: &mut Walk<'_, P>,
    who: (PortIndex, u32),
    addr: Addr,
    domain: DomainId,
    ttl_s: u32,
    swept: &mut bool,
) -> Result<(), NoRoom> {
    let noted = walk.learned.learn(who, addr, domain, ttl_s, walk.now);
    if noted != Err(NoRoom::Addresses) || *swept {
        return noted;
    }
    *swept = true;
    walk.learned.sweep(walk.snapshot, walk.now);
    walk.learned.learn(who, addr, domain, ttl_s, walk.now)
}

/// Notes what another worker has seen a pod be told.
pub(crate) fn heard<P: Port>(
    walk: &mut Walk<'_, P>,
    who: (PortIndex, u32),
    addr: Addr,
    domain: DomainId,
    ttl_s: u32,
) {
    // Whoever has seen it counts it, once for all.
    let _ = note(walk, who, addr, domain, ttl_s, &mut false);
}

/// Whether no name of a host outside can have an address: it is no host's, or only known on
/// its own link, as cloud providers' metadata services are.
fn is_nowhere(addr: Addr) -> bool {
    let multicast_or_link = if addr.is_v4() {
        let [a, b, ..] = addr.to_v4();
        a >> 4 == 0xe || (a, b) == (169, 254)
    } else {
        let [a, b, ..] = addr.to_v6();
        a == 0xff || (a, b & 0xc0) == (0xfe, 0x80)
    };
    addr.is_martian() || multicast_or_link
}
