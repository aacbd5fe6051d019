//! What a tool call may set of Codex's configuration: an allowlist, each value checked. Pure.
//!
//! The operator wrote the configuration; a call may make the model think longer or say less, and nothing that concerns
//! where requests go, what is trusted, what runs, or what commands see. Codex itself checks only shapes (it takes any
//! word as an effort), so the values are checked here.

use crate::config::name::Effort;
use serde_json::{Map, Value};

/// Checked overrides; made by [`parse_overrides`] only. Keys are single names of Codex's configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides(Map<String, Value>);

impl Overrides {
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverrideError {
    #[error("`config.{key}` can't be set by a call: {reason}")]
    Refused { key: String, reason: &'static str },
    #[error("`config.{key}` is none of the settings that a call may set: {}", names())]
    Unknown { key: String },
    #[error("`config.{key}` must be {expected}, and is {found}")]
    Value {
        key: String,
        expected: &'static str,
        found: String,
    },
    #[error("`config` names `{key}` twice")]
    Twice { key: String },
}

#[derive(Debug, Clone, Copy)]
enum Rule {
    Effort,
    /// One of these words, and the same for a person to read.
    Word(&'static [&'static str], &'static str),
    /// A whole number from 0 to this.
    UpTo(u64, &'static str),
    Flag,
}

/// What a call may set. Each was taken by Codex 0.169 under `--strict-config`.
const ALLOWED: &[(&str, Rule)] = &[
    ("hide_agent_reasoning", Rule::Flag),
    (
        "model_auto_compact_token_limit",
        Rule::UpTo(10_000_000, "a number of tokens"),
    ),
    ("model_context_window", Rule::UpTo(10_000_000, "a number of tokens")),
    ("model_reasoning_effort", Rule::Effort),
    (
        "model_reasoning_summary",
        Rule::Word(
            &["auto", "concise", "detailed", "none"],
            "one of auto, concise, detailed, none",
        ),
    ),
    (
        "model_verbosity",
        Rule::Word(&["low", "medium", "high"], "one of low, medium, high"),
    ),
    ("plan_mode_reasoning_effort", Rule::Effort),
    (
        "project_doc_max_bytes",
        Rule::UpTo(1 << 20, "a number of bytes up to 1048576"),
    ),
    ("show_raw_agent_reasoning", Rule::Flag),
    (
        "tool_output_token_limit",
        Rule::UpTo(1_000_000, "a number of tokens up to 1000000"),
    ),
];

/// What a call may not set, by the first name of the key, and why.
const REFUSED: &[(&[&str], &str)] = &[
    (&["model"], "pass the model as `model`"),
    (
        &[
            "base_instructions",
            "instructions",
            "model_instructions_file",
            "experimental_instructions_file",
        ],
        "pass the text as `base-instructions`",
    ),
    (&["developer_instructions"], "pass the text as `developer-instructions`"),
    (
        &["compact_prompt", "experimental_compact_prompt_file"],
        "pass the text as `compact-prompt`",
    ),
    (
        &["approval_policy", "approvals_reviewer"],
        "pass it as `approval-policy`",
    ),
    (
        &["profile", "profiles"],
        "this server has no profiles: set each key by itself, or have the operator change `[codex]`",
    ),
    (&["cwd"], "pass it as `cwd`"),
    (
        &[
            "sandbox",
            "sandbox_mode",
            "sandbox_permissions",
            "sandbox_workspace_write",
            "permissions",
            "default_permissions",
        ],
        "the container is the sandbox, and the operator's configuration shapes it",
    ),
    (
        &["projects", "project_root_markers"],
        "trusting a project lets its own files configure Codex",
    ),
    (
        &["mcp_servers", "apps", "plugins", "marketplaces", "skills", "agents"],
        "it would have Codex run or load programs that the operator did not name",
    ),
    (
        &["notify", "hooks", "zsh_path"],
        "it would have Codex run programs outside of its turn",
    ),
    (
        &["shell_environment_policy", "allow_login_shell"],
        "the operator decides what commands see",
    ),
    (
        &[
            "model_provider",
            "model_providers",
            "openai_base_url",
            "chatgpt_base_url",
            "oss_provider",
        ],
        "the operator decides where model requests go",
    ),
    (
        &["web_search", "tools", "web_search_mode"],
        "the operator decides which tools the model has",
    ),
    (&["features"], "the operator decides which features are on"),
    (
        &["analytics", "otel", "feedback", "history", "log_dir", "sqlite_home"],
        "the operator decides what is recorded and sent",
    ),
    (
        &[
            "cli_auth_credentials_store",
            "forced_login_method",
            "forced_chatgpt_workspace_id",
            "mcp_oauth_credentials_store",
        ],
        "credentials stay on the host",
    ),
];

/// Checks the overrides of a tool call. Dotted keys and nested objects say the same.
///
/// # Errors
/// The first key that a call may not set, with the reason; or a value that the setting can't have.
pub fn parse_overrides(asked: &Map<String, Value>) -> Result<Overrides, OverrideError> {
    let mut overrides = Map::new();
    for (key, value) in asked {
        let root = key.split('.').next().unwrap_or_default().trim();
        let refused = REFUSED.iter().find(|(names, _)| names.contains(&root));
        if let Some((_, reason)) = refused {
            return Err(OverrideError::Refused {
                key: shown(key),
                reason,
            });
        }
        let Some((name, rule)) = ALLOWED.iter().find(|(name, _)| *name == root) else {
            return Err(OverrideError::Unknown { key: shown(key) });
        };
        // All that may be set are single values, so anything below one of them is a wrong value.
        if root != key {
            return Err(OverrideError::Unknown { key: shown(key) });
        }
        let value = check(name, *rule, value)?;
        if overrides.insert((*name).to_owned(), value).is_some() {
            return Err(OverrideError::Twice { key: shown(key) });
        }
    }
    Ok(Overrides(overrides))
}

fn check(key: &str, rule: Rule, value: &Value) -> Result<Value, OverrideError> {
    let (fits, expected) = match rule {
        Rule::Effort => (
            value.as_str().is_some_and(|word| word.parse::<Effort>().is_ok()),
            Effort::EXPECTED,
        ),
        Rule::Word(words, expected) => (value.as_str().is_some_and(|word| words.contains(&word)), expected),
        Rule::UpTo(most, expected) => (value.as_u64().is_some_and(|number| number <= most), expected),
        Rule::Flag => (value.is_boolean(), "true or false"),
    };
    if fits {
        return Ok(value.clone());
    }
    Err(OverrideError::Value {
        key: key.to_owned(),
        expected,
        found: shown(&value.to_string()),
    })
}

/// A caller's text within an error: short, and on one line.
fn shown(text: &str) -> String {
    crate::wire::untrusted::Untrusted::new(text).one_line(80)
}

fn names() -> String {
    ALLOWED.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn parse(asked: Value) -> Result<Overrides, OverrideError> {
        let Value::Object(map) = asked else { panic!() };
        parse_overrides(&map)
    }

    fn refusal(asked: Value) -> String {
        parse(asked).unwrap_err().to_string()
    }

    #[test]
    fn what_a_call_may_set_is_handed_on() {
        let asked = json!({
            "model_reasoning_effort": "xhigh", "model_reasoning_summary": "none", "model_verbosity": "low",
            "hide_agent_reasoning": true, "tool_output_token_limit": 4000, "project_doc_max_bytes": 0,
        });
        assert_eq!(Value::Object(parse(asked.clone()).unwrap().as_map().clone()), asked);
    }

    #[test]
    fn what_reaches_beyond_the_model_is_refused_by_name_dotted_or_nested() {
        let table = [
            json!({"projects": {"/workspace": {"trust_level": "trusted"}}}),
            json!({"projects./workspace.trust_level": "trusted"}),
            json!({"mcp_servers": {"x": {"command": "evil"}}}),
            json!({"mcp_servers.x.command": "evil"}),
            json!({"notify": ["evil"]}),
            json!({"hooks.SessionStart": []}),
            json!({"sandbox_mode": "danger-full-access"}),
            json!({"sandbox_workspace_write.network_access": true}),
            json!({"shell_environment_policy": {"inherit": "all"}}),
            json!({"model_provider": "openai"}),
            json!({"model_providers.gateway.base_url": "http://evil"}),
            json!({"features": {"hooks": true}}),
            json!({"features.hooks": true}),
            json!({"tools": {"web_search": true}}),
            json!({" projects.x": 1}),
        ];
        for asked in table {
            let error = parse(asked.clone()).unwrap_err();
            assert!(matches!(error, OverrideError::Refused { .. }), "{asked}: {error}");
        }
    }

    #[test]
    fn refusals_teach() {
        insta::assert_snapshot!(refusal(json!({"model_provider": "openai"})), @"`config.model_provider` can't be set by a call: the operator decides where model requests go");
        insta::assert_snapshot!(refusal(json!({"compact_prompt": "x"})), @"`config.compact_prompt` can't be set by a call: pass the text as `compact-prompt`");
        insta::assert_snapshot!(refusal(json!({"model_reasoning_effort": "lots"})), @r#"`config.model_reasoning_effort` must be one of `none`, `minimal`, `low`, `medium`, `high`, `xhigh`, `max`, `ultra`, and is "lots""#);
        insta::assert_snapshot!(refusal(json!({"model_verbosity": {"x": 1}})), @r#"`config.model_verbosity` must be one of low, medium, high, and is {"x":1}"#);
        insta::assert_snapshot!(refusal(json!({"tool_output_token_limit": -1})), @"`config.tool_output_token_limit` must be a number of tokens up to 1000000, and is -1");
        insta::assert_snapshot!(refusal(json!({"model_verbosity.x": 1})), @"`config.model_verbosity.x` is none of the settings that a call may set: hide_agent_reasoning, model_auto_compact_token_limit, model_context_window, model_reasoning_effort, model_reasoning_summary, model_verbosity, plan_mode_reasoning_effort, project_doc_max_bytes, show_raw_agent_reasoning, tool_output_token_limit");
    }

    proptest! {
        #[test]
        fn nothing_but_the_allowlist_comes_through(key in "[a-z_. ]{0,24}", value in any::<bool>()) {
            if let Ok(overrides) = parse(json!({key: value})) {
                for name in overrides.as_map().keys() {
                    prop_assert!(ALLOWED.iter().any(|(allowed, _)| allowed == name));
                }
            }
        }
    }
}
