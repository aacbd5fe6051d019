//! Runs one client in an empty directory of ours: for a question about its configuration, or watched while it fetches one
//! small package. As the invoking user, with that user's configuration, and never with a package's own code.

#![expect(
    clippy::disallowed_methods,
    reason = "lays out and clears the directory that clients are asked in"
)]

use super::environment;
use super::error::{LastWords, PackagesError, Unreached};
use super::recorder::{MAX_TARGETS, Recorder};
use crate::config::network::PackageClient;
use crate::config::target::Target;
use crate::dial::Dialer;
use crate::supervise::command::CommandLine;
use crate::supervise::environment::Environment;
use crate::supervise::tool::{self, StdoutUse, ToolEnd, ToolError, ToolRun};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// For each command. A client that is slower than this for one small package would not be of use in a session either.
const LIMIT: Duration = Duration::from_secs(60);

/// One client, ready to be asked. Its directory goes when this is dropped.
pub struct Asking<'a> {
    pub client: PackageClient,
    pub program: &'a Path,
    /// What the client sees of ours.
    pub environment: &'a Environment,
    dialer: &'a Dialer,
    scratch: TempDir,
    limit: Duration,
}

impl<'a> Asking<'a> {
    /// Makes the directory below `below`.
    pub fn new(
        client: PackageClient,
        program: &'a Path,
        environment: &'a Environment,
        dialer: &'a Dialer,
        below: &Path,
    ) -> Result<Self, PackagesError> {
        // 0700, and empty: what a project would set does not count here.
        let scratch = TempDir::with_prefix_in(SCRATCH, below)
            .map_err(PackagesError::file("can't make a directory below", below))?;
        Ok(Self {
            client,
            program,
            environment,
            dialer,
            scratch,
            limit: LIMIT,
        })
    }

    #[cfg(test)]
    pub(super) fn limited(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Where the client runs.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// A file for the client to find, and the directories above it.
    pub fn write(&self, name: &str, content: &str) -> Result<(), PackagesError> {
        let path = self.directory().join(name);
        let failed = |source| PackagesError::file("can't write", path.clone())(source);
        path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(failed)?;
        std::fs::write(&path, content).map_err(failed)
    }

    /// A file of the user's under a name in the directory.
    pub fn link(&self, to: &Path, name: &str) -> Result<(), PackagesError> {
        let path = self.directory().join(name);
        let failed = |source| PackagesError::file("can't make the link", path.clone())(source);
        path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(failed)?;
        std::os::unix::fs::symlink(to, &path).map_err(failed)
    }

    /// The first of the user's files that is there; empty where none is.
    pub fn read_first(&self, paths: impl IntoIterator<Item = PathBuf>) -> Result<String, PackagesError> {
        let Some(path) = paths.into_iter().find(|path| path.is_file()) else {
            return Ok(String::new());
        };
        std::fs::read_to_string(&path).map_err(PackagesError::file("can't read", path))
    }

    /// What it prints when asked about its configuration in `environment`. It has no need of a network for that.
    pub async fn question(
        &self,
        task: &'static str,
        args: &[&str],
        environment: Environment,
    ) -> Result<String, PackagesError> {
        let end = self
            .run(task, args, environment, StdoutUse::Capture, Unreached::default)
            .await?;
        String::from_utf8(end.stdout).map_err(|_| self.unreadable(task, "it is no UTF-8"))
    }

    /// The hosts that it asks for while it does `args`, with `settings` beside its own.
    pub async fn watch(
        &self,
        task: &'static str,
        args: &[&str],
        settings: Vec<(&'static str, OsString)>,
    ) -> Result<BTreeSet<Target>, PackagesError> {
        let recorder = Recorder::start(self.dialer.clone())
            .await
            .map_err(PackagesError::Recorder)?;
        let proxy = OsString::from(recorder.url());
        let proxied = proxy_settings(self.client, &proxy);
        let environment = environment::with(self.environment, settings.into_iter().chain(proxied));
        let unreached = || recorder.seen().unreached;
        let end = self.run(task, args, environment, StdoutUse::Lines, unreached).await;
        let seen = recorder.seen();
        if seen.more {
            return Err(PackagesError::TooManyHosts {
                client: self.client,
                limit: MAX_TARGETS,
            });
        }
        end.map(|_| seen.targets)
    }

    pub fn unreadable(&self, setting: impl Into<String>, reason: impl Into<String>) -> PackagesError {
        PackagesError::Unreadable {
            client: self.client,
            setting: setting.into(),
            reason: reason.into(),
        }
    }

    async fn run(
        &self,
        task: &'static str,
        args: &[&str],
        environment: Environment,
        stdout: StdoutUse,
        unreached: impl Fn() -> Unreached,
    ) -> Result<ToolEnd, PackagesError> {
        let client = self.client;
        tracing::debug!(client = client.as_str(), task, "asking a package client");
        let run = ToolRun {
            command: CommandLine::new(self.program)
                .args(args.iter().copied())
                .in_directory(self.directory()),
            environment,
            limit: self.limit,
            stdout,
        };
        // Giving up drops the future, which kills the client's whole group.
        let end = tool::run(&run, &CancellationToken::new(), &mut |_| ()).await;
        match end {
            Ok(end) if end.status.success() => Ok(end),
            Ok(end) => Err(PackagesError::Failed {
                client,
                task,
                unreached: unreached(),
                said: LastWords::new(&end.tail),
            }),
            // Not as it is: the tail may hold a password.
            Err(ToolError::TimedOut { limit, tail, .. }) => Err(PackagesError::TimedOut {
                client,
                task,
                limit,
                unreached: unreached(),
                said: LastWords::new(&tail),
            }),
            Err(source) => Err(PackagesError::NotAsked { client, source }),
        }
    }
}

/// Every variable by which a client finds its proxy, so that none of the user's configuration comes before it, and none by
/// which it would leave a host out.
fn proxy_settings(client: PackageClient, proxy: &OsString) -> Vec<(&'static str, OsString)> {
    // `.invalid` is reserved (RFC 2606): npm takes an empty variable for an unset one.
    const NOBODY: &str = "codex-mcp.invalid";
    let own: &[&str] = match client {
        PackageClient::Cargo => &["CARGO_HTTP_PROXY"],
        PackageClient::Npm => &["npm_config_proxy", "npm_config_https_proxy"],
        PackageClient::Pip => &["PIP_PROXY"],
        PackageClient::Go => &[],
    };
    let general = [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
    ];
    let set = general.iter().chain(own).map(|name| (*name, proxy.clone()));
    let emptied = [("NO_PROXY", OsString::new()), ("no_proxy", OsString::new())];
    let npms = (client == PackageClient::Npm).then(|| ("npm_config_noproxy", NOBODY.into()));
    set.chain(emptied).chain(npms).collect()
}

/// How the directories here begin.
const SCRATCH: &str = "asking-";
/// No client is asked for so long: an older directory was left by a process that was killed.
const ABANDONED: Duration = Duration::from_secs(60 * 60);

/// Removes what killed processes left below `below`. What can't be removed is tried again the next time.
pub fn sweep(below: &Path) {
    let is_abandoned = |path: &PathBuf| {
        let is_ours = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(SCRATCH));
        let modified = path.symlink_metadata().and_then(|file| file.modified());
        let age = modified.ok().and_then(|modified| modified.elapsed().ok());
        is_ours && age.is_some_and(|age| age > ABANDONED)
    };
    let entries = std::fs::read_dir(below).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()).filter(is_abandoned) {
        if let Err(error) = std::fs::remove_dir_all(&path) {
            tracing::debug!(%error, path = %path.display(), "an old directory of a package client stays");
        }
    }
}
