import { useCallback, useEffect, useState } from "react";

import History from "./History.jsx";
import Pods from "./Pods.jsx";
import { ask, clicks, hear, unknown } from "./fleet.js";

const POLL_MILLISECONDS = 1000;

function useFleet() {
  const [fleet, setFleet] = useState(unknown);
  const [lost, setLost] = useState(false);

  const call = useCallback(async (path, method) => {
    try {
      const answer = await ask(path, method);
      setFleet((known) => hear(known, answer, Date.now() / 1000));
      setLost(false);
      return answer;
    } catch {
      setLost(true);
      return null;
    }
  }, []);

  useEffect(() => {
    let timer;
    let stopped = false;
    const poll = async () => {
      if (!document.hidden) await call("/api/state");
      if (!stopped) timer = setTimeout(poll, POLL_MILLISECONDS);
    };
    poll();
    return () => {
      stopped = true;
      clearTimeout(timer);
    };
  }, [call]);

  return { fleet, lost, call };
}

export default function App() {
  const { fleet, lost, call } = useFleet();
  const [hits, setHits] = useState(0);
  const [said, setSaid] = useState("");

  const hit = async () => {
    setHits((count) => count + 1);
    const answer = await call("/click-button", "POST");
    if (answer) setSaid(`Click ${answer.clicks} of pod ${answer.pod}`);
  };

  const total = clicks(fleet);
  const silent = (fleet.replicas ?? 0) - fleet.pods.length;
  return (
    <main>
      <header>
        <h1>Hit it until it scales</h1>
        <p>Every click is counted. When there are more than the pods should bear, the cluster starts another one.</p>
      </header>

      <section className="stage" aria-label="Button and count">
        <button type="button" className="hit" onClick={hit}>
          {hits > 0 && <span className="ring" key={hits} aria-hidden="true" />}
          Hit me!
        </button>
        <p className="count">
          <output id="clicks" aria-live="off">{fleet.answeredBy ? total.toLocaleString("en") : "–"}</output>
          <span>{total === 1 ? "click" : "clicks"} counted</span>
        </p>
        <p className="said" role="status">{said || "Go on, it can take it."}</p>
      </section>

      <Pods fleet={fleet} silent={silent} />
      <History history={fleet.history} />

      <p className="lost" role="alert">{lost && "No answer from the app. Trying again every second."}</p>
      <footer>
        What Prometheus reads: <a href="/metrics">demo_app_button_clicks_total</a>
      </footer>
    </main>
  );
}
