//! A request and its answer: one line of JSON each.
//!
//! ```json
//! {"add": {"direction": "inbound", "peer": "storage", "spi": 4097, "algorithm": "aes256gcm16",
//!          "keymat": "00…", "esn": false}}
//! {"remove": {"direction": "inbound", "peer": "storage", "spi": 4097}}
//! {"list": {}}
//! ```
//! answered by `{"done": {}}`, `{"sas": […]}` or `{"refused": {"reason": …, "message": …}}`.

use core::time::Duration;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use sluice_crypto::esp::Spi;
use sluice_crypto::key::EspKey;
use sluice_crypto::replay::ReplayWindow;
use sluice_dataplane_control::{Child, SaConfig};
use sluice_dataplane_core::sad::Mode;
use sluice_offload_api::model::{NodeName, SaDirection, SaRecord};

use super::order::{Limits, LiveSa, Order, OrderRefused, Removal};
use crate::config::decode_hex;

/// A line, at most: several times what any request needs.
pub const LINE_BYTES_MAX: usize = 4096;

/// What is asked. Its text holds the key: whoever has it erases it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request<'a> {
    /// An SA with its key is to come.
    #[serde(borrow)]
    Add(Add<'a>),
    /// An SA is to go.
    #[serde(borrow)]
    Remove(Remove<'a>),
    /// All SAs.
    List {},
}

/// An SA.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add<'a> {
    /// `inbound` or `outbound`.
    pub direction: &'a str,
    /// The other node.
    pub peer: &'a str,
    /// The receiver's index.
    pub spi: u32,
    /// As in RFC 4106 and 7634.
    pub algorithm: &'a str,
    /// Key and salt in hex.
    pub keymat: &'a str,
    /// 64-bit sequence numbers.
    pub esn: bool,
    /// `tunnel`, which it is if it isn't said, or `transport`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<&'a str>,
    /// In transport mode the pod that it is for, by its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<IpAddr>,
    /// Replay window; receiving SAs only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
    /// ESP in UDP; sending SAs only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp_encap: Option<bool>,
    /// It ends after so many packets,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_max: Option<u64>,
    /// so many inner bytes,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_max: Option<u64>,
    /// and so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_max: Option<u64>,
}

impl core::fmt::Debug for Add<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (way, peer, spi) = (self.direction, self.peer, self.spi);
        write!(f, "Add({way} {peer} {spi:#x})")
    }
}

/// Which SA.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remove<'a> {
    /// `inbound` or `outbound`.
    pub direction: &'a str,
    /// The other node.
    pub peer: &'a str,
    /// The receiver's index.
    pub spi: u32,
}

/// What a request led to.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// It is so, at every worker.
    Done {},
    /// The SAs there are.
    Sas(Vec<Listed>),
    /// Nothing has changed.
    Refused {
        /// For programs.
        reason: String,
        /// For people.
        message: String,
    },
}

impl From<OrderRefused> for Response {
    fn from(why: OrderRefused) -> Self {
        Self::Refused {
            reason: why.reason().to_owned(),
            message: why.to_string(),
        }
    }
}

/// An SA as it is told of.
#[derive(Debug, Serialize, Deserialize)]
pub struct Listed {
    /// The other node.
    pub peer: Option<String>,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// The receiver's index.
    pub spi: u32,
    /// Of its key.
    pub fingerprint: String,
    /// Packets so far.
    pub packets: u64,
    /// Inner bytes so far.
    pub bytes: u64,
    /// Milliseconds since it is in force.
    pub age_ms: Option<u64>,
}

impl From<&SaRecord> for Listed {
    fn from(sa: &SaRecord) -> Self {
        let direction = match sa.direction {
            SaDirection::Inbound => "inbound",
            SaDirection::Outbound => "outbound",
        };
        Self {
            peer: sa.peer.as_ref().map(|it| it.0.clone()),
            direction: direction.to_owned(),
            spi: sa.spi,
            fingerprint: sa.fingerprint.to_string(),
            packets: sa.packets,
            bytes: sa.bytes,
            age_ms: sa.age_ms,
        }
    }
}

/// Reads a request. What is wrong is told without a byte of it.
///
/// # Errors
/// [`OrderRefused::Malformed`].
pub fn request(line: &[u8]) -> Result<Request<'_>, OrderRefused> {
    serde_json::from_slice(line).map_err(|error| OrderRefused::Malformed {
        column: error.column(),
    })
}

fn direction(text: &str) -> Result<SaDirection, OrderRefused> {
    match text {
        "inbound" => Ok(SaDirection::Inbound),
        "outbound" => Ok(SaDirection::Outbound),
        _ => Err(OrderRefused::Field {
            field: "direction",
            expected: "`inbound` or `outbound`",
        }),
    }
}

impl TryFrom<Remove<'_>> for Order {
    type Error = OrderRefused;

    fn try_from(it: Remove<'_>) -> Result<Self, OrderRefused> {
        Ok(Self::Remove(Removal {
            peer: it.peer.into(),
            direction: direction(it.direction)?,
            spi: Spi::new(it.spi)?,
        }))
    }
}

impl TryFrom<Add<'_>> for Order {
    type Error = OrderRefused;

    fn try_from(it: Add<'_>) -> Result<Self, OrderRefused> {
        let direction = direction(it.direction)?;
        let not_here = |field, expected| Err(OrderRefused::Field { field, expected });
        if it.pod.is_some() && it.mode != Some("transport") {
            return not_here("pod", "it is for mode `transport` only");
        }
        let mode = match it.mode {
            None | Some("tunnel") => Mode::Tunnel,
            Some("transport") => match it.pod {
                Some(pod) => Mode::Transport { pod: pod.into() },
                None => return not_here("pod", "the pod's address, with mode `transport`"),
            },
            Some(_) => return not_here("mode", "`tunnel` or `transport`"),
        };
        if direction == SaDirection::Outbound && it.window.is_some() {
            return not_here("window", "it is for receiving SAs only");
        }
        if direction == SaDirection::Inbound && it.udp_encap.is_some() {
            return not_here("udp_encap", "it is for sending SAs only");
        }
        let window = it.window.unwrap_or(ReplayWindow::DEFAULT);
        ReplayWindow::new(window)?;
        let spi = Spi::new(it.spi)?;
        let algorithm = it.algorithm.parse().map_err(|_| OrderRefused::Field {
            field: "algorithm",
            expected: "`aes128gcm16`, `aes256gcm16` or `chacha20poly1305`",
        })?;
        let keymat = decode_hex(it.keymat.as_bytes()).map_err(|_| OrderRefused::NotHex)?;
        let usual = Limits::default();
        let limits = Limits {
            packets_max: it.packets_max.unwrap_or(usual.packets_max),
            bytes_max: it.bytes_max.unwrap_or(usual.bytes_max),
            age_max: it.seconds_max.map_or(usual.age_max, Duration::from_secs),
        };
        if limits.packets_max == 0 || limits.bytes_max == 0 || limits.age_max.is_zero() {
            return not_here("packets_max, bytes_max, seconds_max", "at least 1");
        }
        Ok(Self::Add(LiveSa {
            peer: NodeName(it.peer.to_owned()),
            direction,
            config: SaConfig {
                spi,
                key: EspKey::from_keymat(algorithm, &keymat)?,
                esn: it.esn,
                window,
                udp_encap: it.udp_encap.unwrap_or(false),
                mode,
                child: Child::ONLY,
            },
            limits,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADD: &str = r#"{"add":{"direction":"inbound","peer":"b","spi":4097,"algorithm":"aes128gcm16","keymat":"KEY","esn":false}}"#;

    fn order(text: &str) -> Result<Order, OrderRefused> {
        match request(text.as_bytes())? {
            Request::Add(it) => it.try_into(),
            Request::Remove(it) => it.try_into(),
            Request::List {} => panic!("no order"),
        }
    }

    fn add(from: &str, to: &str) -> Result<Order, OrderRefused> {
        order(&ADD.replace("KEY", &"a7".repeat(20)).replace(from, to))
    }

    #[test]
    fn an_sa_is_read_with_what_is_usual_for_what_isnt_said() {
        let Ok(Order::Add(sa)) = add("", "") else {
            panic!("an SA");
        };
        assert_eq!((sa.peer.0.as_str(), sa.config.spi), ("b", Spi(4097)));
        assert_eq!(sa.config.window, ReplayWindow::DEFAULT);
        assert_eq!(sa.limits, Limits::default());
        assert!(!sa.config.esn && sa.config.mode == Mode::Tunnel);
    }

    #[test]
    fn what_is_wrong_is_told_by_name_and_never_with_what_it_was() {
        let secret = "a7a7";
        let wrong = [
            ("\"inbound\"", "\"a7a7a7a7\"", "field"),
            ("aes128gcm16", "a7a7a7a7", "field"),
            ("aes128gcm16", "aes256gcm16", "key"),
            ("\"a7a7", "\"xya7", "key"),
            ("4097", "255", "spi"),
            ("4097", "\"a7a7a7a7\"", "malformed"),
            ("false", "false,\"a7a7a7a7\":1", "malformed"),
            ("false", "false,\"window\":65", "window"),
            ("false", "false,\"udp_encap\":true", "field"),
            ("false", "false,\"seconds_max\":0", "field"),
            ("false", "false,\"mode\":\"a7a7\"", "field"),
            ("false", "false,\"mode\":\"transport\"", "field"),
            ("false", "false,\"pod\":\"10.0.0.1\"", "field"),
            (
                "false",
                "false,\"mode\":\"transport\",\"pod\":\"a7a7\"",
                "malformed",
            ),
            ("inbound", "outbound\",\"window\":64,\"x\":\"", "malformed"),
            ("}}", "}", "malformed"),
            ("}}", "}}{", "malformed"),
        ];
        for (from, to, reason) in wrong {
            let refused = add(from, to).unwrap_err();
            let told = format!("{refused} {refused:?}");
            assert_eq!(refused.reason(), reason, "{to}: {told}");
            assert!(!told.contains(secret), "{to}: {told}");
        }
    }

    #[test]
    fn a_key_of_192_bits_is_refused_by_its_length_or_its_name() {
        use sluice_crypto::key::{Algorithm, KeyError};
        let with = |name| {
            let text = ADD.replace("KEY", &"a7".repeat(24 + 4));
            order(&text.replace("aes128gcm16", name))
        };
        for algorithm in Algorithm::ALL {
            let error = KeyError::KeymatLength {
                algorithm,
                expected: algorithm.keymat_len(),
                got: 28,
            };
            let refused = with(algorithm.name()).unwrap_err();
            assert!(
                matches!(&refused, OrderRefused::Key(got) if *got == error),
                "{refused:?}"
            );
        }
        let unknown = with("aes192gcm16").unwrap_err();
        let field = "algorithm";
        assert!(matches!(unknown, OrderRefused::Field { field: it, .. } if it == field));
    }

    #[test]
    fn a_request_does_not_show_its_key() {
        let text = ADD.replace("KEY", "a7a7");
        let shown = format!("{:?}", request(text.as_bytes()).unwrap());
        assert!(!shown.contains("a7a7"), "{shown}");
    }
}
