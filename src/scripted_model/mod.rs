//! The scripted model: a Responses API server on loopback that plays scenarios, so that real Codex can be driven without
//! a key or a network. Used by `demo`, by the tests, and later by `doctor --deep`.
