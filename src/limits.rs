//! Every bound on what is read, in one place, each with its reason.
//!
//! Whatever comes from outside (a file, a keyring somebody synced, an agent's answer) is read through one of these.
//! A bound is generous for the largest fleet the design aims at (10 000 members) and small beside the memory of the
//! smallest machine that runs a PoP.

/// One log entry, bytes. C2SP tlog-tiles prefixes an entry with a 16-bit length.
pub const ENTRY_BYTES_MAX: usize = 65_535;
/// Signature lines of one entry or note. A quorum larger than this is not a quorum but a crowd.
pub const SIGNATURES_MAX: usize = 16;
/// Depth of nested JSON; our deepest statement needs 5.
pub const JSON_DEPTH_MAX: usize = 16;
/// Largest magnitude of a JSON integer: RFC 8785 numbers are IEEE 754 doubles, exact up to 2^53 - 1.
pub const JSON_INTEGER_MAX: i64 = 9_007_199_254_740_991;
/// Changes in one statement; what remains goes into the next statement. Keeps a statement under [`ENTRY_BYTES_MAX`].
pub const CHANGES_MAX: usize = 128;
/// Secrets sealed by one statement: with the longest addresses a change has 670 bytes, and a body 57 343 at most.
pub const SEALS_MAX: usize = 80;
/// How deep the values of a structured file may lie. People do not read further.
pub const STRUCTURE_DEPTH_MAX: usize = 64;
/// The shape of a structured file, bytes; with its first line it fits in [`OBJECT_BYTES_MAX`].
pub const SHAPE_BYTES_MAX: usize = 4 << 20;
/// Values imported by one command. Ten times what one structured file of a large service holds.
pub const IMPORT_VALUES_MAX: usize = 10_000;
/// What is imported by one command, bytes, when it is held in memory.
pub const IMPORT_BYTES_MAX: usize = 256 << 20;
/// One OpenPGP certificate, bytes. Certificates of ours begin with 2 to 40 KB, and an operator's grows by 7 KB with every
/// rotation in the post-quantum profile; the flooding attack of 2019 had 50 MiB.
pub const CERT_BYTES_MAX: usize = 512 << 10;
/// Signatures in one OpenPGP certificate, counted before any is verified.
pub const CERT_SIGNATURES_MAX: usize = 1_024;
/// User ids in one OpenPGP certificate.
pub const CERT_USERIDS_MAX: usize = 8;
/// Subkeys in one OpenPGP certificate: an operator keeps those of decades of rotations.
pub const CERT_SUBKEYS_MAX: usize = 256;
/// One enrolment request, bytes: a PoP with [`SERVICES_MAX`] services in the post-quantum profile fits.
pub const REQUEST_BYTES_MAX: usize = 4 << 20;
/// Services enrolled with one request.
pub const SERVICES_MAX: usize = 64;
/// Challenges to the keys of one request: two of OpenPGP a member, and the PoP's two of WireGuard.
pub const CHALLENGES_MAX: usize = 2 * (SERVICES_MAX + 1) + 2;
/// Invitations made by one statement: four times the machines that a large site racks at once.
pub const INVITATIONS_MAX: usize = 4_096;
/// The UUID of a machine's hardware as an invitation gives it, bytes: 36 in RFC 9562's form, and firmware has others.
pub const HARDWARE_UUID_BYTES_MAX: usize = 64;
/// How long an invitation may be good, from its making to its end, in days. Whoever needs longer makes another one.
pub const INVITATION_DAYS_MAX: u64 = 30;
/// One policy file, bytes.
pub const POLICY_BYTES_MAX: usize = 1 << 20;
/// Readers of one secret (members).
pub const READERS_MAX: usize = 4_096;
/// PKESK packets in front of a sealed body: active and standby key of [`READERS_MAX`] readers.
pub const PKESK_MAX: usize = 8_192;
/// A secret's plaintext, bytes, when it is held in memory. A larger one is in parts ([`PARTS_MAX`]).
pub const SECRET_BYTES_MAX: usize = 64 << 20;
/// A sealed file, bytes: [`SECRET_BYTES_MAX`], its packets and [`PKESK_MAX`] recipients.
pub const SEALED_BYTES_MAX: usize = 96 << 20;
/// A part of a larger value, bytes of plaintext; the last one may have less.
pub const PART_BYTES: usize = 8 << 20;
/// Parts of one value: 4 GiB. One statement has their digests, 67 bytes each.
pub const PARTS_MAX: usize = 512;
/// A value in parts, bytes.
pub const LARGE_BYTES_MAX: u64 = (PARTS_MAX as u64) * (PART_BYTES as u64);
/// A part as it is kept, bytes: the modern profile adds 16 to each 4 096.
pub const PART_FILE_BYTES_MAX: usize = PART_BYTES + (1 << 20);
/// An attachment under `keyring/objects/`, bytes, other than a sealed file.
pub const OBJECT_BYTES_MAX: usize = 16 << 20;
/// A state that a snapshot names, bytes: a secret takes 900, more with more readers, so that half a million fit.
pub const STATE_BYTES_MAX: usize = 512 << 20;
/// The largest file of a keyring, bytes.
pub const KEYRING_FILE_BYTES_MAX: usize = STATE_BYTES_MAX;
/// What a home keeps of a replay, bytes: a state, and what there is to say of void entries.
pub const REPLAYED_BYTES_MAX: usize = STATE_BYTES_MAX + (32 << 20);
/// A checkpoint note, bytes.
pub const CHECKPOINT_BYTES_MAX: usize = 64 << 10;
/// Hashes of one consistency proof: C2SP tlog-witness.
pub const CONSISTENCY_HASHES_MAX: usize = 63;
/// The body of a request to cosign, bytes: a proof of [`CONSISTENCY_HASHES_MAX`] lines and a checkpoint.
pub const WITNESS_REQUEST_BYTES_MAX: usize = CHECKPOINT_BYTES_MAX + (8 << 10);
/// A file of evidence, bytes: two checkpoints, a proof and the vkeys of all cosigners.
pub const EVIDENCE_BYTES_MAX: usize = 2 * CHECKPOINT_BYTES_MAX + (64 << 10);
/// The head of an HTTP request, bytes.
pub const HTTP_HEAD_BYTES_MAX: usize = 8 << 10;
/// Header lines of an HTTP request.
pub const HTTP_HEADERS_MAX: usize = 64;
/// Connections that a witness serves at one time; each has a thread, and a deadline for each request.
pub const WITNESS_CONNECTIONS_MAX: usize = 32;
/// Cosigners of one policy: with the log's own they fit a note ([`SIGNATURES_MAX`]).
pub const COSIGNERS_MAX: usize = SIGNATURES_MAX - 1;
/// A cosigner's address, bytes.
pub const URL_BYTES_MAX: usize = 300;
/// What is handed in at one time over HTTP, bytes: a request, or a statement with what it refers to. Each connection may hold
/// one in memory.
pub const SUBMIT_BYTES_MAX: usize = 8 << 20;
/// What is uploaded to a key server, bytes, before it is told that keys do not come that way: a certificate of
/// [`CERT_BYTES_MAX`] as text in a form.
pub const UPLOAD_BYTES_MAX: usize = 2 * CERT_BYTES_MAX;
/// What a client still sends that was refused before it was done, bytes: so much is read past, that it hears the answer.
pub const REFUSED_BYTES_MAX: usize = 16 << 20;
/// Objects with one statement that is handed in: each change brings up to three, of which a request is one for many.
pub const SUBMIT_OBJECTS_MAX: usize = 3 * CHANGES_MAX;
/// What all connections of one server together may hold of bodies, bytes.
pub const SUBMIT_BYTES_TOTAL_MAX: usize = 64 << 20;
/// Connections that a mirror serves at one time.
pub const MIRROR_CONNECTIONS_MAX: usize = 64;
/// A file with a chain of certificates or a private key, bytes: a bundle of all public CAs has a quarter of that.
pub const TLS_FILE_BYTES_MAX: usize = 1 << 20;
/// Requests that wait where strangers may hand them in. People look at each.
pub const REQUESTS_WAITING_MAX: usize = 256;
/// The same, bytes.
pub const REQUESTS_WAITING_BYTES_MAX: usize = 64 << 20;
/// Proposals of one member that wait where they are handed in over HTTP.
pub const PROPOSALS_OF_ONE_MAX: usize = 64;
/// Signature lines beside one proposal that is handed in over HTTP; those that count come first.
pub const PROPOSAL_LINES_MAX: usize = 4 * SIGNATURES_MAX;
/// Files that wait at a mirror and are listed or pulled: proposals, signatures, requests, cosignatures.
pub const WAITING_FILES_MAX: usize = 4_096;
/// That list, bytes: paths have at most 150.
pub const WAITING_BYTES_MAX: usize = WAITING_FILES_MAX * 160;
/// What is handed in from one address before it has to wait, and how many more a second then.
pub const SUBMITS_AT_ONCE_MAX: u32 = 120;
/// Addresses whose pace is remembered.
pub const SUBMITTERS_MAX: usize = 1_024;
/// A certificate as a key server gives it to strangers, bytes.
pub const SERVED_CERT_BYTES_MAX: usize = 64 << 10;
/// Signatures in it: one or two for each part, and those of who certifies in the fleet.
pub const SERVED_CERT_SIGNATURES_MAX: usize = 64;
/// User ids in it.
pub const SERVED_CERT_USERIDS_MAX: usize = 8;
/// What a key server is asked to search for, bytes.
pub const SEARCH_BYTES_MAX: usize = 256;
/// The same at least, where a part of a name is enough: less would find everybody.
pub const SEARCH_BYTES_MIN: usize = 3;
/// Certificates in one answer to a search.
pub const FOUND_MAX: usize = 100;
/// The list of what lies in a static tree, bytes: some thirty names of 70 bytes for each certificate.
pub const PUBLISHED_LIST_BYTES_MAX: usize = 256 << 20;
/// Addresses from which a machine brings its keyring. Each may cost its deadline, so a few.
pub const MIRRORS_MAX: usize = 16;
/// One proof that the log has an entry, bytes: the path, the checkpoint, and as much of what somebody put beside.
pub const PROOF_BYTES_MAX: usize = 256 << 10;
/// One tile or entry bundle, bytes: 256 entries of the largest size with their length prefixes.
pub const TILE_BYTES_MAX: usize = 256 * (ENTRY_BYTES_MAX + 2);
/// One commit file, bytes: at most [`COMMIT_ENTRIES_MAX`] entries in base64.
pub const COMMIT_BYTES_MAX: usize = 64 << 20;
/// Entries sequenced by one commit.
pub const COMMIT_ENTRIES_MAX: usize = 512;
/// How often a writer that lost its place in the log tries for the next one before it says so.
pub const RACES_MAX: usize = 256;
/// Entry bundles that a verifier reports one by one as missing; a checkpoint that claims more beyond the files there are
/// is itself called wrong, before anything is allocated for what it claims.
pub const BUNDLES_MISSING_MAX: usize = 1_000;
/// A private key file in a home, bytes.
pub const KEY_FILE_BYTES_MAX: usize = 1 << 20;
/// Files listed under one directory.
pub const LISTING_MAX: usize = 2_000_000;
/// How far an entry's time may lie ahead of the verifier's clock, seconds: clocks differ, proposals do not travel back.
pub const FUTURE_SECONDS_MAX: u64 = 300;
/// How long an emergency may wait between its declaration and the log: longer than a proposal, for it waits on machines that
/// are cut off.
pub const EMERGENCY_LIFETIME_DAYS_MAX: u64 = 30;
/// How long an emergency may be without a place in the log once a machine that has applied it has handed it in.
pub const EMERGENCY_LATE_HOURS: u64 = 24;
/// Emergencies that one machine holds before the log has them.
pub const EMERGENCIES_HELD_MAX: usize = 64;
/// Bytes of a free text (a reason, a comment) in a statement.
pub const REASON_BYTES_MAX: usize = 500;
/// Principals of one SSH certificate: OpenSSH's own bound.
pub const SSH_PRINCIPALS_MAX: usize = 256;
/// Bits of one KRL bitmap section: OpenSSH's `SSHBUF_MAX_BIGNUM` (16 384 bits); a wider one locks everybody out.
pub const KRL_BITMAP_BITS_MAX: u64 = 16_384;
/// Rules of a mesh's topology: a node's are the bits of one word.
pub const TOPOLOGY_RULES_MAX: usize = 64;
/// Peers of a mesh that have no agent. Beyond this it is a network of its own.
pub const EXTERNALS_MAX: usize = 1_024;
/// Lines of a drawing of the mesh: those of 1 000 nodes that are all each other's peers.
pub const GRAPH_EDGES_MAX: usize = 499_500;
/// Roles of one machine: more than anybody can keep in mind.
pub const ROLES_MAX: usize = 16;
/// Peers of one WireGuard configuration: one for each PoP of the largest fleet.
pub const MESH_NODES_MAX: usize = 10_000;
/// A rendered file of a mesh, bytes: 10 000 peers of about 400 bytes, with room.
pub const MESH_FILE_BYTES_MAX: usize = 16 << 20;
/// One line of an SSH key or certificate file, bytes: 256 host principals of the longest kind in base64, and a log proof.
pub const SSH_LINE_BYTES_MAX: usize = 131_072;
/// A log entry and its proof in an SSH certificate, bytes: with the certificate around it, in base64, it has to fit
/// [`SSH_LINE_BYTES_MAX`], which is also the longest argument that Linux gives a command.
pub const SSH_STAPLE_BYTES_MAX: usize = 64 << 10;
/// One answer of an ssh-agent, bytes: OpenSSH's own bound.
pub const SSH_AGENT_ANSWER_BYTES_MAX: usize = 256 << 10;
/// Keys that an ssh-agent may have.
pub const SSH_AGENT_KEYS_MAX: usize = 1_024;
/// A list of people's keys to be certified together, bytes: some ten thousand lines.
pub const BATCH_BYTES_MAX: usize = 4 << 20;
/// What a node judges proofs by, bytes: some hundred of each of 10 000 members.
pub const TRUST_BYTES_MAX: usize = 16 << 20;
/// A key id, a comment or a FIDO application, bytes: what a log line can bear.
pub const SSH_KEY_ID_BYTES_MAX: usize = 256;
/// The value of one critical option of an SSH certificate, bytes.
pub const SSH_OPTION_BYTES_MAX: usize = 4_096;
/// Longest life of an SSH certificate, days: ten years, which only a break-glass certificate comes near.
pub const SSH_LIFETIME_DAYS_MAX: u64 = 3_653;
/// Shortest RSA modulus of a user's key, bits: NIST SP 800-57 part 1, 128-bit security.
pub const SSH_RSA_BITS_MIN: usize = 3_072;
/// Longest RSA modulus of a user's key, bits: OpenSSH's own bound.
pub const SSH_RSA_BITS_MAX: usize = 16_384;
/// Files that one sshd_config includes, and how deep: OpenSSH's own depth, and more files than any machine has.
pub const SSH_CONFIG_FILES_MAX: usize = 256;
/// See [`SSH_CONFIG_FILES_MAX`].
pub const SSH_INCLUDE_DEPTH_MAX: usize = 16;
/// One KRL, bytes: 100 000 revoked key hashes fit; a login that reads more takes seconds.
pub const KRL_BYTES_MAX: usize = 4 << 20;
/// Runs of serials in one KRL. A bitmap of 2 KB unfolds into 8 192 runs, so the count needs a bound of its own.
pub const KRL_RANGES_MAX: usize = 1 << 20;
/// One line of Assuan, bytes without its end: the protocol's own bound.
pub const AGENT_LINE_BYTES_MAX: usize = 1_000;
/// The data of one answer of gpg-agent, bytes: a signature of the largest RSA key ([`AGENT_RSA_BITS_MAX`]) has 2 KB.
pub const AGENT_ANSWER_BYTES_MAX: usize = 8 << 10;
/// Reads from the agent's socket for one answer, each of which may wait for the timeout: an answer needs a handful, an
/// agent that reports progress while a person looks for a card a few hundred.
pub const AGENT_READS_MAX: usize = 1_024;
/// Questions that the agent may put while it works on one command; it puts one.
pub const AGENT_INQUIRIES_MAX: usize = 8;
/// The text that a pinentry shows, bytes after escaping; with its command it fits in [`AGENT_LINE_BYTES_MAX`].
pub const AGENT_PROMPT_BYTES_MAX: usize = 900;
/// A file that stands in the place of the agent's socket and names another, bytes: libassuan's own bound.
pub const AGENT_REDIRECTION_BYTES_MAX: usize = 511;
/// An RSA key used through an agent, bits. libgcrypt makes none larger.
pub const AGENT_RSA_BITS_MAX: usize = 16_384;
/// Depth of nested lists in an S-expression; what an agent sends has 3.
pub const SEXP_DEPTH_MAX: usize = 8;
/// Atoms and lists in one S-expression; what an agent sends has about 10.
pub const SEXP_ITEMS_MAX: usize = 64;
/// Custodians of one backup, each with a share: a crowd larger than this cannot be brought together.
pub const CUSTODIANS_MAX: usize = 32;
/// Files in one backup; a fleet of 10 000 members has some 100 000.
pub const BACKUP_FILES_MAX: usize = 500_000;
/// `SHA256SUMS` in a backup, bytes: [`BACKUP_FILES_MAX`] lines of the longest kind.
pub const BACKUP_SUMS_BYTES_MAX: usize = BACKUP_FILES_MAX * 330;
/// A backup's manifest, bytes: a checkpoint, and 32 custodians with their keys.
pub const BACKUP_MANIFEST_BYTES_MAX: usize = 128 << 10;
/// A share of a backup's key, sealed to one custodian, or on its way to whoever restores; bytes.
pub const SHARE_BYTES_MAX: usize = 64 << 10;
/// Files of evidence that a cosigner keeps: a log whose key is stolen could show it ever new pasts.
pub const EVIDENCE_FILES_MAX: usize = 256;
/// One file that `keys lint` looks through for values that were never sealed, bytes: what people write is smaller.
pub const LINT_FILE_BYTES_MAX: usize = 1 << 20;
/// How much of one line it looks at, bytes.
pub const LINT_LINE_BYTES_MAX: usize = 64 << 10;
/// Files delivered to one service: each is a descriptor for whoever reads a generation as a whole.
pub const DELIVERY_FILES_MAX: usize = 64;
/// Secrets in one delivered file: a certificate, its chain, its key.
pub const DELIVERY_PARTS_MAX: usize = 8;
/// Hooks of one machine.
pub const HOOKS_MAX: usize = 256;
/// Words of one hook's command line.
pub const HOOK_ARGUMENTS_MAX: usize = 64;
/// How long a hook may take at most, seconds: the agent does nothing else meanwhile.
pub const HOOK_SECONDS_MAX: u64 = 600;
/// What the agent notes of one generation, bytes: [`DELIVERY_FILES_MAX`] files of [`DELIVERY_PARTS_MAX`] parts.
pub const MANIFEST_BYTES_MAX: usize = 256 << 10;
/// Acknowledgements that a mirror lists: one a machine.
pub const ACKS_LISTED_MAX: usize = 16_384;
/// That list, bytes: a name and a digest a line.
pub const ACKS_LIST_BYTES_MAX: usize = ACKS_LISTED_MAX * 200;
/// One acknowledgement, bytes: a machine with [`SERVICES_MAX`] services, and a signature of the post-quantum profile.
pub const ACK_BYTES_MAX: usize = 64 << 10;
/// One credential, bytes: systemd's own bound.
pub const CREDENTIAL_BYTES_MAX: usize = 1 << 20;
