import { HISTORY_SECONDS } from "./fleet.js";

const SHORTEST_SECONDS = 60;
const WIDTH = 600;
const HEIGHT = 120;

const ago = (seconds) => (seconds < 120 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`);

/** Replicas over the last minutes as a stair: between two answers nothing is known to have changed. */
export default function History({ history }) {
  const last = history.at(-1);
  const top = Math.max(4, ...history.map((point) => point.replicas));
  const seconds = last ? Math.min(HISTORY_SECONDS, Math.max(SHORTEST_SECONDS, last.at - history[0].at)) : SHORTEST_SECONDS;
  const x = (at) => WIDTH - ((last.at - at) / seconds) * WIDTH;
  const y = (replicas) => HEIGHT - (replicas / top) * (HEIGHT - 10);
  const stair = history
    .map((point, index) => (index ? `H${x(point.at).toFixed(1)}V` : `M${x(point.at).toFixed(1)} `) + y(point.replicas).toFixed(1))
    .join("");
  const peak = Math.max(0, ...history.map((point) => point.replicas));
  return (
    <section className="panel" aria-labelledby="history-title">
      <h2 id="history-title">
        Replicas over time <span className="peak">at most {peak}</span>
      </h2>
      <svg
        className="history"
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        preserveAspectRatio="none"
        role="img"
        aria-label={last ? `Replicas over the last ${ago(seconds)}: now ${last.replicas}, at most ${peak}` : "No replicas seen yet"}
      >
        {Array.from({ length: top }, (_, index) => (
          <line key={index} className="grid" x1="0" x2={WIDTH} y1={y(index + 1)} y2={y(index + 1)} />
        ))}
        {last && (
          <>
            <path className="area" d={`${stair}V${HEIGHT}H${x(history[0].at).toFixed(1)}Z`} />
            <path className="line" d={stair} />
          </>
        )}
      </svg>
      <p className="axis" aria-hidden="true">
        <span>{ago(seconds)} ago</span>
        <span>now</span>
      </p>
    </section>
  );
}
