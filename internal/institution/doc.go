// Package institution is one institution's home directory on its own host: its
// keys, its public descriptor, the alliance it joined, and its node's settings.
//
//	Init ──► keys/*.pem ──► descriptor.json ──── travels ───► alliance genesis
//	                                                              │
//	Open ◄── alliance.json ◄──────────── Join ◄───────────────────┘
//	 │
//	 └──► signers by use, TLS to peers, settings      one home, one process
//
// The layout:
//
//	HOME/descriptor.json  public; written last by Init, so a home without it is none
//	HOME/alliance.json    public; the genesis, written once by Join
//	HOME/node.toml        settings, each explained in the file
//	HOME/keys/NAME.pem    private: consensus, node, receipt, receipt-sm2, cosign, statement, attest, tls
//	HOME/ca/, HOME/tsa/   public: certificates of the authorities that it has, and their authority.json
//	HOME/rotations/       which generations of keys, NAME.2 and so on, are in place
//	HOME/data/            the node's stores
//
// Trusted: keys/ (whoever reads it is this institution until its keys are
// replaced) and node.toml (whoever alters it decides where the node listens and
// stores). Not trusted: descriptor.json and alliance.json; whoever alters them
// can only make Open fail, because every key in the descriptor signed it and the
// alliance must hold that same descriptor. The alliance's identity is the digest
// of alliance.json, which peers compare when they connect.
//
// Nothing here opens a second institution's home: peers are known by their
// descriptors in alliance.json alone.
package institution
