// Copyright: kubescale founders
// SPDX-License-Identifier: Apache-2.0

// The app as a pod runs it: a process of its own on a free port.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, test } from "node:test";

let app, port;

beforeEach(async () => {
  app = spawn(process.execPath, ["server.js"], { cwd: new URL(".", import.meta.url), env: { ...process.env, PORT: "0" } });
  const [line] = await once(createInterface(app.stdout), "line");
  port = Number(line.split(" ").pop());
});

afterEach(() => app.kill("SIGKILL"));

const get = (path) => fetch(`http://localhost:${port}${path}`, { headers: { connection: "close" } });

async function samples(...names) {
  const lines = (await (await get("/metrics")).text()).split("\n");
  return names.map((name) => lines.find((line) => line.startsWith(`${name} `))?.split(" ")[1]);
}

const counters = () => samples("http_requests_total", "http_request_duration_seconds_count");

test("both counters are there before the first request", async () => {
  assert.deepEqual(await counters(), ["0", "0"]);
});

test("requests are counted, scrapes and probes are not", async () => {
  assert.match(await (await get("/")).text(), /^Hello from /);
  assert.equal((await get("/healthz")).status, 200);
  assert.equal((await get("/orders?page=2")).status, 200);
  assert.deepEqual(await counters(), ["2", "2"]);
});

test("SIGTERM ends it, but only after the request that is under way", async () => {
  const socket = connect(port, "localhost");
  await once(socket, "connect");
  socket.write("GET / HTTP/1.1\r\nHost: app\r\n");
  // An answer to somebody else says that the server has seen what came before.
  await get("/healthz");
  const ended = once(app, "exit");
  app.kill("SIGTERM");
  socket.write("Connection: close\r\n\r\n");
  const [answer] = await once(socket, "data");
  assert.match(String(answer), /^HTTP\/1.1 200 /);
  assert.deepEqual(await ended, [0, null]);
});
