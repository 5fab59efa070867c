//! An API server that expects certain requests in a certain order, for tests of what the operator asks for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::pin::pin;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tower_test::mock;

/// How long a request may be missing.
const PATIENCE: Duration = Duration::from_secs(5);

/// One request and its answer.
#[derive(Debug)]
pub struct Step {
    method: Method,
    path: &'static str,
    body: Option<Value>,
    status: StatusCode,
    answer: Value,
}

impl Step {
    /// A request with this method to this path, without its query; answered with success.
    pub fn new(method: Method, path: &'static str, answer: Value) -> Self {
        Self { method, path, body: None, status: StatusCode::OK, answer }
    }

    /// The request has this body.
    pub fn with_body(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    /// Answered with a failure of this reason.
    pub fn failing(method: Method, path: &'static str, status: StatusCode, reason: &str) -> Self {
        let answer = json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status.as_u16(), "reason": reason,
            "message": reason,
        });
        Self { method, path, body: None, status, answer }
    }
}

/// A client whose server expects these requests and no others. The handle ends when all have come.
pub fn scenario(steps: Vec<Step>) -> (Client, JoinHandle<()>) {
    let (service, handle) = mock::pair::<Request<Body>, Response<Body>>();
    let server = tokio::spawn(async move {
        let mut handle = pin!(handle);
        for step in steps {
            let next = tokio::time::timeout(PATIENCE, handle.next_request()).await;
            let (request, send) =
                next.unwrap_or_else(|_| panic!("no request came for {step:?}")).expect("the client is gone");
            assert_eq!((request.method(), request.uri().path()), (&step.method, step.path));
            let body = request.into_body().collect().await.unwrap().to_bytes();
            if let Some(expected) = step.body {
                assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);
            }
            let answer = Body::from(step.answer.to_string().into_bytes());
            send.send_response(Response::builder().status(step.status).body(answer).unwrap());
        }
    });
    (Client::new(service, "team"), server)
}
