// Binds a passkey: where there is one already it confirms first, then the browser
// makes the new one, then this institution announces it.

import { confirm, post, supported } from "./keys-ceremony.js";

const form = document.getElementById("passkey");
const button = form.querySelector("button[type=submit]");
const status = document.getElementById("passkey-status");
const error = document.getElementById("passkey-error");

function say(text) {
  error.hidden = true;
  status.textContent = text;
}

function fails(text) {
  status.textContent = "";
  error.hidden = false;
  error.querySelector("p").textContent = text;
}

async function bind() {
  const member = form.dataset.member;
  const label = form.elements.label.value;
  let ceremony;
  try {
    ceremony = await post("/app/passkeys", { member, label });
  } catch (e) {
    if (e.code !== "keys.permission" || form.dataset.have !== "true") throw e;
    say(form.dataset.confirm);
    await confirm(member, "passkey");
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

if (supported) button.disabled = false;
else fails(form.dataset.unsupported);
