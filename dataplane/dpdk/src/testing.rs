//! One EAL for the unit tests: they share a process.

use std::sync::OnceLock;

use crate::eal::{Eal, EalConfig, Memory};
use crate::pool::{Pool, PoolConfig};

/// The EAL.
pub(crate) fn eal() -> &'static Eal {
    static EAL: OnceLock<Eal> = OnceLock::new();
    EAL.get_or_init(|| {
        let config = EalConfig::new(Memory::NoHuge { mib: 32 });
        Eal::init(&config).unwrap()
    })
}

/// A pool of its own for each test.
pub(crate) fn pool(name: &str) -> Pool {
    let config = PoolConfig {
        name,
        frames: 63,
        frame_len_max: 1518,
        cache: 0,
    };
    Pool::new(eal(), &config).unwrap()
}
