// Runs the WebAssembly verifier under Node on packages in files:
//   node run.mjs WASM_EXEC WASM POLICY PACKAGE…
// and prints one JSON line for each: status, verdict, error, number of checks
// that do not match, length of the page, and the size of the module's memory.
import { webcrypto } from 'node:crypto';
import { open, readFile, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';

const [wasmExec, wasm, policyFile, ...packages] = process.argv.slice(2);
globalThis.crypto ??= webcrypto; // Node 18, which Debian 12 has, keeps it to itself
createRequire(import.meta.url)(wasmExec);
const go = new globalThis.Go();
const { instance } = await WebAssembly.instantiate(await readFile(wasm), go.importObject);
const ready = new Promise((resolve) => { globalThis.zhenglianVerifyReady = resolve; });
go.run(instance);
await ready;
const policy = await readFile(policyFile, 'utf8');
for (const name of packages) {
  const file = await open(name);
  const { size } = await stat(name);
  let calls = 0;
  let steps = 0;
  const reader = {
    size,
    async read(offset, length) {
      calls++;
      const data = new Uint8Array(length);
      const { bytesRead } = await file.read(data, 0, length, offset);
      return data.subarray(0, bytesRead);
    },
  };
  const answer = await globalThis.zhenglianVerify(reader, { policy, lang: 'en', progress() { steps++; } });
  await file.close();
  const report = answer.report ? JSON.parse(answer.report) : null;
  console.log(JSON.stringify({
    status: answer.status, verdict: answer.verdict ?? '', error: answer.error ?? '',
    named: report ? report.checks.filter((c) => c.verdict === 'does-not-match').map((c) => c.subject.path ?? '') : [],
    page: answer.html?.length ?? 0, calls, steps, memory: instance.exports.mem.buffer.byteLength,
  }));
}
process.exit(0);
