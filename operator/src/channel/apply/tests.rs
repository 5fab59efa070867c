#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use http::{Method, StatusCode};
use prometheus_client::registry::Registry;

use super::*;
use crate::metrics::Metrics;
use crate::registry::Defaults;
use crate::scenario::{Step, scenario};

const PATH: &str = "/apis/granary.dev/v1alpha1/namespaces/team/channels/tools";

fn channel(finalizers: &[&str]) -> ChannelObject {
    serde_json::from_value(json!({
        "apiVersion": "granary.dev/v1alpha1", "kind": "Channel",
        "metadata": {"name": "tools", "namespace": "team", "resourceVersion": "7", "finalizers": finalizers},
        "spec": {"format": "pypi", "registryRef": {"name": "main"}},
    }))
    .unwrap()
}

fn operator(client: kube::Client) -> Operator {
    let defaults =
        Defaults { image: "granary:1".into(), store_image: "store:1".into(), image_pull_policy: None };
    Operator::new(client, defaults, Metrics::new(&mut Registry::default()), "operator-0".into(), Vec::new())
}

#[tokio::test]
async fn the_finalizer_is_added_beside_others_and_only_to_the_object_that_was_seen() {
    let patch = json!({"metadata": {"finalizers": ["other.example/x", FINALIZER], "resourceVersion": "7"}});
    let object = channel(&["other.example/x"]);
    let (client, server) = scenario(vec![
        Step::new(Method::PATCH, PATH, serde_json::to_value(&object).unwrap()).with_body(patch),
    ]);
    ensure_finalizer(&operator(client), &object).await.unwrap();
    server.await.unwrap();
}

#[tokio::test]
async fn an_object_that_has_the_finalizer_is_not_written_to() {
    let (client, server) = scenario(Vec::new());
    ensure_finalizer(&operator(client), &channel(&[FINALIZER])).await.unwrap();
    server.await.unwrap();
}

#[tokio::test]
async fn another_writer_is_not_overtaken() {
    let (client, server) =
        scenario(vec![Step::failing(Method::PATCH, PATH, StatusCode::CONFLICT, "Conflict")]);
    let error = ensure_finalizer(&operator(client), &channel(&[])).await.unwrap_err();
    assert!(matches!(error, kube::Error::Api(status) if status.is_conflict()));
    server.await.unwrap();
}

#[tokio::test]
async fn the_finalizer_goes_and_others_stay() {
    let patch = json!({"metadata": {"finalizers": ["other.example/x"], "resourceVersion": "7"}});
    let object = channel(&[FINALIZER, "other.example/x"]);
    let (client, server) = scenario(vec![
        Step::new(Method::PATCH, PATH, serde_json::to_value(&object).unwrap()).with_body(patch),
    ]);
    remove_finalizer(&operator(client), &object).await.unwrap();
    server.await.unwrap();
}

#[tokio::test]
async fn an_object_that_is_gone_already_is_well() {
    let (client, server) =
        scenario(vec![Step::failing(Method::PATCH, PATH, StatusCode::NOT_FOUND, "NotFound")]);
    remove_finalizer(&operator(client), &channel(&[FINALIZER])).await.unwrap();
    server.await.unwrap();
}

#[tokio::test]
async fn a_channel_whose_registry_nobody_knows_is_let_go_without_touching_anything() {
    let (client, server) = scenario(Vec::new());
    let key = Key { namespace: "team".into(), name: "tools".into() };
    assert!(retire(&operator(client), &key, &channel(&[FINALIZER])).await.is_ok());
    server.await.unwrap();
}
