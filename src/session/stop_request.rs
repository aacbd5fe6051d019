//! How another process asks the one that has a session to end its container: a file in the session's directory. There is no
//! socket and no daemon to speak to, and a signal would end the whole server.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const FILE: &str = "stop-requested";
/// How often is looked. A look is one system call.
const INTERVAL: Duration = Duration::from_millis(250);

/// Asks. Whoever has the session sees it within [`INTERVAL`].
pub fn make(session_dir: &Path) -> io::Result<()> {
    let made = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(session_dir.join(FILE));
    made.map(drop)
}

/// Forgets what was asked of an earlier container. By whoever has just taken the session: what is asked from then on is asked of it.
pub fn withdraw(session_dir: &Path) -> io::Result<()> {
    match fs::remove_file(session_dir.join(FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Waits until it is asked. May be dropped and asked again.
pub async fn made(session_dir: &Path) {
    let file = session_dir.join(FILE);
    while !fs::exists(&file).unwrap_or(false) {
        tokio::time::sleep(INTERVAL).await;
    }
}

/// `doing`, to its end. Where that of the session is asked for meanwhile, `give_up` is cancelled, and `doing` has to see to it.
pub async fn obeyed<T>(session_dir: &Path, give_up: &CancellationToken, doing: impl Future<Output = T>) -> T {
    let mut doing = std::pin::pin!(doing);
    tokio::select! {
        biased;
        done = &mut doing => return done,
        () = made(session_dir) => give_up.cancel(),
    }
    doing.await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_is_given_up_when_it_is_asked_and_comes_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let give_up = CancellationToken::new();
        let start = async |lasts: u32| {
            tokio::select! {
                () = give_up.cancelled() => {}
                () = tokio::time::sleep(lasts * INTERVAL) => return "came up",
            }
            tokio::time::sleep(INTERVAL).await;
            "cleaned up"
        };
        assert_eq!(obeyed(dir.path(), &give_up, start(4)).await, "came up");
        assert!(!give_up.is_cancelled());
        let asking = async {
            tokio::time::sleep(INTERVAL).await;
            make(dir.path()).unwrap();
        };
        let (came_to, ()) = tokio::join!(obeyed(dir.path(), &give_up, start(400)), asking);
        assert_eq!(came_to, "cleaned up");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_seen_and_withdrawn() {
        let dir = tempfile::tempdir().unwrap();
        let seen = async || tokio::time::timeout(4 * INTERVAL, made(dir.path())).await.is_ok();
        withdraw(dir.path()).unwrap();
        assert!(!seen().await);
        make(dir.path()).unwrap();
        make(dir.path()).unwrap();
        assert!(seen().await);
        withdraw(dir.path()).unwrap();
        assert!(!seen().await);
    }
}
