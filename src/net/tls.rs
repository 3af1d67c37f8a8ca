//! TLS 1.3 with raw public keys (RFC 7250): what is proven is the key that is the node's id,
//! both ways, and nothing else. No certificates, no names, no dates.
//!
//! Any well-formed Ed25519 key is let in here: strangers may ask. Whether a node may join a room
//! is decided above, by the room.

use std::sync::Arc;

use quinn::Connection;
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer,
    UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
};

use super::NetError;
use crate::base::NodeId;
use crate::identity::NodeKey;

/// What stands in front of the 32 bytes of an Ed25519 key in its `SubjectPublicKeyInfo`
/// (RFC 8410, section 4).
const ED25519_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A name that cannot exist (RFC 6761, section 6.4). TLS asks for one; it is neither sent nor
/// checked.
pub(super) const SERVER_NAME: &str = "groovebox.invalid";

/// The exporter's label (RFC 5705, section 4).
const EXPORTER: &[u8] = b"EXPERIMENTAL groovebox door 1";

/// This node's half of every handshake.
pub(super) struct Identity {
    provider: Arc<CryptoProvider>,
    key: Arc<CertifiedKey>,
    verifier: Arc<AnyNode>,
}

impl Identity {
    pub(super) fn new(key: &NodeKey) -> Result<Identity, NetError> {
        let provider = Arc::new(ring::default_provider());
        let pkcs8 = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.pkcs8().to_vec()));
        let signer = provider.key_provider.load_private_key(pkcs8).map_err(unusable)?;
        let public = signer.public_key().ok_or(NetError::Tls("a key without its half".into()))?;
        let public = vec![CertificateDer::from(public.to_vec())];
        let key = Arc::new(CertifiedKey::new(public, signer));
        Ok(Identity { verifier: Arc::new(AnyNode(provider.clone())), provider, key })
    }

    /// For incoming connections that offer one of `alpns`.
    pub(super) fn server(&self, alpns: &[&[u8]]) -> Result<Arc<QuicServerConfig>, NetError> {
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(unusable)?
            .with_client_cert_verifier(self.verifier.clone())
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(self.key.clone())));
        config.alpn_protocols = alpns.iter().map(|alpn| alpn.to_vec()).collect();
        // A resumed session would skip the proof of the key.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let config = QuicServerConfig::try_from(config).map_err(unusable)?;
        Ok(Arc::new(config))
    }

    /// For outgoing connections that speak `alpn`.
    pub(super) fn client(&self, alpn: &[u8]) -> Result<Arc<QuicClientConfig>, NetError> {
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(unusable)?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier.clone())
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(
                self.key.clone(),
            )));
        config.alpn_protocols = vec![alpn.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        let config = QuicClientConfig::try_from(config).map_err(unusable)?;
        Ok(Arc::new(config))
    }
}

/// The node that proved itself on a connection; none if the handshake is not over.
pub(super) fn peer_of(connection: &Connection) -> Option<NodeId> {
    let identity = connection.peer_identity()?;
    let keys = identity.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    node_id(keys.first()?).ok()
}

/// Keying material that only the two ends of a connection have, the same at both.
pub(super) fn channel_of(connection: &Connection) -> [u8; 32] {
    let mut channel = [0; 32];
    connection
        .export_keying_material(&mut channel, EXPORTER, b"")
        .expect("32 bytes are within what TLS 1.3 exports");
    channel
}

/// The protocol that both sides agreed on.
pub(super) fn alpn_of(connection: &Connection) -> Option<Vec<u8>> {
    connection.handshake_data()?.downcast::<HandshakeData>().ok()?.protocol
}

fn node_id(public: &CertificateDer<'_>) -> Result<NodeId, Error> {
    let malformed = Error::InvalidCertificate(CertificateError::BadEncoding);
    let key = public.as_ref().strip_prefix(&ED25519_PREFIX).ok_or(malformed.clone())?;
    key.try_into().map(NodeId).map_err(|_| malformed)
}

fn unusable(error: impl std::fmt::Display) -> NetError {
    NetError::Tls(error.to_string())
}

/// Accepts whoever proves to hold an Ed25519 key.
#[derive(Debug)]
struct AnyNode(Arc<CryptoProvider>);

impl AnyNode {
    fn verify(
        &self,
        message: &[u8],
        public: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(public.as_ref()),
            signed,
            &self.0.signature_verification_algorithms,
        )
    }
}

fn no_tls12() -> Error {
    Error::General("QUIC has no TLS 1.2".into())
}

impl ServerCertVerifier for AnyNode {
    fn verify_server_cert(
        &self,
        public: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        node_id(public).map(|_| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _public: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        public: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, public, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for AnyNode {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        public: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        node_id(public).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _public: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        public: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, public, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_ed25519_key_is_a_node() {
        let public = |bytes: Vec<u8>| node_id(&CertificateDer::from(bytes));
        let good = [&ED25519_PREFIX[..], &[7; 32]].concat();
        assert_eq!(public(good.clone()), Ok(NodeId([7; 32])));
        let mut other_curve = good.clone();
        other_curve[8] = 0x71;
        let longer = [&good[..], &[0]].concat();
        for wrong in [vec![], good[..43].to_vec(), other_curve, longer] {
            assert!(public(wrong).is_err());
        }
    }
}
