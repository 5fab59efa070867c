//! What every reader of a form (`multipart/form-data`) needs.

use http::StatusCode;
use multer::{Error, Field};

use crate::{Refusal, RequestBodyError};

/// The whole of a text field, of at most `limit` bytes.
///
/// # Errors
/// Where it is longer, no UTF-8, or does not come.
pub async fn text(mut field: Field<'_>, limit: usize) -> Result<String, Refusal> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(refusal)? {
        if bytes.len() + chunk.len() > limit {
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "a field of the form is too long"));
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).map_err(|_| Refusal::bad_request("a field of the form is not UTF-8"))
}

/// What broke while the form was read: the body underneath, or the form's own grammar.
pub fn refusal(error: Error) -> Refusal {
    if let Error::StreamReadFailed(cause) = error {
        return match cause.downcast::<std::io::Error>().map(|error| error.into_inner()) {
            Ok(Some(inner)) => match inner.downcast::<RequestBodyError>() {
                Ok(error) => Refusal::from(*error),
                Err(_) => Refusal::bad_request("the form could not be read"),
            },
            _ => Refusal::bad_request("the form could not be read"),
        };
    }
    Refusal::bad_request(format!("the form is malformed: {error}"))
}
