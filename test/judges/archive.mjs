// Checks a web archive with software that is not this project's: records are
// read, chunks removed and the index made by warcio; digests are by Node.
//
//   node archive.mjs data.warc.gz index.cdxj
//
// It prints a line for each thing that holds and exits 1 at the first that does
// not.
import { createHash } from 'node:crypto'
import { createReadStream, readFileSync } from 'node:fs'
import { AsyncIterReader, CDXIndexer, WARCParser } from 'warcio'

const [, , warc, cdxj] = process.argv
const sha256 = (data) => 'sha256:' + createHash('sha256').update(data).digest('hex')
function fail(where, why) {
  console.error(`FAILED ${where}: ${why}`)
  process.exit(1)
}

// Blocks as they are.
try {
  for await (const record of new WARCParser(createReadStream(warc), { parseHttp: false })) {
    const where = `${record.warcType} ${record.warcTargetURI ?? ''}`
    const got = sha256(await record.readFully(false))
    if (got !== record.warcBlockDigest) fail(where, `block ${got}, the record says ${record.warcBlockDigest}`)
    console.log(`block ${where}`)
  }
} catch (e) {
  fail('the records', e.message)
}

// Payloads with warcio's own reading of HTTP and of chunks.
for await (const record of new WARCParser(createReadStream(warc))) {
  const named = record.warcPayloadDigest
  if (!named || record.warcType === 'revisit') continue
  let body = await record.readFully(false)
  const coding = record.httpHeaders?.headers.get('transfer-encoding')
  if (coding === 'chunked') {
    body = await new AsyncIterReader(AsyncIterReader.fromIter([body]), null, true).readFully()
  }
  if (sha256(body) !== named) fail(record.warcTargetURI, `payload ${sha256(body)}, the record says ${named}`)
  console.log(`payload ${record.warcType} ${record.warcTargetURI}`)
}

// The index that warcio makes of the same file, by place.
const ours = new Map()
for (const line of readFileSync(cdxj, 'utf8').trimEnd().split('\n')) {
  const [key, time, json] = [line.split(' ', 1)[0], line.split(' ', 2)[1], JSON.parse(line.slice(line.indexOf('{')))]
  ours.set(json.offset, { key, time, ...json })
}
for await (const theirs of new CDXIndexer({ noSurt: false }).iterIndex([{ reader: createReadStream(warc), filename: 'data.warc.gz' }])) {
  if (theirs.url.startsWith('urn:')) continue
  const mine = ours.get(Number(theirs.offset))
  if (!mine) fail(theirs.url, `the index has nothing at ${theirs.offset}`)
  for (const name of ['url', 'status', 'length', 'digest', 'filename']) {
    const told = String(mine[name]) // "undefined" without a payload, in both
    if ((name === 'digest' ? told.replace(/^sha256:/, '') : told) !== String(theirs[name])) fail(theirs.url, `${name} ${mine[name]} in the index, ${theirs[name]} by warcio`)
  }
  if (mine.time !== theirs.timestamp) fail(theirs.url, `time ${mine.time}, ${theirs.timestamp} by warcio`)
  if (mine.method === undefined && mine.key !== theirs.urlkey) fail(theirs.url, `key ${mine.key}, ${theirs.urlkey} by warcio`)
  console.log(`index ${theirs.url}`)
}
