//! What this machine and its engine are.
//!
//! [`facts`] is pure data that every later decision is made from; [`probe`] is the one place that looks. To see which
//! OCI runtime works it starts one trial container with podman ([`probe::trial`]), labelled as this process's and gone
//! when the probe ends. Beside that and its own cache in the state directory it must never change anything on the
//! machine, and never decide policy: it says what is, not what is allowed.
//!
//! [`client_environment`] says what an engine's client may see of our environment, [`image_labels`] how an image of
//! ours is known, [`container_labels`] whose a container is. [`packages`] asks package clients for their hosts, on demand.

pub mod client_environment;
pub mod container_labels;
pub mod facts;
pub mod image_labels;
pub mod packages;
pub mod probe;

pub use facts::HostFacts;
