/** A policy that tightens cuts what it no longer allows within a second, also what only the server keeps going, and nothing else. */
import { strict as assert } from 'node:assert';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { answered, closeEverything, inside, openTestAgent, until, type TestAgent, type TestWorkload } from './agent-fixture.ts';
import { enterNamespace } from './namespace.ts';
import { countPackets, tickerCommand, trafficFrom } from './traffic.ts';

const WITHIN_MS = 1_000;
const BOTH = [{ from: { selector: { app: 'c' } } }, { from: { selector: { app: 'a' } } }];
const ONLY_A = [{ from: { selector: { app: 'a' } } }];
let agent: TestAgent;
let [a, c, ticker, echo]: TestWorkload[] = [];

before(async () => {
  await enterNamespace();
  agent = await openTestAgent();
  [a, c, echo] = await Promise.all(['a', 'c', 'b'].map((name) => agent.server(name, { labels: { app: name, ...(name === 'b' ? { plain: 'yes' } : {}) }, listen: ['tcp:8080', 'udp:8080'] })));
  ticker = await agent.workload('ticker', { labels: { app: 'b', ticks: 'yes' }, command: tickerCommand(9000) });
  await agent.invoke('network.policy.create', { name: 'guard', selector: { app: 'b' }, ingress: BOTH });
});

after(closeEverything);

for (const way of ['direct', 'through a virtual IP']) {
  test(`a stream that the server alone keeps going is cut, and the one beside it that stays allowed is not: ${way}`, async (t) => {
    assert.ok(a && c && ticker);
    const target = way === 'direct' ? { ip: ticker.ip, port: 9000 } : { ip: await agent.service('ticks', { selector: { ticks: 'yes' }, port: 90, targetPort: 9000 }), port: 90 };
    const [allowed, cut] = [inside(a), inside(c)];
    await until('the server ticks', async () => assert.match((await allowed.hold('stream', target.ip, target.port)).answer ?? '', /tick/));
    assert.match((await cut.hold('stream', target.ip, target.port)).answer ?? '', /tick/);
    const arrivals = await countPackets(c, target.ip);
    // An empty text sends nothing: the client only reads.
    assert.match((await cut.echo('stream', '')).answer ?? '', /tick/);
    const startedAt = performance.now();
    await agent.invoke('network.policy.update', { name: 'guard', ingress: ONLY_A });
    const tookMs = performance.now() - startedAt;
    await sleep(WITHIN_MS);
    const count = await arrivals.packets();
    assert.ok(count > 0);
    assert.match((await allowed.echo('stream', '')).answer ?? '', /tick/);
    await sleep(500);
    assert.equal(await arrivals.packets(), count, 'packets of the cut stream');
    assert.match((await allowed.echo('stream', '')).answer ?? '', /tick/);
    assert.equal((await cut.echo('stream', '')).answer, undefined);
    t.diagnostic(`the change took ${tookMs.toFixed(0)} ms`);
    await agent.invoke('network.policy.update', { name: 'guard', ingress: BOTH });
    assert.match((await cut.hold('stream', target.ip, target.port)).answer ?? '', /tick/);
  });
}

for (const way of ['direct', 'through a virtual IP']) {
  test(`a UDP flow without pause is cut while answers are on their way, and passes again when it is allowed again: ${way}`, async () => {
    assert.ok(c && echo);
    const target = way === 'direct' ? { ip: echo.ip, port: 8080 } : { ip: await agent.service('echo', { selector: { plain: 'yes' }, port: 53, protocol: 'udp', targetPort: 8080 }), port: 53 };
    await using traffic = await trafficFrom(c, [...Array<undefined>(8)].map(() => ({ kind: 'udp', ...target, everyMs: 2 })));
    const arrivals = await countPackets(echo, c.ip);
    for (let round = 0; round < 2; round += 1) {
      await agent.invoke('network.policy.update', { name: 'guard', ingress: BOTH });
      await sleep(WITHIN_MS);
      await traffic.take();
      const earlier = await arrivals.packets();
      await until('datagrams pass', async () => assert.ok((await traffic.take()).every(({ passed }) => passed.length > 0) && (await arrivals.packets()) > earlier));
      await agent.invoke('network.policy.update', { name: 'guard', ingress: ONLY_A });
      await sleep(WITHIN_MS);
      await traffic.take();
      const count = await arrivals.packets();
      await sleep(300);
      assert.deepEqual((await traffic.take()).map(({ passed }) => passed.length), Array<number>(8).fill(0));
      assert.equal(await arrivals.packets(), count);
    }
    await agent.invoke('network.policy.update', { name: 'guard', ingress: BOTH });
    const { answer } = await inside(c).udp(echo.ip, 8080);
    answered({ answer, ms: 0 });
  });
}
