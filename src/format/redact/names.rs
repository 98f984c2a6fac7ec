//! Which names are those of secrets.
//!
//! Case, `-`, `_`, `.` and blanks do not matter: `X-Api-Key`, `api_key` and `apiKey` are one name.

/// Whether a header field, a parameter or a member of this name holds a secret.
pub(crate) fn is_secret(name: &str) -> bool {
    let name: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    ANYWHERE.iter().any(|part| name.contains(part)) || WHOLE.contains(&name.as_str())
}

/// The same for a parameter in a URL, where short names are common: keys of APIs, codes of OAuth (RFC 6749 §4.1.2).
pub(crate) fn is_secret_in_url(name: &str) -> bool {
    is_secret(name) || IN_URLS.iter().any(|word| name.eq_ignore_ascii_case(word))
}

/// Parts of names.
const ANYWHERE: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "authkey",
    "sessionkey",
    "subscriptionkey",
    "credential",
    "authorization",
    "sessionid",
    "signature",
    "csrf",
    "xsrf",
    "jwt",
    "bearer",
    "otpcode",
    "creditcard",
    "cardnumber",
];

/// Names that are too short to be looked for inside others.
const WHOLE: &[&str] = &[
    "pass",
    "pwd",
    "pin",
    "otp",
    "auth",
    "sid",
    "sig",
    "ssn",
    "cvv",
    "cvc",
    "session",
    "phpsessid",
    "jsessionid",
    "xauth",
    "samlresponse",
    "samlrequest",
    "assertion",
    "clientassertion",
    "codeverifier",
    "nonce",
    "totp",
    "iban",
];

/// Names that mean other things elsewhere: `{"code": 404, "key": "size"}`.
const IN_URLS: &[&str] = &["key", "code", "hash", "hmac"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known_in_any_spelling() {
        for name in [
            "X-Api-Key",
            "api_key",
            "apiKey",
            "access_token",
            "X-CSRF-Token",
            "Password",
            "new-password",
            "client_secret",
            "PHPSESSID",
            "X-Amz-Signature",
            "X-Amz-Credential",
            "sid",
            "pwd",
            "Ocp-Apim-Subscription-Key",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in [
            "Accept",
            "Sec-WebSocket-Key",
            "key",
            "code",
            "author",
            "passenger",
            "side",
            "Idempotency-Key",
            "",
        ] {
            assert!(!is_secret(name), "{name}");
        }
        assert!(is_secret_in_url("key") && is_secret_in_url("Code") && !is_secret_in_url("keyword"));
    }
}
