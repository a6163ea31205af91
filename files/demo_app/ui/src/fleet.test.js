import assert from "node:assert/strict";
import { test } from "node:test";

import { HISTORY_SECONDS, clicks, hear, places, unknown } from "./fleet.js";

const listen = (...answers) =>
  answers.reduce((fleet, [pod, count, replicas, now]) => hear(fleet, { pod, clicks: count, replicas }, now), unknown);

test("clicks are the sum of the newest word of every pod", () => {
  assert.equal(clicks(listen(["a", 1, 2, 0], ["b", 5, 2, 1], ["a", 3, 2, 2])), 8);
});

test("a pod silent for longest is gone when there are more heard than replicas", () => {
  const fleet = listen(["a", 1, 2, 0], ["b", 1, 2, 1], ["c", 1, 2, 2]);
  assert.deepEqual(fleet.pods.map((pod) => pod.name), ["c", "b"]);
});

test("a replica that never answered has a nameless place", () => {
  assert.deepEqual(places(listen(["a", 1, 3, 0])).map((place) => place.name), ["a", null, null]);
});

test("where replicas are unknown, the pods heard lately are counted", () => {
  assert.equal(listen(["a", 1, null, 0], ["b", 1, null, 1]).replicas, 2);
  assert.equal(listen(["a", 1, null, 0], ["b", 1, null, 61]).replicas, 1);
});

test("history forgets", () => {
  assert.equal(listen(["a", 1, 1, 0], ["a", 1, 1, HISTORY_SECONDS + 1]).history.length, 1);
});
