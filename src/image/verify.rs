//! Runs an image once, as locked down as a session, and reports every check.

use super::checks::{self, Answers, Check};
use super::commands::Engine;
use super::error::ImageError;
use super::inspect;
use super::tools::{SHORT, Tools};
use crate::host::HostFacts;
use std::time::Duration;

/// The run reads a few files; a slow disk is waited for.
const RUN_LIMIT: Duration = Duration::from_secs(120);

/// What came out, in the order it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// `sha256:` and 64 digits: the image that was checked, whatever its name means later.
    pub id: String,
    pub checks: Vec<Check>,
}

impl Verification {
    pub fn passed(&self) -> bool {
        self.checks.iter().all(Check::passed)
    }

    /// The failed checks, one a line.
    pub fn failures(&self) -> String {
        let failed: Vec<String> = self
            .checks
            .iter()
            .filter(|check| !check.passed())
            .map(Check::to_string)
            .collect();
        failed.join("\n")
    }
}

/// Checks the image that `image` (a reference or an id) names now. An image that fails is no error here: the report
/// says so.
pub async fn verify(image: &str, host: &HostFacts, tools: &Tools) -> Result<Verification, ImageError> {
    tools.progress().step(&format!("Verifying {image}"));
    let engine = Engine::new(&host.engine);
    let Some(inspected) = find(image, &engine, tools).await? else {
        return Err(ImageError::NotFound {
            engine: engine.kind(),
            reference: image.to_owned(),
        });
    };
    let container = format!("codex-mcp-verify-{}-{}", host.owner.pid, host.owner.start_ticks);
    let command = engine.verify_run(host, &container, &inspected.id, &checks::script());
    let end = match tools.ask(command, RUN_LIMIT).await {
        Ok(end) => end,
        Err(error) => {
            // The client is gone, its container may not be: docker's outlives it.
            let remove = engine.remove_container(&container);
            if let Err(error) = tools.for_cleanup().ask(remove, SHORT).await {
                tracing::warn!(%container, %error, "the container of a verification may be left");
            }
            return Err(error);
        }
    };
    let answers = Answers {
        stdout: String::from_utf8_lossy(&end.stdout).into_owned(),
        stderr: end.tail.join("\n"),
    };
    Ok(Verification {
        checks: checks::judge(&inspected, &answers),
        id: inspected.id,
    })
}

/// The image, if the engine has it.
pub(super) async fn find(
    image: &str,
    engine: &Engine,
    tools: &Tools,
) -> Result<Option<inspect::Inspected>, ImageError> {
    let task = "look at the image";
    let end = tools.ask(engine.inspect(&[image]), SHORT).await?;
    if !end.status.success() {
        // Both engines say "No such image" in several spellings; every other failure is one.
        let absent = end.tail.iter().any(|line| is_absence(line));
        return if absent {
            Ok(None)
        } else {
            Err(ImageError::EngineFailed {
                engine: engine.kind(),
                task,
                command: engine.inspect(&[image]).to_string(),
                status: end.status,
                said: end.tail.join("\n"),
            })
        };
    }
    let images = inspect::parse(&end.stdout).map_err(|why| ImageError::EngineUnclear {
        engine: engine.kind(),
        task,
        why,
    })?;
    Ok(images.into_iter().next())
}

/// podman: `image not known`, `no such image`; docker: `No such image`.
fn is_absence(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    line.contains("no such image") || line.contains("image not known")
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "the engine of these tests is a script in a file"
)]
mod tests {
    use super::super::commands::tests::host;
    use super::super::progress::Silent;
    use super::*;
    use crate::host::facts::EngineKind;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::sync::Arc;
    use tokio_util::sync::CancellationToken;

    /// Facts of a host whose podman is this script.
    fn host_with_engine(directory: &Path, script: &str) -> HostFacts {
        let program = directory.join("podman");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let mut host = host(EngineKind::Podman, None);
        host.engine.program = program;
        host
    }

    fn tools(cancel: &CancellationToken) -> Tools {
        let environment = [("PATH".into(), "/usr/bin:/bin".into())].into();
        Tools::new(&environment, Arc::new(Silent), cancel.clone())
    }

    #[tokio::test]
    async fn an_absent_image_and_a_broken_engine_are_two_errors() {
        let directory = tempfile::tempdir().unwrap();
        let tools = tools(&CancellationToken::new());
        let host = host_with_engine(directory.path(), "echo 'Error: x: image not known' >&2; exit 125");
        let error = verify("x", &host, &tools).await.unwrap_err();
        assert!(matches!(error, ImageError::NotFound { .. }), "{error}");
        let host = host_with_engine(directory.path(), "echo 'Error: disk on fire' >&2; exit 125");
        let error = verify("x", &host, &tools).await.unwrap_err();
        assert!(matches!(error, ImageError::EngineFailed { .. }), "{error}");
        assert!(error.to_string().contains("disk on fire"), "{error}");
    }

    #[tokio::test]
    async fn a_cancelled_verification_removes_its_container() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let script = format!(
            r#"case $1 in
image) echo '[{{"Id": "{id}", "Config": {{}}}}]' ;;
run) touch {running}; exec sleep 60 ;;
*) echo "$@" >> {log} ;;
esac"#,
            id = "a".repeat(64),
            running = directory.path().join("running").display(),
            log = log.display(),
        );
        let host = host_with_engine(directory.path(), &script);
        let cancel = CancellationToken::new();
        let tools = tools(&cancel);
        let running = directory.path().join("running");
        let cancel_once_it_runs = async {
            while !running.exists() {
                tokio::task::yield_now().await;
            }
            cancel.cancel();
        };
        let (result, ()) = tokio::join!(verify("x", &host, &tools), cancel_once_it_runs);
        assert!(matches!(result, Err(ImageError::Cancelled)), "{result:?}");
        let removed = std::fs::read_to_string(log).unwrap();
        assert_eq!(
            removed,
            format!(
                "rm --force codex-mcp-verify-{}-{}\n",
                host.owner.pid, host.owner.start_ticks
            )
        );
    }

    #[test]
    fn absence_is_told_from_trouble() {
        assert!(is_absence("Error: inspecting object: localhost/x:1: image not known"));
        assert!(is_absence("Error: No such image: x:1"));
        assert!(is_absence("Error response from daemon: No such image: x:1"));
        assert!(!is_absence(
            "Cannot connect to the Docker daemon at unix:///var/run/docker.sock."
        ));
    }
}
