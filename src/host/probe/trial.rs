//! Starts one trivial container with podman, to see which OCI runtime really can.
//!
//! `podman info` only says which one is configured. On hybrid cgroups crun refuses every start ("cgroups in hybrid
//! mode not supported") while runc beside it works; nothing short of a start tells. No image is needed: the root
//! file system is a directory with this program in it, which is static.

use super::Probe;
use super::error::{FailedAttempt, ProbeError};
use super::podman::OciRuntime;
use super::trial_cache::{Key, recall, remember};
use crate::host::container_labels::{self, TRIAL};
use crate::supervise::command::CommandLine;
use crate::supervise::output::{self, Bounds, OutputError};
use crate::supervise::owner::Owner;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

/// What is tried, and with what.
#[derive(Debug, Clone, Copy)]
pub struct Trial<'a> {
    pub program: &'a Path,
    pub version: &'a str,
    pub default: &'a OciRuntime,
    pub nofile_hard: u64,
    pub nproc_hard: u64,
    pub owner: &'a Owner,
    pub uid: u32,
}

/// Those that podman knows by name without configuration and that fit any machine.
const KNOWN: [&str; 2] = ["crun", "runc"];

/// Where podman looks for runtimes whatever PATH says (containers.conf(5), `[engine.runtimes]`): an ordinary user's
/// PATH lacks `sbin`.
const SYSTEM_DIRS: &str = "/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin:/sbin:/bin:/run/current-system/sw/bin";

const BOUNDS: Bounds = Bounds {
    deadline: Duration::from_secs(60),
    stdout: 64 << 10,
};

/// `None` where the engine's default starts a container, else the name of one that does.
pub(super) async fn runtime_that_starts(probe: Probe<'_>, trial: Trial<'_>) -> Result<Option<String>, ProbeError> {
    let others: Vec<(&str, PathBuf)> = KNOWN
        .into_iter()
        .filter(|name| *name != trial.default.name)
        .filter_map(|name| Some((name, probe.which_or_in(name, SYSTEM_DIRS)?)))
        .collect();
    let programs = [trial.program, &trial.default.path];
    let programs = programs
        .into_iter()
        .chain(others.iter().map(|(_, path)| path.as_path()));
    let key = Key::new(programs, trial.version, trial.owner, trial.uid);
    if let Some(known) = recall(probe.state_dir, &key) {
        return Ok(known);
    }

    let root = Root::make(probe.state_dir, probe.static_binary).map_err(|source| ProbeError::Trial {
        path: probe.state_dir.to_owned(),
        source,
    })?;
    let mut attempts = Vec::new();
    let candidates = std::iter::once(None).chain(others.iter().map(|(name, _)| Some(*name)));
    for runtime in candidates {
        match attempt(probe, &command(&trial, runtime, root.path())).await? {
            Attempt::Started => {
                let outcome = runtime.map(str::to_owned);
                if let Err(error) = remember(probe.state_dir, key, outcome.clone()) {
                    tracing::debug!(%error, "cannot remember the outcome of the trial");
                }
                return Ok(outcome);
            }
            Attempt::Failed(reason) => attempts.push(FailedAttempt {
                runtime: runtime.unwrap_or(&trial.default.name).to_owned(),
                reason,
            }),
        }
    }
    Err(ProbeError::NoRuntimeStarts { attempts })
}

enum Attempt {
    Started,
    Failed(String),
}

async fn attempt(probe: Probe<'_>, command: &CommandLine) -> Result<Attempt, ProbeError> {
    match output::run(probe.spawner, command, probe.env, BOUNDS).await {
        Ok(output) if program_ran(output.status) => Ok(Attempt::Started),
        Ok(output) if output.stderr.is_empty() => Ok(Attempt::Failed(output.status.to_string())),
        Ok(output) => Ok(Attempt::Failed(output.stderr)),
        Err(error @ OutputError::TimedOut { .. }) => Ok(Attempt::Failed(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

/// Podman keeps 125 to 127 for what happened before the program ran (podman-run(1), "Exit Status"); with any other
/// status the runtime did its part.
fn program_ran(status: ExitStatus) -> bool {
    status.code().is_some_and(|code| !(125..=127).contains(&code))
}

/// Only what a start needs, and whose it is: where this process is killed between podman's create and start, the next
/// server removes what is left as it removes a session's. Labels of SELinux are switched off: the trial asks whether the runtime works, not
/// whether this directory is labelled for containers.
fn command(trial: &Trial<'_>, runtime: Option<&str>, root: &Path) -> CommandLine {
    let mut command = CommandLine::new(trial.program);
    if let Some(runtime) = runtime {
        command = command.args(["--runtime", runtime]);
    }
    // Above a hard limit of ours podman's own defaults fail, see `engine::capabilities`.
    let nofile = format!("nofile={0}:{0}", trial.nofile_hard);
    let nproc = format!("nproc={0}:{0}", trial.nproc_hard);
    let labels = container_labels::of(TRIAL, trial.owner);
    let labels = labels.into_iter().flat_map(|label| ["--label".to_owned(), label]);
    command
        .args([
            "run",
            "--rm",
            "--network",
            "none",
            "--log-driver",
            "none",
            "--cap-drop",
            "all",
        ])
        .args(labels)
        .args(["--security-opt", "label=disable", "--timeout", "30"])
        .args(["--ulimit", &nofile, "--ulimit", &nproc])
        .arg("--rootfs")
        .arg(root)
        .args([PROGRAM_INSIDE, "--version"])
}

const PROGRAM_INSIDE: &str = "/codex-mcp";

/// A directory that is a root file system; removed when dropped.
struct Root(tempfile::TempDir);

impl Root {
    fn make(state_dir: &Path, static_binary: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(state_dir)?;
        let dir = tempfile::Builder::new().prefix("probe-").tempdir_in(state_dir)?;
        let inside = dir.path().join(PROGRAM_INSIDE.trim_start_matches('/'));
        // A copy and not a link: the installed file may be another user's, with modes of its own.
        fs::copy(static_binary, &inside)?;
        fs::set_permissions(&inside, Permissions::from_mode(0o755))?;
        Ok(Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests write an engine of their own")]
mod tests {
    use super::*;
    use crate::supervise::environment::Environment;
    use crate::supervise::spawner::Spawner;

    fn owner() -> Owner {
        Owner {
            pid: 1,
            start_ticks: 1,
            boot_id: "boot".to_owned(),
        }
    }

    /// A directory with an engine of our own making, and beside it runtimes to be found.
    struct FakeMachine {
        dir: tempfile::TempDir,
    }

    impl FakeMachine {
        fn new(engine: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for (name, text) in [("podman", engine), ("crun", "#!/bin/sh"), ("runc", "#!/bin/sh")] {
                let path = dir.path().join(name);
                fs::write(&path, text).unwrap();
                fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
            }
            Self { dir }
        }

        async fn probe(&self) -> Result<Option<String>, ProbeError> {
            let spawner = Spawner::new().unwrap();
            let path = format!("relative:{}:/usr/bin:/bin", self.dir.path().display());
            let env: Environment = [("PATH".into(), path.into())].into_iter().collect();
            let program = self.dir.path().join("podman");
            let default = OciRuntime {
                name: "crun".to_owned(),
                path: self.dir.path().join("crun"),
            };
            let trial = Trial {
                program: &program,
                version: "4.3.1",
                default: &default,
                nofile_hard: 1000,
                nproc_hard: 2000,
                owner: &owner(),
                uid: 1000,
            };
            let probe = Probe {
                spawner: &spawner,
                env: &env,
                state_dir: &self.dir.path().join("state"),
                static_binary: Path::new("/bin/true"),
            };
            runtime_that_starts(probe, trial).await
        }

        /// How many times the engine was asked to start something.
        fn starts(&self) -> usize {
            fs::read_to_string(self.dir.path().join("starts"))
                .unwrap_or_default()
                .lines()
                .count()
        }
    }

    const ONLY_RUNC: &str = r#"#!/bin/sh
echo start >> "${0%/*}/starts"
case "$*" in
  "--runtime runc run "*) exit 0;;
  *) echo "cgroups in hybrid mode not supported" >&2; exit 126;;
esac
"#;

    #[tokio::test]
    async fn the_default_is_tried_first_and_then_the_other_once() {
        let machine = FakeMachine::new(ONLY_RUNC);
        assert_eq!(machine.probe().await.unwrap().as_deref(), Some("runc"));
        assert_eq!(machine.starts(), 2);
        assert_eq!(machine.probe().await.unwrap().as_deref(), Some("runc"));
        assert_eq!(machine.starts(), 2, "the outcome was not remembered");
    }

    #[tokio::test]
    async fn a_default_that_works_is_not_named() {
        let machine = FakeMachine::new("#!/bin/sh\necho start >> \"${0%/*}/starts\"\n");
        assert_eq!(machine.probe().await.unwrap(), None);
        assert_eq!(machine.starts(), 1);
        let left: Vec<_> = fs::read_dir(machine.dir.path().join("state")).unwrap().collect();
        assert_eq!(left.len(), 1, "only the cache stays: {left:?}");
    }

    #[tokio::test]
    async fn all_failures_are_told_and_none_is_remembered() {
        let machine = FakeMachine::new(&ONLY_RUNC.replace("--runtime runc run", "--runtime none run"));
        let Err(ProbeError::NoRuntimeStarts { attempts }) = machine.probe().await else {
            panic!("a container was started");
        };
        let names: Vec<_> = attempts.iter().map(|attempt| attempt.runtime.as_str()).collect();
        assert_eq!(names, ["crun", "runc"]);
        assert_eq!(attempts[0].reason, "cgroups in hybrid mode not supported");
        assert!(machine.probe().await.is_err());
        assert_eq!(machine.starts(), 4);
    }

    #[tokio::test]
    async fn a_program_that_fails_inside_was_started_all_the_same() {
        assert_eq!(FakeMachine::new("#!/bin/sh\nexit 101\n").probe().await.unwrap(), None);
    }

    #[test]
    fn the_command_is_this() {
        let default = OciRuntime {
            name: "crun".to_owned(),
            path: "/usr/bin/crun".into(),
        };
        let trial = Trial {
            program: Path::new("/usr/bin/podman"),
            version: "4.3.1",
            default: &default,
            nofile_hard: 20000,
            nproc_hard: 32768,
            owner: &owner(),
            uid: 0,
        };
        insta::assert_snapshot!(
            command(&trial, Some("runc"), Path::new("/state/probe-x")),
            @"/usr/bin/podman --runtime runc run --rm --network none --log-driver none --cap-drop all --label io.github.codex-mcp.session=trial --label io.github.codex-mcp.owner-pid=1 --label io.github.codex-mcp.owner-start=1 --label io.github.codex-mcp.owner-boot=boot --security-opt label=disable --timeout 30 --ulimit nofile=20000:20000 --ulimit nproc=32768:32768 --rootfs /state/probe-x /codex-mcp --version"
        );
    }
}
