package chain

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/zhenglian/zhenglian/evidence"
)

// What a node does about its damaged stores:
//
//	batch store   read and hashed ─► wrong ─► fetched from a peer ─► written anew
//	ledger        read and compared with the index or the hash above ─► wrong ─► not served, fault
//	index         pebble's checksums ─► wrong ─► not served, fault; in a block: the node ends
//	consensus     CometBFT's own checks ─► the node does not start
//
// The sentence of each fault names the store and what to move away.

// mendBatch writes a committed batch, which a peer had, anew and lets its block
// point there.
func (n *Node) mendBatch(digest evidence.Digest, raw []byte) error {
	if n.disk.full.Load() {
		return ErrDiskFull
	}
	loc, err := n.batches.put(n.life, digest, raw)
	if err != nil {
		return err
	}
	n.mendMu.Lock()
	defer n.mendMu.Unlock()
	height, err := n.idx.get(digestKey('b', digest))
	if err != nil || len(height) != 8 {
		return errors.Join(err, fmt.Errorf("no block of batch %s is known", digest))
	}
	key := u64key('h', binary.BigEndian.Uint64(height))
	v, err := n.idx.get(key)
	if err != nil {
		return err
	}
	blk, err := decodeBlock(v)
	if err != nil {
		return err
	}
	for i := range blk.Batches {
		if blk.Batches[i].Digest == digest {
			blk.Batches[i].Loc = loc
		}
	}
	if err := n.idx.db.Set(key, blk.encode(), pebble.NoSync); err != nil {
		return fmt.Errorf("writing the index: %w", err)
	}
	n.log.Info("a damaged batch is whole again", "batch", digest)
	n.clearFault("batch store")
	return nil
}

// ledgerDamage makes the ledger's fault and returns it as an error.
func (n *Node) ledgerDamage(detail string) error {
	err := &DamagedError{"ledger", fmt.Sprintf("%s; stop the node, move %s away and start again: it is computed anew from the batches",
		detail, filepath.Join(n.cfg.Dir, "ledger"))}
	n.fault(err.Store, err.Detail)
	return err
}

// entryAt reads an entry and checks that it is the one the index has there.
func (n *Node) entryAt(position uint64) (evidence.Digest, error) {
	entry, err := n.ledger.Entry(position)
	if err != nil {
		return entry, fmt.Errorf("reading entry %d: %w", position, err)
	}
	at, ok, err := n.idx.position(digestKey('e', entry))
	if err != nil {
		return entry, err
	}
	if !ok || at != position {
		return evidence.Digest{}, n.ledgerDamage(fmt.Sprintf("its entry %d is not what was registered there", position))
	}
	return entry, nil
}

// checkTile compares 256 hashes of a full tile with the one hash above it. The
// hashes of a tile that is not full lead to the root alone, which every start
// compares.
func (n *Node) checkTile(level uint, index uint64, hashes [][]byte) error {
	above, err := n.ledger.Tile(int(level)+1, index/256, int(index%256)+1)
	if err != nil {
		return err
	}
	tree := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	for _, h := range hashes {
		if err := tree.Append(h, nil); err != nil {
			return err
		}
	}
	root, err := tree.GetRootHash(nil)
	if err != nil {
		return err
	}
	if string(root) != string(above[len(above)-32:]) {
		return n.ledgerDamage(fmt.Sprintf("tile %d of level %d does not lead to the hash above it", index, level))
	}
	return nil
}

// fullTile reports whether the log has all 256 hashes of a tile.
func (n *Node) fullTile(level uint, index uint64) bool {
	return level < 7 && index < n.machine.cur.Load().Size>>(8*(level+1))
}

// cannotGoOn ends the node: a block that was decided cannot be applied here, or
// the engine's store cannot be read. It does not return, because CometBFT takes
// an error there for a reason to panic; Run returns err instead, and the
// process ends. Who is stopping already only waits for that.
func (n *Node) cannotGoOn(err error) {
	var damaged *DamagedError
	if errors.As(err, &damaged) {
		n.fault(damaged.Store, damaged.Detail)
	}
	select {
	case n.halted <- err:
	default:
	}
	n.stick.Do(func() { close(n.stuck) })
	select {}
}

// indexDamage notes what a read of the index met; the reader gets the error.
func (n *Node) indexDamage(detail string) {
	n.fault("index", fmt.Sprintf("%s; stop the node, move %s away and start again: it is computed anew from the blocks", firstLine(detail), filepath.Join(n.cfg.Dir, "index")))
}

// indexFatal ends the node when the index cannot go on, such as on a write
// error in the background. It does not return once the node runs.
func (n *Node) indexFatal(detail string) {
	if !n.started.Load() {
		return
	}
	n.dead.Store(true)
	n.fault("index", firstLine(detail))
	select {
	case n.halted <- &DamagedError{"index", firstLine(detail)}:
	default:
	}
	select {}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// consensusDamage says what to do when the engine's stores are broken. The vote
// state stays where it is: without it this node could vote twice.
func (n *Node) consensusDamage(detail string) error {
	dir := filepath.Join(n.cfg.Dir, "consensus", "data")
	err := &DamagedError{"consensus store", fmt.Sprintf("%s; move blockstore.db, state.db and cs.wal in %s and the directory %s away (but keep priv_validator_state.json) and start again: the blocks are fetched from the other institutions",
		firstLine(detail), dir, filepath.Join(n.cfg.Dir, "index"))}
	n.fault(err.Store, err.Detail)
	return err
}

// consensusError tells a damaged store from what else keeps the engine from
// starting: what is this package's own, the network, the disk.
func (n *Node) consensusError(err error) error {
	if n.replayErr != nil {
		return fmt.Errorf("applying the blocks again: %w", n.replayErr)
	}
	var network *net.OpError
	if errors.As(err, &network) || errors.Is(err, fs.ErrPermission) || isNoSpace(err) || errors.Is(err, syscall.EAGAIN) {
		return fmt.Errorf("starting the consensus engine: %w", err)
	}
	return n.consensusDamage(err.Error())
}

// stopComet stops the engine and waits for it, but not when it waits for a
// block that cannot be applied.
func (n *Node) stopComet() error {
	done := make(chan error, 1)
	go func() { // ends with CometBFT, or with the process when that is stuck
		err := n.comet.Stop()
		n.comet.Wait()
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-n.stuck:
		select { // it may stop all the same
		case err := <-done:
			return err
		case <-time.After(time.Second):
			return nil
		}
	}
}
