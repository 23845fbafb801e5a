//! `safeserve import`: an ONNX file becomes a model.

use std::path::PathBuf;

use clap::Args;

use super::console::{print, report};
use super::exit::Exit;
use crate::onnx::{Options, import, understood};

#[derive(Debug, Args)]
pub(super) struct ImportFlags {
    /// The ONNX file.
    #[arg(value_name = "MODEL.onnx", required_unless_present = "operators")]
    file: Option<PathBuf>,
    /// The directory of the model, for example models/churn; the import becomes its next version.
    #[arg(long, value_name = "DIR", required_unless_present = "operators")]
    out: Option<PathBuf>,
    /// Print the operators that a model may have, one a line, and do nothing else.
    #[arg(long, exclusive = true)]
    operators: bool,
    /// What the first output means: regression, binary-classification or multiclass-classification.
    #[arg(long, value_name = "TASK")]
    task: Option<String>,
    /// The names of the classes, in their order.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    labels: Vec<String>,
    /// The names of the features of the only input, in their order.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    feature_names: Vec<String>,
    /// What the model does, for people.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// An output to serve, by its name in the file. May be repeated; without it all numbers are.
    #[arg(long = "output", value_name = "NAME")]
    outputs: Vec<String>,
    /// The extent of an axis that only has a name. May be repeated.
    #[arg(long = "dimension", value_name = "NAME=EXTENT", value_parser = dimension)]
    dimensions: Vec<(String, usize)>,
}

fn dimension(text: &str) -> Result<(String, usize), String> {
    let (name, extent) = text.rsplit_once('=').ok_or("expected NAME=EXTENT")?;
    match extent.parse() {
        Ok(extent) if extent > 0 => Ok((name.to_owned(), extent)),
        _ => Err(format!("expected a whole number from 1 on, got {extent:?}")),
    }
}

pub(super) fn run(flags: ImportFlags) -> Exit {
    let options = Options {
        outputs: flags.outputs,
        dimensions: flags.dimensions.into_iter().collect(),
        task: flags.task,
        labels: flags.labels,
        feature_names: flags.feature_names,
        description: flags.description,
    };
    let (Some(file), Some(out)) = (flags.file, flags.out) else {
        // Clap ensures that only --operators goes without them.
        print(&understood().fold(String::new(), |text, name| text + &name + "\n"));
        return Exit::Done;
    };
    let imported = match import(&file, &out, &options) {
        Ok(imported) => imported,
        Err(error) => {
            report(&error);
            return Exit::Failed;
        }
    };
    let mut text = String::new();
    let operators = imported.operators.iter();
    let operators: Vec<_> = operators
        .map(|(name, times)| format!("{name} ({times})"))
        .collect();
    text.push_str(&format!("operators: {}\n", operators.join(", ")));
    for note in &imported.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    text.push_str(&format!(
        "{} holds the model; it loads and a server that watches the directory takes it up\n",
        imported.directory.display()
    ));
    print(&text);
    Exit::Done
}
