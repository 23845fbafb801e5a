//! A layer in a configuration of family `sequential`.

use super::role::Role;
use crate::model::json::{Field, Fields, JsonError};
use crate::model::lowering::Weight;
use crate::model::weights::Weights;

/// A layer of family `sequential` that is being read.
pub(in crate::model) struct SequentialLayer<'a> {
    /// Its name.
    pub(in crate::model) name: &'a str,
    /// The keys that are not those of every layer.
    pub(in crate::model) fields: Fields,
    /// What the layer's `weights` says: tensors by role.
    roles: Option<Fields>,
    weights: &'a mut Weights,
}

impl<'a> SequentialLayer<'a> {
    pub(in crate::model) fn new(
        name: &'a str,
        fields: Fields,
        roles: Option<Fields>,
        weights: &'a mut Weights,
    ) -> Self {
        Self {
            name,
            fields,
            roles,
            weights,
        }
    }

    /// The tensor that the layer's `weights` names for a role, else those of the frameworks' conventions.
    pub(in crate::model) fn weight(&mut self, role: &Role) -> Result<Weight, JsonError> {
        let given = self.roles.as_mut().and_then(|roles| roles.take(role.name));
        Ok(Weight::Tensor(match given {
            Some(field) => vec![field.string()?],
            None => role.tensors(self.name),
        }))
    }

    /// As [`SequentialLayer::weight`], if the key `switch` is true or left out.
    pub(in crate::model) fn optional_weight(
        &mut self,
        switch: &'static str,
        role: &Role,
    ) -> Result<Option<Weight>, JsonError> {
        let is_there = self.fields.take(switch).map_or(Ok(true), Field::bool)?;
        is_there.then(|| self.weight(role)).transpose()
    }

    /// Whether the role is named, or a tensor with one of the default names is there.
    pub(in crate::model) fn has(&self, role: &Role) -> bool {
        let mut tensors = role.tensors(self.name).into_iter();
        self.roles
            .as_ref()
            .is_some_and(|roles| roles.has(role.name))
            || tensors.any(|tensor| self.weights.contains(&tensor))
    }

    /// Whether a tensor is there under PyTorch's name for a role.
    pub(in crate::model) fn has_torch(&self, role: &Role) -> bool {
        let tensor = role.of_torch(self.name);
        tensor.is_some_and(|tensor| self.weights.contains(&tensor))
    }

    /// Allows a tensor that inference does not use.
    pub(in crate::model) fn ignore(&mut self, role: &Role) {
        for tensor in role.tensors(self.name) {
            self.weights.ignore(&tensor);
        }
    }

    /// The frameworks' defaults differ by a factor of 100, so the configuration must say it.
    pub(in crate::model) fn epsilon(&mut self) -> Result<f64, JsonError> {
        let missing = self
            .fields
            .error("the key \"epsilon\" is missing; PyTorch's default is 0.00001, Keras' is 0.001");
        let field = self.fields.take("epsilon").ok_or(missing)?;
        let refusal = field.expected("a number that is not negative");
        match field.number()? {
            epsilon if epsilon >= 0.0 => Ok(epsilon),
            _ => Err(refusal),
        }
    }

    /// Refuses keys and roles that the layer does not have.
    pub(in crate::model) fn finish(self) -> Result<(), JsonError> {
        self.roles.map_or(Ok(()), Fields::finish)?;
        self.fields.finish()
    }
}
