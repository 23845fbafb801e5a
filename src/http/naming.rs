//! The names that requests may use, or leave out.

use http::Method;

use crate::versions::VersionLabels;

/// What requests may leave out or call by other names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Naming {
    /// The model of paths that name none; `None`: the only one.
    pub default_model: Option<String>,
    /// Names of versions.
    pub labels: VersionLabels,
    /// The paths that Vertex AI asks on.
    pub vertex: VertexRoutes,
}

/// The paths of Vertex AI, which says them in the environment; the others are there in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VertexRoutes {
    /// Answered as `/ping`.
    pub health: Option<String>,
    /// Takes rows of the default model.
    pub predict: Option<String>,
}

/// What a request on one of Vertex AI's paths asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VertexCall {
    Health,
    Predict,
}

impl VertexRoutes {
    /// What a request is for. One path may be for both.
    pub(super) fn call(&self, method: &Method, path: &str) -> Option<VertexCall> {
        let is = |route: &Option<String>| route.as_deref() == Some(path);
        match (is(&self.health), is(&self.predict)) {
            (true, true) if *method == Method::POST => Some(VertexCall::Predict),
            (true, _) => Some(VertexCall::Health),
            (_, true) => Some(VertexCall::Predict),
            _ => None,
        }
    }
}
