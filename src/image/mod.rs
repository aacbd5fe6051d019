//! The image that sessions run in: what goes in, where it comes from, and how each engine gets it.
//!
//! It must never run anything that was fetched on the host, nor accept Codex without its committed integrity value.
//! A reference is given to an image only after [`verify`] has passed it, so that what it names is always whole.
//!
//! Pure:
//! - [`lock`]: the committed version of Codex and the integrity of its package for each platform.
//! - [`layout`]: what lies where inside the image: Codex's tree, mount points, commands.
//! - [`recipe`]: what an image is made of, and the digest that tells whether two are the same.
//! - [`commands`]: the engines' command lines.
//! - [`inspect`]: what an engine says about an image, parsed.
//! - [`checks`]: what an image is asked and how the answers are judged.
//! - [`environment`]: which variables a tool gets to see.
//! - [`error`], [`progress`]: what goes wrong, and how a watcher is told.
//!
//! Effects:
//! - [`cache`]: the files kept between builds, and those that must not outlive one.
//! - [`tools`]: runs npm, mmdebstrap and the engine with that environment.
//! - [`fetch`]: Codex's package, through npm, checked.
//! - [`vendor`]: reads Codex's tree out of the checked package.
//! - [`bootstrap`]: a Debian base without a registry.
//! - [`rootfs`]: base and Codex merged into one tar for `import`.
//! - [`context`]: the directory for the engine's own `build`.
//! - [`build`]: the whole of it, in order.
//! - [`verify`]: one hardened run of an image, checked point by point.
//! - [`list`]: the images of ours that an engine has.

pub mod bootstrap;
pub mod build;
pub mod cache;
pub mod checks;
pub mod commands;
pub mod context;
pub mod environment;
pub mod error;
pub mod fetch;
pub mod inspect;
pub mod layout;
pub mod list;
pub mod lock;
pub mod progress;
pub mod recipe;
pub mod rootfs;
pub mod tools;
pub mod vendor;
pub mod verify;

pub use error::ImageError;
