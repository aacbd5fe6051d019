//! What `auth status` prints: for a person, and as JSON. Pure.

use crate::config::{Origin, SecretSource};
use crate::session::sign_in::{Expired, Login, Outcome, RefreshTokenState, SignIn, SignInCredential};
use serde_json::json;
use std::fmt::Display;

/// A line each: what, and what is known of it.
pub fn human(sign_in: &SignIn) -> String {
    let mut lines = vec![
        line("mode", format!("{} ({})", sign_in.mode.value, sign_in.mode.origin)),
        line(
            "provider",
            format!("{} ({})", sign_in.provider.value, sign_in.provider.origin),
        ),
        line(
            "address",
            format!("{} ({})", sign_in.base_url.value, sign_in.base_url.origin),
        ),
    ];
    match &sign_in.credential {
        SignInCredential::None => lines.push(line("key", "none is set, and none is sent")),
        SignInCredential::Key { source, readable } => {
            lines.push(line("key", format!("{} ({})", described(&source.value), source.origin)));
            lines.push(match readable {
                Outcome::Found(()) => line("", "can be read"),
                Outcome::Failed(reason) => line("", reason),
            });
        }
        SignInCredential::Login { file, file_from, login } => {
            lines.push(line("login", format!("{} ({})", file.display(), where_from(file_from))));
            match login {
                Outcome::Found(login) => lines.extend(login_lines(login)),
                Outcome::Failed(reason) => lines.push(line("", reason)),
            }
        }
    }
    match &sign_in.models {
        Outcome::Found(models) if models.is_empty() => lines.push(line("models", "the provider lists none")),
        Outcome::Found(models) => {
            let names: Vec<String> = models.iter().map(ToString::to_string).collect();
            lines.push(line("models", names.join(", ")));
        }
        Outcome::Failed(reason) => lines.push(line("models", format!("not known: {reason}"))),
    }
    lines.join("\n")
}

fn login_lines(login: &Login) -> Vec<String> {
    let known = [Some(&login.account), login.plan.as_ref(), login.email.as_ref()];
    let account: Vec<&str> = known.into_iter().flatten().map(String::as_str).collect();
    let until = match &login.expires {
        Some(moment) => format!("until {moment}"),
        None => "it does not say until when".to_owned(),
    };
    let access = match login.expired {
        Expired::No => format!("good {until}"),
        Expired::Refreshed => format!("had expired and was refreshed, good {until}"),
        Expired::Yes => format!("expired, {until}"),
    };
    let refresh = match login.refresh_token {
        RefreshTokenState::Ready => "there, not used yet",
        RefreshTokenState::Spent => {
            "sent once already, and not sent again; log in anew before the access token ends: codex login"
        }
        RefreshTokenState::Missing => "none; log in anew before the access token ends: codex login",
    };
    vec![
        line("account", account.join(", ")),
        line("access token", access),
        line("refresh token", refresh),
    ]
}

fn line(what: &str, known: impl Display) -> String {
    format!("{what:<15}{known}")
}

fn described(source: &SecretSource) -> String {
    match source {
        SecretSource::Env(name) => format!("environment variable {name}"),
        SecretSource::File(path) => format!("file {}", path.display()),
        // Its arguments are the operator's business.
        SecretSource::Command(argv) => format!("what {} prints", argv.first().map_or("a command", String::as_str)),
    }
}

fn where_from(origin: &Origin) -> String {
    match origin {
        Origin::Default => "where Codex keeps it".to_owned(),
        origin => origin.to_string(),
    }
}

pub fn json(sign_in: &SignIn) -> String {
    format!("{:#}", json!(sign_in))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sourced;
    use crate::config::auth::AuthMode;

    fn sign_in(credential: SignInCredential) -> SignIn {
        SignIn {
            mode: Sourced::new(AuthMode::ChatGpt, Origin::Default),
            provider: Sourced::new("openai".parse().unwrap(), Origin::Default),
            base_url: Sourced::new("https://b.example/codex".parse().unwrap(), Origin::Default),
            credential,
            models: Outcome::Found(vec!["gpt-5.5".parse().unwrap(), "gpt-6-sol".parse().unwrap()]),
        }
    }

    fn login() -> Login {
        Login {
            account: "acc-1".into(),
            plan: Some("plus".into()),
            email: None,
            expires: Some("2026-11-22T13:50:05Z".into()),
            expired: Expired::Refreshed,
            refresh_token: RefreshTokenState::Ready,
        }
    }

    fn with_login(login: Outcome<Login>) -> SignIn {
        sign_in(SignInCredential::Login {
            file: "/home/u/.codex/auth.json".into(),
            file_from: Origin::Default,
            login,
        })
    }

    #[test]
    fn a_login_is_shown_with_what_it_gives() {
        insta::assert_snapshot!(human(&with_login(Outcome::Found(login()))), @r"
        mode           chatgpt (default)
        provider       openai (default)
        address        https://b.example/codex (default)
        login          /home/u/.codex/auth.json (where Codex keeps it)
        account        acc-1, plus
        access token   had expired and was refreshed, good until 2026-11-22T13:50:05Z
        refresh token  there, not used yet
        models         gpt-5.5, gpt-6-sol
        ");
    }

    #[test]
    fn what_does_not_work_says_why() {
        let mut broken = with_login(Outcome::Failed("there is no Codex login in X".into()));
        broken.models = Outcome::Failed("there is no login that could ask".into());
        insta::assert_snapshot!(human(&broken), @r"
        mode           chatgpt (default)
        provider       openai (default)
        address        https://b.example/codex (default)
        login          /home/u/.codex/auth.json (where Codex keeps it)
                       there is no Codex login in X
        models         not known: there is no login that could ask
        ");
        let key = sign_in(SignInCredential::Key {
            source: Sourced::new(
                SecretSource::Command(vec!["pass".into(), "show".into()]),
                Origin::Environment { name: "X" },
            ),
            readable: Outcome::Failed("pass failed".into()),
        });
        let text = human(&key);
        assert!(
            text.contains("what pass prints (environment X)\n               pass failed"),
            "{text}"
        );
    }

    #[test]
    fn programs_get_the_same() {
        insta::assert_snapshot!(json(&with_login(Outcome::Found(login()))));
    }
}
