//! Values that come by name, in any order: of the inputs, or of the single input's features.

use std::cell::{Cell, OnceCell};
use std::collections::HashMap;

use super::missing_input;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::intake::{InputRows, read_row, unknown_input};
use crate::json::{Elements, Kind, Mark, Reader};
use crate::messages::excerpt;
use crate::messages::nearest;
use crate::model::Signature;
use crate::tensor::{DataType, Values};

/// The keys that a row may have: each input's name, and the names of the single input's features if
/// the model has names for them.
#[derive(Debug)]
pub(in crate::http) struct Columns<'a> {
    signature: &'a Signature,
    /// The inputs' names, then the features'.
    names: Vec<&'a str>,
    /// Made when keys do not come in the order of `names`.
    by_name: OnceCell<HashMap<&'a str, usize>>,
}

impl<'a> Columns<'a> {
    /// The names of a model.
    pub(in crate::http) fn of(signature: &'a Signature) -> Self {
        Self::with_features(signature, &signature.feature_names)
    }

    /// As [`Self::of`], with other names for the features.
    pub(in crate::http) fn with_features(signature: &'a Signature, features: &'a [String]) -> Self {
        let inputs = signature.inputs.iter().map(|spec| &*spec.name);
        let features = features.iter().map(|name| &**name);
        Self {
            signature,
            names: inputs.chain(features).collect(),
            by_name: OnceCell::new(),
        }
    }

    pub(in crate::http) fn signature(&self) -> &'a Signature {
        self.signature
    }

    /// The names of the features, none if the model has none.
    pub(in crate::http) fn features(&self) -> &[&'a str] {
        &self.names[self.inputs()..]
    }

    /// How many inputs there are; the features come after them.
    pub(in crate::http) fn inputs(&self) -> usize {
        self.signature.inputs.len()
    }

    /// Whether the rows of an input have all one size.
    #[cfg(feature = "grpc")]
    pub(in crate::http) fn has_fixed_rows(&self, input: usize) -> bool {
        self.signature.inputs[input].shape.axis().is_none()
    }

    /// Where keys in their own order begin.
    fn first(&self) -> usize {
        match self.features() {
            [] => 0,
            _ => self.inputs(),
        }
    }

    /// The index of a key among the inputs and then the features; quick if it is the one at `guess`.
    pub(in crate::http) fn index_of(&self, key: &str, guess: usize) -> Option<usize> {
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

    /// The index of the feature with this name; quick if it is the one at `guess`.
    pub(in crate::http) fn feature(&self, name: &str, guess: usize) -> Option<usize> {
        let index = self.index_of(name, self.inputs() + guess)?;
        index.checked_sub(self.inputs())
    }

    /// The feature that each of these columns holds.
    ///
    /// # Errors
    /// 400 that names all columns that are no feature or come twice, and all features that do not
    /// come.
    pub(in crate::http) fn order<'n>(
        &self,
        place: &str,
        columns: impl IntoIterator<Item = &'n str>,
    ) -> Result<Vec<usize>, ApiError> {
        let mut order = Vec::with_capacity(self.features().len());
        let mut misfit = Misfit::new(self);
        for name in columns {
            match self.feature(name, order.len()) {
                Some(index) => {
                    if std::mem::replace(&mut misfit.taken[index], true) {
                        return Err(ApiError::invalid(
                            ErrorCode::DuplicateInput,
                            format!(
                                "{place}: the column {} comes twice; send each once",
                                excerpt(name, 40)
                            ),
                        ));
                    }
                    order.push(index);
                }
                None => misfit.add(name),
            }
        }
        match misfit.refusal(place, false) {
            Some(refusal) => Err(refusal),
            None => Ok(order),
        }
    }

    /// A key of no column, where no others are known.
    #[cfg(feature = "grpc")]
    #[cold]
    pub(in crate::http) fn unknown_key(&self, key: &str, place: &str) -> ApiError {
        let mut misfit = Misfit::new(self);
        misfit.taken.fill(true);
        misfit.add(key);
        match (self.features(), misfit.refusal(place, true)) {
            ([_, ..], Some(refusal)) => refusal,
            _ => unknown_input(key, place, self.signature),
        }
    }

    /// What is wrong with an object that has a key of no column.
    #[cold]
    fn unknown(&self, reader: &mut Reader<'_>, place: Mark, shared: &[bool]) -> ApiError {
        let path = reader.path(place).to_string();
        if self.features().is_empty() {
            let mut first = None;
            let read = reader.revisit(place, |reader| {
                reader.object(|reader, key| {
                    if first.is_none() && self.index_of(key, 0).is_none() {
                        first = Some(unknown_input(key, &path, self.signature));
                    }
                    reader.skip()
                })
            });
            return match (read, first) {
                (_, Some(first)) => first,
                (Err(error), None) => error.into(),
                (Ok(()), None) => unreachable!("a key was unknown"),
            };
        }
        let mut misfit = Misfit::new(self);
        misfit.taken.copy_from_slice(&shared[self.inputs()..]);
        let mut has_input = false;
        let read = reader.revisit(place, |reader| {
            reader.object(|reader, key| {
                match self.index_of(key, usize::MAX) {
                    None => misfit.add(key),
                    Some(index) => match index.checked_sub(self.inputs()) {
                        None => has_input = true,
                        Some(feature) => misfit.taken[feature] = true,
                    },
                }
                reader.skip()
            })
        });
        if has_input {
            misfit.taken.fill(true);
        }
        match (misfit.refusal(&path, true), read) {
            (Some(refusal), _) => refusal,
            (None, Err(error)) => error.into(),
            (None, Ok(())) => unreachable!("a key was unknown"),
        }
    }
}

/// One row, being read.
#[derive(Clone, Debug)]
pub(in crate::http) struct Row {
    /// The values of each input.
    values: Vec<Values>,
    /// Which columns came.
    taken: Vec<bool>,
    /// Which of them came in the object that is being read.
    fresh: Vec<bool>,
}

impl Row {
    /// A row without any value yet.
    pub(in crate::http) fn empty(columns: &Columns<'_>) -> Self {
        let inputs = columns.signature.inputs.iter();
        Self {
            values: inputs
                .map(|spec| Values::zeros(spec.datatype, spec.shape.elements()))
                .collect(),
            taken: vec![false; columns.names.len()],
            fresh: vec![false; columns.names.len()],
        }
    }

    /// As another of the same model is.
    pub(in crate::http) fn reset_to(&mut self, other: &Self) {
        for (values, others) in self.values.iter_mut().zip(&other.values) {
            values.clear();
            values.extend(others.view());
        }
        self.taken.copy_from_slice(&other.taken);
    }

    /// As if nothing had come.
    pub(in crate::http) fn forget(&mut self) {
        self.taken.fill(false);
    }

    /// Reads an object over what is there, and appends the row if it is whole then.
    pub(in crate::http) fn read_whole(
        &mut self,
        reader: &mut Reader<'_>,
        columns: &Columns<'_>,
        inputs: &mut [InputRows<'_>],
    ) -> Result<(), ApiError> {
        let place = reader.mark();
        let read = self.read(reader, columns);
        read.and_then(|()| self.append(columns, inputs, || reader.path(place).to_string()))
            .map_err(|error| error.at(reader.path(place)))
    }

    /// Appends the row if it is whole.
    pub(in crate::http) fn append(
        &self,
        columns: &Columns<'_>,
        inputs: &mut [InputRows<'_>],
        place: impl Fn() -> String,
    ) -> Result<(), ApiError> {
        self.expect_whole(columns, place)?;
        for (input, values) in inputs.iter_mut().zip(&self.values) {
            input.push(values.view());
        }
        Ok(())
    }

    /// Where the values of an input go, which has come with that, and its features' too.
    #[cfg(feature = "grpc")]
    pub(in crate::http) fn input(&mut self, columns: &Columns<'_>, index: usize) -> &mut Values {
        self.taken[index] = true;
        &mut self.values[index.min(columns.inputs() - 1)]
    }

    /// Checks a row that others share: what it holds is numbers, as many as each row has. Anything
    /// else would make a long body of a short one.
    ///
    /// # Errors
    /// 400 if not.
    pub(in crate::http) fn expect_shareable(
        &self,
        columns: &Columns<'_>,
        place: &'static str,
    ) -> Result<(), ApiError> {
        let inputs = columns.signature.inputs.iter().zip(&self.taken);
        let mut taken = inputs.filter(|(_, taken)| **taken);
        let found =
            taken.find(|(spec, _)| spec.shape.axis().is_some() || spec.datatype == DataType::Bytes);
        match found {
            None => Ok(()),
            Some((spec, _)) => Err(ApiError::invalid(
                ErrorCode::NotServed,
                format!(
                    "{place}: input {:?} is {spec}, and only numbers of a fixed shape can be shared; \
                     send it in each example",
                    spec.name
                ),
            )
            .at(place)),
        }
    }

    /// Reads an object over what is there.
    pub(in crate::http) fn read(
        &mut self,
        reader: &mut Reader<'_>,
        columns: &Columns<'_>,
    ) -> Result<(), ApiError> {
        let Self {
            values,
            taken,
            fresh,
        } = self;
        fresh.fill(false);
        let place = reader.mark();
        let mut guess = columns.first();
        let is_unknown = Cell::new(false);
        let read = reader.known_members(
            fresh,
            |key| {
                let index = columns.index_of(key, guess)?;
                guess = index + 1;
                Some(index)
            },
            |_, _| {
                // All such keys are told, not only the first.
                is_unknown.set(true);
                ApiError::Internal
            },
            |reader, index| match index.checked_sub(columns.inputs()) {
                None => {
                    let spec = &columns.signature.inputs[index];
                    values[index].clear();
                    read_row(reader, spec, &mut values[index])
                }
                Some(feature) => read_feature(reader, &mut values[0], feature),
            },
        );
        if is_unknown.get() {
            return Err(columns.unknown(reader, place, taken));
        }
        read?;
        for (all, new) in taken.iter_mut().zip(fresh) {
            *all |= *new;
        }
        Ok(())
    }

    /// Checks that each value came once: with its input, or as a feature.
    fn expect_whole(
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
                ErrorCode::AmbiguousRequest,
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
            let shape: Vec<i64> = spec.wire_shape().skip(1).collect();
            let expected = format_args!("{} {shape:?}", spec.datatype);
            return Err(missing_input(&place, spec, expected));
        }
        let mut misfit = Misfit::new(columns);
        misfit.taken.copy_from_slice(features);
        let refusal = misfit.refusal(&place, true);
        Err(refusal.expect("a feature is missing"))
    }
}

/// Reads a number, or a list of one as TensorFlow's examples hold them, into its place among the values.
fn read_feature(
    reader: &mut Reader<'_>,
    values: &mut Values,
    feature: usize,
) -> Result<(), ApiError> {
    let is_list = reader.peek()? == Kind::Array;
    match values {
        Values::F32(values) if is_list => values[feature] = only(reader)?,
        Values::F32(values) => values[feature] = reader.f32()?,
        Values::F64(values) if is_list => values[feature] = only(reader)?,
        Values::F64(values) => values[feature] = reader.f64()?,
        Values::I64(values) if is_list => values[feature] = only(reader)?,
        Values::I64(values) => values[feature] = reader.i64()?,
        Values::Bytes(_) => unreachable!("features are numbers"),
    }
    Ok(())
}

/// The number of a list of one.
fn only<T: Copy>(reader: &mut Reader<'_>) -> Result<T, ApiError>
where
    Vec<T>: Elements,
{
    let place = reader.mark();
    let mut values: Vec<T> = Vec::with_capacity(1);
    let extents = reader.nested(&mut values, 1)?;
    match (&*extents, &*values) {
        ([1], &[value]) => Ok(value),
        _ => Err(ApiError::invalid(
            ErrorCode::ShapeMismatch,
            format!(
                "{}: expected a number or a list of one, got {:?}",
                reader.path(place),
                &*extents
            ),
        )
        .at(reader.path(place))),
    }
}

/// Names that do not fit the features, all of them.
#[derive(Debug)]
struct Misfit<'a, 'c> {
    columns: &'a Columns<'c>,
    taken: Vec<bool>,
    /// Of those that are no features, as many as a message shows, each with what may be meant.
    unknown: Names,
}

impl<'a, 'c> Misfit<'a, 'c> {
    fn new(columns: &'a Columns<'c>) -> Self {
        Self {
            columns,
            taken: vec![false; columns.features().len()],
            unknown: Names::default(),
        }
    }

    /// Remembers a name that is no feature.
    fn add(&mut self, name: &str) {
        let features = self.columns.features();
        self.unknown
            .add(|| match nearest(name, features.iter().copied()) {
                Some(near) => format!("{} (did you mean {near:?}?)", excerpt(name, 40)),
                None => excerpt(name, 40),
            });
    }

    /// The error of all that does not fit; `None` if everything does.
    ///
    /// `or_whole`: the values may also come under the name of their input.
    fn refusal(&self, place: &str, or_whole: bool) -> Option<ApiError> {
        let features = self.columns.features();
        let mut missing = Names::default();
        for (name, _) in features
            .iter()
            .zip(&self.taken)
            .filter(|(_, taken)| !**taken)
        {
            missing.add(|| excerpt(name, 40));
        }
        if self.unknown.count == 0 {
            return (missing.count > 0).then(|| {
                ApiError::invalid(
                    ErrorCode::MissingInput,
                    format!("{place}: expected every feature, got none for {missing}; add them"),
                )
            });
        }
        let mut known = Names::default();
        features
            .iter()
            .for_each(|name| known.add(|| excerpt(name, 40)));
        let missing = match missing.count {
            0 => String::new(),
            _ => format!(", and {missing} did not come"),
        };
        let whole = match or_whole {
            true => format!(
                ", or {} with all values",
                excerpt(self.columns.names[0], 40)
            ),
            false => String::new(),
        };
        Some(ApiError::invalid(
            ErrorCode::UnknownInput,
            format!(
                "{place}: the model has no feature {}{missing}; it takes {known}{whole}",
                self.unknown
            ),
        ))
    }
}

/// Names for a message: all of them, unless there are too many to read.
#[derive(Debug, Default)]
struct Names {
    shown: String,
    shown_count: usize,
    count: usize,
}

impl Names {
    fn add(&mut self, name: impl FnOnce() -> String) {
        /// What is longer is cut between two names.
        const MAX_SHOWN_BYTES: usize = 200;

        self.count += 1;
        if self.shown.len() >= MAX_SHOWN_BYTES {
            return;
        }
        if self.shown_count > 0 {
            self.shown.push_str(", ");
        }
        self.shown.push_str(&name());
        self.shown_count += 1;
    }
}

impl std::fmt::Display for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)?;
        match self.count - self.shown_count {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
