//! `codex-mcp auth status` as a person starts it: what it shows, what it asks, and what it never prints.

use crate::chatgpt::{ChatGpt, Fault};
use assert_cmd::Command;
use codex_mcp::scripted_model::{Access, ScriptedModel};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

struct Home(TempDir);

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Home {
    fn new(config: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join(".config/codex-mcp");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("config.toml"), config).unwrap();
        Self(home)
    }

    fn with_login(chatgpt: &ChatGpt) -> Self {
        let home = Self::new(&format!(
            "[auth]\nmode = \"chatgpt\"\nchatgpt_base_url = \"{}\"\ntoken_url = \"{}\"\n",
            chatgpt.base_url(),
            chatgpt.token_url()
        ));
        fs::create_dir(home.0.path().join(".codex")).unwrap();
        fs::write(home.login(), chatgpt.log_in()).unwrap();
        home.chmod(0o600);
        home
    }

    fn login(&self) -> std::path::PathBuf {
        self.0.path().join(".codex/auth.json")
    }

    fn chmod(&self, mode: u32) {
        fs::set_permissions(self.login(), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn tokens(&self) -> Vec<String> {
        let file: Value = serde_json::from_slice(&fs::read(self.login()).unwrap()).unwrap();
        let names = ["access_token", "refresh_token", "id_token"];
        names
            .map(|name| file["tokens"][name].as_str().unwrap().to_owned())
            .into()
    }

    async fn status(&self, args: &[&str], key: Option<&str>) -> Ran {
        let mut command = Command::cargo_bin("codex-mcp").unwrap();
        command
            .args(["auth", "status"])
            .args(args)
            .env_clear()
            .env("HOME", self.0.path())
            .current_dir(self.0.path());
        if let Some(key) = key {
            command.env("OPENAI_API_KEY", key);
        }
        // The servers are on this runtime.
        let output = tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap();
        Ran {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    #[track_caller]
    fn says(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        for word in words {
            assert!(self.stdout.contains(word), "{word:?} is not in:\n{}", self.stdout);
        }
    }

    #[track_caller]
    fn never(&self, secrets: &[String]) {
        for secret in secrets {
            assert!(
                !self.stdout.contains(secret) && !self.stderr.contains(secret),
                "{secret}"
            );
        }
    }
}

#[tokio::test]
async fn a_key_is_shown_by_its_source_and_tried() {
    let model = ScriptedModel::start(Access::Bearer("sk-of-this-test".into()))
        .await
        .unwrap();
    let home = Home::new(&format!(
        "[providers.openai]\nbase_url = \"{}\"\nkey = {{ env = \"OPENAI_API_KEY\" }}\n",
        model.base_url()
    ));
    let source = "environment variable OPENAI_API_KEY";
    let good = home.status(&[], Some("sk-of-this-test")).await;
    good.says(
        0,
        &["mode           key", source, "can be read", "models         scripted"],
    );
    good.never(&["sk-of-this-test".to_owned()]);
    let missing = home.status(&[], None).await;
    missing.says(7, &[source, "is not set"]);
    let wrong = home.status(&[], Some("sk-another-one")).await;
    wrong.says(7, &[source, "can be read", "HTTP 401", "Incorrect API key"]);
    wrong.never(&["sk-another-one".to_owned()]);
    let json: Value = serde_json::from_str(&home.status(&["--json"], Some("sk-of-this-test")).await.stdout).unwrap();
    assert_eq!(json["mode"]["value"], "key");
    assert_eq!(json["models"]["found"][0], "scripted");
}

#[tokio::test]
async fn a_login_is_shown_and_left_alone_while_it_is_good() {
    let chatgpt = ChatGpt::start().await;
    chatgpt.set_lifetime(120);
    let home = Home::with_login(&chatgpt);
    let ran = home.status(&[], None).await;
    ran.says(
        0,
        &[
            "mode           chatgpt",
            "acc-1, plus, me@example.com",
            "good until",
            "not used yet",
            "gpt-6-sol, gpt-5.5",
        ],
    );
    ran.never(&home.tokens());
    assert_eq!(chatgpt.counts().token_requests, 0);
    home.status(&["--json"], None).await.never(&home.tokens());
}

#[tokio::test]
async fn an_expired_login_is_refreshed_and_that_is_said() {
    let chatgpt = ChatGpt::start().await;
    chatgpt.set_lifetime(-60);
    let home = Home::with_login(&chatgpt);
    chatgpt.set_lifetime(3600);
    let before = home.tokens();
    let ran = home.status(&[], None).await;
    ran.says(0, &["had expired and was refreshed", "gpt-6-sol"]);
    ran.never(&before);
    ran.never(&home.tokens());
    assert_eq!((chatgpt.counts().refreshes, chatgpt.counts().reuses), (1, 0));
    assert_ne!(home.tokens(), before);
}

#[tokio::test]
async fn a_login_that_is_no_good_says_what_to_run() {
    let chatgpt = ChatGpt::start().await;
    chatgpt.set_lifetime(-60);
    let home = Home::with_login(&chatgpt);
    home.chmod(0o644);
    home.status(&[], None).await.says(7, &["mode 0644", "chmod 600"]);
    home.chmod(0o600);
    chatgpt.fault(Fault::Refuse(401, "refresh_token_reused"));
    home.status(&[], None).await.says(7, &["used already", "codex login"]);
    fs::remove_file(home.login()).unwrap();
    home.status(&[], None)
        .await
        .says(7, &["there is no Codex login", "codex login"]);
    let other = home.status(&["--provider", "openrouter"], None).await;
    assert_eq!(other.code, 3, "{}", other.stdout);
    assert!(other.stderr.contains("auth.mode"), "{}", other.stderr);
}
