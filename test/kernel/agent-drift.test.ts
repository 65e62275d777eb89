/** What others break in the kernel, the agent repairs within seconds and tells, without being asked. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { z } from 'zod';
import { run } from '../../src/drivers/exec.ts';
import { answered, closeEverything, host, inside, openTestAgent, until, type TestAgent, type TestWorkload } from './agent-fixture.ts';
import { enterNamespace } from './namespace.ts';

const status = z.object({ drift: z.object({ repairs: z.int(), last: z.string().optional() }) });
let agent: TestAgent;
let server: TestWorkload;
let vip: string;

before(async () => {
  await enterNamespace();
  agent = await openTestAgent();
  server = await agent.server('server', { labels: { app: 'web' }, listen: ['tcp:8080'] });
  vip = await agent.service('web', { selector: { app: 'web' }, port: 80, targetPort: 8080 });
});
after(closeEverything);

const damages: readonly (readonly [name: string, argv: readonly [string, ...string[]], words: RegExp])[] = [
  ['the services chain flushed', ['iptables-nft', '-t', 'nat', '-F', 'CLAW-SERVICES'], /CLAW-SERVICES/],
  ['the jump to it deleted', ['iptables-nft', '-t', 'nat', '-D', 'OUTPUT', '1'], /OUTPUT/],
  ['the whole ruleset flushed', ['nft', 'flush', 'ruleset'], /./],
  ['the route of the VIP range deleted', ['ip', 'route', 'del', 'local', '10.201.0.0/16', 'table', 'local'], /10\.201\.0\.0/],
  ['the gateway address deleted', ['ip', 'addr', 'del', '10.200.1.1/32', 'dev', 'lo'], /10\.200\.1\.1/],
];

for (const [name, argv, words] of damages) {
  test(`${name}: the VIP answers again within 5 s, and status says what it was`, async () => {
    const { drift: earlier } = status.parse(await agent.invoke('network.status'));
    await run(argv);
    const startedAt = performance.now();
    const { drift } = await until('a repair is told', async () => {
      const now = status.parse(await agent.invoke('network.status'));
      assert.ok(now.drift.repairs > earlier.repairs);
      return now;
    });
    assert.match(drift.last ?? '', words);
    await until('the VIP answers', async () => answered(await host.tcp(vip, 80)));
    assert.ok(performance.now() - startedAt < 5000);
  });
}

test('an interface that somebody deleted comes back, and its workload with it', async () => {
  await run(['ip', 'link', 'del', `clawv${server.id}`]);
  await until('the workload answers', async () => answered(await host.tcp(server.ip, 8080)));
  assert.equal(answered(await inside(server).tcp(vip, 80)).name, 'server');
});

test('a workload whose network namespace lost its name is run anew, with a network that works', async () => {
  await run(['ip', 'netns', 'del', server.netns]);
  // Nothing tells of a name that goes; what is looked at next shows it.
  await run(['ip', 'link', 'add', 'anything', 'type', 'veth']);
  await until('it is told', async () => assert.match(status.parse(await agent.invoke('network.status')).drift.last ?? '', /namespace/));
  await until('the VIP answers', async () => answered(await host.tcp(vip, 80)));
  await until('the workload reaches others', async () => answered(await inside(server).tcp(vip, 80)));
  await run(['ip', 'link', 'del', 'anything']);
});
