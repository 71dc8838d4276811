//! Rekeys under traffic and faults.

use sluice_sim::fuzz::{Storm, storm};

/// `make test`'s share of what `sluice-sim fuzz --rekeys 1000 --seeds 1` does.
#[test]
fn keys_change_a_hundred_times_in_a_storm_and_no_packet_is_lost_for_it() {
    let told = storm(9, 100).unwrap_or_else(|failure| panic!("{}", failure.what));
    assert_eq!(told.rekeys, 100);
    // Six ways between three nodes, but for those of the dead.
    assert!(told.keys_replaced > 400, "{told:?}");
    assert!(told.exact >= 10, "{told:?}");
    assert!(
        told.came * 10 > told.sent * 6 && told.came < told.sent,
        "{told:?}"
    );
    for what in [
        "agent started anew",
        "agent stalled",
        "corruption",
        "dataplane killed",
        "dataplane stalled",
        "delay",
        "duplication",
        "loss",
        "partition",
        "reordering",
    ] {
        assert!(told.broken.contains_key(what), "no {what}: {told:?}");
    }
}

#[test]
fn a_storm_is_the_same_every_time() {
    assert_eq!(storm(7, 5).unwrap(), storm(7, 5).unwrap());
    let other = Storm {
        seed: 7,
        ..storm(8, 5).unwrap()
    };
    assert_ne!(storm(7, 5).unwrap(), other);
}
