// Checks a whole log by Go's own transparency-log packages, golang.org/x/mod/sumdb/tlog and note, and nothing of ours: the
// checkpoint's signature, every hash tile and every entry against its root, an inclusion proof of every entry, and that
// the log at some earlier sizes was a beginning of itself.
//
//	check-log LOG VKEY                 LOG is the directory keyring/log, VKEY the log's verifier key
//	check-log LOG VKEY PROOF ENTRY     also that a C2SP tlog-proof of the same log is the one that Go makes
//
// Exit 0 and one line if all of it holds; else 1 and the reason. On Debian, offline:
//
//	apt-get install golang-go golang-golang-x-mod-dev
//	GO111MODULE=off GOPATH=/usr/share/gocode go run check-log.go LOG VKEY
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const width = 256

func main() {
	if len(os.Args) != 3 && len(os.Args) != 5 {
		no("usage: check-log LOG VKEY [PROOF ENTRY]")
	}
	head, text := checkpoint(read("checkpoint"), os.Args[2])
	hashes := tlog.TileHashReader(head, tiles{})
	root, err := tlog.TreeHash(head.N, hashes)
	must(err)
	if root != head.Hash {
		no("the tiles lead to another root than the checkpoint's")
	}
	for first := int64(0); first < head.N; first += width {
		entries := bundle(first/width, min(width, head.N-first))
		for i, entry := range entries {
			index := first + int64(i)
			proof, err := tlog.ProveRecord(head.N, index, hashes)
			must(err)
			if err := tlog.CheckRecord(proof, head.N, head.Hash, index, tlog.RecordHash(entry)); err != nil {
				no("entry %d is not the one in the tree: %v", index, err)
			}
		}
	}
	for old := int64(1); old < head.N; old = old*2 + 1 {
		before, err := tlog.TreeHash(old, hashes)
		must(err)
		proof, err := tlog.ProveTree(head.N, old, hashes)
		must(err)
		must(tlog.CheckTree(proof, head.N, head.Hash, old, before))
	}
	everyTile(head, hashes)
	if len(os.Args) == 5 {
		checkProof(os.Args[3], os.Args[4], head, text, hashes)
	}
	fmt.Printf("checked: %d entries of %s\n", head.N, strings.SplitN(text, "\n", 2)[0])
}

// checkpoint opens the signed note and reads its three lines.
func checkpoint(bytes []byte, vkey string) (tlog.Tree, string) {
	verifier, err := note.NewVerifier(vkey)
	must(err)
	opened, err := note.Open(bytes, note.VerifierList(verifier))
	must(err)
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() {
		no("the checkpoint is not one of the log %s", verifier.Name())
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	must(err)
	root, err := tlog.ParseHash(lines[2])
	must(err)
	return tlog.Tree{N: size, Hash: root}, opened.Text
}

// tiles reads what Go's reader asks for; it checks every tile against the root before it believes it.
type tiles struct{}

func (tiles) Height() int                      { return 8 }
func (tiles) SaveTiles([]tlog.Tile, [][]byte) {}
func (tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range wanted {
		all = append(all, read(path(strconv.Itoa(tile.L), tile.N, int64(tile.W))))
	}
	return all, nil
}

// everyTile compares each tile of the tree with the one that Go makes from the leaves.
func everyTile(head tlog.Tree, hashes tlog.HashReader) {
	for _, tile := range tlog.NewTiles(8, 0, head.N) {
		// Go also names the narrower partial tiles of smaller trees; those may be gone.
		if tile.W < width && int64(tile.W) != head.N>>(8*tile.L)-tile.N*width {
			continue
		}
		made, err := tlog.ReadTileData(tile, hashes)
		must(err)
		name := path(strconv.Itoa(tile.L), tile.N, int64(tile.W))
		if !bytes.Equal(made, read(name)) {
			no("%s is not the tile that Go makes", name)
		}
	}
}

func bundle(number, count int64) [][]byte {
	name := path("entries", number, count)
	rest := read(name)
	var entries [][]byte
	for len(rest) >= 2 {
		length := 2 + int(binary.BigEndian.Uint16(rest))
		if length > len(rest) {
			break
		}
		entries = append(entries, rest[2:length])
		rest = rest[length:]
	}
	if len(rest) != 0 || int64(len(entries)) != count {
		no("%s does not hold %d entries", name, count)
	}
	return entries
}

func checkProof(proofFile, entryFile string, head tlog.Tree, text string, hashes tlog.HashReader) {
	proof, err := os.ReadFile(proofFile)
	must(err)
	entry, err := os.ReadFile(entryFile)
	must(err)
	parts := strings.SplitN(string(proof), "\n\n", 2)
	lines := strings.Split(parts[0], "\n")
	if len(parts) != 2 || len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" || !strings.HasPrefix(lines[1], "index ") {
		no("%s is not a C2SP tlog-proof", proofFile)
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[1], "index "), 10, 64)
	must(err)
	var path tlog.RecordProof
	for _, line := range lines[2:] {
		hash, err := tlog.ParseHash(line)
		must(err)
		path = append(path, hash)
	}
	if tree, own := checkpoint([]byte(parts[1]), os.Args[2]); own != text || tree != head {
		no("the proof is of another checkpoint")
	}
	must(tlog.CheckRecord(path, head.N, head.Hash, index, tlog.RecordHash(entry)))
	made, err := tlog.ProveRecord(head.N, index, hashes)
	must(err)
	if fmt.Sprint(made) != fmt.Sprint(path) {
		no("Go makes another proof of entry %d", index)
	}
}

// path is that of C2SP tlog-tiles, below the log's directory.
func path(level string, number, count int64) string {
	name := fmt.Sprintf("%03d", number%1000)
	for number /= 1000; number > 0; number /= 1000 {
		name = fmt.Sprintf("x%03d/%s", number%1000, name)
	}
	if count < width {
		name = fmt.Sprintf("%s.p/%d", name, count)
	}
	return "tile/" + level + "/" + name
}

func read(name string) []byte {
	all, err := os.ReadFile(filepath.Join(os.Args[1], filepath.FromSlash(name)))
	must(err)
	return all
}

func min(a, b int64) int64 {
	if a < b {
		return a
	}
	return b
}

func must(err error) {
	if err != nil {
		no("%v", err)
	}
}

func no(format string, what ...any) {
	fmt.Fprintf(os.Stderr, "NOT right: "+format+"\n", what...)
	os.Exit(1)
}
