//! MLflow's forms of JSON: a frame of pandas by its rows (`dataframe_split`, `dataframe_records`), or
//! tensors (`instances`, `inputs`); and a bare list of rows, as SageMaker's containers take it.

use crate::http::error::{ApiError, ErrorCode};
use crate::http::intake::{InputRows, Rows, count, too_many_rows};
use crate::http::rows::{self, Columns};
use crate::json::{self, ErrorKind, Kind, Reader};
use crate::messages::excerpt;
use crate::model::Signature;
use crate::tensor::{DataType, Shape, TensorSpec, Values};

const FORMS: &str = "\"dataframe_split\", \"dataframe_records\", \"instances\" or \"inputs\"";

/// Reads a body.
///
/// # Errors
/// 400 with the place; where a cell of a frame is wrong, with its row and the name of its column.
pub(super) fn decode(
    body: &[u8],
    signature: &Signature,
    max_rows: usize,
) -> Result<Rows, ApiError> {
    let mut reader = rows::reader(body, signature)?;
    if let Ok(Kind::Array) = reader.peek() {
        let rows = rows::list(&mut reader, signature, max_rows, "the body")?;
        reader.end()?;
        return Ok(rows);
    }
    let mut decoded = None;
    reader.object(|reader, key| {
        let read = match key {
            "dataframe_split" => split,
            "dataframe_records" => records,
            "instances" => instances,
            "inputs" => inputs,
            "params" => return rows::no_parameters(reader, "params"),
            _ => return Ok(reader.skip()?),
        };
        if decoded.is_some() {
            return Err(ApiError::invalid(
                ErrorCode::AmbiguousRequest,
                format!("the body: expected one of {FORMS}, got several"),
            ));
        }
        decoded = Some(read(reader, signature, max_rows)?);
        Ok(())
    })?;
    reader.end()?;
    decoded.ok_or_else(|| {
        ApiError::invalid(
            ErrorCode::MissingField,
            format!("the body: expected one of the keys {FORMS}"),
        )
    })
}

fn instances(
    reader: &mut Reader<'_>,
    signature: &Signature,
    max_rows: usize,
) -> Result<Rows, ApiError> {
    rows::list(reader, signature, max_rows, "instances")
}

/// Reads `{"columns": [name, ...], "index": ignored, "data": [[cell, ...], ...]}`.
fn split(
    reader: &mut Reader<'_>,
    signature: &Signature,
    max_rows: usize,
) -> Result<Rows, ApiError> {
    const PLACE: &str = "dataframe_split";
    let (mut columns, mut data) = (None, None);
    let width: usize = signature
        .inputs
        .iter()
        .map(|spec| spec.shape.elements())
        .sum();
    reader.object(|reader, key| {
        match key {
            "columns" => columns = Some(names(reader, width)?),
            "data" => {
                data = Some(reader.mark());
                reader.skip()?;
            }
            _ => reader.skip()?,
        }
        Ok::<_, ApiError>(())
    })?;
    let missing = |key: &str, what: &str| {
        ApiError::invalid(
            ErrorCode::MissingField,
            format!("{PLACE}: expected the key {key:?} with {what}"),
        )
    };
    let data = data.ok_or_else(|| missing("data", "a list of rows"))?;
    let features = Columns::of(signature);
    // A feature that is named as its input is the feature.
    let is_feature = |name: &str| features.feature(name, usize::MAX >> 1).is_some();
    if let Some(columns) = &columns
        && !columns.iter().all(is_feature)
        && let Some(order) = inputs_of(signature, columns)
    {
        return reader.revisit(data, |reader| by_input(reader, signature, &order, max_rows));
    }
    let spec = rows::single_input(signature, PLACE)?;
    let order = match (&columns, features.features()) {
        (Some(columns), [_, ..]) => {
            Some(features.order("dataframe_split.columns", columns.iter())?)
        }
        (None, [_, ..]) => return Err(missing("columns", "the names of the columns")),
        (Some(columns), []) if columns.count != width => {
            return Err(wrong_width("dataframe_split.columns", spec, columns.count));
        }
        (_, []) => None,
    };
    // A cell a value, whatever the shape of a row.
    let flat;
    let spec = match spec.shape.axis() {
        Some(_) => spec,
        None => {
            flat = TensorSpec {
                shape: Shape::rows(vec![width]),
                ..spec.clone()
            };
            &flat
        }
    };
    let mut input = InputRows::none(spec);
    let read = reader.revisit(data, |reader| input.read(reader, max_rows));
    read.map_err(|error| {
        in_column(
            error,
            columns.map_or_else(Vec::new, |columns| columns.names),
        )
    })?;
    if let Some(order) = order.filter(|order| !order.is_sorted()) {
        input.reorder(0, &order);
    }
    Rows::join("dataframe_split.data", vec![input], max_rows)
}

/// The input that each column of a frame holds, if each input has one and nothing else does.
fn inputs_of(signature: &Signature, columns: &ColumnNames) -> Option<Vec<usize>> {
    let position = |name: &str| signature.inputs.iter().position(|spec| spec.name == name);
    let order: Vec<usize> = columns.iter().map(position).collect::<Option<_>>()?;
    let mut sorted = order.clone();
    sorted.sort_unstable();
    sorted
        .iter()
        .copied()
        .eq(0..signature.inputs.len())
        .then_some(order)
}

/// Reads `[[row of an input, ...], ...]`; `order` is the input of each column.
fn by_input(
    reader: &mut Reader<'_>,
    signature: &Signature,
    order: &[usize],
    max_rows: usize,
) -> Result<Rows, ApiError> {
    const PLACE: &str = "dataframe_split.data";
    let mut inputs = rows::none(signature);
    let all = reader.mark();
    reader.array(|reader, row| {
        if row == max_rows {
            return Err(too_many_rows(PLACE, count(reader, all)?, max_rows));
        }
        let place = reader.mark();
        let mut cells = 0;
        reader.array(|reader, column| {
            cells += 1;
            match order.get(column) {
                Some(&input) => inputs[input].read_cell(reader),
                None => Ok(reader.skip()?),
            }
        })?;
        match cells == order.len() {
            true => Ok(()),
            false => Err(ApiError::invalid(
                ErrorCode::ShapeMismatch,
                format!(
                    "{}: expected {} cells, one a column, got {cells}",
                    reader.path(place),
                    order.len()
                ),
            )
            .at(reader.path(place))),
        }
    })?;
    Rows::join(PLACE, inputs, max_rows)
}

/// Reads `[{name: cell, ...}, ...]`. Without names in the model, the first row's keys are the names,
/// in their order.
fn records(
    reader: &mut Reader<'_>,
    signature: &Signature,
    max_rows: usize,
) -> Result<Rows, ApiError> {
    const PLACE: &str = "dataframe_records";
    let first = match reader.peek_element()? {
        Some(Kind::Object) => {
            let width = signature
                .inputs
                .iter()
                .map(|spec| spec.shape.elements())
                .sum();
            first_keys(reader, width)?
        }
        // It says what is wrong.
        _ => return rows::list(reader, signature, max_rows, PLACE),
    };
    let is_input = |key: &str| signature.inputs.iter().any(|spec| spec.name == key);
    if !signature.feature_names.is_empty() || first.iter().any(is_input) {
        return rows::list(reader, signature, max_rows, PLACE);
    }
    let spec = rows::single_input(signature, PLACE)?;
    if spec.shape.axis().is_some() || spec.datatype == DataType::Bytes {
        // It says that the keys are no inputs.
        return rows::list(reader, signature, max_rows, PLACE);
    }
    if first.count != spec.shape.elements() {
        return Err(wrong_width(&format!("{PLACE}[0]"), spec, first.count));
    }
    let columns = Columns::with_features(signature, &first.names);
    rows::objects(reader, &columns, None, max_rows, PLACE)
}

/// The keys of the first object of a list, which stays unread.
fn first_keys(reader: &mut Reader<'_>, width: usize) -> Result<ColumnNames, ApiError> {
    let place = reader.mark();
    let mut keys = ColumnNames::of(width);
    let read = reader.revisit(place, |reader| {
        reader.array(|reader, index| {
            if index > 0 {
                return Err(Stop::Done);
            }
            reader.object(|reader, key| {
                keys.add(key);
                reader.skip()
            })?;
            Ok(())
        })
    });
    match read {
        Ok(()) | Err(Stop::Done) => Ok(keys),
        Err(Stop::Fault(error)) => Err(error.into()),
    }
}

/// Why reading stopped before the end.
enum Stop {
    Done,
    Fault(json::Error),
}

impl From<json::Error> for Stop {
    fn from(error: json::Error) -> Self {
        Self::Fault(error)
    }
}

/// Reads the tensor of the single input; or an object with the tensor of each input, or with a list
/// of numbers for each feature.
fn inputs(
    reader: &mut Reader<'_>,
    signature: &Signature,
    max_rows: usize,
) -> Result<Rows, ApiError> {
    const PLACE: &str = "inputs";
    if reader.peek()? != Kind::Object {
        return rows::list(reader, signature, max_rows, PLACE);
    }
    if signature.feature_names.is_empty() {
        return rows::columns(reader, signature, max_rows, PLACE);
    }
    let input = rows::single_input(signature, PLACE)?;
    let place = reader.mark();
    let mut names = ColumnNames::of(input.shape.elements());
    reader.object(|reader, key| {
        names.add(key);
        reader.skip()
    })?;
    if names.iter().any(|name| name == input.name) {
        return reader.revisit(place, |reader| {
            rows::columns(reader, signature, max_rows, PLACE)
        });
    }
    let order = Columns::of(signature).order(PLACE, names.iter())?;
    reader.revisit(place, |reader| by_feature(reader, input, &order, max_rows))
}

/// Reads `{feature: [number, ...], ...}`; `order` is the feature of each member.
fn by_feature(
    reader: &mut Reader<'_>,
    input: &TensorSpec,
    order: &[usize],
    max_rows: usize,
) -> Result<Rows, ApiError> {
    const PLACE: &str = "inputs";
    let width = order.len();
    let feature = TensorSpec {
        shape: Shape::rows([]),
        ..input.clone()
    };
    let mut columns = InputRows::none(&feature);
    let mut count = None;
    reader.object(|reader, _| {
        let place = reader.mark();
        let rows = columns.read(reader, max_rows)?;
        let first = *count.get_or_insert(rows);
        if rows != first {
            return Err(ApiError::invalid(
                ErrorCode::ShapeMismatch,
                format!(
                    "{}: expected {first} numbers as in the column before it, got {rows}; send as \
                     many of each",
                    reader.path(place)
                ),
            )
            .at(reader.path(place)));
        }
        Ok(())
    })?;
    let count = count.unwrap_or(0);
    // Only an input of single precision has names for its features.
    let columns = columns.values().f32s();
    let mut values = vec![0.0; columns.len()];
    if count > 0 {
        for (column, &feature) in columns.chunks_exact(count).zip(order) {
            for (row, value) in column.iter().enumerate() {
                values[row * width + feature] = *value;
            }
        }
    }
    let input = InputRows::whole(input, count, Values::F32(values));
    Rows::join(PLACE, vec![input], max_rows)
}

/// Reads the names of columns; numbers, as pandas gives them to columns without names, are names too.
fn names(reader: &mut Reader<'_>, width: usize) -> Result<ColumnNames, ApiError> {
    let mut names = ColumnNames::of(width);
    reader.array(|reader, _| {
        match reader.peek()? {
            Kind::Number => names.add(&reader.u64()?.to_string()),
            _ => names.add(&reader.string()?),
        }
        Ok::<_, ApiError>(())
    })?;
    Ok(names)
}

/// Names that came: all of them, unless there are so many more than columns that the first
/// tell what is wrong. A body may hold millions.
struct ColumnNames {
    names: Vec<String>,
    count: usize,
    most: usize,
}

impl ColumnNames {
    fn of(width: usize) -> Self {
        Self {
            names: Vec::new(),
            count: 0,
            most: width.saturating_add(64),
        }
    }

    fn add(&mut self, name: &str) {
        self.count += 1;
        if self.names.len() < self.most {
            self.names.push(name.to_owned());
        }
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }
}

/// Adds the name of the column to the error of a cell, whose path ends in its index.
#[cold]
fn in_column(error: ApiError, columns: Vec<String>) -> ApiError {
    let ApiError::Body(error) = error else {
        return error;
    };
    let is_of_cell = matches!(error.kind(), ErrorKind::Type | ErrorKind::NotFinite);
    ApiError::Body(
        match error.path().index().and_then(|index| columns.get(index)) {
            Some(column) if is_of_cell => {
                error.with_hint(&format!("the column is {}", excerpt(column, 40)))
            }
            _ => error,
        },
    )
}

fn wrong_width(place: &str, spec: &TensorSpec, found: usize) -> ApiError {
    let expected = spec.shape.elements();
    ApiError::invalid(
        ErrorCode::ShapeMismatch,
        format!(
            "{place}: input {:?}: expected {expected} columns, got {found}; send a column for each \
             value of a row",
            spec.name
        ),
    )
}
