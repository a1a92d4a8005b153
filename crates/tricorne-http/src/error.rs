//! What can go wrong: settings that make no client ([`HttpError`]), and records that cannot be had
//! ([`FetchFailure`], with a [`FailureKind`] that decides whether another try makes sense).

use std::{borrow::Cow, fmt, time::Duration};

/// A client could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// A header name or value of the settings cannot be sent.
    #[error("header `{name}` cannot be sent: {reason}")]
    BadHeader {
        /// The name as given.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The extra root certificates cannot be used.
    #[error("extra root certificates cannot be used: {reason}")]
    BadRoots {
        /// What is wrong with them.
        reason: String,
    },
    /// A limit is zero where at least one is needed.
    #[error("`{field}` is `0`")]
    ZeroLimit {
        /// The field of [`ClientConfig`](crate::ClientConfig).
        field: &'static str,
    },
}

impl HttpError {
    /// What to do about it, where there is a way out.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            HttpError::BadHeader { .. } => {
                Some("a name has letters, digits and `-`; a value has no line breaks")
            }
            HttpError::BadRoots { .. } => Some("give one or more `BEGIN CERTIFICATE` blocks"),
            HttpError::ZeroLimit { .. } => Some("use 1 or more"),
        }
    }
}

/// Why a record could not be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FailureKind {
    /// The host name has no address, or the resolver failed.
    Dns,
    /// No connection: refused, unreachable, or lost during the TLS handshake.
    Connect,
    /// The TLS handshake was refused: certificate, version or cipher.
    Tls,
    /// The connection was lost before an answer was complete up to its body.
    Disconnected,
    /// Name, TCP and TLS took longer than `connect_timeout`.
    TimeoutConnect,
    /// No head of an answer within `first_byte_timeout`.
    TimeoutFirstByte,
    /// No piece of the body for `stall_timeout`.
    TimeoutStall,
    /// The network time of all attempts together passed `total_timeout`.
    TimeoutTotal,
    /// The body ended early, or its chunks are broken.
    BodyCut,
    /// An answer with this status, which is neither 2xx nor a redirect that can be followed.
    Status(u16),
    /// A redirect led back to an address already visited.
    RedirectLoop,
    /// More redirects than `max_redirects`.
    TooManyRedirects,
    /// An address outside the public internet, where this record may not go.
    PrivateAddress,
    /// A body larger than `max_body_bytes` as sent.
    BodyTooLarge,
    /// A body larger than `max_decoded_bytes` after content decoding.
    DecodedTooLarge,
    /// A content encoding that is unknown, broken or cut.
    BadEncoding,
    /// The text is no URL, or one that cannot be requested.
    BadUrl,
    /// A URL that is neither `http` nor `https`.
    UnsupportedScheme,
    /// The answer is not HTTP/1.
    Protocol,
}

impl FailureKind {
    /// The name used in reports: `dns`, `timeout_stall`, `status_404`, …
    pub fn as_str(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            FailureKind::Dns => "dns",
            FailureKind::Connect => "connect",
            FailureKind::Tls => "tls",
            FailureKind::Disconnected => "disconnected",
            FailureKind::TimeoutConnect => "timeout_connect",
            FailureKind::TimeoutFirstByte => "timeout_first_byte",
            FailureKind::TimeoutStall => "timeout_stall",
            FailureKind::TimeoutTotal => "timeout_total",
            FailureKind::BodyCut => "body_cut",
            FailureKind::Status(code) => return Cow::Owned(format!("status_{code}")),
            FailureKind::RedirectLoop => "redirect_loop",
            FailureKind::TooManyRedirects => "too_many_redirects",
            FailureKind::PrivateAddress => "private_address",
            FailureKind::BodyTooLarge => "body_too_large",
            FailureKind::DecodedTooLarge => "decoded_too_large",
            FailureKind::BadEncoding => "bad_encoding",
            FailureKind::BadUrl => "bad_url",
            FailureKind::UnsupportedScheme => "unsupported_scheme",
            FailureKind::Protocol => "protocol",
        })
    }

    /// Whether the same request may well succeed later. [`TimeoutTotal`](Self::TimeoutTotal) is such a failure for
    /// a later run, though the record's own time is used up.
    pub fn is_transient(self) -> bool {
        match self {
            FailureKind::Dns
            | FailureKind::Connect
            | FailureKind::Disconnected
            | FailureKind::TimeoutConnect
            | FailureKind::TimeoutFirstByte
            | FailureKind::TimeoutStall
            | FailureKind::TimeoutTotal
            | FailureKind::BodyCut => true,
            FailureKind::Status(code) => matches!(code, 408 | 429 | 500 | 502 | 503 | 504),
            FailureKind::Tls
            | FailureKind::RedirectLoop
            | FailureKind::TooManyRedirects
            | FailureKind::PrivateAddress
            | FailureKind::BodyTooLarge
            | FailureKind::DecodedTooLarge
            | FailureKind::BadEncoding
            | FailureKind::BadUrl
            | FailureKind::UnsupportedScheme
            | FailureKind::Protocol => false,
        }
    }

    /// Whether it tells that the host has too much to do.
    pub(crate) fn is_overload(self) -> bool {
        matches!(
            self,
            FailureKind::Status(429 | 503) | FailureKind::TimeoutConnect | FailureKind::TimeoutFirstByte
        )
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.as_str())
    }
}

/// A record that could not be fetched, with what is worth keeping about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct FetchFailure {
    /// The reason, for counting and for deciding.
    pub kind: FailureKind,
    /// The reason in words, of the last attempt.
    pub message: String,
    /// The address of the last attempt: another one than asked for after a redirect.
    pub url: String,
    /// Tries made: 0 for a URL that cannot be requested; redirects do not count.
    pub attempts: u32,
    /// Whether a later run may succeed.
    pub retryable: bool,
    /// Time on the network over all attempts.
    pub network_time: Duration,
}

/// How one attempt failed, before it is known whether there will be another.
#[derive(Debug)]
pub(crate) struct AttemptError {
    pub(crate) kind: FailureKind,
    pub(crate) message: String,
    /// How long the server asked to be left alone.
    pub(crate) retry_after: Option<Duration>,
}

impl AttemptError {
    pub(crate) fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        AttemptError { kind, message: message.into(), retry_after: None }
    }
}

/// An error and all its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some libraries repeat their source in their own message.
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// Whether an I/O error is an objection of TLS rather than of the network.
pub(crate) fn is_tls(error: &std::io::Error) -> bool {
    matches!(error.get_ref(), Some(inner) if inner.is::<rustls::Error>())
}
