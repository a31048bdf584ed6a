// Checks an unpacked evidence package with software that is not this project's:
// signatures by @auth0/cose, Merkle roots of receipts by @transmute/cose, keys
// and SHA-256 by Node. It trusts the keys in the package: it is to show that the
// bytes are what the standards say, not who issued them.
//
//   node judge.mjs FOLDER
//
// It prints a line for each thing that holds and exits 1 at the first that
// does not.
import { createHash, createPublicKey } from 'node:crypto';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import transmute from '@transmute/cose';
import { createRequire } from 'node:module';

// Its CommonJS form: Node 18, which Debian 12 has, cannot load the other.
const { Sign1 } = createRequire(import.meta.url)('@auth0/cose');

const folder = process.argv[2];
const read = (path) => readFileSync(join(folder, path));
const sha256 = (data) => createHash('sha256').update(data).digest();
const key = (path) => createPublicKey(read(path));
const index = JSON.parse(read('index.json'));

function fail(where, why) {
  console.error(`FAILED ${where}: ${why}`);
  process.exit(1);
}

// RFC 9052 and RFC 9995: the statement, and the manifest it commits to.
async function statement(step) {
  const bytes = read(step.statement);
  const sign1 = Sign1.decode(bytes);
  const headers = sign1.protectedHeaders;
  const kid = Buffer.from(headers.get(4)).toString('hex');
  await sign1.verify(key(`trust/members/${kid}.pem`));
  if (headers.has(258)) {
    if (headers.get(258) !== -16) fail(step.statement, `payload-hash-alg ${headers.get(258)}`);
    if (headers.has(3)) fail(step.statement, 'label 3 beside 258, which RFC 9995 forbids');
    if (typeof headers.get(259) !== 'string') fail(step.statement, 'no preimage content type');
    if (step.manifest && !Buffer.from(sign1.payload).equals(sha256(read(step.manifest)))) {
      fail(step.manifest, 'not the manifest whose SHA-256 was signed');
    }
  }
  console.log(`ok ${step.statement}`);
  return sha256(bytes);
}

// RFC 9942: the receipt leads from the entry to a root that the institution signed.
async function receipt(path, entry) {
  const institution = path.split('.').at(-2);
  const pem = key(`trust/${institution}.pem`);
  const verifier = {
    verify: async ({ coseSign1, payload }) => {
      const s = Sign1.decode(coseSign1);
      if (s.protectedHeaders.get(15).get(1) !== institution) fail(path, 'another issuer');
      s.payload = Buffer.from(payload);
      await s.verify(pem);
      return payload;
    },
  };
  const leaf = await transmute.receipt.leaf(new Uint8Array(entry));
  const root = await transmute.receipt.inclusion.verify({ entry: leaf, receipt: read(path), verifier });
  console.log(`ok ${path} root ${Buffer.from(root).toString('hex')}`);
}

let at = '';
try {
  for (const step of index.steps) {
    at = step.statement;
    const entry = await statement(step);
    for (const path of step.receipts) {
      at = path;
      await receipt(path, entry);
    }
    if (step.manifest) {
      const manifest = JSON.parse(read(step.manifest));
      for (const o of step.objects) {
        at = o.path;
        const number = Number(o.path.split('/')[2].split('-')[0]);
        const want = manifest.objects[number - 1];
        const data = read(o.path);
        if (data.length !== want.size || sha256(data).toString('hex') !== want.sha256) fail(o.path, 'not the file in the manifest');
        console.log(`ok ${o.path}`);
      }
    }
  }
  if (existsSync(join(folder, 'members'))) {
    for (const name of readdirSync(join(folder, 'members'))) {
      const [kid, kind, institution] = name.split('.');
      if (institution === 'cose') continue;
      at = `members/${name}`;
      await receipt(at, sha256(read(`members/${kid}.${kind}.cose`)));
    }
  }
} catch (e) {
  fail(at, e.message);
}
