//! CHAP in requests and answers: secrets go in and never come out.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroize;

/// A secret of 12 to 255 bytes. Only requests carry it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(format = "password")]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// What has to be proven at a login, without the secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Chap {
    /// User name; none for the initiator's own name.
    pub user: Option<String>,
    /// The group proves itself, too, to an initiator that asks.
    pub mutual: bool,
    /// User name of the group then.
    #[serde(default)]
    pub mutual_user: Option<String>,
}

/// What is to be proven from the next login on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetChap {
    /// User name; the initiator's own name if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What the initiator has to prove to know.
    pub secret: Secret,
    /// What the group proves to know to an initiator that asks (mutual CHAP).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutual: Option<SetMutual>,
}

/// What the group proves to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetMutual {
    /// User name of the group; `palisade` if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The secret; another one than the initiator's.
    pub secret: Secret,
}

/// What discovery demands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Discovery {
    /// What everybody has to prove, though a host's own secret will do, too; none for nothing.
    pub chap: Option<Chap>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_in_requests_and_never_printed() {
        let request = SetChap { user: None, secret: Secret("twelve bytes".to_owned()), mutual: None };
        assert_eq!(serde_json::to_string(&request).unwrap(), r#"{"secret":"twelve bytes"}"#);
        assert!(!format!("{request:?}").contains("twelve"));
    }
}
