package chain

import (
	cmtcfg "github.com/cometbft/cometbft/config"

	dbm "github.com/cometbft/cometbft-db"
)

// openCometDB opens one of CometBFT's databases so that an error of its reads
// and writes ends the node with a sentence. CometBFT would panic on it, in
// whatever goroutine met it.
func (n *Node) openCometDB(c *cmtcfg.DBContext) (dbm.DB, error) {
	db, err := cmtcfg.DefaultDBProvider(c)
	if err != nil {
		return nil, err
	}
	return guardedDB{db, n}, nil
}

type guardedDB struct {
	dbm.DB
	n *Node
}

// guard passes an error on while the engine is starting, whose caller is told;
// later it does not return with one.
func (g guardedDB) guard(err error) error {
	if err == nil || !g.n.engine.Load() {
		return err
	}
	select {
	case <-g.n.stopping: // its database was closed under it
	default:
		err = g.n.consensusDamage(err.Error())
	}
	g.n.cannotGoOn(err)
	return err
}

func (g guardedDB) Get(key []byte) ([]byte, error) {
	v, err := g.DB.Get(key)
	return v, g.guard(err)
}

func (g guardedDB) Has(key []byte) (bool, error) {
	ok, err := g.DB.Has(key)
	return ok, g.guard(err)
}

func (g guardedDB) Set(key, value []byte) error     { return g.guard(g.DB.Set(key, value)) }
func (g guardedDB) SetSync(key, value []byte) error { return g.guard(g.DB.SetSync(key, value)) }

func (g guardedDB) NewBatch() dbm.Batch { return guardedBatch{g.DB.NewBatch(), g} }

type guardedBatch struct {
	dbm.Batch
	g guardedDB
}

func (b guardedBatch) Write() error     { return b.g.guard(b.Batch.Write()) }
func (b guardedBatch) WriteSync() error { return b.g.guard(b.Batch.WriteSync()) }
