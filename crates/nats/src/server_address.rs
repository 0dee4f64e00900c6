//! Where a server is: a host's name or address, and a port.

use crate::cluster_folder::ClusterError;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The port of every nats-server, unless somebody says otherwise.
pub const PORT: u16 = 4222;
/// The port at which a server hears the cluster's other servers is that much above the one for clients: 6222 for 4222, as usual.
pub const ROUTE_PORT_OFFSET: u16 = 2_000;

/// A server's address, as others reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress {
    host: String,
    port: u16,
}

impl ServerAddress {
    /// Of a host that is known to be one.
    pub(crate) fn new(host: &str, port: u16) -> ServerAddress {
        // Names and addresses mean the same however they are written, and are compared here.
        let host = match host.parse::<IpAddr>() {
            Ok(address) => address.to_string(),
            Err(_) => host.to_ascii_lowercase(),
        };
        ServerAddress { host, port }
    }

    /// The host's name or address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port for clients.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where the cluster's other servers reach it, if there is such a port.
    pub fn route(&self) -> Option<ServerAddress> {
        let port = self.port.checked_add(ROUTE_PORT_OFFSET)?;
        Some(ServerAddress::new(&self.host, port))
    }

    /// As clients are told.
    pub fn url(&self) -> String {
        format!("tls://{self}")
    }

    /// Whether no other machine reaches it.
    pub fn is_loopback(&self) -> bool {
        let of_address = |address: IpAddr| address.is_loopback();
        self.host == "localhost" || self.host.parse().is_ok_and(of_address)
    }

    /// Where it listens: at all of the machine's addresses, because its name may lead to others there than elsewhere; but if it is
    /// for this machine only, there only.
    pub(crate) fn listen(&self) -> SocketAddr {
        let address = match self.host.parse() {
            Ok(address @ (IpAddr::V4(_) | IpAddr::V6(_))) if self.is_loopback() => address,
            Ok(IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
            _ if self.is_loopback() => Ipv4Addr::LOCALHOST.into(),
            _ => Ipv4Addr::UNSPECIFIED.into(),
        };
        SocketAddr::new(address, self.port)
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.parse::<IpAddr>() {
            Ok(address) => SocketAddr::new(address, self.port).fmt(f),
            Err(_) => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for ServerAddress {
    type Err = ClusterError;

    /// Reads `HOST` or `HOST:PORT`; an IPv6 address with a port stands in brackets.
    fn from_str(text: &str) -> Result<ServerAddress, ClusterError> {
        let bad = || ClusterError::BadServer(text.to_owned());
        let in_brackets = |text: &str| {
            text.strip_prefix('[')?
                .strip_suffix(']')?
                .parse::<Ipv6Addr>()
                .ok()
        };
        let (host, port) = match text.rsplit_once(':') {
            _ if text.parse::<IpAddr>().is_ok() => (text.to_owned(), PORT),
            _ if in_brackets(text).is_some() => (text.trim_matches(['[', ']']).to_owned(), PORT),
            None => (text.to_owned(), PORT),
            Some((host, port)) => {
                let address = in_brackets(host).map(|address| address.to_string());
                (
                    address.unwrap_or(host.to_owned()),
                    port.parse().map_err(|_| bad())?,
                )
            }
        };
        let is_somewhere = !host.parse().is_ok_and(|address: IpAddr| address.is_unspecified());
        if port == 0 || !is_host(&host) || !is_somewhere {
            return Err(bad());
        }
        Ok(ServerAddress::new(&host, port))
    }
}

/// A name of letters, digits, `-` and `.`, or an address.
pub(crate) fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.parse::<IpAddr>().is_ok() || host.len() <= 253 && host.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> ServerAddress {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_a_port_or_gets_the_usual_one() {
        for (text, shown) in [
            ("a", "a:4222"),
            ("Head.Example:4300", "head.example:4300"),
            ("10.0.0.7", "10.0.0.7:4222"),
            ("10.0.0.7:1", "10.0.0.7:1"),
            ("fd00::1", "[fd00::1]:4222"),
            ("FD00:0::0001", "[fd00::1]:4222"),
            ("0::ffff:1.2.3.4", "[::ffff:1.2.3.4]:4222"),
            ("[fd00::1]", "[fd00::1]:4222"),
            ("[fd00::1]:4300", "[fd00::1]:4300"),
        ] {
            assert_eq!(read(text).to_string(), shown);
            assert_eq!(read(shown), read(text));
        }
        assert_eq!(read("a").route().unwrap().to_string(), "a:6222");
        assert_eq!(read("a:63536").route(), None);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            ":4222",
            "a:",
            "a:0",
            "a:65536",
            "a:b",
            "a b",
            "a..b",
            "näme",
            "[a]:1",
            "0.0.0.0",
            "[::]:4222",
            "a/b",
            "tls://a:4222",
            "a@b",
        ] {
            assert!(text.parse::<ServerAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn it_listens_everywhere_unless_it_is_for_this_machine() {
        for (text, listen) in [
            ("a", "0.0.0.0:4222"),
            ("10.0.0.7:1", "0.0.0.0:1"),
            ("fd00::1", "[::]:4222"),
            ("127.0.0.1:4223", "127.0.0.1:4223"),
            ("localhost", "127.0.0.1:4222"),
            ("::1", "[::1]:4222"),
        ] {
            assert_eq!(read(text).listen(), listen.parse().unwrap(), "{text}");
        }
    }
}
