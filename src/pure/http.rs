//! Where a module is asked whether it is well, and how by HTTP: addresses, the request, and the status of the answer.
//!
//! No more of the protocol than that takes: what follows the status is never read. Must never connect to anything.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// A name, or a number without its brackets.
    pub host: String,
    /// Above 0.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Address {
    /// Of `HOST:PORT`, where a host with colons stands in brackets; without a port it is `default`.
    ///
    /// # Errors
    /// Says what is expected.
    pub fn parse(text: &str, default: Option<u16>) -> Result<Address, String> {
        let wrong = || "expected HOST:PORT, such as \"127.0.0.1:8080\" or \"[::1]:8080\"".to_owned();
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
                let is_number =
                    host.contains(':') && host.bytes().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(&byte));
                let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(wrong)?) };
                (Some(host).filter(|_| is_number).ok_or_else(wrong)?, port)
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let is_name =
            !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte));
        let digits = |port: &&str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = match port {
            Some(port) => Some(port).filter(digits).and_then(|port| port.parse().ok()).filter(|port| *port > 0),
            None => default,
        };
        match port {
            Some(port) if is_name => Ok(Address { host: host.to_owned(), port }),
            Some(_) | None => Err(wrong()),
        }
    }
}

/// The address of a page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Url {
    /// Where its server is.
    pub address: Address,
    /// What `Host` says.
    authority: String,
    /// The rest of it, from its first `/` or `?` on.
    path: String,
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

/// The port of `http`.
const PORT: u16 = 80;

impl Url {
    /// Of `http://HOST[:PORT][/PATH]`.
    ///
    /// # Errors
    /// Says what is expected.
    pub fn parse(text: &str) -> Result<Url, String> {
        let rest = text.strip_prefix("http://").ok_or("expected a URL that begins with \"http://\"")?;
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains('#') {
            return Err("a URL has no blanks, no `#` and nothing but ASCII here".to_owned());
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("a URL names no user here".to_owned());
        }
        let address = Address::parse(authority, Some(PORT))?;
        Ok(Url { address, authority: authority.to_owned(), path: path.to_owned() })
    }

    /// The whole request for it.
    #[must_use]
    pub fn request(&self) -> String {
        let slash = if self.path.starts_with('/') { "" } else { "/" };
        let version = env!("CARGO_PKG_VERSION");
        format!(
            "GET {slash}{} HTTP/1.1\r\nHost: {}\r\nUser-Agent: svtree/{version}\r\nAccept: */*\r\nConnection: close\r\n\r\n",
            self.path, self.authority
        )
    }
}

/// No status comes later than in so many bytes.
pub const LONGEST: usize = 16 << 10;

/// What an answer says so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// There is more to come.
    Unfinished,
    /// This is its status.
    Status(u16),
    /// It is none of HTTP/1.
    Wrong,
}

/// Reads the beginning of an answer; what a server says in advance, such as 103, is passed over.
#[must_use]
pub fn answer(mut bytes: &[u8]) -> Answer {
    if bytes.len() > LONGEST {
        return Answer::Wrong;
    }
    loop {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            let begins = b"HTTP/1.".starts_with(bytes.get(..7).unwrap_or(bytes));
            return if begins { Answer::Unfinished } else { Answer::Wrong };
        };
        let Some(status) = bytes.get(..end).and_then(status) else { return Answer::Wrong };
        if status >= 200 {
            return Answer::Status(status);
        }
        // A connection that is to speak another protocol speaks none that is asked for.
        if status == 101 {
            return Answer::Status(status);
        }
        match behind_headers(bytes) {
            Some(next) => bytes = bytes.get(next..).unwrap_or_default(),
            None => return Answer::Unfinished,
        }
        if bytes.is_empty() {
            return Answer::Unfinished;
        }
    }
}

/// Behind the first empty line, however the lines end.
fn behind_headers(bytes: &[u8]) -> Option<usize> {
    let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    ends.into_iter().find_map(|next| match bytes.get(next..)? {
        [b'\n', ..] => Some(next + 1),
        [b'\r', b'\n', ..] => Some(next + 2),
        _ => None,
    })
}

/// `HTTP/1.1 200 OK`, of which only the number counts.
fn status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let [version, b' ', rest @ ..] = rest else { return None };
    let (digits, rest) = rest.split_at_checked(3)?;
    let ends = matches!(rest, [] | [b' ' | b'\r', ..]);
    let number = str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    number.parse().ok().filter(|number| version.is_ascii_digit() && ends && (100..600).contains(number))
}

/// Whether a status says that all is well: it is there, or elsewhere.
#[must_use]
pub fn is_well(status: u16) -> bool {
    (200..400).contains(&status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, shown) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("localhost:1", "localhost:1"),
            ("[::1]:80", "[::1]:80"),
            ("a-b.example.org:65535", "a-b.example.org:65535"),
        ] {
            assert_eq!(Address::parse(text, None).map(|address| address.to_string()), Ok(shown.to_owned()), "{text}");
        }
        for text in
            ["", "localhost", ":80", "a:0", "a:65536", "a:", "a:+1", "::1:80", "[::1]80", "[::1", "[a]:1", "a b:1"]
        {
            assert!(Address::parse(text, None).is_err(), "{text}");
        }
    }

    #[test]
    fn urls_and_their_requests() {
        let request = |text: &str| Url::parse(text).expect("a URL").request();
        let asked = request("http://127.0.0.1:8080/health?deep=1");
        assert!(
            asked.starts_with("GET /health?deep=1 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n") && asked.ends_with("\r\n\r\n")
        );
        assert!(request("http://example.org").starts_with("GET / HTTP/1.1\r\nHost: example.org\r\n"));
        assert!(request("http://[::1]:81?q").starts_with("GET /?q HTTP/1.1\r\nHost: [::1]:81\r\n"));
        let url = Url::parse("http://[::1]/a").expect("a URL");
        assert_eq!(
            (url.address.host.as_str(), url.address.port, url.to_string().as_str()),
            ("::1", 80, "http://[::1]/a")
        );
        for text in [
            "https://a/",
            "a/",
            "http://",
            "http:///x",
            "http://u@a/",
            "http://a/ x",
            "http://a/#b",
            "http://a/\r\nX: y",
            "http://ä/",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn answers() {
        for (text, status) in [
            ("HTTP/1.1 200 OK\r\n", 200),
            ("HTTP/1.0 404\r\n", 404),
            ("HTTP/1.1 302 \n", 302),
            ("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 503 No\r\nX", 503),
            ("HTTP/1.1 101 Switching\r\n\r\n", 101),
        ] {
            assert_eq!(answer(text.as_bytes()), Answer::Status(status), "{text:?}");
            // However it comes in parts.
            for end in 0..text.len() {
                assert!(!matches!(answer(&text.as_bytes()[..end]), Answer::Wrong), "{:?}", &text[..end]);
            }
        }
        for text in [
            "SSH-2.0-OpenSSH",
            "HTTP/2 200\n",
            "HTTP/1.1 20x OK\n",
            "HTTP/1.1 2000\n",
            "HTTP/1.1 099 x\n",
            "\n",
            "HTTP/1.1200 OK\n",
        ] {
            assert_eq!(answer(text.as_bytes()), Answer::Wrong, "{text:?}");
        }
        assert_eq!(answer(&vec![b'H'; LONGEST + 1]), Answer::Wrong);
        assert!(is_well(200) && is_well(399) && !is_well(199) && !is_well(400) && !is_well(101));
    }
}
