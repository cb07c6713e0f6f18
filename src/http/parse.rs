//! A request's bytes: whole, wrong, or not all there yet.

use super::{Connection, Head, Request, Response};
use crate::limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX};

/// What the bytes that have come are.
pub(super) enum Parsed {
    Whole(Request, Connection, usize),
    Wrong(Response),
    /// It is not answered whatever its body may be.
    Refused(Response),
    /// There is more to come; how many bytes it will have been, once that is known.
    Partial(usize),
}

/// Reads a request, whose body may have so many bytes; with one, it is asked by `refusal` whether it is answered at all, before
/// the body has come.
pub(super) fn parse(buffer: &[u8], body_bytes_max: usize, refusal: &dyn Fn(&Head<'_>) -> Option<Response>) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; HTTP_HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let length = match head.parse(buffer) {
        Ok(httparse::Status::Complete(length)) if length <= HTTP_HEAD_BYTES_MAX => length,
        Ok(httparse::Status::Partial) if buffer.len() <= HTTP_HEAD_BYTES_MAX => return Parsed::Partial(0),
        Ok(_) => return Parsed::Wrong(Response::text(413, "the head of the request is too large")),
        Err(_) => return Parsed::Wrong(Response::text(400, "this is not HTTP/1.1")),
    };
    let named =
        |name: &'static str| head.headers.iter().filter(move |h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value);
    let method = head.method.unwrap_or_default().to_owned();
    if named("transfer-encoding").next().is_some() {
        return Parsed::Wrong(Response::text(411, "send the body with a Content-Length"));
    }
    let lengths: Vec<&[u8]> = named("content-length").collect();
    let body_length = match lengths.as_slice() {
        [] if method == "POST" => return Parsed::Wrong(Response::text(411, "send the body with a Content-Length")),
        [] => 0,
        [one] => {
            match std::str::from_utf8(one).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit())).map(str::parse) {
                Some(Ok(n)) => n,
                Some(Err(_)) => return Parsed::Wrong(Response::text(413, "the body is too large")),
                None => return Parsed::Wrong(Response::text(400, "Content-Length is no number")),
            }
        }
        _ => return Parsed::Wrong(Response::text(400, "Content-Length is there twice")),
    };
    let path = head.path.unwrap_or_default().to_owned();
    if body_length > 0
        && let Some(refused) = refusal(&Head { method: &method, target: &path, body_bytes: body_length })
    {
        return Parsed::Refused(refused);
    }
    if body_length > body_bytes_max {
        return Parsed::Wrong(Response::text(413, "the body is too large"));
    }
    let whole = length.saturating_add(body_length);
    let Some(body) = buffer.get(length..whole) else { return Parsed::Partial(whole) };
    let closes = named("connection").any(|v| v.eq_ignore_ascii_case(b"close")) || head.version != Some(1);
    let connection = if closes { Connection::Close } else { Connection::KeepAlive };
    let known = named("if-none-match").next().and_then(|v| std::str::from_utf8(v).ok()).map(str::to_owned);
    Parsed::Whole(Request { method, path, body: body.to_vec(), known, peer: None }, connection, whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(bytes: &str) -> Result<(String, Vec<u8>, bool), Option<u16>> {
        match parse(bytes.as_bytes(), 1000, &|_| None) {
            Parsed::Whole(r, connection, used) => {
                assert!(used <= bytes.len());
                Ok((format!("{} {}", r.method, r.path), r.body, connection == Connection::KeepAlive))
            }
            Parsed::Wrong(response) | Parsed::Refused(response) => Err(Some(response.status)),
            Parsed::Partial(_) => Err(None),
        }
    }

    #[test]
    fn a_request_is_read_whole_or_not_at_all() {
        let post = "POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
        let whole = Ok(("POST /add-checkpoint".to_owned(), b"abc".to_vec(), true));
        assert_eq!(outcome(post), whole);
        for cut in 0..post.len() {
            assert_eq!(outcome(&post[..cut]), Err(None), "{cut} bytes");
        }
        assert_eq!(outcome(&(post.to_owned() + "GET /")), whole, "the next one waits");
        let closing = "GET /x HTTP/1.1\r\nConnection: Close\r\n\r\n";
        assert_eq!(outcome(closing), Ok(("GET /x".to_owned(), Vec::new(), false)));
        assert_eq!(outcome("GET /x HTTP/1.0\r\n\r\n").map(|r| r.2), Ok(false));
    }

    #[test]
    fn who_is_refused_by_the_head_need_not_send_the_body() {
        let refusal = |head: &Head<'_>| (head.target == "/no").then(|| Response::text(404, head.body_bytes));
        let parsed = |text: &str| parse(text.as_bytes(), 1000, &refusal);
        let head = "PUT /no HTTP/1.1\r\nContent-Length: 900\r\n\r\n";
        assert!(matches!(parsed(head), Parsed::Refused(Response { status: 404, .. })));
        assert!(matches!(parsed(&head.replace("/no", "/yes")), Parsed::Partial(n) if n > 900));
        // Without a body it is answered like any other, and the connection stays.
        assert!(matches!(parsed("PUT /no HTTP/1.1\r\n\r\n"), Parsed::Whole(..)));
    }

    #[test]
    fn what_is_too_much_or_ambiguous_is_refused() {
        let with = |header: &str| outcome(&format!("POST / HTTP/1.1\r\n{header}\r\n\r\n"));
        assert_eq!(with("X: y"), Err(Some(411)));
        assert_eq!(with("Transfer-Encoding: chunked"), Err(Some(411)));
        assert_eq!(with("Content-Length: 3\r\nTransfer-Encoding: chunked"), Err(Some(411)));
        assert_eq!(with("Content-Length: 3\r\nContent-Length: 4"), Err(Some(400)));
        assert_eq!(with("Content-Length: -1"), Err(Some(400)));
        assert_eq!(with("Content-Length: +1"), Err(Some(400)));
        assert_eq!(with("Content-Length: 99999999"), Err(Some(413)));
        assert_eq!(with("Content-Length: 99999999999999999999999"), Err(Some(413)));
        assert_eq!(outcome("\u{16}\u{3}\u{1}"), Err(Some(400)), "TLS");
        assert_eq!(outcome(&format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(HTTP_HEAD_BYTES_MAX))), Err(Some(413)));
        assert_eq!(outcome(&format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(65))), Err(Some(400)));
    }
}
