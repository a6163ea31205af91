// What the page knows of the app: each answer comes from one pod, and tells of that pod alone.

export const HISTORY_SECONDS = 300;
const SILENT_AFTER_SECONDS = 60;

/** @typedef {{pod: string, clicks: number, replicas: number | null}} Answer */

export const unknown = { pods: [], replicas: null, history: [], answeredBy: null };

/**
 * The fleet after one more answer.
 * @param {typeof unknown} fleet
 * @param {Answer} answer
 * @param {number} now seconds
 */
export function hear(fleet, answer, now) {
  const heard = { name: answer.pod, clicks: answer.clicks, seen: now };
  const pods = [heard, ...fleet.pods.filter((pod) => pod.name !== answer.pod)]
    .filter((pod) => now - pod.seen < SILENT_AFTER_SECONDS)
    // More pods heard than there are: the ones silent for longest are gone.
    .slice(0, answer.replicas ?? undefined);
  const replicas = answer.replicas ?? pods.length;
  const history = [...fleet.history, { at: now, replicas }].filter((point) => now - point.at <= HISTORY_SECONDS);
  return { pods, replicas, history, answeredBy: answer.pod };
}

/** Clicks of all pods heard. */
export function clicks(fleet) {
  return fleet.pods.reduce((sum, pod) => sum + pod.clicks, 0);
}

/** The pods by name, then one nameless place for each replica that has not answered yet. */
export function places(fleet) {
  const known = fleet.pods.toSorted((a, b) => a.name.localeCompare(b.name));
  const waiting = Math.max(0, (fleet.replicas ?? 0) - known.length);
  return [...known, ...Array.from({ length: waiting }, (_, index) => ({ name: null, key: `waiting-${index}` }))];
}

/** @returns {Promise<Answer>} */
export async function ask(path, method = "GET") {
  const answer = await fetch(path, { method, cache: "no-store" });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}
