//! Why a frame was dropped. Every drop is exactly one of these, counted per port.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal,)+) => {
        /// The one reason of one drop; its number indexes a per-port counter array.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[doc = $doc])* $variant,)+
        }

        impl DropReason {
            /// All reasons, in numeric order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The reason's name in counters, logs and metrics: stable, kebab case.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it means, a sentence for people, perhaps with spaces around it.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),*),)+ }
            }
        }
    };
}

reasons! {
    /// Shorter than its own headers say, or than an Ethernet header.
    Truncated = "truncated",
    /// A header field contradicts another or its RFC.
    Malformed = "malformed",
    /// An IPv4 header checksum that doesn't verify.
    BadChecksum = "bad-checksum",
    /// More than one VLAN tag.
    VlanStacked = "vlan-stacked",
    /// More IPv6 extension headers than the bound, or one that may not be there.
    ExtensionHeaders = "extension-headers",
    /// An ethertype other than ARP, IPv4 and IPv6 on a VF.
    EtherType = "ether-type",
    /// A source MAC that isn't the VF's, or a VF's MAC on another port.
    SpoofedMac = "spoofed-mac",
    /// A source IP that isn't the VF's, or a VF's IP on another port.
    SpoofedIp = "spoofed-ip",
    /// A VLAN tag that isn't the VF's.
    SpoofedVlan = "spoofed-vlan",
    /// An ARP frame whose sender isn't the VF.
    SpoofedArp = "spoofed-arp",
    /// A neighbour discovery message whose sender or target isn't the VF, or a
    /// router advertisement or redirect from a pod.
    SpoofedNd = "spoofed-nd",
    /// A DHCP server's answer from a pod.
    DhcpServer = "dhcp-server",
    /// Broadcast or multicast that no one needs: dropped by design.
    Multicast = "multicast",
    /// An ARP or ND question that gets no answer: a probe for one's own address.
    NeighborProbe = "neighbor-probe",
    /// A port without an endpoint: no pod owns the VF yet.
    NoEndpoint = "no-endpoint",
    /// Nobody here has the destination.
    NoRoute = "no-route",
    /// A service address; they are not translated.
    ServiceVip = "service-vip",
    /// The frame's destination MAC isn't ours.
    NotForUs = "not-for-us",
    /// ESP with an SPI no SA has.
    UnknownSpi = "unknown-spi",
    /// ESP whose integrity check failed.
    EspForged = "esp-forged",
    /// ESP left of the replay window.
    EspStale = "esp-stale",
    /// ESP with a sequence number seen before.
    EspDuplicate = "esp-duplicate",
    /// ESP shorter than its fixed parts.
    EspTruncated = "esp-truncated",
    /// ESP whose padding, pad length or next header is wrong.
    EspTrailer = "esp-trailer",
    /// ESP of a transport mode SA for the dataplane or another pod than its own, or of a tunnel
    /// mode SA for a pod.
    EspMode = "esp-mode",
    /// A dummy packet (next header 59): dropped by design.
    EspDummy = "esp-dummy",
    /// The decrypted source isn't the SA's node's, or an address is no longer the pod's that the
    /// agent takes it for.
    IdentityUnknown = "identity-unknown",
    /// The inside of an ESP packet that doesn't parse.
    InnerMalformed = "inner-malformed",
    /// Plaintext where policy wants ESP.
    Plaintext = "plaintext",
    /// A flow's packet that came by another way than the flow's own.
    WrongPath = "wrong-path",
    /// TCP without a flow that isn't a SYN.
    TcpNoFlow = "tcp-no-flow",
    /// TCP flags that nobody sets together.
    TcpFlags = "tcp-flags",
    /// A TCP segment outside its flow's window, or that nothing in its flow asks for.
    TcpWindow = "tcp-window",
    /// SCTP without a flow that is neither INIT nor HEARTBEAT.
    SctpNoFlow = "sctp-no-flow",
    /// SCTP with a verification tag that isn't the other end's.
    SctpTag = "sctp-tag",
    /// An ICMP error that belongs to no flow, or to us and quotes no packet of an SA in use.
    IcmpNoFlow = "icmp-no-flow",
    /// An ICMP error that quotes what its flow, or the SA, hasn't under way.
    IcmpNotSent = "icmp-not-sent",
    /// An ICMP error that asks for packets smaller than any link has to carry.
    IcmpMtu = "icmp-mtu",
    /// A fragment of ESP: it can't be opened before it is put together. Or a fragment to a host
    /// whose SA is of transport mode, which takes whole packets only.
    Fragment = "fragment",
    /// A first fragment without the whole transport header, or a later one that starts
    /// inside it.
    FragmentTiny = "fragment-tiny",
    /// Of a datagram whose fragments overlap or disagree where it ends: all of it goes.
    FragmentOverlap = "fragment-overlap",
    /// The same part of a datagram again.
    FragmentDuplicate = "fragment-duplicate",
    /// Of a datagram in more fragments than the bound: the rest of it goes.
    FragmentMany = "fragment-many",
    /// A later fragment whose first never came.
    FragmentNoFirst = "fragment-no-first",
    /// A later fragment whose first was dropped, or whose flow has ended.
    FragmentRefused = "fragment-refused",
    /// A later fragment that had to wait for its first, and gave way to newer ones.
    FragmentTableFull = "fragment-table-full",
    /// The flow table is full.
    FlowTableFull = "flow-table-full",
    /// The VF has as many flows as it may have, none of them half-open.
    FlowQuota = "flow-quota",
    /// Too many flows meet in one place of the flow table.
    FlowChain = "flow-chain",
    /// Policy of the source pod.
    PolicyEgress = "policy-egress",
    /// Policy of the destination pod.
    PolicyIngress = "policy-ingress",
    /// No usable SA to the destination's node.
    NoSa = "no-sa",
    /// To a node without a dataplane, and a setting at either end requires encryption.
    Unprotected = "unprotected",
    /// The sending SA reached its hard limit.
    SaExhausted = "sa-exhausted",
    /// Longer than the way out takes; the sender was told.
    TooBig = "too-big",
    /// No room in the frame for the encapsulation, or an answer that can't be built.
    NoHeadroom = "no-headroom",
    /// The next hop's MAC isn't known: the queue of waiting frames is full, no answer came
    /// in time, or a new generation came before it.
    NextHop = "next-hop",
    /// The way out is a port this worker doesn't have.
    NoPort = "no-port",
    /// The worker that owns its flow or its SA has too many frames waiting, or uses a newer
    /// snapshot than the one that let it through.
    Handoff = "handoff",
    /// The transmit queue was full.
    TxFull = "tx-full",
}

/// How many reasons there are: the length of a port's counter array.
pub const REASONS: usize = DropReason::ALL.len();
