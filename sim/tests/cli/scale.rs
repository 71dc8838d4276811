//! `sluice-sim scale`: a small cluster, and bounds that it is held against.

use super::sluice_sim;

const SMALL: [&str; 9] = [
    "scale",
    "--nodes",
    "3",
    "--pods",
    "9",
    "--rate",
    "100",
    "--seconds",
    "1",
];

#[test]
fn a_bound_that_is_missed_is_told_and_exits_with_1() {
    for (bound, value, missed) in [
        ("--at-least", "1000000000", "not 1000000000 times real time"),
        (
            "--within",
            "0.000000001",
            "not in step within 0.000000001 s",
        ),
        ("--memory-max", "1", "not within 1 MiB"),
    ] {
        let ran = sluice_sim(&[&SMALL[..], &[bound, value]].concat());
        assert_eq!(ran.code, Some(1), "{bound}: {}{}", ran.stdout, ran.stderr);
        assert!(ran.stdout.contains(missed), "{}", ran.stdout);
    }
}

#[test]
fn bounds_that_hold_change_nothing_and_those_that_are_none_are_refused() {
    let kept = [
        "--at-least",
        "0.000001",
        "--within",
        "3600",
        "--memory-max",
        "100000",
    ];
    let ran = sluice_sim(&[&SMALL[..], &kept].concat());
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    for (bound, value) in [
        ("--within", "nan"),
        ("--at-least", "inf"),
        ("--at-least", "0"),
    ] {
        let ran = sluice_sim(&[&SMALL[..], &[bound, value]].concat());
        assert_eq!(ran.code, Some(2), "{bound} {value}");
        assert!(ran.stderr.contains("no number above 0"), "{}", ran.stderr);
    }
}
