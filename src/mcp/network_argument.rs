//! A call's `network` → rules that narrow what the operator allowed. Pure.
//!
//! Nothing here can widen: a host is reached only where the operator's rules say so as well. So `*` may stand here, and
//! what the operator's own file would have to spell out as unrestricted needs no such word.

use crate::config::rule::{Rule, RuleError};
use crate::mcp::arguments::kind_of;
use crate::wire::untrusted::Untrusted;
use serde_json::{Map, Value};

/// Rules of one call.
pub const MAX_RULES: usize = 64;

/// What is wrong with a call's `network`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkArgumentError {
    #[error("there is no `network.{name}`: a call takes `network.allow` only, which narrows what the operator allowed")]
    Unknown { name: String },
    #[error(
        "`network.allow` is missing: list the rules that this thread keeps of what the operator allowed, `[]` for none"
    )]
    Missing,
    #[error("`network.allow` must be a list of rules, such as [\"api.example.com:443\"], not {actual}")]
    NotAList { actual: &'static str },
    #[error("`network.allow` has {found} rules; a call may have {MAX_RULES}")]
    TooMany { found: usize },
    #[error("`network.allow[{index}]` must be a string, not {actual}")]
    NotText { index: usize, actual: &'static str },
    #[error("`network.allow[{index}]` is {rule:?}: {reason}")]
    Rule {
        index: usize,
        rule: String,
        reason: RuleError,
    },
}

/// `{"allow": [RULE, …]}`.
pub fn parse_network(mut network: Map<String, Value>) -> Result<Vec<Rule>, NetworkArgumentError> {
    let allow = network.remove("allow");
    if let Some(name) = network.keys().next() {
        return Err(NetworkArgumentError::Unknown { name: shown(name) });
    }
    let rules = match allow {
        None | Some(Value::Null) => return Err(NetworkArgumentError::Missing),
        Some(Value::Array(rules)) => rules,
        Some(other) => {
            return Err(NetworkArgumentError::NotAList {
                actual: kind_of(&other),
            });
        }
    };
    if rules.len() > MAX_RULES {
        return Err(NetworkArgumentError::TooMany { found: rules.len() });
    }
    rules
        .iter()
        .enumerate()
        .map(|(index, rule)| parse_rule(index, rule))
        .collect()
}

fn parse_rule(index: usize, rule: &Value) -> Result<Rule, NetworkArgumentError> {
    let text = rule.as_str().ok_or_else(|| NetworkArgumentError::NotText {
        index,
        actual: kind_of(rule),
    })?;
    text.parse().map_err(|reason| NetworkArgumentError::Rule {
        index,
        rule: shown(text),
        reason,
    })
}

/// A caller's own words, short enough and harmless enough to repeat in an error.
fn shown(text: &str) -> String {
    Untrusted::new(text).one_line(60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parsed(value: Value) -> Result<Vec<String>, String> {
        let Value::Object(map) = value else {
            panic!("{value} is not an object")
        };
        match parse_network(map) {
            Ok(rules) => Ok(rules.iter().map(ToString::to_string).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn rules_are_read_as_the_operators_are_and_everything_may_be_named() {
        assert_eq!(
            parsed(json!({"allow": ["API.example.com", "*.example.org:8443", "192.0.2.0/24", "*"]})),
            Ok(vec![
                "api.example.com:443".to_owned(),
                "*.example.org:8443".to_owned(),
                "192.0.2.0/24:443".to_owned(),
                "*:443".to_owned()
            ])
        );
        assert_eq!(parsed(json!({"allow": []})), Ok(Vec::new()));
        let most = vec!["a.example"; MAX_RULES];
        assert_eq!(parsed(json!({"allow": most})).map(|rules| rules.len()), Ok(MAX_RULES));
    }

    #[test]
    fn each_error_names_the_rule_and_what_is_wrong_with_it() {
        let error = |value| parsed(value).expect_err("refused");
        insta::assert_snapshot!(error(json!({"allow": ["a.example", "https://b.example/"]})), @r#"`network.allow[1]` is "https://b.example/": a rule is `host`, `host:port`, `*.suffix`, an address or a network; no scheme, path or user belongs in it"#);
        insta::assert_snapshot!(error(json!({"allow": ["a.example:0"]})), @r#"`network.allow[0]` is "a.example:0": a port is a number from 1 to 65535, without sign or leading zeros"#);
        insta::assert_snapshot!(error(json!({"allow": [1]})), @"`network.allow[0]` must be a string, not a number");
        insta::assert_snapshot!(error(json!({"allow": "a.example"})), @r#"`network.allow` must be a list of rules, such as ["api.example.com:443"], not a string"#);
        insta::assert_snapshot!(error(json!({"allow": null})), @"`network.allow` is missing: list the rules that this thread keeps of what the operator allowed, `[]` for none");
        insta::assert_snapshot!(error(json!({"allow": [], "private": ["10.0.0.0/8"]})), @"there is no `network.private`: a call takes `network.allow` only, which narrows what the operator allowed");
        insta::assert_snapshot!(error(json!({"allow": vec!["a.example"; MAX_RULES + 1]})), @"`network.allow` has 65 rules; a call may have 64");
        let hostile = format!("\u{1b}[2J{}", "a".repeat(5000));
        let text = error(json!({"allow": [hostile]}));
        assert!(!text.contains('\u{1b}') && text.len() < 400, "{text}");
    }
}
