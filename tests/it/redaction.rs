//! Secrets in every public error: whichever field they came into, nothing that is printed shows them.
//!
//! An error reaches a person as text, a client as a line of JSON, a log in either, and a record of the audit: all of these pass the
//! one redactor, and are tried here as they are written there.

use codex_mcp::auth::broker::BrokerError;
use codex_mcp::auth::broker::refusal::Refusal;
use codex_mcp::auth::chatgpt::LoginError;
use codex_mcp::auth::secret::SecretError;
use codex_mcp::redact::Redactor;
use codex_mcp::session::error::{EndReason, SessionError};
use codex_mcp::workspace::root::RootError;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::io;
use std::path::PathBuf;

/// Every error with a field that could hold somebody's words, `secret` in each of them.
fn errors(secret: &str) -> Vec<Box<dyn std::error::Error>> {
    let text = || secret.to_owned();
    let path = || PathBuf::from(format!("/home/u/{secret}/file"));
    let failed = || io::Error::other(text());
    let provider = || "openai".parse().unwrap();
    vec![
        Box::new(Refusal::NotAllowed {
            method: text(),
            path: text(),
        }),
        Box::new(Refusal::KeyMissing {
            provider: provider(),
            reason: text(),
        }),
        Box::new(Refusal::KeyRefused {
            provider: provider(),
            key: text(),
            status: 401,
            message: text(),
        }),
        Box::new(Refusal::ProviderRefused {
            provider: provider(),
            status: 404,
            message: text(),
        }),
        Box::new(Refusal::Untrusted {
            provider: provider(),
            base_url: text(),
            reason: text(),
        }),
        Box::new(Refusal::Unreachable {
            provider: provider(),
            base_url: text(),
            reason: text(),
        }),
        Box::new(Refusal::Login(text())),
        Box::new(Refusal::LoginUnreachable(text())),
        Box::new(BrokerError::Key(Refusal::KeyMissing {
            provider: provider(),
            reason: text(),
        })),
        Box::new(SecretError::EnvironmentMissing { name: text() }),
        Box::new(SecretError::FileUnreadable {
            path: path(),
            error: failed(),
        }),
        Box::new(SecretError::FileNotRegular { path: path() }),
        Box::new(SecretError::FileExposed {
            path: path(),
            mode: 0o644,
        }),
        Box::new(SecretError::CommandNotStarted {
            program: text(),
            error: failed(),
        }),
        Box::new(SecretError::CommandTimeout { program: text() }),
        Box::new(LoginError::Unreachable {
            url: text(),
            reason: text(),
        }),
        Box::new(LoginError::Unanswered {
            url: text(),
            reason: text(),
        }),
        Box::new(SessionError::Files {
            what: "can't write",
            path: path(),
            source: failed(),
        }),
        Box::new(SessionError::NotStarted {
            engine: text(),
            stderr: text(),
        }),
        Box::new(SessionError::CodexMissing {
            image: text(),
            reason: text(),
        }),
        Box::new(SessionError::Ended(EndReason::Lost { why: text() })),
        Box::new(RootError::NotADirectory {
            path: path(),
            kind: "a file",
        }),
        Box::new(RootError::Unusable {
            path: path(),
            error: failed(),
        }),
    ]
}

/// As it would be anywhere in `text`, and as JSON spells it there.
fn shows(text: &str, secret: &str) -> bool {
    let spelled = json!(secret).to_string();
    text.contains(secret) || text.contains(spelled.trim_matches('"'))
}

proptest! {
    #[test]
    fn no_public_error_shows_a_secret(secret in "[A-Za-z0-9_.+/=-]{8,40}(\"|\\\\|é| )?[A-Za-z0-9]{4,12}") {
        // Words of the errors themselves are no secrets.
        prop_assume!(!errors("").iter().any(|error| shows(&format!("{error} {error:?}"), &secret)));
        let redactor = Redactor::default();
        redactor.learn(secret.as_bytes());
        let mut held = 0;
        for error in errors(&secret) {
            let (shown, debugged) = (error.to_string(), format!("{error:?}"));
            held += usize::from(shows(&shown, &secret));
            for text in [&shown, &debugged] {
                let printed = redactor.text(text);
                prop_assert!(!shows(&printed, &secret), "{printed}");
                let line = json!({"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": text}], "isError": true}});
                let written = redactor.json_line(line.to_string().as_bytes()).into_owned();
                let read: Value = serde_json::from_slice(&written).unwrap();
                prop_assert!(!shows(&read.to_string(), &secret), "{read}");
                prop_assert_eq!(&read["id"], 1);
            }
        }
        // Otherwise nothing was tried.
        prop_assert!(held >= 20, "{held}");
    }
}
