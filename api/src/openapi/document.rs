//! The document, made of the table.

use std::collections::BTreeMap;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::entry::{Answer, Entry, Parameter};
use super::table;
use crate::dto::operation::Operation;
use crate::route::Verb;

/// Where schemas lie in the document.
const SCHEMAS: &str = "#/components/schemas/";

/// Schemas of what is sent to us, and of what we send: a field that callers may leave out is always there in answers.
struct Schemas {
    requests: SchemaGenerator,
    answers: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = || SchemaSettings::draft2020_12().with(|s| s.definitions_path = "/components/schemas".into());
        Schemas {
            requests: settings().for_deserialize().into_generator(),
            answers: settings().for_serialize().into_generator(),
        }
    }

    /// All named schemas. A type that is both sent and received has two: as a request it is called `…Input`.
    fn named(mut self, paths: &mut Value) -> Map<String, Value> {
        let requests = self.requests.take_definitions(true);
        let mut all = self.answers.take_definitions(true);
        let twice: Vec<String> = requests.keys().filter(|name| all.contains_key(*name)).cloned().collect();
        let mut requests = Value::Object(requests);
        without_defaults(&mut requests);
        rename(&mut requests, &twice);
        for operation in paths.as_object_mut().into_iter().flat_map(|p| p.values_mut()).flat_map(Value::as_object_mut) {
            for body in operation.values_mut().filter_map(|o| o.get_mut("requestBody")) {
                rename(body, &twice);
            }
        }
        all.values_mut().for_each(without_defaults);
        if let Value::Object(requests) = requests {
            let input = |name: String| if twice.contains(&name) { format!("{name}Input") } else { name };
            all.extend(requests.into_iter().map(|(name, schema)| (input(name), schema)));
        }
        all
    }
}

/// The types' defaults are for what old callers leave out; in the document they only say that nothing is nothing.
fn without_defaults(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // A property of that name would be a schema: an object, or true.
            if fields.get("type").is_some() || fields.contains_key("$ref") || fields.contains_key("anyOf") {
                fields.remove("default");
            }
            fields.values_mut().for_each(without_defaults);
        }
        Value::Array(items) => items.iter_mut().for_each(without_defaults),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Lets references to these lead to their `…Input`.
fn rename(value: &mut Value, names: &[String]) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get_mut("$ref")
                && names.iter().any(|n| reference.strip_prefix(SCHEMAS) == Some(n))
            {
                reference.push_str("Input");
            }
            fields.values_mut().for_each(|v| rename(v, names));
        }
        Value::Array(items) => items.iter_mut().for_each(|v| rename(v, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The whole document.
pub(super) fn document() -> Value {
    let mut schemas = Schemas::new();
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for entry in table::entries() {
        let operation = operation(&entry, &mut schemas);
        paths.entry(entry.path.clone()).or_default().insert(verb(entry.verb).into(), operation);
    }
    let mut paths = json!(paths);
    let mut named = envelopes();
    named.extend(schemas.named(&mut paths));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Basalt",
            "version": "1.0",
            "description": "The `/1.0` API of a Basalt cluster, in the shapes of LXD 5.0 and Incus 6.0. Any member \
                answers any request. Fields and parameters that are not known are ignored.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"certificate": []}],
        "paths": paths,
        "components": {
            "schemas": named,
            "responses": {"Refused": refused()},
            "securitySchemes": {
                "certificate": {"type": "mutualTLS", "description": "A client certificate that the cluster trusts."},
            },
        },
    })
}

fn verb(verb: Verb) -> &'static str {
    match verb {
        Verb::Get => "get",
        Verb::Put => "put",
        Verb::Post => "post",
        Verb::Patch => "patch",
        Verb::Delete => "delete",
    }
}

/// What all answers have in common.
fn envelopes() -> Map<String, Value> {
    let envelope = |kind: &str, metadata: Value| {
        json!({
            "type": "object",
            "required": ["type", "status", "status_code", "operation", "error_code", "error", "metadata"],
            "properties": {
                "type": {"const": kind},
                "status": {"type": "string"},
                "status_code": {"type": "integer"},
                "operation": {"type": "string"},
                "error_code": {"type": "integer"},
                "error": {"type": "string"},
                "metadata": metadata,
            },
        })
    };
    let mut named = Map::new();
    named.insert("Sync".into(), envelope("sync", json!({})));
    named.insert("Async".into(), envelope("async", json!({"$ref": format!("{SCHEMAS}Operation")})));
    named.insert("Refusal".into(), envelope("error", json!({"type": "null"})));
    named
}

fn refused() -> Value {
    json!({
        "description": "Refused: `error` says why, and names the field or the limit.",
        "content": {"application/json": {"schema": {"$ref": format!("{SCHEMAS}Refusal")}}},
    })
}

fn operation(entry: &Entry, schemas: &mut Schemas) -> Value {
    let mut operation = json!({
        "operationId": operation_id(entry),
        "summary": entry.summary,
        "tags": [tag(&entry.path)],
        "parameters": parameters(entry),
        "responses": responses(entry, schemas),
    });
    if let Some(fields) = operation.as_object_mut() {
        if entry.deprecated {
            fields.insert("deprecated".into(), json!(true));
        }
        if !entry.bodies.is_empty() {
            let content: Map<String, Value> = entry
                .bodies
                .iter()
                .map(|(media, shape)| {
                    let schema = shape.map(|shape| json!(shape(&mut schemas.requests)));
                    ((*media).to_owned(), json!({"schema": schema.unwrap_or_else(|| json!({}))}))
                })
                .collect();
            fields.insert("requestBody".into(), json!({"required": true, "content": content}));
        }
    }
    operation
}

/// `get_instances_name_state`.
fn operation_id(entry: &Entry) -> String {
    let words = entry.path.split('/').map(|s| s.trim_matches(['{', '}']).replace(['-', '.'], "_"));
    let words: Vec<String> = words.filter(|s| !s.is_empty() && s != "1_0").collect();
    let rest = if words.is_empty() { entry.path.replace(['/', '.'], "_") } else { format!("_{}", words.join("_")) };
    format!("{}{rest}", verb(entry.verb))
}

fn tag(path: &str) -> &str {
    path.split('/').nth(2).unwrap_or("server")
}

fn parameters(entry: &Entry) -> Vec<Value> {
    let in_path = entry.path.split('/').filter_map(|s| s.strip_prefix('{')?.strip_suffix('}')).map(
        |name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "minLength": 1}}),
    );
    let mut all: Vec<Value> = in_path.chain(entry.parameters.iter().map(|p| in_query(*p))).collect();
    if entry.guarded {
        all.push(json!({
            "name": "If-Match", "in": "header", "required": false, "schema": {"type": "string"},
            "description": "The ETag of the object as the caller knows it.",
        }));
    }
    all
}

fn in_query(parameter: Parameter) -> Value {
    let text = || json!({"type": "string"});
    let (name, schema, description) = match parameter {
        Parameter::Address => ("address", text(), "Where the packet is to go: an IP address."),
        Parameter::Device => ("device", text(), "The interface; the first on a logical network when absent."),
        Parameter::Instance => ("instance", text(), "The instance that sends it."),
        Parameter::Port => ("port", json!({"type": "integer", "minimum": 1, "maximum": 65535}), "Of tcp and udp."),
        Parameter::Protocol => ("protocol", json!({"enum": ["icmp", "tcp", "udp"]}), "icmp when absent."),
        Parameter::AllProjects => ("all-projects", json!({"type": "boolean"}), "Cover all projects that one may see."),
        Parameter::Filter => ("filter", text(), "`field op value [and|or …]`, op being eq or ne."),
        Parameter::Force => ("force", json!({"enum": ["0", "1"]}), "Also when it costs something."),
        Parameter::Format => {
            ("format", json!({"enum": ["basalt", "incus", "lxd"]}), "Whose names; by the user agent when absent.")
        }
        Parameter::Path => ("path", text(), "Path in the guest, or name of a template."),
        Parameter::Project => ("project", text(), "The project; `default` when absent."),
        Parameter::Recursion => ("recursion", json!({"type": "integer", "minimum": 0, "maximum": 2}), "How much."),
        Parameter::Secret => ("secret", text(), "What gives access without a trusted certificate."),
        Parameter::Target => ("target", text(), "The member that is meant."),
        Parameter::Template => ("path", text(), "Name of a template."),
        Parameter::Timeout => ("timeout", json!({"type": "integer"}), "Seconds; negative waits for ever."),
        Parameter::Type => ("type", text(), "Which kinds, with commas between."),
    };
    let required = matches!(parameter, Parameter::Address | Parameter::Instance | Parameter::Path);
    json!({"name": name, "in": "query", "required": required, "schema": schema, "description": description})
}

fn header(description: &str) -> Value {
    json!({"description": description, "schema": {"type": "string"}})
}

/// A finished call with this metadata.
fn sync(metadata: &Value) -> Value {
    json!({
        "allOf": [
            {"$ref": format!("{SCHEMAS}Sync")},
            {"type": "object", "properties": {"metadata": metadata}},
        ],
    })
}

fn responses(entry: &Entry, schemas: &mut Schemas) -> Map<String, Value> {
    let mut all: Map<String, Value> = Map::new();
    for answer in &entry.answers {
        let (code, response) = response(answer, schemas);
        match all.get_mut(code) {
            // Two kinds of 200: what differs is the media type.
            Some(present) => {
                for (media, schema) in response["content"].as_object().into_iter().flatten() {
                    present["content"][media] = schema.clone();
                }
            }
            None => {
                all.insert(code.to_owned(), response);
            }
        }
    }
    let lacking = entry.lacking.then_some("501");
    for code in ["4XX", "503"].into_iter().chain(lacking) {
        all.insert(code.into(), json!({"$ref": "#/components/responses/Refused"}));
    }
    all
}

fn response(answer: &Answer, schemas: &mut Schemas) -> (&'static str, Value) {
    let json_content = |schema: Value| json!({"application/json": {"schema": schema}});
    match answer {
        Answer::Object { shape, editable } => {
            let schema = sync(&json!(shape(&mut schemas.answers)));
            let mut response = json!({"description": "The object.", "content": json_content(schema)});
            if *editable {
                response["headers"] = json!({"ETag": header("Changes with what can be edited of the object.")});
            }
            ("200", response)
        }
        Answer::List(shapes) => {
            let mut items = vec![json!({"type": "string"})];
            items.extend(shapes.iter().map(|shape| json!(shape(&mut schemas.answers))));
            let lists: Vec<Value> = items.iter().map(|item| json!({"type": "array", "items": item})).collect();
            let schema = sync(&json!({"anyOf": lists}));
            ("200", json!({"description": "URLs; objects with `recursion`.", "content": json_content(schema)}))
        }
        Answer::Done => {
            let schema = sync(&json!({"type": "object"}));
            ("200", json!({"description": "Done.", "content": json_content(schema)}))
        }
        Answer::Created => {
            let headers = json!({"Location": header("Path of what was made.")});
            let schema = sync(&json!({"type": "null"}));
            ("201", json!({"description": "Made.", "headers": headers, "content": json_content(schema)}))
        }
        Answer::Operation => {
            // The envelope refers to it by name.
            let _ = schemas.answers.subschema_for::<Operation>();
            let headers = json!({"Location": header("Path of the operation.")});
            let schema = json!({"$ref": format!("{SCHEMAS}Async")});
            ("202", json!({"description": "It goes on.", "headers": headers, "content": json_content(schema)}))
        }
        Answer::Raw(media) => {
            ("200", json!({"description": "The content itself.", "content": {(*media): {"schema": {}}}}))
        }
        Answer::Upgrade(protocol) => ("101", json!({"description": format!("Goes on as {protocol}.")})),
    }
}
