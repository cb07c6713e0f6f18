//! Keys in an agent as Sequoia's `Signer` and `Decryptor`.

use sequoia_openpgp as openpgp;

use openpgp::crypto::{Decryptor, SessionKey, Signer, ecdh, mpi};
use openpgp::packet::Key;
use openpgp::packet::key::{Key4, KeyParts, KeyRole, PublicParts, UnspecifiedRole};
use openpgp::types::HashAlgorithm;

use super::client::Agent;
use super::error::AgentError;
use super::expression::{enc_val, shared_point, signature, unpad, value};
use super::keygrip::{Keygrip, Parameters};

/// What an agent is asked to sign: SHA-2 of at least 256 bits. In Sequoia's order.
const HASHES: [HashAlgorithm; 3] = [HashAlgorithm::SHA256, HashAlgorithm::SHA384, HashAlgorithm::SHA512];

/// A key in an agent: the connection, the public key and its name there.
#[derive(Debug)]
struct AgentKey {
    agent: Agent,
    public: Key<PublicParts, UnspecifiedRole>,
    parameters: Parameters,
    keygrip: Keygrip,
    prompt: Option<String>,
}

impl AgentKey {
    fn new<P: KeyParts, R: KeyRole>(agent: Agent, key: &Key<P, R>) -> Result<Self, AgentError> {
        let parameters = Parameters::of(key)?;
        let keygrip = Keygrip::of_parameters(&parameters)?;
        // Made anew from the public parts: a clone would keep a secret part, if there is one.
        let public = Key4::new(key.creation_time(), key.pk_algo(), key.mpis().clone())
            .map_err(|_| AgentError::UnsupportedKey("it is malformed"))?;
        Ok(Self { agent, public: public.into(), parameters, keygrip, prompt: None })
    }
}

/// Signs with an Ed25519 or RSA key that an agent holds, and verifies each signature before it returns it.
#[derive(Debug)]
pub struct AgentSigner {
    key: AgentKey,
}

impl AgentSigner {
    /// Signs with `key`. Whether the agent has it shows when it signs, or by [`Agent::has_key`].
    ///
    /// # Errors
    /// [`AgentError::UnsupportedKey`] for anything but version 4 Ed25519 (EdDSA) and RSA keys.
    pub fn new<P: KeyParts, R: KeyRole>(agent: Agent, key: &Key<P, R>) -> Result<Self, AgentError> {
        let key = AgentKey::new(agent, key)?;
        match key.parameters {
            Parameters::Ed25519 { .. } | Parameters::Rsa { .. } => Ok(Self { key }),
            Parameters::Cv25519 { .. } => Err(AgentError::UnsupportedKey("it does not sign")),
        }
    }

    /// Has the pinentry show `text`, escaped and cut if it is long, when it asks for the passphrase or PIN.
    #[must_use]
    pub fn with_prompt(mut self, text: &str) -> Self {
        self.key.prompt = Some(text.to_owned());
        self
    }

    /// Gives the connection back.
    pub fn into_agent(self) -> Agent {
        self.key.agent
    }

    fn sign_digest(&mut self, hash: HashAlgorithm, digest: &[u8]) -> Result<mpi::Signature, AgentError> {
        if !HASHES.contains(&hash) {
            return Err(AgentError::UnsupportedDigest("its algorithm is not SHA-256, SHA-384 or SHA-512"));
        }
        if hash.digest_size().ok() != Some(digest.len()) {
            return Err(AgentError::UnsupportedDigest("its length is not that of its algorithm"));
        }
        let AgentKey { agent, public, parameters, keygrip, prompt } = &mut self.key;
        let answer = agent.sign(keygrip, hash, digest, prompt.as_deref())?;
        let signature = signature(parameters, &answer)?;
        // An agent may err or lie, and Sequoia takes what it is given: a wrong signature would be found only by those
        // who rely on it.
        public.verify(&signature, hash, digest).map_err(|_| AgentError::WrongSignature { keygrip: *keygrip })?;
        Ok(signature)
    }
}

impl Signer for AgentSigner {
    fn public(&self) -> &Key<PublicParts, UnspecifiedRole> {
        &self.key.public
    }

    fn acceptable_hashes(&self) -> &[HashAlgorithm] {
        &HASHES
    }

    fn sign(&mut self, hash_algo: HashAlgorithm, digest: &[u8]) -> openpgp::Result<mpi::Signature> {
        Ok(self.sign_digest(hash_algo, digest)?)
    }
}

/// Decrypts session keys with a Cv25519 or RSA key that an agent holds.
#[derive(Debug)]
pub struct AgentDecryptor {
    key: AgentKey,
}

impl AgentDecryptor {
    /// Decrypts with `key`. Whether the agent has it shows when it decrypts, or by [`Agent::has_key`].
    ///
    /// # Errors
    /// [`AgentError::UnsupportedKey`] for anything but version 4 Cv25519 (ECDH) and RSA keys.
    pub fn new<P: KeyParts, R: KeyRole>(agent: Agent, key: &Key<P, R>) -> Result<Self, AgentError> {
        let key = AgentKey::new(agent, key)?;
        match key.parameters {
            Parameters::Cv25519 { .. } | Parameters::Rsa { .. } => Ok(Self { key }),
            Parameters::Ed25519 { .. } => Err(AgentError::UnsupportedKey("it does not decrypt")),
        }
    }

    /// Has the pinentry show `text`, escaped and cut if it is long, when it asks for the passphrase or PIN.
    #[must_use]
    pub fn with_prompt(mut self, text: &str) -> Self {
        self.key.prompt = Some(text.to_owned());
        self
    }

    /// Gives the connection back.
    pub fn into_agent(self) -> Agent {
        self.key.agent
    }

    fn decrypt_session_key(
        &mut self,
        ciphertext: &mpi::Ciphertext,
        plaintext_len: Option<usize>,
    ) -> Result<SessionKey, AgentError> {
        let AgentKey { agent, public, parameters, keygrip, prompt } = &mut self.key;
        let question = enc_val(parameters, ciphertext)?;
        let answer = agent.decrypt(keygrip, &question, prompt.as_deref())?;
        match parameters {
            Parameters::Rsa { modulus } => {
                let message = value(&answer)?;
                let session_key = if answer.is_unpadded { Some(message) } else { unpad(message, modulus.len()) };
                session_key.map(SessionKey::from).ok_or(AgentError::WrongPlaintext)
            }
            Parameters::Cv25519 { .. } => {
                let shared = shared_point(value(&answer)?)?;
                ecdh::decrypt_unwrap(public, &shared, ciphertext, plaintext_len).map_err(|_| AgentError::WrongPlaintext)
            }
            Parameters::Ed25519 { .. } => Err(AgentError::UnsupportedKey("it does not decrypt")),
        }
    }
}

impl Decryptor for AgentDecryptor {
    fn public(&self) -> &Key<PublicParts, UnspecifiedRole> {
        &self.key.public
    }

    fn decrypt(&mut self, ciphertext: &mpi::Ciphertext, plaintext_len: Option<usize>) -> openpgp::Result<SessionKey> {
        Ok(self.decrypt_session_key(ciphertext, plaintext_len)?)
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::Signer as _;
    use openpgp::types::SymmetricAlgorithm;
    use sha2::{Digest as _, Sha256};
    use x25519_dalek::{PublicKey, StaticSecret};
    use zeroize::Zeroizing;

    use super::super::assuan::{Line, data_lines};
    use super::super::client::{AgentOptions, testing::scripted};
    use super::super::sexp::{self, Sexp};
    use super::*;

    type Public = Key<PublicParts, UnspecifiedRole>;

    /// A seed from a public string; nothing is signed with it elsewhere.
    fn seed() -> [u8; 32] {
        *b"a public seed, for tests alone!!"
    }

    fn ed25519() -> (ed25519_dalek::SigningKey, Public) {
        let secret = ed25519_dalek::SigningKey::from_bytes(&seed());
        let public = Key4::import_public_ed25519(secret.verifying_key().as_bytes(), std::time::UNIX_EPOCH).unwrap();
        (secret, public.into())
    }

    fn cv25519() -> (StaticSecret, Public) {
        let secret = StaticSecret::from(seed());
        let point = *PublicKey::from(&secret).as_bytes();
        let key = Key4::import_public_cv25519(
            &point,
            HashAlgorithm::SHA256,
            SymmetricAlgorithm::AES128,
            std::time::UNIX_EPOCH,
        );
        (secret, key.unwrap().into())
    }

    /// An agent that answers PKSIGN or PKDECRYPT's question with `data` and all else with OK.
    fn agent_with(data: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> Agent {
        let mut received = Vec::new();
        let answer = move |line: &[u8]| {
            let lines = |received: &[u8]| [data_lines(&data(received)), b"OK\n".to_vec()].concat();
            Some(match (line, Line::parse(line)) {
                (b"PKDECRYPT", _) => b"S INQUIRE_MAXLEN 4096\nINQUIRE CIPHERTEXT\n".to_vec(),
                (_, Ok(Line::Data(part))) => {
                    received.extend_from_slice(&part);
                    Vec::new()
                }
                (b"PKSIGN" | b"END", _) => lines(&received),
                _ => b"OK\n".to_vec(),
            })
        };
        scripted(&AgentOptions::default(), answer).unwrap()
    }

    fn eddsa(r: &[u8], s: &[u8]) -> Vec<u8> {
        Sexp::list("sig-val", [Sexp::list("eddsa", [Sexp::pair("r", r), Sexp::pair("s", s)])]).to_bytes()
    }

    fn sign_with(answer: Vec<u8>) -> Result<mpi::Signature, AgentError> {
        let mut signer = AgentSigner::new(agent_with(move |_| answer.clone()), &ed25519().1).unwrap();
        signer.sign_digest(HashAlgorithm::SHA256, &Sha256::digest(b"message"))
    }

    #[test]
    fn true_signatures_are_returned_and_any_other_answer_is_not() {
        let (secret, _) = ed25519();
        let bytes = secret.sign(&Sha256::digest(b"message")).to_bytes();
        let (r, s) = bytes.split_at(32);
        assert!(sign_with(eddsa(r, s)).is_ok());
        assert!(sign_with([eddsa(r, s), vec![0]].concat()).is_ok());

        let other = secret.sign(&Sha256::digest(b"another message")).to_bytes();
        let (r2, s2) = other.split_at(32);
        for lie in [
            eddsa(r2, s2),
            eddsa(r, s2),
            eddsa(s, r),
            eddsa(&[], &[]),
            eddsa(&[r, s].concat(), s),
            eddsa(r, &[s, r].concat()),
        ] {
            let result = sign_with(lie);
            assert!(matches!(result, Err(AgentError::WrongSignature { .. })), "{result:?}");
        }
        let rsa = Sexp::list("sig-val", [Sexp::list("rsa", [Sexp::pair("s", s)])]).to_bytes();
        for nonsense in [vec![], b"()".to_vec(), b"(7:sig-val)".to_vec(), rsa, eddsa(r, s)[1..].to_vec()] {
            let result = sign_with(nonsense);
            assert!(matches!(result, Err(AgentError::Protocol(_))), "{result:?}");
        }
    }

    #[test]
    fn weak_and_misshapen_digests_are_not_sent() {
        let mut signer = AgentSigner::new(agent_with(|_| unreachable!("nothing is signed")), &ed25519().1).unwrap();
        for (hash, length) in [(HashAlgorithm::SHA1, 20), (HashAlgorithm::SHA224, 28), (HashAlgorithm::SHA512, 32)] {
            let result = signer.sign_digest(hash, &vec![0; length]);
            assert!(matches!(result, Err(AgentError::UnsupportedDigest(_))), "{result:?}");
        }
    }

    /// Encrypts a session key to the test key and has it decrypted by an agent that answers with `shape` of the point.
    fn decrypt_with(shape: fn([u8; 32]) -> Vec<u8>) -> Result<SessionKey, AgentError> {
        let (secret, public) = cv25519();
        let secret = Zeroizing::new(secret.to_bytes());
        let agent = agent_with(move |question| {
            let point = sexp::parse(question).unwrap().value(&["enc-val", "ecdh", "e"]).unwrap().to_vec();
            let point: [u8; 32] = point.strip_prefix(&[0x40]).unwrap().try_into().unwrap();
            let shared = StaticSecret::from(*secret).diffie_hellman(&PublicKey::from(point));
            shape(*shared.as_bytes())
        });
        let ciphertext = public.encrypt(&SessionKey::from(vec![7; 32])).unwrap();
        AgentDecryptor::new(agent, &public).unwrap().decrypt_session_key(&ciphertext, None)
    }

    fn point_value(point: &[u8]) -> Vec<u8> {
        Sexp::pair("value", point).to_bytes()
    }

    #[test]
    fn session_keys_are_decrypted_and_false_answers_found() {
        let expected = SessionKey::from(vec![7; 32]);
        assert!(decrypt_with(|shared| point_value(&[&[0x40], shared.as_slice()].concat())).unwrap() == expected);
        assert!(decrypt_with(|shared| [point_value(&shared), vec![0]].concat()).unwrap() == expected);
        let false_answers: [fn([u8; 32]) -> Vec<u8>; 5] = [
            |mut shared| {
                shared[5] ^= 1;
                point_value(&shared)
            },
            |_| point_value(&[0; 32]),
            |_| point_value(&[]),
            |shared| point_value(&shared[1..]),
            |shared| point_value(&[&[0x41], shared.as_slice()].concat()),
        ];
        for shape in false_answers {
            assert!(matches!(decrypt_with(shape), Err(AgentError::WrongPlaintext)));
        }
        assert!(matches!(decrypt_with(|_| b"(3:key)".to_vec()), Err(AgentError::Protocol(_))));
    }

    #[test]
    fn rsa_answers_come_with_padding_or_without_and_are_held_to_what_was_said() {
        let public: Public = Key4::import_public_rsa(&[1, 0, 1], &[0xc5; 384], std::time::UNIX_EPOCH).unwrap().into();
        let session_key = [9; 35];
        let padded = [&[2], [5; 346].as_slice(), &[0], &session_key].concat();
        let ciphertext = mpi::Ciphertext::RSA { c: mpi::MPI::new(&[0xb0; 384]) };
        let decrypt = |status: &'static [u8], value: &[u8]| {
            let value = point_value(value);
            let answer = move |line: &[u8]| {
                Some(match line {
                    b"PKDECRYPT" => b"INQUIRE CIPHERTEXT\n".to_vec(),
                    b"END" => [status, &data_lines(&value), b"OK\n"].concat(),
                    _ if line.starts_with(b"D ") => Vec::new(),
                    _ => b"OK\n".to_vec(),
                })
            };
            let agent = scripted(&AgentOptions::default(), answer).unwrap();
            AgentDecryptor::new(agent, &public).unwrap().decrypt_session_key(&ciphertext, None)
        };
        let expected = SessionKey::from(session_key.as_slice());
        assert!(decrypt(b"", &padded).unwrap() == expected);
        assert!(decrypt(b"S PADDING 0\n", &session_key).unwrap() == expected);
        assert!(matches!(decrypt(b"", &session_key), Err(AgentError::WrongPlaintext)));

        let lie = Sexp::list("sig-val", [Sexp::list("rsa", [Sexp::pair("s", &[3; 384])])]).to_bytes();
        let mut signer = AgentSigner::new(agent_with(move |_| lie.clone()), &public).unwrap();
        let result = signer.sign_digest(HashAlgorithm::SHA256, &[0; 32]);
        assert!(matches!(result, Err(AgentError::WrongSignature { .. })), "{result:?}");
    }

    #[test]
    fn keys_are_held_to_their_purpose_and_lose_their_secrets() {
        let agent = || agent_with(|_| Vec::new());
        assert!(matches!(AgentSigner::new(agent(), &cv25519().1), Err(AgentError::UnsupportedKey(_))));
        assert!(matches!(AgentDecryptor::new(agent(), &ed25519().1), Err(AgentError::UnsupportedKey(_))));
        let secret: Key<openpgp::packet::key::SecretParts, UnspecifiedRole> =
            Key4::import_secret_ed25519(&seed(), std::time::UNIX_EPOCH).unwrap().into();
        let signer = AgentSigner::new(agent(), &secret).unwrap();
        assert!(!signer.public().has_secret());
        assert_eq!(signer.public().fingerprint(), secret.fingerprint());
    }

    #[test]
    fn foreign_ciphertexts_are_not_sent() {
        let mut decryptor =
            AgentDecryptor::new(agent_with(|_| unreachable!("nothing is decrypted")), &cv25519().1).unwrap();
        let point = mpi::MPI::new_compressed_point(&[9; 32]);
        for wrong in [
            mpi::Ciphertext::RSA { c: mpi::MPI::new(&[1; 384]) },
            mpi::Ciphertext::ECDH { e: mpi::MPI::new(&[9; 32]), key: vec![0; 48].into() },
            mpi::Ciphertext::ECDH { e: point, key: vec![0; 256].into() },
        ] {
            assert!(matches!(decryptor.decrypt_session_key(&wrong, None), Err(AgentError::Ciphertext(_))), "{wrong:?}");
        }
    }
}
