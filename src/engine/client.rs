//! Runs an engine's short commands, and says what their answers mean.

use super::argv;
use super::capabilities::Capabilities;
use super::confirmations::Confirmations;
use super::listing::{self, UnreadableImage};
use crate::host::facts::{EngineFacts, EngineKind, ImageFacts};
use crate::plan::identity::ContainerName;
use crate::supervise::command::CommandLine;
use crate::supervise::environment::Environment;
use crate::supervise::ladder::CommandEnd;
use crate::supervise::monitor;
use crate::supervise::output::{self, Bounds, Output, OutputError};
use crate::supervise::reconcile::Sighting;
use crate::supervise::spawner::Spawner;
use crate::supervise::stop::StopCommands;

/// An engine that the probe found, and what its client is started with.
#[derive(Debug, Clone)]
pub struct Engine {
    facts: EngineFacts,
    spawner: Spawner,
    env: Environment,
    /// One for all clones.
    confirmations: Confirmations,
}

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("{kind} has no image `{reference}`. Build it: `codex-mcp image build`")]
    ImageMissing { kind: EngineKind, reference: String },
    #[error("cannot use what {kind} says about image `{reference}`: {source}")]
    UnreadableImage {
        kind: EngineKind,
        reference: String,
        source: UnreadableImage,
    },
    #[error("cannot read what `{command}` says: {source}")]
    UnreadableListing {
        command: CommandLine,
        source: serde_json::Error,
    },
    #[error("`{command}` failed ({status}): {stderr}")]
    Failed {
        command: CommandLine,
        status: std::process::ExitStatus,
        stderr: String,
    },
    #[error(transparent)]
    Command(#[from] OutputError),
}

impl Engine {
    /// `env` is what [`super::environment::of_client`] made.
    pub fn new(facts: EngineFacts, spawner: Spawner, env: Environment) -> Self {
        Self {
            facts,
            spawner,
            env,
            confirmations: Confirmations::default(),
        }
    }

    pub fn facts(&self) -> &EngineFacts {
        &self.facts
    }

    /// What starts the long-lived client, with [`Self::env`].
    pub fn spawner(&self) -> &Spawner {
        &self.spawner
    }

    pub fn env(&self) -> &Environment {
        &self.env
    }

    /// The image as the engine has it; nothing is pulled.
    pub async fn inspect_image(&self, reference: &str) -> Result<ImageFacts, EngineError> {
        let command = argv::inspect_image(&self.facts, reference);
        let output = self.output(&command).await?;
        let missing = Capabilities::of(&self.facts).missing_image();
        if !output.status.success() && missing.iter().any(|sign| output.stderr.contains(sign)) {
            return Err(EngineError::ImageMissing {
                kind: self.facts.kind,
                reference: reference.to_owned(),
            });
        }
        let output = succeeded(command, output)?;
        listing::read_image(reference, &output.stdout).map_err(|source| EngineError::UnreadableImage {
            kind: self.facts.kind,
            reference: reference.to_owned(),
            source,
        })
    }

    /// Every container with our session label, whoever owns it, in every state.
    pub async fn list_ours(&self) -> Result<Vec<Sighting>, EngineError> {
        let command = argv::list_ours(&self.facts);
        let output = succeeded(command.clone(), self.output(&command).await?)?;
        listing::read_sightings(Capabilities::of(&self.facts).listing(), &output.stdout)
            .map_err(|source| EngineError::UnreadableListing { command, source })
    }

    /// Removes containers by force, in any state, and what killed clients of the engine may have left of them; those that are gone
    /// already are no error.
    pub async fn remove<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Result<(), EngineError> {
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        if names.is_empty() {
            return Ok(());
        }
        self.forget(&names).await?;
        if Capabilities::of(&self.facts).leaves_monitors() {
            // Fails only where the runtime ends.
            let left = tokio::task::spawn_blocking(move || monitor::end_left(&names)).await;
            if left.is_ok_and(|left| left > 0) {
                tracing::info!("ended what a killed client of the engine had left half-way");
            }
        }
        Ok(())
    }

    async fn forget(&self, names: &[String]) -> Result<(), EngineError> {
        let command = argv::remove(&self.facts, names.iter().map(String::as_str));
        let output = self.output(&command).await?;
        let gone = Capabilities::of(&self.facts).nothing_to_remove();
        // One name a line: any other trouble among them is an error.
        if !output.stderr.is_empty() && output.stderr.lines().all(|line| line.contains(gone)) {
            return Ok(());
        }
        succeeded(command, output).map(drop)
    }

    /// Removes what may be left of a container whose client has ended, together with others that are asked about now, and
    /// says whether it is gone.
    pub async fn confirm_gone(&self, name: &ContainerName) -> CommandEnd {
        let engine = self.clone();
        let remove = move |names: Vec<ContainerName>| async move {
            match engine.remove(names.iter().map(ContainerName::as_str)).await {
                Ok(()) => CommandEnd::Succeeded,
                Err(error) => {
                    tracing::debug!(%error, "not all are gone");
                    CommandEnd::Failed
                }
            }
        };
        self.confirmations.ask(name.clone(), remove).await
    }

    /// What [`crate::supervise::stop`] ends the container with.
    pub fn stop_commands(&self, name: &ContainerName) -> StopCommands {
        StopCommands {
            kill: argv::kill(&self.facts, name.as_str()),
            remove: argv::remove(&self.facts, [name.as_str()]),
            nothing_to_remove: Capabilities::of(&self.facts).nothing_to_remove(),
        }
    }

    async fn output(&self, command: &CommandLine) -> Result<Output, OutputError> {
        output::run(&self.spawner, command, &self.env, Bounds::SHORT).await
    }
}

fn succeeded(command: CommandLine, output: Output) -> Result<Output, EngineError> {
    if output.status.success() {
        return Ok(output);
    }
    Err(EngineError::Failed {
        command,
        status: output.status,
        stderr: output.stderr,
    })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests write an engine of their own")]
mod tests {
    use super::*;
    use crate::engine::fixtures;
    use std::os::unix::fs::PermissionsExt;

    /// An engine that is a shell script.
    struct Scripted {
        engine: Engine,
        _dir: tempfile::TempDir,
    }

    fn scripted(kind: EngineKind, script: &str) -> Scripted {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("engine");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let facts = EngineFacts {
            kind,
            program,
            ..fixtures::docker()
        };
        Scripted {
            engine: Engine::new(facts, Spawner::new().unwrap(), Environment::default()),
            _dir: dir,
        }
    }

    #[tokio::test]
    async fn a_missing_image_says_how_to_build_it() {
        for (kind, stderr) in [
            (EngineKind::Podman, "Error: inspecting object: x: image not known"),
            (
                EngineKind::Docker,
                "Error response from daemon: no such image: x: No such image: x:latest",
            ),
        ] {
            let scripted = scripted(kind, &format!("echo '[]'; echo '{stderr}' >&2; exit 1"));
            let error = scripted.engine.inspect_image("x").await.unwrap_err();
            assert!(matches!(&error, EngineError::ImageMissing { .. }), "{error:?}");
            assert!(error.to_string().contains("codex-mcp image build"), "{error}");
        }
    }

    #[tokio::test]
    async fn other_trouble_is_not_a_missing_image() {
        let scripted = scripted(EngineKind::Podman, "echo 'database is locked' >&2; exit 125");
        let error = scripted.engine.inspect_image("x").await.unwrap_err();
        assert!(matches!(&error, EngineError::Failed { stderr, .. } if stderr == "database is locked"));
    }

    #[tokio::test]
    async fn removing_what_is_gone_is_a_success() {
        let gone = "echo 'Error response from daemon: No such container: a' >&2; exit 1";
        scripted(EngineKind::Docker, gone).engine.remove(["a"]).await.unwrap();
        let partly = format!("echo 'cannot remove b: busy' >&2; {gone}");
        assert!(
            scripted(EngineKind::Docker, &partly)
                .engine
                .remove(["a", "b"])
                .await
                .is_err()
        );
        // Without names nothing is run.
        scripted(EngineKind::Docker, "exit 1").engine.remove([]).await.unwrap();
    }

    #[tokio::test]
    async fn a_listing_that_fails_is_not_an_empty_one() {
        let scripted = scripted(EngineKind::Docker, "exit 1");
        assert!(matches!(
            scripted.engine.list_ours().await,
            Err(EngineError::Failed { .. })
        ));
    }

    #[tokio::test]
    async fn an_answer_that_cannot_be_used_says_why() {
        let scripted = scripted(EngineKind::Podman, "echo '[]'");
        let error = scripted.engine.inspect_image("x").await.unwrap_err().to_string();
        assert!(
            error.ends_with("about image `x`: it describes 0 images instead of one"),
            "{error}"
        );
        let scripted = self::scripted(EngineKind::Podman, "echo '['");
        let error = scripted.engine.list_ours().await.unwrap_err().to_string();
        assert!(error.contains("says: EOF while parsing"), "{error}");
    }
}
