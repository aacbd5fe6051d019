//! Secrets, and the broker that uses them.
//!
//! The model credential stays on the host: [`broker`] adds it to each request on its way out. A secret is a
//! [`secret::Secret`], which can't be printed, compared or serialised. This room must never write a secret anywhere,
//! and never forward a header, method or path that is not on its list.
//!
//! - [`secret`]: the type, and reading one from its source.
//! - [`credential`]: a secret or a login → what goes with a request. [`destination`]: where it goes.
//! - [`chatgpt`]: the host's own Codex login, for requests to the ChatGPT backend.
//! - [`models`]: which models a provider offers.
//! - [`upstream`]: the provider's end: TLS, the request.
//! - [`proxy_credentials`]: user and password for the operator's own proxy.
//! - [`broker`]: serves the guest's model connections.

pub mod broker;
pub mod chatgpt;
pub mod credential;
pub mod destination;
pub mod models;
pub mod proxy_credentials;
pub mod secret;
pub mod upstream;

#[cfg(test)]
#[path = "../../tests/support/servers/chatgpt.rs"]
pub mod chatgpt_stand_in;
