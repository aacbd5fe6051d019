//! Go: its module proxies, its checksum database, and where they have modules downloaded from.

use super::Answer;
use super::client_run::Asking;
use super::environment;
use super::error::PackagesError;
use super::mirror::{self, MirrorUrl};
use crate::config::authority::Port;
use crate::config::target::Target;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;

/// A module without dependencies, of 14 KiB; so many others depend on it that a proxy has it.
const MODULE: &str = "github.com/pkg/errors@v0.9.1";

pub async fn ask(asking: &Asking<'_>) -> Result<Answer, PackagesError> {
    asking.write("go.mod", "module asked-by-codex-mcp\n")?;
    let question = ["env", "-json"];
    let configured = asking
        .question("env", &question, environment::with(asking.environment, local()))
        .await?;
    let configured = GoEnv::of_json(&configured).map_err(|reason| asking.unreadable("env", reason))?;
    let unset = [("GOENV", OsString::from("off"))];
    let mut bare = environment::without_own(asking.client, asking.environment);
    if let Some(root) = asking.environment.get("GOROOT") {
        bare = environment::with(&bare, [("GOROOT", root.to_owned())]);
    }
    let default = asking
        .question(
            "env",
            &question,
            environment::with(&bare, local().into_iter().chain(unset)),
        )
        .await?;
    let default = GoEnv::of_json(&default).map_err(|reason| asking.unreadable("env", reason))?;

    let mut answer = Answer::default();
    let unusable = |(name, reason): (&'static str, String)| asking.unreadable(name, reason);
    answer.targets = configured.targets().map_err(unusable)?;
    // Where it would go without a proxy is the module's own host, which says nothing about others.
    if let Some(proxies) = configured.without_direct() {
        let mut settings = local();
        settings.push(("GOPROXY", proxies.into()));
        settings.push(("GOFLAGS", OsString::from("-modcacherw")));
        for (name, directory) in [("GOPATH", "path"), ("GOMODCACHE", "modules"), ("GOCACHE", "cache")] {
            settings.push((name, asking.directory().join(directory).into_os_string()));
        }
        match asking
            .watch("mod download", &["mod", "download", MODULE], settings)
            .await
        {
            Ok(targets) => answer.targets.extend(targets),
            // Unlike the others go names all of its hosts itself, but for those that a proxy redirects to; and a proxy
            // may well have a company's own modules only.
            Err(error @ (PackagesError::Failed { .. } | PackagesError::TimedOut { .. })) => {
                tracing::warn!(%error, "only what `go env` says is known of go's hosts");
            }
            Err(error) => return Err(error),
        }
    }
    answer.environment = configured.environment(&default).map_err(unusable)?;
    answer.files = configured.files();
    Ok(answer)
}

/// Whether this is a variable that an answer here sets.
pub fn sets_a_proxy(name: &str) -> bool {
    ["GONOPROXY", "GONOSUMDB", "GOPRIVATE", "GOPROXY", "GOSUMDB"].contains(&name)
}

/// No other toolchain is fetched, and no workspace further up counts.
fn local() -> Vec<(&'static str, OsString)> {
    [("GOTOOLCHAIN", "local"), ("GOWORK", "off")]
        .map(|(name, value)| (name, value.into()))
        .into()
}

/// What `go env -json` says; variables that this go does not know are empty.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE", default)]
struct GoEnv {
    goproxy: String,
    gosumdb: String,
    gonosumdb: String,
    gonoproxy: String,
    goprivate: String,
    goenv: String,
    goroot: String,
}

impl GoEnv {
    fn of_json(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|_| "it is no JSON object of texts".to_owned())
    }

    /// Hosts of module proxies and of the checksum database. The keywords `direct` and `off` name none.
    fn targets(&self) -> Result<BTreeSet<Target>, (&'static str, String)> {
        let proxies = self
            .goproxy
            .split([',', '|'])
            .filter_map(|proxy| MirrorUrl::parse(proxy.trim()).transpose());
        let mut targets: BTreeSet<Target> = proxies
            .map(|proxy| Ok(proxy.map_err(|error| ("GOPROXY", error.to_string()))?.target))
            .collect::<Result<_, _>>()?;
        targets.extend(self.checksum_database()?);
        Ok(targets)
    }

    /// `off`, or a name with an optional `+KEY`, and where it is reached in place of `https://NAME`.
    fn checksum_database(&self) -> Result<Option<Target>, (&'static str, String)> {
        let mut words = self.gosumdb.split_whitespace();
        let Some(name) = words.next().filter(|name| *name != "off") else {
            return Ok(None);
        };
        let unusable = || ("GOSUMDB", "it names no host that can be understood".to_owned());
        if let Some(url) = words.next() {
            let url = MirrorUrl::parse(url).map_err(|_| unusable())?;
            return Ok(url.map(|url| url.target));
        }
        let name = name.split('+').next().unwrap_or_default();
        let authority = name.split('/').next().unwrap_or_default();
        mirror::target(authority, Port::HTTPS).map(Some).ok_or_else(unusable)
    }

    /// `GOPROXY` without the keywords, passwords included; `None` where only they are there.
    fn without_direct(&self) -> Option<String> {
        let is_proxy = |word: &&str| matches!(MirrorUrl::parse(word.trim()), Ok(Some(_)));
        let proxies: Vec<&str> = self.goproxy.split([',', '|']).filter(is_proxy).collect();
        (!proxies.is_empty()).then(|| proxies.join("|"))
    }

    /// What has the client inside use the same, where `default` differs.
    fn environment(&self, default: &Self) -> Result<BTreeMap<String, String>, (&'static str, String)> {
        let sumdb = |env: &Self| without_credentials_each(&env.gosumdb, ' ');
        let pairs = [
            ("GOPROXY", self.proxies_inside()?, default.proxies_inside()?),
            ("GOSUMDB", sumdb(self), sumdb(default)),
            ("GONOSUMDB", self.gonosumdb.clone(), default.gonosumdb.clone()),
            ("GONOPROXY", self.gonoproxy.clone(), default.gonoproxy.clone()),
            ("GOPRIVATE", self.goprivate.clone(), default.goprivate.clone()),
        ];
        let differing = pairs
            .into_iter()
            .filter(|(_, configured, default)| configured != default);
        Ok(differing.map(|(name, value, _)| (name.to_owned(), value)).collect())
    }

    /// Without passwords and without what is only on this host; never empty, because that would mean the default.
    fn proxies_inside(&self) -> Result<String, (&'static str, String)> {
        let mut inside = String::new();
        for proxy in self.goproxy.split_inclusive([',', '|']) {
            let word = proxy.trim_end_matches([',', '|']);
            let kept = match MirrorUrl::parse(word.trim()).map_err(|error| ("GOPROXY", error.to_string()))? {
                Some(url) => url.to_string(),
                None if matches!(word.trim(), "direct" | "off") => word.trim().to_owned(),
                None => continue,
            };
            inside.push_str(&kept);
            inside.push_str(proxy.get(word.len()..).unwrap_or_default());
        }
        let inside = inside.trim_end_matches([',', '|']);
        Ok(if inside.is_empty() { "off" } else { inside }.to_owned())
    }

    fn files(&self) -> Vec<PathBuf> {
        let user = (!self.goenv.is_empty() && self.goenv != "off").then(|| PathBuf::from(&self.goenv));
        let of_installation = PathBuf::from(&self.goroot).join("go.env");
        user.into_iter().chain([of_installation]).collect()
    }
}

/// Each word that is a URL as that is shown without its password.
fn without_credentials_each(text: &str, between: char) -> String {
    let words = text.split(between).map(|word| match MirrorUrl::parse(word) {
        Ok(Some(url)) => url.to_string(),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(&between.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(proxy: &str, sumdb: &str) -> GoEnv {
        GoEnv {
            goproxy: proxy.to_owned(),
            gosumdb: sumdb.to_owned(),
            ..GoEnv::default()
        }
    }

    fn shown(env: &GoEnv) -> Vec<String> {
        env.targets().unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn proxies_and_the_checksum_database_are_places_and_keywords_are_none() {
        for (proxy, sumdb, targets) in [
            (
                "https://u:secret@go.mirror.example/x,http://192.0.2.7:3000|direct",
                "sum.mirror.example",
                &["go.mirror.example:443", "sum.mirror.example:443", "192.0.2.7:3000"][..],
            ),
            ("direct", "off", &[]),
            ("off", "sum.mirror.example+1a2b+Key/x=", &["sum.mirror.example:443"]),
            (
                "file:///srv/go",
                "sum.elsewhere.example https://sum.mirror.example:8443/db",
                &["sum.mirror.example:8443"],
            ),
        ] {
            assert_eq!(shown(&env(proxy, sumdb)), targets, "{proxy} {sumdb}");
        }
    }

    #[test]
    fn only_what_differs_goes_inside_and_without_passwords() {
        let default = env("https://go.example,direct", "sum.example");
        assert!(default.environment(&default).unwrap().is_empty());
        let mut configured = env(
            "https://u:secret@go.mirror.example|file:///srv,direct",
            "sum.example https://u:secret@sum.mirror.example",
        );
        configured.goprivate = "*.ours.example".to_owned();
        let environment = configured.environment(&default).unwrap();
        insta::assert_debug_snapshot!(environment, @r#"
        {
            "GOPRIVATE": "*.ours.example",
            "GOPROXY": "https://go.mirror.example/|direct",
            "GOSUMDB": "sum.example https://sum.mirror.example/",
        }
        "#);
        assert!(environment.keys().all(|name| sets_a_proxy(name)));
        assert_eq!(env("file:///srv", "").environment(&default).unwrap()["GOPROXY"], "off");
    }

    #[test]
    fn the_download_never_goes_to_the_modules_own_host() {
        let proxies = env("https://u:p@go.example,direct", "").without_direct();
        assert_eq!(proxies.as_deref(), Some("https://u:p@go.example"));
        assert_eq!(env("direct", "").without_direct(), None);
    }

    #[test]
    fn what_go_prints_is_read() {
        let printed =
            r#"{"GOENV": "/home/u/.config/go/env", "GOPROXY": "direct", "GOROOT": "/usr/lib/go", "GOOS": "linux"}"#;
        let env = GoEnv::of_json(printed).unwrap();
        assert_eq!(env.goproxy, "direct");
        assert_eq!(
            env.files(),
            [PathBuf::from("/home/u/.config/go/env"), "/usr/lib/go/go.env".into()]
        );
        assert!(GoEnv::of_json("direct").is_err());
        assert_eq!(env.environment(&GoEnv::default()).unwrap()["GOPROXY"], "direct");
    }

    #[test]
    fn what_is_wrong_is_named_and_not_repeated() {
        for (env, name) in [
            (env("https://u:secret@a..b", ""), "GOPROXY"),
            (env("", "u:secret@a..b"), "GOSUMDB"),
        ] {
            let (named, reason) = env.targets().unwrap_err();
            assert_eq!(named, name);
            assert!(!reason.contains("secret"), "{reason}");
        }
    }
}
