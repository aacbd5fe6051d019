//! The command line: records what was asked, then calls the room that does it; prints results.
//!
//! stdout is the result (or the protocol, under `serve`), stderr is everything else. Nothing outside [`output`] writes
//! to either. This room must never decide what a launch may do: that is `config` and `plan`.
//!
//! - [`flags`]: the flags that `serve`, `run` and `plan` share.
//! - [`serve`], [`run`], [`demo`], [`plan`], [`auth`], [`image`], [`sessions`], [`audit`]: one file a command.
//! - [`render`], [`json_lines`], [`plan_text`], [`auth_text`], [`audit_text`], [`sessions_text`], [`style`]: what is printed, as data (pure).
//! - [`token`]: the tokens of the HTTP transport.
//! - [`table`]: rows as columns (pure).
//! - [`output`]: prints it.
//! - [`exit`]: the table of exit codes.

pub mod audit;
pub mod audit_text;
pub mod auth;
pub mod auth_text;
pub mod demo;
pub mod exit;
pub mod flags;
pub mod image;
pub mod image_text;
pub mod json_lines;
pub mod output;
pub mod plan;
pub mod plan_text;
pub mod progress;
pub mod render;
pub mod run;
pub mod serve;
pub mod sessions;
pub mod sessions_text;
pub mod style;
pub mod table;
pub mod token;

use crate::codex::overrides::parse_operators;
use crate::config::{self, Config, ConfigFlags};
use crate::image::lock;
use crate::obs;
use crate::session::surroundings::Surroundings;
use crate::wire::contract::CONTRACT;
use clap::{Parser, Subcommand};
use exit::{Exit, Failure};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;

/// Codex over MCP, one hardened container a thread.
#[derive(Debug, Parser)]
#[command(name = "codex-mcp", version = VERSION.as_str(), max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve MCP over stdio: what an MCP client starts
    Serve(serve::ServeArgs),
    /// Run one task in a container and print what Codex answers
    Run(run::RunArgs),
    /// Show the whole chain on a scripted model: no key, no outside network
    Demo(demo::DemoArgs),
    /// Print what `serve` and `run` would launch, and where each limit came from
    Plan(plan::PlanArgs),
    /// Show how the model's provider is signed in to
    Auth(auth::AuthArgs),
    /// Build, list or verify the image that sessions run in
    Image(image::ImageArgs),
    /// List, show, continue, stop or remove sessions, and bring back what they changed
    Sessions(sessions::SessionsArgs),
    /// Add, list or revoke tokens for the HTTP transport
    Token(token::TokenArgs),
    /// Show what was recorded of past and present sessions, or check that nobody changed it
    Audit(audit::AuditArgs),
}

/// Runs the command that this process was started with.
pub fn main() -> ExitCode {
    // A panic's own words pass the redactor as everything else that is printed.
    std::panic::set_hook(Box::new(output::panicked));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version come this way too, with code 0 and for stdout; clap knows which is which.
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage.code()));
        }
    };
    let exit = match cli.command {
        Command::Serve(args) => on_runtime(serve::serve(args)),
        Command::Run(args) => on_runtime(run::run(args)),
        Command::Demo(args) => on_runtime(demo::demo(args)),
        Command::Plan(args) => on_runtime(plan::plan(args)),
        Command::Auth(args) => on_runtime(auth::auth(args)),
        Command::Image(args) => on_runtime(image::image(args)),
        Command::Sessions(args) => on_runtime(sessions::sessions(args)),
        Command::Token(args) => on_runtime(token::token(args)),
        Command::Audit(args) => on_runtime(audit::audit(args)),
    };
    exit.into()
}

/// What must fit together: this binary, the Codex in the image, and what the two halves of this binary say.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let own = env!("CARGO_PKG_VERSION");
    // The lock is embedded and its tests read it, so this is never unknown in a binary that passed them.
    let codex = lock::pinned_version().unwrap_or_else(|_| "unknown".to_owned());
    format!("{own} (codex {codex}, guest contract {CONTRACT})")
});

/// Sessions wait far more than they compute: more threads than this only cost memory.
const MAX_WORKERS: usize = 4;

fn on_runtime(command: impl Future<Output = Exit>) -> Exit {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.min(MAX_WORKERS))
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            let exit = runtime.block_on(command);
            // A blocking read of stdin or of a hung file system must not keep a finished program alive.
            runtime.shutdown_background();
            exit
        }
        Err(error) => output::failure(&Failure::new(Exit::Internal, format!("can't start threads: {error}"))),
    }
}

/// The folder this process was started in.
fn current_dir() -> Result<PathBuf, Failure> {
    #[expect(clippy::disallowed_methods, reason = "read once, here, and passed on")]
    std::env::current_dir().map_err(|error| {
        let message = format!("can't find out the current folder: {error}; cd to one that exists");
        Failure::new(Exit::Usage, message)
    })
}

/// Loads the configuration and starts logging.
fn configure(flags: &ConfigFlags) -> Result<Config, Failure> {
    let config = config::load(flags)?;
    // Which settings Codex takes, `codex` knows. Said here, so that no server starts that would refuse every session.
    parse_operators(&config.codex.config)?;
    obs::init(&config.log);
    Ok(config)
}

/// What this process was started with, read once.
#[expect(
    clippy::disallowed_methods,
    reason = "the environment is read once, here, and passed on"
)]
fn surroundings() -> Result<Surroundings, Failure> {
    let environment: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
    let home = environment.get(OsStr::new("HOME")).map(PathBuf::from);
    Ok(Surroundings {
        started_in: current_dir()?,
        home: home.filter(|home| home.is_absolute()),
        environment,
        // The file that runs, whatever became of its name since (an upgrade under a running server).
        executable: PathBuf::from("/proc/self/exe"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_version_names_what_must_fit_together() {
        assert_eq!(
            *VERSION,
            format!(
                "{} (codex 0.169.0, guest contract {CONTRACT})",
                env!("CARGO_PKG_VERSION")
            )
        );
    }

    /// The version is written in four places; `config/codex.lock.toml` is the one that counts.
    #[test]
    fn one_codex_is_locked_spoken_with_and_the_default_image() {
        let locked = lock::pinned_version().unwrap();
        let (line, _) = locked.rsplit_once('.').unwrap();
        assert_eq!(line, crate::codex::client::SUPPORTED_CODEX);
        let image = include_str!("../../config/codex-mcp.toml")
            .lines()
            .find(|line| line.starts_with("image = "));
        assert_eq!(image, Some(&*format!("image = \"localhost/codex-mcp:{locked}\"")));
    }

    #[test]
    fn flags_of_later_versions_are_errors() {
        for words in [
            ["run", "--listen=127.0.0.1:1"],
            ["run", "--profile=x"],
            ["serve", "--transport=sse"],
        ] {
            let error = Cli::try_parse_from([&["codex-mcp"], &words[..]].concat()).unwrap_err();
            assert_eq!(error.exit_code(), i32::from(Exit::Usage.code()), "{words:?}");
        }
    }
}
