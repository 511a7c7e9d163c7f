//! What went wrong in a handshake, in the operator's terms.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, OtherError};

use crate::config::UpstreamTls;

/// Where what answers PING closes at it and answers a handshake.
pub(crate) const ASKED_WITHOUT_TLS: &str =
    "the server speaks TLS, and was asked without; did you mean rediss://?";
/// Where what does not answer a handshake answers PING: to Redis without TLS a handshake is the beginning of a line.
pub(crate) const ASKED_WITH_TLS: &str =
    "the server speaks no TLS, and was asked with it; did you mean redis://?";

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// An error of the handshake with a server.
pub(super) fn of_handshake(error: io::Error, settings: &UpstreamTls) -> io::Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return io::Error::new(
            error.kind(),
            "the server closed the connection in the TLS handshake; does it speak TLS there, or did you mean redis://?",
        );
    }
    of_server(error, settings)
}

/// An error of the connection to a server.
pub(super) fn of_server(error: io::Error, settings: &UpstreamTls) -> io::Error {
    let kind = error.kind();
    let text = match tls_error(&error) {
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "what answers there does not speak TLS; did you mean redis://?".to_owned()
        }
        Some(Error::InvalidCertificate(error)) => certificate(error, settings),
        Some(Error::AlertReceived(alert)) => alert_of_server(*alert, settings),
        Some(error) => format!("TLS failed: {error}"),
        None => return error,
    };
    io::Error::new(kind, text)
}

/// An error of the connection to a client.
pub(super) fn of_client(error: io::Error) -> io::Error {
    let kind = error.kind();
    let text = match tls_error(&error) {
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "it does not speak TLS; does it mean rediss://?".to_owned()
        }
        Some(Error::NoCertificatesPresented) => {
            "it shows no certificate, and tls_client_ca asks for one".to_owned()
        }
        Some(Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        )) => "its certificate was not signed by an authority in tls_client_ca".to_owned(),
        Some(Error::InvalidCertificate(error)) => match dates(error) {
            Some(dates) => format!("its certificate {dates}"),
            None => format!("its certificate is refused ({})", in_words(error)),
        },
        Some(Error::AlertReceived(AlertDescription::CertificateExpired)) => {
            "by its clock the certificate in tls_cert is not valid; renew it, or put that clock right"
                .to_owned()
        }
        Some(Error::AlertReceived(alert)) => {
            format!(
                "it refuses the handshake ({alert:?}); does it trust the authority of tls_cert, and the name in it?"
            )
        }
        Some(error) => format!("{error}"),
        None => return error,
    };
    io::Error::new(kind, text)
}

fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// What the dates of a certificate have to do with an error, and what would be right.
pub(super) fn dates(error: &CertificateError) -> Option<String> {
    match error {
        CertificateError::ExpiredContext { time, not_after } => Some(format!(
            "expired {} ago; renew it",
            span(time.as_secs().saturating_sub(not_after.as_secs()))
        )),
        CertificateError::NotValidYetContext { time, not_before } => Some(format!(
            "is not valid for another {}; are the clocks right?",
            span(not_before.as_secs().saturating_sub(time.as_secs()))
        )),
        CertificateError::Expired => Some("has expired; renew it".to_owned()),
        CertificateError::NotValidYet => Some("is not valid yet; are the clocks right?".to_owned()),
        _ => None,
    }
}

fn certificate(error: &CertificateError, settings: &UpstreamTls) -> String {
    if let Some(dates) = dates(error) {
        return format!("the server's certificate {dates}");
    }
    match error {
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<_> = presented.iter().map(|name| plain_name(name)).collect();
            let names = if names.is_empty() {
                "no name".to_owned()
            } else {
                names.join(", ")
            };
            format!(
                "the server's certificate is for {names}, and not for {}; give the name it has as upstream_server_name",
                expected.to_str()
            )
        }
        // Another authority of the same name: one that was made anew.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => match &settings.ca {
            Some(path) => format!(
                "the server's certificate was not signed by an authority in {}; give the one that signed it as upstream_ca",
                path.display()
            ),
            None => "the server's certificate was not signed by an authority that this system trusts; give the one that signed it as upstream_ca".to_owned(),
        },
        error if name(error) == "CaUsedAsEndEntity" => {
            "the server shows an authority's own certificate (CA:TRUE); give it one that an authority has signed for its name".to_owned()
        }
        error => format!(
            "the server's certificate cannot be accepted: {}",
            in_words(error)
        ),
    }
}

/// What rustls, or the library that it asks, says of a certificate; of most there is no more than the name of the error, such
/// as `UnsupportedCertVersion`.
fn name(error: &CertificateError) -> String {
    match error {
        CertificateError::Other(OtherError(error)) => error.to_string(),
        error => error.to_string(),
    }
}

/// The same, with a name taken apart: `unsupported cert version`. What it has in parentheses is for programmers.
pub(super) fn in_words(error: &CertificateError) -> String {
    let text = name(error);
    let end = text.find(['(', ' ']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let is_name = name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_alphanumeric());
    if !is_name || !(rest.is_empty() || rest.starts_with('(') || rest.starts_with(" {")) {
        return text;
    }
    let mut words = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(c.to_ascii_lowercase());
    }
    words
}

/// rustls shows names as `DnsName("redis.internal")` and `IpAddress(127.0.0.1)`.
fn plain_name(name: &str) -> &str {
    name.split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'))
        .map_or(name, |name| name.trim_matches('"'))
}

fn alert_of_server(alert: AlertDescription, settings: &UpstreamTls) -> String {
    let without =
        "the server wants a certificate of its clients; give upstream_cert and upstream_key";
    match (alert, &settings.cert) {
        (AlertDescription::CertificateRequired, _) => without.to_owned(),
        // What TLS 1.2 has for it.
        (AlertDescription::HandshakeFailure, None) => {
            format!("{without}, if that is why it refuses the handshake (HandshakeFailure)")
        }
        (
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::DecryptError,
            Some(path),
        ) => format!(
            "the server refuses the certificate in {} ({alert:?}); give one that its authority has signed and that is valid as upstream_cert",
            path.display()
        ),
        _ => format!("the server refuses the TLS handshake ({alert:?})"),
    }
}

/// `3 days`, in the largest unit that it has two of; below, in seconds.
pub(super) fn span(seconds: u64) -> String {
    for (unit, name) in [(DAY, "days"), (HOUR, "hours"), (MINUTE, "minutes")] {
        if seconds >= 2 * unit {
            return format!("{} {name}", seconds / unit);
        }
    }
    format!("{seconds} s")
}
