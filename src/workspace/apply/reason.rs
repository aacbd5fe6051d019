//! Why a change is not brought to the host, as a person reads it.

use crate::workspace::apply::path::{LinkFlaw, PathFlaw};

/// Why a change can't be brought over what the host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    #[error("the session and the host both added it, with different content")]
    BothAdded,
    #[error("the session deleted it, and the host changed it")]
    DeletedInSession,
    #[error("the session changed it, and the host deleted it")]
    DeletedOnHost,
    #[error("the session and the host changed it into different kinds of file")]
    Kinds,
    #[error("the session and the host pointed the link elsewhere")]
    Links,
    #[error("the session and the host changed the same lines")]
    Lines,
    #[error("the session and the host both changed it, and it is not text that could be merged")]
    NotText,
    #[error("the session and the host both changed it, and it is too large to be merged")]
    TooLargeToMerge,
    #[error("a directory with files that the session did not delete stands in its place on the host")]
    DirectoryInTheWay,
    #[error("on the host a file stands where its directory was")]
    FileInTheWay,
    #[error("on the host a socket, FIFO or device stands in its place")]
    SpecialInTheWay,
}

/// Why a path is never written, whatever the host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    Path(#[from] PathFlaw),
    #[error("{0}")]
    Link(#[from] LinkFlaw),
    #[error("git runs files from there on this host: it is in a directory of hooks, or a hook is a link to it")]
    Hooks,
    #[error(
        "its directory has HEAD, objects and refs, which git takes for a repository whose configuration and hooks run commands on \
         this host; give one of them another name in the session"
    )]
    GitDirectory,
    #[error("on the host its directory is a link, and nothing is written through links")]
    ThroughLink,
    #[error("codex-mcp may not read what the host has there; give the user that runs it the right to")]
    Unreadable,
}
