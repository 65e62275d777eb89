/** A sandbox that `clawnode mcp` has opened and that is not ready yet: who no longer waits for it is let go at once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chooseAgent } from '../../src/surfaces/cli/mcp-agent.ts';

test('a call and a subscription that are given up before the sandbox is ready end then, and later ones are answered', { timeout: 90_000 }, async () => {
  const agent = await chooseAgent('sandbox', { configFile: undefined, scope: {}, signal: new AbortController().signal });
  try {
    let ready = false;
    void agent.ready?.then(() => (ready = true));
    const leaving = new AbortController();
    const call = agent.invoke('network.status', {}, leaving.signal);
    const changes = agent.changes(leaving.signal)[Symbol.asyncIterator]().next();
    leaving.abort();
    await Promise.all([call, changes].map((left) => assert.rejects(left, { code: 'CANCELLED' })));
    assert.equal(ready, false, 'they were held until it was ready');
    await agent.invoke('network.status', {}, new AbortController().signal);
    assert.equal(ready, true);
  } finally {
    await agent.close();
  }
});
