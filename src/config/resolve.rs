//! Layers → [`Config`]. Pure: the caller read every file and the environment.
//!
//! Every layer's value is parsed, also one that a stronger layer overrides: a file with a bad value in it is mended
//! when it is written, not on the day when the flag goes away.

use crate::config::environment::Environment;
use crate::config::error::{BadValue, ConfigError};
use crate::config::http::ListenAddress;
use crate::config::key::{self, Key};
use crate::config::layer::{FileLayer, LayerSource, Scalar, Values};
use crate::config::name::{Effort, ImageReference, LogFilter};
use crate::config::origin::{Origin, Sourced};
use crate::config::provider::Provider;
use crate::config::quantity::{ByteSize, CpuShare, ModelId, Period, PidsLimit, ProviderName};
use crate::config::rule::AllowList;
use crate::config::{ApplyWhen, CodexSettings, Config, Enforcement, Limits, LogSettings, RuntimeChoice};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use toml::Spanned;

mod audit;
mod auth;
mod http;
mod mcp;
mod network;
mod provider;
mod proxy;
mod quota;
mod secrets;
mod sessions;
mod workspace;

/// The annotated defaults, which are also their documentation.
pub const DEFAULTS: &str = include_str!("../../config/codex-mcp.toml");

/// The files that were found, weakest first.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    pub system: Option<FileLayer>,
    /// The user's file, or the one named in its place.
    pub user: Option<FileLayer>,
    pub codex: Option<CodexOwnModel>,
}

/// What the user's own Codex configuration says about its model; used only where no layer of ours names one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodexOwnModel {
    pub path: PathBuf,
    pub model: ModelId,
    /// `model_provider`; Codex's default is `openai`.
    pub provider: String,
}

/// What the command line sets; parsed by `cli`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConfigFlags {
    /// The configuration file to read in place of the user's.
    pub config: Option<PathBuf>,
    pub runtime: Option<RuntimeChoice>,
    pub image: Option<ImageReference>,
    /// Absolute; becomes the one root.
    pub workspace: Option<PathBuf>,
    pub memory: Option<ByteSize>,
    pub cpus: Option<CpuShare>,
    pub pids: Option<PidsLimit>,
    pub tmp: Option<ByteSize>,
    pub turn: Option<Period>,
    pub wall: Option<Period>,
    /// `workspace.apply`.
    pub apply: Option<ApplyWhen>,
    pub enforcement: Option<Enforcement>,
    pub provider: Option<ProviderName>,
    pub model: Option<ModelId>,
    pub effort: Option<Effort>,
    /// `network.allow`.
    pub network: Option<AllowList>,
    /// `http.listen`.
    pub listen: Option<ListenAddress>,
    pub log: Option<LogFilter>,
}

/// # Errors
///
/// The first thing that is wrong, weakest layer first within a key.
pub fn resolve(layers: Layers, environment: &Environment, flags: &ConfigFlags) -> Result<Config, ConfigError> {
    environment.check_names()?;
    let defaults = FileLayer::parse(LayerSource::Embedded, DEFAULTS, &Environment::default())?;
    let files: Vec<FileLayer> = [Some(defaults), layers.system, layers.user]
        .into_iter()
        .flatten()
        .collect();
    let stack = Stack {
        files: &files,
        environment,
    };
    let providers = stack.providers()?;
    let codex = stack.codex(flags, layers.codex.as_ref(), &providers)?;
    let auth = stack.auth(&codex.provider)?;
    Ok(Config {
        runtime: needed(
            key::RUNTIME,
            stack.value(key::RUNTIME, |v| v.runtime.as_ref(), flags.runtime)?,
        )?,
        image: needed(
            key::IMAGE,
            stack.value(key::IMAGE, |v| v.image.as_ref(), flags.image.clone())?,
        )?,
        limits: stack.limits(flags)?,
        codex,
        auth,
        providers,
        workspace: stack.workspace(flags)?,
        sessions: stack.sessions()?,
        mcp: stack.mcp()?,
        network: stack.network(flags)?,
        http: stack.http(flags)?,
        secrets: stack.secrets()?,
        secrets_dir: stack.value_of(
            key::SECRETS_DIR,
            |v| v.secrets_dir.as_ref(),
            None,
            |text| stack.path(text),
        )?,
        quota: stack.quota()?,
        state_dir: stack.directory(
            key::STATE_DIR,
            |v| v.state_dir.as_ref(),
            "XDG_STATE_HOME",
            ".local/state",
        )?,
        cache_dir: stack.directory(key::CACHE_DIR, |v| v.cache_dir.as_ref(), "XDG_CACHE_HOME", ".cache")?,
        audit: stack.audit()?,
        log: LogSettings {
            filter: needed(
                key::LOG_FILTER,
                stack.value(key::LOG_FILTER, |v| v.log.filter.as_ref(), flags.log.clone())?,
            )?,
            format: needed(
                key::LOG_FORMAT,
                stack.value(key::LOG_FORMAT, |v| v.log.format.as_ref(), None)?,
            )?,
        },
    })
}

/// The embedded defaults set every key but those that have none, so this only fails where somebody broke them.
fn needed<T>(key: Key, value: Option<T>) -> Result<T, ConfigError> {
    value.ok_or_else(|| ConfigError::Missing {
        key: key.name.to_owned(),
    })
}

struct Stack<'a> {
    /// Weakest first.
    files: &'a [FileLayer],
    environment: &'a Environment,
}

impl Stack<'_> {
    /// The strongest layer's value of one key.
    fn value<T, S>(
        &self,
        key: Key,
        in_file: fn(&Values) -> Option<&Spanned<S>>,
        flag: Option<T>,
    ) -> Result<Option<Sourced<T>>, ConfigError>
    where
        T: FromStr,
        BadValue: From<T::Err>,
        S: AsRef<str>,
    {
        self.value_of(key, in_file, flag, |text| text.parse().map_err(BadValue::from))
    }

    /// As [`Self::value`], for what is not parsed from its text alone.
    fn value_of<T, S>(
        &self,
        key: Key,
        in_file: fn(&Values) -> Option<&Spanned<S>>,
        flag: Option<T>,
        parse: impl Fn(&str) -> Result<T, BadValue>,
    ) -> Result<Option<Sourced<T>>, ConfigError>
    where
        S: AsRef<str>,
    {
        let mut strongest = None;
        for file in self.files {
            if let Some(written) = in_file(&file.values) {
                let value = parse(written.get_ref().as_ref());
                let value = value.map_err(|reason| bad_value(file, key.name, written.span(), reason))?;
                strongest = Some(Sourced::new(value, file.origin(written.span())));
            }
        }
        if let Some(variable) = key.variable
            && let Some(text) = self.environment.text(variable)?
        {
            let origin = Origin::Environment { name: variable };
            let value = parse(text).map_err(|reason| ConfigError::BadValue {
                at: origin.clone(),
                key: key.name.to_owned(),
                written: Some(format!("{text:?}")),
                reason,
            })?;
            strongest = Some(Sourced::new(value, origin));
        }
        if let (Some(value), Some(name)) = (flag, key.flag) {
            strongest = Some(Sourced::new(value, Origin::Flag { name }));
        }
        Ok(strongest)
    }

    fn period(
        &self,
        key: Key,
        in_file: fn(&Values) -> Option<&Spanned<Scalar>>,
        flag: Option<Period>,
    ) -> Result<Sourced<Duration>, ConfigError> {
        let period = needed(key, self.value(key, in_file, flag)?)?;
        Ok(Sourced::new(period.value.duration(), period.origin))
    }

    /// A whole number that every layer's value has to be in `range`.
    fn number(
        &self,
        key: Key,
        in_file: fn(&Values) -> Option<&Spanned<Scalar>>,
        range: RangeInclusive<u32>,
    ) -> Result<Sourced<u32>, ConfigError> {
        let number = self.value_of(key, in_file, None, |text| match text.parse() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(BadValue::OutOfRange {
                least: *range.start(),
                most: *range.end(),
            }),
        })?;
        needed(key, number)
    }

    fn limits(&self, flags: &ConfigFlags) -> Result<Limits, ConfigError> {
        let size = |key: Key, in_file: fn(&Values) -> Option<&Spanned<Scalar>>, flag, least: &'static str| {
            let size: Sourced<ByteSize> = needed(key, self.value(key, in_file, flag)?)?;
            at_least(key, size, least)
        };
        Ok(Limits {
            memory: size(key::MEMORY, |v| v.limits.memory.as_ref(), flags.memory, "64MiB")?,
            cpus: needed(
                key::CPUS,
                self.value(key::CPUS, |v| v.limits.cpus.as_ref(), flags.cpus)?,
            )?,
            pids: needed(
                key::PIDS,
                self.value(key::PIDS, |v| v.limits.pids.as_ref(), flags.pids)?,
            )?,
            tmp: size(key::TMP, |v| v.limits.tmp.as_ref(), flags.tmp, "1MiB")?,
            workspace: size(key::WORKSPACE, |v| v.limits.workspace.as_ref(), None, "1")?,
            turn: self.period(key::TURN, |v| v.limits.turn.as_ref(), flags.turn)?,
            idle: self.period(key::IDLE, |v| v.limits.idle.as_ref(), None)?,
            wall: self.period(key::WALL, |v| v.limits.wall.as_ref(), flags.wall)?,
            enforcement: needed(
                key::ENFORCEMENT,
                self.value(key::ENFORCEMENT, |v| v.limits.enforcement.as_ref(), flags.enforcement)?,
            )?,
        })
    }

    fn codex(
        &self,
        flags: &ConfigFlags,
        own: Option<&CodexOwnModel>,
        providers: &BTreeMap<ProviderName, Provider>,
    ) -> Result<CodexSettings, ConfigError> {
        let provider: Sourced<ProviderName> = needed(
            key::PROVIDER,
            self.value(key::PROVIDER, |v| v.codex.provider.as_ref(), flags.provider.clone())?,
        )?;
        if !providers.contains_key(&provider.value) {
            return Err(ConfigError::UnknownProvider {
                at: provider.origin,
                provider: provider.value,
                known: providers.keys().cloned().collect(),
            });
        }
        let ours = self.value(key::MODEL, |v| v.codex.model.as_ref(), flags.model.clone())?;
        // Their model is a name at their provider: at another one it is an unknown model, or a different one.
        let theirs = own.filter(|own| own.provider == provider.value.as_str()).map(|own| {
            let path = own.path.clone();
            Sourced::new(own.model.clone(), Origin::Foreign { path })
        });
        Ok(CodexSettings {
            provider,
            model: ours.or(theirs),
            models: self.models()?,
            config: self.codex_config(),
            web_search: needed(
                key::WEB_SEARCH,
                self.value(key::WEB_SEARCH, |v| v.codex.web_search.as_ref(), None)?,
            )?,
            effort: self.value(key::EFFORT, |v| v.codex.effort.as_ref(), flags.effort)?,
        })
    }

    /// Merged key by key, like everything else.
    fn codex_config(&self) -> BTreeMap<String, Sourced<serde_json::Value>> {
        let mut merged = BTreeMap::new();
        for file in self.files {
            for (name, written) in &file.values.codex.config {
                // What JSON can't say (a date, NaN) becomes a value that no setting takes.
                let value = serde_json::to_value(written.get_ref()).unwrap_or_default();
                merged.insert(name.get_ref().clone(), Sourced::new(value, file.origin(name.span())));
            }
        }
        merged
    }

    /// The list of the strongest file that has it.
    fn models(&self) -> Result<Vec<Sourced<ModelId>>, ConfigError> {
        let mut strongest = Vec::new();
        for file in self.files {
            if let Some(models) = &file.values.codex.models {
                strongest = network::list_of(file, key::MODELS, models, &network::parsed)?;
            }
        }
        Ok(strongest)
    }

    /// A directory of ours: as configured, else `codex-mcp` below the XDG base directory.
    fn directory(
        &self,
        key: Key,
        in_file: fn(&Values) -> Option<&Spanned<String>>,
        xdg_variable: &'static str,
        below_home: &str,
    ) -> Result<Sourced<PathBuf>, ConfigError> {
        let configured = self.value_of(key, in_file, None, |text| self.path(text))?;
        if let Some(directory) = configured {
            return Ok(directory);
        }
        let xdg = self.environment.directory(xdg_variable).map(Path::to_path_buf);
        let base = xdg.or_else(|| self.environment.home().map(|home| home.join(below_home)));
        let base = base.ok_or(ConfigError::NoHome {
            key: key.name,
            variable: key.variable.unwrap_or("HOME"),
        })?;
        Ok(Sourced::new(base.join("codex-mcp"), Origin::Default))
    }

    fn path(&self, text: &str) -> Result<PathBuf, BadValue> {
        if let Some(below_home) = text.strip_prefix("~/") {
            let home = self.environment.home().ok_or(BadValue::NoHome)?;
            return Ok(home.join(below_home));
        }
        let path = PathBuf::from(text);
        if path.is_absolute() && !text.contains('\0') {
            Ok(path)
        } else {
            Err(BadValue::RelativePath)
        }
    }
}

fn bad_value(file: &FileLayer, key: &str, span: std::ops::Range<usize>, reason: impl Into<BadValue>) -> ConfigError {
    ConfigError::BadValue {
        at: file.origin(span.clone()),
        key: key.to_owned(),
        written: file.as_written(span),
        reason: reason.into(),
    }
}

/// `memory = 4` is a forgotten unit; an engine would say so in words of its own, much later.
fn at_least(key: Key, size: Sourced<ByteSize>, least: &'static str) -> Result<Sourced<ByteSize>, ConfigError> {
    let enough = least.parse().is_ok_and(|least| size.value >= least);
    if enough {
        return Ok(size);
    }
    Err(ConfigError::BadValue {
        at: size.origin,
        key: key.name.to_owned(),
        written: Some(size.value.to_string()),
        reason: BadValue::TooSmall { least },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SecretSource;

    pub(super) fn file(path: &str, text: &str) -> FileLayer {
        FileLayer::parse(LayerSource::File(path.into()), text, &home()).unwrap()
    }

    pub(super) fn home() -> Environment {
        Environment::from_pairs([("HOME", "/home/u")])
    }

    pub(super) fn user(text: &str) -> Layers {
        Layers {
            user: Some(file("/u.toml", text)),
            ..Layers::default()
        }
    }

    pub(super) fn resolve_user(text: &str) -> Result<Config, ConfigError> {
        resolve(user(text), &home(), &ConfigFlags::default())
    }

    pub(super) fn refusal(text: &str) -> String {
        resolve_user(text).unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_are_what_the_documentation_says() {
        let config = resolve(Layers::default(), &home(), &ConfigFlags::default()).unwrap();
        insta::assert_json_snapshot!(config);
    }

    #[test]
    fn codex_config_is_merged_key_by_key_with_its_lines() {
        let layers = Layers {
            system: Some(file(
                "/etc/c.toml",
                "[codex.config]\nmodel_verbosity = \"low\"\ntool_output_token_limit = 10\n",
            )),
            user: Some(file(
                "/u.toml",
                "[codex]\nconfig = { model_verbosity = \"high\", x.y = 1 }\n",
            )),
            ..Layers::default()
        };
        let config = resolve(layers, &home(), &ConfigFlags::default()).unwrap().codex.config;
        let shown: Vec<String> = config
            .iter()
            .map(|(name, value)| format!("{name} = {} ({})", value.value, value.origin))
            .collect();
        assert_eq!(
            shown,
            [
                "model_verbosity = \"high\" (/u.toml:2)",
                "tool_output_token_limit = 10 (/etc/c.toml:3)",
                "x = {\"y\":1} (/u.toml:2)"
            ]
        );
    }

    #[test]
    fn the_default_file_has_every_key() {
        for key in key::REGISTRY {
            // Of a table whose names are the operator's, the table itself.
            let name = key.name.strip_suffix(".*").unwrap_or(key.name);
            let last = name.rsplit('.').next().unwrap();
            let written = |line: &str| {
                let line = line.trim_start_matches("# ");
                line.starts_with(&format!("{last} = ")) || line.contains(&format!("{{ {last} = "))
            };
            assert!(DEFAULTS.lines().any(written), "{}", key.name);
        }
    }

    #[test]
    fn a_stronger_layer_wins_and_is_named() {
        let layers = Layers {
            system: Some(file(
                "/s.toml",
                "[limits]\nmemory = \"1g\"\ncpus = 1\npids = 100\ntmp = \"1m\"\n",
            )),
            user: Some(file("/u.toml", "[limits]\ncpus = 0.5\npids = 200\ntmp = \"2m\"\n")),
            codex: None,
        };
        let environment =
            Environment::from_pairs([("HOME", "/home/u"), ("CODEX_MCP_PIDS", "300"), ("CODEX_MCP_TMP", "3m")]);
        let flags = ConfigFlags {
            tmp: Some(ByteSize::from_mib(4)),
            ..ConfigFlags::default()
        };
        let limits = resolve(layers, &environment, &flags).unwrap().limits;
        assert_eq!(
            (limits.memory.value.to_string(), limits.memory.origin.to_string()),
            ("1GiB".into(), "/s.toml:2".into())
        );
        assert_eq!(
            (limits.cpus.value.to_string(), limits.cpus.origin.to_string()),
            ("0.5".into(), "/u.toml:2".into())
        );
        assert_eq!(
            (limits.pids.value.get(), limits.pids.origin.to_string()),
            (300, "environment CODEX_MCP_PIDS".into())
        );
        assert_eq!(
            (limits.tmp.value.to_string(), limits.tmp.origin.to_string()),
            ("4MiB".into(), "flag --tmp".into())
        );
        assert_eq!(limits.wall.origin, Origin::Default);
    }

    #[test]
    fn a_bad_value_is_refused_even_where_a_flag_overrides_it() {
        let flags = ConfigFlags {
            memory: Some(ByteSize::from_mib(512)),
            ..ConfigFlags::default()
        };
        let error = resolve(user("[limits]\nmemory = \"lots\""), &home(), &flags).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/u.toml:2: `limits.memory` = \"lots\": a size is a number and a unit, such as `4GiB`, `512m` or `1.5g` (powers \
             of 1024), or a number of bytes"
        );
    }

    #[test]
    fn an_environment_value_is_refused_by_its_name() {
        let environment = Environment::from_pairs([("HOME", "/home/u"), ("CODEX_MCP_RUNTIME", "containerd")]);
        let error = resolve(Layers::default(), &environment, &ConfigFlags::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "environment CODEX_MCP_RUNTIME: `runtime` = \"containerd\": expected one of `auto`, `podman`, `docker`"
        );
    }

    #[test]
    fn a_forgotten_unit_is_caught() {
        assert_eq!(
            refusal("[limits]\nmemory = 4"),
            "/u.toml:2: `limits.memory` = 4: is less than 64MiB, which is too little for Codex to run at all"
        );
    }

    #[test]
    fn a_message_shows_the_placeholder_and_not_what_was_in_it() {
        let environment = Environment::from_pairs([("HOME", "/home/u"), ("SECRET", "sk 123")]);
        let text = "[codex]\nmodel = \"${SECRET}\"";
        let layer = FileLayer::parse(LayerSource::File("/u.toml".into()), text, &environment).unwrap();
        let layers = Layers {
            user: Some(layer),
            ..Layers::default()
        };
        assert_eq!(
            resolve(layers, &environment, &ConfigFlags::default())
                .unwrap_err()
                .to_string(),
            "/u.toml:2: `codex.model` = \"${SECRET}\": a model's id is 1 to 128 of `A-Z a-z 0-9 . _ - : /`"
        );
        let refused = refusal("[providers.p]\nbase_url = \"https://me:pass@h\"");
        assert!(
            refused.contains("do not belong in a URL") && !refused.contains("pass@"),
            "{refused}"
        );
    }

    #[test]
    fn a_key_does_not_follow_its_provider_to_another_address() {
        let moved = resolve_user("[providers.openai]\nbase_url = \"http://127.0.0.1:1\"").unwrap();
        let openai: ProviderName = "openai".parse().unwrap();
        assert_eq!(moved.providers[&openai].key, None);
        let kept = resolve_user("[providers.openai]\nkey = { file = \"~/key\" }").unwrap();
        assert_eq!(
            kept.providers[&openai].base_url.value.to_string(),
            "https://api.openai.com/v1"
        );
        assert_eq!(
            kept.providers[&openai].key.as_ref().map(|key| &key.value),
            Some(&SecretSource::File("/home/u/key".into()))
        );
    }

    #[test]
    fn a_provider_is_whole_or_refused() {
        assert_eq!(
            refusal("[codex]\nprovider = \"corp\""),
            "/u.toml:2: there is no provider `corp`; add a [providers.corp] table, or name one of: openai, openrouter"
        );
        assert!(refusal("[providers.corp]\nkey = { env = \"K\" }").contains("`providers.corp.base_url`"));
        assert!(refusal("[providers.Corp]\nbase_url = \"https://h\"").contains("a provider's name is"));
        for (key, reason) in [
            ("{}", "exactly one of"),
            ("{ env = \"A\", file = \"/b\" }", "exactly one of"),
            ("{ env = \"sk-123\" }", "names no environment variable"),
            ("{ file = \"key\" }", "a path is absolute"),
            ("{ command = [] }", "a command is a program"),
            ("{ command = [\"a\", \"\\u0000\"] }", "a command is a program"),
        ] {
            let error = refusal(&format!("[providers.openai]\nkey = {key}"));
            assert!(
                error.starts_with("/u.toml:2: `providers.openai.key`") && error.contains(reason),
                "{error}"
            );
            assert!(!error.contains("sk-123"), "{error}");
        }
    }

    #[test]
    fn the_model_of_codex_itself_is_the_last_resort() {
        let own = |provider: &str| {
            Some(CodexOwnModel {
                path: "/home/u/.codex/config.toml".into(),
                model: "gpt-own".parse().unwrap(),
                provider: provider.into(),
            })
        };
        let model = |text: &str, codex| {
            let layers = Layers { codex, ..user(text) };
            let model = resolve(layers, &home(), &ConfigFlags::default()).unwrap().codex.model;
            model.map(|model| format!("{} ({})", model.value, model.origin))
        };
        assert_eq!(
            model("", own("openai")).as_deref(),
            Some("gpt-own (/home/u/.codex/config.toml)")
        );
        assert_eq!(
            model("[codex]\nmodel = \"m\"", own("openai")).as_deref(),
            Some("m (/u.toml:2)")
        );
        assert_eq!(model("", own("ollama")), None);
    }

    #[test]
    fn directories_follow_the_base_directory_specification() {
        let state = |pairs: &[(&str, &str)]| {
            let environment = Environment::from_pairs(pairs.iter().copied());
            let config = resolve(Layers::default(), &environment, &ConfigFlags::default());
            config
                .map(|config| config.state_dir.value.display().to_string())
                .map_err(|error| error.to_string())
        };
        assert_eq!(state(&[("HOME", "/h")]).as_deref(), Ok("/h/.local/state/codex-mcp"));
        assert_eq!(
            state(&[("HOME", "/h"), ("XDG_STATE_HOME", "/x")]).as_deref(),
            Ok("/x/codex-mcp")
        );
        assert_eq!(
            state(&[("HOME", "/h"), ("CODEX_MCP_STATE_DIR", "~/s")]).as_deref(),
            Ok("/h/s")
        );
        assert!(
            state(&[("HOME", "/h"), ("CODEX_MCP_STATE_DIR", "s")])
                .unwrap_err()
                .contains("a path is absolute")
        );
        assert_eq!(
            state(&[]).unwrap_err(),
            "`state_dir` has no default because HOME is not set; set HOME, CODEX_MCP_STATE_DIR, or `state_dir` in a \
             configuration file"
        );
    }

    #[test]
    fn a_workspace_flag_is_the_one_root() {
        let flags = ConfigFlags {
            workspace: Some("/w".into()),
            ..ConfigFlags::default()
        };
        let roots = resolve(user("[workspace]\nroots = [\"/a\"]"), &home(), &flags)
            .unwrap()
            .workspace
            .roots;
        assert_eq!(
            roots,
            Sourced::new(vec!["/w".into()], Origin::Flag { name: "--workspace" })
        );
        assert!(refusal("[workspace]\nroots = [\"/a\", \"b\"]").starts_with("/u.toml:2: `workspace.roots` = \"b\": "));
    }

    /// The document is for people: that it names everything is what a test can hold it to.
    #[test]
    fn the_document_names_every_key_variable_and_flag() {
        let document = include_str!("../../docs/configuration.md");
        for key in key::REGISTRY {
            let row = document
                .lines()
                .find(|line| line.starts_with(&format!("| `{}` |", key.name.replace('*', "NAME"))));
            let row = row.unwrap_or_else(|| panic!("no row for {}", key.name));
            for name in [key.variable, key.flag].into_iter().flatten() {
                assert!(row.contains(&format!("`{name}`")), "{}: {name}", key.name);
            }
        }
        for name in crate::config::environment::REGISTRY {
            assert!(document.contains(&format!("`{name}`")), "{name}");
        }
    }
}
