//! An endpoint of quinn with raw public keys (RFC 7250), for `tests/interop/quinn.py`: one request and one answer a connection.
//!
//!     quinn-peer serve HOST ALPN SEED FILE [OPTION...]           answers 64 bytes with FILE; prints its port
//!     quinn-peer fetch HOST:PORT ALPN SEED KEY REQUEST [OPTION...]   prints the answer's size and SHA-256
//!
//! SEED and KEY, the other's public key, are 32 bytes in hexadecimal, REQUEST is 64. Both print the key of the other
//! one. Options: `update` changes keys in the midst of the answer, `rebind` the socket; `retry` asks for a proof of
//! the address; `chacha20` offers no other cipher.

use std::{env, error::Error, net::UdpSocket, sync::Arc};

use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rustls::{
    DigitallySignedStruct, DistinguishedName, SignatureScheme,
    client::{
        AlwaysResolvesClientRawPublicKeys,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime},
    server::{
        AlwaysResolvesServerRawPublicKeys,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
    version::TLS13,
};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, stdin};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const REQUEST: usize = 64;
/// What comes before 32 bytes of an ed25519 key: PKCS #8 of a secret one, SubjectPublicKeyInfo of a public one.
const SECRET: &[u8] = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
const PUBLIC: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (plain, options) = arguments.split_at(arguments.len().min(match arguments.first().map(String::as_str) {
        Some("serve") => 5,
        _ => 6,
    }));
    let has = |name: &str| options.iter().any(|option| option == name);
    match plain.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", host, alpn, seed, file] => serve(host, alpn, seed, std::fs::read(file)?, &has).await,
        ["fetch", there, alpn, seed, key, request] => fetch(there, alpn, seed, key, &unhex(request)?, &has).await,
        _ => Err("see the first lines of tests/interop/quinn_peer/src/main.rs".into()),
    }
}

async fn serve(host: &str, alpn: &str, seed: &str, answer: Vec<u8>, has: &dyn Fn(&str) -> bool) -> Outcome<()> {
    let provider = provider(has("chacha20"));
    let (verifier, key) = (Arc::new(AnyKey::new(&provider)), certified(seed)?);
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(key)));
    tls.alpn_protocols = vec![alpn.into()];
    let crypto = QuicServerConfig::with_initial(tls.into(), initial())?;
    let endpoint = Endpoint::server(ServerConfig::with_crypto(Arc::new(crypto)), format!("{host}:0").parse()?)?;
    println!("{}", endpoint.local_addr()?.port());
    let (accepting, answer, retry, update) = (endpoint.clone(), Arc::new(answer), has("retry"), has("update"));
    tokio::spawn(async move {
        while let Some(incoming) = accepting.accept().await {
            if retry && !incoming.remote_address_validated() {
                incoming.retry().expect("not validated yet");
            } else {
                tokio::spawn(give(incoming, answer.clone(), update));
            }
        }
    });
    stdin().read_to_end(&mut Vec::new()).await?;
    endpoint.close(0u32.into(), b"");
    endpoint.wait_idle().await;
    Ok(())
}

async fn give(incoming: Incoming, answer: Arc<Vec<u8>>, update: bool) -> Outcome<()> {
    let connection = incoming.await?;
    println!("{}", key_of(&connection)?);
    let (mut send, mut receive) = connection.accept_bi().await?;
    receive.read_exact(&mut [0; REQUEST]).await?;
    let (first, second) = answer.split_at(answer.len() / 2);
    send.write_all(first).await?;
    if update {
        connection.force_key_update();
    }
    send.write_all(second).await?;
    send.finish()?;
    connection.closed().await;
    Ok(())
}

async fn fetch(
    there: &str,
    alpn: &str,
    seed: &str,
    key: &str,
    request: &[u8],
    has: &dyn Fn(&str) -> bool,
) -> Outcome<()> {
    let provider = provider(has("chacha20"));
    let verifier = Arc::new(AnyKey::new(&provider));
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified(seed)?)));
    tls.alpn_protocols = vec![alpn.into()];
    let crypto = QuicClientConfig::with_initial(tls.into(), initial())?;
    let here = if there.starts_with('[') { "[::1]:0" } else { "127.0.0.1:0" };
    let endpoint = Endpoint::new(EndpointConfig::default(), None, UdpSocket::bind(here)?, Arc::new(TokioRuntime))?;
    let config = ClientConfig::new(Arc::new(crypto));
    let connection = endpoint.connect_with(config, there.parse()?, "quinn.invalid")?.await?;
    if key_of(&connection)? != key {
        return Err("somebody else answered".into());
    }
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(request).await?;
    send.finish()?;
    let (mut hash, mut size, mut changed, mut piece) = (Sha256::new(), 0, false, vec![0; 1 << 16]);
    while let Some(count) = receive.read(&mut piece).await? {
        hash.update(&piece[..count]);
        size += count;
        if !changed && size > 1 << 17 {
            changed = true;
            if has("update") {
                connection.force_key_update();
            }
            if has("rebind") {
                endpoint.rebind(UdpSocket::bind(here)?)?;
            }
        }
    }
    connection.close(0u32.into(), b"");
    endpoint.wait_idle().await;
    println!("{size} {:x}", hash.finalize());
    Ok(())
}

fn provider(chacha20: bool) -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    if chacha20 {
        provider.cipher_suites = vec![ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256];
    }
    Arc::new(provider)
}

fn initial() -> rustls::quic::Suite {
    let suite = ring::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13().expect("of TLS 1.3");
    suite.quic_suite().expect("for QUIC, too")
}

fn certified(seed: &str) -> Outcome<Arc<CertifiedKey>> {
    let der = PrivatePkcs8KeyDer::from([SECRET, &unhex(seed)?].concat());
    let key = ring::sign::any_eddsa_type(&der)?;
    let public = key.public_key().ok_or("no public key")?;
    Ok(Arc::new(CertifiedKey::new(vec![CertificateDer::from(public.to_vec())], key)))
}

/// The other one's public key, in hexadecimal.
fn key_of(connection: &Connection) -> Outcome<String> {
    let identity = connection.peer_identity().ok_or("no key")?;
    let keys = identity.downcast::<Vec<CertificateDer<'static>>>().map_err(|_| "no raw key")?;
    let key = keys[0].strip_prefix(PUBLIC).ok_or("no ed25519 key")?;
    Ok(key.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn unhex(text: &str) -> Outcome<Vec<u8>> {
    (0..text.len()).step_by(2).map(|at| Ok(u8::from_str_radix(&text[at..at + 2], 16)?)).collect()
}

/// Takes any raw key whose owner signs: who it is the caller looks at.
#[derive(Debug)]
struct AnyKey(WebPkiSupportedAlgorithms);

impl AnyKey {
    fn new(provider: &CryptoProvider) -> Self {
        Self(provider.signature_verification_algorithms)
    }

    fn signed(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.0)
    }

    fn never() -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 alone".into()))
    }
}

/// What both sides ask of a verifier.
macro_rules! takes_signed_keys {
    () => {
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Self::never()
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            key: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            self.signed(message, key, signature)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ED25519]
        }

        fn requires_raw_public_keys(&self) -> bool {
            true
        }
    };
}

impl ServerCertVerifier for AnyKey {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    takes_signed_keys!();
}

impl ClientCertVerifier for AnyKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    takes_signed_keys!();
}
