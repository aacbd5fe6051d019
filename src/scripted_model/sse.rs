//! An answer → server-sent events, in the order in which the Responses API sends them.
//!
//! Only what Codex needs is sent (seen with 0.169): created, per item added, deltas and done, then completed with usage.

use crate::scripted_model::scenario::Item;
use bytes::Bytes;
use serde_json::{Value, json};

/// The largest piece of a message that one delta carries, in bytes.
const DELTA: usize = 1 << 10;

/// One event, ready to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub frame: Bytes,
    /// A piece of text: what `#slow` waits before.
    pub is_text: bool,
}

/// The event that begins every response.
pub fn created(response: &str) -> Event {
    event(&json!({"type": "response.created", "response": {"id": response, "status": "in_progress"}}))
}

/// All events of a whole response.
pub fn whole(response: &str, items: &[Item], input_tokens: u64) -> Vec<Event> {
    let mut events = vec![created(response)];
    let mut output_tokens = 0;
    for (index, item) in items.iter().enumerate() {
        match item {
            Item::Message { id, text } => {
                output_tokens += text.len() as u64 / 4 + 1;
                push_message(&mut events, index, id, text);
            }
            Item::Call(call) => {
                output_tokens += call.to_string().len() as u64 / 4 + 1;
                events.push(event(
                    &json!({"type": "response.output_item.done", "output_index": index, "item": call}),
                ));
            }
        }
    }
    events.push(event(&json!({
        "type": "response.completed",
        "response": {
            "id": response,
            "status": "completed",
            "usage": {
                "input_tokens": input_tokens,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": output_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": input_tokens + output_tokens,
            },
        },
    })));
    events
}

fn push_message(events: &mut Vec<Event>, index: usize, id: &str, text: &str) {
    let message = |content: Value| json!({"type": "message", "role": "assistant", "id": id, "content": content});
    events.push(event(
        &json!({"type": "response.output_item.added", "output_index": index, "item": message(json!([]))}),
    ));
    for piece in pieces(text) {
        let delta = json!({
            "type": "response.output_text.delta",
            "item_id": id,
            "output_index": index,
            "content_index": 0,
            "delta": piece,
        });
        events.push(Event {
            is_text: true,
            ..event(&delta)
        });
    }
    let content = json!([{"type": "output_text", "text": text}]);
    events.push(event(
        &json!({"type": "response.output_item.done", "output_index": index, "item": message(content)}),
    ));
}

/// Words of a short text, larger pieces of a long one, so that a long one is not mostly framing.
fn pieces(text: &str) -> Vec<&str> {
    if text.len() <= DELTA {
        return text.split_inclusive(char::is_whitespace).collect();
    }
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at(rest.floor_char_boundary(DELTA));
        pieces.push(piece);
        rest = tail;
    }
    pieces
}

fn event(data: &Value) -> Event {
    let name = data.get("type").and_then(Value::as_str).unwrap_or_default();
    Event {
        // serde_json writes no raw newlines, so the data is always one line.
        frame: Bytes::from(format!("event: {name}\ndata: {data}\n\n")),
        is_text: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn data(events: &[Event]) -> Vec<Value> {
        events
            .iter()
            .map(|event| {
                let frame = std::str::from_utf8(&event.frame).unwrap();
                let (name, data) = frame.strip_suffix("\n\n").unwrap().split_once('\n').unwrap();
                let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
                assert_eq!(name.strip_prefix("event: "), data["type"].as_str());
                data
            })
            .collect()
    }

    #[test]
    fn a_response_has_codexs_events_in_order() {
        let items = [
            Item::Message {
                id: "m".into(),
                text: "two words".into(),
            },
            Item::Call(json!({"type": "function_call"})),
        ];
        let events = data(&whole("r", &items, 8));
        let names: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
        insta::assert_snapshot!(names.join("\n"), @r"
        response.created
        response.output_item.added
        response.output_text.delta
        response.output_text.delta
        response.output_item.done
        response.output_item.done
        response.completed
        ");
        assert_eq!(events[6]["response"]["usage"]["total_tokens"], json!(8 + 3 + 7));
    }

    proptest! {
        #[test]
        fn the_deltas_of_a_message_add_up_to_it(piece in "(\\PC|\n){0,80}", times in 1usize..40) {
            let text = piece.repeat(times);
            let items = [Item::Message { id: "m".into(), text: text.clone() }];
            let events = data(&whole("r", &items, 0));
            let said: String = events.iter().filter_map(|event| event["delta"].as_str()).collect();
            prop_assert_eq!(&said, &text);
            let done = events.iter().find(|event| event["type"] == "response.output_item.done").unwrap();
            prop_assert_eq!(done["item"]["content"][0]["text"].as_str(), Some(text.as_str()));
        }
    }
}
