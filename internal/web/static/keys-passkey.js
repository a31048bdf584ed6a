// Binds a passkey: where there is one already it confirms first, then the browser
// makes the new one, then this institution announces it.

const form = document.getElementById("passkey");
const button = form.querySelector("button[type=submit]");
const status = document.getElementById("passkey-status");
const error = document.getElementById("passkey-error");

async function post(path, body) {
  const response = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json", "Accept-Language": document.documentElement.lang }, body: JSON.stringify(body) });
  const answer = await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.detail), { code: answer.code });
  return answer;
}

function say(text) {
  error.hidden = true;
  status.textContent = text;
}

function fails(text) {
  status.textContent = "";
  error.hidden = false;
  error.querySelector("p").textContent = text;
}

async function confirm(member) {
  say(form.dataset.confirm);
  const ceremony = await post("/app/passkeys/permits", { member });
  const credential = await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(ceremony.options) });
  await post(`/app/passkeys/permits/${ceremony.id}`, credential.toJSON());
}

async function bind() {
  const member = form.dataset.member;
  const label = form.elements.label.value;
  let ceremony;
  try {
    ceremony = await post("/app/passkeys", { member, label });
  } catch (e) {
    if (e.code !== "keys.permission" || form.dataset.have !== "true") throw e;
    await confirm(member);
    ceremony = await post("/app/passkeys", { member, label });
  }
  say(form.dataset.create);
  const credential = await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(ceremony.options) });
  say(form.dataset.binding);
  const { next } = await post(`/app/passkeys/${ceremony.id}`, credential.toJSON());
  location.assign(next);
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  button.disabled = true;
  try {
    await bind();
  } catch (e) {
    // The browser's own errors say nothing that a reader could use.
    fails(e instanceof DOMException ? form.dataset.cancelled : e.message);
    button.disabled = false;
  }
});

if (globalThis.PublicKeyCredential?.parseCreationOptionsFromJSON) button.disabled = false;
else fails(form.dataset.unsupported);
