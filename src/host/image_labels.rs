//! The labels of an image of ours: written by whoever builds it, read back as facts.

/// Version of Codex inside.
pub const CODEX_VERSION: &str = "io.github.codex-mcp.codex-version";
/// What it was built from: a registry reference, or `bootstrap:SUITE`.
pub const BASE: &str = "io.github.codex-mcp.base";
/// [`crate::wire::contract::CONTRACT`] of the binary that built it.
pub const CONTRACT: &str = "io.github.codex-mcp.guest-contract";
/// RFC 3339, UTC.
pub const BUILT: &str = "io.github.codex-mcp.built";
/// [`crate::image::recipe::Recipe::digest`]: equal digests need no new build.
pub const RECIPE: &str = "io.github.codex-mcp.recipe";
