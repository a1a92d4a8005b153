//! An address that can be requested: parsed once, with its host key and the text of its request line.

use std::sync::Arc;

use hyper::{Uri, header::HeaderValue};
use url::{Host, Url};

use crate::error::{AttemptError, FailureKind};

/// Scheme, name and port: what limits, connections and `Retry-After` are kept for. The name is in lower case and the
/// port explicit, so that spellings of one host are one key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) https: bool,
    pub(crate) host: Host<String>,
    pub(crate) port: u16,
}

/// One hop of a record.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) url: Url,
    pub(crate) origin: Arc<Origin>,
    pub(crate) host_header: HeaderValue,
    pub(crate) uri: Uri,
}

impl Target {
    pub(crate) fn parse(text: &str) -> Result<Self, AttemptError> {
        let url = Url::parse(text).map_err(|error| {
            AttemptError::new(FailureKind::BadUrl, format!("`{text}` is no URL: {error}"))
        })?;
        Target::from_url(url)
    }

    /// Follows a `Location` header, absolute or relative to this address.
    pub(crate) fn join(&self, location: &str) -> Result<Self, AttemptError> {
        let url = self.url.join(location).map_err(|error| {
            AttemptError::new(
                FailureKind::BadUrl,
                format!("redirect to `{location}`, which is no URL: {error}"),
            )
        })?;
        Target::from_url(url)
    }

    fn from_url(mut url: Url) -> Result<Self, AttemptError> {
        let bad = |reason: &str| AttemptError::new(FailureKind::BadUrl, format!("`{url}` {reason}"));
        let https = match url.scheme() {
            "https" => true,
            "http" => false,
            scheme => {
                let message = format!("scheme `{scheme}` of `{url}` is neither `http` nor `https`");
                return Err(AttemptError::new(FailureKind::UnsupportedScheme, message));
            }
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(AttemptError::new(FailureKind::BadUrl, "a user name in a URL is not supported"));
        }
        let host = url.host().ok_or_else(|| bad("has no host"))?.to_owned();
        let port = url.port_or_known_default().ok_or_else(|| bad("has no port"))?;
        if port == 0 {
            return Err(bad("has port `0`"));
        }
        let name = url.host_str().unwrap_or_default();
        let header = match url.port() {
            Some(port) => format!("{name}:{port}"),
            None => name.to_owned(),
        };
        let host_header = HeaderValue::try_from(header).map_err(|_| bad("has a host that cannot be sent"))?;
        let request_target = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let uri = Uri::try_from(request_target)
            .map_err(|error| bad(&format!("has a path that cannot be sent: {error}")))?;
        url.set_fragment(None);
        Ok(Target { origin: Arc::new(Origin { https, host, port }), host_header, uri, url })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Target {
        Target::parse(text).unwrap_or_else(|error| panic!("{text}: {}", error.message))
    }

    #[test]
    fn spellings_of_one_host_are_one_origin() {
        let reference = parse("http://example.com/");
        for same in ["http://EXAMPLE.com/a", "HTTP://example.com:80/?q", "http://ExAmple.Com:080/#x"] {
            assert_eq!(parse(same).origin, reference.origin, "{same}");
        }
        for other in ["https://example.com/", "http://example.com:81/", "http://example.org/"] {
            assert_ne!(parse(other).origin, reference.origin, "{other}");
        }
        assert_eq!(parse("https://example.com").origin, parse("https://example.com:443/").origin);
    }

    #[test]
    fn request_line_and_host_header() {
        let target = parse("http://Example.com:8080/a b/ü?x=1|2#frag");
        assert_eq!(target.uri.to_string(), "/a%20b/%C3%BC?x=1|2");
        assert_eq!(target.host_header, "example.com:8080");
        assert_eq!(target.url.as_str(), "http://example.com:8080/a%20b/%C3%BC?x=1|2");
        assert_eq!(parse("http://[::1]:90/").host_header, "[::1]:90");
        assert_eq!(parse("http://example.com").uri.to_string(), "/");
        assert_eq!(parse("http://example.com:80").host_header, "example.com");
    }

    #[test]
    fn redirects_are_relative_to_the_page() {
        let page = parse("http://example.com/a/b?c");
        for (location, expected) in [
            ("d", "http://example.com/a/d"),
            ("/d", "http://example.com/d"),
            ("?e", "http://example.com/a/b?e"),
            ("//other.org/", "http://other.org/"),
            ("https://other.org/x", "https://other.org/x"),
        ] {
            let target = page.join(location).expect(location);
            assert_eq!(target.url.as_str(), expected, "{location}");
        }
    }

    #[test]
    fn what_cannot_be_requested_is_named() {
        for (text, kind) in [
            ("", FailureKind::BadUrl),
            ("no url", FailureKind::BadUrl),
            ("/only/a/path", FailureKind::BadUrl),
            ("http://", FailureKind::BadUrl),
            ("http://example.com:99999/", FailureKind::BadUrl),
            ("http://example.com:0/", FailureKind::BadUrl),
            ("http://user:secret@example.com/", FailureKind::BadUrl),
            ("ftp://example.com/", FailureKind::UnsupportedScheme),
            ("data:text/html,x", FailureKind::UnsupportedScheme),
            ("file:///etc/passwd", FailureKind::UnsupportedScheme),
        ] {
            let error = Target::parse(text).expect_err(text);
            assert_eq!(error.kind, kind, "{text}");
            assert!(!error.message.contains("secret"), "{}", error.message);
        }
    }
}
