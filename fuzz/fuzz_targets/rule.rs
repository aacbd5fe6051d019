//! Network rules: what is accepted has one spelling, and that spelling means the same.

#![no_main]

use codex_mcp::config::host::Host;
use codex_mcp::config::rule::{DenyRule, Rule};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(rule) = text.parse::<Rule>() {
        let shown = rule.to_string();
        assert!(is_clean(&shown), "{text:?} became {shown:?}");
        assert_eq!(shown.parse::<Rule>().as_ref(), Ok(&rule), "{shown:?}");
    }
    if let Ok(rule) = text.parse::<DenyRule>() {
        let shown = rule.to_string();
        assert!(is_clean(&shown), "{text:?} became {shown:?}");
        assert_eq!(shown.parse::<DenyRule>().as_ref(), Ok(&rule), "{shown:?}");
    }
    if let Ok(host) = text.parse::<Host>() {
        let shown = host.in_authority();
        assert!(is_clean(&shown), "{text:?} became {shown:?}");
        assert_eq!(shown.parse::<Host>().as_ref(), Ok(&host), "{shown:?}");
        // A host is a rule for itself.
        let rule: Rule = shown.parse().expect("a host is a rule");
        assert!(rule.pattern.covers(&host), "{rule} does not cover {shown}");
    }
});

fn is_clean(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.:[]*/".contains(&byte))
}
