#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use http::{Method, StatusCode};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

use super::*;
use crate::labels::{Component, labels};
use crate::scenario::{Step, scenario};

const JOBS: &str = "/apis/batch/v1/namespaces/team/jobs";
const JOB: &str = "/apis/batch/v1/namespaces/team/jobs/main-migrate-1";
const POLICY: &str = "/apis/networking.k8s.io/v1/namespaces/team/networkpolicies/main";

fn job(name: &str, status: &Value) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "status": status,
        "metadata": {"name": name, "namespace": "team", "labels": labels("main", Component::Migrate)},
    })
}

fn wanted() -> Job {
    serde_json::from_value(job("main-migrate-1", &json!({}))).unwrap()
}

fn metadata(labels: &Value) -> Value {
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
           "metadata": {"name": "main", "namespace": "team", "labels": labels}})
}

#[tokio::test]
async fn a_job_is_made_once_and_then_watched() {
    let failed =
        json!({"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]});
    let complete = json!({"conditions": [{"type": "Complete", "status": "True"}]});
    for (status, expected) in [
        (json!({}), JobState::Running),
        (complete, JobState::Succeeded),
        (failed, JobState::Failed("BackoffLimitExceeded".into())),
    ] {
        let (client, server) = scenario(vec![Step::new(Method::GET, JOB, job("main-migrate-1", &status))]);
        assert_eq!(run_job(&client, &wanted()).await.unwrap(), expected);
        server.await.unwrap();
    }
    let (client, server) = scenario(vec![
        Step::failing(Method::GET, JOB, StatusCode::NOT_FOUND, "NotFound"),
        Step::failing(Method::POST, JOBS, StatusCode::CONFLICT, "AlreadyExists"),
    ]);
    assert_eq!(run_job(&client, &wanted()).await.unwrap(), JobState::Running);
    server.await.unwrap();
}

#[tokio::test]
async fn jobs_that_nobody_wants_go_unless_they_are_done() {
    let list = json!({"apiVersion": "batch/v1", "kind": "JobList", "metadata": {}, "items": [
        job("main-migrate-1", &json!({})),
        job("main-migrate-2", &json!({"succeeded": 1})),
        job("main-migrate-3", &json!({"active": 1})),
    ]});
    let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Success"});
    let (client, server) = scenario(vec![
        Step::new(Method::GET, JOBS, list),
        Step::new(Method::DELETE, "/apis/batch/v1/namespaces/team/jobs/main-migrate-3", gone),
    ]);
    remove_other_jobs(&client, &wanted()).await.unwrap();
    server.await.unwrap();
}

#[tokio::test]
async fn what_is_no_longer_wanted_goes_if_it_is_ours() {
    let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Success"});
    let ours = metadata(&json!(labels("main", Component::Registry)));
    let scenarios = [
        vec![Step::new(Method::GET, POLICY, ours), Step::new(Method::DELETE, POLICY, gone)],
        vec![Step::new(Method::GET, POLICY, metadata(&json!({"app": "theirs"})))],
        vec![Step::failing(Method::GET, POLICY, StatusCode::NOT_FOUND, "NotFound")],
    ];
    for steps in scenarios {
        let (client, server) = scenario(steps);
        let target = Target { client: &client, namespace: "team" };
        target.apply_or_remove::<NetworkPolicy>(None, "main").await.unwrap();
        server.await.unwrap();
    }
}

#[tokio::test]
async fn a_refusal_says_which_object_and_why() {
    let (client, server) =
        scenario(vec![Step::failing(Method::PATCH, POLICY, StatusCode::FORBIDDEN, "Forbidden")]);
    let policy: NetworkPolicy =
        serde_json::from_value(json!({"metadata": {"name": "main"}, "spec": {"podSelector": {}}})).unwrap();
    let target = Target { client: &client, namespace: "team" };
    let error = target.apply(&policy).await.unwrap_err();
    assert_eq!(error.code(), "ApplyForbidden");
    assert_eq!(error.to_string(), "the NetworkPolicy main cannot be applied");
    server.await.unwrap();
}
