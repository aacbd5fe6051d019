//! npm: its registry, those of its scopes, and where they have tarballs downloaded from.

use super::Answer;
use super::client_run::Asking;
use super::environment;
use super::error::PackagesError;
use super::mirror::MirrorUrl;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// A package without dependencies or scripts, of 3 KiB; npm itself depends on it, so a mirror has it.
const PACKAGE: &str = "ms";
/// The variable that names the registry.
const REGISTRY: &str = "npm_config_registry";

pub async fn ask(asking: &Asking<'_>) -> Result<Answer, PackagesError> {
    // Without it npm looks further up for the project that it is in, and reads that one's .npmrc.
    asking.write("package.json", "{}")?;
    let list = ["config", "list", "--json"];
    let configured = asking
        .question(
            "config list",
            &list,
            environment::with(asking.environment, quiet(asking)),
        )
        .await?;
    let configured = Registries::of_list(&configured).map_err(|reason| asking.unreadable("config list", reason))?;
    // Two names: npm refuses to read one file as both.
    let unset = ["npm_config_userconfig", "npm_config_globalconfig"]
        .map(|name| (name, asking.directory().join(name).into_os_string()));
    let bare = environment::without_own(asking.client, asking.environment);
    let default = asking
        .question(
            "config list",
            &list,
            environment::with(&bare, quiet(asking).into_iter().chain(unset)),
        )
        .await?;
    let default = Registries::of_list(&default).map_err(|reason| asking.unreadable("config list", reason))?;

    let mut settings = quiet(asking);
    settings.push(("npm_config_fetch_retries", OsString::from("1")));
    let pack = ["pack", "--ignore-scripts", PACKAGE];
    let mut answer = Answer::of(asking.watch("pack", &pack, settings).await?);
    answer
        .targets
        .extend(configured.urls.values().map(|url| url.target.clone()));
    answer.environment = configured.environment(&default);
    answer.files = configured.files;
    Ok(answer)
}

/// Whether this is a variable that an answer here sets.
pub fn sets_a_registry(name: &str) -> bool {
    name == REGISTRY || name.strip_prefix("npm_config_").is_some_and(is_scopes_key)
}

/// Nothing that goes to another place than the registry, nothing left in the user's cache, and plain output.
fn quiet(asking: &Asking<'_>) -> Vec<(&'static str, OsString)> {
    let fixed = [
        ("npm_config_audit", "false"),
        ("npm_config_color", "false"),
        ("npm_config_fund", "false"),
        ("npm_config_logs_max", "0"),
        ("npm_config_progress", "false"),
        ("npm_config_update_notifier", "false"),
    ];
    let cache = asking.directory().join("cache").into_os_string();
    let fixed = fixed.map(|(name, value)| (name, value.into()));
    fixed.into_iter().chain([("npm_config_cache", cache)]).collect()
}

/// `@scope:registry`, where the scope survives as a variable's name: npm reads `_` there as `-`.
fn is_scopes_key(key: &str) -> bool {
    let scope = key.strip_prefix('@').and_then(|rest| rest.strip_suffix(":registry"));
    scope.is_some_and(|scope| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        !scope.is_empty() && scope.bytes().all(plain)
    })
}

/// What `npm config list --json` says about registries.
#[derive(Debug, PartialEq, Eq)]
struct Registries {
    /// By key: `registry`, `@scope:registry`.
    urls: BTreeMap<String, MirrorUrl>,
    /// The files that it was read from, whether they are there or not.
    files: Vec<PathBuf>,
}

impl Registries {
    fn of_list(text: &str) -> Result<Self, String> {
        let list: Map<String, Value> = serde_json::from_str(text).map_err(|_| "it is no JSON object".to_owned())?;
        let mut urls = BTreeMap::new();
        for (key, value) in &list {
            if key != "registry" && !(key.starts_with('@') && key.ends_with(":registry")) {
                continue;
            }
            let url = value.as_str().map(MirrorUrl::parse).transpose();
            let url = url.map_err(|error| format!("{key}: {error}"))?.flatten();
            urls.insert(
                key.clone(),
                url.ok_or_else(|| format!("{key} is no http or https URL"))?,
            );
        }
        if !urls.contains_key("registry") {
            return Err(
                "npm does not show a registry that has a password in its URL; write the password as \
                 //HOST/:_password or //HOST/:_authToken in .npmrc"
                    .to_owned(),
            );
        }
        let files = ["userconfig", "globalconfig"]
            .iter()
            .filter_map(|key| Some(PathBuf::from(list.get(*key)?.as_str()?)))
            .collect();
        Ok(Self { urls, files })
    }

    /// What has the client inside ask the same registries, where `default` has others.
    fn environment(&self, default: &Self) -> BTreeMap<String, String> {
        self.urls
            .iter()
            .filter(|(key, url)| default.urls.get(*key) != Some(url))
            .filter(|(key, _)| *key == "registry" || is_scopes_key(key))
            .map(|(key, url)| (format!("npm_config_{key}"), url.to_string()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"{
        "registry": "https://npm.mirror.example/all/",
        "@ours:registry": "https://u:secret@ours.mirror.example:8443/?token=secret",
        "@a_b:registry": "https://npm.mirror.example/b/",
        "https-proxy": "http://u:secret@proxy.example:3128",
        "userconfig": "/home/u/.npmrc",
        "globalconfig": "/usr/etc/npmrc"
    }"#;

    #[test]
    fn registries_of_scopes_count_and_nothing_else() {
        let registries = Registries::of_list(LIST).unwrap();
        let targets: Vec<String> = registries.urls.values().map(|url| url.target.to_string()).collect();
        assert_eq!(
            targets,
            [
                "npm.mirror.example:443",
                "ours.mirror.example:8443",
                "npm.mirror.example:443"
            ]
        );
        assert_eq!(
            registries.files,
            [PathBuf::from("/home/u/.npmrc"), "/usr/etc/npmrc".into()]
        );
    }

    #[test]
    fn only_what_differs_from_the_default_goes_inside() {
        let registries = Registries::of_list(LIST).unwrap();
        let default = Registries::of_list(r#"{"registry": "https://registry.example/"}"#).unwrap();
        insta::assert_debug_snapshot!(registries.environment(&default), @r#"
        {
            "npm_config_@ours:registry": "https://ours.mirror.example:8443/",
            "npm_config_registry": "https://npm.mirror.example/all/",
        }
        "#);
        assert!(default.environment(&default).is_empty());
        assert!(
            registries
                .environment(&default)
                .keys()
                .all(|name| sets_a_registry(name))
        );
        for name in [
            "npm_config_script_shell",
            "npm_config_@a=b:registry",
            "npm_config_@:registry",
            "PATH",
        ] {
            assert!(!sets_a_registry(name), "{name}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for (text, reason) in [
            ("", "it is no JSON object"),
            (r#"{"registry": 1}"#, "registry is no http or https URL"),
            (
                r#"{"registry": "https://a..b/"}"#,
                "registry: a URL there can't be understood",
            ),
        ] {
            assert_eq!(Registries::of_list(text).unwrap_err(), reason);
        }
        // What npm prints where the registry is `https://user:password@…`.
        let hidden = Registries::of_list(r#"{"userconfig": "/home/u/.npmrc"}"#).unwrap_err();
        assert!(hidden.contains("_authToken"), "{hidden}");
    }
}
