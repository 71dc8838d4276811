//! From charon's log to what the dataplane is to do.
//!
//! charon itself decides when to do what: it receives by an SA as soon as it has its keys, and
//! sends by it when the peer can receive: at once if it began the exchange, and when the old
//! SA is deleted if the peer did (RFC 7296 section 2.8). Of two rekeys at once it drops one
//! (section 2.8.1). All that is in its log, in order. One thing is decided here: a further child
//! that the peer began is sent by a little later than charon says, see [`super::postponed`].

use core::time::Duration;
use std::collections::BTreeMap;

use super::line::{Group, Line};
use super::postponed::{Postponed, Sending};
use super::thread::{ChildId, Keyed, Said, Thread, Unclear};

/// charon's threads, at most.
const THREADS_MAX: usize = 256;
/// Child SAs, at most.
const CHILDREN_MAX: usize = 4096;
/// Length of a line, at most; a longer one is none of those that matter.
const LINE_MAX: usize = 1024;

/// Which way an SA goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// The peer sends by it.
    In,
    /// We do.
    Out,
}

/// What the dataplane is to do.
#[derive(Debug)]
pub enum Action {
    /// Receive or send by an SA.
    Add(ChildId, Way, u32, Keyed),
    /// Do so no more.
    Remove(ChildId, Way, u32),
    /// Nothing: an SA can't be used.
    Unclear(Unclear),
    /// Nothing: charon could run ahead of us.
    NoHold,
    /// Nothing: there are more children than can be followed.
    TooMany,
}

/// A child's SAs, by their SPIs.
#[derive(Debug, Default)]
struct Child {
    inbound: Option<u32>,
    outbound: Option<u32>,
    /// Not sent by yet.
    registered: Option<(u32, Keyed)>,
}

/// Follows a log from its beginning.
#[derive(Debug, Default)]
pub struct Follower {
    threads: BTreeMap<u16, Thread>,
    children: BTreeMap<ChildId, Child>,
    /// The child that a peer is sent by, by the name of its children.
    sent_by: BTreeMap<String, ChildId>,
    postponed: Postponed,
    /// Whether the log tells as much of messages as holding charon back takes, and whether that
    /// was told if not.
    is_held: bool,
    told_no_hold: bool,
}

impl Follower {
    /// When [`Self::on_time`] has something to do.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        self.postponed.due()
    }

    /// What was put off until `now`. Time is since any moment, the same one for each call.
    pub fn on_time(&mut self, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        for sending in self.postponed.take_due(now) {
            self.send_by(sending, &mut actions);
        }
        actions
    }

    /// Takes a line in, without its end.
    pub fn on_line(&mut self, line: &[u8], now: Duration) -> Vec<Action> {
        if line.len() > LINE_MAX {
            return Vec::new();
        }
        let Some(line) = Line::parse(line) else {
            return Vec::new();
        };
        // Only level 3 has these.
        self.is_held |= line.group == Group::Enc && line.text.contains("generating rule ");
        if !self.threads.contains_key(&line.thread) && self.threads.len() >= THREADS_MAX {
            return Vec::new();
        }
        let said = self.threads.entry(line.thread).or_default().on_line(&line);
        let mut actions = Vec::new();
        if let Some(said) = said {
            self.on_said(said, line.thread, &mut actions);
        }
        let is_another = line.group == Group::Enc && line.text.starts_with("parsed ");
        self.postponed.on_line(line.thread, is_another, now);
        if self.postponed.is_overdue(now) {
            actions.extend(self.on_time(now));
        }
        actions
    }

    fn on_said(&mut self, said: Said, thread: u16, out: &mut Vec<Action>) {
        match said {
            Said::Inbound(child, spi, keyed) => {
                if !self.is_held && !self.told_no_hold {
                    self.told_no_hold = true;
                    out.push(Action::NoHold);
                }
                let Some(it) = self.child(&child) else {
                    return out.push(Action::TooMany);
                };
                it.inbound = Some(spi);
                out.push(Action::Add(child, Way::In, spi, keyed));
            }
            Said::Registered(child, spi, keyed) => match self.child(&child) {
                Some(it) => it.registered = Some((spi, keyed)),
                None => out.push(Action::TooMany),
            },
            Said::Outbound(spi, first) => match (self.registered(spi), first) {
                (Some((child, keyed)), _) => {
                    self.send_by(Sending { child, spi, keyed }, out);
                }
                (None, Err(unclear)) => out.push(Action::Unclear(unclear)),
                (None, Ok(first)) => {
                    let is_further = first.by_peer && self.sent_by.contains_key(&first.child.name);
                    let sending = Sending {
                        child: first.child,
                        spi,
                        keyed: first.keyed,
                    };
                    if self.child(&sending.child).is_none() {
                        out.push(Action::TooMany);
                    } else if is_further {
                        self.postponed.put(thread, sending);
                    } else {
                        self.send_by(sending, out);
                    }
                }
            },
            Said::Gone(child) => {
                self.postponed.forget(&child);
                if self.sent_by.get(&child.name) == Some(&child) {
                    self.sent_by.remove(&child.name);
                    // Before nothing is sent by.
                    if let Some(next) = self.postponed.take_newest(&child.name) {
                        self.send_by(next, out);
                    }
                }
                let Some(it) = self.children.remove(&child) else {
                    return;
                };
                // What is sent by it first: the peer hears no more of it.
                for (way, spi) in [(Way::Out, it.outbound), (Way::In, it.inbound)] {
                    if let Some(spi) = spi {
                        out.push(Action::Remove(child.clone(), way, spi));
                    }
                }
            }
            Said::Unclear(unclear) => out.push(Action::Unclear(unclear)),
        }
    }

    fn send_by(&mut self, it: Sending, out: &mut Vec<Action>) {
        let Some(child) = self.child(&it.child) else {
            return out.push(Action::TooMany);
        };
        child.outbound = Some(it.spi);
        self.postponed.forget_older(&it.child);
        self.sent_by.insert(it.child.name.clone(), it.child.clone());
        out.push(Action::Add(it.child, Way::Out, it.spi, it.keyed));
    }

    fn child(&mut self, id: &ChildId) -> Option<&mut Child> {
        if !self.children.contains_key(id) && self.children.len() >= CHILDREN_MAX {
            return None;
        }
        Some(self.children.entry(id.clone()).or_default())
    }

    /// The newest of the children that registered this SPI: a peer may give one again.
    fn registered(&mut self, spi: u32) -> Option<(ChildId, Keyed)> {
        let mut newest = None;
        for (id, child) in &self.children {
            let is_it = child.registered.as_ref().is_some_and(|(it, _)| *it == spi);
            if is_it
                && newest
                    .as_ref()
                    .is_none_or(|it: &ChildId| it.number < id.number)
            {
                newest = Some(id.clone());
            }
        }
        let id = newest?;
        let (_, keyed) = self.children.get_mut(&id)?.registered.take()?;
        Some((id, keyed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_crypto::key::Algorithm;

    /// What charon 5.9.8 writes, with other keys.
    fn exchange(thread: u8, role: &str, id: u32, keys: [u8; 2], spis: [u32; 2]) -> String {
        let dump = |key: u8| {
            let row = |at: usize, n: usize| {
                format!(
                    "{thread:02}[CHD] <c|1> {at:4}: {} x\n",
                    format!("{key:02X} ").repeat(n)
                )
            };
            row(0, 16) + &row(16, 4)
        };
        let [initiators, responders] = keys.map(dump);
        let [inbound, outbound] = spis;
        format!(
            "{thread:02}[ENC] <c|1> parsed CREATE_CHILD_SA {role} 3 [ SA No KE TSi TSr ]\n\
             {thread:02}[CFG] <c|1> selected proposal: ESP:AES_GCM_16_128/NO_EXT_SEQ\n\
             {thread:02}[CHD] <c|1> CHILD_SA swan{{{id}}} state change: CREATED => INSTALLING\n\
             {thread:02}[CHD] <c|1>   using AES_GCM_16 for encryption\n\
             {thread:02}[CHD] <c|1> encryption initiator key => 20 bytes @ 0x7f02\n{initiators}\
             {thread:02}[CHD] <c|1> encryption responder key => 20 bytes @ 0x7f03\n{responders}\
             {thread:02}[CHD] <c|1> adding inbound ESP SA\n\
             {thread:02}[CHD] <c|1>   SPI 0x{inbound:08x}, src 198.51.100.20 dst 198.51.100.1\n\
             {thread:02}[CHD] <c|1> registering outbound ESP SA\n\
             {thread:02}[CHD] <c|1>   SPI 0x{outbound:08x}, src 198.51.100.1 dst 198.51.100.20\n"
        )
    }

    fn sends(thread: u8, spi: u32) -> String {
        format!(
            "{thread:02}[CHD] <c|1> adding outbound ESP SA\n\
             {thread:02}[CHD] <c|1>   SPI 0x{spi:08x}, src 198.51.100.1 dst 198.51.100.20\n"
        )
    }

    fn gone(id: u32) -> String {
        format!("07[CHD] <c|1> CHILD_SA swan{{{id}}} state change: DELETED => DESTROYING\n")
    }

    const NOW: Duration = Duration::from_secs(100);
    const SOON: Duration = Duration::from_millis(999);
    const LATER: Duration = Duration::from_secs(1);

    /// Level 3 of ENC.
    const HELD: &str = "01[ENC] <c|1>   generating rule 0 IKE_SPI\n";

    fn follow(follower: &mut Follower, log: &str) -> Vec<String> {
        let lines = log.lines();
        tell(lines.flat_map(|it| follower.on_line(it.as_bytes(), NOW)))
    }

    fn tell(actions: impl IntoIterator<Item = Action>) -> Vec<String> {
        let tell = |it| match it {
            Action::Add(child, way, spi, keyed) => {
                assert_eq!(keyed.algorithm, Algorithm::Aes128Gcm16);
                assert!(!keyed.esn && keyed.keymat.len() == 20);
                let first = keyed.keymat[0];
                assert!(keyed.keymat.iter().all(|it| *it == first));
                format!("{child} {way:?} {spi:x} key {first:x}")
            }
            Action::Remove(child, way, spi) => format!("{child} no {way:?} {spi:x}"),
            other => format!("{other:?}"),
        };
        actions.into_iter().map(tell).collect()
    }

    fn followed(log: &str) -> Vec<String> {
        follow(&mut Follower::default(), &(HELD.to_owned() + log))
    }

    #[test]
    fn as_responder_it_receives_at_once_and_sends_when_the_old_sa_is_deleted() {
        let mut follower = Follower::default();
        let log = HELD.to_owned() + &exchange(8, "request", 2, [0xa1, 0xa2], [0x1000, 0x2000]);
        assert_eq!(follow(&mut follower, &log), ["swan{2} In 1000 key a1"]);
        // By another thread, the one that the peer's DELETE came to.
        let log = format!(
            "10[ENC] <c|1> parsed INFORMATIONAL request 3 [ D ]\n{}{}",
            sends(10, 0x2000),
            gone(1)
        );
        assert_eq!(follow(&mut follower, &log), ["swan{2} Out 2000 key a2"]);
        let gone = follow(&mut follower, &gone(2));
        assert_eq!(gone, ["swan{2} no Out 2000", "swan{2} no In 1000"]);
    }

    #[test]
    fn as_initiator_it_uses_the_keys_the_other_way_round() {
        let log = exchange(8, "response", 2, [0xa1, 0xa2], [0x1000, 0x2000]) + &sends(8, 0x2000);
        let said = ["swan{2} In 1000 key a2", "swan{2} Out 2000 key a1"];
        assert_eq!(followed(&log), said);
    }

    #[test]
    fn a_childs_first_sa_is_sent_by_at_once_and_registered_by_nobody() {
        let log = exchange(8, "response", 1, [0xa1, 0xa2], [0x1000, 0x2000]);
        let log = log.replace("registering outbound", "adding outbound");
        let said = ["swan{1} In 1000 key a2", "swan{1} Out 2000 key a1"];
        assert_eq!(followed(&log), said);
    }

    #[test]
    fn of_two_rekeys_at_once_the_one_that_lost_is_never_sent_by() {
        let log = exchange(12, "request", 5, [0xb1, 0xb2], [0x5000, 0x5001])
            + &exchange(13, "response", 4, [0xa1, 0xa2], [0x4000, 0x4001])
            + &sends(15, 0x5001)
            + &gone(4)
            + &gone(3);
        let said = [
            "swan{5} In 5000 key b1",
            "swan{4} In 4000 key a2",
            "swan{5} Out 5001 key b2",
            "swan{4} no In 4000",
        ];
        assert_eq!(followed(&log), said);
    }

    /// A peer's further child: its first SA, which charon sends by before its response has left.
    fn further(thread: u8, id: u32, key: u8, spis: [u32; 2]) -> String {
        exchange(thread, "request", id, [key, key + 1], spis).replace("registering", "adding")
    }

    /// A follower that sends by `swan{1}`.
    fn sending() -> Follower {
        let mut follower = Follower::default();
        let log = HELD.to_owned() + &further(8, 1, 0xa1, [0x1000, 0x2000]);
        let said = ["swan{1} In 1000 key a1", "swan{1} Out 2000 key a2"];
        assert_eq!(follow(&mut follower, &log), said, "a peer's first at once");
        assert_eq!(follower.due(), None);
        follower
    }

    #[test]
    fn a_peers_further_child_is_sent_by_when_the_response_can_have_arrived() {
        let mut follower = sending();
        let log = further(9, 2, 0xb1, [0x3000, 0x4000]);
        assert_eq!(follow(&mut follower, &log), ["swan{2} In 3000 key b1"]);
        // The response is made meanwhile: the thread goes on writing.
        let later = NOW + SOON;
        let made = b"09[ENC] <c|1> generating CREATE_CHILD_SA response 3 [ SA No KE TSi TSr ]";
        assert!(follower.on_time(later).is_empty());
        assert!(follower.on_line(made, later).is_empty());
        assert_eq!(follower.due(), Some(later + LATER));
        // Other threads, and what this one does next, put nothing off.
        follower.on_line(
            b"10[ENC] <c|1> generating INFORMATIONAL request 4 [ D ]",
            later + SOON,
        );
        follower.on_line(
            b"09[ENC] <c|1> parsed INFORMATIONAL request 4 [ ]",
            later + SOON,
        );
        follower.on_line(
            b"09[ENC] <c|1> generating INFORMATIONAL response 4 [ ]",
            later + SOON,
        );
        assert!(follower.on_time(later + SOON).is_empty());
        let said = tell(follower.on_time(later + LATER));
        assert_eq!(said, ["swan{2} Out 4000 key b2"]);
        assert_eq!(follower.due(), None);
        // One that we began the peer has, and another peer's has nothing to do with it.
        let ours = exchange(9, "response", 3, [0xc1, 0xc2], [0x5000, 0x6000])
            .replace("registering", "adding");
        let said = ["swan{3} In 5000 key c2", "swan{3} Out 6000 key c1"];
        assert_eq!(follow(&mut follower, &ours), said);
        let others = further(9, 4, 0xd1, [0x7000, 0x8000]).replace("swan{", "goose{");
        let said = ["goose{4} In 7000 key d1", "goose{4} Out 8000 key d2"];
        assert_eq!(follow(&mut follower, &others), said);
    }

    #[test]
    fn a_further_child_waits_for_no_thread_that_never_stops_writing() {
        let mut follower = sending();
        let log = further(9, 2, 0xb1, [0x3000, 0x4000]);
        follow(&mut follower, &log);
        let writes = b"09[IKE] <c|1> retransmit 1 of request with message ID 2";
        for half_seconds in 1..20 {
            let now = NOW + Duration::from_millis(500 * half_seconds);
            assert!(follower.on_line(writes, now).is_empty());
            assert!(follower.on_time(now).is_empty());
        }
        let said = tell(follower.on_line(writes, NOW + 10 * LATER));
        assert_eq!(said, ["swan{2} Out 4000 key b2"]);
    }

    #[test]
    fn a_further_child_takes_over_before_the_one_that_is_sent_by_goes() {
        let mut follower = sending();
        let log = further(9, 2, 0xb1, [0x3000, 0x4000]) + &further(9, 3, 0xc1, [0x5000, 0x6000]);
        assert_eq!(follow(&mut follower, &log).len(), 2, "both In");
        let said = [
            "swan{3} Out 6000 key c2",
            "swan{1} no Out 2000",
            "swan{1} no In 1000",
        ];
        assert_eq!(follow(&mut follower, &gone(1)), said);
        // The older of the two comes no more.
        assert_eq!(follower.due(), None);
    }

    #[test]
    fn a_further_child_that_goes_or_is_passed_by_a_newer_is_never_sent_by() {
        let mut follower = sending();
        let log = further(9, 2, 0xb1, [0x3000, 0x4000]) + &gone(2);
        let said = ["swan{2} In 3000 key b1", "swan{2} no In 3000"];
        assert_eq!(follow(&mut follower, &log), said);
        assert_eq!(follower.due(), None);
        let log = further(9, 3, 0xc1, [0x5000, 0x6000])
            + &exchange(9, "response", 4, [0xd1, 0xd2], [0x7000, 0x8000])
            + &sends(9, 0x8000);
        let said = [
            "swan{3} In 5000 key c1",
            "swan{4} In 7000 key d2",
            "swan{4} Out 8000 key d1",
        ];
        assert_eq!(follow(&mut follower, &log), said);
        assert_eq!(follower.due(), None);
    }

    #[test]
    fn lines_of_threads_that_come_between_are_told_apart() {
        let one = exchange(3, "request", 2, [0xa1, 0xa2], [0x1000, 0x2000]);
        let two = exchange(4, "request", 3, [0xb1, 0xb2], [0x3000, 0x4000]);
        let between: String = one
            .lines()
            .zip(two.lines())
            .map(|(one, two)| format!("{one}\n{two}\n"))
            .collect();
        let log = between + &sends(5, 0x4000) + &sends(3, 0x2000);
        let said = [
            "swan{2} In 1000 key a1",
            "swan{3} In 3000 key b1",
            "swan{3} Out 4000 key b2",
            "swan{2} Out 2000 key a2",
        ];
        assert_eq!(followed(&log), said);
    }

    #[test]
    fn a_log_that_lacks_something_says_what_to_set_and_gives_no_sa() {
        let whole = exchange(8, "request", 2, [0xa1, 0xa2], [0x1000, 0x2000]);
        let without = |what: &str| -> String {
            let lines = whole.lines().filter(|it| !it.contains(what));
            lines.map(|it| format!("{it}\n")).collect()
        };
        for (what, hint) in [
            ("parsed ", "Role"),
            ("selected proposal", "Proposal"),
            ("INSTALLING", "Child"),
            ("initiator key", "Key"),
            ("  16: A1", "Key"),
            ("   0: A1", "Key"),
        ] {
            let said = followed(&without(what));
            assert!(said[0].contains(hint), "{what}: {said:?}");
            assert!(
                !said.iter().any(|it| it.contains("In 1000")),
                "{what}: {said:?}"
            );
        }
        let other = whole.replace("AES_GCM_16_128", "AES_CBC_128/HMAC_SHA2_256_128");
        assert!(followed(&other)[0].contains("Cipher"));
        // A key for another cipher than was selected.
        let longer = whole.replace("AES_GCM_16_128", "AES_GCM_16_256");
        assert!(followed(&longer)[0].contains("Key"));
        let unheld = follow(&mut Follower::default(), &whole);
        assert_eq!(unheld[0], "NoHold");
    }

    #[test]
    fn a_log_cut_anywhere_or_with_any_byte_changed_gives_no_key_that_was_not_in_it() {
        let whole = exchange(8, "request", 2, [0xa1, 0xa2], [0x1000, 0x2000]) + &sends(8, 0x2000);
        let bytes = whole.as_bytes();
        let run = |log: &[u8]| {
            let mut follower = Follower::default();
            for line in log.split(|it| *it == b'\n') {
                for action in follower.on_line(line, NOW) {
                    if let Action::Add(.., keyed) = action {
                        let [first, ..] = keyed.keymat[..] else {
                            panic!("no key");
                        };
                        assert!([0xa1, 0xa2].contains(&first), "{first:x}");
                        assert!(keyed.keymat.iter().all(|it| *it == first), "two keys mixed");
                        assert_eq!(keyed.keymat.len(), keyed.algorithm.keymat_len());
                    }
                }
            }
        };
        for at in 0..bytes.len() {
            run(&bytes[..at]);
            run(&bytes[at..]);
            for byte in [b'\n', b' ', b'{', 0, 0xff] {
                let mut log = bytes.to_vec();
                log[at] = byte;
                run(&log);
            }
        }
    }

    #[test]
    fn what_a_peer_can_have_charon_write_is_no_line_about_child_sas() {
        let whole = exchange(8, "request", 2, [0xa1, 0xa2], [0x1000, 0x2000]);
        // charon puts thread and group in front of each line of a text that has several.
        let forged = whole.replace("[CHD]", "[IKE]");
        assert_eq!(followed(&forged), [""; 0]);
        let long = format!("08[CHD] {}", "x".repeat(2 * LINE_MAX));
        assert_eq!(followed(&long), [""; 0]);
    }

    #[test]
    fn nothing_shows_a_key() {
        let mut follower = Follower::default();
        let log = exchange(8, "request", 2, [0xa1, 0xa2], [0x1000, 0x2000]);
        let actions: Vec<_> = log
            .lines()
            .flat_map(|it| follower.on_line(it.as_bytes(), NOW))
            .collect();
        let shown = format!("{actions:?} {follower:?}").to_lowercase();
        assert!(
            !shown.contains("a1, a1") && !shown.contains("161, 161"),
            "{shown}"
        );
        assert!(!shown.contains("a1a1"), "{shown}");
    }
}
