//! Names of weights.

/// One of a layer's weights by its names; a name is empty where the framework has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    /// Ours, in a layer's `weights` and in errors.
    pub name: &'static str,
    /// The parameter of the module.
    pub torch: &'static str,
    /// The variable of the layer.
    pub keras: &'static str,
    /// The attribute of the estimator.
    pub sklearn: &'static str,
}

impl Role {
    /// The tensors that may hold the weight of a layer of family `sequential`, by the conventions of
    /// PyTorch, Keras and scikit-learn: the first that exists is used.
    #[must_use]
    pub fn tensors(&self, layer: &str) -> Vec<String> {
        let all = self.of_torch(layer).into_iter();
        let mut tensors: Vec<String> = Vec::new();
        for tensor in all
            .chain(self.of_keras(layer))
            .chain(self.of_sklearn(layer))
        {
            if !tensors.contains(&tensor) {
                tensors.push(tensor);
            }
        }
        tensors
    }

    /// PyTorch's name for the tensor: `n.weight`.
    #[must_use]
    pub fn of_torch(&self, layer: &str) -> Option<String> {
        (!self.torch.is_empty()).then(|| format!("{layer}.{}", self.torch))
    }

    /// Keras' names for it, `n/kernel` and that of Keras 2, `n/kernel:0`; and with a dot, as people
    /// rename it.
    #[must_use]
    pub fn of_keras(&self, layer: &str) -> Vec<String> {
        match self.keras {
            "" => Vec::new(),
            variable => vec![
                format!("{layer}/{variable}"),
                format!("{layer}/{variable}:0"),
                self.dotted(layer),
            ],
        }
    }

    /// Keras' name for it with a dot: `n.kernel`.
    #[must_use]
    pub fn dotted(&self, layer: &str) -> String {
        format!("{layer}.{}", self.keras)
    }

    /// scikit-learn's name for it, after that of the step: `n.mean_`.
    #[must_use]
    pub fn of_sklearn(&self, layer: &str) -> Option<String> {
        (!self.sklearn.is_empty()).then(|| format!("{layer}.{}", self.sklearn))
    }
}
