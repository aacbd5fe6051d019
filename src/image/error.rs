//! What goes wrong with an image, and what mends it.

use super::lock::{Integrity, LockError};
use super::recipe::RecipeError;
use crate::config::name::ImageReference;
use crate::host::facts::EngineKind;
use crate::supervise::tool::ToolError;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Tool(ToolError),
    #[error("cancelled; nothing half-made was left")]
    Cancelled,

    #[error(
        "npm is not on PATH, and Codex is published as an npm package: install it (Debian: apt-get install npm), or run \
         scripts/setup"
    )]
    NpmMissing,
    #[error("npm could not fetch {package}; it said:\n{said}\nCheck the network and `npm config get registry`")]
    NpmFailed { package: String, said: String },
    #[error("npm ended well but left {found} files where the tarball of {package} alone was expected")]
    NpmUnclear { package: String, found: usize },
    #[error(
        "{package} is not what this program was committed with, and nothing of it was unpacked:\n  expected {expected}\n  \
         found    {found}\n{path} was deleted; if a new build finds the same again, the registry or a proxy serves \
         something else",
        path = .path.display()
    )]
    Integrity {
        package: String,
        expected: Integrity,
        found: Integrity,
        path: PathBuf,
    },
    #[error("the package of Codex holds an entry that can't be accepted: {entry:?} {why}")]
    HostileEntry { entry: String, why: &'static str },
    #[error("the package of Codex lacks {0}; without it sessions can't work")]
    PackageIncomplete(String),
    #[error("the base holds an entry that can't be accepted: {entry:?} {why}")]
    HostileBase { entry: String, why: &'static str },

    #[error(
        "mmdebstrap is not on PATH; it makes the base where no registry is in reach: install it (Debian: apt-get \
         install mmdebstrap), or run scripts/setup, or name a base from a registry with --base REF"
    )]
    BootstrapMissing,
    #[error(
        "mmdebstrap could not make a base of Debian {suite}; it last said:\n{said}\nAs an ordinary user it needs \
         subordinate ids in /etc/subuid and /etc/subgid (scripts/setup checks them)"
    )]
    BootstrapFailed { suite: String, said: String },
    #[error(
        "{engine} could not pull the base {base}; it said:\n{said}\nWithout a registry: codex-mcp image build --base \
         bootstrap"
    )]
    PullFailed {
        engine: EngineKind,
        base: ImageReference,
        said: String,
    },
    #[error("{engine} failed to {task}: `{command}` ended with {status}; it last said:\n{said}")]
    EngineFailed {
        engine: EngineKind,
        /// Completes "failed to".
        task: &'static str,
        command: String,
        status: std::process::ExitStatus,
        said: String,
    },
    #[error("{engine} answered in a way that is not understood ({task}): {why}")]
    EngineUnclear {
        engine: EngineKind,
        task: &'static str,
        why: String,
    },
    #[error("{engine} has no image {reference}; build one with: codex-mcp image build")]
    NotFound { engine: EngineKind, reference: String },
    #[error("the image that was built does not pass its own checks and was removed again:\n{failures}")]
    BadImage { failures: String },

    #[error(
        "another codex-mcp is building an image in {cache}; wait for it to end",
        cache = .cache.display()
    )]
    Busy { cache: PathBuf },
    #[error("can't {task} {path}: {source}", path = .path.display())]
    File {
        task: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("a worker of the build ended early: {0}")]
    Worker(String),
}

impl From<ToolError> for ImageError {
    fn from(error: ToolError) -> Self {
        match error {
            ToolError::Cancelled { .. } => Self::Cancelled,
            other => Self::Tool(other),
        }
    }
}

impl ImageError {
    /// For `map_err` on file operations.
    pub(super) fn file<'a>(task: &'static str, path: &'a Path) -> impl Fn(std::io::Error) -> Self + 'a {
        move |source| Self::File {
            task,
            path: path.to_owned(),
            source,
        }
    }
}
