//! `examples` of `:classify` and `:regress`: rows as objects of named features.

use std::cell::OnceCell;
use std::collections::HashMap;

use super::super::error::ApiError;
use super::super::json::{Kind, Reader, excerpt};
use super::super::predict::Rows;
use super::input::{self, buffers};
use crate::model::Signature;

pub(super) const PLACE: &str = "examples";

/// Reads a body with `examples`, and with `context`: features that all examples share.
pub(super) fn decode(
    body: &[u8],
    signature: &Signature,
    max_rows: usize,
) -> Result<Rows, ApiError> {
    let mut reader = input::reader(body, signature)?;
    let (mut examples, mut context) = (None, None);
    reader.object(|reader, key| {
        match key {
            "examples" => {
                examples = Some(reader.mark());
                reader.skip()?;
            }
            "context" => {
                context = Some(reader.mark());
                reader.skip()?;
            }
            "signature_name" => input::signature_name(reader)?,
            _ => reader.skip()?,
        }
        Ok::<_, ApiError>(())
    })?;
    reader.end()?;
    let Some(examples) = examples else {
        return Err(ApiError::invalid(
            "missing_field",
            "the body: expected the key \"examples\" with a list of objects",
        ));
    };
    let columns = Columns::of(signature);
    let mut shared = Row::empty(signature, &columns);
    if let Some(context) = context {
        reader.revisit(context, |reader| shared.read(reader, &columns))?;
    }
    reader.revisit(examples, |reader| {
        read_examples(reader, &columns, &shared, max_rows)
    })
}

fn read_examples(
    reader: &mut Reader<'_>,
    columns: &Columns<'_>,
    shared: &Row,
    max_rows: usize,
) -> Result<Rows, ApiError> {
    let mut inputs = buffers(columns.signature);
    let mut row = shared.clone();
    let mut rows = 0;
    let all = reader.mark();
    reader.array(|reader, index| {
        if index == max_rows {
            return Err(input::too_many_rows(
                PLACE,
                input::count(reader, all)?,
                max_rows,
            ));
        }
        rows += 1;
        let place = reader.mark();
        row.clone_from(shared);
        row.read(reader, columns)?;
        row.expect_whole(columns, || reader.path(place))?;
        for (buffer, values) in inputs.iter_mut().zip(&row.values) {
            buffer.extend_from_slice(values);
        }
        Ok(())
    })?;
    input::rows(PLACE, rows, max_rows, inputs)
}

/// The keys that an example may have: each input's name, and the names of the single input's
/// features if the model has names for them.
pub(super) struct Columns<'a> {
    pub(super) signature: &'a Signature,
    /// The inputs' names, then the features'.
    names: Vec<&'a str>,
    /// Made when keys do not come in the order of `names`.
    by_name: OnceCell<HashMap<&'a str, usize>>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(signature: &'a Signature) -> Self {
        let inputs = signature.inputs.iter().map(|spec| &*spec.name);
        let features = signature.feature_names.iter().map(|name| &**name);
        Self {
            signature,
            names: inputs.chain(features).collect(),
            by_name: OnceCell::new(),
        }
    }

    /// The column of a key; quick if it is the one at `guess`.
    pub(super) fn index_of(&self, key: &str, guess: usize) -> Option<usize> {
        if self.names.get(guess) == Some(&key) {
            return Some(guess);
        }
        let by_name = self.by_name.get_or_init(|| {
            // A feature that is named as its input is the feature.
            let names = self.names.iter().enumerate();
            names.map(|(index, name)| (*name, index)).collect()
        });
        by_name.get(key).copied()
    }

    pub(super) fn inputs(&self) -> usize {
        self.signature.inputs.len()
    }
}

/// One example, being read.
#[derive(Clone)]
pub(super) struct Row {
    /// The values of each input.
    pub(super) values: Vec<Vec<f32>>,
    /// Which columns came.
    pub(super) taken: Vec<bool>,
}

impl Row {
    pub(super) fn empty(signature: &Signature, columns: &Columns<'_>) -> Self {
        let inputs = signature.inputs.iter();
        Self {
            values: inputs.map(|spec| vec![0.0; spec.row_elements()]).collect(),
            taken: vec![false; columns.names.len()],
        }
    }

    /// Reads an object over what is there.
    fn read(&mut self, reader: &mut Reader<'_>, columns: &Columns<'_>) -> Result<(), ApiError> {
        let mut taken = vec![false; columns.names.len()];
        let mut guess = columns.inputs();
        reader.known_members(
            &mut taken,
            |key| {
                let index = columns.index_of(key, guess)?;
                guess = index + 1;
                Some(index)
            },
            |key, path| columns.unknown(key, &path),
            |reader, index| match index.checked_sub(columns.inputs()) {
                None => {
                    let spec = &columns.signature.inputs[index];
                    self.values[index].clear();
                    input::row(reader, spec, &mut self.values[index])
                }
                Some(feature) => {
                    self.values[0][feature] = feature_value(reader)?;
                    Ok(())
                }
            },
        )?;
        for (all, new) in self.taken.iter_mut().zip(taken) {
            *all |= new;
        }
        Ok(())
    }

    /// Checks that each value came once: with its input, or as a feature.
    pub(super) fn expect_whole(
        &self,
        columns: &Columns<'_>,
        place: impl Fn() -> String,
    ) -> Result<(), ApiError> {
        let (inputs, features) = self.taken.split_at(columns.inputs());
        let whole = |taken: &[bool]| taken.iter().all(|&taken| taken);
        let any_feature = features.contains(&true);
        if whole(inputs) && !any_feature {
            return Ok(());
        }
        if !inputs.contains(&true) && any_feature && whole(features) {
            return Ok(());
        }
        if inputs.contains(&true) && any_feature {
            return Err(ApiError::invalid(
                "ambiguous_request",
                format!(
                    "{}: expected either {:?} or its features, got both",
                    place(),
                    columns.signature.inputs[0].name
                ),
            ));
        }
        // What is named is what the client seems to have begun, or what reads best.
        let place = place();
        if let Some(first) = inputs.iter().position(|taken| !taken)
            && (features.is_empty() || inputs.contains(&true))
        {
            let spec = &columns.signature.inputs[first];
            let expected = format_args!("{} {:?}", spec.datatype, spec.row_shape);
            return Err(input::missing_input(&place, spec, expected));
        }
        let names = columns.names[inputs.len()..].iter().zip(features);
        Err(input::missing_features(
            &place,
            names.filter_map(|(name, taken)| (!taken).then_some(*name)),
        ))
    }
}

impl Columns<'_> {
    pub(super) fn unknown(&self, key: &str, path: &str) -> ApiError {
        match self.names.get(self.inputs()) {
            None => input::unknown(key, path, self.signature),
            Some(first) => ApiError::invalid(
                "unknown_input",
                format!(
                    "{path}: the model has no feature {}; it takes {first:?} and so on, or \
                     {:?} with all values",
                    excerpt(key, 40),
                    self.names[0]
                ),
            ),
        }
    }
}

/// Reads a number, or a list of one as TensorFlow's examples hold them.
fn feature_value(reader: &mut Reader<'_>) -> Result<f32, ApiError> {
    if reader.peek()? != Kind::Array {
        return Ok(reader.f32()?);
    }
    let place = reader.mark();
    let mut values = Vec::with_capacity(1);
    let extents = reader.numbers(&mut values, 1)?;
    match (&*extents, &*values) {
        ([1], &[value]) => Ok(value),
        _ => Err(ApiError::invalid(
            "shape_mismatch",
            format!(
                "{}: expected a number or a list of one, got {:?}",
                reader.path(place),
                &*extents
            ),
        )),
    }
}
