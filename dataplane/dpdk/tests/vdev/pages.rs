//! Hugepages for the cases that use them.

use std::fs::{self, File};

const COUNT: &str = "/proc/sys/vm/nr_hugepages";

/// Pages of 2 MiB that all cases together need: they run one after the other.
const NEEDED: u64 = 96;

/// Hugepages are the machine's: who runs these tests beside us waits at this.
const SHARED: &str = "/sys/kernel/mm/hugepages";

/// More hugepages than the machine had; as many less when dropped.
pub(crate) struct Pages {
    /// Locked.
    _alone: File,
}

impl Pages {
    pub(crate) fn reserve() -> Self {
        let alone = File::open(SHARED).unwrap();
        alone.lock().expect("a lock");
        let before = read();
        write(before + NEEDED);
        let got = read();
        if got < before + NEEDED {
            write(before);
            panic!("the kernel gave {} of {NEEDED} hugepages", got - before);
        }
        Self { _alone: alone }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // Others may have changed the number meanwhile: take back only what is ours.
        write(read().saturating_sub(NEEDED));
    }
}

fn read() -> u64 {
    fs::read_to_string(COUNT).unwrap().trim().parse().unwrap()
}

fn write(pages: u64) {
    fs::write(COUNT, pages.to_string()).expect("nr_hugepages can be set: root");
}
