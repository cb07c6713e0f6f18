//! The append-only log, as C2SP specifies it: a Merkle tree (RFC 6962 hashing) in tiles (`tlog-tiles`), a signed head
//! (`tlog-checkpoint` in a `signed-note`), and proofs. Pure: bytes in, bytes out; what an entry means is not known here.
//!
//! ```text
//! log/checkpoint               the published head
//! log/tile/0/x001/067          256 leaf hashes; a partial tile of 5 is log/tile/0/000.p/5
//! log/tile/1/000               256 roots of full level-0 tiles
//! log/tile/entries/x001/067    the entries themselves, each after its 16-bit length
//! log/commit/00000000000000000042   what was won by create-if-absent: see `commit`
//! ```

pub mod checkpoint;
pub mod commit;
pub mod cosign;
pub mod evidence;
pub mod merkle;
pub mod note;
pub mod proof;
pub mod tile;
pub mod witness;
