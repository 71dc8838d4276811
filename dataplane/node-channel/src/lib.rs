//! Keys between Sluice nodes, over the management network.
//!
//! Two dataplanes authenticate each other with X.509-SVIDs in TLS 1.3, derive ESP keys from
//! the session's exporter, and renew them by make-before-break. The exchange itself is
//! [`sluice_crypto::lifecycle`], a pure state machine; this crate is its driver: sockets,
//! files, time and randomness. The daemon starts it with [`spawn`] and talks to it by
//! [`Command`] and [`Event`]. The README tells the whole story.

mod api;
mod binding;
mod budget;
mod codec;
mod driver;
mod identity;
mod listen;
mod session;
mod tls;
mod workload;

pub use self::api::{
    COMMANDS_MAX, Command, Config, EVENTS_MAX, Event, PEERS_MAX, PeerStatus, Status,
};
pub use self::binding::{
    BINDINGS_MAX, Binding, BindingChange, BindingError, Bindings, POD_UID_LEN_MAX,
};
pub use self::codec::{DecodeError, FRAME_LEN_MAX, Wire, decode, encode};
pub use self::driver::{DIALS_MAX, Handle, StartError, check, spawn};
pub use self::identity::{Files, IdentityError, Source, make_key_and_request, request_again};
pub use self::listen::{HANDSHAKES_MAX, HANDSHAKES_PER_ADDR_MAX, HANDSHAKES_STRANGERS_MAX};
pub use self::session::SessionError;
pub use self::workload::{RESPONSE_LEN_MAX, ResponseError, SVIDS_MAX, WorkloadApi, WorkloadError};
pub use sluice_svid::{self as svid, AnchorError, Anchors, IdError, SpiffeId, TrustDomain};
