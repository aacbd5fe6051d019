//! One file as written: every field optional, unknown keys refused, each value with its place in the text.
//!
//! Values stay text here; `resolve` parses them, so that a file, a variable and a default all go through one parser.

use crate::config::environment::Environment;
use crate::config::error::{ConfigError, Nearest};
use crate::config::interpolate::{InterpolationError, interpolate};
use crate::config::key::{self, Place};
use crate::config::origin::Origin;
use serde::{Deserialize, Deserializer, de};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Which text a layer was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerSource {
    /// The defaults inside this binary.
    Embedded,
    File(PathBuf),
}

/// A parsed file, and its text for naming lines.
#[derive(Debug, Clone)]
pub struct FileLayer {
    source: LayerSource,
    text: String,
    pub values: Values,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct Values {
    pub runtime: Option<Spanned<String>>,
    pub image: Option<Spanned<String>>,
    pub state_dir: Option<Spanned<String>>,
    pub cache_dir: Option<Spanned<String>>,
    pub secrets_dir: Option<Spanned<String>>,
    pub limits: LimitValues,
    pub codex: CodexValues,
    pub auth: AuthValues,
    pub providers: BTreeMap<Spanned<String>, ProviderValues>,
    pub workspace: WorkspaceValues,
    pub sessions: SessionsValues,
    pub mcp: McpValues,
    pub network: NetworkValues,
    pub http: HttpValues,
    pub secrets: BTreeMap<Spanned<String>, SecretValues>,
    pub quota: QuotaValues,
    pub audit: AuditValues,
    pub log: LogValues,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct LimitValues {
    pub memory: Option<Spanned<Scalar>>,
    pub cpus: Option<Spanned<Scalar>>,
    pub pids: Option<Spanned<Scalar>>,
    pub tmp: Option<Spanned<Scalar>>,
    pub workspace: Option<Spanned<Scalar>>,
    pub turn: Option<Spanned<Scalar>>,
    pub idle: Option<Spanned<Scalar>>,
    pub wall: Option<Spanned<Scalar>>,
    pub enforcement: Option<Spanned<String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct CodexValues {
    pub provider: Option<Spanned<String>>,
    pub model: Option<Spanned<String>>,
    pub effort: Option<Spanned<String>>,
    pub models: Option<ListValues>,
    pub web_search: Option<Spanned<String>>,
    /// Of Codex's own kinds: `codex::overrides` checks them.
    pub config: BTreeMap<Spanned<String>, Spanned<toml::Value>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct ProviderValues {
    pub base_url: Option<Spanned<String>>,
    pub key: Option<Spanned<KeyValues>>,
    pub key_header: Option<Spanned<String>>,
    pub headers: Option<BTreeMap<Spanned<String>, Spanned<String>>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct QuotaValues {
    pub sessions: Option<Spanned<Scalar>>,
    pub session: SessionQuotaValues,
    pub day: DayQuotaValues,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct SessionQuotaValues {
    pub turns: Option<Spanned<Scalar>>,
    pub tokens: Option<Spanned<Scalar>>,
    pub requests: Option<Spanned<Scalar>>,
    pub wall: Option<Spanned<Scalar>>,
    pub egress: Option<Spanned<Scalar>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct DayQuotaValues {
    pub sessions: Option<Spanned<Scalar>>,
    pub turns: Option<Spanned<Scalar>>,
    pub tokens: Option<Spanned<Scalar>>,
    pub requests: Option<Spanned<Scalar>>,
    pub wall: Option<Spanned<Scalar>>,
    pub egress: Option<Spanned<Scalar>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct SecretValues {
    pub from: Option<Spanned<KeyValues>>,
    pub path: Option<Spanned<String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct AuthValues {
    pub mode: Option<Spanned<String>>,
    pub file: Option<Spanned<String>>,
    pub chatgpt_base_url: Option<Spanned<String>>,
    pub token_url: Option<Spanned<String>>,
}

/// Exactly one of them is set in a key that makes sense; `resolve` checks it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct KeyValues {
    pub env: Option<String>,
    pub file: Option<String>,
    pub command: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct WorkspaceValues {
    pub roots: Option<Spanned<Vec<Spanned<String>>>>,
    pub max_files: Option<Spanned<Scalar>>,
    pub mode: Option<Spanned<String>>,
    pub history: Option<Spanned<Scalar>>,
    pub apply: Option<Spanned<String>>,
    pub free: Option<Spanned<Scalar>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct SessionsValues {
    pub keep: Option<Spanned<Scalar>>,
    pub keep_size: Option<Spanned<Scalar>>,
    pub restarts: Option<Spanned<Scalar>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct McpValues {
    pub block: Option<Spanned<Scalar>>,
    pub approvals: Option<Spanned<Scalar>>,
    pub ask: Option<Spanned<Scalar>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct NetworkValues {
    pub allow: Option<ListValues>,
    pub deny: Option<ListValues>,
    pub from: Option<ListValues>,
    pub private: Option<ListValues>,
    pub unrestricted: Option<Spanned<Switch>>,
    pub nameservers: Option<ListValues>,
    pub proxy: Option<Spanned<String>>,
    pub proxy_credentials: Option<Spanned<KeyValues>>,
    pub no_proxy: Option<ListValues>,
    pub proxy_resolves: Option<Spanned<Switch>>,
    pub ca_bundle: Option<Spanned<String>>,
    pub connections: Option<Spanned<Scalar>>,
    pub connections_per_second: Option<Spanned<Scalar>>,
    pub bytes: Option<Spanned<Scalar>>,
    pub bytes_per_second: Option<Spanned<Scalar>>,
    pub connect: Option<Spanned<Scalar>>,
    pub idle: Option<Spanned<Scalar>>,
    pub total: Option<Spanned<Scalar>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct HttpValues {
    pub listen: Option<Spanned<String>>,
    pub behind_proxy: Option<Spanned<Switch>>,
    pub allowed_hosts: Option<ListValues>,
    pub allowed_origins: Option<ListValues>,
    pub max_body: Option<Spanned<Scalar>>,
    pub connections: Option<Spanned<Scalar>>,
    pub requests_per_second: Option<Spanned<Scalar>>,
    pub tokens: Option<Spanned<String>>,
}

/// Each item has its own place, and so each rule of a list its own line.
pub type ListValues = Vec<Spanned<String>>;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct AuditValues {
    pub file_size: Option<Spanned<Scalar>>,
    pub keep: Option<Spanned<Scalar>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct LogValues {
    pub filter: Option<Spanned<String>>,
    pub format: Option<Spanned<String>>,
}

/// `true` or `false`, as text like everything else here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Switch(bool);

impl AsRef<str> for Switch {
    fn as_ref(&self) -> &str {
        match self.0 {
            true => "true",
            false => "false",
        }
    }
}

/// A number or a string, as text: `cpus = 2` and `cpus = "0.5"` are both natural to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar(String);

impl AsRef<str> for Scalar {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;

        impl de::Visitor<'_> for ScalarVisitor {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar(text.to_owned()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }
        }

        deserializer.deserialize_any(ScalarVisitor)
    }
}

impl FileLayer {
    /// Reads one file's text.
    ///
    /// # Errors
    ///
    /// Where it is not TOML, has an unknown key, a placeholder that can't be replaced, or a value of the wrong type.
    pub fn parse(source: LayerSource, text: &str, environment: &Environment) -> Result<Self, ConfigError> {
        let mut layer = Self {
            source,
            text: text.to_owned(),
            values: Values::default(),
        };
        let mut table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
            at: layer.origin_of(error.span()),
            message: error.message().to_owned(),
        })?;
        layer.check_keys(table.get_ref(), &mut Vec::new())?;
        // Types are checked before anything is replaced as well, so that no message repeats what a variable held.
        layer.values = layer.deserialize(table.clone())?;
        layer.replace_placeholders(table.get_mut(), "", environment)?;
        layer.values = layer.deserialize(table)?;
        Ok(layer)
    }

    fn deserialize(&self, table: Spanned<DeTable<'_>>) -> Result<Values, ConfigError> {
        Values::deserialize(toml::Deserializer::from(table)).map_err(|error| ConfigError::WrongType {
            at: self.origin_of(error.span()),
            message: without_value(error.message()),
        })
    }

    /// Where in this layer a value stands.
    pub fn origin(&self, span: Range<usize>) -> Origin {
        match &self.source {
            LayerSource::Embedded => Origin::Default,
            LayerSource::File(path) => Origin::File {
                path: path.clone(),
                line: 1 + self.text.bytes().take(span.start).filter(|c| *c == b'\n').count(),
            },
        }
    }

    fn origin_of(&self, span: Option<Range<usize>>) -> Origin {
        self.origin(span.unwrap_or_default())
    }

    /// A value as it stands in the text, placeholders not replaced: what a message may show.
    pub fn as_written(&self, span: Range<usize>) -> Option<String> {
        let written = self.text.get(span)?;
        (!written.contains('\n') && written.len() <= 80).then(|| written.to_owned())
    }

    /// Before deserialisation, which would stop at the same keys but can't name the nearest known one.
    fn check_keys<'t>(&self, table: &'t DeTable<'_>, path: &mut Vec<&'t str>) -> Result<(), ConfigError> {
        for (name, value) in table.iter() {
            path.push(name.get_ref());
            match (key::place(path), value.get_ref()) {
                (Place::Unknown, _) => {
                    let key = path.join(".");
                    return Err(ConfigError::UnknownKey {
                        at: self.origin(name.span()),
                        nearest: Nearest::among(&key, key::REGISTRY.iter().map(|key| key.name)),
                        key,
                    });
                }
                (Place::Table, DeValue::Table(inner)) => self.check_keys(inner, path)?,
                // A plain value where a table belongs, or the other way round, is for deserialisation to refuse.
                (Place::Table | Place::Value, _) => {}
            }
            path.pop();
        }
        Ok(())
    }

    fn replace_placeholders(
        &self,
        table: &mut DeTable<'_>,
        prefix: &str,
        environment: &Environment,
    ) -> Result<(), ConfigError> {
        for (name, value) in table.iter_mut() {
            let key = match prefix {
                "" => name.get_ref().to_string(),
                prefix => format!("{prefix}.{}", name.get_ref()),
            };
            self.replace_in_value(value, &key, environment)?;
        }
        Ok(())
    }

    fn replace_in_value(
        &self,
        value: &mut Spanned<DeValue<'_>>,
        key: &str,
        environment: &Environment,
    ) -> Result<(), ConfigError> {
        let span = value.span();
        match value.get_mut() {
            DeValue::String(text) => {
                let replaced = interpolate(text, |name| environment.text(name)).map_err(|error| match error {
                    InterpolationError::Lookup(error) => error,
                    error => ConfigError::Placeholder {
                        at: self.origin(span),
                        key: key.to_owned(),
                        reason: error.to_string(),
                    },
                })?;
                *text = replaced.into_owned().into();
                Ok(())
            }
            DeValue::Array(items) => items
                .iter_mut()
                .try_for_each(|item| self.replace_in_value(item, key, environment)),
            DeValue::Table(table) => self.replace_placeholders(table, key, environment),
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => Ok(()),
        }
    }
}

/// Somebody who writes `key = "sk-…"` where a table belongs finds it by its line: the message need not show it.
fn without_value(message: &str) -> String {
    let expected = message
        .strip_prefix("invalid type: string ")
        .and_then(|rest| rest.rsplit_once(", expected "));
    match expected {
        Some((_, expected)) => format!("invalid type: a string, expected {expected}"),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<FileLayer, ConfigError> {
        let environment = Environment::from_pairs([("NAME", "value"), ("EVIL", "x\"\n[limits]\nmemory = \"64GiB")]);
        FileLayer::parse(LayerSource::File("/etc/c.toml".into()), text, &environment)
    }

    fn error(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest() {
        assert_eq!(
            error("# one\n[limits]\nmemroy = \"4g\"\n"),
            "/etc/c.toml:3: there is no key `limits.memroy`; did you mean `limits.memory`?"
        );
        assert_eq!(
            error("[providers.x]\nkey = { environment = \"K\" }"),
            "/etc/c.toml:2: there is no key `providers.x.key.environment`; docs/configuration.md lists what there is"
        );
        assert_eq!(
            error("\"limits.memory\" = 1"),
            "/etc/c.toml:1: there is no key `limits.memory`; did you mean `limits.memory`?"
        );
    }

    #[test]
    fn wrong_types_and_syntax_are_named_with_their_line() {
        assert_eq!(
            error("runtime = \"auto\"\nlimits = 3\n"),
            "/etc/c.toml:2: invalid type: integer `3`, expected a table"
        );
        assert_eq!(
            error("[limits]\n\ncpus = true\n"),
            "/etc/c.toml:3: invalid type: boolean `true`, expected a number or a string"
        );
        assert_eq!(
            error("limits = \"${NAME}\""),
            "/etc/c.toml:1: invalid type: a string, expected a table"
        );
        for key in ["providers.x.key", "network.proxy_credentials"] {
            assert_eq!(
                error(&format!("{key} = \"me:sk-1, expected 2\"")),
                "/etc/c.toml:1: invalid type: a string, expected a table"
            );
        }
        assert_eq!(
            error("[network]\nunrestricted = \"yes\"\n"),
            "/etc/c.toml:2: invalid type: a string, expected a boolean"
        );
        assert_eq!(
            error("[network]\nallow = \"api.example.com\"\n"),
            "/etc/c.toml:2: invalid type: a string, expected a sequence"
        );
        assert!(
            error("a = 1\nb = \n").starts_with("/etc/c.toml:2: not TOML: "),
            "{}",
            error("a = 1\nb = \n")
        );
        assert!(error("image = \"a\"\nimage = \"b\"\n").starts_with("/etc/c.toml:2: not TOML: "));
    }

    #[test]
    fn a_variable_can_not_inject_toml() {
        let layer = parse("image = \"${EVIL}\"\n").unwrap();
        assert_eq!(
            layer.values.image.unwrap().into_inner(),
            "x\"\n[limits]\nmemory = \"64GiB"
        );
        assert!(layer.values.limits.memory.is_none());
    }

    #[test]
    fn placeholders_are_replaced_in_arrays_and_inline_tables() {
        let layer = parse(
            "[workspace]\nroots = [\"/a\", \"/${NAME}\"]\n[providers.p]\nkey = { command = [\"${NAME}\", \"$${NAME}\"] }",
        )
        .unwrap();
        let roots: Vec<_> = layer
            .values
            .workspace
            .roots
            .unwrap()
            .into_inner()
            .into_iter()
            .map(Spanned::into_inner)
            .collect();
        assert_eq!(roots, ["/a", "/value"]);
        let (_, provider) = layer.values.providers.into_iter().next().unwrap();
        assert_eq!(
            provider.key.unwrap().into_inner().command.unwrap(),
            ["value", "${NAME}"]
        );
    }

    #[test]
    fn an_unset_variable_is_an_error_that_names_it() {
        assert_eq!(
            error("\n[codex]\nmodel = \"${NO_SUCH}\"\n"),
            "/etc/c.toml:3: `codex.model`: the environment variable NO_SUCH is not set; set it, or give a fallback as in \
             `${NO_SUCH:-fallback}`"
        );
    }

    #[test]
    fn numbers_keep_their_spelling() {
        let layer = parse("[limits]\ncpus = 0.29\npids = 1_000\nmemory = 1073741824\n").unwrap();
        let text = |value: Option<Spanned<Scalar>>| value.unwrap().into_inner().0;
        assert_eq!(text(layer.values.limits.cpus), "0.29");
        assert_eq!(text(layer.values.limits.pids), "1000");
        assert_eq!(text(layer.values.limits.memory), "1073741824");
    }

    #[test]
    fn every_key_of_the_registry_is_one_of_the_fields() {
        for key in key::REGISTRY {
            let name = key.name.replace('*', "any");
            let value = match key.name.rsplit('.').next() {
                Some(
                    "roots" | "models" | "command" | "allow" | "deny" | "from" | "private" | "nameservers" | "no_proxy"
                    | "allowed_hosts" | "allowed_origins",
                ) => "[\"x\"]",
                Some("unrestricted" | "proxy_resolves" | "behind_proxy") => "true",
                _ => "\"x\"",
            };
            assert!(parse(&format!("{name} = {value}")).is_ok(), "{name}");
        }
    }
}
