//! Pure and component tests that need more than one room: no engine, no network, seconds.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "tests start programs, look at files, and end where something is not as it should be"
)]

mod architecture;
mod auth_status;
#[path = "../support/servers/chatgpt.rs"]
mod chatgpt;
mod chatgpt_login;
mod command_line;
mod http;
mod redaction;
