//! Whether a request's key lets it in.

use http::header::AUTHORIZATION;

use super::error::ApiError;
use super::exchange::Exchange;
use crate::keys::Keys;

/// The other header that a key may come in, as API gateways send it.
const API_KEY: &str = "x-api-key";

/// Checks the key of a request, and says whose it is.
///
/// # Errors
/// 401 without a key, or with one that is not valid.
pub(super) fn check(keys: &Keys, exchange: &Exchange) -> Result<(), ApiError> {
    let headers = &exchange.head.headers;
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked("Bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then_some(key)
    });
    let key = bearer.or_else(|| headers.get(API_KEY).map(|value| value.as_bytes()));
    let Some(key) = key else {
        return Err(ApiError::Unauthorized { has_key: false });
    };
    let Some(key) = keys.find(key.trim_ascii()) else {
        return Err(ApiError::Unauthorized { has_key: true });
    };
    key.requests.inc();
    exchange.set_client(&key.name);
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::metrics::Counter;

    #[test]
    fn a_key_comes_as_a_bearer_token_or_in_its_own_header() {
        let requests = Counter::default();
        let keys = Keys::parse("me 0123456789abcdef", |_| requests.clone()).unwrap();
        let ask = |headers: &[(&str, &str)]| {
            let mut request = Request::get("/");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let head = request.body(()).unwrap().into_parts().0;
            match check(&keys, &Exchange::new(head)) {
                Ok(()) => "in",
                Err(ApiError::Unauthorized { has_key: true }) => "wrong",
                Err(_) => "none",
            }
        };
        let key = "0123456789abcdef";
        let bearer = format!("Bearer {key}");
        let lower = format!("bearer  {key} ");
        assert_eq!(ask(&[("authorization", &bearer)]), "in");
        assert_eq!(ask(&[("authorization", &lower)]), "in");
        assert_eq!(ask(&[("x-api-key", key)]), "in");
        assert_eq!(
            ask(&[("authorization", "Basic eA=="), ("x-api-key", key)]),
            "in"
        );
        assert_eq!(requests.get(), 4);
        assert_eq!(ask(&[]), "none");
        assert_eq!(ask(&[("authorization", key)]), "none");
        assert_eq!(ask(&[("authorization", "Bearer")]), "none");
        assert_eq!(ask(&[("authorization", "Bearer ")]), "wrong");
        assert_eq!(
            ask(&[("authorization", "Bearer me"), ("x-api-key", key)]),
            "wrong"
        );
        assert_eq!(requests.get(), 4);
    }
}
