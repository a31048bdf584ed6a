package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"encoding/hex"
	"math/big"

	"github.com/emmansun/gmsm/sm3"
)

// key signs deterministically with a secret derived from its name.
type key struct {
	name   string
	alg    int64
	secret [32]byte // Ed25519: the seed; others: the scalar
	der    []byte
}

func secret(name string) [32]byte { return sha256.Sum256([]byte("zhenglian test vector key: " + name)) }

func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func derEd25519(raw []byte) []byte { return cat(mustHex("302a300506032b6570032100"), raw) }
func derP256(point []byte) []byte {
	return cat(mustHex("3059301306072a8648ce3d020106082a8648ce3d030107034200"), point)
}
func derSM2(point []byte) []byte {
	return cat(mustHex("3059301306072a8648ce3d020106082a811ccf5501822d034200"), point)
}

func edKey(name string) *key {
	k := &key{name: name, alg: -8, secret: secret(name)}
	k.der = derEd25519(k.ed().Public().(ed25519.PublicKey))
	return k
}

func (k *key) ed() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(k.secret[:]) }

func p256Key(name string) *key {
	k := &key{name: name, alg: -7, secret: secret(name)}
	point, err := k.p256().PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	k.der = derP256(point)
	return k
}

func (k *key) p256() *ecdsa.PrivateKey {
	p, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), k.secret[:])
	if err != nil {
		panic(err)
	}
	return p
}

func sm2Key(name string) *key {
	k := &key{name: name, alg: -70100, secret: secret(name)}
	x, y := sm2Curve().mul(new(big.Int).SetBytes(k.secret[:]))
	k.der = derSM2(cat([]byte{4}, pad(x), pad(y)))
	return k
}

func (k *key) kid() []byte { d := sha256.Sum256(k.der); return d[:] }

// sign makes the raw 64-byte signature over message.
func (k *key) sign(message []byte) []byte {
	switch k.alg {
	case -8:
		return ed25519.Sign(k.ed(), message)
	case -7:
		hash := sha256.Sum256(message)
		der, err := k.p256().Sign(nil, hash[:], crypto.SHA256) // RFC 6979
		if err != nil {
			panic(err)
		}
		var sig struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(der, &sig); err != nil {
			panic(err)
		}
		n := elliptic.P256().Params().N
		if sig.S.Cmp(new(big.Int).Rsh(n, 1)) > 0 {
			sig.S.Sub(n, sig.S)
		}
		return cat(pad(sig.R), pad(sig.S))
	}
	return k.signSM2(message)
}

func pad(v *big.Int) []byte { return v.FillBytes(make([]byte, 32)) }

// edScalar returns the clamped secret scalar.
func (k *key) edScalar() *big.Int {
	h := sha512.Sum512(k.secret[:])
	h[0] &= 248
	h[31] = h[31]&127 | 64
	return little(h[:32])
}

func little(b []byte) *big.Int {
	r := make([]byte, len(b))
	for i := range b {
		r[len(b)-1-i] = b[i]
	}
	return new(big.Int).SetBytes(r)
}

func little32(v *big.Int) []byte {
	b := pad(v)
	for i := range 16 {
		b[i], b[31-i] = b[31-i], b[i]
	}
	return b
}

// edOrder is L, the order of the base point of Ed25519 (RFC 8032 §5.1).
func edOrder() *big.Int {
	l, _ := new(big.Int).SetString("27742317777372353535851937790883648493", 10)
	return l.Add(l, new(big.Int).Lsh(big.NewInt(1), 252))
}

// signWithR makes the Ed25519 signature with a chosen encoding of R, whose part
// in the large subgroup is r times the base point.
func (k *key) signWithR(encodedR []byte, r *big.Int, message []byte) []byte {
	h := sha512.Sum512(cat(encodedR, k.der[12:], message))
	s := new(big.Int).Mul(little(h[:]), k.edScalar())
	s.Add(s, r).Mod(s, edOrder())
	return cat(encodedR, little32(s))
}

// The SM2 curve (GB/T 32918.5) in affine coordinates with big integers: slow
// and not in constant time, which for test keys is of no consequence. Signing
// is done here because vectors must come out the same every time.
type curve struct{ p, a, b, n, gx, gy *big.Int }

func sm2Curve() *curve {
	h := func(s string) *big.Int { return new(big.Int).SetBytes(mustHex(s)) }
	return &curve{
		p:  h("fffffffeffffffffffffffffffffffffffffffff00000000ffffffffffffffff"),
		a:  h("fffffffeffffffffffffffffffffffffffffffff00000000fffffffffffffffc"),
		b:  h("28e9fa9e9d9f5e344d5a9e4bcf6509a7f39789f515ab8f92ddbcbd414d940e93"),
		n:  h("fffffffeffffffffffffffffffffffff7203df6b21c6052b53bbf40939d54123"),
		gx: h("32c4ae2c1f1981195f9904466a39c9948fe30bbff2660be1715a4589334c74c7"),
		gy: h("bc3736a2f4f6779c59bdcee36b692153d0a9877cc62a474002df32e52139f0a0"),
	}
}

func (c *curve) add(x1, y1, x2, y2 *big.Int) (*big.Int, *big.Int) {
	if x1 == nil {
		return x2, y2
	}
	num, den := new(big.Int), new(big.Int)
	if x1.Cmp(x2) == 0 { // never inverse points: scalars are below n/2 steps apart
		num.Mul(x1, x1).Mul(num, big.NewInt(3)).Add(num, c.a)
		den.Lsh(y1, 1)
	} else {
		num.Sub(y2, y1)
		den.Sub(x2, x1)
	}
	m := num.Mul(num, den.ModInverse(den.Mod(den, c.p), c.p))
	x := new(big.Int).Mul(m, m)
	x.Sub(x, x1).Sub(x, x2).Mod(x, c.p)
	y := new(big.Int).Sub(x1, x)
	y.Mul(y, m).Sub(y, y1).Mod(y, c.p)
	return x, y
}

// mul returns k times the base point.
func (c *curve) mul(k *big.Int) (x, y *big.Int) {
	for i := k.BitLen() - 1; i >= 0; i-- {
		if x != nil {
			x, y = c.add(x, y, x, y)
		}
		if k.Bit(i) == 1 {
			x, y = c.add(x, y, c.gx, c.gy)
		}
	}
	return x, y
}

const sm2SignerID = "1234567812345678"

func (k *key) signSM2(message []byte) []byte {
	c := sm2Curve()
	d := new(big.Int).SetBytes(k.secret[:])
	id := []byte(sm2SignerID)
	bits := len(id) * 8
	z := sm3.Sum(cat([]byte{byte(bits >> 8), byte(bits)}, id, pad(c.a), pad(c.b), pad(c.gx), pad(c.gy), k.der[len(k.der)-64:]))
	hash := sm3.Sum(cat(z[:], message))
	e := new(big.Int).SetBytes(hash[:])
	nonce := sha256.Sum256(cat([]byte("nonce"), k.secret[:], message))
	t := new(big.Int).SetBytes(nonce[:])
	t.Mod(t, c.n)
	x1, _ := c.mul(t)
	r := new(big.Int).Add(e, x1)
	r.Mod(r, c.n)
	s := new(big.Int).Mul(r, d)
	s.Sub(t, s)
	inv := new(big.Int).Add(d, big.NewInt(1))
	s.Mul(s, inv.ModInverse(inv, c.n)).Mod(s, c.n)
	return cat(pad(r), pad(s))
}
