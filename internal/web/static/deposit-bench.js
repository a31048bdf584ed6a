// What the member's pages share: the worker, the words, and how failures are told.

import { worker } from "./trusted.js";

export const $ = (id) => document.getElementById(id);

// bench starts the worker for a root element with data-worker, data-module and
// data-person. The words stand in <template id="words">.
export function bench(root) {
  const words = Object.fromEntries([...$("words").content.querySelectorAll("[data-word]")].map((e) => [e.dataset.word, e.textContent]));
  const mine = worker(root.dataset.worker);
  mine.postMessage({ setup: { module: root.dataset.module, person: root.dataset.person, lang: document.documentElement.lang } });
  const calls = new Map();
  let last = 0;
  mine.onmessage = async ({ data: { id, value, failure, event, ask } }) => {
    const call = calls.get(id);
    if (event) { call.hear?.(event); return; }
    if (ask) {
      try {
        mine.postMessage({ answers: ask.number, value: await passkey(ask.passkey) });
      } catch (error) {
        mine.postMessage({ answers: ask.number, failure: { message: error.message, code: error.name === "NotAllowedError" ? "not-confirmed" : "passkey" } });
      }
      return;
    }
    calls.delete(id);
    if (failure) call.reject(Object.assign(new Error(failure.message), failure));
    else call.resolve(value);
  };
  mine.onerror = (event) => {
    for (const call of calls.values()) call.reject(new Error(event.message || "worker"));
    calls.clear();
  };
  return {
    words,
    // run has the worker do something; hear is told how it comes along.
    run(op, args, hear) {
      const id = ++last;
      return new Promise((resolve, reject) => {
        calls.set(id, { resolve, reject, hear });
        mine.postMessage({ id, op, args });
      });
    },
    // say puts a failure into words: the portal's own, or those of this page.
    say(error) {
      if (error.title) return `${error.title}${document.documentElement.lang.startsWith("zh") ? "：" : ": "}${error.message}`;
      if (words[`error-${error.code}`]) return words[`error-${error.code}`].replace("%detail%", error.reason || error.message);
      return words.error.replace("%detail%", error.message);
    },
  };
}

// passkey has the person confirm with her passkey (WebAuthn Level 3 §5.1.4).
async function passkey(options) {
  const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  const plain = options.publicKey ?? options;
  const publicKey = { ...plain, challenge: bytes(plain.challenge), allowCredentials: (plain.allowCredentials ?? []).map((c) => ({ ...c, id: bytes(c.id) })) };
  const got = await navigator.credentials.get({ publicKey });
  if (got.toJSON) return got.toJSON();
  return { id: got.id, rawId: text(got.rawId), type: got.type, clientExtensionResults: got.getClientExtensionResults(),
    response: { authenticatorData: text(got.response.authenticatorData), clientDataJSON: text(got.response.clientDataJSON), signature: text(got.response.signature) } };
}

export function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let u = 0;
  while (bytes >= 1024 && u < units.length - 1) { bytes /= 1024; u++; }
  return `${u === 0 ? bytes : bytes.toFixed(1)} ${units[u]}`;
}

// beijing writes a time as the portal does.
export function beijing(text) {
  const t = new Date(new Date(text).getTime() + 8 * 3600 * 1000).toISOString();
  return `${t.slice(0, 10)} ${t.slice(11, 19)} +08:00`;
}

// save hands a file to the browser's downloads.
export function save(file, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// element makes an element with text; class and attributes may be given.
export function element(tag, text, attributes = {}) {
  const e = document.createElement(tag);
  if (text !== undefined && text !== null) e.textContent = text;
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
  return e;
}
