use super::*;
use crate::config::network::Resolution;
use crate::dial::Names;
use crate::dial::fixtures::{Behaviour, ConnectProxy, ESTABLISHED, NameServer, settings};
use crate::dial::proxy::Proxy;
use http_body_util::{BodyExt, Empty};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

/// A provider whose certificate is of an authority that no system trusts.
struct PrivateProvider {
    address: SocketAddr,
    bundle: tempfile::NamedTempFile,
}

impl PrivateProvider {
    /// Answers every request that comes with `name` in its certificate.
    fn start(name: &str) -> Self {
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
        // Two authorities of one name would be told apart by their signatures only.
        authority
            .distinguished_name
            .push(rcgen::DnType::CommonName, format!("authority of {name}"));
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let bundle = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(bundle.path(), authority.self_signed(&authority_key).unwrap().pem()).unwrap();
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = certificate.signed_by(&key, &issuer).unwrap();

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from(certificate.der().to_vec())],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let config = Arc::new(config);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that does not trust it ends the handshake.
                let _ = answer(Arc::clone(&config), stream.unwrap());
            }
        });
        Self { address, bundle }
    }

    fn bundle(&self) -> Option<PathBuf> {
        Some(self.bundle.path().to_owned())
    }
}

fn answer(config: Arc<rustls::ServerConfig>, stream: TcpStream) -> io::Result<()> {
    let connection = rustls::ServerConnection::new(config).unwrap();
    let mut tls = rustls::StreamOwned::new(connection, stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        tls.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello")?;
    tls.flush()
}

fn direct() -> Dialer {
    Dialer::new(Names::new(&[]))
}

async fn get(upstream: &Upstream, scheme: Scheme, authority: &str) -> Result<String, UpstreamError> {
    let uri = match scheme {
        Scheme::Http => format!("http://{authority}/v1/models"),
        Scheme::Https => format!("https://{authority}/v1/models"),
    };
    let body = Empty::new().map_err(|never: std::convert::Infallible| match never {});
    let request = Request::builder().uri(uri).body(body.boxed_unsync()).unwrap();
    let answer = upstream.send(scheme, request).await?;
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_private_authority_is_trusted_with_its_bundle_only() {
    let provider = PrivateProvider::start("127.0.0.1");
    let authority = provider.address.to_string();
    let with = Upstream::new(direct(), provider.bundle());
    assert_eq!(get(&with, Scheme::Https, &authority).await.unwrap(), "hello");
    let other = PrivateProvider::start("other.example.com");
    let without = Upstream::new(direct(), other.bundle());
    let refused = get(&without, Scheme::Https, &authority).await.unwrap_err();
    assert!(matches!(refused, UpstreamError::Tls(_)), "{refused:?}");
    insta::assert_snapshot!(refused, @"invalid peer certificate: UnknownIssuer");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let provider = PrivateProvider::start("other.example.com");
    let upstream = Upstream::new(direct(), provider.bundle());
    let refused = get(&upstream, Scheme::Https, &provider.address.to_string())
        .await
        .unwrap_err();
    assert!(matches!(refused, UpstreamError::Tls(_)), "{refused:?}");
}

#[tokio::test]
async fn a_bundle_that_was_mended_is_used_without_a_restart() {
    let provider = PrivateProvider::start("127.0.0.1");
    let good = std::fs::read(provider.bundle.path()).unwrap();
    std::fs::write(provider.bundle.path(), "nothing").unwrap();
    let upstream = Upstream::new(direct(), provider.bundle());
    let authority = provider.address.to_string();
    let broken = get(&upstream, Scheme::Https, &authority).await.unwrap_err();
    assert!(
        matches!(broken, UpstreamError::Trust(TrustError::Bundle { .. })),
        "{broken:?}"
    );
    std::fs::write(provider.bundle.path(), good).unwrap();
    assert_eq!(get(&upstream, Scheme::Https, &authority).await.unwrap(), "hello");
}

#[tokio::test]
async fn tls_to_the_provider_runs_through_the_proxy_by_address_or_by_name() {
    let provider = PrivateProvider::start("provider.example.com");
    let to = provider.address;
    let proxy = ConnectProxy::start(move |_| Behaviour::Connect(ESTABLISHED, to)).await;
    let names = NameServer::of("provider.example.com", vec![Ipv4Addr::new(192, 0, 2, 1).into()]).await;
    for (resolution, target) in [
        (Resolution::Here, "192.0.2.1:8443"),
        (Resolution::ByProxy, "provider.example.com:8443"),
    ] {
        let proxied = Proxy::new(settings(proxy.address, &[], resolution), None);
        let dialer = Dialer::through(Names::new(&[names.address]), proxied);
        let upstream = Upstream::new(dialer, provider.bundle());
        let answer = get(&upstream, Scheme::Https, "provider.example.com:8443")
            .await
            .unwrap();
        assert_eq!(answer, "hello");
        assert_eq!(proxy.targets().last().unwrap(), target);
    }
    assert_eq!(names.queries().len(), 2);
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_and_not_gone_around() {
    let provider = PrivateProvider::start("provider.example.com");
    let proxy = ConnectProxy::start(|_| Behaviour::Say("HTTP/1.1 407 Who are you\r\n\r\n")).await;
    let names = NameServer::of("provider.example.com", vec![Ipv4Addr::new(192, 0, 2, 1).into()]).await;
    let proxied = Proxy::new(settings(proxy.address, &[], Resolution::Here), None);
    let dialer = Dialer::through(Names::new(&[names.address]), proxied);
    let upstream = Upstream::new(dialer, provider.bundle());
    for scheme in [Scheme::Https, Scheme::Http] {
        let refused = get(&upstream, scheme, "provider.example.com").await.unwrap_err();
        assert!(matches!(refused, UpstreamError::NotConnected(_)), "{refused:?}");
        let expected = format!(
            "the proxy http://{} (from default): it wants user and password; set network.proxy_credentials",
            proxy.address
        );
        assert_eq!(refused.to_string(), expected);
    }
    assert_eq!(proxy.targets(), ["192.0.2.1:443", "192.0.2.1:80"]);
}

#[tokio::test]
async fn a_name_without_an_address_is_named() {
    let names = NameServer::of("provider.example.com", Vec::new()).await;
    let upstream = Upstream::new(Dialer::new(Names::new(&[names.address])), None);
    let error = get(&upstream, Scheme::Http, "provider.example.com").await.unwrap_err();
    insta::assert_snapshot!(error, @"can't resolve provider.example.com: the name servers know no address for it");
}

#[test]
fn the_cause_inside_an_io_error_is_found() {
    let tls = rustls::Error::General("bad certificate".into());
    let wrapped = io::Error::other(io::Error::other(tls));
    let found = chain(&wrapped);
    assert!(found.iter().any(|cause| cause.is::<rustls::Error>()), "{found:?}");
}
