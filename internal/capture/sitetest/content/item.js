"use strict";
const show = (id, text) => { document.getElementById(id).textContent = text; };
document.getElementById("ask").addEventListener("click", () => {
  show("said", confirm("本图片仅供个人学习。是否继续？") ? "已同意" : "已拒绝");
});
document.getElementById("size").addEventListener("change", (e) => { show("said", "尺寸：" + e.target.value); });
const socket = new WebSocket((location.protocol === "https:" ? "wss://" : "ws://") + location.host + "/socket");
socket.addEventListener("open", () => socket.send("在看"));
socket.addEventListener("message", (e) => { show("viewers", e.data); socket.close(1000); });
const events = new EventSource("/events");
events.addEventListener("message", (e) => { show("events", e.data); if (e.lastEventId === "3") events.close(); });
const worker = new Worker("/worker.js");
worker.addEventListener("message", (e) => show("worker", e.data));
if ("serviceWorker" in navigator) {
  const controlled = new Promise((yes) => {
    if (navigator.serviceWorker.controller) yes();
    navigator.serviceWorker.addEventListener("controllerchange", () => yes());
  });
  navigator.serviceWorker.register("/service-worker.js").then(() => controlled)
    .then(() => fetch("/from-service-worker")).then((r) => r.text()).then((text) => show("offline", text))
    .catch((e) => show("offline", "service worker: " + e.message));
}
console.error("云集图库：统计脚本未加载");
