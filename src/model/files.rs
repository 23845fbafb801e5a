//! A model's files.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The file that describes a model.
pub const CONFIG_FILE: &str = "config.json";
/// The weights of a model that is not sharded.
pub(super) const SINGLE_FILE: &str = "model.safetensors";
/// Which shard holds which tensor.
pub(super) const INDEX_FILE: &str = "model.safetensors.index.json";
/// The most bytes of a configuration or an index. Keras writes up to 1.3 kB a layer and an index
/// takes 0.1 kB a tensor, so a network of the most layers fits; parsed, it takes many times more.
const MAX_CONFIG_BYTES: u64 = 16 << 20;

/// Whether a file that gave this error may be one that is not there yet, or not whole.
pub(super) fn may_come(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
    )
}

/// Opens a file for reading and tells its length; refuses what is no regular file.
///
/// Links are followed, out of the repository too: anyone who may create a link there may copy the file
/// there as well, and Kubernetes mounts models as links.
pub(crate) fn open_regular(path: &Path) -> io::Result<(File, u64)> {
    // Without waiting: opening a pipe without a writer would never return.
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    Ok((file, metadata.len()))
}

/// Reads a whole file of at most [`MAX_CONFIG_BYTES`].
pub(super) fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    let (file, length) = open_regular(path)?;
    if length > MAX_CONFIG_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("expected at most {MAX_CONFIG_BYTES} bytes, the file has {length}"),
        ));
    }
    let mut bytes = Vec::new();
    file.take(MAX_CONFIG_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}
