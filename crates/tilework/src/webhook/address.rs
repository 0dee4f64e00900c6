//! The address of a webhook: http or https, with a host. Whatever shows it leaves out all that may be a secret.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;
use ureq::http::Uri;

/// An address that alarms can be posted to.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl(Uri);

/// Not an address that can be posted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a web address: write http:// or https:// and a host, for example https://alerts.example.com/tilework"
)]
pub struct NotAWebhookUrl;

impl FromStr for WebhookUrl {
    type Err = NotAWebhookUrl;

    /// ```
    /// use tilework::webhook::address::WebhookUrl;
    /// let url: WebhookUrl = "https://alerts.example.com/secret".parse().unwrap();
    /// assert_eq!(url.to_string(), "https://alerts.example.com");
    /// assert!("alerts.example.com".parse::<WebhookUrl>().is_err());
    /// ```
    fn from_str(text: &str) -> Result<WebhookUrl, NotAWebhookUrl> {
        let uri: Uri = text.trim().parse().map_err(|_| NotAWebhookUrl)?;
        let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
        match uri.host() {
            Some(host) if is_web && is_host(host) => Ok(WebhookUrl(uri)),
            _ => Err(NotAWebhookUrl),
        }
    }
}

/// A name or an address; brackets are around an IPv6 address and nowhere else. `Uri` is content with less.
fn is_host(host: &str) -> bool {
    match host.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            !host.is_empty() && host.bytes().all(is_plain)
        }
    }
}

impl WebhookUrl {
    /// All of it.
    pub(crate) fn uri(&self) -> &Uri {
        &self.0
    }

    /// Whether the connection is encrypted.
    pub fn is_https(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }
}

/// Scheme, host and port: users, passwords and paths may be secrets.
impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host) = (self.0.scheme_str(), self.0.host());
        write!(f, "{}://{}", scheme.unwrap_or_default(), host.unwrap_or_default())?;
        self.0.port().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookUrl({self}/...)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_posted_to_is_accepted_and_shown_without_secrets() {
        for (text, shown) in [
            ("http://localhost", "http://localhost"),
            (
                "HTTPS://hooks.example.com/services/T0/xyz",
                "https://hooks.example.com",
            ),
            (
                "http://me:secret@10.0.0.1:8080/x?token=secret",
                "http://10.0.0.1:8080",
            ),
            ("https://[::1]:9/", "https://[::1]:9"),
        ] {
            let url: WebhookUrl = text.parse().expect(text);
            assert_eq!(url.to_string(), shown);
            assert!(!format!("{url:?}").contains("secret"));
        }
    }

    #[test]
    fn anything_else_is_refused_with_an_example() {
        for text in [
            "",
            "example.com",
            "/path",
            "ftp://x/y",
            "http://",
            "http:///x",
            "http://a b/",
            "mailto:a@b",
            "http://0[::1]",
            "http://[a]/",
            "http://a%00b/",
        ] {
            let refused = text.parse::<WebhookUrl>().unwrap_err();
            assert!(
                refused.to_string().contains("https://alerts.example.com"),
                "{text}"
            );
        }
    }
}
