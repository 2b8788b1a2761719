//! `iscsi://[user%secret@]host[:port]/iqn/lun`, the notation libiscsi and QEMU share.

use core::fmt;
use core::str::FromStr;

use iscsi::chap::{Answers, Credential, NONCE_BYTES, Nonce, Secret};

/// The port IANA assigned to iSCSI (RFC 7143 §4.2.7 and §16).
const DEFAULT_PORT: u16 = 3260;

/// Longest iSCSI name in bytes (RFC 7143 §4.2.7.2).
const NAME_BYTES_MAX: usize = 223;

/// A user and secret for CHAP, as given in a URL.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// The CHAP name.
    pub user: String,
    /// The CHAP secret. Never printed.
    pub secret: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Credentials {
    /// `user%secret`.
    ///
    /// # Errors
    /// Why it is not.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (user, secret) = text.split_once('%').ok_or("user and secret are not separated by %")?;
        if user.is_empty() {
            return Err("the user name is empty");
        }
        Ok(Self { user: user.to_owned(), secret: secret.to_owned() })
    }

    fn credential(&self) -> Credential {
        Credential { name: self.user.clone(), secret: Secret::new(self.secret.as_bytes()) }
    }
}

/// Where a logical unit is reached. `iqn` and `lun` may be left out for discovery.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TargetUrl {
    /// Credentials, if the URL holds any.
    pub credentials: Option<Credentials>,
    /// What the target has to prove (mutual CHAP), if anything: `?target_user=…&target_password=…`.
    pub target_credentials: Option<Credentials>,
    /// Host name, IPv4 address, or IPv6 address without its brackets.
    pub host: String,
    /// TCP port; 3260 unless given.
    pub port: u16,
    /// The target's iSCSI name; empty in a URL that names only a portal.
    pub iqn: String,
    /// The logical unit number, flat space (0 to 16383).
    pub lun: u16,
}

/// Why a text is not a target's URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an iSCSI URL ({reason}); write iscsi://[user%secret@]host[:port]/target-name/lun")]
pub struct UrlError {
    text: String,
    reason: &'static str,
}

impl TargetUrl {
    /// What to log in with, if anything; `random` are bytes of this login's own.
    pub(crate) fn answers(&self, random: [u8; NONCE_BYTES]) -> Option<Answers> {
        let own = self.credentials.as_ref()?.credential();
        let target = self.target_credentials.as_ref().map(Credentials::credential);
        Some(Answers { own, target, nonce: Nonce::new(random) })
    }

    /// `host:port` as the socket layer takes it, IPv6 in brackets.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl TargetUrl {
    /// The same target at the portal that a redirection names: its TargetAddress, of which a portal group tag is
    /// no part there but is overlooked (RFC 7143 §13.8). `None` for what is no address.
    pub(crate) fn moved_to(&self, address: &str) -> Option<Self> {
        let portal = address.split_once(',').map_or(address, |(portal, _)| portal);
        let (host, port) = parse_portal(portal).ok()?;
        Some(Self { host, port, ..self.clone() })
    }
}

impl fmt::Display for TargetUrl {
    /// The URL without its secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "iscsi://")?;
        if let Some(credentials) = &self.credentials {
            write!(f, "{}@", credentials.user)?;
        }
        write!(f, "{}", self.authority())?;
        if self.iqn.is_empty() { Ok(()) } else { write!(f, "/{}/{}", self.iqn, self.lun) }
    }
}

impl FromStr for TargetUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        parse(text).map_err(|reason| UrlError { text: without_secret(text), reason })
    }
}

fn parse(text: &str) -> Result<TargetUrl, &'static str> {
    let rest = text.strip_prefix("iscsi://").ok_or("it does not begin with iscsi://")?;
    // A secret may hold a question mark: the options come behind the last @.
    let place = rest.rfind('@').map_or(0, |at| at + 1);
    let question = rest.get(place..).and_then(|tail| tail.find('?')).map(|at| place + at);
    let (rest, options) = question.and_then(|at| rest.split_at_checked(at)).unwrap_or((rest, ""));
    let target_credentials = parse_options(options.trim_start_matches('?'))?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (credentials, portal) = match authority.rsplit_once('@') {
        Some((user, portal)) => (Some(Credentials::parse(user)?), portal),
        None => (None, authority),
    };
    let (host, port) = parse_portal(portal)?;
    let (iqn, lun) = parse_path(path)?;
    if target_credentials.is_some() && credentials.is_none() {
        return Err("a target that proves itself wants user%secret first");
    }
    Ok(TargetUrl { credentials, target_credentials, host, port, iqn, lun })
}

/// Options as libiscsi has them; what this side has no use for is passed over.
fn parse_options(options: &str) -> Result<Option<Credentials>, &'static str> {
    let value = |name: &str| {
        let mut pairs = options.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    };
    match (value("target_user"), value("target_password")) {
        (Some(user), Some(secret)) if !user.is_empty() => Ok(Some(Credentials { user, secret })),
        (None, None) => Ok(None),
        _ => Err("target_user and target_password go together"),
    }
}

fn parse_portal(portal: &str) -> Result<(String, u16), &'static str> {
    let (host, port) = if let Some(rest) = portal.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("a bracket is not closed")?;
        host.parse::<core::net::Ipv6Addr>().map_err(|_| "the brackets hold no IPv6 address")?;
        (host, after.strip_prefix(':').or(after.is_empty().then_some("")).ok_or("text after the bracket")?)
    } else {
        portal.split_once(':').unwrap_or((portal, ""))
    };
    if host.is_empty() {
        return Err("the host is missing");
    }
    if port.contains(':') {
        return Err("an IPv6 address must stand in brackets");
    }
    let port =
        if port.is_empty() { DEFAULT_PORT } else { port.parse().map_err(|_| "the port is no number")? };
    Ok((host.to_owned(), port))
}

fn parse_path(path: &str) -> Result<(String, u16), &'static str> {
    if path.is_empty() {
        return Ok((String::new(), 0));
    }
    let (iqn, lun) = path.split_once('/').unwrap_or((path, "0"));
    let lun = if lun.is_empty() { 0 } else { lun.parse().map_err(|_| "the LUN is no number")? };
    if lun > 0x3FFF {
        return Err("the LUN is above 16383");
    }
    if iqn.len() > NAME_BYTES_MAX {
        return Err("the target name is longer than 223 bytes");
    }
    Ok((iqn.to_owned(), lun))
}

/// The text for an error message, with what stands between % and @ blotted out.
fn without_secret(text: &str) -> String {
    let text = match text.find("target_password=") {
        Some(at) => format!("{}target_password=…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    };
    let text = text.as_str();
    match (text.find('%'), text.rfind('@')) {
        (Some(percent), Some(at)) if percent < at => {
            let (head, _) = text.split_at(percent);
            let (_, tail) = text.split_at(at);
            format!("{head}%…{tail}")
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> TargetUrl {
        text.parse().expect(text)
    }

    #[test]
    fn a_full_url_is_taken_apart() {
        let url = url("iscsi://joe%s3cret@san.example:3261/iqn.2026-01.example:vol/7");
        let credentials = url.credentials.expect("credentials");
        assert_eq!((credentials.user.as_str(), credentials.secret.as_str()), ("joe", "s3cret"));
        assert_eq!((url.host.as_str(), url.port), ("san.example", 3261));
        assert_eq!((url.iqn.as_str(), url.lun), ("iqn.2026-01.example:vol", 7));
    }

    #[test]
    fn what_a_target_has_to_prove_is_an_option() {
        let url = url("iscsi://joe%a?b@h/iqn.a:b/1?header_digest=crc32c&target_user=san&target_password=x%y");
        let target = url.target_credentials.as_ref().expect("target's credentials");
        assert_eq!((target.user.as_str(), target.secret.as_str()), ("san", "x%y"));
        assert_eq!(url.credentials.as_ref().expect("credentials").secret, "a?b");
        assert_eq!((url.iqn.as_str(), url.lun), ("iqn.a:b", 1));
        assert!(!format!("{url} {url:?}").contains("x%y"));
        for wrong in ["joe%s@h/iqn.a:b/0?target_user=san", "h/iqn.a:b/0?target_user=a&target_password=hidden"]
        {
            let error = format!("iscsi://{wrong}").parse::<TargetUrl>().expect_err(wrong);
            assert!(!error.to_string().contains("hidden"), "{error}");
        }
    }

    #[test]
    fn port_and_lun_have_defaults() {
        let url = url("iscsi://10.0.0.1/iqn.2026-01.example:vol");
        assert_eq!((url.port, url.lun), (3260, 0));
        assert_eq!(url.authority(), "10.0.0.1:3260");
    }

    /// RFC 7143 §13.8: TargetAddress of a redirection.
    #[test]
    fn a_redirection_changes_the_portal_only() {
        let url = url("iscsi://joe%s3cret@10.0.0.1/iqn.2026-01.example:vol/3");
        let moved = |address| url.moved_to(address).map(|url| url.authority());
        assert_eq!(moved("10.0.0.2:3261").as_deref(), Some("10.0.0.2:3261"));
        assert_eq!(moved("[fd00::2]").as_deref(), Some("[fd00::2]:3260"));
        assert_eq!(moved("san.example:3260,1").as_deref(), Some("san.example:3260"));
        assert_eq!(moved(":3260"), None);
        let same = TargetUrl { host: "x".to_owned(), ..url.clone() };
        assert_eq!(url.moved_to("x"), Some(same), "target, LUN and credentials stay");
    }

    #[test]
    fn ipv6_stands_in_brackets() {
        let url = url("iscsi://[::1]:860/iqn.a:b/0");
        assert_eq!((url.host.as_str(), url.port), ("::1", 860));
        assert_eq!(url.authority(), "[::1]:860");
        assert_eq!(super::parse("iscsi://[fe80::1]/iqn.a:b/1").expect("default port").port, 3260);
    }

    #[test]
    fn a_portal_alone_is_enough_for_discovery() {
        let url = url("iscsi://host:3260");
        assert_eq!(url.iqn, "");
        assert_eq!(url.to_string(), "iscsi://host:3260");
    }

    #[test]
    fn wrong_urls_are_refused_with_a_reason() {
        for text in [
            "http://host/iqn/0",
            "iscsi://",
            "iscsi:///iqn.a:b/0",
            "iscsi://joe@host/iqn.a:b/0",
            "iscsi://%x@host/iqn.a:b/0",
            "iscsi://::1/iqn.a:b/0",
            "iscsi://[::1/iqn.a:b/0",
            "iscsi://[zz]/iqn.a:b/0",
            "iscsi://[::1]x/iqn.a:b/0",
            "iscsi://host:port/iqn.a:b/0",
            "iscsi://host:99999/iqn.a:b/0",
            "iscsi://host/iqn.a:b/lun",
            "iscsi://host/iqn.a:b/16384",
        ] {
            assert!(text.parse::<TargetUrl>().is_err(), "{text}");
        }
        assert!(format!("iscsi://h/{}/0", "x".repeat(224)).parse::<TargetUrl>().is_err());
    }

    #[test]
    fn a_secret_is_never_printed() {
        let url = url("iscsi://joe%s3cret@host/iqn.a:b/0");
        assert!(!format!("{url} {url:?}").contains("s3cret"));
        let error = "iscsi://joe%s3cret@host:x/iqn.a:b/0".parse::<TargetUrl>().expect_err("bad port");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}
