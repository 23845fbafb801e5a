//! The model that a request is for.

use crate::http::error::{ApiError, ErrorCode};
use crate::http::exchange::Exchange;
use crate::http::grpc::tensorflow::serving;
use crate::http::grpc::{Fields, Malformed};
use crate::http::predict::Admitted;
use crate::http::state::Server;
use crate::http::v1::signature::{SIGNATURE_NAME, expect_signature};
use crate::http::v1::target::version_of;
use crate::metrics::Protocol;
use crate::model::Model;

/// A `ModelSpec`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Spec<'b> {
    name: &'b str,
    version: Option<i64>,
    label: &'b str,
    signature: &'b str,
}

impl<'b> Spec<'b> {
    fn read(mut fields: Fields<'b>) -> Result<Self, Malformed> {
        let mut spec = Self::default();
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => spec.name = value.text()?,
                2 => {
                    // A version of 0 is not written, and is one all the same.
                    let mut version = 0;
                    let mut wrapped = value.fields()?;
                    while let Some((number, value)) = wrapped.next()? {
                        if number == 1 {
                            version = value.number()?.cast_signed();
                        }
                    }
                    spec.version = Some(version);
                }
                3 => spec.signature = value.text()?,
                4 => spec.label = value.text()?,
                _ => {}
            }
        }
        Ok(spec)
    }

    /// That of a request, which all have as their first field.
    pub(super) fn of_request(message: &'b [u8]) -> Result<Self, Malformed> {
        let mut spec = Self::default();
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.next()? {
            if number == 1 {
                spec = Self::read(value.fields()?)?;
            }
        }
        Ok(spec)
    }

    /// That of a request of which this is the start; `None` if it is not there yet.
    pub(super) fn at_the_start(message: &'b [u8]) -> Option<Self> {
        let mut fields = Fields::of(message);
        let Ok(Some((1, value))) = fields.next() else {
            return None;
        };
        // Another would count instead.
        (fields.number()? != 1).then(|| Self::read(value.fields().ok()?).ok())?
    }

    pub(super) fn find<'s>(
        &self,
        server: &'s Server,
        exchange: &'s Exchange,
    ) -> Result<Admitted<'s>, ApiError> {
        if self.name.is_empty() {
            return Err(ApiError::invalid(
                ErrorCode::MissingField,
                "model_spec: expected the name of a model, got none; set model_spec.name",
            ));
        }
        let version = match self.label {
            "" => self.version.map(|version| version.to_string()),
            label => Some(version_of(server, self.name, label)?),
        };
        let version = version.as_deref();
        let admitted = Admitted::find(server, exchange, Protocol::Grpc, self.name, version)?;
        expect_signature(self.signature)?;
        Ok(admitted)
    }
}

/// What answers say of the model that answered.
pub(super) fn model_spec(model: &Model) -> serving::ModelSpec {
    serving::ModelSpec {
        name: model.name.clone(),
        signature_name: SIGNATURE_NAME.to_owned(),
        version_choice: Some(serving::model_spec::VersionChoice::Version(
            i64::try_from(model.version).unwrap_or(i64::MAX),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_is_known_once_something_follows_it() {
        let spec = b"\x0a\x09\x0a\x01m\x12\x02\x08\x02\x1a\x00";
        let found = Spec::of_request(spec).unwrap();
        assert_eq!((found.name, found.version), ("m", Some(2)));
        assert_eq!(Spec::at_the_start(spec), None);
        let more = [&spec[..], b"\x12\x7f"].concat();
        assert_eq!(Spec::at_the_start(&more), Some(found));
        assert_eq!(Spec::at_the_start(&more[..5]), None);
        assert_eq!(Spec::of_request(b"").unwrap(), Spec::default());
    }
}
