//! A whole Sluice cluster in one process: deterministic, hardware-free.
