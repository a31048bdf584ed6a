// Checks the vectors of recordings with a second implementation of
// spec/recording.md, parts 1 and 2, which shares no code with the first. No
// packages are needed:
//
//   node spec/vectors/recording.mjs
//
// It prints one line a file and ends with status 1 when a vector fails.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'

const load = (name) => JSON.parse(readFileSync(new URL(`recording/${name}`, import.meta.url), 'utf8'))
const sha256 = (...parts) => createHash('sha256').update(Buffer.concat(parts.map((p) => Buffer.from(p)))).digest()

class Refused extends Error {
  constructor(code) { super(code); this.code = code }
}
const refuse = (code) => { throw new Refused(code) }

// RFC 8785, for texts, integers, bools, lists and objects.
function canonical(v) {
  if (Array.isArray(v)) return '[' + v.map(canonical).join(',') + ']'
  if (v !== null && typeof v === 'object') return '{' + Object.keys(v).sort().map((k) => JSON.stringify(k) + ':' + canonical(v[k])).join(',') + '}'
  if (typeof v === 'number' && !Number.isSafeInteger(v)) refuse('form')
  return JSON.stringify(v)
}

const text = (v) => typeof v === 'string', integer = Number.isSafeInteger, digest = (v) => text(v) && /^[0-9a-f]{64}$/.test(v)
const texts = (v) => Array.isArray(v) && v.every(text), integers = (v) => Array.isArray(v) && v.every(integer)
// Types as far as the vectors use them: phase, required fields, optional ones, roles.
const TYPES = {
  'session.open': ['before', { trail: digest, recorder: digest, version: text }, {}, []],
  'env.report': ['before', { verdict: text, exceptions: texts }, {}, ['report']],
  'browser.started': ['before', { version: text }, { binary: digest }, []],
  input: ['during', { kind: text }, {}, []],
  'dns.answer': ['', { connection: integer, name: text, answers: texts }, { resolver: text, error: text }, []],
  connection: ['', { connection: integer, name: text }, { remote: text }, []],
  'http.request': ['', { exchange: integer, method: text, url: text }, { connection: integer }, ['request.head']],
  'http.response': ['', { exchange: integer, status: integer, url: text }, { connection: integer }, ['response.head']],
  'http.end': ['', { exchange: integer, url: text }, { status: integer, connection: integer }, []],
  'video.frames': ['', { first: integer, frames: texts, times: integers }, {}, []],
  'step.done': ['during', { name: text, url: text }, { title: text }, ['screenshot']],
  'session.close': ['after', { state: text, count: integer, head: digest }, { reason: text }, []],
}
const PHASES = ['before', 'during', 'after'], ZERO = '0'.repeat(64)
const word = (s) => /^[a-z][a-z0-9-]{0,31}$/.test(s)

function parseEvent(line) {
  let e
  try { e = JSON.parse(line) } catch { refuse('form') }
  if (canonical(e) !== line) refuse('form')
  if (Object.keys(e).sort().join() !== 'at,blobs,data,mono,phase,prev,seq,session,type,v') refuse('form')
  if (e.v !== 1) refuse('version')
  if (!digest(e.session) || !digest(e.prev) || !integer(e.seq) || !integer(e.mono)) refuse('form')
  if (e.seq < 0 || e.mono < 0) refuse('range')
  if (!PHASES.includes(e.phase)) refuse('phase')
  if ((e.seq === 0) !== (e.prev === ZERO)) refuse('link')
  if ((e.seq === 0) !== (e.type === 'session.open')) refuse('type')
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(e.at) || new Date(e.at).toISOString() !== e.at) refuse('time')
  for (const name of Object.keys(e.data).sort()) {
    if (!word(name)) refuse('name')
    const v = e.data[name]
    if (!(text(v) || integer(v) || typeof v === 'boolean' || texts(v) || integers(v))) refuse('value')
  }
  for (const b of e.blobs) {
    if (!b.role.split('.').every(word)) refuse('name')
    if (!/^[a-z0-9!#$&^_.+-]+\/[a-z0-9!#$&^_.+-]+$/.test(b.media)) refuse('value')
  }
  const env = /^env\.[a-z][a-z0-9-]*$/.test(e.type) && e.type !== 'env.report'
  const type = env ? ['before', {}, {}, []] : TYPES[e.type] ?? refuse('type')
  const [phase, required, optional, roles] = type
  if (phase && phase !== e.phase) refuse('phase')
  for (const [name, is] of Object.entries(required)) {
    if (!(name in e.data)) refuse('required')
    if (!is(e.data[name])) refuse('value')
  }
  for (const [name, is] of Object.entries(optional)) if (name in e.data && !is(e.data[name])) refuse('value')
  for (const role of roles) if (!e.blobs.some((b) => b.role === role)) refuse('required')
  if (e.type === 'video.frames' && (e.data.frames.length !== e.data.times.length || !e.data.frames.every(digest))) refuse('value')
  if (e.type === 'session.close' && (e.data.count !== e.seq || e.data.head !== e.prev || (e.data.state !== 'complete' && !(e.data.state === 'partial' && e.data.reason)))) refuse('value')
  return e
}

// readLog calls back with each event; what it throws has the number it came to.
function readLog(log, each) {
  let next = 0, head = ZERO, last = null
  const at = (n, f) => { try { return f() } catch (e) { e.seq = n; throw e } }
  if (log === '') at(0, () => refuse('empty'))
  while (log !== '') {
    const end = log.indexOf('\n')
    if (end < 0) at(next, () => refuse('line'))
    const line = log.slice(0, end)
    log = log.slice(end + 1)
    at(next, () => {
      const e = parseEvent(line)
      if (last?.type === 'session.close') refuse('after-close')
      if (last && e.session !== last.session) refuse('session')
      if (e.seq > next) refuse('gap')
      if (e.seq === next - 1) refuse('fork')
      if (e.seq < next) refuse('order')
      if (e.prev !== head) refuse('link')
      if (last && PHASES.indexOf(e.phase) < PHASES.indexOf(last.phase)) refuse('phase')
      if (last && e.mono < last.mono) refuse('mono')
      head = sha256(line).toString('hex')
      next++
      last = e
      each(e, head)
    })
  }
  return last.type === 'session.close'
}

// RFC 9162 §2.1.1 over the events' digests.
function root(digests) {
  if (digests.length === 1) return sha256([0], Buffer.from(digests[0], 'hex'))
  let k = 1
  while (k * 2 < digests.length) k *= 2
  return sha256([1], root(digests.slice(0, k)), root(digests.slice(k)))
}

let failed = 0
const fail = (name, why) => { failed++; console.error(`FAILED ${name}: ${why}`) }

const valid = load('valid.json')
for (const v of valid) {
  const digests = []
  try {
    const closed = readLog(v.log, (_, d) => digests.push(d))
    if (closed !== v.closed || digests.join() !== v.digests.join()) fail(v.name, 'other events')
    for (const b of v.batches) {
      if (root(digests.slice(b.first, b.last + 1)).toString('hex') !== b.root || digests[b.last] !== b.head) fail(v.name, `batch ${b.first} to ${b.last}`)
    }
  } catch (e) { fail(v.name, `${e.message} at ${e.seq}`) }
}
console.log(`recording/valid.json ${valid.length}`)

const invalid = load('invalid.json')
for (const v of invalid) {
  try {
    readLog(v.log, () => {})
    fail(v.name, 'it is read')
  } catch (e) {
    if (e.code !== v.code || e.seq !== v.seq) fail(v.name, `${e.message} at ${e.seq}, want ${v.code} at ${v.seq}`)
  }
}
console.log(`recording/invalid.json ${invalid.length}`)

const ids = load('ids.json')
for (const v of ids) {
  const d = sha256('zhenglian warc record v1\0', Buffer.from(v.session, 'hex'), `${v.exchange}:${v.kind}`)
  d[6] = d[6] & 0x0f | 0x80
  d[8] = d[8] & 0x3f | 0x80
  const h = d.toString('hex')
  const id = `urn:uuid:${[h.slice(0, 8), h.slice(8, 12), h.slice(12, 16), h.slice(16, 20), h.slice(20, 32)].join('-')}`
  if (id !== v.id) fail(`${v.exchange} ${v.kind}`, id)
}
console.log(`recording/ids.json ${ids.length}`)
process.exit(failed ? 1 : 0)
