//! Bytes in JSON as TensorFlow Serving writes them: `{"b64": "..."}`, or a string for text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::http::error::ApiError;
use crate::json::{Elements, Error, Kind, Reader};
use crate::model::Signature;
use crate::tensor::{ByteStrings, DataType};

const KEY: &str = "b64";

/// Strings, and objects with bytes in base64.
pub(super) struct Texts<'a>(pub(super) &'a mut ByteStrings);

impl Elements for Texts<'_> {
    const NAME: &'static str = "a string or {\"b64\": string}";

    fn count(&self) -> usize {
        self.0.view().len()
    }

    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        if reader.peek()? != Kind::Object {
            self.0.push(reader.string()?.as_bytes());
            return Ok(());
        }
        let place = reader.mark();
        let mut bytes = None;
        let mut others = false;
        reader.object(|reader, key| {
            if key != KEY {
                others = true;
                return reader.skip();
            }
            bytes = STANDARD.decode(reader.string()?.as_bytes()).ok();
            Ok(())
        })?;
        match bytes.filter(|_| !others) {
            Some(bytes) => self.0.push(&bytes),
            None => {
                let expected = "an object with base64 under \"b64\" and nothing else";
                return Err(reader.unexpected_at(place, expected));
            }
        }
        Ok(())
    }
}

/// Whether the value that comes next is an object whose first key is `b64`, for a model whose only input
/// takes bytes: then it is those, and no row of named inputs.
pub(in crate::http) fn is_base64(reader: &mut Reader<'_>, signature: &Signature) -> bool {
    let takes_bytes = matches!(&*signature.inputs, [spec] if spec.datatype == DataType::Bytes);
    if !takes_bytes || !matches!(reader.peek(), Ok(Kind::Object)) {
        return false;
    }
    let place = reader.mark();
    let mut first = None;
    let read = reader.revisit(place, |reader| {
        reader.object(|reader, key| {
            first.get_or_insert_with(|| key == KEY);
            Ok::<_, ApiError>(reader.skip()?)
        })
    });
    read.is_ok() && first == Some(true)
}
