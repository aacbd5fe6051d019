//! Codex's locked `config.toml`, rendered for one session. Pure.
//!
//! The template is parsed and the parsed table edited, so that no value can become TOML of its own. Codex runs with
//! `--strict-config`: a key that it does not know ends it, which is why the template names the version it was checked with.
//!
//! A project is deliberately not marked `untrusted`: that would also drop its `AGENTS.md`. Its `.codex/` is kept out by
//! starting each thread with `sandbox: read-only` ([`crate::codex::client::Client::start_thread`]).

use crate::config::WebSearch;
use crate::config::name::Effort;
use crate::config::quantity::ModelId;
use std::collections::BTreeMap;
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
    /// Variables of commands, beside the few that Codex lets them inherit. `exclude` does not reach these.
    pub command_environment: &'a BTreeMap<String, String>,
}

/// The template of this build is broken; a test keeps that from happening.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("config/codex-config.toml.template, built into this program, is no TOML: {0}")]
    Unreadable(String),
    #[error("config/codex-config.toml.template, built into this program, has no table `{0}`")]
    NoTable(&'static str),
}

/// The whole `config.toml` of a session.
pub fn render(session: &SessionConfig<'_>) -> Result<String, TemplateError> {
    let unreadable = |error: &dyn fmt::Display| TemplateError::Unreadable(error.to_string());
    let mut config: Table = TEMPLATE.parse().map_err(|error| unreadable(&error))?;
    if let Some(model) = session.model {
        config.insert("model".to_owned(), Value::String(model.to_string()));
    }
    if let Some(effort) = session.effort {
        config.insert("model_reasoning_effort".to_owned(), Value::String(effort.to_string()));
    }
    config.insert("web_search".to_owned(), Value::String(session.web_search.to_string()));
    let variables = session.command_environment.iter();
    let variables = variables.map(|(name, value)| (name.clone(), Value::String(value.clone())));
    table(&mut config, "shell_environment_policy")?.insert("set".to_owned(), Value::Table(variables.collect()));
    let base_url = format!("http://127.0.0.1:{}/v1", session.model_port);
    let gateway = table(table(&mut config, "model_providers")?, PROVIDER)?;
    gateway.insert("base_url".to_owned(), Value::String(base_url));
    let body = toml::to_string(&config).map_err(|error| unreadable(&error))?;
    Ok(format!(
        "# Written by codex-mcp for one session; changes are lost.\n{body}"
    ))
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

    fn rendered(session: &SessionConfig<'_>) -> Table {
        render(session).unwrap().parse().unwrap()
    }

    static NO_VARIABLES: BTreeMap<String, String> = BTreeMap::new();

    const PLAIN: SessionConfig<'static> = SessionConfig {
        model_port: 18080,
        model: None,
        effort: None,
        web_search: WebSearch::Disabled,
        command_environment: &NO_VARIABLES,
    };

    #[test]
    fn the_whole_configuration() {
        insta::assert_snapshot!(render(&PLAIN).unwrap());
    }

    #[test]
    fn model_and_effort_are_set_where_named() {
        assert!(!rendered(&PLAIN).contains_key("model"));
        let effort = SessionConfig {
            effort: Some(Effort::Xhigh),
            ..PLAIN
        };
        assert_eq!(rendered(&effort)["model_reasoning_effort"].as_str(), Some("xhigh"));
    }

    /// A mirror's address comes from another program's settings: whatever it holds stays one value.
    #[test]
    fn variables_of_commands_are_values_and_never_toml() {
        let hostile = "x\"\n[features]\nhooks = true\n#";
        let variables = BTreeMap::from([
            ("A".to_owned(), "1".to_owned()),
            ("B.\"C".to_owned(), hostile.to_owned()),
        ]);
        let config = rendered(&SessionConfig {
            command_environment: &variables,
            ..PLAIN
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
