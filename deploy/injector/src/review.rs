//! AdmissionReview v1: what the API server asks, and what it is answered.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::inject::{Decision, Outcome};
use crate::patch::Operation;

/// What the API server cuts warnings to, one and all together (`k8s.io/apiserver`, warnings of webhooks).
const MAX_WARNING: usize = 256;
const MAX_WARNINGS: usize = 4096;
/// The HTTP code of a refusal.
const FORBIDDEN: u16 = 403;

/// What is asked. Only what is needed is read; what else there is, of later versions too, does not matter.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// To be repeated in the answer.
    pub uid: String,
    /// What it is about.
    pub resource: Resource,
    /// `ephemeralcontainers`, say.
    #[serde(default)]
    pub sub_resource: Option<String>,
    /// `CREATE`, `UPDATE` …
    pub operation: String,
    /// The pod's namespace; the pod itself may not name it yet.
    #[serde(default)]
    pub namespace: String,
    /// The pod; null when something is deleted.
    #[serde(default)]
    pub object: Value,
    /// What it was before an update.
    #[serde(default)]
    pub old_object: Value,
    /// Nothing will be stored, so nothing may be done beside.
    #[serde(default)]
    pub dry_run: Option<bool>,
}

/// Group and plural name.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Resource {
    /// Empty for the core group.
    #[serde(default)]
    pub group: String,
    /// `pods`
    pub resource: String,
}

/// What is to happen to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodEvent {
    /// It is decided about.
    Created,
    /// It stays what it is.
    Updated,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    kind: String,
    request: Option<Request>,
}

/// Why a request is no AdmissionReview. The sentence is the answer.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// Not JSON, or not of that shape.
    #[error("this is no AdmissionReview: {0}")]
    Json(#[from] serde_json::Error),
    /// Another kind or version.
    #[error("this is no AdmissionReview of admission.k8s.io/v1, but {0} of {1}")]
    Kind(String, String),
    /// An answer, say.
    #[error("this AdmissionReview has no request")]
    NoRequest,
}

impl Request {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// If it is no AdmissionReview v1 with a request in it.
    pub fn read(body: &[u8]) -> Result<Self, Malformed> {
        let review: Review = serde_json::from_slice(body)?;
        if review.kind != "AdmissionReview" || review.api_version != "admission.k8s.io/v1" {
            return Err(Malformed::Kind(
                shown(&review.kind),
                shown(&review.api_version),
            ));
        }
        review.request.ok_or(Malformed::NoRequest)
    }

    /// What is to happen to a pod. None for anything else, which the webhook is not registered for.
    #[must_use]
    pub fn event(&self) -> Option<PodEvent> {
        let is_pod = self.resource.group.is_empty()
            && self.resource.resource == "pods"
            && self.sub_resource.as_deref().is_none_or(str::is_empty);
        match self.operation.as_str() {
            "CREATE" if is_pod => Some(PodEvent::Created),
            "UPDATE" if is_pod => Some(PodEvent::Updated),
            _ => None,
        }
    }

    /// Lets through what this webhook is not for.
    #[must_use]
    pub fn allow_unknown(&self) -> Value {
        let what = match self.sub_resource.as_deref() {
            Some(sub) if !sub.is_empty() => format!("{}/{sub}", self.resource.resource),
            _ => self.resource.resource.clone(),
        };
        let warning = format!(
            "tars-injector is for pods that are created or updated, and was asked about {} of {}: check the rules of its webhook",
            shown(&self.operation),
            shown(&what)
        );
        self.answer(Response {
            warnings: vec![warning],
            ..Response::default()
        })
    }

    /// Answers what was decided.
    ///
    /// # Errors
    /// If the patch cannot be written, which a patch made of JSON always can.
    pub fn answered(&self, outcome: &Outcome) -> Result<Value, serde_json::Error> {
        let mut response = Response {
            warnings: within(&outcome.warnings),
            ..Response::default()
        };
        if let Decision::Refused(why) = &outcome.decision {
            let message = format!("tars-injector: {why}");
            response.status = Some(json!({"code": FORBIDDEN, "message": message}));
        } else if !outcome.patch.is_empty() {
            response.patch(&outcome.patch)?;
        }
        Ok(self.answer(response))
    }

    /// Answers with these changes, or none.
    ///
    /// # Errors
    /// As [`answered`](Self::answered).
    pub fn patched(&self, patch: &[Operation]) -> Result<Value, serde_json::Error> {
        let mut response = Response::default();
        if !patch.is_empty() {
            response.patch(patch)?;
        }
        Ok(self.answer(response))
    }

    fn answer(&self, mut response: Response) -> Value {
        response.uid.clone_from(&self.uid);
        response.allowed = response.status.is_none();
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
    }
}

/// What is answered.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    /// Of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

impl Response {
    fn patch(&mut self, patch: &[Operation]) -> Result<(), serde_json::Error> {
        self.patch_type = Some("JSONPatch");
        self.patch = Some(STANDARD.encode(serde_json::to_vec(patch)?));
        Ok(())
    }
}

/// Warnings as far as the API server takes them.
fn within(warnings: &[String]) -> Vec<String> {
    let mut room = MAX_WARNINGS;
    let cut = warnings.iter().map(|warning| first(warning, MAX_WARNING));
    cut.take_while(|warning| {
        let fits = warning.len() <= room;
        room = room.saturating_sub(warning.len());
        fits
    })
    .collect()
}

/// At most so many bytes, and whole characters.
fn first(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let end = (0..=bytes - '…'.len_utf8())
        .rev()
        .find(|end| text.is_char_boundary(*end));
    format!("{}…", text.get(..end.unwrap_or(0)).unwrap_or(""))
}

/// What somebody else wrote, short enough to be repeated.
fn shown(text: &str) -> String {
    first(text, 64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    fn review(request: &Value) -> Vec<u8> {
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
        serde_json::to_vec(&review).unwrap()
    }

    fn pods(operation: &str) -> Value {
        json!({"uid": "u", "resource": {"group": "", "version": "v1", "resource": "pods"}, "operation": operation, "object": {}})
    }

    #[test]
    fn only_pods() {
        let event = |operation| Request::read(&review(&pods(operation))).unwrap().event();
        assert_eq!(event("CREATE"), Some(PodEvent::Created));
        assert_eq!(event("UPDATE"), Some(PodEvent::Updated));
        let mut others = [pods("DELETE"), pods("CREATE"), pods("CREATE")];
        others[1]["subResource"] = json!("ephemeralcontainers");
        others[2]["resource"] = json!({"group": "apps", "resource": "deployments"});
        for other in others {
            let request = Request::read(&review(&other)).unwrap();
            assert_eq!(request.event(), None);
            let answer = request.allow_unknown();
            assert_eq!(
                (&answer["response"]["allowed"], &answer["response"]["uid"]),
                (&json!(true), &json!("u"))
            );
            assert!(
                answer["response"]["warnings"][0]
                    .as_str()
                    .unwrap()
                    .contains("check the rules")
            );
        }
    }

    #[test]
    fn what_is_no_review() {
        let deep = "[".repeat(100_000);
        for body in [
            "",
            "{",
            "null",
            "[]",
            r#"{"apiVersion":"v1","kind":"Pod"}"#,
            r#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":null}"#,
            r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{}}"#,
            r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":1}}"#,
            deep.as_str(),
        ] {
            let error = Request::read(body.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("this "), "{error}");
        }
    }

    #[test]
    fn warnings_are_cut_as_the_api_server_would() {
        let long = "é".repeat(200);
        let warnings = within(&vec![long; 40]);
        assert!(
            warnings
                .iter()
                .all(|warning| warning.len() <= MAX_WARNING && warning.ends_with('…'))
        );
        assert!(warnings.iter().map(String::len).sum::<usize>() <= MAX_WARNINGS);
        assert!(warnings.len() >= 15);
        assert_eq!(within(&["short".to_owned()]), ["short"]);
    }
}
