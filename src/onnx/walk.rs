//! Goes through a model's nodes in their order.

use std::collections::{BTreeMap, HashSet};

use super::constants::{Constant, Integer};
use super::error::{ImportError, format};
use super::network::Network;
use super::operators::{is_core, name_of, qualified, rewrites, rewrites_of_ml};
use super::proto::tensor_proto::DataType as Element;
use super::proto::{self, type_proto};
use super::reader::Reader;
use super::{fold, nodes, tensors};
use crate::model::graph::{self, has_operator};
use crate::tensor::{DataType, Shape, TensorSpec};

impl<'m> Reader<'m> {
    /// Reads the graph.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(mut self) -> Result<Network, ImportError> {
        let outputs = self.outputs()?;
        let needed = self.needed(&outputs);
        self.check_operators(&needed)?;
        self.used = needed
            .iter()
            .flat_map(|node| node.input.iter().map(|name| &**name))
            .chain(outputs.iter().copied())
            .filter(|name| !name.is_empty())
            .collect();
        for tensor in &self.graph.initializer {
            if self.used.contains(&*tensor.name) {
                let constant = tensors::constant(tensor, &self.directory).map_err(|problem| {
                    format(format!("initializer {:?}: {problem}", tensor.name))
                })?;
                self.constants.insert(&tensor.name, constant);
            }
        }
        for input in &self.graph.input {
            if self.used.contains(&*input.name) && !self.constants.contains_key(&*input.name) {
                self.input(input)?;
            }
        }
        for node in needed {
            self.node(node).map_err(|problem| ImportError::Node {
                node: name_of(node).to_owned(),
                operator: node.op_type.clone(),
                problem,
            })?;
        }
        for name in outputs {
            let checked = self.lowering.output(name, name);
            checked.map_err(|problem| format(format!("output {name:?}: {problem}")))?;
            self.network
                .outputs
                .push((name.to_owned(), name.to_owned()));
        }
        if self.network.labels.is_empty() {
            self.network.labels = self.labels_left_out();
        }
        let scores = self.network.outputs.first();
        let scores = scores.and_then(|(_, value)| self.lowering.row_shape(value));
        if scores != Some(&[self.network.labels.len()]) {
            self.network.labels.clear();
        }
        Ok(self.network)
    }

    /// The classes' names that a node would choose from whose output is left out, as scikit-learn's
    /// classifiers are exported.
    fn labels_left_out(&self) -> Vec<String> {
        let chooses = |node: &&proto::NodeProto| {
            qualified(node) == "ai.onnx.ml.ArrayFeatureExtractor"
                && node
                    .output
                    .iter()
                    .all(|output| !self.used.contains(&**output))
        };
        let names = self.graph.node.iter().filter(chooses).find_map(|node| {
            let name = node.input.first()?;
            let mut initializers = self.graph.initializer.iter();
            let tensor = initializers.find(|tensor| tensor.name == *name)?;
            match tensors::constant(tensor, &self.directory).ok()? {
                Constant::Texts(texts) => Some(texts),
                other => Some(other.known().ok()?.iter().map(i64::to_string).collect()),
            }
        });
        names.unwrap_or_default()
    }

    /// The outputs that are wanted: those that were asked for, else all that are numbers.
    fn outputs(&mut self) -> Result<Vec<&'m str>, ImportError> {
        let all = &self.graph.output;
        if let Some(unknown) = self
            .options
            .outputs
            .iter()
            .find(|name| !all.iter().any(|output| output.name == **name))
        {
            let names: Vec<_> = all
                .iter()
                .map(|output| format!("{:?}", output.name))
                .collect();
            return Err(format(format!(
                "there is no output {unknown:?}; the model has {}",
                names.join(", ")
            )));
        }
        let mut wanted = Vec::new();
        for output in all {
            let asked = self.options.outputs.contains(&output.name);
            match kind(output) {
                _ if asked => wanted.push(&*output.name),
                _ if !self.options.outputs.is_empty() => {}
                Kind::Numbers | Kind::Unknown | Kind::Maps => wanted.push(&*output.name),
                Kind::Other(kind) => self.network.notes.push(format!(
                    "output {:?} is left out: it holds {kind}, and outputs are FP32; of a classifier \
                     the server tells class_id and label itself",
                    output.name
                )),
            }
        }
        match wanted.is_empty() {
            true => Err(format("expected an output of numbers, the model has none")),
            false => Ok(wanted),
        }
    }

    /// The nodes on which the outputs depend, in their order.
    fn needed(&self, outputs: &[&'m str]) -> Vec<&'m proto::NodeProto> {
        let mut names: HashSet<&str> = outputs.iter().copied().collect();
        let mut needed = Vec::new();
        for node in self.graph.node.iter().rev() {
            if node.output.iter().any(|name| names.contains(&**name)) {
                let inputs = node.input.iter().map(|name| &**name);
                names.extend(inputs.filter(|name| !name.is_empty()));
                needed.push(node);
            }
        }
        needed.reverse();
        needed
    }

    /// Counts the operators, and refuses all that are missing at once.
    fn check_operators(&mut self, needed: &[&'m proto::NodeProto]) -> Result<(), ImportError> {
        let initializers = self.graph.initializer.iter().map(|tensor| &*tensor.name);
        let mut constant: HashSet<&str> = initializers.chain([""]).collect();
        let mut missing = BTreeMap::new();
        for node in needed {
            let name = qualified(node);
            *self.network.operators.entry(name.clone()).or_insert(0) += 1;
            let from = match &*node.op_type {
                "Shape" => &[],
                // It uses the type of the second input, not its values.
                "CastLike" => &node.input[..node.input.len().min(1)],
                _ => &node.input[..],
            };
            let is_constant = from.iter().all(|input| constant.contains(&**input));
            if is_constant {
                constant.extend(node.output.iter().map(|name| &**name));
            }
            let known = match (is_constant, is_core(node)) {
                (true, true) => fold::has(&node.op_type),
                (false, true) => has_operator(&node.op_type) || rewrites(&node.op_type),
                (_, false) => rewrites_of_ml(node),
            };
            if !known {
                let name = match is_constant && has_operator(&node.op_type) {
                    true => format!("{name} of weights alone"),
                    false => name,
                };
                *missing.entry(name).or_insert(0) += 1;
            }
        }
        match missing.is_empty() {
            true => Ok(()),
            false => Err(ImportError::Operators { missing }),
        }
    }

    /// Takes an input: rows of 32-bit floats.
    fn input(&mut self, input: &'m proto::ValueInfoProto) -> Result<(), ImportError> {
        let refuse = |problem: String| format(format!("input {:?}: {problem}", input.name));
        let Some(type_proto::Value::TensorType(tensor)) =
            input.r#type.as_ref().and_then(|kind| kind.value.as_ref())
        else {
            return Err(refuse("expected a tensor".into()));
        };
        match Element::try_from(tensor.elem_type) {
            Ok(Element::Float) => {}
            Ok(element @ (Element::Double | Element::Float16 | Element::Bfloat16)) => {
                self.network.notes.push(format!(
                    "input {:?} is {}; it is served as FP32",
                    input.name,
                    element.as_str_name()
                ));
            }
            Ok(element) => {
                return Err(refuse(format!(
                    "expected FLOAT, got {}; inputs are FP32",
                    element.as_str_name()
                )));
            }
            Err(_) => return Err(refuse("its datatype is unknown".into())),
        }
        let dimensions = tensor.shape.as_ref().map_or(&[][..], |shape| &shape.dim);
        let Some((rows, row)) = dimensions.split_first() else {
            return Err(refuse(
                "expected a shape whose first axis is the rows, it has none".into(),
            ));
        };
        self.rows(rows).map_err(refuse)?;
        let row_shape = row
            .iter()
            .enumerate()
            .map(|(axis, dimension)| self.extent(axis + 1, dimension))
            .collect::<Result<Vec<_>, _>>()
            .map_err(refuse)?;
        let shape = Shape::rows(row_shape);
        let spec = TensorSpec::new(input.name.clone(), DataType::Fp32, shape);
        self.network.inputs.push(spec.clone());
        let added = self.lowering.input(spec);
        added.map_err(|refusal| refuse(refusal.to_string()))
    }

    /// Records a fixed number of rows.
    fn rows(&mut self, dimension: &proto::tensor_shape_proto::Dimension) -> Result<(), String> {
        use proto::tensor_shape_proto::dimension::Value;
        let Some(Value::DimValue(rows)) = dimension.value else {
            return Ok(());
        };
        match self.fixed_rows.replace(rows) {
            Some(other) if other != rows => Err(format!(
                "its first axis, the rows, has {rows}, and that of another input {other}; expected \
                 the same"
            )),
            _ => Ok(()),
        }
    }

    /// A known extent of an axis of the row.
    fn extent(
        &self,
        axis: usize,
        dimension: &proto::tensor_shape_proto::Dimension,
    ) -> Result<usize, String> {
        use proto::tensor_shape_proto::dimension::Value;
        match &dimension.value {
            Some(Value::DimValue(extent)) if *extent > 0 => Ok(*extent as usize),
            Some(Value::DimParam(name)) => {
                let said = self.options.dimensions.get(name).copied();
                said.ok_or_else(|| {
                    format!(
                        "axis {axis} has the name {name:?} and no extent; only the rows, axis 0, are \
                         free: say it with --dimension {name}=EXTENT"
                    )
                })
            }
            _ => Err(format!(
                "axis {axis} has no extent; only the rows, axis 0, are free"
            )),
        }
    }

    /// Takes a node: what does not depend on the rows is computed, the rest goes into the network.
    fn node(&mut self, node: &'m proto::NodeProto) -> Result<(), String> {
        if let Some(constant) = self.folded(node)? {
            let output = node.output.first().ok_or("it has no output")?;
            self.constants.insert(output, constant);
            return Ok(());
        }
        for node in nodes::nodes(self, node)? {
            for name in &node.inputs {
                if !name.is_empty() && !self.lowering.has(name) {
                    self.weight(name)?;
                }
            }
            let added = node.add(&mut self.lowering);
            added.map_err(|error| graph::problem(&error.refusal))?;
            self.network.nodes.push(node);
        }
        Ok(())
    }

    /// What a node computes, if that does not depend on the rows.
    fn folded(&self, node: &'m proto::NodeProto) -> Result<Option<Constant>, String> {
        if !is_core(node) {
            return Ok(None);
        }
        if node.op_type == "Shape"
            && let Some(shape) = node.input.first().and_then(|x| self.lowering.row_shape(x))
        {
            let row = shape.iter().map(|extent| Integer::Known(*extent as i64));
            let whole: Vec<Integer> = [Integer::Rows].into_iter().chain(row).collect();
            return fold::part_of_shape(node, whole).map(Some);
        }
        if node.op_type == "CastLike"
            && let Some(second) = node.input.get(1)
            && self.lowering.row_shape(second).is_some()
            && let Some(constant) = node.input.first().and_then(|x| self.constants.get(&**x))
        {
            // What depends on the rows is FP32.
            return constant
                .floats()
                .map(|values| Some(Constant::Floats(values)));
        }
        let inputs: Option<Vec<Option<&Constant>>> = node
            .input
            .iter()
            .map(|name| match name.is_empty() {
                true => Some(None),
                false => self.constants.get(&**name).map(Some),
            })
            .collect();
        match inputs {
            Some(inputs) => fold::fold(node, &inputs, self.opset, &self.directory).map(Some),
            None => Ok(None),
        }
    }
}
/// What an output holds.
enum Kind {
    Numbers,
    /// What ZipMap makes: for each row a map from classes to numbers.
    Maps,
    Unknown,
    Other(&'static str),
}

fn kind(output: &proto::ValueInfoProto) -> Kind {
    match output.r#type.as_ref().and_then(|kind| kind.value.as_ref()) {
        Some(type_proto::Value::TensorType(tensor)) => match Element::try_from(tensor.elem_type) {
            Ok(Element::Undefined) | Err(_) => Kind::Unknown,
            Ok(Element::Float | Element::Double | Element::Float16 | Element::Bfloat16) => {
                Kind::Numbers
            }
            Ok(element) => Kind::Other(element.as_str_name()),
        },
        Some(type_proto::Value::SequenceType(_)) => Kind::Maps,
        Some(type_proto::Value::MapType(_)) => Kind::Other("a map"),
        None => Kind::Unknown,
    }
}
