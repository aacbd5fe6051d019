//! What the commands of a session are told of the network: variables. Pure.
//!
//! Codex sets them for what it runs (`shell_environment_policy.set`) and never sees them itself: its own requests go to
//! the model endpoint, and a proxy in its environment would send them elsewhere.
//!
//! Each is here because a client was seen to need it. What a client takes from one of the others is left out.

use crate::host::packages::PackageSource;
use crate::plan::paths;
use std::collections::BTreeMap;

/// Where commands find the way out. Set where nothing is allowed as well: a refusal that names the rule and the remedy
/// helps more than a name that does not resolve.
const PROXIED: [&str; 6] = [
    // curl and git take this one for `http://` in lower case only: in upper case a CGI request could have set it.
    "http_proxy",
    // For those that know upper case only.
    "HTTP_PROXY",
    // wget takes lower case only.
    "https_proxy",
    "HTTPS_PROXY",
    // curl's and cargo's for schemes without a variable of their own.
    "all_proxy",
    "ALL_PROXY",
];

/// Hosts that are reached without it: the container's own loopback, where tests and development servers listen.
const DIRECT: [&str; 2] = ["no_proxy", "NO_PROXY"];
/// Python's urllib compares an IPv6 address with its brackets, everybody else without.
const LOOPBACK: &str = "127.0.0.1,localhost,::1,[::1]";

/// Variables that name one file with all certificate authorities.
const AUTHORITIES: [&str; 5] = [
    // OpenSSL's own: curl, Python, cargo; Go reads it too.
    "SSL_CERT_FILE",
    // git where it is built with GnuTLS, as Debian's is.
    "GIT_SSL_CAINFO",
    // pip and everything else on `requests`, which bring a bundle of their own.
    "REQUESTS_CA_BUNDLE",
    // node has its authorities built in and adds these.
    "NODE_EXTRA_CA_CERTS",
    // npm: an npmrc of the image that names a file would win over node's.
    "npm_config_cafile",
];

/// `ca_bundle` is the path inside; `None`: the image's own authorities do. What a package client's settings say comes
/// first, so that none of them can change the way out.
pub fn command_environment(ca_bundle: Option<&str>, sources: &[PackageSource]) -> BTreeMap<String, String> {
    let mut variables: BTreeMap<String, String> =
        sources.iter().flat_map(|source| source.environment.clone()).collect();
    let proxy = format!("http://127.0.0.1:{}", paths::PROXY_PORT);
    let mut set = |names: &[&str], value: &str| {
        variables.extend(names.iter().map(|name| ((*name).to_owned(), value.to_owned())));
    };
    set(&PROXIED, &proxy);
    set(&DIRECT, LOOPBACK);
    // node looks at none of the above unless it is told to (22.21 and 24.5 on; older ones can't be told).
    set(&["NODE_USE_ENV_PROXY"], "1");
    if let Some(bundle) = ca_bundle {
        set(&AUTHORITIES, bundle);
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::network::PackageClient;

    fn shown(variables: &BTreeMap<String, String>) -> String {
        let lines: Vec<_> = variables
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        lines.join("\n")
    }

    fn npm(environment: &[(&str, &str)]) -> PackageSource {
        PackageSource {
            client: PackageClient::Npm,
            program: "/usr/bin/npm".into(),
            rules: Vec::new(),
            environment: environment
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            cargo_config: None,
        }
    }

    #[test]
    fn commands_are_told_of_the_proxy_where_nothing_is_allowed_as_well() {
        insta::assert_snapshot!(shown(&command_environment(None, &[])), @r"
        ALL_PROXY=http://127.0.0.1:18081
        HTTPS_PROXY=http://127.0.0.1:18081
        HTTP_PROXY=http://127.0.0.1:18081
        NODE_USE_ENV_PROXY=1
        NO_PROXY=127.0.0.1,localhost,::1,[::1]
        all_proxy=http://127.0.0.1:18081
        http_proxy=http://127.0.0.1:18081
        https_proxy=http://127.0.0.1:18081
        no_proxy=127.0.0.1,localhost,::1,[::1]
        ");
    }

    #[test]
    fn a_bundle_is_named_to_each_kind_of_client() {
        let without = command_environment(None, &[]);
        let mut with = command_environment(Some(paths::CA_BUNDLE), &[]);
        with.retain(|name, _| !without.contains_key(name));
        insta::assert_snapshot!(shown(&with), @r"
        GIT_SSL_CAINFO=/run/codex-mcp/ca-bundle.pem
        NODE_EXTRA_CA_CERTS=/run/codex-mcp/ca-bundle.pem
        REQUESTS_CA_BUNDLE=/run/codex-mcp/ca-bundle.pem
        SSL_CERT_FILE=/run/codex-mcp/ca-bundle.pem
        npm_config_cafile=/run/codex-mcp/ca-bundle.pem
        ");
    }

    #[test]
    fn a_clients_settings_pass_on_and_cannot_name_another_way_out() {
        let source = npm(&[
            ("npm_config_registry", "https://mirror.example/"),
            ("https_proxy", "http://elsewhere.example:1"),
        ]);
        let variables = command_environment(None, &[source]);
        assert_eq!(variables["npm_config_registry"], "https://mirror.example/");
        assert_eq!(variables["https_proxy"], "http://127.0.0.1:18081");
    }
}
