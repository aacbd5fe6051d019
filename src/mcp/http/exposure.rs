//! Whether this server may listen where it is told to. Pure.
//!
//! It must never be reachable from another machine by whoever comes along: what it serves runs commands on folders of its
//! user's.

use crate::access::doorkeeper::Door;
use crate::config::Sourced;
use crate::config::http::{Front, ListenAddress};
use std::path::PathBuf;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Exposed {
    #[error(
        "{} ({}) can be reached from other machines, and there is no token ({}): whoever reaches it could run Codex on your \
         folders. Add one with `codex-mcp token add NAME`, or listen on 127.0.0.1", .listen.value, .listen.origin, .tokens.display()
    )]
    NoTokens {
        listen: Sourced<ListenAddress>,
        tokens: PathBuf,
    },
    #[error(
        "{} ({}) can be reached from other machines, and this server has no TLS: tokens would pass in the clear. Put a proxy \
         with TLS before it and say so with `http.behind_proxy = true`, or listen on 127.0.0.1", .listen.value, .listen.origin
    )]
    NoProxy { listen: Sourced<ListenAddress> },
    #[error(
        "a proxy stands before this server (`http.behind_proxy`, {}), and there is no token ({}): whoever the proxy lets \
         through could run Codex on your folders. Add one with `codex-mcp token add NAME`", .front.origin, .tokens.display()
    )]
    ProxyWithoutTokens { front: Sourced<Front>, tokens: PathBuf },
}

/// `tokens` is where they are looked for.
pub fn check(
    listen: &Sourced<ListenAddress>,
    front: &Sourced<Front>,
    door: Door,
    tokens: &Sourced<PathBuf>,
) -> Result<(), Exposed> {
    let has_tokens = matches!(door, Door::Locked { tokens } if tokens > 0);
    // `::ffff:127.0.0.1` is loopback too.
    let is_loopback = listen.value.0.ip().to_canonical().is_loopback();
    match (is_loopback, front.value, has_tokens) {
        (true, Front::Nothing, _) | (_, Front::Proxy, true) => Ok(()),
        (true, Front::Proxy, false) => Err(Exposed::ProxyWithoutTokens {
            front: front.clone(),
            tokens: tokens.value.clone(),
        }),
        (false, _, false) => Err(Exposed::NoTokens {
            listen: listen.clone(),
            tokens: tokens.value.clone(),
        }),
        (false, Front::Nothing, true) => Err(Exposed::NoProxy { listen: listen.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Origin;

    fn checked(listen: &str, front: Front, door: Door) -> Result<(), String> {
        let sourced = |value| Sourced::new(value, Origin::Default);
        let listen = Sourced::new(listen.parse().unwrap(), Origin::Flag { name: "--listen" });
        let tokens = Sourced::new(PathBuf::from("/t.json"), Origin::Default);
        check(&listen, &sourced(front), door, &tokens).map_err(|error| error.to_string())
    }

    #[test]
    fn beyond_loopback_it_takes_tokens_and_a_proxy() {
        let locked = Door::Locked { tokens: 1 };
        for address in ["127.0.0.1:1", "[::1]:1", "127.9.9.9:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(checked(address, Front::Nothing, Door::Open), Ok(()));
            assert_eq!(checked(address, Front::Proxy, locked), Ok(()));
        }
        for address in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1"] {
            assert_eq!(checked(address, Front::Proxy, locked), Ok(()));
            for front in [Front::Nothing, Front::Proxy] {
                let refused = checked(address, front, Door::Open).unwrap_err();
                assert!(
                    refused.contains(address) && refused.contains("flag --listen"),
                    "{refused}"
                );
                assert!(refused.contains("codex-mcp token add NAME"), "{refused}");
            }
            assert!(
                checked(address, Front::Nothing, locked)
                    .unwrap_err()
                    .contains("http.behind_proxy = true")
            );
        }
        assert!(
            checked("127.0.0.1:1", Front::Proxy, Door::Open)
                .unwrap_err()
                .contains("token add")
        );
        // Those that were there were all revoked.
        assert!(checked("0.0.0.0:1", Front::Proxy, Door::Locked { tokens: 0 }).is_err());
    }
}
