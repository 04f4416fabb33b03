//! Invalid configurations.

use std::time::Duration;

use inqud_api::{ApiClient, ConfigError, Credentials};
use tower_inqud::EventKind;

use crate::support::signed;

fn url(url: &str) -> Result<(), ConfigError> {
    ApiClient::builder(signed()).base_url(url).build(()).map(drop)
}

#[test]
fn requires_https_unless_the_host_is_this_machine() {
    for right in [
        "https://api.inqud.com",
        "https://api.inqud.com:8443/base/",
        "http://localhost:3000",
        "http://LOCALHOST",
        "http://127.0.0.1:3000",
        "http://127.9.9.9",
        "http://[::1]:3000",
    ] {
        assert_eq!(url(right), Ok(()), "{right}");
    }
    for host in ["api.inqud.com", "localhost.example.com", "10.0.0.1", "127.0.0.1.example.com"] {
        let unencrypted = format!("http://{host}/");
        assert_eq!(url(&unencrypted), Err(ConfigError::Unencrypted(host.to_owned())));
        let allowed = ApiClient::builder(signed()).base_url(unencrypted).allow_unencrypted();
        assert!(allowed.build(()).is_ok());
    }
    for wrong in [
        "",
        "/v1",
        "api.inqud.com",
        "ftp://api.inqud.com",
        "https://user:password@api.inqud.com",
        "https://api.inqud.com/?a=b",
        "https://api.inqud.com/#a",
        "https://api.inqud.com/../x",
        "https://",
    ] {
        assert_eq!(url(wrong), Err(ConfigError::InvalidBaseUrl), "{wrong}");
    }
}

#[test]
fn rejects_paths_that_reach_no_object() {
    let build =
        |kind, path: &str| ApiClient::builder(signed()).path(kind, path).build(()).map(drop);
    for right in ["/{id}", "/v2/payments/{id}/full", "/search?id={id}"] {
        assert_eq!(build(EventKind::Payment, right), Ok(()), "{right}");
    }
    for wrong in [
        "",
        "{id}",
        "/payments",
        "/{id}/{id}",
        "/{id}#x",
        "/{id} x",
        "/../{id}",
        "/{project}/{id}",
        "/./{id}",
    ] {
        let invalid = ConfigError::InvalidPath(EventKind::Payment, wrong.to_owned());
        assert_eq!(build(EventKind::Payment, wrong), Err(invalid), "{wrong}");
    }
    // Nothing tells the id of an invoice.
    assert!(build(EventKind::Invoice, "/{id}").is_err());
    assert_eq!(build(EventKind::Other, "/{id}"), Ok(()));

    for wrong in ["", "CAP-1/x", "..", "a b"] {
        let crypto = ApiClient::builder(signed()).crypto_project(wrong).build(()).map(drop);
        assert_eq!(crypto, Err(ConfigError::InvalidProject(wrong.to_owned())));
        let on_ramp = ApiClient::builder(signed()).on_ramp_project(wrong).build(()).map(drop);
        assert_eq!(on_ramp, Err(ConfigError::InvalidProject(wrong.to_owned())));
    }
}

#[test]
fn rejects_limits_of_zero() {
    let zero = |name| Err(ConfigError::ZeroLimit(name));
    let builder = || ApiClient::builder(signed());
    let second = Duration::from_secs(1);
    assert_eq!(builder().rate_limit(0, second).build(()).map(drop), zero("rate_limit"));
    assert_eq!(builder().rate_limit(1, Duration::ZERO).build(()).map(drop), zero("rate_limit"));
    assert_eq!(builder().max_per_hour(0).build(()).map(drop), zero("max_per_hour"));
    assert_eq!(builder().timeout(Duration::ZERO).build(()).map(drop), zero("timeout"));
    assert_eq!(builder().response_limit(0).build(()).map(drop), zero("response_limit"));
}

#[test]
fn rejects_unusable_credentials() {
    type New = fn(&str, &str) -> Result<Credentials, ConfigError>;
    let ways: [New; 2] =
        [|id, secret| Credentials::signed(id, secret), |id, secret| Credentials::plain(id, secret)];
    for new in ways {
        assert_eq!(new("TKN-1", "").err(), Some(ConfigError::SecretEmpty));
        assert_eq!(new("TKN-1", "secret\n").err(), Some(ConfigError::SurroundingWhitespace));
        for id in ["", "TKN 1", "TKN-1\n", "TKN-é"] {
            assert_eq!(new(id, "secret").err(), Some(ConfigError::InvalidTokenId), "{id:?}");
        }
        assert!(new("TKN-1", "secret").is_ok());
    }
    assert_eq!(Credentials::plain("TKN-1", "sécret").err(), Some(ConfigError::InvalidSecret));
    assert!(Credentials::signed("TKN-1", "sécret").is_ok());
}

#[test]
fn errors_say_what_to_do() {
    let path = "/payments\n".to_owned();
    for (error, cause, advice) in [
        (ConfigError::InvalidTokenId, "invalid id of the API token", "must be visible ASCII"),
        (ConfigError::SecretEmpty, "is empty", "pass the one that Inqud showed"),
        (ConfigError::SurroundingWhitespace, "starts or ends with white space", "trim it"),
        (ConfigError::InvalidSecret, "cannot be sent in a header", "use `Credentials::signed`"),
        (ConfigError::InvalidBaseUrl, "invalid base URL", "must be like \"https://api.inqud.com\""),
        (ConfigError::Unencrypted("a\nb".to_owned()), r#""a\nb" is unencrypted"#, "use https"),
        (
            ConfigError::InvalidPath(EventKind::Payment, path),
            r#"invalid path "/payments\n" of a `payment`"#,
            "contain \"{id}\" once",
        ),
        (
            ConfigError::InvalidProject("a\nb".to_owned()),
            r#"invalid id of a project "a\nb""#,
            "must consist of letters",
        ),
        (ConfigError::ZeroLimit("timeout"), "`timeout` is zero", "must be at least 1"),
    ] {
        let text = error.to_string();
        assert!(text.contains(cause), "{text}");
        let advised = text.split_once(": ").is_some_and(|(_, end)| end.contains(advice));
        assert!(advised, "{text}");
        assert!(!text.contains(char::is_control), "{text:?}");
    }
}
