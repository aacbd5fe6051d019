//! Tracing to stderr. stdout belongs to the protocol or the result.
