//! `sessions`: what there is of them on disk, and what is done to them.

use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::LaunchFlags;
use crate::cli::{configure, current_dir, output, run, sessions_text};
use crate::config::Config;
use crate::session::store::StoreError;
use crate::session::upkeep::{Dry, Upkeep, UpkeepError};

#[derive(Debug, clap::Args)]
pub struct SessionsArgs {
    #[command(subcommand)]
    pub command: SessionsCommand,
}

/// A session is named by its id, its thread's id, or a beginning of either.
#[derive(Debug, clap::Subcommand)]
pub enum SessionsCommand {
    /// List all sessions, oldest first
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Show one: what it works on, how it was started, how it ended
    Show {
        /// The session's or thread's id, or a beginning of it
        session: String,
        #[command(flatten)]
        common: Common,
    },
    /// Print what happened in one, oldest first
    Logs {
        /// The session's or thread's id, or a beginning of it
        session: String,
        #[command(flatten)]
        common: Common,
    },
    /// Run one more turn of a thread whose container is gone
    Resume {
        /// The session's or thread's id, or a beginning of it
        session: String,
        /// What Codex is to do; `-` reads it from stdin
        prompt: String,
        /// Print one JSON object a line instead
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        launch: Box<LaunchFlags>,
    },
    /// End the container of one that another codex-mcp has; its thread and workspace stay
    Stop {
        /// The session's or thread's id, or a beginning of it
        session: String,
        #[command(flatten)]
        common: Common,
    },
    /// Remove sessions for good, with what they changed
    Rm {
        /// The sessions' or threads' ids, or beginnings of them
        #[arg(required = true)]
        sessions: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Remove ended sessions that are too old or too much (sessions.keep, sessions.keep_size)
    Prune {
        /// Only say which
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, clap::Args)]
pub struct Common {
    /// Print JSON instead
    #[arg(long)]
    pub json: bool,
    /// Configuration file in place of ~/.config/codex-mcp/config.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<std::path::PathBuf>,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let exit = match &error {
            StoreError::Unknown(_) | StoreError::Ambiguous { .. } => Exit::Usage,
            StoreError::Held { .. } => Exit::Refused,
            _ => Exit::Internal,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<UpkeepError> for Failure {
    fn from(error: UpkeepError) -> Self {
        match error {
            UpkeepError::Store(error) => error.into(),
            other => Self::new(Exit::Internal, other.to_string()),
        }
    }
}

pub async fn sessions(args: SessionsArgs) -> Exit {
    match args.command {
        SessionsCommand::Resume {
            session,
            prompt,
            json,
            launch,
        } => resume(&session, prompt, *launch, json).await,
        other => output::end(perform(other).await),
    }
}

async fn resume(wanted: &str, prompt: String, launch: LaunchFlags, json: bool) -> Exit {
    let thread = async {
        let config = configure(&launch.config_flags(&current_dir()?))?;
        let found = Upkeep::new(&config)?.show(wanted).await?;
        let record = found
            .record
            .map_err(|flaw| Failure::new(Exit::Internal, flaw.to_string()))?;
        let no_thread = || Failure::new(Exit::Usage, format!("session {} never came to a thread", found.session));
        Ok::<_, Failure>(record.thread.ok_or_else(no_thread)?.id)
    };
    match thread.await {
        Ok(thread) => run::resume(thread, prompt, launch, json).await,
        Err(failure) => output::failure(&failure),
    }
}

fn upkeep(common: &Common) -> Result<(Upkeep, Config), Failure> {
    let flags = LaunchFlags {
        config: common.config.clone(),
        ..LaunchFlags::default()
    };
    let config = configure(&flags.config_flags(&current_dir()?))?;
    Ok((Upkeep::new(&config)?, config))
}

async fn perform(command: SessionsCommand) -> Result<(), Failure> {
    match command {
        SessionsCommand::List { common } => {
            let found = upkeep(&common)?.0.list().await?;
            output::result(&match common.json {
                true => sessions_text::list_json(&found),
                false => sessions_text::table(&found),
            })
        }
        SessionsCommand::Show { session, common } => {
            let found = upkeep(&common)?.0.show(&session).await?;
            output::result(&match common.json {
                true => sessions_text::show_json(&found),
                false => sessions_text::show(&found),
            })
        }
        SessionsCommand::Logs { session, common } => {
            let lines = upkeep(&common)?.0.logs(&session).await?;
            lines.iter().try_for_each(|line| {
                output::result(&match common.json {
                    true => line.to_string(),
                    false => sessions_text::log_line(line),
                })
            })
        }
        SessionsCommand::Stop { session, common } => {
            let stopped = upkeep(&common)?.0.stop(&session).await?;
            output::result(&sessions_text::stopped(stopped, common.json))
        }
        SessionsCommand::Rm { sessions, common } => {
            let (upkeep, _) = upkeep(&common)?;
            let mut removed = Vec::new();
            for wanted in &sessions {
                removed.push(upkeep.remove(wanted).await?);
            }
            output::result(&sessions_text::removed(&removed, common.json))
        }
        SessionsCommand::Prune { dry_run, common } => {
            let dry = if dry_run { Dry::Run } else { Dry::DoIt };
            let removed = upkeep(&common)?.0.prune(dry).await?;
            output::result(&sessions_text::pruned(&removed, dry, common.json))
        }
        // It streams, and has exit codes of its own.
        SessionsCommand::Resume { .. } => Ok(()),
    }
}
