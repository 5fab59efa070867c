#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use http::{Method, StatusCode};

use super::*;
use crate::scenario::{Step, scenario};

const SECRETS: &str = "/api/v1/namespaces/team/secrets";
const SECRET: &str = "/api/v1/namespaces/team/secrets/main-database";

fn registry() -> RegistryObject {
    serde_json::from_value(json!({
        "apiVersion": "granary.dev/v1alpha1", "kind": "PackageRegistry",
        "metadata": {"name": "main", "namespace": "team", "uid": "u"}, "spec": {},
    }))
    .unwrap()
}

fn secret(data: &serde_json::Value) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "main-database"}, "data": data})
}

/// `kept`, as Secrets hold it.
fn kept() -> serde_json::Value {
    json!({"owner-password": "a2VwdA==", "app-password": "a2VwdA=="})
}

async fn ensure(client: &Client) -> Result<Generated, kube::Error> {
    ensure_random(client, &registry(), "main-database", Component::Registry, &DATABASE_PASSWORDS).await
}

#[tokio::test]
async fn what_is_there_is_kept() {
    let (client, server) = scenario(vec![Step::new(Method::GET, SECRET, secret(&kept()))]);
    let found = ensure(&client).await.unwrap();
    assert!(!found.is_new);
    assert_eq!(found.get("app-password").expose_secret(), "kept");
    server.await.unwrap();
}

#[tokio::test]
async fn of_two_who_draw_one_wins() {
    let (client, server) = scenario(vec![
        Step::failing(Method::GET, SECRET, StatusCode::NOT_FOUND, "NotFound"),
        Step::failing(Method::POST, SECRETS, StatusCode::CONFLICT, "AlreadyExists"),
        Step::new(Method::GET, SECRET, secret(&kept())),
    ]);
    let found = ensure(&client).await.unwrap();
    assert!(!found.is_new);
    assert_eq!(found.get("owner-password").expose_secret(), "kept");
    server.await.unwrap();
}

#[tokio::test]
async fn only_what_is_missing_is_drawn() {
    let half = json!({"owner-password": "a2VwdA=="});
    let (client, server) = scenario(vec![
        Step::new(Method::GET, SECRET, secret(&half)),
        Step::new(Method::PATCH, SECRET, secret(&kept())),
        Step::new(Method::GET, SECRET, secret(&kept())),
    ]);
    assert!(ensure(&client).await.unwrap().is_new);
    server.await.unwrap();
}
