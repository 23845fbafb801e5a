//! The model that a request is for.

use crate::http::error::ApiError;
use crate::http::exchange::Exchange;
use crate::http::grpc::{Fields, Malformed};
use crate::http::predict::Admitted;
use crate::http::state::Server;
use crate::metrics::Protocol;

/// The name and the version of the model.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Target<'b> {
    name: &'b str,
    version: &'b str,
}

impl<'b> Target<'b> {
    /// Reads all of a request.
    pub(super) fn of(message: &'b [u8]) -> Result<Self, Malformed> {
        let mut target = Self::default();
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => target.name = value.text()?,
                2 => target.version = value.text()?,
                _ => {}
            }
        }
        Ok(target)
    }

    /// Reads the start of a request; `None` if it has not all of it. Clients write fields in the order
    /// of their numbers, and these two are the first.
    pub(super) fn at_the_start(message: &'b [u8]) -> Option<Self> {
        let mut target = Self::default();
        let mut fields = Fields::of(message);
        loop {
            match fields.number()? {
                1 => target.name = fields.next().ok()??.1.text().ok()?,
                2 => target.version = fields.next().ok()??.1.text().ok()?,
                _ => return (!target.name.is_empty()).then_some(target),
            }
        }
    }

    pub(super) fn find<'s>(
        &self,
        server: &'s Server,
        exchange: &'s Exchange,
    ) -> Result<Admitted<'s>, ApiError> {
        let version = version(self.version);
        Admitted::find(server, exchange, Protocol::Grpc, self.name, version)
    }
}

/// The version that a request names; none is the newest that is ready.
pub(super) fn version(version: &str) -> Option<&str> {
    Some(version).filter(|version| !version.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_named_at_the_start_or_not_known_yet() {
        let named = |bytes: &[u8]| {
            Target::at_the_start(bytes).map(|target| format!("{}/{}", target.name, target.version))
        };
        assert_eq!(named(b"\x0a\x01m\x2a\x7f").as_deref(), Some("m/"));
        assert_eq!(named(b"\x0a\x01m\x12\x012\x2a").as_deref(), Some("m/2"));
        // A version may follow, or the rest of one.
        assert_eq!(named(b"\x0a\x01m"), None);
        assert_eq!(named(b"\x0a\x01m\x12\x022"), None);
        assert_eq!(named(b"\x2a\x00\x0a\x01m"), None);
        assert_eq!(named(b""), None);
    }

    /// The last of a kind counts, and what the start said is asked again with all of the message.
    #[test]
    fn a_later_field_changes_what_the_start_said() {
        let message = b"\x0a\x01m\x2a\x00\x12\x012";
        assert_ne!(Target::at_the_start(message), Target::of(message).ok());
        let message = b"\x0a\x01m\x12\x012\x2a\x00";
        assert_eq!(Target::at_the_start(message), Target::of(message).ok());
    }
}
