//! The host's end of the pipe: handshake, then spawning inside and accepting the guest's streams.
