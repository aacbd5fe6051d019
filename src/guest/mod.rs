//! PID 1 inside the container: this same binary, mounted read-only and started as `codex-mcp guest`.
//!
//! It reads back where it runs and says so ([`crate::wire::contract::Ready`]) before it starts anything, then starts
//! processes on the host's request, offers the loopback model endpoint, reaps, and kills everything when its stdin
//! closes: the lifeline. It must never hand a descriptor of the pipe to a child, never trust the image (no shell, no
//! library, no file of it), and never outlive the pipe.
