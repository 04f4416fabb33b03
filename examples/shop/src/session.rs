//! Redirects requests without a session to the login form.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::COOKIE;
use axum::http::request::Parts;
use axum::response::Redirect;

use crate::access::Session;
use crate::shop::Shop;

impl FromRequestParts<Arc<Shop>> for Session {
    type Rejection = Redirect;

    async fn from_request_parts(parts: &mut Parts, shop: &Arc<Shop>) -> Result<Self, Redirect> {
        let cookies = parts.headers.get_all(COOKIE).iter().filter_map(|it| it.to_str().ok());
        let session = cookies.filter_map(|it| shop.access.session(it)).next();
        session.ok_or_else(|| Redirect::to("/operator/login"))
    }
}
