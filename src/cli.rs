//! The command line: one file a subcommand.

#[cfg(feature = "bench")]
mod bench;
mod build;
mod check;
mod console;
mod example;
mod exit;
mod health;
#[cfg(feature = "import")]
mod import;
mod predict;
mod print_config;
mod serve;
mod table;
#[cfg(feature = "train")]
mod train;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{ConfigError, Overrides, Settings};
use build::VERSION;
use console::report;

pub use exit::Exit;

const AFTER_HELP: &str = "\
Settings come from the defaults, then --config FILE, then SAFESERVE__SECTION__KEY in the \
environment, then flags. `safeserve print-config` shows them all.

Exit codes:
  0    done; for the server also: stopped by a signal, every request in flight answered or cut off
  1    a model failed its check or its comparison, a command failed, rows of a file were bad, a
       request of bench failed, the server asked is not ready, or the server failed while running
  2    bad arguments or settings
  3    the model repository cannot be read, holds no servable model, or a bad one with --strict
  4    the address cannot be listened on
  130  stopped at once by a second signal; for train: nothing was written";

#[derive(Debug, Parser)]
#[command(
    name = "safeserve",
    version = VERSION.as_str(),
    about = "Serves safetensors models over HTTP on CPUs.",
    after_help = AFTER_HELP,
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Without a subcommand: the flags of `serve`.
    #[command(flatten)]
    settings: SettingFlags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the models over HTTP (the default).
    Serve {
        #[command(flatten)]
        settings: SettingFlags,
    },
    /// Print the settings as a settings file, each with where its value came from.
    PrintConfig {
        #[command(flatten)]
        settings: SettingFlags,
    },
    /// Ask a running server whether it is ready: exit code 0 if it is, 1 if not.
    Health {
        /// What to ask, as http://HOST:PORT or with a path [default: the settings' server].
        url: Option<String>,
        #[command(flatten)]
        settings: SettingFlags,
    },
    /// Score a file of rows: CSV, NDJSON or Parquet in, predictions out.
    Predict {
        #[command(flatten)]
        options: Box<predict::Options>,
        #[command(flatten)]
        settings: SettingFlags,
    },
    /// Load every model, run it once, and print what it is or why it is refused.
    Check {
        /// The model repository [default: the setting models.dir].
        #[arg(value_name = "DIR", conflicts_with = "models")]
        directory: Option<String>,
        /// Compare the answers of the repository's only model, in its newest version, with those
        /// of a safetensors file: input.<name> and output.<name>, rows first, F32 or F64.
        #[arg(long, value_name = "FILE")]
        compare: Option<String>,
        /// The most that an answer a may differ from the expected e: |a - e| <= T + T * |e|.
        #[arg(
            long,
            value_name = "T",
            requires = "compare",
            default_value_t = check::TOLERANCE,
            value_parser = check::tolerance
        )]
        tolerance: f64,
        #[command(flatten)]
        settings: SettingFlags,
    },
    /// Make a model of an ONNX file.
    #[cfg(feature = "import")]
    Import(import::ImportFlags),
    /// Load a running server with requests and measure it, to size a deployment.
    #[cfg(feature = "bench")]
    Bench(bench::Flags),
    /// Train a network on a table and publish it as a model.
    #[cfg(feature = "train")]
    Train(Box<train::Arguments>),
}

/// The flags that override settings.
#[derive(Debug, Default, Args)]
struct SettingFlags {
    /// A settings file: TOML, only what differs from the defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The model repository: DIR/<name>/<version>/{config.json, model.safetensors}.
    #[arg(long, value_name = "DIR")]
    models: Option<String>,
    /// The model's name, if the repository is the directory of one model.
    #[arg(long, value_name = "NAME")]
    model_name: Option<String>,
    /// The address and port to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDR:PORT")]
    bind: Option<String>,
    /// The file of the keys that clients need: a name and a key a line.
    #[arg(long, value_name = "FILE")]
    api_keys: Option<String>,
    /// The address of a listener for health and metrics alone.
    #[arg(long, value_name = "ADDR:PORT")]
    operations_bind: Option<String>,
    /// The address of the operators' API; needs --admin-keys.
    #[arg(long, value_name = "ADDR:PORT")]
    admin_bind: Option<String>,
    /// The file of the operators' keys.
    #[arg(long, value_name = "FILE")]
    admin_keys: Option<String>,
    /// The address of the gRPC services, for example 0.0.0.0:9000.
    #[arg(long, value_name = "ADDR:PORT")]
    grpc_bind: Option<String>,
    /// The PEM file of a certificate chain to serve HTTPS with; needs --tls-key.
    #[arg(long, value_name = "FILE")]
    tls_certificate: Option<String>,
    /// The PEM file of the certificate's private key.
    #[arg(long, value_name = "FILE")]
    tls_key: Option<String>,
    /// Refuse to start if any model cannot be served.
    #[arg(long)]
    strict: bool,
    /// The least severe messages that are logged: error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// How messages are logged: auto, text or json.
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Any other setting, for example limits.max_connections=1024. May be repeated.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

impl SettingFlags {
    fn load(self) -> Result<Settings, ConfigError> {
        let flags = [
            ("--models", "models.dir", self.models),
            ("--model-name", "models.name", self.model_name),
            ("--bind", "server.bind", self.bind),
            ("--api-keys", "server.api_keys", self.api_keys),
            ("--operations-bind", "operations.bind", self.operations_bind),
            ("--admin-bind", "admin.bind", self.admin_bind),
            ("--admin-keys", "admin.keys", self.admin_keys),
            ("--grpc-bind", "grpc.bind", self.grpc_bind),
            ("--tls-certificate", "tls.certificate", self.tls_certificate),
            ("--tls-key", "tls.key", self.tls_key),
            (
                "--strict",
                "models.strict",
                self.strict.then(|| "true".to_owned()),
            ),
            ("--log-level", "log.level", self.log_level),
            ("--log-format", "log.format", self.log_format),
        ];
        Settings::load(Overrides {
            file: self.config,
            environment: std::env::vars_os().collect(),
            flags: flags
                .into_iter()
                .filter_map(|(flag, key, value)| Some((flag, key.to_owned(), value?)))
                .collect(),
            assignments: self.set,
        })
    }
}

/// Runs the program with these arguments, the first being its name.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(message) => {
            // Help and the version are printed here too, to stdout. If no one reads it, the error
            // cannot be reported either.
            let _ = message.print();
            return match message.use_stderr() {
                true => Exit::BadSettings,
                false => Exit::Done,
            };
        }
    };
    let command = arguments.command.unwrap_or(Command::Serve {
        settings: arguments.settings,
    });
    match command {
        Command::Serve { settings } => with(settings, serve::run),
        Command::PrintConfig { settings } => with(settings, print_config::run),
        Command::Health { url, settings } => {
            with(settings, |settings| health::run(url.as_deref(), settings))
        }
        Command::Predict { options, settings } => {
            with(settings, |settings| predict::run(*options, settings))
        }
        Command::Check {
            directory,
            compare,
            tolerance,
            mut settings,
        } => {
            settings.models = directory.or(settings.models);
            let comparison = compare.map(|file| check::Comparison { file, tolerance });
            with(settings, |settings| {
                check::run(settings, comparison.as_ref())
            })
        }
        #[cfg(feature = "import")]
        Command::Import(flags) => import::run(flags),
        #[cfg(feature = "bench")]
        Command::Bench(flags) => bench::run(&flags),
        #[cfg(feature = "train")]
        Command::Train(arguments) => with(SettingFlags::default(), |settings| {
            train::run(&arguments, settings)
        }),
    }
}

/// Runs a command with the settings that its flags and all else give.
fn with(settings: SettingFlags, command: impl FnOnce(&Settings) -> Exit) -> Exit {
    match settings.load() {
        Ok(settings) => command(&settings),
        Err(error) => {
            report(&error);
            Exit::BadSettings
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_of_the_arguments_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn without_a_subcommand_the_flags_are_those_of_serve() {
        let arguments = Arguments::try_parse_from(["safeserve", "--bind", "[::1]:0"]).unwrap();
        assert!(arguments.command.is_none());
        assert_eq!(arguments.settings.bind.as_deref(), Some("[::1]:0"));
    }

    #[test]
    fn every_exit_code_is_in_the_help() {
        for exit in [
            Exit::Done,
            Exit::Failed,
            Exit::BadSettings,
            Exit::BadRepository,
            Exit::CannotBind,
            Exit::Forced,
        ] {
            let code = format!("\n  {:<4} ", exit as u8);
            assert!(AFTER_HELP.contains(&code), "{exit:?}");
        }
    }
}
