//! What the plugins before this one made.

use core::net::IpAddr;

use serde::Deserialize;

/// The parts of `prevResult` that say who the pod is; alike in all supported versions.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
pub(super) struct PrevResult {
    #[serde(default)]
    pub(super) interfaces: Vec<PrevInterface>,
    #[serde(default)]
    pub(super) ips: Vec<PrevIp>,
}

#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub(super) struct PrevInterface {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) mac: String,
    #[serde(default)]
    pub(super) sandbox: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub(super) struct PrevIp {
    /// `10.1.0.2/24`.
    address: PrevAddress,
    /// Which of the interfaces has it; absent: unknown.
    interface: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
struct PrevAddress(IpAddr);

impl TryFrom<String> for PrevAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let address = text.split_once('/').map_or(text.as_str(), |(ip, _)| ip);
        address
            .parse()
            .map(Self)
            .map_err(|_| format!("`{text}` is no address"))
    }
}

impl PrevResult {
    /// The interface inside the sandbox.
    pub(super) fn inside(&self, ifname: &str) -> Option<&PrevInterface> {
        let is_it = |it: &&PrevInterface| it.name == ifname && !it.sandbox.is_empty();
        self.interfaces.iter().find(is_it)
    }

    /// The addresses of the interface inside; those that no interface is said of too.
    pub(super) fn ips_of(&self, ifname: &str) -> Vec<IpAddr> {
        let is_its = |it: &&PrevIp| {
            it.interface.is_none_or(|index| {
                let interface = self.interfaces.get(index);
                interface.is_some_and(|it| it.name == ifname && !it.sandbox.is_empty())
            })
        };
        let ips = self.ips.iter().filter(is_its);
        ips.map(|it| it.address.0).collect()
    }
}
