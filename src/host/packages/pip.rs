//! pip: its index, further indexes and link pages, and where they have files downloaded from.

use super::Answer;
use super::client_run::Asking;
use super::environment;
use super::error::PackagesError;
use super::mirror::{self, MirrorUrl};
use crate::config::authority::Port;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// A wheel without dependencies, of 11 KiB; so many others depend on it that a mirror has it.
const PACKAGE: &str = "six";
/// An empty directory, which pip takes where nothing would mean "as configured".
const NO_LINKS: &str = "no-links";

/// The settings that say where packages come from, and their variables.
const INDEX: (&str, &str) = ("index-url", "PIP_INDEX_URL");
const EXTRA_INDEX: (&str, &str) = ("extra-index-url", "PIP_EXTRA_INDEX_URL");
const LINKS: (&str, &str) = ("find-links", "PIP_FIND_LINKS");
const NO_INDEX: (&str, &str) = ("no-index", "PIP_NO_INDEX");
/// Which hosts pip believes without a certificate, plain HTTP among them: a mirror may be of no use without it.
const TRUSTED: (&str, &str) = ("trusted-host", "PIP_TRUSTED_HOST");

/// Downloads a wheel from where `pip install` would take it.
pub async fn ask(asking: &Asking<'_>) -> Result<Answer, PackagesError> {
    let plain = || environment::with(asking.environment, quiet());
    let list = asking.question("config list", &["config", "list"], plain()).await?;
    let settings = Settings::of_list(&list).map_err(|reason| asking.unreadable("config list", reason))?;
    let files = asking.question("config debug", &["config", "debug"], plain()).await?;
    let sources = settings
        .sources()
        .map_err(|(key, reason)| asking.unreadable(key, reason))?;

    asking.write(&format!("{NO_LINKS}/empty"), "")?;
    let mut variables = quiet();
    variables.extend(settings.of_download());
    variables.push(("PIP_NO_CACHE_DIR", OsString::from("1")));
    variables.push(("PIP_NO_INPUT", OsString::from("1")));
    variables.push(("PIP_REQUIRE_VIRTUALENV", OsString::from("0")));
    variables.push(("PIP_RETRIES", OsString::from("1")));
    let download = [
        "download",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--dest",
        "wheels",
        PACKAGE,
    ];
    let mut answer = Answer::of(asking.watch("download", &download, variables).await?);
    answer.targets.extend(sources.iter().map(|url| url.target.clone()));
    answer.environment = settings
        .environment()
        .map_err(|(key, reason)| asking.unreadable(key, reason))?;
    answer.files = files_of_debug(&files);
    Ok(answer)
}

/// Whether this is a variable that an answer here sets.
pub fn sets_a_source(name: &str) -> bool {
    [INDEX, EXTRA_INDEX, LINKS, NO_INDEX, TRUSTED]
        .iter()
        .any(|(_, variable)| name == *variable)
}

fn quiet() -> Vec<(&'static str, OsString)> {
    [
        ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
        ("PIP_NO_COLOR", "1"),
        ("PIP_PROGRESS_BAR", "off"),
    ]
    .map(|(name, value)| (name, value.into()))
    .into()
}

/// What `pip config list` says, as it counts for `pip install`: by key, as written. May hold passwords.
struct Settings(BTreeMap<String, String>);

impl Settings {
    /// Lines such as `global.index-url='https://…'`, the value as Python's `repr` writes it.
    fn of_list(text: &str) -> Result<Self, String> {
        // The weakest first. Other sections are about other commands.
        const SECTIONS: [&str; 3] = ["global", "install", ":env:"];
        let mut values: BTreeMap<String, (usize, String)> = BTreeMap::new();
        for line in text.lines() {
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            let Some((section, key)) = key.rsplit_once('.') else {
                continue;
            };
            let Some(strength) = SECTIONS.iter().position(|known| *known == section) else {
                continue;
            };
            let value = python_text(value).ok_or_else(|| format!("the value of {key} is no quoted text"))?;
            let weaker = values.get(key).is_none_or(|(known, _)| *known <= strength);
            // pip takes an empty setting for none.
            if weaker && !value.is_empty() {
                values.insert(key.to_owned(), (strength, value));
            }
        }
        Ok(Self(values.into_iter().map(|(key, (_, value))| (key, value)).collect()))
    }

    fn words(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0
            .get(key)
            .map(String::as_str)
            .unwrap_or_default()
            .split_whitespace()
    }

    /// Those of its values that are reached by HTTP.
    fn urls<'k>(&self, key: &'k str) -> Result<Vec<MirrorUrl>, (&'k str, String)> {
        self.words(key)
            .filter_map(|word| MirrorUrl::parse(word).transpose())
            .collect::<Result<_, _>>()
            .map_err(|error| (key, error.to_string()))
    }

    fn sources(&self) -> Result<Vec<MirrorUrl>, (&'static str, String)> {
        // Without an index, what is configured for one does not count.
        let keys = match self.has_index() {
            true => [INDEX, EXTRA_INDEX, LINKS].as_slice(),
            false => [LINKS].as_slice(),
        };
        let mut urls = Vec::new();
        for (key, _) in keys {
            urls.extend(self.urls(key)?);
        }
        Ok(urls)
    }

    fn has_index(&self) -> bool {
        // As pip reads a switch.
        let value = self.0.get(NO_INDEX.0).map(|value| value.to_ascii_lowercase());
        !matches!(value.as_deref(), Some("1" | "y" | "yes" | "t" | "true" | "on"))
    }

    /// Variables that make `pip download` use what `pip install` does, passwords included, and no local directory.
    fn of_download(&self) -> Vec<(&'static str, OsString)> {
        let as_written = [INDEX, EXTRA_INDEX, NO_INDEX, TRUSTED]
            .iter()
            .filter_map(|(key, variable)| Some((*variable, OsString::from(self.0.get(*key)?))));
        let pages: Vec<&str> = self
            .words(LINKS.0)
            .filter(|word| matches!(MirrorUrl::parse(word), Ok(Some(_))))
            .collect();
        let links = if pages.is_empty() {
            NO_LINKS.to_owned()
        } else {
            pages.join(" ")
        };
        as_written.chain([(LINKS.1, links.into())]).collect()
    }

    /// What has the client inside use the same, without passwords and local directories.
    fn environment(&self) -> Result<BTreeMap<String, String>, (&'static str, String)> {
        let mut variables = BTreeMap::new();
        let mut set = |variable: &str, words: Vec<String>| {
            if !words.is_empty() {
                variables.insert(variable.to_owned(), words.join(" "));
            }
        };
        for (key, variable) in [INDEX, EXTRA_INDEX, LINKS] {
            set(variable, self.urls(key)?.iter().map(ToString::to_string).collect());
        }
        let trusted = self.words(TRUSTED.0).filter(|word| is_host(word));
        set(TRUSTED.1, trusted.map(str::to_owned).collect());
        if !self.has_index() {
            variables.insert(NO_INDEX.1.to_owned(), "1".to_owned());
        }
        Ok(variables)
    }
}

fn is_host(word: &str) -> bool {
    mirror::target(word, Port::HTTPS).is_some() && !word.contains('@')
}

/// A text as Python's `repr` writes it, without the line breaks and spaces around it.
fn python_text(quoted: &str) -> Option<String> {
    let quote = quoted.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
    let inner = quoted.strip_prefix(quote)?.strip_suffix(quote)?;
    let mut text = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        // What `repr` escapes and no URL or host has (`\x…`, `\u…`) is not worth reading.
        text.push(match characters.next()? {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            same @ ('\\' | '\'' | '"') => same,
            _ => return None,
        });
    }
    Some(text.trim().to_owned())
}

/// The files of `pip config debug`: lines such as `/etc/pip.conf, exists: False`.
fn files_of_debug(text: &str) -> Vec<PathBuf> {
    text.lines()
        .filter_map(|line| line.trim().split_once(", exists: "))
        .map(|(path, _)| PathBuf::from(path))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#":env:.cert='/etc/ssl/ca.pem'
:env:.find-links='/opt/wheels https://links.mirror.example/a.html'
download.index-url='https://of-download.example/simple'
global.extra-index-url='\nhttps://u:secret@extra.mirror.example/simple\nhttp://192.0.2.7:8080/simple'
global.index-url='https://of-global.example/simple'
global.trusted-host='192.0.2.7:8080'
install.index-url="https://t'k@wheels.mirror.example/simple?key=secret"
"#;

    #[test]
    fn what_counts_for_install_is_taken() {
        let settings = Settings::of_list(LIST).unwrap();
        insta::assert_debug_snapshot!(settings.environment().unwrap(), @r#"
        {
            "PIP_EXTRA_INDEX_URL": "https://extra.mirror.example/simple http://192.0.2.7:8080/simple",
            "PIP_FIND_LINKS": "https://links.mirror.example/a.html",
            "PIP_INDEX_URL": "https://wheels.mirror.example/simple",
            "PIP_TRUSTED_HOST": "192.0.2.7:8080",
        }
        "#);
        assert!(settings.environment().unwrap().keys().all(|name| sets_a_source(name)));
        let targets: Vec<String> = settings
            .sources()
            .unwrap()
            .iter()
            .map(|url| url.target.to_string())
            .collect();
        assert_eq!(
            targets,
            [
                "wheels.mirror.example:443",
                "extra.mirror.example:443",
                "192.0.2.7:8080",
                "links.mirror.example:443"
            ]
        );
    }

    #[test]
    fn the_download_uses_what_install_would_and_nothing_local() {
        let variables: BTreeMap<_, _> = Settings::of_list(LIST).unwrap().of_download().into_iter().collect();
        assert_eq!(
            variables[INDEX.1],
            "https://t'k@wheels.mirror.example/simple?key=secret"
        );
        assert_eq!(variables[LINKS.1], "https://links.mirror.example/a.html");
        let local = Settings::of_list("global.find-links='/opt/wheels'")
            .unwrap()
            .of_download();
        assert_eq!(local, [(LINKS.1, OsString::from(NO_LINKS))]);
    }

    #[test]
    fn without_an_index_none_is_allowed() {
        for on in ["true", "1", "Yes"] {
            let list = format!(
                "global.no-index='{on}'\nglobal.index-url='https://a.example/'\n:env:.find-links='https://l.example/'"
            );
            let settings = Settings::of_list(&list).unwrap();
            let targets: Vec<String> = settings
                .sources()
                .unwrap()
                .iter()
                .map(|url| url.target.to_string())
                .collect();
            assert_eq!(targets, ["l.example:443"]);
            assert_eq!(settings.environment().unwrap()[NO_INDEX.1], "1");
        }
    }

    #[test]
    fn nothing_configured_is_nothing_to_set() {
        let settings = Settings::of_list("global.cert='/etc/ca.pem'\nglobal.index-url=''\n").unwrap();
        assert!(settings.environment().unwrap().is_empty());
        assert!(settings.sources().unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_and_not_repeated() {
        let settings = Settings::of_list("global.index-url='https://u:secret@a..b/'").unwrap();
        assert_eq!(
            settings.sources().unwrap_err(),
            ("index-url", "a URL there can't be understood".to_owned())
        );
        assert_eq!(
            Settings::of_list("global.index-url=secret").err().unwrap(),
            "the value of index-url is no quoted text"
        );
    }

    #[test]
    fn configuration_files_are_those_that_pip_would_read() {
        let debug = "env_var:\n  PIP_CERT='x'\nglobal:\n  /etc/pip.conf, exists: True\n    global.cert: /etc/a\nuser:\n  /home/u/.pip/pip.conf, exists: False\n";
        assert_eq!(
            files_of_debug(debug),
            [PathBuf::from("/etc/pip.conf"), "/home/u/.pip/pip.conf".into()]
        );
    }
}
