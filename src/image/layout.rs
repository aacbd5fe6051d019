//! What lies where inside an image of ours: one table that the assembly writes, the build stages and the
//! verification reads.

/// Codex's vendor tree, as published but without the voice host.
pub const CODEX_DIR: &str = "/opt/codex";

/// Programs below [`CODEX_DIR`] without which an image is refused.
pub const CODEX_PROGRAMS: [&str; 4] = [
    "bin/codex",
    "bin/codex-code-mode-host",
    "codex-path/rg",
    "codex-resources/bwrap",
];

/// Commands that sessions may count on.
pub const TOOLS: [&str; 5] = ["sh", "bash", "git", "rg", "curl"];

/// The Debian packages that bring [`TOOLS`] and the certificate authorities to a minimal base.
pub const DEBIAN_PACKAGES: [&str; 5] = ["bash", "ca-certificates", "curl", "git", "ripgrep"];

/// Where distributions keep their bundle of certificate authorities; one of them has to be there.
pub const CA_BUNDLES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// A place that a session mounts something on. The root file system is read-only at run time, and a mount shows its
/// own mode only once it is there, so each exists in the image with the mode it shall have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountPoint {
    /// Absolute.
    pub path: &'static str,
    pub mode: u32,
    pub kind: MountPointKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountPointKind {
    Directory,
    /// An empty file.
    File,
}

impl MountPointKind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Directory => "dir",
            Self::File => "file",
        }
    }
}

const fn directory(path: &'static str, mode: u32) -> MountPoint {
    MountPoint {
        path,
        mode,
        kind: MountPointKind::Directory,
    }
}

const fn file(path: &'static str, mode: u32) -> MountPoint {
    MountPoint {
        path,
        mode,
        kind: MountPointKind::File,
    }
}

/// Parents before children.
pub const MOUNT_POINTS: [MountPoint; 9] = [
    directory("/tmp", 0o1777),
    directory("/home/codex", 0o1777),
    // CODEX_HOME: outside /tmp, or Codex refuses to put its helpers on PATH.
    directory("/var/lib/codex", 0o755),
    directory("/run/codex-mcp", 0o755),
    file("/run/codex-mcp/guest", 0o755),
    file("/run/codex-mcp/ca-bundle.pem", 0o444),
    directory("/.cargo", 0o755),
    // Empty where nothing is mounted over it, which is what cargo takes for no configuration.
    file("/.cargo/config.toml", 0o444),
    directory("/workspace", 0o755),
];
