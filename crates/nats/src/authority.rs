//! Certificates of a cluster: an authority of its own, and the server's certificate that it signs.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

/// What is made once for a cluster, in PEM.
#[derive(Debug)]
pub(crate) struct Certificates {
    /// The authority's certificate, which every join file holds.
    pub(crate) authority: String,
    /// The server's certificate.
    pub(crate) server: String,
    /// The server's key.
    pub(crate) server_key: String,
}

/// Makes an authority and a server certificate for `hosts`: names or addresses under which clients reach the server.
///
/// Certificates are valid for as long as the format can say: their end would stop a cluster on a day that nobody expects, and a
/// cluster is ended by deleting its folder. The authority's key is not kept: nobody can certify another server.
///
/// # Errors
/// If a host is neither a name nor an address, or the system has no randomness.
pub(crate) fn issue(hosts: &[String]) -> Result<Certificates, rcgen::Error> {
    let mut authority = CertificateParams::default();
    authority.distinguished_name = named("tilework cluster authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority_key = KeyPair::generate()?;
    let authority_certificate = authority.self_signed(&authority_key)?;
    let mut server = CertificateParams::new(hosts)?;
    server.distinguished_name = named("tilework nats-server");
    server.use_authority_key_identifier_extension = true;
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let server_key = KeyPair::generate()?;
    let issuer = Issuer::from_params(&authority, &authority_key);
    let server_certificate = server.signed_by(&server_key, &issuer)?;
    Ok(Certificates {
        authority: authority_certificate.pem(),
        server: server_certificate.pem(),
        server_key: server_key.serialize_pem(),
    })
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
