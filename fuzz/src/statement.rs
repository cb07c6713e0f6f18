//! Targets for what is signed: canonical JSON, statements, entries, requests, recipient sets.

use keys::json;
use keys::log::note::Note;
use keys::statement::{Entry, Handed, RecipientSet, Request, Statement, Submission};

/// Canonical JSON has one spelling.
pub fn json(data: &[u8]) {
    if let Ok(value) = json::parse(data) {
        assert_eq!(json::canonical(&value).as_bytes(), data);
    }
}

/// A statement without `x-` fields has one spelling; with them, what is understood reads back.
pub fn body(data: &[u8]) {
    let Ok(statement) = Statement::parse(data) else { return };
    let _ = statement.act.objects();
    // A body may fill the entry; what is written leaves room for signatures.
    let Ok(written) = statement.to_bytes() else { return };
    if !has_extensions(data) {
        assert_eq!(written, data);
    }
    assert_eq!(Statement::parse(&written).ok().as_ref(), Some(&statement));
}

fn has_extensions(data: &[u8]) -> bool {
    data.windows(3).any(|w| w == b"\"x-")
}

/// An entry has one spelling: its body is kept as it came.
pub fn entry(data: &[u8]) {
    let Ok(entry) = Entry::parse(data) else { return };
    assert_eq!(entry.to_bytes().expect("it was short enough to be read"), data);
    assert_eq!(keys::digest::Digest::of(&entry.signed.body), entry.signed.id);
}

/// A request reads back; one that answers an invitation has one spelling.
pub fn request(data: &[u8]) {
    let Ok((request, signed, lines)) = Request::parse(data) else { return };
    assert!(data.starts_with(&signed));
    let written = Note { text: String::from_utf8(request.to_bytes()).expect("JSON is text"), signatures: lines };
    let (again, ..) = Request::parse(&written.to_bytes()).expect("what is written is read");
    assert_eq!(again, request);
    if let Some(presented) = &request.invitation {
        assert_eq!(request.to_bytes(), signed);
        let _ = presented.token.has_signed("cdn.example/fra1", &signed, &written.signatures);
    }
    for member in &request.members {
        assert!(request.member(&member.member).is_some());
    }
}

/// What is handed in keeps its bytes, and its objects are parts of it.
pub fn submission(data: &[u8]) {
    let Ok(Submission { handed, objects }) = Submission::parse(data) else { return };
    let held: usize = objects.iter().map(Vec::len).sum();
    assert!(held <= data.len());
    match handed {
        Handed::Entry(entry) => {
            let written = Submission::of_entry(&entry, &objects).expect("it was short enough to be read");
            assert!(written == data || objects.is_empty());
            assert_eq!(Submission::parse(&written).expect("what is written is read").objects, objects);
        }
        Handed::Request(request, bytes) => {
            assert_eq!(Request::parse(&bytes).expect("it was read before").0, *request);
        }
    }
}

/// A recipient set has one spelling.
pub fn recipients(data: &[u8]) {
    let Ok(set) = RecipientSet::parse(data) else { return };
    assert_eq!(set.to_bytes(), data);
    let _ = (set.names_digest(), set.keys().count());
}

/// What to begin with.
pub mod seeds {
    use keys::digest::Digest;
    use keys::enrolment::sign_with_token;
    use keys::statement::{Machine, Presented};

    use super::*;
    use crate::example;

    /// Of [`super::json`].
    pub fn json() -> Vec<Vec<u8>> {
        vec![br#"{"a":1,"b":[true,null,"x\n\u0001"],"c":{"d":-9007199254740991}}"#.to_vec(), b"[[[[[]]]]]".to_vec()]
    }

    /// Of [`super::body`]: the shortest statement of each act in the example.
    pub fn body() -> Vec<Vec<u8>> {
        shortest(|entry| entry.signed.body)
    }

    /// Of [`super::entry`].
    pub fn entry() -> Vec<Vec<u8>> {
        shortest(|entry| entry.to_bytes().expect("an entry"))
    }

    fn shortest(bytes: fn(Entry) -> Vec<u8>) -> Vec<Vec<u8>> {
        let mut found = std::collections::BTreeMap::<_, Vec<u8>>::new();
        for entry in example::entries() {
            let entry = Entry::parse(&entry).expect("an entry of the example");
            let act = entry.signed.statement.act.name().to_string();
            let bytes = bytes(entry);
            if found.get(&act).is_none_or(|other| other.len() > bytes.len()) {
                found.insert(act, bytes);
            }
        }
        found.into_values().collect()
    }

    /// Of [`super::request`]: the two shortest of the example, and the shortest in answer to an invitation.
    pub fn request() -> Vec<Vec<u8>> {
        let mut all = example::files("keyring/objects");
        all.retain(|object| Request::parse(object).is_ok());
        all.sort_by_key(Vec::len);
        all.truncate(2);
        let (fleet, member) = ("cdn.example".parse().expect("a name"), "fra1".parse().expect("a name"));
        let answering = all.first().and_then(|bytes| Request::parse(bytes).ok()).map(|(request, _, signatures)| {
            let token = crate::joining::seeds::tokens(1).remove(0);
            let machine = Machine { dmi: Some(Digest::of(b"dmi")), id: Some(Digest::of(b"id")) };
            let request = request.answering(Presented { machine, token: token.key() });
            let text = String::from_utf8(request.to_bytes()).expect("JSON is text");
            sign_with_token(&Note { text, signatures }.to_bytes(), &token, &member, &fleet).expect("a request")
        });
        // And in a spelling that is not its own, which chance does not find: it is refused.
        let odd = answering.as_ref().map(|bytes| {
            let text = String::from_utf8_lossy(bytes);
            let (before, rest) = text.split_once("\"invitation\":{\"machine\":{").expect("an invitation");
            let (_, after) = rest.split_once('}').expect("its machine");
            format!("{before}\"invitation\":{{\"machine\":{{}}{after}").into_bytes()
        });
        all.extend(answering);
        all.extend(odd);
        all
    }

    /// Of [`super::submission`]: a request, an entry, an entry with objects.
    pub fn submission() -> Vec<Vec<u8>> {
        let entries = entry();
        let objects = vec![b"one".to_vec(), Vec::new()];
        let bundle = entries.first().and_then(|bytes| Entry::parse(bytes).ok());
        let bundle = bundle.and_then(|entry| Submission::of_entry(&entry, &objects).ok());
        request().into_iter().take(1).chain(entries.into_iter().take(1)).chain(bundle).collect()
    }

    /// Of [`super::recipients`].
    pub fn recipients() -> Vec<Vec<u8>> {
        let objects = example::files("keyring/objects");
        objects.into_iter().filter(|object| RecipientSet::parse(object).is_ok()).take(2).collect()
    }
}
