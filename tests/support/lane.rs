//! The engines that a test runs on. `scripts/engines.sh` starts them and says which there are (ENGINE_TEST_*).

use std::path::PathBuf;
use std::process::Command;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    RootfulPodman,
    RootlessPodman,
    Docker,
}

impl Lane {
    pub fn name(self) -> &'static str {
        match self {
            Self::RootfulPodman => "rootful-podman",
            Self::RootlessPodman => "rootless-podman",
            Self::Docker => "docker",
        }
    }

    pub fn runtime(self) -> &'static str {
        match self {
            Self::RootfulPodman | Self::RootlessPodman => "podman",
            Self::Docker => "docker",
        }
    }

    /// Whether this machine has the lane. In CI a missing one is a failure, never a skip.
    pub fn is_here(self) -> bool {
        let lanes = std::env::var("ENGINE_TEST_LANES").unwrap_or_default();
        let here = lanes.split_whitespace().any(|lane| lane == self.name());
        assert!(
            here || std::env::var("CI").as_deref() != Ok("true"),
            "{} is wanted in CI, and ENGINE_TEST_LANES is {lanes:?}",
            self.name()
        );
        if !here {
            eprintln!("skipped: no {} here (scripts/test starts the engines)", self.name());
        }
        here
    }

    /// The ordinary user of this lane, where the tests run as root.
    pub fn user(self) -> Option<String> {
        (self == Self::RootlessPodman)
            .then(|| std::env::var("ENGINE_TEST_USER").ok())
            .flatten()
    }

    /// A command run as this lane's user, with a plain environment.
    pub fn command(self, program: &str) -> Command {
        let Some(user) = self.user() else {
            return Command::new(program);
        };
        let entry = nix::unistd::User::from_name(&user).unwrap().unwrap();
        let mut command = Command::new("/usr/bin/setpriv");
        command
            .args([
                "--reuid".to_owned(),
                entry.uid.to_string(),
                "--regid".to_owned(),
                entry.gid.to_string(),
                "--init-groups".to_owned(),
                "--".to_owned(),
                program.to_owned(),
            ])
            .env_clear()
            .env("HOME", &entry.dir)
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("XDG_RUNTIME_DIR", format!("/run/user/{}", entry.uid))
            .current_dir(&entry.dir);
        command
    }

    /// The program under test, as this lane's user.
    pub fn codex_mcp(self) -> Command {
        self.command(program().to_str().unwrap())
    }

    /// The engine's own client, as this lane's user.
    pub fn engine(self) -> Command {
        self.command(self.runtime())
    }

    /// Names of all containers of ours in any state, as the engine lists them.
    pub fn containers(self) -> Vec<String> {
        self.listed(&["ps", "-a"])
    }

    pub fn running(self) -> Vec<String> {
        self.listed(&["ps"])
    }

    /// Names of all containers in any state, half-made ones without labels too.
    pub fn all_containers(self) -> Vec<String> {
        match self {
            Self::Docker => self.every(&[]),
            Self::RootfulPodman | Self::RootlessPodman => self.every(&["--external"]),
        }
    }

    /// Names of those that a process owns.
    pub fn containers_of(self, owner: u32) -> Vec<String> {
        self.every(&["--filter", &format!("label=io.github.codex-mcp.owner-pid={owner}")])
    }

    fn every(self, args: &[&str]) -> Vec<String> {
        let mut engine = self.engine();
        let output = engine
            .args(["ps", "-a", "--format", "{{.Names}}"])
            .args(args)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    fn listed(self, args: &[&str]) -> Vec<String> {
        let output = self
            .engine()
            .args(args)
            .args([
                "--filter",
                "label=io.github.codex-mcp.session",
                "--format",
                "{{.Names}}",
            ])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

/// The copy that all lanes can read, where `scripts/engines.sh` made one.
pub fn program() -> PathBuf {
    std::env::var_os("ENGINE_TEST_PROGRAM").map_or_else(|| env!("CARGO_BIN_EXE_codex-mcp").into(), PathBuf::from)
}
