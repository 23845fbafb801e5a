//! A scale and an offset from the configuration.

use crate::engine::ValueId;
use crate::engine::ops::{Mul, Sum};
use crate::model::json::Field;
use crate::model::layer::{Definition, KerasLayer, Read, SequentialLayer};
use crate::model::lowering::{Call, Lower, Refusal, Weight};

pub(super) const LAYER: Definition = Definition {
    name: "rescaling",
    sequential,
    keras: &["Rescaling"],
    read_keras,
    torch: &[],
    roles: &[],
};

/// `x · scale + offset`, each one number or one a column.
#[derive(Debug)]
struct Rescaling {
    scale: Vec<f32>,
    offset: Vec<f32>,
}

fn sequential(layer: &mut SequentialLayer<'_>) -> Read {
    let mut numbers = |key, default: f32| match layer.fields.take(key) {
        None => Ok(vec![default]),
        Some(field) if field.is_list() => field.list()?.into_iter().map(Field::single).collect(),
        Some(field) => Ok(vec![field.single()?]),
    };
    Ok(Box::new(Rescaling {
        scale: numbers("scale", 1.0)?,
        offset: numbers("offset", 0.0)?,
    }))
}

fn read_keras(layer: &mut KerasLayer<'_>) -> Read {
    let offset = layer.config.take("offset");
    Ok(Box::new(Rescaling {
        scale: layer.config.require("scale")?.numbers()?,
        offset: offset.map_or(Ok(vec![0.0]), Field::numbers)?,
    }))
}

impl Lower for Rescaling {
    fn lower(&self, call: &mut Call<'_>) -> Result<ValueId, Refusal> {
        let x = call.only()?;
        let columns = call.columns(x);
        for (key, values) in [("scale", &self.scale), ("offset", &self.offset)] {
            if values.len() != 1 && values.len() != columns {
                return Err(format!(
                    "{key}: expected 1 number, or {columns}, one a column; got {}",
                    values.len()
                )
                .into());
            }
        }
        let scale = call.weight("scale", &Weight::Values(self.scale.clone()))?;
        let offset = call.weight("offset", &Weight::Values(self.offset.clone()))?;
        let scaled = call.emit(Mul, &[x, scale.value])?;
        call.emit(Sum, &[scaled, offset.value])
    }
}
