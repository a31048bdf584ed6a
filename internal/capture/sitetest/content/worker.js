"use strict";
fetch("/data/worker.json").then((r) => r.json()).then((d) => postMessage(d.text));
