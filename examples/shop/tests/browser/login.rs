//! An operator without a browser.

use std::time::Duration;

use http::StatusCode;
use tokio::time::sleep;

use crate::process::{Shop, TOKEN};

/// An operator who is logged in, without a browser.
pub struct Operator<'a> {
    shop: &'a Shop,
    pub cookie: String,
}

impl<'a> Operator<'a> {
    pub async fn log_in(shop: &'a Shop) -> Self {
        let response = shop.post("/operator/login", token(TOKEN), &[]).await;
        assert_eq!(response.status(), StatusCode::SEE_OTHER);
        let cookie = response.headers()["set-cookie"].to_str().unwrap();
        let cookie = cookie.split(';').next().unwrap().to_owned();
        Self { shop, cookie }
    }

    pub async fn page(&self, path: &str) -> String {
        let response = self.shop.get_with(path, &[("cookie", &self.cookie)]).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        String::from_utf8(response.into_body().to_vec()).unwrap()
    }

    /// Waits until the overview has this.
    pub async fn sees(&self, html: &str) {
        self.sees_at("/operator", html).await;
    }

    pub async fn sees_at(&self, path: &str, html: &str) {
        for _ in 0..1200 {
            if self.page(path).await.contains(html) {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("not in time: {html}\n{}", self.page(path).await);
    }
}

/// Waits until every notification is handled, or given up.
pub async fn is_idle(shop: &Shop) {
    Operator::log_in(shop).await.sees("<dt>Backlog</dt><dd>0</dd>").await;
}

/// The login form.
pub fn token(token: &str) -> String {
    format!("token={}", token.replace(' ', "+"))
}
