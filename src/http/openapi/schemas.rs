//! The forms of bodies, in JSON Schema.

use serde_json::{Map, Value, json};

use crate::http::limits::HttpLimits;
use crate::model::Signature;
use crate::tensor::{DataType, Extent, TensorSpec, Values};

/// A schema of the document's own, by its name.
pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// An object that has all of these members, and perhaps others.
pub(super) fn object(members: &[(&str, Value)]) -> Value {
    let required: Vec<&str> = members.iter().map(|(name, _)| *name).collect();
    let properties = members.iter().cloned();
    let properties: Map<String, Value> = properties
        .map(|(name, schema)| (name.to_owned(), schema))
        .collect();
    json!({"type": "object", "properties": properties, "required": required})
}

/// A number that is finite once it is rounded to `f32`.
fn number() -> Value {
    // The middle between the largest and the next power of two. Its shortest text is a little less,
    // and so the last that is not rounded to infinity.
    let most = (f64::from(f32::MAX) + 2.0_f64.powi(128)) / 2.0;
    json!({"type": "number", "minimum": -most, "maximum": most})
}

fn text() -> Value {
    json!({"type": "string"})
}

fn integer() -> Value {
    json!({"type": "integer", "minimum": 0})
}

fn list(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

/// One value of a tensor.
fn value(spec: &TensorSpec) -> Value {
    match Values::empty(spec.datatype) {
        Values::F32(_) => number(),
        Values::F64(_) => json!({"type": "number"}),
        Values::I64(_) if spec.datatype == DataType::Bool => json!({"type": "boolean"}),
        Values::I64(_) => {
            let all = spec.datatype.integers().unwrap_or(i64::MIN..=i64::MAX);
            let range = spec.range.clone().unwrap_or(all);
            json!({"type": "integer", "minimum": range.start(), "maximum": range.end()})
        }
        Values::Bytes(_) => text(),
    }
}

/// A row of a tensor: arrays nested as deep as there are extents, each as long as its extent says; as
/// long as the request says where tokens are.
fn nested_row(spec: &TensorSpec) -> Value {
    let extents: Vec<Extent> = spec.shape.row_extents().collect();
    extents
        .into_iter()
        .rev()
        .fold(value(spec), |items, extent| match extent {
            Extent::Fixed(extent) => {
                json!({"type": "array", "items": items, "minItems": extent, "maxItems": extent})
            }
            Extent::Any => list(items),
        })
}

/// The schemas that are the same whatever models there are.
pub(super) fn shared() -> Value {
    let tensor = object(&[
        ("name", text()),
        ("datatype", text()),
        ("shape", list(json!({"type": "integer", "minimum": -1}))),
    ]);
    let version = object(&[
        ("version", text()),
        (
            "state",
            json!({"enum": ["START", "LOADING", "AVAILABLE", "UNLOADING", "END"]}),
        ),
        (
            "status",
            object(&[("error_code", text()), ("error_message", text())]),
        ),
    ]);
    let statistics = object(&[
        ("name", text()),
        ("version", text()),
        ("last_inference", integer()),
        ("inference_count", integer()),
        ("execution_count", integer()),
        ("inference_stats", json!({"type": "object"})),
        ("batch_stats", json!({"type": "array"})),
    ]);
    let listed = object(&[
        ("id", text()),
        ("object", json!({"const": "model"})),
        ("created", integer()),
        ("owned_by", text()),
    ]);
    json!({
        "Error": object(&[("error", text()), ("code", text())]),
        "ModelList": object(&[
            ("models", list(text())),
            ("object", json!({"const": "list"})),
            ("data", list(listed)),
        ]),
        "ModelReady": object(&[("name", text()), ("ready", json!({"type": "boolean"}))]),
        "ModelMetadata": object(&[
            ("name", text()),
            ("versions", list(text())),
            ("platform", text()),
            ("inputs", list(tensor.clone())),
            ("outputs", list(tensor)),
        ]),
        "ModelStatus": object(&[
            ("name", text()),
            ("ready", json!({"type": "boolean"})),
            ("model_version_status", list(version)),
        ]),
        "IndexEntry": object(&[
            ("name", text()),
            ("version", text()),
            ("state", json!({"enum": ["LOADING", "READY", "UNLOADING", "UNAVAILABLE"]})),
            ("reason", text()),
        ]),
        "Statistics": object(&[("model_stats", list(statistics))]),
    })
}

/// The bodies of one model's calls.
pub(super) struct Predict<'a> {
    signature: &'a Signature,
    max_rows: usize,
}

impl<'a> Predict<'a> {
    pub(super) fn of(signature: &'a Signature, limits: &HttpLimits) -> Self {
        Self {
            signature,
            max_rows: limits.max_request_rows,
        }
    }

    /// Rows, at least one and no more than a request may have.
    fn rows(&self, row: &Value) -> Value {
        json!({"type": "array", "items": row, "minItems": 1, "maxItems": self.max_rows})
    }

    /// One row of an input.
    fn row(spec: &TensorSpec) -> Value {
        nested_row(spec)
    }

    /// What `/invocations` takes.
    pub(super) fn invocation(&self) -> Value {
        let list = json!({"type": "array", "minItems": 1, "maxItems": self.max_rows});
        let split = object(&[
            ("columns", json!({"type": "array", "items": text()})),
            ("data", list.clone()),
        ]);
        let forms = [
            ("instances", list.clone()),
            ("dataframe_records", list.clone()),
            ("dataframe_split", split),
            ("inputs", json!({"type": ["array", "object"]})),
        ];
        let forms = forms.map(|(key, schema)| object(&[(key, schema)]));
        json!({"anyOf": forms.into_iter().chain([list]).collect::<Vec<_>>()})
    }

    /// One row of all inputs, by their names.
    fn named_row(&self) -> Value {
        let inputs = self.signature.inputs.iter();
        let members: Vec<(&str, Value)> =
            inputs.map(|spec| (&*spec.name, Self::row(spec))).collect();
        closed(object(&members))
    }

    /// `instances` or `inputs`, and not both.
    pub(super) fn v1_request(&self) -> Value {
        let signature_name = json!({"enum": ["serving_default", "", null]});
        let by_rows = match &*self.signature.inputs {
            // Rows of one request are all of the same form.
            [spec] => json!({"anyOf": [self.rows(&Self::row(spec)), self.rows(&self.named_row())]}),
            _ => self.rows(&self.named_row()),
        };
        let tensors = self.signature.inputs.iter();
        let tensors: Vec<(&str, Value)> = tensors
            .map(|spec| (&*spec.name, self.rows(&Self::row(spec))))
            .collect();
        let by_columns = match &*tensors {
            [(_, tensor)] => json!({"anyOf": [tensor, closed(object(&tensors))]}),
            _ => closed(object(&tensors)),
        };
        let either = |key: &str, schema: Value, other: &str| {
            let mut form = object(&[(key, schema)]);
            form["properties"]["signature_name"] = signature_name.clone();
            form["properties"][other] = json!(false);
            form
        };
        json!({"oneOf": [
            either("instances", by_rows, "inputs"),
            either("inputs", by_columns, "instances"),
        ]})
    }

    pub(super) fn v1_answer(&self) -> Value {
        let outputs = self.signature.engine_outputs();
        let outputs: Vec<&TensorSpec> = outputs.map(|output| &output.spec).collect();
        let row = match &*outputs {
            [output] => Self::row(output),
            _ => json!({"type": "object"}),
        };
        json!({"oneOf": [
            object(&[("predictions", list(row))]),
            object(&[("outputs", json!({"type": ["array", "object"]}))]),
        ]})
    }

    /// `examples` of `:classify`, by the names of the features, or of the inputs.
    pub(super) fn examples(&self) -> Value {
        let by_feature: Vec<(&str, Value)> = match &*self.signature.feature_names {
            [] => return object(&[("examples", self.rows(&self.named_row()))]),
            names => names.iter().map(|name| (&**name, number())).collect(),
        };
        let row = closed(object(&by_feature));
        let row = json!({"anyOf": [row, self.named_row()]});
        object(&[("examples", self.rows(&row))])
    }

    pub(super) fn v2_request(&self) -> Value {
        let inputs: Vec<Value> = self.signature.inputs.iter().map(v2_input).collect();
        let count = inputs.len();
        let inputs = json!({
            "type": "array",
            "items": {"anyOf": inputs},
            "minItems": count,
            "maxItems": count,
            "description": format!(
                "Each input once. Every tensor has the same rows, at most {}, and as many values \
                 as its shape asks for.",
                self.max_rows
            ),
        });
        let names: Vec<&str> = self
            .signature
            .outputs
            .iter()
            .map(|output| &*output.spec.name)
            .collect();
        let output = object(&[("name", json!({"enum": names}))]);
        let mut request = object(&[("inputs", inputs)]);
        request["properties"]["id"] = json!({"type": ["string", "null"]});
        request["properties"]["outputs"] = json!({"type": ["array", "null"], "items": output});
        request
    }

    pub(super) fn v2_answer(&self) -> Value {
        let output = object(&[
            ("name", text()),
            ("datatype", text()),
            ("shape", list(integer())),
            (
                "data",
                list(json!({"type": ["number", "string", "boolean"]})),
            ),
        ]);
        object(&[
            ("model_name", text()),
            ("model_version", text()),
            ("outputs", list(output)),
        ])
    }
}

/// The same object, without other members.
fn closed(mut object: Value) -> Value {
    object["additionalProperties"] = json!(false);
    object
}

fn v2_input(spec: &TensorSpec) -> Value {
    let mut shape = vec![json!({"type": "integer", "minimum": 1})];
    shape.extend(spec.shape.row_extents().map(|extent| match extent {
        Extent::Fixed(extent) => json!({"const": extent}),
        Extent::Any => integer(),
    }));
    let rank = shape.len();
    let shape = json!({
        "type": "array",
        "prefixItems": shape,
        "minItems": rank,
        "maxItems": rank,
    });
    // Rows without tokens have no values.
    let least = usize::from(spec.shape.axis().is_none());
    let flat = json!({"type": "array", "items": value(spec), "minItems": least});
    let rows = json!({"type": "array", "items": nested_row(spec), "minItems": 1});
    let mut input = object(&[
        ("name", json!({"const": spec.name})),
        ("datatype", json!({"const": spec.datatype.as_str()})),
        ("shape", shape),
        ("data", json!({"anyOf": [flat, rows]})),
    ]);
    input["description"] = json!(spec.description);
    input
}
