//! `demo`: the whole chain on the embedded scripted model: no key, no outside network.
//!
//! Nothing here is a shortcut: the demo starts this binary as `serve`, as an MCP client would, and speaks MCP to it.
//! Only the model is a script. What it claims at the end is read from inside the container, and a claim that does not
//! hold is a failure.
//!
//! - [`server`]: the child `serve` and the client's side of it.
//! - [`settings`]: the configuration that the child is given (pure).
//! - [`facts`]: what is asked inside the container, and what the answer proves (pure).
//! - [`outcome`]: a tool result as the demo reads it (pure).
//! - [`snippets`]: what to put into an MCP client's configuration (pure).

mod facts;
mod outcome;
mod server;
mod settings;
mod snippets;

use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::cli::style::{ADDED, DIM, GOOD, HEADING, HUNK, Line, PLAIN, REMOVED, WARNING};
use crate::config::name::ImageReference;
use crate::config::quantity::ModelId;
use crate::config::{self, ConfigFlags, RuntimeChoice};
use crate::scripted_model::{Access, ScriptedModel};
use crate::wire::untrusted::Untrusted;
use outcome::Outcome;
use serde_json::json;
use server::{McpServer, ServerError};
use std::io;
use std::path::{Path, PathBuf};

/// Codex knows it offline, and it calls tools plainly. `--model gpt-6-sol` shows code mode.
const DEFAULT_MODEL: &str = "gpt-5.5";

#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Container engine: auto, podman or docker
    #[arg(long, value_name = "ENGINE")]
    pub runtime: Option<RuntimeChoice>,
    /// Model that the script plays; `gpt-6-sol` calls tools from code
    #[arg(long, value_name = "ID", default_value = DEFAULT_MODEL)]
    pub model: ModelId,
    /// Image that the session runs in
    #[arg(long, value_name = "REFERENCE")]
    pub image: Option<ImageReference>,
    /// Configuration file in place of ~/.config/codex-mcp/config.toml; of it the demo takes the engine, the image and
    /// the directories
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Why the demo did not come to its end.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("{what}: {source}")]
    Prepare {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Settings(#[from] config::ConfigError),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error("the `{tool}` call failed: {text}")]
    Call { tool: &'static str, text: String },
    #[error("the `{tool}` result is not what it should be: it lacks {missing}")]
    Result { tool: &'static str, missing: &'static str },
    #[error("what was read inside the container contradicts the promise \"{promise}\": {read}")]
    Broken { promise: &'static str, read: String },
    #[error("Codex wrote NOTES.md in its copy, and it appeared in the original folder: {0}")]
    OriginalTouched(PathBuf),
    #[error("the container {0} is still there after the server ended")]
    LeftOver(String),
}

impl From<DemoError> for Failure {
    fn from(error: DemoError) -> Self {
        let exit = match error {
            DemoError::Settings(error) => return Self::from(error),
            DemoError::Call { .. } => Exit::TurnFailed,
            DemoError::Broken { .. } | DemoError::OriginalTouched(_) => Exit::Refused,
            DemoError::LeftOver(_) => Exit::SessionLost,
            DemoError::Prepare { .. } | DemoError::Server(_) | DemoError::Result { .. } => Exit::Internal,
        };
        Self::new(exit, error.to_string())
    }
}

fn prepare<T>(what: &'static str, done: io::Result<T>) -> Result<T, DemoError> {
    done.map_err(|source| DemoError::Prepare { what, source })
}

pub async fn demo(args: DemoArgs) -> Exit {
    output::end(play(args).await.map_err(Failure::from))
}

async fn play(args: DemoArgs) -> Result<(), DemoError> {
    let program = prepare("this program's own file could not be found", std::env::current_exe())?;
    let config = config::load(&ConfigFlags {
        config: args.config,
        runtime: args.runtime,
        image: args.image,
        ..ConfigFlags::default()
    })?;
    let place = prepare(
        "no temporary directory could be made",
        tempfile::Builder::new().prefix("codex-mcp-demo-").tempdir(),
    )?;
    let sample = place.path().join("sample");
    prepare("the sample folder could not be written", write_sample(&sample))?;
    let model = prepare(
        "the scripted model could not listen on loopback",
        ScriptedModel::start(Access::Open).await,
    )?;

    heading("A real Codex, in a container of its own, driven over MCP. Only the model is a script.");
    say(DIM, &format!("model      {} at {}", args.model, model.base_url()));
    say(DIM, &format!("workspace  {}", sample.display()));
    let settings = settings::render(&config, &model.base_url(), args.model.as_str(), &sample);
    let settings_file = place.path().join("codex-mcp.toml");
    prepare(
        "the demo's configuration could not be written",
        write(&settings_file, &settings),
    )?;

    heading("1. Start the MCP server, as a client does");
    let mut server = McpServer::start(&program, &settings_file, args.model.as_str(), &sample).await?;
    say(PLAIN, &format!("$ {}", server.command_line()));
    say(
        PLAIN,
        &format!(
            "it is {} and offers {}",
            server.name(),
            server.tools().await?.join(", ")
        ),
    );
    let played = story(&mut server, &sample).await;
    // Ended in any case, so that a failed demo leaves nothing running either.
    let ended = server.end().await;
    let session = played?;
    ended?;

    heading("5. The client leaves: everything ends");
    match server::containers_left(&session).await {
        Ok(left) if left.is_empty() => say(GOOD, "the server ended cleanly and no container of it is left"),
        Ok(left) => return Err(DemoError::LeftOver(left.join(", "))),
        Err(reason) => say(
            WARNING,
            &format!("the server ended cleanly; whether a container is left was not seen: {reason}"),
        ),
    }
    drop(place);

    heading("Use it yourself");
    say(PLAIN, &snippets::render(&program));
    Ok(())
}

/// The two calls, and what they show.
async fn story(server: &mut McpServer, sample: &Path) -> Result<outcome::Session, DemoError> {
    heading("2. Call `codex`");
    let first = call(server, "codex", json!({"prompt": "#demo", "cwd": sample})).await?;
    say(
        PLAIN,
        &format!(
            "thread {} on {}, image {}",
            first.thread, first.session.engine, first.session.image
        ),
    );
    show_unenforced(&first);
    say(PLAIN, &first.content);

    heading("3. What changed: in Codex's copy, not in your folder");
    let patch = first.patch.as_deref().ok_or(DemoError::Result {
        tool: "codex",
        missing: "the changes that the script made",
    })?;
    for line in patch.lines() {
        let style = match line.as_bytes().first() {
            Some(b'+') => ADDED,
            Some(b'-') => REMOVED,
            Some(b'@') => HUNK,
            _ => PLAIN,
        };
        say(style, line);
    }
    let original = sample.join("NOTES.md");
    if original.exists() {
        return Err(DemoError::OriginalTouched(original));
    }

    heading("4. Call `codex-reply` and look around inside");
    let prompt = format!("#shell {}", facts::COMMAND);
    let second = call(
        server,
        "codex-reply",
        json!({"prompt": prompt, "threadId": first.thread}),
    )
    .await?;
    for fact in facts::read(&second.content) {
        if !fact.holds {
            return Err(DemoError::Broken {
                promise: fact.promise,
                read: fact.read,
            });
        }
        say(GOOD, &format!("✓ {} ({})", fact.promise, fact.read));
    }
    say(DIM, &facts::limits(&second.content));
    Ok(first.session)
}

async fn call(server: &mut McpServer, tool: &'static str, arguments: serde_json::Value) -> Result<Outcome, DemoError> {
    let result = server
        .call(tool, arguments, |message| say(DIM, &format!("  … {message}")))
        .await?;
    let is_error = result.is_error == Some(true);
    let first_text = || {
        outcome::texts(&result)
            .first()
            .map(|text| (*text).to_owned())
            .unwrap_or_default()
    };
    if is_error {
        return Err(DemoError::Call {
            tool,
            text: Untrusted::new(first_text()).to_string(),
        });
    }
    outcome::read(&result).map_err(|missing| DemoError::Result { tool, missing })
}

fn show_unenforced(outcome: &Outcome) {
    for limit in &outcome.unenforced {
        say(
            WARNING,
            &format!("this machine can't enforce {limit}; the demo goes on without it"),
        );
    }
}

fn heading(text: &str) {
    say(HEADING, &format!("\n{text}"));
}

/// What the container said is among it, so nothing goes to the terminal but through [`Untrusted`]'s `Display`.
fn say(style: anstyle::Style, text: &str) {
    for line in text.split('\n') {
        let line = Line::new(style, Untrusted::new(line).to_string());
        // A reader that left has seen enough; the demo still has to end its server.
        let _ = output::result(&line.to_string());
    }
}

fn write_sample(folder: &Path) -> io::Result<()> {
    std::fs::create_dir(folder)?;
    write(
        &folder.join("README.md"),
        "# Sample\n\nA folder for Codex to work on.\n",
    )?;
    write(&folder.join("greet.sh"), "#!/bin/sh\necho \"Hello, $1\"\n")
}

#[expect(
    clippy::disallowed_methods,
    reason = "the demo's own files, in its own temporary directory"
)]
fn write(path: &Path, text: &str) -> io::Result<()> {
    std::fs::write(path, text)
}
