//! Turns `proto/` into Rust types without `protoc`, and the gRPC services' files into the descriptors
//! that reflection tells of.

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
}

#[cfg(any(feature = "grpc", feature = "import"))]
mod protos {
    use std::env;
    use std::path::PathBuf;

    use prost_types::FileDescriptorSet;

    #[cfg(feature = "grpc")]
    pub(super) const SERVICES: &[&str] = &[
        "inference/grpc_service.proto",
        "tensorflow/serving.proto",
        "grpc/health.proto",
        "grpc/reflection_v1.proto",
        "grpc/reflection_v1alpha.proto",
    ];

    fn out(name: &str) -> PathBuf {
        PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join(name)
    }

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
