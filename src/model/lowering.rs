//! How a network becomes a graph of the engine's operators.
//!
//! A network is steps over named values: layers of Keras and PyTorch
//! ([`layers`](crate::model::layers)), or ONNX nodes ([`graph`](crate::model::graph)). A step
//! implements [`Lower`] and knows nothing of its neighbours: [`Lowering`] finds its inputs and weights
//! by their names, adds what it emits to the graph, and gives the result its name. Code that describes
//! networks (a family, the import of ONNX files) reads steps and words the refusals; the rest is here,
//! once.

mod call;
mod constants;
mod refusal;

use std::collections::HashMap;

#[cfg(feature = "import")]
use crate::engine::Constant;
use crate::engine::{Graph, GraphBuilder, MAX_ROW_ELEMENTS, ValueId};
use crate::model::weights::Weights;
use crate::tensor::TensorSpec;

pub(crate) use call::{Call, Lower, Value};
pub(crate) use constants::{Constants, Weight};
pub(crate) use refusal::{Refusal, StepError, Unused};

/// The most steps of a network: far more than any has. In an unoptimised build a chain of this many
/// loads in a tenth of a second; this many parallel branches, each with a buffer of its own among which
/// the plan searches, take two seconds.
pub(crate) const MAX_STEPS: usize = 10_000;

/// Turns steps into operators of the engine, one by one in running order.
#[derive(Debug)]
pub(crate) struct Lowering {
    graph: GraphBuilder,
    values: HashMap<String, Named>,
    constants: Constants,
    /// What inputs and steps define, in order.
    definitions: Vec<Definition>,
}

/// A value under its name.
#[derive(Debug)]
struct Named {
    value: Value,
    /// Its index among the definitions; `None` for what is the same for all rows.
    definition: Option<usize>,
}

/// A value that a request sends or a step computes.
#[derive(Debug)]
struct Definition {
    value: String,
    /// `None` for an input.
    step: Option<String>,
    is_used: bool,
}

impl Lowering {
    /// A network without steps, whose weights are given with [`Lowering::constant`].
    #[cfg(feature = "import")]
    pub(crate) fn new() -> Self {
        Self::over(Weights::default())
    }

    /// A network without steps, which takes the weights that they name from these.
    pub(in crate::model) fn over(weights: Weights) -> Self {
        Self {
            graph: GraphBuilder::new(),
            values: HashMap::new(),
            constants: Constants::new(weights),
            definitions: Vec::new(),
        }
    }

    /// Whether there is a value of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The extents of one row of a value; `None` for constants and for values that are not there.
    #[cfg(feature = "import")]
    pub(crate) fn row_shape(&self, name: &str) -> Option<&[usize]> {
        match self.values.get(name)?.value {
            Value::Rows(value) => Some(self.graph.shape(value)),
            Value::Constant(_) => None,
        }
    }

    /// Adds an input that each request sends.
    ///
    /// # Errors
    /// If its name is taken, or one of its rows is too large.
    pub(crate) fn input(&mut self, spec: TensorSpec) -> Result<(), Refusal> {
        let extents = spec.shape.extents.iter();
        let elements = extents.fold(1, |all: usize, extent| all.saturating_mul(*extent));
        if elements > MAX_ROW_ELEMENTS {
            return Err(Refusal::Problem(format!(
                "expected at most {MAX_ROW_ELEMENTS} numbers a row, got shape {:?}",
                spec.shape.extents
            )));
        }
        self.check_free(&spec.name)?;
        let name = spec.name.clone();
        let value = self.graph.input(spec);
        self.define(&name, value, None);
        Ok(())
    }

    /// Adds a value that is the same for all rows.
    ///
    /// # Errors
    /// If its name is taken.
    #[cfg(feature = "import")]
    pub(crate) fn constant(
        &mut self,
        name: &str,
        values: impl Into<Constant>,
    ) -> Result<(), Refusal> {
        self.check_free(name)?;
        self.insert(name, Value::Constant(values.into()), None);
        Ok(())
    }

    /// Applies a step to the values of these names (empty where an operand is left out), and gives the
    /// result the name `output`. Applications under one name share the step's weights.
    ///
    /// # Errors
    /// If an input is not there, the output's name is taken, or the step refuses its inputs or weights.
    pub(crate) fn apply(
        &mut self,
        step: &dyn Lower,
        name: &str,
        inputs: &[String],
        output: &str,
    ) -> Result<(), StepError> {
        self.constants.begin();
        let lowered = self.lower(step, name, inputs, output);
        let value = lowered.map_err(|refusal| StepError {
            step: name.to_owned(),
            refusal: Box::new(refusal),
            weights: self.constants.used().to_vec(),
        })?;
        self.define(output, value, Some(name));
        Ok(())
    }

    fn lower(
        &mut self,
        step: &dyn Lower,
        name: &str,
        inputs: &[String],
        output: &str,
    ) -> Result<ValueId, Refusal> {
        let mut operands = Vec::with_capacity(inputs.len());
        for name in inputs {
            operands.push(match name.as_str() {
                "" => None,
                name => Some(self.operand(name)?),
            });
        }
        // Operands left out at the end are as if they were not named.
        while let Some(None) = operands.last() {
            operands.pop();
        }
        self.check_free(output)?;
        let mut call = Call::new(name, operands, &mut self.graph, &mut self.constants);
        step.lower(&mut call)
    }

    /// The value of this name, else the tensor of this name.
    fn operand(&mut self, name: &str) -> Result<Value, Refusal> {
        if let Some(named) = self.values.get(name) {
            if let Some(index) = named.definition {
                self.definitions[index].is_used = true;
            }
            return Ok(named.value.clone());
        }
        let Some(values) = self.constants.tensor(name)? else {
            return Err(Refusal::Missing(name.to_owned()));
        };
        let value = Value::Constant(values);
        self.insert(name, value.clone(), None);
        Ok(value)
    }

    /// Makes a value an output under a name.
    ///
    /// # Errors
    /// If there is no such value, or it is the same for all rows.
    pub(crate) fn output(&mut self, name: &str, value: &str) -> Result<(), Refusal> {
        match self.values.get(value) {
            Some(Named {
                value: Value::Rows(id),
                definition,
            }) => {
                if let Some(index) = definition {
                    self.definitions[*index].is_used = true;
                }
                let output = self.graph.output(name, *id);
                output.map_err(|error| format!("{value:?}: {error}").into())
            }
            Some(_) => Err(format!(
                "{value:?} is a weight: the same for every row; expected what a node computes"
            )
            .into()),
            None => Err(Refusal::Missing(value.to_owned())),
        }
    }

    /// The finished network, and the weights with what no step took.
    ///
    /// # Errors
    /// The first value that no step and no output uses: the author meant another network.
    pub(in crate::model) fn finish(self) -> Result<(Graph, Weights), Unused> {
        let mut definitions = self.definitions.into_iter();
        match definitions.find(|definition| !definition.is_used) {
            None => Ok((self.graph.build(), self.constants.into_weights())),
            Some(Definition { value, step, .. }) => Err(Unused { value, step }),
        }
    }

    fn define(&mut self, name: &str, value: ValueId, step: Option<&str>) {
        self.insert(name, Value::Rows(value), Some(self.definitions.len()));
        self.definitions.push(Definition {
            value: name.to_owned(),
            step: step.map(str::to_owned),
            is_used: false,
        });
    }

    fn insert(&mut self, name: &str, value: Value, definition: Option<usize>) {
        let named = Named { value, definition };
        self.values.insert(name.to_owned(), named);
    }

    fn check_free(&self, name: &str) -> Result<(), Refusal> {
        match self.has(name) {
            false => Ok(()),
            true => Err(Refusal::NameTaken(name.to_owned())),
        }
    }
}
