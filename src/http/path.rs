//! The segments of a request's path.

use std::borrow::Cow;
use std::ops::Deref;

/// No path of a route has more segments.
const MAX_SEGMENTS: usize = 8;

/// The decoded segments of a path.
#[derive(Debug)]
pub(super) struct Segments<'a> {
    segments: [Cow<'a, str>; MAX_SEGMENTS],
    count: usize,
}

impl<'a> Segments<'a> {
    /// Splits a path at its slashes and then decodes each segment, so that an encoded slash splits
    /// nothing. One trailing slash is not there. `None` if there are more than any route has.
    ///
    /// What does not decode to UTF-8 becomes U+FFFD, which is part of no name: such a name is
    /// unknown like any other. Segments are only ever compared and looked up, never joined to a
    /// file's path.
    pub(super) fn of(path: &'a str) -> Option<Self> {
        let path = path.strip_prefix('/').unwrap_or(path);
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut segments = [const { Cow::Borrowed("") }; MAX_SEGMENTS];
        let mut count = 0;
        for segment in path.split('/') {
            *segments.get_mut(count)? = decode(segment);
            count += 1;
        }
        Some(Self { segments, count })
    }

    /// The segments as text to match, at least one.
    pub(super) fn as_strs(&self) -> impl Deref<Target = [&str]> {
        Strs {
            strs: self.segments.each_ref().map(Cow::as_ref),
            count: self.count,
        }
    }
}

struct Strs<'a> {
    strs: [&'a str; MAX_SEGMENTS],
    count: usize,
}

impl<'a> Deref for Strs<'a> {
    type Target = [&'a str];

    fn deref(&self) -> &[&'a str] {
        &self.strs[..self.count]
    }
}

fn decode(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        match after.first_chunk().and_then(hexadecimal) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn hexadecimal(digits: &[u8; 2]) -> Option<u8> {
    let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
    u8::try_from(high? << 4 | low?).ok()
}

#[cfg(test)]
mod tests {
    use super::{MAX_SEGMENTS, Segments};

    fn segments(path: &str) -> Vec<String> {
        let segments = Segments::of(path).unwrap();
        segments
            .as_strs()
            .iter()
            .map(|segment| segment.to_string())
            .collect()
    }

    #[test]
    fn a_path_is_split_before_it_is_decoded() {
        assert_eq!(
            segments("/v2/models/a%2Fb/infer"),
            ["v2", "models", "a/b", "infer"]
        );
        assert_eq!(segments("/v2/"), ["v2"]);
        assert_eq!(segments("/"), [""]);
        assert_eq!(segments("/v2//x"), ["v2", "", "x"]);
    }

    #[test]
    fn what_does_not_decode_is_part_of_no_name() {
        assert_eq!(segments("/%ff"), ["\u{fffd}"]);
        assert_eq!(segments("/%00"), ["\0"]);
        assert_eq!(segments("/%zz%4"), ["%zz%4"]);
        assert_eq!(segments("/%69ris%"), ["iris%"]);
        assert_eq!(segments("/%+1"), ["%+1"]);
    }

    #[test]
    fn a_path_of_more_segments_than_any_route_has_is_none() {
        let most = "/x".repeat(MAX_SEGMENTS);
        assert_eq!(segments(&most).len(), MAX_SEGMENTS);
        assert!(Segments::of(&format!("{most}/x")).is_none());
    }
}
