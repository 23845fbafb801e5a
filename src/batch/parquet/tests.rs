use std::sync::Arc;

use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FixedLenByteArray,
    FixedLenByteArrayType, FloatType, Int32Type, Int64Type,
};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use super::*;
use crate::model::Column as ModelColumn;
use crate::tensor::{self, TensorSpec};

/// A table of numbers; the columns in `keep` are carried along as text.
fn table(numbers: &[&str], keep: &[&str]) -> Table {
    let columns = numbers.iter().map(|name| ModelColumn {
        name: (*name).to_owned(),
        kind: ColumnKind::Number { fill: None },
    });
    Table {
        columns: columns.collect(),
        offsets: (0..numbers.len()).collect(),
        features: numbers.len(),
        is_named: true,
        has_columns: false,
        allow_non_finite: false,
        keep: keep.iter().map(|name| (*name).to_owned()).collect(),
        inputs: vec![TensorSpec {
            name: "features".to_owned(),
            datatype: tensor::DataType::Fp32,
            shape: tensor::Shape::rows([numbers.len()]),
            range: None,
            description: String::new(),
        }],
    }
}

/// Writes a row group.
type WriteGroup<'a> = &'a dyn Fn(&mut SerializedRowGroupWriter<'_, File>);

/// Writes a file of row groups.
fn write(schema: &str, groups: &[WriteGroup<'_>]) -> File {
    let file = tempfile::tempfile().unwrap();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
    for write in groups {
        let mut group = writer.next_row_group().unwrap();
        write(&mut group);
        group.close().unwrap();
    }
    writer.into_inner().unwrap()
}

/// Writes the next column of a row group, a level a row if some are null.
fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    cells: &[T::T],
    levels: Option<&[i16]>,
) {
    let mut column = group.next_column().unwrap().unwrap();
    let written = column.typed::<T>().write_batch(cells, levels, None);
    assert_eq!(written.unwrap(), cells.len());
    column.close().unwrap();
}

/// The rows of a file from a position on.
fn rows(file: File, table: &Table, start: u64) -> Result<Rows, BatchError> {
    let mut batches = Batches::open(file, Path::new("rows.parquet"), table)?;
    batches.go_to(Position {
        offset: start,
        line: start + 1,
    })?;
    let mut rows = Rows::new(table);
    while let Some(batch) = batches.next()? {
        let mut records = ParquetRows::new(table, batches.layout(), &batch);
        assert!(!records.read(usize::MAX, &mut rows));
        assert_eq!(records.line(), batch.end().line);
    }
    Ok(rows)
}

fn refusal(file: File, table: &Table) -> String {
    match rows(file, table, 0) {
        Ok(_) => panic!("read"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn each_type_has_its_number_and_its_text() {
    let schema = "message rows {
        REQUIRED BOOLEAN boolean;
        OPTIONAL INT32 small (INTEGER(8,true));
        REQUIRED INT32 unsigned (INTEGER(32,false));
        REQUIRED INT64 plain;
        REQUIRED INT64 large (UINT_64);
        OPTIONAL FLOAT single;
        REQUIRED DOUBLE double;
        REQUIRED FIXED_LEN_BYTE_ARRAY(2) half (FLOAT16);
        OPTIONAL BYTE_ARRAY text (STRING);
        OPTIONAL INT32 nothing (UNKNOWN);
    }";
    let file = write(
        schema,
        &[&|group| {
            let half = half::f16::from_f32(-1.5).to_le_bytes().to_vec();
            let half = FixedLenByteArray::from(ByteArray::from(half));
            column::<BoolType>(group, &[true, false], None);
            column::<Int32Type>(group, &[-3], Some(&[1, 0]));
            column::<Int32Type>(group, &[-1, 7], None);
            column::<Int64Type>(group, &[i64::MIN, 7], None);
            column::<Int64Type>(group, &[-1, 7], None);
            column::<FloatType>(group, &[0.1], Some(&[1, 0]));
            column::<DoubleType>(group, &[0.1, 7.0], None);
            column::<FixedLenByteArrayType>(group, &[half.clone(), half], None);
            column::<ByteArrayType>(group, &["2.5".into()], Some(&[1, 0]));
            column::<Int32Type>(group, &[], Some(&[0, 0]));
        }],
    );
    let names = [
        "boolean", "small", "unsigned", "plain", "large", "single", "double", "half", "text",
    ];
    let all = [&names[..], &["nothing"]].concat();
    let read = rows(file, &table(&names, &all), 0).unwrap();
    assert_eq!(
        read.inputs[0],
        [
            1.0,
            -3.0,
            4_294_967_295.0,
            -9_223_372_036_854_775_808.0,
            18_446_744_073_709_551_615.0,
            0.1,
            0.1,
            -1.5,
            2.5
        ]
    );
    let texts: Vec<&str> = (0..read.kept.len())
        .map(|cell| read.kept.get(cell))
        .collect();
    assert_eq!(
        texts,
        [
            "true",
            "-3",
            "4294967295",
            "-9223372036854775808",
            "18446744073709551615",
            "0.1",
            "0.1",
            "-1.5",
            "2.5",
            ""
        ]
    );
    // A null is not a number, and a row with one is not scored.
    assert_eq!((read.lines, read.faults.len()), (vec![1], 1));
    assert_eq!(read.faults[0].line, 2);
    assert_eq!(read.faults[0].refusal.column, "small");
}

#[test]
fn rows_are_read_from_any_place_on_over_row_groups_and_nulls() {
    const GROUPS: [usize; 4] = [5000, 1, 0, 3000];
    let table = table(&["number"], &["text"]);
    let all: Vec<usize> = (0..GROUPS.iter().sum()).collect();
    let is_null = |row: usize| row % 7 == 3;
    let group = |number: usize| {
        let start: usize = GROUPS[..number].iter().sum();
        move |group: &mut SerializedRowGroupWriter<'_, File>| {
            let rows = start..start + GROUPS[number];
            let numbers: Vec<f64> = rows.clone().map(|row| row as f64).collect();
            let levels: Vec<i16> = rows.clone().map(|row| i16::from(!is_null(row))).collect();
            let texts: Vec<ByteArray> = rows
                .filter(|row| !is_null(*row))
                .map(|row| ByteArray::from(&*format!("row {}", row % 11)))
                .collect();
            column::<DoubleType>(group, &numbers, None);
            column::<ByteArrayType>(group, &texts, Some(&levels));
        }
    };
    let groups = [group(0), group(1), group(2), group(3)];
    let schema = "message rows { REQUIRED DOUBLE number; OPTIONAL BYTE_ARRAY text (UTF8); }";
    let file = write(schema, &[&groups[0], &groups[1], &groups[2], &groups[3]]);
    for start in [0, 1, 2047, 2048, 4999, 5000, 5001, 5002, 8000, 8001] {
        let read = rows(file.try_clone().unwrap(), &table, start as u64).unwrap();
        assert_eq!(read.lines.len(), all.len() - start, "from {start}");
        for (index, &row) in all[start..].iter().enumerate() {
            let text = match is_null(row) {
                true => String::new(),
                false => format!("row {}", row % 11),
            };
            assert_eq!(read.lines[index], row as u64 + 1);
            assert_eq!(read.inputs[0][index], row as f32);
            assert_eq!(read.kept.get(index), text);
        }
    }
}

#[test]
fn columns_that_are_neither_numbers_nor_text_are_refused_by_their_type() {
    for (column, told) in [
        ("REQUIRED INT32 x (DATE);", None),
        ("OPTIONAL INT64 x (TIMESTAMP(MILLIS,true));", None),
        ("REQUIRED INT64 x (DECIMAL(9,2));", None),
        ("REQUIRED BYTE_ARRAY x;", None),
        ("REQUIRED FIXED_LEN_BYTE_ARRAY (2) x;", None),
        ("REQUIRED INT96 x;", None),
        ("REPEATED INT64 x;", None),
        (
            "REQUIRED group x { REQUIRED INT64 y; }",
            Some("a group of columns"),
        ),
    ] {
        let file = write(&format!("message rows {{ {column} }}"), &[]);
        let told = told.map_or(format!("{:?}", column.trim_end_matches(';')), str::to_owned);
        assert_eq!(
            refusal(file, &table(&["x"], &[])),
            format!(
                "rows.parquet: column \"x\": expected numbers, true and false, or text, got {told}; cast \
                 it, or write CSV"
            )
        );
    }
}

#[test]
fn text_that_is_no_utf_8_is_a_fault_of_its_row() {
    let schema = "message rows { REQUIRED INT32 x; REQUIRED BYTE_ARRAY id (STRING); }";
    let file = write(
        schema,
        &[&|group| {
            let ids = [
                ByteArray::from("a"),
                ByteArray::from(vec![0xff]),
                "c".into(),
            ];
            column::<Int32Type>(group, &[1, 2, 3], None);
            column::<ByteArrayType>(group, &ids, None);
        }],
    );
    let read = rows(file, &table(&["x"], &["id"]), 0).unwrap();
    assert_eq!((read.lines, &read.inputs[0]), (vec![1, 3], &vec![1.0, 3.0]));
    let fault = &read.faults[0];
    assert_eq!((fault.line, fault.refusal.code), (2, "not_utf8"));
    assert_eq!(fault.refusal.column, "id");
}

#[test]
fn a_file_that_is_cut_or_none_is_refused() {
    let schema = "message rows { REQUIRED INT32 x; }";
    let file = write(
        schema,
        &[&|group| column::<Int32Type>(group, &[1, 2], None)],
    );
    file.set_len(file.metadata().unwrap().len() - 9).unwrap();
    let told = refusal(file, &table(&["x"], &[]));
    assert!(told.contains("expected a whole file of Parquet"), "{told}");
}
