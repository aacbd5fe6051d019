//! Which variables of ours a package client sees when it is asked; pure.
//!
//! What it needs to start, what says which certificates it trusts, and its own settings, tokens for its own registries among
//! them. Nothing else: no key of a provider, nothing of CI. What would have it go around the recorder is left out.

use crate::config::network::PackageClient;
use crate::supervise::environment::Environment;
use std::ffi::{OsStr, OsString};

/// For each of them.
const COMMON: [&str; 26] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    // Where their configuration is.
    "XDG_CONFIG_HOME",
    "XDG_CONFIG_DIRS",
    "NETRC",
    // Which authorities they trust.
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    // Version managers, whose programs on PATH only find the real one by these.
    "ASDF_DATA_DIR",
    "ASDF_DIR",
    "FNM_DIR",
    "MISE_DATA_DIR",
    "NODENV_ROOT",
    "NVM_DIR",
    "PYENV_ROOT",
    "PYENV_VERSION",
    "VIRTUAL_ENV",
    "VOLTA_HOME",
];

/// What one client reads of its own. Names are compared in lower case with `-` as `_`, because npm takes any spelling.
struct Own {
    names: &'static [&'static str],
    prefixes: &'static [&'static str],
    /// Below the prefixes and yet not passed: other proxies than the recorder, caches.
    except: &'static [&'static str],
}

const fn own(client: PackageClient) -> Own {
    match client {
        PackageClient::Cargo => Own {
            names: &["cargo_home", "rustup_home", "rustup_toolchain", "rustup_auto_install"],
            prefixes: &["cargo_registries_", "cargo_registry_", "cargo_http_", "cargo_net_"],
            except: &["cargo_http_proxy", "cargo_net_offline"],
        },
        PackageClient::Npm => Own {
            // The two names by which a .npmrc usually refers to a token.
            names: &["npm_token", "node_auth_token"],
            prefixes: &["npm_config_"],
            except: &[
                "npm_config_cache",
                "npm_config_http_proxy",
                "npm_config_https_proxy",
                "npm_config_no_proxy",
                "npm_config_noproxy",
                "npm_config_offline",
                "npm_config_prefer_offline",
                "npm_config_proxy",
            ],
        },
        PackageClient::Pip => Own {
            names: &[],
            prefixes: &["pip_"],
            except: &["pip_cache_dir", "pip_dest", "pip_proxy"],
        },
        PackageClient::Go => Own {
            names: &[
                "goauth",
                "goenv",
                "goinsecure",
                "gonoproxy",
                "gonosumdb",
                "goprivate",
                "goproxy",
                "goroot",
                "gosumdb",
            ],
            prefixes: &[],
            except: &[],
        },
    }
}

/// The part of `all` that this client sees.
pub fn of_client<'a>(
    client: PackageClient,
    all: impl IntoIterator<Item = (&'a OsString, &'a OsString)>,
) -> Environment {
    all.into_iter()
        .filter(|(name, _)| COMMON.iter().any(|common| name.as_os_str() == *common) || is_own(client, name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// The same without the client's own settings: as if nothing were configured by variables.
pub fn without_own(client: PackageClient, environment: &Environment) -> Environment {
    environment
        .iter()
        .filter(|(name, _)| !is_own(client, name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// `environment` with more; the later one of a name counts.
pub fn with(environment: &Environment, more: impl IntoIterator<Item = (&'static str, OsString)>) -> Environment {
    let kept = environment
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    kept.chain(more.into_iter().map(|(name, value)| (name.into(), value)))
        .collect()
}

fn is_own(client: PackageClient, name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let name = name.to_ascii_lowercase().replace('-', "_");
    let own = own(client);
    let is_below = |prefix: &&str| name.starts_with(prefix);
    !own.except.contains(&name.as_str()) && (own.names.contains(&name.as_str()) || own.prefixes.iter().any(is_below))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn kept(client: PackageClient, names: &[&str]) -> Vec<String> {
        let all: BTreeMap<OsString, OsString> = names.iter().map(|name| (name.into(), "x".into())).collect();
        of_client(client, &all)
            .iter()
            .map(|(name, _)| name.to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn a_client_sees_its_own_and_no_others() {
        let names = [
            "CARGO_REGISTRIES_OURS_TOKEN",
            "GOPROXY",
            "HOME",
            "NPM_CONFIG_REGISTRY",
            "PIP_INDEX_URL",
            "npm_config_@ours:registry",
        ];
        assert_eq!(
            kept(PackageClient::Cargo, &names),
            ["CARGO_REGISTRIES_OURS_TOKEN", "HOME"]
        );
        assert_eq!(
            kept(PackageClient::Npm, &names),
            ["HOME", "NPM_CONFIG_REGISTRY", "npm_config_@ours:registry"]
        );
        assert_eq!(kept(PackageClient::Pip, &names), ["HOME", "PIP_INDEX_URL"]);
        assert_eq!(kept(PackageClient::Go, &names), ["GOPROXY", "HOME"]);
    }

    #[test]
    fn secrets_of_ours_and_other_proxies_stay_out() {
        let names = [
            "OPENAI_API_KEY",
            "GITHUB_TOKEN",
            "LD_PRELOAD",
            "NODE_OPTIONS",
            "HTTPS_PROXY",
            "no_proxy",
            "CARGO_HTTP_PROXY",
            "CARGO_BUILD_RUSTC_WRAPPER",
            "NPM_CONFIG_HTTPS-PROXY",
            "npm_config_noproxy",
            "PIP_PROXY",
            "GOFLAGS",
            "CODEX_MCP_CONFIG",
        ];
        for client in [
            PackageClient::Cargo,
            PackageClient::Npm,
            PackageClient::Pip,
            PackageClient::Go,
        ] {
            assert_eq!(kept(client, &names), Vec::<String>::new(), "{client:?}");
        }
    }

    #[test]
    fn without_its_own_a_client_still_starts() {
        let all: BTreeMap<OsString, OsString> =
            [("PATH".into(), "/bin".into()), ("GOPROXY".into(), "off".into())].into();
        let environment = without_own(PackageClient::Go, &of_client(PackageClient::Go, &all));
        assert_eq!(environment.get("PATH"), Some(OsStr::new("/bin")));
        assert_eq!(environment.get("GOPROXY"), None);
    }
}
