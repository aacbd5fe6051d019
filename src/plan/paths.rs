//! Where things are inside the container.
//!
//! The workspace keeps its host path, so that paths in prompts, answers and compiler output hold on both sides, unless
//! that path would hide or be hidden by something of the image.

use std::path::{Component, Path};

/// The guest binary: bind-mounted read-only, the container's entrypoint.
pub const GUEST_PROGRAM: &str = "/run/codex-mcp/guest";
/// `CODEX_HOME`. Never below `/tmp`: Codex refuses its PATH helpers there.
pub const CODEX_HOME: &str = "/var/lib/codex";
/// `HOME` of everything inside: a sized scratch file system.
pub const HOME: &str = crate::config::secret::CONTAINER_HOME;
pub const TMP: &str = "/tmp";
/// Where a workspace is mounted whose own path can't be kept.
pub const WORKSPACE: &str = "/workspace";
/// Loopback port of the model endpoint. Each container has a network namespace of its own, so one number serves all.
pub const MODEL_PORT: u16 = 18080;
/// Loopback port of the proxy that commands are told of.
pub const PROXY_PORT: u16 = 18081;
/// Certificate authorities for commands, where the operator configured a bundle. Holds the host's as well, because most
/// programs take one file in place of the image's.
pub const CA_BUNDLE: &str = "/run/codex-mcp/ca-bundle.pem";
/// Cargo looks for its configuration in every directory above the one it works in, this one last, and takes mirrors from
/// nowhere else.
pub const CARGO_CONFIG: &str = "/.cargo/config.toml";

/// Names in the Codex home that decide what Codex does: read-only mounts, empty where we set nothing. Planted ones
/// silenced approvals, reached the model and broke turns.
pub const SEALED_FILES: [&str; 5] = ["config.toml", ".env", "AGENTS.md", "AGENTS.override.md", "hooks.json"];
pub const SEALED_DIRS: [&str; 2] = ["rules", "skills"];

/// First components that belong to the image. `/root` is there because its mode keeps our user out of anything below.
const IMAGE_DIRECTORIES: [&str; 14] = [
    "bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "root", "run", "sbin", "sys", "usr",
];

/// Places of ours, which a workspace may neither contain nor lie in.
const OUR_PLACES: [&str; 4] = ["/opt/codex", CODEX_HOME, HOME, WORKSPACE];

/// The path inside for a workspace that is at `host` (canonical) on the host.
pub fn workspace_inside(host: &Path) -> String {
    match host.to_str() {
        Some(text) if keeps_its_path(host) => text.to_owned(),
        _ => WORKSPACE.to_owned(),
    }
}

/// Whether a folder of the host can be mounted at its own path (canonical).
pub fn keeps_its_path(host: &Path) -> bool {
    let (Some(Component::Normal(first)), Some(text)) = (host.components().nth(1), host.to_str()) else {
        return false;
    };
    let image_owned = IMAGE_DIRECTORIES.iter().any(|name| first == *name);
    let overlaps = OUR_PLACES
        .iter()
        .any(|place| host.starts_with(place) || Path::new(place).starts_with(host));
    // `/tmp` itself is the scratch file system; a folder below it is mounted over it.
    let is_tmp = host == Path::new(TMP);
    mountable(text) && !image_owned && !overlaps && !is_tmp
}

/// Whether a path can be written into `-v SOURCE:TARGET:OPTIONS`, which knows no quoting.
pub fn mountable(path: &str) -> bool {
    path.starts_with('/') && !path.contains([':', ',']) && !path.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn inside(host: &str) -> String {
        workspace_inside(Path::new(host))
    }

    #[test]
    fn a_workspace_keeps_its_host_path() {
        for path in [
            "/home/alice/project",
            "/srv/code",
            "/var/www/site",
            "/tmp/scratch-1",
            "/data",
        ] {
            assert_eq!(inside(path), path);
        }
    }

    #[test]
    fn a_path_of_the_image_or_of_ours_becomes_slash_workspace() {
        for path in [
            "/",
            "/usr/src/app",
            "/root/project",
            "/etc",
            "/home",
            "/home/codex",
            "/home/codex/x",
            "/var",
            "/var/lib",
            "/var/lib/codex/x",
            "/opt",
            "/opt/codex",
            "/tmp",
            "/workspace/x",
            "/run/user/1000/x",
        ] {
            assert_eq!(inside(path), "/workspace", "{path}");
        }
    }

    #[test]
    fn a_path_that_the_mount_syntax_cannot_carry_becomes_slash_workspace() {
        for path in ["/srv/a:b", "/srv/a,b", "/srv/a\nb"] {
            assert_eq!(inside(path), "/workspace", "{path:?}");
        }
    }
}
