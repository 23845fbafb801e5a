//! Turns `proto/` into Rust types without `protoc`, and the gRPC services' files into the descriptors
//! that reflection serves; unpacks the page `/docs/`.

#[cfg(any(feature = "grpc", feature = "import", feature = "swagger-ui"))]
use std::{env, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=proto");
    #[cfg(feature = "grpc")]
    {
        let files = protos::compile("protos.rs", protos::SERVICES);
        protos::describe("descriptors.bin", &files);
    }
    #[cfg(feature = "import")]
    protos::compile("onnx_file.rs", &["onnx/onnx.proto"]);
    #[cfg(feature = "swagger-ui")]
    swagger_ui::unpack();
}

#[cfg(any(feature = "grpc", feature = "import", feature = "swagger-ui"))]
fn out(name: &str) -> PathBuf {
    PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join(name)
}

#[cfg(any(feature = "grpc", feature = "import"))]
mod protos {
    use prost_types::FileDescriptorSet;

    use super::out;

    #[cfg(feature = "grpc")]
    pub(super) const SERVICES: &[&str] = &[
        "inference/grpc_service.proto",
        "tensorflow/serving.proto",
        "grpc/health.proto",
        "grpc/reflection_v1.proto",
        "grpc/reflection_v1alpha.proto",
    ];

    /// Writes the types of some files, and one file that includes them.
    pub(super) fn compile(include: &str, files: &[&str]) -> FileDescriptorSet {
        let descriptors = protox::compile(files, ["proto"]).expect("the files of proto/ are valid");
        prost_build::Config::new()
            .bytes(["."])
            .include_file(include)
            .compile_fds(descriptors.clone())
            .expect("cargo's own directory");
        descriptors
    }

    #[cfg(feature = "grpc")]
    pub(super) fn describe(name: &str, files: &FileDescriptorSet) {
        use prost::Message;

        std::fs::write(out(name), files.encode_to_vec()).expect("cargo's own directory");
    }
}

/// Swagger UI out of the crate that carries its archive.
#[cfg(feature = "swagger-ui")]
mod swagger_ui {
    use std::fmt::Write as _;
    use std::fs;
    use std::io::{Cursor, Read as _};

    use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
    use zip::ZipArchive;

    use super::out;

    /// The files of the archive's folder `dist/` that the page uses.
    const FILES: [&str; 8] = [
        "favicon-16x16.png",
        "favicon-32x32.png",
        "index.css",
        "index.html",
        INITIALIZER,
        "swagger-ui-bundle.js",
        "swagger-ui-standalone-preset.js",
        "swagger-ui.css",
    ];
    /// Which of them says what is shown, and what it names as such.
    const INITIALIZER: &str = "swagger-initializer.js";
    const SHOWN: &str = "https://petstore.swagger.io/v2/swagger.json";

    /// Writes the files, and a list of their names and contents as an expression of Rust.
    pub(super) fn unpack() {
        let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED)).expect("an archive");
        let first = archive.name_for_index(0).expect("it is not empty");
        let first = first.expect("a name").into_owned();
        let (folder, _) = first.split_once('/').expect("all of it is in one folder");
        let mut list = "&[\n".to_owned();
        for name in FILES {
            let mut bytes = Vec::new();
            let mut file = archive
                .by_name(&format!("{folder}/dist/{name}"))
                .expect("it has the files of the page");
            file.read_to_end(&mut bytes).expect("the archive is whole");
            if name == INITIALIZER {
                let text = String::from_utf8(bytes).expect("a script");
                assert!(text.contains(SHOWN), "{INITIALIZER} shows something else");
                bytes = text.replace(SHOWN, "/openapi.json").into_bytes();
            }
            let path = out(name);
            fs::write(&path, bytes).expect("cargo's own directory");
            writeln!(list, "    ({name:?}, include_bytes!({path:?})),").expect("room");
        }
        list.push_str("]\n");
        fs::write(out("swagger_ui.rs"), list).expect("cargo's own directory");
    }
}
