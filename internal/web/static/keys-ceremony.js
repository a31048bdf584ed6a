// What the pages with passkeys have in common.

// post sends JSON and returns the answer; a refusal is an Error with the text for
// the reader and its code.
export async function post(path, body) {
  const response = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json", "Accept-Language": document.documentElement.lang }, body: JSON.stringify(body) });
  const answer = await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.detail), { code: answer.code });
  return answer;
}

// confirm lets a passkey that is bound already permit one thing: "passkey" or
// "key".
export async function confirm(member, permit) {
  const ceremony = await post("/app/passkeys/permits", { member, permit });
  const credential = await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(ceremony.options) });
  await post(`/app/passkeys/permits/${ceremony.id}`, credential.toJSON());
}

// supported: this browser has what both need.
export const supported = Boolean(globalThis.PublicKeyCredential?.parseCreationOptionsFromJSON);
