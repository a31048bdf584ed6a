// The one place where text becomes HTML or a script's address. The content
// policy refuses both everywhere else (Trusted Types).

const policy = globalThis.trustedTypes?.createPolicy("zhenglian", {
  // A worker's address: one of this portal's own files.
  createScriptURL(address) {
    const url = new URL(address, location.origin);
    if (url.origin !== location.origin || !url.pathname.startsWith("/static/")) throw new TypeError("not a script of this portal");
    return url.href;
  },
  // HTML is only ever parsed into a document that is never shown: see parse.
  createHTML: (text) => text,
});

// worker starts a module worker of this portal.
export function worker(address) {
  return new Worker(policy ? policy.createScriptURL(address) : address, { type: "module" });
}

// parse returns a document that runs nothing and is not shown; take from it what
// is known to be harmless.
export function parse(text) {
  return new DOMParser().parseFromString(policy ? policy.createHTML(text) : text, "text/html");
}
