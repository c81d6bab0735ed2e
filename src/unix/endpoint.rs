//! Asks a server whether it is there, by TCP or by HTTP: one connection, within a time.
//!
//! It waits: not for a thread that has anything else to do. Must never follow where an answer leads.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::clock;
use super::report::plain;
use crate::pure::http::{self, Address, Answer, Url};
use crate::pure::time::Moment;

/// Whether somebody listens there.
///
/// # Errors
/// Why nobody seems to, in words.
pub fn tcp(address: &Address, limit: Duration) -> Result<(), String> {
    let by = clock::moment().plus(limit);
    connect(address, by).map(|_| ()).map_err(|error| said(&error))
}

/// Whether the page is there, or elsewhere: a status of 2xx or 3xx.
///
/// # Errors
/// Why it seems not to be, in words.
pub fn http(url: &Url, limit: Duration) -> Result<(), String> {
    match ask(url, clock::moment().plus(limit)) {
        Ok(Answer::Status(status)) if http::is_well(status) => Ok(()),
        Ok(Answer::Status(status)) => Err(format!("status {status}")),
        Ok(Answer::Unfinished) => Err("the answer ends before its status".to_owned()),
        Ok(Answer::Wrong) => Err("the answer is not HTTP".to_owned()),
        Err(error) => Err(said(&error)),
    }
}

fn said(error: &io::Error) -> String {
    match error.kind() {
        // What the socket says of its own time limit.
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer in time".to_owned(),
        _ => plain(error),
    }
}

/// What is left of the time; none left is an error.
fn left(by: Moment) -> io::Result<Duration> {
    let left = by.since(clock::moment());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// To the first of its addresses that takes a connection.
fn connect(address: &Address, by: Moment) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in (address.host.as_str(), address.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, left(by)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn ask(url: &Url, by: Moment) -> io::Result<Answer> {
    let mut stream = connect(&url.address, by)?;
    stream.set_write_timeout(Some(left(by)?))?;
    stream.write_all(url.request().as_bytes())?;
    let mut bytes = Vec::new();
    loop {
        stream.set_read_timeout(Some(left(by)?))?;
        let mut part = [0; 512];
        let count = match stream.read(&mut part) {
            // As after svtree itself was stopped and went on.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            count => count?,
        };
        bytes.extend_from_slice(&part[..count]);
        let answer = http::answer(&bytes);
        if answer != Answer::Unfinished || count == 0 {
            return Ok(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread::Builder;

    /// What is said of a server that answers so, and what it was asked.
    fn asked(answer: &'static str, hangs: bool) -> (Result<(), String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let server = Builder::new().spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 1024];
            let count = stream.read(&mut request).expect("a request");
            stream.write_all(answer.as_bytes()).expect("an answer");
            if hangs {
                let _ = stream.read(&mut [0; 1]);
            }
            String::from_utf8_lossy(&request[..count]).into_owned()
        });
        let url = Url::parse(&format!("http://{address}/health")).expect("a URL");
        let said = http(&url, Duration::from_millis(if hangs { 300 } else { 20_000 }));
        (said, server.expect("a thread").join().expect("its end"))
    }

    #[test]
    fn the_status_is_what_counts() {
        for (answer, expected) in [
            ("HTTP/1.1 204 No Content\r\n\r\n", Ok(())),
            ("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", Ok(())),
            ("HTTP/1.1 503 No\r\n\r\n", Err("status 503")),
            ("HTTP/1.1", Err("the answer ends before its status")),
            ("", Err("the answer ends before its status")),
            ("+PONG\r\n", Err("the answer is not HTTP")),
        ] {
            let (said, request) = asked(answer, false);
            assert_eq!(said, expected.map_err(str::to_owned), "{answer:?}");
            assert!(request.starts_with("GET /health HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        }
    }

    #[test]
    fn no_answer_in_time_is_none() {
        assert_eq!(asked("HTTP/1.1 2", true).0, Err("no answer in time".to_owned()));
    }

    #[test]
    fn nobody_listens() {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
        let address = Address::parse(&free.to_string(), None).expect("an address");
        assert_eq!(tcp(&address, Duration::from_secs(5)), Err("Connection refused".to_owned()));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = Address::parse(&listener.local_addr().expect("it").to_string(), None).expect("an address");
        assert_eq!(tcp(&address, Duration::from_secs(5)), Ok(()));
    }
}
