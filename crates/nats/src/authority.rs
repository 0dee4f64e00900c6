//! Certificates of a cluster: an authority of its own, and the server's certificate that it signs.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

/// A cluster's authority. Its key is gone with it: nobody can certify another server later.
pub(crate) struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A server's certificate and key, in PEM.
#[derive(Debug)]
pub(crate) struct Certified {
    /// The server's certificate.
    pub(crate) certificate: String,
    /// The server's key.
    pub(crate) key: String,
}

/// Whom a server proves itself to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proves {
    /// Who connects to it.
    ToClients,
    /// The cluster's other servers too, to which it connects as their client.
    ToServersToo,
}

impl Authority {
    /// Makes one.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub(crate) fn new() -> Result<Authority, rcgen::Error> {
        let mut authority = CertificateParams::default();
        authority.distinguished_name = named("tilework cluster authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let pem = authority.self_signed(&key)?.pem();
        Ok(Authority {
            pem,
            issuer: Issuer::new(authority, key),
        })
    }

    /// Its certificate in PEM, which every join file holds.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// Makes a certificate for a server that is reached under these names and addresses.
    ///
    /// Certificates are valid for as long as the format can say: their end would stop a cluster on a day that nobody expects, and a
    /// cluster is ended by deleting its folder.
    ///
    /// # Errors
    /// If a host is neither a name nor an address, or the system has no randomness.
    pub(crate) fn certify(&self, hosts: &[String], proves: Proves) -> Result<Certified, rcgen::Error> {
        let mut server = CertificateParams::new(hosts)?;
        server.distinguished_name = named("tilework nats-server");
        server.use_authority_key_identifier_extension = true;
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        if proves == Proves::ToServersToo {
            server
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        let key = KeyPair::generate()?;
        let certificate = server.signed_by(&key, &self.issuer)?;
        Ok(Certified {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
