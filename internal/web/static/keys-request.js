// A new key needs the word of a passkey: it confirms, and the form goes again.

import { confirm, supported } from "./keys-ceremony.js";

const button = document.getElementById("confirm");
const failure = document.getElementById("confirm-error");

button?.addEventListener("click", async () => {
  button.disabled = true;
  failure.hidden = true;
  try {
    await confirm(button.dataset.member, "key");
    button.form.submit();
  } catch (e) {
    failure.hidden = false;
    failure.querySelector("p").textContent = e instanceof DOMException ? button.dataset.cancelled : e.message;
    button.disabled = false;
  }
});

if (button) button.hidden = !supported;
