//! Attacks on egress by real commands in real containers: what is refused inside, that nothing arrived where it was meant
//! to go, and that the result tells of it.
//!
//! - [`raw`]: past the proxy.
//! - [`names`]: what a name may lead to.
//! - [`tls`]: server names.
//! - [`http`]: hosts, ports and rules of plain HTTP and CONNECT.
//! - [`smuggling`]: requests that two readers would read differently, oversized and malformed ones.
//! - [`bounds`]: floods, slow ones, endless ones.
//! - [`commands`]: what commands are told, and what a call may ask for.

mod bounds;
mod commands;
mod http;
mod names;
mod raw;
mod smuggling;
mod tls;

use crate::inside::{Inside, Ran, base64};
use crate::support::lane::Lane;
use crate::support::servers::dns::Dns;
use crate::support::servers::{PERMITTED_RANGE, Servers};
use crate::support::world::World;
use serde_json::Value;

/// A name server, and the servers that a container is after.
struct Scene {
    servers: Servers,
    dns: Dns,
}

impl Scene {
    fn new() -> Self {
        let servers = Servers::new();
        let dns = servers.dns();
        Self { servers, dns }
    }

    /// A world whose host asks this scene's name server and where [`PERMITTED_RANGE`] counts as allowed by the operator.
    /// `network` is what else stands in `[network]`.
    fn world(&self, lane: Lane, network: &str) -> Option<World> {
        let own = format!(
            "[network]\nnameservers = [\"{}\"]\nprivate = [\"{PERMITTED_RANGE}\"]\n",
            self.dns.address
        );
        World::with_config(lane, &format!("{own}{network}\n"))
    }
}

/// One session, one script.
fn attack(world: &World, script: &str) -> Ran {
    Inside::new(world).run(script)
}

impl Ran {
    /// What a script printed after `label: `.
    #[track_caller]
    fn line(&self, label: &str) -> &str {
        let found = self
            .text
            .lines()
            .find_map(|line| line.strip_prefix(label)?.strip_prefix(": "));
        found.unwrap_or_else(|| panic!("no line {label:?} in:\n{}", self.text))
    }

    /// The refusals of one target, added up, and their entry in the result.
    #[track_caller]
    fn denied(&self, host: &str, port: u16) -> &Value {
        let entry = self
            .denied
            .iter()
            .find(|entry| entry["host"] == host && entry["port"] == port);
        entry.unwrap_or_else(|| {
            panic!(
                "{host}:{port} is not in egressDenied: {:#?}\n{}",
                self.denied, self.text
            )
        })
    }
}
