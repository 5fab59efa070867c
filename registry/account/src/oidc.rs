//! Publishing without a stored secret: a token that an issuer signed for a job of a CI system is exchanged for a short-lived one
//! of ours. The routes and their answers are those that twine and uv know as trusted publishing.

use std::sync::Arc;

use granary_http::{Body, Call, Refusal};
use granary_identity::MintError;
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::json;

use crate::State;

/// `GET /_/oidc/audience`: what a token has to be made for.
pub(crate) async fn audience(_: Arc<State>, call: Call) -> Result<Response<Body>, Refusal> {
    let workloads = call.arrival.services.identity.workloads();
    let audience = workloads.audiences().next();
    let audience = audience.ok_or_else(|| Refusal::not_found("this registry trusts no issuer of tokens"))?;
    crate::ok(&json!({ "audience": audience }))
}

#[derive(Debug, Deserialize)]
struct Exchange {
    token: String,
}

/// `POST /_/oidc/mint-token`: exchanges a signed token, once.
pub(crate) async fn mint_token(_: Arc<State>, mut call: Call) -> Result<Response<Body>, Refusal> {
    let exchange: Exchange = crate::read_json(&mut call).await?;
    let identity = &call.arrival.services.identity;
    let minted = identity.mint(&exchange.token, call.arrival.origin.client).await.map_err(refuse)?;
    let made = json!({
        "success": true,
        "token": minted.token.expose(),
        "expires": minted.expires_at.as_second(),
    });
    Ok(crate::not_stored(crate::ok(&made)?))
}

fn refuse(error: MintError) -> Refusal {
    match error {
        MintError::Auth(error) => {
            let refusal = Refusal::from(Arc::new(error));
            if refusal.status == StatusCode::UNAUTHORIZED {
                // There is nothing to log in with: the credential was in the body.
                Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, refusal.message)
            } else {
                refusal
            }
        }
        MintError::Used => Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
        MintError::Account(error) => Refusal::internal(error),
    }
}
