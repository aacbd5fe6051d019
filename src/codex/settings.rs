//! Codex's locked `config.toml`, rendered for one session. Pure.
//!
//! The template is parsed first; then `${NAME}` is replaced inside its strings, and what is a table or may be missing is set in
//! the parsed table, so that no value can become TOML of its own. Codex runs with
//! `--strict-config`: a key that it does not know ends it, which is why the template names the version it was checked with.
//!
//! A project is deliberately not marked `untrusted`: that would also drop its `AGENTS.md`. Its `.codex/` is kept out by
//! starting each thread with `sandbox: read-only` ([`crate::codex::client::Client::start_thread`]).

use crate::codex::overrides::Overrides;
use crate::config::WebSearch;
use crate::config::interpolate::interpolate;
use crate::config::name::Effort;
use crate::config::quantity::ModelId;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use toml::{Table, Value};

/// The one provider that Codex knows: the broker on the host, behind the guest's loopback endpoint. Needs no auth.
pub const PROVIDER: &str = "gateway";

const TEMPLATE: &str = include_str!("../../config/codex-config.toml.template");

/// What differs from session to session.
#[derive(Debug, Clone, Copy)]
pub struct SessionConfig<'a> {
    /// Where the guest offers the model endpoint on the container's loopback.
    pub model_port: u16,
    /// `None`: Codex's own default.
    pub model: Option<&'a ModelId>,
    /// `None`: the model's own default.
    pub effort: Option<Effort>,
    pub web_search: WebSearch,
    /// The operator's; a call's are laid over the whole when its thread starts.
    pub overrides: &'a Overrides,
    /// Variables of commands, beside the few that Codex lets them inherit. `exclude` does not reach these.
    pub command_environment: &'a BTreeMap<String, String>,
}

/// The template of this build is broken; a test keeps that from happening.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("config/codex-config.toml.template, built into this program, is no TOML: {0}")]
    Unreadable(String),
    #[error("config/codex-config.toml.template, built into this program: {0}")]
    Placeholder(String),
    #[error("config/codex-config.toml.template, built into this program, has no table `{0}`")]
    NoTable(&'static str),
}

/// The whole `config.toml` of a session.
pub fn render(session: &SessionConfig<'_>) -> Result<String, TemplateError> {
    let unreadable = |error: &dyn fmt::Display| TemplateError::Unreadable(error.to_string());
    let mut config: Table = TEMPLATE.parse().map_err(|error| unreadable(&error))?;
    let (model_port, web_search) = (session.model_port.to_string(), session.web_search.to_string());
    let values = [("MODEL_PORT", model_port.as_str()), ("WEB_SEARCH", web_search.as_str())];
    config.iter_mut().try_for_each(|(_, value)| fill_in(value, &values))?;
    for (name, value) in session.overrides.as_map() {
        let value = Value::try_from(value).map_err(|error| unreadable(&error))?;
        config.insert(name.clone(), value);
    }
    if let Some(model) = session.model {
        config.insert("model".to_owned(), Value::String(model.to_string()));
    }
    if let Some(effort) = session.effort {
        config.insert("model_reasoning_effort".to_owned(), Value::String(effort.to_string()));
    }
    let variables = session.command_environment.iter();
    let variables = variables.map(|(name, value)| (name.clone(), Value::String(value.clone())));
    table(&mut config, "shell_environment_policy")?.insert("set".to_owned(), Value::Table(variables.collect()));
    let body = toml::to_string(&config).map_err(|error| unreadable(&error))?;
    Ok(format!(
        "# Written by codex-mcp for one session; changes are lost.\n{body}"
    ))
}

/// Only the template's own strings: what is set after this is never looked at for placeholders.
fn fill_in(value: &mut Value, values: &[(&str, &str)]) -> Result<(), TemplateError> {
    match value {
        Value::String(text) => {
            let known = |name: &str| {
                Ok::<_, Infallible>(values.iter().find(|(known, _)| *known == name).map(|(_, value)| *value))
            };
            let filled = interpolate(text, known).map_err(|error| TemplateError::Placeholder(error.to_string()))?;
            *text = filled.into_owned();
            Ok(())
        }
        Value::Array(items) => items.iter_mut().try_for_each(|item| fill_in(item, values)),
        Value::Table(table) => table.iter_mut().try_for_each(|(_, value)| fill_in(value, values)),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => Ok(()),
    }
}

fn table<'a>(parent: &'a mut Table, name: &'static str) -> Result<&'a mut Table, TemplateError> {
    match parent.get_mut(name) {
        Some(Value::Table(table)) => Ok(table),
        _ => Err(TemplateError::NoTable(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::LazyLock;

    fn rendered(session: &SessionConfig<'_>) -> Table {
        render(session).unwrap().parse().unwrap()
    }

    static NO_VARIABLES: BTreeMap<String, String> = BTreeMap::new();
    static NO_OVERRIDES: LazyLock<Overrides> = LazyLock::new(Overrides::default);

    static PLAIN: LazyLock<SessionConfig<'static>> = LazyLock::new(|| SessionConfig {
        model_port: 18080,
        model: None,
        effort: None,
        web_search: WebSearch::Disabled,
        overrides: &NO_OVERRIDES,
        command_environment: &NO_VARIABLES,
    });

    #[test]
    fn the_whole_configuration() {
        insta::assert_snapshot!(render(&PLAIN).unwrap());
    }

    #[test]
    fn model_and_effort_are_set_where_named() {
        assert!(!rendered(&PLAIN).contains_key("model"));
        let effort = SessionConfig {
            effort: Some(Effort::Xhigh),
            ..*PLAIN
        };
        assert_eq!(rendered(&effort)["model_reasoning_effort"].as_str(), Some("xhigh"));
    }

    #[test]
    fn placeholders_are_filled_in_and_none_is_left() {
        let session = SessionConfig {
            model_port: 7,
            web_search: WebSearch::Live,
            ..*PLAIN
        };
        let text = render(&session).unwrap();
        assert!(!text.contains("${"), "{text}");
        let config = rendered(&session);
        assert_eq!(
            config["model_providers"][PROVIDER]["base_url"].as_str(),
            Some("http://127.0.0.1:7/v1")
        );
        assert_eq!(config["web_search"].as_str(), Some("live"));
        let mut unknown = Value::Array(vec![Value::String("a ${NO_SUCH}".to_owned())]);
        assert!(matches!(fill_in(&mut unknown, &[]), Err(TemplateError::Placeholder(_))));
    }

    #[test]
    fn the_operators_settings_are_laid_over_the_template_and_effort_over_them() {
        let serde_json::Value::Object(asked) =
            json!({"model_verbosity": "low", "tool_output_token_limit": 5000, "model_reasoning_effort": "low"})
        else {
            panic!()
        };
        let overrides = crate::codex::overrides::parse_overrides(&asked).unwrap();
        let with = SessionConfig {
            overrides: &overrides,
            ..*PLAIN
        };
        let config = rendered(&with);
        assert_eq!(config["model_verbosity"].as_str(), Some("low"));
        assert_eq!(config["tool_output_token_limit"].as_integer(), Some(5000));
        assert_eq!(config["model_reasoning_effort"].as_str(), Some("low"));
        let effort = SessionConfig {
            effort: Some(Effort::High),
            ..with
        };
        assert_eq!(rendered(&effort)["model_reasoning_effort"].as_str(), Some("high"));
    }

    /// A mirror's address comes from another program's settings: whatever it holds stays one value.
    #[test]
    fn variables_of_commands_are_values_and_never_toml() {
        let hostile = "${MODEL_PORT}\"\n[features]\nhooks = true\n#";
        let variables = BTreeMap::from([
            ("A".to_owned(), "1".to_owned()),
            ("B.\"C".to_owned(), hostile.to_owned()),
        ]);
        let config = rendered(&SessionConfig {
            command_environment: &variables,
            ..*PLAIN
        });
        let set = config["shell_environment_policy"]["set"].as_table().unwrap();
        assert_eq!(set.len(), 2);
        assert_eq!(set["A"].as_str(), Some("1"));
        assert_eq!(set["B.\"C"].as_str(), Some(hostile));
        assert_eq!(config["features"]["hooks"].as_bool(), Some(false));
    }

    #[test]
    fn no_project_is_trusted_or_distrusted_and_no_key_is_named() {
        let config = rendered(&PLAIN);
        assert!(!config.contains_key("projects"));
        let gateway = &config["model_providers"][PROVIDER];
        for auth in [
            "env_key",
            "experimental_bearer_token",
            "http_headers",
            "env_http_headers",
            "auth",
        ] {
            assert!(gateway.get(auth).is_none(), "{auth}");
        }
    }
}
