// What the page asks of its server: what the model knows, a sample, and the labels of a scan. Errors are shown as they
// come: what is wrong, where, what to do. The key is given with each request and kept by nobody here.
"use strict";
const pointsegServer = (() => {
  const TRIES = 8, PATIENCE = 60; // of a busy server; the most seconds between two
  const POINT = 16, XYZ = 12; // bytes: a row of a .bin file; x, y, z as the server sends them back
  const OCTETS = "application/octet-stream";

  class Refused extends Error {
    constructor(what, where = null, remedy = "", status = 0) {
      super(what);
      Object.assign(this, { what, where, remedy, status });
    }
  }
  const cancelled = () => new DOMException("cancelled", "AbortError");

  const pause = (seconds, signal) => new Promise((resolve, reject) => {
    const clock = setTimeout(resolve, 1000 * seconds);
    signal.addEventListener("abort", () => { clearTimeout(clock); reject(cancelled()); }, { once: true });
  });

  const authorized = (key) => (key ? { Authorization: `Bearer ${key}` } : {});

  // One POST, watched: fetch() does not tell how much has been sent. Times in ms since it began.
  const post = (url, body, headers, { signal, sent, waiting }) => new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(), began = performance.now(), at = {};
    const since = (name) => { at[name] = performance.now() - began; };
    request.open("POST", url);
    request.responseType = "arraybuffer";
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => sent(event.loaded, event.total));
    request.upload.addEventListener("load", () => { since("sent"); waiting(); });
    request.addEventListener("readystatechange", () => { if (request.readyState === 2) since("answered"); });
    request.addEventListener("load", () => {
      since("done");
      resolve({ status: request.status, body: request.response, at, header: (name) => request.getResponseHeader(name) });
    });
    request.addEventListener("error", () => reject(new Refused(
      "the connection to the server broke", null,
      "Check that the service runs, and that the file is no larger than it takes; then try again.")));
    request.addEventListener("abort", () => reject(cancelled()));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(body);
  });

  // The error that an answer tells, or that it is one of another server.
  const refusal = ({ status, body }) => {
    try {
      const { error } = JSON.parse(new TextDecoder().decode(body));
      return new Refused(String(error.what), error.where, error.remedy || "", status);
    } catch {
      return new Refused(`the server answered ${status}`, null, "Try again, or ask who runs it.", status);
    }
  };

  // {name: ms} of a Server-Timing header.
  const timings = (text) => Object.fromEntries([...(text || "").matchAll(/([\w-]+)\s*;\s*dur=([\d.]+)/g)]
    .map(([, name, value]) => [name, Number(value)]));

  const notes = (text) => {
    try { return JSON.parse(text || "[]").map(String); } catch { return []; }
  };

  // Whether rows of float32 hold a value that is no number: as octets they would be refused, as a file they get no class.
  const hasHoles = (rows) => rows.byteLength % POINT === 0 && !new Float32Array(rows).every(Number.isFinite);

  // The labels of a file, and its points: of a .bin file they are known here, of other kinds the server sends them back.
  // `watch`: signal, sent(bytes, of), waiting(), busy(seconds, attempt).
  const score = async (file, key, watch) => {
    let body, own;
    try {
      if (/\.bin$/i.test(file.name)) body = own = await file.arrayBuffer();
      else await file.slice(0, 1).arrayBuffer(); // a folder, or a file that has gone, says so here
    } catch {
      throw new Refused("this cannot be read", file.name, "Choose a file, not a folder, and see that it is still there.");
    }
    const bare = own && !hasHoles(own);
    if (!bare) {
      body = new FormData();
      body.append("file", file, file.name);
    }
    const headers = { Accept: OCTETS, ...(bare ? { "Content-Type": OCTETS } : {}), ...authorized(key) };
    for (let attempt = 1; ; attempt++) {
      const answer = await post(own ? "score" : "score?points=true", body, headers, watch);
      if (answer.status === 200) return read(answer, own);
      if (answer.status !== 503 || attempt === TRIES) throw refusal(answer);
      const seconds = Math.min(Math.max(Number(answer.header("Retry-After")) || 2, 1), PATIENCE);
      watch.busy(seconds, attempt);
      await pause(seconds, watch.signal);
    }
  };

  // Labels come first (uint32), then, where they were asked for, x, y, z of each point (float32).
  const read = (answer, own) => {
    const { body, at, header } = answer, count = Number(header("X-Points") ?? NaN);
    if (body.byteLength !== count * (own ? 4 : 4 + XYZ) || (own && own.byteLength !== count * POINT)) {
      throw new Refused("the answer of the server is not complete", null, "Try again.", answer.status);
    }
    return {
      labels: new Uint32Array(body, 0, count),
      xyz: own ? new Float32Array(own) : new Float32Array(body, 4 * count, 3 * count),
      columns: own ? 4 : 3,
      notes: notes(header("X-Notes")),
      model: header("X-Model") || "",
      id: header("X-Request-Id") || "",
      at,
      server: timings(header("Server-Timing")),
    };
  };

  // The model, its classes and the service's limits; null where they are not to be had (yet).
  const metadata = async (key) => {
    try {
      const answer = await fetch("metadata", { headers: authorized(key), cache: "no-store" });
      return answer.ok ? await answer.json() : null;
    } catch {
      return null;
    }
  };

  const sample = async (key, signal) => {
    let answer;
    try {
      answer = await fetch("sample.bin", { headers: authorized(key), signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refused("the connection to the server broke", null, "Check that the service runs; then try again.");
    }
    if (!answer.ok) throw refusal({ status: answer.status, body: await answer.arrayBuffer() });
    return new File([await answer.arrayBuffer()], "synthetic-street.bin");
  };

  return { Refused, metadata, sample, score };
})();
