//! A service that answers yes or no.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use ::http::{HeaderMap, Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::super::http::ServiceError;
use super::*;

/// What the server was asked.
#[derive(Debug, Clone)]
struct Asked {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Value,
}

/// A server that answers what it is told to.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    answer: Arc<Mutex<Response<Full<Bytes>>>>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let answer: Arc<Mutex<Response<Full<Bytes>>>> = Arc::default();
        let server = Self { address, asked: Arc::clone(&asked), answer: Arc::clone(&answer) };
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (asked, answer) = (Arc::clone(&asked), Arc::clone(&answer));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (asked, answer) = (Arc::clone(&asked), Arc::clone(&answer));
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes();
                        asked.lock().unwrap().push(Asked {
                            method: head.method,
                            path: head.uri.path().to_owned(),
                            headers: head.headers,
                            body: serde_json::from_slice(&body).unwrap_or_default(),
                        });
                        Ok::<_, Infallible>(answer.lock().unwrap().clone())
                    }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move { connection.await.ok() });
            }
        });
        server
    }

    fn answers(&self, status: u16, body: impl Into<Bytes>) {
        let mut response = Response::new(Full::new(body.into()));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = response;
    }

    fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    fn authenticators(&self, secrets: &Secrets, more: &str) -> Authenticators {
        let url = format!("http://{}/login", self.address);
        secrets.authenticators(&format!("  - {{name: sso, groups: [all], http: {{url: \"{url}\"{more}}}}}\n"))
    }
}

#[tokio::test]
async fn a_service_gets_the_name_and_the_password_and_says_yes() {
    let server = Server::start().await;
    let secrets = Secrets::of(&[("token", "s3cret\n")]);
    let sso = server.authenticators(&secrets, ", tokenKey: token");
    for (body, groups) in [
        ("", &["all"][..]),
        ("\r\n", &["all"]),
        ("{}", &["all"]),
        (r#"{"groups": [], "more": 1}"#, &["all"]),
        (
            r#"{"groups": ["team", "all", "no name!", "team", "", "ops@example"]}"#,
            &["all", "team", "ops@example"],
        ),
    ] {
        server.answers(200, body);
        assert_eq!(check(&sso, "ada", "correct \"hörse\"").await, right("sso", groups), "{body}");
    }
    let asked = server.asked().remove(0);
    assert_eq!((asked.method, asked.path.as_str()), (Method::POST, "/login"));
    assert_eq!(asked.headers[header::CONTENT_TYPE], "application/json");
    assert_eq!(asked.headers[header::AUTHORIZATION], "Bearer s3cret");
    assert_eq!(asked.body, json!({"username": "ada", "password": "correct \"hörse\""}));
    // A token that was rotated counts at once.
    secrets.write("token", "other");
    check(&sso, "ada", "x").await;
    assert_eq!(server.asked().pop().unwrap().headers[header::AUTHORIZATION], "Bearer other");
    // Nobody is asked about an empty password.
    assert_eq!(check(&sso, "ada", "").await, Verdict::Wrong);
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn a_service_says_no() {
    let server = Server::start().await;
    let sso = server.authenticators(&Secrets::new(), "");
    for (status, verdict) in [(401, Verdict::Wrong), (403, Verdict::Wrong), (404, Verdict::Unknown)] {
        server.answers(status, r#"{"groups": ["admins"]}"#);
        assert_eq!(check(&sso, "ada", "x").await, verdict);
    }
    assert!(server.asked().iter().all(|asked| !asked.headers.contains_key(header::AUTHORIZATION)));
}

fn unavailable(error: AuthenticatorError) -> ServiceError {
    match error {
        AuthenticatorError::Unavailable { name, source: SourceError::Service(error) }
            if name.as_str() == "sso" =>
        {
            error
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_neither_yes_nor_no_is_an_outage() {
    let server = Server::start().await;
    let sso = server.authenticators(&Secrets::new(), "");
    for status in [201, 204, 302, 307, 400, 429, 500, 503] {
        server.answers(status, "");
        let error = unavailable(failure(&sso, "ada", "x").await);
        assert!(matches!(error, ServiceError::Status(code) if code == status), "{error:?}");
    }
    for body in ["yes", r#"{"groups": "team"}"#, r#"{"groups": [1]}"#] {
        server.answers(200, body);
        let error = unavailable(failure(&sso, "ada", "x").await);
        assert!(matches!(error, ServiceError::Body(_)), "{body} {error:?}");
    }
    server.answers(200, " ".repeat(64 * 1024));
    assert_eq!(check(&sso, "ada", "x").await, right("sso", &["all"]));
    server.answers(200, " ".repeat(64 * 1024 + 1));
    assert!(matches!(unavailable(failure(&sso, "ada", "x").await), ServiceError::TooLong));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (server, elsewhere) = (Server::start().await, Server::start().await);
    elsewhere.answers(200, "");
    for status in [301, 302, 303, 307, 308] {
        server.answers(status, "");
        let location = format!("http://{}/", elsewhere.address).parse().unwrap();
        server.answer.lock().unwrap().headers_mut().insert(header::LOCATION, location);
        let sso = server.authenticators(&Secrets::new(), "");
        assert!(matches!(unavailable(failure(&sso, "ada", "x").await), ServiceError::Status(_)));
    }
    assert!(elsewhere.asked().is_empty());
    // A client that follows them is found out.
    let url = format!("http://{}/login", server.address);
    let configured = Secrets::new().configured(&format!("  - {{name: sso, http: {{url: \"{url}\"}}}}\n"));
    let careless = reqwest::Client::builder().no_proxy().build().unwrap();
    let sso = Authenticators::new(configured, careless, None, Arc::new(SystemClock), &Passwords::default())
        .unwrap();
    let error = failure(&sso, "ada", "x").await;
    assert!(matches!(error, AuthenticatorError::Misconfigured { .. }), "{error:?}");
}

#[tokio::test]
async fn a_service_that_is_down_or_silent_is_unavailable() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let sso = Secrets::new().authenticators(&format!("  - {{name: sso, http: {{url: \"{url}\"}}}}\n"));
    let began = std::time::Instant::now();
    let error = unavailable(failure(&sso, "ada", "x").await);
    assert!(matches!(error, ServiceError::NoAnswer(_)), "{error:?}");
    assert!((ANSWER_LIMIT..ANSWER_LIMIT * 3).contains(&began.elapsed()));
    drop(listener);
    let error = unavailable(failure(&sso, "ada", "hunter2").await);
    assert!(matches!(error, ServiceError::Http(_)) && !format!("{error:?}").contains("hunter2"), "{error:?}");
}

#[tokio::test]
async fn a_token_that_is_not_there_is_a_mistake_of_the_configuration() {
    let server = Server::start().await;
    let secrets = Secrets::new();
    let sso = server.authenticators(&secrets, ", tokenKey: token");
    assert!(matches!(failure(&sso, "ada", "x").await, AuthenticatorError::Misconfigured { .. }));
    secrets.write("token", "two\nlines");
    let error = failure(&sso, "ada", "x").await;
    assert!(
        matches!(error, AuthenticatorError::Misconfigured { .. }) && !format!("{error:?}").contains("lines")
    );
    assert!(server.asked().is_empty());
}
