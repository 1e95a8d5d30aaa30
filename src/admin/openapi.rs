//! `/openapi.json`: the table of operations as an OpenAPI 3.1 document.

use schemars::generate::{Contract, SchemaSettings};
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::operations::{Access, Answer, Media, OPERATIONS, Operation, Parameter};
use super::problem::Problem;

/// What a segment in braces holds: a name from the file.
const LABEL: &str = "^[A-Za-z0-9][-A-Za-z0-9_.]{0,62}$";

/// The document.
pub fn document() -> Value {
    let mut schemas = Schemas::new();
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let item = paths.entry(operation.url_path).or_insert_with(|| json!({}));
        item[operation.verb.key()] = described(operation, &mut schemas);
    }
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "bascule's admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "What a running bascule thinks and counts, and the operator's word.",
            "description": "Shares are fractions of one, spans are seconds, moments are RFC 3339. \
                Fields are only ever added. Every path that answers GET answers HEAD; any other \
                method gets 405 with `Allow`.",
            "license": { "name": "EUPL-1.2", "identifier": "EUPL-1.2" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas.named(),
            "securitySchemes": { "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "What `admin.token_file` holds, where one is set.",
            } },
        },
    })
}

/// Schemas of what is written, and of what is read: a field with a default has to be in the one and
/// need not be in the other.
struct Schemas {
    written: SchemaGenerator,
    read: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = || {
            let mut settings = SchemaSettings::draft2020_12();
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
            settings
        };
        let mut read = settings();
        // Its names would meet those of what is written.
        read.inline_subschemas = true;
        read.contract = Contract::Deserialize;
        let mut written = settings();
        written.contract = Contract::Serialize;
        Self { written: written.into_generator(), read: read.into_generator() }
    }

    fn named(mut self) -> Map<String, Value> {
        self.written.take_definitions(true)
    }
}

fn described(operation: &Operation, schemas: &mut Schemas) -> Value {
    let mut responses = Map::new();
    for answer in operation.all_answers() {
        responses.insert(answer.status.to_string(), answered(answer, schemas));
    }
    let mut parameters: Vec<Value> = operation.query.iter().map(query_parameter).collect();
    let segments = operation.url_path.split('/').filter_map(|name| name.strip_prefix('{'));
    parameters.extend(segments.map(|name| path_parameter(name.trim_end_matches('}'))));
    let mut described = json!({
        "operationId": identifier(operation),
        "summary": operation.summary,
        "responses": responses,
    });
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    if let Some(takes) = operation.takes {
        let schema = takes(&mut schemas.read);
        described["requestBody"] =
            json!({ "required": true, "content": { "application/json": { "schema": schema } } });
    }
    if operation.access == Access::Admitted {
        // Without a token, where none is set.
        described["security"] = json!([{ "token": [] }, {}]);
    }
    described
}

/// `getV1Status` of `GET /v1/status`.
fn identifier(operation: &Operation) -> String {
    let mut name = operation.verb.key().to_owned();
    let words = operation.url_path.split(|c: char| !c.is_ascii_alphanumeric());
    for word in words.filter(|word| !word.is_empty()) {
        let (first, rest) = word.split_at(1);
        name.push_str(&first.to_ascii_uppercase());
        name.push_str(rest);
    }
    if operation.url_path == "/" { name + "Console" } else { name }
}

fn query_parameter(parameter: &Parameter) -> Value {
    let Parameter { name, required, means, pattern, example } = parameter;
    json!({
        "name": name,
        "in": "query",
        "required": required,
        "description": means,
        "schema": { "type": "string", "pattern": pattern },
        "example": example,
    })
}

fn path_parameter(name: &str) -> Value {
    json!({
        "name": name,
        "in": "path",
        "required": true,
        "schema": { "type": "string", "pattern": LABEL },
    })
}

fn answered(answer: &Answer, schemas: &mut Schemas) -> Value {
    let (media, schema): (&str, Schema) = match answer.body {
        Media::Json(shape) => ("application/json", shape(&mut schemas.written)),
        Media::Problem => {
            ("application/problem+json", schemas.written.subschema_for::<Problem<'_>>())
        }
        Media::Text(media) => (media, schemars::json_schema!({ "type": "string" })),
    };
    let mut told = json!({
        "description": answer.means,
        "content": { media: { "schema": schema } },
    });
    if answer.status == 401 {
        told["headers"] = json!({ "WWW-Authenticate": { "schema": { "const": "Bearer" } } });
    }
    told
}
