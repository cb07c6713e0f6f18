//! How long clients may take, with a pace that tests can wait for.

use std::os::fd::AsFd as _;

use super::*;

const PACE: Pace = Pace { allowance: Duration::from_millis(400), bytes_a_second_min: 100_000 };

/// What `talks` gives, told the address of a server.
fn with_server<T>(talks: impl FnOnce(std::net::SocketAddr) -> T) -> T {
    with_server_of(|_: &Request| Response::text(200, "yes"), talks)
}

fn with_server_of<T>(answer: impl Answers + 'static, talks: impl FnOnce(std::net::SocketAddr) -> T) -> T {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (until, end) = std::os::unix::net::UnixStream::pair().unwrap();
    let bounds = Bounds { connections: 8, body_bytes: 1 << 20, bodies_bytes: 8 << 20, pace: PACE, name: "test" };
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| serve(&listener, until.as_fd(), bounds, Arc::new(answer)));
        let result = talks(address);
        drop(end);
        serving.join().unwrap().unwrap();
        result
    })
}

fn connect(address: std::net::SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

#[test]
fn a_body_has_so_long_however_steadily_it_trickles() {
    let head = b"POST / HTTP/1.1\r\nConnection: close\r\nContent-Length: 100000\r\n\r\n";
    // So long: 400 ms, and a second for its bytes.
    let (took, answer) = with_server(|address| {
        let mut stream = connect(address);
        let mut reading = stream.try_clone().unwrap();
        let begun = Instant::now();
        stream.write_all(head).unwrap();
        let over = Arc::new(AtomicUsize::new(0));
        let until = Arc::clone(&over);
        let trickling = std::thread::spawn(move || {
            while until.load(Ordering::SeqCst) == 0 && stream.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let mut answer = vec![0; 12];
        reading.read_exact(&mut answer).unwrap();
        let took = begun.elapsed();
        over.store(1, Ordering::SeqCst);
        trickling.join().unwrap();
        (took, answer)
    });
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 408");
    assert!(took >= Duration::from_millis(1_350) && took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn an_answer_has_so_long_however_steadily_it_is_taken() {
    // Taken at this rate it would be minutes, though something is taken all the time.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = connect(listener.local_addr().unwrap());
    let (stream, _) = listener.accept().unwrap();
    let writing = std::thread::spawn(move || {
        let mut wire = Wire::new(stream, None, PACE.whole(100_000)).unwrap();
        let begun = Instant::now();
        let response = Response::of(200, "application/octet-stream", vec![0; 40_000_000]);
        (write(&mut wire, response, Connection::Close, Content::Whole), begun.elapsed())
    });
    let mut part = [0; 1_000];
    while !writing.is_finished() {
        client.read_exact(&mut part).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    let (result, took) = writing.join().unwrap();
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert!(took >= Duration::from_millis(1_350) && took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn who_says_nothing_is_let_go_in_silence() {
    let (took, rest) = with_server(|address| {
        let mut stream = connect(address);
        let (begun, mut rest) = (Instant::now(), Vec::new());
        stream.read_to_end(&mut rest).unwrap();
        (begun.elapsed(), rest)
    });
    assert!(rest.is_empty() && took >= Duration::from_millis(350) && took < Duration::from_secs(10), "{took:?}");
}

/// Refuses what is sent to `/no` by its head.
struct Choosy;

impl Answers for Choosy {
    fn answer(&self, request: &Request) -> Response {
        Response::text(200, request.body.len())
    }

    fn refusal(&self, head: &Head<'_>) -> Option<Response> {
        (head.target == "/no").then(|| Response::text(404, "no"))
    }
}

#[test]
fn who_is_refused_while_sending_hears_why() {
    let answers = with_server_of(Choosy, |address| {
        ["/no", "/yes"].map(|target| {
            let mut stream = connect(address);
            let head = format!("PUT {target} HTTP/1.1\r\nConnection: close\r\nContent-Length: 1000000\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            // One who reads only once all is sent: had the server closed, this would end with a reset connection.
            for _ in 0..100 {
                stream.write_all(&[b'x'; 10_000]).unwrap();
                std::thread::sleep(Duration::from_millis(2));
            }
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        })
    });
    assert!(answers[0].starts_with("HTTP/1.1 404 "), "{answers:?}");
    assert!(answers[1].ends_with("\r\n1000000\n"), "{answers:?}");
}
