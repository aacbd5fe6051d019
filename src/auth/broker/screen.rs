//! What a request to a model may say. Pure.
//!
//! A list of what passes, as Codex 0.169 sends it (seen with plain, code-mode and unknown models, over turns with commands,
//! patches, pictures, an output schema, a review and a compaction). All else is refused by name: a process inside could ask a
//! provider to fetch an address, to remember something, to run a tool of its own or a costlier model, and each of those would
//! be a way out of the container or into the operator's purse.

use crate::auth::broker::document::Json;
use crate::config::WebSearch;
use std::collections::BTreeSet;
use std::fmt;

/// What the operator decided about one session's requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    pub models: BTreeSet<String>,
    pub web_search: WebSearch,
}

/// Why a request did not pass: where in it, and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{at}` {reason}")]
pub struct Forbidden {
    /// As in `input[3].content[0].image_url`; names that came from inside are cut and cleaned.
    at: String,
    reason: String,
}

/// How much of a name from inside is shown, in characters.
const MAX_NAME: usize = 64;

/// The request as it goes to the provider, from `document` as it came. Fields that tell of the installation and that no model needs
/// are left out.
pub fn screen(document: Json, terms: &Terms) -> Result<Json, Forbidden> {
    let screen = Screen { terms };
    let passed = screen.object(REQUEST, document, &Place::REQUEST)?;
    for (field, needed) in [("store", Json::Bool(false)), ("stream", Json::Bool(true))] {
        // Left out, `store` would be true.
        if passed.get(field) != Some(&needed) {
            let wanted = if needed == Json::Bool(true) { "true" } else { "false" };
            return Err(Place::REQUEST
                .below(Step::Field(field))
                .refuse(format!("has to be {wanted}")));
        }
    }
    for field in ["model", "input"] {
        if passed.get(field).is_none() {
            return Err(Place::REQUEST.below(Step::Field(field)).refuse("is missing"));
        }
    }
    Ok(passed)
}

/// The fields that an object may have.
type Fields = &'static [(&'static str, Kind)];

/// What a value may be.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Text,
    Flag,
    /// One of these.
    Word(&'static [&'static str]),
    Words(&'static [&'static str]),
    /// One of the session's models.
    Model,
    /// `data:` and nothing that has to be fetched.
    Picture,
    Object(Fields),
    Items,
    Parts,
    Tools,
    /// A JSON schema or a grammar: anything but a reference elsewhere.
    Schema,
    /// What a web search of the provider's was: only where the operator allows them.
    Search,
    /// Left out.
    Dropped,
}

const REQUEST: Fields = &[
    ("model", Kind::Model),
    ("instructions", Kind::Text),
    ("input", Kind::Items),
    ("tools", Kind::Tools),
    ("tool_choice", Kind::Word(&["auto", "none", "required"])),
    ("parallel_tool_calls", Kind::Flag),
    (
        "reasoning",
        Kind::Object(&[("effort", Kind::Text), ("summary", Kind::Text), ("context", Kind::Text)]),
    ),
    ("store", Kind::Flag),
    ("stream", Kind::Flag),
    ("include", Kind::Words(&["reasoning.encrypted_content"])),
    ("prompt_cache_key", Kind::Text),
    (
        "text",
        Kind::Object(&[
            ("verbosity", Kind::Text),
            (
                "format",
                Kind::Object(&[
                    ("type", Kind::Word(&["text", "json_schema"])),
                    ("name", Kind::Text),
                    ("strict", Kind::Flag),
                    ("schema", Kind::Schema),
                ]),
            ),
        ]),
    ),
    // The installation's id, the session's folder and sandbox.
    ("client_metadata", Kind::Dropped),
];

/// By `type`.
const ITEMS: &[(&str, Fields)] = &[
    (
        "message",
        &[
            ("id", Kind::Text),
            ("role", Kind::Word(&["user", "assistant", "developer", "system"])),
            ("status", Kind::Text),
            ("phase", Kind::Text),
            ("content", Kind::Parts),
        ],
    ),
    (
        "reasoning",
        &[
            ("id", Kind::Text),
            ("status", Kind::Text),
            ("summary", Kind::Parts),
            ("content", Kind::Parts),
            ("encrypted_content", Kind::Text),
        ],
    ),
    (
        "function_call",
        &[
            ("id", Kind::Text),
            ("status", Kind::Text),
            ("call_id", Kind::Text),
            ("name", Kind::Text),
            ("namespace", Kind::Text),
            ("arguments", Kind::Text),
        ],
    ),
    ("function_call_output", OUTPUT),
    (
        "custom_tool_call",
        &[
            ("id", Kind::Text),
            ("status", Kind::Text),
            ("call_id", Kind::Text),
            ("name", Kind::Text),
            ("namespace", Kind::Text),
            ("input", Kind::Text),
        ],
    ),
    ("custom_tool_call_output", OUTPUT),
    (
        "additional_tools",
        &[
            ("id", Kind::Text),
            ("role", Kind::Word(&["developer"])),
            ("tools", Kind::Tools),
        ],
    ),
    ("compaction", COMPACTION),
    ("context_compaction", COMPACTION),
    (
        "web_search_call",
        &[("id", Kind::Text), ("status", Kind::Text), ("action", Kind::Search)],
    ),
];

const OUTPUT: Fields = &[
    ("id", Kind::Text),
    ("status", Kind::Text),
    ("call_id", Kind::Text),
    ("name", Kind::Text),
    ("output", Kind::Parts),
];

const COMPACTION: Fields = &[("id", Kind::Text), ("encrypted_content", Kind::Text)];

const PARTS: &[(&str, Fields)] = &[
    ("input_text", &[("text", Kind::Text)]),
    (
        "output_text",
        &[
            ("text", Kind::Text),
            // What the provider said about its own words, with addresses in it.
            ("annotations", Kind::Dropped),
            ("logprobs", Kind::Dropped),
        ],
    ),
    ("summary_text", &[("text", Kind::Text)]),
    ("reasoning_text", &[("text", Kind::Text)]),
    ("input_image", &[("image_url", Kind::Picture), ("detail", Kind::Text)]),
];

const TOOLS: &[(&str, Fields)] = &[
    (
        "function",
        &[
            ("name", Kind::Text),
            ("description", Kind::Text),
            ("strict", Kind::Flag),
            ("parameters", Kind::Schema),
        ],
    ),
    (
        "custom",
        &[
            ("name", Kind::Text),
            ("description", Kind::Text),
            (
                "format",
                Kind::Object(&[
                    ("type", Kind::Word(&["text", "grammar"])),
                    ("syntax", Kind::Text),
                    ("definition", Kind::Text),
                ]),
            ),
        ],
    ),
    (
        "namespace",
        &[
            ("name", Kind::Text),
            ("description", Kind::Text),
            ("tools", Kind::Tools),
        ],
    ),
    (
        "web_search",
        &[
            ("external_web_access", Kind::Search),
            ("filters", Kind::Search),
            ("user_location", Kind::Search),
            ("search_context_size", Kind::Search),
            ("search_content_types", Kind::Search),
        ],
    ),
];

/// Where in a request something stands. Spelled out only for a refusal: a request has many places.
#[derive(Debug, Clone, Copy)]
struct Place<'p> {
    within: Option<&'p Place<'p>>,
    step: Step<'p>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'p> {
    Request,
    Field(&'p str),
    Item(usize),
}

impl<'p> Place<'p> {
    const REQUEST: Place<'static> = Place {
        within: None,
        step: Step::Request,
    };

    fn below(&'p self, step: Step<'p>) -> Self {
        Place {
            within: Some(self),
            step,
        }
    }

    fn refuse(&self, reason: impl Into<String>) -> Forbidden {
        Forbidden {
            at: self.to_string(),
            reason: reason.into(),
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let within = self.within.filter(|within| !matches!(within.step, Step::Request));
        if let Some(within) = within {
            write!(f, "{within}")?;
        }
        match self.step {
            Step::Request => f.write_str("the request"),
            Step::Item(number) => write!(f, "[{number}]"),
            Step::Field(name) => {
                f.write_str(if within.is_some() { "." } else { "" })?;
                // The name came from inside.
                let plain = |c: &char| c.is_ascii_graphic() && *c != '`';
                name.chars()
                    .filter(plain)
                    .take(MAX_NAME)
                    .try_for_each(|c| write!(f, "{c}"))
            }
        }
    }
}

struct Screen<'t> {
    terms: &'t Terms,
}

impl Screen<'_> {
    fn object(&self, fields: Fields, value: Json, at: &Place<'_>) -> Result<Json, Forbidden> {
        let Json::Object(found) = value else {
            return Err(at.refuse("has to be an object"));
        };
        let mut passed = Vec::with_capacity(found.len());
        for (name, value) in found {
            let at = at.below(Step::Field(&name));
            let kind = fields
                .iter()
                .find_map(|(field, kind)| (*field == name).then_some(*kind));
            let kind = kind.ok_or_else(|| at.refuse("is not one of the fields that pass"))?;
            if let Some(value) = self.value(kind, value, &at)? {
                passed.push((name, value));
            }
        }
        Ok(Json::Object(passed))
    }

    /// `None`: left out.
    fn value(&self, kind: Kind, value: Json, at: &Place<'_>) -> Result<Option<Json>, Forbidden> {
        let refuse = |reason: &str| Err(at.refuse(reason));
        match (kind, value) {
            (Kind::Dropped, _) => Ok(None),
            // Never of the model: the provider would choose one.
            (Kind::Text | Kind::Flag | Kind::Parts | Kind::Tools | Kind::Object(_) | Kind::Schema, Json::Null) => {
                Ok(Some(Json::Null))
            }
            (Kind::Text, value @ Json::String(_)) | (Kind::Flag, value @ Json::Bool(_)) => Ok(Some(value)),
            (Kind::Text, _) => refuse("has to be text"),
            (Kind::Flag, _) => refuse("has to be true or false"),
            (Kind::Word(known), value) => self.word(known, value, at).map(Some),
            (Kind::Words(known), value) => self
                .each(value, at, |screen, word, at| screen.word(known, word, at))
                .map(Some),
            (Kind::Model, value) => match value.as_str() {
                Some(model) if self.terms.models.contains(model) => Ok(Some(value)),
                _ => {
                    let models: Vec<&str> = self.terms.models.iter().map(String::as_str).collect();
                    refuse(&format!(
                        "is not a model of this session, which is {}; the operator sets it with codex.model or --model, \
                         and which a call may choose with codex.models",
                        models.join(", ")
                    ))
                }
            },
            (Kind::Picture, value) => match value.as_str() {
                Some(url) if url.starts_with("data:image/") => Ok(Some(value)),
                _ => refuse("has to be a `data:image/…` URL: the provider is not to fetch anything"),
            },
            (Kind::Object(fields), value) => self.object(fields, value, at).map(Some),
            (Kind::Items, value) => self
                .each(value, at, |screen, item, at| screen.tagged(ITEMS, item, at))
                .map(Some),
            (Kind::Parts, value @ Json::String(_)) => Ok(Some(value)),
            (Kind::Parts, value) => self
                .each(value, at, |screen, part, at| screen.tagged(PARTS, part, at))
                .map(Some),
            (Kind::Tools, value) => self
                .each(value, at, |screen, tool, at| screen.tagged(TOOLS, tool, at))
                .map(Some),
            (Kind::Schema, value) => {
                refer_nowhere(&value, at)?;
                Ok(Some(value))
            }
            // Whether there may be one at all is decided where its type is looked up.
            (Kind::Search, value) => Ok(Some(value)),
        }
    }

    fn word(&self, known: &[&str], value: Json, at: &Place<'_>) -> Result<Json, Forbidden> {
        match value.as_str() {
            Some(word) if known.contains(&word) => Ok(value),
            _ => Err(at.refuse(format!("has to be one of {}", known.join(", ")))),
        }
    }

    fn each(
        &self,
        value: Json,
        at: &Place<'_>,
        one: impl Fn(&Self, Json, &Place<'_>) -> Result<Json, Forbidden>,
    ) -> Result<Json, Forbidden> {
        let Json::Array(items) = value else {
            return Err(at.refuse("has to be a list"));
        };
        let items = items.into_iter().enumerate();
        let passed = items.map(|(number, item)| one(self, item, &at.below(Step::Item(number))));
        Ok(Json::Array(passed.collect::<Result<_, _>>()?))
    }

    /// An object that says by its `type` which it is.
    fn tagged(&self, types: &[(&'static str, Fields)], value: Json, at: &Place<'_>) -> Result<Json, Forbidden> {
        let Json::Object(mut found) = value else {
            return Err(at.refuse("has to be an object"));
        };
        let tag = found
            .iter()
            .position(|(name, _)| name == "type")
            .map(|tag| found.remove(tag));
        let tag = match &tag {
            Some((_, Json::String(tag))) => tag.as_str(),
            // As Codex leaves it out of no item; the API takes a message without one.
            _ => return Err(at.refuse("needs a `type`")),
        };
        let at_tag = at.below(Step::Field("type"));
        let Some((tag, fields)) = types.iter().find(|(known, _)| *known == tag) else {
            let known: Vec<&str> = types.iter().map(|(known, _)| *known).collect();
            return Err(at_tag.refuse(format!("has to be one of {}", known.join(", "))));
        };
        if tag.starts_with("web_search") && self.terms.web_search == WebSearch::Disabled {
            return Err(at_tag.refuse(
                "is a web search, by which the provider reads any address; the operator allows it with \
                 codex.web_search = \"live\"",
            ));
        }
        let Json::Object(mut passed) = self.object(fields, Json::Object(found), at)? else {
            return Err(at.refuse("has to be an object"));
        };
        passed.insert(0, ("type".to_owned(), Json::String((*tag).to_owned())));
        Ok(Json::Object(passed))
    }
}

/// A schema's `$ref` may name a part of itself.
fn refer_nowhere(value: &Json, at: &Place<'_>) -> Result<(), Forbidden> {
    match value {
        Json::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(number, item)| refer_nowhere(item, &at.below(Step::Item(number)))),
        Json::Object(fields) => fields.iter().try_for_each(|(name, value)| {
            let at = at.below(Step::Field(name));
            match (name.as_str(), value.as_str()) {
                ("$ref" | "$dynamicRef" | "$recursiveRef", Some(target)) if !target.starts_with('#') => {
                    Err(at.refuse("refers to something outside the request"))
                }
                _ => refer_nowhere(value, &at),
            }
        }),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
