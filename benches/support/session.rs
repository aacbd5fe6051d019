//! A world for sessions, and a session's directory, made as a launch makes it.

use codex_mcp::codex::client::ThreadSettings;
use codex_mcp::codex::overrides::Overrides;
use codex_mcp::codex::settings::{self, SessionConfig};
use codex_mcp::config::{self, ConfigFlags};
use codex_mcp::engine::argv;
use codex_mcp::obs;
use codex_mcp::plan::LaunchPlan;
use codex_mcp::plan::request::WorkspaceAccess;
use codex_mcp::session::asked::Asked;
use codex_mcp::session::decide::Decided;
use codex_mcp::session::directory::{Sealed, SessionDirectory};
use codex_mcp::session::ground::Ground;
use codex_mcp::session::registry::{Sessions, StartSession};
use codex_mcp::session::surroundings::Surroundings;
use codex_mcp::supervise::command::CommandLine;
use codex_mcp::workspace::copy::{self, CopyJob, CopyLimits, CopyOwner};
use codex_mcp::workspace::git::ObjectFormat;
use codex_mcp::workspace::inventory::InventoryRecorder;
use codex_mcp::workspace::selection::Selection;
use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// Sessions of a world of their own below `root`, on `root/workspace`. `extra` is TOML that follows what a world needs;
/// `model` is where a model answers.
pub fn sessions(root: &Path, engine: &str, model: &str, extra: &str) -> Sessions {
    let file = root.join("config.toml");
    let text = format!(
        "runtime = \"{engine}\"\nstate_dir = \"{}\"\n[codex]\nprovider = \"scripted\"\nmodel = \"gpt-5.5\"\n\
         [providers.scripted]\nbase_url = \"{model}\"\n[limits]\nmemory = \"2GiB\"\nenforcement = \"best-effort\"\n{extra}",
        root.join("state").display(),
    );
    fs::write(&file, text).unwrap();
    let workspace = root.join("workspace");
    let config = config::load(&ConfigFlags {
        config: Some(file),
        workspace: Some(workspace.clone()),
        ..ConfigFlags::default()
    })
    .unwrap();
    obs::init(&config.log);
    let surroundings = Surroundings {
        started_in: workspace,
        home: std::env::var_os("HOME").map(Into::into),
        environment: std::env::vars_os().collect(),
        executable: super::program(),
    };
    Sessions::new(Arc::new(config), Arc::new(surroundings))
}

pub fn asked() -> Asked {
    Asked::by_command_line("bench", BTreeMap::new())
}

pub fn request() -> StartSession {
    StartSession {
        workspace: None,
        mode: None,
        access: WorkspaceAccess::ReadWrite,
        model: None,
        network: None,
        thread: ThreadSettings::default(),
    }
}

/// What a launch has made when it starts the container.
pub fn prepare(ground: &Ground, decided: &Decided) -> SessionDirectory {
    let (config, plan) = (&ground.config, &decided.plan);
    let root = config.state_dir.value.join("sessions").join(plan.session.as_str());
    fs::create_dir_all(&root).unwrap();
    let directory = SessionDirectory::at(&root);
    let text = settings::render(&SessionConfig {
        model_port: plan.guest.model_port,
        model: config.codex.model.as_ref().map(|model| &model.value),
        effort: None,
        web_search: config.codex.web_search.value,
        overrides: &Overrides::default(),
        command_environment: &plan.network.command_environment,
    })
    .unwrap();
    let contents = Sealed {
        config: &text,
        ca_bundle: None,
        cargo_config: None,
    };
    directory.seal(&contents, &plan.user).unwrap();
    let job = CopyJob {
        source: decided.folder.clone(),
        destination: directory.files.workspace.clone(),
        selection: Selection::WithoutGit,
        limits: CopyLimits {
            bytes: config.limits.workspace.clone(),
            files: config.workspace.max_files.clone(),
        },
        owner: CopyOwner::User {
            uid: plan.user.host_uid,
            gid: plan.user.host_gid,
        },
    };
    let mut recorder = InventoryRecorder::new(ObjectFormat::Sha1);
    copy::take(&job, &mut recorder, &mut |_| ControlFlow::Continue(())).unwrap();
    directory
}

/// The engine's client as ours is started: with the same environment, in `/`.
pub fn as_client(ground: &Ground, command: &CommandLine) -> Command {
    let mut client = Command::new(&command.program);
    client
        .args(&command.args)
        .env_clear()
        .envs(ground.engine.env().iter())
        .current_dir("/");
    client
}

/// The launch's own command line (the same limits, mounts, user and hardening) with another program in the guest's place.
pub fn by_hand(plan: &LaunchPlan, cwd: &str, env: &BTreeMap<String, String>, argv: &[String]) -> CommandLine {
    let mut command = argv::run(plan);
    let tail = command.args.iter().position(|word| word == "--workdir").unwrap();
    command.args.truncate(tail);
    for (name, value) in env {
        command = command.args(["--env".to_owned(), format!("{name}={value}")]);
    }
    let [program, arguments @ ..] = argv else {
        panic!("no program to start")
    };
    command
        .args(["--workdir", cwd, "--entrypoint", program, &plan.image.id])
        .args(arguments.iter().cloned())
}
