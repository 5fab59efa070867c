//! What a browser is sent to a provider with: the authorization request (RFC 6749, section 4.1.1) with PKCE (RFC 7636).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use granary_core::Sha256;
use reqwest::Url;

use crate::random::Unguessable;

/// What is asked of a provider, of whichever kind.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) client_id: &'a str,
    pub(super) redirect_uri: &'a str,
    /// Separated by spaces.
    pub(super) scope: &'a str,
    /// Comes back with the answer.
    pub(super) state: &'a Unguessable,
    /// Comes back in the ID token, where there is one.
    pub(super) nonce: Option<&'a Unguessable>,
    /// Whoever redeems the code has to know it.
    pub(super) verifier: &'a Unguessable,
}

/// The URL to send the browser to. What the endpoint has in its query stays (RFC 6749, section 3.1).
pub(super) fn url(endpoint: &Url, request: &Request<'_>) -> Url {
    let mut url = endpoint.clone();
    url.query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("client_id", request.client_id)
        .append_pair("redirect_uri", request.redirect_uri)
        .append_pair("scope", request.scope)
        .append_pair("state", request.state.expose())
        .append_pair("code_challenge", &challenge(request.verifier.expose()))
        .append_pair("code_challenge_method", "S256");
    if let Some(nonce) = request.nonce {
        url.query_pairs_mut().append_pair("nonce", nonce.expose());
    }
    url
}

/// RFC 7636, section 4.2, by the method S256.
fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::of(verifier.as_bytes()).as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::collections::HashMap;

    use super::*;

    #[test]
    fn the_challenge_is_that_of_the_rfc() {
        // RFC 7636, appendix B.
        assert_eq!(
            challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }

    #[test]
    fn the_request_says_all_and_leaves_the_endpoint_as_it_is() {
        let mut random = rand::rng();
        let [state, nonce, verifier] = std::array::from_fn(|_| Unguessable::generate(&mut random));
        let endpoint = Url::parse("https://issuer.example/authorize?tenant=a%20b").unwrap();
        let url = url(
            &endpoint,
            &Request {
                client_id: "granary & co",
                redirect_uri: "https://packages.example/-/login/company/callback",
                scope: "openid profile",
                state: &state,
                nonce: Some(&nonce),
                verifier: &verifier,
            },
        );
        assert_eq!((url.host_str(), url.path()), (Some("issuer.example"), "/authorize"));
        let pairs: HashMap<String, String> = url.query_pairs().into_owned().collect();
        for (name, value) in [
            ("tenant", "a b"),
            ("response_type", "code"),
            ("client_id", "granary & co"),
            ("redirect_uri", "https://packages.example/-/login/company/callback"),
            ("scope", "openid profile"),
            ("state", state.expose()),
            ("nonce", nonce.expose()),
            ("code_challenge_method", "S256"),
        ] {
            assert_eq!(pairs[name], value, "{name}");
        }
        assert!(!url.as_str().contains(verifier.expose()), "the verifier stays here");
    }
}
