//! TLS to a database, with rustls.

use std::error::Error;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme,
    WantsVerifier,
};
use tokio_postgres_rustls::MakeRustlsConnect;

type BoxError = Box<dyn Error + Send + Sync>;

/// Connects to a server whose certificate is for the host's name and signed by a root in the file, or by one of the
/// system's.
pub(crate) fn this_name(file: Option<&str>) -> Result<MakeRustlsConnect, BoxError> {
    let roots = file.map_or_else(system_roots, roots_in)?;
    let config = builder(ring::default_provider())?.with_root_certificates(roots);
    Ok(connector(config.with_no_client_auth()))
}

/// Connects to a server whose certificate is signed by a root in the file, whatever name is in it.
pub(crate) fn any_name(file: Option<&str>) -> Result<MakeRustlsConnect, BoxError> {
    let anyone = "sslmode=verify-ca needs sslrootcert=FILE: with the system's roots, anyone who owns a domain \
                  would be accepted";
    let roots = roots_in(file.ok_or(anyone)?)?;
    let provider = ring::default_provider();
    let verifier = AnyName { roots, algorithms: provider.signature_verification_algorithms };
    let config =
        builder(provider)?.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    Ok(connector(config.with_no_client_auth()))
}

fn builder(
    provider: CryptoProvider,
) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(provider.into()).with_safe_default_protocol_versions()
}

fn connector(mut config: ClientConfig) -> MakeRustlsConnect {
    // For `sslnegotiation=direct`. Servers before version 17 ignore it.
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    MakeRustlsConnect::new(config)
}

/// The system's root certificates, or those in SSL_CERT_FILE.
fn system_roots() -> Result<RootCertStore, BoxError> {
    let mut roots = RootCertStore::empty();
    // Some systems have a certificate that rustls does not accept among many others.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let none = "this system has no root certificates: install them (Debian's package is \
                    `ca-certificates`), or add sslrootcert=FILE to the URL";
        return Err(none.into());
    }
    Ok(roots)
}

fn roots_in(file: &str) -> Result<RootCertStore, BoxError> {
    let wrong = |error: &dyn Error| format!("sslrootcert: {error}");
    let pem = std::fs::read(file).map_err(|error| wrong(&error))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong(&error))?;
        roots.add(certificate).map_err(|error| wrong(&error))?;
    }
    if roots.is_empty() {
        return Err("sslrootcert: the file contains no certificate: use one in PEM format".into());
    }
    Ok(roots)
}

/// Checks everything about a certificate except the name.
#[derive(Debug)]
struct AnyName {
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
