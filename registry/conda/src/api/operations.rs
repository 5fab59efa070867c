//! What can be asked of the API, described for people and programs: one table, from which the `OpenAPI` document and the page
//! are made. A test compares it with the route table.

use serde_json::{Map, Value, json};

/// One thing that can be asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation {
    /// In lower case.
    pub(crate) method: &'static str,
    /// Below where the API is mounted.
    pub(crate) path: &'static str,
    /// What it is about.
    pub(crate) tag: &'static str,
    /// What it does.
    pub(crate) summary: &'static str,
    /// What may stand in the query; what has to, with a `!`.
    pub(crate) query: &'static [&'static str],
    /// What the body is.
    pub(crate) body: Content,
}

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// There is none.
    Nothing,
    /// JSON, such as this.
    Json(&'static str),
    /// A form with files in a field of this name.
    Files(&'static str),
    /// A package.
    Package,
}

use Content::{Files, Json, Nothing, Package};

const fn ask(
    method: &'static str,
    path: &'static str,
    tag: &'static str,
    summary: &'static str,
    query: &'static [&'static str],
    body: Content,
) -> Operation {
    Operation { method, path, tag, summary, query, body }
}

const PAGE: &[&str] = &["skip", "limit"];
const PAGE_OF_NAMES: &[&str] = &["skip", "limit", "q"];
const CHANNEL: &str =
    r#"{"name": "my-channel", "description": "Description for my-channel", "private": false}"#;
const KEY: &str =
    r#"{"description": "my-test-token", "roles": [{"role": "owner", "channel": "my-channel"}]}"#;
const MEMBER: &str = r#"{"username": "ada", "role": "maintainer"}"#;
const VERSIONS: &[&str] = &["time_created__ge", "version_match_str"];
const VERSIONS_PAGE: &[&str] = &["skip", "limit", "time_created__ge", "version_match_str"];
const SERIES: &[&str] = &["period", "metric_name", "start", "end"];

/// Every operation.
pub(crate) const OPERATIONS: &[Operation] = &[
    ask("get", "/api/me", "users", "Who one is", &[], Nothing),
    ask("get", "/api/users", "users", "All users; for most, themselves", &["q"], Nothing),
    ask("get", "/api/paginated/users", "users", "A page of users", PAGE_OF_NAMES, Nothing),
    ask("get", "/api/users/{user}", "users", "A user", &[], Nothing),
    ask("delete", "/api/users/{user}", "users", "Let a user log in no more", &[], Nothing),
    ask("get", "/api/users/{user}/role", "users", "A user's role on the server", &[], Nothing),
    ask(
        "put",
        "/api/users/{user}/role",
        "users",
        "Give a user a role on the server",
        &[],
        Json(r#"{"role": "member"}"#),
    ),
    ask(
        "get",
        "/api/users/{user}/channels",
        "users",
        "The channels that a user is a member of",
        &[],
        Nothing,
    ),
    ask("get", "/api/paginated/users/{user}/channels", "users", "A page of these", PAGE, Nothing),
    ask(
        "get",
        "/api/users/{user}/packages",
        "users",
        "The packages that a user is a member of",
        &[],
        Nothing,
    ),
    ask("get", "/api/paginated/users/{user}/packages", "users", "A page of these", PAGE, Nothing),
    ask(
        "get",
        "/api/api-keys",
        "API keys",
        "One's own keys; in place of a key stands its public id",
        &[],
        Nothing,
    ),
    ask("post", "/api/api-keys", "API keys", "Make a key, which is shown this once", &[], Json(KEY)),
    ask("delete", "/api/api-keys/{key}", "API keys", "End a key, by its text or its id", &[], Nothing),
    ask("get", "/api/channels", "channels", "The channels that one may read", &["q", "public"], Nothing),
    ask(
        "get",
        "/api/paginated/channels",
        "channels",
        "A page of these",
        &["skip", "limit", "q", "public"],
        Nothing,
    ),
    ask("post", "/api/channels", "channels", "Make a channel, and own it", &[], Json(CHANNEL)),
    ask("get", "/api/channels/{channel}", "channels", "A channel", &[], Nothing),
    ask(
        "patch",
        "/api/channels/{channel}",
        "channels",
        "Change a channel that was made here",
        &[],
        Json(r#"{"private": true}"#),
    ),
    ask(
        "delete",
        "/api/channels/{channel}",
        "channels",
        "Delete a channel that was made here, with its files",
        &[],
        Nothing,
    ),
    ask(
        "put",
        "/api/channels/{channel}/actions",
        "channels",
        "Ask for something to be done",
        &[],
        Json(r#"{"action": "reindex"}"#),
    ),
    ask("get", "/api/channels/{channel}/members", "channels", "The members", &[], Nothing),
    ask("post", "/api/channels/{channel}/members", "channels", "Make somebody a member", &[], Json(MEMBER)),
    ask(
        "delete",
        "/api/channels/{channel}/members",
        "channels",
        "Take somebody out of the members",
        &["username!"],
        Nothing,
    ),
    ask("get", "/api/channels/{channel}/packages", "packages", "All packages", &["q"], Nothing),
    ask(
        "get",
        "/api/paginated/channels/{channel}/packages",
        "packages",
        "A page of these",
        &["skip", "limit", "q", "order_by"],
        Nothing,
    ),
    ask(
        "post",
        "/api/channels/{channel}/packages",
        "packages",
        "Announce a package",
        &[],
        Json(r#"{"name": "acme"}"#),
    ),
    ask(
        "post",
        "/api/channels/{channel}/packages/copy",
        "packages",
        "Copy a package from another channel",
        &["source_channel!", "source_package!", "subdir!", "filename!"],
        Nothing,
    ),
    ask("get", "/api/channels/{channel}/packages/{package}", "packages", "A package", &[], Nothing),
    ask(
        "delete",
        "/api/channels/{channel}/packages/{package}",
        "packages",
        "Delete a package with its files",
        &[],
        Nothing,
    ),
    ask(
        "get",
        "/api/channels/{channel}/packages/{package}/members",
        "packages",
        "The package's members",
        &[],
        Nothing,
    ),
    ask(
        "post",
        "/api/channels/{channel}/packages/{package}/members",
        "packages",
        "Make somebody a member of the package",
        &[],
        Json(MEMBER),
    ),
    ask(
        "get",
        "/api/channels/{channel}/packages/{package}/versions",
        "packages",
        "The package's files, the newest version first",
        VERSIONS,
        Nothing,
    ),
    ask(
        "get",
        "/api/paginated/channels/{channel}/packages/{package}/versions",
        "packages",
        "A page of these",
        VERSIONS_PAGE,
        Nothing,
    ),
    ask(
        "get",
        "/api/channels/{channel}/packages/{package}/versions/{subdir}/{file}",
        "packages",
        "One file",
        &[],
        Nothing,
    ),
    ask(
        "delete",
        "/api/channels/{channel}/packages/{package}/versions/{subdir}/{file}",
        "packages",
        "Delete one file",
        &[],
        Nothing,
    ),
    ask(
        "put",
        "/api/channels/{channel}/packages/{package}/versions/{subdir}/{file}/yank",
        "packages",
        "Take one file out of the index",
        &[],
        Nothing,
    ),
    ask(
        "delete",
        "/api/channels/{channel}/packages/{package}/versions/{subdir}/{file}/yank",
        "packages",
        "Put it back",
        &[],
        Nothing,
    ),
    ask(
        "post",
        "/api/channels/{channel}/upload/{file}",
        "files",
        "Upload a package",
        &["sha256", "force"],
        Package,
    ),
    ask("post", "/api/channels/{channel}/files/", "files", "Upload packages", &[], Files("files")),
    ask(
        "post",
        "/api/channels/{channel}/packages/{package}/files/",
        "files",
        "Upload files of one package",
        &[],
        Files("files"),
    ),
    ask(
        "post",
        "/api/v1/upload/{channel}",
        "files",
        "Upload a package as prefix takes it",
        &["force"],
        Files("file"),
    ),
    ask(
        "put",
        "/get/{channel}/{subdir}/{file}",
        "files",
        "Upload a package as Artifactory takes it",
        &[],
        Package,
    ),
    ask("get", "/get/{channel}", "files", "The page of a channel, with a slash behind", &[], Nothing),
    ask("get", "/get/{channel}/", "files", "The page of a channel", &[], Nothing),
    ask("get", "/get/{channel}/{file}", "files", "A document of the whole channel", &[], Nothing),
    ask("get", "/get/{channel}/{subdir}/", "files", "The page of a subdir", &[], Nothing),
    ask(
        "get",
        "/api/channels/{channel}/synchronization",
        "channels",
        "How a mirror's synchronization goes",
        &[],
        Nothing,
    ),
    ask("post", "/api/channels/{channel}/synchronization", "channels", "Synchronize a mirror", &[], Nothing),
    ask("get", "/get/{channel}/{subdir}/{file}", "files", "An index, a shard or a package", &[], Nothing),
    ask("get", "/api/packages/search/", "search", "Packages by their names and more", &["q!"], Nothing),
    ask("get", "/api/channels/search/", "search", "Channels by their names and more", &["q!"], Nothing),
    ask(
        "get",
        "/api/jobs",
        "jobs",
        "Jobs, those that have not ended unless asked for others",
        &["status", "skip", "limit"],
        Nothing,
    ),
    ask(
        "post",
        "/api/jobs",
        "jobs",
        "Ask for a job",
        &[],
        Json(r#"{"manifest": "validate_packages", "items_spec": "*"}"#),
    ),
    ask("get", "/api/jobs/{job}", "jobs", "A job", &[], Nothing),
    ask("patch", "/api/jobs/{job}", "jobs", "Change a job", &[], Json(r#"{"status": "cancelled"}"#)),
    ask("get", "/api/jobs/{job}/tasks", "jobs", "A job's tasks", &["status", "skip", "limit"], Nothing),
    ask(
        "get",
        "/metrics/channels/{channel}",
        "metrics",
        "Downloads of all packages",
        &["period", "metric_name", "platform", "start", "end"],
        Nothing,
    ),
    ask(
        "get",
        "/metrics/channels/{channel}/packages/{package}/versions/{subdir}/{file}",
        "metrics",
        "Downloads of one file",
        SERIES,
        Nothing,
    ),
    ask(
        "get",
        "/api/channels/{channel}/packages/{package}/versions/{platform}/{file}/run_exports",
        "plugins",
        "What the package exports to those that are built with it",
        &[],
        Nothing,
    ),
    ask(
        "get",
        "/api/channels/{channel}/{subdir}/conda-suggest",
        "plugins",
        "Which package brings which command",
        &[],
        Nothing,
    ),
    ask(
        "get",
        "/api/content-trust/{channel}/roles",
        "plugins",
        "Who may sign the channel's packages",
        &["type"],
        Nothing,
    ),
    ask(
        "post",
        "/api/content-trust/{channel}/roles",
        "plugins",
        "Say who may sign",
        &["type!", "force"],
        Files("file"),
    ),
    ask(
        "post",
        "/api/content-trust/{channel}/new-key",
        "plugins",
        "Make a key to sign with",
        &["secret"],
        Nothing,
    ),
    ask("get", "/api/tos", "plugins", "The terms of service", &["lang"], Nothing),
    ask("get", "/api/tos/status", "plugins", "Whether you have signed them", &[], Nothing),
    ask("post", "/api/tos/sign", "plugins", "Sign them", &["tos_id"], Nothing),
    ask(
        "post",
        "/api/tos/upload",
        "plugins",
        "New terms, which everybody has to sign anew",
        &["lang"],
        Files("tos_files"),
    ),
    ask(
        "get",
        "/api/dummylogin/{user}",
        "dev",
        "Log in as a test user, where `granary dev` serves",
        &[],
        Nothing,
    ),
    ask("get", "/openapi.json", "documents", "This document", &[], Nothing),
    ask("get", "/docs", "documents", "The same for people", &[], Nothing),
];

fn parameter(name: &str, place: &str, required: bool) -> Value {
    json!({ "name": name, "in": place, "required": required, "schema": { "type": "string" } })
}

fn described(operation: &Operation) -> Value {
    let in_path =
        operation.path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let in_query = operation.query.iter().map(|name| match name.strip_suffix('!') {
        Some(name) => parameter(name, "query", true),
        None => parameter(name, "query", false),
    });
    let parameters: Vec<Value> = in_path.map(|name| parameter(name, "path", true)).chain(in_query).collect();
    let binary = json!({ "type": "string", "format": "binary" });
    let content = match operation.body {
        Nothing => None,
        Json(example) => {
            let example: Value = serde_json::from_str(example).unwrap_or_default();
            Some(json!({ "application/json": { "schema": { "type": "object" }, "example": example } }))
        }
        Files(field) => {
            let files = json!({ "type": "array", "items": binary });
            let schema = json!({ "type": "object", "properties": { field: files }, "required": [field] });
            Some(json!({ "multipart/form-data": { "schema": schema } }))
        }
        Package => Some(json!({ "application/octet-stream": { "schema": binary } })),
    };
    let problem = json!({ "description": "Why not, in `detail`" });
    let mut described = json!({
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": parameters,
        "responses": { "2XX": { "description": "Done" }, "4XX": problem },
    });
    if let (Some(content), Some(map)) = (content, described.as_object_mut()) {
        map.insert("requestBody".to_owned(), json!({ "required": true, "content": content }));
    }
    described
}

/// The `OpenAPI` document.
pub(crate) fn openapi(version: &str) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in OPERATIONS {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(operation.method.to_owned(), described(operation));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Granary: conda channels", "version": version },
        // Relative to where the document is.
        "servers": [{ "url": "." }],
        "components": { "securitySchemes": {
            "key": { "type": "apiKey", "in": "header", "name": "X-API-Key" },
            "bearer": { "type": "http", "scheme": "bearer" },
            "basic": { "type": "http", "scheme": "basic" },
        } },
        "security": [{}, { "key": [] }, { "bearer": [] }, { "basic": [] }],
        "paths": paths,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn every_operation_is_described_and_its_example_is_json() {
        let document = openapi("1");
        for operation in OPERATIONS {
            let described = &document["paths"][operation.path][operation.method];
            assert_eq!(described["summary"], operation.summary, "{operation:?}");
            if let Json(example) = operation.body {
                serde_json::from_str::<Value>(example).unwrap();
            }
        }
        let copy = &document["paths"]["/api/channels/{channel}/packages/copy"]["post"];
        assert_eq!(copy["parameters"].as_array().unwrap().len(), 5);
    }
}
