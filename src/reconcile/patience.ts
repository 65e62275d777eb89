/** Turns bursts of requests into few acts, one at a time, and slows down when there is no end to them; it knows not what is done. */

export interface Patience {
  /** The act begins soon. Requests until then are one; a request while it runs makes it run once more. */
  readonly request: () => void;
  /** Starts no other act and resolves once the running one has ended. */
  readonly close: () => Promise<void>;
}

export interface PatienceOptions {
  /** Must not throw. */
  readonly act: () => Promise<void>;
  /** What is waited for more to come. */
  readonly quietMs: number;
}

/** So many acts are made without waiting; one is forgiven every second, so that there are never many more than one a second. */
const WILLING = 20;
const FORGIVEN_MS = 1_000;
const DELAY_MS = { first: 100, most: 4_000 };
/** An act that takes long is repeated so much later that it takes no more than a tenth of the time. */
const SHARE = 9;

export function patiently({ act, quietMs }: PatienceOptions): Patience {
  let timer: NodeJS.Timeout | undefined;
  let running: Promise<void> | undefined;
  let again = false;
  let closed = false;
  let acts = 0;
  let lastAt = -Infinity;
  let lastTookMs = 0;

  const run = async (): Promise<void> => {
    const startedAt = performance.now();
    acts = Math.max(0, acts - (startedAt - lastAt) / FORGIVEN_MS) + 1;
    await act();
    lastAt = performance.now();
    lastTookMs = lastAt - startedAt;
    running = undefined;
    if (again) request();
  };

  const request = (): void => {
    if (closed || timer !== undefined) return;
    again = running !== undefined;
    if (again) return;
    const left = acts - (performance.now() - lastAt) / FORGIVEN_MS - WILLING;
    const tired = left < 0 ? 0 : Math.min(DELAY_MS.first * 2 ** left, DELAY_MS.most);
    // The first two are made without a rest: what was repaired is often broken again at once by the same hand.
    const rest = acts < 1.5 ? 0 : lastAt + Math.min(lastTookMs * SHARE, DELAY_MS.most) - performance.now();
    timer = setTimeout(
      () => {
        timer = undefined;
        running = run();
      },
      Math.max(quietMs, tired, rest),
    );
  };

  return {
    request,
    close: async () => {
      closed = true;
      clearTimeout(timer);
      timer = undefined;
      await running;
    },
  };
}
