// Checks the vectors of keys, statements and receipts with a second
// implementation of spec/statement.md and spec/receipt.md, which shares no code
// with the first: its own CBOR reader, Ed25519 by ZIP 215 and SM2 in big
// integers, P-256, SHA-2 and SM3 from Node. No packages are needed:
//
//   node spec/vectors/run.mjs
//
// It prints one line a file and ends with status 1 when a vector fails.
import { createHash, createPublicKey, getHashes, verify } from 'node:crypto'
import { readFileSync } from 'node:fs'

const load = (name) => JSON.parse(readFileSync(new URL(name, import.meta.url), 'utf8'))
const hex = (b) => Buffer.from(b).toString('hex')
const unhex = (s) => Buffer.from(s, 'hex')
const digest = (alg, ...parts) => createHash(alg).update(Buffer.concat(parts)).digest()
const sha256 = (...parts) => digest('sha256', ...parts)

// ---- Reading deterministic CBOR

class Refused extends Error {
  constructor(code, field) { super(`${code} at ${field}`); this.code = code; this.field = field }
}
const refuse = (code, field) => { throw new Refused(code, field) }
const LIMIT = (1n << 63n) - 1n

class Reader {
  constructor(bytes) { this.b = bytes; this.at = 0 }
  head(field) {
    if (this.at >= this.b.length) refuse('malformed', field)
    const first = this.b[this.at], info = first & 31
    if (info < 24) { this.at++; return [first >> 5, BigInt(info)] }
    if (info > 27) refuse('not-deterministic', field)
    const size = 1 << (info - 24)
    if (this.at + 1 + size > this.b.length) refuse('malformed', field)
    let n = 0n
    for (let i = 1; i <= size; i++) n = n << 8n | BigInt(this.b[this.at + i])
    const least = [24n, 1n << 8n, 1n << 16n, 1n << 32n][info - 24]
    if (n < least) refuse('not-deterministic', field)
    this.at += 1 + size
    return [first >> 5, n]
  }
  expect(major, field) {
    const [m, n] = this.head(field)
    if (m !== major) refuse('malformed', field)
    return n
  }
  uint(field) { return this.expect(0, field) }
  map(field) { return this.expect(5, field) }
  array(field) { return this.expect(4, field) }
  int(field) {
    const [m, n] = this.head(field)
    if (m > 1 || n > LIMIT) refuse('malformed', field)
    return m === 1 ? -1n - n : n
  }
  take(n, field) {
    if (n > BigInt(this.b.length - this.at)) refuse('malformed', field)
    const v = this.b.subarray(this.at, this.at + Number(n))
    this.at += Number(n)
    return v
  }
  bytes(field) { return this.take(this.expect(2, field), field) }
  text(field) {
    const v = this.take(this.expect(3, field), field)
    try { return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(v) } catch { return refuse('malformed', field) }
  }
  digest(field) { const v = this.bytes(field); if (v.length !== 32) refuse('malformed', field); return hex(v) }
  size(field) { const n = this.uint(field); if (n > LIMIT) refuse('malformed', field); return n }
  seconds(field) { const n = this.uint(field); if (n > 253402300799n) refuse('malformed', field); return n }
  id(field) { const s = this.text(field); if (!/^[a-z0-9.:-]{1,64}$/.test(s)) refuse('malformed', field); return s }
  algorithm(field) { const a = this.int(field); if (![-8n, -7n, -70100n].includes(a)) refuse('wrong-algorithm', field); return a }
  literal(bytes, field) {
    for (const x of bytes) { if (this.b[this.at] !== x) refuse('malformed', field); this.at++ }
  }
  end(field) { if (this.at !== this.b.length) refuse('malformed', field) }
  // A map with exactly these labels in this order.
  fixed(labels, field) { if (this.map(field) !== BigInt(labels)) refuse('malformed', field) }
  label(k, field) { if (this.int(field) !== BigInt(k)) refuse('malformed', field) }
  // A label of a map whose labels ascend; last is the encoding of the one before.
  ascending(last, field) {
    const from = this.at, k = this.int(field), enc = this.b.subarray(from, this.at)
    if (last && Buffer.compare(last, enc) >= 0) refuse('not-deterministic', field)
    return [k, enc]
  }
}

// ---- Statements

const DEPOSIT = 'application/vnd.zhenglian.manifest+json'
const AUTHORISATION = 'application/vnd.zhenglian.trail-authorisation+cbor'
const ENROLMENT = 'application/vnd.zhenglian.member-enrolment+cbor'
const REVOCATION = 'application/vnd.zhenglian.key-revocation+cbor'
const PASSKEY = 'application/vnd.zhenglian.member-passkey+cbor'
const CERTIFICATE = 'application/vnd.zhenglian.key-certificate+cbor'
const KEYCHANGE = 'application/vnd.zhenglian.key-change+cbor'
const REGISTRY = [ENROLMENT, REVOCATION, PASSKEY, CERTIFICATE, KEYCHANGE]
const TRAIL = /^trail:(new|[0-9a-f]{64})$/

function parseStatement(data) {
  if (data.length === 0) refuse('empty', 'statement')
  if (data.length > 4096) refuse('oversize', 'statement')
  const r = new Reader(data), s = {}
  r.literal([0xd2, 0x84], 'statement')
  s.protected = r.bytes('protected')
  if (r.map('unprotected') !== 0n) refuse('malformed', 'unprotected')
  s.payload = r.bytes('payload')
  s.signature = r.bytes('signature')
  r.end('statement')
  if (s.signature.length !== 64) refuse('malformed', 'signature')
  const saw = parseProtected(s)
  checkKind(s, saw)
  return s
}

function parseProtected(s) {
  const r = new Reader(s.protected), saw = new Set()
  let last = null, k
  for (let n = r.map('protected'); n > 0n; n--) {
    [k, last] = r.ascending(last, 'protected')
    saw.add(Number(k))
    switch (k) {
      case 1n: s.alg = r.algorithm('protected.alg'); break
      case 3n: s.type = r.text('protected.content-type'); break
      case 4n: s.kid = r.digest('protected.kid'); break
      case 15n: parseClaims(r, s); break
      case 258n: if (r.int('protected.payload-hash-alg') !== -16n) refuse('malformed', 'protected.payload-hash-alg'); break
      case 259n:
        if (saw.has(3)) refuse('malformed', 'protected')
        s.type = r.text('protected.preimage-content-type'); break
      case -70001n: s.prev = r.digest('protected.prev'); if (/^0+$/.test(s.prev)) refuse('malformed', 'protected.prev'); break
      case -70002n:
        if (r.array('protected.after') !== 2n) refuse('malformed', 'protected.after')
        s.after = { size: r.size('protected.after.size'), root: r.digest('protected.after.root') }; break
      case -70003n: s.sm3 = r.digest('protected.sm3'); break
      default: refuse('malformed', 'protected')
    }
  }
  r.end('protected')
  return saw
}

function parseClaims(r, s) {
  const f = 'protected.claims'
  if (r.map(f) !== 3n) refuse('malformed', f)
  let last = null, k
  const next = (want) => { [k, last] = r.ascending(last, f); if (k !== want) refuse('malformed', f) }
  next(1n); s.iss = r.id(f + '.iss')
  next(2n); s.sub = r.text(f + '.sub')
  next(6n); s.iat = r.seconds(f + '.iat')
}

function checkKind(s, saw) {
  for (const l of [1, 4, 15]) if (!saw.has(l)) refuse('malformed', 'protected')
  if (!saw.has(3) && !saw.has(259)) refuse('malformed', 'protected')
  const registry = REGISTRY.includes(s.type)
  const need = { [DEPOSIT]: [258, 259, -70002, -70003], [AUTHORISATION]: [3, -70002], [ENROLMENT]: [3], [REVOCATION]: [3], [PASSKEY]: [3], [CERTIFICATE]: [3], [KEYCHANGE]: [3] }[s.type]
  if (!need) refuse('malformed', saw.has(259) ? 'protected.preimage-content-type' : 'protected.content-type')
  if (registry ? s.sub !== 'registry' : !TRAIL.test(s.sub)) refuse('malformed', 'protected.claims.sub')
  if (s.type === AUTHORISATION && s.sub === 'trail:new') refuse('malformed', 'protected.claims.sub')
  const want = new Set([1, 4, 15, ...need])
  if (!registry && s.sub !== 'trail:new') want.add(-70001)
  if (want.size !== saw.size || [...want].some((l) => !saw.has(l))) refuse('malformed', 'protected')
  if (s.type === DEPOSIT) { if (s.payload.length !== 32) refuse('malformed', 'payload') } else parseContent(s)
}

function parseContent(s) {
  const r = new Reader(s.payload)
  if (s.type === ENROLMENT) {
    const e = 'enrolment'
    r.fixed(6, e)
    r.label(1, e); if (!/^m:./.test(r.id(e + '.member'))) refuse('malformed', e + '.member')
    r.label(2, e); const der = r.bytes(e + '.key')
    r.label(3, e); const kind = r.uint(e + '.kind'); if (kind < 1n || kind > 4n) refuse('malformed', e + '.kind')
    r.label(4, e); if (r.uint(e + '.assurance') > 3n) refuse('malformed', e + '.assurance')
    r.label(5, e); r.digest(e + '.commitment')
    r.label(6, e); if (r.uint(e + '.demo') > 1n) refuse('malformed', e + '.demo')
    r.end(e)
    if (parseKey(der).why) refuse('bad-key', e + '.key')
    return
  }
  if (s.type === PASSKEY) {
    const p = 'passkey'
    r.fixed(5, p)
    r.label(1, p); if (!/^m:./.test(r.id(p + '.member'))) refuse('malformed', p + '.member')
    r.label(2, p); const der = r.bytes(p + '.key')
    r.label(3, p); r.digest(p + '.credential')
    r.label(4, p); const site = r.text(p + '.relying-party')
    if (!relyingParty(site)) refuse('malformed', p + '.relying-party')
    r.label(5, p); if (r.uint(p + '.demo') > 1n) refuse('malformed', p + '.demo')
    r.end(p)
    const key = parseKey(der)
    if (key.why || key.alg === -70100) refuse('bad-key', p + '.key')
    return
  }
  if (s.type === CERTIFICATE) {
    const c = 'certificate'
    r.fixed(5, c)
    r.label(1, c); r.digest(c + '.kid')
    r.label(2, c); if (!/^(00[89a-f].|0[1-9a-f]|[1-7].)(..)*$/.test(hex(limited(r.bytes(c + '.serial'), 20)))) refuse('malformed', c + '.serial')
    r.label(3, c); const from = r.seconds(c + '.not-before')
    r.label(4, c); const until = r.seconds(c + '.not-after')
    if (until < from || until - from > 400n * 86400n) refuse('malformed', c + '.not-after')
    r.label(5, c); r.digest(c + '.sha256')
    r.end(c)
    return
  }
  if (s.type === KEYCHANGE) {
    const c = 'key-change'
    r.fixed(5, c)
    r.label(1, c); const use = r.uint(c + '.use'); if (use < 1n || use > 4n) refuse('malformed', c + '.use')
    r.label(2, c); const der = r.bytes(c + '.key')
    r.label(3, c); r.digest(c + '.replaces')
    r.label(4, c); if (![0n, 1n, 4n].includes(r.uint(c + '.reason'))) refuse('malformed', c + '.reason')
    r.label(5, c); if (r.bytes(c + '.proof').length !== 64) refuse('malformed', c + '.proof')
    r.end(c)
    const key = parseKey(der)
    if (key.why || use === 2n && key.alg !== -8 || use === 3n && key.alg === -70100) refuse('bad-key', c + '.key')
    return
  }
  const name = s.type === REVOCATION ? 'revocation' : 'authorisation'
  r.fixed(2, name)
  r.label(1, name); r.digest(name + '.kid')
  r.label(2, name)
  const last = name === 'revocation' ? name + '.reason' : name + '.rights', v = r.uint(last)
  if (name === 'revocation' ? v > 10n || v === 7n : v > 3n) refuse('malformed', last)
  r.end(name)
}

const limited = (b, n) => b.length > n ? Buffer.alloc(0) : b
const relyingParty = (s) => s.length <= 253 && /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/.test(s) && !/^[0-9]+$/.test(s.split('.').pop())

const head = (major, n) => n < 24 ? Buffer.from([major << 5 | n]) : n < 256 ? Buffer.from([major << 5 | 24, n]) : Buffer.from([major << 5 | 25, n >> 8, n & 255])
const bstr = (b) => Buffer.concat([head(2, b.length), b])
const sigStructure = (prot, payload) => Buffer.concat([Buffer.from('846a', 'hex'), Buffer.from('Signature1'), bstr(prot), Buffer.from([0x40]), bstr(payload)])

// ---- Receipts

function parseReceipt(data) {
  if (data.length === 0) refuse('empty', 'receipt')
  if (data.length > 4096) refuse('oversize', 'receipt')
  let r = new Reader(data)
  const s = { path: [] }, p = 'unprotected.vdp', inc = 'unprotected.vdp.inclusion'
  r.literal([0xd2, 0x84], 'receipt')
  s.protected = r.bytes('protected')
  r.fixed(1, 'unprotected'); r.label(396, p); r.fixed(1, p); r.label(-1, p)
  if (r.array(inc) !== 1n) refuse('malformed', inc)
  const proof = r.bytes(inc)
  r.literal([0xf6], 'payload')
  s.signature = r.bytes('signature')
  r.end('receipt')
  r = new Reader(s.protected)
  const c = 'protected.claims'
  r.fixed(5, 'protected')
  r.label(1, 'protected.alg'); s.alg = r.algorithm('protected.alg')
  r.label(4, 'protected.kid'); s.kid = r.digest('protected.kid')
  r.label(15, c); r.fixed(3, c)
  r.label(1, c + '.iss'); s.iss = r.id(c + '.iss')
  r.label(2, c + '.sub'); s.sub = r.text(c + '.sub')
  if (!/^[!-*,-~]{1,255}$/.test(s.sub)) refuse('malformed', c + '.sub')
  r.label(6, c + '.iat'); s.iat = r.seconds(c + '.iat')
  r.label(395, 'protected.vds'); if (r.uint('protected.vds') !== 1n) refuse('malformed', 'protected.vds')
  r.label(-70004, 'protected.tree-size'); s.size = r.size('protected.tree-size')
  r.end('protected')
  if (s.signature.length !== 64) refuse('malformed', 'signature')
  r = new Reader(proof)
  if (r.array('inclusion') !== 3n) refuse('malformed', 'inclusion')
  if (r.size('inclusion.tree-size') !== s.size) refuse('malformed', 'inclusion.tree-size')
  s.index = r.size('inclusion.leaf-index')
  const n = r.array('inclusion.path')
  if (n > 64n) refuse('malformed', 'inclusion.path')
  for (let i = 0n; i < n; i++) s.path.push(r.digest('inclusion.path'))
  r.end('inclusion')
  if (s.index >= s.size) refuse('malformed', 'inclusion.leaf-index')
  return s
}

// RFC 9162 §2.1.3.2; null when the path does not fit size and index.
function rootOf(s, entry) {
  let fn = s.index, sn = s.size - 1n, r = sha256(Buffer.from([0]), entry)
  for (const h of s.path) {
    const p = unhex(h)
    if (sn === 0n) return null
    if (fn & 1n || fn === sn) {
      r = sha256(Buffer.from([1]), p, r)
      while (!(fn & 1n) && fn !== 0n) { fn >>= 1n; sn >>= 1n }
    } else r = sha256(Buffer.from([1]), r, p)
    fn >>= 1n; sn >>= 1n
  }
  return sn === 0n ? r : null
}

// ---- Keys and signatures

const mod = (a, m) => { const r = a % m; return r < 0n ? r + m : r }
function pow(b, e, m) { let r = 1n; for (b = mod(b, m); e > 0n; e >>= 1n) { if (e & 1n) r = r * b % m; b = b * b % m } return r }
const inv = (a, m) => pow(a, m - 2n, m)
const big = (b) => BigInt('0x' + (hex(b) || '0'))
const little = (b) => big(Buffer.from(b).reverse())

// Edwards curve of Ed25519 in projective coordinates [X, Y, Z].
const P = (1n << 255n) - 19n, L = (1n << 252n) + 27742317777372353535851937790883648493n
const D = mod(-121665n * inv(121666n, P), P), ROOT = pow(2n, (P - 1n) / 4n, P)
function edAdd([x1, y1, z1], [x2, y2, z2]) {
  const a = z1 * z2 % P, b = a * a % P, c = x1 * x2 % P, d = y1 * y2 % P, e = D * c % P * d % P, f = mod(b - e, P), g = (b + e) % P
  return [a * f % P * mod((x1 + y1) * (x2 + y2) - c - d, P) % P, a * g % P * (d + c) % P, f * g % P]
}
function edMul(k, p) { let r = [0n, 1n, 1n]; for (; k > 0n; k >>= 1n) { if (k & 1n) r = edAdd(r, p); p = edAdd(p, p) } return r }
const edIdentity = ([x, y, z]) => x === 0n && mod(y - z, P) === 0n
const edNeg = ([x, y, z]) => [mod(-x, P), y, z]
// Decoding by ZIP 215: y need not be reduced, and x = 0 may have its sign bit set.
function edDecode(b) {
  const v = little(b), sign = v >> 255n, y = (v & ((1n << 255n) - 1n)) % P
  const u = mod(y * y - 1n, P), w = (D * y % P * y + 1n) % P
  let x = u * pow(w, 3n, P) % P * pow(u * pow(w, 7n, P), (P - 5n) / 8n, P) % P
  if (w * x % P * x % P !== u) x = x * ROOT % P
  if (w * x % P * x % P !== u) return null
  if ((x & 1n) !== sign) x = mod(-x, P)
  return [x, y, 1n]
}
const BASE = edDecode(Buffer.from('5866666666666666666666666666666666666666666666666666666666666666', 'hex'))
function edVerify(raw, msg, sig) {
  const A = edDecode(raw), R = edDecode(sig.subarray(0, 32)), S = little(sig.subarray(32))
  if (!A || !R || S >= L) return false
  const k = little(digest('sha512', sig.subarray(0, 32), raw, msg)) % L
  const t = edAdd(edAdd(edMul(S, BASE), edNeg(R)), edNeg(edMul(k, A)))
  return edIdentity(edMul(8n, t))
}

// y² = x³ + ax + b, affine; null is the point at infinity.
const SM2 = {
  p: BigInt('0xfffffffeffffffffffffffffffffffffffffffff00000000ffffffffffffffff'), n: BigInt('0xfffffffeffffffffffffffffffffffff7203df6b21c6052b53bbf40939d54123'),
  b: BigInt('0x28e9fa9e9d9f5e344d5a9e4bcf6509a7f39789f515ab8f92ddbcbd414d940e93'),
  g: [BigInt('0x32c4ae2c1f1981195f9904466a39c9948fe30bbff2660be1715a4589334c74c7'), BigInt('0xbc3736a2f4f6779c59bdcee36b692153d0a9877cc62a474002df32e52139f0a0')],
}
const P256 = {
  p: BigInt('0xffffffff00000001000000000000000000000000ffffffffffffffffffffffff'), n: BigInt('0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551'),
  b: BigInt('0x5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b'),
}
function ecAdd(c, p, q) {
  if (!p) return q
  if (!q) return p
  if (p[0] === q[0] && (p[1] + q[1]) % c.p === 0n) return null
  const m = p[0] === q[0] ? mod(3n * (p[0] * p[0] - 1n), c.p) * inv(2n * p[1], c.p) : mod(q[1] - p[1], c.p) * inv(mod(q[0] - p[0], c.p), c.p) // a = -3
  const x = mod(m * m - p[0] - q[0], c.p)
  return [x, mod(m * (p[0] - x) - p[1], c.p)]
}
function ecMul(c, k, p) { let r = null; for (; k > 0n; k >>= 1n) { if (k & 1n) r = ecAdd(c, r, p); p = ecAdd(c, p, p) } return r }
function onCurve(c, point) {
  const x = big(point.subarray(1, 33)), y = big(point.subarray(33))
  return point[0] === 4 && x < c.p && y < c.p && mod(y * y - x * x * x + 3n * x - c.b, c.p) === 0n
}
const pad = (v) => unhex(v.toString(16).padStart(64, '0'))
const sm3Here = getHashes().includes('sm3')
function sm2Verify(point, msg, sig) {
  const r = big(sig.subarray(0, 32)), s = big(sig.subarray(32)), { p, n, b, g } = SM2
  if (r === 0n || s === 0n || r >= n || s >= n || (r + s) % n === 0n) return false
  const id = Buffer.from('1234567812345678')
  const z = digest('sm3', Buffer.from([0, id.length * 8]), id, pad(p - 3n), pad(b), pad(g[0]), pad(g[1]), point.subarray(1))
  const e = big(digest('sm3', z, msg))
  const sum = ecAdd(SM2, ecMul(SM2, s, g), ecMul(SM2, (r + s) % n, [big(point.subarray(1, 33)), big(point.subarray(33))]))
  return sum !== null && (e + sum[0]) % n === r
}

const prefixes = [
  [-8, 44, '302a300506032b6570032100'], [-7, 91, '3059301306072a8648ce3d020106082a8648ce3d030107034200'],
  [-70100, 91, '3059301306072a8648ce3d020106082a811ccf5501822d034200'],
]
// A key with its algorithm, or why it is refused.
function parseKey(der) {
  for (const [alg, length, prefix] of prefixes) {
    if (der.length !== length || !hex(der).startsWith(prefix)) continue
    const raw = der.subarray(prefix.length / 2)
    if (alg !== -8) return onCurve(alg === -7 ? P256 : SM2, raw) ? { alg, der, raw } : { why: 'not-a-point' }
    const y = little(raw) & ((1n << 255n) - 1n), p = edDecode(raw)
    if (y >= P || (p && p[0] === 0n && raw[31] & 128)) return { why: 'non-canonical' }
    if (!p) return { why: 'not-a-point' }
    if (edIdentity(edMul(8n, p))) return { why: 'small-order' }
    return edIdentity(edMul(L, p)) ? { alg, der, raw } : { why: 'torsion' }
  }
  return { why: 'form' }
}

// verdict returns [valid, strict], or null when this Node has no SM3.
function verdict(key, msg, sig) {
  if (sig.length !== 64) return [false, false]
  if (key.alg === -70100) { if (!sm3Here) return null; const ok = sm2Verify(key.raw, msg, sig); return [ok, ok] }
  const node = createPublicKey({ key: key.der, format: 'der', type: 'spki' })
  if (key.alg === -8) { const ok = edVerify(key.raw, msg, sig); return [ok, ok && verify(null, msg, node, sig)] }
  const ok = big(sig.subarray(32)) <= P256.n >> 1n && verify('sha256', msg, { key: node, dsaEncoding: 'ieee-p1363' }, sig)
  return [ok, ok]
}

// ---- Acts and passkeys (manifest.md, part 3)

// RFC 8785 for documents of texts, integers and booleans: names in the order of
// their UTF-16 code units, which is JavaScript's own.
const canon = (v) => Array.isArray(v) ? '[' + v.map(canon).join(',') + ']'
  : v && typeof v === 'object' ? '{' + Object.keys(v).sort().map((k) => JSON.stringify(k) + ':' + canon(v[k])).join(',') + '}' : JSON.stringify(v)

function actDigest(manifest) {
  const m = JSON.parse(manifest)
  delete m.act.passkey
  return sha256(Buffer.from('zhenglian act v1\0'), Buffer.from(canon(m)))
}

// Length of a CBOR item with definite lengths, nested up to four deep; -1 when it is none.
function itemLength(b, at, depth) {
  if (at >= b.length || depth > 4) return -1
  const major = b[at] >> 5, info = b[at] & 31
  let n = BigInt(info), next = at + 1
  if (info > 27) return -1
  if (info >= 24) {
    next += 1 << (info - 24)
    if (next > b.length) return -1
    n = BigInt('0x' + hex(b.subarray(at + 1, next)))
  }
  if (major === 2 || major === 3) return n > BigInt(b.length - next) ? -1 : next + Number(n)
  let items = major === 4 ? n : major === 5 ? 2n * n : major === 6 ? 1n : 0n
  if (items > BigInt(b.length) * 2n) return -1
  for (; items > 0n; items--) if ((next = itemLength(b, next, depth + 1)) < 0) return -1
  return next
}

// Members that stand twice are told by a reviver-free count of names at the top.
function parseClientData(bytes) {
  let text, c
  try { text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes); c = JSON.parse(text) } catch { return null }
  if (!c || typeof c !== 'object' || Array.isArray(c)) return null
  let depth = 0, names = 0
  for (let i = 0; i < text.length; i++) {
    if (text[i] === '"') { while (text[++i] !== '"') if (text[i] === '\\') i++ } else if ('{['.includes(text[i])) depth++
    else if ('}]'.includes(text[i])) depth--
    else if (text[i] === ':' && depth === 1) names++
  }
  if (names !== Object.keys(c).length) return null
  for (const [name, type] of [['type', 'string'], ['challenge', 'string'], ['origin', 'string']]) if (typeof c[name] !== type) return null
  if ('crossOrigin' in c && typeof c.crossOrigin !== 'boolean') return null
  if ('topOrigin' in c && typeof c.topOrigin !== 'string') return null
  return c
}

// The first step of manifest.md 3.4 that fails, or ''.
function assertionFault(a, der, challenge, site) {
  const un64 = (s) => Buffer.from(s, 'base64url')
  const auth = un64(a.authenticator_data), client = un64(a.client_data), sig = un64(a.signature)
  if (hex(sha256(der)) !== a.kid) return 'key'
  const c = parseClientData(client)
  if (!c) return 'client-data'
  if (c.type !== 'webauthn.get') return 'type'
  if (c.challenge !== challenge.toString('base64url')) return 'challenge'
  if (c.crossOrigin || c.topOrigin) return 'cross-origin'
  const o = /^(https?):\/\/([^/?#@:]+)(:[0-9]+)?$/.exec(c.origin)
  if (!o || (o[2] !== site && !o[2].endsWith('.' + site)) || (o[1] !== 'https' && o[2] !== 'localhost' && !o[2].endsWith('.localhost'))) return 'origin'
  if (auth.length < 37) return 'authenticator-data'
  if (hex(auth.subarray(0, 32)) !== hex(sha256(Buffer.from(site)))) return 'relying-party'
  const flags = auth[32]
  if (!(flags & 1)) return 'user-present'
  if (!(flags & 4)) return 'user-verified'
  if ((flags & 16 && !(flags & 8)) || flags & 64) return 'authenticator-data'
  if (flags & 128 ? auth.length === 37 || auth[37] >> 5 !== 5 || itemLength(auth, 37, 0) !== auth.length : auth.length !== 37) return 'authenticator-data'
  const key = parseKey(der), node = createPublicKey({ key: der, format: 'der', type: 'spki' }), msg = Buffer.concat([auth, sha256(client)])
  if (key.alg === -8) return sig.length === 64 && edVerify(key.raw, msg, sig) && verify(null, msg, node, sig) ? '' : 'signature'
  return strictDER(sig) && verify('sha256', msg, { key: node, dsaEncoding: 'der' }, sig) ? '' : 'signature'
}

// A SEQUENCE of two positive INTEGERs and nothing else.
function strictDER(b) {
  if (b[0] !== 0x30 || b[1] !== b.length - 2) return false
  let at = 2
  for (let i = 0; i < 2; i++) {
    const n = b[at + 1], v = b.subarray(at + 2, at + 2 + n)
    if (b[at] !== 2 || !n || v.length !== n || v[0] & 0x80 || (n > 1 && v[0] === 0 && !(v[1] & 0x80))) return false
    at += 2 + n
  }
  return at === b.length
}

// ---- The run

let failures = 0
function run(file, check) {
  let ran = 0, skipped = 0
  for (const v of load(file)) {
    try {
      if (check(v) === 'skip') skipped++; else ran++
    } catch (e) {
      failures++
      console.log(`FAILED ${file}: ${v.name}: ${e.message}`)
    }
  }
  console.log(`${file}: ${ran} checked${skipped ? `, ${skipped} not run: this Node has no SM3` : ''}`)
}
const same = (what, got, want) => { if (String(got) !== String(want)) throw new Error(`${what} is ${got}, want ${want}`) }
function refused(v, parse) {
  try { parse(unhex(v.bytes)) } catch (e) {
    if (!(e instanceof Refused)) throw e
    return same('the reason', `${e.code} at ${e.field}`, `${v.code} at ${v.field}`)
  }
  throw new Error('it was accepted')
}
function judged(v, key, msg, sig) {
  const got = verdict(key, msg, sig)
  return got === null ? 'skip' : same('valid, strict', got, [v.valid, v.strict])
}
const keys = Object.fromEntries(load('key/valid.json').map((v) => [v.name, parseKey(unhex(v.der))]))

run('key/valid.json', (v) => { same('algorithm', keys[v.name].alg, v.alg); same('kid', hex(sha256(unhex(v.der))), v.kid) })
run('key/invalid.json', (v) => same('the reason', parseKey(unhex(v.der)).why, v.why))
run('key/signatures.json', (v) => judged(v, keys[v.key], unhex(v.message), unhex(v.signature)))
run('statement/valid.json', (v) => {
  const s = parseStatement(unhex(v.bytes)), f = v.fields, tbs = sigStructure(s.protected, s.payload)
  same('alg', s.alg, f.alg); same('kid', s.kid, f.kid); same('iss', s.iss, f.iss); same('sub', s.sub, f.sub); same('iat', s.iat, f.iat)
  same('content type', s.type, f.content_type); same('payload', hex(s.payload), f.payload); same('prev', s.prev, f.prev); same('sm3', s.sm3, f.sm3)
  same('after', s.after && s.after.root, f.after && f.after.root); same('signature', hex(s.signature), f.signature)
  if (f.after && f.after.size <= Number.MAX_SAFE_INTEGER) same('after size', s.after.size, f.after.size)
  same('to be signed', hex(tbs), v.to_be_signed); same('digest', hex(sha256(unhex(v.bytes))), v.digest); same('ID', hex(sha256(tbs)), v.id)
  return judged({ valid: true, strict: true }, keys[v.key], tbs, s.signature)
})
run('statement/invalid.json', (v) => refused(v, parseStatement))
run('statement/signatures.json', (v) => {
  const s = parseStatement(unhex(v.bytes))
  return judged(v, keys[v.key], sigStructure(s.protected, s.payload), s.signature)
})
const TYPES = { enrolment: ENROLMENT, revocation: REVOCATION, authorisation: AUTHORISATION, passkey: PASSKEY, certificate: CERTIFICATE, 'key-change': KEYCHANGE }
run('registry/contents.json', (v) => {
  if (!TYPES[v.kind]) throw new Error(`kind ${v.kind} is unknown`)
  const content = { bytes: v.bytes, code: v.code, field: v.field }
  if (v.code === 'ok') return parseContent({ type: TYPES[v.kind], payload: unhex(v.bytes) })
  refused(content, (payload) => parseContent({ type: TYPES[v.kind], payload }))
})
run('act/assertions.json', (v) => {
  const challenge = actDigest(v.manifest)
  same('canonical bytes', canon(JSON.parse(v.manifest)), v.manifest)
  same('challenge', hex(challenge), v.challenge)
  same('the reason', assertionFault(JSON.parse(v.manifest).act.passkey, Buffer.from(v.key, 'base64'), challenge, v.relying_party), v.reason)
})
run('receipt/valid.json', (v) => {
  const s = parseReceipt(unhex(v.bytes)), f = v.fields, root = rootOf(s, unhex(v.entry))
  same('alg', s.alg, f.alg); same('kid', s.kid, f.kid); same('iss', s.iss, f.iss); same('sub', s.sub, f.sub); same('iat', s.iat, f.iat)
  same('size', s.size, f.size); same('index', s.index, f.index); same('path', s.path, f.path); same('signature', hex(s.signature), f.signature)
  same('root', root && hex(root), v.root)
  return judged({ valid: true, strict: true }, keys[v.key], sigStructure(s.protected, root), s.signature)
})
run('receipt/invalid.json', (v) => refused(v, parseReceipt))
run('receipt/refused.json', (v) => {
  const s = parseReceipt(unhex(v.bytes)), root = rootOf(s, unhex(v.entry)), key = keys[v.key]
  if (root === null) return same('the reason', 'path', v.reason)
  const ok = Number(s.alg) === key.alg && s.kid === hex(sha256(key.der)) && verdict(key, sigStructure(s.protected, root), s.signature)[1]
  same('the reason', ok ? 'none' : 'signature', v.reason)
})
run('receipt/transparent.json', (v) => {
  const s = parseStatement(unhex(v.statement))
  const receipts = Buffer.concat(v.receipts.map((r) => bstr(unhex(r))))
  same('bytes', hex(Buffer.concat([unhex('d284'), bstr(s.protected), unhex('a119018a'), head(4, v.receipts.length), receipts, bstr(s.payload), bstr(s.signature)])), v.bytes)
})
process.exit(failures ? 1 : 0)
