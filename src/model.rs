//! A model as it is served: its signature, its engine and the fingerprint of its weights.

pub mod activations;
mod classes;
mod columns;
mod error;
mod expected;
mod families;
mod files;
mod fingerprint;
pub(crate) mod graph;
mod json;
mod layer;
pub mod layers;
pub(crate) mod lowering;
mod manifest;
mod names;
mod program;
pub mod publish;
pub mod repository;
mod signature;
mod weights;

use std::path::Path;
use std::sync::Arc;

use self::files::read_small;
use self::manifest::Description;
use self::program::Program;
use self::weights::Weights;
use crate::engine::Engine;
use crate::engine::kernels::Isa;
use crate::request::{Finish, Prepare};
use fingerprint::Fingerprint;

pub use self::columns::{CellError, Column, ColumnKind, Columns};
pub use self::error::LoadError;
pub use self::expected::{Expected, ExpectedError, Furthest};
pub use self::files::CONFIG_FILE;
pub(crate) use self::files::open_regular;
pub use self::json::JsonError;
pub use self::signature::{Output, OutputSource, Signature, Task};
pub use self::weights::WeightsError;

/// One loaded version of a model.
#[derive(Debug)]
pub struct Model {
    /// The name of its directory in the repository.
    pub name: String,
    /// The version: a positive number, the name of the version's directory.
    pub version: u64,
    /// Lower-case hexadecimal SHA-256 over the configuration and the weights.
    pub fingerprint: String,
    /// What requests send and what answers hold.
    pub signature: Signature,
    /// What turns a request's inputs into the engine's; `None` if they are the same.
    pub prepare: Option<Arc<dyn Prepare>>,
    /// What makes further outputs of the engine's; `None` if there are none.
    pub finish: Option<Arc<dyn Finish>>,
    /// The compiled forward pass.
    pub engine: Arc<Engine>,
}

impl Model {
    /// Loads the model whose files lie in `directory` for this machine's best instruction set.
    ///
    /// # Errors
    /// [`LoadError`] naming the file, the place in it, what was expected and what is there.
    pub fn load(name: &str, version: u64, directory: &Path) -> Result<Self, LoadError> {
        Self::load_for(name, version, directory, Isa::detect())
    }

    /// Loads the model whose files lie in `directory` for the given instruction set.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn load_for(
        name: &str,
        version: u64,
        directory: &Path,
        isa: Isa,
    ) -> Result<Self, LoadError> {
        let text = read_small(&directory.join(CONFIG_FILE))
            .map_err(|error| LoadError::ConfigFile { error })?;
        let mut fingerprint = Fingerprint::new();
        fingerprint.update(&(text.len() as u64).to_le_bytes());
        fingerprint.update(&text);
        let mut config = json::parse(&text).map_err(|error| LoadError::ConfigSyntax { error })?;
        let description = Description::take(&mut config)?;
        let weights = Weights::read(directory, &mut fingerprint)?;
        let (program, weights) = families::build(&mut config, &description, weights)?;
        let Program {
            prepare,
            graph,
            finish,
        } = program;
        config.finish()?;
        weights.finish()?;
        let engine =
            Engine::compile_releasing(graph, isa, &mut |weight| fingerprint.let_go(weight));
        let inputs = match &prepare {
            Some(prepare) => &prepare.inputs,
            None => engine.inputs(),
        };
        let (signature, finish) = description.signature(inputs, engine.outputs(), finish)?;
        Ok(Self {
            name: name.to_owned(),
            version,
            fingerprint: fingerprint.finish(),
            signature,
            prepare: prepare.map(|prepare| prepare.step),
            finish: finish.map(|finish| finish.step),
            engine: Arc::new(engine),
        })
    }
}
