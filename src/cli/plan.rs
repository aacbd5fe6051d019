//! `plan`: prints exactly what a session would launch, and launches nothing.

use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::LaunchFlags;
use crate::cli::{configure, current_dir, output, plan_text, surroundings};
use crate::codex::client::ThreadSettings;
use crate::engine::argv;
use crate::plan::request::WorkspaceAccess;
use crate::session::registry::{Sessions, StartSession};
use std::sync::Arc;

#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    #[command(flatten)]
    pub launch: LaunchFlags,
    /// Print JSON: configuration, plan and the whole command line
    #[arg(long)]
    pub json: bool,
}

pub async fn plan(args: PlanArgs) -> Exit {
    output::end(show(&args).await)
}

async fn show(args: &PlanArgs) -> Result<(), Failure> {
    let config = Arc::new(configure(&args.launch.config_flags(&current_dir()?))?);
    let sessions = Sessions::new(Arc::clone(&config), Arc::new(surroundings()?));
    let start = StartSession {
        workspace: args.launch.workspace.clone(),
        mode: None,
        access: WorkspaceAccess::ReadWrite,
        model: None,
        network: None,
        thread: ThreadSettings::default(),
    };
    let (_, decided) = sessions.decide(&start).await?;
    let (plan, command) = (decided.plan.clone(), argv::run(&decided.plan));
    let text = if args.json {
        plan_text::json(&config, &plan, &command)
    } else {
        plan_text::human(&config, &plan, &command)
    };
    output::result(&text)
}
