//! One test's world: a directory that the lane's user owns, a workspace, a scripted model, a configuration.

use super::lane::Lane;
use codex_mcp::scripted_model::{Access, ScriptedModel};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct World {
    pub lane: Lane,
    directory: tempfile::TempDir,
    pub model: ScriptedModel,
    /// Serves the scripted model; ends with the world.
    _runtime: tokio::runtime::Runtime,
}

impl World {
    /// `None` where this machine has no such lane.
    pub fn new(lane: Lane) -> Option<Self> {
        Self::with_config(lane, "")
    }

    /// `extra` is TOML that follows the world's own settings.
    pub fn with_config(lane: Lane, extra: &str) -> Option<Self> {
        if !lane.is_here() {
            return None;
        }
        let directory = tempfile::Builder::new().prefix("codex-mcp-world-").tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let model = runtime.block_on(ScriptedModel::start(Access::Open)).unwrap();
        let world = Self {
            lane,
            directory,
            model,
            _runtime: runtime,
        };
        fs::create_dir(world.workspace()).unwrap();
        fs::write(world.workspace().join("hello.txt"), "hello\n").unwrap();
        // What rootless podman can't enforce on cgroup v1 is refused by default; tests of other things accept it.
        let enforcement = if lane == Lane::RootlessPodman {
            "best-effort"
        } else {
            "required"
        };
        let config = format!(
            "runtime = \"{}\"\nstate_dir = \"{}\"\n{extra}\n[codex]\nprovider = \"scripted\"\nmodel = \"gpt-5.5\"\n\
             [providers.scripted]\nbase_url = \"{}\"\n[limits]\nmemory = \"2GiB\"\nenforcement = \"{enforcement}\"\n",
            lane.runtime(),
            world.path("state").display(),
            world.model.base_url(),
        );
        fs::write(world.config(), config).unwrap();
        world.give_to_user(world.root());
        Some(world)
    }

    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    pub fn workspace(&self) -> PathBuf {
        self.path("workspace")
    }

    pub fn config(&self) -> PathBuf {
        self.path("config.toml")
    }

    /// Replaces a piece of the configuration.
    pub fn edit_config(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(from), "no {from:?} in the configuration:\n{text}");
        fs::write(self.config(), text.replace(from, to)).unwrap();
    }

    /// Gives a tree to the lane's user.
    pub fn give_to_user(&self, path: &Path) {
        let Some(user) = self.lane.user() else { return };
        let entry = nix::unistd::User::from_name(&user).unwrap().unwrap();
        let mut pending = vec![path.to_owned()];
        while let Some(path) = pending.pop() {
            chown(&path, Some(entry.uid.as_raw()), Some(entry.gid.as_raw())).unwrap();
            if path.is_dir() {
                pending.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
    }

    /// `codex-mcp ARGS… --config …`, started in the workspace.
    pub fn codex_mcp(&self, args: &[&str]) -> Command {
        let mut command = self.lane.codex_mcp();
        command
            .args(args)
            .arg("--config")
            .arg(self.config())
            .current_dir(self.workspace());
        command
    }

    /// Puts a wrapper of the engine's client in front of it, in bash; `$REAL` is the client itself. Returns the PATH that
    /// finds it.
    pub fn wrap_engine(&self, body: &str) -> String {
        let name = self.lane.runtime();
        let real = which::which(name).unwrap();
        let bin = self.path("bin");
        fs::create_dir(&bin).unwrap();
        let wrapper = bin.join(name);
        fs::write(&wrapper, format!("#!/bin/bash\nREAL={}\n{body}", real.display())).unwrap();
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
        self.give_to_user(&bin);
        format!("{}:{}", bin.display(), std::env::var("PATH").unwrap())
    }

    /// Names of the containers of the sessions in the state directory, whether they are there or not.
    pub fn container_names(&self) -> Vec<String> {
        let id = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        self.session_directories()
            .iter()
            .map(|path| format!("codex-mcp-{}", id(path)))
            .collect()
    }

    /// Those of them that run.
    pub fn running(&self) -> Vec<String> {
        let ours = self.container_names();
        self.lane
            .running()
            .into_iter()
            .filter(|name| ours.contains(name))
            .collect()
    }

    /// What is left of sessions in the state directory.
    pub fn session_directories(&self) -> Vec<PathBuf> {
        match fs::read_dir(self.path("state/sessions")) {
            Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
            Err(_) => Vec::new(),
        }
    }
}
