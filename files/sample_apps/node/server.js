// Copyright: kubescale founders
// SPDX-License-Identifier: Apache-2.0

// Answers every request with the name of its pod, and counts them for Prometheus. What is asked of the program itself
// (/metrics, /healthz) is not counted: it comes without any user, and would keep an idle app from looking idle.

import { createServer } from "node:http";
import { hostname } from "node:os";
import { collectDefaultMetrics, Counter, Histogram, register } from "prom-client";

// Without labels both exist before the first request: a counter that first shows up at 1 has no rate for that request.
const requests = new Counter({ name: "http_requests_total", help: "Requests that were answered." });
const seconds = new Histogram({ name: "http_request_duration_seconds", help: "How long answering a request took." });
collectDefaultMetrics();

const server = createServer(async (request, response) => {
  const { pathname } = new URL(request.url, "http://localhost");
  if (pathname === "/metrics") {
    response.setHeader("Content-Type", register.contentType);
    response.end(await register.metrics());
  } else if (pathname === "/healthz") {
    response.end("ok\n");
  } else {
    const done = seconds.startTimer();
    requests.inc();
    response.end(`Hello from ${hostname()}\n`, done);
  }
});

server.listen(Number(process.env.PORT ?? 8080), () => console.log(`listening on port ${server.address().port}`));

for (const signal of ["SIGTERM", "SIGINT"]) {
  // Takes no new connection and ends when the requests of the old ones are answered.
  process.once(signal, () => {
    server.close();
    server.closeIdleConnections();
  });
}
