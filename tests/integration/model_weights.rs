//! Weights in their forms on disk, and in memory.

use std::fs;

use safeserve::engine::kernels::Isa;
use safeserve::engine::{Batch, Engine, Workspace};
use safeserve::model::Model;
use safeserve::tensor::View;
use safetensors::Dtype;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::model_files::{Stored, directory, safetensors, write};

const CONFIG: &str = r#"{
  "model_type": "sequential",
  "inputs": [{"name": "x", "shape": [3]}],
  "layers": [
    {"type": "dense", "units": 5, "activation": "tanh"},
    {"type": "dense", "units": 2}
  ]
}"#;

fn tensors() -> Vec<Stored> {
    vec![
        Stored::filled("0.weight", &[5, 3]),
        Stored::filled("0.bias", &[5]),
        Stored::filled("1.weight", &[2, 5]),
        Stored::filled("1.bias", &[2]),
    ]
}

fn load(config: &str, tensors: &[Stored]) -> Model {
    Model::load("m", 1, directory(config, tensors).path()).unwrap()
}

fn answer(model: &Model) -> Vec<f32> {
    let rows = [0.25, -1.0, 2.0, 0.0, 0.5, -0.75];
    let inputs = [View::F32(&rows)];
    let mut workspace = Workspace::new();
    let outputs = model
        .engine
        .run(Batch::of_rows(2, &inputs), &mut workspace, None);
    outputs.get(0).to_vec()
}

#[test]
fn a_sharded_model_is_the_same_model() {
    let whole = load(CONFIG, &tensors());
    let place = directory(CONFIG, &[]);
    fs::remove_file(place.path().join("model.safetensors")).unwrap();
    let mut map = Vec::new();
    for (number, tensor) in tensors().into_iter().enumerate() {
        let file = format!("model-{number}-of-4.safetensors");
        map.push(format!("{:?}: {file:?}", tensor.name));
        fs::write(place.path().join(file), safetensors(&[tensor])).unwrap();
    }
    let index = format!(
        r#"{{"metadata": {{"total_size": 128}}, "weight_map": {{{}}}}}"#,
        map.join(", ")
    );
    fs::write(place.path().join("model.safetensors.index.json"), index).unwrap();
    let sharded = Model::load("m", 1, place.path()).unwrap();
    assert_eq!(answer(&sharded), answer(&whole));
    assert_eq!(sharded.engine.parameters(), 32);
    assert_eq!(sharded.signature, whole.signature);
}

#[test]
fn the_fingerprint_tells_configurations_and_weights_apart_and_nothing_else() {
    let model = load(CONFIG, &tensors());
    let again = directory(CONFIG, &tensors());
    fs::write(again.path().join("README.md"), "not read by the server").unwrap();
    let renamed = Model::load("other", 7, again.path()).unwrap();
    assert_eq!(renamed.fingerprint, model.fingerprint);
    assert_eq!(model.fingerprint.len(), 64);
    assert!(
        model
            .fingerprint
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    );

    // A blank in the configuration, and the lowest bit of the last weight.
    let blank = load(&format!("{CONFIG} "), &tensors());
    assert_ne!(blank.fingerprint, model.fingerprint);
    let mut bytes = safetensors(&tensors());
    *bytes.last_mut().unwrap() ^= 1;
    write(again.path(), CONFIG, &bytes);
    let bit = Model::load("m", 1, again.path()).unwrap();
    assert_ne!(bit.fingerprint, model.fingerprint);
    assert_ne!(bit.fingerprint, blank.fingerprint);
}

/// The fingerprint as docs/models.md describes it, of a configuration and files in this order.
fn described_fingerprint(config: &[u8], files: &[Vec<u8>]) -> String {
    let mut hash = Sha256::new();
    hash.update((config.len() as u64).to_le_bytes());
    hash.update(config);
    for file in files {
        hash.update(file);
    }
    let hash = hash.finalize();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_fingerprint_is_of_the_bytes_that_the_page_names() {
    let whole = safetensors(&tensors());
    assert_eq!(
        load(CONFIG, &tensors()).fingerprint,
        described_fingerprint(CONFIG.as_bytes(), &[whole])
    );

    let place = directory(CONFIG, &[]);
    fs::remove_file(place.path().join("model.safetensors")).unwrap();
    let [first, second] = [&tensors()[..2], &tensors()[2..]].map(safetensors);
    // By their names the files come in another order than the layers and the index list them.
    fs::write(place.path().join("b"), &first).unwrap();
    fs::write(place.path().join("a"), &second).unwrap();
    let index =
        br#"{"weight_map": {"0.weight": "b", "0.bias": "b", "1.weight": "a", "1.bias": "a"}}"#;
    fs::write(place.path().join("model.safetensors.index.json"), index).unwrap();
    assert_eq!(
        Model::load("m", 1, place.path()).unwrap().fingerprint,
        described_fingerprint(CONFIG.as_bytes(), &[index.to_vec(), second, first])
    );
}

/// A file's bytes with this `__metadata__` in its header.
fn with_metadata(file: &[u8], metadata: &str) -> Vec<u8> {
    let (length, rest) = file.split_first_chunk().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let header = [
        format!("{{\"__metadata__\":{metadata},").as_bytes(),
        &header[1..],
    ]
    .concat();
    [&(header.len() as u64).to_le_bytes(), &*header, data].concat()
}

/// The format's own loader decides which are valid.
#[test]
fn metadata_are_an_object_of_strings_or_the_file_is_refused() {
    let place = directory(CONFIG, &[]);
    let file = place.path().join("model.safetensors");
    let sound = safetensors(&tensors());
    let load = |metadata: &str| {
        let bytes = with_metadata(&sound, metadata);
        fs::write(&file, &bytes).unwrap();
        let loaded = Model::load("m", 1, place.path());
        let is_right = safetensors::SafeTensors::deserialize(&bytes).is_ok();
        assert_eq!(loaded.is_ok(), is_right, "{metadata}");
        loaded.map(drop).map_err(|error| error.to_string())
    };
    for metadata in [
        "{}",
        "null",
        r#"{"format":"pt"}"#,
        r#"{"a":"","b":"{\"nested\":1}"}"#,
    ] {
        assert_eq!(load(metadata), Ok(()), "{metadata}");
    }
    for (metadata, key, given) in [
        (r#"{"epoch":3}"#, Some("epoch"), "integer `3`"),
        (
            r#"{"format":"pt","loss":0.5}"#,
            Some("loss"),
            "floating point `0.5`",
        ),
        (r#"{"final":true}"#, Some("final"), "boolean `true`"),
        (r#"{"author":null}"#, Some("author"), "null"),
        (r#"{"config":{"layers":"2"}}"#, Some("config"), "map"),
        (r#"{"labels":["no","yes"]}"#, Some("labels"), "sequence"),
        ("[]", None, "sequence"),
        (r#"[["format","pt"]]"#, None, "sequence"),
        (r#""pt""#, None, "string \"pt\""),
        ("3", None, "integer `3`"),
        ("true", None, "boolean `true`"),
    ] {
        let problem = match key {
            Some(key) => format!("key {key:?}: invalid type: {given}, expected a string"),
            None => format!("invalid type: {given}, expected an object whose values are strings"),
        };
        let refusal = load(metadata).unwrap_err();
        let expected = format!("model.safetensors: invalid header: __metadata__: {problem}");
        assert!(refusal.starts_with(&expected), "{metadata}: {refusal}");
    }
}

#[test]
fn weights_in_64_bits_round_to_the_nearest_in_32() {
    let single = load(CONFIG, &tensors());
    let double: Vec<Stored> = tensors()
        .iter()
        .map(|tensor| {
            let mut tensor = tensor.stored_as(Dtype::F64);
            let (elements, _) = tensor.bytes.as_chunks_mut::<8>();
            for element in elements {
                // Far less than half of a distance of neighbours in 32 bits.
                *element = (f64::from_le_bytes(*element) * (1.0 + 1e-10)).to_le_bytes();
            }
            tensor
        })
        .collect();
    assert_eq!(answer(&load(CONFIG, &double)), answer(&single));
}

/// The same numbers of 16 bits, written out in 32.
fn widened(tensor: &Stored) -> Stored {
    let (elements, _) = tensor.bytes.as_chunks::<2>();
    let widen = |bytes: &[u8; 2]| match tensor.datatype {
        Dtype::F16 => half::f16::from_le_bytes(*bytes).to_f32(),
        _ => half::bf16::from_le_bytes(*bytes).to_f32(),
    };
    let values: Vec<f32> = elements.iter().map(widen).collect();
    Stored::new(&tensor.name, &tensor.shape, &values)
}

#[test]
fn weights_in_16_bits_are_widened_without_loss() {
    for datatype in [Dtype::F16, Dtype::BF16] {
        let half: Vec<Stored> = tensors().iter().map(|t| t.stored_as(datatype)).collect();
        let widened: Vec<Stored> = half.iter().map(widened).collect();
        let answers = answer(&load(CONFIG, &half));
        assert_eq!(answers, answer(&load(CONFIG, &widened)), "{datatype}");
        assert_ne!(answers, answer(&load(CONFIG, &tensors())), "{datatype}");
    }
}

/// One layer without a bias whose weights take many pieces to read, and whose sizes are not round.
const LARGE: [usize; 2] = [1031, 701];
const LARGE_CONFIG: &str = r#"{
  "model_type": "sequential",
  "inputs": [{"name": "x", "shape": [701]}],
  "layers": [{"type": "dense", "units": 1031, "use_bias": false}]
}"#;

/// The file with a header that is a byte longer, so that no number in it is aligned.
fn unaligned(mut file: Vec<u8>) -> Vec<u8> {
    let size = file.first_chunk().unwrap();
    let header_bytes = u64::from_le_bytes(*size);
    file[..8].copy_from_slice(&(header_bytes + 1).to_le_bytes());
    file.insert(8 + header_bytes as usize, b' ');
    file
}

#[test]
fn every_weight_of_a_large_layer_is_the_one_in_the_file_in_every_datatype() {
    let [outputs, inputs] = LARGE;
    let values: Vec<f32> = (0..outputs * inputs)
        .map(|index| (index % 16_381) as f32 / 64.0)
        .collect();
    let single = Stored::new("0.weight", &LARGE, &values);
    // A row that is 1 in one column gives that column's weights, to the last bit.
    let rows: Vec<f32> = (0..inputs * inputs)
        .map(|index| f32::from(u8::from(index / inputs == index % inputs)))
        .collect();
    for datatype in [Dtype::F32, Dtype::F64, Dtype::BF16, Dtype::F16] {
        let stored = single.stored_as(datatype);
        let file = unaligned(safetensors(&[stored]));
        let place = directory(LARGE_CONFIG, &[]);
        write(place.path(), LARGE_CONFIG, &file);
        let model = Model::load("m", 1, place.path()).unwrap();
        assert_eq!(
            model.fingerprint,
            described_fingerprint(LARGE_CONFIG.as_bytes(), &[file]),
            "{datatype}"
        );
        let expected = |value: f32| match datatype {
            Dtype::BF16 => half::bf16::from_f32(value).to_f32(),
            Dtype::F16 => half::f16::from_f32(value).to_f32(),
            _ => value,
        };
        let mut workspace = Workspace::new();
        let external = [View::F32(&rows)];
        let answers = model
            .engine
            .run(Batch::of_rows(inputs, &external), &mut workspace, None)
            .get(0);
        for (input, answer) in answers.chunks_exact(outputs).enumerate() {
            for (output, answer) in answer.iter().enumerate() {
                let weight = expected(values[output * inputs + input]);
                assert_eq!(*answer, weight, "{datatype} {input} {output}");
            }
        }
    }
}

#[test]
fn a_model_whose_tensors_are_hashed_in_another_order_than_they_are_used_loads() {
    // Each large enough that the next layer waits until it is hashed.
    const WIDTH: usize = 600;
    let layers: Vec<String> = (0..11)
        .map(|_| format!(r#"{{"type": "dense", "units": {WIDTH}}}"#))
        .collect();
    let config = format!(
        r#"{{"model_type": "sequential", "inputs": [{{"name": "x", "shape": [{WIDTH}]}}],
            "layers": [{}]}}"#,
        layers.join(", ")
    );
    // By name `10` comes before `2`; biases of 64 bits come before all weights.
    let tensors: Vec<Stored> = (0..11)
        .flat_map(|layer| {
            [
                Stored::filled(&format!("{layer}.weight"), &[WIDTH, WIDTH]),
                Stored::filled(&format!("{layer}.bias"), &[WIDTH]).stored_as(Dtype::F64),
            ]
        })
        .collect();
    let file = safetensors(&tensors);
    let place = directory(&config, &[]);
    write(place.path(), &config, &file);
    let model = Model::load("m", 1, place.path()).unwrap();
    assert_eq!(
        model.fingerprint,
        described_fingerprint(config.as_bytes(), &[file])
    );
}

#[test]
fn the_first_weight_that_is_not_finite_is_named_wherever_it_is() {
    for datatype in [Dtype::F32, Dtype::F64, Dtype::BF16, Dtype::F16] {
        let mut values = vec![1.0; LARGE[0] * LARGE[1]];
        values[500_000] = f32::NEG_INFINITY;
        values[300_001] = f32::NAN;
        let first = Stored::new("0.weight", &LARGE, &values).stored_as(datatype);
        values[0] = f32::NAN;
        let second = Stored::new("1.weight", &LARGE, &values).stored_as(datatype);
        let place = directory(LARGE_CONFIG, &[first, second]);
        assert_eq!(
            Model::load("m", 1, place.path()).unwrap_err().to_string(),
            "model.safetensors: tensor \"0.weight\": element 300001 is NaN; weights must be finite \
             32-bit numbers"
        );
    }
}

const LARGE_LAYERS: usize = 6;
const LARGE_WIDTH: usize = 1600;

/// Six layers of 2.56 million weights each.
fn large_layers(datatype: Dtype) -> TempDir {
    let layers: Vec<String> = (0..LARGE_LAYERS)
        .map(|_| format!(r#"{{"type": "dense", "units": {LARGE_WIDTH}, "activation": "relu"}}"#))
        .collect();
    let config = format!(
        r#"{{"model_type": "sequential", "inputs": [{{"name": "x", "shape": [{LARGE_WIDTH}]}}],
            "layers": [{}]}}"#,
        layers.join(", ")
    );
    let tensors: Vec<Stored> = (0..LARGE_LAYERS)
        .flat_map(|layer| {
            [
                Stored::filled(&format!("{layer}.weight"), &[LARGE_WIDTH, LARGE_WIDTH]),
                Stored::filled(&format!("{layer}.bias"), &[LARGE_WIDTH]),
            ]
        })
        .map(|tensor| tensor.stored_as(datatype))
        .collect();
    directory(&config, &tensors)
}

/// The layer that is being packed is in memory twice, all others once. Weights of `BF16` take half of
/// what those of `F32` take, while they load and afterwards.
#[test]
fn loading_holds_the_weights_once_and_packing_adds_a_tenth_at_most() {
    for (datatype, bytes_each) in [(Dtype::F32, 4), (Dtype::BF16, 2)] {
        let place = large_layers(datatype);
        let parameters = LARGE_LAYERS * (LARGE_WIDTH * LARGE_WIDTH + LARGE_WIDTH);
        let bytes = parameters * bytes_each;
        assert!(bytes > 30_000_000);

        let mut model = None;
        let memory = allocation_counter::measure(|| {
            model = Some(Model::load("large", 1, place.path()).unwrap());
        });
        let engine = model.unwrap().engine;
        let limit = |factor: f64| (bytes as f64 * factor) as u64;
        assert_eq!(engine.parameters(), parameters);
        assert!(engine.weight_bytes() >= bytes, "{datatype}");
        assert!(engine.weight_bytes() as u64 <= limit(1.1), "{datatype}");
        assert!(
            memory.bytes_current as u64 <= limit(1.1),
            "{datatype}: {memory:?}"
        );
        assert!(memory.bytes_max <= limit(1.3), "{datatype}: {memory:?}");
    }
}

/// `F16` stays so until it is packed: the peak is its packed form and one layer of the file.
#[test]
fn weights_of_f16_are_widened_layer_by_layer() {
    let place = large_layers(Dtype::F16);
    let memory = allocation_counter::measure(|| {
        Model::load("large", 1, place.path()).unwrap();
    });
    let packed = (LARGE_LAYERS * LARGE_WIDTH * LARGE_WIDTH * size_of::<f32>()) as u64;
    assert!(memory.bytes_max > packed, "{memory:?}");
    assert!(memory.bytes_max <= packed * 125 / 100, "{memory:?}");
}

/// Layers that stay as they are and one that is folded, around the sizes of vectors and tiles.
const MIXED_CONFIG: &str = r#"{
  "model_type": "sequential",
  "inputs": [{"name": "x", "shape": [61]}],
  "layers": [
    {"type": "dense", "units": 131, "activation": "relu"},
    {"type": "dense", "units": 48, "use_bias": false},
    {"type": "batch_normalization", "epsilon": 1e-5},
    {"type": "layer_normalization", "epsilon": 1e-5},
    {"type": "dense", "units": 17, "activation": "gelu"},
    {"type": "dense", "units": 1}
  ]
}"#;

#[test]
fn a_bf16_file_answers_as_its_widened_copy_does_on_every_instruction_set() {
    let brain: Vec<Stored> = [
        ("0.weight", &[131, 61][..]),
        ("0.bias", &[131]),
        ("1.weight", &[48, 131]),
        ("2.weight", &[48]),
        ("2.bias", &[48]),
        ("2.running_mean", &[48]),
        ("2.running_var", &[48]),
        ("3.weight", &[48]),
        ("3.bias", &[48]),
        ("4.weight", &[17, 48]),
        ("4.bias", &[17]),
        ("5.weight", &[1, 17]),
        ("5.bias", &[1]),
    ]
    .into_iter()
    .map(|(name, shape)| Stored::filled(name, shape).stored_as(Dtype::BF16))
    .collect();
    let widened: Vec<Stored> = brain.iter().map(widened).collect();
    let [brain, widened] = [brain, widened].map(|tensors| directory(MIXED_CONFIG, &tensors));
    let rows: Vec<f32> = (0..130 * 61)
        .map(|index| (index % 89) as f32 / 44.0 - 1.0)
        .collect();
    for isa in Isa::available() {
        let [brain, widened] = [&brain, &widened]
            .map(|place| Model::load_for("m", 1, place.path(), isa).unwrap().engine);
        assert!(brain.weight_bytes() < widened.weight_bytes());
        assert_eq!(brain.parameters(), widened.parameters());
        let mut workspace = Workspace::new();
        let mut bits = |engine: &Engine, count: usize| -> Vec<u32> {
            let external = [View::F32(&rows[..count * 61])];
            let answers = engine.run(Batch::of_rows(count, &external), &mut workspace, None);
            answers.get(0).iter().map(|value| value.to_bits()).collect()
        };
        for count in [1, 2, 3, 5, 8, 9, 13, 33, 130] {
            assert_eq!(
                bits(&brain, count),
                bits(&widened, count),
                "{isa:?} {count} rows"
            );
        }
    }
}

/// The promise of the hot path: once a workspace has seen the largest batch, running any sample
/// and any layer with any number of rows allocates nothing.
#[test]
fn a_warm_run_of_any_model_allocates_nothing() {
    // The default batch, and two rows that no tile divides.
    const ROWS: usize = 130;
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut models: Vec<_> = [
        "breast-cancer/1",
        "diabetes/1",
        "digits/1",
        "digits/2",
        "hello-keras",
        "iris/1",
    ]
    .map(|sample| root.join("models").join(sample))
    .into();
    let layers = fs::read_dir(root.join("tests/golden/layers")).unwrap();
    models.extend(layers.map(|case| case.unwrap().path()));
    assert!(models.len() >= 76, "only {} models", models.len());

    for place in models {
        let name = place.display();
        let engine = Model::load("m", 1, &place).unwrap().engine;
        let values: Vec<Vec<f32>> = engine
            .inputs()
            .iter()
            .map(|spec| vec![0.5; ROWS * spec.shape.elements()])
            .collect();
        let inputs = |rows: usize| -> Vec<View<'_>> {
            let inputs = values.iter().zip(engine.inputs());
            inputs
                .map(|(values, spec)| View::F32(&values[..rows * spec.shape.elements()]))
                .collect()
        };
        let mut workspace = Workspace::new();
        let largest = inputs(ROWS);
        let cold = allocation_counter::measure(|| {
            engine.run(Batch::of_rows(ROWS, &largest), &mut workspace, None);
        });
        assert!(cold.count_total > 0, "{name}: the counter counts nothing");
        for rows in 1..=ROWS {
            let inputs = inputs(rows);
            let warm = allocation_counter::measure(|| {
                engine.run(Batch::of_rows(rows, &inputs), &mut workspace, None);
            });
            assert_eq!(warm.count_total, 0, "{name}: {rows} rows");
        }
    }
}
