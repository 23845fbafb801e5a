//! Rows of unequal length: texts, joined without padding.

use std::sync::Arc;

use ndarray::Array2;

use crate::engine::ops::{Gather, MeanPooling};
use crate::engine::{Batch, Engine, GraphBuilder, Workspace};
use crate::request::{InferError, InferRequest, RowError};
use crate::scheduler::tests::fixture::{AN_HOUR, Fixture, Gate, SETTINGS, request, submit, wait};
use crate::scheduler::{Lane, LaneSettings, SchedulerSettings};
use crate::tensor::{Axis, DataType, Shape, TensorSpec, Values, View};

/// The mean of a text's embeddings, and the embeddings themselves.
fn embedding() -> Engine {
    let mut graph = GraphBuilder::new();
    let ids = Shape::tokens(Axis(0), []);
    let ids = graph.input(TensorSpec::new("ids", DataType::Int64, ids));
    let table = Array2::from_shape_fn((50, 3), |(id, i)| (id * 7 + i) as f32 / 3.0);
    let table = graph.weight(table.into_dyn());
    let embedded = graph.node("embed", Gather, &[table, ids]).unwrap();
    let pooled = graph.node("pool", MeanPooling, &[embedded]).unwrap();
    graph.output("text", pooled).unwrap();
    graph.output("tokens", embedded).unwrap();
    Engine::compile(graph.build())
}

fn lane(fixture: &Fixture) -> Lane {
    let metrics = fixture.metrics.model("texts", 1);
    let settings = LaneSettings::default();
    fixture
        .scheduler
        .lane(Arc::new(embedding()), metrics, settings)
}

/// Texts of these lengths, each of other words.
fn texts(lengths: &[usize]) -> InferRequest {
    let mut offsets = vec![0];
    let mut ids = Vec::new();
    for (text, length) in lengths.iter().enumerate() {
        ids.extend((0..*length).map(|word| ((text * 11 + word * 5 + length) % 50) as i64));
        offsets.push(ids.len());
    }
    InferRequest {
        rows: lengths.len(),
        offsets: vec![offsets],
        inputs: vec![Values::I64(ids)],
        finish: false,
        deadline: None,
    }
}

/// The bits of both outputs, computed by the engine alone.
fn alone(request: &InferRequest) -> Vec<Vec<u32>> {
    let engine = embedding();
    let mut workspace = Workspace::new();
    let inputs: Vec<View<'_>> = request.inputs.iter().map(Values::view).collect();
    let batch = Batch {
        rows: request.rows,
        offsets: &request.offsets,
        inputs: &inputs,
    };
    let outputs = engine.run(batch, &mut workspace, None);
    [0, 1].map(|output| bits(outputs.get(output))).into()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn texts_of_any_length_get_their_own_bits_in_any_company() {
    let fixture = Fixture::new(SchedulerSettings {
        max_queued_rows: 100,
        ..SETTINGS
    });
    let (gate, run) = Gate::new();
    let blocker = fixture.lane("blocker", run);
    let lane = lane(&fixture);
    lane.warm_up().unwrap();
    let blocking = submit(&blocker, request(&[0.0]));
    assert_eq!(gate.entered(), [0.0]);
    // A batch has four rows: the third request is in several, with parts of others.
    let requests = [
        texts(&[3]),
        texts(&[0, 7]),
        texts(&[5, 1, 0, 30, 2, 2, 9, 4, 0]),
        texts(&[1, 1]),
        texts(&[130]),
    ];
    let submitted = requests.clone().map(|request| submit(&lane, request));
    assert_eq!(lane.queued_rows(), 15);
    drop(gate);
    for (request, submitted) in requests.iter().zip(submitted) {
        let response = wait(submitted).unwrap();
        let outputs = response.outputs.iter();
        let outputs: Vec<_> = outputs.map(|output| bits(output.view().f32s())).collect();
        assert_eq!(outputs, alone(request), "{:?}", request.offsets);
    }
    assert!(wait(blocking).is_ok());
}

#[test]
fn texts_that_run_inline_get_the_same_bits() {
    let fixture = Fixture::new(SchedulerSettings {
        inline_cost: AN_HOUR,
        ..SETTINGS
    });
    let lane = lane(&fixture);
    lane.warm_up().unwrap();
    let request = texts(&[4, 0, 9]);
    let response = wait(lane.submit(request.clone())).unwrap();
    let outputs = response.outputs.iter();
    let outputs: Vec<_> = outputs.map(|output| bits(output.view().f32s())).collect();
    assert_eq!(outputs, alone(&request));
    assert_eq!(response.timing.queue, std::time::Duration::ZERO);
}

#[test]
fn batches_of_texts_are_bounded_in_tokens() {
    let fixture = Fixture::new(SETTINGS);
    let lane = lane(&fixture);
    let forward = &lane.0.work;
    // Nothing is known of their cost, so that scratch memory is what bounds them.
    let bytes = |tokens| {
        forward
            .engine
            .scratch_bytes(SETTINGS.max_batch_rows, tokens)
    };
    let units = forward.limit.load().units;
    assert!(bytes(units) <= SETTINGS.max_scratch_bytes);
    assert!(bytes(units + 1) > SETTINGS.max_scratch_bytes);
}

#[test]
fn a_text_that_no_scratch_memory_has_room_for_is_refused() {
    let fixture = Fixture::new(SETTINGS);
    let lane = lane(&fixture);
    let refused = wait(lane.submit(texts(&[2, 200_000])));
    let Err(InferError::InvalidRow(RowError { row, message })) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(row, 1);
    let most: usize = message
        .strip_prefix("expected at most ")
        .and_then(|rest| rest.split(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("{message}"));
    let bytes = |tokens| lane.engine().scratch_bytes(1, tokens);
    assert!(
        bytes(most) <= SETTINGS.max_scratch_bytes && bytes(most + 1) > SETTINGS.max_scratch_bytes
    );
    assert!(wait(lane.submit(texts(&[2, most]))).is_ok());
}

#[test]
fn an_answer_that_is_not_finite_names_the_text_that_the_token_is_of() {
    let mut graph = GraphBuilder::new();
    let ids = Shape::tokens(Axis(0), []);
    let ids = graph.input(TensorSpec::new("ids", DataType::Int64, ids));
    let table = Array2::from_shape_fn((50, 1), |(id, _)| match id {
        49 => f32::INFINITY,
        id => id as f32,
    });
    let table = graph.weight(table.into_dyn());
    let embedded = graph.node("embed", Gather, &[table, ids]).unwrap();
    graph.output("tokens", embedded).unwrap();
    let engine = Arc::new(Engine::compile(graph.build()));
    for inline_cost in [std::time::Duration::ZERO, AN_HOUR] {
        let fixture = Fixture::new(SchedulerSettings {
            inline_cost,
            ..SETTINGS
        });
        let metrics = fixture.metrics.model("m", 1);
        let settings = LaneSettings::default();
        let lane = fixture
            .scheduler
            .lane(Arc::clone(&engine), metrics, settings);
        lane.warm_up().unwrap();
        let request = |ids: Vec<i64>| InferRequest {
            rows: 3,
            offsets: vec![vec![0, 2, 2, 5]],
            inputs: vec![Values::I64(ids)],
            finish: false,
            deadline: None,
        };
        assert!(wait(lane.submit(request(vec![1, 2, 3, 4, 5]))).is_ok());
        let refused = wait(lane.submit(request(vec![1, 2, 3, 49, 5])));
        assert_eq!(refused, Err(InferError::NonFinite { output: 0, row: 2 }));
    }
}
