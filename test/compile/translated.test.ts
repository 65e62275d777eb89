/** What is read back from compiled rules is what they were compiled from. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { endpointLookup } from '../../src/compile/endpoints.ts';
import { compileKernel } from '../../src/compile/kernel.ts';
import { translatedBy } from '../../src/compile/translated.ts';
import { aService, aWorkload, desired, node, observed } from './state.ts';

test('every virtual IP with its healthy endpoints, whether its rules stand in the block, in a chain of their own or in those of its endpoints', () => {
  const one = fc.record({ workloads: fc.nat(7), ports: fc.integer({ min: 1, max: 3 }), sticky: fc.boolean(), dead: fc.nat(3) });
  fc.assert(
    fc.property(fc.array(one, { minLength: 1, maxLength: 5 }), (wishes) => {
      const workloads = wishes.flatMap((wish, at) =>
        Array.from({ length: wish.workloads }, (_, n) => aWorkload({ name: `w${at}-${n}`, id: `${at}${n}000000`, ip: `10.200.${at + 1}.${n + 2}`, labels: { app: `s${at}` } })),
      );
      const services = wishes.map((wish, at) =>
        aService({
          name: `s${at}`,
          clusterIp: `10.201.0.${at + 1}`,
          selector: { app: `s${at}` },
          manyPorts: true,
          ports: Array.from({ length: wish.ports }, (_, n) => ({ name: `p${n}`, port: 80 + n, protocol: n === 1 ? 'udp' : 'tcp', targetPort: 8080 + n })),
          ...(wish.sticky ? { sessionAffinity: { type: 'clientIP' } } : {}),
        }),
      );
      const state = desired({ services, workloads });
      const world = observed(workloads, Object.fromEntries(wishes.map(({ dead }, at) => [`${at}${dead}000000`, 'restarting'])));
      const endpointsOf = endpointLookup(state, world);
      const expected = services.map((service) => {
        const targets = endpointsOf(service).flatMap(({ healthy, ip, ports }) => (healthy ? ports.map(({ port }) => `${ip}:${port}`) : []));
        return [service.clusterIp, new Set(targets)] as const;
      });
      const { nat } = compileKernel(node, state, endpointsOf).iptables;
      assert.deepEqual(translatedBy(nat.chains), new Map(expected.filter(([, targets]) => targets.size > 0)));
    }),
    { numRuns: 100 },
  );
});

test('rules that match no single address, and jumps to nowhere, say nothing', () => {
  assert.deepEqual(translatedBy(new Map([['CLAW-X', ['-d 10.0.0.0/8 -j ACCEPT', '-j CLAW-Y', '-p tcp -j DNAT --to-destination 10.0.0.1:80']]])), new Map());
  assert.deepEqual(translatedBy(new Map([['CLAW-X', ['-d 10.0.0.1/32 -j CLAW-GONE']]])), new Map([['10.0.0.1', new Set()]]));
});
