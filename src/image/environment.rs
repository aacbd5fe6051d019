//! Which of this process's variables a tool gets to see: what an engine's client sees in a session, so that an image is
//! built where sessions look for it, and what says how to reach a network. Never a model key, a token of CI, or an
//! `LD_PRELOAD`.

use crate::host::client_environment;
use crate::supervise::environment::Environment;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// Beyond [`client_environment::is_allowed`]: how a pull, a build or a fetch reaches a network, and how a build is
/// isolated. None of these decides which engine is spoken to, or where that keeps its images.
const NAMES: [&str; 13] = [
    "ALL_PROXY",
    "BUILDAH_ISOLATION",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NODE_EXTRA_CA_CERTS",
    "NO_PROXY",
    "REGISTRY_AUTH_FILE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// npm takes its settings this way, each of them: the registry and its certificates among them.
const PREFIXES: [&str; 2] = ["NPM_CONFIG_", "npm_config_"];

/// The part of `all` that tools get, and what makes their output plain.
pub fn for_tools(all: &BTreeMap<OsString, OsString>) -> Environment {
    let kept = all
        .iter()
        .filter(|(name, _)| is_wanted(name))
        .map(|(name, value)| (name.clone(), value.clone()));
    let ours = [
        ("BUILDKIT_PROGRESS", "plain"),
        // With provenance attached, buildx answers with the id of an index, not of the image.
        ("BUILDX_NO_DEFAULT_ATTESTATIONS", "1"),
        ("NO_UPDATE_NOTIFIER", "1"),
    ];
    kept.chain(ours.map(|(name, value)| (name.into(), value.into())))
        .collect()
}

fn is_wanted(name: &OsStr) -> bool {
    let for_a_network = |name: &str| NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    client_environment::is_allowed(name) || name.to_str().is_some_and(for_a_network)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_host(names: &[&str]) -> Vec<String> {
        let all = names.iter().map(|name| (name.into(), "x".into())).collect();
        for_tools(&all)
            .iter()
            .filter(|(_, value)| *value == "x")
            .map(|(name, _)| name.to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn secrets_stay_and_places_go_through() {
        let kept = from_host(&[
            "OPENAI_API_KEY",
            "GITHUB_TOKEN",
            "LD_PRELOAD",
            "NODE_OPTIONS",
            "CODEX_MCP_RUNTIME",
            "PATH",
            "XDG_RUNTIME_DIR",
            "https_proxy",
            "npm_config_registry",
            "DOCKER_HOST",
        ]);
        assert_eq!(
            kept,
            [
                "DOCKER_HOST",
                "PATH",
                "XDG_RUNTIME_DIR",
                "https_proxy",
                "npm_config_registry"
            ]
        );
        let plain = for_tools(&BTreeMap::new());
        assert_eq!(plain.get("BUILDKIT_PROGRESS"), Some(OsStr::new("plain")));
    }

    #[test]
    fn an_image_is_built_where_sessions_look() {
        // Each of these would have an engine look elsewhere, and sessions do not hear of them.
        let elsewhere = ["CONTAINER_HOST", "CONTAINER_CONNECTION", "DOCKER_HOSTX", "XDG_OTHER"];
        assert_eq!(from_host(&elsewhere), Vec::<String>::new());
        let of_sessions = client_environment::ALLOWED;
        assert_eq!(from_host(&of_sessions).len(), of_sessions.len());
    }
}
