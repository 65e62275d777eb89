/** What a supervisor is told on its command line. */
import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import { supervisorArgv } from '../../src/runtime/supervisor.ts';

const launch = { run: 3, restarts: 2, command: ['sleep', '1'], env: {}, views: [{ kind: 'cover', path: '/state' }], logBytes: 131_072 } as const;

test('a process keeps the agent\'s user and network unless told otherwise', () => {
  assert.deepEqual(supervisorArgv('/state/a', launch).slice(2), ['/state/a', '3', '2', '131072', '-', '-', 'cover', '/state', '--', 'sleep', '1']);
});

test('a uid comes with the group nogroup, never with the group of its own number, unless one is told', () => {
  const runsAs = (user: { uid: number; gid?: number }): string | undefined => supervisorArgv('/state/a', { ...launch, netns: '/run/netns/n', user })[7];
  assert.deepEqual([runsAs({ uid: 42 }), runsAs({ uid: 42, gid: 1000 })], ['42:65534', '42:1000']);
});
