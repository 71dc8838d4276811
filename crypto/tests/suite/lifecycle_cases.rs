//! One life cycle, its peer played by hand: what it does on each event, and in which order.

use std::collections::BTreeSet;

use sluice_crypto::esp::Spi;
use sluice_crypto::key::Algorithm;
use sluice_crypto::lifecycle::{
    CloseReason, ExporterSecret, Hello, Limits, Message, PeerConfig, SaAction, SaEvent,
    SaLifecycle, SessionId, SpiBlock, TimeMs, Timing,
};

const A: &str = "spiffe://test/node/a";
const B: &str = "spiffe://test/node/b";
/// Children a direction: enough that "some" and "all" differ.
const CHILDREN: u8 = 2;

/// A life cycle of A with B (A dials) or of B with A, and what B or A would say to it.
struct Script {
    machine: SaLifecycle,
    now: u64,
    session: u64,
    instance: u64,
    attempt: u64,
    epoch: u64,
}

impl Script {
    fn new(initiator: bool) -> Self {
        Self::with(initiator, |_| {})
    }

    fn with(initiator: bool, change: impl FnOnce(&mut PeerConfig)) -> Self {
        let (local, peer) = if initiator { (A, B) } else { (B, A) };
        let mut config = PeerConfig {
            local: local.to_owned(),
            peer: peer.to_owned(),
            instance: 1,
            jitter_seed: 1,
            lanes: CHILDREN,
            algorithms: Algorithm::ALL.to_vec(),
            esn: true,
            limits: Limits {
                soft_ms: 10_000,
                jitter_ms: 0,
                hard_ms: 20_000,
                soft_packets: 100,
                hard_packets: 200,
                soft_bytes: 10_000,
                hard_bytes: 20_000,
            },
            timing: Timing {
                establish_ms_max: 1_000,
                resend_ms: 400,
                // Longer than any case: a ping is seen only where one is provoked.
                ping_ms: 100_000,
                dead_ms: 200_000,
                drain_ms: 500,
                backoff_ms_min: 100,
                backoff_ms_max: 1_000,
            },
        };
        change(&mut config);
        Self {
            machine: SaLifecycle::new(config, TimeMs(0)).unwrap(),
            now: 0,
            session: 0,
            instance: 77,
            attempt: 0,
            epoch: 0,
        }
    }

    fn event(&mut self, event: SaEvent) -> Vec<String> {
        self.machine.on_event(event, TimeMs(self.now));
        self.actions()
    }

    /// Lets time pass to `at`, through every deadline on the way.
    fn until(&mut self, at: u64) -> Vec<String> {
        let mut done = Vec::new();
        while let Some(next) = self.machine.next_deadline().filter(|d| d.0 <= at) {
            self.now = self.now.max(next.0);
            self.machine.on_deadline(TimeMs(self.now));
            done.extend(self.actions());
        }
        self.now = at;
        done
    }

    /// What it wants done, in short.
    fn actions(&mut self) -> Vec<String> {
        let mut short = Vec::new();
        while let Some(action) = self.machine.next_action() {
            short.push(match action {
                SaAction::Dial => "dial".to_owned(),
                SaAction::Send(_, Message::Hello(hello)) => format!("hello {:?}", hello.sending),
                SaAction::Send(_, Message::Ready { epoch }) => format!("ready {epoch}"),
                SaAction::Send(_, Message::Delete { below }) => format!("delete below {below}"),
                SaAction::Send(_, Message::Ping { rekey_wanted, .. }) => {
                    format!("ping {rekey_wanted}")
                }
                SaAction::Close(session, CloseReason::Superseded) => {
                    format!("close {} superseded", session.0)
                }
                SaAction::Close(session, reason) => format!("close {} {reason}", session.0),
                SaAction::InstallInbound(sa) => format!("in {}", sa.spi.0),
                SaAction::InstallOutbound(sa) => format!("out {}", sa.spi.0),
                SaAction::RetireInbound(spi) => format!("retire in {}", spi.0),
                SaAction::RetireOutbound(spi) => format!("retire out {}", spi.0),
                SaAction::Established(_, epoch) => format!("established {epoch}"),
            });
        }
        short
    }

    /// What the receiving SAs of the session before this one have opened.
    fn report_old(&mut self, packets: [u64; CHILDREN as usize]) -> Vec<String> {
        let mut done = Vec::new();
        for (child, packets) in (0..).zip(packets) {
            let spi = Spi(self.ours(child).0 - 32);
            done.extend(self.event(SaEvent::InboundUsed {
                spi,
                packets,
                asked: TimeMs(self.now),
            }));
        }
        done
    }

    /// Silence of the session before this one, as reports say it.
    fn drain_old(&mut self) -> Vec<String> {
        let mut done = self.report_old([0, 0]);
        for _ in 0..3 {
            done.extend(self.until(self.now + 250));
            done.extend(self.report_old([0, 0]));
        }
        done
    }

    /// SPI of `child` at its own end (`0x10000` and up) for session `session`.
    fn ours(&self, child: u32) -> Spi {
        Spi(0x1_0000 + u32::try_from(self.session).unwrap() * 32 + child)
    }

    fn theirs(&self, child: u32) -> Spi {
        Spi(0x2_0000 + u32::try_from(self.session).unwrap() * 32 + child)
    }

    fn session_up(&mut self) -> Vec<String> {
        self.session += 1;
        self.event(SaEvent::SessionUp {
            session: SessionId(self.session),
            secret: ExporterSecret::take_from(&mut [7; ExporterSecret::LEN]),
            receive: SpiBlock::new(self.ours(0).0).unwrap(),
        })
    }

    fn say(&mut self, message: Message) -> Vec<String> {
        let session = SessionId(self.session);
        self.event(SaEvent::Received { session, message })
    }

    fn their_hello(&mut self, sending: &[u64]) -> Hello {
        self.attempt += 1;
        self.epoch += 1;
        Hello {
            spiffe_id: if self.machine.is_initiator() { B } else { A }.to_owned(),
            instance: self.instance,
            attempt: self.attempt,
            epoch_floor: self.epoch,
            receive: SpiBlock::new(self.theirs(0).0).unwrap(),
            lanes: 1,
            algorithms: Algorithm::ALL.to_vec(),
            esn: true,
            sending: sending.to_vec(),
        }
    }

    fn hello(&mut self, sending: &[u64]) -> Vec<String> {
        let hello = self.their_hello(sending);
        self.say(Message::Hello(hello))
    }

    fn all_inbound_installed(&mut self) -> Vec<String> {
        let mut done = self.event(SaEvent::InboundInstalled(self.ours(0)));
        done.extend(self.event(SaEvent::InboundInstalled(self.ours(1))));
        done
    }

    fn all_outbound_installed(&mut self) -> Vec<String> {
        let mut done = self.event(SaEvent::OutboundInstalled(self.theirs(0)));
        done.extend(self.event(SaEvent::OutboundInstalled(self.theirs(1))));
        done
    }

    /// From a dial, or a session that came in, until the pair is in use both ways.
    fn establish(&mut self, sending: &[u64]) {
        self.until(self.now);
        self.session_up();
        self.hello(sending);
        self.all_inbound_installed();
        let epoch = self.epoch;
        self.say(Message::Ready { epoch });
        self.all_outbound_installed();
        let done = self.say(Message::Delete { below: epoch });
        assert!(done.contains(&format!("established {epoch}")), "{done:?}");
    }
}

#[test]
fn the_initiator_installs_receiving_then_says_so_then_sends() {
    let mut s = Script::new(true);
    assert_eq!(s.until(0), ["dial"]);
    assert_eq!(s.session_up(), ["hello []"]);
    assert_eq!(s.hello(&[]), ["in 65568", "in 65569"]);
    let none: [&str; 0] = [];
    let first = s.ours(0);
    assert_eq!(s.event(SaEvent::InboundInstalled(first)), none);
    let again = s.event(SaEvent::InboundInstalled(first));
    assert_eq!(again, none, "one worker's word counts once");
    let second = s.ours(1);
    assert_eq!(s.event(SaEvent::InboundInstalled(second)), ["ready 1"]);
    let wrong = s.say(Message::Ready { epoch: 2 });
    assert_eq!(wrong, none, "an epoch that was not agreed");
    let ready = s.say(Message::Ready { epoch: 1 });
    assert_eq!(ready, ["out 131104", "out 131105"]);
    assert_eq!(s.say(Message::Ready { epoch: 1 }), none, "a key goes once");
    let (first, second) = (s.theirs(0), s.theirs(1));
    assert_eq!(s.event(SaEvent::OutboundInstalled(first)), none);
    let last = s.event(SaEvent::OutboundInstalled(second));
    assert_eq!(last, ["delete below 1"]);
    let done = s.say(Message::Delete { below: 1 });
    assert_eq!(done, ["established 1"]);
}

#[test]
fn the_responder_answers_hello_and_waits_for_ready_before_it_sends() {
    let mut s = Script::new(false);
    let none: [&str; 0] = [];
    assert_eq!(s.until(5_000), none, "it never dials");
    assert_eq!(s.session_up(), none);
    assert_eq!(s.hello(&[]), ["hello []", "in 65568", "in 65569"]);
    assert_eq!(s.all_inbound_installed(), ["ready 1"]);
    let ready = s.say(Message::Ready { epoch: 1 });
    assert_eq!(ready, ["out 131104", "out 131105"]);
    assert_eq!(s.all_outbound_installed(), ["delete below 1"]);
    let (session, rekey_wanted) = (SessionId(1), false);
    let ping = Message::Ping {
        sending: 1,
        rekey_wanted,
    };
    assert_eq!(s.say(ping), ["established 1"], "as good as a delete");
    assert_eq!(s.machine.summary().session, Some(session));
}

#[test]
fn the_old_sa_sends_until_the_new_one_is_installed_and_receives_until_silent() {
    let mut s = Script::new(true);
    s.establish(&[]);
    let old = [s.ours(0), s.ours(1)];
    assert!(s.until(10_000).contains(&"dial".to_owned()));
    assert_eq!(s.session_up(), ["hello [1]"]);
    s.hello(&[1]);
    s.all_inbound_installed();
    s.say(Message::Ready { epoch: 2 });
    let switched = s.all_outbound_installed();
    let expected = ["retire out 131104", "retire out 131105", "delete below 2"];
    assert_eq!(switched, expected);
    // It says nothing of having switched: heard or not, the old one stays.
    s.event(SaEvent::InboundUsed {
        spi: old[0],
        packets: 1,
        asked: TimeMs(s.now),
    });
    let done = s.say(Message::Delete { below: 2 });
    assert!(done.contains(&"close 1 superseded".to_owned()), "{done:?}");
    for packets in 2..6 {
        s.until(s.now + 400);
        assert_eq!(s.report_old([1, packets]).len(), 0, "not silent yet");
    }
    // 400 and 800 ms later: silence is proven to the report before, and 500 ms make a drain.
    for _ in 0..2 {
        s.until(s.now + 400);
        assert_eq!(s.report_old([1, 5]).len(), 0);
    }
    s.until(s.now + 400);
    let retired = s.report_old([1, 5]);
    let expected = ["retire in 65568", "retire in 65569"];
    assert_eq!(
        retired, expected,
        "the same counts again and again are silence"
    );
}

/// Frames that came while a worker, or all of the process, did not run wait at the ports, and are
/// of an old SA, maybe.
#[test]
fn silence_is_what_reports_without_a_gap_say() {
    let mut s = Script::new(true);
    s.establish(&[]);
    s.until(10_000);
    s.session_up();
    s.hello(&[1]);
    s.all_inbound_installed();
    s.say(Message::Ready { epoch: 2 });
    s.all_outbound_installed();
    s.say(Message::Delete { below: 2 });
    let left = s.now;
    assert_eq!(
        s.until(left + 1_000),
        ["ping false"],
        "nobody said anything"
    );
    assert_eq!(s.report_old([0, 0]).len(), 0);
    s.until(s.now + 2_501);
    assert_eq!(s.report_old([0, 0]).len(), 0, "a gap");
    for _ in 0..2 {
        s.until(s.now + 2_500);
        // One child is as good as none.
        let used = SaEvent::InboundUsed {
            spi: Spi(s.ours(0).0 - 32),
            packets: 0,
            asked: TimeMs(s.now),
        };
        assert_eq!(s.event(used).len(), 0);
    }
    assert_eq!(s.report_old([0, 0]).len(), 0, "the other had a gap");
    s.until(s.now + 500);
    assert_eq!(s.report_old([0, 0]).len(), 0, "proven to the one before");
    s.until(s.now + 1);
    let retired = s.report_old([0, 0]);
    assert_eq!(retired, ["retire in 65568", "retire in 65569"]);
}

#[test]
fn without_a_rekey_receiving_ends_at_the_hard_limit_and_sending_a_drain_before() {
    let mut s = Script::new(false);
    s.establish(&[]);
    s.until(19_499);
    assert_eq!(s.machine.summary().sending, Some(1));
    let stopped = s.until(19_500);
    assert_eq!(stopped, ["retire out 131104", "retire out 131105"]);
    assert_eq!(s.machine.summary().receiving, [1]);
    assert_eq!(s.until(19_999).len(), 0);
    assert_eq!(s.until(20_000), ["retire in 65568", "retire in 65569"]);
}

/// Either is enough, and a report just below says nothing.
#[test]
fn packets_and_bytes_renew_at_the_soft_limit_and_stop_at_the_hard_one() {
    for (below, soft, past, hard) in [
        ((99, 9_999), (100, 1), (199, 1), (200, 1)),
        ((99, 9_999), (1, 10_000), (1, 19_999), (1, 20_000)),
    ] {
        let mut s = Script::new(true);
        s.establish(&[]);
        s.until(1);
        let spi = s.theirs(1);
        let used = |(packets, bytes)| SaEvent::OutboundUsed {
            spi,
            packets,
            bytes,
        };
        s.event(used(below));
        assert_eq!(s.until(2).len(), 0);
        s.event(used(soft));
        assert_eq!(s.until(3), ["dial"], "{soft:?}");
        assert_eq!(s.event(used(past)).len(), 0);
        assert_eq!(s.until(4).len(), 0, "asked once");
        let stopped = s.event(used(hard));
        assert_eq!(
            stopped,
            ["retire out 131104", "retire out 131105"],
            "{hard:?}"
        );
    }
}

#[test]
fn the_responder_asks_for_a_rekey_by_ping_and_the_initiator_dials_once() {
    let mut responder = Script::new(false);
    responder.establish(&[]);
    responder.until(1);
    responder.event(SaEvent::RekeyWanted);
    assert_eq!(responder.until(2), ["ping true"]);

    let mut initiator = Script::new(true);
    initiator.establish(&[]);
    initiator.until(1);
    let wish = Message::Ping {
        sending: 1,
        rekey_wanted: true,
    };
    initiator.say(wish.clone());
    initiator.event(SaEvent::RekeyWanted);
    initiator.say(wish.clone());
    assert_eq!(initiator.until(2), ["dial"], "three wishes, one session");
    assert_eq!(initiator.session_up(), ["hello [1]"]);
    initiator.say(wish);
    assert_eq!(initiator.until(3).len(), 0);
}

#[test]
fn failed_dials_wait_longer_up_to_a_bound_and_success_forgets_them() {
    let mut s = Script::new(true);
    let mut waits = Vec::new();
    for _ in 0..12 {
        assert_eq!(s.until(s.now), ["dial"]);
        s.event(SaEvent::DialFailed);
        let next = s.machine.next_deadline().unwrap().0;
        waits.push(next - s.now);
        s.until(next - 1);
        s.now = next;
    }
    assert!((75..=125).contains(&waits[0]), "{waits:?}");
    assert!(waits[11] >= 750, "{waits:?}");
    assert!(waits.iter().all(|w| *w <= 1_250), "{waits:?}");
    s.establish(&[]);
    let session = SessionId(s.session);
    s.event(SaEvent::SessionDown { session });
    let next = s.machine.next_deadline().unwrap().0;
    assert!(next - s.now <= 125, "{}", next - s.now);
}

#[test]
fn a_session_that_stays_unfinished_ends_and_only_unannounced_sas_go_at_once() {
    let mut s = Script::new(false);
    s.session_up();
    s.hello(&[]);
    let late = s.until(1_000);
    let keys = late.iter().filter(|a| a.starts_with("retire in")).count();
    assert_eq!(keys, 2, "{late:?}");
    assert!(late.iter().any(|a| a.starts_with("close 1")), "{late:?}");

    s.session_up();
    s.hello(&[]);
    s.all_inbound_installed();
    let late = s.until(2_500);
    assert!(late.iter().any(|a| a.starts_with("close 2")), "{late:?}");
    let kept = late.iter().all(|a| !a.starts_with("retire"));
    assert!(kept, "the peer may already send by them: {late:?}");

    // Its next hello does not list that epoch: it never got the Ready.
    s.session_up();
    s.hello(&[]);
    let drained = s.drain_old();
    let expected = ["retire in 65600", "retire in 65601"];
    let retired: Vec<_> = drained
        .iter()
        .filter(|a| a.starts_with("retire in"))
        .collect();
    assert_eq!(retired, expected, "{drained:?}");
}

#[test]
fn a_peer_that_restarted_is_believed_at_its_ready_not_at_its_hello() {
    let mut s = Script::new(false);
    s.establish(&[]);
    s.instance += 1;
    s.attempt = 0;
    s.session_up();
    let hello = s.hello(&[]);
    assert!(hello.iter().all(|a| !a.starts_with("retire")), "{hello:?}");
    let waiting = s.until(900);
    assert!(
        waiting.iter().all(|a| !a.starts_with("retire")),
        "{waiting:?}"
    );
    s.all_inbound_installed();
    let ready = s.say(Message::Ready { epoch: 2 });
    assert!(ready.contains(&"retire out 131104".to_owned()), "{ready:?}");
    let drained = s.drain_old();
    assert!(
        drained.contains(&"retire in 65568".to_owned()),
        "{drained:?}"
    );
}

#[test]
fn what_is_old_unasked_or_another_s_is_closed() {
    let mut s = Script::new(true);
    let unasked = s.session_up();
    assert_eq!(unasked, ["close 1 session SessionId(1) was not expected"]);

    let mut s = Script::new(false);
    s.establish(&[]);
    s.session_up();
    s.attempt -= 1;
    assert_eq!(s.hello(&[]), ["close 2 superseded"], "an older attempt");

    s.session_up();
    let mut hello = s.their_hello(&[]);
    hello.attempt += 1;
    hello.spiffe_id = "spiffe://test/node/c".to_owned();
    let closed = s.say(Message::Hello(hello));
    assert!(closed[0].contains("hello says"), "{closed:?}");
    assert_eq!(s.machine.summary().sending, Some(1), "the pair stays");
}

#[test]
fn a_newer_session_takes_the_place_of_an_unfinished_one() {
    let mut s = Script::new(false);
    s.session_up();
    s.hello(&[]);
    s.session_up();
    let hello = s.hello(&[]);
    let expected = [
        "close 1 superseded",
        "retire in 65568",
        "retire in 65569",
        "hello []",
        "in 65600",
        "in 65601",
    ];
    assert_eq!(hello, expected);
}

#[test]
fn a_refused_sa_ends_its_session_without_a_ready() {
    let mut s = Script::new(true);
    s.until(0);
    s.session_up();
    s.hello(&[]);
    let spi = s.ours(0);
    s.event(SaEvent::InboundInstalled(spi));
    let spi = s.ours(1);
    let refused = s.event(SaEvent::InboundRefused(spi));
    assert!(refused[0].starts_with("close 1"), "{refused:?}");
    assert!(refused.contains(&"retire in 65568".to_owned()));
    assert!(refused.iter().all(|a| !a.starts_with("ready")));
    assert_eq!(s.until(s.now + 125), ["dial"]);
}

#[test]
fn a_silent_session_is_dead_and_a_peer_that_piles_up_pairs_is_refused() {
    let mut s = Script::new(false);
    s.establish(&[]);
    s.machine
        .on_event(SaEvent::RekeyWanted, TimeMs(s.now + 100_000));
    s.now = 200_000;
    let dead = s.until(200_000);
    let closed = "close 1 the peer is silent".to_owned();
    assert!(dead.contains(&closed), "{dead:?}");

    let mut s = Script::new(false);
    let mut refused = 0;
    for round in 0..20 {
        s.session_up();
        // It claims to send by every epoch there was, so none can go.
        let sending: Vec<_> = (1..=round).collect();
        let said = s.hello(&sending);
        s.all_inbound_installed();
        refused += usize::from(said.iter().any(|a| a.contains("more than")));
        assert!(s.machine.summary().receiving.len() <= 16);
    }
    assert_eq!(refused, 4);
}

#[test]
fn a_peer_that_offers_the_last_epoch_does_not_use_up_the_counter() {
    for initiator in [true, false] {
        let mut s = Script::new(initiator);
        s.epoch = u64::MAX / 2 - 1;
        s.establish(&[]);
        assert_eq!(s.machine.summary().sending, Some(u64::MAX / 2));
        s.event(SaEvent::RekeyWanted);
        s.until(s.now);
        let begun = s.session_up();
        // Whoever has its name now knows nothing of it.
        (s.instance, s.attempt, s.epoch) = (78, 0, 0);
        let answered = s.hello(&[]);
        let all = [begun, answered].concat();
        for gone in ["retire out 131104", "retire in 65568"] {
            assert!(all.contains(&gone.to_owned()), "{all:?}");
        }
        assert!(all.contains(&"hello []".to_owned()), "{all:?}");
        s.all_inbound_installed();
        s.say(Message::Ready { epoch: 1 });
        s.all_outbound_installed();
        let done = s.say(Message::Delete { below: 1 });
        assert!(done.contains(&"established 1".to_owned()), "{done:?}");
    }
}

/// What is new, an address maybe, came after the exchange had asked for it.
#[test]
fn a_rekey_that_is_wanted_during_an_exchange_follows_it() {
    for (initiator, asks) in [(true, "dial"), (false, "ping true")] {
        let mut s = Script::new(initiator);
        s.until(s.now);
        s.session_up();
        s.hello(&[]);
        s.all_inbound_installed();
        s.event(SaEvent::RekeyWanted);
        s.say(Message::Ready { epoch: 1 });
        s.all_outbound_installed();
        let mut done = s.say(Message::Delete { below: 1 });
        assert!(done.contains(&"established 1".to_owned()), "{done:?}");
        done = s.until(s.now);
        assert!(done.contains(&asks.to_owned()), "{done:?}");
        let mut calm = Script::new(initiator);
        calm.establish(&[]);
        assert!(!calm.until(calm.now).contains(&asks.to_owned()));
    }
}

#[test]
fn an_old_sa_that_is_never_silent_ends_at_its_hard_limit() {
    let mut s = Script::new(true);
    s.establish(&[]);
    s.until(10_000);
    s.session_up();
    s.hello(&[1]);
    s.all_inbound_installed();
    s.say(Message::Ready { epoch: 2 });
    s.all_outbound_installed();
    s.say(Message::Delete { below: 2 });
    // Made at 0: hard after 20 s.
    for packets in 0.. {
        let done = [s.until(s.now + 100), s.report_old([packets, packets])].concat();
        let retired = done.contains(&"retire in 65568".to_owned());
        assert_eq!(retired, s.now >= 20_000, "{} ms: {done:?}", s.now);
        if retired {
            break;
        }
    }
}

#[test]
fn rekeys_of_many_peers_are_spread_over_the_jitter() {
    let mut dials = BTreeSet::new();
    for seed in 0..100 {
        let mut s = Script::with(true, |config| {
            config.jitter_seed = seed;
            config.limits.jitter_ms = 4_000;
        });
        s.establish(&[]);
        while !s.until(s.now + 10).contains(&"dial".to_owned()) {}
        assert!((6_000..=10_010).contains(&s.now), "{}", s.now);
        dials.insert(s.now / 500);
    }
    assert_eq!(dials.len(), 8, "in every half second: {dials:?}");
}

#[test]
fn who_wants_extended_sequence_numbers_takes_no_others() {
    for initiator in [true, false] {
        let mut s = Script::new(initiator);
        s.until(s.now);
        s.session_up();
        let mut hello = s.their_hello(&[]);
        hello.esn = false;
        let done = s.say(Message::Hello(hello));
        assert!(
            done.iter().any(|it| it.contains("extended sequence")),
            "{done:?}"
        );
        assert!(!done.iter().any(|it| it.starts_with("in ")), "{done:?}");
    }
}

#[test]
fn a_session_for_which_nobody_vouches_ends_with_its_sas_and_no_others() {
    for initiator in [true, false] {
        let mut s = Script::new(initiator);
        s.establish(&[]);
        let old = SessionId(s.session);
        s.event(SaEvent::RekeyWanted);
        s.until(s.now);
        s.establish(&[1]);
        assert_eq!(s.machine.summary().receiving, [1, 2]);
        let done = s.event(SaEvent::Distrusted { session: old });
        assert_eq!(done, ["retire in 65568", "retire in 65569"]);
        let left = s.machine.summary();
        assert_eq!((left.sending, left.receiving), (Some(2), vec![2]));
        assert_eq!(left.session, Some(SessionId(s.session)));
        // And the one in use, with nothing left.
        let session = SessionId(s.session);
        let done = s.event(SaEvent::Distrusted { session });
        assert!(done.contains(&"retire in 65600".to_owned()), "{done:?}");
        assert!(
            done.iter().any(|it| it.contains("nobody vouches")),
            "{done:?}"
        );
        let left = s.machine.summary();
        assert_eq!(
            (left.session, left.sending, left.receiving),
            (None, None, vec![])
        );
        assert!(s.machine.sessions().next().is_none());
    }
}
