//! Pieces that the tools' schemas are made of.
//!
//! Written by hand because derived schemas carry `format` keywords, which several clients warn about, and because a schema that
//! clients depend on should be read, not inferred. Each tool's own is in its file in [`crate::mcp::tools`].

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde_json::{Value, json};
use std::sync::Arc;

/// What a tool does to the world, as far as clients ask before they call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effects {
    /// It changes nothing.
    ReadOnly,
    /// It works in a container, on a copy. What it reaches is the operator's to say, and the list is the same whatever that is: so the
    /// world counts as open.
    Contained,
    /// It ends something; called again it changes nothing more.
    Ends,
    /// It writes to the user's own files, or removes what can't be had back.
    Destructive,
}

impl Effects {
    fn annotations(self) -> ToolAnnotations {
        ToolAnnotations::new()
            .read_only(self == Self::ReadOnly)
            .destructive(self == Self::Destructive)
            .idempotent(matches!(self, Self::ReadOnly | Self::Ends))
            .open_world(self == Self::Contained)
    }
}

/// A tool as `tools/list` has it. `input` and `output` are JSON Schemas (2020-12) of objects.
pub fn tool(
    name: &'static str,
    title: &'static str,
    description: &'static str,
    effects: Effects,
    input: Value,
    output: Value,
) -> Tool {
    Tool::new(name, description, object(input))
        .with_title(title)
        .with_raw_output_schema(Arc::new(object(output)))
        .with_annotations(effects.annotations())
}

/// The input of a tool: its parameters, and which of them it needs.
pub fn input(required: &[&str], properties: &Value) -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": required,
        "properties": properties,
    })
}

pub fn thread_id() -> Value {
    json!({"type": "string", "description": "The thread."})
}

/// What tools that run a turn answer. Clients of the removed server read the two required fields only.
pub fn turn_output() -> Value {
    let count = json!({"type": "integer", "minimum": 0});
    json!({
        "type": "object",
        "required": ["threadId", "content"],
        "properties": {
            "threadId": {"type": "string"},
            "content": {"type": "string"},
            "session": {
                "type": "object",
                "description": "The container that the thread runs in.",
                "required": ["id", "engine", "rootless", "image", "model"],
                "properties": {
                    "id": {"type": "string"},
                    "engine": {"type": "string"},
                    "rootless": {"type": "boolean"},
                    "image": {"type": "string"},
                    "model": {"type": "string"}
                }
            },
            "turn": {
                "type": "object",
                "required": ["status"],
                "properties": {
                    "id": {"type": "string"},
                    "status": {"type": "string", "enum": ["running", "completed", "interrupted", "failed"]},
                    "error": {"type": "string"}
                }
            },
            "usage": {
                "type": "object",
                "description": "Tokens of the whole thread so far.",
                "properties": {
                    "inputTokens": count,
                    "cachedInputTokens": count,
                    "outputTokens": count,
                    "reasoningOutputTokens": count,
                    "totalTokens": count
                }
            },
            "modelUsage": {
                "type": "object",
                "description": "What the thread has asked of its model so far, as counted on the host, and what its quota leaves.",
                "properties": {
                    "requests": count,
                    "refused": count,
                    "requestBytes": count,
                    "responseBytes": count,
                    "tokens": {"type": "object", "properties": {"input": count, "output": count}},
                    "quotaLeft": {"type": "object", "properties": {"tokens": count, "requests": count}}
                }
            },
            "limits": {
                "type": "array",
                "description": "What the session may use: bytes, thousandths of a CPU, processes, open files of one, seconds. Where by is kernel, as it was read back inside; where it is watchdog, codex-mcp ends the turn or the session.",
                "items": {
                    "type": "object",
                    "required": ["name", "limit", "enforced", "by"],
                    "properties": {
                        "name": {"type": "string", "enum": ["memory", "cpus", "pids", "open_files", "scratch", "workspace", "turn", "idle", "wall"]},
                        "limit": count,
                        "peak": count,
                        "enforced": {"type": "boolean"},
                        "by": {"type": "string", "enum": ["kernel", "watchdog"]}
                    }
                }
            },
            "used": {
                "type": "object",
                "description": "What the container has used so far, where it is counted.",
                "properties": {
                    "cpuSeconds": {"type": "number", "minimum": 0},
                    "diskBytes": count,
                    "diskFiles": count,
                    "memoryKills": count,
                    "egressBytes": count
                }
            },
            "quotaLeft": {
                "type": "object",
                "description": "What is left of the operator's bounds, of this session and of the day; renews says when the day's are whole again.",
                "properties": {
                    "session": {"type": "object"},
                    "day": {"type": "object"}
                }
            },
            "unenforced": {
                "type": "array",
                "description": "Limits that this machine can't enforce and the operator accepted as best-effort.",
                "items": {
                    "type": "object",
                    "required": ["limit", "reason", "remedy"],
                    "properties": {
                        "limit": {"type": "string"},
                        "reason": {"type": "string"},
                        "remedy": {"type": "string"}
                    }
                }
            },
            "changes": changes(),
            "applied": {
                "type": "object",
                "description": "What became of bringing the changes to the user's folder, where that is done after each turn.",
                "properties": {
                    "files": {"type": "array", "items": {"type": "object"}},
                    "held": {"type": "array", "items": {"type": "object"}},
                    "refused": {"type": "string", "description": "Why nothing was written."}
                }
            },
            "egressDenied": {
                "type": "array",
                "description": "Connections of commands that were refused since the turn before, equal ones counted.",
                "items": {
                    "type": "object",
                    "required": ["host", "port", "count", "rule", "howToAllow"],
                    "properties": {
                        "host": {
                            "type": "string",
                            "description": "Empty where the request named nothing that could be a host."
                        },
                        "port": {"type": "integer", "minimum": 0, "description": "0 where none was named."},
                        "count": count,
                        "rule": {"type": "string", "description": "What refused it, and where that stands."},
                        "howToAllow": {"type": "string", "description": "What the operator would set to allow it."}
                    }
                }
            },
            "notes": {
                "type": "array",
                "description": "What parameters came to, where that is not what their names say.",
                "items": {"type": "string"}
            }
        }
    })
}

/// The same, spelled out once: a schema of its size twice would be a third of the whole list.
pub fn reply_output() -> Value {
    json!({
        "type": "object",
        "description": "As codex answers.",
        "required": ["threadId", "content"],
        "properties": {
            "threadId": {"type": "string"},
            "content": {"type": "string"}
        }
    })
}

/// What a thread changed in its copy of the workspace.
pub fn changes() -> Value {
    let count = json!({"type": "integer", "minimum": 0});
    json!({
        "type": "object",
        "description": "What the thread changed in its copy of the workspace so far.",
        "required": ["files", "insertions", "deletions"],
        "properties": {
            "files": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["path", "kind"],
                    "properties": {
                        "path": {"type": "string"},
                        "kind": {"type": "string", "enum": ["added", "modified", "deleted", "renamed"]},
                        "renamedFrom": {"type": "string"},
                        "insertions": count,
                        "deletions": count
                    }
                }
            },
            "insertions": count,
            "deletions": count,
            "base": {"type": "string", "description": "What they are changes to, in the session's private git directory."},
            "hash": {"type": "string", "description": "SHA-256 of the whole patch."},
            "withheld": {"type": "integer", "minimum": 0, "description": "Files that are not brought back: sockets, hard links, what can't be read."}
        }
    })
}

/// Only ever given literals that are objects.
fn object(value: Value) -> JsonObject {
    match value {
        Value::Object(map) => map,
        _ => JsonObject::new(),
    }
}
