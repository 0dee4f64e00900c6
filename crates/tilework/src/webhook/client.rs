//! One POST: sent to the address itself, never to another that the receiver names, and bounded in time.
//!
//! Proxies are taken from the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`), trusted certificates from the system
//! or from where `SSL_CERT_FILE` says.

use super::address::WebhookUrl;
use std::time::Duration;
use tilework_core::limits::WEBHOOK_REQUEST_MS;
use ureq::Agent;
use ureq::http::StatusCode;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// Posts to one address.
#[derive(Debug)]
pub(super) struct Client {
    url: WebhookUrl,
}

/// A POST that was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) cause: String,
    /// Whether the same POST may be acknowledged a little later.
    pub(super) may_pass: bool,
}

impl Client {
    pub(super) fn new(url: WebhookUrl) -> Client {
        Client { url }
    }

    /// Posts a JSON document. Every POST has a connection of its own: alarms are rare, and an idle one may be gone.
    pub(super) fn post(&self, document: &[u8]) -> Result<(), Refusal> {
        let request = self
            .agent()?
            .post(self.url.uri())
            .content_type("application/json");
        match request.send(document) {
            Ok(response) => judged(response.status()),
            Err(error) => Err(Refusal {
                cause: error.to_string(),
                may_pass: true,
            }),
        }
    }

    fn agent(&self) -> Result<Agent, Refusal> {
        let config = Agent::config_builder()
            .timeout_global(Some(Duration::from_millis(WEBHOOK_REQUEST_MS)))
            .http_status_as_error(false)
            // A redirected POST would become a GET without the alarm.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("tilework/", env!("CARGO_PKG_VERSION")));
        let config = if self.url.is_https() {
            config.tls_config(tls()?)
        } else {
            config
        };
        Ok(config.build().into())
    }
}

fn judged(status: StatusCode) -> Result<(), Refusal> {
    if status.is_success() {
        return Ok(());
    }
    let passing = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    let hint = if status.is_redirection() {
        "; name the final address, redirects are not followed"
    } else {
        ""
    };
    Err(Refusal {
        cause: format!("it answered {status}{hint}"),
        may_pass: status.is_server_error() || passing.contains(&status),
    })
}

/// Trust in what this system trusts, so that a company's own authorities count.
fn tls() -> Result<TlsConfig, Refusal> {
    // Whoever embeds this crate may have chosen a provider already: then that one is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        return Err(Refusal {
            cause: "this system has no certificates to check the receiver's with: install them, or name a file in \
                    SSL_CERT_FILE"
                .to_owned(),
            may_pass: false,
        });
    }
    let roots = found
        .certs
        .iter()
        .map(|root| Certificate::from_der(root).to_owned());
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&roots.collect::<Vec<_>>()))
        .build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        for (status, may_pass) in [
            (500, true),
            (503, true),
            (429, true),
            (408, true),
            (404, false),
            (302, false),
        ] {
            let refusal = judged(StatusCode::from_u16(status).unwrap()).unwrap_err();
            assert_eq!(refusal.may_pass, may_pass, "{status}");
            assert!(refusal.cause.contains(&status.to_string()));
        }
        assert_eq!(judged(StatusCode::NO_CONTENT), Ok(()));
    }
}
