// A member's keys in this browser. The signing key is made by WebCrypto and
// cannot be exported; the age identity that opens her files is kept encrypted
// under a key that cannot be exported either. Both live in IndexedDB: clearing
// this site's data loses them, and costs a new enrolment, not her records.
//
// Used by the worker and the pages.

const NAME = "zhenglian-keys";
const STORE = "keys"; // by person

function open() {
  return new Promise((resolve, reject) => {
    const asked = indexedDB.open(NAME, 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore(STORE, { keyPath: "person" });
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
    asked.onblocked = () => reject(new Error("another page keeps the key store open"));
  });
}

async function store(mode, act) {
  const db = await open();
  try {
    return await new Promise((resolve, reject) => {
      const tx = db.transaction(STORE, mode, { durability: "strict" });
      const asked = act(tx.objectStore(STORE));
      tx.oncomplete = () => resolve(asked.result);
      tx.onerror = () => reject(tx.error);
      tx.onabort = () => reject(tx.error ?? new Error("the key store refused"));
    });
  } finally {
    db.close();
  }
}

// read returns the person's record in this browser, or undefined: there never was
// one, or the site's data was cleared.
export const read = (person) => store("readonly", (s) => s.get(person));
export const write = (record) => store("readwrite", (s) => s.put(record));
export const forget = (person) => store("readwrite", (s) => s.delete(person));

// algorithm of the signing key: Ed25519 where the browser has it, else P-256.
async function signingKey() {
  try {
    return [await crypto.subtle.generateKey({ name: "Ed25519" }, false, ["sign", "verify"]), "Ed25519"];
  } catch (error) {
    if (error.name !== "NotSupportedError" && !(error instanceof TypeError)) throw error;
    return [await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, false, ["sign", "verify"]), "P-256"];
  }
}

// make makes a record. identity and recipient are age's; recovery is the public
// half of the key on paper. Nothing is stored yet.
export async function make({ person, label, identity, recipient, recovery }) {
  const [pair, algorithm] = await signingKey();
  const wrap = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"]);
  const iv = crypto.getRandomValues(new Uint8Array(12));
  const sealed = await crypto.subtle.encrypt({ name: "AES-GCM", iv, additionalData: new TextEncoder().encode(recipient) }, wrap, new TextEncoder().encode(identity));
  return {
    person, label, algorithm, recipient, recovery, state: "made", made: new Date().toISOString(),
    privateKey: pair.privateKey, public: new Uint8Array(await crypto.subtle.exportKey("spki", pair.publicKey)),
    wrap, iv, sealed: new Uint8Array(sealed),
  };
}

// identity opens the age identity of a record.
export async function identity(record) {
  const plain = await crypto.subtle.decrypt({ name: "AES-GCM", iv: record.iv, additionalData: new TextEncoder().encode(record.recipient) }, record.wrap, record.sealed);
  return new TextDecoder().decode(plain);
}

// signer is what the WebAssembly module signs through: raw signatures of 64 bytes.
export function signer(record) {
  const algorithm = record.algorithm === "Ed25519" ? { name: "Ed25519" } : { name: "ECDSA", hash: "SHA-256" };
  return {
    public: record.public,
    sign: async (message) => new Uint8Array(await crypto.subtle.sign(algorithm, record.privateKey, message)),
  };
}

// deviceLabel proposes a name for this device that its owner will know again.
export function deviceLabel() {
  const agent = navigator.userAgent;
  const system = /iPhone/.test(agent) ? "iPhone" : /iPad/.test(agent) ? "iPad" : /Android/.test(agent) ? "Android" : /Mac OS X/.test(agent) ? "Mac" : /Windows/.test(agent) ? "Windows" : /Linux/.test(agent) ? "Linux" : "";
  const browser = /Edg\//.test(agent) ? "Edge" : /MicroMessenger/.test(agent) ? "WeChat" : /Firefox\//.test(agent) ? "Firefox" : /Chrome\//.test(agent) ? "Chrome" : /Safari\//.test(agent) ? "Safari" : "";
  return [browser, system].filter(Boolean).join(" · ");
}
