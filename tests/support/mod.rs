//! What tests of the whole program share: an engine to run on, a world to run in, a client to speak with.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod client;
pub mod lane;
pub mod rest;
pub mod servers;
pub mod world;

/// Makes one test a lane of each function `fn name(lane: Lane)`, named `name::lane`. The lanes are named with the tests,
/// so that there is no test where it would have nothing to assert.
macro_rules! on_lanes {
    ($($lanes:tt => $($test:ident),+ $(,)?);+ $(;)?) => {
        $($(mod $test { on_lanes!(@lanes $test $lanes); })+)+
    };
    (@lanes $test:ident [$($lane:ident),+]) => { $(on_lanes!(@lane $test $lane);)+ };
    (@lane $test:ident RootfulPodman) => {
        #[test]
        fn rootful_podman() { super::$test($crate::support::lane::Lane::RootfulPodman) }
    };
    (@lane $test:ident RootlessPodman) => {
        #[test]
        fn rootless_podman() { super::$test($crate::support::lane::Lane::RootlessPodman) }
    };
    (@lane $test:ident Docker) => {
        #[test]
        fn docker() { super::$test($crate::support::lane::Lane::Docker) }
    };
}

/// Tests that run for as long as they are told to, on every lane, and only when they are asked for.
macro_rules! on_request {
    ($($test:ident),+ $(,)?) => { $(mod $test {
        use crate::support::lane::Lane;
        #[test]
        #[ignore = "asked for by a script of its own"]
        fn rootful_podman() { super::$test(Lane::RootfulPodman) }
        #[test]
        #[ignore = "asked for by a script of its own"]
        fn rootless_podman() { super::$test(Lane::RootlessPodman) }
        #[test]
        #[ignore = "asked for by a script of its own"]
        fn docker() { super::$test(Lane::Docker) }
    })+ };
}

/// [`on_lanes`] for tests that have something to assert wherever they run.
macro_rules! on_every_lane {
    ($($test:ident),+ $(,)?) => { on_lanes!([RootfulPodman, RootlessPodman, Docker] => $($test),+); };
}
