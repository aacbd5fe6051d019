//! Puts in order what the next start would, without starting a session: all of it for `sessions prune`, one container for `rm`.

use crate::config::Config;
use crate::plan::identity::ContainerName;
use crate::session::blocking::blocking;
use crate::session::error::SessionError;
use crate::session::ground::Ground;
use crate::session::journal;
use crate::session::recover::recover;
use crate::session::surroundings::Surroundings;
use crate::session::sweep;
use std::sync::Arc;

/// Finishes or takes back applies, and removes the containers, half-made sessions and staged secrets that dead servers left.
///
/// # Errors
/// Where there is no engine to ask for containers: a session's files are not taken from under one that may still run.
pub async fn reconcile(config: &Arc<Config>, surroundings: &Arc<Surroundings>) -> Result<(), SessionError> {
    let state_dir = &config.state_dir.value;
    let mut begun = None;
    recover(state_dir, async {
        let config = Arc::clone(config);
        let audit = blocking(move || journal::begin(&config)).await?;
        Ok(begun.insert(audit).clone())
    })
    .await;
    if let Some(audit) = begun {
        blocking(move || audit.end()).await;
    }
    let ground = Ground::find(Arc::clone(config), Arc::clone(surroundings)).await?;
    sweep::sweep(&ground).await;
    if sweep::needs_second_look(&ground) {
        tokio::time::sleep(sweep::SECOND_LOOK).await;
        sweep::sweep(&ground).await;
    }
    Ok(())
}

/// Ends what is left of one container, for a session that is to be removed. Whoever calls it has the session.
pub async fn end_container(
    config: &Arc<Config>,
    surroundings: &Arc<Surroundings>,
    name: &ContainerName,
) -> Result<(), SessionError> {
    let ground = Ground::find(Arc::clone(config), Arc::clone(surroundings)).await?;
    Ok(ground.engine.remove([name.as_str()]).await?)
}
