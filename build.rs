//! Turns `proto/` into Rust types and into the descriptors that reflection tells of, without `protoc`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=proto");
    #[cfg(feature = "grpc")]
    protos::compile();
}

#[cfg(feature = "grpc")]
mod protos {
    use std::path::PathBuf;
    use std::{env, fs};

    use prost::Message;

    const FILES: [&str; 5] = [
        "inference/grpc_service.proto",
        "tensorflow/serving.proto",
        "grpc/health.proto",
        "grpc/reflection_v1.proto",
        "grpc/reflection_v1alpha.proto",
    ];

    pub(super) fn compile() {
        let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
        let files = protox::compile(FILES, ["proto"]).expect("the files of proto/ are valid");
        fs::write(out.join("descriptors.bin"), files.encode_to_vec())
            .expect("cargo's own directory");
        prost_build::Config::new()
            .bytes(["."])
            .include_file("protos.rs")
            .compile_fds(files)
            .expect("cargo's own directory");
    }
}
