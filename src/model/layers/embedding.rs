//! Rows of a learnt table, looked up by integers.

use crate::engine::ValueId;
use crate::engine::ops::Gather;
use crate::model::json::Field;
use crate::model::layer::{Definition, KerasLayer, Read, Role, SequentialLayer};
use crate::model::lowering::{Call, Lower, Refusal, Weight};
use crate::tensor::DataType;

pub(super) const LAYER: Definition = Definition {
    name: "embedding",
    sequential,
    keras: &["Embedding"],
    read_keras,
    torch: &[],
    roles: &[EMBEDDINGS],
};

const EMBEDDINGS: Role = Role {
    name: "embeddings",
    torch: "weight",
    keras: "embeddings",
    sklearn: "",
};

/// For each index its row of `embeddings`, which is `[entries, units]`.
#[derive(Debug)]
struct Embedding {
    embeddings: Weight,
    entries: Option<usize>,
    units: Option<usize>,
}

fn sequential(layer: &mut SequentialLayer<'_>) -> Read {
    let fields = &mut layer.fields;
    let entries = fields.take("entries").map(Field::extent).transpose()?;
    let units = fields.take("units").map(Field::extent).transpose()?;
    Ok(Box::new(Embedding {
        embeddings: layer.weight(&EMBEDDINGS)?,
        entries,
        units,
    }))
}

fn read_keras(layer: &mut KerasLayer<'_>) -> Read {
    layer.config.ignore(&[
        "embeddings_initializer",
        "embeddings_regularizer",
        "embeddings_constraint",
        "input_length",
    ]);
    layer.expect_off(
        "mask_zero",
        "requests send the tokens that there are, and no padding",
    )?;
    Ok(Box::new(Embedding {
        embeddings: layer.weight(&EMBEDDINGS),
        entries: Some(layer.config.require("input_dim")?.extent()?),
        units: Some(layer.config.require("output_dim")?.extent()?),
    }))
}

impl Lower for Embedding {
    fn datatype(&self) -> DataType {
        DataType::Int64
    }

    fn lower(&self, call: &mut Call<'_>) -> Result<ValueId, Refusal> {
        let indices = call.only()?;
        let table = call.weight(EMBEDDINGS.name, &self.embeddings)?;
        let [entries, units] = call.shape(table.value)[..] else {
            return Err(format!(
                "embeddings: expected 2 axes, [entries, units], got {}",
                table.description
            )
            .into());
        };
        let checks = [
            ("entries", self.entries, entries),
            ("units", self.units, units),
        ];
        for (key, given, stored) in checks {
            if given.is_some_and(|given| given != stored) {
                return Err(format!(
                    "{key}: expected the {stored} of {}, got {}",
                    table.description,
                    given.unwrap_or_default()
                )
                .into());
            }
        }
        call.emit(Gather, &[table.value, indices])
    }
}
