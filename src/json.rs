//! JSON as the wire formats need it: a pull reader and an appending writer, no tree between.
//!
//! The reader walks one body from front to back and hands numbers straight into the buffers that
//! the engine reads. It is strict: UTF-8 without a byte order mark, no key twice, no leading
//! zeros, no number that is not finite as an `f32`, nothing behind the document, at most
//! [`MAX_DEPTH`] levels. It never recurses, so no body can exhaust the stack.
//!
//! On the way it keeps no more than a position. Only when something is wrong is the path to that
//! position worked out, by a second walk over the text before it, so a good body pays nothing for
//! the errors of a bad one.
//!
//! Source of the grammar: RFC 8259.

mod error;
mod number;
mod object;
mod path;
mod reader;
mod shortest;
mod skip;
mod tensor;
mod text;
mod writer;

pub use error::{Error, ErrorKind};
pub(crate) use number::{parse_f32, read_run};
pub use path::Path;
pub use reader::{Kind, MAX_DEPTH, Mark, Reader};
pub use tensor::{Bools, Elements, Extents, MAX_RANK};
pub use writer::Writer;
