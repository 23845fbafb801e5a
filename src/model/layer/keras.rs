//! A layer as Keras 2 or 3 describes it.

use super::role::Role;
use crate::model::activations::KerasVersion;
use crate::model::json::{Field, Fields, JsonError};
use crate::model::lowering::Weight;
use crate::model::weights::Weights;

/// Keys of layers that inference does not depend on.
const IRRELEVANT: &[&str] = &[
    "name",
    "trainable",
    "dtype",
    "batch_shape",
    "batch_input_shape",
    "kernel_initializer",
    "bias_initializer",
    "kernel_regularizer",
    "bias_regularizer",
    "activity_regularizer",
    "kernel_constraint",
    "bias_constraint",
];

/// What a layer may need to know of its model.
#[derive(Debug)]
pub(in crate::model) struct KerasModel {
    /// The Keras version that wrote the configuration; `None` if unknown.
    pub(in crate::model) version: Option<KerasVersion>,
    /// The model's name, with which Keras 3 may begin a variable's path.
    pub(in crate::model) name: String,
    pub(in crate::model) weights: Weights,
}

/// A layer of Keras that is being read.
pub(in crate::model) struct KerasLayer<'a> {
    pub(in crate::model) class: &'a Field,
    /// Its name.
    pub(in crate::model) name: &'a str,
    /// Its own configuration.
    pub(in crate::model) config: Fields,
    pub(in crate::model) model: &'a mut KerasModel,
}

impl<'a> KerasLayer<'a> {
    pub(in crate::model) fn new(
        class: &'a Field,
        name: &'a str,
        mut config: Fields,
        model: &'a mut KerasModel,
    ) -> Self {
        config.ignore(IRRELEVANT);
        Self {
            class,
            name,
            config,
            model,
        }
    }

    /// A layer inside of this one's configuration.
    pub(in crate::model) fn nested<'n>(
        &'n mut self,
        class: &'n Field,
        config: Fields,
    ) -> KerasLayer<'n> {
        KerasLayer::new(class, self.name, config, self.model)
    }

    /// A switch, true if it is left out.
    pub(in crate::model) fn switch(&mut self, key: &'static str) -> Result<bool, JsonError> {
        self.config.take(key).map_or(Ok(true), Field::bool)
    }

    /// Refuses a switch that is on.
    pub(in crate::model) fn expect_off(
        &mut self,
        key: &'static str,
        why: &str,
    ) -> Result<(), JsonError> {
        let Some(field) = self.config.take(key) else {
            return Ok(());
        };
        let refusal = field.expected(&format!("false ({why})"));
        match field.bool()? {
            true => Err(refusal),
            false => Ok(()),
        }
    }

    /// The axis that the layer works along, the rows being axis 0, if it is given.
    pub(in crate::model) fn axis(&mut self) -> Result<Option<i64>, JsonError> {
        self.config.take("axis").map(sole_axis).transpose()
    }

    /// A variable of the layer.
    pub(in crate::model) fn weight(&self, role: &Role) -> Weight {
        Weight::Tensor(self.paths(role))
    }

    /// As [`KerasLayer::weight`], if a switch is on or left out.
    pub(in crate::model) fn optional_weight(
        &mut self,
        switch: &'static str,
        role: &Role,
    ) -> Result<Option<Weight>, JsonError> {
        Ok(self.switch(switch)?.then(|| self.weight(role)))
    }

    /// A variable that Keras 2 leaves the layer's name out of: that of a layer that was adapted before
    /// it was built into a model.
    pub(in crate::model) fn adapted_weight(&self, role: &Role) -> Weight {
        Weight::Tensor(self.adapted_paths(role))
    }

    /// Allows such a variable, which inference does not use.
    pub(in crate::model) fn ignore_adapted(&mut self, role: &Role) {
        for path in self.adapted_paths(role) {
            self.model.weights.ignore(&path);
        }
    }

    fn adapted_paths(&self, role: &Role) -> Vec<String> {
        let mut paths = self.paths(role);
        paths.extend([format!("{}:0", role.keras), role.keras.to_owned()]);
        paths
    }

    /// The paths that Keras may give a variable: one model writes `sequential/dense/kernel` when
    /// it was built by hand and `dense/kernel` when it came from JSON; Keras 2 adds `:0`.
    fn paths(&self, role: &Role) -> Vec<String> {
        let short = format!("{}/{}", self.name, role.keras);
        let long = format!("{}/{short}", self.model.name);
        vec![format!("{short}:0"), format!("{long}:0"), long, short]
    }

    /// Refuses keys that the layer does not have.
    pub(in crate::model) fn finish(self) -> Result<(), JsonError> {
        self.config.finish()
    }
}

/// A layer's class, its configuration and its inbound nodes.
pub(in crate::model) fn described(
    field: Field,
) -> Result<(Field, Fields, Option<Field>), JsonError> {
    let mut layer = field.object()?;
    layer.ignore(&["build_config", "name"]);
    let class = layer.require("class_name")?;
    // A user's own class may have the name of one of Keras'.
    for (key, own) in [
        ("module", |name: &str| {
            !name.starts_with("keras") && !name.starts_with("tf_keras")
        }),
        ("registered_name", |name: &str| name.contains('>')),
    ] as [(&'static str, fn(&str) -> bool); 2]
    {
        if let Some(field) = layer.take(key) {
            let refusal = field.expected("a layer of Keras itself");
            if own(&field.string()?) {
                return Err(refusal);
            }
        }
    }
    let config = layer.require("config")?.object()?;
    let nodes = layer.take("inbound_nodes");
    layer.finish()?;
    Ok((class, config, nodes))
}

/// An axis, or a list of one axis; the rows count as axis 0.
fn sole_axis(field: Field) -> Result<i64, JsonError> {
    let refusal = field.expected("one axis");
    let mut axes = match field.is_list() {
        true => field.list()?,
        false => vec![field],
    };
    match (axes.pop(), axes.pop()) {
        (Some(axis), None) => axis.integer(),
        _ => Err(refusal),
    }
}
