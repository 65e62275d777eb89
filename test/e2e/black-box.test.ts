/** The first pattern for real: `clawnode sandbox -- SCRIPT` by `clawnode invoke` alone, as this user and as an ordinary one. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { before, suite, test } from 'node:test';
import { launcher, runProcess } from '../cli/cli-process.ts';
import { asOrdinaryUser } from '../cli/sandbox-fixture.ts';
import { report, type Report } from './black-box-script.ts';
import type { Spread } from './fixture-requests.ts';

const run = [process.execPath, launcher, 'sandbox', '--', process.execPath, join(import.meta.dirname, 'black-box-script.ts')] as const;

for (const { user, argv } of [
  { user: 'this user', argv: run },
  // An ordinary user's PATH on Debian leaves out the folders of iptables and ipset.
  { user: 'an ordinary user', argv: asOrdinaryUser(['env', 'PATH=/usr/bin:/bin', ...run]) },
] as const) {
  suite(`as ${user}`, () => {
    let seen: Report;
    before(async () => {
      const { exitCode, stdout, stderr } = await runProcess(argv);
      assert.equal(exitCode, 0, stderr);
      seen = report.parse(JSON.parse(stdout));
    });

    test('every command answered that the kernel enforces it', () => {
      assert.equal(seen.uidInside, 0);
      assert.deepEqual([...seen.workloads, seen.service].map(({ enforced }) => enforced), [true, true, true, true]);
      assert.deepEqual(seen.workloads.map(({ state }) => state), ['running', 'running', 'running']);
      assert.deepEqual([seen.endpoints.total, seen.endpoints.healthy], [3, 3]);
      assert.deepEqual(new Set(seen.endpoints.endpoints.map(({ ip }) => ip)), new Set(seen.workloads.map(({ meshIp }) => meshIp)));
      assert.deepEqual(new Set(seen.endpoints.endpoints.map(({ containerId }) => containerId)), new Set(seen.workloads.map(({ id }) => id)));
    });

    test('300 requests of four parallel clients reach all three, none outside 20 to 47 %', () => {
      for (const way of ['fromHost', 'fromWorkload', 'throughIngress', 'fromWorkloadThroughIngress'] as const) assertBalanced(seen[way], way);
    });

    test('after workload.stop has answered no request fails, and two endpoints are left', () => {
      assert.ok(seen.stop.askedAfterAnswer > 50, `${seen.stop.askedAfterAnswer} requests`);
      assert.deepEqual(seen.stop.failedAfterAnswer, {});
      for (const way of ['fromHost', 'throughIngress'] as const) {
        const { answers, failures } = seen.afterStop[way];
        assert.deepEqual({ who: Object.keys(answers).toSorted(), failures }, { who: ['one', 'three'], failures: {} }, way);
      }
      assert.deepEqual([seen.afterStop.endpoints.total, seen.afterStop.endpoints.healthy], [2, 2]);
    });

    test('a stop breaks no request that was begun before it either, but for those in the hands of the stopped one', () => {
      const { answers, failures } = seen.stop.begunBefore;
      // Each of the four clients has one request under way, and its program ends at once when it is told to.
      const failed = Object.values(failures).reduce((sum, count) => sum + count, 0);
      assert.ok(failed <= 4, JSON.stringify(failures));
      assert.ok(Object.keys(answers).length >= 2);
    });

    test('after service.delete the connection is refused at once, also from within a workload', () => {
      const { fromHost, fromWorkload, throughIngress } = seen.deletion;
      assert.equal(fromHost.failure, 'ECONNREFUSED');
      assert.ok(fromHost.tookMs < 500, `${fromHost.tookMs} ms`);
      assert.deepEqual(fromWorkload, { answers: {}, failures: { ECONNREFUSED: 300 } });
      assert.match(throughIngress.failure ?? '', /^status 50[23]\b/);
    });

    test('after service.delete no rule and no set names the virtual IP', () => {
      assert.ok(seen.rulesWithVip > 0);
      assert.deepEqual([seen.deletion.rulesWithVip, seen.deletion.setsWithVip], [[], []]);
    });

    test('the virtual IP is free again but not reused at once', () => {
      const { vipsBefore, vipsAfter, nextVip, answer } = seen.deletion;
      assert.deepEqual([answer['deleted'], answer['clusterIp']], [true, seen.service.clusterIp]);
      assert.deepEqual([vipsBefore.used, vipsBefore.quarantined], [1, 0]);
      assert.deepEqual([vipsAfter.used, vipsAfter.quarantined], [0, 1]);
      assert.notEqual(nextVip, seen.service.clusterIp);
      assert.equal(nextVip, '10.201.0.2');
    });
  });
}

function assertBalanced({ answers, failures }: Spread, way: string): void {
  assert.deepEqual(failures, {}, way);
  const shares = Object.entries(answers).map(([name, count]) => ({ name, share: count / 300 }));
  assert.deepEqual(shares.map(({ name }) => name).toSorted(), ['one', 'three', 'two'], way);
  for (const { name, share } of shares) assert.ok(share >= 0.2 && share <= 0.47, `${way}: ${name} answered ${(share * 100).toFixed(1)} %`);
}
