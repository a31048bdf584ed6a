// The worker that reads a package. Its own content policy allows it no
// connection: the compiled module and the file come from the page, the report
// goes back to it, and nothing else can leave.

import "./wasm_exec.js";


onmessage = async ({ data: { module, file, policy, alliance, lang } }) => {
  try {
    const go = new Go();
    const ready = new Promise((resolve) => { globalThis.zhenglianVerifyReady = resolve; });
    const instance = await WebAssembly.instantiate(module, go.importObject);
    const ended = go.run(instance).then(() => { throw new Error("the check ended early"); });
    await Promise.race([ready, ended]);
    let told = 0;
    const read = async (offset, length) => new Uint8Array(await file.slice(offset, offset + length).arrayBuffer());
    const progress = (done, total) => {
      const now = performance.now();
      if (now - told < 100 && done < total) return;
      told = now;
      postMessage({ progress: { done, total } });
    };
    const answer = await Promise.race([zhenglianVerify({ size: file.size, read }, { policy, alliance, lang, progress }), ended]);
    postMessage({ answer, memory: instance.exports.mem.buffer.byteLength });
  } catch (error) {
    postMessage({ failure: String(error?.message ?? error) });
  }
};
