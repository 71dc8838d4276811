//! Hugepages for the cases that use them.

use std::fs;

const COUNT: &str = "/proc/sys/vm/nr_hugepages";

/// Pages of 2 MiB that all cases together need: they run one after the other.
const NEEDED: u64 = 96;

/// More hugepages than the machine had; as many less when dropped.
pub(crate) struct Pages;

impl Pages {
    pub(crate) fn reserve() -> Self {
        let before = read();
        write(before + NEEDED);
        let got = read();
        if got < before + NEEDED {
            write(before);
            panic!("the kernel gave {} of {NEEDED} hugepages", got - before);
        }
        Self
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
