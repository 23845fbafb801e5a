//! ONNX' nodes as those of a network: integer inputs become attributes, older versions become the newest,
//! and operators of scikit-learn's exports become the operators that they consist of.

use ndarray::{ArrayD, IxDyn};

use super::attributes::NodeAttributes;
use super::constants::{Constant, Integer};
use super::operators::name_of;
use super::proto::NodeProto;
use super::reader::Reader;
use crate::model::graph::{Attribute, Attributes, Node};

/// The nodes of the network that a node becomes.
pub(super) fn nodes(reader: &mut Reader<'_>, node: &NodeProto) -> Result<Vec<Node>, String> {
    let only = usize::from(node.op_type == "LinearClassifier");
    for (index, name) in node.output.iter().enumerate() {
        if index != only && reader.used.contains(&**name) {
            return Err(format!(
                "its output {index} ({name:?}) is used; only output {only} is supported"
            ));
        }
    }
    let mut plain = plain(node)?;
    match &*node.op_type {
        "LinearClassifier" => return linear_classifier(reader, node),
        "LinearRegressor" => return linear_regressor(reader, node),
        "Normalizer" => return normalizer(node),
        "Scaler" => return scaler(reader, node),
        "ZipMap" => return zip_map(reader, node),
        "Cast" => {
            return match NodeAttributes::of(node).int("to")?.unwrap_or_default() {
                1 | 10 | 11 | 16 => Ok(vec![identity(plain)]),
                to => Err(format!(
                    "attribute \"to\": expected a datatype of floats (1, 10, 11 or 16), got {to}; \
                     values are FP32"
                )),
            };
        }
        "CastLike" => return Ok(vec![identity(plain)]),
        "Reshape" => {
            let shape = reader.shape(node, &plain.inputs)?;
            plain.inputs.truncate(1);
            plain.attributes.insert("shape", Attribute::Ints(shape));
        }
        "Squeeze" | "Unsqueeze" => reader.ints_from_input(&mut plain, 1, "axes")?,
        operator if operator.starts_with("Reduce") => {
            reader.ints_from_input(&mut plain, 1, "axes")?;
        }
        "Clip" => {
            reader.float_from_input(&mut plain, 2, "max")?;
            reader.float_from_input(&mut plain, 1, "min")?;
        }
        "Dropout" => {
            let trains = reader
                .operand(&plain, 2)?
                .map(Constant::known)
                .transpose()?;
            if trains.is_some_and(|trains| trains.first() == Some(&1)) {
                return Err(
                    "it drops at random, as in training; export the model for inference".into(),
                );
            }
            return Ok(vec![identity(plain)]);
        }
        "Softmax" | "LogSoftmax" => reader.softmax_axis(&mut plain)?,
        "BatchNormalization" => {
            for of_training in ["spatial", "is_test", "consumed_inputs"] {
                plain.attributes.remove(of_training);
            }
        }
        _ => {}
    }
    Ok(vec![plain])
}

/// A node without changes, with its first output.
fn plain(node: &NodeProto) -> Result<Node, String> {
    let attributes = match node.domain.is_empty() || node.domain == "ai.onnx" {
        true => NodeAttributes::of(node).all()?,
        false => Attributes::default(),
    };
    Ok(Node {
        name: name_of(node).to_owned(),
        operator: node.op_type.clone(),
        inputs: node.input.clone(),
        output: node.output.first().cloned().ok_or("it has no output")?,
        attributes,
    })
}

/// A node that returns its first input.
fn identity(plain: Node) -> Node {
    let mut inputs = plain.inputs;
    inputs.truncate(1);
    Node {
        operator: "Identity".into(),
        inputs,
        attributes: Attributes::default(),
        ..plain
    }
}

impl Reader<'_> {
    /// An operand that must be a constant, if it is there.
    fn operand(&self, node: &Node, index: usize) -> Result<Option<&Constant>, String> {
        match node.inputs.get(index).filter(|name| !name.is_empty()) {
            None => Ok(None),
            Some(name) => match self.constants.get(&**name) {
                Some(constant) => Ok(Some(constant)),
                None => Err(format!(
                    "input {index} ({name:?}) depends on the rows; expected what is known"
                )),
            },
        }
    }

    fn ints_from_input(
        &self,
        node: &mut Node,
        index: usize,
        name: &'static str,
    ) -> Result<(), String> {
        if let Some(constant) = self.operand(node, index)? {
            let values = constant.known()?;
            node.attributes.insert(name, Attribute::Ints(values));
        }
        node.inputs.truncate(index);
        Ok(())
    }

    fn float_from_input(
        &self,
        node: &mut Node,
        index: usize,
        name: &'static str,
    ) -> Result<(), String> {
        if let Some(constant) = self.operand(node, index)? {
            let value = constant.single()?;
            // An infinite limit is none, and JSON has no word for it.
            if value.is_finite() {
                node.attributes.insert(name, Attribute::Float(value));
            } else if value.is_nan() || (value > 0.0) != (name == "max") {
                return Err(format!(
                    "input {index}: expected a finite {name}, got {value}"
                ));
            }
        }
        node.inputs.truncate(index);
        Ok(())
    }

    /// The shape of a `Reshape`, with 0 for the rows.
    fn shape(&self, node: &NodeProto, inputs: &[String]) -> Result<Vec<i64>, String> {
        let plain = plain(node)?;
        let integers = match self.operand(&plain, 1)? {
            Some(shape) => shape.integers()?,
            None => match NodeAttributes::of(node).ints("shape")? {
                Some(shape) => shape.into_iter().map(Integer::Known).collect(),
                None => return Err("its shape is missing".into()),
            },
        };
        let fixed = self.fixed_rows;
        let Some((rows, row)) = integers.split_first() else {
            return Err("its shape is that of one number: it takes all rows together".into());
        };
        let rows = match rows {
            Integer::Rows | Integer::Known(0) => 0,
            Integer::Known(-1) => -1,
            Integer::Known(rows) if Some(*rows) == fixed => 0,
            Integer::Known(rows) => {
                return Err(format!(
                    "its shape begins with {rows}; expected the number of rows (0, -1 or what the \
                     shape of an input says), so that no row mixes with another"
                ));
            }
        };
        let row = row.iter().map(|extent| match extent {
            Integer::Known(extent) => Ok(*extent),
            Integer::Rows => Err("its shape has the number of rows after the first axis".into()),
        });
        let row = row.collect::<Result<Vec<_>, String>>()?;
        // -1 as the first extent means the rows only if the rest is a whole row.
        if rows == -1
            && let Some(x) = inputs
                .first()
                .and_then(|name| self.lowering.row_shape(name))
            && !row.contains(&0)
        {
            let given = row
                .iter()
                .try_fold(1_i64, |all, extent| all.checked_mul(*extent));
            let given = given.ok_or("its shape is too large")?;
            let has = x.iter().product::<usize>();
            if given != has as i64 {
                return Err(format!(
                    "its shape gives each row {given} numbers, and a row has {has}: rows would mix"
                ));
            }
        }
        Ok([rows].into_iter().chain(row).collect())
    }

    /// Before version 13 the axes from `axis` (1) on were one; since then `axis` (-1) is the only.
    fn softmax_axis(&self, node: &mut Node) -> Result<(), String> {
        let axis = match node.attributes.remove("axis") {
            Some(Attribute::Int(axis)) => Some(axis),
            Some(_) => return Err("attribute \"axis\": expected a whole number".into()),
            None => None,
        };
        if self.opset >= 13 {
            let axis = axis.unwrap_or(-1);
            node.attributes.insert("axis", Attribute::Int(axis));
            return Ok(());
        }
        let axis = axis.unwrap_or(1);
        let rank = node
            .inputs
            .first()
            .and_then(|name| self.lowering.row_shape(name));
        let rank = rank.map_or(1, <[usize]>::len) as i64;
        if axis != -1 && axis != rank {
            return Err(format!(
                "of version {} with axis {axis} it takes several axes as one, which is not \
                 supported; export the model with version 13 or newer",
                self.opset
            ));
        }
        node.attributes.insert("axis", Attribute::Int(-1));
        Ok(())
    }

    /// Adds the numbers of a node's attribute as a weight, and returns its name.
    fn attribute_weight(
        &mut self,
        node: &NodeProto,
        name: &str,
        shape: &[usize],
        values: Vec<f32>,
    ) -> Result<String, String> {
        let given = values.len();
        let values = ArrayD::from_shape_vec(IxDyn(shape), values);
        let values = values
            .map_err(|_| format!("attribute {name:?}: expected {shape:?} numbers, got {given}"))?;
        // Nodes need no names, or no names of their own.
        let output = node.output.iter().find(|output| !output.is_empty());
        let mut weight = format!("{}.{name}", output.map_or("", String::as_str));
        while self.lowering.has(&weight) || self.constants.contains_key(&*weight) {
            weight.push('_');
        }
        self.add_weight(&weight, values.into())?;
        Ok(weight)
    }

    /// The names of classes that a node has.
    fn take_labels(&mut self, node: &NodeProto) -> Result<usize, String> {
        let given = NodeAttributes::of(node);
        let texts = ["classlabels_strings"]
            .iter()
            .find_map(|name| given.texts(name).transpose());
        let numbers = ["classlabels_ints", "classlabels_int64s"]
            .iter()
            .find_map(|name| given.ints(name).transpose());
        let labels = match (texts, numbers) {
            (Some(texts), _) => texts?,
            (None, Some(numbers)) => numbers?.iter().map(i64::to_string).collect(),
            (None, None) => Vec::new(),
        };
        let count = labels.len();
        if count > 0 {
            self.network.labels = labels;
        }
        Ok(count)
    }
}

/// One step of several that an operator becomes.
fn step(
    node: &NodeProto,
    operator: &str,
    inputs: &[&str],
    output: &str,
    attributes: &[(&str, Attribute)],
) -> Node {
    let attributes = attributes
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()));
    Node {
        name: name_of(node).to_owned(),
        operator: operator.to_owned(),
        inputs: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: output.to_owned(),
        attributes: attributes.collect(),
    }
}

/// What a linear model's scores become.
fn post_transform(node: &NodeProto) -> Result<Option<&'static str>, String> {
    let given = NodeAttributes::of(node).texts("post_transform")?;
    match given
        .as_deref()
        .and_then(<[String]>::first)
        .map(String::as_str)
    {
        None | Some("NONE") => Ok(None),
        Some("SOFTMAX") => Ok(Some("Softmax")),
        Some("LOGISTIC") => Ok(Some("Sigmoid")),
        Some(other) => Err(format!(
            "attribute \"post_transform\": expected NONE, SOFTMAX or LOGISTIC, got {other}"
        )),
    }
}

/// `x · coefficients + intercepts` for several targets, and what its scores become.
fn linear(
    reader: &mut Reader<'_>,
    node: &NodeProto,
    targets: usize,
    output: &str,
) -> Result<Vec<Node>, String> {
    let given = NodeAttributes::of(node);
    let coefficients = given.floats("coefficients")?.unwrap_or_default();
    let x = node.input.first().ok_or("input 0 is missing")?;
    if targets == 0 || !coefficients.len().is_multiple_of(targets) {
        return Err(format!(
            "attribute \"coefficients\": expected as many for each of {targets} targets, got {}",
            coefficients.len()
        ));
    }
    let features = coefficients.len() / targets;
    let weight =
        reader.attribute_weight(node, "coefficients", &[targets, features], coefficients)?;
    let mut inputs = vec![x.clone(), weight];
    if let Some(intercepts) = given
        .floats("intercepts")?
        .filter(|values| !values.is_empty())
    {
        inputs.push(reader.attribute_weight(node, "intercepts", &[targets], intercepts)?);
    }
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let trans_b = [("transB", Attribute::Int(1))];
    let Some(function) = post_transform(node)? else {
        return Ok(vec![step(node, "Gemm", &inputs, output, &trans_b)]);
    };
    let scores = format!("{output}.scores");
    let axis = [("axis", Attribute::Int(-1))];
    let axis = if function == "Softmax" {
        &axis[..]
    } else {
        &[]
    };
    Ok(vec![
        step(node, "Gemm", &inputs, &scores, &trans_b),
        step(node, function, &[&scores], output, axis),
    ])
}

/// Source: <https://onnx.ai/onnx/operators/onnx_aionnxml_LinearRegressor.html>.
fn linear_regressor(reader: &mut Reader<'_>, node: &NodeProto) -> Result<Vec<Node>, String> {
    let targets = NodeAttributes::of(node).int("targets")?.unwrap_or(1);
    let output = node.output.first().ok_or("it has no output")?;
    linear(reader, node, targets.max(0) as usize, output)
}

/// Of its two outputs the second, the scores: the classes' names go into the configuration.
///
/// Source: <https://onnx.ai/onnx/operators/onnx_aionnxml_LinearClassifier.html>.
fn linear_classifier(reader: &mut Reader<'_>, node: &NodeProto) -> Result<Vec<Node>, String> {
    let classes = reader.take_labels(node)?;
    let scores = node.output.get(1).filter(|name| !name.is_empty());
    let scores = scores.ok_or("it has no scores; expected a second output")?;
    let coefficients = NodeAttributes::of(node)
        .floats("coefficients")?
        .unwrap_or_default();
    let intercepts = NodeAttributes::of(node)
        .floats("intercepts")?
        .unwrap_or_default();
    if !intercepts.is_empty() && intercepts.len() != classes {
        return Err(format!(
            "attribute \"intercepts\": expected one for each of {classes} classes, got {}",
            intercepts.len()
        ));
    }
    if coefficients.is_empty() {
        return Err("attribute \"coefficients\" is missing".into());
    }
    linear(reader, node, classes, scores)
}

/// Source: <https://onnx.ai/onnx/operators/onnx_aionnxml_Normalizer.html>.
fn normalizer(node: &NodeProto) -> Result<Vec<Node>, String> {
    let norm = NodeAttributes::of(node).texts("norm")?;
    let p = match norm
        .as_deref()
        .and_then(<[String]>::first)
        .map(String::as_str)
    {
        Some("L1") => 1,
        Some("L2") => 2,
        other => {
            return Err(format!(
                "attribute \"norm\": expected L1 or L2, got {}",
                other.unwrap_or("MAX")
            ));
        }
    };
    let attributes = [("axis", Attribute::Int(-1)), ("p", Attribute::Int(p))];
    let x = node.input.first().ok_or("input 0 is missing")?;
    let output = node.output.first().ok_or("it has no output")?;
    Ok(vec![step(
        node,
        "LpNormalization",
        &[x],
        output,
        &attributes,
    )])
}

/// `(x - offset) · scale`.
///
/// Source: <https://onnx.ai/onnx/operators/onnx_aionnxml_Scaler.html>.
fn scaler(reader: &mut Reader<'_>, node: &NodeProto) -> Result<Vec<Node>, String> {
    let given = NodeAttributes::of(node);
    let x = node.input.first().ok_or("input 0 is missing")?;
    let output = node.output.first().ok_or("it has no output")?;
    let offset = given
        .floats("offset")?
        .ok_or("attribute \"offset\" is missing")?;
    let scale = given
        .floats("scale")?
        .ok_or("attribute \"scale\" is missing")?;
    let offset = reader.attribute_weight(node, "offset", &[offset.len()], offset)?;
    let scale = reader.attribute_weight(node, "scale", &[scale.len()], scale)?;
    let shifted = format!("{output}.shifted");
    Ok(vec![
        step(node, "Sub", &[x, &offset], &shifted, &[]),
        step(node, "Mul", &[&shifted, &scale], output, &[]),
    ])
}

/// Its maps from classes to scores become the scores, with the classes' names in the configuration.
fn zip_map(reader: &mut Reader<'_>, node: &NodeProto) -> Result<Vec<Node>, String> {
    reader.take_labels(node)?;
    let x = node.input.first().ok_or("input 0 is missing")?;
    let output = node.output.first().ok_or("it has no output")?;
    Ok(vec![step(node, "Identity", &[x], output, &[])])
}
