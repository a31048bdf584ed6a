"use strict";
self.addEventListener("install", (e) => e.waitUntil(
  caches.open("v1").then((c) => c.add("/data/service-worker.json")).then(() => self.skipWaiting())));
self.addEventListener("activate", (e) => e.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (e) => {
  if (new URL(e.request.url).pathname !== "/from-service-worker") return;
  e.respondWith(caches.match("/data/service-worker.json").then((r) => r.json()).then((d) =>
    new Response(d.text, { headers: { "Content-Type": "text/plain; charset=utf-8" } })));
});
