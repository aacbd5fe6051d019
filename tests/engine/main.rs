//! Real Codex in real containers: rootful podman, rootless podman, docker. Started by `scripts/test`.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::needless_pass_by_value,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "tests start programs, look at files, and end where something is not as it should be"
)]

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod attacks;
mod audit;
mod bind;
mod bring_back;
mod broker;
mod canary;
mod chaos;
mod chatgpt;
mod codex_traffic;
mod egress;
mod ends;
mod hardening;
mod hostile_repository;
mod inside;
mod lasting;
mod load;
mod lying_engine;
mod over_http;
mod packages;
mod refusals;
mod secrets;
mod turns;
