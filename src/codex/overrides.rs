//! What may be set of Codex's configuration, by a tool call's `config` or by the operator's `[codex.config]`: one allowlist,
//! each value checked. Pure.
//!
//! Both may make the model think longer or say less, and neither anything that concerns where requests go, what is
//! trusted, what runs, or what commands see: for the operator, codex-mcp has settings of its own for that. Codex itself checks only shapes (it takes any
//! word as an effort), so the values are checked here.

use crate::config::name::Effort;
use crate::config::{Origin, Sourced};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Checked overrides; made by [`parse_overrides`] and [`parse_operators`] only. Keys are single names of Codex's configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides(Map<String, Value>);

impl Overrides {
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }
}

/// Who asks: the reasons and remedies differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    Call,
    Operator,
}

impl Asker {
    /// What the key stands in.
    const fn table(self) -> &'static str {
        match self {
            Self::Call => "config",
            Self::Operator => "codex.config",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverrideError {
    #[error("`{}.{key}` can't be set{}: {reason}", .asker.table(), by(*.asker))]
    Refused {
        asker: Asker,
        key: String,
        reason: &'static str,
    },
    #[error("`{}.{key}` is none of the settings that {} set: {}", .asker.table(), may(*.asker), names())]
    Unknown { asker: Asker, key: String },
    #[error("`{}.{key}` must be {expected}, and is {found}", .asker.table())]
    Value {
        asker: Asker,
        key: String,
        expected: &'static str,
        found: String,
    },
    #[error("`{}` names `{key}` twice", .asker.table())]
    Twice { asker: Asker, key: String },
}

/// One of the operator's settings that can't be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {error}")]
pub struct OperatorsOverrideError {
    pub at: Origin,
    #[source]
    pub error: OverrideError,
}

fn by(asker: Asker) -> &'static str {
    match asker {
        Asker::Call => " by a call",
        Asker::Operator => "",
    }
}

fn may(asker: Asker) -> &'static str {
    match asker {
        Asker::Call => "a call may",
        Asker::Operator => "may be",
    }
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

/// What may be set. Each was taken by Codex 0.169 under `--strict-config`.
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

/// What may not be set, by the first name of the key, and why.
struct Refusal {
    names: &'static [&'static str],
    to_a_call: &'static str,
    to_the_operator: &'static str,
}

const REFUSED: &[Refusal] = &[
    Refusal {
        names: &["model"],
        to_a_call: "pass the model as `model`",
        to_the_operator: "set `codex.model`",
    },
    Refusal {
        names: &[
            "base_instructions",
            "instructions",
            "model_instructions_file",
            "experimental_instructions_file",
        ],
        to_a_call: "pass the text as `base-instructions`",
        to_the_operator: "a call passes the text as `base-instructions`",
    },
    Refusal {
        names: &["developer_instructions"],
        to_a_call: "pass the text as `developer-instructions`",
        to_the_operator: "a call passes the text as `developer-instructions`",
    },
    Refusal {
        names: &["compact_prompt", "experimental_compact_prompt_file"],
        to_a_call: "pass the text as `compact-prompt`",
        to_the_operator: "a call passes the text as `compact-prompt`",
    },
    Refusal {
        names: &["approval_policy", "approvals_reviewer"],
        to_a_call: "pass it as `approval-policy`",
        to_the_operator: "a call passes it as `approval-policy`",
    },
    Refusal {
        names: &["profile", "profiles"],
        to_a_call: "this server has no profiles: set each key by itself, or have the operator change `[codex]`",
        to_the_operator: "there are no profiles: set each key by itself",
    },
    Refusal {
        names: &["cwd"],
        to_a_call: "pass it as `cwd`",
        to_the_operator: "set `workspace.roots`",
    },
    Refusal {
        names: &[
            "sandbox",
            "sandbox_mode",
            "sandbox_permissions",
            "sandbox_workspace_write",
            "permissions",
            "default_permissions",
        ],
        to_a_call: "the container is the sandbox, and the operator's configuration shapes it",
        to_the_operator: "the container is the sandbox: `[limits]`, `[network]` and `[workspace]` shape it",
    },
    Refusal {
        names: &["projects", "project_root_markers"],
        to_a_call: "trusting a project lets its own files configure Codex",
        to_the_operator: "trusting a project lets its own files configure Codex",
    },
    Refusal {
        names: &["mcp_servers", "apps", "plugins", "marketplaces", "skills", "agents"],
        to_a_call: "it would have Codex run or load programs that the operator did not name",
        to_the_operator: "it would have Codex run or load programs beside what the model asks for",
    },
    Refusal {
        names: &["notify", "hooks", "zsh_path"],
        to_a_call: "it would have Codex run programs outside of its turn",
        to_the_operator: "it would have Codex run programs outside of its turn",
    },
    Refusal {
        names: &["shell_environment_policy", "allow_login_shell"],
        to_a_call: "the operator decides what commands see",
        to_the_operator: "commands see a fixed few variables; what they need beside those is a file of `[secrets.NAME]`",
    },
    Refusal {
        names: &[
            "model_provider",
            "model_providers",
            "openai_base_url",
            "chatgpt_base_url",
            "oss_provider",
        ],
        to_a_call: "the operator decides where model requests go",
        to_the_operator: "set `codex.provider` and `[providers.NAME]`",
    },
    Refusal {
        names: &["web_search", "tools", "web_search_mode"],
        to_a_call: "the operator decides which tools the model has",
        to_the_operator: "set `codex.web_search`; the other tools are fixed",
    },
    Refusal {
        names: &["features"],
        to_a_call: "the operator decides which features are on",
        to_the_operator: "which features are on is locked, because some of them reach for other hosts or run programs",
    },
    Refusal {
        names: &["analytics", "otel", "feedback", "history", "log_dir", "sqlite_home"],
        to_a_call: "the operator decides what is recorded and sent",
        to_the_operator: "Codex records and sends nothing beside what a session needs",
    },
    Refusal {
        names: &[
            "cli_auth_credentials_store",
            "forced_login_method",
            "forced_chatgpt_workspace_id",
            "mcp_oauth_credentials_store",
        ],
        to_a_call: "credentials stay on the host",
        to_the_operator: "credentials stay on the host: set `key` of `[providers.NAME]`",
    },
];

/// Checks the overrides of a tool call. Dotted keys and nested objects say the same.
///
/// # Errors
/// The first key that a call may not set, with the reason; or a value that the setting can't have.
pub fn parse_overrides(asked: &Map<String, Value>) -> Result<Overrides, OverrideError> {
    let mut overrides = Overrides::default();
    for (key, value) in asked {
        overrides.add(Asker::Call, key, value)?;
    }
    Ok(overrides)
}

/// Checks `[codex.config]`.
///
/// # Errors
/// As [`parse_overrides`], with file and line.
pub fn parse_operators(written: &BTreeMap<String, Sourced<Value>>) -> Result<Overrides, OperatorsOverrideError> {
    let mut overrides = Overrides::default();
    for (key, Sourced { value, origin }) in written {
        let added = overrides.add(Asker::Operator, key, value);
        added.map_err(|error| OperatorsOverrideError {
            at: origin.clone(),
            error,
        })?;
    }
    Ok(overrides)
}

impl Overrides {
    fn add(&mut self, asker: Asker, key: &str, value: &Value) -> Result<(), OverrideError> {
        let root = key.split('.').next().unwrap_or_default().trim();
        if let Some(refusal) = REFUSED.iter().find(|refusal| refusal.names.contains(&root)) {
            return Err(OverrideError::Refused {
                asker,
                key: shown(key),
                reason: match asker {
                    Asker::Call => refusal.to_a_call,
                    Asker::Operator => refusal.to_the_operator,
                },
            });
        }
        let unknown = || OverrideError::Unknown { asker, key: shown(key) };
        let (name, rule) = ALLOWED.iter().find(|(name, _)| *name == root).ok_or_else(unknown)?;
        // All that may be set are single values, so anything below one of them is a wrong value.
        if root != key {
            return Err(unknown());
        }
        let value = check(asker, name, *rule, value)?;
        if self.0.insert((*name).to_owned(), value).is_some() {
            return Err(OverrideError::Twice { asker, key: shown(key) });
        }
        Ok(())
    }
}

fn check(asker: Asker, key: &str, rule: Rule, value: &Value) -> Result<Value, OverrideError> {
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
        asker,
        key: key.to_owned(),
        expected,
        found: match asker {
            Asker::Call => shown(&value.to_string()),
            // `${NAME}` may have put something into it that belongs in no message.
            Asker::Operator => "something else".to_owned(),
        },
    })
}

/// A caller's text within an error: short, and on one line.
fn shown(text: &str) -> String {
    crate::wire::untrusted::Untrusted::new(text).one_line(80)
}

/// Every setting that may be set.
pub fn allowed() -> impl Iterator<Item = &'static str> {
    ALLOWED.iter().map(|(name, _)| *name)
}

fn names() -> String {
    allowed().collect::<Vec<_>>().join(", ")
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

    fn operators(value: Value) -> Result<Overrides, OperatorsOverrideError> {
        let Value::Object(map) = value else { panic!() };
        let origin = |line| Origin::File {
            path: "/u.toml".into(),
            line,
        };
        let written = (1..)
            .zip(map)
            .map(|(line, (name, value))| (name, Sourced::new(value, origin(line))));
        parse_operators(&written.collect())
    }

    #[test]
    fn the_operator_has_the_same_list_and_remedies_of_its_own() {
        let set = json!({"model_verbosity": "low", "tool_output_token_limit": 7});
        assert_eq!(operators(set.clone()).unwrap(), parse(set).unwrap());
        let refusal = |value| operators(value).unwrap_err().to_string();
        insta::assert_snapshot!(refusal(json!({"model_verbosity": "low", "notify": ["x"]})), @"/u.toml:2: `codex.config.notify` can't be set: it would have Codex run programs outside of its turn");
        insta::assert_snapshot!(refusal(json!({"model": "x"})), @"/u.toml:1: `codex.config.model` can't be set: set `codex.model`");
        insta::assert_snapshot!(refusal(json!({"model_verbosity": "sk-from-a-variable"})), @"/u.toml:1: `codex.config.model_verbosity` must be one of low, medium, high, and is something else");
        insta::assert_snapshot!(refusal(json!({"no_such": 1})), @"/u.toml:1: `codex.config.no_such` is none of the settings that may be set: hide_agent_reasoning, model_auto_compact_token_limit, model_context_window, model_reasoning_effort, model_reasoning_summary, model_verbosity, plan_mode_reasoning_effort, project_doc_max_bytes, show_raw_agent_reasoning, tool_output_token_limit");
        for name in REFUSED.iter().flat_map(|refusal| refusal.names) {
            assert!(
                operators(json!({*name: true})).is_err() && parse(json!({*name: true})).is_err(),
                "{name}"
            );
        }
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
