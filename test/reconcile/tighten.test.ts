import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import { pino } from 'pino';
import { connectionsIn } from '../../src/drivers/conntrack-list.ts';
import { tightener } from '../../src/reconcile/tighten.ts';
import { aPolicy, aWorkload, desired } from '../compile/state.ts';

const TCP = 'tcp 6 431999 ESTABLISHED src=10.200.1.2 dst=10.200.1.3 sport=40000 dport=8080 src=10.200.1.3 dst=10.200.1.2 sport=8080 dport=40000 [ASSURED] mark=0 use=1\n';
const UDP = 'udp 17 119 src=10.200.1.2 dst=10.200.1.3 sport=40000 dport=53 src=10.200.1.3 dst=10.200.1.2 sport=53 dport=40000 [ASSURED] mark=0 use=1\n';
// Another bit is somebody else's.
const MARKED = UDP.replace('mark=0', `mark=${0x1000000 + 1}`);
const FOREIGN = UDP.replace('mark=0', 'mark=1');
const workloads = [aWorkload({ name: 'c', id: '0000000c', ip: '10.200.1.2' }), aWorkload({ name: 'b', id: '0000000b', ip: '10.200.1.3' })];
const forbidding = desired({ workloads, policies: [aPolicy({ name: 'nobody', ingress: [] })] });
const { signal } = new AbortController();

/** What was done in answer to these listings, one after the other. */
async function acts(listings: readonly string[], state = forbidding): Promise<string[]> {
  const done: string[] = [];
  const left = [...listings];
  const { promise, resolve } = Promise.withResolvers<void>();
  const act = tightener({
    readConnections: async () => connectionsIn(left.shift() ?? ''),
    conntrack: {
      mark: async (entries) => void done.push(...entries.map(({ protocol }) => `mark ${protocol}`)),
      flush: async (entries) => void done.push(...entries.map((entry) => `delete ${entry.type === 'forbidden' ? entry.protocol : entry.type}`)),
      deleteMarked: async () => {
        done.push('delete marked');
        resolve();
      },
    },
    isLocal: () => () => false,
    logger: pino({ level: 'silent' }),
  });
  await act(state, signal);
  done.push('done');
  if (listings.some((listing) => listing.includes('udp'))) await promise;
  return done;
}

test('a forbidden TCP connection loses its entry at once; a UDP flow is marked, and its entry goes when nothing is on its way any more', async () => {
  assert.deepEqual(await acts([TCP]), ['delete tcp', 'done']);
  assert.deepEqual(await acts([TCP + UDP, MARKED]), ['mark udp', 'delete tcp', 'done', 'delete marked']);
  assert.deepEqual(await acts([FOREIGN, MARKED]), ['mark udp', 'done', 'delete marked']);
});

test('what an agent before this one has marked and not deleted goes too, also when no policy is left', async () => {
  assert.deepEqual(await acts([MARKED]), ['done', 'delete marked']);
  assert.deepEqual(await acts([MARKED], desired({ workloads })), ['done', 'delete marked']);
});
