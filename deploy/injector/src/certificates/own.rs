//! Certificates that the injector makes for itself: an authority that API servers are told of, and a certificate signed by it.
//! Both are renewed long before they end. When the authority changes, API servers go on trusting the one before.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long an authority lasts, and when the next one is made.
const AUTHORITY_LIFE: Duration = DAY.saturating_mul(730);
const AUTHORITY_RENEW: Duration = DAY.saturating_mul(180);
/// The same of the certificate. Its life is that of no secret: whoever has the key has the authority's, too.
const LIFE: Duration = DAY.saturating_mul(90);
const RENEW: Duration = DAY.saturating_mul(30);
/// Clocks differ.
const BACKDATED: Duration = Duration::from_secs(60 * 60);

/// What a certificate is between, PEM.
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The fields of the Secret. Those of the certificate are as in every Secret of type `kubernetes.io/tls`.
const CERT: &str = "tls.crt";
const KEY: &str = "tls.key";
const CA: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const CA_NOT_AFTER: &str = "ca.not-after";
const NOT_AFTER: &str = "tls.not-after";
const NAMES: &str = "tls.names";

/// An authority and a certificate, with keys: what is in the Secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The chain, PEM.
    pub cert: String,
    /// Its key, PEM.
    pub key: String,
    /// Until when it is good.
    pub not_after: SystemTime,
    ca: String,
    ca_key: String,
    ca_not_after: SystemTime,
    names: String,
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bundle")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// What has to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// Nothing.
    Good,
    /// This takes the place of what there was.
    Renewed(Box<Bundle>),
}

/// Looks whether what there is still does for these names.
///
/// # Errors
/// If keys cannot be made.
pub fn renewed(
    bundle: Option<&Bundle>,
    names: &[String],
    now: SystemTime,
) -> Result<Renewal, rcgen::Error> {
    let lasts = |end: SystemTime, at_least: Duration| {
        end.duration_since(now).is_ok_and(|left| left > at_least)
    };
    let wanted = names.join(",");
    let authority = bundle.filter(|bundle| lasts(bundle.ca_not_after, AUTHORITY_RENEW));
    if let Some(bundle) = authority
        && bundle.names == wanted
        && lasts(bundle.not_after, RENEW)
    {
        return Ok(Renewal::Good);
    }
    let (ca, ca_key, ca_not_after) = match authority {
        Some(old) => (old.ca.clone(), old.ca_key.clone(), old.ca_not_after),
        None => {
            let ca_not_after = whole_seconds(now + AUTHORITY_LIFE);
            let key = KeyPair::generate()?;
            let ca = authority_params(ca_not_after).self_signed(&key)?;
            (ca.pem(), key.serialize_pem(), ca_not_after)
        }
    };
    let issuer = Issuer::new(authority_params(ca_not_after), KeyPair::from_pem(&ca_key)?);
    let key = KeyPair::generate()?;
    let not_after = whole_seconds(now + LIFE);
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.remove(DnType::CommonName);
    params
        .distinguished_name
        .push(DnType::CommonName, "tars-injector");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.not_before = date_time_ymd(1970, 1, 1) + since(now - BACKDATED);
    params.not_after = date_time_ymd(1970, 1, 1) + since(not_after);
    let cert = params.signed_by(&key, &issuer)?.pem();
    Ok(Renewal::Renewed(Box::new(Bundle {
        cert,
        key: key.serialize_pem(),
        not_after,
        ca,
        ca_key,
        ca_not_after,
        names: wanted,
    })))
}

/// An authority is known by its end: what signs later is made from that and the key, and the certificate need not be read.
fn authority_params(not_after: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    let name = format!("tars-injector authority, until {}", seconds(not_after));
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params.not_before = date_time_ymd(1970, 1, 1) + since(not_after - AUTHORITY_LIFE - BACKDATED);
    params.not_after = date_time_ymd(1970, 1, 1) + since(not_after);
    params
}

/// Since 1970.
fn since(time: SystemTime) -> Duration {
    Duration::from_secs(seconds(time))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn whole_seconds(time: SystemTime) -> SystemTime {
    UNIX_EPOCH + since(time)
}

/// What API servers are to trust: the authority, and behind it the one that they trusted before, whose certificate replicas may
/// still show.
#[must_use]
pub fn trusted(before: &[u8], authority: &str) -> String {
    let before = String::from_utf8_lossy(before);
    let certificates = before
        .split_inclusive(END)
        .filter_map(|part| part.get(part.find(BEGIN)?..));
    let other = certificates
        .map(str::trim)
        .find(|certificate| *certificate != authority.trim());
    let other = other.filter(|certificate| certificate.ends_with(END));
    other.map_or(authority.to_owned(), |other| {
        format!("{}\n{other}\n", authority.trim())
    })
}

impl Bundle {
    /// The authority, PEM.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.ca
    }

    /// As a Secret's data.
    #[must_use]
    pub fn to_data(&self) -> BTreeMap<String, Vec<u8>> {
        let number = |time| seconds(time).to_string();
        [
            (CERT, self.cert.clone()),
            (KEY, self.key.clone()),
            (CA, self.ca.clone()),
            (CA_KEY, self.ca_key.clone()),
            (CA_NOT_AFTER, number(self.ca_not_after)),
            (NOT_AFTER, number(self.not_after)),
            (NAMES, self.names.clone()),
        ]
        .map(|(name, text)| (name.to_owned(), text.into_bytes()))
        .into()
    }

    /// From a Secret's data; none if something is missing, or the keys are none: then all is made anew.
    #[must_use]
    pub fn from_data(data: &BTreeMap<String, Vec<u8>>) -> Option<Self> {
        let text = |name: &str| String::from_utf8(data.get(name)?.clone()).ok();
        let time =
            |name: &str| UNIX_EPOCH.checked_add(Duration::from_secs(text(name)?.parse().ok()?));
        let ca_key = text(CA_KEY)?;
        KeyPair::from_pem(&ca_key).ok()?;
        Some(Self {
            cert: text(CERT)?,
            key: text(KEY)?,
            not_after: time(NOT_AFTER)?,
            ca: text(CA)?,
            ca_key,
            ca_not_after: time(CA_NOT_AFTER)?,
            names: text(NAMES)?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;
    use crate::certificates::Current;

    fn names() -> Vec<String> {
        vec!["tars-injector.tars.svc".to_owned()]
    }

    fn new(before: Option<&Bundle>, names: &[String], now: SystemTime) -> Bundle {
        match renewed(before, names, now).unwrap() {
            Renewal::Renewed(bundle) => *bundle,
            Renewal::Good => panic!("nothing was renewed"),
        }
    }

    #[test]
    fn renewed_long_before_the_end() {
        let now = SystemTime::now();
        let first = new(None, &names(), now);
        let at = |days: u32| renewed(Some(&first), &names(), now + DAY * days).unwrap();
        assert_eq!(at(0), Renewal::Good);
        assert_eq!(at(59), Renewal::Good);
        let second = new(Some(&first), &names(), now + DAY * 61);
        assert_ne!(second.cert, first.cert);
        assert_eq!(second.ca, first.ca, "the authority stays");

        let third = new(Some(&second), &names(), now + DAY * 600);
        assert_ne!(third.ca, first.ca);

        let renamed = new(Some(&first), &["other.svc".to_owned()], now);
        assert_eq!(renamed.ca, first.ca);
    }

    #[test]
    fn the_authority_before_is_trusted_for_a_while() {
        let [first, second, third] = [(); 3].map(|()| new(None, &names(), SystemTime::now()).ca);
        let one = trusted(b"", &first);
        assert_eq!(one, first);
        assert_eq!(trusted(one.as_bytes(), &first), first);
        let two = trusted(one.as_bytes(), &second);
        let certificates = |text: &str| text.replace('\r', "").matches(BEGIN).count();
        assert!(two.contains(first.trim().lines().nth(1).unwrap()) && certificates(&two) == 2);
        assert_eq!(trusted(two.as_bytes(), &second), two, "it stays");
        let three = trusted(two.as_bytes(), &third);
        assert_eq!(
            three,
            trusted(second.as_bytes(), &third),
            "and no longer than the next"
        );
        for placeholder in [&b"\n"[..], b"x", b"\xff", BEGIN.as_bytes(), END.as_bytes()] {
            assert_eq!(trusted(placeholder, &first), first);
        }
    }

    #[test]
    fn a_secret_holds_all_of_it() {
        let bundle = new(None, &names(), SystemTime::now());
        assert_eq!(Bundle::from_data(&bundle.to_data()), Some(bundle.clone()));
        Current::default()
            .set(bundle.cert.as_bytes(), bundle.key.as_bytes())
            .unwrap();
        for field in bundle.to_data().keys() {
            let mut data = bundle.to_data();
            data.remove(field);
            assert_eq!(Bundle::from_data(&data), None, "{field}");
        }
        let mut data = bundle.to_data();
        data.insert(CA_KEY.to_owned(), b"no key".to_vec());
        assert_eq!(Bundle::from_data(&data), None);
        assert!(!format!("{bundle:?}").contains("PRIVATE"));
    }
}
