/** An index of services that is kept up by changed keys is always the one that a look at all of them gives. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { serviceIndex } from '../../src/compile/service-index.ts';
import { aService } from './state.ts';

test('after any changes the index holds just those that belong to it, as they are now', () => {
  const step = fc.record({ key: fc.constantFrom('a', 'b', 'c', 'd'), protocol: fc.constantFrom('tcp', 'udp', 'gone'), told: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
      const services = new Map([['a', aService({ name: 'a' })]]);
      const udpOf = serviceIndex(({ ports }) => ports.some(({ protocol }) => protocol === 'udp'));
      assert.equal(udpOf({ services, changed: undefined }).size, 0);
      for (const { key, protocol, told } of steps) {
        if (protocol === 'gone') services.delete(key);
        else services.set(key, aService({ name: key, ports: [{ port: 53, protocol }] }));
        const index = udpOf({ services, changed: told ? [key] : undefined });
        assert.deepEqual(new Map(index), new Map([...services].filter(([, { ports }]) => ports[0]?.protocol === 'udp')));
      }
    }),
  );
});
