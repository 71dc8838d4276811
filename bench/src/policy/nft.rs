//! nftables on the same rules: a verdict map with concatenated keys, and rules one after the
//! other.
//!
//! A socket sends to addresses that a network namespace of our own routes to itself; the
//! rules stand in its output hook, and behind them everything is dropped. So a packet's way
//! is as short as it can be, the same with rules and without, and what rules add to it is
//! the difference. The rules look at the destination, where ours look at the source.
//!
//! The namespace is that of a child process, and ends with it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{SocketAddrV4, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use sluice_dataplane_core::meta::proto;

use crate::policy::report::Case;
use crate::policy::rules::{Keys, Lengths, Rule, RuleSet, address};
use crate::timing::{median, timed};

/// Rules and identities.
pub const SIZES: [(u32, u32); 5] = [
    (10, 1),
    (100, 100),
    (1_000, 100),
    (10_000, 65_535),
    (100_000, 65_535),
];

/// Seconds that the kernel may take to load rules, or a child to do all it should.
const LOAD_SECONDS_MAX: &str = "20";
const CHILD_SECONDS_MAX: &str = "60";

/// Packets that are timed together, and rounds of rules beside none.
const CHUNK: usize = 16;
const ROUNDS: usize = 5;

/// The two ways, as in the JSON.
pub const PEERS: [&str; 2] = ["nft-map", "nft-rules"];

/// What the child is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Rules.
    pub rules: u32,
    /// Identities.
    pub identities: u32,
    /// How long a measurement takes, in milliseconds.
    pub share_ms: u64,
}

/// What the child found for a way, in nanoseconds of a packet by kind of headers; or why not.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Answer {
    peer: String,
    keys: String,
    without: f64,
    with: f64,
    note: Option<String>,
}

const KEYS: [Keys; 2] = [Keys::Same256, Keys::Random];

/// Both ways on all sizes. What can't be measured here says why.
pub fn run(quick: bool, share: Duration, mut progress: impl FnMut(&str)) -> Vec<Case> {
    let sizes = if quick { &SIZES[..2] } else { &SIZES[..] };
    let mut all = Vec::new();
    for &(rules, identities) in sizes {
        progress(&format!("nftables: {rules} rules, {identities} identities"));
        let share_ms = u64::try_from(share.as_millis()).unwrap_or(1).max(1);
        let question = Question {
            rules,
            identities,
            share_ms,
        };
        let answers = ask(question);
        for keys in KEYS {
            for peer in PEERS {
                all.push(case(&answers, peer, keys).of(rules, identities));
            }
        }
    }
    all
}

fn case(answers: &anyhow::Result<Vec<Answer>>, peer: &str, keys: Keys) -> Case {
    let case = |value| {
        Case::new(
            &format!("nft/{}", keys.name()),
            peer,
            "ns/packet added",
            value,
        )
    };
    let answers = match answers {
        Ok(answers) => answers,
        Err(error) => return case(None).noting(format!("{error:#}")),
    };
    let found = answers
        .iter()
        .find(|a| a.peer == peer && a.keys == keys.name());
    match found {
        None => case(None).noting("the child did not say"),
        Some(Answer {
            note: Some(note), ..
        }) => case(None).noting(note.as_str()),
        Some(found) => case(Some(found.with - found.without)).noting(format!(
            "a packet takes {:.0} ns with rules, {:.0} without",
            found.with, found.without
        )),
    }
}

fn ask(question: Question) -> anyhow::Result<Vec<Answer>> {
    let me = env::current_exe().context("finding this program")?;
    let status = fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let euid = uid.and_then(|uids| uids.split_whitespace().nth(1));
    ensure!(euid == Some("0"), "needs root");
    let nft = Command::new("nft").arg("--version").output();
    nft.context("nft can't be run (Debian: nftables)")?;
    let ran = Command::new("timeout")
        .args(["--kill-after=1", CHILD_SECONDS_MAX, "unshare", "--net"])
        .arg(me)
        .args(["nft-child", "--rules", &question.rules.to_string()])
        .args(["--identities", &question.identities.to_string()])
        .args(["--share-ms", &question.share_ms.to_string()])
        .output()
        .context("unshare can't be run (Debian: util-linux)")?;
    let said = String::from_utf8_lossy(&ran.stderr);
    ensure!(
        ran.status.success(),
        "in its network namespace: {}, {}",
        ran.status,
        said.lines().next().unwrap_or("no word")
    );
    serde_json::from_slice(&ran.stdout).context("what the child said")
}

/// In a network namespace of its own: measures, and returns what it found.
///
/// # Errors
/// A namespace that can't be set up. Rules that the kernel doesn't take are an answer.
pub fn child(question: Question) -> anyhow::Result<Vec<Answer>> {
    command("ip", &["link", "set", "lo", "up"])?;
    command("ip", &["route", "add", "local", "default", "dev", "lo"])?;
    let set = RuleSet::new(question.rules, question.identities, Lengths::Usual);
    let share = Duration::from_millis(question.share_ms);
    let mut sender = Sender(UdpSocket::bind("0.0.0.0:0").context("a socket")?);
    let mut all = Vec::new();
    for (peer, rules) in PEERS.into_iter().zip([map(&set)?, list(&set)?]) {
        let refused = load(&rules).err().map(|error| format!("{error:#}"));
        for keys in KEYS {
            let answer = |without, with, note| Answer {
                peer: peer.to_owned(),
                keys: keys.name().to_owned(),
                without,
                with,
                note,
            };
            if refused.is_some() {
                all.push(answer(0.0, 0.0, refused.clone()));
                continue;
            }
            // Only what a datagram's socket can send.
            let headers: Vec<_> = set
                .headers(keys)
                .into_iter()
                .filter(|header| header.protocol == proto::UDP && header.port != 0)
                .map(|header| SocketAddrV4::new(header.src.into(), header.port))
                .collect();
            ensure!(!headers.is_empty(), "no UDP among the headers");
            let (mut with, mut without) = (Vec::new(), Vec::new());
            let mut at = 0;
            for _ in 0..ROUNDS {
                switch(true)?;
                with.push(sender.typical(&headers, &mut at, share));
                switch(false)?;
                without.push(sender.typical(&headers, &mut at, share));
            }
            all.push(answer(median(&mut without), median(&mut with), None));
        }
        command("nft", &["flush", "ruleset"])?;
    }
    Ok(all)
}

/// The rules on or off; the chain that drops stays.
fn switch(on: bool) -> anyhow::Result<()> {
    let line = if on {
        "add rule ip bench output jump rules"
    } else {
        "flush chain ip bench output"
    };
    command("nft", &[line])
}

/// The end of either: whom no rule accepts is dropped, and who is accepted behind it.
fn ruleset(rules: &str) -> String {
    format!(
        "table ip bench {{\n{rules}\n\
         chain output {{\n type filter hook output priority 0; policy accept;\n}}\n\
         chain behind {{\n type filter hook output priority 10; policy drop;\n}}\n}}\n"
    )
}

fn protocol(rule: &Rule) -> &'static str {
    match rule.protocol {
        proto::TCP => "tcp",
        _ => "udp",
    }
}

fn verdict(rule: &Rule) -> &'static str {
    if rule.allow { "accept" } else { "drop" }
}

fn place(rule: &Rule) -> (std::net::Ipv4Addr, String) {
    let (first, last) = rule.ports().into_inner();
    let ports = if first == last {
        first.to_string()
    } else {
        format!("{first}-{last}")
    };
    (address(rule.identity).into(), ports)
}

fn map(set: &RuleSet) -> anyhow::Result<String> {
    let mut elements = String::new();
    for rule in &set.rules {
        let (addr, ports) = place(rule);
        let (protocol, verdict) = (protocol(rule), verdict(rule));
        writeln!(elements, "{addr} . {protocol} . {ports} : {verdict},")?;
    }
    Ok(ruleset(&format!(
        "map verdicts {{\n type ipv4_addr . inet_proto . inet_service : verdict\n \
         flags interval\n elements = {{\n{elements}}}\n}}\n\
         chain rules {{\n ip daddr . meta l4proto . th dport vmap @verdicts\n drop\n}}"
    )))
}

fn list(set: &RuleSet) -> anyhow::Result<String> {
    let mut rules = String::new();
    for rule in &set.rules {
        let (addr, ports) = place(rule);
        let (protocol, verdict) = (protocol(rule), verdict(rule));
        writeln!(rules, " ip daddr {addr} {protocol} dport {ports} {verdict}")?;
    }
    Ok(ruleset(&format!("chain rules {{\n{rules} drop\n}}")))
}

fn load(rules: &str) -> anyhow::Result<()> {
    let mut nft = Command::new("timeout")
        .args(["--kill-after=1", LOAD_SECONDS_MAX, "nft", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("nft")?;
    let mut stdin = nft.stdin.take().context("nft's standard input")?;
    // It reads all before it says anything; what it says fits in a pipe's buffer or is cut
    // short by its end.
    stdin.write_all(rules.as_bytes()).context("rules to nft")?;
    drop(stdin);
    let ran = nft.wait_with_output().context("nft")?;
    if ran.status.code() == Some(124) {
        bail!("nft did not load them in {LOAD_SECONDS_MAX} s");
    }
    let said = String::from_utf8_lossy(&ran.stderr);
    ensure!(
        ran.status.success(),
        "nft: {}",
        said.lines().next().unwrap_or("no word")
    );
    Ok(())
}

fn command(program: &str, args: &[&str]) -> anyhow::Result<()> {
    let ran = Command::new(program).args(args).output();
    let ran = ran.with_context(|| program.to_owned())?;
    let said = String::from_utf8_lossy(&ran.stderr);
    ensure!(
        ran.status.success(),
        "{program} {}: {}",
        args.join(" "),
        said.trim()
    );
    Ok(())
}

struct Sender(UdpSocket);

impl Sender {
    /// The median of a packet's time.
    fn typical(&mut self, to: &[SocketAddrV4], at: &mut usize, share: Duration) -> f64 {
        let (mut spent, mut passes) = (Duration::ZERO, Vec::new());
        while spent < share {
            let one = timed(|| {
                for _ in 0..CHUNK {
                    // Dropped behind the rules, and the socket told so: never an Ok.
                    let _ = self.0.send_to(&[0; 18], to[*at % to.len()]);
                    *at += 1;
                }
            });
            spent += one;
            #[allow(clippy::cast_precision_loss, reason = "16")]
            passes.push(one.as_secs_f64() * 1e9 / CHUNK as f64);
        }
        median(&mut passes)
    }
}
