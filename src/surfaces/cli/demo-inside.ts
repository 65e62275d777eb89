/**
 * The demo's program inside the sandbox, where ClusterIPs and workloads exist: `burst`, `steady`, `await-answers` and `kill`.
 * It answers with JSON lines on stdout and decides nothing.
 */
import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { ask, burst, steady } from './demo-requests.ts';

const NO_SIGNAL = new AbortController().signal;

const ACTS: Readonly<Record<string, (args: readonly string[]) => Promise<void>>> = {
  /** URL COUNT PARALLEL: prints how the answers spread. */
  burst: async ([url = '', count = '', parallel = '']) => print(await burst({ url }, { count: Number(count), parallel: Number(parallel) }, NO_SIGNAL)),

  /** URL: prints one sample per request until stdin ends. */
  steady: async ([url = '']) => {
    const controller = new AbortController();
    process.stdin.on('end', () => controller.abort()).resume();
    await steady({ url }, print, controller.signal);
  },

  /** URL...: returns when each has answered. */
  'await-answers': async (urls) => {
    await Promise.all(urls.map(awaitAnswer));
    print({ answered: urls.length });
  },

  /** ARGUMENT: kills the process whose last argument it is, as a crash would, and prints when. */
  kill: async ([lastArgument = '']) => {
    const pid = await findProcess(lastArgument);
    const at = Date.now();
    process.kill(pid, 'SIGKILL');
    print({ pid, at });
  },
};

const [act = '', ...args] = process.argv.slice(2);
const run = ACTS[act];
if (run === undefined) throw new Error(`there is no act ${act}`);
await run(args);

async function awaitAnswer(url: string): Promise<void> {
  for (;;) {
    try {
      await ask({ url }, NO_SIGNAL);
      return;
    } catch {
      // Not listening yet; whoever started this program ends it when it takes too long.
      await sleep(20);
    }
  }
}

/** The Node process with this last argument; the shells that supervise it carry the same one, and this program too. */
async function findProcess(lastArgument: string): Promise<number> {
  const pids = (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry) && Number(entry) !== process.pid);
  for (const pid of pids) {
    const argv = await readFile(`/proc/${pid}/cmdline`, 'utf8').then((text) => text.split('\0').slice(0, -1), gone);
    if (argv[0] === process.execPath && argv.at(-1) === lastArgument && argv[1] === '-e') return Number(pid);
  }
  throw new Error(`no process has the last argument ${lastArgument}`);
}

function gone(): string[] {
  return [];
}

function print(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}
