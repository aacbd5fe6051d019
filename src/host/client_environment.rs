//! Which variables of ours an engine's client may see; pure. One rule for all who start one (`engine`, `image`, the
//! probe), so that they all see the same engine and the same images.
//!
//! Named one by one: a prefix such as `DOCKER_*` would let in what we never thought of. Left out on purpose:
//! - `HTTP_PROXY` and its like: clients copy them into containers, passwords included. Sessions never pull; what does
//!   (`image::environment`) adds them by itself.
//! - `CONTAINER_HOST`: it turns podman into a remote client, to whom our directories mean nothing.
//! - `NOTIFY_SOCKET`, `LISTEN_FDS`: podman hands them on to the container.
//! - every provider's key.

use crate::supervise::environment::Environment;
use std::ffi::{OsStr, OsString};

pub const ALLOWED: [&str; 28] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    // Where rootless podman has its state, and the session bus by which it gets a delegated cgroup.
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_DIRS",
    "DBUS_SESSION_BUS_ADDRESS",
    // containers.conf(5), containers-storage.conf(5).
    "CONTAINERS_CONF",
    "CONTAINERS_CONF_OVERRIDE",
    "CONTAINERS_STORAGE_CONF",
    "CONTAINERS_REGISTRIES_CONF",
    "STORAGE_DRIVER",
    "STORAGE_OPTS",
    // https://docs.docker.com/reference/cli/docker/#environment-variables
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS",
    "DOCKER_TLS_VERIFY",
    "DOCKER_API_VERSION",
    // `DOCKER_HOST=ssh://…`
    "SSH_AUTH_SOCK",
];

/// The allowed ones of `variables`.
pub fn of_client(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Environment {
    variables.into_iter().filter(|(name, _)| is_allowed(name)).collect()
}

pub fn is_allowed(name: &OsStr) -> bool {
    ALLOWED.iter().any(|allowed| name == *allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(name: &str) -> bool {
        of_client([(name.into(), "value".into())]).get(name).is_some()
    }

    #[test]
    fn what_clients_need_is_kept() {
        for name in [
            "PATH",
            "HOME",
            "XDG_RUNTIME_DIR",
            "DOCKER_HOST",
            "DBUS_SESSION_BUS_ADDRESS",
        ] {
            assert!(kept(name), "{name}");
        }
    }

    #[test]
    fn what_would_reach_the_container_or_is_a_secret_is_not() {
        for name in [
            "HTTPS_PROXY",
            "https_proxy",
            "CONTAINER_HOST",
            "NOTIFY_SOCKET",
            "OPENAI_API_KEY",
            "LD_PRELOAD",
            "path",
            "DOCKER_HOSTX",
        ] {
            assert!(!kept(name), "{name}");
        }
    }
}
