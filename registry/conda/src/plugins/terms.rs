//! Terms of service: an admin uploads them, and who has not signed the last ones uploads nothing to channels that ask for it.

use std::sync::Arc;

use granary_core::Action;
use granary_http::{Body, Call, Refusal, respond};
use granary_store::DbError;
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::form;
use crate::state::Conda;

/// Terms, without their texts.
struct Terms {
    id: Uuid,
    uploaded_by: String,
    uploaded_at: Timestamp,
}

/// A time as Quetz tells it: in UTC, without saying so.
fn time(at: Timestamp) -> String {
    at.to_zoned(jiff::tz::TimeZone::UTC).datetime().to_string()
}

fn json_response(status: StatusCode, value: &Value) -> Result<Response<Body>, Refusal> {
    respond::json(status, value).map_err(Refusal::internal)
}

/// `GET /api/tos?lang=…`: the last terms; in one language, where they are there in it.
pub(super) async fn current(state: Arc<Conda>, call: Call) -> Result<Response<Body>, Refusal> {
    let terms = state.terms(None).await?;
    let terms = terms.ok_or_else(|| Refusal::not_found("terms of service not found"))?;
    let rows = state.store.database().query(&state.plugins.sql.terms_files, &[&terms.id]).await?;
    let file = |row: &tokio_postgres::Row| {
        let (language, filename, content): (String, String, String) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok((language.clone(), json!({"content": content, "filename": filename, "language": language})))
    };
    let files: Vec<(String, Value)> = rows.iter().map(file).collect::<Result<_, DbError>>()?;
    let wanted =
        call.arrival.query.first("lang").filter(|lang| files.iter().any(|(language, _)| language == lang));
    let files = files.into_iter().filter(|(language, _)| wanted.is_none_or(|wanted| wanted == language));
    let files: Vec<Value> = files.map(|(_, file)| file).collect();
    let told = json!({"id": terms.id, "uploader_id": terms.uploaded_by, "files": files, "time_created": time(terms.uploaded_at)});
    json_response(StatusCode::OK, &told)
}

/// `GET /api/tos/status`: when the caller has signed the last terms; `null` when they have not. 201, as Quetz has it.
pub(super) async fn status(state: Arc<Conda>, call: Call) -> Result<Response<Body>, Refusal> {
    let terms = state.terms(None).await?.ok_or_else(no_terms)?;
    let signer = call.caller.actor();
    let told = state
        .signed_at(terms.id, &signer)
        .await?
        .map_or(Value::Null, |at| json!({"tos_id": terms.id, "user_id": signer, "time_created": time(at)}));
    json_response(StatusCode::CREATED, &told)
}

fn no_terms() -> Refusal {
    Refusal::not_found("terms of service file not found")
}

/// `POST /api/tos/sign?tos_id=…`: the caller signs these terms, or the last ones.
pub(super) async fn sign(state: Arc<Conda>, call: Call) -> Result<Response<Body>, Refusal> {
    let named = call.arrival.query.first("tos_id").filter(|id| !id.is_empty());
    let id: Option<Uuid> = named
        .map(|id| {
            id.parse().map_err(|_| Refusal::forbidden(format!("{id} is not a valid hexadecimal string")))
        })
        .transpose()?;
    let terms = state.terms(id).await?.ok_or_else(|| match id {
        Some(id) => Refusal::not_found(format!("terms of service with id {id} not found")),
        None => no_terms(),
    })?;
    let signer = call.caller.actor();
    let now = state.store.clock().now();
    let tx = state.store.begin().await?;
    let signed = tx.execute(&state.plugins.sql.sign_terms, &[&terms.id, &signer, &now]).await?;
    if signed == 0 {
        tx.rollback().await?;
        let before = state.signed_at(terms.id, &signer).await?.unwrap_or(now);
        return json_response(
            StatusCode::CREATED,
            &format!("TOS already signed for {signer} at {}.", time(before)).into(),
        );
    }
    tx.audit(&call.audit_entry("sign-terms", None, json!({"terms": terms.id}))).await?;
    tx.commit().await?;
    json_response(StatusCode::CREATED, &format!("TOS signed for {signer}").into())
}

/// `POST /api/tos/upload?lang=en&lang=fr`: new terms, one file a language in the form's `tos_files`.
pub(super) async fn upload(state: Arc<Conda>, mut call: Call) -> Result<Response<Body>, Refusal> {
    let languages: Vec<String> = call.arrival.query.all("lang").map(str::to_owned).collect();
    let files = form::files(&mut call, "tos_files").await?;
    if languages.len() != files.len() {
        let languages = languages.join(", ");
        let message =
            format!("Number of languages '{languages}' does not match the number of uploaded files");
        return Err(Refusal::bad_request(message));
    }
    if languages.iter().any(|language| language.contains('\0')) {
        return Err(Refusal::bad_request("a language is not text"));
    }
    let now = state.store.clock().now();
    let tx = state.store.begin().await?;
    let row = tx.query_opt(&state.plugins.sql.insert_terms, &[&call.caller.actor(), &now]).await?;
    let row = row.ok_or_else(|| DbError::decode("terms", "no row came back"))?;
    let id: Uuid = row.try_get(0).map_err(DbError::from)?;
    for (position, (language, file)) in (0_i32..).zip(languages.iter().zip(&files)) {
        tx.execute(&state.plugins.sql.insert_terms_file, &[&id, &position, language, &file.name, &file.text])
            .await?;
    }
    tx.audit(&call.audit_entry("upload-terms", None, json!({ "terms": id }))).await?;
    tx.commit().await?;
    json_response(StatusCode::CREATED, &Value::Null)
}

impl Conda {
    /// Refuses who has yet to sign the last terms, on a channel that asks for it. Its owners need not.
    pub(crate) async fn check_terms(&self, call: &Call) -> Result<(), Refusal> {
        let channel = call.channel()?;
        let is_asked = channel.settings.conda.terms_of_service;
        if !is_asked || channel.allows(&call.caller.principal, Action::Administer, None) {
            return Ok(());
        }
        let Some(terms) = self.terms(None).await? else { return Ok(()) };
        let signer = call.caller.actor();
        match self.signed_at(terms.id, &signer).await? {
            Some(_) => Ok(()),
            None => Err(Refusal::forbidden(format!("terms of service is not signed for {signer}"))),
        }
    }

    /// The terms of this id, or the last ones.
    async fn terms(&self, id: Option<Uuid>) -> Result<Option<Terms>, DbError> {
        let row = self.store.database().query_opt(&self.plugins.sql.terms, &[&id]).await?;
        let read = |row: tokio_postgres::Row| {
            Ok(Terms { id: row.try_get(0)?, uploaded_by: row.try_get(1)?, uploaded_at: row.try_get(2)? })
        };
        row.map(read).transpose()
    }

    async fn signed_at(&self, terms: Uuid, signer: &str) -> Result<Option<Timestamp>, DbError> {
        let sql = &self.plugins.sql.terms_signature;
        let row = self.store.database().query_opt(sql, &[&terms, &signer]).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }
}
