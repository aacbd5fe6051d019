//! Which certificate authorities are believed: the system's, and those of the operator's bundle.
//!
//! The system's are found as OpenSSL finds them, `SSL_CERT_FILE` and `SSL_CERT_DIR` of this process included. A bundle is
//! re-encoded for the inside, never copied: what else stands in the file stays here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use nix::libc::O_NONBLOCK;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

/// The most that a bundle may hold, in bytes. The system's own are about 220 KiB.
const MAX_BUNDLE: u64 = 4 << 20;

/// Why there is nothing to trust.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("{0}; install the ca-certificates package")]
    NoAuthorities(String),
    #[error("network.ca_bundle: {path}: {reason}")]
    Bundle { path: String, reason: BundleFlaw },
    #[error("this build of TLS has no usable protocol version: {0}")]
    Tls(rustls::Error),
}

/// What is wrong with the operator's bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleFlaw {
    #[error("can't be read: {0}")]
    Unreadable(#[source] io::Error),
    #[error("is not a regular file; name a file of PEM certificates")]
    NotAFile,
    #[error("is larger than 4 MiB; name a file of certificate authorities only")]
    TooLarge,
    #[error("holds a private key; it is offered to every session, so name a file of certificates only")]
    PrivateKey,
    #[error("holds no certificate; it takes PEM: `-----BEGIN CERTIFICATE-----`")]
    NoCertificate,
    #[error("has a section that is no PEM (after {0} good certificates)")]
    NotPem(usize),
    #[error("its certificate number {0} is not one that TLS can use")]
    NotACertificate(usize),
}

/// For connections of this host's own. Reads files: not for a thread that others wait on.
pub fn client_config(bundle: Option<&Path>) -> Result<ClientConfig, TrustError> {
    let mut roots = RootCertStore::empty();
    // One that rustls can't use is passed over, as every system has some; the operator's were tried.
    roots.add_parsable_certificates(authorities(bundle)?);
    // Named, because rustls picks no provider by itself where more than one could be linked in.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TrustError::Tls)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The same authorities as PEM text, for the file that is offered inside: each once, and the same text for the same ones.
/// Reads files: not for a thread that others wait on.
pub fn pem(bundle: &Path) -> Result<String, TrustError> {
    let all = authorities(Some(bundle))?;
    let ordered: BTreeSet<Vec<u8>> = all.iter().map(|certificate| certificate.to_vec()).collect();
    Ok(ordered.iter().map(|der| encode(der)).collect())
}

/// The operator's may be all there are: a machine without any of its own can still trust those.
fn authorities(bundle: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let found = rustls_native_certs::load_native_certs();
    let Some(bundle) = bundle else {
        return match (found.certs.is_empty(), found.errors.first()) {
            (false, _) => Ok(found.certs),
            (true, Some(error)) => Err(TrustError::NoAuthorities(error.to_string())),
            (true, None) => Err(TrustError::NoAuthorities(
                "this system trusts no certificate authority".to_owned(),
            )),
        };
    };
    let mut all = found.certs;
    all.extend(certificates(bundle)?);
    Ok(all)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let parsed = read(path).and_then(|text| parse(&text));
    parsed.map_err(|reason| TrustError::Bundle {
        path: path.display().to_string(),
        reason,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, BundleFlaw> {
    // Without O_NONBLOCK a FIFO in the file's place would block for ever.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(path)
        .map_err(BundleFlaw::Unreadable)?;
    if !file.metadata().map_err(BundleFlaw::Unreadable)?.is_file() {
        return Err(BundleFlaw::NotAFile);
    }
    let mut text = Vec::new();
    file.take(MAX_BUNDLE + 1)
        .read_to_end(&mut text)
        .map_err(BundleFlaw::Unreadable)?;
    match text.len() as u64 > MAX_BUNDLE {
        true => Err(BundleFlaw::TooLarge),
        false => Ok(text),
    }
}

/// Every certificate of a PEM text, each usable as an authority.
fn parse(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, BundleFlaw> {
    // By the text, because the parser passes over the kinds of key that it does not know.
    let lines = text.split(|byte| matches!(byte, b'\n' | b'\r'));
    if lines
        .map(String::from_utf8_lossy)
        .any(|line| line.contains("-----BEGIN ") && line.contains("PRIVATE KEY"))
    {
        return Err(BundleFlaw::PrivateKey);
    }
    let mut certificates: Vec<CertificateDer<'static>> = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(text) {
        let certificate = certificate.map_err(|_| BundleFlaw::NotPem(certificates.len()))?;
        if RootCertStore::empty().add(certificate.clone()).is_err() {
            return Err(BundleFlaw::NotACertificate(certificates.len() + 1));
        }
        certificates.push(certificate);
    }
    match certificates.is_empty() {
        true => Err(BundleFlaw::NoCertificate),
        false => Ok(certificates),
    }
}

fn encode(der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests write bundles")]
mod tests {
    use super::*;

    fn authority(name: &str) -> String {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
    }

    fn file(content: impl AsRef<[u8]>) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    fn flaw(path: &Path) -> String {
        let error = pem(path).unwrap_err();
        let prefix = format!("network.ca_bundle: {}: ", path.display());
        assert_eq!(client_config(Some(path)).unwrap_err().to_string(), error.to_string());
        error.to_string().strip_prefix(&prefix).unwrap().to_owned()
    }

    fn flaw_of(content: impl AsRef<[u8]>) -> String {
        flaw(file(content).path())
    }

    #[test]
    fn the_text_for_the_inside_holds_each_authority_once_and_nothing_else() {
        let (first, second) = (authority("first"), authority("second"));
        // What a bundle has between its certificates is for people.
        let noted = format!("# ours\n{first}\n# theirs\n{}{first}", second.replace('\n', "\r\n"));
        let text = pem(file(noted).path()).unwrap();
        assert_eq!(pem(file(second.clone() + &first).path()).unwrap(), text);
        let unix = |pem: &str| pem.replace("\r\n", "\n");
        for pem in [&first, &second] {
            assert_eq!(text.matches(&unix(pem)).count(), 1, "{pem} in {text}");
        }
        let count = |text: &str| text.matches("-----BEGIN CERTIFICATE-----").count();
        let without = pem(file(&first).path()).unwrap();
        assert_eq!(count(&text), count(&without) + 1);
        assert!(!text.contains('#'));
        assert_eq!(parse(text.as_bytes()).unwrap().len(), count(&text));
    }

    #[test]
    fn a_private_key_of_any_kind_is_refused() {
        for kind in [
            "PRIVATE KEY",
            "RSA PRIVATE KEY",
            "ENCRYPTED PRIVATE KEY",
            "OPENSSH PRIVATE KEY",
        ] {
            let key = format!("{}-----BEGIN {kind}-----\nAAAA\n-----END {kind}-----\n", authority("a"));
            assert!(flaw_of(&key).starts_with("holds a private key; "), "{kind}");
            assert!(
                flaw_of(key.replace('\n', "\r")).starts_with("holds a private key; "),
                "{kind}"
            );
        }
    }

    #[test]
    fn every_flaw_is_said() {
        insta::assert_snapshot!(flaw_of(""), @"holds no certificate; it takes PEM: `-----BEGIN CERTIFICATE-----`");
        insta::assert_snapshot!(flaw_of([0x30, 0x82]), @"holds no certificate; it takes PEM: `-----BEGIN CERTIFICATE-----`");
        let good = authority("a");
        let cut = good.replace("-----END CERTIFICATE-----\n", "");
        insta::assert_snapshot!(flaw_of(good.clone() + &cut), @"has a section that is no PEM (after 1 good certificates)");
        let other = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        insta::assert_snapshot!(flaw_of(good.clone() + other), @"its certificate number 2 is not one that TLS can use");
        let large = good + &"#".repeat(4 << 20);
        insta::assert_snapshot!(flaw_of(large), @"is larger than 4 MiB; name a file of certificate authorities only");
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        for path in [dir.path(), &fifo] {
            insta::allow_duplicates! {
                insta::assert_snapshot!(flaw(path), @"is not a regular file; name a file of PEM certificates");
            }
        }
        insta::assert_snapshot!(flaw(&dir.path().join("gone")), @"can't be read: No such file or directory (os error 2)");
    }
}
