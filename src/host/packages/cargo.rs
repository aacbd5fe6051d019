//! Cargo: its default index is known to it alone, its mirrors stand in `CARGO_HOME/config.toml`.

use super::Answer;
use super::client_run::Asking;
use super::error::PackagesError;
use super::mirror::MirrorUrl;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// A crate without dependencies, of 8 KiB; half of all others depend on it, so a mirror has it.
const MANIFEST: &str = "\
[package]
name = \"asked-by-codex-mcp\"
version = \"0.0.0\"
edition = \"2018\"

[lib]
path = \"lib.rs\"

[dependencies]
cfg-if = \"1\"

# Or a manifest further up could take this one for a member.
[workspace]
";
/// Cargo's own files of the user, by their newer and older names.
const CONFIG: [&str; 2] = ["config.toml", "config"];
const CREDENTIALS: [&str; 2] = ["credentials.toml", "credentials"];

/// Fetches a crate with a `CARGO_HOME` of its own, or the registry cache would answer in the network's place.
pub async fn ask(asking: &Asking<'_>) -> Result<Answer, PackagesError> {
    let home = home(asking);
    asking.write("Cargo.toml", MANIFEST)?;
    asking.write("lib.rs", "")?;
    asking.write("home/empty", "")?;
    for name in CONFIG.iter().chain(&CREDENTIALS) {
        let of_user = home.join(name);
        if of_user.is_file() {
            asking.link(&of_user, &format!("home/{name}"))?;
        }
    }
    let settings = vec![
        ("CARGO_HOME", asking.directory().join("home").into_os_string()),
        ("CARGO_NET_RETRY", OsString::from("1")),
        ("CARGO_TERM_COLOR", OsString::from("never")),
    ];
    let targets = asking.watch("fetch", &["fetch"], settings).await?;
    let mut answer = Answer::of(targets);

    let text = asking.read_first(CONFIG.map(|name| home.join(name)))?;
    let mirrors = Mirrors::of_config(&text).map_err(|reason| asking.unreadable("config.toml", reason))?;
    answer.targets.extend(mirrors.urls.iter().map(|url| url.target.clone()));
    answer.cargo_config = mirrors.config;
    for (name, value) in asking.environment.iter() {
        let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else {
            continue;
        };
        if !sets_an_index(name) {
            continue;
        }
        let index = MirrorUrl::parse(value).map_err(|error| asking.unreadable(name, error.to_string()))?;
        if let Some(index) = index {
            answer.environment.insert(name.to_owned(), index.to_string());
            answer.targets.insert(index.target);
        }
    }
    answer.files = files(&home, asking.directory());
    Ok(answer)
}

/// `CARGO_REGISTRIES_NAME_INDEX`; the token beside it stays out.
pub fn sets_an_index(name: &str) -> bool {
    let registry = name
        .strip_prefix("CARGO_REGISTRIES_")
        .and_then(|rest| rest.strip_suffix("_INDEX"));
    registry.is_some_and(|registry| {
        let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        !registry.is_empty() && registry.bytes().all(plain)
    })
}

fn home(asking: &Asking<'_>) -> PathBuf {
    let variable = |name| {
        asking
            .environment
            .get(name)
            .map(Path::new)
            .filter(|path| path.is_absolute())
    };
    let below_home = || variable("HOME").unwrap_or(Path::new("/")).join(".cargo");
    variable("CARGO_HOME").map_or_else(below_home, Path::to_owned)
}

/// What the outcome depends on: cargo also reads the `.cargo` of each directory above the one that it runs in.
fn files(home: &Path, directory: &Path) -> Vec<PathBuf> {
    let above = directory.ancestors().skip(1).map(|above| above.join(".cargo"));
    let homes = above.chain([home.to_owned()]);
    let mut files: Vec<PathBuf> = homes.flat_map(|home| CONFIG.map(|name| home.join(name))).collect();
    files.extend(CREDENTIALS.map(|name| home.join(name)));
    files.sort();
    files.dedup();
    files
}

/// The part of cargo's configuration that says where crates come from.
#[derive(Debug, PartialEq, Eq)]
pub struct Mirrors {
    pub urls: Vec<MirrorUrl>,
    /// TOML for cargo inside; `None` where there is nothing to say.
    pub config: Option<String>,
}

impl Mirrors {
    /// Takes `registry` and `replace-with` of `[source.*]` and `index` of `[registries.*]`, and nothing else: cargo's
    /// configuration also names programs to run. Directories are left out, because they are not there inside. What this
    /// made of a configuration, it makes of its own outcome again.
    ///
    /// # Errors
    ///
    /// Says what is wrong, without repeating it.
    pub fn of_config(text: &str) -> Result<Self, String> {
        let config: Table = toml::from_str(text).map_err(|_| "it is no TOML".to_owned())?;
        let mut sources = Urls::of_tables(&config, "source", "registry")?;
        let registries = Urls::of_tables(&config, "registries", "index")?;
        let mut replacements = replacements(&config);
        // A replacement by something that is not there inside would leave cargo without any source. Each round drops at
        // least one, until what is left leads to a registry.
        loop {
            let leads_somewhere = |target: &String| {
                sources.0.contains_key(target) || registries.0.contains_key(target) || replacements.contains_key(target)
            };
            let (kept, dropped): (BTreeMap<_, _>, BTreeMap<_, _>) = replacements
                .clone()
                .into_iter()
                .partition(|(_, target)| leads_somewhere(target));
            replacements = kept;
            if dropped.is_empty() {
                break;
            }
        }
        let names: BTreeSet<String> = sources.0.keys().chain(replacements.keys()).cloned().collect();
        let urls = sources.0.values().chain(registries.0.values()).cloned().collect();
        let rendered_sources = names.into_iter().map(|name| {
            let registry = sources.0.remove(&name).map(|url| ("registry", url.to_string()));
            let replacement = replacements.remove(&name).map(|target| ("replace-with", target));
            (name, table(registry.into_iter().chain(replacement)))
        });
        let mut rendered = Table::new();
        insert_unless_empty(&mut rendered, "source", rendered_sources.collect());
        let rendered_registries = registries
            .0
            .into_iter()
            .map(|(name, url)| (name, table([("index", url.to_string())])));
        insert_unless_empty(&mut rendered, "registries", rendered_registries.collect());
        let config = match rendered.is_empty() {
            true => None,
            false => Some(toml::to_string(&rendered).map_err(|error| error.to_string())?),
        };
        Ok(Self { urls, config })
    }
}

struct Urls(BTreeMap<String, MirrorUrl>);

impl Urls {
    /// `key` of each table in `section`, where that is reached by HTTP.
    fn of_tables(config: &Table, section: &str, key: &str) -> Result<Self, String> {
        let mut urls = BTreeMap::new();
        for (name, value) in strings(config, section, key) {
            let url = MirrorUrl::parse(value).map_err(|error| format!("{section}.{name}.{key}: {error}"))?;
            if let Some(url) = url {
                urls.insert(name.to_owned(), url);
            }
        }
        Ok(Self(urls))
    }
}

fn replacements(config: &Table) -> BTreeMap<String, String> {
    strings(config, "source", "replace-with")
        .map(|(name, target)| (name.to_owned(), target.to_owned()))
        .collect()
}

fn strings<'a>(config: &'a Table, section: &str, key: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let tables = config.get(section).and_then(Value::as_table).into_iter().flatten();
    tables.filter_map(move |(name, table)| Some((name.as_str(), table.get(key)?.as_str()?)))
}

fn table(entries: impl IntoIterator<Item = (&'static str, String)>) -> Value {
    let entries = entries
        .into_iter()
        .map(|(key, value)| (key.to_owned(), Value::String(value)));
    Value::Table(entries.collect())
}

fn insert_unless_empty(rendered: &mut Table, section: &str, tables: Table) {
    if !tables.is_empty() {
        rendered.insert(section.to_owned(), Value::Table(tables));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FULL: &str = r#"
        [build]
        rustc-wrapper = "/usr/bin/evil"
        [alias]
        b = "build"
        [registry]
        global-credential-providers = ["/usr/bin/evil"]
        token = "secret"
        [source.crates-io]
        replace-with = "mirror"
        [source.mirror]
        registry = "sparse+https://user:secret@crates.mirror.example/index/"
        [source.vendored]
        directory = "/srv/vendor"
        [source.other]
        replace-with = "vendored"
        [registries.ours]
        index = "https://git.mirror.example:8443/index.git?token=secret"
        token = "secret"
        credential-provider = "/usr/bin/evil"
        [registries.by-ssh]
        index = "ssh://git@git.mirror.example/index.git"
        [target.x86_64-unknown-linux-gnu]
        runner = "/usr/bin/evil"
    "#;

    #[test]
    fn only_where_crates_come_from_is_taken_over() {
        let mirrors = Mirrors::of_config(FULL).unwrap();
        insta::assert_snapshot!(mirrors.config.as_deref().unwrap(), @r#"
        [registries.ours]
        index = "https://git.mirror.example:8443/index.git"

        [source.crates-io]
        replace-with = "mirror"

        [source.mirror]
        registry = "sparse+https://crates.mirror.example/index/"
        "#);
        let targets: Vec<String> = mirrors.urls.iter().map(|url| url.target.to_string()).collect();
        assert_eq!(targets, ["crates.mirror.example:443", "git.mirror.example:8443"]);
    }

    #[test]
    fn what_was_taken_over_once_stays_as_it_is() {
        let once = Mirrors::of_config(FULL).unwrap();
        assert_eq!(Mirrors::of_config(once.config.as_deref().unwrap()).unwrap(), once);
    }

    #[test]
    fn a_replacement_by_what_is_only_here_is_dropped() {
        for config in [
            "",
            "[build]\njobs = 1",
            "[source.crates-io]\nreplace-with = 'v'\n[source.v]\ndirectory = '/v'",
            "[source.crates-io]\nreplace-with = 'a'\n[source.a]\nreplace-with = 'b'\n[source.b]\nlocal-registry = '/v'",
        ] {
            assert_eq!(Mirrors::of_config(config).unwrap().config, None, "{config}");
        }
    }

    #[test]
    fn a_source_may_be_replaced_by_a_registry() {
        let config = "[source.crates-io]\nreplace-with = 'r'\n[registries.r]\nindex = 'sparse+https://r.example/'";
        let rendered = Mirrors::of_config(config).unwrap().config.unwrap();
        assert!(rendered.contains("replace-with = \"r\""), "{rendered}");
    }

    #[test]
    fn what_is_wrong_is_named_and_not_repeated() {
        let config = "[registries.r]\nindex = 'https://u:secret@a..b/'";
        assert_eq!(
            Mirrors::of_config(config).unwrap_err(),
            "registries.r.index: a URL there can't be understood"
        );
        assert_eq!(Mirrors::of_config("token = secret").unwrap_err(), "it is no TOML");
    }

    #[test]
    fn tokens_of_registries_are_no_indexes() {
        assert!(sets_an_index("CARGO_REGISTRIES_OURS_INDEX"));
        for name in [
            "CARGO_REGISTRIES_OURS_TOKEN",
            "CARGO_REGISTRIES__INDEX",
            "CARGO_REGISTRIES_a=b_INDEX",
            "PATH",
        ] {
            assert!(!sets_an_index(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn rendering_is_stable(
            entries in prop::collection::btree_map(
                "[a-d]", ("(registry|replace-with|directory)", "([a-d]|https://[a-z]{1,4}\\.example/)"), 0..5)
        ) {
            let text: String = entries
                .iter()
                .map(|(name, (key, value))| format!("[source.{name}]\n{key} = '{value}'\n"))
                .collect();
            let once = Mirrors::of_config(&text).unwrap();
            if let Some(config) = &once.config {
                prop_assert_eq!(&Mirrors::of_config(config).unwrap(), &once);
            }
        }
    }
}
