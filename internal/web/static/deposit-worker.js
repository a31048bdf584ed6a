// The worker of the member's pages: it runs the WebAssembly module, reads files,
// talks to this portal, and signs. Plaintext and the age identity are in this
// worker and nowhere else; what leaves it is ciphertext and signed statements.
//
// A page posts {id, op, args}; answers are {id, value} or {id, failure}; while it
// works it posts {id, event}. What only a page can do, a passkey, it asks for with
// {id, ask}, and is answered with {answers: id, value} or {answers: id, failure}.

import "./wasm_exec.js";
import * as keys from "./keys.js";

let setup; // {module, lang, person}; person is for whom the page was made: she, or she and the member
let loading; // promise of the module

function load() {
  loading ??= (async () => {
    const go = new Go();
    const { instance } = await WebAssembly.instantiateStreaming(fetch(setup.module), go.importObject);
    const ready = new Promise((resolve) => { globalThis.zhenglianBrowserReady = resolve; });
    go.run(instance);
    await ready;
    return globalThis.zhenglianBrowser;
  })();
  loading.catch(() => { loading = undefined; });
  return loading;
}

const sleep = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

class Failure extends Error {
  constructor(message, more) {
    super(message);
    Object.assign(this, more);
  }
}

// call asks the portal. A busy or unreachable portal is asked again for a while.
async function call(method, path, { json, body, headers = {}, raw = false, accept = [] } = {}) {
  const init = { method, headers: { "Accept-Language": setup.lang, "Zhenglian-For": setup.person, ...headers }, body };
  if (json !== undefined) {
    init.body = JSON.stringify(json);
    init.headers["Content-Type"] = "application/json";
  }
  for (let attempt = 0; ; attempt++) {
    let answer;
    try {
      answer = await fetch(path, init);
    } catch (error) {
      if (attempt >= 5) throw new Failure(error.message, { code: "offline" });
      await sleep(500 * 2 ** attempt);
      continue;
    }
    if (answer.ok || accept.includes(answer.status)) return raw ? answer : answer.json();
    const problem = await answer.json().catch(() => ({}));
    const wait = Number(answer.headers.get("Retry-After"));
    if ((answer.status === 429 || answer.status === 503) && wait > 0 && attempt < 20) {
      await sleep(Math.min(wait, 30) * 1000);
      continue;
    }
    throw new Failure(problem.detail ?? `${answer.status}`, { title: problem.title, code: problem.code ?? "", status: answer.status, request: problem.request });
  }
}

const sizes = new Map(); // of whole blobs, which never change

function blobStore(uploaded) {
  return {
    async size(name) {
      if (sizes.has(name)) return sizes.get(name);
      const state = await call("GET", `/app/objects/${name}?state`);
      if (!state.whole) return -1;
      sizes.set(name, state.size);
      return state.size;
    },
    async list(prefix) { return (await call("GET", `/app/objects?prefix=${encodeURIComponent(prefix)}`)).names; },
    async range(name, offset, length) {
      if (length === 0) return new Uint8Array();
      const answer = await call("GET", `/app/objects/${name}`, { headers: { Range: `bytes=${offset}-${offset + length - 1}` }, raw: true });
      return new Uint8Array(await answer.arrayBuffer());
    },
    async begin(name) {
      if (await this.size(name) >= 0) return null;
      let held; // the piece before the one being made: the last one is marked
      let offset = 0;
      const send = async (bytes, last) => {
        const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
        const answer = await call("PUT", `/app/objects/${name}?offset=${offset}${last ? "&last" : ""}`, {
          body: bytes, accept: [409], headers: { "Content-Type": "application/octet-stream", "Content-Digest": `sha-256=:${btoa(String.fromCharCode(...digest))}:` },
        });
        if (answer.whole) return false;
        if (answer.have !== offset + bytes.length) throw new Failure("upload", { code: "upload" });
        offset += bytes.length;
        uploaded?.(bytes.length);
        return true;
      };
      return {
        async write(bytes) {
          if (held) await send(held, false);
          held = bytes;
        },
        async finish() { return send(held ?? new Uint8Array(), true); },
        async abort() {}, // the portal drops what nobody finishes
      };
    },
  };
}

let asks = 0;
const waiting = new Map();

// ask has the page do what a worker cannot.
function ask(id, what) {
  const number = ++asks;
  return new Promise((resolve, reject) => {
    waiting.set(number, { resolve, reject });
    postMessage({ id, ask: { number, ...what } });
  });
}

// rfc3339 writes the device's time with its own offset, whole seconds.
function rfc3339(date) {
  const two = (n) => String(n).padStart(2, "0");
  const east = -date.getTimezoneOffset();
  const local = new Date(date.getTime() + east * 60000).toISOString().slice(0, 19);
  if (east === 0) return `${local}Z`;
  return `${local}${east < 0 ? "-" : "+"}${two(Math.floor(Math.abs(east) / 60))}:${two(Math.abs(east) % 60)}`;
}

const hex = (base64url) => [...atob(base64url.replaceAll("-", "+").replaceAll("_", "/"))].map((c) => c.charCodeAt(0).toString(16).padStart(2, "0")).join("");

// mine returns the key of this browser, or fails with no-key.
async function mine() {
  const record = await keys.read(setup.person);
  if (!record || record.state !== "enrolled") throw new Failure("no key", { code: "no-key" });
  return record;
}

// media is a type in the form that a manifest takes.
function media(type) {
  const plain = type.split(";")[0].trim().toLowerCase();
  return /^[a-z0-9][a-z0-9!#$&^_.+-]{0,126}\/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}$/.test(plain) ? plain : "application/octet-stream";
}

const ops = {
  // What this browser and the portal know of the person's keys.
  async state() {
    const [portal, record] = await Promise.all([call("GET", "/app/member"), keys.read(setup.person)]);
    const known = record && portal.keys.find((k) => k.kid === record.kid);
    let state = "none";
    if (record?.state === "enrolled" && known) state = known.revoked ? "revoked" : known.not_after && new Date(known.not_after) < new Date() ? "expired" : "ready";
    else if (record?.state === "enrolled") state = "foreign";
    else if (record) state = "made";
    const recoveries = portal.keys.map((k) => k.recipient).filter(Boolean);
    return { state, member: portal.member, label: record?.label, kid: record?.kid, algorithm: record?.algorithm, made: record?.made, acts: portal.acts,
      others: portal.keys.filter((k) => !k.revoked && k.kid !== record?.kid).length, earlier: portal.keys.length > 0, recoverable: recoveries.length > 0, used: portal.used, quota: portal.quota };
  },

  // A new key of this browser, enrolled. recovery is the text from paper, or
  // empty for a new recovery key, which comes back to be printed.
  async makeKey({ label, recovery }, id) {
    const z = await load();
    const device = await z.newIdentity();
    const back = recovery ? await z.readRecovery(recovery) : await z.newRecovery();
    const record = await keys.make({ person: setup.person, label, identity: device.identity, recipient: device.recipient, recovery: back.recipient });
    record.kid = await z.kid(record.public);
    await keys.write(record); // before anybody enrols it: an enrolled key must not be lost
    await enrol(z, record, id);
    return { paper: back.paper ?? "", kid: record.kid, algorithm: record.algorithm };
  },

  // What an interrupted enrolment left.
  async finishKey(_, id) {
    const record = await keys.read(setup.person);
    if (!record) throw new Failure("no key", { code: "no-key" });
    await enrol(await load(), record, id);
    return { kid: record.kid };
  },

  async forgetKey() { await keys.forget(setup.person); },

  // Gives this browser's key everything that the recovery key opens.
  async restore({ recovery }, id) {
    const z = await load();
    const record = await mine();
    const { key } = await z.readRecovery(recovery);
    const store = blobStore();
    const identities = [key, await keys.identity(record)];
    let before = 0;
    let done = 0;
    const missing = [];
    for (;;) {
      const page = await call("GET", `/app/records?before=${before}`);
      for (const trail of page.trails) {
        before = trail.last;
        for (const step of trail.steps) {
          let digests = [step.manifest];
          try {
            digests = digests.concat(JSON.parse(await z.openManifest(step.manifest, { identities, store })).objects.map((o) => o.sha256));
          } catch (error) {
            if (error.code !== "not-for-key" && error.code !== "missing") throw error;
          }
          const one = await z.rewrap(digests, { identity: key, recipient: record.recipient, store });
          done += one.done;
          missing.push(...one.missing);
          postMessage({ id, event: { restored: done } });
        }
      }
      if (!page.more) break;
    }
    return { done, missing: missing.length };
  },

  // A deposit: files, then the manifest, then the statement.
  async deposit({ files, phase, step, note, place, trail, confirm }, id) {
    const tell = (event) => postMessage({ id, event });
    const z = await load();
    const record = await mine();
    const { details, member } = await call("GET", "/app/member");
    const to = [record.recipient, record.recovery].filter(Boolean);
    const total = files.reduce((sum, f) => sum + f.file.size, 0);
    let before = 0;
    let sent = 0;
    const store = blobStore((bytes) => { sent += bytes; tell({ stage: "upload", sent }); });
    const objects = [];
    for (const { name, file } of files) {
      tell({ stage: "hash", name, done: before, total });
      const read = async (offset, length) => new Uint8Array(await file.slice(offset, offset + length).arrayBuffer());
      let told = 0;
      const progress = (n) => {
        if (performance.now() - told < 100 && n < file.size) return;
        told = performance.now();
        tell({ stage: "hash", name, done: before + n, total });
      };
      const o = await z.seal({ size: file.size, read }, { recipients: to, store, progress });
      before += file.size;
      objects.push({ name, size: o.size, media: media(file.type), sha256: o.sha256, sm3: o.sm3, vault: { chunks: o.chunks, plain_root: o.plain_root, cipher_root: o.cipher_root } });
      tell({ stage: "hashed", name, sha256: o.sha256, sm3: o.sm3, done: before, total });
    }
    const manifest = { phase, step, created: rfc3339(new Date()), person: details, place: { claimed: place ? { place } : {}, witnessed: {} }, dimensions: {}, objects };
    if (note) manifest.note = note;
    if (confirm) manifest.act = { kind: "deposit" };
    tell({ stage: "sign" });
    const drafted = await z.draft(JSON.stringify(manifest));
    let passkey;
    if (confirm) {
      const digest = hex(drafted.challenge);
      const ceremony = await call("POST", "/app/acts", { json: { digest } });
      const answer = await ask(id, { passkey: ceremony.options });
      passkey = await call("POST", `/app/acts/${encodeURIComponent(ceremony.id)}`, { json: { digest, answer } });
    }
    // The checkpoint as fresh as it can be: the statement says "not before" by it.
    const next = await call("GET", `/app/next?kid=${record.kid}${trail ? `&trail=${trail}` : ""}`);
    const signed = await z.deposit({
      draft: drafted.draft, passkey, member, trail: trail || undefined, prev: next.prev, after: next.after, issuedAt: Math.floor(Date.now() / 1000),
      recipients: to, key: keys.signer(record), store,
    });
    tell({ stage: "signed", digest: signed.digest });
    let state = await call("POST", "/app/deposits", { body: signed.statement, headers: { "Content-Type": "application/cose" } });
    tell({ stage: "kept", state });
    return state;
  },

  // Tells how a statement comes along, until it is final, refused or stamped.
  async follow({ digest }, id) {
    for (let waited = 0; ; waited++) {
      const state = await call("GET", `/app/deposits/${digest}`);
      postMessage({ id, event: { state } });
      if (state.state === "refused" || state.stamped) return state;
      // A token is no condition: after a while the page shows the record without.
      if (state.state === "final" && Date.now() - new Date(state.not_later) > 8000 && waited > 12) return state;
      await sleep(waited < 20 ? 250 : 1500);
    }
  },

  async manifest({ digest }) {
    const z = await load();
    const record = await mine();
    return JSON.parse(await z.openManifest(digest, { identities: [await keys.identity(record)], store: blobStore() }));
  },

  // A deposited file, decrypted.
  async object({ object }, id) {
    const z = await load();
    const record = await mine();
    const out = await scratch();
    let done = 0;
    await z.openObject(object, { identities: [await keys.identity(record)], store: blobStore(), write: async (bytes) => {
      await out.write(done, bytes);
      done += bytes.length;
      postMessage({ id, event: { done, total: object.size } });
    } });
    return out.close(object.media);
  },

  // The evidence package of a trail, made here.
  async package({ trail, manifests }, id) {
    const z = await load();
    const record = await mine();
    const identities = [await keys.identity(record)];
    const store = blobStore();
    const texts = [];
    for (const digest of manifests) {
      try {
        texts.push(await z.openManifest(digest, { identities, store }));
      } catch (error) {
        if (error.code !== "not-for-key" && error.code !== "missing") throw error;
      }
    }
    const passkeys = await z.passkeysOf(texts);
    const answer = await call("GET", `/app/records/${trail}/parts?${passkeys.map((k) => `passkey=${k}`).join("&")}`, { raw: true });
    const out = await scratch();
    const made = await z.package(await answer.text(), { identities, store, write: (offset, bytes) => out.write(offset, bytes), progress: (done) => postMessage({ id, event: { done } }) });
    return { ...made, file: await out.close("application/zip") };
  },
};

async function enrol(z, record, id) {
  const request = await z.certificateRequest({ key: keys.signer(record), name: setup.person });
  const body = { request: btoa(String.fromCharCode(...request.der)), label: record.label, recipient: record.recovery };
  let made;
  try {
    made = await call("POST", "/app/keys", { json: body });
  } catch (error) {
    if (error.code !== "deposit.permit") throw error;
    // A session alone does not add a key once there is a passkey.
    const ceremony = await call("POST", "/app/permits", { json: {} });
    const answer = await ask(id, { passkey: ceremony.options });
    await call("POST", `/app/permits/${encodeURIComponent(ceremony.id)}`, { json: { digest: "0".repeat(64), answer } });
    made = await call("POST", "/app/keys", { json: body });
  }
  Object.assign(record, { state: "enrolled", member: made.member, position: made.position, certificate: made.certificate });
  await keys.write(record);
}

// scratch is a file that may be larger than memory: in the browser's private file
// system, or in memory where there is none.
async function scratch() {
  if (navigator.storage?.getDirectory) {
    const root = await navigator.storage.getDirectory();
    for await (const [name, entry] of root.entries()) {
      if (!name.startsWith("out-") || entry.kind !== "file") continue;
      const day = 24 * 60 * 60 * 1000;
      if ((await entry.getFile()).lastModified < Date.now() - day) await root.removeEntry(name).catch(() => {}); // still open elsewhere
    }
    const handle = await root.getFileHandle(`out-${crypto.randomUUID()}`, { create: true });
    if (handle.createSyncAccessHandle) {
      const file = await handle.createSyncAccessHandle();
      return {
        async write(offset, bytes) { if (file.write(bytes, { at: offset }) !== bytes.length) throw new Failure("disk", { code: "disk" }); },
        async close(type) {
          file.flush();
          file.close();
          return new File([await handle.getFile()], "out", { type });
        },
      };
    }
  }
  let data = new Uint8Array(1 << 20);
  let size = 0;
  return {
    async write(offset, bytes) {
      const end = offset + bytes.length;
      if (end > data.length) {
        const more = new Uint8Array(Math.max(end, data.length * 2));
        more.set(data);
        data = more;
      }
      data.set(bytes, offset);
      size = Math.max(size, end);
    },
    async close(type) { return new File([data.subarray(0, size)], "out", { type }); },
  };
}

onmessage = async ({ data }) => {
  if (data.setup) { setup = data.setup; return; }
  if (data.answers) {
    const { resolve, reject } = waiting.get(data.answers);
    waiting.delete(data.answers);
    if (data.failure) reject(new Failure(data.failure.message, data.failure));
    else resolve(data.value);
    return;
  }
  const { id, op, args } = data;
  try {
    postMessage({ id, value: await ops[op](args ?? {}, id) });
  } catch (error) {
    postMessage({ id, failure: { message: String(error?.message ?? error), code: error?.code ?? "", title: error?.title ?? "", field: error?.field ?? "", reason: error?.reason ?? "", cause: error?.cause?.name ?? "", request: error?.request ?? "" } });
  }
};
