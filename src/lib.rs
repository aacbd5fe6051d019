//! codex-mcp: OpenAI's Codex CLI over MCP, one hardened container a thread.
//!
//! Modules in reading order, the way a request takes; `docs/ARCHITECTURE.md` has the invariants, and
//! `tests/it/architecture.rs` fails on a `use crate::` edge that its table does not allow.
//!
//! | module | its one job | touches the world? |
//! |---|---|---|
//! | [`cli`] | flags, one file a command; prints results | stdout, stderr; engines' short commands (`image`, `demo`) |
//! | [`mcp`] | the MCP server: tools, progress, stdio, HTTP | the protocol's stdin and stdout, the listening socket |
//! | [`session`] | one actor a session: launches, runs turns, ends; the only caller of a session's effects | yes, all |
//! | [`config`] | layers → [`config::Config`], each value knows where it came from | only `config::load` |
//! | [`host`] | [`host::HostFacts`]: what this machine and its engine are | `host::probe`; `host::packages` (clients, network, cache) |
//! | [`plan`] | (Config, Request, HostFacts, ImageFacts) → [`plan::LaunchPlan`]; `Ready` against the plan → proof or refusal | no |
//! | [`engine`] | LaunchPlan and constant isolation flags → command line (pure); `ps`, `inspect`, `kill`, `rm` | only `engine::client` |
//! | [`image`] | the recipe of the image; fetch, build, verify | yes |
//! | [`supervise`] | child process trees, the stop ladder, owners of containers | processes, signals |
//! | [`wire`] | the contract between host and guest, and the multiplexed pipe | the pipe it is given |
//! | [`guest`] | PID 1 inside the container (this same binary) | everything inside |
//! | [`codex`] | the app-server's protocol: client, events, errors, configuration | the stream it is given |
//! | [`auth`] | secrets; the broker that adds the credential to each model request | provider's network |
//! | [`egress`] | what may leave a container: policy (pure) and the relay | what the policy allowed |
//! | [`dial`] | connections that this host makes: names, the operator's proxy, authorities | the network |
//! | [`durable`] | files that processes share and that outlive the machine's end: locks, whole replacement | the files it is given |
//! | [`workspace`] | the session's copy of the folder, its diff and how it is brought back; what of a bound folder is protected | files |
//! | [`scripted_model`] | a Responses API server that plays scenarios, for demo and tests | a loopback socket |
//! | [`obs`] | tracing to stderr; numbers | stderr |
//! | [`access`] | who may use the HTTP transport: names and digests of tokens | the file of tokens |
//! | [`audit`] | the chain of records: written, shown, verified | its files in the state directory |
//! | [`redact`] | what every text passes before it leaves this process | no |

pub mod access;
pub mod audit;
pub mod auth;
pub mod cli;
pub mod codex;
pub mod config;
pub mod dial;
pub mod durable;
pub mod egress;
pub mod engine;
pub mod guest;
pub mod host;
pub mod image;
pub mod mcp;
pub mod obs;
pub mod plan;
pub mod redact;
pub mod scripted_model;
pub mod session;
pub mod supervise;
pub mod wire;
pub mod workspace;

// What integration tests share with unit tests names this library from outside.
#[cfg(test)]
extern crate self as codex_mcp;
