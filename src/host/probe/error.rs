//! Why there is no usable engine, and what mends it.

use crate::host::facts::EngineKind;
use crate::supervise::command::CommandLine;
use crate::supervise::output::OutputError;
use crate::supervise::owner::OwnerError;
use std::fmt;
use std::io;

#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("{kind} is not installed, or not on PATH. {}", install(*kind))]
    NotInstalled { kind: EngineKind },
    #[error(
        "no container engine is installed: neither podman nor docker is on PATH. {}",
        install(EngineKind::Podman)
    )]
    NoEngine,
    #[error("neither engine is usable here.\npodman: {podman}\ndocker: {docker}")]
    NeitherUsable {
        podman: Box<ProbeError>,
        docker: Box<ProbeError>,
    },
    #[error(
        "docker's daemon does not answer: {stderr}\nStart it (`sudo systemctl start docker`; a remote one: check \
         DOCKER_HOST and `docker context ls`), or use podman, which needs none (`--runtime podman`)."
    )]
    DaemonDown { stderr: String },
    #[error(
        "this user may not talk to docker's daemon: {stderr}\nUse podman, which needs no such right (`--runtime \
         podman`), or let the user in with `sudo usermod -aG docker \"$USER\"` and a new login; that is as good as \
         root on this machine."
    )]
    SocketDenied { stderr: String },
    #[error("`docker` here is podman's stand-in for it. Use `--runtime podman`.")]
    DockerIsPodman,
    #[error("docker's daemon runs {os} containers; codex-mcp needs Linux ones.")]
    NotLinux { os: String },
    #[error(
        "podman is set to a remote service, where the session's files would not be. Use it on this machine: unset \
         CONTAINER_HOST, and `remote` in containers.conf."
    )]
    RemotePodman,
    /// The client itself failed.
    #[error("`{command}` failed ({status}): {stderr}\n{}", repair(command))]
    Broken {
        command: CommandLine,
        status: std::process::ExitStatus,
        stderr: String,
    },
    #[error(
        "cannot read what `{command}` says: {reason}\nIs it older than podman 3.4 or docker 20.10? Then update it."
    )]
    Unreadable { command: CommandLine, reason: String },
    #[error(
        "podman is installed, but no OCI runtime starts a container here:{}\nInstall another one: `sudo apt-get \
         install runc` (Debian, Ubuntu) or `sudo dnf install runc` (Fedora, RHEL).",
        Attempts(attempts)
    )]
    NoRuntimeStarts { attempts: Vec<FailedAttempt> },
    #[error("cannot prepare a trial container in {}: {source}", path.display())]
    Trial {
        path: std::path::PathBuf,
        source: io::Error,
    },
    #[error(transparent)]
    Command(#[from] OutputError),
    #[error(transparent)]
    Owner(#[from] OwnerError),
    #[error("cannot read {what}: {source}")]
    Kernel { what: &'static str, source: io::Error },
}

/// One runtime that did not start a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedAttempt {
    pub runtime: String,
    /// What podman said.
    pub reason: String,
}

impl ProbeError {
    /// Neither engine can be used: said once where neither is installed.
    pub(super) fn neither(podman: Self, docker: Self) -> Self {
        match (podman, docker) {
            (Self::NotInstalled { .. }, Self::NotInstalled { .. }) => Self::NoEngine,
            // Where only one is there, its trouble is what there is to mend.
            (Self::NotInstalled { .. }, docker) => docker,
            (podman, Self::NotInstalled { .. }) => podman,
            (podman, docker) => Self::NeitherUsable {
                podman: Box::new(podman),
                docker: Box::new(docker),
            },
        }
    }
}

fn install(kind: EngineKind) -> &'static str {
    match kind {
        EngineKind::Podman => {
            "Install podman: `sudo apt-get install podman uidmap` (Debian, Ubuntu) or `sudo dnf install podman` \
             (Fedora, RHEL)."
        }
        EngineKind::Docker => {
            "Install docker: `sudo apt-get install docker.io` (Debian, Ubuntu) or `sudo dnf install moby-engine` \
             (Fedora); or use podman, which needs no daemon (`--runtime podman`)."
        }
    }
}

fn repair(command: &CommandLine) -> String {
    format!(
        "Run `{}` by hand; sessions work once it does.",
        command.program.display()
    )
}

struct Attempts<'a>(&'a [FailedAttempt]);

impl fmt::Display for Attempts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|attempt| write!(f, "\n  {}: {}", attempt.runtime, attempt.reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(kind: EngineKind) -> ProbeError {
        ProbeError::NotInstalled { kind }
    }

    fn down() -> ProbeError {
        ProbeError::DaemonDown {
            stderr: "down".to_owned(),
        }
    }

    #[test]
    fn the_error_of_both_is_the_one_to_mend() {
        use EngineKind::{Docker, Podman};
        assert!(matches!(
            ProbeError::neither(missing(Podman), missing(Docker)),
            ProbeError::NoEngine
        ));
        assert!(matches!(
            ProbeError::neither(missing(Podman), down()),
            ProbeError::DaemonDown { .. }
        ));
        let broken = ProbeError::NoRuntimeStarts { attempts: Vec::new() };
        assert!(matches!(
            ProbeError::neither(broken, missing(Docker)),
            ProbeError::NoRuntimeStarts { .. }
        ));
        let both = ProbeError::neither(ProbeError::RemotePodman, down()).to_string();
        assert!(
            both.contains("CONTAINER_HOST") && both.contains("systemctl start docker"),
            "{both}"
        );
    }

    #[test]
    fn each_error_names_what_mends_it() {
        assert!(ProbeError::NoEngine.to_string().contains("apt-get install podman"));
        let attempts = vec![FailedAttempt {
            runtime: "crun".to_owned(),
            reason: "cgroups in hybrid mode not supported".to_owned(),
        }];
        let text = ProbeError::NoRuntimeStarts { attempts }.to_string();
        assert!(
            text.contains("\n  crun: cgroups in hybrid") && text.contains("install runc"),
            "{text}"
        );
    }

    #[test]
    fn the_cause_is_told() {
        let source = || io::Error::other("denied");
        let path = "/state".into();
        let error = ProbeError::Trial { path, source: source() };
        assert_eq!(error.to_string(), "cannot prepare a trial container in /state: denied");
        let what = "/proc/self/limits";
        let error = ProbeError::Kernel { what, source: source() };
        assert_eq!(error.to_string(), "cannot read /proc/self/limits: denied");
    }
}
