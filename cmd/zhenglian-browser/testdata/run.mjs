// Runs the WebAssembly module under Node for the Go test beside it:
//   node run.mjs WASM_EXEC WASM STORE
// reads one JSON request a line, {call, args}, and answers each with a line,
// {value} or {error, code, cause}. In args, {"$bytes": base64}, {"$key": name}
// (made by WebCrypto on first use, not extractable), {"$store": true} (the folder
// STORE), {"$file": path} and {"$out": path} stand for what JSON cannot say. The
// call "memory" gives the module's memory in bytes, "public" a key's SPKI.
import { webcrypto } from 'node:crypto';
import { open, readFile, readdir, rename, stat, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { join } from 'node:path';

const [wasmExec, wasm, folder] = process.argv.slice(2);
globalThis.crypto ??= webcrypto; // Node 18, which Debian 12 has, keeps it to itself
createRequire(import.meta.url)(wasmExec);
const go = new globalThis.Go();
const { instance } = await WebAssembly.instantiate(await readFile(wasm), go.importObject);
const ready = new Promise((resolve) => { globalThis.zhenglianBrowserReady = resolve; });
go.run(instance);
await ready;

let largest = 0; // piece that an upload was given
let arrays = 0; // bytes in arrays that were alive at once, when most were
const store = {
  async size(name) { return stat(join(folder, name)).then((s) => s.size, () => -1); },
  async list(prefix) {
    const [dir] = prefix.split('/');
    return (await readdir(join(folder, dir))).map((n) => `${dir}/${n}`).filter((n) => n.startsWith(prefix)).sort();
  },
  async range(name, offset, length) { return part(join(folder, name), offset, length); },
  async begin(name) {
    if (await this.size(name) >= 0) return null;
    const path = join(folder, 'tmp', name.replace('/', '.'));
    const file = await open(path, 'w');
    return {
      async write(bytes) { largest = Math.max(largest, bytes.length); arrays = Math.max(arrays, process.memoryUsage().arrayBuffers); await file.write(bytes); },
      async finish() { await file.close(); await rename(path, join(folder, name)); return true; },
      async abort() { await file.close(); },
    };
  },
};

async function part(path, offset, length) {
  const file = await open(path);
  const data = new Uint8Array(length);
  const { bytesRead } = await file.read(data, 0, length, offset);
  await file.close();
  return data.subarray(0, bytesRead);
}

const keys = new Map();
async function keyPair(name) {
  if (!keys.has(name)) {
    const alg = name.startsWith('p256') ? { name: 'ECDSA', namedCurve: 'P-256' } : { name: 'Ed25519' };
    keys.set(name, await crypto.subtle.generateKey(alg, false, ['sign', 'verify']));
  }
  return keys.get(name);
}

async function spki(name) { return new Uint8Array(await crypto.subtle.exportKey('spki', (await keyPair(name)).publicKey)); }

let outs = []; // files to close after a call

async function argument(v) {
  if (Array.isArray(v)) return Promise.all(v.map(argument));
  if (v === null || typeof v !== 'object') return v;
  if ('$bytes' in v) return new Uint8Array(Buffer.from(v.$bytes, 'base64'));
  if ('$store' in v) return store;
  if ('$key' in v) {
    const pair = await keyPair(v.$key);
    const alg = v.$key.startsWith('p256') ? { name: 'ECDSA', hash: 'SHA-256' } : { name: 'Ed25519' };
    return {
      public: await spki(v.$key),
      async sign(message) {
        if (v.refuse) throw new DOMException('she said no', 'AbortError');
        return new Uint8Array(await crypto.subtle.sign(alg, pair.privateKey, message));
      },
    };
  }
  if ('$file' in v) {
    const { size } = await stat(v.$file);
    return { size, read: (offset, length) => part(v.$file, offset, length) };
  }
  const out = {};
  for (const [name, x] of Object.entries(v)) {
    if (name === 'write' && x.$out) {
      await writeFile(x.$out, '');
      const file = await open(x.$out, 'r+');
      outs.push(file);
      let at = 0;
      out.write = async (a, b) => { // write(bytes) appends, write(offset, bytes) goes back
        if (b === undefined) { await file.write(a, 0, a.length, at); at += a.length; } else { await file.write(b, 0, b.length, a); }
      };
    } else {
      out[name] = await argument(x);
    }
  }
  return out;
}

function plain(v) {
  if (v instanceof Uint8Array) return { $bytes: Buffer.from(v).toString('base64') };
  if (Array.isArray(v)) return v.map(plain);
  if (v && typeof v === 'object') return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, plain(x)]));
  return v;
}

for await (const line of createInterface({ input: process.stdin })) {
  const { call, args } = JSON.parse(line);
  let answer;
  try {
    let value;
    if (call === 'memory') value = { bytes: instance.exports.mem.buffer.byteLength, largest, arrays };
    else if (call === 'public') value = await spki(args[0]);
    else value = await globalThis.zhenglianBrowser[call](...await argument(args));
    answer = { value: plain(value) };
  } catch (e) {
    answer = { error: String(e.message), code: e.code ?? '', field: e.field ?? '', cause: e.cause?.name ?? '' };
  }
  await Promise.all(outs.map((f) => f.close()));
  outs = [];
  console.log(JSON.stringify(answer));
}
process.exit(0);
