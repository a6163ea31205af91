import { places } from "./fleet.js";

/** The last part of a pod's name: what tells it from its siblings. */
const shortName = (name) => name.split("-").at(-1);

export default function Pods({ fleet, silent }) {
  return (
    <section className="panel" aria-labelledby="pods-title">
      <h2 id="pods-title">
        Replicas <strong id="replicas">{fleet.replicas ?? "–"}</strong>
      </h2>
      <ul className="pods">
        {places(fleet).map((place) =>
          place.name === null ? (
            <li key={place.key} className="pod waiting">
              <span className="dot" aria-hidden="true" />
              <span className="name">waiting</span>
            </li>
          ) : (
            <li key={place.name} className={place.name === fleet.answeredBy ? "pod answered" : "pod"} title={place.name}>
              <span className="dot" key={place.seen} aria-hidden="true" />
              <span className="name">{shortName(place.name)}</span>
              <span className="clicks">{place.clicks.toLocaleString("en")}</span>
            </li>
          ),
        )}
      </ul>
      <p className="hint">
        {fleet.answeredBy ? (
          <>
            Last answer from <b id="pod">{fleet.answeredBy}</b>
            {silent > 0 && `, waiting to hear from ${silent} more`}
          </>
        ) : (
          "Waiting for the first answer"
        )}
      </p>
    </section>
  );
}
